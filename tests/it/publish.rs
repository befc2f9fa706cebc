//! The way of a version, seen from outside: published, shown, moved to, deleted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use innkeeper_catalog::Digest;
use serde_json::{Value, json};

use super::harness::{Answer, Client, Server, guest};
use super::parts;
use super::wire::{Wire, request};

const TAR: (&str, &str) = ("content-type", "application/x-tar");

/// A picture of nothing, to a model that reads digits.
fn picture() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": vec![0.0; 64] }])
}

fn label(answer: &Answer) -> i64 {
    let outputs = answer.json()["outputs"].clone();
    let label = outputs.as_array().unwrap().iter().find(|output| output["name"] == "LABEL");
    label.unwrap()["data"][0].as_i64().unwrap()
}

fn row() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }])
}

#[track_caller]
fn expect_two(answer: Answer) {
    let answer = answer.expect_status(200).json();
    assert_eq!(answer["outputs"][0]["data"], json!(vec![2.0; 16]), "{answer}");
}

#[test]
fn a_bundle_and_a_bare_component_are_served() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let add_one = guest("plugins/add-one");

    let manifest = parts::read(&add_one.bundle).manifest_bytes;
    let published = tenant.publish("bundled", "1", &add_one.bundle).expect_status(201).json();
    assert_eq!(published["outcome"], "published");
    assert_eq!(published["digest"], Digest::of(&manifest).to_string());
    tenant.publish_component("bare", "1.0.0-rc.1", &add_one.component).expect_status(201);

    // A body without a type is taken for a bundle, as octets are.
    let path = "/api/v1/models/octets/versions/1";
    let octets = [("content-type", "application/octet-stream")];
    tenant.send("POST", path, &octets, &add_one.bundle).expect_status(201);

    for model in ["bundled", "bare", "octets"] {
        expect_two(tenant.infer(model, row()));
    }
    let infer = published["infer"].as_str().unwrap();
    expect_two(tenant.post(infer, &json!({ "inputs": row() })));
}

#[test]
fn a_version_never_changes() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let add_one = guest("plugins/add-one");
    let first = tenant.publish("m", "1", &add_one.bundle).expect_status(201).json();

    let again = tenant.publish("m", "1", &add_one.bundle).expect_status(200).json();
    assert_eq!(again["outcome"], "unchanged");
    assert_eq!(again["created_ms"], first["created_ms"]);

    // The same bytes may still set an alias.
    let aliased = "/api/v1/models/m/versions/1?alias=canary&alias=stable";
    tenant.send("POST", aliased, &[TAR], &add_one.bundle).expect_status(200);
    let shown = tenant.get("/api/v1/models/m").json();
    assert_eq!(shown["aliases"], json!({ "canary": "1", "stable": "1" }));
    assert_eq!(shown["versions"].as_array().unwrap().len(), 1);

    let other = parts::described(&add_one.bundle, "another");
    let digest = Digest::of(&parts::read(&other).manifest_bytes).to_string();
    for refused in
        [tenant.publish("m", "1", &other), tenant.publish_component("m", "1", &add_one.component)]
    {
        let refused = refused.expect_status(409);
        assert_eq!(refused.json()["code"], "conflict");
        assert!(refused.error().contains(first["digest"].as_str().unwrap()), "{}", refused.error());
    }
    assert!(tenant.publish("m", "1", &other).error().contains(&digest));
    assert_eq!(tenant.get("/api/v1/models/m/versions/1").json()["digest"], first["digest"]);
    tenant.publish("m", "2", &other).expect_status(201);
}

