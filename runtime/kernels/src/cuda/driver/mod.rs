//! The only code that talks to a device. Not yet run on a GPU.
//!
//! Every call names its stream, and no call waits for work, but those that say so. All addresses come from
//! [`Machine::allocate`], and whoever holds them keeps the memory until the work that uses it was given out; the driver
//! frees it in the stream's order.
#![allow(unsafe_code)]

mod context;
mod library;
mod reader;
mod staging;

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys;

use crate::cuda::CudaError;
use crate::cuda::cache::Cache;
use crate::cuda::machine::{Bound, BoundProduct, Done, Facts, Id, Machine};
use crate::cuda::nvrtc::Nvrtc;
use crate::cuda::source::Unit;
use context::{Context, Event, check};
use library::Library;
use reader::{Job, Reader};
use staging::Staging;

/// Shared memory that every kernel may ask for; for more it must be told first.
const SHARED_BYTES: u32 = 48 << 10;
/// Memory that a pool keeps when nobody uses it, so that the next call does not wait for the driver.
const POOL_KEEPS_BYTES_MAX: u64 = 256 << 20;

/// A device behind the driver.
pub(crate) struct Driver {
    facts: Facts,
    // Dropped in this order: what was made in the context goes before it.
    reader: Reader,
    library: Option<Library>,
    streams: Mutex<HashMap<Id, Arc<Lane>>>,
    kernels: Mutex<Kernels>,
    nvrtc: Nvrtc,
    cache: Option<Cache>,
    context: Arc<Context>,
}

/// A stream, and what its uploads go through.
struct Lane {
    staging: Mutex<Staging>,
    capturing: AtomicBool,
}

/// Modules that were loaded, and their kernels. They live as long as the driver.
#[derive(Default)]
struct Kernels {
    modules: HashMap<Unit, usize>,
    functions: HashMap<(Unit, &'static str), usize>,
}

impl Driver {
    /// Opens a device, counted from 0.
    pub(crate) fn open(ordinal: u32, cache: Option<&Path>) -> Result<Driver, CudaError> {
        let context = Arc::new(Context::open(ordinal)?);
        let nvrtc = Nvrtc::find()?;
        let library = Library::find(&context)?;
        let facts = context.facts(library.is_some())?;
        let reader = Reader::start(&context)?;
        Ok(Driver {
            facts,
            reader,
            library,
            streams: Mutex::default(),
            kernels: Mutex::default(),
            nvrtc,
            cache: cache.map(Cache::new),
            context,
        })
    }

    fn lane(&self, stream: Id) -> Result<Arc<Lane>, CudaError> {
        let found = lock(&self.streams).get(&stream).cloned();
        found.ok_or_else(|| CudaError::Device("the stream is not there any more".to_owned()))
    }

    /// The kernel, compiled and loaded at its first use.
    fn function(&self, kernel: &Bound<'_>) -> Result<sys::CUfunction, CudaError> {
        let key = (kernel.unit.clone(), kernel.kernel);
        // One thread compiles while others wait, so that nothing is compiled twice.
        let mut kernels = lock(&self.kernels);
        if let Some(&function) = kernels.functions.get(&key) {
            return Ok(function as sys::CUfunction);
        }
        let module = match kernels.modules.get(kernel.unit) {
            Some(&module) => module as sys::CUmodule,
            None => {
                let module = self.load(kernel.unit)?;
                kernels.modules.insert(kernel.unit.clone(), module as usize);
                module
            }
        };
        let name = CString::new(kernel.kernel)
            .map_err(|_| CudaError::Compiler(format!("{:?} is no name", kernel.kernel)))?;
        let mut function = ptr::null_mut();
        // SAFETY: The module lives as long as this driver, and the name ends with NUL.
        check(kernel.kernel, unsafe {
            sys::cuModuleGetFunction(&mut function, module, name.as_ptr())
        })?;
        let most = self.facts.shared_bytes_max as i32;
        let attribute =
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if kernel.shared_bytes > SHARED_BYTES {
            // SAFETY: The function was just got from a module that lives.
            check("cuFuncSetAttribute", unsafe {
                sys::cuFuncSetAttribute(function, attribute, most)
            })?;
        }
        kernels.functions.insert(key, function as usize);
        Ok(function)
    }

