//! What was gathered is added back to where it came from.

use innkeeper_tensor::{DType, Shape, Tensor};

use super::packed;
use crate::cpu::memory::elements;
use crate::cpu::smooth::Smooth;
use crate::cpu::walk::around;
use crate::error::invalid;
use crate::{OpError, Run};

pub(super) fn scatter_add<T: Smooth>(
    op: &str,
    results: Vec<(DType, Shape)>,
    dy: &Tensor,
    indices: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let Some((_, shape)) = results.first() else {
        return Ok(Vec::new());
    };
    let (_, size, inner) = around(shape, axis);
    let indices = places(op, indices, size)?;
    let mut out = run.filled(shape.elements(), T::default())?;
    let dy = &*elements::<T>(dy)?;
    if !dy.is_empty() && !out.is_empty() {
        let rows = dy.chunks(indices.len() * inner).zip(out.chunks_mut(size * inner));
        for (dy, out) in rows {
            run.check()?;
            for (&index, dy) in indices.iter().zip(dy.chunks(inner)) {
                let row = &mut out[index * inner..(index + 1) * inner];
                row.iter_mut().zip(dy).for_each(|(out, &dy)| *out = out.add(dy));
            }
        }
    }
    packed(results, [out])
}

/// Each index as a position below `size`.
fn places(op: &str, indices: &Tensor, size: usize) -> Result<Vec<usize>, OpError> {
    let place = |index: i64| {
        let from_start =
            if index < 0 { index.checked_add_unsigned(size as u64) } else { Some(index) };
        let place = from_start.and_then(|index| usize::try_from(index).ok());
        place.filter(|&place| place < size).ok_or_else(|| {
            invalid(op, format_args!("index {index} is out of range for size {size}"))
        })
    };
    match indices.dtype() {
        DType::Int32 => elements::<i32>(indices)?.iter().map(|&i| place(i.into())).collect(),
        _ => elements::<i64>(indices)?.iter().map(|&i| place(i)).collect(),
    }
}
