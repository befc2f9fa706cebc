//! Linear regression: y = w x + b, with the least sum of squares.

mod solve;
mod training;

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};

pub const WEIGHTS: &str = "weights.safetensors";

/// `weight` `[1, features]` and `bias` `[1]`; none before anything was learnt.
pub struct Line(Option<(Tensor, Tensor)>);

#[innkeeper_sdk::model]
impl Model for Line {
    fn load(assets: &Assets) -> Result<Self> {
        if assets.list().iter().all(|asset| asset.name != WEIGHTS) {
            return Ok(Line(None));
        }
        let weights = assets.weights(WEIGHTS);
        Ok(Line(Some((weights.tensor("weight")?, weights.tensor("bias")?))))
    }

    fn signature(&self) -> Signature {
        let features = self.0.as_ref().map_or(-1, |(weight, _)| weight.shape()[1] as i64);
        Signature::new()
            .input("INPUT0", DType::Fp32, &[-1, features])
            .output("OUTPUT0", DType::Fp32, &[-1, 1])
            .batch_axis(0)
            .property(
                "learnt",
                if self.0.is_some() { "yes" } else { "nothing yet: every answer is 0" },
            )
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let x = inputs.tensor("INPUT0")?;
        let y = match &self.0 {
            Some((weight, bias)) => x.linear(weight, Some(bias))?,
            None => Tensor::full(DType::Fp32, &[x.shape()[0], 1], 0.0)?,
        };
        Ok(Outputs::new().with("OUTPUT0", y))
    }
}
