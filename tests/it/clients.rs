//! The client libraries that callers have.
