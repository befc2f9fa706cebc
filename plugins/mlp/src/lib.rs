//! Networks of dense layers. The one that comes along was trained in Keras and converted by `convert.py`: 1000 -> 64 relu
//! -> 64 relu -> 10 softmax; `training` makes others.

mod network;
mod privacy;
mod training;

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature};

use network::{LABELS, Network};

pub struct Mlp {
    network: Network,
    has_labels: bool,
}

#[innkeeper_sdk::model]
impl Model for Mlp {
    fn load(assets: &Assets) -> Result<Self> {
        let has_labels = assets.list().iter().any(|asset| asset.name == LABELS);
        Ok(Mlp { network: Network::open(assets)?, has_labels })
    }

    fn signature(&self) -> Signature {
        let signature = Signature::new()
            .input("INPUT0", DType::Fp32, &[-1, self.network.inputs() as i64])
            .output("OUTPUT0", DType::Fp32, &[-1, self.network.outputs() as i64])
            .batch_axis(0);
        if self.has_labels { signature.property("labels:OUTPUT0", LABELS) } else { signature }
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let answer = self.network.forward(inputs.tensor("INPUT0")?)?;
        Ok(Outputs::new().with("OUTPUT0", answer))
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::Tensor;
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
