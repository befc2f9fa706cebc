//! The one place where bytes become code that runs outside the sandbox's own checks.

#![allow(unsafe_code)]

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::seal::Seal;

/// Code under our seal, made ready to run; `None` when the seal is broken.
pub(crate) fn deserialize(
    engine: &Engine,
    seal: &Seal,
    fingerprint: &str,
    digest: &[u8; 32],
    sealed: &[u8],
) -> Option<wasmtime::Result<Component>> {
    let code = seal.open(fingerprint, digest, sealed)?;
    // SAFETY: `deserialize` wants bytes that `Engine::precompile_component` made and nobody changed since. Only
    // `Seal::close` makes a seal that opens under this host's secret key, and it is only ever given what our own
    // compiler answered; the slice is what the seal was just checked over. A tenant's bytes never come here.
    Some(unsafe { Component::deserialize(engine, code) })
}
