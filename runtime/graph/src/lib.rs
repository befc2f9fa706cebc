//! ONNX files, run by the kernels.
//!
//! This crate knows no tenant, no HTTP, no WebAssembly, and opens no file: it takes bytes. Nothing in them is believed:
//! every length, name, shape and attribute is checked, and what is not supported is refused when the model is loaded,
//! by operator, node and opset.
//!
//! A [`Graph`] keeps the model's nodes. For each combination of input shapes it makes a *plan* once: the shape
//! arithmetic is done, dead code and common subexpressions are gone, patterns that exporters write are operations of
//! the kernels again, and what remains is a list of operations with a last use for every value. Where a shape depends
//! on the elements of a tensor, which no plan can know, the plan ends, and the nodes from there on are run one by one.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod graph;
mod limits;

mod wire;

mod proto;
mod weights;

mod build;
mod ir;
mod order;

mod lower;
mod machine;

mod derived;

mod fold;

mod fuse;
mod plan;

mod budget;
mod error;

pub use budget::{Budget, Unlimited};
pub use error::{GraphError, Place};
pub use graph::Graph;
pub use limits::LoadLimits;
