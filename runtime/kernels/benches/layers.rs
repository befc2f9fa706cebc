//! The Rust side of `benches/layers.py`: times convolutions as it is told on its standard input, a line for each.
//!
//! `conv THREADS N C SIZE M KERNEL STRIDE PAD GROUPS MILLISECONDS` answers the shortest time of one convolution with bias
//! and ReLU in nanoseconds, over as many samples as fit.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use innkeeper_kernels::{Activation, Backend, Conv, Cpu, Memory, Op, Pool, Run, Window};
use innkeeper_tensor::Tensor;

fn main() {
    let mut pools = HashMap::new();
    let memory = Memory::new(1 << 30);
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let numbers: Vec<usize> =
            line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        let &[threads, n, c, size, m, kernel, stride, pad, groups, milliseconds] = &numbers[..]
        else {
            panic!("not a command: {line}")
        };
        let pool = pools.entry(threads).or_insert_with(|| Pool::new(threads).unwrap());
        let run = Run::new().on(pool, threads).recycling(&memory);
        let conv = Op::Conv(Conv {
            window: Window {
                strides: vec![stride; 2],
                pads: vec![pad; 4],
                dilations: vec![],
                ceil: false,
            },
            groups,
            bias: true,
            residual: false,
            activation: Activation::Relu,
        });
        let x = tensor(&[n, c, size, size]);
        let weight = tensor(&[m, c / groups, kernel, kernel]).constant();
        let bias = tensor(&[m]).constant();
        let time = Duration::from_millis(milliseconds as u64);
        println!("{}", shortest(&conv, &[&x, &weight, &bias], &run, time));
        std::io::stdout().flush().unwrap();
    }
}

fn tensor(dims: &[usize]) -> Tensor {
    let len = dims.iter().product();
    let elements = (0..len).map(|i: usize| (i % 17) as f32 / 8.0 - 1.0).collect();
    Tensor::from_vec(dims, elements).unwrap()
}

fn shortest(op: &Op, operands: &[&Tensor], run: &Run<'_>, time: Duration) -> f64 {
    let cpu = Cpu::new();
    let once = || run.recycle(cpu.run_one(op, operands, run).unwrap());
    once();
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed() < time {
        let start = Instant::now();
        once();
        best = best.min(start.elapsed().as_nanos() as f64);
    }
    best
}
