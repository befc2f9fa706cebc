//! Bearer keys: what they may do, how long they live, how they are checked.

use std::{fmt, str::FromStr};

use crate::{Catalog, CatalogError, TenantName};

/// Something that a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Call models.
    Predict,
    /// Publish, change and delete models and blobs.
    Publish,
    /// Run the host: tenants, keys, limits.
    Admin,
}

/// A text that names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a scope: wanted predict, publish or admin")]
pub struct ScopeError {
    /// The text as given.
    pub given: String,
}

/// A key, without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Eight hex digits, part of the secret, by which people name the key.
    pub id: String,
    /// Whose key it is.
    pub tenant: TenantName,
    /// What it allows, in the order of [`Scope`], each once.
    pub scopes: Vec<Scope>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// From when on it is no longer valid.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// What its maker called it.
    pub label: String,
    /// The SHA-256 of the secret.
    pub hash: [u8; 32],
}

impl KeyInfo {
    /// Whether the key may be used at this time: neither expired nor revoked.
    pub fn is_live(&self, _now_ms: i64) -> bool {
        false
    }

    /// Whether `secret` is this key's, in a time that does not depend on how nearly it is.
    pub fn matches(&self, _secret: &str) -> bool {
        false
    }

    /// Whether the key allows `scope`.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The id in a secret, if it has the form of one: `ink_<8 hex digits>_<43 characters>`.
pub fn key_id(_secret: &str) -> Option<&str> {
    None
}

impl Catalog {
    /// Makes a key and returns it with its secret, which nobody can read again.
    pub async fn create_key(
        &self,
        _tenant: &TenantName,
        _scopes: &[Scope],
        _label: &str,
        _expires_ms: Option<i64>,
    ) -> Result<(KeyInfo, String), CatalogError> {
        Err(CatalogError::not_found(""))
    }

    /// Revokes the key for good. Revoking it again changes nothing.
    pub async fn revoke_key(&self, _id: &str) -> Result<(), CatalogError> {
        Err(CatalogError::not_found(""))
    }

    /// Every key, the oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, CatalogError> {
        Err(CatalogError::not_found(""))
    }
}

impl fmt::Debug for KeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyInfo({} of {})", self.id, self.tenant)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text {
            "predict" => Ok(Self::Predict),
            "publish" => Ok(Self::Publish),
            "admin" => Ok(Self::Admin),
            _ => Err(ScopeError { given: text.chars().take(100).collect() }),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Predict => "predict",
            Self::Publish => "publish",
            Self::Admin => "admin",
        })
    }
}
