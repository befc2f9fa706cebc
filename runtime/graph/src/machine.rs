//! What lowering works on: values, some of them known, and the operations of kernels between them.
//!
//! A machine either *plans* (an operation is written down as a step, and its result is known by dtype and shape) or
//! *runs* (an operation is computed at once). What only depends on known values is computed at once in both, so that
//! the arithmetic on shapes that exporters write is gone from a plan.

use std::rc::Rc;
use std::sync::PoisonError;

use innkeeper_kernels::{Backend, Cpu, Op, Quant, Run};
use innkeeper_tensor::{DType, Element, Shape, Tensor};

use crate::budget::Budget;
use crate::derived::Derived;
use crate::error::{Fail, GraphError, invalid};
use crate::ir::{Node, Program, ValueId};

/// The largest result that is computed while planning. Everything that exporters work shapes out with is far smaller.
const KNOWN_BYTES_MAX: usize = 1 << 20;

/// A value of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Val(pub(crate) u32);

/// What is known of a value.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) known: Option<Tensor>,
    /// What names this constant in every plan of the graph, when it does not depend on the shapes of the inputs.
    pub(crate) key: Option<Rc<str>>,
}

/// An operation of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Val>,
    pub(crate) outputs: Vec<Val>,
    /// The node that it came from, among those of the graph.
    pub(crate) node: u32,
}

/// What a running machine computes with.
#[derive(Clone, Copy)]
pub(crate) struct Engine<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) run: &'a Run<'a>,
    pub(crate) budget: &'a dyn Budget,
}

/// What a machine does with an operation.
#[derive(Clone, Copy)]
pub(crate) enum Mode<'a> {
    /// Writes it down. What depends on the graph's constants alone is made once for all plans.
    Plans {
        /// Where that is kept.
        derived: &'a Derived,
        /// The most bytes of it.
        derived_bytes_max: usize,
        /// When planning must end.
        run: &'a Run<'a>,
    },
    /// Computes it.
    Runs(Engine<'a>),
}

pub(crate) struct Machine<'a> {
    pub(crate) values: Vec<Info>,
    /// What stands for each value of the model.
    pub(crate) env: Vec<Option<Val>>,
    pub(crate) steps: Vec<Step>,
    mode: Mode<'a>,
    /// Bytes charged for each value that was computed.
    charged: Vec<usize>,
    node: u32,
    depth: usize,
}

/// The deepest nesting of bodies that runs: no more than can be read.
const DEPTH_MAX: usize = crate::proto::DEPTH_MAX + 1;
/// The most values that a run makes, over all rounds of its loops.
const VALUES_MAX: usize = 4_000_000;

