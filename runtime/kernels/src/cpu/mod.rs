//! The backend that is always there.

mod activation;
mod attention;
mod bytes;
mod coded;
mod conv;
mod copy;
mod create;
mod dispatch;
mod elementwise;
mod gemm;
mod grad;
mod index;
mod isa;
mod lanes;
mod layout;
mod loss;
mod math;
mod matmul;
mod memory;
mod movement;
mod norm;
mod number;
mod optim;
mod order;
mod panel;
mod pieces;
mod pool;
mod product;
mod quant;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod rope;
mod rows;
mod simd;
mod smooth;
mod softmax;
mod trees;
mod turn;
mod unary;
mod vector;
mod walk;
mod wide;

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::backend::one;
use crate::error::invalid;
use crate::infer::{axes, layout as shapes, matmul as infer_matmul};
use crate::{Backend, Op, OpError, Optim, Run};

pub use isa::Isa;

/// The processor: the calling thread, and those that a [`Run`] lends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    isa: Isa,
}

impl Cpu {
    /// The backend, with the best instructions that the processor has.
    pub fn new() -> Cpu {
        Cpu::default()
    }

    /// The backend with these instructions and no better ones; `None` where the processor does not have them.
    pub fn with_isa(isa: Isa) -> Option<Cpu> {
        isa.is_there().then_some(Cpu { isa })
    }

