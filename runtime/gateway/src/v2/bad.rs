//! What is wrong with a request body, and where.

use std::fmt;

/// Something in a request that cannot be read: the path of the field, and what was wanted and came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    path: String,
    problem: String,
}

impl Bad {
    /// A problem with the value at hand.
    #[cold]
    pub(crate) fn new(problem: impl Into<String>) -> Bad {
        Bad { path: String::new(), problem: problem.into() }
    }

    /// The same, seen from the object that has the value under `field`.
    #[cold]
    pub(crate) fn at(mut self, field: &str) -> Bad {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{dot}{}", self.path);
        self
    }

    /// The same, seen from the array that has the value at `index`.
    #[cold]
    pub(crate) fn at_index(self, index: usize) -> Bad {
        self.at(&format!("[{index}]"))
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}
