//! What exporters took apart is put together again.
//!
//! Rewriting works on the steps of a plan, where every shape is known and all arithmetic on shapes is done, so that a
//! pattern is the same whichever exporter wrote it. A pattern is always replaced at its last step: whatever the new
//! operation reads was computed before.

mod activation;
mod attention;
mod clean;
mod conv;
mod linear;
mod norm;
mod quant;

use std::collections::HashMap;
use std::rc::Rc;

use innkeeper_kernels::{Backend, Binary, Cpu, Op, Run};
use innkeeper_tensor::{DType, Tensor};

use crate::derived::Derived;
use crate::machine::{Info, Step, Val, numbers};

/// Rewrites the steps.
pub(crate) fn fuse(
    values: &mut Vec<Info>,
    steps: Vec<Step>,
    outputs: &mut [Val],
    derived: &Derived,
) -> Vec<Step> {
    let mut rewriter = Rewriter::new(values, steps, outputs, derived);
    rewriter.each(clean::batched);
    rewriter.each(clean::layout);
    rewriter.common();
    rewriter.each(quant::dynamic);
    rewriter.each(quant::fixed);
    rewriter.each(quant::constants);
    rewriter.each(linear::product);
    rewriter.each(linear::bias);
    rewriter.each(activation::gelu);
    rewriter.each(activation::silu);
    rewriter.each(norm::layer);
    rewriter.each(norm::rms);
    rewriter.each(norm::affine);
    rewriter.each(conv::batch_norm);
    rewriter.each(attention::attention);
    rewriter.each(clean::layout);
    rewriter.each(attention::heads_last);
    rewriter.each(attention::split);
    rewriter.each(attention::merged);
    rewriter.each(linear::residual);
    rewriter.each(linear::activation);
    rewriter.each(conv::residual);
    rewriter.each(conv::activation);
    rewriter.each(norm::residual);
    rewriter.common();
    rewriter.finish(outputs)
}

/// How many new steps may come before one.
const ROOM: usize = 4;

pub(crate) struct Rewriter<'a> {
    values: &'a mut Vec<Info>,
    steps: Vec<Option<Step>>,
    /// Which step makes a value.
    maker: HashMap<Val, usize>,
    /// How often a value is read; being an output counts.
    uses: Vec<u32>,
    /// What a value is the same as.
    same: HashMap<Val, Val>,
    derived: &'a Derived,
}

