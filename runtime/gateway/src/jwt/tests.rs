use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::json;

use super::*;

/// A key for these tests and nothing else.
const RSA: &[u8] = include_bytes!("test_rsa.der");

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with a key of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Issuer {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Issuer {
            rsa: RsaKeyPair::from_der(RSA).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    /// The set of public keys, named with this in front.
    fn set(&self, prefix: &str) -> Value {
        let rsa = self.rsa();
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        json!({ "keys": [
            { "kty": "RSA", "kid": format!("{prefix}RS256"), "use": "sig", "alg": "RS256",
              "n": base64(rsa.n), "e": base64(rsa.e) },
            { "kty": "EC", "crv": "P-256", "kid": format!("{prefix}ES256"), "x": base64(x), "y": base64(y) },
            { "kty": "OKP", "crv": "Ed25519", "kid": format!("{prefix}EdDSA"), "x": base64(self.ed.public_key()) },
            { "kty": "oct", "kid": "secret", "k": base64("secret") },
            { "kty": "new", "kid": "unheard of" },
        ] })
    }

    fn rsa(&self) -> RsaPublicKeyComponents<Vec<u8>> {
        self.rsa.public().into()
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signed = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signed).unwrap();
                signed
            }
            "ES256" => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            "HS256" => {
                // With the bytes of the public key as the secret, as an attacker would.
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.rsa().n);
                ring::hmac::sign(&key, message).as_ref().to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// A token with this header, signed by `algorithm`.
    fn token(&self, header: &Value, claims: &Value, algorithm: &str) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        format!("{message}.{}", base64(self.sign(algorithm, message.as_bytes())))
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({ "iss": "https://issuer", "aud": ["other", "innkeeper"], "exp": now_s() + 600,
            "tenant": "acme", "scope": "openid predict publish" })
}

/// Gives what it is told to, and counts how often.
#[derive(Debug)]
struct Source(Arc<ArcSwap<Vec<u8>>>, Arc<AtomicUsize>);

impl KeySource for Source {
    fn fetch(&self) -> Fetching<'_> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(self.0.load().to_vec()) })
    }
}

fn tokens(set: &Value) -> (Tokens, Arc<ArcSwap<Vec<u8>>>, Arc<AtomicUsize>) {
    let text = Arc::new(ArcSwap::from_pointee(set.to_string().into_bytes()));
    let fetched = Arc::new(AtomicUsize::new(0));
    let config = JwtConfig {
        issuer: "https://issuer".into(),
        audience: "innkeeper".into(),
        tenant_claim: "tenant".into(),
        scopes_claim: "scope".into(),
        leeway_s: 30,
    };
    let keys = Arc::new(Source(Arc::clone(&text), Arc::clone(&fetched)));
    (Tokens::new(TokenIssuer { config, keys }), text, fetched)
}

#[tokio::test]
async fn good_tokens_are_taken() {
    let issuer = Issuer::new();
    let (tokens, _, fetched) = tokens(&issuer.set(""));
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        for header in [json!({ "alg": algorithm, "kid": algorithm }), json!({ "alg": algorithm })] {
            let caller = tokens.caller(&issuer.token(&header, &claims(), algorithm)).await.unwrap();
            assert_eq!(caller.tenant.as_str(), "acme");
            assert_eq!(caller.scopes, [Scope::Predict, Scope::Publish]);
        }
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 1, "the keys are kept");
    let mut listed = claims();
    listed["scope"] = json!(["admin", "predict", "predict", 7]);
    let header = json!({ "alg": "EdDSA", "kid": "EdDSA" });
    let caller = tokens.caller(&issuer.token(&header, &listed, "EdDSA")).await.unwrap();
    assert_eq!(caller.scopes, [Scope::Predict, Scope::Admin]);
}

