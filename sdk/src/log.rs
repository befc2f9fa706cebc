//! The model's own log, which its owner reads with `innkeeper logs`. In native tests it is standard error.
//!
//! The host limits lines and bytes; what is over is dropped and counted.
//!
//! ```
//! use innkeeper_sdk::log;
//!
//! log::info!("vocabulary of {} words", 30_522);
//! log::warn!("no labels; answering numbers");
//! ```

use crate::host;

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What only the author wants to see.
    Debug,
    /// What is good to know.
    Info,
    /// What somebody should look at.
    Warn,
    /// What went wrong.
    Error,
}

/// Writes one message. The macros of this module are shorter.
pub fn write(level: Level, message: &str) {
    host::log(level, message);
}

/// Logs what only its author wants to see.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($argument:tt)+) => {
        $crate::log::write($crate::log::Level::Debug, &::std::format!($($argument)+))
    };
}

/// Logs what is good to know.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($argument:tt)+) => {
        $crate::log::write($crate::log::Level::Info, &::std::format!($($argument)+))
    };
}

/// Logs what somebody should look at.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($argument:tt)+) => {
        $crate::log::write($crate::log::Level::Warn, &::std::format!($($argument)+))
    };
}

/// Logs what went wrong.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($argument:tt)+) => {
        $crate::log::write($crate::log::Level::Error, &::std::format!($($argument)+))
    };
}

#[doc(inline)]
pub use {__debug as debug, __error as error, __info as info, __warn as warn};
