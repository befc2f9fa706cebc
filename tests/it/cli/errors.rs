//! What goes wrong is said in one line that tells what to do, and in an exit code.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use super::Shell;
use crate::harness::Server;

#[test]
fn the_command_line_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    let help = shell.run("--help").ok();
    for text in ["Exit codes:", "serve", "predict", "INNKEEPER_URL", "INNKEEPER_KEY"] {
        assert!(help.contains(text), "wanted {text:?} in {help}");
    }
    assert!(!help.contains("compile-worker"), "{help}");
    assert!(shell.run("--version").ok().starts_with("innkeeper "));
    let commands = [
        "serve",
        "config",
        "admin-key",
        "new",
        "build",
        "test",
        "push",
        "list",
        "show",
        "delete",
        "alias",
        "share",
        "logs",
        "limits",
        "usage",
        "tenant",
        "key",
        "predict",
    ];
    for command in commands {
        assert!(help.contains(command), "{command}");
        shell.run(&format!("{command} --help")).ok();
    }
    // What cannot be understood: 2, and what would have been.
    for line in ["", "explode", "push", "predict m", "share m", "alias set m", "list --jason"] {
        let said = shell.run_words(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(said.code, 2, "{said:#?}");
        assert!(said.err.contains("Usage:"), "{said:#?}");
    }
}

#[test]
fn nobody_there_or_the_wrong_key() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    shell.bundle("plugins/add-one", "m.bundle");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let nobody = Shell { url: url.clone(), ..Shell::new(folder.path()) };
    let lines = ["list", "push m.bundle", "predict m --input [1]", "logs m", "key list", "usage"];
    for line in lines {
        nobody.run(line).fails(7, &[&url, "innkeeper serve", "INNKEEPER_URL"]);
    }
    shell.run("list --url 127.0.0.1:8000").fails(2, &["http://"]);

    let server = Server::start();
    let acme = shell.with(&server.tenant("acme"));
    for key in ["", "ink_wrong_key", "nonsense"] {
        let stranger = Shell { key: key.into(), ..acme.with(&server.client("")) };
        stranger.run("list").fails(4, &["key", "INNKEEPER_KEY"]);
        stranger.run("push m.bundle").fails(4, &["key"]);
    }
    // What the environment says, the line may say otherwise.
    let words = ["list", "--json", "--url", &server.url, "--key", &acme.key];
    nobody.run_words(&words).json();
    // A key for one thing is none for another.
    let caller = acme.with(&server.key("acme", &["predict"]));
    caller.run("list").ok();
    caller.run("push m.bundle").fails(4, &["publish"]);
    acme.run("tenant create other").fails(4, &["admin"]);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let shell = Shell::new(folder.path()).with(&server.tenant("acme"));
    shell.bundle("plugins/add-one", "m.bundle");
    shell.run("push m.bundle --model m").ok();
    shell.write("text.bundle", b"this is no bundle");
    shell.write("broken.npy", b"\x93NUMPY\x01\x00");
    shell.write("broken.json", b"{\"INPUT0\": [[1, 2");
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::create_dir(folder.path().join("taken")).unwrap();
    let cases: [(&str, i32, &[&str]); 24] = [
        ("push absent.bundle", 1, &["absent.bundle", "No such file"]),
        ("push text.bundle", 1, &["text.bundle", "innkeeper build"]),
        ("push m.bundle --model a/b", 1, &["a/b"]),
        ("push m.bundle --version -", 1, &["version"]),
        ("show absent", 3, &["absent"]),
        ("show m@9", 3, &["9"]),
        ("delete absent", 3, &["absent"]),
        ("logs absent", 3, &["absent"]),
        ("alias delete m absent", 3, &["absent"]),
        ("predict absent --input [1]", 3, &["absent"]),
        ("predict m@9 --input [1]", 3, &["9"]),
        ("predict m --input absent.json", 1, &["absent.json", "No such file"]),
        ("predict m --input absent.npy", 1, &["absent.npy", "No such file"]),
        ("predict m --input broken.npy", 1, &["broken.npy"]),
        ("predict m --input broken.json", 1, &["broken.json", "JSON"]),
        ("predict m --input [1]", 1, &["INPUT0", "[-1,16]"]),
        ("predict m --input OTHER=[1]", 2, &["OTHER", "INPUT0"]),
        ("predict m --input [[1,2],[3]]", 1, &["INPUT0"]),
        ("predict m --input [\"a\"]", 1, &["INPUT0[0]", "FP32"]),
        ("build empty", 1, &["empty", "innkeeper.toml", "innkeeper new"]),
        ("test empty", 3, &["samples"]),
        ("new Big", 2, &["Big", "a-z"]),
        ("new taken", 5, &["taken"]),
        ("new ok --sdk empty", 2, &["innkeeper-sdk", "--sdk"]),
    ];
    for (line, code, texts) in cases {
        shell.run(line).fails(code, texts);
    }
    assert!(!folder.path().join("ok").exists(), "a plugin was half written");
    // A guest's refusal is its own text, for the caller.
    shell.bundle("tests/guests/hostile", "hostile.bundle");
    shell.run("push hostile.bundle").ok();
    let mode = |mode: &str| {
        let input = json!({ "MODE": [mode] }).to_string();
        shell.run_words(&["predict", "hostile", "--input", &input])
    };
    mode("invalid-argument").fails(1, &["MODE said invalid-argument"]);
    mode("panic").fails(1, &["the model's code trapped"]);
}

#[test]
fn a_missing_toolchain_comes_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    shell.run("new m").ok();
    fs::create_dir(folder.path().join("bin")).unwrap();
    let run = || {
        let output = shell.command(&["build", "m"]).env("PATH", folder.path().join("bin")).output();
        super::said(&["build", "m"], output.unwrap())
    };
    run().fails(1, &["rustc", "https://rustup.rs"]);
    assert!(!folder.path().join("m/m.bundle").exists());

    // A compiler for this machine alone: it says where a target would be, and nothing is there.
    use std::os::unix::fs::PermissionsExt;
    let rustc = folder.path().join("bin/rustc");
    fs::write(&rustc, "#!/bin/sh\necho /nowhere\n").unwrap();
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
    run().fails(1, &["rustup target add wasm32-unknown-unknown", "apt-get install"]);
}

#[test]
fn what_the_compiler_says_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    shell.run("new m").ok();
    let code = folder.path().join("m/src/lib.rs");
    let text = fs::read_to_string(&code).unwrap();
    fs::write(&code, text.replace("add_scalar(1.0)", "add_scalar(\"1\")")).unwrap();
    let said = shell.run("build m");
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.err.contains("mismatched types") && said.err.contains("src/lib.rs"), "{said:#?}");
}
