#![doc = include_str!("README.md")]

mod arena;
mod cache;
#[cfg(test)]
mod cases;
mod driver;
#[cfg(test)]
mod emulate;
mod error;
mod lane;
mod machine;
mod memory;
mod nvrtc;
mod plan;
mod recorded;
mod source;
#[cfg(test)]
mod tests;

/// What `cases` calls the crate, which integration tests include too.
#[cfg(test)]
mod api {
    pub(crate) use crate::{
        Activation, Attention, Binary, Compare, Conv, ConvTranspose, Curve, Grad, Loss, LossOf,
        Move, Norm, Op, Optim, Order, PoolKind, Pooling, Reduce, Reduction, Rope, Slope, Test,
        Unary, Window,
    };
}

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use innkeeper_tensor::{Buffer, DType, Derived, FetchError, Shape, Tensor};

pub use error::CudaError;
pub use nvrtc::{Compiled, compile_everything};
pub use recorded::Recorded;

use crate::error::invalid;
use crate::{Backend, Op, OpError, Run};
use lane::Stream;
use machine::Machine;
use memory::{DeviceBytes, Memory, Pool};
use plan::{Call, Operand, Plan, Slot};

/// How a device is used.
#[derive(Debug, Clone)]
pub struct CudaConfig {
    /// The most memory of the device that the first tenant, and as much again that constants, may take.
    pub memory_bytes_max: u64,
    /// A folder in which compiled kernels are kept; without one they are compiled anew in each process.
    pub cache: Option<PathBuf>,
}

impl Default for CudaConfig {
    fn default() -> CudaConfig {
        CudaConfig { memory_bytes_max: 4 << 30, cache: None }
    }
}

/// An NVIDIA device as a tenant's worker sees it: with the tenant's memory and a stream of its own.
#[derive(Clone)]
pub struct Cuda {
    device: Arc<Device>,
    pool: Arc<Pool>,
    stream: Arc<Stream>,
}

struct Device {
    name: String,
    machine: Arc<dyn Machine>,
    /// Where constants lie.
    constants: Arc<Pool>,
}

impl Cuda {
    /// Opens a device, counted from 0, with everything at its default.
    ///
    /// # Errors
    /// [`CudaError::Absent`] when there is no driver of CUDA 13.0 or later, no NVRTC, or no such device.
    pub fn open(ordinal: u32) -> Result<Cuda, CudaError> {
        Cuda::open_with(ordinal, &CudaConfig::default())
    }

    /// Opens a device, counted from 0.
    ///
    /// # Errors
    /// As [`Cuda::open`].
    pub fn open_with(ordinal: u32, config: &CudaConfig) -> Result<Cuda, CudaError> {
        let machine = Arc::new(driver::Driver::open(ordinal, config.cache.as_deref())?);
        Cuda::over(machine, format!("cuda:{ordinal}"), config.memory_bytes_max)
    }

    fn over(machine: Arc<dyn Machine>, name: String, bytes_max: u64) -> Result<Cuda, CudaError> {
        let constants = Pool::new(&machine, bytes_max)?;
        let device = Arc::new(Device { name, machine, constants });
        Cuda::of(device, bytes_max)
    }

    fn of(device: Arc<Device>, bytes_max: u64) -> Result<Cuda, CudaError> {
        let pool = Pool::new(&device.machine, bytes_max)?;
        let stream = Stream::new(&device.machine)?;
        Ok(Cuda { device, pool, stream })
    }

    /// The same device for another tenant, who may take at most `bytes_max` of its memory.
    ///
    /// # Errors
    /// Those of the device.
    pub fn tenant(&self, bytes_max: u64) -> Result<Cuda, CudaError> {
        Cuda::of(self.device.clone(), bytes_max)
    }

    /// The same device and tenant for another worker: its operations wait for nobody else's.
    ///
    /// # Errors
    /// Those of the device.
    pub fn worker(&self) -> Result<Cuda, CudaError> {
        let stream = Stream::new(&self.device.machine)?;
        Ok(Cuda { device: self.device.clone(), pool: self.pool.clone(), stream })
    }

    /// The device's own name and architecture, for people.
    pub fn description(&self) -> String {
        let facts = self.device.machine.facts();
        format!("{} ({}, {} processors)", facts.name, facts.arch, facts.processors)
    }

    /// The bytes of the device's memory that the tenant has, and may have.
    pub fn memory_bytes(&self) -> (u64, u64) {
        (self.pool.used(), self.pool.bytes_max())
    }

    /// The tensor on the device; one that is there already is shared.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] when there is no memory.
    pub fn upload(&self, tensor: &Tensor) -> Result<Tensor, OpError> {
        let memory = self.operand("upload", tensor)?;
        self.tensor(tensor.dtype(), tensor.shape().clone(), memory.0, memory.1)
    }

