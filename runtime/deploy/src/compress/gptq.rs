//! Weights in 4 bits such that products with what was seen change little.
//!
//! The method is that of Frantar et al., "GPTQ" (2022): column after column is rounded, and what that did to the sums is
//! made good in the columns that are left, as the second moments of the inputs say.

use std::collections::BTreeMap;

use innkeeper_kernels::{Backend, Cpu, Op, Run};
use innkeeper_tensor::{DType, Tensor};
use nalgebra::{Cholesky, DMatrix};

use super::CompressError;
use super::code::failed;

/// The share of the mean of the diagonal that is added to it, so that it can be inverted.
const DAMPING: f64 = 0.01;
/// The longest row that is worked on: the work grows with its square.
pub(super) const DEPTH_MAX: usize = 4096;

/// What was seen of the inputs of products: for each input by its name the sums of the products of its elements.
#[derive(Clone, Debug, Default)]
pub struct Calibration(BTreeMap<String, Vec<f64>>);

impl Calibration {
    /// Takes rows (FP32 `[.., depth]`) that came as the input of this name into account.
    ///
    /// # Errors
    /// Rows of another length than before, or longer than is worked on; another dtype.
    pub fn observe(&mut self, name: &str, rows: &Tensor) -> Result<(), CompressError> {
        let depth = rows.shape().dims().last().copied().unwrap_or(0);
        if depth == 0 || depth > DEPTH_MAX {
            return Ok(());
        }
        let run = |op: Op, operands: &[&Tensor]| {
            Cpu::new().run_one(&op, operands, &Run::new()).map_err(failed)
        };
        let wide = run(Op::Cast { to: DType::Fp64 }, &[rows])?;
        let flat = run(Op::Reshape { shape: vec![-1, depth as i64] }, &[&wide])?;
        let turned = run(Op::Transpose { permutation: vec![1, 0] }, &[&flat])?;
        let sums = run(Op::MatMul, &[&turned, &flat])?;
        let sums = sums.elements::<f64>().map_err(failed)?;
        let all = self.0.entry(name.to_owned()).or_insert_with(|| vec![0.0; depth * depth]);
        if all.len() != sums.len() {
            return Err(CompressError::Failed(format!("{name:?} has rows of several lengths")));
        }
        all.iter_mut().zip(&*sums).for_each(|(all, sum)| *all += sum);
        Ok(())
    }

    /// The sums for rows of this length.
    pub(super) fn sums(&self, name: &str, depth: usize) -> Option<&[f64]> {
        let sums = self.0.get(name)?;
        (sums.len() == depth * depth && sums.iter().all(|sum| sum.is_finite())).then_some(sums)
    }
}

/// Values and scales of a matrix `[out, in]`, as `Quant::Weight4` has them; `None` where the sums cannot be inverted.
pub(super) fn quantised(
    matrix: &Tensor,
    sums: &[f64],
    group: usize,
) -> Result<Option<(Tensor, Tensor)>, CompressError> {
    let &[rows, depth] = matrix.shape().dims() else {
        return Err(CompressError::Failed("what is quantised is no matrix".into()));
    };
    let Some(upper) = factor(sums, depth) else { return Ok(None) };
    let mut weights = matrix.elements::<f32>().map_err(failed)?.into_owned();
    let mut values = vec![0u8; rows * depth / 2];
    let mut scales = vec![0f32; rows * depth / group];
    for (row, weights) in weights.chunks_exact_mut(depth).enumerate() {
        for column in 0..depth {
            let of_group = row * depth / group + column / group;
            if column % group == 0 {
                scales[of_group] = scale(&weights[column..column + group]);
            }
            let scale = scales[of_group];
            let number = ((weights[column] / scale).round_ties_even() + 8.0).clamp(0.0, 15.0);
            values[(row * depth + column) / 2] |= (number as u8) << (column % 2 * 4);
            let off = weights[column] - (number - 8.0) * scale;
            let of_column = &upper[column * depth..][..depth];
            let off = f64::from(off) / of_column[column];
            let left = weights[column + 1..].iter_mut().zip(&of_column[column + 1..]);
            left.for_each(|(weight, share)| *weight -= (off * share) as f32);
        }
    }
    let values = Tensor::from_vec(&[rows, depth / 2], values).map_err(failed)?;
    let scales = Tensor::from_vec(&[rows, depth / group], scales).map_err(failed)?;
    Ok(Some((values, scales)))
}

/// An eighth of the number of the largest magnitude, negated, so that it is met exactly.
fn scale(group: &[f32]) -> f32 {
    let far = group.iter().fold(0f32, |far, &x| if x.abs() > far.abs() { x } else { far });
    if far == 0.0 { 1.0 } else { far / -8.0 }
}

/// The upper factor of the Cholesky decomposition of the sums' inverse.
fn factor(sums: &[f64], depth: usize) -> Option<Vec<f64>> {
    let mut moments = DMatrix::from_row_slice(depth, depth, sums);
    let mean = moments.diagonal().mean();
    if mean.is_nan() || mean <= 0.0 {
        return None;
    }
    for index in 0..depth {
        moments[(index, index)] += DAMPING * mean;
    }
    let lower = Cholesky::new(Cholesky::new(moments)?.inverse())?.l();
    let mut upper = vec![0.0; depth * depth];
    for row in 0..depth {
        for column in row..depth {
            upper[row * depth + column] = lower[(column, row)];
        }
    }
    Some(upper)
}
