//! Bundles whose weights take fewer bytes, made on the command line and served to the same guests.

use std::fs;

use serde_json::{Value, json};

use crate::cli::Shell;
use crate::harness::{Client, Server, guest, pack, root};

fn sample(plugin: &str, name: &str) -> Value {
    let path = root().join("plugins").join(plugin).join("samples").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The numbers of an output.
fn numbers(answer: &Value, name: &str) -> Vec<f64> {
    let outputs = answer["outputs"].as_array().unwrap();
    let output = outputs.iter().find(|output| output["name"] == name).unwrap();
    output["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn asset_memory(client: &Client, tenant: &str) -> u64 {
    let usage = client.get(&format!("/api/v1/tenants/{tenant}/usage")).expect_status(200).json();
    usage["usage"]["asset_memory_bytes"].as_u64().unwrap()
}

fn plugin(name: &str) -> std::sync::Arc<crate::harness::Guest> {
    guest(&format!("plugins/{name}"))
}

#[test]
fn compressed_models_answer_alike_in_a_fraction_of_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let author = Shell::new(folder.path());
    author.write("mlp.bundle", &plugin("mlp").bundle);
    let server = Server::start();
    let asked = sample("mlp", "four-rows.json")["inputs"].clone();
    let wanted = numbers(&sample("mlp", "four-rows.expected.json"), "OUTPUT0");
    let plain = server.tenant("plain");
    author.with(&plain).run("push mlp.bundle").ok();
    plain.infer("mlp", asked.clone()).expect_status(200);
    // The file, and as much again in the order that products want.
    let before = asset_memory(&plain, "plain");
    assert!(before > 275_960 * 19 / 10, "{before}");
    for (to, off, most) in
        [("int8", 0.02, 0.27), ("bf16", 0.01, 0.52), ("fp16", 0.001, 0.52), ("int4", 0.1, 0.27)]
    {
        let made = author.run(&format!("compress mlp.bundle --to {to} -o {to}.bundle")).ok();
        for text in ["dense1.weight", "64x1000", "dense1.bias", "all files", "sha256:"] {
            assert!(made.contains(text), "wanted {text:?} in {made}");
        }
        let tenant = server.tenant(to);
        author.with(&tenant).run(&format!("push {to}.bundle")).ok();
        let answer = tenant.infer("mlp", asked.clone()).expect_status(200).json();
        for (got, wanted) in numbers(&answer, "OUTPUT0").iter().zip(&wanted) {
            assert!((got - wanted).abs() <= off, "{to}: {got} is not {wanted}");
        }
        let after = asset_memory(&tenant, to);
        let share = after as f64 / before as f64;
        println!("mlp {to}: {after} bytes of {before}, {share:.4}");
        assert!(share <= most, "{to}: {after} of {before}");
    }
}

#[test]
fn a_fall_over_the_limit_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let author = Shell::new(folder.path()).with(&server.tenant("acme"));
    author.write("digits.bundle", &plugin("digits").bundle);
    for name in ["two-digits.json", "two-digits.expected.json"] {
        author.write(name, &fs::read(root().join("plugins/digits/samples").join(name)).unwrap());
    }
    let line = "compress digits.bundle --to int4 --calibrate two-digits.json --push";
    let refused = author.run(&format!("{line} --max-drop 0% -o small.bundle"));
    assert_eq!(refused.code, 6, "{refused:?}");
    for text in ["the cosine fell from 1.0", "over --max-drop of 0.0000%; nothing was written"] {
        assert!(refused.err.contains(text), "wanted {text:?} in {refused:#?}");
    }
    assert!(!folder.path().join("small.bundle").exists());
    assert_eq!(author.run("list --json").json(), json!({ "models": [] }));

    let report = "--report report.json --alias small";
    let made = author.run(&format!("{line} --max-drop 5% --as small.1 {report}")).ok();
    for text in ["cosine", "ms a call", "digits@small.1 is served", "small"] {
        assert!(made.contains(text), "wanted {text:?} in {made}");
    }
    let report = fs::read(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["plan"]["to"], &report["plan"]["group"]), (&json!("int4"), &json!(32)));
    let cosine = report["measured"]["after"].as_f64().unwrap();
    assert!((0.95..1.0).contains(&cosine), "{cosine}");
    assert!(report["tensors"][0]["half_squared_distance"].is_number());
    let usual = [("--to int3", 2), ("", 2), ("--to int8 --group 32", 2), ("--prune 1.5", 2)];
    for (words, code) in usual {
        let line = format!("compress digits.bundle {words}");
        let refused = author.run(line.trim_end());
        assert_eq!(refused.code, code, "{refused:?}");
    }
    author.run("compress absent.bundle --to int8").fails(1, &["absent.bundle"]);
    let line = "compress absent.bundle --to int8 -o small.bundle";
    author.run(line).fails(1, &["cannot read absent.bundle"]);
    author.write("add-one.bundle", &plugin("add-one").bundle);
    author.run("compress add-one.bundle --to int8").fails(1, &["no file of weights"]);
}

