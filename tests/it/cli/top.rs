//! `innkeeper top`: what a person and a script see of what models do.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::Shell;
use crate::harness::{Client, Server, guest};

fn infer(client: &Client) {
    let row =
        json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }]);
    client.infer("m", row).expect_status(200);
}

/// The models that one look shows.
fn names(shown: &Value) -> Vec<String> {
    let models = shown["models"].as_array().unwrap().iter();
    models
        .map(|row| format!("{}/{}", row["owner"].as_str().unwrap(), row["model"].as_str().unwrap()))
        .collect()
}

#[test]
fn what_models_do_is_shown_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let acme = server.tenant("acme");
    acme.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    acme.publish("idle", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let shell = Shell::new(folder.path()).with(&acme);

    let mut watching = shell.command(&["top", "--json", "--every", "0.1"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let busy = lines.map_while(Result::ok).find_map(|line| {
        // Somewhere between this look and the next.
        infer(&acme);
        let shown: Value = serde_json::from_str(&line).unwrap();
        let first = shown["models"][0].clone();
        (first["requests_per_second"].as_f64().unwrap() > 0.0).then_some(first)
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    let busy = busy.expect("requests are seen");
    assert_eq!((busy["owner"].as_str(), busy["model"].as_str()), (Some("acme"), Some("m")));
    assert!(
        busy["p50_ms"].as_f64().unwrap() > 0.0
            && busy["p99_ms"].as_f64() >= busy["p50_ms"].as_f64()
    );
    assert_eq!(busy["failures_per_second"], 0.0);
    assert!(busy["instances"].as_u64().unwrap() >= 1, "{busy}");
    assert!(busy["asset_bytes"].is_u64(), "{busy}");

    let said = shell.run("top --once --every 0.1").ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with(&acme.url) && lines[0].contains(": 2 versions, "), "{said}");
    assert!(lines[2].starts_with("MODEL ") && lines[2].ends_with("MEMORY"), "{said}");
    assert!(said.contains("\nacme/idle@1 ") && said.contains("\nacme/m@1 "), "{said}");
    assert_eq!(shell.run("top --once --every 0.1 --max 1").ok().lines().last(), Some("and 1 more"));
    shell.run("top --every 0").fails(2, &["0.1 to 3600"]);
}

#[test]
fn a_tenant_sees_its_own_and_what_it_calls() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let [acme, friend] = ["acme", "friend"].map(|name| server.tenant(name));
    for name in ["m", "hidden"] {
        acme.publish(name, "1", &guest("plugins/add-one").bundle).expect_status(201);
    }
    acme.put("/api/v1/models/m/sharing", &json!({ "with": ["friend"] })).expect_status(200);
    let shell = Shell::new(folder.path());
    let seen = |client: &Client| shell.with(client).run("top --once --json --every 0.1").json();
    assert_eq!(names(&seen(&friend)), Vec::<String>::new());

    infer(&acme);
    let row = json!({ "inputs": [{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }] });
    friend.post("/t/acme/v2/models/m/infer", &row).expect_status(200);
    let shown = seen(&friend);
    assert_eq!(names(&shown), ["acme/m"]);
    assert_eq!(shown["models"][0]["asset_bytes"], Value::Null, "that is the owner's to know");
    let counted = friend.get("/api/v1/activity").expect_status(200).json();
    assert_eq!(counted["models"][0]["requests"], 1, "acme's calls are not friend's to know");

    let mut all = names(&seen(&server.admin()));
    all.sort();
    assert_eq!(all, ["acme/hidden", "acme/m"]);
    assert_eq!(names(&seen(&acme)).len(), 2);
    server.client("").get("/api/v1/activity").expect_status(401);
    acme.get("/api/v1/activity?x=1").expect_status(400);
}