#[test]
fn what_is_published_is_listed_shown_and_deleted() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let add_one = guest("plugins/add-one");
    assert_eq!(tenant.get("/api/v1/models").json(), json!({ "models": [] }));
    for (model, version) in [("b", "1"), ("a", "2"), ("a", "1")] {
        tenant.publish(model, version, &add_one.bundle).expect_status(201);
    }
    tenant.put("/api/v1/models/a/aliases/stable", &json!({ "version": "2" })).expect_status(200);

    let listed = tenant.get("/api/v1/models").json();
    let names: Vec<&Value> =
        listed["models"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let shown = tenant.get("/api/v1/models/a").expect_status(200).json();
    assert_eq!(shown["versions"][0]["version"], "2", "in the order they were published: {shown}");
    assert_eq!(shown["versions"][1]["version"], "1");
    assert_eq!(listed["models"][0]["versions"], shown["versions"]);
    let whole = tenant.get("/api/v1/models/a/versions/2").expect_status(200).json();
    assert_eq!(whole["aliases"], json!(["stable"]));
    let input = json!({ "name": "INPUT0", "datatype": "FP32", "shape": [-1, 16] });
    assert_eq!(whole["facts"]["inputs"], json!([input]));
    assert_eq!(whole["manifest"]["name"], "add-one");

    // What an alias stands for stays, until the alias is gone.
    let refused = tenant.delete("/api/v1/models/a/versions/2").expect_status(409);
    assert!(refused.error().contains("stable"), "{}", refused.error());
    tenant.delete("/api/v1/models/a/aliases/stable").expect_status(204);
    tenant.delete("/api/v1/models/a/versions/2").expect_status(204);
    for path in ["/api/v1/models/a/versions/2", "/v2/models/a/versions/2"] {
        tenant.get(path).expect_status(404);
    }
    tenant.delete("/api/v1/models/a/versions/2").expect_status(404);
    expect_two(tenant.infer("a", row()));

    tenant.delete("/api/v1/models/a").expect_status(204);
    tenant.delete("/api/v1/models/a").expect_status(404);
    tenant.infer("a", row()).expect_status(404);
    expect_two(tenant.infer("b", row()));
    // The name is free again.
    tenant.publish("a", "2", &parts::described(&add_one.bundle, "new")).expect_status(201);
    expect_two(tenant.infer("a", row()));
}

#[test]
fn an_alias_and_a_version_never_share_a_name() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let add_one = guest("plugins/add-one");
    let alias = |name: &str, version: &str| {
        tenant.put(&format!("/api/v1/models/m/aliases/{name}"), &json!({ "version": version }))
    };
    tenant.publish("m", "1", &add_one.bundle).expect_status(201);
    alias("stable", "1").expect_status(200);

    let cases: [(&str, Answer, u16, &str); 8] = [
        ("an alias like a version", alias("1", "1"), 409, "a version of that name"),
        ("a version like an alias", tenant.publish("m", "stable", &add_one.bundle), 409, "alias"),
        (
            "both at once",
            tenant.send(
                "POST",
                "/api/v1/models/m/versions/2?alias=2",
                &[TAR],
                &parts::described(&add_one.bundle, "2"),
            ),
            409,
            "version",
        ),
        ("an alias of nothing", alias("canary", "7"), 404, "version 7"),
        ("an alias of an alias", alias("canary", "stable"), 404, "version stable"),
        ("a name that is none", alias(".x", "1"), 400, ".x"),
        (
            "an alias of no model",
            tenant.put("/api/v1/models/x/aliases/a", &json!({ "version": "1" })),
            404,
            "acme/x",
        ),
        (
            "a misspelt query",
            tenant.send("POST", "/api/v1/models/m/versions/2?alais=x", &[TAR], &add_one.bundle),
            400,
            "alais",
        ),
    ];
    for (what, answer, status, text) in cases {
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.error().contains(text), "{what}: {}", answer.error());
    }
    let shown = tenant.get("/api/v1/models/m").json();
    assert_eq!(shown["aliases"], json!({ "stable": "1" }), "nothing of it has happened");
    assert_eq!(shown["versions"].as_array().unwrap().len(), 1);
}

/// Many callers predict by the alias while it moves back and forth. None fails, each sees one version whole, and whoever
/// has moved it sees the new one at once.
#[test]
fn an_alias_moves_under_load() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let digits = guest("plugins/digits");
    tenant.publish("m", "one", &digits.bundle).expect_status(201);
    let says = label(&tenant.infer("m", picture()).expect_status(200));
    let other = (says + 1) % 10;
    tenant.publish("m", "two", &parts::always(&digits.bundle, other as usize)).expect_status(201);
    let wanted = |version: &str| if version == "one" { says } else { other };
    let to = |version: &str| {
        tenant.put("/api/v1/models/m/aliases/stable", &json!({ "version": version }))
    };
    to("one").expect_status(200);

    let check = |client: &Client, path: &str| {
        let answer = client.post(path, &json!({ "inputs": picture() })).expect_status(200);
        let version = answer.json()["model_version"].as_str().unwrap().to_owned();
        assert_eq!(label(&answer), wanted(&version), "of two versions: {}", answer.text());
        version
    };
    const PATHS: [&str; 2] = ["/v2/models/m/infer", "/v2/models/m/versions/stable/infer"];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|i| {
                let (client, done, check) = (server.client(&tenant.key), &done, &check);
                scope.spawn(move || {
                    let mut seen = BTreeSet::new();
                    while !done.load(Ordering::Relaxed) {
                        seen.insert(check(&client, PATHS[i % 2]));
                    }
                    seen
                })
            })
            .collect();
        let _end = OnDrop(&done);
        for round in 0..120 {
            let version = if round % 2 == 0 { "two" } else { "one" };
            to(version).expect_status(200);
            assert_eq!(check(&tenant, PATHS[0]), version, "after it was acknowledged");
        }
        done.store(true, Ordering::Relaxed);
        let seen: BTreeSet<String> = callers.into_iter().flat_map(|c| c.join().unwrap()).collect();
        assert_eq!(seen.len(), 2, "the callers saw both: {seen:?}");
    });
}

