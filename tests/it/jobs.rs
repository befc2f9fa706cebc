//! Jobs: from data to a version that is served, through pauses, kills and bad input.

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::harness::{Client, Server, eventually, guest};

/// A dataset of this text.
fn dataset(client: &Client, name: &str, format: &str, text: &str) {
    let path = format!("/api/v1/datasets/{name}?format={format}");
    client.send("POST", &path, &[], text.as_bytes()).expect_status(201);
}

/// Twenty rows of 1 to 20, whose mean is 10.5.
fn numbers() -> String {
    let rows = (1..=20).map(|i| format!("{i}\n"));
    format!("x\n{}", rows.collect::<String>())
}

/// A server with the guest `learning` as a model, and the numbers as data.
fn learning(config: &str) -> (Server, Client) {
    let server = Server::with_config(config);
    let client = server.tenant("acme");
    client.publish("m", "1", &guest("tests/guests/learning").bundle).expect_status(201);
    dataset(&client, "numbers", "csv", &numbers());
    (server, client)
}

fn request(settings: Value) -> Value {
    json!({ "kind": "train", "model": "m", "version": "1", "dataset": "numbers", "hyperparameters": settings })
}

fn submit(client: &Client, request: &Value) -> String {
    let job = client.post("/api/v1/jobs", request).expect_status(201).json();
    job["id"].as_str().unwrap().to_owned()
}

fn job(client: &Client, id: &str) -> Value {
    client.get(&format!("/api/v1/jobs/{id}")).expect_status(200).json()
}

fn state(client: &Client, id: &str) -> String {
    job(client, id)["state"].as_str().unwrap().to_owned()
}

#[track_caller]
fn ended(client: &Client, id: &str, wanted: &str) -> Value {
    eventually(&format!("{id} is {wanted}"), || {
        ["succeeded", "failed", "cancelled"].contains(&state(client, id).as_str())
    });
    let job = job(client, id);
    assert_eq!(job["state"], wanted, "{job}");
    job
}

/// What a version's file of this name hashes to.
fn asset(client: &Client, model: &str, version: &str, name: &str) -> String {
    let path = format!("/api/v1/models/{model}/versions/{version}");
    let version = client.get(&path).expect_status(200).json();
    let assets = version["manifest"]["assets"].as_array().unwrap().clone();
    let asset = assets.iter().find(|asset| asset["name"] == name).unwrap();
    asset["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_job_makes_a_version_that_says_how_it_came_about() {
    let (_server, client) = learning("");
    let mut wish = request(json!({ "epochs": 2, "batch_size": 4 }));
    wish["validation_fraction"] = json!(0.25);
    wish["seed"] = json!(7);
    wish["alias"] = json!({ "name": "good", "metric": "val_loss", "at_least": -1e9 });
    let id = submit(&client, &wish);
    let job = ended(&client, &id, "succeeded");
    assert_eq!(job["version"], "2");
    assert_eq!(job["progress"]["step"], 8, "15 rows by 4, twice");
    assert_eq!(job["progress"]["history"].as_array().unwrap().len(), 2);

    let version = client.get("/api/v1/models/m/versions/2").expect_status(200).json();
    let lineage = &version["manifest"]["lineage"];
    let parent = client.get("/api/v1/models/m/versions/1").json()["digest"].clone();
    assert_eq!(lineage["kind"], "train");
    assert_eq!(lineage["parent"], parent);
    assert_eq!(lineage["seed"], 7);
    assert_eq!(lineage["dataset"]["name"], "numbers");
    assert_eq!(lineage["hyperparameters"]["epochs"], 2);
    assert_eq!(version["aliases"], json!(["good"]));

    // The mean of the rows that were learnt from: with the five others it is 10.5.
    let x = json!([{ "name": "X", "datatype": "FP32", "shape": [1], "data": [0] }]);
    let answer = client.infer("m/versions/good", x).expect_status(200).json();
    let mean = answer["outputs"][0]["data"][0].as_f64().unwrap();
    let held_out = lineage["metrics"]["val_loss"].as_f64().unwrap();
    assert!((mean * 15.0 + held_out * 5.0 - 210.0).abs() < 1e-3, "{mean} and {held_out}");

    let events = client.get(&format!("/api/v1/jobs/{id}/events")).json();
    let kinds: Vec<&str> =
        events["events"].as_array().unwrap().iter().filter_map(|e| e["kind"].as_str()).collect();
    assert_eq!(kinds, ["started", "epoch", "epoch", "progress", "succeeded"]);
    let stream = client.send(
        "GET",
        &format!("/api/v1/jobs/{id}/events"),
        &[("accept", "text/event-stream")],
        b"",
    );
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.text().matches("event: ").count(), 5);
    let rest = client.send(
        "GET",
        &format!("/api/v1/jobs/{id}/events"),
        &[("accept", "text/event-stream"), ("last-event-id", "4")],
        b"",
    );
    assert!(rest.text().starts_with("id: 5\nevent: succeeded\ndata: {"), "{}", rest.text());
}

