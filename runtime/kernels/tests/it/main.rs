//! Every operation against an oracle that was written separately: index arithmetic over FP64, one element at a time.

// Every function here is part of a test, also those without the attribute that clippy looks for.
#![allow(clippy::unwrap_used)]

mod oracle;
mod values;

mod attention;
mod cast;
mod coded;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
mod elementwise;
mod errors;
mod functions;
mod golden;
mod grad;
mod index;
mod layout;
mod loss;
mod movement;
mod never_panics;
mod norm;
mod optim;
mod pool;
mod product;
mod quant;
mod random;
mod reduce;
mod resize;
mod special;
mod trees;
