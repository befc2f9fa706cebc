//! A model that was loaded.

use std::sync::{Arc, Mutex, PoisonError};

use innkeeper_kernels::{Backend, Run};
use innkeeper_tensor::{DType, Mismatch, Named, Shape, Signature, Tensor, TensorSpec};

use crate::budget::Budget;
use crate::build::{self, OutputInfo};
use crate::error::{Fail, GraphError};
use crate::fuse::{self, Derived};
use crate::ir::Program;
use crate::machine::{Engine, Info, Machine, Val};
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

#[derive(Debug)]
enum Planned {
    Plan(Plan),
    /// Some shape depends on elements.
    NodeByNode,
}

impl Graph {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// [`GraphError::File`] for what is no model, [`GraphError::Unsupported`] for the first operator, type or attribute
    /// that this executor does not do, [`GraphError::Node`] for a node that can never run, [`GraphError::Limit`].
    pub fn load(bytes: &[u8], limits: &LoadLimits) -> Result<Graph, GraphError> {
        let model =
            proto::Model::read(bytes).map_err(|error| GraphError::File(error.to_string()))?;
        let built = build::build(&model, limits)?;
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
        fold::fold(&mut graph.program, graph.values, limits);
        let trial = graph.trial(&built.input_dims)?;
        graph.signature.outputs = output_specs(built.outputs, trial)?;
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
        let plans = plans.iter().map(|cached| match &*cached.plan {
            Planned::Plan(plan) => plan.own_bytes,
            Planned::NodeByNode => 0,
        });
        weights.chain(plans).sum::<usize>() + self.derived.byte_length()
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
        let plan = self.plan(&inputs, &wanted)?;
        let results = match &*plan {
            Planned::Plan(plan) => {
                budget.charge(plan.peak_bytes).map_err(GraphError::Limit)?;
                let results = plan.run(backend, inputs, run);
                let kept = if results.is_ok() { plan.output_bytes } else { 0 };
                budget.release(plan.peak_bytes - kept);
                results.map_err(|failed| self.failed(failed.node, failed.error.into()))?
            }
            Planned::NodeByNode => {
                self.node_by_node(Engine { backend, run, budget }, inputs, &wanted)?
            }
        };
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
        Ok(match &*self.plan(&inputs, &wanted)? {
            Planned::Plan(plan) => Some(plan.operations().collect()),
            Planned::NodeByNode => None,
        })
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

    fn plan(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Arc<Planned>, GraphError> {
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
        let plan = Arc::new(self.new_plan(&key)?.0);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.push(Cached { key, plan: Arc::clone(&plan) });
        let bytes = |plans: &[Cached]| -> usize {
            let own = |cached: &Cached| match &*cached.plan {
                Planned::Plan(plan) => plan.own_bytes,
                Planned::NodeByNode => 0,
            };
            plans.iter().map(own).sum()
        };
        while plans.len() > self.limits.plans_max || bytes(&plans) > self.limits.plan_bytes_max {
            plans.remove(0);
            if plans.is_empty() {
                break;
            }
        }
        Ok(plan)
    }

    fn new_plan(&self, key: &Key) -> Result<(Planned, Vec<Found>), GraphError> {
        let mut machine = Machine::new(self.values, None);
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
        match machine.program(&self.program) {
            Err(GraphError::NeedsValue) => return Ok((Planned::NodeByNode, Vec::new())),
            other => other?,
        }
        let mut outputs = key
            .wanted
            .iter()
            .filter_map(|&index| self.program.outputs.get(index))
            .map(|&id| machine.at(id).map_err(|fail| self.failed(u32::MAX, fail)))
            .collect::<Result<Vec<_>, _>>()?;
        let found = |&val: &Val| (machine.dtype(val), machine.dims(val).to_vec());
        let found = outputs.iter().map(found).collect();
        let steps = std::mem::take(&mut machine.steps);
        let mut values = std::mem::take(&mut machine.values);
        let steps = fuse::fuse(&mut values, steps, &mut outputs, &self.derived);
        Ok((Planned::Plan(Plan::new(&values, steps, &inputs, &outputs)), found))
    }

    fn node_by_node(
        &self,
        engine: Engine<'_>,
        inputs: Vec<Tensor>,
        wanted: &[usize],
    ) -> Result<Vec<Tensor>, GraphError> {
        let mut machine = Machine::new(self.values, Some(engine));
        for (&id, tensor) in self.program.inputs.iter().zip(inputs) {
            let val = machine.constant(tensor);
            machine.env[id as usize] = Some(val);
        }
        machine.program(&self.program)?;
        let outputs = wanted
            .iter()
            .filter_map(|&index| self.program.outputs.get(index))
            .map(|&id| machine.at(id).and_then(|val| machine.tensor(val).cloned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|fail| self.failed(u32::MAX, fail))?;
        let bytes = outputs.iter().map(|tensor| tensor.as_bytes().len()).sum();
        engine.budget.charge(bytes).map_err(GraphError::Limit)?;
        Ok(outputs)
    }

    /// Plans with a size for every dimension that is free, to find what can never run. Returns what the outputs were,
    /// where it could be told.
    fn trial(&self, dims: &[Vec<Option<String>>]) -> Result<Option<Vec<Found>>, GraphError> {
        let _ = dims;
        let free = self.signature.inputs.iter().any(|spec| match &spec.shape {
            Some(dims) => dims.iter().any(Option::is_none),
            None => true,
        });
        let wanted: Vec<usize> = (0..self.program.outputs.len()).collect();
        let mut last = None;
        for size in TRIAL_SIZES {
            let inputs = self.signature.inputs.iter().map(|spec| trial_input(spec, size));
            let Some(inputs) = inputs.collect::<Option<Vec<_>>>() else { return Ok(None) };
            match self.new_plan(&Key { inputs, wanted: wanted.clone() }) {
                Ok((Planned::Plan(_), found)) => return Ok(Some(found)),
                Ok((Planned::NodeByNode, _)) => return Ok(None),
                // A size that is free may have to be another one.
                Err(error @ (GraphError::Node { .. } | GraphError::Limit(_))) if free => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        // Nothing is proved: what the caller gives may fit.
        drop(last);
        Ok(None)
    }
}

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
