//! What the host holds for one guest, and what it answers to the guest's imports.

mod context;
mod graph;
mod layers;
mod limiter;
mod nn;
mod quantised;
mod random;
mod recycled;
mod run;
mod tensors;
mod training;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use innkeeper_kernels::{Cpu, OpError, Pool, Run};
use innkeeper_tensor::{DType, Named, Tensor};
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Trap, UpdateDeadline};

use crate::assets::{Assets, Derived};
use crate::bindings::innkeeper::model::tensors::NamedTensor;
use crate::bindings::innkeeper::model::types::{self, Dtype, Error};
use crate::fair::{self, Turns};
use crate::program::{InstanceLimits, Setup};
use crate::{ByteBudget, Cancel, Charge, GuestError, OverBudget, Work};

use crate::runner::GuestThreads;
use recycled::Recycled;

pub(crate) use limiter::Limiter;

#[expect(unreachable_pub, reason = "the generated bindings re-export them")]
pub use {
    graph::HostGraph,
    nn::{HostContext, HostNnError},
};

/// How much a log message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever works on the model.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is odd.
    Warn,
    /// Something went wrong.
    Error,
}

/// Where a guest's log goes.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one message. `request_id` is empty outside of a prediction.
    fn write(&self, level: Level, request_id: &str, message: &str);
    /// Says that `bytes` of log were over the limit and are lost.
    fn dropped(&self, request_id: &str, bytes: u64);
}

/// A tensor behind a guest's handle, counted while the handle lives. Handles on the same bytes share one charge; an
/// asset's tensors have none, they count against the version.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostTensor {
    pub(crate) tensor: Tensor,
    charge: Option<Arc<Charge>>,
    /// Where a weight counts what is derived from it.
    derived: Option<Derived>,
    /// What wasi:nn was given that is no tensor.
    unfit: Option<Box<nn::Unfit>>,
}

/// Why an import was not done: the guest is told, or it is stopped.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub enum HostError {
    /// The guest gets this as the import's result.
    Told(Error),
    /// The guest is stopped.
    Stopped(wasmtime::Error),
}

impl HostError {
    pub(crate) fn invalid(text: impl Into<String>) -> HostError {
        HostError::Told(Error::InvalidArgument(text.into()))
    }

    /// The call has to end: the guest is stopped as the next tick of the epoch would do it.
    pub(crate) fn interrupted() -> HostError {
        HostError::Stopped(Trap::Interrupt.into())
    }

    pub(crate) fn not_found(text: impl Into<String>) -> HostError {
        HostError::Told(Error::NotFound(text.into()))
    }
}

impl From<ResourceTableError> for HostError {
    fn from(error: ResourceTableError) -> HostError {
        HostError::Stopped(error.into())
    }
}

impl From<OpError> for HostError {
    fn from(error: OpError) -> HostError {
        match error {
            OpError::InvalidArgument(text) => HostError::Told(Error::InvalidArgument(text)),
            OpError::Unsupported(text) => HostError::Told(Error::Unsupported(text)),
            OpError::Stopped => HostError::interrupted(),
        }
    }
}

/// The call that a guest is in.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) id: String,
    pub(crate) parameters: Arc<Vec<(String, String)>>,
    pub(crate) outputs: Arc<Vec<String>>,
    pub(crate) deadline: Instant,
    pub(crate) limit: &'static str,
    pub(crate) limit_ms: u64,
    pub(crate) cancel: Cancel,
    pub(crate) work: Option<Arc<Work>>,
}

/// Everything that the host holds for one guest.
pub(crate) struct State {
    table: ResourceTable,
    /// Entries of `table`.
    handles: u64,
    /// Those of them that count against the budget.
    charged_handles: u64,
    pub(crate) limiter: Limiter,
    limits: InstanceLimits,
    stack_bytes_max: usize,
    backend: Cpu,
    kernels: Arc<Pool>,
    /// The guests' threads, one of which this call may be on.
    threads: Arc<GuestThreads>,
    /// Memory of results that were dropped, for later ones of the same call, or of a trainer's later calls.
    recycled: Recycled,
    /// Whether the guest is a trainer.
    learning: bool,
    assets: Arc<Assets>,
    tensor_bytes: Arc<ByteBudget>,
    log: Arc<dyn crate::LogSink>,
    log_bytes: u64,
    /// What of this call's log was over the limit.
    log_bytes_lost: u64,
    /// Set when the guest asks for an operation that takes long.
    long_operations: Arc<AtomicBool>,
    current: Current,
    /// Whether a request is being answered, or the guest is being made ready.
    in_request: bool,
    /// Why the guest was stopped, where the trap itself does not say it.
    stopped: Option<GuestError>,
}

