//! Tensors: what moves, picks and orders elements.

use innkeeper_kernels::{Index, Move, Nearest, Op, Order, Resize};

pub(crate) use innkeeper_kernels::{
    Coordinates, Depth as DepthOrder, Pad as Padding, Sample, Scatter,
};

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

pub(crate) fn depth_order(order: tensor::DepthOrder) -> DepthOrder {
    match order {
        tensor::DepthOrder::DepthColumnRow => DepthOrder::DepthColumnRow,
        tensor::DepthOrder::ColumnRowDepth => DepthOrder::ColumnRowDepth,
    }
}

pub(crate) fn sample(sample: tensor::Sample) -> Sample {
    match sample {
        tensor::Sample::Nearest(nearest) => Sample::Nearest(match nearest {
            tensor::Nearest::RoundPreferFloor => Nearest::RoundPreferFloor,
            tensor::Nearest::RoundPreferCeil => Nearest::RoundPreferCeil,
            tensor::Nearest::Floor => Nearest::Floor,
            tensor::Nearest::Ceil => Nearest::Ceil,
        }),
        tensor::Sample::Linear => Sample::Linear,
        tensor::Sample::Cubic(a) => Sample::Cubic { a, exclude_outside: false },
    }
}

pub(crate) fn coordinates(coordinates: tensor::Coordinates) -> Coordinates {
    match coordinates {
        tensor::Coordinates::HalfPixel => Coordinates::HalfPixel,
        tensor::Coordinates::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
        tensor::Coordinates::AlignCorners => Coordinates::AlignCorners,
        tensor::Coordinates::Asymmetric => Coordinates::Asymmetric,
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

/// The results of an operation whose last one says how long the others are, cut along `axis`; the one numbered `whole`
/// stays as it is.
fn cut(op: Op, operands: &[&Handle], axis: i64, whole: Option<usize>) -> Result<Vec<Handle>> {
    let mut results = run_many(op, operands)?;
    let count = results.pop().map(|count| count.0.elements::<i64>().map(|c| c.first().copied()));
    let end = count.and_then(|count| count.ok().flatten()).unwrap_or(0);
    let slice = |(index, result)| match whole == Some(index) {
        true => Ok(result),
        false => run(Op::Slice { axis, start: 0, end }, &[&result]),
    };
    results.into_iter().enumerate().map(slice).collect()
}

fn only(results: Vec<Handle>) -> Result<Handle> {
    let one = results.into_iter().next();
    one.ok_or_else(|| Error::Internal("an operation has a result".into()))
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
        only(cut(Op::Index(Index::NonZero), &[self], 1, None)?)
    }

    pub(crate) fn compress(&self, condition: &Handle, axis: Option<i32>) -> Result<Handle> {
        let op = Op::Index(Index::Compress { axis: axis.map(i64::from) });
        only(cut(op, &[self, condition], axis.unwrap_or(0).into(), None)?)
    }

    pub(crate) fn unique(&self, sorted: bool) -> Result<(Handle, Handle, Handle, Handle)> {
        /// As many as there are elements, not as many as there are values.
        const WHICH: usize = 2;
        let results = cut(Op::Index(Index::Unique { sorted }), &[self], 0, Some(WHICH))?;
        let four = <[Handle; 4]>::try_from(results);
        let four = four.map_err(|_| Error::Internal("unique has four results".into()))?;
        Ok(four.into())
    }

    pub(crate) fn reverse_sequence(
        &self,
        lengths: &Handle,
        batch_axis: i32,
        time_axis: i32,
    ) -> Result<Handle> {
        let (batch_axis, time_axis) = (batch_axis.into(), time_axis.into());
        run(Op::Move(Move::ReverseSequence { batch_axis, time_axis }), &[self, lengths])
    }

    pub(crate) fn depth_to_space(&self, block: u32, order: DepthOrder) -> Result<Handle> {
        run(Op::Move(Move::DepthToSpace { block: block as usize, order }), &[self])
    }

    pub(crate) fn space_to_depth(&self, block: u32) -> Result<Handle> {
        run(Op::Move(Move::SpaceToDepth { block: block as usize }), &[self])
    }

    pub(crate) fn resize(
        &self,
        to: &[u32],
        mode: Sample,
        coordinates: Coordinates,
        antialias: bool,
    ) -> Result<Handle> {
        let (sizes, scales) = (sizes(to), Vec::new());
        run(Op::Resize(Resize { sizes, scales, mode, coordinates, antialias }), &[self])
    }

    pub(crate) fn constant(&self) -> Result<Handle> {
        Ok(Handle(self.0.clone().constant()))
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
