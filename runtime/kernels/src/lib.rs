//! What tensors can be asked to do, and the native code that does it.
//!
//! [`Op`] names an operation with its attributes; [`Op::output`] checks operands without touching their elements and
//! says what would come out, so that a caller can charge for it first; a [`Backend`] runs it. [`Cpu`] is the backend
//! that is always there. The operations are those of the interface `tensors` in `wit/model.wit`, which is what their
//! semantics are held to.
//!
//! This crate must not know of WebAssembly, tenants, limits, requests, files or async: whoever calls it says who
//! pays, and lends the threads and the memory that a [`Run`] may use. Kernels trust no shape that they did not check, and
//! no operand can make one panic. The backend behind the feature `cuda` alone has a thread, which waits for its device, and
//! a folder that it is given for compiled kernels.
//!
//! ```
//! use innkeeper_kernels::{Backend, Binary, Cpu, Op, Run};
//! use innkeeper_tensor::{DType, Tensor};
//!
//! let a = Tensor::from_vec(&[2, 2], vec![1f32, 2.0, 3.0, 4.0])?;
//! let b = Tensor::from_vec(&[2], vec![10f32, 20.0])?;
//! let add = Op::Binary(Binary::Add);
//!
//! let (dtype, shape) = add.output(&[(a.dtype(), a.shape()), (b.dtype(), b.shape())])?;
//! assert_eq!((dtype, shape.dims()), (DType::Fp32, &[2, 2][..]));
//!
//! let sum = Cpu::new().run_one(&add, &[&a, &b], &Run::new())?;
//! assert_eq!(*sum.elements::<f32>()?, [11.0, 22.0, 13.0, 24.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code, missing_docs)]

mod op;

mod backend;
mod coded;
mod cost;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
mod infer;
mod memory;
mod pool;
mod run;

pub use backend::Backend;
pub use coded::Unpacked;
pub use cpu::{Cpu, Isa};
#[cfg(feature = "cuda")]
pub use cuda::Cuda;
pub use error::OpError;
pub use memory::Memory;
pub use op::{
    Activation, Attention, Binary, Compare, Conv, ConvTranspose, Grad, Loss, LossOf, Norm, Op,
    Optim, PoolKind, Pooling, Quant, Reduce, Reduction, Rope, Slope, Unary, Window,
};
pub use op::{
    Aggregate, Branch, Post, TREE_DEPTH_MAX, TREE_NODES_MAX, TREE_TARGETS_MAX, TreeNode, TreeTest,
    TreeWeight, Trees, TreesSpec,
};
pub use op::{Cell, Coordinates, Draw, Nearest, Random, Recurrent, Resize, Sample};
pub use op::{Curve, Depth, Index, Move, Order, Pad, Scatter, Test};
pub use pool::{GiveWay, Pool, THREADS_MAX};
pub use run::Run;
