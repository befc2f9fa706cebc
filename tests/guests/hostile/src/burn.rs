//! Modes that burn time, memory or stack, or break down.

use std::hint::black_box;

use innkeeper_sdk::{DType, Error, Inputs, Outputs, Result, Tensor, request};

use crate::{answer, value};

const MIB: usize = 1 << 20;

pub(crate) fn run(mode: &str, inputs: &Inputs) -> Option<Result<Outputs>> {
    Some(match mode {
        "spin" => spin(),
        "count" => count(inputs),
        "busy" => busy(inputs),
        "kernels" => kernels(256),
        "huge-product" => kernels(4096),
        "panic" => panic!("the guest was told to panic"),
        "unreachable" => unreachable(),
        "recurse" => answer(recurse(0) as f32),
        "memory" => memory(),
        "memory-try" => memory_try(),
        _ => return None,
    })
}

/// No host call, no end.
fn spin() -> ! {
    let mut rounds = 0u64;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
    }
}

/// `VALUE` million rounds without a host call.
fn count(inputs: &Inputs) -> Result<Outputs> {
    let mut rounds = 0u64;
    while rounds < value(inputs, 1.0)? as u64 * 1_000_000 {
        for _ in 0..1_000_000 {
            rounds = black_box(rounds + 1);
        }
    }
    answer(rounds as f32)
}

/// Busy for `VALUE` milliseconds, by the only clock there is.
fn busy(inputs: &Inputs) -> Result<Outputs> {
    let until = request::remaining_ms().saturating_sub(value(inputs, 10.0)? as u64);
    while request::remaining_ms() > until {
        for round in 0..10_000u32 {
            black_box(round);
        }
    }
    answer(1.0)
}

/// Matrix products in the host, without end.
fn kernels(size: usize) -> Result<Outputs> {
    let x = Tensor::full(DType::Fp32, &[size, size], 0.5)?;
    loop {
        black_box(x.matmul(&x)?);
    }
}

#[cfg(target_family = "wasm")]
fn unreachable() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_family = "wasm"))]
fn unreachable() -> ! {
    std::process::abort()
}

/// The array keeps the frame large, and its use after the call keeps it a call.
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    recurse(depth + 1).wrapping_add(frame[(depth % 64) as usize])
}

/// Memory without end; the allocator gives up with a trap.
fn memory() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1u8; MIB]));
    }
}

/// As much memory as there is, and then an answer: how many MiB that was.
fn memory_try() -> Result<Outputs> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut part = Vec::new();
        if part.try_reserve_exact(MIB).is_err() || kept.try_reserve(1).is_err() {
            let count = kept.len();
            drop(kept);
            return answer(count as f32);
        }
        part.resize(MIB, 1);
        kept.push(black_box(part));
        if kept.len() > 1 << 14 {
            return Err(Error::internal("16 GiB in a 32-bit memory"));
        }
    }
}
