//! Operands of convolution and pooling.

use innkeeper_tensor::{DType, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::grad::window::{SPATIAL_MAX, Slide, sliding};
use crate::infer::{Operand, result_shape};
use crate::op::{Conv, ConvTranspose, Op, PoolKind, Pooling};

/// Sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Filter {
    #[allow(dead_code)]
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// Channels that come in and go out of each group.
    pub(crate) depth: usize,
    pub(crate) filters: usize,
    pub(crate) slide: Slide,
}

impl Filter {
    pub(crate) fn of_conv(conv: &Conv, inputs: &[Operand<'_>]) -> Result<(Filter, Shape), OpError> {
        const NAME: &str = "conv";
        let wanted = 2 + usize::from(conv.bias) + usize::from(conv.residual);
        let (dtype, x, weight, rest) = split(NAME, wanted, inputs)?;
        let refuse = || {
            let text = "x must be [n,c,i..] and weight [m,c/groups,k..], and groups divide c and m";
            invalid(NAME, format_args!("{text}; got {x}, {weight} and {} groups", conv.groups))
        };
        let (&[batch, c, ref sizes @ ..], &[m, depth, ref kernel @ ..]) = (x.dims(), weight.dims())
        else {
            return Err(refuse());
        };
        let groups = conv.groups;
        if groups == 0 || depth.checked_mul(groups) != Some(c) || !m.is_multiple_of(groups) {
            return Err(refuse());
        }
        no_ceil(NAME, conv.window.ceil)?;
        let slide = sliding(NAME, &conv.window, kernel, sizes)?;
        let mut dims = vec![batch, m];
        dims.extend(&slide.output[SPATIAL_MAX - sizes.len()..]);
        let result = result_shape(NAME, &dims)?;
        let (bias, residual) = rest.split_at(usize::from(conv.bias));
        of_bias(NAME, dtype, bias, m)?;
        for &(other, residual) in residual {
            dtypes::same(NAME, dtype, other)?;
            if *residual != result {
                let text = format_args!("the residual must be {result}, got {residual}");
                return Err(invalid(NAME, text));
            }
        }
        Ok((Filter { batch, groups, depth, filters: m / groups, slide }, result))
    }

    /// The slide is that of the convolution from the result to x.
    pub(crate) fn of_transpose(
        conv: &ConvTranspose,
        inputs: &[Operand<'_>],
    ) -> Result<(Filter, Shape), OpError> {
        const NAME: &str = "conv-transpose";
        let (dtype, x, weight, bias) = split(NAME, 2 + usize::from(conv.bias), inputs)?;
        let refuse = || {
            let text = "x must be [n,c,i..] and weight [c,m/groups,k..], and groups divide c";
            invalid(NAME, format_args!("{text}; got {x}, {weight} and {} groups", conv.groups))
        };
        let (&[batch, c, ref sizes @ ..], &[channels, filters, ref kernel @ ..]) =
            (x.dims(), weight.dims())
        else {
            return Err(refuse());
        };
        let groups = conv.groups;
        if groups == 0 || c != channels || !c.is_multiple_of(groups) {
            return Err(refuse());
        }
        let m = filters.checked_mul(groups).ok_or_else(refuse)?;
        no_ceil(NAME, conv.window.ceil)?;
        of_bias(NAME, dtype, bias, m)?;
        let rank = sizes.len();
        if !conv.output_pads.is_empty() && conv.output_pads.len() != rank {
            let text =
                format_args!("output_pads must be none or {rank}, got {:?}", conv.output_pads);
            return Err(invalid(NAME, text));
        }
        let mut dims = vec![batch, m];
        for at in 0..sizes.len() {
            dims.push(transposed(conv, kernel, sizes, at).ok_or_else(|| {
                let text = format_args!("spatial dimension {at} of {x} gives nothing for {conv:?}");
                invalid(NAME, text)
            })?);
        }
        let result = result_shape(NAME, &dims)?;
        // Sizes of the result may have windows that x has not, so they are not held against each other.
        let window = crate::Window { pads: Vec::new(), ..conv.window.clone() };
        let free: Vec<usize> = (0..rank)
            .map(|at| reach(conv, kernel, sizes, at))
            .collect::<Option<_>>()
            .ok_or_else(refuse)?;
        let mut slide = sliding(NAME, &window, kernel, &free)?;
        for (at, &size) in sizes.iter().enumerate() {
            let to = SPATIAL_MAX - rank + at;
            slide.input[to] = dims.get(2 + at).copied().unwrap_or(0);
            slide.output[to] = size;
            slide.before[to] = conv.window.pads.get(at).copied().unwrap_or(0);
        }
        Ok((Filter { batch, groups, depth: c / groups, filters, slide }, result))
    }
}

/// The length that x's windows cover.
fn reach(conv: &ConvTranspose, kernel: &[usize], sizes: &[usize], at: usize) -> Option<usize> {
    let of = |list: &[usize]| list.get(at).copied().unwrap_or(1);
    let steps = sizes.get(at)?.checked_sub(1)?.checked_mul(of(&conv.window.strides))?;
    let window = kernel.get(at)?.checked_sub(1)?.checked_mul(of(&conv.window.dilations))?;
    steps.checked_add(window)?.checked_add(1)
}

/// The length of the result's dimension.
fn transposed(conv: &ConvTranspose, kernel: &[usize], sizes: &[usize], at: usize) -> Option<usize> {
    let pad = |at: usize| conv.window.pads.get(at).copied().unwrap_or(0);
    let more = conv.output_pads.get(at).copied().unwrap_or(0);
    reach(conv, kernel, sizes, at)?
        .checked_add(more)?
        .checked_sub(pad(at))?
        .checked_sub(pad(sizes.len() + at))
}

type Split<'a, 'b> = (DType, &'a Shape, &'a Shape, &'b [Operand<'a>]);

/// x and weight, and what else there is.
fn split<'a, 'b>(
    op: &str,
    wanted: usize,
    inputs: &'b [Operand<'a>],
) -> Result<Split<'a, 'b>, OpError> {
    match inputs {
        [(dtype, x), (other, weight), rest @ ..] if inputs.len() == wanted => {
            Class::Floating.check(op, *dtype)?;
            dtypes::same(op, *dtype, *other)?;
            Ok((*dtype, x, weight, rest))
        }
        _ => Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len()))),
    }
}

