//! What is known of the request being answered.
//!
//! Outside of [`predict`](crate::Model::predict) there is none: the id is empty, no parameter is set, and every output
//! is wanted.
//!
//! ```
//! use innkeeper_sdk::{Inputs, Outputs, Result, log, request};
//!
//! fn predict(inputs: Inputs) -> Result<Outputs> {
//!     log::debug!("request {:?}, threshold {:?}", request::id(), request::parameter("threshold"));
//!     let mut outputs = Outputs::new();
//!     if request::wants_output("PROBABILITIES") {
//!         outputs.push("PROBABILITIES", inputs.tensor("LOGITS")?.softmax(-1)?);
//!     }
//!     Ok(outputs)
//! }
//! ```

use crate::host;

/// The caller's id of the request, empty when there is none.
pub fn id() -> String {
    host::request::id()
}

/// A parameter of the request, as JSON text: `"abc"` (with its quotes), `5`, `true`.
pub fn parameter(name: &str) -> Option<String> {
    host::request::parameter(name)
}

/// Whether the caller asked for this output. Work for the others may be skipped; the host drops them all the same.
pub fn wants_output(name: &str) -> bool {
    host::request::wants_output(name)
}

/// Milliseconds until the deadline, after which the guest is stopped wherever it is. In native tests there is none,
/// and this is `u64::MAX`.
pub fn remaining_ms() -> u64 {
    host::request::remaining_ms()
}
