//! Derivatives that are products and sums, put together from those operations.

use innkeeper_tensor::{DType, Shape, Tensor};

use super::window;
use crate::cpu::dispatch::float;
use crate::cpu::matmul;
use crate::cpu::memory::{elements, tensor};
use crate::infer::grad::window::Slide;
use crate::infer::result_shape;
use crate::{Activation, Backend, Cpu, Op, OpError, Reduce, Run};

pub(super) fn linear(
    cpu: &Cpu,
    [dy, x, weight]: [&Tensor; 3],
    input: bool,
    bias: bool,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let &[out, inner] = weight.shape().dims() else {
        return Ok(Vec::new());
    };
    let rows = dy.shape().elements().checked_div(out).unwrap_or(0);
    let rows = if out == 0 { x.shape().elements().checked_div(inner).unwrap_or(0) } else { rows };
    let flat_dy = reshaped(dy, &[rows, out])?;
    let flat_x = reshaped(x, &[rows, inner])?;
    let mut results = Vec::with_capacity(3);
    if input {
        let dx = cpu.run_one(&Op::MatMul, &[&flat_dy, weight], run)?;
        results.push(reshaped(&dx, x.shape().dims())?);
    }
    results.push(if dy.dtype() == DType::Fp32 && x.dtype() == DType::Fp32 {
        matmul::turned(run, &flat_dy, &flat_x)?
    } else {
        let turn = Op::Transpose { permutation: vec![1, 0] };
        cpu.run_one(&Op::MatMul, &[&cpu.run_one(&turn, &[&flat_dy], run)?, &flat_x], run)?
    });
    if bias {
        results.push(cpu.run_one(&sum(vec![0], false), &[&flat_dy], run)?);
    }
    Ok(results)
}

pub(super) fn sum_to(
    cpu: &Cpu,
    dy: &Tensor,
    shape: &[usize],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let missing = dy.shape().rank() - shape.len();
    let repeated = |&(axis, &size): &(usize, &usize)| {
        axis < missing || (size != 1 && shape[axis - missing] == 1)
    };
    let axes: Vec<i64> = dy
        .shape()
        .dims()
        .iter()
        .enumerate()
        .filter(repeated)
        .map(|(axis, _)| axis as i64)
        .collect();
    if axes.is_empty() {
        return reshaped(dy, shape);
    }
    reshaped(&cpu.run_one(&sum(axes, false), &[dy], run)?, shape)
}

fn sum(axes: Vec<i64>, keep_dims: bool) -> Op {
    Op::Reduce { op: Reduce::Sum, axes, keep_dims }
}

fn reshaped(x: &Tensor, dims: &[usize]) -> Result<Tensor, OpError> {
    let shape = Shape::new(dims).map_err(|error| OpError::InvalidArgument(error.to_string()))?;
    x.reshaped(shape).map_err(|error| OpError::InvalidArgument(error.to_string()))
}

/// What is asked of a convolution's derivative.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) groups: usize,
    pub(super) input: bool,
    pub(super) bias: bool,
}

/// By unfolding each image into a matrix of windows: with it, the convolution and its derivatives are products.
pub(super) fn conv(
    cpu: &Cpu,
    slide: &Slide,
    wanted: Wanted,
    [dy, x, weight]: [&Tensor; 3],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    float!(dy.dtype(), T => {
        let groups = wanted.groups;
        let (images, filters) = match dy.shape().dims() {
            [images, filters, ..] => (*images, *filters),
            _ => (0, 0),
        };
        let channels = x.shape().dims().get(1).copied().unwrap_or(0);
        let (plane, count, taps) = (slide.plane(), slide.count(), slide.taps());
        let (depth, height) = (channels / groups, filters / groups);
        let dtype = dy.dtype();
        let (from_dy, from_x) = (&*elements::<T>(dy)?, &*elements::<T>(x)?);
        let from_weight = &*elements::<T>(weight)?;
        let mut dx = run.filled(if wanted.input { from_x.len() } else { 0 }, T::default())?;
        let mut dweight = run.filled(from_weight.len(), T::default())?;
        let matrix = |rows: usize, columns: usize, of: Vec<T>| {
            tensor(dtype, result_shape("conv-gradient", &[rows, columns])?, of)
        };
        let busy = images * filters * channels * count * taps > 0;
        for group in (0..groups).filter(|_| busy) {
            let size = height * depth * taps;
            let of_weight = matrix(height, depth * taps, from_weight[group * size..][..size].to_vec())?;
            let turn = Op::Transpose { permutation: vec![1, 0] };
            let turned = cpu.run_one(&turn, &[&of_weight], run)?;
            for image in 0..images {
                run.check()?;
                let at = (image * groups + group) * height * count;
                let of_dy = matrix(height, count, from_dy[at..at + height * count].to_vec())?;
                let at = (image * groups + group) * depth * plane;
                let mut columns = run.filled(depth * taps * count, T::default())?;
                window::unfold(slide, &from_x[at..at + depth * plane], &mut columns);
                let columns = matrix(depth * taps, count, columns)?;
                let plain = Op::Linear { bias: false, residual: false, activation: Activation::None };
                let part = cpu.run_one(&plain, &[&of_dy, &columns], run)?;
                let part = &*elements::<T>(&part)?;
                let sums = &mut dweight[group * size..][..size];
                sums.iter_mut().zip(part).for_each(|(sum, &part)| *sum += part);
                if wanted.input {
                    let columns = cpu.run_one(&Op::MatMul, &[&turned, &of_dy], run)?;
                    window::fold(slide, &elements::<T>(&columns)?, &mut dx[at..at + depth * plane]);
                }
            }
        }
        let mut results = Vec::with_capacity(3);
        if wanted.input {
            results.push(tensor(dtype, x.shape().clone(), dx)?);
        }
        results.push(tensor(dtype, weight.shape().clone(), dweight)?);
        if wanted.bias {
            let over = (0..dy.shape().rank() as i64).filter(|&axis| axis != 1).collect();
            results.push(cpu.run_one(&sum(over, false), &[dy], run)?);
        }
        Ok(results)
    })
}
