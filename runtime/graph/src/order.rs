//! The order of nodes, which of them are needed, and until when a value is.

use std::collections::HashMap;

use crate::error::GraphError;
use crate::ir::{Node, Program, ValueId};

/// Puts the nodes into an order in which each comes after what it reads.
pub(crate) fn sort(program: &mut Program) -> Result<(), GraphError> {
    let mut maker: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in program.nodes.iter().enumerate() {
        maker.extend(node.outputs.iter().flatten().map(|&id| (id, index)));
    }
    let mut waits = vec![0usize; program.nodes.len()];
    let mut readers = vec![Vec::new(); program.nodes.len()];
    for (index, node) in program.nodes.iter().enumerate() {
        for id in node.inputs.iter().flatten().chain(&node.captures) {
            if let Some(&made) = maker.get(id) {
                waits[index] += 1;
                readers[made].push(index);
            }
        }
    }
    // The file's own order where there is a choice: the smallest index that is ready.
    let ready = |index: &usize| std::cmp::Reverse(*index);
    let mut queue: std::collections::BinaryHeap<_> =
        (0..waits.len()).filter(|&index| waits[index] == 0).map(|index| ready(&index)).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(std::cmp::Reverse(index)) = queue.pop() {
        order.push(index);
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                queue.push(ready(&reader));
            }
        }
    }
    if order.len() < waits.len() {
        let stuck = waits.iter().position(|&waits| waits > 0).map(|i| program.nodes[i].place());
        let stuck = stuck.map(|place| place.to_string()).unwrap_or_default();
        return Err(GraphError::File(format!(
            "its nodes wait for each other in a circle, among them {stuck}"
        )));
    }
    let mut nodes: Vec<Option<Node>> =
        std::mem::take(&mut program.nodes).into_iter().map(Some).collect();
    program.nodes = order.iter().filter_map(|&index| nodes[index].take()).collect();
    Ok(())
}

/// Leaves out the nodes whose results nobody reads.
pub(crate) fn drop_dead(program: &mut Program) {
    let mut live: std::collections::HashSet<ValueId> = program.outputs.iter().copied().collect();
    let mut kept = Vec::with_capacity(program.nodes.len());
    for node in std::mem::take(&mut program.nodes).into_iter().rev() {
        if node.outputs.iter().flatten().any(|id| live.contains(id)) {
            live.extend(node.inputs.iter().flatten().chain(&node.captures));
            kept.push(node);
        }
    }
    kept.reverse();
    program.nodes = kept;
    program.constants.retain(|(id, _)| live.contains(id));
}

/// Notes for each node which values nothing reads after it.
pub(crate) fn find_last_uses(program: &mut Program) {
    let mut later: std::collections::HashSet<ValueId> = program.outputs.iter().copied().collect();
    let mut last_uses = vec![Vec::new(); program.nodes.len()];
    // Only what a node or the graph's caller made: what was captured belongs to the graph around.
    let own: std::collections::HashSet<ValueId> = program
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().flatten().copied())
        .chain(program.inputs.iter().copied())
        .collect();
    for (index, node) in program.nodes.iter().enumerate().rev() {
        for &id in
            node.outputs.iter().flatten().chain(node.inputs.iter().flatten()).chain(&node.captures)
        {
            if own.contains(&id) && later.insert(id) {
                last_uses[index].push(id);
            }
        }
    }
    program.last_uses = last_uses;
}