#[test]
fn what_is_served_is_fetched_exported_trained_and_compressed_by_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let author = Shell::new(folder.path()).with(&server.tenant("acme"));
    let digits = &plugin("digits").bundle;
    author.write("pushed.bundle", digits);
    author.run("push pushed.bundle --alias stable").ok();
    for (line, file) in
        [("pull digits", "digits-1.bundle"), ("pull digits@stable -o d.bundle", "d.bundle")]
    {
        let said = author.run(line).ok();
        assert!(said.contains(file) && said.contains("sha256:"), "{said}");
        assert_eq!(fs::read(folder.path().join(file)).unwrap(), *digits, "{line}");
    }
    author.run("pull digits@9").fails(3, &["version 9"]);
    author.run("pull absent").fails(3, &["absent"]);
    let other = Shell::new(folder.path()).with(&server.tenant("other"));
    other.run("pull digits").fails(3, &["digits"]);
    other.run("pull acme/digits").fails(2, &["the owner acme"]);

    author.run("export digits --to safetensors --out weights.safetensors").ok();
    let weights = fs::read(folder.path().join("weights.safetensors")).unwrap();
    assert_eq!(
        weights,
        fs::read(root().join("plugins/digits/assets/weights.safetensors")).unwrap()
    );

    for name in ["two-digits.json", "two-digits.expected.json"] {
        author.write(name, &fs::read(root().join("plugins/digits/samples").join(name)).unwrap());
    }
    let before = fs::read_dir(folder.path()).unwrap().count();
    let line = "compress digits --to int8 --calibrate two-digits.json --max-drop 5% --alias small";
    let made = author.run(line).ok();
    assert!(made.contains("cosine") && made.contains("digits@1-int8 is served"), "{made}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "nothing is left here");
    let lineage = author.run("pull digits@small -o small.bundle").ok();
    assert!(lineage.contains("small.bundle"), "{lineage}");

    author.write("mlp.bundle", &plugin("mlp").bundle);
    author.write("rows.csv", b"x,label\n0,a\n1,b\n0.1,a\n0.9,b\n0.2,a\n0.8,b\n");
    let learnt = author.run("train mlp.bundle --data rows.csv --set epochs=2 --into ab").ok();
    assert!(learnt.contains("mlp@1 is served") && learnt.contains("ab@1 is published"), "{learnt}");
}

/// A safetensors file of these header text and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn malformed_compressed_files_are_refused_when_they_are_published() {
    let server = Server::start();
    let client = server.tenant("acme");
    let component = &plugin("add-one").component;
    let head = |table: &str| {
        let table = serde_json::to_string(table).unwrap();
        format!(
            r#"{{"__metadata__":{{"innkeeper.compressed":{table}}},"w":{{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]}}}}"#
        )
    };
    let entry = |version: u32, encoding: &str, shape: &str| {
        format!(
            r#"{{"version":{version},"tensors":{{"w":{{"encoding":"{encoding}","dtype":"F32","shape":{shape}}}}}}}"#
        )
    };
    let cases = [
        (entry(1, "int8", "[2,2]"), "its part \"w.scale\" is missing"),
        (entry(2, "int8", "[2,2]"), "it is of version 2, and this host reads 1"),
        (entry(1, "int3", "[2,2]"), "its encoding \"int3\" is none that this host knows"),
        (entry(1, "fp8", "[1e99]"), "invalid type"),
        ("{".to_owned(), "what it says of compressed tensors"),
    ];
    for (index, (table, wanted)) in cases.iter().enumerate() {
        let weights = file(&head(table), &[1, 2, 3, 4]);
        let toml = "name = \"m\"\nversion = \"1\"\n";
        let bundle = pack(component, toml, &[("w.safetensors", &weights)]);
        let refused = client.publish("m", &index.to_string(), &bundle);
        assert!((400..500).contains(&refused.status), "{}", refused.text());
        assert!(refused.text().contains("w.safetensors"), "{}", refused.text());
        let text = refused.error();
        assert!(text.contains(wanted), "wanted {wanted:?} in {text}");
    }
    assert_eq!(client.get("/api/v1/models").json()["models"], json!([]));
}

