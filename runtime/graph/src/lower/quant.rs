//! Quantised numbers.

use innkeeper_kernels::{Activation, Binary, Conv, Curve, Move, Op, Quant, Unary};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, axis, cast, operand, optional, reshape, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "DynamicQuantizeLinear" => dynamic,
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "MatMulInteger" => matmul,
        "QLinearMatMul" => linear_matmul,
        "ConvInteger" => conv_integer,
        "QLinearConv" => linear_conv,
        _ => return None,
    })
}

fn dynamic(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    m.emit_all(Op::Quant(Quant::Dynamic), &[operand(inputs, 0)?])
}

/// Scales and zero points of a tensor.
pub(super) struct Steps {
    pub(super) scale: Val,
    pub(super) zero: Option<Val>,
    pub(super) axis: i64,
    /// How many positions along the axis share a scale; 0 where each has its own, or all have one.
    pub(super) block: usize,
}

fn steps(node: &Node, inputs: &[Option<Val>]) -> Result<Steps, Fail> {
    let block = node.int("block_size", 0)?;
    let block = usize::try_from(block).map_err(|_| invalid(format_args!("blocks of {block}")))?;
    let (scale, zero) = (operand(inputs, 1)?, optional(inputs, 2));
    Ok(Steps { scale, zero, axis: node.int("axis", 1)?, block })
}

/// The types of 4 bits, which are held in 8.
fn narrow_range(data_type: i64) -> Option<(f64, f64)> {
    match data_type {
        21 => Some((0.0, 15.0)),
        22 => Some((-8.0, 7.0)),
        _ => None,
    }
}

fn quantize(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let steps = steps(node, inputs)?;
    let said = node.int("output_dtype", 0)?;
    let to = match (steps.zero, said) {
        (Some(zero), _) => m.dtype(zero),
        (None, 0) => DType::Uint8,
        (None, to) => crate::weights::dtype(to).map_err(Fail::Unsupported)?,
    };
    let mut y = quantized(m, x, &steps, to)?;
    if let Some((low, high)) = narrow_range(said) {
        let (min, max) = (Some(low), Some(high));
        y = m.emit(Op::Curve(Curve::Clip { min, max }), &[y])?;
    }
    Ok(vec![y])
}

pub(super) fn quantized(
    m: &mut Machine<'_>,
    x: Val,
    steps: &Steps,
    to: DType,
) -> Result<Val, Fail> {
    let simple = steps.block == 0 && [m.dtype(x), m.dtype(steps.scale)] == [DType::Fp32; 2];
    if simple && matches!(to, DType::Uint8 | DType::Int8) {
        let (axis, zero_point) = (steps.axis, steps.zero.is_some());
        let op = Quant::Quantize { to, axis, zero_point };
        let operands: Vec<Val> = [x, steps.scale].into_iter().chain(steps.zero).collect();
        return m.emit(Op::Quant(op), &operands);
    }
    let (low, high) = match to {
        DType::Uint8 => (0.0, 255.0),
        DType::Int8 => (-128.0, 127.0),
        DType::Uint16 => (0.0, 65_535.0),
        DType::Int16 => (-32_768.0, 32_767.0),
        other => return Err(Fail::Unsupported(format!("quantising to {other}"))),
    };
    let (scale, zero) = spread(m, x, steps)?;
    let x = cast(m, x, DType::Fp32)?;
    let x = m.emit(Op::Binary(Binary::Div), &[x, scale])?;
    let mut x = m.emit(Op::Unary(Unary::Round), &[x])?;
    if let Some(zero) = zero {
        x = m.emit(Op::Binary(Binary::Add), &[x, zero])?;
    }
    let x = m.emit(Op::Curve(Curve::Clip { min: Some(low), max: Some(high) }), &[x])?;
    cast(m, x, to)
}

fn dequantize(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let steps = steps(node, inputs)?;
    let to = match node.int("output_dtype", 0)? {
        0 => m.dtype(steps.scale),
        to => crate::weights::dtype(to).map_err(Fail::Unsupported)?,
    };
    let x = dequantized(m, operand(inputs, 0)?, &steps)?;
    Ok(vec![cast(m, x, to)?])
}

