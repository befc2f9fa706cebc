//! A stream of work, and how a plan becomes work on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::OpError;
use crate::cuda::CudaError;
use crate::cuda::arena::Arena;
use crate::cuda::machine::{Bound, BoundProduct, Id, Machine, WORKSPACE_BYTES};
use crate::cuda::memory::{self, Memory, Pool};
use crate::cuda::plan::{Plan, Slot, Step};

/// Work that is done in order.
pub(crate) struct Stream {
    machine: Arc<dyn Machine>,
    id: Id,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    /// Room for the library of products, taken at the first of them.
    workspace: Option<(u64, Arc<Pool>)>,
}

/// What becomes of work.
#[derive(Default)]
enum Mode {
    /// It is done.
    #[default]
    Direct,
    /// It is done, and its memory is also laid out in an arena, to see how large that must be.
    Measured { arena: Arena, thread: ThreadId },
    /// It is recorded, and its memory is that of the graph.
    Recorded { arena: Arena, whole: Arc<Memory>, kept: Kept, thread: ThreadId },
}

/// What a recorded graph needs for as long as it is.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) faults: Vec<Fault>,
    /// Operands that were there before, whose addresses the graph has.
    operands: Vec<Arc<Memory>>,
}

/// A flag that a graph may set, and what that means.
pub(crate) type Fault = (Arc<Memory>, String);

impl Stream {
    pub(crate) fn new(machine: &Arc<dyn Machine>) -> Result<Arc<Stream>, CudaError> {
        let id = machine.stream()?;
        Ok(Arc::new(Stream { machine: machine.clone(), id, state: Mutex::default() }))
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether work is recorded, so that nothing may be uploaded or waited for.
    pub(crate) fn is_recording(&self) -> bool {
        matches!(self.state().mode, Mode::Recorded { .. })
    }

    /// Lays memory out in an arena beside doing the work.
    pub(crate) fn measure(&self) -> Arena {
        let arena = Arena::default();
        self.state().mode = Mode::Measured { arena: arena.clone(), thread: thread::current().id() };
        arena
    }

    /// Records from here on, with memory in `whole`.
    pub(crate) fn record(&self, whole: Arc<Memory>) -> Result<(), CudaError> {
        self.machine.record(self.id)?;
        let (arena, thread) = (Arena::default(), thread::current().id());
        self.state().mode = Mode::Recorded { arena, whole, kept: Kept::default(), thread };
        Ok(())
    }

    /// Ends measuring or recording.
    pub(crate) fn direct(&self) -> Kept {
        match std::mem::take(&mut self.state().mode) {
            Mode::Recorded { mut kept, whole, .. } => {
                kept.operands.push(whole);
                kept
            }
            _ => Kept::default(),
        }
    }

    /// Keeps an operand for as long as what is recorded now.
    pub(crate) fn keep(&self, memory: &Arc<Memory>) {
        if let Mode::Recorded { kept, .. } = &mut self.state().mode
            && memory.is_pooled()
        {
            kept.operands.push(memory.clone());
        }
    }

    /// Memory for what is computed next.
    pub(crate) fn room(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        bytes: u64,
    ) -> Result<Arc<Memory>, CudaError> {
        let elsewhere = || {
            CudaError::Device(
                "a graph is being recorded here by another thread; use a worker of your own"
                    .to_owned(),
            )
        };
        let state = self.state();
        match &state.mode {
            Mode::Direct => {
                drop(state);
                Memory::take(pool, self, bytes, None)
            }
            Mode::Measured { arena, thread } if *thread == thread::current().id() => {
                let region = arena.take(bytes);
                drop(state);
                Memory::take(pool, self, bytes, region)
            }
            Mode::Recorded { arena, whole, thread, .. } if *thread == thread::current().id() => {
                let too_much =
                    || CudaError::Memory("a graph's memory is more than there can be".to_owned());
                let region = arena.take(bytes).ok_or_else(too_much)?;
                Ok(Memory::inside(whole, region, self))
            }
            _ => Err(elsewhere()),
        }
    }

    /// The room of the library of products.
    fn workspace(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<u64, CudaError> {
        let mut state = self.state();
        if let Some((address, _)) = &state.workspace {
            return Ok(*address);
        }
        let address = pool.take(self.id, WORKSPACE_BYTES)?;
        state.workspace = Some((address, pool.clone()));
        Ok(address)
    }

    /// Gives out the work of a plan. `vouched` says that its fault cannot be.
    pub(crate) fn run(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        plan: &Plan,
        (inputs, outputs): (&[u64], &[u64]),
        vouched: bool,
    ) -> Result<(), OpError> {
        let mut scratch = Vec::with_capacity(plan.scratch.len());
        for &bytes in &plan.scratch {
            scratch.push(self.room(pool, bytes)?);
        }
        let flag = match plan.fault {
            Some(_) => {
                let flag = self.room(pool, 4)?;
                self.machine.fill(self.id, flag.address(), 0, 4)?;
                Some(flag)
            }
            None => None,
        };
        let address = |slot: Slot| match slot {
            Slot::Input(i) => inputs.get(i).copied().unwrap_or(0),
            Slot::Output(i) => outputs.get(i).copied().unwrap_or(0),
            Slot::Scratch(i) => scratch.get(i).map_or(0, |memory| memory.address()),
            Slot::Flag => flag.as_ref().map_or(0, |flag| flag.address()),
        };
        for step in &plan.steps {
            self.step(pool, step, &address)?;
        }
        match (flag, &plan.fault) {
            (Some(flag), Some(fault)) if !vouched => self.check(flag, fault),
            _ => Ok(()),
        }
    }

    fn step(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        step: &Step,
        address: &impl Fn(Slot) -> u64,
    ) -> Result<(), CudaError> {
        match step {
            Step::Launch(launch) => self.machine.launch(
                self.id,
                &Bound {
                    unit: &launch.unit,
                    kernel: launch.kernel,
                    grid: launch.grid,
                    block: launch.block,
                    shared_bytes: launch.shared_bytes,
                    params: &launch.params.bound(address),
                },
            ),
            Step::Fill { to, byte, bytes } => {
                self.machine.fill(self.id, address(*to), *byte, *bytes)
            }
            Step::Copy { from, to, to_byte, bytes } => {
                self.machine.copy(self.id, address(*from), address(*to) + to_byte, *bytes)
            }
            Step::Product(product) => {
                // Sums start from the residual where there is one.
                let bound = BoundProduct {
                    product,
                    a: address(product.a),
                    b: address(product.b),
                    c: address(product.c),
                    bias: product.bias.map_or(0, address),
                    residual: product.residual.map_or(0, address),
                    workspace: self.workspace(pool)?,
                };
                self.machine.product(self.id, &bound)
            }
        }
    }

    /// Whether a kernel set the flag: now, or for a graph, each time that it has run.
    fn check(&self, flag: Arc<Memory>, fault: &str) -> Result<(), OpError> {
        if let Mode::Recorded { kept, .. } = &mut self.state().mode {
            kept.faults.push((flag, fault.to_owned()));
            return Ok(());
        }
        self.flagged(flag.address(), fault)
    }

    /// The fault, when its flag is set.
    pub(crate) fn flagged(&self, flag: u64, fault: &str) -> Result<(), OpError> {
        let bytes = memory::read(&*self.machine, self.id, flag, 4)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        Err(OpError::InvalidArgument(fault.to_owned()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((address, pool)) = state.workspace.take() {
            pool.give_back(self.id, address, WORKSPACE_BYTES);
        }
        self.machine.drop_stream(self.id);
    }
}
