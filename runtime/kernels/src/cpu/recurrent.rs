//! Recurrent layers: a product for each step, with weights that are packed once for all of them.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::memory::{elements, indices, tensor};
use crate::cpu::{activation, matmul};
use crate::error::invalid;
use crate::infer::recurrent::{Sizes, sizes};
use crate::{Activation, Cell, OpError, Recurrent, Run};

pub(super) fn recurrent(
    op: &Recurrent,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let sizes = sizes(op, &operands)?;
    let lengths = lengths(op, &sizes, inputs)?;
    let mut layer = Layer::new(op, &sizes, inputs)?;
    let x = elements::<f32>(inputs[0])?;
    let (all, size) = (sizes.batch * op.cell.gates() * sizes.width, sizes.batch * sizes.width);
    let mut states = run.filled(sizes.steps * size, 0f32)?;
    for step in 0..sizes.steps {
        run.check()?;
        let at = if op.reverse { sizes.steps - 1 - step } else { step };
        let counts = |item: usize| lengths.as_ref().is_none_or(|lengths| at < lengths[item]);
        let old = lengths.is_some().then(|| (layer.state.clone(), layer.memory.clone()));
        layer.step(&x[at * all..][..all], run)?;
        if let Some((state, memory)) = old {
            for item in (0..sizes.batch).filter(|&item| !counts(item)) {
                let of = item * sizes.width..(item + 1) * sizes.width;
                layer.state[of.clone()].copy_from_slice(&state[of.clone()]);
                if let (Some(new), Some(old)) = (layer.memory.get_mut(of.clone()), memory.get(of)) {
                    new.copy_from_slice(old);
                }
            }
        }
        let out = states[at * size..][..size].chunks_exact_mut(sizes.width.max(1));
        for (item, out) in out.enumerate().filter(|(item, _)| counts(*item)) {
            out.copy_from_slice(&layer.state[item * sizes.width..][..sizes.width]);
        }
    }
    [states, layer.state, layer.memory]
        .into_iter()
        .zip(results)
        .map(|(elements, (dtype, shape))| tensor(dtype, shape, elements))
        .collect()
}

/// How many positions of each item count.
fn lengths(
    op: &Recurrent,
    sizes: &Sizes,
    inputs: &[&Tensor],
) -> Result<Option<Vec<usize>>, OpError> {
    let Some(lengths) = inputs.get(sizes.fixed).filter(|_| op.lengths) else { return Ok(None) };
    let one = |&length: &i64| {
        usize::try_from(length).ok().filter(|&length| length <= sizes.steps).ok_or_else(|| {
            let text = format_args!("a length must be 0 to {}, got {length}", sizes.steps);
            invalid(op.name(), text)
        })
    };
    indices(lengths)?.iter().map(one).collect::<Result<_, _>>().map(Some)
}

/// A layer between two steps.
struct Layer<'a> {
    op: &'a Recurrent,
    batch: usize,
    width: usize,
    /// The recurrence; marked as constant, so that it is packed once.
    weight: Tensor,
    /// Of a GRU that multiplies first, that of its last gate.
    last: Option<Tensor>,
    bias: Option<&'a Tensor>,
    peepholes: Vec<f32>,
    state: Vec<f32>,
    /// None for cells without one.
    memory: Vec<f32>,
}

