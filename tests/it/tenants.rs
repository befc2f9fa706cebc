//! Who may come in, what a key allows, and that tenants see nothing of each other that they were not given.

use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::harness::{Answer, Client, Server, eventually, guest};

/// Every route: its method, its path for model `m` and version `1` of tenant `acme`, and the scope it wants.
///
/// `t/acme` in front of a path stands for the same under the owner's base path.
const ROUTES: [(&str, &str, Option<&str>); 44] = [
    ("GET", "/v2", None),
    ("GET", "/v2/models", None),
    ("GET", "/v2/models/m", None),
    ("GET", "/v2/models/m/ready", None),
    ("POST", "/v2/models/m/infer", Some("predict")),
    ("GET", "/v2/models/m/versions/1", None),
    ("GET", "/v2/models/m/versions/1/ready", None),
    ("POST", "/v2/models/m/versions/1/infer", Some("predict")),
    ("GET", "/t/acme/v2", None),
    ("GET", "/t/acme/v2/health/live", None),
    ("GET", "/t/acme/v2/health/ready", None),
    ("GET", "/t/acme/v2/models", None),
    ("GET", "/t/acme/v2/models/m", None),
    ("GET", "/t/acme/v2/models/m/ready", None),
    ("POST", "/t/acme/v2/models/m/infer", Some("predict")),
    ("GET", "/t/acme/v2/models/m/versions/1", None),
    ("GET", "/t/acme/v2/models/m/versions/1/ready", None),
    ("POST", "/t/acme/v2/models/m/versions/1/infer", Some("predict")),
    ("GET", "/t/acme/api/v1/models/m/versions/1/interface", None),
    ("GET", "/api/v1/models", None),
    ("GET", "/api/v1/models/m", None),
    ("DELETE", "/api/v1/models/m", Some("publish")),
    ("POST", "/api/v1/models/m/versions/1", Some("publish")),
    ("GET", "/api/v1/models/m/versions/1", None),
    ("DELETE", "/api/v1/models/m/versions/1", Some("publish")),
    ("GET", "/api/v1/models/m/versions/1/interface", None),
    ("GET", "/api/v1/models/m/aliases/stable", None),
    ("PUT", "/api/v1/models/m/aliases/stable", Some("publish")),
    ("DELETE", "/api/v1/models/m/aliases/stable", Some("publish")),
    ("GET", "/api/v1/models/m/sharing", None),
    ("PUT", "/api/v1/models/m/sharing", Some("publish")),
    ("GET", "/api/v1/models/m/logs", Some("publish")),
    ("POST", "/api/v1/uploads", Some("publish")),
    ("GET", UPLOAD, Some("publish")),
    ("PATCH", UPLOAD, Some("publish")),
    ("PUT", UPLOAD, Some("publish")),
    ("DELETE", UPLOAD, Some("publish")),
    ("GET", BLOB, Some("publish")),
    ("GET", "/api/v1/tenants/acme/usage", None),
    ("GET", "/api/v1/tenants/acme/limits", None),
    ("PUT", "/api/v1/tenants/acme/limits", Some("admin")),
    ("GET", "/api/v1/tenants", Some("admin")),
    ("POST", "/api/v1/tenants/acme/keys", Some("admin")),
    ("DELETE", "/api/v1/keys/00000000", Some("admin")),
];
/// The routes that have no place in the table above because their row would be too wide.
const MORE: [(&str, &str, Option<&str>); 3] = [
    ("POST", "/api/v1/tenants", Some("admin")),
    ("GET", "/api/v1/tenants/acme/keys", Some("admin")),
    ("GET", "/api/v1/whoami", None),
];
const UPLOAD: &str = "/api/v1/uploads/0123456789abcdef0123456789abcdef";
const BLOB: &str =
    "/api/v1/blobs/sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOWHERE: [&str; 7] = [
    "/",
    "/v1",
    "/api/v1/secrets",
    "/v2/health",
    "/metrics/all",
    "/t/acme",
    "/v2/models/m/explode",
];

