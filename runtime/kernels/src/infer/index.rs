//! Dtypes and shapes of operations that pick by indices, or look at the order of elements.

use innkeeper_tensor::{DType, Shape};

use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, axes, operands, result_shape};
use crate::{Index, OpError, Order, Scatter};

type Results = Vec<(DType, Shape)>;

/// The results' dtypes and shapes.
pub(crate) fn index(op: Index, inputs: &[Operand<'_>]) -> Result<Results, OpError> {
    let name = op.name();
    let one = |dtype, shape| Ok(vec![(dtype, shape)]);
    match op {
        Index::GatherElements { axis } => {
            let [(dtype, data), (index, indices)] = operands(name, inputs)?;
            Class::Fixed.check(name, dtype)?;
            dtypes::index(name, index)?;
            along(name, data, indices, axis)?;
            one(dtype, indices.clone())
        }
        Index::GatherNd { batch_dims } => {
            let [(dtype, data), (index, indices)] = operands(name, inputs)?;
            Class::Fixed.check(name, dtype)?;
            dtypes::index(name, index)?;
            let nd = nd(name, data, indices, batch_dims)?;
            one(dtype, result_shape(name, &[nd.rows, nd.tail].concat())?)
        }
        Index::ScatterElements { axis, reduction } => {
            let [(dtype, data), (index, indices), (other, updates)] = operands(name, inputs)?;
            scattered(name, dtype, index, other, reduction)?;
            along(name, data, indices, axis)?;
            updates_fit(name, updates, indices.dims())?;
            one(dtype, data.clone())
        }
        Index::ScatterNd { reduction } => {
            let [(dtype, data), (index, indices), (other, updates)] = operands(name, inputs)?;
            scattered(name, dtype, index, other, reduction)?;
            let nd = nd(name, data, indices, 0)?;
            updates_fit(name, updates, &[nd.rows, nd.tail].concat())?;
            one(dtype, data.clone())
        }
        Index::OneHot { axis, depth } => {
            let [(index, indices), (dtype, values)] = operands(name, inputs)?;
            dtypes::index(name, index)?;
            Class::Fixed.check(name, dtype)?;
            if values.dims() != [2] {
                return Err(invalid(
                    name,
                    format_args!(
                        "values must be [2]: what is elsewhere and what is there, got {values}"
                    ),
                ));
            }
            let axis = axes::axis(name, axis, indices.rank() + 1)?;
            let (before, after) = indices.dims().split_at(axis);
            one(dtype, result_shape(name, &[before, &[depth], after].concat())?)
        }
        Index::NonZero => {
            let [(dtype, x)] = operands(name, inputs)?;
            Class::Fixed.check(name, dtype)?;
            let places = result_shape(name, &[x.rank(), x.elements()])?;
            Ok(vec![(DType::Int64, places), (DType::Int64, result_shape(name, &[])?)])
        }
        Index::Compress { axis } => {
            let [(dtype, x), (condition, chosen)] = operands(name, inputs)?;
            Class::Fixed.check(name, dtype)?;
            dtypes::condition(name, condition)?;
            let (shape, size) = match axis {
                Some(axis) => (x.clone(), x.dims()[axes::axis(name, axis, x.rank())?]),
                None => (result_shape(name, &[x.elements()])?, x.elements()),
            };
            match chosen.dims() {
                &[len] if len <= size => {}
                _ => {
                    return Err(invalid(
                        name,
                        format_args!("the condition must be [k], k at most {size}, got {chosen}"),
                    ));
                }
            }
            Ok(vec![(dtype, shape), (DType::Int64, result_shape(name, &[])?)])
        }
        Index::Unique { .. } => {
            let [(dtype, x)] = operands(name, inputs)?;
            Class::Numeric.check(name, dtype)?;
            let each = result_shape(name, &[x.elements()])?;
            let mut results = vec![(dtype, each.clone())];
            results.extend([const { DType::Int64 }; 3].map(|dtype| (dtype, each.clone())));
            results.push((DType::Int64, result_shape(name, &[])?));
            Ok(results)
        }
    }
}

/// The results' dtypes and shapes.
pub(crate) fn order(op: &Order, inputs: &[Operand<'_>]) -> Result<Results, OpError> {
    let name = op.name();
    let one = |dtype, shape| Ok(vec![(dtype, shape)]);
    match op {
        Order::Eye { dtype, rows, columns, .. } => {
            let [] = operands(name, inputs)?;
            Class::Fixed.check(name, *dtype)?;
            one(*dtype, result_shape(name, &[*rows, *columns])?)
        }
        Order::Arg { axis, keep_dims, .. } => {
            let [(dtype, a)] = operands(name, inputs)?;
            Class::Numeric.check(name, dtype)?;
            let gone = axes::axes(name, &[*axis], a.rank())?;
            one(DType::Int64, axes::without(name, a, &gone, *keep_dims, false)?)
        }
        Order::CumSum { axis, .. } => {
            let [(dtype, a)] = operands(name, inputs)?;
            Class::Numeric.check(name, dtype)?;
            axes::axis(name, *axis, a.rank())?;
            one(dtype, a.clone())
        }
        Order::TopK { axis, k, .. } => {
            let [(dtype, a)] = operands(name, inputs)?;
            Class::Numeric.check(name, dtype)?;
            let axis = axes::axis(name, *axis, a.rank())?;
            let mut dims = a.dims().to_vec();
            if *k > dims[axis] {
                return Err(invalid(
                    name,
                    format_args!("k is {k}, but dimension {axis} of {a} is {}", dims[axis]),
                ));
            }
            dims[axis] = *k;
            let shape = result_shape(name, &dims)?;
            Ok(vec![(dtype, shape.clone()), (DType::Int64, shape)])
        }
        Order::Variance { axes, keep_dims, .. } => {
            let [(dtype, a)] = operands(name, inputs)?;
            Class::Floating.check(name, dtype)?;
            let gone = axes::axes(name, axes, a.rank())?;
            one(dtype, axes::without(name, a, &gone, *keep_dims, true)?)
        }
        Order::Any { axes, keep_dims } | Order::All { axes, keep_dims } => {
            let [(dtype, a)] = operands(name, inputs)?;
            Class::Logical.check(name, dtype)?;
            let gone = axes::axes(name, axes, a.rank())?;
            one(dtype, axes::without(name, a, &gone, *keep_dims, true)?)
        }
    }
}

/// The axis, once the indices lie within the data along every other.
pub(crate) fn along(op: &str, data: &Shape, indices: &Shape, axis: i64) -> Result<usize, OpError> {
    let axis = axes::axis(op, axis, data.rank())?;
    let within = indices.rank() == data.rank()
        && (indices.dims().iter().zip(data.dims()).enumerate())
            .all(|(dim, (index, data))| dim == axis || index <= data);
    if within {
        return Ok(axis);
    }
    Err(invalid(
        op,
        format_args!(
            "indices {indices} must be no larger than data {data} save in dimension {axis}"
        ),
    ))
}

/// Indices that are rows.
pub(crate) struct Nd<'a> {
    /// The indices' shape but for the last dimension.
    pub(crate) rows: &'a [usize],
    /// The dimensions of data that a row points into.
    pub(crate) pointed: &'a [usize],
    /// The dimensions of data that are taken whole.
    pub(crate) tail: &'a [usize],
    /// How many positions the batch dimensions have.
    pub(crate) batch: usize,
}

pub(crate) fn nd<'a>(
    op: &str,
    data: &'a Shape,
    indices: &'a Shape,
    batch_dims: usize,
) -> Result<Nd<'a>, OpError> {
    if let [rows @ .., last] = indices.dims()
        && let Some((batch, rest)) = data.dims().split_at_checked(batch_dims)
        && rows.get(..batch_dims) == Some(batch)
        && let Some((pointed, tail)) = rest.split_at_checked(*last)
        && *last > 0
    {
        return Ok(Nd { rows, pointed, tail, batch: batch.iter().product() });
    }
    Err(invalid(
        op,
        format_args!(
            "indices {indices} must be [..,m] and start as data {data} in {batch_dims} batch \
             dimensions, after which data must have m dimensions or more, and m be at least 1"
        ),
    ))
}

fn scattered(
    op: &str,
    dtype: DType,
    index: DType,
    updates: DType,
    reduction: Scatter,
) -> Result<(), OpError> {
    let class = if reduction == Scatter::Replace { Class::Fixed } else { Class::Numeric };
    class.check(op, dtype)?;
    dtypes::same(op, dtype, updates)?;
    dtypes::index(op, index)
}

fn updates_fit(op: &str, updates: &Shape, wanted: &[usize]) -> Result<(), OpError> {
    if updates.dims() == wanted {
        return Ok(());
    }
    let wanted = result_shape(op, wanted)?;
    Err(invalid(op, format_args!("updates must be {wanted}, got {updates}")))
}
