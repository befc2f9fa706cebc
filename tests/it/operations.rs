//! Every operation of the contract, from a real guest: rightly, wrongly, too large and too long.

use serde_json::{Value, json};

use crate::harness::{Client, Server, eventually, guest};
use crate::hostile::{Tenant, turn};

#[path = "../guests/operations/src/calls.rs"]
mod calls;

fn call(name: &str) -> Value {
    json!([{ "name": "CALL", "datatype": "BYTES", "shape": [1], "data": [name] }])
}

/// What the guest answered: kinds of results, or an error, and elements.
#[track_caller]
fn told(client: &Client, name: &str) -> (Vec<String>, Vec<f64>) {
    let answer = client.infer("operations", call(name)).expect_status(200).json();
    let data = |name: &str| {
        let outputs = answer["outputs"].as_array().unwrap();
        let output = outputs.iter().find(|output| output["name"] == name).unwrap();
        output["data"].as_array().unwrap().clone()
    };
    let kinds = data("KINDS").iter().map(|kind| kind.as_str().unwrap().to_owned()).collect();
    (kinds, data("ELEMENTS").iter().map(|element| element.as_f64().unwrap()).collect())
}

/// A call must answer what it answers natively.
#[track_caller]
fn check(client: &Client, &(name, native): &calls::Call) {
    let results = native().unwrap_or_else(|error| panic!("{name}, natively: {error}"));
    let (kinds, elements) = calls::told(&results).unwrap();
    let (got_kinds, got) = told(client, name);
    assert_eq!(got_kinds, kinds, "{name}");
    assert_eq!(got.len(), elements.len(), "{name}");
    for (got, wanted) in got.iter().zip(&elements) {
        assert!(
            (got - wanted).abs() <= 1e-6 * wanted.abs().max(1.0),
            "{name}: {got}, not {wanted}"
        );
    }
}

fn publish(client: &Client) {
    let bundle = &guest("tests/guests/operations").bundle;
    client.publish("operations", "1", bundle).expect_status(201);
}

#[test]
fn a_guest_gets_what_the_kernels_answer() {
    let server = Server::start();
    let client = server.tenant("calls");
    publish(&client);
    assert!(calls::CALLS.len() > 50);
    calls::CALLS.iter().for_each(|call| check(&client, call));
}

#[test]
fn wrong_arguments_are_told_and_do_no_harm() {
    let server = Server::start();
    let tenant = Tenant::new(&server, "wrong");
    publish(&tenant.client);
    for (name, _) in calls::WRONG {
        let wanted = match *name {
            "linear of integers"
            | "scatter of strings"
            | "unique booleans"
            | "quantise to floats"
            | "linear8 of unquantised weights" => "Unsupported(",
            "tile past all memory" | "a permutation past all memory" => "ResourceExhausted(",
            _ => "InvalidArgument(",
        };
        let (kinds, _) = told(&tenant.client, name);
        assert!(kinds[0].starts_with(wanted), "{name}: wanted {wanted}..), got {}", kinds[0]);
        // It says something beside the case.
        assert!(kinds[0].len() > wanted.len() + 10, "{name}: {}", kinds[0]);
    }
    check(&tenant.client, &calls::CALLS[0]);
    tenant.expect_idle();
}

#[test]
fn what_is_derived_from_a_guests_weights_counts() {
    let server = Server::start();
    let tenant = Tenant::new(&server, "weights");
    publish(&tenant.client);
    tenant.limit(&json!({ "tensor_bytes_max": 8 << 20 }));
    // 32 weights would fit without what the host keeps for its kernels.
    let (_, count) = told(&tenant.client, "weights without end");
    assert!((8.0..=20.0).contains(&count[0]), "{count:?}");
    tenant.expect_idle();
}

#[test]
fn a_long_product_ends_at_its_deadline_and_keeps_nobody_waiting() {
    let _turn = turn();
    let server = Server::start();
    let (long, small) = (Tenant::new(&server, "long"), Tenant::new(&server, "small"));
    publish(&long.client);
    publish(&small.client);
    let socket = long.begin("operations", &call("products without end"));
    eventually("the product runs", || long.usage("requests_in_flight") == 1);
    for _ in 0..5 {
        check(&small.client, &calls::CALLS[0]);
    }
    assert_eq!(long.usage("requests_in_flight"), 1, "the product is still running");
    // Its caller leaves, and it stops.
    drop(socket);
    long.expect_idle();
    long.limit(&json!({ "deadline_ms_max": 500 }));
    let error = long.client.infer("operations", call("products without end"));
    let error = error.expect_status(504).error();
    assert!(error.contains("deadline_ms_max of 500"), "{error}");
    long.expect_idle();
}
