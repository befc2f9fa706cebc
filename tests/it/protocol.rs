//! The Open Inference Protocol v2 over REST.

mod answers;
mod binary;
mod coding;
mod json;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, guest, pack, root};

/// The models of `plugins/`, published for the tenant acme on a server that the tests here share.
pub struct World {
    /// The server.
    pub server: Server,
    /// A client with a key of acme's.
    pub acme: Client,
    /// A client with a key of a tenant that acme shares `identity` with.
    pub friend: Client,
}

/// The world, made for the first test that wants it and ended with the last.
pub fn world() -> Arc<World> {
    static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(world) = shared.upgrade() {
        return world;
    }
    let world = Arc::new(World::new());
    *shared = Arc::downgrade(&world);
    world
}

impl World {
    fn new() -> World {
        let server = Server::start();
        let acme = server.tenant("acme");
        for model in ["identity", "add-one", "digits", "mlp"] {
            let bundle = &guest(&format!("plugins/{model}")).bundle;
            acme.publish(model, "1", bundle).expect_status(201);
        }
        let embedding = &guest("tests/guests/embedding").bundle;
        acme.publish("embedding", "1", embedding).expect_status(201);
        let counting = pack(
            &guest("tests/guests/batching").component,
            "name = \"counting\"\n[sequences]\nidle_ms = 60000\n",
            &[],
        );
        acme.publish("counting", "1", &counting).expect_status(201);
        for model in ["identity", "add-one"] {
            let stable = format!("/api/v1/models/{model}/aliases/stable");
            acme.put(&stable, &json!({ "version": "1" })).expect_status(200);
        }
        let friend = server.tenant("friend");
        let with = json!({ "with": ["friend"] });
        acme.put("/api/v1/models/identity/sharing", &with).expect_status(200);
        World { server, acme, friend }
    }
}

/// A row for `add-one`.
fn row(from: f32) -> Value {
    let data: Vec<f32> = (0..16u8).map(|n| from + f32::from(n)).collect();
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": data }])
}

/// The protocol's error: a status, and a text under `error` with nothing beside it.
#[track_caller]
fn expect_error(answer: Answer, status: u16, text: &str) {
    let answer = answer.expect_status(status);
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
    let error = body["error"].as_str().unwrap_or_else(|| panic!("no string: {body}"));
    assert!(error.contains(text), "wanted {text:?} in {error:?}");
}

