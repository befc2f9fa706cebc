//! The host, twice: as a guest meets it, and as a native test does.
//!
//! Both sides have the same names with the same signatures, those that wit-bindgen makes of `wit/model.wit`. Everything
//! above is written once against them, and this is the only place where the two kinds of build differ.

#[cfg(target_family = "wasm")]
pub mod guest;
#[cfg(target_family = "wasm")]
pub(crate) use guest::{
    Assets, Graph, Handle, arrays, dtype, dtype_back, layers, log, named, quantised, random,
    request, training,
};

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{
    Assets, Graph, Handle, arrays, dtype, dtype_back, layers, log, named, quantised, random,
    request, training,
};
