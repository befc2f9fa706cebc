//! An issuer's keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// More keys than any issuer has in force.
const KEYS_MAX: usize = 100;
/// For how long a key is taken to be in force without asking.
const AGE_MAX: Duration = Duration::from_secs(600);

/// Keys, each for the one algorithm that its kind is for.
#[derive(Default)]
pub(crate) struct Keys {
    keys: Vec<(Option<String>, Algorithm, Arc<DecodingKey>)>,
    read: Option<Instant>,
}

impl Keys {
    /// Reads a JSON Web Key Set. Keys that cannot check a token here are left out.
    ///
    /// # Errors
    /// Something else than such a set, and one without a key that is of use.
    pub(crate) fn read(text: &[u8]) -> Result<Keys, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("wanted a JSON Web Key Set: an object with \"keys\", a list")?;
        let keys = keys.iter().take(KEYS_MAX).filter_map(|key| usable(key.clone()));
        let keys = Keys { keys: keys.collect(), read: Some(Instant::now()) };
        if keys.keys.is_empty() {
            Err("there is no RSA, P-256 or Ed25519 key in it".into())
        } else {
            Ok(keys)
        }
    }

    /// Whether the issuer may have withdrawn some of them since.
    pub(crate) fn is_old(&self) -> bool {
        self.read.is_none_or(|at| at.elapsed() > AGE_MAX)
    }

    /// The key of this name, if it is for this algorithm; without a name, the only one for it.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let mut fitting = self.keys.iter().filter(|(name, for_algorithm, _)| {
            *for_algorithm == algorithm && (id.is_none() || name.as_deref() == id)
        });
        let (_, _, key) = fitting.next()?;
        fitting.next().is_none().then(|| Arc::clone(key))
    }
}

fn usable(key: Value) -> Option<(Option<String>, Algorithm, Arc<DecodingKey>)> {
    let key: Jwk = serde_json::from_value(key).ok()?;
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let signs = key.common.public_key_use.as_ref().is_none_or(|to| *to == PublicKeyUse::Signature);
    let named = key.common.key_algorithm.map(|named| named.to_string());
    let as_named = named.is_none_or(|named| named.parse() == Ok(algorithm));
    let decoding = DecodingKey::from_jwk(&key).ok().filter(|_| signs && as_named)?;
    Some((key.common.key_id, algorithm, Arc::new(decoding)))
}
