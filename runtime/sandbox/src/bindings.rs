//! What wasmtime generates from `wit/model.wit`, and nothing else. Its types stay inside this crate.

#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: { default: trappable },
    exports: { default: async },
    with: {
        "innkeeper:model/tensors.tensor": crate::host::HostTensor,
    },
    trappable_error_type: {
        "innkeeper:model/types.error" => crate::host::HostError,
    },
});
