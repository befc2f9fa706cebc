//! The engine: one per process, with the settings that every guest runs under.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use innkeeper_kernels::Pool;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Share;
use crate::bindings::Plugin;
use crate::host::State;
use crate::runner::Runner;

/// How the engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Instances that may live at once. Each takes 4 GiB of address space and some eight memory mappings, of which
    /// Linux by default gives a process 65,530.
    pub instances_max: u32,
    /// The most linear memory that any instance may be given, in bytes.
    pub guest_memory_bytes_max: u64,
    /// Stack of one call into a guest, in bytes.
    pub stack_bytes_max: usize,
    /// How often a running guest is looked at, in microseconds: the grain of deadlines and cancellation.
    pub epoch_us: u64,
    /// Threads for guests that run longer than that.
    pub threads: usize,
    /// Threads that one tensor operation may use, its caller's included: the size of the pool that all operations share.
    pub kernel_threads: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            instances_max: 1_000,
            guest_memory_bytes_max: 1 << 30,
            stack_bytes_max: 512 << 10,
            epoch_us: 1_000,
            threads: cores(),
            kernel_threads: cores(),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The engine could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine could not be set up: {0}")]
pub struct EngineError(pub String);

/// Compiles and runs guests. A clone is the same engine.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) runner: Runner,
    threads: usize,
    /// The threads of tensor operations, fair between those that run at once.
    pub(crate) kernels: Arc<Pool>,
    pub(crate) stack_bytes_max: usize,
    pub(crate) guest_memory_bytes_max: u64,
}

impl Engine {
    /// Sets up an engine and starts its clock.
    ///
    /// # Errors
    /// The machine does not have the address space or the threads.
    pub fn new(config: &EngineConfig) -> Result<Engine, EngineError> {
        let text = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let mut settings = settings(config);
        settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
        let wasmtime = wasmtime::Engine::new(&settings).map_err(text)?;
        let mut linker = Linker::new(&wasmtime);
        Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state).map_err(text)?;
        let runner = Runner::new(config.threads).map_err(|error| EngineError(error.to_string()))?;
        let kernels = Pool::new(config.kernel_threads.max(1));
        let kernels = Arc::new(kernels.map_err(|error| EngineError(error.to_string()))?);
        let (stack_bytes_max, guest_memory_bytes_max) =
            (config.stack_bytes_max, config.guest_memory_bytes_max);
        let inner = Arc::new(Inner {
            wasmtime,
            linker,
            runner,
            threads: config.threads.max(1),
            kernels,
            stack_bytes_max,
            guest_memory_bytes_max,
        });
        start_clock(&inner, Duration::from_micros(config.epoch_us.max(100)))?;
        Ok(Engine(inner))
    }

    /// An engine that can compile for [`Engine::new`] of the same configuration, and run nothing. It takes little
    /// memory, as the compiler's process must.
    pub(crate) fn compiler(config: &EngineConfig) -> Result<wasmtime::Engine, EngineError> {
        wasmtime::Engine::new(&settings(config)).map_err(|error| EngineError(format!("{error:#}")))
    }

    /// Names everything that compiled code depends on: the version of the compiler and its settings. Code compiled
    /// under one fingerprint is of no use under another.
    pub fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.0.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// A new party that guests run for. As many guests run at once as there are threads for them; where more want to, a
    /// party with twice the weight of another runs twice as long.
    pub fn share(&self, weight: u64) -> Arc<Share> {
        self.0.runner.share(weight)
    }

    /// Runs `call` to its end on the guests' threads, as its share's turns come; `inline` says that it is likely to be over within one tick of
    /// the epoch and may begin on the thread that asks. `None` when the host's own code panicked in it.
    pub async fn run<F>(&self, call: F, share: &Arc<Share>, inline: bool) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.0.runner.run(call, share, inline).await
    }

    /// The same for nobody who waits.
    pub fn spawn<F>(&self, call: F, share: &Arc<Share>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.runner.spawn(call, share);
    }

    /// How many threads there are for guests.
    pub fn threads(&self) -> usize {
        self.0.threads
    }
}

/// What tenants do not need is off. Threads and garbage collection are not even compiled in.
fn settings(config: &EngineConfig) -> Config {
    let mut settings = Config::new();
    settings
        .epoch_interruption(true)
        .max_wasm_stack(config.stack_bytes_max)
        .async_stack_size(config.stack_bytes_max + (512 << 10))
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // Off, it panics the compiler on nested components.
        .wasm_multi_memory(true)
        .wasm_simd(true);
    settings
}

/// What one component may have: a Python guest, the largest kind known, has 38 core instances.
const CORE_INSTANCES_MAX: u32 = 60;
const MEMORIES_MAX: u32 = 4;
const TABLES_MAX: u32 = 20;

fn pool(config: &EngineConfig) -> PoolingAllocationConfig {
    let instances = config.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // As many of each as that number of the largest components takes: nobody's odd component uses up the others' share.
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(instances.saturating_mul(MEMORIES_MAX))
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memory_size(usize::try_from(config.guest_memory_bytes_max).unwrap_or(usize::MAX))
        .table_elements(20_000)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        // Resets only the pages that were written, where the kernel can tell which.
        .pagemap_scan(Enabled::Auto);
    pool
}

fn start_clock(engine: &Arc<Inner>, tick: Duration) -> Result<(), EngineError> {
    let engine: Weak<Inner> = Arc::downgrade(engine);
    let clock = move || {
        while let Some(engine) = engine.upgrade() {
            engine.wasmtime.increment_epoch();
            drop(engine);
            std::thread::sleep(tick);
        }
    };
    std::thread::Builder::new()
        .name("epoch".into())
        .spawn(clock)
        .map(drop)
        .map_err(|error| EngineError(error.to_string()))
}
