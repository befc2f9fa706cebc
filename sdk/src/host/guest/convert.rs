//! Between the words of this crate and those of the contract.

use super::bindings::innkeeper::model::{assets, log, types};
use crate::log::Level;
use crate::{AssetInfo, DType, Error, Signature, TensorSpec};

macro_rules! dtypes {
    ($($ours:ident = $theirs:ident),* $(,)?) => {
        /// As the contract names it.
        pub(crate) fn dtype(dtype: DType) -> types::Dtype {
            match dtype {
                $(DType::$ours => types::Dtype::$theirs,)*
            }
        }

        /// As this crate names it.
        pub(crate) fn dtype_back(dtype: types::Dtype) -> DType {
            match dtype {
                $(types::Dtype::$theirs => DType::$ours,)*
            }
        }
    };
}
dtypes! {
    Bool = Bool,
    Uint8 = Uint8, Uint16 = Uint16, Uint32 = Uint32, Uint64 = Uint64,
    Int8 = Int8, Int16 = Int16, Int32 = Int32, Int64 = Int64,
    Fp16 = Fp16, Bf16 = Bf16, Fp32 = Fp32, Fp64 = Fp64,
    Bytes = Bytes,
}

/// As the contract names it.
pub(super) fn level(level: Level) -> log::Level {
    match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    }
}

macro_rules! errors {
    ($($case:ident),*) => {
        impl From<types::Error> for Error {
            fn from(error: types::Error) -> Error {
                match error {
                    $(types::Error::$case(text) => Error::$case(text),)*
                }
            }
        }

        impl From<Error> for types::Error {
            fn from(error: Error) -> types::Error {
                match error {
                    $(Error::$case(text) => types::Error::$case(text),)*
                }
            }
        }
    };
}
errors!(InvalidArgument, NotFound, Unsupported, ResourceExhausted, Internal);

impl From<assets::AssetInfo> for AssetInfo {
    fn from(info: assets::AssetInfo) -> AssetInfo {
        AssetInfo { name: info.name, size: info.size, digest: info.digest }
    }
}

impl From<types::TensorSpec> for TensorSpec {
    fn from(spec: types::TensorSpec) -> TensorSpec {
        TensorSpec {
            name: spec.name,
            dtype: dtype_back(spec.dtype),
            shape: spec.shape,
            optional: spec.optional,
        }
    }
}

impl From<TensorSpec> for types::TensorSpec {
    fn from(spec: TensorSpec) -> types::TensorSpec {
        types::TensorSpec {
            name: spec.name,
            dtype: dtype(spec.dtype),
            shape: spec.shape,
            optional: spec.optional,
        }
    }
}

impl From<Signature> for types::Signature {
    fn from(signature: Signature) -> types::Signature {
        types::Signature {
            inputs: signature.inputs.into_iter().map(Into::into).collect(),
            outputs: signature.outputs.into_iter().map(Into::into).collect(),
            batch_axis: signature.batch_axis,
            properties: signature.properties,
        }
    }
}
