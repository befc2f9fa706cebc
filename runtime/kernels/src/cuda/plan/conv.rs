//! Convolution and pooling.

use crate::cuda::plan::product::{self, Product};
use crate::cuda::plan::{Call, Params, Plan, Slot};
use crate::cuda::source::{Source, Unit};
use crate::infer::conv::{Filter, pooling};
use crate::infer::grad::window::Slide;
use crate::{Activation, Conv, ConvTranspose, OpError, PoolKind, Pooling};

/// The most memory that a convolution writes its windows out to, before it works them out one by one instead.
const COLUMNS_BYTES_MAX: u64 = 1 << 30;

/// As `Window` in the kernel sources.
fn window(params: Params, slide: &Slide) -> Params {
    let lists = [slide.input, slide.output, slide.kernel, slide.strides, slide.dilations];
    let params = lists.iter().flatten().fold(params, |params, &size| params.u64(size as u64));
    slide.before.iter().fold(params, |params, &pad| params.i64(pad as i64))
}

/// What the kernels of convolution are given.
struct Filtered {
    slide: Slide,
    bias: Option<Slot>,
    residual: Option<Slot>,
    activation: Activation,
    channels: [usize; 4],
}

impl Filtered {
    fn params(&self, call: &Call<'_>) -> Result<Params, OpError> {
        let (x, weight, out) = (call.input(0)?, call.input(1)?, call.out()?);
        let (kind, first, second) = product::activation(self.activation);
        let params = Params::new().at(out.slot).at(x.slot).at(weight.slot);
        let params = params.maybe(self.bias).maybe(self.residual);
        let params = self.channels.iter().fold(params, |params, &size| params.u64(size as u64));
        Ok(window(params, &self.slide).u32(kind).f32(first).f32(second))
    }
}

pub(crate) fn conv(plan: &mut Plan, call: &Call<'_>, op: &Conv) -> Result<(), OpError> {
    let shapes: Vec<_> = call.inputs.iter().map(|x| (x.dtype, x.shape)).collect();
    let (filter, _) = Filter::of_conv(op, &shapes)?;
    let (x, weight, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let (n, c, m) = (filter.batch, filter.depth * filter.groups, filter.filters * filter.groups);
    let bias = if op.bias { Some(call.input(2)?.slot) } else { None };
    let residual =
        if op.residual { Some(call.input(2 + usize::from(op.bias))?.slot) } else { None };
    let slide = filter.slide;
    let activation = op.activation;
    let channels = [n, c, m, filter.groups];
    let filtered = Filtered { slide, bias, residual, activation, channels };
    let params = filtered.params(call)?;
    let unit = Unit::of(Source::Conv, x.dtype).with("CONV");
    let results = out.shape.elements() as u64;
    let volume = |sizes: &[usize]| sizes.iter().map(|&size| size as u64).product::<u64>();
    let (places, kernel) = (volume(&slide.output), volume(&slide.kernel));
    let bytes = results.saturating_mul(c as u64).saturating_mul(kernel) / (m as u64).max(1)
        * x.size() as u64;
    if filter.groups > 1 || bytes > COLUMNS_BYTES_MAX || c == 0 {
        return plan.threads(call, unit, "conv", results, params);
    }
    // Windows of one element that do not jump are x as it is.
    let plain = kernel == 1 && slide.input == slide.output && slide.before == [0; 3];
    let columns = if plain {
        x.slot
    } else {
        let to = plan.scratch(bytes);
        let params = Params::new().at(to).at(x.slot).u64(n as u64).u64(c as u64);
        let unit = Unit::of_words(Source::Conv, x.size()).with("COLUMNS");
        let count = n as u64 * c as u64 * kernel * places;
        plan.threads(call, unit, "columns", count, window(params, &slide))?;
        to
    };
    let depth = c as u64 * kernel;
    let product = Product {
        dtype: x.dtype,
        a: weight.slot,
        b: columns,
        c: out.slot,
        bias: None,
        residual: None,
        activation: Activation::None,
        m: m as u64,
        n: places,
        k: depth,
        batch: n as u64,
        a_batch: 0,
        b_batch: depth * places,
        a_turned: false,
        b_turned: false,
    };
    product::add(plan, call, product)?;
    if bias.is_none() && residual.is_none() && activation == Activation::None {
        return Ok(());
    }
    plan.threads(call, unit, "conv_epilogue", results, params)
}

pub(crate) fn transpose(
    plan: &mut Plan,
    call: &Call<'_>,
    op: &ConvTranspose,
) -> Result<(), OpError> {
    let shapes: Vec<_> = call.inputs.iter().map(|x| (x.dtype, x.shape)).collect();
    let (filter, _) = Filter::of_transpose(op, &shapes)?;
    let (x, out) = (call.input(0)?, call.out()?);
    let (c, m) = (filter.depth * filter.groups, filter.filters * filter.groups);
    let bias = if op.bias { Some(call.input(2)?.slot) } else { None };
    // There the result is what windows slide over.
    let slide = Slide { input: filter.slide.output, output: filter.slide.input, ..filter.slide };
    let channels = [filter.batch, c, m, filter.groups];
    let filtered = Filtered { slide, bias, residual: None, activation: Activation::None, channels };
    let unit = Unit::of(Source::Conv, x.dtype).with("CONV");
    let params = filtered.params(call)?;
    plan.threads(call, unit, "conv_transpose", out.shape.elements() as u64, params)
}

pub(crate) fn pool(plan: &mut Plan, call: &Call<'_>, op: &Pooling) -> Result<(), OpError> {
    let (x, out) = (call.input(0)?, call.out()?);
    let (slide, _) = pooling(op, x.shape)?;
    let planes = x.dims().iter().take(2).map(|&dim| dim as u64).product();
    let (kernel, indices, power, count) = match op.kind {
        PoolKind::Max { indices } => ("pool_max", indices, 0, false),
        PoolKind::Average { count_include_pad } => ("pool_average", false, 0, count_include_pad),
        PoolKind::Lp { p } => ("pool_lp", false, p, false),
    };
    let indices = if indices { call.outputs.get(1).map(|out| out.slot) } else { None };
    let params = Params::new().at(out.slot).maybe(indices).at(x.slot).u64(planes);
    let mut params = window(params, &slide);
    for d in 0..slide.input.len() {
        params = params.u64((slide.before[d] + slide.input[d] + slide.after[d]) as u64);
    }
    let params = params.f64(f64::from(power)).u32(u32::from(count));
    let unit = Unit::of(Source::Conv, x.dtype).with("POOL");
    plan.threads(call, unit, kernel, out.shape.elements() as u64, params)
}
