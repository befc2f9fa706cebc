//! Does to its host whatever its input `MODE` says. `../README.md` lists the modes.

mod answers;
mod burn;
mod calls;
mod keep;

use innkeeper_sdk::{
    Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor, TensorSpec,
};

/// There is nothing to load.
pub struct Hostile;

#[innkeeper_sdk::model]
impl Model for Hostile {
    fn load(_assets: &Assets) -> Result<Self> {
        Ok(Hostile)
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("MODE", DType::Bytes, &[1])
            .with_input(TensorSpec::of_any_shape("VALUE", DType::Fp32).optional())
            .output("OUTPUT0", DType::Fp32, &[1])
            .with_output(TensorSpec::of_any_shape("EXTRA", DType::Fp32).optional())
            .with_output(TensorSpec::of_any_shape("TEXT", DType::Bytes).optional())
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let modes = inputs.tensor("MODE")?.to_strings()?;
        let mode = modes.first().map_or("", String::as_str);
        let families = [burn::run, calls::run, answers::run, keep::run];
        for family in families {
            if let Some(answer) = family(mode, &inputs) {
                return answer;
            }
        }
        Err(Error::invalid_argument(format!("there is no MODE {mode:?}")))
    }
}

/// The first element of `VALUE`, or `otherwise` where the request has none.
fn value(inputs: &Inputs, otherwise: f32) -> Result<f32> {
    match inputs.get("VALUE") {
        Some(tensor) => Ok(tensor.to_vec::<f32>()?.first().copied().unwrap_or(otherwise)),
        None => Ok(otherwise),
    }
}

/// An answer with `number` in `OUTPUT0`.
fn answer(number: f32) -> Result<Outputs> {
    Ok(Outputs::new().with("OUTPUT0", Tensor::from_slice(&[1], &[number])?))
}