/// (x - zero point) * scale, FP32.
pub(super) fn dequantized(m: &mut Machine<'_>, x: Val, steps: &Steps) -> Result<Val, Fail> {
    let known = matches!(m.dtype(x), DType::Uint8 | DType::Int8 | DType::Int32);
    if known && steps.block == 0 && m.dtype(steps.scale) == DType::Fp32 {
        let op = Quant::Dequantize { axis: steps.axis, zero_point: steps.zero.is_some() };
        let operands: Vec<Val> = [x, steps.scale].into_iter().chain(steps.zero).collect();
        return m.emit(Op::Quant(op), &operands);
    }
    let (scale, zero) = spread(m, x, steps)?;
    let mut x = cast(m, x, DType::Fp32)?;
    if let Some(zero) = zero {
        x = m.emit(Op::Binary(Binary::Sub), &[x, zero])?;
    }
    m.emit(Op::Binary(Binary::Mul), &[x, scale])
}

/// Scales and zero points as FP32 that broadcast to x.
fn spread(m: &mut Machine<'_>, x: Val, steps: &Steps) -> Result<(Val, Option<Val>), Fail> {
    let dims = m.dims(x).to_vec();
    let mut spread = |steps_of: Val| -> Result<Val, Fail> {
        let of = cast(m, steps_of, DType::Fp32)?;
        if m.shape(of).elements() == 1 {
            return reshape(m, of, &[]);
        }
        let at = axis(steps.axis, dims.len())?;
        if steps.block == 0 {
            let mut row = vec![1; dims.len()];
            row[at] = m.shape(of).elements();
            return reshape(m, of, &row);
        }
        // Each step again for each position of its block; the last block may be cut.
        let blocks = dims[at].div_ceil(steps.block);
        let mut wide = dims.clone();
        wide[at] = blocks;
        if m.dims(of) != wide {
            return Err(invalid(format_args!(
                "{} scales for {} in blocks of {}",
                m.shape(of),
                m.shape(x),
                steps.block
            )));
        }
        wide.insert(at + 1, 1);
        let of = reshape(m, of, &wide)?;
        wide[at + 1] = steps.block;
        let of = m.emit(Op::Move(Move::Expand { shape: wide.clone() }), &[of])?;
        wide.remove(at + 1);
        wide[at] = blocks * steps.block;
        let of = reshape(m, of, &wide)?;
        m.emit(Op::Slice { axis: at as i64, start: 0, end: dims[at] as i64 }, &[of])
    };
    let scale = spread(steps.scale)?;
    Ok((scale, steps.zero.map(spread).transpose()?))
}

fn matmul(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let zeros = [optional(inputs, 2), optional(inputs, 3)];
    Ok(vec![integer(m, operand(inputs, 0)?, operand(inputs, 1)?, zeros)?])
}

/// The product of bytes less their zero points, INT32.
pub(super) fn integer(
    m: &mut Machine<'_>,
    a: Val,
    b: Val,
    zeros: [Option<Val>; 2],
) -> Result<Val, Fail> {
    let [a_zero, b_zero] = zeros;
    let one = |m: &Machine<'_>, zero: Option<Val>| zero.is_none_or(|z| m.shape(z).elements() == 1);
    if m.rank(b) == 2 && (m.rank(a) == 2 || one(m, a_zero)) && m.rank(a) >= 2 {
        let op = Quant::MatMul { a_zero: a_zero.is_some(), b_zero: b_zero.is_some() };
        let operands: Vec<Val> = [a, b].into_iter().chain(a_zero).chain(b_zero).collect();
        return m.emit(Op::Quant(op), &operands);
    }
    // FP64 holds every such sum; a zero point for each row or column becomes a column or a row.
    let mut sides = Vec::with_capacity(2);
    for (x, zero, is_left) in [(a, a_zero, true), (b, b_zero, false)] {
        let mut wide = cast(m, x, DType::Fp64)?;
        if let Some(zero) = zero {
            let mut zero = cast(m, zero, DType::Fp64)?;
            if is_left && m.rank(zero) == 1 && m.shape(zero).elements() > 1 {
                let rows = m.shape(zero).elements();
                zero = reshape(m, zero, &[rows, 1])?;
            }
            wide = m.emit(Op::Binary(Binary::Sub), &[wide, zero])?;
        }
        if m.shape(wide) != m.shape(x) {
            return Err(invalid("a zero point must broadcast to its operand"));
        }
        sides.push(wide);
    }
    let product = m.emit(Op::MatMul, &sides)?;
    cast(m, product, DType::Int32)
}

/// a, its scale and zero point, b, the same, the result's.
fn linear_matmul(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let at = |index| operand(inputs, index);
    let product = integer(m, at(0)?, at(3)?, [Some(at(2)?), Some(at(5)?)])?;
    let wide = cast(m, product, DType::Fp32)?;
    // A scale for each row of a, or for each column of b.
    let mut factor = cast(m, at(1)?, DType::Fp32)?;
    let rows = m.shape(factor).elements();
    if m.rank(factor) == 1 && rows > 1 {
        factor = reshape(m, factor, &[rows, 1])?;
    }
    let of_b = cast(m, at(4)?, DType::Fp32)?;
    let factor = m.emit(Op::Binary(Binary::Mul), &[factor, of_b])?;
    let x = m.emit(Op::Binary(Binary::Mul), &[wide, factor])?;
    Ok(vec![requantized(m, x, at(6)?, at(7)?)?])
}

