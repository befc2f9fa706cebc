//! Who did what, and who used what: told to those it concerns, and exact whatever happens.

use serde_json::{Value, json};

use crate::harness::{Client, Server, guest};
use crate::hostile::{hostile, told};
use crate::parts;

fn row() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }])
}

fn usage(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/api/v1/usage?{query}")).expect_status(200).json();
    answer["usage"].as_array().unwrap().clone()
}

/// A caller that waits for each answer, and servers that are killed in between: what was answered is counted, once.
#[test]
fn usage_is_exact_across_kills_and_restarts() {
    let mut server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("add-one", "1", &guest("plugins/add-one").bundle).expect_status(201);
    tenant.publish("hostile", "1", &hostile("tenant", "")).expect_status(201);
    let (key, data) = (tenant.key.clone(), server.data.clone());
    let (mut folders, mut answered) = (Vec::new(), 0);
    for round in 0..4 {
        let tenant = server.client(&key);
        for _ in 0..25 + round {
            tenant.infer("add-one", row()).expect_status(200);
            answered += 1;
        }
        if round % 2 == 0 {
            folders.extend(server.kill());
        } else {
            assert!(server.terminate().success());
        }
        server = Server::on(&data, &[]);
    }
    let tenant = server.client(&key);
    tenant.infer("hostile", told("panic", None)).expect_status(500);
    // What is refused before it runs costs nothing.
    tenant.infer("add-one", json!([])).expect_status(422);
    let all = usage(&tenant, "by=all");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["tenant"], "acme");
    assert_eq!((&all[0]["requests"], &all[0]["failures"]), (&json!(answered + 1), &json!(1)));
    // A row of 16 FP32 each way; BYTES have their length before them.
    let told = 4 + "panic".len() as u64;
    assert_eq!(all[0]["bytes_in"], answered * 64 + told);
    assert_eq!(all[0]["bytes_out"], answered * 64);
    assert!(all[0]["compute_us"].as_u64().unwrap() > answered);
    let hours: u64 =
        usage(&tenant, "by=hour").iter().map(|hour| hour["requests"].as_u64().unwrap()).sum();
    assert_eq!(hours, answered + 1);
}

#[test]
fn usage_is_told_to_whom_it_concerns() {
    let server = Server::start();
    let (tenant, other) = (server.tenant("acme"), server.tenant("other"));
    tenant.publish("add-one", "1", &guest("plugins/add-one").bundle).expect_status(201);
    tenant.infer("add-one", row()).expect_status(200);
    assert!(usage(&other, "").is_empty());
    other.get("/api/v1/usage?tenant=acme").expect_status(404);
    assert_eq!(usage(&server.admin(), "by=all&tenant=acme")[0]["requests"], 1);
    assert!(usage(&tenant, "from=2100-01-01").is_empty());
    assert!(usage(&tenant, "to=2000-01-01T05:00:00Z").is_empty());

    let csv = server.admin().get("/api/v1/usage?by=day&format=csv").expect_status(200);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = csv.text();
    let mut lines = text.lines();
    let head = "tenant,from,requests,failures,compute_us,device_us,bytes_in,bytes_out";
    assert_eq!(lines.next(), Some(head));
    let cells: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!((cells[0], cells[2], cells[6]), ("acme", "1", "64"));
    assert!(cells[1].ends_with("T00:00:00Z"), "{text}");
    assert_eq!(lines.next(), None);

    for bad in ["by=week", "format=xml", "from=yesterday", "to=2026-01-01T00:30:00Z", "since=1"] {
        let refused = tenant.get(&format!("/api/v1/usage?{bad}")).expect_status(400);
        assert!(refused.error().contains(bad.split('=').next().unwrap()), "{}", refused.error());
    }
}

/// The newest entries: act, target, outcome.
fn audit(client: &Client, query: &str) -> Vec<(String, String, String)> {
    let answer = client.get(&format!("/api/v1/audit{query}")).expect_status(200).json();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    let entries = answer["entries"].as_array().unwrap().iter();
    entries.map(|e| (text(e, "act"), text(e, "target"), text(e, "outcome"))).collect()
}

#[test]
fn every_change_is_written_down() {
    let server = Server::start();
    let admin = server.admin();
    let (tenant, other) = (server.tenant("acme"), server.tenant("other"));
    let bundle = &guest("plugins/add-one").bundle;
    tenant.publish("m", "1", bundle).expect_status(201);
    tenant.publish("m", "1", &parts::described(bundle, "other")).expect_status(409);
    tenant.put("/api/v1/models/m/aliases/stable", &json!({ "version": "1" })).expect_status(200);
    tenant.put("/api/v1/models/m/sharing", &json!({ "with": "all" })).expect_status(200);
    tenant.put("/api/v1/models/m/policy", &json!({ "keep": 3 })).expect_status(200);
    admin.put("/api/v1/tenants/acme/limits", &json!({ "versions_max": 9 })).expect_status(200);
    // Whoever gives a whole key where its id belongs does not find it here.
    let key = &tenant.key;
    admin.delete(&format!("/api/v1/keys/{key}")).expect_status(404);
    tenant.post("/v2/repository/models/m/unload", &json!({})).expect_status(200);
    tenant.post("/t/other/v2/repository/models/m/load", &json!({})).expect_status(404);
    tenant.post("/v2/repository/models/m/load", &json!({})).expect_status(200);
    tenant.post("/v2/logging", &json!({ "log_info": true })).expect_status(200);
    // What changes nothing is not told: looking, calling, and a key that may change nothing.
    tenant.get("/api/v1/models/m").expect_status(200);
    tenant.infer("m", row()).expect_status(200);
    server.key("acme", &["predict"]).delete("/api/v1/models/m").expect_status(403);

    let own = audit(&tenant, "");
    let wanted = [
        ("key.create", "acme", "done"),
        ("logging.set", "", "done"),
        ("model.load", "m", "done"),
        ("model.load", "other/m", "not_found"),
        ("model.unload", "m", "done"),
        ("limits.set", "acme", "done"),
        ("policy.set", "m", "done"),
        ("sharing.set", "m", "done"),
        ("alias.set", "m@stable", "done"),
        ("version.publish", "m@1", "conflict"),
        ("version.publish", "m@1", "done"),
        ("key.create", "acme", "done"),
    ];
    let wanted = wanted.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(own, wanted, "the newest first");
    let newest = tenant.get("/api/v1/audit?max=2").json();
    assert_eq!(newest["entries"][0]["actor"], "admin");
    let id = newest["entries"][0]["key_id"].as_str().unwrap();
    assert!(server.admin_key.contains(id));
    let next = newest["next"].as_i64().unwrap();
    assert_eq!(audit(&tenant, &format!("?before={next}")), wanted[2..]);

    assert_eq!(audit(&other, "").len(), 1, "only the making of its key");
    other.get("/api/v1/audit?tenant=acme").expect_status(404);
    let all = admin.get("/api/v1/audit").expect_status(200);
    assert!(audit(&admin, "").len() > own.len());
    assert_eq!(audit(&admin, "?tenant=acme"), wanted);
    let random = key.splitn(3, '_').last().unwrap();
    assert!(!all.text().contains(random), "no secret: {}", all.text());
    server.key("acme", &["predict"]).get("/api/v1/audit").expect_status(403);
}
