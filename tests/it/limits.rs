//! Every limit, met.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::{Answer, Client, Server, eventually, guest, pack, root};
use crate::hostile::{Tenant, hostile, told, told_at_length, turn};

/// A limit, a low value for it, what the guest is told, the status, and whether the guest comes
/// through without it.
type Case = (&'static str, u64, (&'static str, Option<f32>), u16, bool);

/// Limits that one request can break.
const CASES: &[Case] = &[
    ("deadline_ms_max", 300, ("count", Some(4_000.0)), 504, false),
    ("guest_memory_bytes_max", 16 << 20, ("memory", None), 500, false),
    ("handles_max", 50, ("many-outputs", Some(100.0)), 500, false),
    ("tensor_bytes_max", 1 << 20, ("large-output", Some(2.0)), 500, true),
    ("hostcall_bytes_max", 1 << 20, ("host-call", Some(2.0)), 500, true),
    ("output_bytes_max", 1 << 20, ("large-output", Some(2.0)), 500, true),
];

#[test]
fn one_request_goes_over_a_limit() {
    let _turn = turn();
    let server = Server::start();
    let (tenant, other) = (Tenant::hostile(&server, "tenant"), Tenant::hostile(&server, "other"));
    for case in CASES {
        of_the_tenant(&tenant, case);
        of_the_model(&tenant, case);
        let (_, _, (mode, value), status, comes_through) = *case;
        if comes_through {
            other.tell("kept", mode, value).expect_status(200);
        } else {
            assert!(status >= 500);
        }
    }
    bodies(&tenant, &other);
    tables(&tenant);
    the_stack(&tenant);
    tensor_bytes_of_several_instances(&tenant);
    tensor_bytes_of_several_requests(&tenant, &other);
    assert_eq!(other.usage("failures"), 0);
    tenant.expect_idle();
}

/// Status and text of a request that goes over a limit.
#[track_caller]
fn over(answer: &Answer, status: u16, limit: &str, max: u64) {
    let error = answer.error();
    assert_eq!(answer.status, status, "{limit}: {error}");
    let named = error.contains(&format!("{limit} of {max}"))
        || error.contains(&format!("{limit} is {max},"));
    assert!(named, "{limit} of {max} is not named in {error:?}");
}

/// The administrator lowers the limit. A warm instance that was made before keeps to it as well.
fn of_the_tenant(tenant: &Tenant, case: &Case) {
    let (limit, max, (mode, value), status, comes_through) = *case;
    tenant.number("kept", "ok", None);
    if comes_through {
        tenant.tell("kept", mode, value).expect_status(200);
    }
    tenant.limit(&json!({ limit: max }));
    over(&tenant.tell("kept", mode, value), status, limit, max);
    tenant.number("kept", "ok", None);
    tenant.limit(&json!({}));
    if comes_through {
        tenant.tell("kept", mode, value).expect_status(200);
    }
}

/// The model lowers its own limit, and cannot raise the tenant's.
fn of_the_model(tenant: &Tenant, case: &Case) {
    let (limit, max, (mode, value), status, _) = *case;
    for (model, own) in [("lowers", max), ("raises", max * 1_000)] {
        let bundle = hostile("tenant", &format!("{limit} = {own}"));
        tenant.client.publish(model, limit, &bundle).expect_status(201);
    }
    let tell = |model: &str| {
        let path = format!("/v2/models/{model}/versions/{limit}/infer");
        tenant.client.post(&path, &json!({ "inputs": told(mode, value) }))
    };
    over(&tell("lowers"), status, limit, max);
    tenant.limit(&json!({ limit: max }));
    over(&tell("raises"), status, limit, max);
    tenant.limit(&json!({}));
}

fn bodies(tenant: &Tenant, other: &Tenant) {
    let long = told_at_length("ok", &[1.0; 5_000]);
    let call = |tenant: &Tenant, model: &str| tenant.client.infer(model, long.clone());
    call(tenant, "kept").expect_status(200);
    tenant.limit(&json!({ "body_bytes_max": 10_000 }));
    over(&call(tenant, "kept"), 413, "body_bytes_max", 10_000);
    tenant.number("kept", "ok", None);
    call(other, "kept").expect_status(200);
    tenant.limit(&json!({}));

    tenant
        .client
        .publish("small", "1", &hostile("tenant", "body_bytes_max = 500"))
        .expect_status(201);
    over(&call(tenant, "small"), 413, "body_bytes_max", 500);
    tenant.number("small", "ok", None);
}

