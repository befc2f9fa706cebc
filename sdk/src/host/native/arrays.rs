//! Tensors: what moves, picks and orders elements.

use innkeeper_kernels::{Index, Move, Op, Order};

pub(crate) use innkeeper_kernels::{Pad as Padding, Scatter};

use super::Handle;
use super::handle::{run, run_many, sizes};
use crate::{DType, Error, Result, tensor};

pub(crate) fn padding(padding: tensor::Padding) -> Padding {
    match padding {
        tensor::Padding::Constant(value) => Padding::Constant(value),
        tensor::Padding::Reflect => Padding::Reflect,
        tensor::Padding::Edge => Padding::Edge,
        tensor::Padding::Wrap => Padding::Wrap,
    }
}

pub(crate) fn scatter(scatter: tensor::Scatter) -> Scatter {
    match scatter {
        tensor::Scatter::Replace => Scatter::Replace,
        tensor::Scatter::Add => Scatter::Add,
        tensor::Scatter::Mul => Scatter::Mul,
        tensor::Scatter::Min => Scatter::Min,
        tensor::Scatter::Max => Scatter::Max,
    }
}

fn wide(axes: &[i32]) -> Vec<i64> {
    axes.iter().copied().map(i64::from).collect()
}

fn pair(results: Vec<Handle>) -> Result<(Handle, Handle)> {
    let two = <[Handle; 2]>::try_from(results);
    let [a, b] = two.map_err(|_| Error::Internal("an operation has two results".into()))?;
    Ok((a, b))
}

impl Handle {
    pub(crate) fn eye(dtype: DType, rows: u32, columns: u32, diagonal: i64) -> Result<Handle> {
        let (rows, columns) = (rows as usize, columns as usize);
        run(Op::Order(Order::Eye { dtype, rows, columns, diagonal }), &[])
    }

    pub(crate) fn strided_slice(
        &self,
        axes: &[i32],
        starts: &[i64],
        ends: &[i64],
        steps: &[i64],
    ) -> Result<Handle> {
        let (starts, ends, steps) = (starts.to_vec(), ends.to_vec(), steps.to_vec());
        run(Op::Move(Move::Strided { axes: wide(axes), starts, ends, steps }), &[self])
    }

    pub(crate) fn split(&self, axis: i32, parts: &[u32]) -> Result<Vec<Handle>> {
        run_many(Op::Move(Move::Split { axis: axis.into(), sizes: sizes(parts) }), &[self])
    }

    pub(crate) fn pad(&self, mode: Padding, begins: &[i64], ends: &[i64]) -> Result<Handle> {
        let (begins, ends) = (begins.to_vec(), ends.to_vec());
        run(Op::Move(Move::Pad { mode, begins, ends }), &[self])
    }

    pub(crate) fn expand(&self, shape: &[u32]) -> Result<Handle> {
        run(Op::Move(Move::Expand { shape: sizes(shape) }), &[self])
    }

    pub(crate) fn tile(&self, repeats: &[u32]) -> Result<Handle> {
        run(Op::Move(Move::Tile { repeats: sizes(repeats) }), &[self])
    }

    pub(crate) fn triangle(&self, upper: bool, diagonal: i64) -> Result<Handle> {
        run(Op::Move(Move::Trilu { upper, diagonal }), &[self])
    }

    pub(crate) fn gather_elements(&self, indices: &Handle, axis: i32) -> Result<Handle> {
        run(Op::Index(Index::GatherElements { axis: axis.into() }), &[self, indices])
    }

    pub(crate) fn gather_nd(&self, indices: &Handle, batch_dims: u32) -> Result<Handle> {
        run(Op::Index(Index::GatherNd { batch_dims: batch_dims as usize }), &[self, indices])
    }

    pub(crate) fn scatter_elements(
        &self,
        indices: &Handle,
        updates: &Handle,
        axis: i32,
        reduction: Scatter,
    ) -> Result<Handle> {
        let op = Op::Index(Index::ScatterElements { axis: axis.into(), reduction });
        run(op, &[self, indices, updates])
    }

    pub(crate) fn scatter_nd(
        &self,
        indices: &Handle,
        updates: &Handle,
        reduction: Scatter,
    ) -> Result<Handle> {
        run(Op::Index(Index::ScatterNd { reduction }), &[self, indices, updates])
    }

    pub(crate) fn one_hot(&self, values: &Handle, axis: i32, depth: u32) -> Result<Handle> {
        let (axis, depth) = (axis.into(), depth as usize);
        run(Op::Index(Index::OneHot { axis, depth }), &[self, values])
    }

    pub(crate) fn non_zero(&self) -> Result<Handle> {
        let (columns, count) = pair(run_many(Op::Index(Index::NonZero), &[self])?)?;
        let counted = count.0.elements::<i64>().map(|count| count.first().copied());
        let end = counted.ok().flatten().unwrap_or(0);
        run(Op::Slice { axis: 1, start: 0, end }, &[&columns])
    }

    pub(crate) fn argmin(&self, axis: i32, keep_dims: bool) -> Result<Handle> {
        let axis = axis.into();
        run(Op::Order(Order::Arg { smallest: true, last: false, axis, keep_dims }), &[self])
    }

    pub(crate) fn top_k(&self, k: u32, axis: i32, largest: bool) -> Result<(Handle, Handle)> {
        let op = Order::TopK { axis: axis.into(), k: k as usize, largest };
        pair(run_many(Op::Order(op), &[self])?)
    }

    pub(crate) fn cumsum(&self, axis: i32, exclusive: bool, reverse: bool) -> Result<Handle> {
        run(Op::Order(Order::CumSum { axis: axis.into(), exclusive, reverse }), &[self])
    }

    pub(crate) fn variance(
        &self,
        axes: &[i32],
        keep_dims: bool,
        correction: u32,
    ) -> Result<Handle> {
        let (axes, correction) = (wide(axes), correction as usize);
        run(Op::Order(Order::Variance { axes, keep_dims, correction, root: false }), &[self])
    }

    pub(crate) fn standard_deviation(
        &self,
        axes: &[i32],
        keep_dims: bool,
        correction: u32,
    ) -> Result<Handle> {
        let (axes, correction) = (wide(axes), correction as usize);
        run(Op::Order(Order::Variance { axes, keep_dims, correction, root: true }), &[self])
    }

    pub(crate) fn any(&self, axes: &[i32], keep_dims: bool) -> Result<Handle> {
        run(Op::Order(Order::Any { axes: wide(axes), keep_dims }), &[self])
    }

    pub(crate) fn all(&self, axes: &[i32], keep_dims: bool) -> Result<Handle> {
        run(Op::Order(Order::All { axes: wide(axes), keep_dims }), &[self])
    }
}