/// Ends the other threads of a test that fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn begin(client: &Client) -> String {
    let begun = client.post("/api/v1/uploads", &json!({})).expect_status(201);
    assert_eq!(begun.header("upload-offset"), Some("0"));
    format!("/api/v1/uploads/{}", begun.json()["upload"].as_str().unwrap())
}

fn append(client: &Client, upload: &str, offset: usize, bytes: &[u8]) -> Answer {
    client.send("PATCH", upload, &[("upload-offset", &offset.to_string())], bytes)
}

fn finish(client: &Client, upload: &str, digest: Digest) -> Answer {
    client.send("PUT", &format!("{upload}?digest={digest}"), &[], b"")
}

fn offset(client: &Client, upload: &str) -> usize {
    let answer = client.get(upload).expect_status(200);
    let offset = answer.json()["offset"].as_u64().unwrap();
    assert_eq!(answer.header("upload-offset"), Some(offset.to_string().as_str()));
    let head = client.send("HEAD", upload, &[], b"").expect_status(200);
    // What was sent before a client went away may still be on its way to the disk.
    let later: u64 = head.header("upload-offset").unwrap().parse().unwrap();
    assert!(later >= offset, "{later} after {offset}");
    offset as usize
}

/// Bytes without a pattern that a repetition could hide in.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn an_upload_goes_on_where_it_broke_off() {
    let mut server = Server::start();
    let mut tenant = server.tenant("acme");
    let bytes = noise(300_000);
    let digest = Digest::of(&bytes);
    let upload = begin(&tenant);
    append(&tenant, &upload, 0, &bytes[..100_000]).expect_status(200);
    assert_eq!(offset(&tenant, &upload), 100_000);

    // What is wrong changes nothing, and says what would be right.
    for wrong in [0, 99_999, 100_001] {
        let refused = append(&tenant, &upload, wrong, &bytes[wrong..wrong + 10]).expect_status(409);
        assert_eq!(refused.json()["code"], "wrong_offset");
        assert_eq!(refused.header("upload-offset"), Some("100000"));
        assert!(refused.error().contains("continues at offset 100000"), "{}", refused.error());
    }
    for bad in [&[][..], &[("upload-offset", "x")], &[("upload-offset", "-1")]] {
        tenant.send("PATCH", &upload, bad, &bytes[..10]).expect_status(400);
    }
    let refused = finish(&tenant, &upload, digest).expect_status(422);
    assert_eq!(refused.json()["code"], "wrong_digest");
    let got = Digest::of(&bytes[..100_000]);
    assert!(refused.error().contains(&got.to_string()), "{}", refused.error());
    assert!(refused.error().contains(&digest.to_string()), "{}", refused.error());
    assert_eq!(offset(&tenant, &upload), 100_000, "it stays open");

    // A body that breaks off: some of it may have been taken, and the server says how much.
    let mut wire = Wire::open(&tenant);
    let headers = ["upload-offset: 100000", "content-length: 100000"];
    wire.send(&request(&tenant.key, "PATCH", &upload, &headers, b""));
    wire.send(&bytes[100_000..150_000]);
    drop(wire);
    // A crash takes nothing that was acknowledged. What is left of the broken body may still be on its way when we
    // go on, which is no more than another wrong offset.
    let mut at = offset(&tenant, &upload);
    while at < 200_000 {
        assert!((100_000..=150_000).contains(&at), "{at}");
        let answer = append(&tenant, &upload, at, &bytes[at..200_000]);
        assert!([200, 409].contains(&answer.status), "{}", answer.text());
        at = answer.header("upload-offset").unwrap().parse().unwrap();
    }
    let (key, data) = (tenant.key.clone(), server.data.clone());
    let folder = server.kill();
    server = Server::on(&data, &[]);
    tenant = server.client(&key);
    assert_eq!(offset(&tenant, &upload), at);
    append(&tenant, &upload, at, &bytes[at..]).expect_status(200);
    let blob = format!("/api/v1/blobs/{digest}");
    tenant.get(&blob).expect_status(404);
    assert_eq!(finish(&tenant, &upload, digest).expect_status(201).json()["size"], 300_000);
    assert_eq!(tenant.get(&blob).expect_status(200).json()["size"], 300_000);
    // Whoever missed the answer asks again; an upload that is done takes no more.
    finish(&tenant, &upload, digest).expect_status(201);
    append(&tenant, &upload, 300_000, b"x").expect_status(404);
    drop((server, folder));
}

