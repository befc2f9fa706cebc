//! Derivatives, losses and optimisers' steps.

use innkeeper_tensor::DType;

use crate::cuda::plan::moves::around;
use crate::cuda::plan::product::{self, Product};
use crate::cuda::plan::reduce::{self, row_threads, rows_of};
use crate::cuda::plan::{Call, Operand, Params, Plan, Slot};
use crate::cuda::source::{Source, Unit};
use crate::error::invalid;
use crate::infer::axes;
use crate::{Activation, Grad, Loss, LossOf, OpError, Optim, Reduction, Slope};

/// The threads of a block that joins what others made.
const JOIN_THREADS: u32 = 256;
/// Blocks that go over one tensor.
const PARTS_MAX: u64 = 256;
/// A derivative of a gather looks at every index for every place; for more of both it is refused.
const GATHER_LOOKS_MAX: u64 = 1 << 40;

pub(crate) fn grad(plan: &mut Plan, call: &Call<'_>, grad: &Grad) -> Result<(), OpError> {
    match grad {
        Grad::Slope(slope) => slope_of(plan, call, *slope),
        Grad::Softmax { axis } => softmax(plan, call, *axis, false),
        Grad::LogSoftmax { axis } => softmax(plan, call, *axis, true),
        Grad::LayerNorm { axis, epsilon, .. } => norm(plan, call, *axis, *epsilon, true),
        Grad::RmsNorm { axis, epsilon } => norm(plan, call, *axis, *epsilon, false),
        Grad::Gather { axis, shape } => gather(plan, call, *axis, shape),
        Grad::SumTo { shape } => sum_to(plan, call, shape),
        Grad::Linear { input, bias } => linear(plan, call, *input, *bias),
        Grad::Attention(_)
        | Grad::BatchNorm { .. }
        | Grad::Conv { .. }
        | Grad::MaxPool { .. }
        | Grad::AveragePool { .. }
        | Grad::Dropout { .. } => call.refused(call.name),
    }
}

