//! Answers every tensor as it came: `INPUT_<DTYPE>` as `OUTPUT_<DTYPE>`, of any shape.
//!
//! Nothing is read on the way, so a tensor of any size costs the same.

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, TensorSpec};

/// There is nothing to remember.
pub struct Identity;

#[innkeeper_sdk::model]
impl Model for Identity {
    fn load(_assets: &Assets) -> Result<Self> {
        Ok(Identity)
    }

    fn signature(&self) -> Signature {
        DType::ALL.into_iter().fold(Signature::new(), |signature, dtype| {
            let input = TensorSpec::of_any_shape(&format!("INPUT_{dtype}"), dtype).optional();
            let output = TensorSpec::of_any_shape(&format!("OUTPUT_{dtype}"), dtype).optional();
            signature.with_input(input).with_output(output)
        })
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let renamed = |name: String| name.replacen("INPUT", "OUTPUT", 1);
        Ok(inputs.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect())
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::Tensor;
    use innkeeper_sdk::test::Harness;

    use super::*;

    #[test]
    fn every_dtype_comes_back() {
        let model = Harness::<Identity>::load_plugin(env!("CARGO_MANIFEST_DIR")).unwrap();
        for dtype in DType::ALL {
            let tensor = match dtype {
                DType::Bytes => Tensor::from_strings(&[2, 1], &["text", "\u{0}"]).unwrap(),
                dtype => Tensor::full(dtype, &[2, 1], 1.0).unwrap(),
            };
            let bytes = tensor.to_bytes().unwrap();
            let inputs = Inputs::new().with(&format!("INPUT_{dtype}"), tensor);
            let outputs = model.predict(inputs).unwrap();
            let output = outputs.tensor(&format!("OUTPUT_{dtype}")).unwrap();
            assert_eq!((output.dtype(), output.shape()), (dtype, vec![2, 1]));
            assert_eq!(output.to_bytes().unwrap(), bytes, "{dtype}");
        }
    }

    #[test]
    fn several_come_back_at_once_and_none_is_fine() {
        let model = Harness::<Identity>::load_plugin(env!("CARGO_MANIFEST_DIR")).unwrap();
        let inputs = Inputs::new()
            .with("INPUT_FP32", Tensor::from_slice(&[], &[1.5f32]).unwrap())
            .with("INPUT_BOOL", Tensor::from_bools(&[0, 3], &[]).unwrap());
        let outputs = model.predict(inputs).unwrap();
        assert_eq!(outputs.len(), 2);
        assert!(outputs.tensor("OUTPUT_FP32").unwrap().shape().is_empty());
        assert!(model.predict(Inputs::new()).unwrap().is_empty());
    }
}
