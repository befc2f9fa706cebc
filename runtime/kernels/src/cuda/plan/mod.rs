//! What a device has to do for an operation: worked out from dtypes and shapes alone, so that it can be tested without a
//! device.

mod attention;
pub(crate) mod catalogue;
mod conv;
mod elementwise;
mod moves;
mod norm;
mod params;
pub(crate) mod product;
mod reduce;
mod rows;
mod train;
mod walk;

use innkeeper_tensor::{DType, Shape};

use crate::cuda::machine::Facts;
use crate::cuda::source::Unit;
use crate::error::{invalid, unsupported};
use crate::{Move, Op, OpError, Order};

pub(crate) use params::Params;
pub(crate) use walk::Walk;

/// The threads of a block in kernels where each does its own part.
const THREADS: u32 = 256;
/// The most blocks that a device takes along x.
const BLOCKS_MAX: u64 = 0x7fff_ffff;
/// The most blocks along y and z.
pub(crate) const BLOCKS_YZ_MAX: u64 = 0xffff;

/// Memory that a plan works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// An operand, by its place.
    Input(usize),
    /// A result, by its place.
    Output(usize),
    /// Memory for the time of the plan, by its place in [`Plan::scratch`].
    Scratch(usize),
    /// One number of 32 bits, 0 before; what is set there is the plan's fault.
    Flag,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// The bytes of each piece of memory for the time of the plan.
    pub(crate) scratch: Vec<u64>,
    pub(crate) steps: Vec<Step>,
    /// The error when the flag is set.
    pub(crate) fault: Option<String>,
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Launch(Launch),
    /// By the device's library.
    Product(product::Product),
    /// Every byte is `byte`.
    Fill {
        to: Slot,
        byte: u8,
        bytes: u64,
    },
    Copy {
        from: Slot,
        to: Slot,
        to_byte: u64,
        bytes: u64,
    },
}

/// A kernel to be launched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch {
    pub(crate) unit: Unit,
    pub(crate) kernel: &'static str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) params: Params,
}

/// A tensor of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: &'a Shape,
    pub(crate) slot: Slot,
}

impl<'a> Operand<'a> {
    pub(crate) fn dims(&self) -> &'a [usize] {
        self.shape.dims()
    }

    /// Bytes of one element. BYTES never gets here.
    pub(crate) fn size(&self) -> usize {
        self.dtype.size().unwrap_or(1)
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.shape.elements() * self.size()) as u64
    }
}

/// The operands and results of an operation.
pub(crate) struct Call<'a> {
    pub(crate) name: &'static str,
    pub(crate) inputs: Vec<Operand<'a>>,
    pub(crate) outputs: Vec<Operand<'a>>,
    pub(crate) facts: &'a Facts,
}

impl<'a> Call<'a> {
    /// The first result.
    pub(crate) fn out(&self) -> Result<Operand<'a>, OpError> {
        self.outputs.first().copied().ok_or_else(|| invalid(self.name, "has no result"))
    }

    pub(crate) fn input(&self, index: usize) -> Result<Operand<'a>, OpError> {
        let missing = || invalid(self.name, format_args!("operand {index} is missing"));
        self.inputs.get(index).copied().ok_or_else(missing)
    }

    /// Refuses what there is no kernel for.
    pub(crate) fn refused<T>(&self, what: impl std::fmt::Display) -> Result<T, OpError> {
        Err(unsupported(
            self.name,
            format_args!("there is no CUDA kernel for {what}; run the model with device = \"cpu\""),
        ))
    }
}

