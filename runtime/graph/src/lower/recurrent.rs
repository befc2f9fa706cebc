//! Recurrent layers: what the input says to all gates is one product for the whole sequence, the rest a kernel's.

use innkeeper_kernels::{Activation, Cell, Op, Recurrent};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, cast, operand, optional, reshape};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "LSTM" | "GRU" | "RNN" => recurrent,
        _ => return None,
    })
}

/// The operands, of which the layer has one part for each direction.
struct Layer {
    cell: Cell,
    hidden: usize,
    directions: usize,
    x: Val,
    weight: Val,
    recurrence: Val,
    bias: Option<Val>,
    lengths: Option<Val>,
    state: Option<Val>,
    memory: Option<Val>,
    peepholes: Option<Val>,
}

/// x, weights, weights of the recurrence, bias, lengths, the first state; of LSTM the first memory and peepholes.
fn recurrent(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    if node.has("clip") || node.flag("input_forget", false)? {
        return Err(Fail::Unsupported("clip and input_forget".into()));
    }
    let cell = match node.op_type.as_str() {
        "LSTM" => Cell::Lstm,
        "GRU" => Cell::Gru { after: node.flag("linear_before_reset", false)? },
        _ => Cell::Rnn,
    };
    let (backward, directions) = match node.text("direction", "forward")? {
        "forward" => ([false; 2], 1),
        "reverse" => ([true; 2], 1),
        "bidirectional" => ([false, true], 2),
        other => return Err(invalid(format_args!("direction is {other:?}"))),
    };
    let dtype = m.dtype(operand(inputs, 0)?);
    if dtype == DType::Fp64 {
        return Err(Fail::Unsupported("FP64".into()));
    }
    let batch_first = node.flag("layout", false)?;
    let layer = layer(m, inputs, cell, directions, batch_first)?;
    let mut results = Vec::with_capacity(directions);
    for (direction, &reverse) in backward.iter().take(directions).enumerate() {
        let op = Recurrent {
            cell,
            reverse,
            bias: layer.bias.is_some(),
            peepholes: layer.peepholes.is_some(),
            lengths: layer.lengths.is_some(),
            activations: activations(node, cell, direction)?,
        };
        results.push(one(m, &layer, op, direction)?);
    }
    let last = if cell == Cell::Lstm { 3 } else { 2 };
    let mut outputs = Vec::with_capacity(last);
    for which in 0..last {
        let mut parts = Vec::with_capacity(directions);
        for result in &results {
            // A dimension for the directions, after that of the sequence.
            let mut dims = m.dims(result[which]).to_vec();
            dims.insert(dims.len() - 2, 1);
            parts.push(reshape(m, result[which], &dims)?);
        }
        let axis = if which == 0 { 1 } else { 0 };
        let mut joined = match parts[..] {
            [part] => part,
            _ => m.emit(Op::Concat { axis }, &parts)?,
        };
        if batch_first {
            // [t, directions, b, h] and [directions, b, h] with the batch in front.
            let permutation = if which == 0 { vec![2, 0, 1, 3] } else { vec![1, 0, 2] };
            joined = m.emit(Op::Transpose { permutation }, &[joined])?;
        }
        outputs.push(cast(m, joined, dtype)?);
    }
    Ok(outputs)
}

fn layer(
    m: &mut Machine<'_>,
    inputs: &[Option<Val>],
    cell: Cell,
    directions: usize,
    batch_first: bool,
) -> Result<Layer, Fail> {
    let mut wide = [None; 8];
    for (index, wide) in wide.iter_mut().enumerate().filter(|(index, _)| *index != 4) {
        if let Some(val) = optional(inputs, index) {
            *wide = Some(cast(m, val, DType::Fp32)?);
        }
    }
    let must = |index: usize| {
        wide[index].ok_or_else(|| invalid(format_args!("operand {index} is missing")))
    };
    let (mut x, weight, recurrence) = (must(0)?, must(1)?, must(2)?);
    let ([parts, gates, hidden], [_, _, _]) = (m.dims(recurrence), m.dims(x)) else {
        return Err(invalid("wants x and weights of three dimensions"));
    };
    let (parts, gates, hidden) = (*parts, *gates, *hidden);
    if parts != directions || hidden.checked_mul(cell.gates()) != Some(gates) {
        let shape = m.shape(recurrence);
        return Err(invalid(format_args!("the recurrence's weights are {shape}")));
    }
    let mut firsts = [wide[5], wide[6].filter(|_| cell == Cell::Lstm)];
    if batch_first {
        x = m.emit(Op::Transpose { permutation: vec![1, 0, 2] }, &[x])?;
        for first in firsts.iter_mut().flatten() {
            *first = m.emit(Op::Transpose { permutation: vec![1, 0, 2] }, &[*first])?;
        }
    }
    let [state, memory] = firsts;
    let lengths = optional(inputs, 4);
    let peepholes = wide[7].filter(|_| cell == Cell::Lstm);
    let bias = wide[3];
    Ok(Layer {
        cell,
        hidden,
        directions,
        x,
        weight,
        recurrence,
        bias,
        lengths,
        state,
        memory,
        peepholes,
    })
}

