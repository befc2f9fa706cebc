//! Networks: ONNX files served as they are, and by the guests that bring them.

use serde_json::{Value, json};

use crate::cli::Shell;
use crate::harness::{Answer, Client, Server, guest, pack, root};

/// What ONNX Runtime answers, by `tests/guests/networks/assets/make.py`.
const X: [[f64; 3]; 2] = [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.25]];
const Y: [f64; 4] =
    [-6.747500419616699, 0.4643000364303589, -3.5466997623443604, 0.35030001401901245];

fn file(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/guests/networks/assets").join(name)).unwrap()
}

#[track_caller]
fn check_y(answer: &Answer) {
    let answer = answer.json();
    let outputs = answer["outputs"].as_array().unwrap();
    let y = outputs.iter().find(|output| output["name"] == "Y").unwrap();
    assert_eq!(y["shape"], json!([2, 2]));
    let data = y["data"].as_array().unwrap();
    for (got, wanted) in data.iter().zip(Y) {
        let got = got.as_f64().unwrap();
        assert!((got - wanted).abs() <= 1e-5, "{got} is not {wanted}");
    }
    assert_eq!(data.len(), Y.len());
}

fn x() -> Value {
    json!({ "name": "X", "datatype": "FP32", "shape": [2, 3], "data": X })
}

#[test]
fn an_onnx_file_is_served_without_code() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let tenant = server.tenant("acme");
    let author = Shell::new(folder.path()).with(&tenant);
    author.write("tiny.onnx", &file("tiny.onnx"));
    let made = author.run("import tiny.onnx").ok();
    for text in ["input X FP32 [-1,3]", "output Y FP32 [-1,2]", "tiny.bundle", "sha256:"] {
        assert!(made.contains(text), "wanted {text:?} in {made}");
    }
    author.run("push tiny.bundle --alias stable").ok();
    let about = tenant.get("/v2/models/tiny").expect_status(200).json();
    assert_eq!(about["platform"], "onnx");
    assert_eq!(about["inputs"][0]["shape"], json!([-1, 3]));
    check_y(&tenant.infer("tiny", json!([x()])).expect_status(200));
    // What does not fit is the caller's fault.
    let wrong = json!([{ "name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2] }]);
    assert!(tenant.infer("tiny", wrong).status < 500);

    // A folder with an ONNX file and no code is built into the same.
    let about = "name = \"tiny\"\n[[assets]]\nname = \"model.onnx\"\npath = \"tiny.onnx\"\n";
    author.write("innkeeper.toml", about.as_bytes());
    author.run("build . --out built.bundle").ok();
    author.run("push built.bundle --version 2 --alias stable").ok();
    check_y(&tenant.infer("tiny", json!([x()])).expect_status(200));
}

/// Written by Keras, with what it answers, by `runtime/formats/fixtures/make_keras.py`.
fn keras(name: &str) -> Vec<u8> {
    std::fs::read(root().join("runtime/formats/fixtures/keras").join(name)).unwrap()
}

#[test]
fn keras_models_are_served_and_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let tenant = server.tenant("acme");
    let author = Shell::new(folder.path()).with(&tenant);
    let golden = innkeeper_tensor::Buffer::from_vec(keras("mlp.safetensors"));
    let golden = innkeeper_formats::safetensors::tensors(&golden).unwrap();
    let values = |name: &str| golden[name].elements::<f32>().unwrap().into_owned();
    let (x, wanted) = (values("input:input_layer"), values("output:dense_2"));
    for (file, name) in [("mlp.h5", "old"), ("mlp.keras", "new")] {
        author.write(file, &keras(file));
        let made = author.run(&format!("import {file} --name {name}")).ok();
        for text in ["input input_layer FP32 [-1,1000]", "output dense_2 FP32 [-1,10]"] {
            assert!(made.contains(text), "wanted {text:?} in {made}");
        }
        author.run(&format!("push {name}.bundle --alias stable")).ok();
        let input =
            json!({ "name": "input_layer", "datatype": "FP32", "shape": [4, 1000], "data": x });
        let answer = tenant.infer(name, json!([input])).expect_status(200).json();
        let got = answer["outputs"][0]["data"].as_array().unwrap();
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!((got.as_f64().unwrap() - f64::from(*wanted)).abs() <= 1e-5, "{got} {wanted}");
        }
    }

    author.run("export new.bundle --to keras --out again.keras").ok();
    author.run("export new.bundle --to onnx --out new.onnx").ok();
    author.run("export new.bundle --to safetensors --out new.safetensors").ok();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let again = innkeeper_formats::keras::read(&read("again.keras")).unwrap();
    assert_eq!(again.onnx, read("new.onnx"));
    let weights = innkeeper_tensor::Buffer::from_vec(read("new.safetensors"));
    let weights = innkeeper_formats::safetensors::tensors(&weights).unwrap();
    assert_eq!(weights.into_iter().collect::<Vec<_>>(), again.weights);

    author.write("cut.h5", &keras("mlp.h5")[..5000]);
    author.run("import cut.h5").fails(1, &["cut.h5 cannot be served", "cut off"]);
    author.write("tiny.onnx", &file("tiny.onnx"));
    author.run("import tiny.onnx").ok();
    author.run("export tiny.bundle --to keras --out x").fails(1, &["no model of Keras's"]);
    author.run("export tiny.bundle --to safetensors --out x").fails(1, &["no asset whose name"]);
}