/// Gives the table 4,000 elements more.
const GROW: &str = "
    (if (i32.eq (table.grow $table (ref.null func) (i32.const 4000)) (i32.const -1))
      (then unreachable))";

/// Calls itself without end from the second prediction on.
const RECURSE: &str = "
    (if (global.get $called) (then (drop (call $recurse (i64.const 0)))))
    (global.set $called (i32.const 1))";

/// A guest that does this in each prediction, and answers nothing.
fn by_hand(predict: &str) -> Vec<u8> {
    // All zeros are the answer `ok`. At 256 lies the signature: no inputs and one output, optional.
    let text = format!(
        r#"(module
          (memory (export "memory") 1)
          (table $table 1 funcref)
          (global $called (mut i32) (i32.const 0))
          (data (i32.const 268) "\00\02\00\00\01\00\00\00")
          (data (i32.const 512) "\40\02\00\00\07\00\00\00\0b")
          (data (i32.const 536) "\01")
          (data (i32.const 576) "OUTPUT0")
          (func $recurse (param i64) (result i64)
            (i64.add (local.get 0) (call $recurse (i64.add (local.get 0) (i64.const 1)))))
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
          (func (export "innkeeper:model/model@0.1.0#load") (result i32) (i32.const 16))
          (func (export "innkeeper:model/model@0.1.0#describe") (result i32) (i32.const 256))
          (func (export "innkeeper:model/model@0.1.0#predict") (param i32 i32) (result i32)
            {predict} (i32.const 16)))"#
    );
    let mut module = wat::parse_str(text).unwrap();
    let mut wit = Resolve::default();
    let (package, _) = wit.push_path(root().join("wit")).unwrap();
    let world = wit.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

fn tables(tenant: &Tenant) {
    let component = by_hand(GROW);
    tenant.client.publish_component("table", "1", &component).expect_status(201);
    let call = |model: &str| tenant.client.infer(model, json!([]));
    // The default is 20,000; an instance that is kept grows with every call.
    for _ in 0..4 {
        call("table").expect_status(200);
    }
    over(&call("table"), 500, "table_elements_max", 20_000);
    call("table").expect_status(200);
    tenant.limit(&json!({ "table_elements_max": 1_000 }));
    over(&call("table"), 500, "table_elements_max", 1_000);
    tenant.limit(&json!({}));
    call("table").expect_status(200);

    // As the first prediction breaks it, such a version is not even published.
    let bundle = pack(&component, "name = \"table\"\n[limits]\ntable_elements_max = 500\n", &[]);
    over(&tenant.client.publish("table", "2", &bundle), 422, "table_elements_max", 500);
}

/// The host's own limit, the same for all.
fn the_stack(tenant: &Tenant) {
    tenant.client.publish_component("stack", "1", &by_hand(RECURSE)).expect_status(201);
    for _ in 0..3 {
        tenant.client.infer("stack", json!([])).expect_status(200);
        over(&tenant.client.infer("stack", json!([])), 500, "stack_bytes_max", 512 << 10);
    }
}

/// Tensors that instances keep between requests count together.
fn tensor_bytes_of_several_instances(tenant: &Tenant) {
    let max = 4 << 20;
    tenant.limit(&json!({ "tensor_bytes_max": max }));
    tenant.client.publish("kept-too", "1", &hostile("tenant", "")).expect_status(201);
    assert_eq!(tenant.number("kept", "keep-bytes", None), 1.0);
    assert_eq!(tenant.number("kept", "keep-bytes", None), 2.0);
    assert_eq!(tenant.number("kept-too", "keep-bytes", None), 1.0);
    assert_eq!(tenant.usage("tensor_bytes"), 3 << 20);
    // The input is a tensor, too, so that the fourth is over it.
    over(&tenant.tell("kept-too", "keep-bytes", None), 500, "tensor_bytes_max", max);
    assert_eq!(tenant.usage("tensor_bytes"), 2 << 20, "what failed has let go of all");
    over(&tenant.tell("kept", "large-output", Some(3.0)), 500, "tensor_bytes_max", max);
    assert_eq!(tenant.usage("tensor_bytes"), 0);
    tenant.limit(&json!({}));
}

