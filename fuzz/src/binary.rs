//! Inference requests with binary tensors, and raw ones.

use bytes::Bytes;
use innkeeper_gateway::fuzzing;
use innkeeper_tensor::{Signature, TensorSpec};

use crate::rest::reads_back;
use crate::source::Source;

/// The first byte says which of the two it is. Of JSON and tensors the length of the JSON comes first, in two bytes.
pub fn check(bytes: &[u8]) {
    let mut from = Source::new(bytes);
    if from.flag() {
        return raw(from);
    }
    let header_len = usize::from(from.byte()) | usize::from(from.byte()) << 8;
    let body = Bytes::copy_from_slice(from.rest());
    let Ok(inputs) = fuzzing::decode(&body, Some(header_len)) else { return };
    reads_back(&inputs, true);
}

/// A signature with one input, and a body for it.
fn raw(mut from: Source<'_>) {
    let dim = |from: &mut Source<'_>| from.flag().then(|| from.size());
    let shape = (!from.rarely(8)).then(|| (0..from.byte() % 5).map(|_| dim(&mut from)).collect());
    let dtype = from.dtype();
    let spec = TensorSpec { name: "A".into(), dtype, shape, optional: from.flag() };
    let batch_axis = from.flag().then(|| from.size());
    let signature = Signature { inputs: vec![spec], batch_axis, ..Signature::default() };
    let body = Bytes::copy_from_slice(from.rest());
    let Ok(input) = fuzzing::raw(&signature, &body) else { return };
    assert_eq!(signature.check_inputs(&[input.clone()]), Ok(()), "what was read fits");
    reads_back(&[input], true);
}