#[test]
fn uploads_and_blobs_are_their_tenants_own() {
    let server = Server::start();
    let (owner, other) = (server.tenant("acme"), server.tenant("other"));
    let bytes = noise(1_000);
    let digest = Digest::of(&bytes);
    let upload = begin(&owner);
    append(&owner, &upload, 0, &bytes).expect_status(200);
    other.get(&upload).expect_status(404);
    append(&other, &upload, 1_000, b"x").expect_status(404);
    finish(&other, &upload, digest).expect_status(404);
    other.delete(&upload).expect_status(404);
    finish(&owner, &upload, digest).expect_status(201);
    other.get(&format!("/api/v1/blobs/{digest}")).expect_status(404);

    let cancelled = begin(&owner);
    append(&owner, &cancelled, 0, b"x").expect_status(200);
    owner.delete(&cancelled).expect_status(204);
    owner.get(&cancelled).expect_status(404);
    assert_eq!(std::fs::read_dir(server.data.join("uploads")).unwrap().count(), 0);
}

/// A bundle may leave out what its tenant has sent before, and only that.
#[test]
fn an_asset_is_sent_once() {
    let server = Server::start();
    let (owner, other) = (server.tenant("acme"), server.tenant("other"));
    let digits = guest("plugins/digits");
    let light = parts::without_assets(&digits.bundle);
    let asset = parts::asset(&digits.bundle);
    let digest = Digest::of(&asset);

    let missing = other.publish("m", "1", &light).expect_status(422);
    assert_eq!(missing.json()["code"], "asset_missing");
    assert!(missing.error().contains(&digest.to_string()), "{}", missing.error());
    owner.publish("m", "1", &light).expect_status(422);

    let upload = begin(&owner);
    append(&owner, &upload, 0, &asset).expect_status(200);
    finish(&owner, &upload, digest).expect_status(201);
    owner.publish("m", "1", &light).expect_status(201);
    let says = label(&owner.infer("m", picture()).expect_status(200));
    // The whole bundle is the same version.
    owner.publish("m", "1", &digits.bundle).expect_status(200);

    let refused = other.publish("m", "1", &light).expect_status(422);
    assert_eq!(refused.body, missing.body, "as if nobody had it");
    other.publish("m", "1", &digits.bundle).expect_status(201);
    assert_eq!(label(&other.infer("m", picture()).expect_status(200)), says);

    let hex = digest.hex();
    let kept = std::fs::read_dir(server.data.join("blobs").join(&hex[..2])).unwrap();
    let kept = kept.filter(|file| file.as_ref().unwrap().file_name().to_str() == Some(&hex));
    assert_eq!(kept.count(), 1, "both tenants' asset is stored once");
}

/// Ask for a model, get its interface, call it.
#[test]
fn the_interface_tells_how_to_call() {
    let server = Server::start();
    let (owner, other) = (server.tenant("acme"), server.tenant("other"));
    for model in ["add-one", "digits", "mlp", "identity"] {
        let bundle = &guest(&format!("plugins/{model}")).bundle;
        let path = format!("/api/v1/models/{model}/versions/1?alias=stable");
        let published = owner.send("POST", &path, &[TAR], bundle).expect_status(201).json();
        let sharing = format!("/api/v1/models/{model}/sharing");
        owner.put(&sharing, &json!({ "with": ["other"] })).expect_status(200);

        for slot in ["1", "stable"] {
            let path = format!("/api/v1/models/{model}/versions/{slot}/interface");
            assert_callable(&owner, model, &owner.get(&path).expect_status(200).json());
        }
        let theirs = other.get(published["interface"].as_str().unwrap()).expect_status(200).json();
        assert_callable(&other, model, &theirs);
    }
    owner.get("/api/v1/models/digits/versions/9/interface").expect_status(404);
    owner.get("/api/v1/models/absent/versions/1/interface").expect_status(404);
}

#[track_caller]
fn assert_callable(client: &Client, model: &str, document: &Value) {
    assert_eq!(document["openapi"], "3.1.0");
    let (path, operations) = document["paths"].as_object().unwrap().iter().next().unwrap();
    let body = &operations["post"]["requestBody"]["content"]["application/json"]["example"];
    assert!(body.is_object(), "{model} has an example");
    let answer = client.post(path, body).expect_status(200).json();
    assert_eq!(answer["model_name"], model);
    assert!(!answer["outputs"].as_array().unwrap().is_empty(), "{answer}");
}
