//! What an operation would give: the one place where operands are checked.

pub(crate) mod attention;
pub(crate) mod axes;
pub(crate) mod conv;
pub(crate) mod dtypes;
mod elementwise;
pub(crate) mod grad;
pub(crate) mod index;
pub(crate) mod layout;
mod loss;
pub(crate) mod matmul;
pub(crate) mod movement;
mod norm;
mod optim;
pub(crate) mod quant;
mod random;
pub(crate) mod recurrent;
mod resize;
mod trees;

use innkeeper_tensor::{DType, Shape, ShapeError};

use crate::error::invalid;
use crate::{Op, OpError, Reduce};
use dtypes::Class;

/// An operand as far as checking goes.
pub(crate) type Operand<'a> = (DType, &'a Shape);

impl Op {
    /// The dtypes and shapes of the results, after checking everything about the operands but their elements. Nothing
    /// of the results' size is allocated.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] for a dtype that the operation does not take, [`OpError::InvalidArgument`] for
    /// everything else that does not fit. Whatever the elements can get wrong is for
    /// [`Backend::run`](crate::Backend::run) to find.
    pub fn outputs(&self, inputs: &[(DType, &Shape)]) -> Result<Vec<(DType, Shape)>, OpError> {
        match self {
            Op::Move(op) => movement::outputs(op, inputs),
            Op::Index(op) => index::index(*op, inputs),
            Op::Order(op) => index::order(op, inputs),
            Op::Norm(norm) => norm::norm(norm, inputs),
            Op::Pool(pool) => conv::pool(pool, inputs),
            Op::Random(op) => random::random(op, inputs),
            Op::Trees(op) => trees::trees(op, inputs),
            Op::Recurrent(op) => recurrent::recurrent(op, inputs),
            Op::Loss(loss) => loss::loss(loss, inputs),
            Op::Quant(quant) => quant::quant(quant, inputs),
            Op::Grad(grad) => grad::grad(grad, inputs),
            Op::Optim(optim) => optim::optim(optim, inputs),
            _ => self.output(inputs).map(|result| vec![result]),
        }
    }

    /// [`Op::outputs`] of an operation with one result.
    ///
    /// # Errors
    /// As [`Op::outputs`], and [`OpError::InvalidArgument`] for an operation with several results.
    pub fn output(&self, inputs: &[(DType, &Shape)]) -> Result<(DType, Shape), OpError> {
        let op = self.name();
        match self {
            Op::Full { dtype, shape, .. } => {
                let [] = operands(op, inputs)?;
                Class::Fixed.check(op, *dtype)?;
                Ok((*dtype, result_shape(op, shape)?))
            }
            Op::Arange { dtype, count, .. } => {
                let [] = operands(op, inputs)?;
                Class::Numeric.check(op, *dtype)?;
                Ok((*dtype, result_shape(op, &[*count])?))
            }
            Op::Cast { to } => cast(op, inputs, *to),
            Op::Reshape { shape } => {
                let [(dtype, from)] = operands(op, inputs)?;
                Ok((dtype, layout::reshape(op, from, shape)?))
            }
            Op::Transpose { permutation } => {
                one(op, inputs, Class::Fixed, |x| layout::transpose(op, x, permutation))
            }
            Op::Slice { axis, start, end } => one(op, inputs, Class::Fixed, |x| {
                layout::slice(op, x, *axis, *start, *end).map(|(shape, ..)| shape)
            }),
            Op::Concat { axis } => layout::concat(op, inputs, *axis),
            Op::Gather { axis } => gather(op, inputs, *axis),
            Op::Binary(binary) => two(op, inputs, elementwise::binary(*binary), axes::pair),
            Op::Scalar { op: binary, .. } => one(op, inputs, elementwise::binary(*binary), same),
            Op::Compare(compare) => {
                let (_, shape) = two(op, inputs, elementwise::compare(*compare), axes::pair)?;
                Ok((DType::Bool, shape))
            }
            Op::Select => select(op, inputs),
            Op::Unary(unary) => one(op, inputs, elementwise::unary(*unary), same),
            Op::Curve(curve) => elementwise::curve(op, inputs, *curve),
            Op::Test(_) => {
                let (_, shape) = one(op, inputs, Class::Floating, same)?;
                Ok((DType::Bool, shape))
            }
            Op::Reduce { op: reduce, axes, keep_dims } => {
                let of_nothing = matches!(reduce, Reduce::Sum | Reduce::Product | Reduce::Mean);
                one(op, inputs, reduce_class(*reduce), |x| {
                    let gone = axes::axes(op, axes, x.rank())?;
                    axes::without(op, x, &gone, *keep_dims, of_nothing)
                })
            }
            Op::ArgMax { axis, keep_dims } => {
                let (_, shape) = one(op, inputs, Class::Numeric, |x| {
                    let gone = axes::axes(op, &[*axis], x.rank())?;
                    axes::without(op, x, &gone, *keep_dims, false)
                })?;
                Ok((DType::Int64, shape))
            }
            Op::Softmax { axis } | Op::LogSoftmax { axis } => one(op, inputs, Class::Float, |x| {
                axes::axis(op, *axis, x.rank())?;
                Ok(x.clone())
            }),
            Op::Resize(op) => resize::resize(op, inputs),
            Op::MatMul => two(op, inputs, Class::Floating, |op, a, b| {
                matmul::matmul(op, a, b).map(|product| product.shape)
            }),
            Op::Linear { bias, residual, .. } => linear(op, inputs, *bias, *residual),
            Op::Move(_) | Op::Index(_) | Op::Order(_) => self.only(inputs),
            Op::Loss(_) | Op::Grad(_) | Op::Optim(_) | Op::Quant(_) => {
                let mut results = self.outputs(inputs)?;
                match (results.pop(), results.is_empty()) {
                    (Some(result), true) => Ok(result),
                    _ => Err(invalid(op, "does not have one result; ask for all of them")),
                }
            }
            Op::Attention(of) => attention::attention(of, inputs),
            Op::Rope(rope) => attention::rope(rope, inputs),
            Op::Conv(of) => conv::conv(of, inputs),
            Op::ConvTranspose(of) => conv::conv_transpose(of, inputs),
            Op::Norm(_) | Op::Pool(_) | Op::Random(_) | Op::Trees(_) | Op::Recurrent(_) => {
                self.only(inputs)
            }
        }
    }
}

