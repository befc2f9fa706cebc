//! Modes that keep something from one call to the next.

use std::cell::{Cell, RefCell};

use innkeeper_sdk::{DType, Error, Inputs, Outputs, Result, Tensor};

use crate::answer;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static KEPT: RefCell<Vec<Tensor>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn run(mode: &str, inputs: &Inputs) -> Option<Result<Outputs>> {
    Some(match mode {
        "state" => state(),
        "keep-bytes" => keep(|| Tensor::full(DType::Uint8, &[1 << 20], 1.0)),
        "keep-input" => keep(|| inputs.tensor("VALUE")?.share()),
        "kept" => kept(),
        _ => return None,
    })
}

/// How many calls with this mode the instance has answered, this one included.
fn state() -> Result<Outputs> {
    CALLS.set(CALLS.get() + 1);
    answer(CALLS.get() as f32)
}

/// Keeps a tensor, and answers how many are kept.
fn keep(tensor: impl FnOnce() -> Result<Tensor>) -> Result<Outputs> {
    let tensor = tensor()?;
    let kept = KEPT.with_borrow_mut(|kept| {
        kept.push(tensor);
        kept.len()
    });
    answer(kept as f32)
}

/// `EXTRA`: the tensor that was kept last, from a request that is long over.
fn kept() -> Result<Outputs> {
    let last = KEPT.with_borrow(|kept| kept.last().map(Tensor::share));
    let last = last.ok_or_else(|| Error::not_found("nothing is kept"))??;
    Ok(answer(1.0)?.with("EXTRA", last))
}
