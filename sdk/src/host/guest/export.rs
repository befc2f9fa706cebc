//! What the host calls.

use std::cell::OnceCell;
use std::thread::LocalKey;

use super::Assets;
use super::bindings::exports::innkeeper::model::model::Guest;
use super::bindings::innkeeper::model::tensors::NamedTensor;
use super::bindings::innkeeper::model::types;
use crate::log::Level;
use crate::{Error, Inputs, Model, Tensor};

/// A model with the place where its one instance stays between calls. [`export!`](crate::export) implements it.
pub trait Exported {
    /// The model.
    type Model: Model + 'static;

    /// Where `load` puts it.
    fn instance() -> &'static LocalKey<OnceCell<Self::Model>>;
}

impl<E: Exported> Guest for E {
    fn load() -> Result<(), types::Error> {
        tell_panics();
        let model = E::Model::load(&crate::Assets(Assets))?;
        let loaded = E::instance().with(|instance| instance.set(model));
        loaded.map_err(|_| types::Error::Internal("the model is loaded already".into()))
    }

    fn describe() -> Result<types::Signature, types::Error> {
        with_model::<E, _>(|model| Ok(model.signature().into()))
    }

    fn predict(inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, types::Error> {
        let inputs: Inputs =
            inputs.into_iter().map(|input| (input.name, Tensor(input.value))).collect();
        let outputs = with_model::<E, _>(|model| model.predict(inputs))?;
        let named = |(name, Tensor(value))| NamedTensor { name, value };
        Ok(outputs.into_iter().map(named).collect())
    }
}

/// A panic ends in a trap, which has no text; the log is where its author looks.
pub(super) fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        crate::log::write(Level::Error, &panic.to_string());
    }));
}

fn with_model<E: Exported, T>(
    call: impl FnOnce(&E::Model) -> Result<T, Error>,
) -> Result<T, types::Error> {
    E::instance().with(|instance| match instance.get() {
        Some(model) => call(model).map_err(Into::into),
        None => Err(types::Error::Internal("the model is not loaded; call load first".into())),
    })
}
