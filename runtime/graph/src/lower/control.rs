//! Operators that run graphs inside of this one.

use innkeeper_kernels::Op;
use innkeeper_tensor::DType;

use super::{Lower, Lowered, axis, operand, optional, reshape};
use crate::error::{Fail, invalid};
use crate::ir::{Node, Program};
use crate::machine::{Machine, Val};

/// A loop of more rounds is not written out in a plan, but run node by node.
const UNROLLED_MAX: i64 = 64;

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "If" => branch,
        "Loop" => repeat,
        "Scan" => scan,
        _ => return None,
    })
}

fn branch(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let holds = m.one_number(operand(inputs, 0)?)? != 0.0;
    let body = node.graph(if holds { "then_branch" } else { "else_branch" })?;
    m.body(body, &[])
}

/// While there are rounds left and the condition holds: (round, condition, carried..) gives (condition, carried..,
/// one part of each result that grows).
fn repeat(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let body = node.graph("body")?;
    let rounds = match optional(inputs, 0) {
        Some(rounds) => m.one_int(rounds)?,
        None => i64::MAX,
    };
    let mut condition = match optional(inputs, 1) {
        Some(condition) => condition,
        None => m.emit(Op::Full { dtype: DType::Bool, shape: Vec::new(), value: 1.0 }, &[])?,
    };
    let mut carried = super::all(inputs.get(2..).unwrap_or_default())?;
    let count = carried.len();
    let grown =
        body.outputs.len().checked_sub(count + 1).ok_or_else(|| too_few(body, count + 1))?;
    let mut parts = vec![Vec::new(); grown];
    let mut round = 0;
    while round < rounds && m.one_number(condition)? != 0.0 {
        m.check()?;
        if !m.runs() && round >= UNROLLED_MAX {
            return Err(Fail::NeedsValue);
        }
        let counter = m.list(&[], vec![round])?;
        let given: Vec<Val> =
            [counter, condition].into_iter().chain(carried.iter().copied()).collect();
        let results = m.body(body, &given)?;
        let (states, new) = results.split_at(count + 1);
        for (parts, &part) in parts.iter_mut().zip(new) {
            parts.push(part);
        }
        for old in given {
            m.let_go(old, inputs, &results);
        }
        condition = states[0];
        carried = states[1..].to_vec();
        round += 1;
    }
    let mut results = carried;
    for parts in parts {
        results.push(stacked(m, &parts, 0, false)?);
    }
    Ok(results)
}

fn too_few(body: &Program, wanted: usize) -> Fail {
    invalid(format_args!(
        "the body has {} results, and {wanted} at least are wanted",
        body.outputs.len()
    ))
}

/// One part after the other along a new dimension.
fn stacked(m: &mut Machine<'_>, parts: &[Val], at: i64, reversed: bool) -> Result<Val, Fail> {
    let Some(&first) = parts.first() else {
        return Err(Fail::Unsupported(
            "a loop of no rounds, whose result has a shape that is not known".into(),
        ));
    };
    let rank = m.rank(first) + 1;
    let at = axis(at, rank)?;
    let mut rows = Vec::with_capacity(parts.len());
    for &part in parts {
        let mut dims = m.dims(part).to_vec();
        dims.insert(at, 1);
        rows.push(reshape(m, part, &dims)?);
    }
    if reversed {
        rows.reverse();
    }
    m.emit(Op::Concat { axis: at as i64 }, &rows)
}

/// (states.., one part of each sequence) gives (states.., one part of each result).
fn scan(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    if node.version < 9 {
        return Err(Fail::Unsupported("Scan as it was in opset 8; export with opset 9".into()));
    }
    let body = node.graph("body")?;
    let operands = super::all(inputs)?;
    let sequences = usize::try_from(node.int("num_scan_inputs", 0)?).unwrap_or(usize::MAX);
    let states = operands.len().checked_sub(sequences).filter(|_| sequences > 0);
    let states = states.ok_or_else(|| invalid("num_scan_inputs does not fit the operands"))?;
    let grown = body.outputs.len().checked_sub(states).ok_or_else(|| too_few(body, states))?;
    let list = |name| node.ints(name).map(|list| list.unwrap_or_default());
    let pick = |list: &[i64], index: usize| list.get(index).copied().unwrap_or(0);
    let (axes, back) = (list("scan_input_axes")?, list("scan_input_directions")?);
    let (out_axes, out_back) = (list("scan_output_axes")?, list("scan_output_directions")?);
    let (mut carried, sequences) = (operands[..states].to_vec(), &operands[states..]);
    let mut rounds = None;
    for (index, &sequence) in sequences.iter().enumerate() {
        let at = axis(pick(axes, index), m.rank(sequence))?;
        let len = m.dims(sequence)[at];
        if *rounds.get_or_insert(len) != len {
            return Err(invalid("the sequences are not equally long"));
        }
    }
    let rounds = rounds.unwrap_or(0) as i64;
    if !m.runs() && rounds > UNROLLED_MAX {
        return Err(Fail::NeedsValue);
    }
    let mut parts = vec![Vec::new(); grown];
    for round in 0..rounds {
        m.check()?;
        let mut given = carried.clone();
        for (index, &sequence) in sequences.iter().enumerate() {
            let at = axis(pick(axes, index), m.rank(sequence))?;
            let start = if pick(back, index) == 1 { rounds - 1 - round } else { round };
            let (axis, end) = (at as i64, start + 1);
            let part = m.emit(Op::Slice { axis, start, end }, &[sequence])?;
            let mut dims = m.dims(part).to_vec();
            dims.remove(at);
            given.push(reshape(m, part, &dims)?);
        }
        let results = m.body(body, &given)?;
        for (parts, &part) in parts.iter_mut().zip(&results[states..]) {
            parts.push(part);
        }
        for old in given {
            m.let_go(old, inputs, &results);
        }
        carried = results[..states].to_vec();
    }
    let mut results = carried;
    for (index, parts) in parts.iter().enumerate() {
        results.push(stacked(m, parts, pick(out_axes, index), pick(out_back, index) == 1)?);
    }
    Ok(results)
}
