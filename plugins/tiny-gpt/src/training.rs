//! Training: from texts, one in each row, to a network that writes on.

use innkeeper_sdk::train::{
    Adam, Module, Optimizer, Random, Reduction, Schedule, Var, without_gradients,
};
use innkeeper_sdk::trainer::{
    Files, Hyperparameter, Metrics, Plan, Position, Task, Trainer, restored, saved, weights,
};
use innkeeper_sdk::{DType, Error, Inputs, Outputs, Result, Tensor};

use crate::WEIGHTS;
use crate::gpt::{Gpt, HEADS, Size, WORDS};

/// Stands where there is no next byte.
const NONE: i64 = -100;

pub struct Training {
    gpt: Gpt,
    size: Size,
    adam: Adam,
    learning_rate: f64,
    schedule: Schedule,
    clip_norm: f64,
    seed: u64,
}

#[innkeeper_sdk::trainer]
impl Trainer for Training {
    fn hyperparameters() -> Vec<Hyperparameter> {
        let integer = Hyperparameter::integer;
        vec![
            Hyperparameter::text("column", "The column of texts; else the first one of text.", ""),
            integer("width", "Numbers that stand for a byte.", 8..=1_024, 64),
            integer("layers", "Blocks of attention.", 1..=24, 2),
            integer("heads", "Heads of attention; the width is a multiple.", 1..=32, 4),
            integer("context", "Bytes that it looks back on.", 8..=1_024, 64),
            integer("epochs", "How often all texts are seen.", 1..=100_000, 20),
            integer("batch_size", "Texts of a mini-batch.", 1..=1_024, 16),
            Hyperparameter::number(
                "learning_rate",
                "How far a step goes at most.",
                0.0..=1.0,
                3e-3,
            ),
            Hyperparameter::number("weight_decay", "How fast weights shrink.", 0.0..=1.0, 0.01),
            Hyperparameter::number("clip_norm", "The longest gradient; 0 for any.", 0.0..=1e6, 1.0),
        ]
    }

    fn begin(task: &Task) -> Result<(Self, Plan)> {
        let column = match task.text("column")? {
            "" => task
                .columns
                .iter()
                .find(|column| column.dtype == DType::Bytes)
                .ok_or_else(|| Error::invalid_argument("the data has no column of text"))?,
            name => task.column(name)?,
        };
        let of = |name| Ok::<usize, Error>(task.integer(name)? as usize);
        let size = Size {
            width: of("width")?,
            layers: of("layers")?,
            heads: of("heads")?,
            context: of("context")?,
        };
        let rate = task.number("learning_rate")?;
        let batch = task.integer("batch_size")? as u64;
        let steps = task.rows.div_ceil(batch) * task.integer("epochs")? as u64;
        let training = Training {
            gpt: Gpt::new(size, &mut Random::new(task.seed))?,
            size,
            adam: Adam::decoupled(rate, task.number("weight_decay")?),
            learning_rate: rate,
            schedule: Schedule::Cosine { steps, end: 0.1 }.after_warm_up(steps / 20),
            clip_norm: task.number("clip_norm")?,
            seed: task.seed,
        };
        let plan = Plan::new(task.integer("epochs")? as u32, batch as u32);
        Ok((training, plan.feed("text", DType::Bytes, &[&column.name])))
    }

    fn step(&mut self, batch: Inputs, position: Position) -> Result<Metrics> {
        let mut random =
            Random::new(self.seed.wrapping_add(position.step.wrapping_mul(0x9E37_79B9)));
        self.adam.set_learning_rate(self.learning_rate * self.schedule.at(position.step));
        let loss = self.loss(&batch, |room| random.below(room + 1))?;
        let mut gradients = loss.backward()?;
        if self.clip_norm > 0.0 {
            gradients.clip_norm(self.clip_norm)?;
        }
        self.adam.step(&self.gpt.parameters(), &gradients)?;
        Ok(Metrics::new().with("loss", loss.item()?))
    }

    fn evaluate(&mut self, batch: Inputs) -> Result<Metrics> {
        let loss = without_gradients(|| self.loss(&batch, |_| 0))?;
        Ok(Metrics::new().with("loss", loss.item()?))
    }

    fn save(&mut self) -> Result<Outputs> {
        saved(&self.gpt, &self.adam)
    }

    fn restore(&mut self, state: Inputs) -> Result<()> {
        restored(&self.gpt, &mut self.adam, state)
    }

    fn finish(&mut self) -> Result<Files> {
        let heads = Tensor::from_slice(&[1], &[self.size.heads as i64])?;
        Ok(Files::new().tensors(WEIGHTS, weights(&self.gpt)?.with(HEADS, heads)))
    }
}

impl Training {
    /// The mean of -ln p over the bytes of a window of each text; `begin` says where it begins, given how much room
    /// there is.
    fn loss(&self, batch: &Inputs, mut begin: impl FnMut(usize) -> usize) -> Result<Var> {
        let texts = batch.tensor("text")?.to_strings()?;
        let context = self.size.context;
        let mut seen = Vec::with_capacity(texts.len() * context);
        let mut next = Vec::with_capacity(texts.len() * context);
        for text in &texts {
            // A text begins behind the end of a line, and ends with one.
            let bytes = [b"\n", text.as_bytes(), b"\n"].concat();
            let start = begin(bytes.len().saturating_sub(context + 1));
            let window = &bytes[start..bytes.len().min(start + context + 1)];
            for place in 0..context {
                let byte = |at: usize| window.get(at).map(|&byte| i64::from(byte));
                let pair = byte(place).zip(byte(place + 1));
                let (byte, following) = pair.unwrap_or((0, NONE));
                seen.push(byte);
                next.push(following);
            }
        }
        let logits = self.gpt.logits(&Tensor::from_slice(&[texts.len(), context], &seen)?)?;
        let logits = logits.reshape(&[-1, WORDS as i64])?;
        let next = Tensor::from_slice(&[texts.len() * context], &next)?;
        logits.cross_entropy_with(&next, Some(NONE), 0.0, Reduction::Mean)
    }
}
