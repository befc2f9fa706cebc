//! Running a server, its tenants and its keys.

use std::fs;

use serde_json::{Value, json};

use super::Shell;
use crate::harness::Server;

#[test]
fn tenants_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let admin = Shell::new(folder.path()).with(&server.admin());
    let created = admin.run("tenant create acme").ok();
    assert!(created.contains("acme"), "{created}");
    admin.run("tenant create acme").fails(5, &["acme"]);
    admin.run("tenant create Acme!").fails(1, &["a-z"]);
    assert!(admin.run("tenant list").ok().lines().any(|line| line == "acme"));
    assert!(admin.run("tenant list --json").ok().contains("\"acme\""));

    // The key is all that stands on standard output, so that a script can catch it.
    let key = |words: &str| admin.run(&format!("key create --tenant acme {words}")).ok();
    let both = key("--label laptop");
    assert!(both.starts_with("ink_") && both.ends_with('\n') && both.lines().count() == 1);
    let acme = Shell { key: both.trim().into(), ..admin.with(&server.client("")) };
    acme.bundle("plugins/add-one", "m.bundle");
    acme.run("push m.bundle --model m").ok();
    let caller =
        Shell { key: key("--scopes predict").trim().into(), ..admin.with(&server.client("")) };
    caller.run("push m.bundle --model m --version 2").fails(4, &["publish"]);
    caller.run("show m@1").ok();
    admin.run("key create --tenant acme --scopes everything").fails(1, &["everything"]);
    admin.run("key create --tenant nobody-there").fails(3, &["tenant"]);
    key("--expires-days 30 --label short");

    let listed = admin.run("key list --tenant acme").ok();
    assert!(!listed.contains(both.trim()), "a key is shown once: {listed}");
    let laptop = listed.lines().find(|line| line.contains("laptop")).unwrap();
    assert!(laptop.contains("predict,publish"), "{laptop}");
    let id = laptop.split_whitespace().next().unwrap();
    assert!(both.contains(id), "{laptop}");
    let keys = admin.run("key list --tenant acme --json").json();
    let short = keys["keys"].as_array().unwrap().iter().find(|key| key["label"] == "short");
    assert!(short.unwrap()["expires_ms"].as_i64().unwrap() > 1_000_000_000_000);

    acme.run("list").ok();
    admin.run(&format!("key revoke {id}")).ok();
    acme.run("list").fails(4, &["key"]);
    admin.run("key revoke absent").fails(3, &["absent"]);
}

#[test]
fn a_server_starts_stops_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    let data = folder.path().join("data");
    let mut server = Server::on(&data, &[]);
    assert!(server.admin_key.starts_with("ink_"));
    let second = format!("serve --http 127.0.0.1:0 --data {}", data.display());
    shell.run(&second).fails(5, &["in use by another server", "--data"]);
    let port = server.url.trim_start_matches("http://");
    shell.run(&format!("serve --http {port} --data other")).fails(5, &[port, "--http"]);
    shell.run(&format!("admin-key --data {}", data.display())).fails(5, &["in use"]);
    assert!(server.terminate().success());
    assert!(server.log().contains("stopped"), "{}", server.log());

    // Who has lost the key makes another, with the server at rest.
    let said = shell.run(&format!("admin-key --data {}", data.display())).ok();
    assert!(said.contains("admin.key"), "{said}");
    let again = Server::on(&data, &[]);
    assert_ne!(again.admin_key, server.admin_key);
    shell.with(&again.admin()).run("tenant list").ok();
}

#[test]
fn the_configuration_is_told_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    let documented = shell.run("config").ok();
    let table: toml::Table = documented.parse().unwrap();
    assert_eq!(table["server"]["http"].as_str(), Some("127.0.0.1:8000"));
    assert!(documented.contains("# "), "every key has its meaning beside it");
    // What is printed can be given back, and means the same.
    shell.write("all.toml", documented.as_bytes());
    assert_eq!(shell.run("serve --config all.toml --print-config").ok(), documented);
    shell.write("some.toml", b"[server]\nhttp = \"127.0.0.1:9\"\n");
    let printed = shell.run("serve --config some.toml --data d --print-config").ok();
    let table: toml::Table = printed.parse().unwrap();
    assert_eq!(table["server"]["http"].as_str(), Some("127.0.0.1:9"));
    assert_eq!(table["server"]["data"].as_str(), Some("d"));

    let cases = [
        ("[server]\nport = 8000\n", "port"),
        ("[sever]\nhttp = \"127.0.0.1:0\"\n", "sever"),
        ("[server]\nhttp = 8000\n", "line 2"),
        ("[server\n", "toml"),
    ];
    for (text, named) in cases {
        shell.write("wrong.toml", text.as_bytes());
        shell.run("serve --config wrong.toml").fails(2, &["wrong.toml", named]);
    }
    shell.run("serve --http everywhere").fails(2, &["everywhere", "IP:PORT"]);
    shell.run("serve --config absent.toml").fails(2, &["absent.toml"]);
    assert!(!folder.path().join("innkeeper-data").exists(), "nothing is made before all is right");
}

#[test]
fn development_needs_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::on(&folder.path().join("data"), &["--dev"]);
    let shell = Shell::new(folder.path()).with(&server.client(""));
    shell.bundle("plugins/add-one", "m.bundle");
    shell.run("push m.bundle --model m").ok();
    let row = json!([vec![1.0; 16]]).to_string();
    let answer: Value = shell.run_words(&["predict", "m", "--json", "--input", &row]).json();
    assert_eq!(answer["outputs"][0]["data"][0], 2.0);
    assert!(!fs::exists(folder.path().join("data/admin.key")).unwrap());
}
