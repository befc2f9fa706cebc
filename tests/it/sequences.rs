//! Requests that belong together.

use std::thread;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, eventually, guest, pack};

const INFER: &str = "/v2/models/s/infer";

/// A model that counts the calls of its instance, and keeps sequences.
fn bundle(idle_ms: u64) -> Vec<u8> {
    let toml = format!("name = \"counting\"\n[sequences]\nidle_ms = {idle_ms}\n");
    pack(&guest("tests/guests/batching").component, &toml, &[])
}

fn ask(client: &Client, path: &str, value: i64, parameters: Value) -> Answer {
    let inputs = json!([{ "name": "X", "datatype": "INT64", "shape": [1, 1], "data": [value] }]);
    client.post(path, &json!({ "inputs": inputs, "parameters": parameters }))
}

fn start(id: impl Into<Value>) -> Value {
    json!({ "sequence_id": id.into(), "sequence_start": true })
}

fn next(id: impl Into<Value>) -> Value {
    json!({ "sequence_id": id.into() })
}

fn end(id: impl Into<Value>) -> Value {
    json!({ "sequence_id": id.into(), "sequence_end": true })
}

/// Which call of the instance the answer came from.
#[track_caller]
fn call(answer: Answer) -> i64 {
    let answer = answer.expect_status(200).json();
    let outputs = answer["outputs"].as_array().unwrap();
    let told = outputs.iter().find(|output| output["name"] == "TOLD").unwrap();
    told["data"][1].as_i64().unwrap()
}

#[track_caller]
fn refused(answer: Answer, text: &str) {
    let error = answer.expect_status(400).error();
    assert!(error.contains(text), "{error}");
}

#[test]
fn a_sequence_is_answered_by_one_instance() {
    let server = Server::start();
    let a = server.tenant("a");
    a.publish("s", "1", &bundle(60_000)).expect_status(201);
    refused(ask(&a, INFER, 1, json!({})), "keeps sequences");
    refused(ask(&a, INFER, 1, json!({ "sequence_start": true })), "keeps sequences");
    refused(ask(&a, INFER, 1, next(7)), "no sequence 7 has begun");
    assert_eq!(call(ask(&a, INFER, 1, start(7))), 1);
    assert_eq!(call(ask(&a, INFER, 1, next(7))), 2);
    // A text and a number are two names, and each sequence has an instance to itself.
    refused(ask(&a, INFER, 1, next("7")), "no sequence \"7\" has begun");
    assert_eq!(call(ask(&a, INFER, 1, start("7"))), 1);
    assert_eq!(call(ask(&a, INFER, 1, next(7))), 3);
    assert_eq!(call(ask(&a, INFER, 1, next("7"))), 2);
    // One that starts anew forgets.
    assert_eq!(call(ask(&a, INFER, 1, start(7))), 1);
    assert_eq!(call(ask(&a, INFER, 1, end(7))), 2);
    refused(ask(&a, INFER, 1, next(7)), "has begun");
    // Start and end at once.
    let both = json!({ "sequence_id": 9, "sequence_start": true, "sequence_end": true });
    assert_eq!(call(ask(&a, INFER, 1, both)), 1);
    refused(ask(&a, INFER, 1, next(9)), "has begun");
    // A refusal by the model ends nothing, a trap does.
    ask(&a, INFER, -2, next("7")).expect_status(422);
    assert_eq!(call(ask(&a, INFER, 1, next("7"))), 4);
    ask(&a, INFER, -1, next("7")).expect_status(500);
    refused(ask(&a, INFER, 1, next("7")), "has begun");
    let config = a.get("/v2/models/s/config").expect_status(200).json();
    let batching = json!({ "max_sequence_idle_microseconds": 60_000_000 });
    assert_eq!(config["sequence_batching"], batching);
}

#[test]
fn ids_of_two_tenants_never_meet() {
    let server = Server::start();
    let (a, b) = (server.tenant("a"), server.tenant("b"));
    a.publish("s", "1", &bundle(60_000)).expect_status(201);
    a.put("/api/v1/models/s/sharing", &json!({ "with": ["b"] })).expect_status(200);
    let shared = "/t/a/v2/models/s/infer";
    assert_eq!(call(ask(&a, INFER, 1, start(1))), 1);
    refused(ask(&b, shared, 1, next(1)), "has begun");
    assert_eq!(call(ask(&b, shared, 1, start(1))), 1);
    assert_eq!(call(ask(&a, INFER, 1, next(1))), 2);
    assert_eq!(call(ask(&b, shared, 1, end(1))), 2);
    assert_eq!(call(ask(&a, INFER, 1, next(1))), 3);
}

#[test]
fn a_tenant_has_so_many_and_idle_ones_end() {
    let server = Server::start();
    let a = server.tenant("a");
    let two = json!({ "sequences_max": 2 });
    server.admin().put("/api/v1/tenants/a/limits", &two).expect_status(200);
    a.publish("s", "1", &bundle(60_000)).expect_status(201);
    a.publish("short", "1", &bundle(1)).expect_status(201);
    let short = "/v2/models/short/infer";
    for id in [1, 2] {
        assert_eq!(call(ask(&a, INFER, 1, start(id))), 1);
    }
    // The cap is over all models.
    for path in [INFER, short] {
        let error = ask(&a, path, 1, start(3)).expect_status(429).error();
        assert!(error.contains("sequences_max of 2"), "{error}");
    }
    assert_eq!(call(ask(&a, INFER, 1, end(1))), 2);
    assert_eq!(call(ask(&a, short, 1, start(3))), 1);
    eventually("the idle one has ended", || ask(&a, short, 1, next(3)).status == 400);
    eventually("and its place is free", || ask(&a, INFER, 1, start(4)).status == 200);
    assert_eq!(call(ask(&a, INFER, 1, next(2))), 2, "the other goes on");
    // A version that is no longer served keeps none.
    a.delete("/api/v1/models/s").expect_status(204);
    let usage = a.get("/api/v1/tenants/a/usage").expect_status(200).json();
    assert_eq!(usage["usage"]["sequences"], 0, "{usage}");
}

#[test]
fn requests_of_a_sequence_are_answered_one_after_another() {
    let server = Server::start();
    let a = server.tenant("a");
    a.publish("s", "1", &bundle(60_000)).expect_status(201);
    assert_eq!(call(ask(&a, INFER, 1, start(1))), 1);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let a = a.clone();
            thread::spawn(move || {
                (0..20).map(|_| call(ask(&a, INFER, 1, next(1)))).collect::<Vec<i64>>()
            })
        })
        .collect();
    let mut calls: Vec<i64> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    calls.sort_unstable();
    assert_eq!(calls, (2..=161).collect::<Vec<i64>>());
}
