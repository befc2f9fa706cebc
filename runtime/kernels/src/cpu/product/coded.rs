//! Right sides that are kept in fewer bits than FP32, and widened panel by panel as they are used.

use std::ops::Range;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use innkeeper_tensor::{DType, Derived, Tensor, f16};

use super::pack::{Panels, Right};
use super::tile::kernel;
use crate::OpError;
use crate::cpu::Isa;
use crate::cpu::memory::{elements, words};
use crate::memory::zeroed;

/// A right side that can be written out as FP32.
pub(in crate::cpu) trait Coded: Send + Sync {
    /// Writes rows `depth` of a panel, each as many columns as the kernel's panels have.
    fn fill(&self, panel: usize, depth: Range<usize>, out: &mut [f32]);
}

/// 16-bit floats in panels: panel after panel, row after row.
pub(in crate::cpu) struct Halves {
    panels: Arc<Vec<u16>>,
    k: usize,
    columns: usize,
    /// Whether they are BF16 rather than FP16.
    brain: bool,
}

/// 4-bit numbers in panels, and a scale for each group of a column: a number q stands for `(q - 8) * scale`.
pub(in crate::cpu) struct Nibbles {
    /// Of each row first the columns of the panel's lower half and, in the high bits, those of the upper.
    panels: Arc<Vec<u8>>,
    /// As if they were a right side of one row for each group.
    scales: Arc<Panels>,
    k: usize,
    columns: usize,
    group: usize,
}

/// Panels that are kept with a constant weight `[n, k]`, for one width.
struct Packed<T, const COLUMNS: usize>(Option<Arc<Vec<T>>>);

impl<T: Send + Sync + 'static, const COLUMNS: usize> Derived for Packed<T, COLUMNS> {
    fn byte_length(&self) -> usize {
        self.0.as_ref().map_or(0, |panels| size_of_val(panels.as_slice()))
    }
}

/// What `pack` makes of a width of panels, kept with `tensor` where that is a constant.
fn kept<T: Send + Sync + 'static>(
    tensor: &Tensor,
    columns: usize,
    pack: impl FnOnce() -> Option<Vec<T>>,
) -> Result<Arc<Vec<T>>, OpError> {
    if !tensor.is_constant() {
        return pack().map(Arc::new).ok_or_else(no_memory);
    }
    let packed = match columns {
        32 => tensor.derived(|| Packed::<T, 32>(pack().map(Arc::new))).and_then(|it| it.0.clone()),
        _ => tensor.derived(|| Packed::<T, 16>(pack().map(Arc::new))).and_then(|it| it.0.clone()),
    };
    packed.ok_or_else(no_memory)
}

fn no_memory() -> OpError {
    OpError::Unsupported("there is no memory to pack a weight".into())
}

impl Halves {
    /// Of a weight `[n, k]`, FP16 or BF16.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] when there is no memory.
    pub(in crate::cpu) fn of(
        weight: &Tensor,
        [n, k]: [usize; 2],
        isa: Isa,
    ) -> Result<Halves, OpError> {
        let columns = kernel(isa).columns;
        let brain = weight.dtype() == DType::Bf16;
        let panels = kept(weight, columns, || {
            let mut halves = zeroed::<u16>(n.next_multiple_of(columns).checked_mul(k)?)?;
            for (j, row) in words::<u16>(weight).chunks_exact(k.max(1)).enumerate() {
                for (p, &half) in row.iter().enumerate() {
                    halves[(j / columns * k + p) * columns + j % columns] = half;
                }
            }
            Some(halves)
        })?;
        Ok(Halves { panels, k, columns, brain })
    }
}

impl Nibbles {
    /// Of a weight `[n, k / 2]` and scales `[n, k / group]`, as [`Quant::Linear4`](crate::Quant::Linear4) says.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] when there is no memory.
    pub(in crate::cpu) fn of(
        weight: &Tensor,
        scales: &Tensor,
        [n, k]: [usize; 2],
        group: usize,
        isa: Isa,
    ) -> Result<Nibbles, OpError> {
        let columns = kernel(isa).columns;
        let half = columns / 2;
        let panels = kept(weight, columns, || {
            let mut bytes = zeroed::<u8>(n.next_multiple_of(columns).checked_mul(k)? / 2)?;
            for (j, row) in weight.as_bytes().chunks_exact((k / 2).max(1)).enumerate() {
                for p in 0..k {
                    let nibble = row[p / 2] >> (p % 2 * 4) & 15;
                    let at = (j / columns * k + p) * half + j % half;
                    bytes[at] |= nibble << if j % columns < half { 0 } else { 4 };
                }
            }
            Some(bytes)
        })?;
        let elements = &*elements::<f32>(scales)?;
        let right = Right { k: k / group, n, elements, transposed: true };
        let scales = Panels::kept(right, scales, isa).ok_or_else(no_memory)?;
        Ok(Nibbles { panels, scales, k, columns, group })
    }
}

impl Coded for Halves {
    fn fill(&self, panel: usize, depth: Range<usize>, out: &mut [f32]) {
        let at = |p: usize| (panel * self.k + p) * self.columns;
        let from = &self.panels[at(depth.start)..at(depth.end)];
        if !self.brain {
            let halves: &[f16] = bytemuck::cast_slice(from);
            return halves.convert_to_f32_slice(out);
        }
        pulp::Arch::new().dispatch(|| {
            for (out, &half) in out.iter_mut().zip(from) {
                *out = f32::from_bits(u32::from(half) << 16);
            }
        });
    }
}

impl Coded for Nibbles {
    fn fill(&self, panel: usize, depth: Range<usize>, out: &mut [f32]) {
        let &Nibbles { k, columns, group, .. } = self;
        let (half, groups) = (columns / 2, k / group);
        let of_groups = self.scales.floats();
        pulp::Arch::new().dispatch(|| {
            for (p, out) in depth.clone().zip(out.chunks_exact_mut(columns)) {
                let scales = &of_groups[(panel * groups + p / group) * columns..][..columns];
                let bytes = &self.panels[(panel * k + p) * half..][..half];
                let (low, high) = out.split_at_mut(half);
                let (scale_low, scale_high) = scales.split_at(half);
                for ((out, &byte), scale) in low.iter_mut().zip(bytes).zip(scale_low) {
                    *out = (i32::from(byte & 15) - 8) as f32 * scale;
                }
                for ((out, &byte), scale) in high.iter_mut().zip(bytes).zip(scale_high) {
                    *out = (i32::from(byte >> 4) - 8) as f32 * scale;
                }
            }
        });
    }
}