#[test]
fn an_alias_waits_for_a_bar() {
    let (_server, client) = learning("");
    let mut wish = request(json!({}));
    wish["alias"] = json!({ "name": "good", "metric": "val_loss", "at_most": -1.0 });
    let job = ended(&client, &submit(&client, &wish), "succeeded");
    assert_eq!(job["result"]["alias"], Value::Null);
    assert!(job["result"]["no_alias"].as_str().unwrap().contains("above -1"), "{job}");
    client.get("/api/v1/models/m/aliases/good").expect_status(404);
    client.get("/api/v1/models/m/versions/2").expect_status(200);
}

#[test]
fn whatever_a_trainer_does_its_job_fails_and_nothing_else_changes() {
    let (_server, client) = learning(
        "[limits]\nstep_ms_max = 1000\ncheckpoint_bytes_max = 1048576\ntensor_bytes_max = 33554432\n",
    );
    let cases = [
        ("refuse", "refused", "I do not learn from that"),
        ("begin trap", "trainer_trap", "trapped"),
        ("no epochs", "trainer", "plans epochs of 0"),
        ("trap", "trainer_trap", "trapped"),
        ("loop", "deadline", "step_ms_max of 1000"),
        ("nan", "diverged", "the loss is NaN at step 4 of epoch 1"),
        ("memory", "limit_exceeded", "tensor_bytes_max"),
        ("save too much", "limit_exceeded", "output_bytes_max of 1048576"),
        ("finish trap", "trainer_trap", "trapped"),
        ("bad name", "trainer", "../mean.safetensors"),
        ("bad weights", "not_published", "mean.safetensors"),
    ];
    for (how, code, text) in cases {
        let mut wish = request(json!({ "how": how }));
        wish["checkpoint_every_ms"] = json!(if how == "save too much" { 0 } else { 60_000 });
        wish["into"] = json!({ "version": "x" });
        let job = ended(&client, &submit(&client, &wish), "failed");
        assert_eq!(job["error"]["code"], code, "{how}: {job}");
        assert!(job["error"]["message"].as_str().unwrap().contains(text), "{how}: {job}");
        client.get("/api/v1/models/m/versions/x").expect_status(404);
    }
    let mut wish = request(json!({}));
    wish["into"] = json!({ "version": "x" });
    ended(&client, &submit(&client, &wish), "succeeded");
}

