//! What ONNX Runtime's quantiser writes beyond ONNX: operators of the domain com.microsoft on bytes. All but the product
//! are worked out in FP32 between their operands' and their result's steps.

use innkeeper_kernels::{Activation, Binary, Op, PoolKind, Pooling, Quant, Unary, Window};
use innkeeper_tensor::DType;

use super::quant::{Steps, dequantized, integer, quantized};
use super::{Lower, Lowered, cast, operand, optional, reshape, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "QLinearAdd" | "QLinearMul" => two,
        "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearSoftmax" => one,
        "QLinearGlobalAveragePool" | "QLinearAveragePool" => pool,
        "QLinearConcat" => concat,
        "QGemm" => gemm,
        "MatMulNBits" => few_bits,
        _ => return None,
    })
}

/// The steps of a whole tensor: operand `at` and the one after it.
fn steps(inputs: &[Option<Val>], at: usize) -> Result<Steps, Fail> {
    let (scale, zero) = (operand(inputs, at)?, optional(inputs, at + 1));
    Ok(Steps { scale, zero, axis: 1, block: 0 })
}

/// Operand `at`, whose scale and zero point follow it, as FP32.
fn wide(m: &mut Machine<'_>, inputs: &[Option<Val>], at: usize) -> Result<Val, Fail> {
    let (x, steps) = (operand(inputs, at)?, steps(inputs, at + 1)?);
    dequantized(m, x, &steps)
}

/// x in the steps that operand `at` and the one after it are, of the same dtype as operand 0.
fn narrow(m: &mut Machine<'_>, x: Val, inputs: &[Option<Val>], at: usize) -> Lowered {
    let steps = steps(inputs, at)?;
    let to =
        steps.zero.map_or_else(|| operand(inputs, 0).map(|x| m.dtype(x)), |zero| Ok(m.dtype(zero)));
    Ok(vec![quantized(m, x, &steps, to?)?])
}

fn two(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (a, b) = (wide(m, inputs, 0)?, wide(m, inputs, 3)?);
    let op = if node.op_type == "QLinearAdd" { Binary::Add } else { Binary::Mul };
    let y = m.emit(Op::Binary(op), &[a, b])?;
    narrow(m, y, inputs, 6)
}

fn one(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = wide(m, inputs, 0)?;
    let op = match node.op_type.as_str() {
        "QLinearSigmoid" => Op::Unary(Unary::Sigmoid),
        "QLinearLeakyRelu" => {
            let alpha = f64::from(node.float("alpha", 0.01)?);
            Op::Curve(innkeeper_kernels::Curve::LeakyRelu { alpha })
        }
        _ if node.int("opset", 13)? < 13 => {
            return Err(Fail::Unsupported("softmax as it was before opset 13".into()));
        }
        _ => Op::Softmax { axis: node.int("axis", -1)? },
    };
    let y = m.emit(op, &[x])?;
    narrow(m, y, inputs, 3)
}

fn pool(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    if node.flag("channels_last", false)? {
        return Err(Fail::Unsupported("channels_last".into()));
    }
    let x = wide(m, inputs, 0)?;
    let kind = PoolKind::Average { count_include_pad: node.flag("count_include_pad", false)? };
    let op = if node.op_type == "QLinearGlobalAveragePool" {
        Pooling { kind, kernel: Vec::new(), window: Window::default() }
    } else {
        let (kernel, window) = super::window::pooled(m, node, x)?;
        Pooling { kind, kernel, window }
    };
    let y = m.emit(Op::Pool(op), &[x])?;
    narrow(m, y, inputs, 3)
}

/// The result's scale and zero point, and then each part with its own.
fn concat(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let axis = node.int_if("axis")?.ok_or_else(|| invalid("the attribute axis is missing"))?;
    let mut parts = Vec::with_capacity(inputs.len() / 3);
    for at in (2..inputs.len()).step_by(3) {
        parts.push(wide(m, inputs, at)?);
    }
    let y = m.emit(Op::Concat { axis }, &parts)?;
    let steps = steps(inputs, 0)?;
    let zero = operand(inputs, 1)?;
    let to = m.dtype(zero);
    Ok(vec![quantized(m, y, &steps, to)?])
}

/// alpha a b + c in bytes, with a and b transposed where said; FP32 without steps for the result.
fn gemm(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (mut a, mut b) = (operand(inputs, 0)?, operand(inputs, 3)?);
    if m.rank(a) != 2 || m.rank(b) != 2 {
        return Err(invalid("wants two matrices"));
    }
    for (side, name) in [(&mut a, "transA"), (&mut b, "transB")] {
        if node.flag(name, false)? {
            *side = super::product::transposed(m, *side)?;
        }
    }
    let mut sum = integer(m, a, b, [optional(inputs, 2), optional(inputs, 5)])?;
    if let Some(c) = optional(inputs, 6) {
        sum = m.emit(Op::Binary(Binary::Add), &[sum, c])?;
    }
    let sum = cast(m, sum, DType::Fp32)?;
    let mut factor =
        m.emit(Op::Binary(Binary::Mul), &[operand(inputs, 1)?, operand(inputs, 4)?])?;
    if m.shape(factor).elements() == 1 {
        factor = reshape(m, factor, &[])?;
    }
    let alpha = scalar(m, DType::Fp32, f64::from(node.float("alpha", 1.0)?))?;
    let factor = m.emit(Op::Binary(Binary::Mul), &[factor, alpha])?;
    let y = m.emit(Op::Binary(Binary::Mul), &[sum, factor])?;
    match optional(inputs, 7) {
        Some(_) => narrow(m, y, inputs, 7),
        None => Ok(vec![y]),
    }
}

/// x W^T, where W `[N, K]` is kept in 4 bits with a scale for each block of a row.
fn few_bits(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    if node.int("bits", 4)? != 4 {
        return Err(Fail::Unsupported(format!("{} bits; there is 4", node.int("bits", 4)?)));
    }
    if optional(inputs, 3).is_some() || optional(inputs, 4).is_some() {
        return Err(Fail::Unsupported("zero points and groups by index".into()));
    }
    let size = |name: &str| -> Result<usize, Fail> {
        let size = node.int(name, 0)?;
        usize::try_from(size).ok().filter(|&size| size > 0).ok_or_else(|| {
            invalid(format_args!("the attribute {name} is {size}; wanted 1 or more"))
        })
    };
    let (k, n, group) = (size("K")?, size("N")?, size("block_size")?);
    if !k.is_multiple_of(group) {
        return Err(Fail::Unsupported(format!("rows of {k} in blocks of {group}")));
    }
    let (x, weight, scales) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let weight = reshape(m, weight, &[n, k / 2])?;
    let scales = reshape(m, scales, &[n, k / group])?;
    let bias = optional(inputs, 5);
    let op = Quant::Linear4 {
        group,
        bias: bias.is_some(),
        residual: false,
        activation: Activation::None,
    };
    let operands: Vec<Val> = [x, weight, scales].into_iter().chain(bias).collect();
    Ok(vec![m.emit(Op::Quant(op), &operands)?])
}