fn requantized(m: &mut Machine<'_>, x: Val, scale: Val, zero: Val) -> Result<Val, Fail> {
    let to = m.dtype(zero);
    quantized(m, x, &Steps { scale, zero: Some(zero), axis: 1, block: 0 }, to)
}

/// A byte's difference to its zero point, which may be one for each position along the first dimension.
fn centred(m: &mut Machine<'_>, x: Val, zero: Option<Val>, to: DType) -> Result<Val, Fail> {
    let wide = cast(m, x, to)?;
    let Some(zero) = zero else { return Ok(wide) };
    let mut zero = cast(m, zero, to)?;
    let count = m.shape(zero).elements();
    if count > 1 {
        let mut dims = vec![1; m.rank(x)];
        *dims.first_mut().ok_or_else(|| invalid("wants dimensions"))? = count;
        zero = reshape(m, zero, &dims)?;
    } else {
        zero = reshape(m, zero, &[])?;
    }
    m.emit(Op::Binary(Binary::Sub), &[wide, zero])
}

/// The convolution of x and weight less their zero points.
fn convolved(
    m: &mut Machine<'_>,
    node: &Node,
    [x, weight]: [Val; 2],
    zeros: [Option<Val>; 2],
    to: DType,
) -> Result<Val, Fail> {
    let window = super::window::window_of(m, node, x, weight)?;
    let groups = super::window::groups(node)?;
    let (x, weight) = (centred(m, x, zeros[0], to)?, centred(m, weight, zeros[1], to)?);
    let activation = Activation::None;
    let op = Conv { window, groups, bias: false, residual: false, activation };
    m.emit(Op::Conv(op), &[x, weight])
}

/// Sums of products of bytes up to this are exact in FP32.
const EXACT_SUM: usize = 1 << 24;

fn conv_integer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let depth: usize = m.dims(weight).iter().skip(1).product();
    let exact = depth.saturating_mul(255 * 255) <= EXACT_SUM;
    let to = if exact { DType::Fp32 } else { DType::Fp64 };
    let zeros = [optional(inputs, 2), optional(inputs, 3)];
    let y = convolved(m, node, [x, weight], zeros, to)?;
    Ok(vec![cast(m, y, DType::Int32)?])
}

/// x, its scale and zero point, weight, the same, the result's, bias (INT32).
fn linear_conv(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let at = |index| operand(inputs, index);
    let zeros = [Some(at(2)?), Some(at(5)?)];
    let mut y = convolved(m, node, [at(0)?, at(3)?], zeros, DType::Fp32)?;
    let channels = m.dims(y).get(1).copied().unwrap_or(1);
    let mut column = vec![1; m.rank(y).saturating_sub(1)];
    if let Some(first) = column.first_mut() {
        *first = channels;
    }
    if let Some(bias) = optional(inputs, 8) {
        let bias = cast(m, bias, DType::Fp32)?;
        let bias = reshape(m, bias, &column)?;
        y = m.emit(Op::Binary(Binary::Add), &[y, bias])?;
    }
    let mut factor = m.emit(Op::Binary(Binary::Mul), &[at(1)?, at(4)?])?;
    if m.shape(factor).elements() > 1 {
        factor = reshape(m, factor, &column)?;
    }
    let y = m.emit(Op::Binary(Binary::Mul), &[y, factor])?;
    Ok(vec![requantized(m, y, at(6)?, at(7)?)?])
}

/// A whole number in 4 bits, as it wraps around, of one that any integer type holds.
pub(super) fn wrapped(m: &mut Machine<'_>, x: Val, signed: bool) -> Result<Val, Fail> {
    let x = cast(m, x, DType::Int64)?;
    let low = scalar(m, DType::Int64, 15.0)?;
    let mut x = m.emit(Op::Binary(Binary::BitAnd), &[x, low])?;
    if signed {
        let sign = scalar(m, DType::Int64, 8.0)?;
        x = m.emit(Op::Binary(Binary::BitXor), &[x, sign])?;
        x = m.emit(Op::Binary(Binary::Sub), &[x, sign])?;
    }
    cast(m, x, if signed { DType::Int8 } else { DType::Uint8 })
}