    /// Brings the elements to the host without blocking the caller, and then calls `done`, on a thread of the device's:
    /// it must not wait. Reading the tensor's bytes then waits for nothing.
    pub fn read(
        &self,
        tensor: &Tensor,
        done: impl FnOnce(Result<(), FetchError>) + Send + 'static,
    ) {
        match tensor.data().remote_owner::<DeviceBytes>() {
            Some((bytes, _)) => bytes.read(done),
            None => done(tensor.fetch()),
        }
    }

    fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether memory is this device's.
    fn owns(&self, memory: &Memory) -> bool {
        Arc::ptr_eq(memory.home().machine(), &self.device.machine)
    }

    /// Where an operand lies on this device, uploaded if it does not; `None` for its offset when it begins there.
    fn operand(&self, name: &str, tensor: &Tensor) -> Result<(Arc<Memory>, u64), OpError> {
        if let Some((bytes, range)) = tensor.data().remote_owner::<DeviceBytes>()
            && self.owns(bytes.memory())
        {
            let memory = bytes.memory();
            memory.read_by(&self.stream)?;
            if range.start.is_multiple_of(16) {
                return Ok((memory.clone(), range.start as u64));
            }
            // Kernels read 16 bytes at once.
            let (len, from) = (range.len() as u64, memory.address() + range.start as u64);
            let own = self.stream.room(&self.pool, len)?;
            self.device.machine.copy(self.stream.id(), from, own.address(), len)?;
            return Ok((own, 0));
        }
        if tensor.is_constant() {
            let copies = tensor.derived(Copies::default).unwrap_or_default();
            return Ok((copies.on(self, tensor)?, 0));
        }
        if self.stream.is_recording() {
            return Err(invalid(
                name,
                "an operand of a recorded graph lies on the host; make it one of the graph's operands, or a constant",
            ));
        }
        tensor.fetch().map_err(|error| OpError::Unsupported(error.to_string()))?;
        let memory = self.stream.room(&self.pool, tensor.as_bytes().len() as u64)?;
        self.device.machine.upload(self.stream.id(), memory.address(), tensor.as_bytes())?;
        Ok((memory, 0))
    }

    /// A tensor of what lies there.
    fn tensor(
        &self,
        dtype: DType,
        shape: Shape,
        memory: Arc<Memory>,
        offset: u64,
    ) -> Result<Tensor, OpError> {
        let bytes = shape.elements() * dtype.size().unwrap_or(1);
        let end = bytes + offset as usize;
        let whole = Buffer::remote(Arc::new(DeviceBytes::new(memory, end)));
        let data = whole.slice(offset as usize..end).unwrap_or(whole);
        Tensor::new(dtype, shape, data).map_err(|error| invalid("cuda", error))
    }

    /// A tensor of zeros, and where it lies.
    fn zeros(&self, dtype: DType, shape: &Shape) -> Result<(Tensor, Arc<Memory>), OpError> {
        let Some(size) = dtype.size() else {
            return Err(invalid("graph", "BYTES cannot lie on a device"));
        };
        let bytes = (shape.elements() * size) as u64;
        let memory = self.stream.room(&self.pool, bytes)?;
        self.device.machine.fill(self.stream.id(), memory.address(), 0, bytes)?;
        Ok((self.tensor(dtype, shape.clone(), memory.clone(), 0)?, memory))
    }

    /// Puts a tensor's elements to where they are wanted.
    fn write(&self, tensor: &Tensor, to: &Memory) -> Result<(), OpError> {
        let (machine, stream) = (&self.device.machine, self.stream.id());
        match tensor.data().remote_owner::<DeviceBytes>() {
            Some((bytes, range)) if self.owns(bytes.memory()) => {
                bytes.memory().read_by(&self.stream)?;
                let from = bytes.memory().address() + range.start as u64;
                machine.copy(stream, from, to.address(), range.len() as u64)?;
            }
            _ => {
                tensor.fetch().map_err(|error| OpError::Unsupported(error.to_string()))?;
                machine.upload(stream, to.address(), tensor.as_bytes())?;
            }
        }
        Ok(())
    }

    /// A copy of its own of what is on the device.
    fn copied(&self, tensor: &Tensor) -> Result<Tensor, OpError> {
        let (from, offset) = self.operand("graph", tensor)?;
        let bytes = tensor.data().len() as u64;
        let to = self.stream.room(&self.pool, bytes)?;
        let from = from.address() + offset;
        self.device.machine.copy(self.stream.id(), from, to.address(), bytes)?;
        self.tensor(tensor.dtype(), tensor.shape().clone(), to, 0)
    }