    /// Which instructions it uses.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What comes of operands of which some are kept in a code, if that is to be read as it is.
    fn in_code(
        &self,
        op: &Op,
        inputs: &[&Tensor],
        run: &Run<'_>,
    ) -> Result<Option<Tensor>, OpError> {
        match inputs.iter().any(|x| x.data().is_remote()) {
            true => coded::run(self, op, inputs, run),
            false => Ok(None),
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn run(&self, op: &Op, inputs: &[&Tensor], run: &Run<'_>) -> Result<Vec<Tensor>, OpError> {
        let run = &run.by(self.isa);
        if let Some(result) = self.in_code(op, inputs, run)? {
            return Ok(vec![result]);
        }
        match (op, inputs) {
            (Op::Move(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                movement::movement(of, results, inputs, run)
            }
            (Op::Index(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                index::index(*of, results, inputs, run)
            }
            (Op::Random(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                random::random(of, results, inputs, run)
            }
            (Op::Trees(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                let &[x] = inputs else { return Err(miscounted(op)) };
                trees::trees(of, results, x, run)
            }
            (Op::Recurrent(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                recurrent::recurrent(of, results, inputs, run)
            }
            (Op::Order(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                order::order(of, results, inputs, run)
            }
            (Op::Norm(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                norm::norm(of, &results, inputs, run)
            }
            (Op::Pool(of), _) => {
                checked_all(op, inputs)?;
                run.check()?;
                pool::pool(of, inputs, run)
            }
            (Op::Loss(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                let &[x, target] = inputs else { return Err(miscounted(op)) };
                loss::loss(of, results, x, target, run)
            }
            (Op::Grad(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                grad::grad(self, of, results, inputs, run)
            }
            (Op::Quant(of), _) => {
                let results = checked_all(op, inputs)?;
                run.check()?;
                quant::quant(of, results, inputs, run)
            }
            (Op::Optim(optim), _) => {
                let count = checked_all(op, inputs)?.len();
                let changing = count - usize::from(matches!(optim, Optim::ClipNorm { .. }));
                let (changing, read) = inputs.split_at(changing);
                let mut results: Vec<Tensor> = changing.iter().map(|&x| x.clone()).collect();
                let more = self.update(optim, &mut results, read, run)?;
                results.extend(more);
                Ok(results)
            }
            _ => self.run_one(op, inputs, run).map(|result| vec![result]),
        }
    }

    fn update(
        &self,
        optim: &Optim,
        changing: &mut [Tensor],
        read: &[&Tensor],
        run: &Run<'_>,
    ) -> Result<Option<Tensor>, OpError> {
        let operands: Vec<&Tensor> = changing.iter().chain(read.iter().copied()).collect();
        checked_all(&Op::Optim(*optim), &operands)?;
        run.check()?;
        optim::update(optim, changing, read, run)
    }

    fn run_one(&self, op: &Op, inputs: &[&Tensor], run: &Run<'_>) -> Result<Tensor, OpError> {
        if let Op::Random(_) | Op::Trees(_) | Op::Recurrent(_) = op {
            return one(op, self.run(op, inputs, run)?);
        }
        if let Op::Move(_) | Op::Index(_) | Op::Order(_) = op {
            return one(op, self.run(op, inputs, run)?);
        }
        if let Op::Norm(_) | Op::Pool(_) = op {
            return one(op, self.run(op, inputs, run)?);
        }
        if let Op::Loss(_) | Op::Grad(_) | Op::Optim(_) | Op::Quant(_) = op {
            return one(op, self.run(op, inputs, run)?);
        }
        let (dtype, shape) = checked(op, inputs)?;
        run.check()?;
        let run = &run.by(self.isa);
        if let Some(result) = self.in_code(op, inputs, run)? {
            return Ok(result);
        }
        let name = op.name();
        match (op, inputs) {
            (Op::Full { value, .. }, []) => create::full(dtype, shape, *value, run),
            (Op::Arange { start, step, .. }, []) => {
                create::arange(dtype, shape, [*start, *step], run)
            }
            (Op::Cast { to }, [x]) => create::cast(x, *to, run),
            (Op::Reshape { .. }, [x]) => {
                x.reshaped(shape).map_err(|error| invalid(name, error.to_string()))
            }
            (Op::Transpose { permutation }, [x]) => layout::transpose(shape, x, permutation, run),
            (Op::Slice { axis, start, end }, [x]) => {
                let (_, axis, range) = shapes::slice(name, x.shape(), *axis, *start, *end)?;
                layout::slice(shape, x, axis, range, run)
            }
            (Op::Concat { axis }, parts) => {
                let axis = axes::axis(name, *axis, shape.rank())?;
                layout::concat(shape, parts, axis, run)
            }
            (Op::Gather { axis }, [data, indices]) => {
                let axis = axes::axis(name, *axis, data.shape().rank())?;
                layout::gather(shape, data, indices, axis, run)
            }
            (Op::Binary(binary), [a, b]) => elementwise::binary(*binary, shape, a, b, run),
            (Op::Scalar { op, value }, [a]) => elementwise::scalar(*op, shape, a, *value, run),
            (Op::Compare(compare), [a, b]) => elementwise::compare(*compare, shape, a, b, run),
            (Op::Select, [condition, a, b]) => elementwise::select(shape, condition, a, b, run),
            (Op::Resize(op), [x]) => resize::resize(op, shape, x, run),
            (Op::Unary(op), [a]) => unary::unary(*op, a, run),
            (Op::Curve(op), [a]) => unary::curve(*op, a, run),
            (Op::Test(op), [a]) => unary::test(*op, a, run),
            (Op::Reduce { op, axes, .. }, [a]) => {
                let gone = axes::axes(name, axes, a.shape().rank())?;
                reduce::reduce(*op, shape, a, &gone, run)
            }
            (Op::ArgMax { axis, .. }, [a]) => {
                reduce::argmax(shape, a, axes::axis(name, *axis, a.shape().rank())?, run)
            }
            (Op::Softmax { axis }, [a]) => {
                softmax::softmax(shape, a, axes::axis(name, *axis, a.shape().rank())?, run)
            }
            (Op::LogSoftmax { axis }, [a]) => {
                softmax::log_softmax(shape, a, axes::axis(name, *axis, a.shape().rank())?, run)
            }
            (Op::Attention(of), _) => attention::attention(of, inputs, run),
            (Op::Rope(of), _) => rope::rope(of, inputs, run),
            (Op::Conv(of), _) => conv::conv(of, inputs, run),
            (Op::ConvTranspose(of), _) => conv::transpose(of, inputs, run),
            (Op::MatMul, [a, b]) => matmul::matmul(run, a, b),
            (Op::Linear { bias, residual, activation }, [x, weight, rest @ ..]) => {
                let added = infer_matmul::added(rest.iter().copied(), *bias, *residual);
                matmul::linear(run, x, weight, added, *activation)
            }
            _ => Err(miscounted(op)),
        }
    }
}

/// What the check has found already.
fn miscounted(op: &Op) -> OpError {
    invalid(op.name(), "wrong number of operands")
}

/// [`Op::output`] of these tensors, without an allocation for the usual numbers of operands.
fn checked(op: &Op, inputs: &[&Tensor]) -> Result<(DType, Shape), OpError> {
    match inputs {
        [] => op.output(&[]),
        [a] => op.output(&[(a.dtype(), a.shape())]),
        [a, b] => op.output(&[(a.dtype(), a.shape()), (b.dtype(), b.shape())]),
        [a, b, c] => {
            op.output(&[(a.dtype(), a.shape()), (b.dtype(), b.shape()), (c.dtype(), c.shape())])
        }
        many => {
            let operands: Vec<_> = many.iter().map(|x| (x.dtype(), x.shape())).collect();
            op.output(&operands)
        }
    }
}

/// [`Op::outputs`] of these tensors.
fn checked_all(op: &Op, inputs: &[&Tensor]) -> Result<Vec<(DType, Shape)>, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    op.outputs(&operands)
}