fn of_bias(op: &str, dtype: DType, bias: &[Operand<'_>], m: usize) -> Result<(), OpError> {
    for &(other, bias) in bias {
        dtypes::same(op, dtype, other)?;
        if bias.dims() != [m] {
            return Err(invalid(op, format_args!("the bias must be [{m}], got {bias}")));
        }
    }
    Ok(())
}

fn no_ceil(op: &str, ceil: bool) -> Result<(), OpError> {
    if ceil {
        Err(invalid(op, "windows end with the operand; ceil is for pooling"))
    } else {
        Ok(())
    }
}

pub(crate) fn pooling(pool: &Pooling, x: &Shape) -> Result<(Slide, Shape), OpError> {
    let op = Op::Pool(pool.clone()).name();
    let &[batch, c, ref sizes @ ..] = x.dims() else {
        return Err(invalid(op, format_args!("x must be [n,c,i..], got {x}")));
    };
    let kernel = if pool.kernel.is_empty() { sizes } else { &pool.kernel };
    let slide = sliding(op, &pool.window, kernel, sizes)?;
    let taps = kernel.iter().try_fold(1usize, |taps, &size| taps.checked_mul(size));
    if taps.is_none_or(|taps| taps > 1 << 40) {
        return Err(invalid(op, format_args!("a window of {kernel:?} is too large")));
    }
    if let PoolKind::Lp { p: 0 } = pool.kind {
        return Err(invalid(op, "p must be 1 or more, got 0"));
    }
    let mut dims = vec![batch, c];
    dims.extend(&slide.output[SPATIAL_MAX - sizes.len()..]);
    Ok((slide, result_shape(op, &dims)?))
}

pub(crate) fn pool(pool: &Pooling, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let op = Op::Pool(pool.clone()).name();
    let &[(dtype, x)] = inputs else {
        return Err(invalid(op, format_args!("takes 1 operand, got {}", inputs.len())));
    };
    let narrow = matches!(dtype, DType::Int8 | DType::Uint8);
    if !(narrow && matches!(pool.kind, PoolKind::Max { .. })) {
        Class::Floating.check(op, dtype)?;
    }
    let (_, shape) = pooling(pool, x)?;
    let mut results = vec![(dtype, shape.clone())];
    if let PoolKind::Max { indices: true } = pool.kind {
        results.push((DType::Int64, shape));
    }
    Ok(results)
}

pub(crate) fn conv(conv: &Conv, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let (_, shape) = Filter::of_conv(conv, inputs)?;
    Ok((inputs.first().map_or(DType::Fp32, |(dtype, _)| *dtype), shape))
}

pub(crate) fn conv_transpose(
    conv: &ConvTranspose,
    inputs: &[Operand<'_>],
) -> Result<(DType, Shape), OpError> {
    let (_, shape) = Filter::of_transpose(conv, inputs)?;
    Ok((inputs.first().map_or(DType::Fp32, |(dtype, _)| *dtype), shape))
}