fn routes() -> impl Iterator<Item = (&'static str, &'static str, Option<&'static str>)> {
    ROUTES.into_iter().chain(MORE)
}

fn row() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }])
}

/// A key with its id, which only its maker ever sees whole.
fn make_key(server: &Server, tenant: &str, wish: &Value) -> (Client, Value) {
    let path = format!("/api/v1/tenants/{tenant}/keys");
    let made = server.admin().post(&path, wish).expect_status(201).json();
    (server.client(made["key"].as_str().unwrap()), made)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn one_gate_stands_before_every_route() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let nobody = server.client("");
    let open = ["/v2/health/live", "/v2/health/ready"];
    for path in open {
        nobody.get(path).expect_status(200);
        nobody.send("HEAD", path, &[], b"").expect_status(200);
    }

    let cut = &tenant.key[..tenant.key.len() - 1];
    let strangers = [
        nobody.clone(),
        server.client("ink_00000000_nobody"),
        server.client(cut),
        server.client(&format!("{}x", tenant.key)),
        server.client(&tenant.key.to_uppercase()),
        server.client("x"),
    ];
    let unknown = NOWHERE.into_iter().map(|path| ("GET", path, None));
    let wrong_method = [("DELETE", "/v2", None), ("BREW", "/api/v1/whoami", None)];
    for (method, path, _) in routes().chain(unknown).chain(wrong_method) {
        for stranger in &strangers {
            let refused = stranger.send(method, path, &[], b"");
            let who = format!("{method} {path} with {:?}", stranger.key);
            assert_eq!(refused.status, 401, "{who}: {}", refused.text());
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{who}");
            // Nothing tells why a key is refused.
            let says = if stranger.key.is_empty() { "send a key" } else { "not valid" };
            assert!(refused.error().contains(says), "{who}: {}", refused.error());
        }
    }
    for scheme in ["Basic eDp5", "Bearer", "Bearer ", "", "bearer\tx"] {
        let refused = nobody.send("GET", "/v2", &[("authorization", scheme)], b"");
        assert_eq!(refused.status, 401, "{scheme:?}");
    }
    // A key in the query is no key.
    nobody.get(&format!("/v2?key={}", tenant.key)).expect_status(401);
    tenant.get("/v2").expect_status(200);
    for path in NOWHERE {
        tenant.get(path).expect_status(404);
    }
}

#[test]
fn a_key_does_what_its_scopes_say() {
    let server = Server::start();
    let owner = server.tenant("acme");
    let bundle = &guest("plugins/add-one").bundle;
    for scope in ["predict", "publish", "admin"] {
        let (key, _) = make_key(&server, "acme", &json!({ "scopes": [scope] }));
        owner.publish("m", "1", bundle);
        let _ = owner.put("/api/v1/models/m/aliases/stable", &json!({ "version": "1" }));
        for (method, path, needs) in routes() {
            let answer = key.send(method, path, &[("content-type", "application/json")], b"{}");
            let what = format!("{method} {path} with {scope}: {} {}", answer.status, answer.text());
            let refused = needs.is_some_and(|needs| needs != scope);
            assert_eq!(answer.status == 403, refused, "{what}");
            if refused {
                let says = format!("does not have the scope {}", needs.unwrap());
                assert!(answer.error().contains(&says), "{what}");
            } else {
                assert_ne!(answer.status, 401, "{what}");
            }
        }
        let who = key.get("/api/v1/whoami").json();
        assert_eq!((&who["tenant"], &who["scopes"]), (&json!("acme"), &json!([scope])));
    }
    for (scopes, text) in [(json!([]), "at least one scope"), (json!(["root"]), "root")] {
        let wish = json!({ "scopes": scopes });
        let refused = server.admin().post("/api/v1/tenants/acme/keys", &wish).expect_status(400);
        assert!(refused.error().contains(text), "{}", refused.error());
    }
}

