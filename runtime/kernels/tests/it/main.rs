//! Every operation against an oracle that was written separately: index arithmetic over FP64, one element at a time.

// Every function here is part of a test, also those without the attribute that clippy looks for.
#![allow(clippy::unwrap_used)]

mod oracle;
mod values;

mod cast;
mod elementwise;
mod errors;
mod layout;
mod never_panics;
mod product;
mod reduce;
mod special;