#[test]
fn what_can_be_known_to_be_wrong_is_refused_at_once() {
    let (server, client) = learning("");
    client.publish("add", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let check = |wish: Value, status: u16, text: &str| {
        let answer = client.post("/api/v1/jobs", &wish);
        assert_eq!(answer.status, status, "{wish}: {}", answer.text());
        assert!(answer.error().contains(text), "{wish}: {}", answer.text());
    };
    let with = |key: &str, value: Value| {
        let mut wish = request(json!({}));
        wish[key] = value;
        wish
    };
    check(json!({ "kind": "dance" }), 400, "unknown variant");
    check(json!([]), 400, "a JSON object");
    check(with("model", json!("nobody")), 422, "nobody");
    check(with("model", json!("add")), 422, "has no trainer");
    check(with("version", json!("7")), 422, "7");
    check(with("dataset", json!("nothing")), 404, "dataset nothing");
    check(with("pace", json!(1)), 400, "unknown field");
    check(with("seed", json!(-1)), 400, "invalid value");
    check(with("validation_fraction", json!(1)), 422, "validation_fraction");
    check(with("into", json!({ "version": "1" })), 409, "taken");
    check(with("alias", json!({ "name": "a", "metric": "loss" })), 422, "at_least or");
    check(request(json!({ "pace": 1 })), 422, "wanted one of how, epochs");
    check(request(json!({ "epochs": 0 })), 422, "a whole number from 1 to 1000000, got 0");
    // Another tenant has neither the model nor the data.
    let other = server.tenant("beta");
    assert_eq!(other.post("/api/v1/jobs", &request(json!({}))).status, 422);
    let own = submit(&client, &request(json!({})));
    ended(&client, &own, "succeeded");
    other.get(&format!("/api/v1/jobs/{own}")).expect_status(404);
    other.get(&format!("/api/v1/jobs/{own}/events")).expect_status(404);
    other.post(&format!("/api/v1/jobs/{own}/cancel"), &json!({})).expect_status(404);
    other.get("/api/v1/datasets/numbers").expect_status(404);
    // A key that may only predict.
    let reader = server.key("acme", &["predict"]);
    reader.post("/api/v1/jobs", &request(json!({}))).expect_status(403);
    reader.get("/api/v1/jobs").expect_status(403);
}

#[test]
fn data_that_do_not_fit_are_told_with_their_place() {
    let (_server, client) = learning("");
    dataset(&client, "odd", "csv", "x,y,t\n1,0.5,a\n2,nan,b\n3,2,a\n300,2,a\n");
    let check = |column: &str, dtype: &str, wanted: &str| {
        let mut wish = request(json!({ "column": column, "dtype": dtype }));
        wish["dataset"] = json!("odd");
        wish["validation_fraction"] = json!(0);
        wish["into"] = json!({ "version": "odd" });
        let job = ended(&client, &submit(&client, &wish), "failed");
        let message = job["error"]["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{column} as {dtype}: {message}");
    };
    check("z", "FP32", "column \"z\", which the data lacks");
    check("y", "FP32", "row 2 of column \"y\" is NaN; a finite number is wanted");
    check("y", "INT64", "row 1 of column \"y\" is 0.5; a number that INT64 has is wanted");
    check("x", "UINT8", "row 4 of column \"x\" is 300; a number that UINT8 has is wanted");
    check("t", "FP32", "text is given as BYTES");
    dataset(&client, "one", "csv", "x\n1\n");
    let mut wish = request(json!({}));
    wish["dataset"] = json!("one");
    wish["validation_fraction"] = json!(0.9);
    let job = ended(&client, &submit(&client, &wish), "failed");
    assert!(job["error"]["message"].as_str().unwrap().contains("none is left to learn from"));
}

#[test]
fn datasets_never_change_and_say_what_is_wrong_with_a_file() {
    let (server, client) = learning("[limits]\nupload_bytes_max = 100000\ndatasets_max = 2\n");
    let send = |name: &str, query: &str, body: &str| {
        client.send("POST", &format!("/api/v1/datasets/{name}?{query}"), &[], body.as_bytes())
    };
    send("numbers", "format=csv", &numbers()).expect_status(200);
    assert!(send("numbers", "format=csv", "x\n1\n").expect_status(409).error().contains("another"));
    assert!(send("n", "format=csv", "a,b\n1,2\n1\n").expect_status(422).error().contains("line 3"));
    assert!(send("n", "format=xls", "").expect_status(422).error().contains("format must be csv"));
    assert!(send("n", "", "x\n1\n").expect_status(400).error().contains("say how to read it"));
    assert!(
        send("n", "format=csv&column=x", "x\n1\n").expect_status(400).error().contains("age:FP32")
    );
    assert!(send("-", "format=csv", "x\n1\n").expect_status(400).error().contains("dataset name"));
    let long = "x\n".to_owned() + &"1\n".repeat(60_000);
    send("n", "format=csv", &long).expect_status(413);
    send("two", "format=csv&column=x:FP64", "x\n1\n").expect_status(201);
    assert!(
        send("three", "format=csv", "x\n1\n").expect_status(507).error().contains("datasets_max")
    );
    let known = client.get("/api/v1/datasets/two").json();
    assert_eq!(known["columns"][0]["datatype"], "FP64");
    assert_eq!(known["columns"][0]["statistics"], json!([1.0, 1.0, 1.0, 0.0]));
    client.delete("/api/v1/datasets/two").expect_status(204);
    client.get("/api/v1/datasets/two").expect_status(404);
    let names = client.get("/api/v1/datasets").json()["datasets"].clone();
    assert_eq!(names.as_array().unwrap().len(), 1);
    let acts = server.admin().get("/api/v1/audit?tenant=acme").json();
    let acts: Vec<&str> =
        acts["entries"].as_array().unwrap().iter().filter_map(|e| e["act"].as_str()).collect();
    assert!(acts.contains(&"dataset.delete") && acts.contains(&"dataset.create"), "{acts:?}");
}

#[test]
fn a_dataset_stays_while_a_job_needs_it() {
    let (_server, client) = learning("");
    let id = submit(&client, &request(json!({ "epochs": 1_000_000 })));
    let refused = client.delete("/api/v1/datasets/numbers").expect_status(409).error();
    assert!(refused.contains(&id) && refused.contains("has not ended"), "{refused}");
    client.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).expect_status(202);
    ended(&client, &id, "cancelled");
    client.delete("/api/v1/datasets/numbers").expect_status(204);
    // Its name is free for other rows.
    dataset(&client, "numbers", "csv", "x\n1\n2\n");
}

