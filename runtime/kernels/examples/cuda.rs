//! Times operations on a GPU, for `benches/cuda.py`: one line of JSON for each, with microseconds per call.

use std::error::Error;
use std::time::Instant;

use innkeeper_kernels::{Activation, Attention, Backend, Binary, Cuda, Norm, Op, Run};
use innkeeper_tensor::{DType, Tensor};

/// Calls that are not timed, in which kernels are compiled.
const WARM: usize = 3;
/// Calls in one timing, and timings of which the middle one counts.
const CALLS: usize = 20;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let cuda = Cuda::open_with(
        0,
        &innkeeper_kernels::cuda::CudaConfig { memory_bytes_max: 24 << 30, ..Default::default() },
    )?;
    println!("{{\"device\": {:?}}}", cuda.description());
    let large = made(&cuda, DType::Fp32, &[16384, 4096])?;
    time(&cuda, "copy", &Op::Transpose { permutation: vec![0, 1] }, &[&large])?;
    time(&cuda, "add", &Op::Binary(Binary::Add), &[&large, &large])?;
    let scale = made(&cuda, DType::Fp32, &[4096])?;
    let norm =
        Norm::Layer { axis: -1, epsilon: 1e-5, bias: true, residual: false, keep_sum: false };
    time(&cuda, "layer-norm", &Op::Norm(norm), &[&large, &scale, &scale])?;
    time(&cuda, "softmax", &Op::Softmax { axis: -1 }, &[&large])?;
    drop(large);
    for dtype in [DType::Fp32, DType::Bf16] {
        let square = made(&cuda, dtype, &[8192, 8192])?;
        let linear = Op::Linear { bias: false, residual: false, activation: Activation::None };
        time(&cuda, &format!("product-{dtype}"), &linear, &[&square, &square])?;
    }
    let attention = Attention {
        heads: 16,
        kv_heads: 16,
        scale: None,
        causal: true,
        mask: false,
        packed: true,
        heads_first: false,
    };
    let packed = made(&cuda, DType::Bf16, &[8, 2048, 3 * 16 * 64])?;
    time(&cuda, "attention-BF16", &Op::Attention(attention), &[&packed])?;
    Ok(())
}

/// A tensor on the device.
fn made(cuda: &Cuda, dtype: DType, shape: &[usize]) -> Result<Tensor, Box<dyn Error>> {
    let full = Op::Full { dtype, shape: shape.to_vec(), value: 0.5 };
    Ok(cuda.run_one(&full, &[], &Run::new())?)
}

/// Prints the time of one call; what this backend does not do is said and passed over.
fn time(cuda: &Cuda, name: &str, op: &Op, inputs: &[&Tensor]) -> Result<(), Box<dyn Error>> {
    let calls = |count: usize| -> Result<(), Box<dyn Error>> {
        let mut last = None;
        for _ in 0..count {
            last = Some(cuda.run_one(op, inputs, &Run::new())?);
        }
        // One element of the last result is there when everything before it is.
        if let Some(last) = last {
            let flat = Op::Reshape { shape: vec![-1] };
            let flat = cuda.run_one(&flat, &[&last], &Run::new())?;
            let first = Op::Slice { axis: 0, start: 0, end: 1 };
            cuda.run_one(&first, &[&flat], &Run::new())?.fetch()?;
        }
        Ok(())
    };
    if let Err(error) = calls(WARM) {
        println!("{{\"name\": {name:?}, \"error\": {:?}}}", error.to_string());
        return Ok(());
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        calls(CALLS)?;
        rounds.push(begun.elapsed().as_secs_f64() * 1e6 / CALLS as f64);
    }
    rounds.sort_by(f64::total_cmp);
    println!("{{\"name\": {name:?}, \"microseconds\": {:.2}}}", rounds[ROUNDS / 2]);
    Ok(())
}
