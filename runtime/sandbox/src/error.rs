//! How a guest can fail.

/// Why a guest gave no answer. After [`GuestError::Refused`] and [`GuestError::Failed`] the instance is as good as
/// before; after any other it is spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The guest says that its input is wrong.
    #[error("{0}")]
    Refused(String),
    /// The guest says that it could not do it.
    #[error("the model failed: {0}")]
    Failed(String),
    /// The guest's code trapped.
    #[error("the model's code trapped: {0}")]
    Trap(String),
    /// The guest did not come to an end in time.
    #[error("the model did not answer within {limit} of {max} ms")]
    Deadline {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// The guest went over a limit.
    #[error("the model went over the limit {limit} of {max}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// The inputs find no room beside what the same caller's other requests hold; the guest was not asked.
    #[error(
        "the inputs do not fit under the limit {limit} of {max} beside what is held already; retry later"
    )]
    NoRoom {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// Nobody waits for the answer any more.
    #[error("the call was cancelled")]
    Cancelled,
    /// The host has no room for one more instance.
    #[error("the host runs as many instances as it may; retry later")]
    Busy,
    /// The host's own fault.
    #[error("the host failed: {0}")]
    Host(String),
}

impl GuestError {
    /// Whether the instance can answer another call.
    pub fn leaves_instance_usable(&self) -> bool {
        matches!(self, GuestError::Refused(_) | GuestError::Failed(_))
    }
}