    /// Runs what needs no kernel: results that share their operand's bytes.
    fn shared(
        &self,
        op: &Op,
        inputs: &[&Tensor],
        shape: &Shape,
    ) -> Option<Result<Tensor, OpError>> {
        match (op, inputs) {
            (Op::Reshape { .. }, [x]) => {
                Some(x.reshaped(shape.clone()).map_err(|error| invalid(op.name(), error)))
            }
            (Op::Cast { to }, [x]) if x.dtype() == *to => Some(Ok((*x).clone())),
            _ => None,
        }
    }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        &self.device.name
    }

    fn run(&self, op: &Op, inputs: &[&Tensor], run: &Run<'_>) -> Result<Vec<Tensor>, OpError> {
        let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
        let results = op.outputs(&shapes)?;
        run.check()?;
        if let [(_, shape)] = results.as_slice()
            && let Some(result) = self.shared(op, inputs, shape)
        {
            return result.map(|result| vec![result]);
        }
        let operand = |slot: fn(usize) -> Slot| {
            move |(i, (dtype, shape)): (usize, (DType, _))| Operand { dtype, shape, slot: slot(i) }
        };
        let call = Call {
            name: op.name(),
            inputs: shapes.iter().copied().enumerate().map(operand(Slot::Input)).collect(),
            outputs: results
                .iter()
                .map(|(dtype, shape)| (*dtype, shape))
                .enumerate()
                .map(operand(Slot::Output))
                .collect(),
            facts: self.device.machine.facts(),
        };
        let bytes = call.inputs.iter().chain(&call.outputs).any(|x| x.dtype == DType::Bytes);
        if bytes {
            return call.refused("BYTES");
        }
        let plan = Plan::of(op, &call)?;
        let operands = self.operands(op.name(), inputs)?;
        let from: Vec<u64> =
            operands.iter().map(|(memory, offset)| memory.address() + offset).collect();
        let mut made = Vec::with_capacity(call.outputs.len());
        for out in &call.outputs {
            made.push(self.stream.room(&self.pool, out.bytes())?);
        }
        let to: Vec<u64> = made.iter().map(|memory| memory.address()).collect();
        let vouched = vouched(op, inputs);
        self.stream.run(&self.pool, &plan, (&from, &to), vouched)?;
        let made = made.into_iter().zip(&results);
        made.map(|(memory, (dtype, shape))| self.tensor(*dtype, shape.clone(), memory, 0)).collect()
    }
}

impl Cuda {
    fn operands(&self, name: &str, inputs: &[&Tensor]) -> Result<Vec<(Arc<Memory>, u64)>, OpError> {
        let operand = |tensor: &&Tensor| {
            let operand = self.operand(name, tensor)?;
            self.stream.keep(&operand.0);
            Ok(operand)
        };
        inputs.iter().map(operand).collect()
    }
}

/// Whether the host can see that no element is wrong, so that nobody has to wait for the device to say so.
fn vouched(op: &Op, inputs: &[&Tensor]) -> bool {
    match (op, inputs) {
        (Op::Gather { axis }, [data, indices]) if !indices.data().is_remote() => {
            let rank = data.shape().rank() as i64;
            let axis = if *axis < 0 { axis + rank } else { *axis };
            let size = usize::try_from(axis).ok().and_then(|axis| data.shape().dims().get(axis));
            let size = size.map_or(0, |&size| size as i64);
            let inside = |index: i64| -size <= index && index < size;
            match indices.dtype() {
                DType::Int32 => indices
                    .elements::<i32>()
                    .is_ok_and(|all| all.iter().all(|&index| inside(i64::from(index)))),
                _ => indices
                    .elements::<i64>()
                    .is_ok_and(|all| all.iter().all(|&index| inside(index))),
            }
        }
        _ => false,
    }
}

/// A device, and what was copied there.
type Copied = (Arc<dyn Machine>, Arc<Memory>);

/// A constant's copies on devices, uploaded at the first use on each.
#[derive(Default)]
struct Copies {
    on: Mutex<Vec<Copied>>,
}

impl Copies {
    /// The copy on this device.
    fn on(&self, cuda: &Cuda, tensor: &Tensor) -> Result<Arc<Memory>, OpError> {
        let mut copies = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = &cuda.device.machine;
        if let Some((_, memory)) = copies.iter().find(|(on, _)| Arc::ptr_eq(on, machine)) {
            memory.read_by(&cuda.stream)?;
            return Ok(memory.clone());
        }
        if cuda.stream.is_recording() {
            return Err(invalid("graph", "a constant was not used when the graph was measured"));
        }
        tensor.fetch().map_err(|error| OpError::Unsupported(error.to_string()))?;
        let bytes = tensor.as_bytes();
        let memory = Memory::take(&cuda.device.constants, &cuda.stream, bytes.len() as u64, None)?;
        machine.upload(cuda.stream.id(), memory.address(), bytes)?;
        copies.push((machine.clone(), memory.clone()));
        Ok(memory)
    }
}

impl Derived for Copies {
    /// None on the host.
    fn byte_length(&self) -> usize {
        0
    }
}
