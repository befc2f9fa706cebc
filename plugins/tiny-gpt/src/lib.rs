//! Writes on from a text, byte by byte. Parameters: `max_tokens` (200), `temperature` (0.8; 0 takes the likeliest byte)
//! and `seed` (0).

mod gpt;
mod training;

use innkeeper_sdk::train::{Random, without_gradients};
use innkeeper_sdk::{
    Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor, request,
};

use gpt::{Gpt, Size};

pub const WEIGHTS: &str = "weights.safetensors";
/// Bytes that one answer may have.
const TOKENS_MAX: usize = 2_000;

pub struct Writer(Gpt);

#[innkeeper_sdk::model]
impl Model for Writer {
    fn load(assets: &Assets) -> Result<Self> {
        let has_learnt = assets.list().iter().any(|asset| asset.name == WEIGHTS);
        let gpt = match has_learnt {
            true => Gpt::open(&assets.weights(WEIGHTS))?,
            // So that there is something to train; it writes noise.
            false => {
                let size = Size { width: 32, layers: 1, heads: 2, context: 32 };
                Gpt::new(size, &mut Random::new(0))?
            }
        };
        Ok(Writer(gpt))
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("text_input", DType::Bytes, &[1])
            .output("text_output", DType::Bytes, &[1])
            .property("task", "text-generation")
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let prompt = inputs.tensor("text_input")?.to_strings()?;
        let count = number("max_tokens", 200.0)?;
        if !(0.0..=TOKENS_MAX as f64).contains(&count) {
            return Err(Error::invalid_argument(format!(
                "max_tokens must be 0 to {TOKENS_MAX}, got {count}"
            )));
        }
        let mut random = Random::new(number("seed", 0.0)? as u64);
        let mut text = prompt[0].clone().into_bytes();
        let temperature = number("temperature", 0.8)?;
        without_gradients(|| {
            for _ in 0..count as usize {
                let next = self.next(&text, temperature, &mut random)?;
                text.push(next);
            }
            Ok::<(), Error>(())
        })?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Outputs::new().with("text_output", Tensor::from_strings(&[1], &[text])?))
    }
}

impl Writer {
    fn next(&self, text: &[u8], temperature: f64, random: &mut Random) -> Result<u8> {
        let seen = &text[text.len().saturating_sub(self.0.context())..];
        // A text begins as if behind the end of a line.
        let seen: Vec<i64> = match seen {
            [] => vec![i64::from(b'\n')],
            seen => seen.iter().map(|&byte| byte.into()).collect(),
        };
        let logits = self.0.logits(&Tensor::from_slice(&[1, seen.len()], &seen)?)?;
        let last = logits.value().slice(1, seen.len() as i64 - 1, seen.len() as i64)?;
        if temperature <= 0.0 {
            return Ok(last.argmax(-1)?.to_vec::<i64>()?[0] as u8);
        }
        let chances = last.mul_scalar(1.0 / temperature)?.softmax(-1)?.to_vec::<f32>()?;
        let mut left = random.uniform();
        for (byte, chance) in chances.iter().enumerate() {
            left -= f64::from(*chance);
            if left < 0.0 {
                return Ok(byte as u8);
            }
        }
        Ok(b'\n')
    }
}

fn number(name: &str, default: f64) -> Result<f64> {
    match request::parameter(name) {
        None => Ok(default),
        Some(text) => text.trim_matches('"').parse().map_err(|_| {
            Error::invalid_argument(format!("the parameter {name} must be a number, got {text}"))
        }),
    }
}
