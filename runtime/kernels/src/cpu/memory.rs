//! Elements in and out of tensors.

use std::borrow::Cow;

use innkeeper_tensor::{Buffer, DType, Element, Shape, Tensor};

use crate::OpError;

/// A tensor that owns `elements`, whose type need only be as large as the dtype's.
pub(super) fn tensor<T: Element>(
    dtype: DType,
    shape: Shape,
    elements: Vec<T>,
) -> Result<Tensor, OpError> {
    Tensor::new(dtype, shape, Buffer::from_vec(elements)).map_err(broken)
}

/// The elements of a tensor of that very dtype.
pub(super) fn elements<T: Element>(tensor: &Tensor) -> Result<Cow<'_, [T]>, OpError> {
    tensor.elements().map_err(broken)
}

/// The elements as words of their size, borrowed where they lie aligned.
pub(super) fn words<W: Element>(tensor: &Tensor) -> Cow<'_, [W]> {
    let bytes = tensor.as_bytes();
    match bytemuck::try_cast_slice(bytes) {
        Ok(words) => Cow::Borrowed(words),
        Err(_) => Cow::Owned(
            bytes.chunks_exact(size_of::<W>()).map(bytemuck::pod_read_unaligned).collect(),
        ),
    }
}

/// The elements of an INT32 or INT64 tensor.
pub(super) fn indices(tensor: &Tensor) -> Result<Cow<'_, [i64]>, OpError> {
    match tensor.dtype() {
        DType::Int32 => {
            Ok(elements::<i32>(tensor)?.iter().map(|&index| i64::from(index)).collect())
        }
        _ => elements::<i64>(tensor),
    }
}

/// A tensor error that the check should have ruled out.
fn broken(error: innkeeper_tensor::TensorError) -> OpError {
    OpError::InvalidArgument(error.to_string())
}