    fn load(&self, unit: &Unit) -> Result<sys::CUmodule, CudaError> {
        let code = self.nvrtc.cached(unit, &self.facts.arch, self.cache.as_ref())?;
        let mut module = ptr::null_mut();
        // SAFETY: The context is current, and `code` is machine code whole and unchanged as NVRTC wrote it, which says its
        // own length.
        check("cuModuleLoadData", unsafe {
            sys::cuModuleLoadData(&mut module, code.as_ptr().cast())
        })?;
        Ok(module)
    }
}

impl Machine for Driver {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn pool(&self, bytes_max: u64) -> Result<Id, CudaError> {
        self.context.enter()?;
        // SAFETY: Zero is a value of each of its members: numbers, enums that have it, and a pointer that may be null.
        let mut props: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
        props.allocType = sys::CUmemAllocationType_enum::CU_MEM_ALLOCATION_TYPE_PINNED;
        props.location.type_ = sys::CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE;
        props.location.id = self.context.device();
        props.maxSize = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut pool = ptr::null_mut();
        // SAFETY: Both pointers are to values that live until it returns.
        check("cuMemPoolCreate", unsafe { sys::cuMemPoolCreate(&mut pool, &props) })?;
        let mut keeps = bytes_max.min(POOL_KEEPS_BYTES_MAX);
        let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: The pool was just made, and this attribute is a number of 64 bits.
        check("cuMemPoolSetAttribute", unsafe {
            sys::cuMemPoolSetAttribute(pool, attribute, ptr::from_mut(&mut keeps).cast())
        })?;
        Ok(pool as Id)
    }

    fn drop_pool(&self, pool: Id) {
        if self.context.enter().is_ok() {
            // SAFETY: It came from `pool`, and its one owner drops it once; the driver keeps it while memory is in use.
            let _ = unsafe { sys::cuMemPoolDestroy(pool as sys::CUmemoryPool) };
        }
    }

    fn stream(&self) -> Result<Id, CudaError> {
        self.context.enter()?;
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: The pointer is to a value that lives until it returns.
        check("cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        let lane = Lane {
            staging: Mutex::new(Staging::new(&self.context)),
            capturing: AtomicBool::new(false),
        };
        lock(&self.streams).insert(stream as Id, Arc::new(lane));
        Ok(stream as Id)
    }

    fn drop_stream(&self, stream: Id) {
        lock(&self.streams).remove(&stream);
        if self.context.enter().is_ok() {
            // SAFETY: It came from `stream`, and its one owner drops it once; the driver ends its work first.
            let _ = unsafe { sys::cuStreamDestroy_v2(stream as sys::CUstream) };
        }
    }

    fn allocate(&self, pool: Id, stream: Id, bytes: u64) -> Result<u64, CudaError> {
        self.context.enter()?;
        let wanted = usize::try_from(bytes)
            .map_err(|_| CudaError::Memory(format!("{bytes} bytes are more than there can be")))?;
        if self.lane(stream)?.capturing.load(Ordering::Relaxed) {
            // The driver would take it from another pool, past the tenant's maximum.
            return Err(CudaError::Device("memory was asked for while a graph is recorded".into()));
        }
        let mut address = 0;
        // SAFETY: Pool and stream live: their owners hold them for this call.
        let done = unsafe {
            sys::cuMemAllocFromPoolAsync(
                &mut address,
                wanted,
                pool as sys::CUmemoryPool,
                stream as sys::CUstream,
            )
        };
        if done == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Err(CudaError::Memory(format!(
                "the device has no {bytes} bytes of memory left; use smaller inputs, or fewer models on it"
            )));
        }
        check("cuMemAllocFromPoolAsync", done)?;
        Ok(address)
    }

    fn free(&self, stream: Id, address: u64) {
        if self.context.enter().is_ok() {
            // SAFETY: It came from `allocate`, and its one owner frees it once, after the work that uses it was given out.
            let _ = unsafe { sys::cuMemFreeAsync(address, stream as sys::CUstream) };
        }
    }

    fn upload(&self, stream: Id, to: u64, bytes: &[u8]) -> Result<(), CudaError> {
        self.context.enter()?;
        let lane = self.lane(stream)?;
        if lane.capturing.load(Ordering::Relaxed) {
            return Err(CudaError::Device("an upload while a graph is recorded".into()));
        }
        lock(&lane.staging).upload(stream as sys::CUstream, to, bytes)
    }

