//! DP-SGD: each row's gradient is clipped, and noise is added to their sum (Abadi et al. 2016, *Deep Learning with
//! Differential Privacy*).
//!
//! The gradient of a dense layer's weight by one row is dy x^T, so that its norm is |dy| |x|: the norms of all rows come of
//! one backward pass, and no row's gradient is ever made (Goodfellow 2015, *Efficient Per-Example Gradient Computations*).

use innkeeper_sdk::train::{Gradients, Parameter, Var, epsilon};
use innkeeper_sdk::trainer::Task;
use innkeeper_sdk::{DType, Key, Result, Tensor};

use crate::training::Dense;

/// What keeps rows private.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Privacy {
    /// The longest gradient of one row.
    clip: f64,
    /// The deviation of the noise, in parts of `clip`.
    noise: f64,
    delta: f64,
    seed: u64,
    /// The share of the rows that is in a batch.
    sampling: f64,
    batch_size: u64,
    steps_per_epoch: u64,
}

/// What a private step comes to.
pub struct Private {
    pub gradients: Gradients,
    pub answer: Var,
    /// The mean over the rows.
    pub loss: Var,
}

impl Privacy {
    pub fn of(task: &Task) -> Result<Option<Privacy>> {
        let clip = task.number("dp_clip")?;
        let (rows, batch_size) = (task.rows.max(1), task.integer("batch_size")? as u64);
        Ok((clip > 0.0).then_some(Privacy {
            clip,
            noise: task.number("dp_noise")?,
            delta: task.number("dp_delta")?,
            seed: task.seed,
            sampling: (batch_size as f64 / rows as f64).min(1.0),
            batch_size: batch_size.min(rows),
            steps_per_epoch: rows.div_ceil(batch_size),
        }))
    }

    /// The epsilon that is spent when an epoch, counted from 0, is over.
    pub fn spent(&self, epoch: u32) -> f64 {
        let steps = self.steps_per_epoch * (u64::from(epoch) + 1);
        epsilon(self.sampling, self.noise, steps, self.delta)
    }
}

/// The gradients of one step. `sum` answers the sum of the losses of all rows.
pub fn gradients(
    dense: &Dense,
    x: &Tensor,
    privacy: &Privacy,
    step: u64,
    sum: impl Fn(&Var) -> Result<Var>,
) -> Result<Private> {
    let rows = x.shape()[0];
    // A parameter of zeros is added behind each layer: its gradient is each row's dy.
    let mut seen = Vec::with_capacity(dense.layers.len());
    let mut x = Var::constant(x.share()?);
    for (i, layer) in dense.layers.iter().enumerate() {
        let weight = Var::constant(layer.weight.value().share()?);
        let bias = layer.bias.as_ref().map(|bias| bias.value().share()).transpose()?;
        let zeros = Tensor::full(DType::Fp32, &[rows, weight.shape()[0]], 0.0)?;
        let behind = Parameter::new(zeros);
        let input = x.value().share()?;
        x = x.linear(&weight, bias.map(Var::constant).as_ref())?.add(&behind.var())?;
        if i + 1 < dense.layers.len() {
            x = dense.activate(&x)?;
        }
        seen.push((input, behind));
    }
    let loss = sum(&x)?;
    let by_row = loss.backward()?;
    let mut layers = Vec::with_capacity(seen.len());
    let mut squares = Tensor::full(DType::Fp32, &[rows, 1], 0.0)?;
    for (input, behind) in &seen {
        let dy = match by_row.get(behind) {
            Some(dy) => dy.share()?,
            None => Tensor::full(DType::Fp32, &behind.value().shape(), 0.0)?,
        };
        // |dy x^T|^2 + |dy|^2, the second for the bias.
        let of = |t: &Tensor| t.mul(t)?.sum(&[1], true);
        squares = squares.add(&of(&dy)?.mul(&of(input)?.add_scalar(1.0)?)?)?;
        layers.push((input, dy));
    }
    // min(1, clip / norm).
    let norms = squares.sqrt()?.add_scalar(1e-12)?;
    let scale = norms.reciprocal()?.mul_scalar(privacy.clip)?.clip(None, Some(1.0))?;
    let mut gradients = Vec::new();
    // Each sum of each step has noise of its own.
    let mut stream = step.wrapping_mul(1 << 16);
    let mut noisy = |sum: &Tensor| {
        stream = stream.wrapping_add(1);
        noisy(sum, privacy, stream)
    };
    for (layer, (input, dy)) in dense.layers.iter().zip(layers) {
        let dy = dy.mul(&scale)?;
        gradients.push((layer.weight.clone(), noisy(&dy.transpose(&[1, 0])?.matmul(input)?)?));
        if let Some(bias) = &layer.bias {
            gradients.push((bias.clone(), noisy(&dy.sum(&[0], false)?)?));
        }
    }
    let loss = loss.mul_scalar(1.0 / rows as f64)?;
    Ok(Private { gradients: Gradients::of(gradients), answer: x, loss })
}

