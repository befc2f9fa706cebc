//! From nothing to a model that is served, and away again.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::Shell;
use crate::harness::{Server, guest, pack};

#[test]
fn a_plugin_from_its_first_line_to_its_last() {
    let folder = tempfile::tempdir().unwrap();
    let author = Shell::new(folder.path());

    // Written, tested, built: no server so far.
    let next = author.run("new first-model").ok();
    for step in ["innkeeper test first-model", "innkeeper build first-model", "innkeeper push"] {
        assert!(next.contains(step), "{next}");
    }
    let tested = author.run("test first-model").ok();
    for text in ["INPUT0 FP32 [-1, 16]", "count", "1 passed, 0 failed"] {
        assert!(tested.contains(text), "wanted {text:?} in {tested}");
    }
    let built = author.run("build first-model").ok();
    assert!(built.contains("first-model.bundle") && built.contains("sha256:"), "{built}");

    // The same source makes the same bytes, wherever one stands, whenever its files were touched.
    let bundle = fs::read(folder.path().join("first-model/first-model.bundle")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let manifest = folder.path().join("first-model/innkeeper.toml");
    fs::File::options().write(true).open(manifest).unwrap().set_modified(old).unwrap();
    let inside = Shell::new(&folder.path().join("first-model"));
    inside.run("build --out ../again.bundle").ok();
    assert!(bundle == fs::read(folder.path().join("again.bundle")).unwrap(), "other bytes");
    let names: Vec<String> = tar::Archive::new(&bundle[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["manifest.json", "component.wasm"]);

    // A sample that is not met is told, and is a failure.
    let expected = folder.path().join("first-model/samples/count.expected.json");
    let text = fs::read_to_string(&expected).unwrap();
    fs::write(&expected, text.replace("[1, 2,", "[1, 2.5,")).unwrap();
    let failed = author.run("test first-model");
    assert_eq!(failed.code, 1, "{failed:?}");
    for text in ["FAILED", "OUTPUT0[1] is 2.0; wanted 2.5", "0 passed, 1 failed"] {
        assert!(failed.out.contains(text), "wanted {text:?} in {failed:#?}");
    }

    let server = Server::start();
    let author = author.with(&server.tenant("acme"));
    served_shown_and_deleted(&author);
}

fn served_shown_and_deleted(author: &Shell) {
    let pushed = author.run("push first-model/first-model.bundle --alias stable").ok();
    assert!(pushed.contains("first-model@1") && pushed.contains("stable"), "{pushed}");
    assert!(pushed.contains(&format!("{}/v2/models/first-model/infer", author.url)), "{pushed}");
    // Again is no mistake, and does nothing.
    let again = author.run("push first-model/first-model.bundle").ok();
    assert!(again.contains("first-model@1 is served already"), "{again}");
    author.run("push again.bundle --version 2 --alias canary --alias next").ok();
    author.run("push again.bundle --model other").ok();

    let listed = author.run("list").ok();
    let row = listed.lines().find(|line| line.starts_with("first-model")).unwrap();
    for text in ["1 2", "stable=1", "canary=2", "nobody"] {
        assert!(row.contains(text), "wanted {text:?} in {listed}");
    }
    let listed = author.run("list --json").json();
    assert_eq!(listed["models"][0]["name"], "first-model");
    assert_eq!(listed["models"][1]["name"], "other");

    let shown = author.run("show first-model").ok();
    for text in ["VERSION", "stable=1", "sha256:", "true"] {
        assert!(shown.contains(text), "wanted {text:?} in {shown}");
    }
    let shown = author.run("show first-model --json").json();
    assert_eq!(shown["aliases"], json!({ "canary": "2", "next": "2", "stable": "1" }));
    let shown = author.run("show first-model@stable").ok();
    assert!(shown.contains("INPUT0") && shown.contains("[-1, 16]"), "{shown}");
    let shown = author.run("show first-model@2 --json").json();
    assert_eq!(shown["outputs"][0]["name"], "OUTPUT0");

    author.run("alias set first-model stable 2").ok();
    assert_eq!(author.run("show first-model --json").json()["aliases"]["stable"], "2");
    author.run("delete first-model@2").fails(5, &["the alias", "first"]);
    for alias in ["stable", "canary", "next"] {
        author.run(&format!("alias delete first-model {alias}")).ok();
    }
    author.run("delete first-model@2").ok();
    author.run("delete first-model@2").fails(3, &["2"]);
    author.run("delete first-model").ok();
    author.run("show first-model").fails(3, &["first-model"]);
    author.run("delete other").ok();
    assert_eq!(author.run("list --json").json(), json!({ "models": [] }));
}

#[test]
fn a_version_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let author = Shell::new(folder.path()).with(&server.tenant("acme"));
    author.bundle("plugins/add-one", "one.bundle");
    author.bundle("plugins/identity", "other.bundle");
    author.run("push one.bundle --model m").ok();
    author.run("push other.bundle --model m").fails(5, &["m", "1"]);
    author.run("push other.bundle --model m --version 2 --alias 1").fails(5, &["1"]);
    // An alias for what is not there, and one whose name a version has.
    author.run("alias set m stable 9").fails(3, &["9"]);
    author.run("alias set m 1 1").fails(5, &["1"]);
}

#[test]
fn what_the_server_has_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let author = Shell::new(folder.path()).with(&server.tenant("acme"));
    let large: Vec<u8> = (0..9u32 << 20).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect();
    let toml = "name = \"large\"\nversion = \"1\"\n";
    let component = &guest("plugins/add-one").component;
    author.write("large.bundle", &pack(component, toml, &[("large.bin", &large)]));

    let first = author.run("push large.bundle");
    assert!(first.err.contains("sending assets (9.00 MiB)"), "{first:?}");
    first.ok();
    let second = author.run("push large.bundle --model other");
    assert!(!second.err.contains("sending assets"), "{second:?}");
    second.ok();
    let usage = author.run("usage --json").json();
    let stored = usage["usage"]["stored_bytes"].as_u64().unwrap();
    assert!((9 << 20..10 << 20).contains(&stored), "{usage}");
    // Another tenant's bytes are none of one's own, and have to be sent.
    let other = author.with(&server.tenant("other"));
    let sent = other.run("push large.bundle");
    assert!(sent.err.contains("sending assets (9.00 MiB)"), "{sent:?}");
    sent.ok();
}
