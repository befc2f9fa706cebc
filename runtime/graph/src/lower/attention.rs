//! Attention and its positions, as operators of their own (opset 23).

use innkeeper_kernels::{Attention, Binary, Compare, Move, Op, Pad, Reduce, Rope, Unary};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, cast, operand, optional, reshape, scalar};
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

/// Who looks at whom, apart from the mask that is an operand. Query i has the position offset + i among the keys.
struct Sight {
    /// How far back a query looks, if not to the start.
    back: Option<i64>,
    /// How far ahead, if not to the end.
    ahead: Option<i64>,
    offset: Offset,
}

enum Offset {
    /// So many keys before all queries.
    Same(i64),
    /// Of each item of the batch so many keys count, and the last of them belong to the queries.
    Lengths(Val),
}

/// What scores are worth: some are kept, and something is added.
struct Mask {
    kept: Option<Val>,
    added: Option<Val>,
}

/// q, k, v, mask, past keys, past values, how many keys count.
fn attention(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (mut q, mut k, mut v) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let flat = m.rank(q) == 3;
    let heads_of = |m: &Machine<'_>, val: Val, name: &str| match count(node, name)? {
        Some(heads) => Ok(heads),
        None if m.rank(val) == 4 => Ok(m.dims(val)[1]),
        None => Err(invalid(format_args!("{name} is missing"))),
    };
    let (heads, kv_heads) = (heads_of(m, q, "q_num_heads")?, heads_of(m, k, "kv_num_heads")?);
    let past = optional(inputs, 4).zip(optional(inputs, 5));
    let lengths = optional(inputs, 6);
    let softcap = node.float("softcap", 0.0)?;
    let wants_products = node.outputs.get(3).is_some_and(Option::is_some);
    let composed = softcap != 0.0 || wants_products;
    let wants_present = node.outputs.iter().skip(1).any(Option::is_some);
    let heads_first = !flat || past.is_some() || wants_present || composed;
    if heads_first && flat {
        q = split(m, q, heads)?;
        k = split(m, k, kv_heads)?;
        v = split(m, v, kv_heads)?;
    }
    let mut before = 0;
    if let Some((past_k, past_v)) = past {
        before = m.dims(past_k).get(2).copied().unwrap_or(0) as i64;
        k = m.emit(Op::Concat { axis: 2 }, &[past_k, k])?;
        v = m.emit(Op::Concat { axis: 2 }, &[past_v, v])?;
    }
    let at = if heads_first { 2 } else { 1 };
    let length = |m: &Machine<'_>, val: Val| m.dims(val).get(at).copied();
    let (Some(s), Some(t)) = (length(m, q), length(m, k)) else {
        return Err(invalid("wants three or four dimensions"));
    };
    let sight = sight(node, before, lengths)?;
    // The kernels' own rule: the last query is the last key's.
    let aligned = matches!(sight.offset, Offset::Same(offset) if offset + s as i64 == t as i64);
    let causal = !composed && aligned && sight.back.is_none() && sight.ahead == Some(0);
    let kept = if causal { None } else { seen(m, &sight, s, t)? };
    let mask = masked(m, optional(inputs, 3), kept, m.dtype(q), t)?;
    let scale = node.float_if("scale")?.map(f64::from);
    let (mut y, products) = if composed {
        let sides = [q, repeated(m, k, heads, kv_heads)?, repeated(m, v, heads, kv_heads)?];
        compose(m, node, sides, scale, softcap, &mask)?
    } else {
        let mask = joined(m, &mask, m.dtype(q))?;
        let (mask, operands) = (mask.is_some(), [q, k, v].into_iter().chain(mask));
        let packed = false;
        let op = Attention { heads, kv_heads, scale, causal, mask, packed, heads_first };
        let operands: Vec<Val> = operands.collect();
        let y = m.emit(Op::Attention(op), &operands)?;
        (y, None)
    };
    if heads_first && flat {
        let [b, h, s, d] = *m.dims(y) else { return Err(invalid("wants four dimensions")) };
        y = m.emit(Op::Transpose { permutation: vec![0, 2, 1, 3] }, &[y])?;
        y = reshape(m, y, &[b, s, h * d])?;
    }
    Ok([y, k, v].into_iter().chain(products).collect())
}

