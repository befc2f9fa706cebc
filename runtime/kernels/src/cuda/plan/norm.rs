//! Norms.

use crate::cuda::plan::reduce::{row_threads, rows_of};
use crate::cuda::plan::rows::row_room;
use crate::cuda::plan::{Call, Params, Plan};
use crate::cuda::source::{Source, Unit};
use crate::infer::axes;
use crate::{Norm, OpError};

/// What a thread reads at once.
const VECTOR_BYTES: usize = 16;

pub(crate) fn norm(plan: &mut Plan, call: &Call<'_>, op: &Norm) -> Result<(), OpError> {
    match *op {
        Norm::Layer { axis, epsilon, bias, residual, .. } => {
            rows(plan, call, ["layer_norm", "layer_norm_vector"], (axis, epsilon), bias, residual)
        }
        Norm::Rms { axis, epsilon, residual, .. } => {
            rows(plan, call, ["rms_norm", "rms_norm_vector"], (axis, epsilon), false, residual)
        }
        Norm::Batch { epsilon } => batch(plan, call, epsilon),
        Norm::Group { groups, epsilon } => grouped(plan, call, groups, epsilon),
        Norm::Instance { epsilon } => {
            let channels = call.input(1)?.shape.elements();
            grouped(plan, call, channels, epsilon)
        }
        Norm::Lp { axis, p } => lp(plan, call, axis, p),
    }
}

/// Norms of the last dimensions; the second result, where there is one, is the sum of x and the residual.
fn rows(
    plan: &mut Plan,
    call: &Call<'_>,
    kernels: [&'static str; 2],
    (axis, epsilon): (i64, f64),
    bias: bool,
    residual: bool,
) -> Result<(), OpError> {
    let (x, out) = (call.input(0)?, call.out()?);
    let axis = axes::axis(call.name, axis, x.shape.rank())?;
    let size: usize = x.dims().iter().skip(axis).product();
    let count = (x.shape.elements() / size.max(1)) as u64;
    let after = 1 + usize::from(residual);
    let residual = if residual { Some(call.input(1)?.slot) } else { None };
    let scale = call.input(after)?.slot;
    let bias = if bias { Some(call.input(after + 1)?.slot) } else { None };
    let (kept, shared_bytes) = row_room(size as u64, x.size());
    let params = Params::new().at(out.slot).maybe(call.outputs.get(1).map(|sum| sum.slot));
    let params = params.at(x.slot).maybe(residual).at(scale).maybe(bias);
    let params = params.u64(size as u64).f64(epsilon).u32(u32::from(kept));
    let vector = size.is_multiple_of(VECTOR_BYTES / x.size());
    let unit = Unit::of(Source::Rows, x.dtype).with("NORM");
    let shape = (count, row_threads(size as u64), shared_bytes);
    plan.blocks(call, unit, kernels[usize::from(vector)], shape, params)
}

fn batch(plan: &mut Plan, call: &Call<'_>, epsilon: f64) -> Result<(), OpError> {
    let (x, out) = (call.input(0)?, call.out()?);
    let count = x.shape.elements() as u64;
    let channels = x.dims().get(1).map_or(1, |&c| c as u64);
    let inner: u64 = x.dims().iter().skip(2).map(|&dim| dim as u64).product();
    let mut params = Params::new().at(out.slot);
    for i in 0..5 {
        params = params.at(call.input(i)?.slot);
    }
    let params = params.u64(count).u64(channels).u64(inner).f64(epsilon);
    plan.threads(
        call,
        Unit::of(Source::Rows, x.dtype).with("BATCH_NORM"),
        "batch_norm",
        count,
        params,
    )
}

fn grouped(plan: &mut Plan, call: &Call<'_>, groups: usize, epsilon: f64) -> Result<(), OpError> {
    let (x, out) = (call.input(0)?, call.out()?);
    let (n, c) = (x.dims().first().copied().unwrap_or(1), x.dims().get(1).copied().unwrap_or(1));
    let inner: usize = x.dims().iter().skip(2).product();
    let size = (c / groups.max(1) * inner) as u64;
    let mut params = Params::new().at(out.slot);
    for i in 0..3 {
        params = params.at(call.input(i)?.slot);
    }
    let params = params.u64(groups as u64).u64(c as u64).u64(inner as u64).u64(size).f64(epsilon);
    let unit = Unit::of(Source::Rows, x.dtype).with("GROUP_NORM");
    plan.blocks(call, unit, "group_norm", ((n * groups) as u64, row_threads(size), 0), params)
}

fn lp(plan: &mut Plan, call: &Call<'_>, axis: i64, p: u32) -> Result<(), OpError> {
    let (x, out) = (call.input(0)?, call.out()?);
    let axis = axes::axis(call.name, axis, x.shape.rank())?;
    let (outer, size, inner) = rows_of(call, x.shape, axis)?;
    let params = Params::new().at(out.slot).at(x.slot).u64(size).u64(inner).u32(u32::from(p == 2));
    let unit = Unit::of(Source::Rows, x.dtype).with("LP_NORM");
    plan.blocks(call, unit, "lp_norm", (outer * inner, row_threads(size), 0), params)
}
