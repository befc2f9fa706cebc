//! A graph for inputs of certain shapes: operations of kernels in order, with nothing left to work out.

use std::collections::HashMap;

use innkeeper_kernels::{Backend, Op, OpError, Run};
use innkeeper_tensor::Tensor;

use crate::machine::{Info, Step, Val, bytes_of};

/// What a graph does with inputs of certain shapes.
#[derive(Debug)]
pub(crate) struct Plan {
    steps: Vec<Planned>,
    slots: usize,
    constants: Vec<Tensor>,
    /// The slots of the graph's inputs; `None` where nothing reads one.
    inputs: Vec<Option<u32>>,
    outputs: Vec<Operand>,
    /// The most bytes that results take at one time, the outputs among them.
    pub(crate) peak_bytes: usize,
    /// The bytes that are still taken at the end.
    pub(crate) output_bytes: usize,
    /// What the plan itself keeps in memory, apart from the graph's weights.
    pub(crate) own_bytes: usize,
    /// About how many multiply-adds a run takes.
    pub(crate) cost: u64,
}

#[derive(Debug)]
struct Planned {
    op: Op,
    inputs: Vec<Operand>,
    outputs: Vec<u32>,
    /// Slots that nothing reads afterwards.
    free: Vec<u32>,
    node: u32,
}

#[derive(Debug, Clone, Copy)]
enum Operand {
    Slot(u32),
    Constant(u32),
}

/// A step that could not be done.
pub(crate) struct Failed {
    pub(crate) node: u32,
    pub(crate) error: OpError,
}

impl Plan {
    /// The plan of these steps; what no output needs is left out.
    pub(crate) fn new(values: &[Info], steps: Vec<Step>, inputs: &[Val], outputs: &[Val]) -> Plan {
        let steps = live(steps, outputs);
        let cost = steps.iter().map(|step| cost(values, step)).fold(0, u64::saturating_add);
        let mut maker = Slots { values, ..Slots::default() };
        let input_slots: Vec<u32> = inputs.iter().map(|&val| maker.slot(val)).collect();
        let mut planned: Vec<Planned> = steps
            .into_iter()
            .map(|step| Planned {
                inputs: step.inputs.iter().map(|&val| maker.operand(val)).collect(),
                outputs: step.outputs.iter().map(|&val| maker.slot(val)).collect(),
                op: step.op,
                free: Vec::new(),
                node: step.node,
            })
            .collect();
        let results: Vec<Operand> = outputs.iter().map(|&val| maker.operand(val)).collect();
        free_after_last_use(&mut planned, &results);
        let read: std::collections::HashSet<u32> = planned
            .iter()
            .flat_map(|step| &step.inputs)
            .chain(&results)
            .filter_map(|operand| match operand {
                Operand::Slot(slot) => Some(*slot),
                Operand::Constant(_) => None,
            })
            .collect();
        let output_bytes =
            outputs.iter().map(|&val| maker.bytes(val)).fold(0, usize::saturating_add);
        let own_bytes = maker.own_bytes + planned.len() * 256;
        let peak_bytes = peak(&planned, &maker.slot_bytes, inputs.len()).max(output_bytes);
        Plan {
            slots: maker.slot_bytes.len(),
            constants: maker.constants,
            inputs: input_slots.iter().map(|slot| read.contains(slot).then_some(*slot)).collect(),
            outputs: results,
            peak_bytes,
            output_bytes,
            own_bytes,
            cost,
            steps: planned,
        }
    }