#[tokio::test]
async fn worthless_tokens_are_refused() {
    let (issuer, forger) = (Issuer::new(), Issuer::new());
    let (tokens, ..) = tokens(&issuer.set(""));
    let header = |algorithm: &str, kid: &str| json!({ "alg": algorithm, "kid": kid });
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let ed = header("EdDSA", "EdDSA");
    let good = issuer.token(&ed, &claims(), "EdDSA");
    tokens.caller(&good).await.unwrap();
    let cases = [
        ("forged", forger.token(&ed, &claims(), "EdDSA")),
        ("forged by P-256", forger.token(&header("ES256", "ES256"), &claims(), "ES256")),
        ("expired", issuer.token(&ed, &with("exp", json!(now_s() - 31)), "EdDSA")),
        ("without an end", issuer.token(&ed, &with("exp", Value::Null), "EdDSA")),
        ("not yet", issuer.token(&ed, &with("nbf", json!(now_s() + 300)), "EdDSA")),
        ("for another", issuer.token(&ed, &with("aud", json!("other")), "EdDSA")),
        ("for nobody", issuer.token(&ed, &with("aud", Value::Null), "EdDSA")),
        ("of another", issuer.token(&ed, &with("iss", json!("https://else")), "EdDSA")),
        ("without a tenant", issuer.token(&ed, &with("tenant", Value::Null), "EdDSA")),
        ("with no tenant's name", issuer.token(&ed, &with("tenant", json!("../etc")), "EdDSA")),
        ("unsigned", issuer.token(&header("none", "EdDSA"), &claims(), "none")),
        ("signed by nothing", issuer.token(&ed, &claims(), "none")),
        ("HS256 with the public key", issuer.token(&header("HS256", "RS256"), &claims(), "HS256")),
        ("HS256 with its own key", issuer.token(&header("HS256", "secret"), &claims(), "HS256")),
        (
            "another algorithm than the key's",
            issuer.token(&header("RS256", "EdDSA"), &claims(), "RS256"),
        ),
        (
            "an algorithm that is not taken",
            issuer.token(&header("RS512", "RS256"), &claims(), "RS256"),
        ),
        (
            "a key id with a path",
            issuer.token(&header("EdDSA", "../../dev/null"), &claims(), "EdDSA"),
        ),
        ("a key id with SQL", issuer.token(&header("EdDSA", "' OR 1=1 --"), &claims(), "EdDSA")),
        ("changed", good.replacen('.', ".e30", 1)),
        ("cut", good[..good.len() - 4].to_owned()),
        ("in two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("long", format!("{good}{}", "A".repeat(20_000))),
    ];
    for (what, token) in cases {
        assert!(tokens.caller(&token).await.is_err(), "{what}");
    }
    // The clocks may differ a little.
    let late = issuer.token(&ed, &with("exp", json!(now_s() - 20)), "EdDSA");
    assert!(tokens.caller(&late).await.is_ok());
}

#[tokio::test]
async fn a_header_that_brings_its_own_key_is_not_listened_to() {
    let (issuer, forger) = (Issuer::new(), Issuer::new());
    let (tokens, ..) = tokens(&issuer.set(""));
    let key = forger.set("")["keys"][2].clone();
    let header = json!({ "alg": "EdDSA", "kid": "EdDSA", "jwk": key, "jku": "http://127.0.0.1/" });
    assert!(tokens.caller(&forger.token(&header, &claims(), "EdDSA")).await.is_err());
}

#[tokio::test]
async fn new_keys_are_looked_up_now_and_then() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let (tokens, text, fetched) = tokens(&old.set("old-"));
    let token = |issuer: &Issuer, kid: &str| {
        issuer.token(&json!({ "alg": "EdDSA", "kid": kid }), &claims(), "EdDSA")
    };
    tokens.caller(&token(&old, "old-EdDSA")).await.unwrap();
    text.store(Arc::new(new.set("new-").to_string().into_bytes()));
    // Not so soon after the last look, however many tokens name keys that are not there.
    for i in 0..20 {
        assert!(tokens.caller(&token(&new, &format!("{i}"))).await.is_err());
    }
    assert!(tokens.caller(&token(&new, "new-EdDSA")).await.is_err());
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
    *tokens.looked.lock().await = Instant::now().checked_sub(LOOK_AGAIN);
    tokens.caller(&token(&new, "new-EdDSA")).await.unwrap();
    assert_eq!(fetched.load(Ordering::Relaxed), 2);
    assert!(tokens.caller(&token(&old, "old-EdDSA")).await.is_err(), "the old key is gone");
    // What cannot be read leaves the keys as they are.
    text.store(Arc::new(b"<html>".to_vec()));
    *tokens.looked.lock().await = Instant::now().checked_sub(LOOK_AGAIN);
    assert!(tokens.caller(&token(&new, "x")).await.is_err());
    tokens.caller(&token(&new, "new-EdDSA")).await.unwrap();
}
