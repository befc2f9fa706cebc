//! What wasmtime generates from `wit/`, and nothing else. Its types stay inside this crate.

#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: {
        "innkeeper:model/graph.[method]graph.run": async | trappable,
        "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "innkeeper:model/tensors.tensor": crate::host::HostTensor,
        "innkeeper:model/graph.graph": crate::host::HostGraph,
        "wasi:nn/tensor.tensor": crate::host::HostTensor,
        "wasi:nn/graph.graph": crate::host::HostGraph,
        "wasi:nn/inference.graph-execution-context": crate::host::HostContext,
        "wasi:nn/errors.error": crate::host::HostNnError,
    },
    trappable_error_type: {
        "innkeeper:model/types.error" => crate::host::HostError,
    },
});

/// What a component exports beside its model when it can be trained.
pub mod trainable {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "trainable",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "innkeeper:model/types": crate::bindings::innkeeper::model::types,
            "innkeeper:model/tensors": crate::bindings::innkeeper::model::tensors,
        },
    });
}
