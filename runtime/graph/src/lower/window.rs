//! Convolutions and pools.

use innkeeper_kernels::{Activation, Conv, ConvTranspose, Op, PoolKind, Pooling, Window};

use super::{Lower, Lowered, operand, optional};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "Conv" => conv,
        "ConvTranspose" => transpose,
        "MaxPool" | "AveragePool" | "LpPool" => pool,
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => global,
        _ => return None,
    })
}

fn sizes(node: &Node, name: &str) -> Result<Option<Vec<usize>>, Fail> {
    let Some(list) = node.ints(name)? else { return Ok(None) };
    let size = |&size: &i64| {
        usize::try_from(size).ok().filter(|&size| size <= u32::MAX as usize).ok_or_else(|| {
            Fail::Unsupported(format!("{name} of {size}: only sizes that are not negative"))
        })
    };
    list.iter().map(size).collect::<Result<Vec<_>, _>>().map(Some)
}

/// Where windows of this size lie over x.
fn window(m: &Machine<'_>, node: &Node, x: Val, kernel: &[usize]) -> Result<Window, Fail> {
    let rank = m.rank(x).checked_sub(2).filter(|&rank| rank > 0 && rank == kernel.len());
    let rank = rank.ok_or_else(|| {
        invalid(format_args!(
            "a window of {} dimensions does not fit an operand of shape {}",
            kernel.len(),
            m.shape(x)
        ))
    })?;
    let ones = || vec![1; rank];
    let strides = sizes(node, "strides")?.unwrap_or_else(ones);
    let dilations = sizes(node, "dilations")?.unwrap_or_else(ones);
    let pads = sizes(node, "pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
    if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank {
        return Err(invalid("strides, dilations and pads do not fit the window"));
    }
    if strides.contains(&0) || dilations.contains(&0) {
        return Err(invalid("strides and dilations must be 1 or more"));
    }
    let ceil = node.flag("ceil_mode", false)?;
    let mut window = Window { strides, pads, dilations, ceil };
    let upper = match node.text("auto_pad", "NOTSET")? {
        "NOTSET" | "" => return Ok(window),
        "VALID" => {
            window.pads = vec![0; 2 * rank];
            return Ok(window);
        }
        "SAME_UPPER" => true,
        "SAME_LOWER" => false,
        other => return Err(invalid(format_args!("auto_pad is {other:?}"))),
    };
    for (at, &kernel) in kernel.iter().enumerate() {
        let (size, stride) = (m.dims(x)[at + 2], window.strides[at]);
        let reach = reach(kernel, window.dilations[at])?;
        let covered =
            (size.div_ceil(stride).max(1) - 1).saturating_mul(stride).saturating_add(reach);
        let total = covered.saturating_sub(size);
        let less = total / 2;
        let more = total - less;
        (window.pads[at], window.pads[at + rank]) = if upper { (less, more) } else { (more, less) };
    }
    window.ceil = false;
    Ok(window)
}

/// From a window's first element to its last, both counted.
fn reach(kernel: usize, dilation: usize) -> Result<usize, Fail> {
    let reach = kernel.checked_sub(1).and_then(|gaps| gaps.checked_mul(dilation)?.checked_add(1));
    reach.ok_or_else(|| invalid("a window's size must be 1 or more"))
}

fn kernel_of(m: &Machine<'_>, node: &Node, weight: Val) -> Result<Vec<usize>, Fail> {
    let kernel = m.dims(weight).get(2..).unwrap_or_default().to_vec();
    match sizes(node, "kernel_shape")? {
        Some(said) if said != kernel => {
            Err(invalid(format_args!("kernel_shape is {said:?}, the weight's {kernel:?}")))
        }
        _ => Ok(kernel),
    }
}

/// Where the windows of a convolution with this weight lie over x.
pub(super) fn window_of(m: &Machine<'_>, node: &Node, x: Val, weight: Val) -> Result<Window, Fail> {
    window(m, node, x, &kernel_of(m, node, weight)?)
}

pub(super) fn groups(node: &Node) -> Result<usize, Fail> {
    usize::try_from(node.int("group", 1)?).map_err(|_| invalid("group must not be negative"))
}

fn conv(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, weight, bias) = (operand(inputs, 0)?, operand(inputs, 1)?, optional(inputs, 2));
    let op = Conv {
        window: window_of(m, node, x, weight)?,
        groups: groups(node)?,
        bias: bias.is_some(),
        residual: false,
        activation: Activation::None,
    };
    let operands: Vec<Val> = [x, weight].into_iter().chain(bias).collect();
    Ok(vec![m.emit(Op::Conv(op), &operands)?])
}

