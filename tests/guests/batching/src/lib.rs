//! Tells its callers what ran together. `../README.md` lists what it can be told.

use std::cell::Cell;
use std::hint::black_box;

use innkeeper_sdk::{
    Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor, TensorSpec, request,
};

/// Counts its calls.
pub struct Batching {
    calls: Cell<i64>,
}

#[innkeeper_sdk::model]
impl Model for Batching {
    fn load(_assets: &Assets) -> Result<Self> {
        Ok(Batching { calls: Cell::new(0) })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("X", DType::Int64, &[-1, -1])
            .with_input(TensorSpec::new("Z", DType::Int64, &[-1]).optional())
            .output("Y", DType::Int64, &[-1, -1])
            .output("TOLD", DType::Int64, &[-1, 3])
            .batch_axis(0)
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        self.calls.set(self.calls.get() + 1);
        let x = inputs.tensor("X")?;
        let (shape, mut values) = (x.shape(), x.to_vec::<i64>()?);
        let [mut rows, columns] = shape[..] else {
            return Err(Error::internal("X has two dimensions"));
        };
        match values.iter().copied().find(|&value| value < 0) {
            Some(-1) => panic!("the guest was told to panic"),
            Some(-2) => return Err(Error::invalid_argument("X said invalid-argument")),
            Some(-3) => loop {
                black_box(());
            },
            Some(-4) => rows = rows.saturating_sub(1),
            _ => {}
        }
        values.truncate(rows * columns);
        values.iter_mut().for_each(|value| *value += 1);
        let p = request::parameter("p").and_then(|p| p.parse().ok()).unwrap_or(0);
        let told = [shape[0] as i64, self.calls.get(), p].repeat(rows);
        Ok(Outputs::new()
            .with("Y", Tensor::from_slice(&[rows, columns], &values)?)
            .with("TOLD", Tensor::from_slice(&[rows, 3], &told)?))
    }
}
