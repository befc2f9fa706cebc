//! What the backend asks of a device. Two answer: the driver, and in tests a program that runs the same kernels on the
//! processor.

use crate::cuda::CudaError;
use crate::cuda::plan::product::Product;
use crate::cuda::source::Unit;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its name, for people.
    pub(crate) name: String,
    /// The architecture that kernels are compiled for, such as `sm_90a`.
    pub(crate) arch: String,
    /// How many multiprocessors it has.
    pub(crate) processors: u32,
    /// The most shared memory that a block may ask for.
    pub(crate) shared_bytes_max: u32,
    /// Whether it has a library for products; else our own kernels compute them.
    pub(crate) library: bool,
}

/// A kernel with its operands' addresses in place.
pub(crate) struct Bound<'a> {
    pub(crate) unit: &'a Unit,
    pub(crate) kernel: &'static str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    /// The kernel's one parameter.
    pub(crate) params: &'a [u8],
}

/// A product for the library with its operands' addresses in place.
pub(crate) struct BoundProduct<'a> {
    pub(crate) product: &'a Product,
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
    /// Where there is one, else 0; so is the residual.
    pub(crate) bias: u64,
    pub(crate) residual: u64,
    /// Room for the library, of [`WORKSPACE_BYTES`].
    pub(crate) workspace: u64,
}

/// What a library of products may use beside its operands.
pub(crate) const WORKSPACE_BYTES: u64 = 32 << 20;

/// A pool of memory, a stream of work or a recorded graph: a name that the machine gave.
pub(crate) type Id = u64;

/// Takes what was read, on a thread of the machine's. It must not wait.
pub(crate) type Done = Box<dyn FnOnce(Result<Vec<u8>, CudaError>) + Send>;

/// A device. Work on one stream is done in order; an address is one of its memory.
pub(crate) trait Machine: Send + Sync + 'static {
    fn facts(&self) -> &Facts;

    /// A pool that never holds more than `bytes_max`.
    fn pool(&self, bytes_max: u64) -> Result<Id, CudaError>;
    fn drop_pool(&self, pool: Id);
    fn stream(&self) -> Result<Id, CudaError>;
    fn drop_stream(&self, stream: Id);

    /// Memory from `pool`, which work given to `stream` from here on may use; its content is anything.
    fn allocate(&self, pool: Id, stream: Id, bytes: u64) -> Result<u64, CudaError>;
    /// Gives memory back once the work that `stream` has is done.
    fn free(&self, stream: Id, address: u64);

    /// Copies `bytes` to the device. They may be changed as soon as this returns.
    fn upload(&self, stream: Id, to: u64, bytes: &[u8]) -> Result<(), CudaError>;
    /// Reads what will lie there when the work that `stream` has is done, without waiting for it.
    fn download(&self, stream: Id, from: u64, bytes: usize, done: Done) -> Result<(), CudaError>;
    fn copy(&self, stream: Id, from: u64, to: u64, bytes: u64) -> Result<(), CudaError>;
    fn fill(&self, stream: Id, to: u64, byte: u8, bytes: u64) -> Result<(), CudaError>;
    fn launch(&self, stream: Id, kernel: &Bound<'_>) -> Result<(), CudaError>;
    /// Only where [`Facts::library`] holds.
    fn product(&self, stream: Id, product: &BoundProduct<'_>) -> Result<(), CudaError>;
    /// What `stream` is given from here on begins after what `other` has now.
    fn after(&self, stream: Id, other: Id) -> Result<(), CudaError>;

    /// From here on, work on `stream` is recorded and not done.
    fn record(&self, stream: Id) -> Result<(), CudaError>;
    fn recorded(&self, stream: Id) -> Result<Id, CudaError>;
    fn replay(&self, stream: Id, graph: Id) -> Result<(), CudaError>;
    fn drop_graph(&self, graph: Id);
}
