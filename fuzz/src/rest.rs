//! Inference requests in JSON.

use bytes::Bytes;
use innkeeper_gateway::fuzzing;
use innkeeper_tensor::Named;

/// Reads the body; what was read, written as an answer would be, reads back the same.
pub fn check(bytes: &[u8]) {
    let Ok(inputs) = fuzzing::decode(&Bytes::copy_from_slice(bytes), None) else { return };
    reads_back(&inputs, false);
    reads_back(&inputs, true);
}

/// Some dtypes and strings have no JSON form; what has one keeps every bit.
pub(crate) fn reads_back(inputs: &[Named], binary: bool) {
    let Ok((header_len, answer)) = fuzzing::encode(inputs, binary) else { return };
    // The first time that this stands there it is the key: what comes before has no outputs.
    let key: &[u8] = b"\"outputs\":[";
    let at = answer.windows(key.len()).position(|window| window == key).expect("it has outputs");
    let body = [&answer[..at], b"\"inputs\":[", &answer[at + key.len()..]].concat();
    let header_len = header_len.map(|len| len - 1);
    let again = fuzzing::decode(&Bytes::from(body), header_len);
    assert_eq!(again.as_deref(), Ok(inputs), "read back, binary: {binary}");
}