/// The tensors of requests that run at once count together, for each tenant.
fn tensor_bytes_of_several_requests(tenant: &Tenant, other: &Tenant) {
    let mib = vec![1.0; (1 << 20) / 4];
    let max = 5 << 19;
    tenant.limit(&json!({ "tensor_bytes_max": max }));
    let sockets: Vec<_> =
        (0..2).map(|_| tenant.begin("kept", &told_at_length("spin", &mib))).collect();
    eventually("both hold their inputs", || tenant.usage("tensor_bytes") > 2 << 20);
    let third = told_at_length("ok", &mib);
    over(&tenant.client.infer("kept", third.clone()), 503, "tensor_bytes_max", max);
    tenant.number("kept", "ok", None);
    other.client.infer("kept", third.clone()).expect_status(200);
    drop(sockets);
    tenant.expect_idle();
    tenant.client.infer("kept", third).expect_status(200);
    tenant.limit(&json!({}));
}

#[test]
fn too_many_requests() {
    let _turn = turn();
    let server = Server::start();
    let (tenant, other) = (Tenant::hostile(&server, "tenant"), Tenant::hostile(&server, "other"));
    a_queue_is_short_and_moves_on(&tenant, &other);
    a_model_has_a_queue_of_its_own(&tenant);
    starts_in_a_second(&tenant, &other);
    tenant.expect_idle();
    assert_eq!(other.usage("failures"), 0);
}

#[track_caller]
fn to_be_retried(answer: &Answer, status: u16, says: &[&str]) {
    let error = answer.error();
    assert_eq!(answer.status, status, "{error}");
    for part in says {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "retry-after: {after}");
}

fn a_queue_is_short_and_moves_on(tenant: &Tenant, other: &Tenant) {
    let limits = |queue_ms_max: u64| {
        let limits = json!({
            "requests_in_flight_max": 2, "queue_requests_max": 1, "queue_ms_max": queue_ms_max,
        });
        tenant.limit(&limits);
    };
    limits(60_000);
    let (first, second) = (tenant.spin("kept", 1), tenant.spin("fresh", 2));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tenant.tell("kept", "ok", Some(5.0)));
        eventually("one waits", || tenant.usage("requests_queued") == 1);
        let refused = tenant.tell("kept", "ok", None);
        to_be_retried(&refused, 429, &["queue_requests_max of 1", "requests_in_flight_max of 2"]);
        other.number("kept", "ok", None);
        drop(first);
        waiting.join().unwrap().expect_status(200);
    });
    assert_eq!(tenant.usage("requests_in_flight"), 1);

    // Places that are taken away still count while they are taken.
    tenant.limit(&json!({ "requests_in_flight_max": 1, "queue_requests_max": 0 }));
    assert_eq!(tenant.usage("requests_in_flight"), 1);
    tenant.tell("kept", "ok", None).expect_status(429);

    limits(100);
    let third = tenant.spin("kept", 2);
    let began = Instant::now();
    to_be_retried(&tenant.tell("kept", "ok", None), 503, &["queue_ms_max of 100 ms"]);
    assert!(began.elapsed() >= Duration::from_millis(100));
    drop((second, third));
    tenant.expect_idle();
    tenant.number("kept", "ok", None);
    tenant.limit(&json!({}));
}

/// The limits of a manifest bound one model, and leave the tenant's others alone.
fn a_model_has_a_queue_of_its_own(tenant: &Tenant) {
    for (model, limits) in [
        ("single", "requests_in_flight_max = 1\nqueue_requests_max = 0"),
        ("patient", "requests_in_flight_max = 1\nqueue_ms_max = 100"),
    ] {
        tenant.client.publish(model, "1", &hostile("tenant", limits)).expect_status(201);
    }
    for (model, status, says) in [
        ("single", 429, ["queue_requests_max of 0", "requests_in_flight_max of 1"].as_slice()),
        ("patient", 503, ["queue_ms_max of 100 ms"].as_slice()),
    ] {
        let running = tenant.spin(model, 1);
        to_be_retried(&tenant.tell(model, "ok", None), status, says);
        tenant.number("kept", "ok", None);
        drop(running);
        tenant.expect_idle();
        tenant.number(model, "ok", None);
    }
}

