//! The request that a test makes.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// What is known of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(crate) id: String,
    /// JSON texts by name.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The outputs asked for, all when none is named.
    pub(crate) outputs: Vec<String>,
}

thread_local! {
    static CALL: RefCell<Call> = RefCell::default();
}

impl Call {
    /// Runs `work` as the answer to this request.
    pub(crate) fn answer<T>(self, work: impl FnOnce() -> T) -> T {
        /// Ends the request also when `work` panics, as tests do.
        struct End(Call);
        impl Drop for End {
            fn drop(&mut self) {
                CALL.set(std::mem::take(&mut self.0));
            }
        }
        let _end = End(CALL.replace(self));
        work()
    }
}

pub(crate) fn id() -> String {
    CALL.with_borrow(|call| call.id.clone())
}

pub(crate) fn parameter(name: &str) -> Option<String> {
    CALL.with_borrow(|call| call.parameters.get(name).cloned())
}

pub(crate) fn wants_output(name: &str) -> bool {
    CALL.with_borrow(|call| call.outputs.is_empty() || call.outputs.iter().any(|o| o == name))
}

pub(crate) fn remaining_ms() -> u64 {
    u64::MAX
}
