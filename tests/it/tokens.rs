//! Tokens beside keys, and pages of other sites.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::harness::{Server, guest};

fn pair() -> Ed25519KeyPair {
    let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set(pair: &Ed25519KeyPair) -> String {
    let x = base64(pair.public_key());
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x }] }).to_string()
}

fn token(pair: &Ed25519KeyPair, tenant: &str, scope: &str, audience: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = json!({ "alg": "EdDSA", "kid": "a", "typ": "JWT" });
    let claims = json!({ "iss": "https://issuer", "aud": audience, "exp": now + 600,
                         "org": tenant, "scope": scope });
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    format!("{message}.{}", base64(pair.sign(message.as_bytes())))
}

fn config(keys: &str) -> String {
    format!(
        "[jwt]\nissuer = \"https://issuer\"\naudience = \"innkeeper\"\ntenant_claim = \"org\"\nkeys = {keys:?}\n"
    )
}

#[test]
fn a_token_is_as_good_as_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, pair) = (folder.path().join("keys.json"), pair());
    std::fs::write(&keys, set(&pair)).unwrap();
    let server = Server::with_config(&config(keys.to_str().unwrap()));
    // A key is as good as before.
    server.tenant("acme").get("/v2").expect_status(200);

    let client =
        |tenant: &str, scope: &str| server.client(&token(&pair, tenant, scope, "innkeeper"));
    let acme = client("acme", "openid predict publish");
    let said = acme.get("/api/v1/whoami").expect_status(200).json();
    assert_eq!(
        (&said["tenant"], &said["scopes"]),
        (&json!("acme"), &json!(["predict", "publish"]))
    );
    assert_eq!(said["key"], Value::Null);
    acme.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let row =
        json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }]);
    acme.infer("m", row.clone()).expect_status(200);
    client("acme", "predict").infer("m", row.clone()).expect_status(200);
    client("acme", "predict").delete("/api/v1/models/m").expect_status(403);
    client("acme", "").infer("m", row).expect_status(403);
    client("acme", "predict").get("/api/v1/tenants").expect_status(403);

    let forged = crate::tokens::pair();
    for (what, worthless) in [
        ("for another", token(&pair, "acme", "predict", "other")),
        ("of nobody here", token(&pair, "nobody", "predict", "innkeeper")),
        ("forged", token(&forged, "acme", "admin", "innkeeper")),
        ("nonsense", "eyJhbGciOiJub25lIn0.e30.".to_owned()),
        ("no token", "x".to_owned()),
    ] {
        let refused = server.client(&worthless).get("/v2/models").expect_status(401);
        assert!(refused.error().contains("this token is not valid"), "{what}: {}", refused.error());
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{what}");
    }
    // A tenant that is made later is known at once.
    server.tenant("nobody");
    client("nobody", "predict").get("/v2/models").expect_status(200);
}

#[test]
fn keys_are_fetched_from_the_issuer_and_kept() {
    let (listener, pair) = (TcpListener::bind("127.0.0.1:0").unwrap(), pair());
    let address = format!("http://{}/keys", listener.local_addr().unwrap());
    let (text, asked) = (set(&pair), &AtomicUsize::new(0));
    let server = Server::with_config(&config(&address));
    let tenant = server.tenant("acme");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 4096];
            let len = stream.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /keys "));
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            stream.write_all(head.as_bytes()).unwrap();
        });
        for _ in 0..3 {
            server
                .client(&token(&pair, "acme", "predict", "innkeeper"))
                .get("/v2")
                .expect_status(200);
        }
        // For an unknown key the issuer would be asked again, but not so soon: nobody answers there now.
        let forged = token(&crate::tokens::pair(), "acme", "predict", "innkeeper");
        server.client(&forged).get("/v2").expect_status(401);
    });
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    tenant.get("/v2").expect_status(200);
}

#[test]
fn pages_of_sites_that_may_are_let_in() {
    let server = Server::with_config("[cors]\norigins = [\"https://app.example\"]\n");
    let nobody = server.client("");
    let preflight = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        nobody.send("OPTIONS", "/v2/models/m/infer", &headers, b"")
    };
    let may = preflight("https://app.example").expect_status(204);
    assert_eq!(may.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(may.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(may.header("access-control-allow-credentials"), None);
    let may_not = preflight("https://evil.example").expect_status(401);
    assert_eq!(may_not.header("access-control-allow-origin"), None);
    // Failures can be read too, and say nothing to other sites.
    let read =
        nobody.send("GET", "/v2", &[("origin", "https://app.example")], b"").expect_status(401);
    assert_eq!(read.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(read.header("vary"), Some("origin"));
    let plain = Server::start();
    let silent = plain.client("").send("GET", "/v2", &[("origin", "https://app.example")], b"");
    assert_eq!(silent.expect_status(401).header("access-control-allow-origin"), None);
}
