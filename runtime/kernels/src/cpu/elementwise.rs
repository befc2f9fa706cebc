//! Operations on elements at the same place.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::create;
use crate::cpu::dispatch::{float, numeric, refused, word};
use crate::cpu::memory::{elements, room, tensor, words};
use crate::cpu::number::{Float, Number};
use crate::cpu::walk::Walk;
use crate::{Binary, Compare, OpError, Unary};

pub(super) fn binary(op: Binary, shape: Shape, a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    if op == Binary::Pow {
        return float!(a.dtype(), T => zip::<T, T>(a, b, a.dtype(), shape, Float::pow));
    }
    numeric!(a.dtype(), T => arithmetic::<T>(op, shape, a, b))
}

pub(super) fn scalar(op: Binary, shape: Shape, a: &Tensor, value: f64) -> Result<Tensor, OpError> {
    binary(op, shape, a, &create::scalar(a.dtype(), value)?)
}

pub(super) fn compare(
    op: Compare,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
) -> Result<Tensor, OpError> {
    if a.dtype() == DType::Bool && op == Compare::Equal {
        let walk = Walk::broadcast(&shape, [a.shape(), b.shape()]);
        let equal = |x, y| u8::from(x == y);
        let out = zipped::<u8, u8>(&walk, shape.elements(), &words(a), &words(b), equal)?;
        return tensor(DType::Bool, shape, out);
    }
    numeric!(a.dtype(), T => match op {
        Compare::Equal => zip::<T, u8>(a, b, DType::Bool, shape, |x, y| u8::from(x == y)),
        Compare::Less => zip::<T, u8>(a, b, DType::Bool, shape, |x, y| u8::from(x < y)),
        Compare::Greater => zip::<T, u8>(a, b, DType::Bool, shape, |x, y| u8::from(x > y)),
    })
}

pub(super) fn select(
    shape: Shape,
    condition: &Tensor,
    a: &Tensor,
    b: &Tensor,
) -> Result<Tensor, OpError> {
    let walk = Walk::broadcast(&shape, [condition.shape(), a.shape(), b.shape()]);
    let holds = condition.as_bytes();
    word!(a.dtype(), W => {
        let (from_a, from_b) = (words::<W>(a), words::<W>(b));
        let mut out = room(shape.elements())?;
        if shape.elements() > 0 {
            let (len, [step, step_a, step_b]) = walk.inner();
            walk.rows(|[at, at_a, at_b]| out.extend((0..len).map(|i| {
                let (x, y) = (from_a[at_a + i * step_a], from_b[at_b + i * step_b]);
                if holds[at + i * step] != 0 { x } else { y }
            })));
        }
        tensor(a.dtype(), shape, out)
    })
}

pub(super) fn unary(op: Unary, a: &Tensor) -> Result<Tensor, OpError> {
    match (op, a.dtype()) {
        (Unary::Neg | Unary::Abs, dtype) if !dtype.is_float() => integer_sign(op, a),
        (_, dtype) => float!(dtype, T => match op {
            Unary::Neg => map::<T>(a, Float::neg),
            Unary::Abs => map::<T>(a, Float::abs),
            Unary::Exp => map::<T>(a, Float::exp),
            Unary::Ln => map::<T>(a, Float::ln),
            Unary::Sqrt => map::<T>(a, Float::sqrt),
            Unary::Tanh => map::<T>(a, Float::tanh),
            Unary::Sigmoid => map::<T>(a, Float::sigmoid),
            Unary::Relu => map::<T>(a, Float::relu),
            Unary::Gelu => map::<T>(a, Float::gelu),
            Unary::Silu => map::<T>(a, Float::silu),
        }),
    }
}

fn integer_sign(op: Unary, a: &Tensor) -> Result<Tensor, OpError> {
    let negative = op == Unary::Neg;
    macro_rules! sign {
        ($int:ty) => {
            if negative {
                map::<$int>(a, <$int>::wrapping_neg)
            } else {
                map::<$int>(a, <$int>::wrapping_abs)
            }
        };
    }
    match a.dtype() {
        DType::Int8 => sign!(i8),
        DType::Int16 => sign!(i16),
        DType::Int32 => sign!(i32),
        DType::Int64 => sign!(i64),
        other if negative => Err(refused(other)),
        other => word!(other, W => map::<W>(a, |x| x)),
    }
}

fn arithmetic<T: Number>(
    op: Binary,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
) -> Result<Tensor, OpError> {
    let dtype = a.dtype();
    match op {
        Binary::Add => zip::<T, T>(a, b, dtype, shape, T::add),
        Binary::Sub => zip::<T, T>(a, b, dtype, shape, T::sub),
        Binary::Mul => zip::<T, T>(a, b, dtype, shape, T::mul),
        Binary::Div => {
            // Every element of b is used as soon as there is a result at all.
            if T::INTEGER && shape.elements() > 0 && elements::<T>(b)?.contains(&T::default()) {
                return Err(OpError::InvalidArgument(format!("div: {dtype} divided by zero")));
            }
            zip::<T, T>(a, b, dtype, shape, T::div)
        }
        Binary::Maximum => zip::<T, T>(a, b, dtype, shape, T::maximum),
        Binary::Minimum => zip::<T, T>(a, b, dtype, shape, T::minimum),
        Binary::Pow => Err(refused(dtype)),
    }
}

fn map<T: Number>(a: &Tensor, f: impl Fn(T) -> T) -> Result<Tensor, OpError> {
    let from = elements::<T>(a)?;
    let mut out = room(from.len())?;
    out.extend(from.iter().map(|&x| f(x)));
    tensor(a.dtype(), a.shape().clone(), out)
}

fn zip<T: Number, O: innkeeper_tensor::Element>(
    a: &Tensor,
    b: &Tensor,
    dtype: DType,
    shape: Shape,
    f: impl Fn(T, T) -> O + Copy,
) -> Result<Tensor, OpError> {
    let walk = Walk::broadcast(&shape, [a.shape(), b.shape()]);
    let out = zipped(&walk, shape.elements(), &elements(a)?, &elements(b)?, f)?;
    tensor(dtype, shape, out)
}

fn zipped<T: Copy, O>(
    walk: &Walk<2>,
    len: usize,
    a: &[T],
    b: &[T],
    f: impl Fn(T, T) -> O + Copy,
) -> Result<Vec<O>, OpError> {
    let mut out = room(len)?;
    if len == 0 {
        return Ok(out);
    }
    let (n, strides) = walk.inner();
    match strides {
        [1, 1] => walk.rows(|[i, j]| {
            out.extend(a[i..i + n].iter().zip(&b[j..j + n]).map(|(&x, &y)| f(x, y)));
        }),
        [1, _] => walk.rows(|[i, j]| {
            let y = b[j];
            out.extend(a[i..i + n].iter().map(|&x| f(x, y)));
        }),
        [_, 1] => walk.rows(|[i, j]| {
            let x = a[i];
            out.extend(b[j..j + n].iter().map(|&y| f(x, y)));
        }),
        // Only one element: along a longer dimension one of the two moves.
        _ => walk.rows(|[i, j]| out.push(f(a[i], b[j]))),
    }
    Ok(out)
}