fn transpose(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, weight, bias) = (operand(inputs, 0)?, operand(inputs, 1)?, optional(inputs, 2));
    let kernel = kernel_of(m, node, weight)?;
    let rank = kernel.len();
    let mut output_pads = sizes(node, "output_padding")?.unwrap_or_else(|| vec![0; rank]);
    let mut window = match node.text("auto_pad", "NOTSET")? {
        "NOTSET" | "" | "VALID" => window(m, node, x, &kernel)?,
        _ => Window {
            strides: sizes(node, "strides")?.unwrap_or_else(|| vec![1; rank]),
            dilations: sizes(node, "dilations")?.unwrap_or_else(|| vec![1; rank]),
            pads: vec![0; 2 * rank],
            ceil: false,
        },
    };
    let wanted = sizes(node, "output_shape")?;
    let auto = node.text("auto_pad", "NOTSET")?;
    let same = auto.starts_with("SAME");
    if m.rank(x) != rank + 2 || output_pads.len() != rank || window.strides.len() != rank {
        return Err(invalid("the attributes do not fit the weight's dimensions"));
    }
    if same || wanted.is_some() {
        for at in 0..rank {
            let (size, stride) = (m.dims(x)[at + 2], window.strides[at]);
            let wanted = match &wanted {
                Some(list) => *list
                    .get(list.len().saturating_sub(rank) + at)
                    .ok_or_else(|| invalid("output_shape does not fit"))?,
                None => size.saturating_mul(stride),
            };
            let reach = reach(kernel[at], window.dilations[at])?;
            let full = (size.max(1) - 1).saturating_mul(stride) + reach + output_pads[at];
            // What is wanted beyond what the windows reach is padding of the result.
            output_pads[at] += wanted.saturating_sub(full);
            let total = full.saturating_sub(wanted);
            let half = total / 2;
            let (begin, end) = match auto {
                "SAME_UPPER" => (half, total - half),
                _ => (total - half, half),
            };
            (window.pads[at], window.pads[at + rank]) = (begin, end);
        }
    }
    let op = ConvTranspose { window, output_pads, groups: groups(node)?, bias: bias.is_some() };
    let operands: Vec<Val> = [x, weight].into_iter().chain(bias).collect();
    Ok(vec![m.emit(Op::ConvTranspose(op), &operands)?])
}

fn pool(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let (kernel, window) = pooled(m, node, x)?;
    let wants_indices = node.outputs.get(1).is_some_and(Option::is_some);
    if node.int("storage_order", 0)? != 0 && wants_indices {
        return Err(Fail::Unsupported("indices in column-major order".into()));
    }
    let kind = match node.op_type.as_str() {
        "MaxPool" => PoolKind::Max { indices: wants_indices },
        "AveragePool" => {
            PoolKind::Average { count_include_pad: node.flag("count_include_pad", false)? }
        }
        _ => PoolKind::Lp { p: power(node)? },
    };
    m.emit_all(Op::Pool(Pooling { kind, kernel, window }), &[x])
}

/// How long windows are, and where they lie.
pub(super) fn pooled(m: &Machine<'_>, node: &Node, x: Val) -> Result<(Vec<usize>, Window), Fail> {
    let kernel = sizes(node, "kernel_shape")?.ok_or_else(|| invalid("kernel_shape is missing"))?;
    let window = window(m, node, x, &kernel)?;
    Ok((kernel, window))
}

fn power(node: &Node) -> Result<u32, Fail> {
    u32::try_from(node.int("p", 2)?).map_err(|_| invalid("p must be 1 or more"))
}

fn global(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let kind = match node.op_type.as_str() {
        "GlobalMaxPool" => PoolKind::Max { indices: false },
        "GlobalAveragePool" => PoolKind::Average { count_include_pad: false },
        _ => PoolKind::Lp { p: power(node)? },
    };
    let op = Pooling { kind, kernel: Vec::new(), window: Window::default() };
    m.emit_all(Op::Pool(op), &[operand(inputs, 0)?])
}
