//! A model that was loaded.

use std::sync::{Arc, Mutex, PoisonError};

use innkeeper_kernels::{Backend, Cpu, Op, OpError, Run};
use innkeeper_tensor::{DType, Mismatch, Named, Shape, Signature, Tensor, TensorSpec};

use crate::budget::Budget;
use crate::build::{self, OutputInfo};
use crate::derived::Derived;
use crate::error::{Fail, GraphError};
use crate::fuse;
use crate::ir::{Program, ValueId};
use crate::machine::{Engine, Info, Machine, Mode, Val, bytes_of};
use crate::plan::Plan;
use crate::{LoadLimits, fold, proto};

/// A model that was loaded, to be run any number of times and from several threads at once.
#[derive(Debug)]
pub struct Graph {
    program: Program,
    values: usize,
    signature: Signature,
    opset: i64,
    limits: LoadLimits,
    derived: Derived,
    /// The latest used last.
    plans: Mutex<Vec<Cached>>,
}

#[derive(Debug)]
struct Cached {
    key: Key,
    plan: Arc<Planned>,
}

/// What a plan was made for: the inputs, and which outputs.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    inputs: Vec<(DType, Shape)>,
    wanted: Vec<usize>,
}

/// What is done for inputs of certain shapes.
#[derive(Debug)]
struct Planned {
    plan: Plan,
    /// Where some shape depends on elements: the plan goes as far as it can, and the rest is run node by node.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    /// The first node that no plan can do.
    from: usize,
    /// What the nodes from there on read: the plan's outputs.
    reads: Vec<ValueId>,
}

impl Graph {
    /// Reads an ONNX file, and brings its weights into the order in which the kernels take them. `run` says when that
    /// must end, and which threads it may use.
    ///
    /// # Errors
    /// [`GraphError::File`] for what is no model, [`GraphError::Unsupported`] for the first operator, type or attribute
    /// that this executor does not do, [`GraphError::Node`] for a node that can never run, [`GraphError::Limit`],
    /// [`GraphError::Stopped`].
    pub fn load(bytes: &[u8], limits: &LoadLimits, run: &Run<'_>) -> Result<Graph, GraphError> {
        let model =
            proto::Model::read(bytes).map_err(|error| GraphError::File(error.to_string()))?;
        let built = build::build(&model, limits, run)?;
        drop(model);
        let mut graph = Graph {
            program: built.program,
            values: built.values,
            signature: Signature { inputs: built.inputs, ..Signature::default() },
            opset: built.opset,
            limits: limits.clone(),
            derived: Derived::default(),
            plans: Mutex::default(),
        };
        fold::fold(&mut graph.program, graph.values, limits, run)?;
        let trial = graph.trial(run)?;
        if let Some(trial) = &trial {
            graph.warm_up(trial, run)?;
        }
        graph.signature.outputs = output_specs(built.outputs, trial.and_then(|it| it.found))?;
        graph.signature.check().map_err(|error| GraphError::File(error.to_string()))?;
        Ok(graph)
    }

