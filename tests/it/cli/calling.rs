//! Calling models: `predict`, `share`, `logs`, `limits`, `usage`.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Shell, said};
use crate::harness::{Server, root};

/// A server with acme's models, and a shell of acme's.
fn acme(folder: &std::path::Path, models: &[&str]) -> (Server, Shell) {
    let server = Server::start();
    let shell = Shell::new(folder).with(&server.tenant("acme"));
    for model in models {
        shell.bundle(&format!("plugins/{model}"), "m.bundle");
        shell.run("push m.bundle --alias stable").ok();
    }
    (server, shell)
}

fn sixteen(value: f64) -> Vec<f64> {
    vec![value; 16]
}

#[test]
fn json_goes_in_by_every_way_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, shell) = acme(folder.path(), &["add-one"]);
    let row = json!([sixteen(1.0)]).to_string();
    let named = json!({ "INPUT0": [sixteen(1.0)] }).to_string();
    let request = json!({ "id": "seven", "inputs": [{ "name": "INPUT0", "datatype": "FP32",
        "shape": [1, 16], "data": sixteen(1.0) }] });
    let request = request.to_string();
    shell.write("row.json", row.as_bytes());
    shell.write("request.json", request.as_bytes());
    let ways = [row.clone(), named, request.clone(), format!("INPUT0={row}")];
    let files = ["row.json", "INPUT0=row.json", "request.json"].map(String::from);
    for input in ways.iter().chain(&files) {
        let answer = shell.run_words(&["predict", "add-one", "--json", "--input", input]).json();
        assert_eq!(answer["model_name"], "add-one");
        assert_eq!(answer["model_version"], "1");
        let output = &answer["outputs"][0];
        assert_eq!(output["shape"], json!([1, 16]), "{input}");
        assert_eq!(output["data"], json!(sixteen(2.0)), "{input}");
    }
    let answer = shell.run("predict add-one --json --input request.json").json();
    assert_eq!(answer["id"], "seven");

    let words = ["predict", "add-one@stable", "--json", "--input", "-"];
    let mut child = shell
        .command(&words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let answer = said(&words, child.wait_with_output().unwrap()).json();
    assert_eq!(answer["outputs"][0]["data"], json!(sixteen(2.0)));

    // For people.
    let table = shell.run_words(&["predict", "add-one@1", "--input", &row]).ok();
    assert!(table.starts_with("OUTPUT0  FP32  [1, 16]\n"), "{table}");
    assert_eq!(table.matches("2.000000").count(), 16, "{table}");
}

#[test]
fn arrays_go_in_and_answers_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, shell) = acme(folder.path(), &["mlp", "digits"]);
    let input = root().join("plugins/mlp/samples/input_4x1000.npy");
    let wanted = crate::protocol::npy("plugins/mlp/samples/expected_4x10.npy");
    let wanted: Vec<f32> =
        wanted.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();

    // A file for the only input, one by name, and an archive of them.
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("INPUT0.npy", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(&std::fs::read(&input).unwrap()).unwrap();
    shell.write("inputs.npz", archive.finish().unwrap().get_ref());
    let input = input.to_str().unwrap();
    for given in [input, &format!("INPUT0={input}"), "inputs.npz"] {
        let answer = shell.run_words(&["predict", "mlp", "--json", "--input", given]).json();
        let output = &answer["outputs"][0];
        assert_eq!(output["shape"], json!([4, 10]), "{given}");
        let got = output["data"].as_array().unwrap();
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!((got.as_f64().unwrap() - f64::from(*wanted)).abs() <= 1e-5, "{given}: {got}");
        }
    }
    let table = shell.run_words(&["predict", "mlp", "--input", input]).ok();
    assert_eq!(table.lines().count(), 5, "{table}");

    // Only what is asked for.
    let picture = json!([vec![0.0; 64]]).to_string();
    let words = ["predict", "digits", "--json", "--output", "LABEL", "--input", &picture];
    let answer = shell.run_words(&words).json();
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["outputs"][0]["datatype"], "INT64");
    let table = shell.run_words(&["predict", "digits", "--input", &picture]).ok();
    assert!(table.contains("PROBABILITIES  FP32  [1, 10]\n"), "{table}");
    assert!(table.contains("LABEL  INT64  [1]\n"), "{table}");

    // An array of another type is told apart by name and type.
    let pixels = root().join("plugins/digits/samples/held_out_pixels.npy");
    let wrong = shell.run_words(&["predict", "digits", "--input", pixels.to_str().unwrap()]);
    wrong.fails(1, &["INPUT0 is UINT8, and the model takes FP32", "astype"]);
}

