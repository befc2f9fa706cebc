//! Why a file is no data to learn from.

use std::io;

/// Why a file cannot be converted, or a converted one cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// One cell is not what it should be.
    #[error("line {line}, column {number} ({column:?}): wanted {wanted}, got {got}")]
    Cell {
        /// The line of the file, or the row where it has no lines; from 1.
        line: u64,
        /// The column's number, from 1.
        number: usize,
        /// The column's name.
        column: String,
        /// What is wanted.
        wanted: String,
        /// What is there.
        got: String,
    },
    /// One row is not what it should be.
    #[error("line {line}: {why}")]
    Row {
        /// The line of the file, or the row where it has no lines; from 1.
        line: u64,
        /// What is wrong, and what is wanted.
        why: String,
    },
    /// There are no rows.
    #[error("it has no rows{0}")]
    Empty(&'static str),
    /// The columns do not hold together.
    #[error("{0}")]
    Columns(String),
    /// The file is not in its format, or a converted one was changed.
    #[error("{0}")]
    Malformed(String),
    /// There is more than may be.
    #[error("it goes over {limit} of {max}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// The disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl DatasetError {
    pub(super) fn read(source: io::Error) -> DatasetError {
        DatasetError::Io { doing: "reading data", source }
    }

    pub(super) fn write(source: io::Error) -> DatasetError {
        DatasetError::Io { doing: "writing data", source }
    }
}

/// A value in an error's text: short, and in one line.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?} ...", &text[..end]),
        None => format!("{text:?}"),
    }
}
