//! Softmax and norms.

use crate::OpError;
use crate::cuda::plan::reduce::{row_threads, rows_of};
use crate::cuda::plan::{Call, Params, Plan};
use crate::cuda::source::{Source, Unit};
use crate::infer::axes;

/// Shared memory that a block may have for its row: with more, too few blocks would run at once.
const ROW_BYTES_MAX: u64 = 32 << 10;

pub(crate) fn softmax(
    plan: &mut Plan,
    call: &Call<'_>,
    axis: i64,
    kernel: &'static str,
) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let axis = axes::axis(call.name, axis, a.shape.rank())?;
    let (outer, size, inner) = rows_of(call, a.shape, axis)?;
    let (kept, shared_bytes) = row_room(size, a.size());
    let params = Params::new().at(out.slot).at(a.slot).u64(size).u64(inner).u32(u32::from(kept));
    let unit = Unit::of(Source::Rows, a.dtype).with("SOFTMAX");
    plan.blocks(call, unit, kernel, (outer * inner, row_threads(size), shared_bytes), params)
}

/// Whether a row of elements of `bytes` bytes each is kept in shared memory, and the room that it takes there.
pub(crate) fn row_room(size: u64, bytes: usize) -> (bool, u32) {
    let wide = size.saturating_mul(bytes.max(4) as u64);
    if wide <= ROW_BYTES_MAX { (true, wide as u32) } else { (false, 0) }
}
