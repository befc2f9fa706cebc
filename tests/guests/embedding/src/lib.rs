//! Embeds texts, in a way that anybody can check. `../README.md` says how.

use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};

/// Knows no words.
pub struct Embedding;

#[innkeeper_sdk::model]
impl Model for Embedding {
    fn load(_assets: &Assets) -> Result<Self> {
        Ok(Embedding)
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("TEXT", DType::Bytes, &[-1])
            .output("EMBEDDING", DType::Fp32, &[-1, 3])
            .output("TOKENS", DType::Int64, &[-1])
            .batch_axis(0)
            .property("task", "text-embedding")
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let texts = inputs.tensor("TEXT")?.to_strings()?;
        let count = |text: &String, byte: u8| text.bytes().filter(|b| *b == byte).count() as f32;
        let row = |text: &String| [text.len() as f32, count(text, b'a'), count(text, b' ')];
        let rows: Vec<f32> = texts.iter().flat_map(row).collect();
        let tokens: Vec<i64> =
            texts.iter().map(|text| text.split_whitespace().count() as i64).collect();
        Ok(Outputs::new()
            .with("EMBEDDING", Tensor::from_slice(&[texts.len(), 3], &rows)?)
            .with("TOKENS", Tensor::from_slice(&[texts.len()], &tokens)?))
    }
}
