//! What a model is, and how it becomes the component's.

use crate::{Assets, Inputs, Outputs, Result, Signature};

/// A model: loaded once, then called any number of times, one call at a time.
///
/// The host may drop an instance and load another at any moment, and does so after a panic, a time-out or, where the
/// manifest says `isolation = "request"`, every call. What a call leaves in the instance is therefore a cache at best.
///
/// ```
/// use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};
///
/// struct Scorer {
///     weight: Tensor,
/// }
///
/// #[innkeeper_sdk::model]
/// impl Model for Scorer {
///     fn load(assets: &Assets) -> Result<Self> {
///         Ok(Scorer { weight: assets.weights("weights.safetensors").tensor("score.weight")? })
///     }
///
///     fn signature(&self) -> Signature {
///         Signature::new()
///             .input("FEATURES", DType::Fp32, &[-1, 4])
///             .output("SCORE", DType::Fp32, &[-1, 1])
///             .batch_axis(0)
///     }
///
///     fn predict(&self, inputs: Inputs) -> Result<Outputs> {
///         let score = inputs.tensor("FEATURES")?.linear(&self.weight, None)?.sigmoid()?;
///         Ok(Outputs::new().with("SCORE", score))
///     }
/// }
/// # fn main() {}
/// ```
pub trait Model: Sized {
    /// Makes the model ready: opens weights, reads vocabularies. Runs once, before anything else.
    ///
    /// # Errors
    /// Whatever keeps the model from running; the version is then not deployed, and its owner sees the text.
    fn load(assets: &Assets) -> Result<Self>;

    /// What the model takes and gives. It must be the same at every call; the host asks when a version is deployed.
    fn signature(&self) -> Signature;

    /// y = h(x). The inputs have the names, dtypes and shapes that the signature says, and all that are not optional
    /// are there. The answer must keep to the signature likewise; outputs for which
    /// [`request::wants_output`](crate::request::wants_output) is false may be left out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) tells the caller that their values cannot be used; any
    /// other case tells them that the model failed.
    fn predict(&self, inputs: Inputs) -> Result<Outputs>;
}

/// Exports a model. The documentation is at its twin below.
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! export {
    ($model:ty) => {
        const _: () = {
            struct Exported;

            ::std::thread_local! {
                static INSTANCE: ::std::cell::OnceCell<$model> = const {
                    ::std::cell::OnceCell::new()
                };
            }

            impl $crate::guest::Exported for Exported {
                type Model = $model;

                fn instance() -> &'static ::std::thread::LocalKey<::std::cell::OnceCell<$model>> {
                    &INSTANCE
                }
            }

    $crate::guest::bindings::export!(Exported with_types_in $crate::guest::bindings);
        };
    };
}

/// Makes a type that implements [`Model`] the model of this component, as `#[innkeeper_sdk::model]` on the `impl` does.
/// A component has one; compiled natively this only checks that the type is a model.
///
/// ```
/// # use innkeeper_sdk::{Assets, Inputs, Model, Outputs, Result, Signature};
/// # struct Mine;
/// # impl Model for Mine {
/// #     fn load(_: &Assets) -> Result<Self> { Ok(Mine) }
/// #     fn signature(&self) -> Signature { Signature::new() }
/// #     fn predict(&self, _: Inputs) -> Result<Outputs> { Ok(Outputs::new()) }
/// # }
/// innkeeper_sdk::export!(Mine);
/// # fn main() {}
/// ```
#[cfg(not(target_family = "wasm"))]
#[macro_export]
macro_rules! export {
    ($model:ty) => {
        const _: fn() = || {
            fn is_model<M: $crate::Model + 'static>() {}
            is_model::<$model>();
        };
    };
}