#[test]
fn what_cannot_be_run_is_refused_when_it_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let author = Shell::new(folder.path());
    author.write("unknown.onnx", &file("unknown.onnx"));
    author.write("cut.onnx", &file("tiny.onnx")[..200]);
    let place = ["Enlarge", "magnify", "opset 3"];
    author.run("import unknown.onnx").fails(1, &place);
    author.run("import cut.onnx").fails(1, &["cut.onnx cannot be served"]);
    author.run("import missing.onnx").fails(1, &["missing.onnx"]);

    let server = Server::start();
    let tenant = server.tenant("acme");
    let component = &guest("plugins/add-one").component;
    let bundle = pack(component, "name = \"m\"\n", &[("x.onnx", &file("unknown.onnx"))]);
    let refused = tenant.publish("m", "1", &bundle).expect_status(422);
    let error = refused.error();
    assert!(place.iter().all(|text| error.contains(text)), "{error}");
    assert_eq!(tenant.get("/v2/models/m").status, 404);
    let device = pack(component, "name = \"m\"\ndevice = \"cuda:7\"\n", &[]);
    let error = tenant.publish("m", "1", &device).expect_status(422).error();
    assert!(error.contains("cuda:7") && error.contains("cpu"), "{error}");
}

fn tell(tenant: &Client, mode: &str) -> Answer {
    let mode = json!({ "name": "MODE", "datatype": "BYTES", "shape": [1], "data": [mode] });
    tenant.infer("networks", json!([mode, x()]))
}

fn text(answer: &Answer) -> String {
    let answer = answer.json();
    let outputs = answer["outputs"].as_array().unwrap();
    let text = outputs.iter().find(|output| output["name"] == "TEXT").unwrap();
    text["data"].to_string()
}

#[test]
fn guests_run_networks_by_every_interface() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let networks = guest("tests/guests/networks");
    tenant.publish("networks", "1", &networks.bundle).expect_status(201);
    for mode in ["asset", "bytes", "nn-load", "nn-name"] {
        let answer = tell(&tenant, mode);
        assert_eq!(answer.status, 200, "{mode}: {}", answer.text());
        check_y(&answer);
    }
    let described = text(&tell(&tenant, "described").expect_status(200));
    for fact in ["X FP32 Some([-1, 3])", "Y FP32 Some([-1, 2])", "opset 17"] {
        assert!(described.contains(fact), "{described}");
    }
    let told: [(&str, &str, &[&str]); 8] = [
        ("nn-missing", "NotFound", &["other.onnx", "tiny.onnx"]),
        ("nn-path", "NotFound", &["/etc/passwd"]),
        ("nn-plain", "InvalidArgument", &["plain.txt", ".onnx"]),
        ("nn-gpu", "UnsupportedOperation", &["gpu", "cpu"]),
        ("nn-encoding", "InvalidEncoding", &["onnx"]),
        ("nn-nothing", "InvalidEncoding", &["ONNX"]),
        ("nn-unfit", "InvalidArgument", &["24 bytes", "got 7"]),
        ("nn-rank", "InvalidArgument", &["X"]),
    ];
    for (mode, code, words) in told {
        let text = text(&tell(&tenant, mode).expect_status(200));
        assert!(text.contains(code), "{mode}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{mode}: {text}");
    }
    let error = tell(&tenant, "wrong-name").expect_status(422).error();
    assert!(error.contains("\"X\"") || error.contains("\"Z\""), "{error}");
    tell(&tenant, "no-onnx").expect_status(422);
    // What a guest brings counts against it, and is given back.
    let limits = json!({ "tensor_bytes_max": 1 << 20 });
    server.admin().put("/api/v1/tenants/acme/limits", &limits).expect_status(200);
    let error = tell(&tenant, "graphs").error();
    assert!(error.contains("tensor_bytes_max") || error.contains("handles_max"), "{error}");
    check_y(&tell(&tenant, "asset").expect_status(200));
    let usage = tenant.get("/api/v1/tenants/acme/usage").expect_status(200).json();
    assert_eq!(usage["usage"]["tensor_bytes"], 0, "{usage}");
    let kept = usage["usage"]["asset_memory_bytes"].as_u64().unwrap();
    assert!(kept >= networks.bundle.len() as u64 / 1_000 && kept < 100_000, "{usage}");
}
