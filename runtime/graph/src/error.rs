//! Why a graph cannot be loaded or run.

use innkeeper_kernels::OpError;
use innkeeper_tensor::Mismatch;

/// Why a graph cannot be loaded or run. The text says what was wanted, what came and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// The bytes are no ONNX model, or one that contradicts itself. The model's fault.
    #[error("the ONNX file cannot be used: {0}")]
    File(String),
    /// Something that this executor does not do. The model's fault.
    #[error("{place} is not supported: {reason}")]
    Unsupported {
        /// Operator, node and opset.
        place: Box<Place>,
        /// What exactly, and what to do.
        reason: String,
    },
    /// The inputs do not fit the graph's signature. The caller's fault.
    #[error(transparent)]
    Input(#[from] Mismatch),
    /// An operation does not fit what it was given, at inputs that the signature allows.
    #[error("{place}: {problem}")]
    Node {
        /// Operator, node and opset.
        place: Box<Place>,
        /// What was wanted and what came.
        problem: String,
    },
    /// More memory, more nodes or more of something than is allowed.
    #[error("{0}")]
    Limit(String),
    /// The run was stopped before it was done.
    #[error("the run was stopped: its call has to end")]
    Stopped,
    /// A shape depends on elements that are not known while planning. Not seen outside of this crate.
    #[doc(hidden)]
    #[error("the elements of an operand must be known before the run")]
    NeedsValue,
}

/// Where in a graph something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The operator, with its domain unless that is ONNX's own.
    pub operator: String,
    /// The node's name, or its first result's where it has none.
    pub node: String,
    /// The version of the operator set that the model imports.
    pub opset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operator {} (node {:?}, opset {})", self.operator, self.node, self.opset)
    }
}

/// Why a node cannot be done, by one who does not know where it is.
#[derive(Debug, Clone)]
pub(crate) enum Fail {
    /// The elements of an operand must be known, which they are only once it was computed.
    NeedsValue,
    /// This executor does not do it.
    Unsupported(String),
    /// It does not fit.
    Invalid(String),
    /// It is too much.
    Limit(String),
    /// The run was stopped.
    Stopped,
    /// A node of a graph inside this one failed, and says so itself.
    Inner(GraphError),
}

impl From<OpError> for Fail {
    fn from(error: OpError) -> Fail {
        match error {
            OpError::InvalidArgument(text) => Fail::Invalid(text),
            OpError::Unsupported(text) => Fail::Unsupported(text),
            OpError::Stopped => Fail::Stopped,
        }
    }
}

impl Fail {
    pub(crate) fn at(self, place: impl FnOnce() -> Place) -> GraphError {
        match self {
            Fail::NeedsValue => GraphError::NeedsValue,
            Fail::Unsupported(reason) => {
                GraphError::Unsupported { place: Box::new(place()), reason }
            }
            Fail::Invalid(problem) => GraphError::Node { place: Box::new(place()), problem },
            Fail::Limit(text) => GraphError::Limit(format!("{}: {text}", place())),
            Fail::Stopped => GraphError::Stopped,
            Fail::Inner(error) => error,
        }
    }
}

/// A [`Fail::Invalid`].
pub(crate) fn invalid(text: impl std::fmt::Display) -> Fail {
    Fail::Invalid(text.to_string())
}
