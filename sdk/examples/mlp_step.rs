//! Times training steps of the network 1000-64-64-10 natively, for `benches/train.py`.
//!
//! For each line of standard input, which is a number of steps, it takes so many steps of Adam on one batch of 32 and
//! writes the microseconds per step and the last loss.

use std::io::BufRead;
use std::time::Instant;

use innkeeper_sdk::train::{Adam, Linear, Module, Optimizer, Random, Sequential, Var};
use innkeeper_sdk::{Result, Tensor};

fn main() -> Result<()> {
    let mut random = Random::new(20);
    let model = Sequential::new()
        .with(Linear::new(1000, 64, &mut random)?)
        .relu()
        .with(Linear::new(64, 64, &mut random)?)
        .relu()
        .with(Linear::new(64, 10, &mut random)?);
    let parameters = model.parameters();
    let mut adam = Adam::new(1e-3);
    let x: Vec<f32> = (0..32_000).map(|_| random.uniform() as f32).collect();
    let x = Var::constant(Tensor::from_slice(&[32, 1000], &x)?);
    let labels: Vec<i64> = (0..32).map(|_| random.below(10) as i64).collect();
    let labels = Tensor::from_slice(&[32], &labels)?;
    for line in std::io::stdin().lock().lines().map_while(|line| line.ok()) {
        let steps: u32 = line.trim().parse().unwrap_or(0);
        let start = Instant::now();
        for _ in 0..steps {
            let gradients = model.forward(&x)?.cross_entropy(&labels)?.backward()?;
            adam.step(&parameters, &gradients)?;
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(steps.max(1));
        let loss = model.forward(&x)?.cross_entropy(&labels)?.item()?;
        println!("{micros:.2} {loss:.6}");
    }
    Ok(())
}
