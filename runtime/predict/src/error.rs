//! What can go wrong on the way of a prediction, and whose fault it is.

use innkeeper_sandbox::GuestError;
use innkeeper_tensor::Mismatch;

use crate::NotFound;

/// Whose fault an error is. The gateway's one table maps this to status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's: the same request will fail again.
    Caller,
    /// The model's.
    Plugin,
    /// Nobody's: there is too much to do, later may go well.
    Load,
    /// The host's.
    Host,
}

/// Why there is no prediction.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PredictError {
    /// There is no such model or version for this caller.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The tensors do not fit the model's signature.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The tenant starts more predictions than it may.
    #[error("over the limit requests_per_second_max of {limit}; retry in {retry_after_ms} ms")]
    Rate {
        /// The limit's value.
        limit: u64,
        /// Until the next one may start.
        retry_after_ms: u64,
    },
    /// The tenant's queue is full.
    #[error(
        "over the limit queue_requests_max of {limit} with requests_in_flight_max of {in_flight} running"
    )]
    QueueFull {
        /// How many may wait.
        limit: u64,
        /// How many run.
        in_flight: u64,
    },
    /// So many wait that its turn would come too late.
    #[error(
        "its turn would come in about {wait_ms} ms, and queue_ms_max is {limit} ms; retry in {retry_after_ms} ms"
    )]
    Overloaded {
        /// How long it would wait.
        wait_ms: u64,
        /// How long it may.
        limit: u64,
        /// Until the queue is short enough, if nobody else comes.
        retry_after_ms: u64,
    },
    /// The tenant has as many sequences open as it may.
    #[error(
        "over the limit sequences_max of {limit}; end one by sequence_end, or wait until one is idle for long"
    )]
    Sequences {
        /// The limit's value.
        limit: u64,
    },
    /// As many requests of one sequence wait as may.
    #[error(
        "{limit} requests of this sequence are in flight already; they are answered one after another"
    )]
    LineFull {
        /// How many may be.
        limit: u64,
    },
    /// The prediction waited too long for its turn.
    #[error("waited longer for its turn than queue_ms_max of {limit} ms")]
    QueueTimeout {
        /// The limit's value.
        limit: u64,
    },
    /// The prediction waited for its turn for longer than its caller would.
    #[error("waited longer for its turn than the request's timeout of {timeout_us} us")]
    Timeout {
        /// The request's timeout.
        timeout_us: u64,
    },
    /// A request with more rows than a batch may have.
    #[error("the request has {rows} rows along the batch axis; the model takes at most {max}")]
    TooManyRows {
        /// What came.
        rows: u64,
        /// The maximum of the model's batches.
        max: u64,
    },
    /// The model does not know what a parameter about the request's turn means; the text says what it would take.
    #[error("parameters.{name}: {problem}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The host is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The model has trapped too often and rests.
    #[error(
        "the model failed {failures} times in a row and rests for {retry_after_ms} ms; its log says why"
    )]
    Breaker {
        /// How often.
        failures: u32,
        /// Until it is tried again.
        retry_after_ms: u64,
    },
    /// The guest did not answer as it should.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The guest's answer does not fit its own signature.
    #[error("the model does not keep to its signature: {0}")]
    BadAnswer(Mismatch),
    /// The owner's assets in memory leave no room for the model's.
    #[error("the model cannot be loaded now: {0}")]
    NoRoom(String),
    /// The model's code cannot be brought up.
    #[error("the model cannot be loaded: {0}")]
    Load(String),
}

impl PredictError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            PredictError::NotFound(_)
            | PredictError::Mismatch(_)
            | PredictError::TooManyRows { .. }
            | PredictError::Parameter { .. } => Fault::Caller,
            PredictError::Rate { .. }
            | PredictError::QueueFull { .. }
            | PredictError::Overloaded { .. }
            | PredictError::Sequences { .. }
            | PredictError::LineFull { .. }
            | PredictError::QueueTimeout { .. }
            | PredictError::Timeout { .. }
            | PredictError::Draining
            | PredictError::NoRoom(_)
            | PredictError::Breaker { .. } => Fault::Load,
            PredictError::Guest(error) => match error {
                GuestError::Busy | GuestError::NoRoom { .. } => Fault::Load,
                GuestError::Host(_) => Fault::Host,
                GuestError::Cancelled | GuestError::Refused(_) => Fault::Caller,
                _ => Fault::Plugin,
            },
            PredictError::BadAnswer(_) => Fault::Plugin,
            PredictError::Load(_) => Fault::Host,
        }
    }
}