impl Plan {
    /// The work of `op`, whose operands were checked.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] for what there is no kernel for.
    pub(crate) fn of(op: &Op, call: &Call<'_>) -> Result<Plan, OpError> {
        let mut plan = Plan::default();
        // Nothing is to be computed, and a grid must not be empty.
        if call.outputs.iter().all(|out| out.shape.elements() == 0) {
            return Ok(plan);
        }
        match op {
            Op::Full { value, .. } => moves::full(&mut plan, call, *value)?,
            Op::Arange { start, step, .. } => moves::arange(&mut plan, call, *start, *step)?,
            Op::Cast { .. } => moves::cast(&mut plan, call)?,
            Op::Reshape { .. } => moves::same(&mut plan, call)?,
            Op::Transpose { permutation } => moves::transpose(&mut plan, call, permutation)?,
            Op::Slice { axis, start, end } => moves::slice(&mut plan, call, *axis, *start, *end)?,
            Op::Concat { axis } => moves::concat(&mut plan, call, *axis)?,
            Op::Gather { axis } => moves::gather(&mut plan, call, *axis)?,
            Op::Select => moves::select(&mut plan, call)?,
            Op::Binary(binary) => elementwise::binary(&mut plan, call, *binary, None)?,
            Op::Scalar { op, value } => elementwise::binary(&mut plan, call, *op, Some(*value))?,
            Op::Compare(_) => elementwise::compare(&mut plan, call)?,
            Op::Unary(unary) => elementwise::unary(&mut plan, call, *unary)?,
            Op::Curve(curve) => elementwise::curve(&mut plan, call, *curve)?,
            Op::Test(test) => elementwise::test(&mut plan, call, *test)?,
            Op::Reduce { op, axes, .. } => reduce::reduce(&mut plan, call, *op, axes)?,
            Op::ArgMax { axis, .. } => reduce::arg(&mut plan, call, *axis, false, false)?,
            Op::Softmax { axis } => rows::softmax(&mut plan, call, *axis, "softmax")?,
            Op::LogSoftmax { axis } => rows::softmax(&mut plan, call, *axis, "log_softmax")?,
            Op::MatMul => product::matmul(&mut plan, call)?,
            Op::Linear { .. } => product::linear(&mut plan, call, op)?,
            Op::Norm(norm) => norm::norm(&mut plan, call, norm)?,
            Op::Attention(op) => attention::attention(&mut plan, call, op)?,
            Op::Rope(rope) => attention::rope(&mut plan, call, rope)?,
            Op::Conv(conv) => conv::conv(&mut plan, call, conv)?,
            Op::ConvTranspose(conv) => conv::transpose(&mut plan, call, conv)?,
            Op::Pool(pool) => conv::pool(&mut plan, call, pool)?,
            Op::Move(Move::Expand { .. }) => moves::expand(&mut plan, call)?,
            Op::Move(Move::Split { axis, .. }) => moves::split(&mut plan, call, *axis)?,
            Op::Order(Order::Arg { smallest, last, axis, .. }) => {
                reduce::arg(&mut plan, call, *axis, *smallest, *last)?;
            }
            Op::Loss(loss) => train::loss(&mut plan, call, loss)?,
            Op::Grad(grad) => train::grad(&mut plan, call, grad)?,
            Op::Optim(optim) => train::optim(&mut plan, call, optim)?,
            #[allow(unreachable_patterns, reason = "operations are added before their kernels")]
            other => return call.refused(other.name()),
        }
        Ok(plan)
    }

    /// Memory of `bytes` for the time of the plan.
    pub(crate) fn scratch(&mut self, bytes: u64) -> Slot {
        self.scratch.push(bytes);
        Slot::Scratch(self.scratch.len() - 1)
    }

    /// A kernel whose threads each do their own part, `threads` of them in all.
    pub(crate) fn threads(
        &mut self,
        call: &Call<'_>,
        unit: Unit,
        kernel: &'static str,
        threads: u64,
        params: Params,
    ) -> Result<(), OpError> {
        let blocks = threads.div_ceil(u64::from(THREADS));
        self.blocks(call, unit, kernel, (blocks, THREADS, 0), params)
    }

    /// A kernel of so many blocks, threads in each, and bytes of shared memory.
    pub(crate) fn blocks(
        &mut self,
        call: &Call<'_>,
        unit: Unit,
        kernel: &'static str,
        (blocks, threads, shared_bytes): (u64, u32, u32),
        params: Params,
    ) -> Result<(), OpError> {
        self.grid(call, unit, kernel, [blocks, 1, 1], [threads, 1, 1], shared_bytes, params)
    }

    /// A kernel of a grid in three dimensions.
    #[expect(clippy::too_many_arguments, reason = "these are what a launch consists of")]
    pub(crate) fn grid(
        &mut self,
        call: &Call<'_>,
        unit: Unit,
        kernel: &'static str,
        grid: [u64; 3],
        block: [u32; 3],
        shared_bytes: u32,
        params: Params,
    ) -> Result<(), OpError> {
        let [x, y, z] = grid;
        if x > BLOCKS_MAX || y > BLOCKS_YZ_MAX || z > BLOCKS_YZ_MAX {
            return Err(unsupported(call.name, "the result is too large for one CUDA launch"));
        }
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let grid = [x as u32, y as u32, z as u32];
        self.steps.push(Step::Launch(Launch { unit, kernel, grid, block, shared_bytes, params }));
        Ok(())
    }
}
