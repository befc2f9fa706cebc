//! What wit-bindgen makes of `wit/model.wit`.

#![allow(missing_docs, unreachable_pub, unsafe_code)]
#![allow(clippy::all, clippy::unwrap_used)]

wit_bindgen::generate!({
    path: "../wit",
    world: "plugin",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "::innkeeper_sdk::guest::bindings",
});
