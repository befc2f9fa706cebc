//! Constants that were made of a graph's weights.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::Tensor;

/// Constants that planning and rewriting made of a graph's weights, by what they were made of. They do not depend on the
/// shapes of inputs, and are made once for all plans.
#[derive(Debug, Default)]
pub(crate) struct Derived(Mutex<HashMap<String, Tensor>>);

impl Derived {
    /// The bytes of all of them, with what kernels derived from them.
    pub(crate) fn byte_length(&self) -> usize {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.values().map(|x| x.as_bytes().len() + x.derived_byte_length()).sum()
    }

    /// The bytes of the constants themselves.
    pub(crate) fn own_bytes(&self) -> usize {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.values().map(|x| x.as_bytes().len()).sum()
    }

    pub(crate) fn get<E>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<Tensor, E>,
    ) -> Result<Tensor, E> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = made.get(key) {
            return Ok(tensor.clone());
        }
        let tensor = make()?.constant();
        made.insert(key.to_owned(), tensor.clone());
        Ok(tensor)
    }
}