fn sight(node: &Node, before: i64, lengths: Option<Val>) -> Result<Sight, Fail> {
    let window = |name| match node.int(name, -1)? {
        -1 => Ok(None),
        size if (0..=i64::from(u32::MAX)).contains(&size) => Ok(Some(size)),
        size => Err(invalid(format_args!("{name} is {size}"))),
    };
    let (back, mut ahead) = (window("left_window_size")?, window("right_window_size")?);
    if node.flag("is_causal", false)? {
        ahead = Some(0);
    }
    let offset = match lengths {
        Some(_) if before > 0 => {
            return Err(invalid("lengths of keys and past keys cannot both be given"));
        }
        Some(lengths) => Offset::Lengths(lengths),
        None => Offset::Same(before),
    };
    Ok(Sight { back, ahead, offset })
}

/// Which keys (t) each query (s) looks at: BOOL, or nothing where it is all of them.
fn seen(m: &mut Machine<'_>, sight: &Sight, s: usize, t: usize) -> Result<Option<Val>, Fail> {
    let count = |count: usize, start: i64| {
        let (dtype, start, step) = (DType::Int64, start as f64, 1.0);
        Op::Arange { dtype, start, step, count }
    };
    let keys = m.emit(count(t, 0), &[])?;
    let (queries, mut kept) = match sight.offset {
        Offset::Same(_) if sight.back.is_none() && sight.ahead.is_none() => return Ok(None),
        Offset::Same(offset) => {
            let queries = m.emit(count(s, offset), &[])?;
            (reshape(m, queries, &[s, 1])?, None)
        }
        Offset::Lengths(lengths) => {
            let batch = m.shape(lengths).elements();
            let lengths = cast(m, lengths, DType::Int64)?;
            let lengths = reshape(m, lengths, &[batch, 1, 1, 1])?;
            let kept = m.emit(Op::Compare(Compare::Less), &[keys, lengths])?;
            // Query i is at the position length - s + i.
            let from_end = m.emit(count(s, -(s as i64)), &[])?;
            let from_end = reshape(m, from_end, &[s, 1])?;
            (m.emit(Op::Binary(Binary::Add), &[lengths, from_end])?, Some(kept))
        }
    };
    let ahead = m.emit(Op::Binary(Binary::Sub), &[keys, queries])?;
    for (most, compare) in [
        (sight.ahead, Compare::LessOrEqual),
        (sight.back.map(|back| -back), Compare::GreaterOrEqual),
    ] {
        let Some(most) = most else { continue };
        let most = m.list(&[], vec![most])?;
        let near = m.emit(Op::Compare(compare), &[ahead, most])?;
        kept = Some(match kept {
            Some(kept) => m.emit(Op::Binary(Binary::And), &[kept, near])?,
            None => near,
        });
    }
    Ok(kept)
}

/// The operand's mask, filled up to t keys, and what is kept besides.
fn masked(
    m: &mut Machine<'_>,
    mask: Option<Val>,
    kept: Option<Val>,
    dtype: DType,
    t: usize,
) -> Result<Mask, Fail> {
    let Some(mut mask) = mask else { return Ok(Mask { kept, added: None }) };
    let is_bool = m.dtype(mask) == DType::Bool;
    let rank = m.rank(mask);
    let missing = t.saturating_sub(m.dims(mask).last().copied().unwrap_or(t));
    if missing > 0 && m.dims(mask).last() != Some(&1) {
        let mut ends = vec![0; rank];
        ends[rank - 1] = missing as i64;
        let mode = Pad::Constant(if is_bool { 0.0 } else { f64::NEG_INFINITY });
        let begins = vec![0; rank];
        mask = m.emit(Op::Move(Move::Pad { mode, begins, ends }), &[mask])?;
    }
    if !is_bool {
        return Ok(Mask { kept, added: Some(cast(m, mask, dtype)?) });
    }
    let kept = match kept {
        Some(kept) => m.emit(Op::Binary(Binary::And), &[kept, mask])?,
        None => mask,
    };
    Ok(Mask { kept: Some(kept), added: None })
}

