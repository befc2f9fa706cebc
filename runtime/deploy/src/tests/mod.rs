//! The journey and what may go wrong on it, with real guests on a real host.

mod changes;
mod crashes;
mod guest;
mod host;
mod journey;
