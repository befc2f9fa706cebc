//! A device's memory: pools with a maximum, and pieces of them that are given back when nobody holds them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use innkeeper_tensor::{FetchError, Remote};

use crate::cuda::CudaError;
use crate::cuda::arena::Region;
use crate::cuda::lane::Stream;
use crate::cuda::machine::{Id, Machine};

/// What pieces of memory are rounded up to, as the driver rounds them.
const ROUND_BYTES: u64 = 512;

/// Memory for one tenant.
pub(crate) struct Pool {
    machine: Arc<dyn Machine>,
    id: Id,
    bytes_max: u64,
    used: AtomicU64,
}

impl Pool {
    pub(crate) fn new(machine: &Arc<dyn Machine>, bytes_max: u64) -> Result<Arc<Pool>, CudaError> {
        let id = machine.pool(bytes_max)?;
        Ok(Arc::new(Pool { machine: machine.clone(), id, bytes_max, used: AtomicU64::new(0) }))
    }

    /// The bytes that are taken, as they are rounded.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Memory that the work of `stream` may use from here on.
    pub(crate) fn take(&self, stream: Id, bytes: u64) -> Result<u64, CudaError> {
        self.count(bytes)?;
        self.machine.allocate(self.id, stream, bytes).inspect_err(|_| {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    /// Gives it back after the work that `stream` has.
    pub(crate) fn give_back(&self, stream: Id, address: u64, bytes: u64) {
        self.machine.free(stream, address);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes`, or refuses them. The driver's own maximum is rounded up to its pages, this one is not.
    fn count(&self, bytes: u64) -> Result<(), CudaError> {
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.bytes_max);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(()),
            Err(used) => Err(CudaError::Memory(format!(
                "{bytes} bytes of device memory were wanted, {used} of at most {} are taken; use smaller inputs or raise \
                 the tenant's device memory",
                self.bytes_max
            ))),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.machine.drop_pool(self.id);
    }
}

/// Whose memory a piece is.
enum Owner {
    Pool {
        pool: Arc<Pool>,
        bytes: u64,
        _measured: Option<Region>,
    },
    /// Part of a recorded graph's own memory.
    Arena {
        _region: Region,
        _whole: Arc<Memory>,
    },
}

/// A piece of a device's memory, given back when it is dropped.
pub(crate) struct Memory {
    address: u64,
    owner: Owner,
    /// Whose work it is written by, and with whose work it is freed.
    home: Arc<Stream>,
    /// Others whose work reads it, which freeing it must wait for.
    readers: Mutex<Vec<Arc<Stream>>>,
}

impl Memory {
    /// Memory that the work of `stream` may use from here on.
    pub(crate) fn take(
        pool: &Arc<Pool>,
        stream: &Arc<Stream>,
        bytes: u64,
        measured: Option<Region>,
    ) -> Result<Arc<Memory>, CudaError> {
        let bytes = bytes.max(1).checked_next_multiple_of(ROUND_BYTES).ok_or_else(|| {
            CudaError::Memory(format!("{bytes} bytes are more than there can be"))
        })?;
        let address = pool.take(stream.id(), bytes)?;
        let owner = Owner::Pool { pool: pool.clone(), bytes, _measured: measured };
        Ok(Memory::new(address, owner, stream))
    }

    /// A region of a graph's memory.
    pub(crate) fn inside(whole: &Arc<Memory>, region: Region, stream: &Arc<Stream>) -> Arc<Memory> {
        let address = whole.address.wrapping_add(region.offset());
        Memory::new(address, Owner::Arena { _region: region, _whole: whole.clone() }, stream)
    }

    fn new(address: u64, owner: Owner, home: &Arc<Stream>) -> Arc<Memory> {
        Arc::new(Memory { address, owner, home: home.clone(), readers: Mutex::default() })
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Whether it is a piece of a pool, which its holders alone keep.
    pub(crate) fn is_pooled(&self) -> bool {
        matches!(self.owner, Owner::Pool { .. })
    }

    pub(crate) fn home(&self) -> &Arc<Stream> {
        &self.home
    }

    /// Makes the work that `reader` is given from here on wait until this is written, and remembers that it reads it.
    pub(crate) fn read_by(&self, reader: &Arc<Stream>) -> Result<(), CudaError> {
        if Arc::ptr_eq(reader, &self.home) {
            return Ok(());
        }
        // What is recorded was done once before, on the same stream, and has waited then.
        if !reader.is_recording() {
            reader.machine().after(reader.id(), self.home.id())?;
        }
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if !readers.iter().any(|known| Arc::ptr_eq(known, reader)) {
            readers.push(reader.clone());
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Owner::Pool { pool, bytes, .. } = &self.owner else { return };
        let readers = self.readers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for reader in readers.drain(..) {
            // When the driver cannot even order streams, nothing on this device works any more.
            let _ = pool.machine.after(self.home.id(), reader.id());
        }
        pool.give_back(self.home.id(), self.address, *bytes);
    }
}

/// A tensor's bytes on a device.
pub(crate) struct DeviceBytes {
    memory: Arc<Memory>,
    bytes: usize,
    host: OnceLock<Result<Vec<u8>, FetchError>>,
}

impl DeviceBytes {
    pub(crate) fn new(memory: Arc<Memory>, bytes: usize) -> DeviceBytes {
        DeviceBytes { memory, bytes, host: OnceLock::new() }
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Reads the bytes without waiting for them, and then calls `done`, which must not wait.
    pub(crate) fn read(
        self: &Arc<Self>,
        done: impl FnOnce(Result<(), FetchError>) + Send + 'static,
    ) {
        if let Some(host) = self.host.get() {
            return done(host.as_ref().map(|_| ()).map_err(FetchError::clone));
        }
        let own = self.clone();
        let keep = move |bytes: Result<Vec<u8>, CudaError>| {
            let host = own.host.get_or_init(|| bytes.map_err(fetch_error));
            done(host.as_ref().map(|_| ()).map_err(FetchError::clone));
        };
        let home = self.memory.home();
        let (address, shared) = (self.memory.address(), Arc::new(Mutex::new(Some(keep))));
        let later = shared.clone();
        let take = move |shared: &Mutex<Option<_>>| {
            shared.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let begun = home.machine().download(
            home.id(),
            address,
            self.bytes,
            Box::new(move |bytes| {
                if let Some(keep) = take(&later) {
                    keep(bytes);
                }
            }),
        );
        if let Err(error) = begun
            && let Some(keep) = take(&shared)
        {
            keep(Err(error));
        }
    }
}

impl Remote for DeviceBytes {
    fn byte_length(&self) -> usize {
        self.bytes
    }

    fn fetch(&self) -> Result<&[u8], FetchError> {
        let host = self.host.get_or_init(|| {
            let home = self.memory.home();
            read(&**home.machine(), home.id(), self.memory.address(), self.bytes)
                .map_err(fetch_error)
        });
        host.as_ref().map(Vec::as_slice).map_err(FetchError::clone)
    }
}

/// Reads, and waits for it.
pub(crate) fn read(
    machine: &dyn Machine,
    stream: Id,
    address: u64,
    bytes: usize,
) -> Result<Vec<u8>, CudaError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let done = Box::new(move |bytes| {
        // Whoever waits for it cannot be gone.
        let _ = sender.send(bytes);
    });
    machine.download(stream, address, bytes, done)?;
    receiver.recv().unwrap_or_else(|_| {
        Err(CudaError::Device("the device's reader ended before it had read".to_owned()))
    })
}

fn fetch_error(error: CudaError) -> FetchError {
    FetchError(format!("cuda: {error}"))
}
