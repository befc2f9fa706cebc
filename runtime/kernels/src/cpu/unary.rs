//! Operations on each element of one operand.

use innkeeper_tensor::{DType, Element, Tensor};

use crate::cpu::dispatch::{floating, numeric, refused};
use crate::cpu::math::{Compute, Math, Slices};
use crate::cpu::memory::{elements, tensor, words};
use crate::cpu::number::{From64, Number};
use crate::cpu::pieces::{PIECE, fill, fill_by};
use crate::{Curve, OpError, Run, Test, Unary};

/// Elements of a piece where each takes some tens of nanoseconds.
const PIECE_OF_DEAR: usize = PIECE / 4;

pub(super) fn unary(op: Unary, a: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
    let dtype = a.dtype();
    if op == Unary::Not {
        let from = words::<u8>(a);
        return mapped(a, dtype, &from, |x| 1 - x.min(1), run);
    }
    if !dtype.is_float() {
        return integer(op, a, run);
    }
    let size = if op.is_cheap() { PIECE } else { PIECE_OF_DEAR };
    floating!(dtype, T => match <T as Compute>::Wide::unary(op) {
        Some(f) => applied::<T>(a, &f, size, run),
        None => Err(refused(dtype)),
    })
}

pub(super) fn curve(op: Curve, a: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
    if let Curve::Clip { min, max } = op {
        return numeric!(a.dtype(), T => clip::<T>(a, min, max, run));
    }
    let size = if op.is_cheap() { PIECE } else { PIECE_OF_DEAR };
    floating!(a.dtype(), T => match <T as Compute>::Wide::curve(op) {
        Some(f) => applied::<T>(a, &f, size, run),
        None => Err(refused(a.dtype())),
    })
}

pub(super) fn test(op: Test, a: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
    floating!(a.dtype(), T => {
        let from = elements::<T>(a)?;
        match op {
            Test::IsNan => mapped(a, DType::Bool, &from, |x| u8::from(x.is_nan()), run),
            Test::IsInf { negative, positive } => mapped(a, DType::Bool, &from, |x| {
                let wanted = if x.is_sign_negative() { negative } else { positive };
                u8::from(wanted && x.is_infinite())
            }, run),
        }
    })
}

fn applied<T: Compute + Default>(
    a: &Tensor,
    f: &Slices<T::Wide>,
    size: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let from = elements::<T>(a)?;
    let out = fill_by(run, from.len(), size, |start, out| {
        T::apply(f, &from[start..start + out.len()], out);
        Ok(())
    })?;
    tensor(a.dtype(), a.shape().clone(), out)
}

fn mapped<T: Copy + Sync, O: Element + Default>(
    a: &Tensor,
    dtype: DType,
    from: &[T],
    f: impl Fn(T) -> O + Sync,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let out = fill(run, from.len(), |start, out: &mut [O]| {
        out.iter_mut().zip(&from[start..]).for_each(|(out, &x)| *out = f(x));
        Ok(())
    })?;
    tensor(dtype, a.shape().clone(), out)
}

fn clip<T: Number + From64>(
    a: &Tensor,
    min: Option<f64>,
    max: Option<f64>,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let min = min.map_or(T::LOWEST, T::from_f64);
    let max = max.map_or(T::HIGHEST, T::from_f64);
    let from = elements::<T>(a)?;
    mapped(a, a.dtype(), &from, |x: T| x.maximum(min).minimum(max), run)
}

fn integer(op: Unary, a: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
    macro_rules! int {
        ($int:ty, $neg:expr, $abs:expr, $sign:expr) => {{
            let from = elements::<$int>(a)?;
            match op {
                Unary::Neg => mapped(a, a.dtype(), &from, $neg, run),
                Unary::Abs => mapped(a, a.dtype(), &from, $abs, run),
                Unary::Sign => mapped(a, a.dtype(), &from, $sign, run),
                Unary::Relu => mapped(a, a.dtype(), &from, |x: $int| x.max(0), run),
                Unary::BitNot => mapped(a, a.dtype(), &from, |x: $int| !x, run),
                _ => Err(refused(a.dtype())),
            }
        }};
    }
    macro_rules! signed {
        ($int:ty) => {
            int!($int, <$int>::wrapping_neg, <$int>::wrapping_abs, <$int>::signum)
        };
    }
    macro_rules! unsigned {
        ($int:ty) => {
            int!($int, <$int>::wrapping_neg, |x: $int| x, |x: $int| x.min(1))
        };
    }
    match a.dtype() {
        DType::Int8 => signed!(i8),
        DType::Int16 => signed!(i16),
        DType::Int32 => signed!(i32),
        DType::Int64 => signed!(i64),
        DType::Uint8 => unsigned!(u8),
        DType::Uint16 => unsigned!(u16),
        DType::Uint32 => unsigned!(u32),
        DType::Uint64 => unsigned!(u64),
        other => Err(refused(other)),
    }
}