/// Something to try at each step: whether it changed anything.
type Rule = fn(&mut Rewriter<'_>, usize) -> Option<()>;

impl<'a> Rewriter<'a> {
    fn new(
        values: &'a mut Vec<Info>,
        steps: Vec<Step>,
        outputs: &[Val],
        derived: &'a Derived,
    ) -> Rewriter<'a> {
        let steps = crate::plan::live(steps, outputs);
        let mut uses = vec![0; values.len()];
        let mut maker = HashMap::with_capacity(steps.len());
        let mut spread = Vec::with_capacity(steps.len() * (ROOM + 1));
        for step in steps {
            spread.extend((0..ROOM).map(|_| None));
            let index = spread.len();
            step.inputs.iter().for_each(|val| uses[val.0 as usize] += 1);
            maker.extend(step.outputs.iter().map(|&val| (val, index)));
            spread.push(Some(step));
        }
        outputs.iter().for_each(|val| uses[val.0 as usize] += 1);
        Rewriter { values, steps: spread, maker, uses, same: HashMap::new(), derived }
    }

    fn finish(self, outputs: &mut [Val]) -> Vec<Step> {
        for output in outputs {
            *output = resolve(&self.same, *output);
        }
        self.steps.into_iter().flatten().collect()
    }

    fn each(&mut self, rule: Rule) {
        for index in 0..self.steps.len() {
            if self.steps[index].is_some() {
                rule(self, index);
            }
        }
    }

    // Looking.

    fn step(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)?.as_ref()
    }

    /// The step that makes a value, and its number.
    fn made(&self, val: Val) -> Option<(usize, &Step)> {
        let index = *self.maker.get(&val)?;
        Some((index, self.step(index)?))
    }

    /// The same, when nobody else reads the value.
    fn only(&self, val: Val) -> Option<(usize, &Step)> {
        if self.uses[val.0 as usize] == 1 { self.made(val) } else { None }
    }

    fn dims(&self, val: Val) -> &[usize] {
        self.values[val.0 as usize].shape.dims()
    }

    fn dtype(&self, val: Val) -> DType {
        self.values[val.0 as usize].dtype
    }

    fn known(&self, val: Val) -> Option<&Tensor> {
        self.values[val.0 as usize].known.as_ref()
    }

    /// The value of a constant of one element.
    fn scalar(&self, val: Val) -> Option<f64> {
        let tensor = self.known(val)?;
        if tensor.shape().elements() != 1 || tensor.dtype() == DType::Bytes {
            return None;
        }
        numbers(tensor).ok()?.first().copied()
    }

    /// The operands of a binary step.
    fn binary(&self, val: Val, op: Binary) -> Option<(Val, Val)> {
        match self.made(val)?.1 {
            Step { op: Op::Binary(found), inputs, .. } if *found == op => {
                Some((*inputs.first()?, *inputs.get(1)?))
            }
            _ => None,
        }
    }

    /// x and c of x * c, c * x or x / (1 / c) with a constant c that does not change the shape.
    fn scaled(&self, val: Val) -> Option<(Val, f64)> {
        let found = if let Some((a, b)) = self.binary(val, Binary::Mul) {
            match (self.scalar(a), self.scalar(b)) {
                (_, Some(c)) => (a, c),
                (Some(c), _) => (b, c),
                _ => return None,
            }
        } else {
            let (a, b) = self.binary(val, Binary::Div)?;
            (a, 1.0 / self.scalar(b)?)
        };
        (self.dims(found.0) == self.dims(val)).then_some(found)
    }

    /// x of x + c or c + x for this constant.
    fn plus(&self, val: Val, c: f64) -> Option<Val> {
        let (a, b) = self.binary(val, Binary::Add)?;
        match (self.scalar(a), self.scalar(b)) {
            (_, Some(found)) if near(found, c) => Some(a),
            (Some(found), _) if near(found, c) => Some(b),
            _ => None,
        }
    }

    // Changing.

    /// Another operation in place of this step, for the same result.
    fn replace(&mut self, index: usize, op: Op, inputs: Vec<Val>) -> Option<()> {
        let operands: Vec<_> = inputs
            .iter()
            .map(|val| {
                let info = &self.values[val.0 as usize];
                (info.dtype, &info.shape)
            })
            .collect();
        let step = self.steps.get(index)?.as_ref()?;
        let info = &self.values[step.outputs.first()?.0 as usize];
        // What rewriting believes is not enough: the operation itself must agree.
        match op.outputs(&operands).ok()?.first() {
            Some((dtype, shape)) if *dtype == info.dtype && *shape == info.shape => {}
            _ => return None,
        }
        inputs.iter().for_each(|val| self.uses[val.0 as usize] += 1);
        let step = self.steps.get_mut(index)?.as_mut()?;
        step.op = op;
        let old = std::mem::replace(&mut step.inputs, inputs);
        self.unread(old);
        Some(())
    }

    /// Says that values are read once less, and drops the steps that nobody needs then.
    fn unread(&mut self, vals: Vec<Val>) {
        let mut queue = vals;
        while let Some(val) = queue.pop() {
            let uses = &mut self.uses[val.0 as usize];
            *uses = uses.saturating_sub(1);
            if *uses > 0 {
                continue;
            }
            let Some(&index) = self.maker.get(&val) else { continue };
            let dead = self.step(index).is_some_and(|step| {
                step.outputs.iter().all(|output| self.uses[output.0 as usize] == 0)
            });
            if dead && let Some(step) = self.steps[index].take() {
                queue.extend(step.inputs);
            }
        }
    }

    /// Takes a step out: its result is this other value, which was there before.
    fn alias(&mut self, index: usize, to: Val) -> Option<()> {
        let step = self.steps.get_mut(index)?.take()?;
        let from = *step.outputs.first()?;
        // Whoever reads it comes later, and how often it is read is known: no need to look any further.
        let mut left = self.uses[from.0 as usize];
        for other in self.steps.iter_mut().skip(index + 1).flatten() {
            if left == 0 {
                break;
            }
            for input in other.inputs.iter_mut().filter(|input| **input == from) {
                *input = to;
                left = left.saturating_sub(1);
            }
        }
        self.uses[to.0 as usize] += self.uses[from.0 as usize];
        self.uses[from.0 as usize] = 0;
        self.same.insert(from, to);
        self.unread(step.inputs);
        Some(())
    }

    /// Puts a step just before another, after what was put there earlier.
    fn before(&mut self, index: usize, op: Op, inputs: Vec<Val>) -> Option<Val> {
        let operands: Vec<_> = inputs
            .iter()
            .map(|val| {
                let info = &self.values[val.0 as usize];
                (info.dtype, &info.shape)
            })
            .collect();
        let (dtype, shape) = op.outputs(&operands).ok()?.into_iter().next()?;
        let node = self.step(index)?.node;
        let free = |slot: &usize| (*slot..index).all(|slot| self.steps[slot].is_none());
        let slot = (index.saturating_sub(ROOM)..index).find(free)?;
        let val = self.add(Info { dtype, shape, known: None, key: None });
        inputs.iter().for_each(|val| self.uses[val.0 as usize] += 1);
        self.steps[slot] = Some(Step { op, inputs, outputs: vec![val], node });
        self.maker.insert(val, slot);
        Some(val)
    }

    fn add(&mut self, info: Info) -> Val {
        self.values.push(info);
        self.uses.push(0);
        Val(self.values.len() as u32 - 1)
    }

    /// A constant made of constants that have names of their own, once for all plans.
    fn derive(
        &mut self,
        what: &str,
        from: &[Val],
        make: impl FnOnce(&[&Tensor]) -> Option<Tensor>,
    ) -> Option<Val> {
        let mut key = format!("{what}(");
        let mut tensors = Vec::with_capacity(from.len());
        for val in from {
            let info = &self.values[val.0 as usize];
            key.push_str(info.key.as_deref()?);
            key.push(',');
            tensors.push(info.known.as_ref()?);
        }
        key.push(')');
        let tensor = self.derived.get(&key, || make(&tensors).ok_or(())).ok()?;
        let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
        Some(self.add(Info { dtype, shape, known: Some(tensor), key: Some(Rc::from(key)) }))
    }
}

fn resolve(same: &HashMap<Val, Val>, val: Val) -> Val {
    let mut val = val;
    while let Some(&other) = same.get(&val) {
        val = other;
    }
    val
}

/// Whether two constants are the same but for how an exporter rounded.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs().max(1e-30)
}

/// The result of one operation on constants.
fn compute(op: &Op, inputs: &[&Tensor]) -> Option<Tensor> {
    Cpu::new().run_one(op, inputs, &Run::new()).ok()
}
