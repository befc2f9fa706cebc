//! Every operation against an oracle that was written separately: index arithmetic over FP64, one element at a time.

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