fn starts_in_a_second(tenant: &Tenant, other: &Tenant) {
    tenant
        .client
        .publish("rare", "1", &hostile("tenant", "requests_per_second_max = 2"))
        .expect_status(201);
    let met = |model: &str, max: u64| {
        // However slow the machine is, they are not served faster than one at a time.
        let refused = (0..1_000).map(|_| tenant.tell(model, "ok", None)).find(|a| a.status != 200);
        let says = format!("requests_per_second_max of {max}");
        to_be_retried(&refused.unwrap(), 429, &[&says, "retry in"]);
    };
    met("rare", 2);
    tenant.number("kept", "ok", None);
    eventually("its turn", || tenant.tell("rare", "ok", None).status == 200);

    tenant.limit(&json!({ "requests_per_second_max": 3 }));
    met("kept", 3);
    for _ in 0..5 {
        other.number("kept", "ok", None);
    }
    eventually("its turn", || tenant.tell("kept", "ok", None).status == 200);
    tenant.limit(&json!({ "requests_per_second_max": 0 }));
    to_be_retried(&tenant.tell("kept", "ok", None), 429, &["requests_per_second_max of 0"]);
    tenant.limit(&json!({}));
    tenant.number("kept", "ok", None);
}

#[test]
fn publishing_goes_over_a_limit() {
    let _turn = turn();
    let server = Server::start();
    let (tenant, other) = (Tenant::peaceful(&server, "tenant"), Tenant::peaceful(&server, "other"));
    loading(&tenant);
    what_is_stored(&tenant);
    what_is_sent(&tenant);
    other.add_one();
    tenant.add_one();
    limits_are_set_by_the_administrator(&server, &tenant, &other);
    limits_survive_a_restart(server, &tenant);
}

/// The model that loads as `mode` says.
fn loads(mode: &str, limits: &str) -> Vec<u8> {
    let toml = format!("name = \"loading\"\n[limits]\n{limits}\n");
    let assets = [("mode.txt", mode.as_bytes())];
    pack(&guest("tests/guests/loading").component, &toml, &assets)
}

