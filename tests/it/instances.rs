//! How many instances a model has: some ready before the first call, no more than it may, and less again.

use serde_json::json;

use crate::harness::{Server, eventually};
use crate::hostile::{Tenant, hostile, hostile_with, told};

/// Idle code leaves after a moment.
const SHORT: &str = "[predict]\nwarm_idle_ms_max = 200\n";

#[test]
fn a_minimum_is_ready_before_the_first_call_and_stays() {
    let server = Server::with_config(SHORT);
    let tenant = Tenant::new(&server, "acme");
    let bundle = hostile_with("[instances]\nmin = 2\nidle_ms = 2000\n");
    tenant.client.publish("m", "1", &bundle).expect_status(201);
    tenant.client.publish("plain", "1", &hostile("tenant", "")).expect_status(201);
    let warm = || tenant.usage("warm_instances");
    eventually("two are ready", || warm() == 2);
    // They answer, and what they hold is theirs: the calls of one after another meet the same.
    assert_eq!(tenant.number("m", "state", None), 1.0);
    assert_eq!(tenant.number("m", "state", None), 2.0);
    assert_eq!((warm(), tenant.number("plain", "state", None)), (2, 1.0));
    // Four at once are four instances, of which two leave again, as does that of the other model.
    let spinning: Vec<_> = (1..=4).map(|running| tenant.spin("m", running)).collect();
    drop(spinning);
    let calls: Vec<_> = (0..4).map(|_| tenant.begin("m", &told("busy", Some(1_000.0)))).collect();
    eventually("four are there", || warm() >= 4);
    drop(calls);
    eventually("two are left", || warm() == 2);
    // An instance that failed is replaced.
    tenant.tell("m", "panic", None).expect_status(500);
    eventually("two are ready again", || warm() == 2);
    // Another version serves now.
    tenant.client.publish("m", "2", &hostile("tenant", "")).expect_status(201);
    eventually("none is kept", || warm() == 0);
}

#[test]
fn a_maximum_lets_further_requests_wait() {
    let server = Server::start();
    let tenant = Tenant::new(&server, "acme");
    tenant.client.publish("m", "1", &hostile_with("[instances]\nmax = 2\n")).expect_status(201);
    tenant.client.publish("free", "1", &hostile("tenant", "")).expect_status(201);
    let config = tenant.client.get("/v2/models/m/config").expect_status(200).json();
    assert_eq!(config["instance_group"][0]["count"], 2);
    let mut spinning: Vec<_> = (1..=2).map(|running| tenant.spin("m", running)).collect();
    let waiting = tenant.begin("m", &told("ok", None));
    // Who waits holds no place of the tenant's: three more run.
    let others: Vec<_> = (3..=5).map(|running| tenant.spin("free", running)).collect();
    assert_eq!(tenant.usage("requests_in_flight"), 5);
    let refused = json!({ "inputs": told("ok", None), "parameters": { "timeout": 1000 } });
    let refused = tenant.client.post("/v2/models/m/infer", &refused);
    assert_eq!(refused.status, 504, "{}", refused.text());
    drop((others, spinning.pop()));
    tenant.tell("m", "ok", None).expect_status(200);
    drop((waiting, spinning));
}