impl Op {
    /// The only one of [`Op::outputs`].
    fn only(&self, inputs: &[(DType, &Shape)]) -> Result<(DType, Shape), OpError> {
        let mut results = self.outputs(inputs)?;
        match (results.pop(), results.is_empty()) {
            (Some(result), true) => Ok(result),
            _ => Err(invalid(self.name(), "does not have one result; ask for all of them")),
        }
    }
}

/// Exactly `N` operands.
pub(crate) fn operands<'a, 'b, const N: usize>(
    op: &str,
    inputs: &'b [Operand<'a>],
) -> Result<[Operand<'a>; N], OpError> {
    <[Operand<'a>; N]>::try_from(inputs)
        .map_err(|_| invalid(op, format_args!("takes {N} operands, got {}", inputs.len())))
}

/// A shape's own error, as the operation's.
pub(crate) fn result_shape(op: &str, dims: &[usize]) -> Result<Shape, OpError> {
    Shape::new(dims).map_err(|error| shape_error(op, &error))
}

pub(crate) fn shape_error(op: &str, error: &ShapeError) -> OpError {
    invalid(op, format_args!("the result cannot exist: {error}"))
}

/// One operand of `class`; the result has its dtype and the shape that `shape` says.
pub(crate) fn one(
    op: &str,
    inputs: &[Operand<'_>],
    class: Class,
    shape: impl FnOnce(&Shape) -> Result<Shape, OpError>,
) -> Result<(DType, Shape), OpError> {
    let [(dtype, x)] = operands(op, inputs)?;
    class.check(op, dtype)?;
    Ok((dtype, shape(x)?))
}

/// Two operands of one dtype of `class`, which is the result's.
pub(crate) fn two(
    op: &str,
    inputs: &[Operand<'_>],
    class: Class,
    shape: impl FnOnce(&str, &Shape, &Shape) -> Result<Shape, OpError>,
) -> Result<(DType, Shape), OpError> {
    let [(dtype, a), (other, b)] = operands(op, inputs)?;
    dtypes::same(op, dtype, other)?;
    class.check(op, dtype)?;
    Ok((dtype, shape(op, a, b)?))
}

pub(crate) fn same(shape: &Shape) -> Result<Shape, OpError> {
    Ok(shape.clone())
}

fn cast(op: &str, inputs: &[Operand<'_>], to: DType) -> Result<(DType, Shape), OpError> {
    let [(from, shape)] = operands(op, inputs)?;
    dtypes::castable(op, from, to)?;
    Ok((to, shape.clone()))
}

fn gather(op: &str, inputs: &[Operand<'_>], axis: i64) -> Result<(DType, Shape), OpError> {
    let [(dtype, data), (index, indices)] = operands(op, inputs)?;
    Class::Fixed.check(op, dtype)?;
    dtypes::index(op, index)?;
    Ok((dtype, layout::gather(op, data, indices, axis)?))
}

fn select(op: &str, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let [(condition, holds), (dtype, a), (other, b)] = operands(op, inputs)?;
    dtypes::condition(op, condition)?;
    dtypes::same(op, dtype, other)?;
    Class::Fixed.check(op, dtype)?;
    Ok((dtype, axes::broadcast(op, &[holds, a, b])?))
}

fn linear(
    op: &str,
    inputs: &[Operand<'_>],
    bias: bool,
    residual: bool,
) -> Result<(DType, Shape), OpError> {
    let wanted = 2 + usize::from(bias) + usize::from(residual);
    let ([x, weight, rest @ ..], true) = (inputs, inputs.len() == wanted) else {
        return Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len())));
    };
    for other in inputs {
        dtypes::same(op, x.0, other.0)?;
    }
    Class::Floating.check(op, x.0)?;
    let (bias, residual) = matmul::added(rest.iter().map(|operand| operand.1), bias, residual);
    Ok((x.0, matmul::linear(op, x.1, weight.1, bias, residual)?.shape))
}

fn reduce_class(op: Reduce) -> Class {
    match op {
        Reduce::Mean => Class::Floating,
        Reduce::Sum | Reduce::Product | Reduce::Max | Reduce::Min => Class::Numeric,
    }
}