impl<'a> Layer<'a> {
    fn new(op: &'a Recurrent, sizes: &Sizes, inputs: &[&'a Tensor]) -> Result<Layer<'a>, OpError> {
        let mut rest = inputs.iter().copied().skip(1);
        let mut next = |is_there: bool| if is_there { rest.next() } else { None };
        let missing = || invalid(op.name(), "an operand is missing");
        let own = |x: Option<&Tensor>| -> Result<Vec<f32>, OpError> {
            x.map_or(Ok(Vec::new()), |x| Ok(elements::<f32>(x)?.into_owned()))
        };
        let weight = next(true).ok_or_else(missing)?.clone().constant();
        let last = next(op.cell == Cell::Gru { after: false });
        let bias = next(op.bias);
        let state = own(next(true))?;
        let memory = own(next(op.cell == Cell::Lstm))?;
        Ok(Layer {
            op,
            batch: sizes.batch,
            width: sizes.width,
            weight,
            last: last.map(|last| last.clone().constant()),
            bias,
            peepholes: own(next(op.peepholes))?,
            state,
            memory,
        })
    }

    /// What the recurrence says, `[b, out]`.
    fn said(
        &self,
        state: &[f32],
        weight: &Tensor,
        bias: Option<&Tensor>,
        run: &Run<'_>,
    ) -> Result<Vec<f32>, OpError> {
        let shape = Shape::new(&[self.batch, self.width])
            .map_err(|error| invalid(self.op.name(), error.to_string()))?;
        let mut copy = run.room::<f32>(state.len())?;
        copy.extend_from_slice(state);
        let state = tensor(DType::Fp32, shape, copy)?;
        let said = matmul::linear(run, &state, weight, (bias, None), Activation::None)?;
        run.recycle(state);
        let out = elements::<f32>(&said)?.into_owned();
        run.recycle(said);
        Ok(out)
    }

    fn step(&mut self, x: &[f32], run: &Run<'_>) -> Result<(), OpError> {
        if self.width == 0 {
            return Ok(());
        }
        let bias = if self.last.is_some() { None } else { self.bias };
        let mut said = self.said(&self.state, &self.weight, bias, run)?;
        match self.op.cell {
            Cell::Rnn => {
                said.iter_mut().zip(x).for_each(|(said, x)| *said += x);
                activation::apply(self.op.activations[1], &mut said);
                self.state.copy_from_slice(&said);
            }
            Cell::Gru { after: true } => self.gru_after(&mut said, x),
            Cell::Gru { after: false } => self.gru_before(&mut said, x, run)?,
            Cell::Lstm => self.lstm(&mut said, x),
        }
        run.give(said);
        Ok(())
    }

    fn gru_after(&mut self, said: &mut [f32], x: &[f32]) {
        let (width, [gate, new, _]) = (self.width, self.op.activations);
        let rows = said.chunks_exact_mut(3 * width).zip(x.chunks_exact(3 * width));
        for ((said, x), state) in rows.zip(self.state.chunks_exact_mut(width)) {
            let (gates, fresh) = said.split_at_mut(2 * width);
            gates.iter_mut().zip(x).for_each(|(said, x)| *said += x);
            activation::apply(gate, gates);
            let (z, r) = gates.split_at(width);
            for ((fresh, r), x) in fresh.iter_mut().zip(r).zip(&x[2 * width..]) {
                *fresh = *fresh * r + x;
            }
            activation::apply(new, fresh);
            mixed(state, z, fresh);
        }
    }

    fn gru_before(&mut self, said: &mut [f32], x: &[f32], run: &Run<'_>) -> Result<(), OpError> {
        let (width, [gate, new, _]) = (self.width, self.op.activations);
        let bias = self.bias.map(elements::<f32>).transpose()?;
        let bias = bias.as_deref().unwrap_or(&[]);
        let (of_gates, of_new) = bias.split_at(bias.len() / 3 * 2);
        let mut reset = self.state.clone();
        let rows = said.chunks_exact_mut(2 * width).zip(x.chunks_exact(3 * width));
        for ((gates, x), reset) in rows.zip(reset.chunks_exact_mut(width)) {
            gates.iter_mut().zip(x).for_each(|(said, x)| *said += x);
            gates.iter_mut().zip(of_gates).for_each(|(said, bias)| *said += bias);
            activation::apply(gate, gates);
            reset.iter_mut().zip(&gates[width..]).for_each(|(state, r)| *state *= r);
        }
        let Some(last) = &self.last else { return Ok(()) };
        let mut fresh = self.said(&reset, last, None, run)?;
        let rows = fresh.chunks_exact_mut(width).zip(x.chunks_exact(3 * width));
        let rows = rows.zip(said.chunks_exact(2 * width));
        for (((fresh, x), gates), state) in rows.zip(self.state.chunks_exact_mut(width)) {
            fresh.iter_mut().zip(&x[2 * width..]).for_each(|(fresh, x)| *fresh += x);
            fresh.iter_mut().zip(of_new).for_each(|(fresh, bias)| *fresh += bias);
            activation::apply(new, fresh);
            mixed(state, &gates[..width], fresh);
        }
        Ok(())
    }

    fn lstm(&mut self, said: &mut [f32], x: &[f32]) {
        let (width, [gate, new, out]) = (self.width, self.op.activations);
        let look = |gate: &mut [f32], memory: &[f32], which: usize, peepholes: &[f32]| {
            let peepholes = peepholes.get(which * width..).unwrap_or(&[]);
            for ((gate, memory), by) in gate.iter_mut().zip(memory).zip(peepholes) {
                *gate += memory * by;
            }
        };
        let rows = said.chunks_exact_mut(4 * width).zip(x.chunks_exact(4 * width));
        let states = self.state.chunks_exact_mut(width).zip(self.memory.chunks_exact_mut(width));
        for ((said, x), (state, memory)) in rows.zip(states) {
            said.iter_mut().zip(x).for_each(|(said, x)| *said += x);
            let (i, rest) = said.split_at_mut(width);
            let (o, rest) = rest.split_at_mut(width);
            let (keep, fresh) = rest.split_at_mut(width);
            look(i, memory, 0, &self.peepholes);
            look(keep, memory, 2, &self.peepholes);
            activation::apply(gate, i);
            activation::apply(gate, keep);
            activation::apply(new, fresh);
            for (((memory, keep), i), fresh) in memory.iter_mut().zip(keep).zip(i).zip(fresh) {
                *memory = *keep * *memory + *i * *fresh;
            }
            look(o, memory, 1, &self.peepholes);
            activation::apply(gate, o);
            state.copy_from_slice(memory);
            activation::apply(out, state);
            state.iter_mut().zip(o).for_each(|(state, o)| *state *= *o);
        }
    }
}

/// (1 - z) fresh + z state.
fn mixed(state: &mut [f32], z: &[f32], fresh: &[f32]) {
    for ((state, z), fresh) in state.iter_mut().zip(z).zip(fresh) {
        *state = (1.0 - z) * fresh + z * *state;
    }
}