fn slope_of(plan: &mut Plan, call: &Call<'_>, slope: Slope) -> Result<(), OpError> {
    let name = match slope {
        Slope::Relu => "relu",
        Slope::Gelu => "gelu",
        Slope::GeluTanh => "gelu_tanh",
        Slope::Silu => "silu",
        Slope::Sigmoid => "sigmoid",
        Slope::Tanh => "tanh",
    };
    let (dy, z, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let count = out.shape.elements() as u64;
    let params = Params::new().at(out.slot).at(dy.slot).at(z.slot).u64(count);
    let unit = Unit::of(Source::Train, dy.dtype).with(format!("SLOPE=slope_{name}"));
    plan.threads(call, unit, "slope", count, params)
}

fn softmax(plan: &mut Plan, call: &Call<'_>, axis: i64, logarithm: bool) -> Result<(), OpError> {
    let (dy, y, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let axis = axes::axis(call.name, axis, dy.shape.rank())?;
    let (outer, size, inner) = rows_of(call, dy.shape, axis)?;
    let params = Params::new().at(out.slot).at(dy.slot).at(y.slot).u64(size).u64(inner);
    let unit = Unit::of(Source::Train, dy.dtype).with("SOFTMAX");
    let shape = (outer * inner, row_threads(size), 0);
    plan.blocks(call, unit, "softmax_gradient", shape, params.u32(u32::from(logarithm)))
}

fn norm(
    plan: &mut Plan,
    call: &Call<'_>,
    axis: i64,
    epsilon: f64,
    centred: bool,
) -> Result<(), OpError> {
    let (dy, x, scale) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let axis = axes::axis(call.name, axis, x.shape.rank())?;
    let size: usize = x.dims().iter().skip(axis).product();
    if size == 0 || x.shape.elements() == 0 {
        return call.refused("a norm of nothing");
    }
    let rows = (x.shape.elements() / size) as u64;
    let size = size as u64;
    let facts = plan.scratch(rows * 16);
    let output = |i: usize| call.outputs.get(i).map(|out| out.slot);
    let params = Params::new().maybe(output(0)).maybe(output(1)).maybe(output(2));
    let params = params.at(dy.slot).at(x.slot).at(scale.slot).at(facts).u64(rows).u64(size);
    let params = params.f64(epsilon).u32(u32::from(centred));
    let unit = Unit::of(Source::Train, x.dtype).with("NORM");
    let shape = (rows, row_threads(size), 0);
    plan.blocks(call, unit.clone(), "norm_gradient", shape, params.clone())?;
    plan.threads(call, unit, "norm_weight_gradient", size, params)
}

fn gather(plan: &mut Plan, call: &Call<'_>, axis: i64, shape: &[usize]) -> Result<(), OpError> {
    let (dy, indices, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let axis = axes::axis(call.name, axis, shape.len())?;
    let (outer, size, inner) = around(out.shape, axis)
        .ok_or_else(|| invalid(call.name, "the shape has no such dimension"))?;
    let (count, places) = (indices.shape.elements() as u64, out.shape.elements() as u64);
    if count.saturating_mul(places) > GATHER_LOOKS_MAX {
        return call.refused(format_args!("{count} indices of {places} elements"));
    }
    plan.fault = Some(format!("{}: an index is not in a dimension of {size}", call.name));
    let params = Params::new().at(out.slot).at(dy.slot).at(indices.slot).at(Slot::Flag);
    let params = params.u64(outer as u64).u64(size as u64).u64(count).u64(inner as u64);
    let params = params.u32(u32::from(indices.dtype == DType::Int64));
    let unit = Unit::of(Source::Train, dy.dtype).with("GATHER");
    plan.threads(call, unit, "gather_gradient", places, params)
}

fn sum_to(plan: &mut Plan, call: &Call<'_>, shape: &[usize]) -> Result<(), OpError> {
    let (dy, out) = (call.input(0)?, call.out()?);
    let missing = dy.shape.rank().saturating_sub(shape.len());
    let gone: Vec<bool> = dy
        .dims()
        .iter()
        .enumerate()
        .map(|(d, &dim)| match d.checked_sub(missing) {
            Some(at) => shape.get(at) == Some(&1) && dim != 1,
            None => true,
        })
        .collect();
    reduce::sum(plan, call, dy, out.slot, &gone)
}

fn linear(plan: &mut Plan, call: &Call<'_>, input: bool, bias: bool) -> Result<(), OpError> {
    let (dy, x, weight) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let &[to, from] = weight.dims() else {
        return Err(invalid(call.name, "the weight must be [out, in]"));
    };
    let rows = (dy.shape.elements() / to.max(1)) as u64;
    let (to, from) = (to as u64, from as u64);
    let mut outputs = call.outputs.iter();
    let mut next =
        || outputs.next().map(|out| out.slot).ok_or_else(|| invalid(call.name, "has no result"));
    let product = |a, b, c, (m, n, k), a_turned| Product {
        dtype: dy.dtype,
        a,
        b,
        c,
        bias: None,
        residual: None,
        activation: Activation::None,
        m,
        n,
        k,
        batch: 1,
        a_batch: 0,
        b_batch: 0,
        a_turned,
        b_turned: false,
    };
    if input {
        let dx = product(dy.slot, weight.slot, next()?, (rows, from, to), false);
        product::add(plan, call, dx)?;
    }
    product::add(plan, call, product(dy.slot, x.slot, next()?, (to, from, rows), true))?;
    if bias {
        let last = dy.shape.rank().saturating_sub(1);
        let gone: Vec<bool> = (0..dy.shape.rank()).map(|d| d < last).collect();
        reduce::sum(plan, call, dy, next()?, &gone)?;
    }
    Ok(())
}

pub(crate) fn loss(plan: &mut Plan, call: &Call<'_>, loss: &Loss) -> Result<(), OpError> {
    let (prediction, target, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let count = prediction.shape.elements() as u64;
    let labels = matches!(loss.of, LossOf::CrossEntropy { .. });
    let classes = if labels { prediction.dims().last().map_or(1, |&dim| dim as u64) } else { 1 };
    let rows = if labels { target.shape.elements() as u64 } else { count };
    let parts = if labels { rows } else { rows.div_ceil(256).clamp(1, PARTS_MAX) };
    let (sums, weights) = (plan.scratch(parts.max(1) * 8), plan.scratch(parts.max(1) * 8));
    let factor = plan.scratch(8);
    let (ignore, smoothing) = match loss.of {
        LossOf::CrossEntropy { ignore, smoothing } => (ignore, smoothing),
        _ => (None, 0.0),
    };
    if labels {
        plan.fault = Some(format!("{}: a label is not one of {classes} classes", call.name));
    }
    let gradient = call.outputs.get(1).map(|out| out.slot);
    let params = Params::new().at(out.slot).maybe(gradient).at(prediction.slot).at(target.slot);
    let params = params.at(sums).at(weights).at(factor).maybe(labels.then_some(Slot::Flag));
    let params = params.u64(rows).u64(classes).u64(parts).f64(smoothing).i64(ignore.unwrap_or(0));
    let params = params.u32(u32::from(ignore.is_some()));
    let params = params.u32(u32::from(target.dtype == DType::Int64));
    let params = params.u32(u32::from(loss.reduction == Reduction::Mean));
    let params = params.u32(u32::from(loss.of == LossOf::BinaryCrossEntropy));
    let unit = Unit::of(Source::Train, prediction.dtype).with("LOSS");
    let (begin, end) = if labels {
        ("cross_entropy", "cross_entropy_gradient")
    } else {
        ("elements_loss", "elements_gradient")
    };
    let threads = if labels { row_threads(classes) } else { JOIN_THREADS };
    plan.blocks(call, unit.clone(), begin, (parts, threads, 0), params.clone())?;
    plan.blocks(call, unit.clone(), "loss_end", (1, JOIN_THREADS, 0), params.clone())?;
    match (gradient, labels) {
        (None, _) => Ok(()),
        (Some(_), true) => plan.blocks(call, unit, end, (rows, threads, 0), params),
        (Some(_), false) => plan.threads(call, unit, end, rows, params),
    }
}

pub(crate) fn optim(plan: &mut Plan, call: &Call<'_>, optim: &Optim) -> Result<(), OpError> {
    let (changing, read) = optim.groups();
    let tensors = call.inputs.len() / (changing + read).max(1);
    if let Optim::ClipNorm { norm_max } = optim {
        return clip(plan, call, *norm_max);
    }
    for i in 0..tensors {
        let input = |group: usize| call.input(group * tensors + i);
        let output = |group: usize| call.outputs.get(group * tensors + i).map(|out| out.slot);
        let parameter = input(0)?;
        let group = |group: usize| {
            if group < changing { input(group).map(|x| Some(x.slot)) } else { Ok(None) }
        };
        let mut params = Params::new();
        for at in 0..3 {
            params = params.maybe(if at < changing { output(at) } else { None });
        }
        params = params.at(parameter.slot).maybe(group(1)?).maybe(group(2)?);
        params = params.at(input(changing)?.slot).u64(parameter.shape.elements() as u64);
        let (kernel, factors, nesterov, decoupled) = step(optim);
        params = factors.iter().fold(params, |params, &factor| params.f64(factor));
        params = params.u32(u32::from(nesterov)).u32(u32::from(decoupled));
        let unit = Unit::of(Source::Train, parameter.dtype).with("STEP");
        let count = parameter.shape.elements() as u64;
        if count > 0 {
            plan.threads(call, unit, kernel, count, params)?;
        }
    }
    Ok(())
}

/// A step's kernel and numbers, in the order of the kernel's struct.
fn step(optim: &Optim) -> (&'static str, [f64; 8], bool, bool) {
    match *optim {
        Optim::Sgd { lr, momentum, weight_decay, nesterov } => {
            ("sgd", [lr, momentum, weight_decay, 0.0, 0.0, 0.0, 1.0, 1.0], nesterov, false)
        }
        Optim::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step } => {
            let correction = |beta: f64| 1.0 - beta.powf(step as f64);
            let (first, second) = (correction(beta1), correction(beta2));
            (
                "adam",
                [lr, 0.0, weight_decay, beta1, beta2, epsilon, first, second],
                false,
                decoupled,
            )
        }
        Optim::ClipNorm { .. } => ("", [0.0; 8], false, false),
    }
}

fn clip(plan: &mut Plan, call: &Call<'_>, norm_max: f64) -> Result<(), OpError> {
    let parts = |x: &Operand<'_>| {
        let count = x.shape.elements() as u64;
        if count == 0 { 0 } else { count.div_ceil(256).clamp(1, PARTS_MAX) }
    };
    let all: u64 = call.inputs.iter().map(parts).sum();
    let Some(norm) = call.outputs.last() else { return call.refused("no gradients") };
    let sums = plan.scratch((all + 1) * 8);
    let unit = Unit::of(Source::Train, norm.dtype).with("CLIP_NORM");
    let params = |to: Slot, from: Option<Slot>, begin: u64, (count, parts): (u64, u64)| {
        let params = Params::new().at(to).maybe(from).at_byte(sums, begin * 8).at(norm.slot);
        params.u64(count).u64(parts).u64(all).f64(norm_max)
    };
    let mut begin = 0;
    for x in &call.inputs {
        let (count, parts) = (x.shape.elements() as u64, parts(x));
        let params = params(norm.slot, Some(x.slot), begin, (count, parts));
        plan.blocks(call, unit.clone(), "squares", (parts, JOIN_THREADS, 0), params)?;
        begin += parts;
    }
    let end = params(norm.slot, None, 0, (0, 0));
    plan.blocks(call, unit.clone(), "squares_end", (1, JOIN_THREADS, 0), end)?;
    for (x, out) in call.inputs.iter().zip(&call.outputs) {
        let count = x.shape.elements() as u64;
        let params = params(out.slot, Some(x.slot), 0, (count, 0));
        plan.threads(call, unit.clone(), "scaled", count, params)?;
    }
    Ok(())
}