    /// What the graph takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What it takes, in the file's order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.signature.inputs
    }

    /// What it gives, in the file's order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.signature.outputs
    }

    /// The version of ONNX's own operator set that the model was written for.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The bytes that the model holds: constants, what kernels derived from them, and plans.
    pub fn byte_length(&self) -> usize {
        let constants = self.program.constants.iter();
        let weights = constants.map(|(_, x)| x.as_bytes().len() + x.derived_byte_length());
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = plans.iter().map(|cached| cached.plan.plan.own_bytes);
        let nodes = self.program.nodes.iter().map(|node| node.byte_length());
        weights.chain(plans).chain(nodes).sum::<usize>() + self.derived.byte_length()
    }

    /// The outputs of these names, or all in the file's order, for these inputs.
    ///
    /// `budget` is asked before memory is taken. When the run succeeds, exactly the bytes of the outputs stay charged;
    /// else nothing does.
    ///
    /// # Errors
    /// [`GraphError::Input`] for what does not fit the signature, [`GraphError::Node`] for what does not fit inside,
    /// [`GraphError::Limit`] when the budget refuses, [`GraphError::Stopped`].
    pub fn run(
        &self,
        backend: &dyn Backend,
        inputs: Vec<Named>,
        outputs: Option<&[&str]>,
        budget: &dyn Budget,
        run: &Run<'_>,
    ) -> Result<Vec<Named>, GraphError> {
        self.signature.check_inputs(&inputs)?;
        let wanted = self.wanted(outputs)?;
        let inputs = self.in_order(inputs)?;
        let planned = self.plan(&inputs, &wanted, run)?;
        let plan = &planned.plan;
        budget.charge(plan.peak_bytes).map_err(GraphError::Limit)?;
        let results = plan.run(backend, inputs, run);
        let kept = if results.is_ok() { plan.output_bytes } else { 0 };
        budget.release(plan.peak_bytes - kept);
        let mut results =
            results.map_err(|failed| self.failed(failed.node, failed.error.into()))?;
        if let Some(rest) = &planned.rest {
            let engine = Engine { backend, run, budget };
            results = self.node_by_node(engine, rest, results, kept, &wanted)?;
        }
        let name = |index: usize| self.signature.outputs[index].name.clone();
        let named = |(index, tensor): (&usize, Tensor)| Named { name: name(*index), tensor };
        Ok(wanted.iter().zip(results).map(named).collect())
    }

    /// The operations of the plan for these inputs, in order; `None` where there is none because shapes depend on
    /// elements. For tests and profiles.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub fn operations(&self, inputs: Vec<Named>) -> Result<Option<Vec<&'static str>>, GraphError> {
        self.signature.check_inputs(&inputs)?;
        let wanted = self.wanted(None)?;
        let inputs = self.in_order(inputs)?;
        let planned = self.plan(&inputs, &wanted, &Run::new())?;
        Ok(planned.rest.is_none().then(|| planned.plan.operations().collect()))
    }

    fn wanted(&self, outputs: Option<&[&str]>) -> Result<Vec<usize>, GraphError> {
        let Some(names) = outputs else { return Ok((0..self.signature.outputs.len()).collect()) };
        let mut wanted: Vec<usize> = Vec::with_capacity(names.len());
        for name in names {
            self.signature.output(name)?;
            let position = self.signature.outputs.iter().position(|spec| spec.name == *name);
            if position.is_some_and(|index| wanted.contains(&index)) {
                return Err(Mismatch::Twice { kind: "output", name: (*name).into() }.into());
            }
            wanted.extend(position);
        }
        Ok(wanted)
    }

    /// The tensors in the signature's order. They were checked, so each is there.
    fn in_order(&self, mut inputs: Vec<Named>) -> Result<Vec<Tensor>, GraphError> {
        let mut ordered = Vec::with_capacity(inputs.len());
        for spec in &self.signature.inputs {
            let position = inputs.iter().position(|input| input.name == spec.name);
            let position = position.ok_or_else(|| Mismatch::Missing {
                kind: "input",
                name: spec.name.clone(),
                spec: spec.to_string(),
            })?;
            ordered.push(inputs.swap_remove(position).tensor);
        }
        Ok(ordered)
    }

    fn failed(&self, node: u32, fail: Fail) -> GraphError {
        let place = || match self.program.nodes.get(node as usize) {
            Some(node) => node.place(),
            None => crate::Place { operator: "?".into(), node: "?".into(), opset: self.opset },
        };
        fail.at(place)
    }

    fn plan(
        &self,
        inputs: &[Tensor],
        wanted: &[usize],
        run: &Run<'_>,
    ) -> Result<Arc<Planned>, GraphError> {
        let shapes = inputs.iter().map(|input| (input.dtype(), input.shape().clone())).collect();
        let key = Key { inputs: shapes, wanted: wanted.to_vec() };
        {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = plans.iter().rposition(|cached| cached.key == key) {
                let cached = plans.remove(at);
                let plan = Arc::clone(&cached.plan);
                plans.push(cached);
                return Ok(plan);
            }
        }
        // Not under the lock: two callers that come at once both plan, which harms nobody.
        let plan = Arc::new(self.new_plan(&key, run)?.0);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.push(Cached { key, plan: Arc::clone(&plan) });
        let bytes = |plans: &[Cached]| -> usize {
            plans.iter().map(|cached| cached.plan.plan.own_bytes).sum()
        };
        while plans.len() > self.limits.plans_max || bytes(&plans) > self.limits.plan_bytes_max {
            plans.remove(0);
            if plans.is_empty() {
                break;
            }
        }
        Ok(plan)
    }

    /// A plan, and what the outputs are where it tells.
    fn new_plan(
        &self,
        key: &Key,
        run: &Run<'_>,
    ) -> Result<(Planned, Option<Vec<Found>>), GraphError> {
        let derived_bytes_max = usize::try_from(self.limits.weight_bytes_max).unwrap_or(usize::MAX);
        let mode = Mode::Plans { derived: &self.derived, derived_bytes_max, run };
        let mut machine = Machine::new(self.values, mode);
        let inputs: Vec<Val> = key
            .inputs
            .iter()
            .map(|(dtype, shape)| {
                let (dtype, shape) = (*dtype, shape.clone());
                machine.add(Info { dtype, shape, known: None, key: None })
            })
            .collect();
        for (&id, &val) in self.program.inputs.iter().zip(&inputs) {
            machine.env[id as usize] = Some(val);
        }
        let rest = match machine.program(&self.program) {
            Err(GraphError::NeedsValue) => Some(self.rest(&machine, &key.wanted)),
            other => other.map(|()| None)?,
        };
        let ids: Vec<ValueId> = match &rest {
            Some(rest) => rest.reads.clone(),
            None => self.outputs_of(&key.wanted),
        };
        let outputs = ids.iter().map(|&id| machine.at(id)).collect::<Result<Vec<_>, _>>();
        let mut outputs = outputs.map_err(|fail| self.failed(u32::MAX, fail))?;
        let found = |&val: &Val| (machine.dtype(val), machine.dims(val).to_vec());
        let found = rest.is_none().then(|| outputs.iter().map(found).collect());
        let steps = std::mem::take(&mut machine.steps);
        let mut values = std::mem::take(&mut machine.values);
        run.check().map_err(|_| GraphError::Stopped)?;
        let steps = fuse::fuse(&mut values, steps, &mut outputs, &self.derived);
        Ok((Planned { plan: Plan::new(&values, steps, &inputs, &outputs), rest }, found))
    }

    fn outputs_of(&self, wanted: &[usize]) -> Vec<ValueId> {
        wanted.iter().filter_map(|&index| self.program.outputs.get(index).copied()).collect()
    }

    /// What is left when a machine met the first node that it cannot plan.
    fn rest(&self, machine: &Machine<'_>, wanted: &[usize]) -> Rest {
        let from = machine.node();
        let later = self.program.nodes.iter().skip(from);
        let read = later.flat_map(|node| node.inputs.iter().flatten().chain(&node.captures));
        let constants = self.program.constants.iter().map(|(id, _)| *id);
        let mut seen: std::collections::HashSet<ValueId> = constants.collect();
        // What the rest makes itself is not there yet.
        let made = |id: &ValueId| machine.env[*id as usize].is_some();
        let outputs = self.outputs_of(wanted);
        let reads = read.copied().chain(outputs).filter(|id| made(id) && seen.insert(*id));
        Rest { from, reads: reads.collect() }
    }

    /// Runs the nodes that no plan can do, after those of the plan gave `results`, for which `charged` bytes are charged.
    fn node_by_node(
        &self,
        engine: Engine<'_>,
        rest: &Rest,
        results: Vec<Tensor>,
        charged: usize,
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, GraphError> {
        let mut machine = Machine::new(self.values, Mode::Runs(engine));
        let mut left = charged;
        for (&id, tensor) in rest.reads.iter().zip(results) {
            let bytes = tensor.as_bytes().len().min(left);
            left -= bytes;
            let val = machine.charged_for(tensor, bytes);
            machine.env[id as usize] = Some(val);
        }
        engine.budget.release(left);
        machine.program_from(&self.program, rest.from)?;
        let outputs = self.outputs_of(wanted);
        let outputs = outputs
            .iter()
            .map(|&id| machine.at(id).and_then(|val| machine.tensor(val).cloned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|fail| self.failed(u32::MAX, fail))?;
        let bytes = outputs.iter().map(|tensor| tensor.as_bytes().len()).sum();
        engine.budget.charge(bytes).map_err(GraphError::Limit)?;
        Ok(outputs)
    }

    /// Plans with a size for every dimension that is free, to find what can never run.
    fn trial(&self, run: &Run<'_>) -> Result<Option<Trial>, GraphError> {
        let free = self.signature.inputs.iter().any(|spec| match &spec.shape {
            Some(dims) => dims.iter().any(Option::is_none),
            None => true,
        });
        let wanted: Vec<usize> = (0..self.program.outputs.len()).collect();
        for size in TRIAL_SIZES {
            let inputs = self.signature.inputs.iter().map(|spec| trial_input(spec, size));
            let Some(inputs) = inputs.collect::<Option<Vec<_>>>() else { return Ok(None) };
            let key = Key { inputs, wanted: wanted.clone() };
            match self.new_plan(&key, run) {
                Ok((planned, found)) => return Ok(Some(Trial { key, planned, found })),
                // A size that is free may have to be another one: nothing is proved, what the caller gives may fit.
                Err(GraphError::Node { .. } | GraphError::Limit(_)) if free => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Runs the trial's plan on zeros, so that the kernels bring the weights into their order now and not at the first
    /// request.
    fn warm_up(&self, trial: &Trial, run: &Run<'_>) -> Result<(), GraphError> {
        let plan = &trial.planned.plan;
        let zeros = |(dtype, shape): &(DType, Shape)| {
            let value = Op::Full { dtype: *dtype, shape: shape.dims().to_vec(), value: 0.0 };
            Cpu::new().run_one(&value, &[], run).ok()
        };
        // The plan does not count its inputs, which a caller has already, but here they are made.
        let bytes =
            trial.key.inputs.iter().map(bytes_of).fold(plan.peak_bytes, usize::saturating_add);
        if bytes > WARM_UP_BYTES_MAX || plan.cost > WARM_UP_COST_MAX {
            return Ok(());
        }
        let Some(inputs) = trial.key.inputs.iter().map(zeros).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        match plan.run(&Cpu::new(), inputs, run) {
            Err(failed) if failed.error == OpError::Stopped => Err(GraphError::Stopped),
            // Zeros may not be what the model takes, such as to divide by.
            _ => Ok(()),
        }
    }
}

/// A plan for sizes that may come.
struct Trial {
    key: Key,
    planned: Planned,
    /// What the outputs were, where it could be told.
    found: Option<Vec<Found>>,
}

/// The most bytes that a run takes which only prepares weights.
const WARM_UP_BYTES_MAX: usize = 256 << 20;
/// The most multiply-adds that it takes: about a second.
const WARM_UP_COST_MAX: u64 = 1 << 35;

/// What is tried for dimensions that are free.
const TRIAL_SIZES: [usize; 5] = [2, 1, 8, 64, 224];

/// An output of a trial.
type Found = (DType, Vec<usize>);

fn trial_input(spec: &TensorSpec, size: usize) -> Option<(DType, Shape)> {
    let dims: Vec<usize> = spec.shape.as_ref()?.iter().map(|dim| dim.unwrap_or(size)).collect();
    Some((spec.dtype, Shape::new(&dims).ok()?))
}

/// What the file says about the outputs, filled up with what a trial found.
fn output_specs(
    infos: Vec<OutputInfo>,
    trial: Option<Vec<Found>>,
) -> Result<Vec<TensorSpec>, GraphError> {
    let spec = |(index, info): (usize, OutputInfo)| {
        let found = trial.as_ref().and_then(|trial| trial.get(index));
        let dtype = found.map(|(dtype, _)| *dtype).or(info.dtype).ok_or_else(|| {
            GraphError::File(format!("output {:?} has no element type, or is no tensor", info.name))
        })?;
        let shape = match (info.shape, found) {
            (Some(dims), Some((_, found))) if dims.len() == found.len() => Some(
                // Where the file contradicts what it computes, any size may come.
                dims.iter().zip(found).map(|(dim, found)| dim.filter(|dim| dim == found)).collect(),
            ),
            (_, Some((_, found))) => Some(vec![None; found.len()]),
            (shape, None) => shape,
        };
        Ok(TensorSpec { name: info.name, dtype, shape, optional: false })
    };
    infos.into_iter().enumerate().map(spec).collect()
}