/// The sum with noise, as a mean over what a batch is meant to have: how many rows there are is private, too.
fn noisy(sum: &Tensor, privacy: &Privacy, stream: u64) -> Result<Tensor> {
    let key = Key { seed: privacy.seed, stream };
    let noise =
        Tensor::random_normal(DType::Fp32, &sum.shape(), 0.0, privacy.noise * privacy.clip, key)?;
    sum.add(&noise)?.mul_scalar(1.0 / privacy.batch_size as f64)
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::train::{Linear, Module, Random};

    use super::*;
    use crate::network::Activation;

    /// Each row's gradient by itself, clipped, and their sum: what `gradients` must come to without noise.
    #[test]
    fn clipped_gradients_are_those_of_each_row_by_itself() {
        let mut random = Random::new(4);
        let layers = [(3, 5), (5, 4), (4, 2)].map(|(i, o)| Linear::new(i, o, &mut random).unwrap());
        let dense = Dense::new(layers.to_vec(), Activation::Tanh);
        let x: Vec<f32> = (0..18).map(|_| random.normal() as f32).collect();
        let x = Tensor::from_slice(&[6, 3], &x).unwrap();
        let labels = Tensor::from_slice(&[6], &[0i64, 1, 1, 0, 1, 0]).unwrap();
        let of_row = |row| {
            let one = Var::constant(x.slice(0, row, row + 1).unwrap());
            let label = labels.slice(0, row, row + 1).unwrap();
            dense.forward(&one).unwrap().cross_entropy(&label).unwrap().backward().unwrap()
        };
        let mut norms: Vec<f64> = (0..6).map(|row| of_row(row).clip_norm(1e9).unwrap()).collect();
        norms.sort_by(f64::total_cmp);
        // So that half of the rows are clipped.
        let clip = (norms[2] + norms[3]) / 2.0;
        let privacy = Privacy {
            clip,
            noise: 0.0,
            delta: 1e-5,
            seed: 0,
            sampling: 1.0,
            batch_size: 6,
            steps_per_epoch: 1,
        };
        let sum = |answer: &Var| {
            answer.cross_entropy_with(&labels, None, 0.0, innkeeper_sdk::train::Reduction::Sum)
        };
        let got = gradients(&dense, &x, &privacy, 0, sum).unwrap();

        let parameters = dense.parameters();
        let mut wanted: Vec<Vec<f64>> = parameters.iter().map(|_| Vec::new()).collect();
        let mut clipped = 0;
        for row in 0..6 {
            let mut by_row = of_row(row);
            clipped += usize::from(by_row.clip_norm(clip).unwrap() > clip);
            for (parameter, sum) in parameters.iter().zip(&mut wanted) {
                let values = by_row.get(parameter).unwrap().to_vec::<f32>().unwrap();
                sum.resize(values.len(), 0.0);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value) / 6.0);
            }
        }
        assert_eq!(clipped, 3, "the test must see both kinds");
        for (parameter, wanted) in parameters.iter().zip(&wanted) {
            let got = got.gradients.get(parameter).unwrap().to_vec::<f32>().unwrap();
            for (got, wanted) in got.iter().zip(wanted) {
                assert!((f64::from(*got) - wanted).abs() < 1e-5, "{got} is not {wanted}");
            }
        }
    }
}