#[test]
fn a_key_ends() {
    let mut server = Server::start();
    server.tenant("acme");
    let scopes = json!(["predict"]);
    let (revoked, info) = make_key(&server, "acme", &json!({ "scopes": scopes }));
    revoked.get("/v2").expect_status(200);
    let path = format!("/api/v1/keys/{}", info["id"].as_str().unwrap());
    server.admin().delete(&path).expect_status(204);
    revoked.get("/v2").expect_status(401);
    server.admin().delete("/api/v1/keys/ffffffff").expect_status(404);

    let wish = json!({ "scopes": scopes, "expires_ms": now_ms() + 60_000 });
    let (lasting, _) = make_key(&server, "acme", &wish);
    let wish = json!({ "scopes": scopes, "expires_ms": now_ms() + 700 });
    let (expiring, _) = make_key(&server, "acme", &wish);
    expiring.get("/v2").expect_status(200);
    eventually("the key expires", || expiring.get("/v2").status == 401);
    lasting.get("/v2").expect_status(200);

    // A restart brings none of them back.
    let data = server.data.clone();
    let folder = server.kill();
    server = Server::on(&data, &[]);
    for (key, status) in [(&revoked, 401), (&expiring, 401), (&lasting, 200)] {
        server.client(&key.key).get("/v2").expect_status(status);
    }
    drop((server, folder));
}

