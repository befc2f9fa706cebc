//! Tensors from nothing, and from others by conversion.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::OpError;
use crate::cpu::dispatch::{numeric, refused};
use crate::cpu::memory::{elements, filled, room, tensor, words};
use crate::cpu::number::{From64, Into64};

pub(super) fn full(dtype: DType, shape: Shape, value: f64) -> Result<Tensor, OpError> {
    let len = shape.elements();
    if dtype == DType::Bool {
        return tensor(dtype, shape, filled(len, u8::from(value != 0.0))?);
    }
    numeric!(dtype, T => tensor(dtype, shape, filled(len, <T as From64>::from_f64(value))?))
}

pub(super) fn arange(dtype: DType, shape: Shape, start: f64, step: f64) -> Result<Tensor, OpError> {
    let len = shape.elements();
    numeric!(dtype, T => {
        let mut out = room(len)?;
        out.extend((0..len).map(|i| <T as From64>::from_f64(start + i as f64 * step)));
        tensor::<T>(dtype, shape, out)
    })
}

pub(super) fn cast(x: &Tensor, to: DType) -> Result<Tensor, OpError> {
    if x.dtype() == to {
        return Ok(x.clone());
    }
    if x.dtype() == DType::Bool {
        return cast_elements(x, &words::<u8>(x), to);
    }
    numeric!(x.dtype(), S => cast_elements::<S>(x, &elements(x)?, to))
}

fn cast_elements<S: Into64>(x: &Tensor, from: &[S], to: DType) -> Result<Tensor, OpError> {
    if to == DType::Bool {
        let mut out = room(from.len())?;
        out.extend(from.iter().map(|element| u8::from(!element.is_zero())));
        return tensor(to, x.shape().clone(), out);
    }
    numeric!(to, D => {
        let mut out = room(from.len())?;
        out.extend(from.iter().map(|&element| element.cast::<D>()));
        tensor(to, x.shape().clone(), out)
    })
}

/// A tensor of shape `[]` with `value` converted to `dtype`.
pub(super) fn scalar(dtype: DType, value: f64) -> Result<Tensor, OpError> {
    let shape = Shape::new(&[]).map_err(|_| refused(dtype))?;
    full(dtype, shape, value)
}