/// The elements of an `.npy` file: what follows its header, whose length is a u16 at 8.
pub fn npy(path: &str) -> Vec<u8> {
    let file = std::fs::read(root().join(path)).unwrap();
    assert!(file.starts_with(b"\x93NUMPY\x01\x00"), "{path}");
    file[10 + usize::from(u16::from_le_bytes([file[8], file[9]]))..].to_vec()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn every_route_answers_as_the_protocol_has_it() {
    let world = world();
    let spec = |name: &str, datatype: &str, shape: &[i64]| json!({ "name": name, "datatype": datatype, "shape": shape });
    let add_one = json!({
        "name": "add-one", "versions": ["1"], "platform": "wasm_component",
        "inputs": [spec("INPUT0", "FP32", &[-1, 16])],
        "outputs": [spec("OUTPUT0", "FP32", &[-1, 16])],
    });
    let digits = json!({
        "name": "digits", "versions": ["1"], "platform": "wasm_component",
        "inputs": [spec("INPUT0", "FP32", &[-1, 64])],
        "outputs": [spec("PROBABILITIES", "FP32", &[-1, 10]), spec("LABEL", "INT64", &[-1])],
        "properties": { "task": "image-classification" },
    });
    let cases = [
        ("/v2/health/live", json!({ "live": true })),
        ("/v2/health/ready", json!({ "ready": true })),
        (
            "/v2/models",
            json!({ "models": ["add-one", "counting", "digits", "embedding", "identity", "mlp"] }),
        ),
        ("/v2/models/add-one", add_one.clone()),
        ("/v2/models/add-one/versions/1", add_one),
        ("/v2/models/digits", digits),
        ("/v2/models/mlp/ready", json!({ "name": "mlp", "ready": true })),
        ("/v2/models/mlp/versions/1/ready", json!({ "name": "mlp", "ready": true })),
    ];
    for (path, wanted) in cases {
        for base in ["", "/t/acme"] {
            let answer = world.acme.get(&format!("{base}{path}")).expect_status(200);
            assert_eq!(answer.header("content-type"), Some("application/json"), "{base}{path}");
            assert!(answer.header("x-request-id").is_some(), "{base}{path}");
            assert_eq!(answer.json(), wanted, "{base}{path}");
            let head = world.acme.send("HEAD", &format!("{base}{path}"), &[], b"");
            assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {base}{path}");
        }
    }
    for path in ["/v2/health/live", "/v2/health/ready"] {
        world.server.client("").get(path).expect_status(200);
    }
    for base in ["/v2/models/add-one", "/v2/models/add-one/versions/1"] {
        for owner in ["", "/t/acme"] {
            let infer = format!("{owner}{base}/infer");
            let answer = world.acme.post(&infer, &json!({ "inputs": row(0.0) })).expect_status(200);
            assert_eq!(answer.json()["outputs"][0]["data"][15], 16.0, "{infer}");
        }
    }
}

#[test]
fn the_server_says_what_it_serves() {
    let world = world();
    for path in ["/v2", "/t/acme/v2"] {
        let said = world.acme.get(path).expect_status(200).json();
        assert_eq!(said["name"], "innkeeper");
        assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
        let extensions: Vec<&str> = said["extensions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert!(extensions.contains(&"binary_tensor_data"), "{extensions:?}");
        // Nobody far away has memory to share, and what is listed must be served.
        assert!(!extensions.iter().any(|name| name.contains("shared_memory")), "{extensions:?}");
    }
}

#[test]
fn metadata_shows_every_dtype_of_any_shape() {
    let world = world();
    let identity = world.acme.get("/v2/models/identity").expect_status(200).json();
    for (side, prefix) in [("inputs", "INPUT"), ("outputs", "OUTPUT")] {
        for dtype in binary::DTYPES {
            let tensors = identity[side].as_array().unwrap();
            let name = format!("{prefix}_{dtype}");
            let found = tensors.iter().find(|tensor| tensor["name"] == name.as_str());
            let found = found.unwrap_or_else(|| panic!("no {name} in {identity}"));
            assert_eq!(found["datatype"], *dtype);
            assert!(found["shape"].is_array(), "{found}");
        }
        assert_eq!(identity[side].as_array().unwrap().len(), binary::DTYPES.len());
    }
}

#[test]
fn what_is_not_there_is_told_in_the_protocols_form() {
    let world = world();
    let body = json!({ "inputs": row(0.0) });
    let absent = [
        "/v2/models/absent",
        "/v2/models/ADD-ONE",
        "/v2/models/add-one/versions/2",
        "/v2/models/add-one/versions/canary",
        "/t/nobody/v2/models/add-one",
    ];
    for path in absent {
        expect_error(world.acme.get(path), 404, "");
        expect_error(world.acme.get(&format!("{path}/ready")), 404, "");
        expect_error(world.acme.post(&format!("{path}/infer"), &body), 404, "");
    }
    for path in ["/v2/nothing", "/v2/models/add-one/explode", "/t/acme/v2/x", "/v2/models/add-one/"]
    {
        expect_error(world.acme.get(path), 404, "nothing at this path");
    }
    let wrong = [
        ("POST", "/v2", "GET, HEAD"),
        ("DELETE", "/v2/models/add-one", "GET, HEAD"),
        ("PUT", "/v2/models/add-one/ready", "GET, HEAD"),
        ("GET", "/v2/models/add-one/infer", "POST"),
        ("GET", "/t/acme/v2/models/add-one/versions/1/infer", "POST"),
    ];
    for (method, path, allowed) in wrong {
        let answer = world.acme.send(method, path, &[], b"");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        expect_error(answer, 405, allowed);
    }
    expect_error(world.server.client("").get("/v2"), 401, "key");
    expect_error(world.server.client("ink_wrong_key").get("/v2/models/add-one"), 401, "key");
}

#[test]
fn the_version_slot_takes_a_version_or_an_alias() {
    let world = world();
    let other = world.server.tenant("versions");
    let bundle = &guest("plugins/add-one").bundle;
    for version in ["1", "v10", "2.0.0-rc.1"] {
        other.publish("m", version, bundle).expect_status(201);
    }
    let set = |alias: &str, version: &str| {
        let path = format!("/api/v1/models/m/aliases/{alias}");
        other.put(&path, &json!({ "version": version })).expect_status(200);
    };
    let served = |slot: &str| {
        let path = format!("/v2/models/m{slot}/infer");
        let answer = other.post(&path, &json!({ "inputs": row(0.0) })).expect_status(200).json();
        assert_eq!(answer["model_name"], "m");
        answer["model_version"].as_str().unwrap().to_owned()
    };
    assert_eq!(served(""), "2.0.0-rc.1", "without an alias stable the newest serves");
    for version in ["1", "v10", "2.0.0-rc.1"] {
        assert_eq!(served(&format!("/versions/{version}")), version);
    }
    set("canary", "v10");
    assert_eq!(served(""), "2.0.0-rc.1");
    assert_eq!(served("/versions/canary"), "v10");
    set("stable", "1");
    assert_eq!((served(""), served("/versions/stable")), ("1".into(), "1".into()));
    set("stable", "v10");
    assert_eq!((served(""), served("/versions/stable")), ("v10".into(), "v10".into()));
    for slot in ["STABLE", "V10", "3"] {
        expect_error(other.get(&format!("/v2/models/m/versions/{slot}")), 404, "");
    }
    let metadata = other.get("/v2/models/m/versions/canary").expect_status(200).json();
    assert_eq!(metadata["versions"], json!(["1", "v10", "2.0.0-rc.1"]));
    other.delete("/api/v1/models/m/aliases/stable");
    assert_eq!(served(""), "2.0.0-rc.1");
}

#[test]
fn digits_are_read_right_over_the_wire() {
    let world = world();
    let pixels = npy("plugins/digits/samples/held_out_pixels.npy");
    let labels = npy("plugins/digits/samples/held_out_labels.npy");
    assert_eq!(pixels.len(), labels.len() * 64);
    let bytes: Vec<u8> = pixels.iter().flat_map(|&pixel| f32::from(pixel).to_le_bytes()).collect();
    let head = json!({
        "inputs": [{ "name": "INPUT0", "datatype": "FP32", "shape": [labels.len(), 64],
            "parameters": { "binary_data_size": bytes.len() } }],
        "outputs": [{ "name": "LABEL" }],
    });
    let answer = binary::call(&world.acme, "/v2/models/digits/infer", &head, &bytes);
    let answer = answer.expect_status(200).json();
    let said = answer["outputs"][0]["data"].as_array().unwrap();
    let pairs = said.iter().zip(&labels);
    let right = pairs.filter(|(said, label)| said.as_u64() == Some(u64::from(**label))).count();
    let accuracy = right as f64 / labels.len() as f64;
    assert!(accuracy >= 0.95, "{right} of {} are right", labels.len());

    // One picture in JSON gets the label that it gets among all the others.
    let first: Vec<f32> = pixels[..64].iter().map(|&pixel| f32::from(pixel)).collect();
    let one = json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": [first] }]);
    let alone = world.acme.infer("digits", one).expect_status(200).json();
    assert_eq!(alone["outputs"][0]["shape"], json!([1, 10]));
    assert_eq!(alone["outputs"][1]["data"], json!([said[0]]));
}

#[test]
fn the_mlp_answers_as_keras_does() {
    let world = world();
    let input = npy("plugins/mlp/samples/input_4x1000.npy");
    let wanted = floats(&npy("plugins/mlp/samples/expected_4x10.npy"));
    let check = |kind: &str, got: &[f32]| {
        assert_eq!(got.len(), wanted.len(), "{kind}");
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!((got - wanted).abs() <= 1e-5, "{kind}: {got} is not {wanted}");
        }
    };
    let raw = &[("inference-header-content-length", "0")];
    let answer = world.acme.send("POST", "/v2/models/mlp/infer", raw, &input);
    let (_, blobs) = binary::taken_apart(&answer.expect_status(200));
    check("raw", &floats(&blobs[0].1));

    let data = floats(&input);
    let json = json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [4, 1000], "data": data }]);
    let answer = world.acme.infer("mlp", json).expect_status(200).json();
    assert_eq!(answer["outputs"][0]["shape"], json!([4, 10]));
    let got = answer["outputs"][0]["data"].as_array().unwrap();
    let got: Vec<f32> = got.iter().map(|value| value.as_f64().unwrap() as f32).collect();
    check("json", &got);
}