#[test]
fn parquet_files_become_datasets() {
    let (_server, client) = learning("");
    let send = |name: &str, body: &[u8]| {
        client.send("POST", &format!("/api/v1/datasets/{name}?format=parquet"), &[], body)
    };
    let fixtures = super::harness::root().join("runtime/formats/src/dataset/fixtures");
    let file = |name: &str| std::fs::read(fixtures.join(name)).unwrap();
    let facts = send("table", &file("table-zstd.parquet")).expect_status(201).json();
    assert_eq!((&facts["rows"], &facts["columns"][2]["datatype"]), (&json!(3), &json!("INT64")));
    let refused = send("n", &file("refused-null.parquet")).expect_status(422).error();
    assert!(refused.contains("line 2, column 1 (\"a\"): wanted a value in every row"), "{refused}");
    let whole = file("table-snappy.parquet");
    // Whatever is wrong with a byte, the server answers, and goes on.
    for at in (0..whole.len()).step_by(97) {
        let mut broken = whole.clone();
        broken[at] ^= 0xff;
        let answer = send(&format!("broken-{at}"), &broken);
        assert!([201, 422].contains(&answer.status), "{at}: {}", answer.text());
    }
    client.get("/api/v1/datasets/table").expect_status(200);
}

#[test]
fn a_small_file_of_too_much_breaks_nothing_but_its_own_process() {
    let (_server, client) = learning("[deploy]\nimport_memory_bytes_max = 402653184\n");
    // Half a GiB of one letter in one cell, in some KB.
    let schema = "message m { required binary t (UTF8); }";
    let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let settings = WriterProperties::builder().set_compression(zstd).set_dictionary_enabled(false);
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, settings.build().into()).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let mut column = rows.next_column().unwrap().unwrap();
    let cell = ByteArray::from(vec![b'a'; 512 << 20]);
    column.typed::<ByteArrayType>().write_batch(&[cell], None, None).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
    assert!(file.len() < 1 << 20, "{}", file.len());
    let path = "/api/v1/datasets/much?format=parquet";
    let refused = client.send("POST", path, &[], &file).expect_status(422);
    assert!(refused.error().contains("import_memory_bytes_max of 402653184"), "{}", refused.text());
    dataset(&client, "few", "csv", "x\n1\n");
}

