//! Runs the network `tiny.onnx` by the interface that its input `MODE` names. `../README.md` lists the modes.

#[cfg(target_family = "wasm")]
mod nn;
mod ours;

use innkeeper_sdk::{
    Assets, DType, Error, Graph, Inputs, Model, Outputs, Result, Signature, Tensor, TensorSpec,
};

/// The network, and the bytes of its file.
pub struct Networks {
    network: Graph,
    onnx: Vec<u8>,
}

#[innkeeper_sdk::model]
impl Model for Networks {
    fn load(assets: &Assets) -> Result<Self> {
        Ok(Networks { network: assets.graph("tiny.onnx")?, onnx: assets.read("tiny.onnx")? })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("MODE", DType::Bytes, &[1])
            .with_input(TensorSpec::new("X", DType::Fp32, &[-1, -1]).optional())
            .with_output(TensorSpec::new("Y", DType::Fp32, &[-1, -1]).optional())
            .with_output(TensorSpec::new("TEXT", DType::Bytes, &[-1]).optional())
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let modes = inputs.tensor("MODE")?.to_strings()?;
        let mode = modes.first().map_or("", String::as_str);
        let x = match inputs.get("X") {
            Some(x) => x.share()?,
            None => Tensor::from_slice(&[1, 3], &[0f32; 3])?,
        };
        if let Some(answer) = ours::run(self, mode, &x) {
            return answer;
        }
        #[cfg(target_family = "wasm")]
        if let Some(answer) = nn::run(self, mode, &x) {
            return answer;
        }
        Err(Error::invalid_argument(format!("there is no MODE {mode:?}")))
    }
}

fn said(lines: &[String]) -> Result<Outputs> {
    Ok(Outputs::new().with("TEXT", Tensor::from_strings(&[lines.len()], lines)?))
}