/// One direction of a tensor of all.
fn of(m: &mut Machine<'_>, layer: &Layer, val: Val, direction: usize) -> Result<Val, Fail> {
    let dims = m.dims(val).to_vec();
    if dims.first() != Some(&layer.directions) {
        let (wanted, got) = (layer.directions, m.shape(val));
        return Err(invalid(format_args!("{got} is not for {wanted} directions")));
    }
    let (start, end) = (direction as i64, direction as i64 + 1);
    let part = match layer.directions {
        1 => val,
        _ => m.emit(Op::Slice { axis: 0, start, end }, &[val])?,
    };
    reshape(m, part, &dims[1..])
}

fn rows(m: &mut Machine<'_>, x: Val, start: usize, end: usize) -> Result<Val, Fail> {
    m.emit(Op::Slice { axis: 0, start: start as i64, end: end as i64 }, &[x])
}

fn one(
    m: &mut Machine<'_>,
    layer: &Layer,
    op: Recurrent,
    direction: usize,
) -> Result<Vec<Val>, Fail> {
    let weight = of(m, layer, layer.weight, direction)?;
    let recurrence = of(m, layer, layer.recurrence, direction)?;
    let all = layer.cell.gates() * layer.hidden;
    let (mut operands, mut own) = (vec![layer.x, weight], None);
    if let Some(bias) = layer.bias {
        let bias = of(m, layer, bias, direction)?;
        operands.push(rows(m, bias, 0, all)?);
        own = Some(rows(m, bias, all, 2 * all)?);
    }
    let (bias, residual, activation) = (own.is_some(), false, Activation::None);
    let x = m.emit(Op::Linear { bias, residual, activation }, &operands)?;
    let mut operands = vec![x];
    if op.cell == (Cell::Gru { after: false }) {
        operands.push(rows(m, recurrence, 0, 2 * layer.hidden)?);
        operands.push(rows(m, recurrence, 2 * layer.hidden, all)?);
    } else {
        operands.push(recurrence);
    }
    operands.extend(own);
    let batch = m.dims(x)[1];
    let firsts = [Some(layer.state), Some(layer.memory).filter(|_| op.cell == Cell::Lstm)];
    for first in firsts.into_iter().flatten() {
        operands.push(match first {
            Some(first) => of(m, layer, first, direction)?,
            None => {
                let (dtype, shape) = (DType::Fp32, vec![batch, layer.hidden]);
                m.emit(Op::Full { dtype, shape, value: 0.0 }, &[])?
            }
        });
    }
    if let Some(peepholes) = layer.peepholes {
        operands.push(of(m, layer, peepholes, direction)?);
    }
    operands.extend(layer.lengths);
    m.emit_all(Op::Recurrent(op), &operands)
}

/// The functions of a direction, and those that a cell has without being told.
fn activations(node: &Node, cell: Cell, direction: usize) -> Result<[Activation; 3], Fail> {
    let usual: &[&[u8]] = match cell {
        Cell::Rnn => &[b"Tanh"],
        Cell::Gru { .. } => &[b"Sigmoid", b"Tanh"],
        Cell::Lstm => &[b"Sigmoid", b"Tanh", b"Tanh"],
    };
    let given = node.texts("activations")?.unwrap_or(&[]);
    let alphas = node.floats("activation_alpha")?.unwrap_or(&[]);
    let mut alphas = alphas.iter();
    let mut functions = Vec::with_capacity(usual.len());
    // Functions with a parameter take the next one, over all directions.
    for index in 0..(direction + 1) * usual.len() {
        let name: &[u8] = match given.get(index) {
            Some(name) => name,
            None if given.is_empty() => usual[index % usual.len()],
            None => return Err(invalid("there are too few activations")),
        };
        let function = match name.to_ascii_lowercase().as_slice() {
            b"sigmoid" => Activation::Sigmoid,
            b"tanh" => Activation::Tanh,
            b"relu" => Activation::Relu,
            b"leakyrelu" => Activation::LeakyRelu(alphas.next().copied().unwrap_or(0.01)),
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(Fail::Unsupported(format!("the activation {other:?}")));
            }
        };
        functions.push(function);
    }
    let own = &functions[direction * usual.len()..];
    Ok(match *own {
        [only] => [Activation::Sigmoid, only, Activation::Tanh],
        [gate, new] => [gate, new, Activation::Tanh],
        [gate, new, out, ..] => [gate, new, out],
        [] => return Err(invalid("there are too few activations")),
    })
}