#[test]
fn jobs_rest_go_on_and_are_cancelled_at_every_stage() {
    let (_server, client) = learning("[deploy]\njobs_running_max = 1\n");
    let tell = |id: &str, act: &str| client.post(&format!("/api/v1/jobs/{id}/{act}"), &json!({}));
    let long = |version: &str| {
        let mut wish = request(json!({ "epochs": 1_000_000 }));
        wish["into"] = json!({ "version": version });
        submit(&client, &wish)
    };
    let first = long("a");
    eventually("it runs", || job(&client, &first)["progress"]["step"].as_u64() > Some(0));
    let waiting = long("b");
    assert_eq!(state(&client, &waiting), "queued", "one runs at once");
    // Two jobs for one name.
    let mut wish = request(json!({}));
    wish["into"] = json!({ "version": "b" });
    client.post("/api/v1/jobs", &wish).expect_status(409);

    tell(&waiting, "pause").expect_status(202);
    assert_eq!(state(&client, &waiting), "paused");
    tell(&waiting, "pause").expect_status(409);
    tell(&first, "resume").expect_status(409);
    tell(&first, "pause").expect_status(202);
    eventually("it rests", || state(&client, &first) == "paused");
    let rested = job(&client, &first)["progress"].clone();
    assert_eq!(rested["step"], rested["checkpoint_step"], "it rests where it is safe");
    tell(&first, "resume").expect_status(202);
    eventually("it goes on", || {
        job(&client, &first)["progress"]["step"].as_u64() > rested["step"].as_u64()
    });
    tell(&first, "cancel").expect_status(202);
    tell(&first, "cancel").expect_status(409);
    tell(&waiting, "cancel").expect_status(202);
    // The place of the cancelled job is free again.
    let third = long("a");
    eventually("the next one runs", || state(&client, &third) == "running");
    tell(&third, "cancel").expect_status(202);
    for id in [&first, &waiting, &third] {
        assert_eq!(state(&client, id), "cancelled");
    }
    for version in ["a", "b"] {
        client.get(&format!("/api/v1/models/m/versions/{version}")).expect_status(404);
    }
}

#[test]
fn a_job_outlives_kills_and_ends_as_if_there_were_none() {
    let (server, client) = learning("");
    let wish = |version: &str, every: u64| {
        let mut wish = request(json!({ "epochs": 60, "batch_size": 3 }));
        wish["seed"] = json!(5);
        wish["checkpoint_every_ms"] = json!(every);
        wish["into"] = json!({ "version": version });
        wish
    };
    ended(&client, &submit(&client, &wish("whole", 60_000)), "succeeded");
    let killed = submit(&client, &wish("killed", 0));
    eventually("it has a checkpoint", || {
        job(&client, &killed)["progress"]["checkpoint_step"].as_u64() > Some(0)
    });
    let data = server.data.clone();
    let folder = server.kill();
    let again = Server::on(&data, &[]);
    let client = again.client(&client.key);
    let job = ended(&client, &killed, "succeeded");
    assert_eq!(job["progress"]["history"].as_array().unwrap().len(), 60);
    let [whole, killed] =
        ["whole", "killed"].map(|version| asset(&client, "m", version, "mean.safetensors"));
    assert_eq!(whole, killed, "the same to the bit");
    let left = std::fs::read_dir(data.join("jobs")).unwrap().count();
    assert_eq!(left, 0, "nothing of a job stays");
    drop((again, folder));
}

