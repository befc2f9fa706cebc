//! Tokens of an issuer (OpenID Connect, or any that signs JWTs), beside keys.
//!
//! A token is worth what the issuer's keys say: which of them signed it, and with the one algorithm that this key is for.
//! Nothing in a token chooses how it is checked.

mod keys;
mod verify;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use innkeeper_catalog::{Scope, TenantName};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard};

pub(crate) use keys::Keys;

use crate::gate::Caller;

/// The algorithms that tokens may be signed with. None of them has a secret that both sides know.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// A longer token is not looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How often the issuer's keys are looked up for a key that is not among them.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How tokens are checked, and what is read from them.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// Whose tokens are taken: the claim `iss`.
    pub issuer: String,
    /// For whom they must be: the claim `aud`, or one of it.
    pub audience: String,
    /// The claim with the tenant's name.
    pub tenant_claim: String,
    /// The claim with the scopes: words in one text, or a list of them. Words that are no scope here mean nothing.
    pub scopes_claim: String,
    /// By how many seconds the issuer's clock may differ.
    pub leeway_s: u64,
}

/// An issuer whose tokens are taken beside keys.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    /// How they are checked.
    pub config: JwtConfig,
    /// Where its keys are.
    pub keys: Arc<dyn KeySource>,
}

/// What comes of fetching.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Where an issuer's keys are to be had, as a JSON Web Key Set.
pub trait KeySource: std::fmt::Debug + Send + Sync {
    /// Fetches the set.
    ///
    /// # Errors
    /// A text that says what went wrong.
    fn fetch(&self) -> Fetching<'_>;
}

/// Checks tokens.
pub(crate) struct Tokens {
    issuer: TokenIssuer,
    keys: ArcSwap<Keys>,
    looked: Mutex<Option<Instant>>,
}

/// Why a token is worth nothing. Only the log is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Worthless {
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    Long,
    #[error("{0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("it is signed by {0:?}, and only RS256, ES256 and EdDSA are taken")]
    Algorithm(Algorithm),
    #[error("the issuer has no key {0:?} for it")]
    Key(Option<String>),
    #[error("its claim {0:?} is not what is wanted")]
    Claim(String),
}

impl Tokens {
    pub(crate) fn new(issuer: TokenIssuer) -> Tokens {
        verify::install();
        Tokens { issuer, keys: ArcSwap::default(), looked: Mutex::default() }
    }

    /// Whose token this is.
    pub(crate) async fn caller(&self, token: &str) -> Result<Caller, Worthless> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Worthless::Long);
        }
        let header = decode_header(token)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Worthless::Algorithm(header.alg));
        }
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        self.check(token, header.alg, &key)
    }

    /// The key of this name, looked up at the issuer when it is not known; of no name, the only one that fits.
    async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<DecodingKey>, Worthless> {
        let known = self.keys.load().find(id, algorithm);
        match known {
            Some(key) if !self.keys.load().is_old() => return Ok(key),
            // One who looks is enough where the others have a key.
            Some(_) => {
                if let Ok(looked) = self.looked.try_lock() {
                    self.look_again(looked).await;
                }
            }
            None => self.look_again(self.looked.lock().await).await,
        }
        let key = self.keys.load().find(id, algorithm);
        key.ok_or_else(|| Worthless::Key(id.map(|id| id.chars().take(64).collect())))
    }

    /// Fetches the issuer's keys, unless that was tried a moment ago.
    async fn look_again(&self, mut looked: MutexGuard<'_, Option<Instant>>) {
        if looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        *looked = Some(Instant::now());
        match self.issuer.keys.fetch().await.and_then(|text| Keys::read(&text)) {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(error) => tracing::warn!(%error, "the token issuer's keys cannot be had"),
        }
    }

    fn check(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<Caller, Worthless> {
        let config = &self.issuer.config;
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = config.leeway_s;
        let claims: Map<String, Value> = decode(token, key, &validation)?.claims;
        let wrong = |claim: &str| Worthless::Claim(claim.to_owned());
        let tenant = claims.get(&config.tenant_claim).and_then(Value::as_str);
        let tenant: Option<TenantName> = tenant.and_then(|name| name.parse().ok());
        Ok(Caller {
            tenant: tenant.ok_or_else(|| wrong(&config.tenant_claim))?,
            scopes: scopes(claims.get(&config.scopes_claim)),
            key_id: None,
        })
    }
}

/// The scopes among the words, in their order, each once.
fn scopes(claim: Option<&Value>) -> Vec<Scope> {
    let words: Vec<&str> = match claim {
        Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut scopes: Vec<Scope> = words.into_iter().filter_map(|word| word.parse().ok()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests;
