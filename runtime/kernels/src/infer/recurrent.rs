//! Shapes of recurrent layers.

use innkeeper_tensor::{DType, Shape};

use crate::error::{invalid, unsupported};
use crate::infer::{Operand, dtypes, result_shape};
use crate::{Cell, OpError, Recurrent};

/// How large everything is.
pub(crate) struct Sizes {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    /// Elements of a state.
    pub(crate) width: usize,
    /// How many operands there are, without lengths.
    pub(crate) fixed: usize,
}

pub(crate) fn sizes(op: &Recurrent, inputs: &[Operand<'_>]) -> Result<Sizes, OpError> {
    let (name, cell) = (op.name(), op.cell);
    if op.peepholes && cell != Cell::Lstm {
        return Err(invalid(name, "only lstm has peepholes"));
    }
    let split = cell == Cell::Gru { after: false };
    let fixed = 3 + [split, op.bias, cell == Cell::Lstm, op.peepholes]
        .iter()
        .map(|&one| usize::from(one))
        .sum::<usize>();
    let wanted = fixed + usize::from(op.lengths);
    let ([x, state], true) = (
        [inputs.first(), inputs.get(2 + usize::from(split) + usize::from(op.bias))],
        inputs.len() == wanted,
    ) else {
        return Err(invalid(name, format_args!("takes {wanted} operands, got {}", inputs.len())));
    };
    let (Some((_, x)), Some((_, state))) = (x, state) else {
        return Err(invalid(name, format_args!("takes {wanted} operands")));
    };
    let (&[steps, batch, all], &[same, width]) = (x.dims(), state.dims()) else {
        let text = format_args!("x must be [t,b,gates*h] and the state [b,h], got {x} and {state}");
        return Err(invalid(name, text));
    };
    let gates = cell.gates();
    let wide = gates.checked_mul(width).filter(|&wide| wide == all && same == batch);
    let Some(wide) = wide else {
        let text = format_args!("x {x} and state {state} must be [t,b,{gates}*h] and [b,h]");
        return Err(invalid(name, text));
    };
    let mut dims: Vec<Vec<usize>> = vec![vec![steps, batch, wide]];
    if split {
        dims.extend([vec![2 * width, width], vec![width, width]]);
    } else {
        dims.push(vec![wide, width]);
    }
    if op.bias {
        dims.push(vec![wide]);
    }
    dims.push(vec![batch, width]);
    if cell == Cell::Lstm {
        dims.push(vec![batch, width]);
    }
    if op.peepholes {
        dims.push(vec![3 * width]);
    }
    for (index, ((dtype, got), dims)) in inputs.iter().zip(&dims).enumerate() {
        if *dtype != DType::Fp32 {
            return Err(unsupported(name, format_args!("takes FP32, got {dtype}; cast first")));
        }
        if got.dims() != dims {
            let text = format_args!("operand {index} must be {dims:?}, got {got}");
            return Err(invalid(name, text));
        }
    }
    if op.lengths
        && let Some((dtype, lengths)) = inputs.last()
    {
        dtypes::index(name, *dtype)?;
        if lengths.dims() != [batch] {
            return Err(invalid(name, format_args!("lengths must be [{batch}], got {lengths}")));
        }
    }
    Ok(Sizes { steps, batch, width, fixed })
}

pub(crate) fn recurrent(
    op: &Recurrent,
    inputs: &[Operand<'_>],
) -> Result<Vec<(DType, Shape)>, OpError> {
    let Sizes { steps, batch, width, .. } = sizes(op, inputs)?;
    let of = |dims: &[usize]| Ok::<_, OpError>((DType::Fp32, result_shape(op.name(), dims)?));
    let mut results = vec![of(&[steps, batch, width])?, of(&[batch, width])?];
    if op.cell == Cell::Lstm {
        results.push(of(&[batch, width])?);
    }
    Ok(results)
}
