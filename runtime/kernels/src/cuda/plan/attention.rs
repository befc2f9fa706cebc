//! Attention and rotary embedding.

use innkeeper_tensor::DType;

use crate::cuda::plan::{BLOCKS_YZ_MAX, Call, Params, Plan, Slot};
use crate::cuda::source::{Source, Unit};
use crate::infer::attention::{Place, Plan as Sizes, Turn};
use crate::{Attention, OpError, Rope};

/// Queries and keys of one tile of the plain kernel.
const TILE: usize = 32;
/// Queries and keys of one tile on the tensor cores.
const TILE_HALF: usize = 64;
/// The longest value vector of the plain kernel, and the longest vectors on the tensor cores.
const VALUES_MAX: usize = 256;
const DEPTH_HALF_MAX: usize = 128;

pub(crate) fn attention(plan: &mut Plan, call: &Call<'_>, op: &Attention) -> Result<(), OpError> {
    let shapes: Vec<_> = call.inputs.iter().map(|x| (x.dtype, x.shape)).collect();
    let sizes = Sizes::new(op, &shapes)?;
    let (q, out) = (call.input(0)?, call.out()?);
    let (k, v) = if op.packed { (q, q) } else { (call.input(1)?, call.input(2)?) };
    let size = q.size();
    let (depth, width) = (sizes.depth, sizes.width);
    if width > VALUES_MAX || depth > VALUES_MAX {
        return call.refused(format_args!("heads of {depth} and {width} elements"));
    }
    // Where the result lies: as q does, but for the length of a vector.
    let to = if op.heads_first {
        [sizes.heads * sizes.queries * width, sizes.queries * width, width]
    } else {
        [sizes.queries * sizes.heads * width, width, sizes.heads * width]
    };
    let place = |params: Params, at: &Place| {
        params.i64(at.batch as i64).i64(at.head as i64).i64(at.row as i64)
    };
    let start =
        |params: Params, slot: Slot, at: &Place| params.at_byte(slot, (at.start * size) as u64);
    let mask = if op.mask { call.inputs.last() } else { None };
    let mut params = Params::new().at(out.slot);
    params = start(params, q.slot, &sizes.q);
    params = start(params, k.slot, &sizes.k);
    params = start(params, v.slot, &sizes.v).maybe(mask.map(|mask| mask.slot));
    params = params.u64(sizes.queries as u64).u64(sizes.keys as u64);
    params = params.u32(sizes.heads as u32).u32(sizes.shared as u32);
    params = params.u32(depth as u32).u32(width as u32);
    params = to.iter().fold(params, |params, &stride| params.i64(stride as i64));
    params = place(place(place(params, &sizes.q), &sizes.k), &sizes.v);
    params = sizes.mask.unwrap_or([0; 4]).iter().fold(params, |params, &at| params.i64(at as i64));
    params = params.f64(sizes.scale).u32(u32::from(op.causal));
    params = params.u32(u32::from(mask.is_some_and(|mask| mask.dtype == DType::Bool)));
    params = params.u64(sizes.batch as u64);
    let both = ((sizes.batch * sizes.heads) as u64).min(BLOCKS_YZ_MAX);
    let half = matches!(q.dtype, DType::Fp16 | DType::Bf16)
        && depth == width
        && depth.is_multiple_of(16)
        && (16..=DEPTH_HALF_MAX).contains(&depth);
    if half {
        let room = (2 * TILE_HALF * (depth + 8) + depth * (TILE_HALF + 8)) * 2;
        let unit = Unit::of(Source::AttentionHalf, q.dtype).with(format!("D={depth}"));
        let grid = [sizes.queries.div_ceil(TILE_HALF) as u64, both, 1];
        return plan.grid(call, unit, "attention", grid, [128, 1, 1], room as u32, params);
    }
    let wide = if q.dtype == DType::Fp64 { 8 } else { 4 };
    let room = (2 * TILE * (depth + 1) + TILE * (width + 1) + TILE * (TILE + 1)) * wide;
    if room > call.facts.shared_bytes_max as usize {
        return call.refused(format_args!("heads of {depth} and {width} elements of {}", q.dtype));
    }
    let unit = Unit::of(Source::Attention, q.dtype).with("ATTENTION");
    let grid = [sizes.queries.div_ceil(TILE) as u64, both, 1];
    plan.grid(call, unit, "attention", grid, [256, 1, 1], room as u32, params)
}

pub(crate) fn rope(plan: &mut Plan, call: &Call<'_>, op: &Rope) -> Result<(), OpError> {
    let shapes: Vec<_> = call.inputs.iter().map(|x| (x.dtype, x.shape)).collect();
    let turn = Turn::new(op, &shapes)?;
    let (x, cos, sin, out) = (call.input(0)?, call.input(1)?, call.input(2)?, call.out()?);
    let positions = if op.positions { Some(call.input(3)?) } else { None };
    let (batch, heads, rows, d) = (turn.batch, turn.heads, turn.rows, turn.depth);
    let at = if turn.heads_first {
        [heads * rows * d, rows * d, d]
    } else {
        [rows * heads * d, d, heads * d]
    };
    let (table_rows, table_batch) = match (positions, turn.one_table) {
        (Some(_), _) => (cos.dims().first().copied().unwrap_or(0), 0),
        (None, true) => (rows, 0),
        (None, false) => (rows, rows),
    };
    if positions.is_some() {
        plan.fault =
            Some(format!("{}: a position is not in tables of {table_rows} rows", call.name));
    }
    let mut params = Params::new().at(out.slot).at(x.slot).at(cos.slot).at(sin.slot);
    params = params.maybe(positions.map(|positions| positions.slot));
    params = params.maybe(positions.map(|_| Slot::Flag));
    for size in [batch, heads, rows, d, turn.turned].into_iter().chain(at) {
        params = params.u64(size as u64);
    }
    params = params.u64(table_rows as u64).u64(table_batch as u64);
    let wide = positions.is_some_and(|positions| positions.dtype == DType::Int64);
    params = params.u32(u32::from(op.interleaved)).u32(u32::from(wide));
    let count = x.shape.elements() as u64;
    plan.threads(call, Unit::of(Source::Attention, x.dtype).with("ROPE"), "rope", count, params)
}
