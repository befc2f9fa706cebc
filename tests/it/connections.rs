//! Slow, half-closed and many connections.
