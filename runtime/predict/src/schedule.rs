//! When a prediction is to run, and with which others, as its caller wishes.

use crate::{Batching, PredictError};

/// What a request's own parameters say about its turn. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// 1 goes first, 2 next; 0 stands for the model's default.
    pub priority: u64,
    /// Microseconds that it may wait for its turn; 0: as long as the limits allow.
    pub timeout_us: u64,
    /// The sequence that it belongs to.
    pub sequence_id: Option<SequenceId>,
    /// Whether it is the first of its sequence.
    pub sequence_start: bool,
    /// Whether it is the last of its sequence.
    pub sequence_end: bool,
}

impl Schedule {
    /// The level of priority that it comes to.
    ///
    /// # Errors
    /// [`PredictError::Parameter`] for a level that the model does not have.
    pub(crate) fn priority(&self, batching: Option<&Batching>) -> Result<u64, PredictError> {
        let levels = batching.map_or(0, |batching| batching.priorities);
        match self.priority {
            0 => Ok(batching.map_or(0, Batching::default_priority)),
            priority if priority <= levels => Ok(priority),
            priority => {
                let problem = format!("the model has {levels} levels of priority, got {priority}");
                Err(PredictError::Parameter { name: "priority", problem })
            }
        }
    }

    /// A request belongs to a sequence just where the model keeps them.
    ///
    /// # Errors
    /// [`PredictError::Parameter`] for anything said about a sequence of a model that keeps none, and for no sequence's
    /// id where it does.
    pub(crate) fn check_sequence(&self, keeps_sequences: bool) -> Result<(), PredictError> {
        let says_nothing = self.sequence_id.is_none() && !self.sequence_start && !self.sequence_end;
        let problem = match (keeps_sequences, says_nothing) {
            (false, true) => return Ok(()),
            (true, _) if self.sequence_id.is_some() => return Ok(()),
            (false, false) => "the model keeps no sequences",
            (true, _) => "the model keeps sequences, and each request must say which it belongs to",
        };
        Err(PredictError::Parameter { name: "sequence_id", problem: problem.to_owned() })
    }
}

/// What a caller names a sequence by. Numbers and texts never mean the same sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SequenceId {
    /// A number other than 0.
    Number(u64),
    /// A text that is not empty.
    Text(String),
}

impl std::fmt::Display for SequenceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SequenceId::Number(number) => write!(f, "{number}"),
            SequenceId::Text(text) => write!(f, "{text:?}"),
        }
    }
}
