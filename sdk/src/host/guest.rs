//! The host as a guest meets it: the imports of `wit/model.wit`, and the exports that it calls.

mod allocator;
pub(crate) mod arrays;
pub mod bindings;
mod convert;
mod export;
pub(crate) mod layers;
pub(crate) mod random;
mod train_export;
pub mod trainable;
pub(crate) mod training;

use bindings::innkeeper::model::{assets, types};

pub(crate) use bindings::innkeeper::model::graph::Graph;
pub(crate) use bindings::innkeeper::model::quantised;
pub(crate) use bindings::innkeeper::model::request;
pub(crate) use bindings::innkeeper::model::tensors::Tensor as Handle;
pub(crate) use convert::{dtype, dtype_back};
pub use export::Exported;
pub use train_export::ExportedTrainer;

/// Writes one message to the model's log.
pub(crate) fn log(level: crate::log::Level, message: &str) {
    bindings::innkeeper::model::log::write(convert::level(level), message);
}

/// A tensor and its name, as this crate has them.
pub(crate) fn named(
    tensor: bindings::innkeeper::model::tensors::NamedTensor,
) -> (String, crate::Tensor) {
    (tensor.name, crate::Tensor(tensor.value))
}

/// The assets of this version. The host knows which; there is nothing to hold.
#[derive(Debug)]
pub(crate) struct Assets;

impl Assets {
    pub(crate) fn list(&self) -> Vec<crate::AssetInfo> {
        assets::list().into_iter().map(Into::into).collect()
    }

    pub(crate) fn read(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, types::Error> {
        assets::read(name, offset, length)
    }

    pub(crate) fn graph(&self, name: &str) -> Result<Graph, types::Error> {
        Graph::open(name)
    }

    pub(crate) fn tensor_names(&self, name: &str) -> Result<Vec<String>, types::Error> {
        assets::tensor_names(name)
    }

    pub(crate) fn open_tensor(&self, name: &str, tensor: &str) -> Result<Handle, types::Error> {
        assets::open_tensor(name, tensor)
    }
}