#[test]
fn digits_are_learnt_to_97_of_100() {
    let server = Server::start();
    let client = server.tenant("acme");
    client.publish("mlp", "1", &guest("plugins/mlp").bundle).expect_status(201);
    let known = client.get("/api/v1/models/mlp/versions/1/hyperparameters").expect_status(200);
    assert!(known.text().contains("\"learning_rate\""));
    for (name, part) in [("seen", "seen"), ("unseen", "held_out")] {
        dataset(&client, name, "csv", &digits(part));
    }
    let train = |version: &str| {
        let wish = json!({
            "kind": "train", "model": "mlp", "dataset": "seen", "validation_dataset": "unseen",
            "hyperparameters": { "epochs": 30, "target": "digit" }, "seed": 1,
            "into": { "model": "digits", "version": version },
            "alias": { "name": "stable", "metric": "val_accuracy", "at_least": 0.97 },
        });
        ended(&client, &submit(&client, &wish), "succeeded")
    };
    let job = train("1");
    assert_eq!(job["result"]["alias"], "stable", "{}", job["result"]);
    let row = digits("held_out").lines().nth(1).unwrap().to_owned();
    let (label, pixels) = row.split_once(',').unwrap();
    let pixels: Vec<f64> = pixels.split(',').map(|pixel| pixel.parse().unwrap()).collect();
    let x = json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": pixels }]);
    let answer = client.infer("digits", x).expect_status(200).json();
    let chances: Vec<f64> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
    let best = (0..10).max_by(|&a, &b| chances[a].total_cmp(&chances[b])).unwrap();
    assert_eq!(best.to_string(), label);
    train("2");
    let [one, two] =
        ["1", "2"].map(|version| asset(&client, "digits", version, "weights.safetensors"));
    assert_eq!(one, two, "the same seed gives the same bits");
}

#[test]
fn digits_are_learnt_in_private_and_the_epsilon_is_opacuss() {
    let server = Server::start();
    let client = server.tenant("acme");
    client.publish("mlp", "1", &guest("plugins/mlp").bundle).expect_status(201);
    for (name, part) in [("seen", "seen"), ("unseen", "held_out")] {
        dataset(&client, name, "csv", &digits(part));
    }
    let wish = json!({
        "kind": "train", "model": "mlp", "dataset": "seen", "validation_dataset": "unseen",
        "hyperparameters": {
            "epochs": 6, "target": "digit", "learning_rate": 0.003,
            "dp_clip": 1.0, "dp_noise": 1.1, "dp_delta": 1e-5,
        },
        "into": { "model": "private" },
    });
    let job = ended(&client, &submit(&client, &wish), "succeeded");
    let metrics = &job["result"]["metrics"];
    // Opacus 1.6.0, accountants.analysis.rdp: q = 32/1437, 270 steps, orders 2 to 256.
    let epsilon = metrics["epsilon"].as_f64().unwrap();
    assert!((epsilon - 2.228_995_277_239_184).abs() < 1e-9, "{epsilon}");
    let accuracy = metrics["val_accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.8, "noise and clipping leave something to learn: {accuracy}");
}

/// The digits of the guest `trainer` as CSV, the digit before its pixels.
fn digits(part: &str) -> String {
    let path = super::harness::root().join("tests/guests/trainer/assets/digits.safetensors");
    let file = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let known: Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let bytes = |name: &str| {
        let of = &known[format!("{part}.{name}")];
        assert_eq!(of["dtype"], "U8", "{name}");
        let [start, end] = [0, 1].map(|i| of["data_offsets"][i].as_u64().unwrap() as usize);
        &file[8 + header..][start..end]
    };
    let names: Vec<String> = (0..64).map(|i| format!("p{i}")).collect();
    let mut csv = format!("digit,{}\n", names.join(","));
    for (label, pixels) in bytes("labels").iter().zip(bytes("pixels").chunks(64)) {
        let pixels: Vec<String> = pixels.iter().map(u8::to_string).collect();
        csv += &format!("{label},{}\n", pixels.join(","));
    }
    csv
}
