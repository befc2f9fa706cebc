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
