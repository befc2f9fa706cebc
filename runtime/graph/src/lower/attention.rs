//! Attention and its positions, as operators of their own (opset 23).

use innkeeper_kernels::{Attention, Op, Rope};

use super::{Lower, Lowered, operand, optional, reshape};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "Attention" => attention,
        "RotaryEmbedding" => rotary,
        _ => return None,
    })
}

fn count(node: &Node, name: &str) -> Result<Option<usize>, Fail> {
    let Some(count) = node.int_if(name)? else { return Ok(None) };
    match usize::try_from(count) {
        Ok(0) => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(invalid(format_args!("{name} is {count}"))),
    }
}

/// q, k, v, mask, past keys, past values.
fn attention(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    if node.float("softcap", 0.0)? != 0.0 {
        return Err(Fail::Unsupported("softcap".into()));
    }
    if optional(inputs, 6).is_some() {
        return Err(Fail::Unsupported("lengths of keys that are not padding".into()));
    }
    if node.outputs.get(3).is_some_and(Option::is_some) {
        return Err(Fail::Unsupported("products as a result".into()));
    }
    let q = operand(inputs, 0)?;
    let flat = m.rank(q) == 3;
    let heads = match count(node, "q_num_heads")? {
        Some(heads) => heads,
        None if !flat && m.rank(q) == 4 => m.dims(q)[1],
        None => return Err(invalid("q_num_heads is missing")),
    };
    let (mut k, mut v) = (operand(inputs, 1)?, operand(inputs, 2)?);
    let kv_heads = match count(node, "kv_num_heads")? {
        Some(heads) => heads,
        None if !flat && m.rank(k) == 4 => m.dims(k)[1],
        None => return Err(invalid("kv_num_heads is missing")),
    };
    let past = optional(inputs, 4).zip(optional(inputs, 5));
    let wants_present = node.outputs.iter().skip(1).any(Option::is_some);
    let mut q = q;
    let heads_first = !flat || past.is_some() || wants_present;
    if heads_first && flat {
        q = split(m, q, heads)?;
        k = split(m, k, kv_heads)?;
        v = split(m, v, kv_heads)?;
    }
    if let Some((past_k, past_v)) = past {
        k = m.emit(Op::Concat { axis: 2 }, &[past_k, k])?;
        v = m.emit(Op::Concat { axis: 2 }, &[past_v, v])?;
    }
    let causal = node.flag("is_causal", false)?;
    let length = |val: Val| m.dims(val).get(if heads_first { 2 } else { 1 }).copied();
    // ONNX counts positions from the first key, the kernels from the last.
    if causal && past.is_none() && length(q) != length(k) {
        return Err(Fail::Unsupported("is_causal with more or fewer keys than queries".into()));
    }
    let mask = optional(inputs, 3);
    let op = Attention {
        heads,
        kv_heads,
        scale: node.float_if("scale")?.map(f64::from),
        causal,
        mask: mask.is_some(),
        packed: false,
        heads_first,
    };
    let operands: Vec<Val> = [q, k, v].into_iter().chain(mask).collect();
    let mut y = m.emit(Op::Attention(op), &operands)?;
    if heads_first && flat {
        let [b, h, s, d] = *m.dims(y) else { return Err(invalid("wants four dimensions")) };
        y = m.emit(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[y])?;
        y = reshape(m, y, &[b, s, h * d])?;
    }
    Ok(vec![y, k, v])
}

/// `[b, s, heads * d]` as `[b, heads, s, d]`.
fn split(m: &mut Machine<'_>, x: Val, heads: usize) -> Result<Val, Fail> {
    let [b, s, width] = *m.dims(x) else { return Err(invalid("wants three dimensions")) };
    if heads == 0 || width % heads != 0 {
        return Err(invalid(format_args!("{width} elements are not {heads} heads")));
    }
    let x = reshape(m, x, &[b, s, heads, width / heads])?;
    m.emit(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[x])
}

fn rotary(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, cos, sin) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let heads = match (count(node, "num_heads")?, m.dims(x)) {
        (_, [_, heads, _, _]) => *heads,
        (Some(heads), _) => heads,
        _ => return Err(invalid("num_heads is missing")),
    };
    let positions = optional(inputs, 3);
    let op = Rope {
        heads,
        dims: count(node, "rotary_embedding_dim")?.unwrap_or(0),
        interleaved: node.flag("interleaved", false)?,
        positions: positions.is_some(),
    };
    let operands: Vec<Val> = [x, cos, sin].into_iter().chain(positions).collect();
    Ok(vec![m.emit(Op::Rope(op), &operands)?])
}
