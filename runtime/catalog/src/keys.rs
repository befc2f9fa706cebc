//! Bearer keys: what they may do, how long they live, how they are checked.

use std::{collections::BTreeSet, fmt, str::FromStr};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use subtle::ConstantTimeEq;

use crate::{
    Catalog, CatalogError, Digest, TenantName,
    row::{self, count},
    tenants::{require_tenant, within},
};

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
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }

    /// Whether `secret` is this key's, in a time that does not depend on how nearly it is.
    pub fn matches(&self, secret: &str) -> bool {
        hash(secret).ct_eq(&self.hash).into()
    }

    /// Whether the key allows `scope`.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The id in a secret, if it has the form of one: `ink_<8 hex digits>_<43 characters>`.
pub fn key_id(secret: &str) -> Option<&str> {
    let (id, random) = secret.strip_prefix("ink_")?.split_at_checked(ID_CHARS)?;
    let random = random.strip_prefix('_')?;
    let is_hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_random = random.len() == RANDOM_CHARS && random.bytes().all(|b| ALPHABET.contains(&b));
    (is_hex && is_random).then_some(id)
}

const ID_CHARS: usize = 8;
/// 43 characters of 6 random bits each: 258 bits, which nobody guesses, so that a plain hash is
/// enough to store.
const RANDOM_CHARS: usize = 43;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LABEL_BYTES_MAX: u64 = 200;
/// Live, expired and revoked keys of one tenant: they are all loaded at start-up.
const KEYS_MAX: u64 = 1000;
/// An id has 32 bits, so that a new one is taken only by rare chance, and twice in a row by none.
const ATTEMPTS_MAX: usize = 8;

impl Catalog {
    /// Makes a key and returns it with its secret, which nobody can read again.
    pub async fn create_key(
        &self,
        tenant: &TenantName,
        scopes: &[Scope],
        label: &str,
        expires_ms: Option<i64>,
    ) -> Result<(KeyInfo, String), CatalogError> {
        within("key_label_bytes_max", LABEL_BYTES_MAX, label.len() as u64)?;
        let scopes: Vec<Scope> = BTreeSet::from_iter(scopes.iter().copied()).into_iter().collect();
        let mut write = self.inner.store.write().await?;
        require_tenant(&mut write, tenant).await?;
        let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM keys WHERE tenant = ?")
            .bind(tenant.as_str())
            .fetch_one(&mut *write)
            .await?;
        within("keys_max", KEYS_MAX, count(keys) + 1)?;
        for _ in 0..ATTEMPTS_MAX {
            let (id, secret) = new_secret()?;
            let key = KeyInfo {
                id,
                tenant: tenant.clone(),
                scopes: scopes.clone(),
                created_ms: self.inner.now_ms(),
                expires_ms,
                revoked_ms: None,
                label: label.to_owned(),
                hash: hash(&secret),
            };
            if insert(&mut write, &key).await? {
                write.commit().await?;
                return Ok((key, secret));
            }
        }
        let why = "no free id was found; try again".to_owned();
        Err(CatalogError::Conflict { what: "a new key".to_owned(), why })
    }

    /// Revokes the key for good. Revoking it again changes nothing.
    pub async fn revoke_key(&self, id: &str) -> Result<(), CatalogError> {
        let mut write = self.inner.store.write().await?;
        let revoked =
            sqlx::query("UPDATE keys SET revoked_ms = coalesce(revoked_ms, ?) WHERE id = ?")
                .bind(self.inner.now_ms())
                .bind(id)
                .execute(&mut *write)
                .await?;
        if revoked.rows_affected() == 0 {
            return Err(CatalogError::not_found(format!("key {}", id.escape_debug())));
        }
        Ok(write.commit().await?)
    }

    /// Every key, the oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, CatalogError> {
        let mut read = self.inner.store.read().await?;
        let rows = sqlx::query(
            "SELECT id, tenant, hash, scopes, label, created_ms, expires_ms, revoked_ms
               FROM keys ORDER BY created_ms, id",
        )
        .fetch_all(&mut *read)
        .await?;
        rows.iter().map(key).collect()
    }
}

/// Writes the key, unless one has its id.
async fn insert(db: &mut SqliteConnection, key: &KeyInfo) -> Result<bool, CatalogError> {
    let scopes: Vec<String> = key.scopes.iter().map(Scope::to_string).collect();
    let inserted = sqlx::query(
        "INSERT INTO keys (id, tenant, hash, scopes, label, created_ms, expires_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&key.id)
    .bind(key.tenant.as_str())
    .bind(&key.hash[..])
    .bind(scopes.join(","))
    .bind(&key.label)
    .bind(key.created_ms)
    .bind(key.expires_ms)
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

fn key(row: &SqliteRow) -> Result<KeyInfo, CatalogError> {
    let scopes: &str = row.try_get("scopes")?;
    Ok(KeyInfo {
        id: row.try_get("id")?,
        tenant: row::parsed(row.try_get("tenant")?)?,
        scopes: scopes.split_terminator(',').map(row::parsed).collect::<Result<_, _>>()?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
        label: row.try_get("label")?,
        hash: row::hash(row.try_get("hash")?)?,
    })
}

/// A new id, and the whole secret with it.
fn new_secret() -> Result<(String, String), CatalogError> {
    let id = hex::encode(random::<{ ID_CHARS / 2 }>()?);
    let random = random::<RANDOM_CHARS>()?.map(|byte| char::from(ALPHABET[usize::from(byte) % 64]));
    let secret = format!("ink_{id}_{}", String::from_iter(random));
    Ok((id, secret))
}

fn hash(secret: &str) -> [u8; 32] {
    *Digest::of(secret.as_bytes()).as_bytes()
}

/// Bytes that nobody can foretell.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CatalogError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| std::io::Error::other(error.to_string()))
        .map_err(|error| CatalogError::io("drawing random bytes", error))?;
    Ok(bytes)
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
