//! Learns the mean of a column, or misbehaves as the hyper-parameter `how` says.

use innkeeper_sdk::trainer::{Files, Hyperparameter, Metrics, Plan, Position, Task, Trainer};
use innkeeper_sdk::{
    Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor, log,
};

pub struct Mean(f32);

#[innkeeper_sdk::model]
impl Model for Mean {
    fn load(assets: &Assets) -> Result<Self> {
        let learnt = assets.list().iter().any(|asset| asset.name == "mean.safetensors");
        let mean = match learnt {
            true => assets.weights("mean.safetensors").tensor("mean")?.to_vec::<f32>()?[0],
            false => 0.0,
        };
        Ok(Mean(mean))
    }

    fn signature(&self) -> Signature {
        Signature::new().input("X", DType::Fp32, &[-1]).output("MEAN", DType::Fp32, &[1])
    }

    fn predict(&self, _: Inputs) -> Result<Outputs> {
        Ok(Outputs::new().with("MEAN", Tensor::from_slice(&[1], &[self.0])?))
    }
}

pub struct Learning {
    how: String,
    sum: f64,
    rows: u64,
    /// Keeps memory busy for `how = "memory"`.
    kept: Vec<Tensor>,
}

#[innkeeper_sdk::trainer]
impl Trainer for Learning {
    fn hyperparameters() -> Vec<Hyperparameter> {
        vec![
            Hyperparameter::text("how", "What it does.", "well"),
            Hyperparameter::integer("epochs", "How often all rows are seen.", 1..=1_000_000, 1),
            Hyperparameter::integer("batch_size", "Rows of a mini-batch.", 1..=1000, 1),
            Hyperparameter::text("column", "What it learns.", "x"),
            Hyperparameter::text("dtype", "As what.", "FP32"),
        ]
    }

    fn begin(task: &Task) -> Result<(Self, Plan)> {
        let how = task.text("how")?.to_owned();
        let dtype = task.text("dtype")?.parse().map_err(|_| Error::invalid_argument("no dtype"))?;
        let epochs = if how == "no epochs" { 0 } else { task.integer("epochs")? as u32 };
        let batch = task.integer("batch_size")? as u32;
        let plan = Plan::new(epochs, batch).feed("x", dtype, &[task.text("column")?]);
        match how.as_str() {
            "refuse" => return Err(Error::invalid_argument("I do not learn from that")),
            "begin trap" => panic!("at the beginning"),
            _ => {}
        }
        Ok((Learning { how, sum: 0.0, rows: 0, kept: Vec::new() }, plan))
    }

    fn step(&mut self, batch: Inputs, position: Position) -> Result<Metrics> {
        let x = batch.tensor("x")?.cast(DType::Fp32)?;
        self.sum += f64::from(x.sum(&[0], false)?.to_vec::<f32>()?[0]);
        self.rows += x.shape()[0] as u64;
        if position.step == 3 {
            match self.how.as_str() {
                "trap" => panic!("at step 3"),
                "loop" => loop {
                    std::hint::black_box(());
                },
                "nan" => return Ok(Metrics::new().with("loss", f64::NAN)),
                "memory" => loop {
                    self.kept.push(Tensor::full(DType::Fp32, &[1 << 20], 1.0)?);
                },
                _ => {}
            }
        }
        if self.how == "log" {
            log::info!("step {}", position.step);
        }
        Ok(Metrics::new().with("loss", self.sum / self.rows as f64))
    }

    fn evaluate(&mut self, batch: Inputs) -> Result<Metrics> {
        let x = batch.tensor("x")?.cast(DType::Fp32)?.mean(&[0], false)?.to_vec::<f32>()?[0];
        Ok(Metrics::new().with("loss", f64::from(x)))
    }

    fn save(&mut self) -> Result<Outputs> {
        if self.how == "save too much" {
            let much = Tensor::full(DType::Uint8, &[1 << 21], 1.0)?;
            return Ok(Outputs::new().with("much", much));
        }
        Ok(Outputs::new()
            .with("sum", Tensor::from_slice(&[], &[self.sum])?)
            .with("rows", Tensor::from_slice(&[], &[self.rows])?))
    }

    fn restore(&mut self, state: Inputs) -> Result<()> {
        self.sum = state.tensor("sum")?.to_vec::<f64>()?[0];
        self.rows = state.tensor("rows")?.to_vec::<u64>()?[0];
        Ok(())
    }

    fn finish(&mut self) -> Result<Files> {
        let mean = (self.sum / self.rows as f64) as f32;
        let mean = Outputs::new().with("mean", Tensor::from_slice(&[1], &[mean])?);
        Ok(match self.how.as_str() {
            "bad name" => Files::new().tensors("../mean.safetensors", mean),
            "bad weights" => Files::new().bytes("mean.safetensors", *b"nothing of the kind"),
            "finish trap" => panic!("at the end"),
            _ => Files::new().tensors("mean.safetensors", mean),
        })
    }
}