/// A secret is shown once, and what the server keeps cannot be turned into it.
#[test]
fn a_secret_is_nowhere_in_the_clear() {
    let server = Server::start();
    let owner = server.tenant("acme");
    let (key, made) = make_key(
        &server,
        "acme",
        &json!({ "scopes": ["publish", "predict"], "label": "findable label" }),
    );
    key.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    key.infer("m", row()).expect_status(200);
    key.infer("absent", row()).expect_status(404);

    let listed = server.admin().get("/api/v1/tenants/acme/keys").expect_status(200);
    let id = made["id"].as_str().unwrap();
    let random = key.key.splitn(3, '_').nth(2).unwrap();
    assert!(random.len() >= 32 && key.key.contains(id), "{}", key.key);
    assert!(listed.text().contains(id) && !listed.text().contains(random), "{}", listed.text());
    assert!(listed.json()["keys"].as_array().unwrap().iter().all(|key| key["key"].is_null()));

    let mut files = Vec::new();
    collect(&server.data, &mut files);
    let holds = |bytes: &[u8], text: &str| {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let mut labelled = 0;
    for path in &files {
        let bytes = std::fs::read(path).unwrap();
        for secret in [&key.key, &owner.key].map(|key| key.splitn(3, '_').nth(2).unwrap()) {
            assert!(!holds(&bytes, secret), "{}", path.display());
        }
        labelled += usize::from(holds(&bytes, "findable label"));
    }
    assert!(labelled > 0, "the search finds what is there");
    assert!(!server.log().contains(random), "the log does not have it");
    assert!(server.log().contains("acme"), "the log tells of the tenant");
}

fn collect(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// An answer without what differs between any two requests.
fn essence(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    (answer.status, headers, answer.body.clone())
}

/// In every route, another tenant's private model is as if it were not there.
#[test]
fn anothers_private_model_does_not_exist() {
    let server = Server::start();
    let (owner, other) = (server.tenant("acme"), server.tenant("other"));
    let bundle = &guest("plugins/add-one").bundle;
    owner.publish("secret", "1", bundle).expect_status(201);
    owner.put("/api/v1/models/secret/aliases/stable", &json!({ "version": "1" }));

    let good = json!({ "inputs": row() }).to_string();
    let bodies = [b"".as_slice(), b"{}", b"{\"version\":\"1\"}", b"{\"with\":\"all\"}"];
    let bodies = bodies.into_iter().chain([good.as_bytes(), b"no JSON at all"]);
    let bodies: Vec<&[u8]> = bodies.collect();
    let mut compared = 0;
    for (method, path, _) in routes() {
        let publishes =
            method == "POST" && path.contains("/versions/1") && path.starts_with("/api");
        if !path.contains("/m") || !path.contains("/models/m") || publishes {
            continue;
        }
        for body in &bodies {
            let ask = |name: &str| {
                let path = path.replace("/models/m", &format!("/models/{name}"));
                other.send(method, &path, &[("content-type", "application/json")], body)
            };
            let (there, absent) = (ask("secret"), ask("absent"));
            let what = format!("{method} {path} {}", String::from_utf8_lossy(body));
            let expected = absent.text().replace("absent", "secret");
            assert_eq!(there.text(), expected, "{what}");
            let (there, absent) = (essence(&there), essence(&absent));
            assert_eq!((there.0, there.1), (absent.0, absent.1), "{what}");
            // A body that is not even read may be refused first, for both alike.
            let fits = match path.rsplit('/').nth(1) {
                Some("aliases") => body.starts_with(b"{\"version"),
                _ => body.starts_with(b"{\"with"),
            };
            let unread = method == "PUT" && !fits && there.0 == 400;
            assert!(there.0 == 404 || unread, "{what}: {}", there.0);
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");

    // A namespace with nothing for this caller in it is as one that is not there, and so is a tenant.
    let same = [
        ("GET", "/t/acme/v2/models", "/t/nobody/v2/models"),
        ("GET", "/t/acme/v2", "/t/nobody/v2"),
        ("GET", "/api/v1/tenants/acme/usage", "/api/v1/tenants/nobody/usage"),
        ("GET", "/api/v1/tenants/acme/limits", "/api/v1/tenants/nobody/limits"),
        ("PUT", "/api/v1/tenants/acme/limits", "/api/v1/tenants/nobody/limits"),
        ("GET", "/api/v1/tenants/acme/keys", "/api/v1/tenants/nobody/keys"),
        ("POST", "/api/v1/tenants/acme/keys", "/api/v1/tenants/nobody/keys"),
    ];
    for (method, there, absent) in same {
        let [there, absent] = [there, absent].map(|path| other.send(method, path, &[], b"{}"));
        assert_eq!(essence(&there), essence(&absent), "{method}");
        assert!(!there.text().contains("secret"), "{}", there.text());
    }
    // Its owner has it all the same.
    owner.infer("secret", row()).expect_status(200);
}

/// The time that an answer takes does not tell either. Requests for both come in turns, so that what else the machine
/// does meets both alike.
#[test]
fn the_time_of_an_answer_does_not_tell() {
    let server = Server::start();
    let (owner, other) = (server.tenant("acme"), server.tenant("other"));
    owner.publish("secret", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let body = json!({ "inputs": row() }).to_string();
    let mut times = [Vec::new(), Vec::new()];
    for i in 0..1_000 {
        let name = ["secret", "absent"][i % 2];
        let path = format!("/t/acme/v2/models/{name}/infer");
        let began = Instant::now();
        other.send("POST", &path, &[], body.as_bytes()).expect_status(404);
        times[i % 2].push(began.elapsed());
    }
    let [there, absent] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_nanos() as f64
    });
    let ratio = there / absent;
    assert!((0.7..1.43).contains(&ratio), "{there} ns where it is, {absent} ns where it is not");
}

#[test]
fn a_model_is_shared_and_no_longer() {
    let mut server = Server::start();
    let (owner, friend, other) =
        (server.tenant("acme"), server.tenant("friend"), server.tenant("other"));
    let bundle = &guest("plugins/add-one").bundle;
    owner.publish("m", "1", bundle).expect_status(201);
    owner.publish("private", "1", bundle).expect_status(201);
    let share = |with: Value| owner.put("/api/v1/models/m/sharing", &json!({ "with": with }));
    let call = |who: &Client| {
        let answer = who.post("/t/acme/v2/models/m/infer", &json!({ "inputs": row() }));
        let listed = who.send("GET", "/t/acme/v2/models", &[], b"").expect_status(200);
        let seen = listed.text().contains("\"m\"");
        assert_eq!(seen, answer.status == 200, "{}", listed.text());
        assert!(who.key == owner.key || !listed.text().contains("private"), "{}", listed.text());
        answer.status
    };

    let steps = [
        (json!("nobody"), [200, 404, 404]),
        (json!(["friend"]), [200, 200, 404]),
        (json!(["other", "friend"]), [200, 200, 200]),
        (json!(["other"]), [200, 404, 200]),
        (json!([]), [200, 404, 404]),
        (json!("all"), [200, 200, 200]),
    ];
    for (with, wanted) in steps {
        share(with.clone()).expect_status(200);
        assert_eq!([&owner, &friend, &other].map(call), wanted, "shared with {with}");
    }

    // To call is all that is shared.
    let before = owner.get("/api/v1/models/m").json();
    for (method, path, _) in routes().filter(|(_, path, _)| path.starts_with("/api/v1/models/m")) {
        if method == "POST" {
            continue;
        }
        let body = json!({ "version": "1" }).to_string();
        let body = if path.ends_with("sharing") { "{\"with\":\"all\"}" } else { &body };
        let answer = friend.send(method, path, &[], body.as_bytes());
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
    assert_eq!(owner.get("/api/v1/models/m").json(), before);
    friend.get("/t/acme/api/v1/models/m/versions/1/interface").expect_status(200);

    // What cannot be shared with, and what is no way to say it.
    share(json!(["friend", "ghost"])).expect_status(404);
    for bad in [json!("some"), json!(["NOT A NAME"]), json!(7), Value::Null] {
        share(bad.clone()).expect_status(400);
    }
    assert_eq!(owner.get("/api/v1/models/m/sharing").json(), json!({ "with": "all" }));

    // Without a base path a name is the caller's own.
    let digits = &guest("plugins/digits").bundle;
    friend.publish("m", "1", digits).expect_status(201);
    assert_eq!(friend.get("/v2/models/m").json()["inputs"][0]["shape"], json!([-1, 64]));
    assert_eq!(friend.get("/t/acme/v2/models/m").json()["inputs"][0]["shape"], json!([-1, 16]));
    other.infer("m", row()).expect_status(404);

    // It outlives the process, and so does its end.
    share(json!(["friend"])).expect_status(200);
    let data = server.data.clone();
    let folder = server.kill();
    server = Server::on(&data, &[]);
    let [owner, friend, other] = [&owner, &friend, &other].map(|who| server.client(&who.key));
    let status = |who: &Client| who.get("/t/acme/v2/models/m").status;
    assert_eq!([&owner, &friend, &other].map(status), [200, 200, 404]);
    owner.put("/api/v1/models/m/sharing", &json!({ "with": "nobody" })).expect_status(200);
    assert_eq!([&owner, &friend, &other].map(status), [200, 404, 404]);
    drop((server, folder));
}

#[test]
fn development_is_for_this_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_innkeeper"))
            .arg("serve")
            .args(["--data", folder.path().join("refused").to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let file = folder.path().join("dev.toml");
    std::fs::write(&file, "[server]\ndev = true\nhttp = \"0.0.0.0:0\"\n").unwrap();
    let refused: [&[&str]; 5] = [
        &["--dev", "--http", "0.0.0.0:0"],
        &["--dev", "--http", "[::]:0"],
        &["--dev", "--http", "192.0.2.1:8000"],
        &["--dev", "--http", "[::ffff:127.0.0.1]:0"],
        &["--config", file.to_str().unwrap()],
    ];
    for arguments in refused {
        let (code, text) = serve(arguments);
        assert!(code.is_some_and(|code| code != 0), "{arguments:?}: {code:?}");
        assert!(text.contains("loopback addresses only"), "{arguments:?}: {text}");
    }
    assert!(!folder.path().join("refused").exists(), "it is refused before anything is made");

    let server = Server::on(&folder.path().join("data"), &["--dev"]);
    let anybody = server.client("");
    assert!(server.admin_key.is_empty() && anybody.key.is_empty());
    anybody.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    anybody.infer("m", row()).expect_status(200);
    assert_eq!(anybody.get("/api/v1/whoami").json()["tenant"], "dev");
    // A page of another site must not reach it through its visitor's browser.
    for header in [("origin", "https://evil.example"), ("host", "evil.example")] {
        anybody.send("GET", "/v2", &[header], b"").expect_status(403);
    }
}
