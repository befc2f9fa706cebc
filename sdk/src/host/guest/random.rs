//! The interface `random`, with this crate's words.

pub(crate) use super::bindings::innkeeper::model::random::*;

use crate::tensor;

pub(crate) fn key(tensor::Key { seed, stream }: tensor::Key) -> Key {
    Key { seed, stream }
}