/// As one operand of the kernel.
fn joined(m: &mut Machine<'_>, mask: &Mask, dtype: DType) -> Result<Option<Val>, Fail> {
    match (mask.kept, mask.added) {
        (Some(kept), Some(added)) => {
            let nothing = scalar(m, dtype, f64::NEG_INFINITY)?;
            m.emit(Op::Select, &[kept, added, nothing]).map(Some)
        }
        (kept, added) => Ok(kept.or(added)),
    }
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

/// Each head of keys or values again for each of its group of queries.
fn repeated(m: &mut Machine<'_>, x: Val, heads: usize, kv_heads: usize) -> Result<Val, Fail> {
    if heads == kv_heads {
        return Ok(x);
    }
    let [b, h, t, d] = *m.dims(x) else { return Err(invalid("wants four dimensions")) };
    if h != kv_heads || h == 0 || !heads.is_multiple_of(h) {
        return Err(invalid(format_args!("{heads} heads of queries do not share {h} of keys")));
    }
    let x = reshape(m, x, &[b, h, 1, t, d])?;
    let x = m.emit(Op::Move(Move::Expand { shape: vec![b, h, heads / h, t, d] }), &[x])?;
    reshape(m, x, &[b, heads, t, d])
}

/// Attention in steps, for what the kernel does not do: capped scores, and scores as a result.
fn compose(
    m: &mut Machine<'_>,
    node: &Node,
    [q, k, v]: [Val; 3],
    scale: Option<f64>,
    softcap: f32,
    mask: &Mask,
) -> Result<(Val, Option<Val>), Fail> {
    let dtype = m.dtype(q);
    let width = m.dims(q).last().copied().unwrap_or(1).max(1) as f64;
    let root = scale.unwrap_or(1.0 / width.sqrt()).sqrt();
    let root = scalar(m, dtype, root)?;
    let q = m.emit(Op::Binary(Binary::Mul), &[q, root])?;
    let k = m.emit(Op::Transpose { permutation: vec![0, 1, 3, 2] }, &[k])?;
    let k = m.emit(Op::Binary(Binary::Mul), &[k, root])?;
    let products = m.emit(Op::MatMul, &[q, k])?;
    let mut capped = products;
    if softcap > 0.0 {
        let cap = scalar(m, dtype, f64::from(softcap))?;
        capped = m.emit(Op::Binary(Binary::Div), &[capped, cap])?;
        capped = m.emit(Op::Unary(Unary::Tanh), &[capped])?;
        capped = m.emit(Op::Binary(Binary::Mul), &[capped, cap])?;
    }
    let bias = match (mask.kept, mask.added) {
        (None, added) => added,
        (Some(kept), added) => {
            let nothing = scalar(m, dtype, f64::NEG_INFINITY)?;
            let zero = scalar(m, dtype, 0.0)?;
            Some(m.emit(Op::Select, &[kept, added.unwrap_or(zero), nothing])?)
        }
    };
    let biased = match bias {
        Some(bias) => m.emit(Op::Binary(Binary::Add), &[capped, bias])?,
        None => capped,
    };
    let mut shares = super::reduce::softmax_of(m, biased, Op::Softmax { axis: -1 })?;
    if let Some(bias) = bias {
        // Who may look at nothing gets nothing, whatever the scores are.
        let (op, axes, keep_dims) = (Reduce::Max, vec![-1], true);
        let most = m.emit(Op::Reduce { op, axes, keep_dims }, &[bias])?;
        let nothing = scalar(m, dtype, f64::NEG_INFINITY)?;
        let blind = m.emit(Op::Compare(Compare::Equal), &[most, nothing])?;
        let zero = scalar(m, dtype, 0.0)?;
        shares = m.emit(Op::Select, &[blind, zero, shares])?;
    }
    let y = m.emit(Op::MatMul, &[shares, v])?;
    let shown = match node.int("qk_matmul_output_mode", 0)? {
        0 => products,
        1 => capped,
        2 => biased,
        3 => shares,
        mode => return Err(invalid(format_args!("qk_matmul_output_mode is {mode}"))),
    };
    Ok((y, Some(shown)))
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
