//! Rotary position embedding.

use innkeeper_tensor::{DType, Tensor};

use crate::cpu::dispatch::floating;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::Number;
use crate::cpu::pieces::{PIECE, write_by};
use crate::error::invalid;
use crate::infer::attention::Turn;
use crate::op::Rope;
use crate::{OpError, Run};

pub(super) fn rope(rope: &Rope, inputs: &[&Tensor], run: &Run<'_>) -> Result<Tensor, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let turn = Turn::new(rope, &operands)?;
    let [x, cos, sin, positions @ ..] = inputs else {
        return Err(invalid("rope", "takes operands"));
    };
    let rows = rows(&turn, positions.first().copied(), cos)?;
    floating!(x.dtype(), T => {
        let (from, cos, sin) = (elements::<T>(x)?, elements::<T>(cos)?, elements::<T>(sin)?);
        let mut out = run.scratch::<T>(from.len())?;
        let depth = turn.depth.max(1);
        let size = (PIECE / depth).max(1) * depth;
        write_by(run, &mut out, size, |start, out| {
            let heads = from[start..].chunks_exact(depth).zip(out.chunks_exact_mut(depth));
            for (index, (x, out)) in (start / depth..).zip(heads) {
                let row = rows[turn.row(index)] * (turn.turned / 2);
                let (cos, sin) = (&cos[row..], &sin[row..]);
                turned(rope.interleaved, turn.turned, x, cos, sin, out);
            }
            Ok(())
        })?;
        tensor(x.dtype(), x.shape().clone(), out)
    })
}

/// The row of the tables for each row of each batch.
fn rows(turn: &Turn, positions: Option<&Tensor>, cos: &Tensor) -> Result<Vec<usize>, OpError> {
    let count = turn.batch * turn.rows;
    let Some(positions) = positions else {
        return Ok((0..count).map(|i| if turn.one_table { i % turn.rows } else { i }).collect());
    };
    let table = cos.shape().dims().first().copied().unwrap_or(0);
    let wide: Vec<i64> = match positions.dtype() {
        DType::Int32 => elements::<i32>(positions)?.iter().map(|&at| at.into()).collect(),
        _ => elements::<i64>(positions)?.into_owned(),
    };
    wide.into_iter()
        .map(|at| {
            usize::try_from(at).ok().filter(|&at| at < table).ok_or_else(|| {
                let text = format_args!("position {at} is not among the {table} of the tables");
                invalid("rope", text)
            })
        })
        .collect()
}

impl Turn {
    /// The row of all batches' that head `index` of x is of.
    fn row(&self, index: usize) -> usize {
        if self.heads_first {
            let batch = index / (self.heads * self.rows).max(1);
            batch * self.rows + index % self.rows.max(1)
        } else {
            index / self.heads
        }
    }
}

fn turned<T: Number<Sum = f64>>(
    interleaved: bool,
    count: usize,
    x: &[T],
    cos: &[T],
    sin: &[T],
    out: &mut [T],
) {
    let half = count / 2;
    for pair in 0..half {
        let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
        let (x1, x2) = (x[a].widen(), x[b].widen());
        let (cos, sin) = (cos[pair].widen(), sin[pair].widen());
        out[a] = T::narrow(x1 * cos - x2 * sin);
        out[b] = T::narrow(x1 * sin + x2 * cos);
    }
    out[count..].copy_from_slice(&x[count..]);
}