    /// The outputs for these inputs, which must be of the dtypes and shapes that were planned for.
    pub(crate) fn run(
        &self,
        backend: &dyn Backend,
        inputs: Vec<Tensor>,
        run: &Run<'_>,
    ) -> Result<Vec<Tensor>, Failed> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.slots];
        for (slot, tensor) in self.inputs.iter().zip(inputs) {
            if let Some(slot) = slot {
                slots[*slot as usize] = Some(tensor);
            }
        }
        let mut operands: Vec<&Tensor> = Vec::with_capacity(8);
        for step in &self.steps {
            let failed = |error| Failed { node: step.node, error };
            operands.clear();
            let found = step.inputs.iter().filter_map(|operand| self.find(&slots, *operand));
            operands.extend(found);
            let made = backend.run(&step.op, &operands, run).map_err(failed)?;
            operands = Vec::with_capacity(8);
            for (slot, tensor) in step.outputs.iter().zip(made) {
                slots[*slot as usize] = Some(tensor);
            }
            for slot in &step.free {
                if let Some(tensor) = slots[*slot as usize].take() {
                    run.recycle(tensor);
                }
            }
        }
        let output = |operand: &Operand| self.find(&slots, *operand).cloned();
        Ok(self.outputs.iter().filter_map(output).collect())
    }

    fn find<'a>(&'a self, slots: &'a [Option<Tensor>], operand: Operand) -> Option<&'a Tensor> {
        match operand {
            Operand::Slot(slot) => slots.get(slot as usize)?.as_ref(),
            Operand::Constant(index) => self.constants.get(index as usize),
        }
    }

    /// The operations in order, for tests and profiles.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().map(|step| step.op.name())
    }
}

fn cost(values: &[Info], step: &Step) -> u64 {
    let info = |val: &Val| &values[val.0 as usize];
    let operands: Vec<_> =
        step.inputs.iter().map(|val| (info(val).dtype, &info(val).shape)).collect();
    step.op.cost(&operands)
}

/// The steps that some output needs.
pub(crate) fn live(steps: Vec<Step>, outputs: &[Val]) -> Vec<Step> {
    let mut wanted: std::collections::HashSet<Val> = outputs.iter().copied().collect();
    let mut kept = Vec::with_capacity(steps.len());
    for step in steps.into_iter().rev() {
        if step.outputs.iter().any(|val| wanted.contains(val)) {
            wanted.extend(&step.inputs);
            kept.push(step);
        }
    }
    kept.reverse();
    kept
}

#[derive(Default)]
struct Slots<'a> {
    values: &'a [Info],
    slots: HashMap<Val, u32>,
    slot_bytes: Vec<usize>,
    indices: HashMap<Val, u32>,
    constants: Vec<Tensor>,
    own_bytes: usize,
}

impl Slots<'_> {
    fn bytes(&self, val: Val) -> usize {
        let info = &self.values[val.0 as usize];
        bytes_of(&(info.dtype, info.shape.clone()))
    }

    fn slot(&mut self, val: Val) -> u32 {
        if let Some(slot) = self.slots.get(&val) {
            return *slot;
        }
        let slot = self.slot_bytes.len() as u32;
        self.slot_bytes.push(self.bytes(val));
        self.slots.insert(val, slot);
        slot
    }

    fn operand(&mut self, val: Val) -> Operand {
        let info = &self.values[val.0 as usize];
        let Some(tensor) = &info.known else { return Operand::Slot(self.slot(val)) };
        if let Some(index) = self.indices.get(&val) {
            return Operand::Constant(*index);
        }
        if info.key.is_none() {
            self.own_bytes += tensor.as_bytes().len();
        }
        let index = self.constants.len() as u32;
        self.constants.push(tensor.clone());
        self.indices.insert(val, index);
        Operand::Constant(index)
    }
}

fn free_after_last_use(steps: &mut [Planned], outputs: &[Operand]) {
    let slot = |operand: &Operand| match operand {
        Operand::Slot(slot) => Some(*slot),
        Operand::Constant(_) => None,
    };
    let mut later: std::collections::HashSet<u32> = outputs.iter().filter_map(slot).collect();
    for step in steps.iter_mut().rev() {
        let used = step.inputs.iter().filter_map(slot).chain(step.outputs.iter().copied());
        step.free = used.filter(|slot| later.insert(*slot)).collect();
    }
}

/// The most bytes that results take at one time. The inputs are the caller's and not counted.
fn peak(steps: &[Planned], bytes: &[usize], inputs: usize) -> usize {
    let (mut now, mut peak) = (0usize, 0usize);
    let size = |slot: &u32| if (*slot as usize) < inputs { 0 } else { bytes[*slot as usize] };
    for step in steps {
        now = step.outputs.iter().map(size).fold(now, usize::saturating_add);
        peak = peak.max(now);
        now = step.free.iter().map(size).fold(now, usize::saturating_sub);
    }
    peak
}
