//! Tensors from nothing, and from others by conversion.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::dispatch::{numeric, refused};
use crate::cpu::memory::{elements, tensor, words};
use crate::cpu::number::{From64, Into64};
use crate::{OpError, Run};

pub(super) fn full(
    dtype: DType,
    shape: Shape,
    value: f64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let len = shape.elements();
    if dtype == DType::Bool {
        return tensor(dtype, shape, run.filled(len, u8::from(value != 0.0))?);
    }
    numeric!(dtype, T => tensor(dtype, shape, run.filled(len, <T as From64>::from_f64(value))?))
}

pub(super) fn arange(
    dtype: DType,
    shape: Shape,
    [start, step]: [f64; 2],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let len = shape.elements();
    numeric!(dtype, T => {
        let mut out = run.room(len)?;
        out.extend((0..len).map(|i| <T as From64>::from_f64(start + i as f64 * step)));
        tensor::<T>(dtype, shape, out)
    })
}

pub(super) fn cast(x: &Tensor, to: DType, run: &Run<'_>) -> Result<Tensor, OpError> {
    if x.dtype() == to {
        return Ok(x.clone());
    }
    if x.dtype() == DType::Bool {
        return cast_elements(x, &words::<u8>(x), to, run);
    }
    numeric!(x.dtype(), S => cast_elements::<S>(x, &elements(x)?, to, run))
}

fn cast_elements<S: Into64>(
    x: &Tensor,
    from: &[S],
    to: DType,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    if to == DType::Bool {
        let mut out = run.room(from.len())?;
        out.extend(from.iter().map(|element| u8::from(!element.is_zero())));
        return tensor(to, x.shape().clone(), out);
    }
    numeric!(to, D => {
        let mut out = run.room(from.len())?;
        out.extend(from.iter().map(|&element| element.cast::<D>()));
        tensor(to, x.shape().clone(), out)
    })
}

/// A tensor of shape `[]` with `value` converted to `dtype`.
pub(super) fn scalar(dtype: DType, value: f64) -> Result<Tensor, OpError> {
    let shape = Shape::new(&[]).map_err(|_| refused(dtype))?;
    full(dtype, shape, value, &Run::new())
}