impl<'a> Machine<'a> {
    /// A machine for a model of `values` values.
    pub(crate) fn new(values: usize, mode: Mode<'a>) -> Machine<'a> {
        Machine {
            values: Vec::with_capacity(values),
            env: vec![None; values],
            steps: Vec::new(),
            mode,
            charged: Vec::new(),
            node: 0,
            depth: 0,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.engine().is_some()
    }

    fn engine(&self) -> Option<Engine<'a>> {
        match self.mode {
            Mode::Runs(engine) => Some(engine),
            Mode::Plans { .. } => None,
        }
    }

    /// The node of the graph that is being done.
    pub(crate) fn node(&self) -> usize {
        self.node as usize
    }

    // Values.

    pub(crate) fn add(&mut self, info: Info) -> Val {
        self.values.push(info);
        self.charged.push(0);
        Val(self.values.len() as u32 - 1)
    }

    pub(crate) fn info(&self, val: Val) -> &Info {
        &self.values[val.0 as usize]
    }

    pub(crate) fn dtype(&self, val: Val) -> DType {
        self.info(val).dtype
    }

    pub(crate) fn shape(&self, val: Val) -> &Shape {
        &self.info(val).shape
    }

    pub(crate) fn dims(&self, val: Val) -> &[usize] {
        self.info(val).shape.dims()
    }

    pub(crate) fn rank(&self, val: Val) -> usize {
        self.info(val).shape.rank()
    }

    pub(crate) fn known(&self, val: Val) -> Option<&Tensor> {
        self.info(val).known.as_ref()
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> Val {
        self.add(Info {
            dtype: tensor.dtype(),
            shape: tensor.shape().clone(),
            known: Some(tensor),
            key: None,
        })
    }

    pub(crate) fn list<T: Element>(
        &mut self,
        shape: &[usize],
        elements: Vec<T>,
    ) -> Result<Val, Fail> {
        let tensor = Tensor::from_vec(shape, elements).map_err(invalid)?;
        Ok(self.constant(tensor))
    }

    // Elements that an operation must know before it can be lowered.

    pub(crate) fn tensor(&self, val: Val) -> Result<&Tensor, Fail> {
        self.known(val).ok_or(Fail::NeedsValue)
    }

    /// The elements of an INT32 or INT64 tensor.
    pub(crate) fn ints(&self, val: Val) -> Result<Vec<i64>, Fail> {
        let tensor = self.tensor(val)?;
        match tensor.dtype() {
            DType::Int64 => Ok(tensor.elements::<i64>().map_err(invalid)?.into_owned()),
            DType::Int32 => Ok(tensor
                .elements::<i32>()
                .map_err(invalid)?
                .iter()
                .map(|&value| i64::from(value))
                .collect()),
            other => Err(invalid(format_args!("wants INT64 numbers, got {other}"))),
        }
    }

    /// The only element of an INT32 or INT64 tensor.
    pub(crate) fn one_int(&self, val: Val) -> Result<i64, Fail> {
        match self.ints(val)?[..] {
            [value] => Ok(value),
            ref many => Err(invalid(format_args!("wants one number, got {}", many.len()))),
        }
    }

    /// The elements of a tensor of any numeric dtype or BOOL.
    pub(crate) fn numbers(&self, val: Val) -> Result<Vec<f64>, Fail> {
        numbers(self.tensor(val)?)
    }

    /// The only element, whatever its dtype.
    pub(crate) fn one_number(&self, val: Val) -> Result<f64, Fail> {
        if self.shape(val).elements() != 1 {
            let shape = self.shape(val);
            return Err(invalid(format_args!("wants one number, got a tensor of shape {shape}")));
        }
        self.numbers(val)?.first().copied().ok_or_else(|| invalid("wants one number, got none"))
    }

    // Operations.

    /// The result of `op` on these values.
    pub(crate) fn emit(&mut self, op: Op, inputs: &[Val]) -> Result<Val, Fail> {
        self.emit_all(op, inputs)?
            .first()
            .copied()
            .ok_or_else(|| invalid("the operation has no result"))
    }

    pub(crate) fn emit_all(&mut self, op: Op, inputs: &[Val]) -> Result<Vec<Val>, Fail> {
        let operands: Vec<_> =
            inputs.iter().map(|&val| (self.dtype(val), self.shape(val))).collect();
        let results = op.outputs(&operands)?;
        let bytes: usize = results.iter().map(bytes_of).fold(0, usize::saturating_add);
        let all_known = inputs.iter().all(|&val| self.known(val).is_some());
        let (derived, most, run) = match self.mode {
            Mode::Runs(engine) => return self.compute(engine, &op, inputs, results.len()),
            Mode::Plans { derived, derived_bytes_max, run } => (derived, derived_bytes_max, run),
        };
        if all_known && !is_random(&op) && !self.is_dequantised(&op, inputs) {
            let room = || derived.own_bytes().saturating_add(bytes) <= most;
            if let (Some(key), 1) = (self.key(&op, inputs), results.len())
                && (bytes <= KNOWN_BYTES_MAX || room())
            {
                let tensors = self.all_known(inputs);
                let made = derived.get(&key, || {
                    // Whoever else wants this constant waits for it.
                    Cpu::new().run_one(&op, &tensors, &run.without_rests())
                })?;
                let val = self.constant(made);
                self.values[val.0 as usize].key = Some(Rc::from(key));
                return Ok(vec![val]);
            }
            if bytes <= KNOWN_BYTES_MAX {
                let results = Cpu::new().run(&op, &self.all_known(inputs), run)?;
                return Ok(results.into_iter().map(|tensor| self.constant(tensor)).collect());
            }
        }
        let outputs: Vec<Val> = results
            .into_iter()
            .map(|(dtype, shape)| self.add(Info { dtype, shape, known: None, key: None }))
            .collect();
        let (inputs, node) = (inputs.to_vec(), self.node);
        self.steps.push(Step { op, inputs, outputs: outputs.clone(), node });
        Ok(outputs)
    }

    /// Whether these are weights that are bytes: whether they stay so is for rewriting to say.
    fn is_dequantised(&self, op: &Op, inputs: &[Val]) -> bool {
        matches!(op, Op::Quant(Quant::Dequantize { .. })) && self.key(op, inputs).is_some()
    }

    fn all_known(&self, inputs: &[Val]) -> Vec<&Tensor> {
        inputs.iter().filter_map(|&val| self.known(val)).collect()
    }

    /// What names the result of an operation on constants that have names.
    fn key(&self, op: &Op, inputs: &[Val]) -> Option<String> {
        // Asked of all shape arithmetic, nearly none of which has names: nothing is written before it is known to be so.
        if inputs.is_empty() || inputs.iter().any(|&val| self.info(val).key.is_none()) {
            return None;
        }
        let mut key = format!("{op:?}(");
        for &val in inputs {
            key.push_str(self.info(val).key.as_deref()?);
            key.push(',');
        }
        Some(key)
    }

    /// Numbers of an attribute as a tensor, made once for all plans.
    pub(crate) fn kept(
        &mut self,
        node: &Node,
        name: &'static str,
        dims: &[usize],
        numbers: &[f32],
    ) -> Result<Val, Fail> {
        let mut kept = node.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let tensor = match kept.get(name) {
            Some(tensor) if tensor.shape().dims() == dims => tensor.clone(),
            _ => Tensor::from_vec(dims, numbers.to_vec()).map_err(invalid)?.constant(),
        };
        kept.insert(name, tensor.clone());
        drop(kept);
        let val = self.constant(tensor);
        if let (0, Some(first)) = (self.depth, node.outputs.iter().flatten().next()) {
            self.values[val.0 as usize].key = Some(Rc::from(format!("n{first}.{name}").as_str()));
        }
        Ok(val)
    }

    fn compute(
        &mut self,
        engine: Engine<'a>,
        op: &Op,
        inputs: &[Val],
        results: usize,
    ) -> Result<Vec<Val>, Fail> {
        let operands: Vec<_> =
            inputs.iter().map(|&val| (self.dtype(val), self.shape(val))).collect();
        let bytes: Vec<usize> = op.outputs(&operands)?.iter().map(bytes_of).collect();
        let tensors = inputs.iter().map(|&val| self.tensor(val)).collect::<Result<Vec<_>, _>>()?;
        let total = bytes.iter().fold(0usize, |sum, &bytes| sum.saturating_add(bytes));
        engine.budget.charge(total).map_err(Fail::Limit)?;
        match engine.backend.run(op, &tensors, engine.run) {
            Ok(made) if made.len() == results => {
                let vals: Vec<Val> = made.into_iter().map(|tensor| self.constant(tensor)).collect();
                for (val, bytes) in vals.iter().zip(bytes) {
                    self.charged[val.0 as usize] = bytes;
                }
                Ok(vals)
            }
            Ok(_) => {
                engine.budget.release(total);
                Err(invalid("the backend gave another number of results than the operation has"))
            }
            Err(error) => {
                engine.budget.release(total);
                Err(error.into())
            }
        }
    }

    /// Adds a value that was computed outside of the kernels, charging for it.
    pub(crate) fn computed(&mut self, tensor: Tensor) -> Result<Val, Fail> {
        let bytes = tensor.as_bytes().len();
        if let Some(engine) = self.engine() {
            engine.budget.charge(bytes).map_err(Fail::Limit)?;
        }
        Ok(self.charged_for(tensor, bytes))
    }

    /// Adds a value for which so many bytes were charged already.
    pub(crate) fn charged_for(&mut self, tensor: Tensor, bytes: usize) -> Val {
        let val = self.constant(tensor);
        if self.runs() {
            self.charged[val.0 as usize] = bytes;
        }
        val
    }

    /// # Errors
    /// [`Fail::Stopped`] when the run must stop.
    pub(crate) fn check(&self) -> Result<(), Fail> {
        let run = match self.mode {
            Mode::Runs(engine) => engine.run,
            Mode::Plans { run, .. } => run,
        };
        run.check().map_err(Fail::from)
    }

    fn forget(&mut self, val: Val) {
        let index = val.0 as usize;
        let tensor = self.values[index].known.take();
        let bytes = std::mem::take(&mut self.charged[index]);
        if let Some(engine) = self.engine() {
            engine.budget.release(bytes);
            if let Some(tensor) = tensor {
                engine.run.recycle(tensor);
            }
        }
    }

    /// Forgets what an earlier round of a loop made, unless it is an operand of the loop or goes on.
    pub(crate) fn let_go(&mut self, old: Val, operands: &[Option<Val>], kept: &[Val]) {
        if self.runs() && !operands.contains(&Some(old)) && !kept.contains(&old) {
            self.forget(old);
        }
    }

    /// The bytes that are charged.
    pub(crate) fn charged(&self) -> usize {
        self.charged.iter().sum()
    }

    // Graphs.

    /// Runs a body's nodes after its inputs were set.
    pub(crate) fn body(&mut self, program: &Program, inputs: &[Val]) -> Result<Vec<Val>, Fail> {
        if self.depth >= DEPTH_MAX {
            return Err(Fail::Limit(format!("graphs nest more than {DEPTH_MAX} deep")));
        }
        if inputs.len() != program.inputs.len() {
            let (wanted, got) = (program.inputs.len(), inputs.len());
            return Err(invalid(format_args!("the body takes {wanted} inputs, got {got}")));
        }
        let node = self.node;
        self.depth += 1;
        for (&id, &val) in program.inputs.iter().zip(inputs) {
            // A copy, so that forgetting the body's does not forget the caller's. A plan forgets nothing.
            let own = if self.runs() { self.add(self.info(val).clone()) } else { val };
            self.env[id as usize] = Some(own);
        }
        self.program(program).map_err(Fail::Inner)?;
        self.depth -= 1;
        self.node = node;
        program.outputs.iter().map(|&id| self.at(id)).collect()
    }

    pub(crate) fn at(&self, id: ValueId) -> Result<Val, Fail> {
        let val = self.env.get(id as usize).copied().flatten();
        val.ok_or_else(|| invalid("a value is read before it is there"))
    }

    /// Runs the nodes in order. The values they read from outside must be set.
    pub(crate) fn program(&mut self, program: &Program) -> Result<(), GraphError> {
        self.program_from(program, 0)
    }

    /// Runs the nodes in order, without the first ones, whose results must be set where they are read.
    pub(crate) fn program_from(
        &mut self,
        program: &Program,
        first: usize,
    ) -> Result<(), GraphError> {
        for (id, tensor) in &program.constants {
            let val = self.constant(tensor.clone());
            self.values[val.0 as usize].key =
                (self.depth == 0).then(|| Rc::from(format!("c{id}").as_str()));
            self.env[*id as usize] = Some(val);
        }
        for (index, node) in program.nodes.iter().enumerate().skip(first) {
            if self.depth == 0 {
                self.node = index as u32;
            }
            self.check().map_err(|fail| fail.at(|| node.place()))?;
            if self.values.len() > VALUES_MAX {
                return Err(GraphError::Limit(format!("a run makes at most {VALUES_MAX} values")));
            }
            let first = self.values.len();
            self.run_node(node).map_err(|fail| fail.at(|| node.place()))?;
            if self.runs() {
                self.tidy(node, first, &program.last_uses[index]);
            }
        }
        Ok(())
    }

    pub(crate) fn run_node(&mut self, node: &Node) -> Result<(), Fail> {
        let inputs = node
            .inputs
            .iter()
            .map(|input| input.map(|id| self.at(id)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let results = (node.lower)(self, node, &inputs)?;
        let wanted = node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if results.len() < wanted {
            let got = results.len();
            return Err(invalid(format_args!("the operator has {got} results, not {wanted}")));
        }
        for (output, val) in node.outputs.iter().zip(results) {
            let Some(id) = *output else { continue };
            // While running, every value has a place of its own, so that each can be forgotten by itself.
            let shared = self.runs() && self.is_held(val, node, &inputs);
            let val = if shared { self.add(self.info(val).clone()) } else { val };
            self.env[id as usize] = Some(val);
        }
        Ok(())
    }

    fn is_held(&self, val: Val, node: &Node, inputs: &[Option<Val>]) -> bool {
        inputs.contains(&Some(val))
            || node.captures.iter().any(|&id| self.env[id as usize] == Some(val))
            || node.outputs.iter().flatten().any(|&id| self.env[id as usize] == Some(val))
    }

    /// Lets go of what nobody reads any more: what lowering made on the way, and values after their last use.
    fn tidy(&mut self, node: &Node, first: usize, last_uses: &[ValueId]) {
        for index in first..self.values.len() {
            let val = Val(index as u32);
            if !node.outputs.iter().flatten().any(|&id| self.env[id as usize] == Some(val)) {
                self.forget(val);
            }
        }
        for &id in last_uses {
            if let Some(val) = self.env[id as usize].take() {
                self.forget(val);
            }
        }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.engine() {
            engine.budget.release(self.charged());
        }
    }
}

/// The bytes of a result.
pub(crate) fn bytes_of((dtype, shape): &(DType, Shape)) -> usize {
    shape.elements().saturating_mul(dtype.size().unwrap_or(1))
}

fn is_random(op: &Op) -> bool {
    op.name().starts_with("random")
}

/// The elements of a tensor of any numeric dtype or BOOL, as near as FP64 comes.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Fail> {
    let cast = match tensor.dtype() {
        DType::Fp64 => return Ok(tensor.elements::<f64>().map_err(invalid)?.into_owned()),
        DType::Bytes => return Err(invalid("wants numbers, got strings")),
        _ => Cpu::new().run_one(&Op::Cast { to: DType::Fp64 }, &[tensor], &Run::new())?,
    };
    Ok(cast.elements::<f64>().map_err(invalid)?.into_owned())
}