#[test]
fn an_onnx_file_that_was_rewritten_answers_as_onnx_runtime_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let tenant = server.tenant("acme");
    let author = Shell::new(folder.path()).with(&tenant);
    let assets = root().join("tests/guests/networks/assets");
    author.write("weights.onnx", &fs::read(assets.join("weights.onnx")).unwrap());
    // Made by tests/models/compressed.py from the same files.
    let said: Value =
        serde_json::from_slice(&fs::read(assets.join("weights.json")).unwrap()).unwrap();
    author.run("import weights.onnx").ok();
    let ids = json!({ "name": "IDS", "datatype": "INT64", "shape": [1, 5], "data": said["ids"] });
    for (kind, words) in [
        ("int8", "--to int8"),
        ("int4", "--to int4"),
        ("fp16", "--to fp16"),
        ("bf16", "--to bf16"),
        ("prune", "--prune 2:4"),
    ] {
        let line = format!("compress weights.bundle {words} --as {kind} -o {kind}.bundle --push");
        let made = author.run(&line).ok();
        for text in ["table", "50x32", "right", "turned", "filter", "all files"] {
            assert!(made.contains(text), "wanted {text:?} in {made}");
        }
        let path = format!("/v2/models/weights/versions/{kind}/infer");
        let answer = tenant.post(&path, &json!({ "inputs": [ids] })).expect_status(200).json();
        let got = numbers(&answer, "Y");
        let wanted = said["answers"][kind][0].as_array().unwrap();
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(wanted) {
            let wanted = wanted.as_f64().unwrap();
            assert!((got - wanted).abs() <= 2e-3, "{kind}: {got} is not {wanted}");
        }
    }
}

#[test]
fn a_job_compresses_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let tenant = server.tenant("acme");
    let author = Shell::new(folder.path()).with(&tenant);
    author.write("mlp.bundle", &plugin("mlp").bundle);
    author.run("push mlp.bundle --alias stable").ok();
    let made = author.run("compress mlp@stable --to int8 --as 1-int8 --alias small").ok();
    for text in ["mlp@1-int8 is published", "the alias small stands for it", "dense1.weight"] {
        assert!(made.contains(text), "wanted {text:?} in {made}");
    }
    let job = &tenant.get("/api/v1/jobs").expect_status(200).json()["jobs"][0];
    assert_eq!((&job["state"], &job["request"]["kind"]), (&json!("succeeded"), &json!("compress")));
    let share = job["result"]["metrics"]["bytes_share"].as_f64().unwrap();
    assert!((0.2..0.27).contains(&share), "{share}");
    // What it made is what the same on the bundle makes.
    author.run("compress mlp.bundle --to int8 --as 1-int8 -o local.bundle").ok();
    let again = author.run("push local.bundle --version 1-int8").ok();
    assert!(again.contains("is served already"), "{again}");

    let refused = [
        (json!({ "kind": "compress", "model": "mlp" }), "nothing is to be done"),
        (json!({ "kind": "compress", "model": "mlp", "to": "int3" }), "wanted int8"),
        (json!({ "kind": "compress", "model": "absent", "to": "int8" }), "absent"),
        (json!({ "kind": "compress", "model": "mlp", "to": "int8", "more": 1 }), "more"),
    ];
    for (request, wanted) in refused {
        let answer = tenant.post("/api/v1/jobs", &request);
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        assert!(answer.text().contains(wanted), "{}", answer.text());
    }
    // One that finds nothing to do fails, and publishes nothing.
    author.write("add-one.bundle", &plugin("add-one").bundle);
    author.run("push add-one.bundle").ok();
    let failed = author.run("compress add-one --to int8 --as 2");
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("no file of weights"), "{failed:?}");
    assert_eq!(tenant.get("/v2/models/add-one/versions/2").status, 404);
}
