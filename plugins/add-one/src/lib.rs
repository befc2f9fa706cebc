//! Adds one: the smallest model there is.

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature};

/// There is nothing to remember.
pub struct AddOne;

#[innkeeper_sdk::model]
impl Model for AddOne {
    fn load(_assets: &Assets) -> Result<Self> {
        Ok(AddOne)
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("INPUT0", DType::Fp32, &[-1, 16])
            .output("OUTPUT0", DType::Fp32, &[-1, 16])
            .batch_axis(0)
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let x = inputs.tensor("INPUT0")?;
        Ok(Outputs::new().with("OUTPUT0", x.add_scalar(1.0)?))
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::Tensor;
    use innkeeper_sdk::test::Harness;

    use super::*;

    #[test]
    fn adds_one_to_every_row() {
        let model = Harness::<AddOne>::load_plugin(env!("CARGO_MANIFEST_DIR")).unwrap();
        let input = Tensor::from_slice(&[2, 16], &[0.5f32; 32]).unwrap();
        let outputs = model.predict(Inputs::new().with("INPUT0", input)).unwrap();
        assert_eq!(outputs.tensor("OUTPUT0").unwrap().to_vec::<f32>().unwrap(), [1.5; 32]);
    }
}