impl State {
    pub(crate) fn new(
        setup: Setup,
        pool_memory_bytes_max: u64,
        stack_bytes_max: usize,
        long_operations: Arc<AtomicBool>,
        kernels: Arc<Pool>,
        threads: Arc<GuestThreads>,
    ) -> State {
        let limits = setup.limits;
        let handles = usize::try_from(limits.handles_max).unwrap_or(usize::MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        State {
            table,
            handles: 0,
            charged_handles: 0,
            limiter: Limiter::new(
                limits.guest_memory_bytes_max.min(pool_memory_bytes_max),
                limits.table_elements_max,
            ),
            limits,
            stack_bytes_max,
            backend: Cpu::new(),
            kernels,
            threads,
            recycled: Recycled::new(&setup.tensor_bytes),
            learning: false,
            assets: setup.assets,
            tensor_bytes: setup.tensor_bytes,
            log: setup.log,
            log_bytes: 0,
            log_bytes_lost: 0,
            long_operations,
            current: Current {
                id: String::new(),
                parameters: Arc::default(),
                outputs: Arc::default(),
                deadline: setup.deadline,
                limit: "load_ms_max",
                limit_ms: setup.load_ms_max,
                cancel: setup.cancel,
                work: None,
            },
            in_request: false,
            stopped: None,
        }
    }

    pub(crate) fn begin(&mut self, call: Current) {
        self.current = call;
        self.in_request = true;
        self.log_bytes = 0;
        // What an earlier call met says nothing about how this one ends.
        self.stopped = None;
        self.limiter.forget_refused();
    }

    /// Says that this guest learns: its next call will want the memory that this one let go of.
    pub(crate) fn learns(&mut self) {
        self.recycled = Recycled::of_trainer(&self.tensor_bytes);
        self.learning = true;
    }

    /// When a call is over. What is lost of its log is said once: a line for each would drive out what was kept.
    pub(crate) fn end(&mut self) {
        // The limit may have changed by the next call; and what a guest does not hold should not count.
        if !self.learning {
            self.recycled = Recycled::new(&self.tensor_bytes);
        }
        let lost = std::mem::take(&mut self.log_bytes_lost);
        if lost > 0 {
            self.log.dropped(self.request_id(), lost);
        }
    }

    /// The id of the request, none while the guest is made ready.
    fn request_id(&self) -> &str {
        if self.in_request { &self.current.id } else { "" }
    }

    /// At every tick of the epoch that the guest is found running.
    pub(crate) fn on_epoch(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.current.cancel.is_cancelled() || Instant::now() >= self.current.deadline {
            return Ok(UpdateDeadline::Interrupt);
        }
        fair::yielding();
        Ok(UpdateDeadline::Yield(1))
    }

    /// Handles for the guest on its inputs.
    pub(crate) fn push_inputs(
        &mut self,
        inputs: Vec<Named>,
    ) -> Result<Vec<NamedTensor>, GuestError> {
        let mut handles = Vec::with_capacity(inputs.len());
        for Named { name, tensor } in inputs {
            let charge = self
                .tensor_bytes
                .charge(tensor.data().len() as u64)
                .map_err(|over| GuestError::NoRoom { limit: "tensor_bytes_max", max: over.max })?;
            let max = self.limits.handles_max;
            let value = self
                .push(tensor, Some(Arc::new(charge)))
                .map_err(|_| GuestError::NoRoom { limit: "handles_max", max })?;
            handles.push(NamedTensor { name, value });
        }
        Ok(handles)
    }

    /// The tensors behind the guest's answer. They stop counting against its budget and must be within the limit on
    /// outputs instead.
    pub(crate) fn take_outputs(
        &mut self,
        outputs: Vec<NamedTensor>,
    ) -> Result<Vec<Named>, GuestError> {
        let mut taken = Vec::with_capacity(outputs.len());
        let mut bytes: u64 = 0;
        for NamedTensor { name, value } in outputs {
            if let Err(HostError::Told(error)) = self.open(&value) {
                return Err(self.answered(error));
            }
            let HostTensor { tensor, .. } =
                self.pull(value).map_err(|error| GuestError::Trap(error.to_string()))?;
            bytes += tensor.data().len() as u64;
            if bytes > self.limits.output_bytes_max {
                let (limit, max) = ("output_bytes_max", self.limits.output_bytes_max);
                return Err(GuestError::Limit { limit, max });
            }
            taken.push(Named { name, tensor });
        }
        Ok(taken)
    }

    /// Whether a quarter of the handles are taken between calls: a guest that leaks.
    pub(crate) fn is_worn(&self) -> bool {
        self.handles.saturating_mul(4) > self.limits.handles_max
    }

    /// Whether the guest holds on to bytes that count against the budget.
    pub(crate) fn holds_tensors(&self) -> bool {
        self.charged_handles > 0
    }

    /// What an error that the guest answered means to whoever asked.
    pub(crate) fn answered(&self, error: Error) -> GuestError {
        // A guest that gives up because the host stopped what it asked for does not say so.
        let late = self.stop()() && !matches!(error, Error::InvalidArgument(_));
        if late {
            return self.explain(&Trap::Interrupt.into());
        }
        match error {
            Error::InvalidArgument(text) => GuestError::Refused(shortened(text)),
            Error::ResourceExhausted(text) => {
                self.stopped.clone().unwrap_or_else(|| GuestError::Failed(shortened(text)))
            }
            Error::NotFound(text) | Error::Unsupported(text) | Error::Internal(text) => {
                GuestError::Failed(shortened(text))
            }
        }
    }

    /// What a trap means to whoever asked.
    pub(crate) fn explain(&self, error: &wasmtime::Error) -> GuestError {
        let limit = |limit, max| GuestError::Limit { limit, max };
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return GuestError::Busy;
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) if self.current.cancel.is_cancelled() => GuestError::Cancelled,
            Some(Trap::Interrupt) => {
                GuestError::Deadline { limit: self.current.limit, max: self.current.limit_ms }
            }
            Some(Trap::StackOverflow) => limit("stack_bytes_max", self.stack_bytes_max as u64),
            _ => self.explain_other(error),
        }
    }

    fn explain_other(&self, error: &wasmtime::Error) -> GuestError {
        if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
            return GuestError::Limit { limit: "handles_max", max: self.limits.handles_max };
        }
        if let Some(stopped) = &self.stopped {
            return stopped.clone();
        }
        if let Some((limit, max)) = self.limiter.refused() {
            return GuestError::Limit { limit, max };
        }
        let text = format!("{error:#}");
        // wasmtime keeps the types of these errors to itself.
        if text.contains("fuel allocated for hostcalls") {
            let max = self.limits.hostcall_bytes_max;
            return GuestError::Limit { limit: "hostcall_bytes_max", max };
        }
        if text.contains("store handle limit exceeded") {
            return GuestError::Limit { limit: "handles_max", max: self.limits.handles_max };
        }
        self.log.write(Level::Error, self.request_id(), &shortened(text));
        GuestError::Trap(shortened(cause(error)))
    }

    /// Takes `bytes` of the guest's budget for tensors.
    fn charge(&mut self, bytes: u64) -> Result<Arc<Charge>, HostError> {
        let charge = self.take_bytes(bytes);
        charge.map(Arc::new).map_err(|over| self.over("tensor_bytes_max", over))
    }

    fn take_bytes(&mut self, bytes: u64) -> Result<Charge, OverBudget> {
        match self.tensor_bytes.charge(bytes) {
            Err(_) if self.recycled.clear() => self.tensor_bytes.charge(bytes),
            charge => charge,
        }
    }

    /// What a guest is told that meets a limit on bytes.
    fn over(&mut self, limit: &'static str, over: OverBudget) -> HostError {
        HostError::Told(Error::ResourceExhausted(self.over_text(limit, over)))
    }

    /// Whether the call has to end.
    fn stop(&self) -> impl Fn() -> bool + Sync + use<> {
        let (cancel, deadline) = (self.current.cancel.clone(), self.current.deadline);
        move || cancel.is_cancelled() || Instant::now() >= deadline
    }

    /// What an operation may use.
    fn lent_run(&self) -> Run<'_> {
        self.lent_kernels().recycling(self.recycled.memory())
    }

    /// What an operation may use, but for the memory of earlier ones.
    fn lent_kernels(&self) -> Run<'_> {
        Run::new().on(&self.kernels, self.kernels.threads()).giving_way(&Turns)
    }

    /// A handle on a new tensor.
    fn push(
        &mut self,
        tensor: Tensor,
        charge: Option<Arc<Charge>>,
    ) -> Result<Resource<HostTensor>, HostError> {
        Ok(self.push_charged(tensor, charge)?)
    }

    fn push_charged(
        &mut self,
        tensor: Tensor,
        charge: Option<Arc<Charge>>,
    ) -> Result<Resource<HostTensor>, ResourceTableError> {
        self.push_tensor(HostTensor { tensor, charge, derived: None, unfit: None })
    }

    /// A handle on a tensor from which kernels derive what they keep. An asset's tensor has no charge: it counts against
    /// the version's owner.
    fn push_weight(
        &mut self,
        tensor: Tensor,
        charge: Option<Arc<Charge>>,
        derived: Option<Derived>,
    ) -> Result<Resource<HostTensor>, HostError> {
        Ok(self.push_tensor(HostTensor { tensor, charge, derived, unfit: None })?)
    }

    /// A handle on what is no tensor; `bytes` stands for it.
    fn push_unfit(
        &mut self,
        bytes: Tensor,
        charge: Option<Arc<Charge>>,
        unfit: nn::Unfit,
    ) -> Result<Resource<HostTensor>, ResourceTableError> {
        let unfit = Some(Box::new(unfit));
        self.push_tensor(HostTensor { tensor: bytes, charge, derived: None, unfit })
    }

    fn push_tensor(
        &mut self,
        tensor: HostTensor,
    ) -> Result<Resource<HostTensor>, ResourceTableError> {
        let charged = u64::from(tensor.charge.is_some());
        let handle = self.keep(tensor)?;
        self.charged_handles += charged;
        Ok(handle)
    }

    /// The tensor behind a handle, which is no more.
    fn pull(&mut self, handle: Resource<HostTensor>) -> Result<HostTensor, ResourceTableError> {
        let tensor = self.table.delete(handle)?;
        self.handles -= 1;
        self.charged_handles -= u64::from(tensor.charge.is_some());
        Ok(tensor)
    }

    /// A handle on anything.
    fn keep<T: Send + 'static>(&mut self, value: T) -> Result<Resource<T>, ResourceTableError> {
        let handle = self.table.push(value)?;
        self.handles += 1;
        Ok(handle)
    }

    fn forget<T: Send + 'static>(&mut self, handle: Resource<T>) -> Result<(), ResourceTableError> {
        drop(self.table.delete(handle)?);
        self.handles -= 1;
        Ok(())
    }
}

impl types::Host for State {
    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<Error> {
        match error {
            HostError::Told(error) => Ok(error),
            HostError::Stopped(error) => Err(error),
        }
    }
}

/// Why code trapped, without where: that is for the model's log, not for whoever calls it.
fn cause(error: &wasmtime::Error) -> String {
    let is_backtrace = |text: &String| text.starts_with("error while executing at wasm backtrace");
    let texts = error.chain().map(ToString::to_string).filter(|text| !is_backtrace(text));
    texts.collect::<Vec<_>>().join(": ")
}

/// A guest's text may be long; what goes into answers and logs is not.
fn shortened(mut text: String) -> String {
    const TEXT_BYTES_MAX: usize = 2_000;
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push_str(" ...");
    }
    text
}

macro_rules! dtypes {
    ($($name:ident),*) => {
        pub(crate) fn dtype_from_wit(dtype: Dtype) -> DType {
            match dtype { $(Dtype::$name => DType::$name),* }
        }

        pub(crate) fn dtype_to_wit(dtype: DType) -> Dtype {
            match dtype { $(DType::$name => Dtype::$name),* }
        }
    };
}
dtypes!(
    Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes
);
