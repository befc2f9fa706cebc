//! Answers that are given again, and to whom.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, guest, pack};

/// A model that tells how often its instance was asked, and whose answers are kept.
fn bundle() -> Vec<u8> {
    let toml = "name = \"counting\"\n[cache]\nenabled = true\n";
    pack(&guest("tests/guests/batching").component, toml, &[])
}

fn ask(client: &Client, path: &str, value: i64, parameters: Value) -> Answer {
    let inputs = json!([{ "name": "X", "datatype": "INT64", "shape": [1, 1], "data": [value] }]);
    client.post(path, &json!({ "inputs": inputs, "parameters": parameters }))
}

/// Which call of the instance the answer came from.
#[track_caller]
fn call(answer: Answer) -> i64 {
    let answer = answer.expect_status(200).json();
    let outputs = answer["outputs"].as_array().unwrap();
    let told = outputs.iter().find(|output| output["name"] == "TOLD").unwrap();
    told["data"][1].as_i64().unwrap()
}

fn stats(client: &Client, path: &str) -> Value {
    client.get(path).expect_status(200).json()["model_stats"][0].clone()
}

#[test]
fn the_same_question_is_answered_once() {
    const INFER: &str = "/v2/models/c/infer";
    let server = Server::start();
    let (a, b) = (server.tenant("a"), server.tenant("b"));
    a.publish("c", "1", &bundle()).expect_status(201);
    a.put("/api/v1/models/c/sharing", &json!({ "with": ["b"] })).expect_status(200);

    assert_eq!(call(ask(&a, INFER, 5, json!({}))), 1);
    assert_eq!(call(ask(&a, INFER, 5, json!({}))), 1, "kept");
    assert_eq!(call(ask(&a, INFER, 6, json!({}))), 2, "another input");
    assert_eq!(call(ask(&a, INFER, 5, json!({ "p": 1 }))), 3, "another parameter");
    let outputs = json!([{ "name": "TOLD" }]);
    let inputs = json!([{ "name": "X", "datatype": "INT64", "shape": [1, 1], "data": [5] }]);
    let fewer = json!({ "inputs": inputs, "outputs": outputs });
    assert_eq!(call(a.post(INFER, &fewer)), 4, "other outputs");
    assert_eq!(call(a.post(INFER, &fewer)), 4);
    assert_eq!(call(ask(&a, INFER, 5, json!({}))), 1, "still kept");
    // What is kept for one tenant is not there for another.
    let shared = "/t/a/v2/models/c/infer";
    assert_eq!(call(ask(&b, shared, 5, json!({}))), 1, "its own instance's first");
    assert_eq!(call(ask(&b, shared, 6, json!({}))), 2);
    assert_eq!(call(ask(&b, shared, 5, json!({}))), 1);
    // A refusal is not kept.
    for _ in 0..2 {
        ask(&b, shared, -2, json!({})).expect_status(422);
    }

    let own = &stats(&b, "/t/a/v2/models/c/stats")["inference_stats"];
    assert_eq!(own["cache_hit"]["count"], 1, "{own}");
    assert_eq!(own["cache_miss"]["count"], 2, "{own}");
    assert_eq!((&own["success"]["count"], &own["fail"]["count"]), (&json!(3), &json!(2)), "{own}");
    let all = stats(&a, "/v2/models/c/stats");
    assert_eq!(all["inference_stats"]["cache_hit"]["count"], 4, "{all}");
    assert_eq!(all["execution_count"], 6, "{all}");
    let config = a.get("/v2/models/c/config").expect_status(200).json();
    assert_eq!(config["response_cache"], json!({ "enable": true }));
    let usage = a.get("/api/v1/tenants/a/usage").expect_status(200).json();
    assert_eq!(usage["usage"]["requests"], 7, "{usage}");
    assert!(usage["usage"]["cache_bytes"].as_u64().unwrap() > 0, "{usage}");
}

#[test]
fn a_tenant_without_room_keeps_nothing() {
    const INFER: &str = "/v2/models/c/infer";
    let server = Server::start();
    let a = server.tenant("a");
    a.publish("c", "1", &bundle()).expect_status(201);
    let none = json!({ "cache_bytes_max": 0 });
    server.admin().put("/api/v1/tenants/a/limits", &none).expect_status(200);
    assert_eq!(call(ask(&a, INFER, 5, json!({}))), 1);
    assert_eq!(call(ask(&a, INFER, 5, json!({}))), 2);
    // A limit on requests holds for what is kept too.
    let few = json!({ "requests_per_second_max": 1 });
    server.admin().put("/api/v1/tenants/a/limits", &few).expect_status(200);
    let answers: Vec<u16> = (0..20).map(|_| ask(&a, INFER, 7, json!({})).status).collect();
    assert!(answers.contains(&200) && answers.contains(&429), "{answers:?}");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let server = Server::start();
    let a = server.tenant("a");
    for (toml, text) in [
        ("[cache]\nenabled = true\n[sequences]\nidle_ms = 5\n", "either cache or sequences"),
        ("[batching]\nmax = 8\n[sequences]\nidle_ms = 5\n", "either batching or sequences"),
        ("isolation = \"request\"\n[sequences]\nidle_ms = 5\n", "isolation"),
        ("[sequences]\nidle_ms = 0\n", "idle_ms is 0"),
    ] {
        let toml = format!("name = \"m\"\n{toml}");
        let error = innkeeper_deploy::bundle::PluginToml::parse(&toml).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    // The host looks for itself: nobody has to pack by our tools.
    let bundle = bundle();
    let at = bundle.windows(7).position(|bytes| bytes == b"\"cache\"").unwrap();
    let mut forged = bundle.clone();
    forged[at..at + 7].copy_from_slice(b"\"catch\"");
    a.publish("c", "1", &forged).expect_status(400);
}
