//! Loads and describes itself as the asset `mode.txt` says. `../README.md` lists the modes.

mod load;
mod signatures;

use innkeeper_sdk::{Assets, Inputs, Model, Outputs, Result, Signature, Tensor};

/// How it was told to behave.
pub struct Loading {
    mode: String,
}

#[innkeeper_sdk::model]
impl Model for Loading {
    fn load(assets: &Assets) -> Result<Self> {
        let mode = assets.read_to_string("mode.txt")?.trim().to_owned();
        load::run(&mode, assets)?;
        Ok(Loading { mode })
    }

    fn signature(&self) -> Signature {
        signatures::of(&self.mode)
    }

    fn predict(&self, _inputs: Inputs) -> Result<Outputs> {
        Ok(Outputs::new().with("OUTPUT0", Tensor::from_slice(&[1], &[1f32])?))
    }
}
