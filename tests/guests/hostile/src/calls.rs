//! Modes that ask too much of the host's functions.

use innkeeper_sdk::{DType, Inputs, Outputs, Result, Tensor, log};

use crate::{answer, value};

const MIB: usize = 1 << 20;

pub(crate) fn run(mode: &str, inputs: &Inputs) -> Option<Result<Outputs>> {
    Some(match mode {
        "handles" => handles(),
        "tensor-bytes" => tensor_bytes(),
        "big-tensor" => created(Tensor::full(DType::Fp32, &[1 << 30], 1.0)),
        "overflowing-shape" => created(Tensor::full(DType::Fp64, &[u32::MAX as usize; 4], 1.0)),
        "high-rank" => created(Tensor::full(DType::Uint8, &[1; 1000], 1.0)),
        "broadcast-bomb" => broadcast_bomb(),
        "host-call" => host_call(inputs),
        "host-calls" => host_calls(inputs),
        "read-past" => created(Tensor::from_slice(&[4], &[0u8; 4]).and_then(|x| {
            x.read(u64::MAX, 2)?;
            Ok(x)
        })),
        "divide-by-zero" => divide_by_zero(),
        "lying-strings" => created(Tensor::from_bytes(DType::Bytes, &[2], &[255; 8])),
        "wrong-length" => created(Tensor::from_bytes(DType::Fp32, &[3], &[0; 8])),
        "log-lines" => log_lines(inputs),
        "log-bytes" => log_bytes(inputs),
        "log-levels" => log_levels(),
        _ => return None,
    })
}

fn created(tensor: Result<Tensor>) -> Result<Outputs> {
    answer(tensor?.byte_length() as f32)
}

/// Handles without end, on the same four bytes.
fn handles() -> Result<Outputs> {
    let x = Tensor::from_slice(&[1], &[1f32])?;
    loop {
        std::mem::forget(x.share()?);
    }
}

/// Tensors of 1 MiB without end, none of which is in guest memory.
fn tensor_bytes() -> Result<Outputs> {
    loop {
        std::mem::forget(Tensor::full(DType::Uint8, &[MIB], 1.0)?);
    }
}

/// Two small tensors whose sum has 2^40 elements.
fn broadcast_bomb() -> Result<Outputs> {
    let column = Tensor::full(DType::Fp32, &[1 << 20, 1], 1.0)?;
    let row = Tensor::full(DType::Fp32, &[1, 1 << 20], 1.0)?;
    created(column.add(&row))
}

/// One host call with `VALUE` MiB.
fn host_call(inputs: &Inputs) -> Result<Outputs> {
    let bytes = vec![1u8; value(inputs, 1.0)? as usize * MIB];
    created(Tensor::from_bytes(DType::Uint8, &[bytes.len()], &bytes))
}

/// `VALUE` host calls with 1 MiB each; no tensor is kept.
fn host_calls(inputs: &Inputs) -> Result<Outputs> {
    let bytes = vec![1u8; MIB];
    let calls = value(inputs, 1.0)? as usize;
    for _ in 0..calls {
        Tensor::from_bytes(DType::Uint8, &[MIB], &bytes)?;
    }
    answer(calls as f32)
}

fn divide_by_zero() -> Result<Outputs> {
    let zero = Tensor::full(DType::Int32, &[2], 0.0)?;
    created(zero.div(&zero))
}

/// `VALUE` lines of 100 bytes.
fn log_lines(inputs: &Inputs) -> Result<Outputs> {
    let lines = value(inputs, 100_000.0)? as usize;
    for line in 0..lines {
        log::info!("{line:0>100}");
    }
    answer(lines as f32)
}

/// One line of `VALUE` MiB.
fn log_bytes(inputs: &Inputs) -> Result<Outputs> {
    let line = "x".repeat(value(inputs, 1.0)? as usize * MIB);
    log::write(log::Level::Info, &line);
    answer(1.0)
}

/// One line of each level, the last with what terminals and line-based logs would trip over.
fn log_levels() -> Result<Outputs> {
    log::debug!("a debug line");
    log::info!("an info line");
    log::warn!("a warn line");
    log::error!("an error line\nwith a second line\u{1b}[31m and an escape");
    answer(1.0)
}
