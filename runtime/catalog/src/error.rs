//! The one error of this crate.

use std::{error::Error, io, path::PathBuf};

use crate::Digest;

/// Why the catalog did not do what it was asked.
///
/// [`NotFound`](Self::NotFound) to [`WrongDigest`](Self::WrongDigest) are the caller's to mend; the
/// rest is the host's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// There is no such thing, or the tenant asking does not own it: the two look the same on
    /// purpose.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for, such as `model acme/digits`.
        what: String,
    },
    /// Something that exists stands in the way.
    #[error("{what}: {why}")]
    Conflict {
        /// What was to be changed.
        what: String,
        /// What stands in the way and what to do about it.
        why: String,
    },
    /// The change would go over a limit. Nothing was changed.
    #[error("{limit} is {max}, and this would make it {got}")]
    LimitExceeded {
        /// The name of the limit, as configuration spells it.
        limit: &'static str,
        /// The limit's value.
        max: u64,
        /// The value after the change, had it been made.
        got: u64,
    },
    /// An upload's next bytes must start where the last ones ended.
    #[error("the upload continues at offset {wanted}, but these bytes were sent for offset {got}")]
    WrongOffset {
        /// Where the upload continues.
        wanted: u64,
        /// The offset that was sent.
        got: u64,
    },
    /// The bytes are not the ones that were promised.
    #[error("the bytes have the digest {got}, but {wanted} was promised")]
    WrongDigest {
        /// The digest that was promised.
        wanted: Digest,
        /// The digest of the bytes that came.
        got: Digest,
    },
    /// A stored blob is no longer what was stored. Sending the blob again mends it.
    #[error("the stored blob {digest} is damaged: {found}; send it again to mend it")]
    Corrupt {
        /// The digest of the blob as stored.
        digest: Digest,
        /// What was found instead of it.
        found: String,
    },
    /// A row of the database cannot be read; it was changed by something else than this crate.
    #[error("the catalog's database is damaged: {what}; restore the data folder from a backup")]
    Damaged {
        /// What could not be read, and why.
        what: String,
    },
    /// The disk, or the quota on it, is full. Nothing was changed.
    #[error("the disk that holds the catalog is full; free some space and try again")]
    DiskFull,
    /// Another process has this catalog open. One at a time may.
    #[error("{} is in use by another process; stop that one first", dir.display())]
    InUse {
        /// The data folder.
        dir: PathBuf,
    },
    /// The file system failed.
    #[error("{doing}: {source}")]
    Io {
        /// What the catalog was doing.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The blob store failed.
    #[error("the blob store failed: {0}")]
    Blobs(#[source] object_store::Error),
    /// The database failed.
    #[error("the catalog's database failed: {0}")]
    Database(#[source] sqlx::Error),
}

impl CatalogError {
    /// Nothing there, or not the asking tenant's.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// `doing` is what to put before the system's words.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        if is_full(&source) { Self::DiskFull } else { Self::Io { doing: doing.into(), source } }
    }
}

/// The primary result code of SQLite for a full disk (or a database at its maximum size).
const SQLITE_FULL: u32 = 13;
/// What SQLite says instead when the index of its log cannot grow, which on a full disk comes
/// first.
const SQLITE_IOERR_SHMSIZE: u32 = 4874;

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(inside) => {
                let code = inside.code().and_then(|code| code.parse::<u32>().ok());
                // The low byte of an extended code is the primary one.
                let full = |code| code & 0xff == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE;
                if code.is_some_and(full) {
                    return Self::DiskFull;
                }
            }
            sqlx::Error::Io(inside) if is_full(inside) => return Self::DiskFull,
            _ => {}
        }
        Self::Database(error)
    }
}

impl From<object_store::Error> for CatalogError {
    fn from(error: object_store::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(one) = cause {
            if one.downcast_ref::<io::Error>().is_some_and(is_full) {
                return Self::DiskFull;
            }
            cause = one.source();
        }
        Self::Blobs(error)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
