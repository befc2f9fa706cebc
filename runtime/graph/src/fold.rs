//! What depends on constants alone is computed when the model is loaded.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use innkeeper_kernels::{Cpu, Run};

use crate::LoadLimits;
use crate::budget::Budget;
use crate::error::GraphError;
use crate::ir::{Attr, Node, Program, ValueId};
use crate::machine::{Engine, Machine, Mode};
use crate::order::find_last_uses;

/// The most bytes that folding may compute beyond what the file holds.
const GROWTH_BYTES_MAX: usize = 256 << 20;

/// Computes every node whose operands are constants, and marks what is left as constants for the kernels. What cannot
/// be computed is left for the run to complain about.
///
/// # Errors
/// [`GraphError::Stopped`].
pub(crate) fn fold(
    program: &mut Program,
    values: usize,
    limits: &LoadLimits,
    run: &Run<'_>,
) -> Result<(), GraphError> {
    let bytes: usize = program.constants.iter().map(|(_, x)| x.as_bytes().len()).sum();
    let max = usize::try_from(limits.weight_bytes_max).unwrap_or(usize::MAX);
    let budget = Room(AtomicUsize::new(max.min(bytes.saturating_add(GROWTH_BYTES_MAX))));
    let cpu = Cpu::new();
    let engine = Engine { backend: &cpu, run, budget: &budget };
    let mut machine = Machine::new(values, Mode::Runs(engine));
    for (id, tensor) in &program.constants {
        let val = machine.constant(tensor.clone());
        machine.env[*id as usize] = Some(val);
    }
    let mut made: Vec<ValueId> = Vec::new();
    let mut stopped = false;
    program.nodes.retain(|node| {
        let known = |id: &ValueId| machine.env[*id as usize].is_some();
        let whole = node.inputs.iter().flatten().all(known) && !is_kept(node);
        stopped |= run.check().is_err();
        if !whole || stopped || machine.run_node(node).is_err() {
            return true;
        }
        made.extend(node.outputs.iter().flatten());
        false
    });
    if stopped || run.check().is_err() {
        return Err(GraphError::Stopped);
    }
    for id in made {
        let Ok(val) = machine.at(id) else { continue };
        if let Some(tensor) = machine.known(val) {
            program.constants.push((id, tensor.clone()));
        }
    }
    drop(machine);
    let read: HashSet<ValueId> = program
        .nodes
        .iter()
        .flat_map(|node| node.inputs.iter().flatten().chain(&node.captures))
        .chain(&program.outputs)
        .copied()
        .collect();
    program.constants.retain(|(id, _)| read.contains(id));
    for (_, tensor) in &mut program.constants {
        *tensor = tensor.clone().constant();
    }
    find_last_uses(program);
    Ok(())
}

/// What has bodies, is different every time, or would only grow.
fn is_kept(node: &Node) -> bool {
    let bodies = node.attributes.values().any(|attr| matches!(attr, Attr::Graph(_)));
    bodies
        || node.op_type.starts_with("Random")
        || matches!(node.op_type.as_str(), "Bernoulli" | "Multinomial")
        || (node.op_type == "DequantizeLinear")
}

/// A budget that only shrinks by what is held.
struct Room(AtomicUsize);

impl Budget for Room {
    fn charge(&self, bytes: usize) -> Result<(), String> {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken
            .map(drop)
            .map_err(|left| format!("constants would take {bytes} bytes more, {left} may be"))
    }

    fn release(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
