//! Products of matrices.

use innkeeper_kernels::{Activation, Binary, Op};

use super::{Lower, Lowered, operand, optional, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "MatMul" => matmul,
        "Gemm" => gemm,
        _ => return None,
    })
}

fn matmul(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    Ok(vec![m.emit(Op::MatMul, &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}

pub(super) fn transposed(m: &mut Machine<'_>, x: Val) -> Result<Val, Fail> {
    m.emit(Op::Transpose { permutation: vec![1, 0] }, &[x])
}

/// alpha a b + beta c, a and b transposed where said.
fn gemm(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (mut a, mut b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    if m.rank(a) != 2 || m.rank(b) != 2 {
        return Err(invalid("wants two matrices"));
    }
    if node.flag("transA", false)? {
        a = transposed(m, a)?;
    }
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let c = optional(inputs, 2).filter(|_| beta != 0.0);
    let b_is_transposed = node.flag("transB", false)?;
    if b_is_transposed && alpha == 1.0 {
        let bias = c.filter(|&c| beta == 1.0 && m.dims(c) == [m.dims(b)[0]]);
        if bias.is_some() || c.is_none() {
            let activation = Activation::None;
            let op = Op::Linear { bias: bias.is_some(), residual: false, activation };
            let operands: Vec<Val> = [a, b].into_iter().chain(bias).collect();
            return Ok(vec![m.emit(op, &operands)?]);
        }
    }
    if b_is_transposed {
        b = transposed(m, b)?;
    }
    let mut product = m.emit(Op::MatMul, &[a, b])?;
    if alpha != 1.0 {
        product = scaled(m, product, alpha)?;
    }
    let Some(mut c) = c else { return Ok(vec![product]) };
    if beta != 1.0 {
        c = scaled(m, c, beta)?;
    }
    let dims = m.dims(product).to_vec();
    let sum = m.emit(Op::Binary(Binary::Add), &[product, c])?;
    if m.dims(sum) != dims {
        return Err(invalid("c must broadcast to the product's shape"));
    }
    Ok(vec![sum])
}

fn scaled(m: &mut Machine<'_>, x: Val, factor: f32) -> Result<Val, Fail> {
    let factor = scalar(m, m.dtype(x), f64::from(factor))?;
    m.emit(Op::Binary(Binary::Mul), &[x, factor])
}
