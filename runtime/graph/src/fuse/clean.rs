//! What is not needed.

use std::collections::HashMap;

use innkeeper_kernels::Op;

use super::Rewriter;
use crate::machine::Val;

/// Reshapes of reshapes, transposes of transposes, and what changes nothing.
pub(super) fn layout(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (x, out) = (*step.inputs.first()?, *step.outputs.first()?);
    match step.op.clone() {
        Op::Reshape { .. } => {
            if r.dims(x) == r.dims(out) {
                return r.alias(index, x);
            }
            let (_, before) = r.made(x)?;
            let Op::Reshape { .. } = before.op else { return None };
            let source = *before.inputs.first()?;
            if r.dims(source) == r.dims(out) {
                return r.alias(index, source);
            }
            let shape = r.dims(out).iter().map(|&dim| dim as i64).collect();
            r.replace(index, Op::Reshape { shape }, vec![source])
        }
        Op::Transpose { permutation } => {
            let (_, before) = r.made(x)?;
            let Op::Transpose { permutation: first } = &before.op else {
                return moves_nothing(r, index, &permutation);
            };
            let source = *before.inputs.first()?;
            let both: Option<Vec<usize>> =
                permutation.iter().map(|&at| first.get(at).copied()).collect();
            let both = both?;
            if both.iter().enumerate().all(|(at, &from)| at == from) {
                return r.alias(index, source);
            }
            r.replace(index, Op::Transpose { permutation: both }, vec![source])
        }
        Op::Cast { to } if r.dtype(x) == to => r.alias(index, x),
        _ => None,
    }
}

/// The last two dimensions swapped by way of three dimensions: `[b, h, t, d]` as `[b h, t, d]`, as `[b h, d, t]`, as
/// `[b, h, d, t]`.
pub(super) fn batched(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let Op::Reshape { .. } = step.op else { return None };
    let (_, swap) = r.made(*step.inputs.first()?)?;
    let Op::Transpose { permutation } = &swap.op else { return None };
    if permutation[..] != [0, 2, 1] {
        return None;
    }
    let (_, flat) = r.made(*swap.inputs.first()?)?;
    let Op::Reshape { .. } = flat.op else { return None };
    let source = *flat.inputs.first()?;
    let [b, h, t, d] = *r.dims(source) else { return None };
    let whole = r.dims(*flat.outputs.first()?) == [b * h, t, d];
    if !whole || r.dims(*step.outputs.first()?) != [b, h, d, t] {
        return None;
    }
    r.replace(index, Op::Transpose { permutation: vec![0, 1, 3, 2] }, vec![source])
}

/// A transpose that only moves dimensions of size 1 is a reshape.
fn moves_nothing(r: &mut Rewriter<'_>, index: usize, permutation: &[usize]) -> Option<()> {
    let step = r.step(index)?;
    let (x, out) = (*step.inputs.first()?, *step.outputs.first()?);
    let large: Vec<usize> =
        permutation.iter().copied().filter(|&at| r.dims(x).get(at) != Some(&1)).collect();
    if !large.is_sorted() {
        return None;
    }
    let shape = r.dims(out).iter().map(|&dim| dim as i64).collect();
    r.replace(index, Op::Reshape { shape }, vec![x])
}

impl Rewriter<'_> {
    /// What is computed twice is computed once.
    pub(super) fn common(&mut self) {
        let mut seen: HashMap<(&'static str, Vec<Val>), Vec<usize>> = HashMap::new();
        for index in 0..self.steps.len() {
            let Some(step) = self.step(index) else { continue };
            if step.op.name().starts_with("random") || step.outputs.len() != 1 {
                continue;
            }
            let same = seen.entry((step.op.name(), step.inputs.clone())).or_default();
            let first = same.iter().copied().find_map(|other| {
                let other = self.step(other)?;
                (other.op == step.op).then(|| other.outputs.first().copied()).flatten()
            });
            match first {
                Some(first) => drop(self.alias(index, first)),
                None => same.push(index),
            }
        }
    }
}
