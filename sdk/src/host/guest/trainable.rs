//! What wit-bindgen makes of the world of components that can be trained.

#![allow(missing_docs, unreachable_pub, unsafe_code)]
#![allow(clippy::all, clippy::unwrap_used)]

wit_bindgen::generate!({
    path: "../wit",
    world: "trainable",
    with: {
        "innkeeper:model/types@0.1.0": super::bindings::innkeeper::model::types,
        "innkeeper:model/tensors@0.1.0": super::bindings::innkeeper::model::tensors,
    },
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "::innkeeper_sdk::guest::trainable",
});
