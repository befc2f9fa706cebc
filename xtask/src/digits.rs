//! Handwritten digits, as people see them, and what a model says they are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Pixels of one image, 8 by 8, each from 0 to 16.
pub(crate) const PIXELS: usize = 64;
const SIDE: usize = 8;
/// From white to black.
const SHADES: &[u8] = b" .:-=+*#%@";

/// Images and what a person says they are.
pub(crate) struct Digits {
    pub(crate) images: Vec<[u8; PIXELS]>,
    pub(crate) labels: Vec<u8>,
}

impl Digits {
    /// Those that the model was not trained on.
    pub(crate) fn held_out(samples: &Path) -> Result<Digits> {
        let pixels = bytes(&samples.join("held_out_pixels.npy"))?;
        let labels = bytes(&samples.join("held_out_labels.npy"))?;
        let (images, rest) = pixels.as_chunks::<PIXELS>();
        ensure!(
            rest.is_empty() && images.len() == labels.len() && !labels.is_empty(),
            "{} holds {} pixels for {} labels; wanted {PIXELS} for each",
            samples.display(),
            pixels.len(),
            labels.len()
        );
        Ok(Digits { images: images.to_vec(), labels })
    }

    /// All of them as the values of one tensor, in JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::json!(self.images.iter().map(|image| image.to_vec()).collect::<Vec<_>>())
            .to_string()
    }
}

/// The bytes of an array of bytes, as NumPy keeps it.
fn bytes(path: &Path) -> Result<Vec<u8>> {
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header = file.get(8..10).context("the file is too short for an array")?;
    let begin = 10 + usize::from(u16::from_le_bytes([header[0], header[1]]));
    let text = file.get(10..begin).context("the file is too short for an array")?;
    let text = String::from_utf8_lossy(text);
    ensure!(text.contains("'|u1'"), "{} holds {text}; wanted bytes", path.display());
    Ok(file[begin..].to_vec())
}

/// The image in characters, two for each pixel, as these are taller than wide.
pub(crate) fn drawn(image: &[u8; PIXELS]) -> String {
    let shade = |&pixel: &u8| {
        let shade = SHADES[usize::from(pixel.min(16)) * (SHADES.len() - 1) / 16];
        [char::from(shade); 2]
    };
    image
        .chunks(SIDE)
        .map(|row| format!("    {}\n", row.iter().flat_map(shade).collect::<String>()))
        .collect()
}

/// What a model says of each image: the label and its probability.
pub(crate) fn answers(answer: &str) -> Result<Vec<(u8, f64)>> {
    let answer: Value = serde_json::from_str(answer).context("the answer is not JSON")?;
    let output = |name: &str| {
        let outputs = answer["outputs"].as_array();
        let output = outputs.and_then(|all| all.iter().find(|output| output["name"] == name));
        let data = output.and_then(|output| output["data"].as_array());
        data.with_context(|| format!("the answer has no output {name}"))
    };
    let (labels, probabilities) = (output("LABEL")?, output("PROBABILITIES")?);
    let both = labels.iter().zip(probabilities.chunks(10));
    let one = |(label, row): (&Value, &[Value])| {
        let label = label.as_u64().and_then(|label| u8::try_from(label).ok());
        let label = label.context("a label is no digit")?;
        let probability = row.get(usize::from(label)).and_then(Value::as_f64);
        Ok((label, probability.context("a probability is missing")?))
    };
    both.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_looks_like_itself() {
        let mut image = [0; PIXELS];
        image[0] = 16;
        image[63] = 8;
        let text = drawn(&image);
        assert_eq!(text.lines().count(), 8);
        assert!(text.starts_with("    @@ ") && text.ends_with(" ==\n"), "{text}");
    }

    #[test]
    fn answers_are_read() {
        let answer = r#"{"outputs": [{"name": "LABEL", "data": [2]},
            {"name": "PROBABILITIES", "data": [0, 0, 0.9, 0, 0, 0.1, 0, 0, 0, 0]}]}"#;
        assert_eq!(answers(answer).unwrap(), [(2, 0.9)]);
        assert!(answers("{}").is_err());
    }
}
