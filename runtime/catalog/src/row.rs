//! From columns to types that cannot be wrong, and back.

use std::{fmt::Display, str::FromStr};

use crate::{CatalogError, Digest};

/// A name or the like as the database gave it.
pub(crate) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, CatalogError> {
    text.parse().map_err(|error: T::Err| CatalogError::Damaged { what: error.to_string() })
}

/// A digest as the database gave it.
pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, CatalogError> {
    Ok(Digest::from_bytes(hash(bytes)?))
}

/// The 32 bytes of a hash as the database gave it.
pub(crate) fn hash(bytes: &[u8]) -> Result<[u8; 32], CatalogError> {
    bytes.try_into().map_err(|_| CatalogError::Damaged {
        what: format!("a hash of {} bytes where 32 were written", bytes.len()),
    })
}

/// A size or count as the database gave it; the schema allows no negative ones.
pub(crate) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A size for the database, which has 63 bits for it.
pub(crate) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A digest for the database.
pub(crate) fn bytes(digest: &Digest) -> &[u8] {
    digest.as_bytes()
}
