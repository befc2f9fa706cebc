//! Operators that make tensors from attributes and shapes.

use innkeeper_kernels::Op;
use innkeeper_tensor::{DType, Tensor};

use super::{Lower, Lowered, cast, operand};
use crate::error::{Fail, invalid};
use crate::ir::{Attr, Node};
use crate::machine::{Machine, Val, numbers};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "Constant" => constant,
        "ConstantOfShape" => constant_of_shape,
        "Shape" => shape,
        "Size" => size,
        "Range" => range,
        "EyeLike" => eye_like,
        _ => return None,
    })
}

fn constant(m: &mut Machine<'_>, node: &Node, _: &[Option<Val>]) -> Lowered {
    let tensor = |tensor: Result<Tensor, innkeeper_tensor::TensorError>| tensor.map_err(invalid);
    let Some((name, attr)) = node.attributes.iter().find(|(name, _)| name.starts_with("value"))
    else {
        return Err(Fail::Unsupported("a constant without a dense value".into()));
    };
    let made = match attr {
        Attr::Tensor(tensor) => tensor.clone(),
        Attr::Int(value) => tensor(Tensor::from_vec(&[], vec![*value]))?,
        Attr::Float(value) => tensor(Tensor::from_vec(&[], vec![*value]))?,
        Attr::Ints(values) => tensor(Tensor::from_vec(&[values.len()], values.clone()))?,
        Attr::Floats(values) => tensor(Tensor::from_vec(&[values.len()], values.clone()))?,
        Attr::Text(text) => tensor(Tensor::from_strings(&[], &[text]))?,
        Attr::Texts(texts) => tensor(Tensor::from_strings(&[texts.len()], texts))?,
        Attr::Graph(_) => return Err(invalid(format_args!("attribute {name:?} is a graph"))),
    };
    Ok(vec![m.constant(made)])
}

/// The sizes that an operand gives.
pub(super) fn sizes(m: &Machine<'_>, val: Val) -> Result<Vec<usize>, Fail> {
    let size = |size: i64| {
        usize::try_from(size)
            .map_err(|_| invalid(format_args!("a size is {size}; it must not be negative")))
    };
    m.ints(val)?.into_iter().map(size).collect()
}

fn constant_of_shape(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let shape = sizes(m, operand(inputs, 0)?)?;
    let (dtype, value) = match node.tensor("value")? {
        None => (DType::Fp32, 0.0),
        Some(tensor) => match numbers(tensor)?[..] {
            [value] => (tensor.dtype(), value),
            _ => return Err(invalid("the value must be one number")),
        },
    };
    Ok(vec![m.emit(Op::Full { dtype, shape, value }, &[])?])
}

fn shape(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let dims: Vec<i64> = m.dims(operand(inputs, 0)?).iter().map(|&dim| dim as i64).collect();
    let rank = dims.len() as i64;
    let clamped = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank);
    let start = clamped(node.int("start", 0)?) as usize;
    let end = clamped(node.int_if("end")?.unwrap_or(rank)) as usize;
    let part = dims.get(start..end).unwrap_or_default().to_vec();
    Ok(vec![m.list(&[part.len()], part)?])
}

fn size(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let elements = m.shape(operand(inputs, 0)?).elements() as i64;
    Ok(vec![m.list(&[], vec![elements])?])
}

fn range(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let vals = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    let dtype = m.dtype(vals[0]);
    let [start, limit, step] = vals.map(|val| m.one_number(val));
    let (start, limit, step) = (start?, limit?, step?);
    if step == 0.0 || !(start.is_finite() && limit.is_finite() && step.is_finite()) {
        return Err(invalid(format_args!("cannot count from {start} to {limit} by {step}")));
    }
    let count = ((limit - start) / step).ceil().max(0.0);
    // What does not fit is refused by the operation itself.
    let count = count as usize;
    Ok(vec![m.emit(Op::Arange { dtype, start, step, count }, &[])?])
}

fn eye_like(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let [rows, columns] = *m.dims(x) else { return Err(invalid("wants a matrix")) };
    let dtype = match node.int_if("dtype")? {
        Some(dtype) => crate::weights::dtype(dtype).map_err(Fail::Unsupported)?,
        None => m.dtype(x),
    };
    let k = node.int("k", 0)?;
    let arange = |count: usize, start: i64| Op::Arange {
        dtype: DType::Int64,
        start: start as f64,
        step: 1.0,
        count,
    };
    let down = m.emit(arange(rows, k), &[])?;
    let down = super::reshape(m, down, &[rows, 1])?;
    let across = m.emit(arange(columns, 0), &[])?;
    let eye = m.emit(Op::Compare(innkeeper_kernels::Compare::Equal), &[down, across])?;
    Ok(vec![cast(m, eye, dtype)?])
}