fn loading(tenant: &Tenant) {
    let publish = |mode: &str, limits: &str| tenant.client.publish("l", mode, &loads(mode, limits));
    let began = Instant::now();
    for (mode, limit, max) in [
        ("spin", "load_ms_max", 300),
        ("signature-spin", "load_ms_max", 300),
        ("memory", "guest_memory_bytes_max", 16 << 20),
        ("tensor-bytes", "tensor_bytes_max", 4 << 20),
    ] {
        over(&publish(mode, &format!("{limit} = {max}")), 422, limit, max);
        tenant.limit(&json!({ limit: max }));
        over(&publish(mode, ""), 422, limit, max);
        tenant.limit(&json!({}));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    tenant.client.get("/v2/models/l").expect_status(404);
    tenant.expect_idle();
}

fn what_is_stored(tenant: &Tenant) {
    let publish = |model: &str, version: &str, limits: &str| {
        let component = &guest("plugins/add-one").component;
        let toml = format!("name = \"add-one\"\ndescription = \"{model} {version}\"\n{limits}");
        tenant.client.publish(model, version, &pack(component, &toml, &[]))
    };
    tenant.limit(&json!({ "versions_max": 2, "models_max": 2 }));
    publish("second", "1", "").expect_status(201);
    publish("second", "2", "").expect_status(201);
    over(&publish("second", "3", ""), 507, "versions_max", 2);
    over(&publish("third", "1", ""), 507, "models_max", 2);
    publish("second", "2", "").expect_status(200);
    let (models, versions) = (tenant.usage("models"), tenant.usage("versions"));
    assert_eq!((models, versions), (2, 3));
    tenant.client.get("/v2/models/third").expect_status(404);
    tenant.client.delete("/api/v1/models/second/versions/1").expect_status(204);
    publish("second", "3", "").expect_status(201);
    let stored_by_second = tenant.usage("stored_bytes");
    tenant.client.delete("/api/v1/models/second").expect_status(204);
    // What the host knows of a version counts, too.
    assert!(tenant.usage("stored_bytes") < stored_by_second);
    publish("third", "1", "").expect_status(201);

    let stored = tenant.usage("stored_bytes");
    assert!(stored > 0);
    tenant.limit(&json!({ "stored_bytes_max": stored }));
    over(&tenant.client.publish("l", "ok", &loads("ok", "")), 507, "stored_bytes_max", stored);
    assert_eq!(tenant.usage("stored_bytes"), stored);
    tenant.client.get("/v2/models/l").expect_status(404);
    // What is stored already costs nothing more.
    publish("third", "1", "").expect_status(200);
    over(&publish("third", "2", ""), 507, "stored_bytes_max", stored);
    let upload = begin_upload(&tenant.client);
    over(&append(&tenant.client, &upload, 0, 1_000), 507, "stored_bytes_max", stored);
    tenant.client.delete("/api/v1/models/third").expect_status(204);
    tenant.limit(&json!({}));
}

fn begin_upload(client: &Client) -> String {
    let begun = client.send("POST", "/api/v1/uploads", &[], b"").expect_status(201);
    begun.json()["upload"].as_str().unwrap().to_owned()
}

fn append(client: &Client, upload: &str, offset: u64, bytes: usize) -> Answer {
    let path = format!("/api/v1/uploads/{upload}");
    let offset = offset.to_string();
    client.send("PATCH", &path, &[("upload-offset", &offset)], &vec![1; bytes])
}

fn what_is_sent(tenant: &Tenant) {
    let bundle = &guest("plugins/add-one").bundle;
    tenant.limit(&json!({ "upload_bytes_max": 10_000 }));
    over(&tenant.client.publish("large", "1", bundle), 413, "upload_bytes_max", 10_000);
    tenant.client.get("/v2/models/large").expect_status(404);
    let upload = begin_upload(&tenant.client);
    append(&tenant.client, &upload, 0, 8_000).expect_status(200);
    // Neither at once nor part by part.
    over(&append(&tenant.client, &upload, 8_000, 2_001), 413, "upload_bytes_max", 10_000);
    over(&append(&tenant.client, &upload, 8_000, 10_001), 413, "upload_bytes_max", 10_000);
    append(&tenant.client, &upload, 8_000, 2_000).expect_status(200);
    tenant.client.delete(&format!("/api/v1/uploads/{upload}")).expect_status(204);

    tenant.limit(&json!({}));
    let uploads: Vec<_> =
        (tenant.usage("uploads")..32).map(|_| begin_upload(&tenant.client)).collect();
    let refused = tenant.client.send("POST", "/api/v1/uploads", &[], b"");
    over(&refused, 429, "uploads_max", 32);
    assert!(refused.header("retry-after").is_some());
    for upload in uploads {
        tenant.client.delete(&format!("/api/v1/uploads/{upload}")).expect_status(204);
    }
}

fn limits_are_set_by_the_administrator(server: &Server, tenant: &Tenant, other: &Tenant) {
    let path = "/api/v1/tenants/tenant/limits";
    let admin = server.admin();
    let set = admin.put(path, &json!({ "deadline_ms_max": 1234 })).expect_status(200).json();
    for shown in [set, tenant.client.get(path).expect_status(200).json()] {
        assert_eq!(shown["limits"]["deadline_ms_max"], 1234);
        assert_eq!(shown["limits"]["handles_max"], 10_000);
        assert_eq!(shown["set"], json!({ "deadline_ms_max": 1234 }));
    }
    let bad: [Value; 4] = [
        json!({ "deadline_ms": 1 }),
        json!({ "deadline_ms_max": -1 }),
        json!({ "deadline_ms_max": "1" }),
        json!([]),
    ];
    for limits in bad {
        admin.put(path, &limits).expect_status(400);
    }
    // A tenant may look at its own, raise none, and learns nothing about another's.
    let raised = json!({ "deadline_ms_max": 60_000 });
    tenant.client.put(path, &raised).expect_status(403);
    other.client.put(path, &raised).expect_status(404);
    other.client.get(path).expect_status(404);
    other.client.get("/api/v1/tenants/tenant/usage").expect_status(404);
    admin.put("/api/v1/tenants/nobody/limits", &raised).expect_status(404);
    let shown = tenant.client.get(path).expect_status(200).json();
    assert_eq!(shown["limits"]["deadline_ms_max"], 1234);
}

fn limits_survive_a_restart(server: Server, tenant: &Tenant) {
    let (data, key) = (server.data.clone(), tenant.client.key.clone());
    let _folder = server.kill();
    let server = Server::on(&data, &[]);
    let shown = server.client(&key).get("/api/v1/tenants/tenant/limits").expect_status(200).json();
    assert_eq!(shown["limits"]["deadline_ms_max"], 1234);
}
