//! What an operation would give: the one place where operands are checked.

pub(crate) mod axes;
pub(crate) mod dtypes;
pub(crate) mod layout;
pub(crate) mod matmul;

use innkeeper_tensor::{DType, RANK_MAX, Shape, ShapeError};

use crate::error::invalid;
use crate::{Binary, Compare, Op, OpError, Reduce, Unary};
use dtypes::Class;

/// An operand as far as checking goes.
pub(crate) type Operand<'a> = (DType, &'a Shape);

impl Op {
    /// The dtype and shape of the result, after checking everything about the operands but their elements. Nothing of
    /// the result's size is allocated.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] for a dtype that the operation does not take, [`OpError::InvalidArgument`] for
    /// everything else that does not fit. Whatever the elements can get wrong is for
    /// [`Backend::run`](crate::Backend::run) to find.
    pub fn output(&self, inputs: &[(DType, &Shape)]) -> Result<(DType, Shape), OpError> {
        let op = self.name();
        match self {
            Op::Full { .. } | Op::Arange { .. } => created(self, inputs),
            Op::Cast { to } => {
                let [(from, shape)] = operands(op, inputs)?;
                dtypes::castable(op, from, *to)?;
                Ok((*to, shape.clone()))
            }
            Op::Reshape { shape } => {
                let [(dtype, from)] = operands(op, inputs)?;
                Ok((dtype, layout::reshape(op, from, shape)?))
            }
            Op::Transpose { .. } | Op::Slice { .. } | Op::Concat { .. } | Op::Gather { .. } => {
                moved(self, inputs)
            }
            Op::Binary(binary) => {
                let [a, b] = operands(op, inputs)?;
                let dtype = dtypes::same(op, a.0, b.0)?;
                binary_class(*binary).check(op, dtype)?;
                Ok((dtype, axes::broadcast(op, &[a.1, b.1])?))
            }
            Op::Scalar { op: binary, .. } => elementwise(op, inputs, binary_class(*binary)),
            Op::Compare(compare) => {
                let [a, b] = operands(op, inputs)?;
                compare_class(*compare).check(op, dtypes::same(op, a.0, b.0)?)?;
                Ok((DType::Bool, axes::broadcast(op, &[a.1, b.1])?))
            }
            Op::Select => {
                let [condition, a, b] = operands(op, inputs)?;
                dtypes::condition(op, condition.0)?;
                let dtype = dtypes::same(op, a.0, b.0)?;
                Class::Fixed.check(op, dtype)?;
                Ok((dtype, axes::broadcast(op, &[condition.1, a.1, b.1])?))
            }
            Op::Unary(unary) => elementwise(op, inputs, unary_class(*unary)),
            Op::Reduce { .. } | Op::ArgMax { .. } => reduced(self, inputs),
            Op::Softmax { axis } | Op::LogSoftmax { axis } => {
                let (dtype, shape) = elementwise(op, inputs, Class::Float)?;
                axes::axis(op, *axis, shape.rank())?;
                Ok((dtype, shape))
            }
            Op::MatMul => {
                let [a, b] = operands(op, inputs)?;
                let dtype = dtypes::same(op, a.0, b.0)?;
                Class::Float.check(op, dtype)?;
                Ok((dtype, matmul::matmul(op, a.1, b.1)?.shape))
            }
            Op::Linear { bias } => linear(op, inputs, *bias),
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

fn created(op: &Op, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let name = op.name();
    let [] = operands(name, inputs)?;
    match op {
        Op::Full { dtype, shape, .. } => {
            Class::Fixed.check(name, *dtype)?;
            Ok((*dtype, result_shape(name, shape)?))
        }
        Op::Arange { dtype, count, .. } => {
            Class::Numeric.check(name, *dtype)?;
            Ok((*dtype, result_shape(name, &[*count])?))
        }
        _ => Err(invalid(name, "is not made from nothing")),
    }
}

fn moved(op: &Op, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let name = op.name();
    let dtype = match inputs.first() {
        Some(&(dtype, _)) => dtype,
        None => return Err(invalid(name, "takes at least 1 operand, got none")),
    };
    Class::Fixed.check(name, dtype)?;
    let shape = match op {
        Op::Transpose { permutation } => {
            let [(_, shape)] = operands(name, inputs)?;
            layout::transpose(name, shape, permutation)?
        }
        Op::Slice { axis, start, end } => {
            let [(_, shape)] = operands(name, inputs)?;
            layout::slice(name, shape, *axis, *start, *end)?.0
        }
        Op::Gather { axis } => {
            let [(_, data), (index, indices)] = operands(name, inputs)?;
            dtypes::index(name, index)?;
            layout::gather(name, data, indices, *axis)?
        }
        Op::Concat { axis } => layout::concat(name, inputs, *axis)?,
        _ => return Err(invalid(name, "moves no elements")),
    };
    Ok((dtype, shape))
}

fn elementwise(op: &str, inputs: &[Operand<'_>], class: Class) -> Result<(DType, Shape), OpError> {
    let [(dtype, shape)] = operands(op, inputs)?;
    class.check(op, dtype)?;
    Ok((dtype, shape.clone()))
}

fn reduced(op: &Op, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let name = op.name();
    let [(dtype, shape)] = operands(name, inputs)?;
    let (gone, keep_dims, class, nothing_fits, result) = match op {
        Op::Reduce { op: reduce, axes, keep_dims } => {
            let gone = axes::axes(name, axes, shape.rank())?;
            let nothing_fits = matches!(reduce, Reduce::Sum | Reduce::Mean);
            (gone, *keep_dims, reduce_class(*reduce), nothing_fits, dtype)
        }
        Op::ArgMax { axis, keep_dims } => {
            let mut gone = [false; RANK_MAX];
            gone[axes::axis(name, *axis, shape.rank())?] = true;
            (gone, *keep_dims, Class::Numeric, false, DType::Int64)
        }
        _ => return Err(invalid(name, "reduces nothing")),
    };
    class.check(name, dtype)?;
    let output = axes::without(name, shape, &gone, keep_dims)?;
    if !nothing_fits && shape.elements() == 0 && output.elements() > 0 {
        return Err(invalid(
            name,
            format_args!("there is none of no elements; {shape} has size 0 where it is reduced"),
        ));
    }
    Ok((result, output))
}

fn linear(op: &str, inputs: &[Operand<'_>], bias: bool) -> Result<(DType, Shape), OpError> {
    let (x, weight, bias) = if bias {
        let [x, weight, bias] = operands(op, inputs)?;
        (x, weight, Some(bias))
    } else {
        let [x, weight] = operands(op, inputs)?;
        (x, weight, None)
    };
    let dtype = dtypes::same(op, x.0, weight.0)?;
    if let Some(bias) = bias {
        dtypes::same(op, dtype, bias.0)?;
    }
    Class::Float.check(op, dtype)?;
    Ok((dtype, matmul::linear(op, x.1, weight.1, bias.map(|bias| bias.1))?.shape))
}

fn binary_class(op: Binary) -> Class {
    match op {
        Binary::Pow => Class::Float,
        _ => Class::Numeric,
    }
}

fn compare_class(op: Compare) -> Class {
    match op {
        Compare::Equal => Class::Fixed,
        Compare::Less | Compare::Greater => Class::Numeric,
    }
}

fn unary_class(op: Unary) -> Class {
    match op {
        Unary::Neg => Class::FloatOrSigned,
        Unary::Abs => Class::FloatOrInteger,
        _ => Class::Float,
    }
}

fn reduce_class(op: Reduce) -> Class {
    match op {
        Reduce::Mean => Class::Float,
        Reduce::Sum | Reduce::Max | Reduce::Min => Class::Numeric,
    }
}
