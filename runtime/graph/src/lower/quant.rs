//! Quantised numbers.

use innkeeper_kernels::{Op, Quant};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, operand, optional};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "DynamicQuantizeLinear" => dynamic,
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "MatMulInteger" => matmul,
        _ => return None,
    })
}

fn dynamic(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    m.emit_all(Op::Quant(Quant::Dynamic), &[operand(inputs, 0)?])
}

fn no_blocks(node: &Node) -> Result<(), Fail> {
    match node.int("block_size", 0)? {
        0 => Ok(()),
        size => Err(Fail::Unsupported(format!("blocks of {size}"))),
    }
}

fn quantize(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    no_blocks(node)?;
    let zero = optional(inputs, 2);
    let to = match (zero, node.int("output_dtype", 0)?) {
        (Some(zero), _) => m.dtype(zero),
        (None, 0) => DType::Uint8,
        (None, to) => crate::weights::dtype(to).map_err(Fail::Unsupported)?,
    };
    let op = Quant::Quantize { to, axis: node.int("axis", 1)?, zero_point: zero.is_some() };
    let operands: Vec<Val> =
        [operand(inputs, 0)?, operand(inputs, 1)?].into_iter().chain(zero).collect();
    Ok(vec![m.emit(Op::Quant(op), &operands)?])
}

fn dequantize(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    no_blocks(node)?;
    let zero = optional(inputs, 2);
    let op = Quant::Dequantize { axis: node.int("axis", 1)?, zero_point: zero.is_some() };
    let operands: Vec<Val> =
        [operand(inputs, 0)?, operand(inputs, 1)?].into_iter().chain(zero).collect();
    Ok(vec![m.emit(Op::Quant(op), &operands)?])
}

fn matmul(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    if m.rank(b) != 2 {
        return Err(invalid("wants a matrix on the right"));
    }
    let (a_zero, b_zero) = (optional(inputs, 2), optional(inputs, 3));
    let op = Quant::MatMul { a_zero: a_zero.is_some(), b_zero: b_zero.is_some() };
    let operands: Vec<Val> = [a, b].into_iter().chain(a_zero).chain(b_zero).collect();
    Ok(vec![m.emit(Op::Quant(op), &operands)?])
}
