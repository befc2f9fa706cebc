//! A network with 1000 inputs and 10 classes, trained in Keras and converted by `convert.py`:
//! 1000 -> 64 relu -> 64 relu -> 10 softmax.

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};

/// The layers in order, each a weight `[out, in]` and a bias `[out]`.
pub struct Mlp {
    layers: [(Tensor, Tensor); 3],
}

#[innkeeper_sdk::model]
impl Model for Mlp {
    fn load(assets: &Assets) -> Result<Self> {
        let weights = assets.weights("weights.safetensors");
        let layer = |name: &str| -> Result<(Tensor, Tensor)> {
            Ok((
                weights.tensor(&format!("{name}.weight"))?,
                weights.tensor(&format!("{name}.bias"))?,
            ))
        };
        Ok(Mlp { layers: [layer("dense1")?, layer("dense2")?, layer("dense3")?] })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("INPUT0", DType::Fp32, &[-1, 1000])
            .output("OUTPUT0", DType::Fp32, &[-1, 10])
            .batch_axis(0)
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let [first, second, last] = &self.layers;
        let x = inputs.tensor("INPUT0")?;
        let x = x.linear(&first.0, Some(&first.1))?.relu()?;
        let x = x.linear(&second.0, Some(&second.1))?.relu()?;
        let x = x.linear(&last.0, Some(&last.1))?.softmax(-1)?;
        Ok(Outputs::new().with("OUTPUT0", x))
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::test::Harness;

    use super::*;

    const INPUT: &[u8] = include_bytes!("../samples/input_4x1000.npy");
    const EXPECTED: &[u8] = include_bytes!("../samples/expected_4x10.npy");

    /// The elements of an .npy file: what follows its header, whose length is a u16 at 8.
    fn npy(file: &[u8], shape: &[usize]) -> Tensor {
        assert!(file.starts_with(b"\x93NUMPY\x01\x00"));
        let elements = &file[10 + usize::from(u16::from_le_bytes([file[8], file[9]]))..];
        Tensor::from_bytes(DType::Fp32, shape, elements).unwrap()
    }

    #[test]
    fn answers_are_those_of_keras() {
        let model = Harness::<Mlp>::load_plugin(env!("CARGO_MANIFEST_DIR")).unwrap();
        let inputs = Inputs::new().with("INPUT0", npy(INPUT, &[4, 1000]));
        let outputs = model.predict(inputs).unwrap();
        let got = outputs.tensor("OUTPUT0").unwrap().to_vec::<f32>().unwrap();
        let expected = npy(EXPECTED, &[4, 10]).to_vec::<f32>().unwrap();
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() <= 1e-5, "{got} is not {expected}");
        }
    }
}