#[test]
fn every_dtype_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, shell) = acme(folder.path(), &["identity"]);
    let inputs = json!({
        "INPUT_BOOL": [true, false], "INPUT_UINT8": [255], "INPUT_UINT64": [u64::MAX],
        "INPUT_INT64": [i64::MIN], "INPUT_FP16": [0.5], "INPUT_BF16": [-2.0],
        "INPUT_FP32": [[0.1]], "INPUT_FP64": [1e300], "INPUT_BYTES": ["text", "\u{fc}"],
    });
    let inputs = inputs.to_string();
    let answer = shell.run_words(&["predict", "identity", "--json", "--input", &inputs]).json();
    let given: Value = serde_json::from_str(&inputs).unwrap();
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 9, "{answer}");
    for output in outputs {
        let name = output["name"].as_str().unwrap().replace("OUTPUT", "INPUT");
        let wanted = match name.as_str() {
            "INPUT_FP32" => json!([0.1]),
            _ => given[&name].clone(),
        };
        assert_eq!(output["data"], wanted, "{name}");
    }
    // What JSON has no number for, as Python writes it and as `--json` does.
    for text in ["[NaN, Infinity, -Infinity]", r#"["NaN", "Infinity", "-Infinity"]"#] {
        let input = format!("INPUT_FP32={text}");
        let answer = shell.run_words(&["predict", "identity", "--json", "--input", &input]).json();
        let data = json!(["NaN", "Infinity", "-Infinity"]);
        assert_eq!(answer["outputs"][0]["data"], data, "{text}");
    }
}

#[test]
fn a_model_is_shared_and_its_log_is_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    let (server, acme) = acme(folder.path(), &["add-one"]);
    let friend = acme.with(&server.tenant("friend"));
    let row = json!([sixteen(1.0)]).to_string();
    let call = |who: &Shell| who.run_words(&["predict", "acme/add-one", "--json", "--input", &row]);

    call(&acme).json();
    call(&friend).fails(3, &["add-one"]);
    let shared = acme.run("share add-one --with friend").ok();
    assert!(shared.contains("friend"), "{shared}");
    call(&friend).json();
    assert!(acme.run("list").ok().contains("friend"));
    let shown = friend.run("show acme/add-one").ok();
    assert!(shown.contains("INPUT0"), "{shown}");
    friend.run("share acme/add-one --all").fails(2, &["acme"]);
    friend.run("logs add-one").fails(3, &["add-one"]);
    acme.run("share add-one --with nobody-there").fails(3, &["nobody-there"]);
    acme.run("share add-one --nobody").ok();
    call(&friend).fails(3, &["add-one"]);

    acme.bundle("tests/guests/hostile", "hostile.bundle");
    acme.run("push hostile.bundle").ok();
    assert_eq!(acme.run("logs hostile").ok(), "");
    let words = ["predict", "hostile", "--json", "--input", r#"{"MODE": ["log-levels"]}"#];
    acme.run_words(&words).json();
    let logs = acme.run("logs hostile").ok();
    for text in ["a debug line", "an info line", "a warn line", "an error line"] {
        assert!(logs.contains(text), "wanted {text:?} in {logs}");
    }
    // A guest must not be able to move a terminal's cursor, or to write lines of its own making.
    assert!(!logs.contains('\u{1b}'), "{logs:?}");
    assert_eq!(logs.lines().count(), 4, "{logs:?}");
    let logs = acme.run("logs hostile --json").ok();
    let first: Value = serde_json::from_str(logs.lines().next().unwrap()).unwrap();
    assert_eq!((&first["version"], &first["message"]), (&json!("1"), &json!("a debug line")));
}

#[test]
fn limits_and_use_are_shown_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, acme) = acme(folder.path(), &["add-one"]);
    let admin = acme.with(&server.admin());

    let shown = acme.run("limits").ok();
    let deadline = shown.lines().find(|line| line.starts_with("deadline_ms_max")).unwrap();
    assert!(deadline.contains("30000"), "{deadline}");
    acme.run("limits acme --set deadline_ms_max=5").fails(4, &["admin"]);
    let set = admin.run("limits acme --set deadline_ms_max=700 --set versions_max=1").ok();
    assert!(set.lines().any(|line| line.starts_with("deadline_ms_max") && line.contains("700")));
    let limits = acme.run("limits --json").json();
    assert_eq!(limits["limits"]["deadline_ms_max"], 700);
    assert_eq!(limits["set"], json!({ "deadline_ms_max": 700, "versions_max": 1 }));
    acme.run("push m.bundle --version 2").fails(6, &["versions_max", "1"]);
    admin.run("limits acme --unset versions_max").ok();
    acme.run("push m.bundle --version 2").ok();
    admin.run("limits acme --set deadline=5").fails(1, &["deadline"]);
    admin.run("limits acme --set deadline_ms_max=soon").fails(2, &["NAME=NUMBER"]);
    admin.run("limits nobody-there").fails(3, &["tenant"]);

    let usage = acme.run("usage --json").json();
    assert_eq!((&usage["tenant"], &usage["usage"]["versions"]), (&json!("acme"), &json!(2)));
    assert!(usage["usage"]["stored_bytes"].as_u64().unwrap() > 1_000, "{usage}");
    let table = acme.run("usage").ok();
    assert!(table.lines().any(|line| line.starts_with("stored_bytes")), "{table}");
}
