//! Reads handwritten digits of 8 by 8 pixels: a network of three layers, trained by `train.py`.

use innkeeper_sdk::{
    Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor, Weights, request,
};

/// The brightest pixel there is in the data; the network was trained on 0 to 1.
const BRIGHTEST: f64 = 16.0;

/// The layers, `[out, in]` each.
pub struct Digits {
    hidden: [Layer; 2],
    last: Layer,
}

struct Layer {
    weight: Tensor,
    bias: Tensor,
}

impl Layer {
    fn open(weights: &Weights, name: &str) -> Result<Layer> {
        Ok(Layer {
            weight: weights.tensor(&format!("{name}.weight"))?,
            bias: weights.tensor(&format!("{name}.bias"))?,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.linear(&self.weight, Some(&self.bias))
    }
}

#[innkeeper_sdk::model]
impl Model for Digits {
    fn load(assets: &Assets) -> Result<Self> {
        let weights = assets.weights("weights.safetensors");
        Ok(Digits {
            hidden: [Layer::open(&weights, "layer1")?, Layer::open(&weights, "layer2")?],
            last: Layer::open(&weights, "layer3")?,
        })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("INPUT0", DType::Fp32, &[-1, 64])
            .output("PROBABILITIES", DType::Fp32, &[-1, 10])
            .output("LABEL", DType::Int64, &[-1])
            .batch_axis(0)
            .property("task", "image-classification")
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let mut x = inputs.tensor("INPUT0")?.mul_scalar(1.0 / BRIGHTEST)?;
        for layer in &self.hidden {
            x = layer.apply(&x)?.relu()?;
        }
        let logits = self.last.apply(&x)?;
        let mut outputs = Outputs::new().with("LABEL", logits.argmax(-1)?);
        if request::wants_output("PROBABILITIES") {
            outputs.push("PROBABILITIES", logits.softmax(-1)?);
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::test::{Harness, Request};

    use super::*;

    const PIXELS: &[u8] = include_bytes!("../samples/held_out_pixels.npy");
    const LABELS: &[u8] = include_bytes!("../samples/held_out_labels.npy");

    fn model() -> Harness<Digits> {
        Harness::load_plugin(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    /// The elements of an .npy file of bytes: what follows its header, whose length is a u16 at 8.
    fn npy(file: &[u8]) -> &[u8] {
        assert!(file.starts_with(b"\x93NUMPY\x01\x00"));
        &file[10 + usize::from(u16::from_le_bytes([file[8], file[9]]))..]
    }

    fn held_out() -> (Inputs, Vec<i64>) {
        let pixels: Vec<f32> = npy(PIXELS).iter().map(|&pixel| pixel.into()).collect();
        let labels: Vec<i64> = npy(LABELS).iter().map(|&label| label.into()).collect();
        let pixels = Tensor::from_slice(&[labels.len(), 64], &pixels).unwrap();
        (Inputs::new().with("INPUT0", pixels), labels)
    }

    #[test]
    fn nineteen_of_twenty_held_out_digits_are_right() {
        let (inputs, labels) = held_out();
        let outputs = model().predict(inputs).unwrap();
        let answers = outputs.tensor("LABEL").unwrap().to_vec::<i64>().unwrap();
        let right = answers.iter().zip(&labels).filter(|(answer, label)| answer == label).count();
        let accuracy = right as f64 / labels.len() as f64;
        assert!(accuracy >= 0.95, "{right} of {} are right", labels.len());
    }

    #[test]
    fn probabilities_sum_to_one() {
        let outputs = model().predict(held_out().0).unwrap();
        let sums = outputs.tensor("PROBABILITIES").unwrap().sum(&[-1], false).unwrap();
        for sum in sums.to_vec::<f32>().unwrap() {
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }

    #[test]
    fn probabilities_nobody_wants_are_left_out() {
        let outputs = model().predict_for(Request::new().wants("LABEL"), held_out().0).unwrap();
        assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["LABEL"]);
    }
}