    fn download(&self, stream: Id, from: u64, bytes: usize, done: Done) -> Result<(), CudaError> {
        self.context.enter()?;
        if self.lane(stream)?.capturing.load(Ordering::Relaxed) {
            return Err(CudaError::Device("a result was read while a graph is recorded".into()));
        }
        let made = Event::new(&self.context)?;
        made.record(stream as sys::CUstream)?;
        self.reader.read(Job { made, from, bytes, done })
    }

    fn copy(&self, stream: Id, from: u64, to: u64, bytes: u64) -> Result<(), CudaError> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.enter()?;
        // SAFETY: Both ranges lie in memory that whoever calls holds until this work is given out.
        check("cuMemcpyDtoDAsync", unsafe {
            sys::cuMemcpyDtoDAsync_v2(to, from, bytes as usize, stream as sys::CUstream)
        })
    }

    fn fill(&self, stream: Id, to: u64, byte: u8, bytes: u64) -> Result<(), CudaError> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.enter()?;
        // SAFETY: As in `copy`.
        check("cuMemsetD8Async", unsafe {
            sys::cuMemsetD8Async(to, byte, bytes as usize, stream as sys::CUstream)
        })
    }

    fn launch(&self, stream: Id, kernel: &Bound<'_>) -> Result<(), CudaError> {
        self.context.enter()?;
        let function = self.function(kernel)?;
        let ([x, y, z], [width, height, depth]) = (kernel.grid, kernel.block);
        let mut params = [kernel.params.as_ptr().cast::<c_void>().cast_mut()];
        // SAFETY: The kernel takes one struct, whose bytes `params` are, at least as long as C makes it; the driver copies
        // them before it returns. What the kernel touches was worked out by `plan` from the shapes of operands that
        // `Op::outputs` checked, and lies in memory that whoever calls holds until this work is given out.
        check(kernel.kernel, unsafe {
            sys::cuLaunchKernel(
                function,
                x,
                y,
                z,
                width,
                height,
                depth,
                kernel.shared_bytes,
                stream as sys::CUstream,
                params.as_mut_ptr(),
                ptr::null_mut(),
            )
        })
    }

    fn product(&self, stream: Id, product: &BoundProduct<'_>) -> Result<(), CudaError> {
        self.context.enter()?;
        match &self.library {
            Some(library) => library.product(stream as sys::CUstream, product),
            None => Err(CudaError::Absent("cuBLASLt is not there".to_owned())),
        }
    }

    fn after(&self, stream: Id, other: Id) -> Result<(), CudaError> {
        self.context.enter()?;
        let event = Event::new(&self.context)?;
        event.record(other as sys::CUstream)?;
        event.before(stream as sys::CUstream)
    }

    fn record(&self, stream: Id) -> Result<(), CudaError> {
        self.context.enter()?;
        let lane = self.lane(stream)?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: The stream lives: its owner holds it for this call.
        check("cuStreamBeginCapture", unsafe {
            sys::cuStreamBeginCapture_v2(stream as sys::CUstream, mode)
        })?;
        lane.capturing.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn recorded(&self, stream: Id) -> Result<Id, CudaError> {
        self.context.enter()?;
        let lane = self.lane(stream)?;
        let mut graph = ptr::null_mut();
        lane.capturing.store(false, Ordering::Relaxed);
        // SAFETY: The stream lives, and recording was begun on it by this thread.
        check("cuStreamEndCapture", unsafe {
            sys::cuStreamEndCapture(stream as sys::CUstream, &mut graph)
        })?;
        let mut whole = ptr::null_mut();
        // SAFETY: The graph was just made.
        let made = unsafe { sys::cuGraphInstantiateWithFlags(&mut whole, graph, 0) };
        // SAFETY: It was just made and is used by nobody else; what was instantiated is its own.
        let _ = unsafe { sys::cuGraphDestroy(graph) };
        check("cuGraphInstantiate", made)?;
        Ok(whole as Id)
    }

    fn replay(&self, stream: Id, graph: Id) -> Result<(), CudaError> {
        self.context.enter()?;
        // SAFETY: The graph came from `recorded`; its owner holds it and all memory that it was recorded with.
        check("cuGraphLaunch", unsafe {
            sys::cuGraphLaunch(graph as sys::CUgraphExec, stream as sys::CUstream)
        })
    }

    fn drop_graph(&self, graph: Id) {
        if self.context.enter().is_ok() {
            // SAFETY: It came from `recorded`, and its one owner drops it once; the driver ends its work first.
            let _ = unsafe { sys::cuGraphExecDestroy(graph as sys::CUgraphExec) };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
