//! Inference requests as gRPC's messages.

use bytes::Bytes;
use innkeeper_gateway::grpc_fuzzing as fuzzing;
use innkeeper_tensor::Named;

/// Reads the message; what was read, written as a request again, reads back the same.
pub fn check(bytes: &[u8]) {
    let Ok(inputs) = fuzzing::decode(&Bytes::copy_from_slice(bytes)) else { return };
    reads_back(&inputs, true);
    reads_back(&inputs, false);
}

/// Some dtypes have no typed form; what has one keeps every bit. Without inputs there is nothing raw either.
fn reads_back(inputs: &[Named], raw: bool) {
    let Ok(message) = fuzzing::encode(inputs, raw) else { return };
    assert_eq!(fuzzing::decode(&message).as_deref(), Ok(inputs), "read back, raw: {raw}");
}
