//! A guest that trains inside the sandbox.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, guest};

fn trainer(server: &Server) -> Client {
    let client = server.tenant("trains");
    client.publish("trainer", "1", &guest("tests/guests/trainer").bundle).expect_status(201);
    client
}

fn told(client: &Client, task: &str, steps: i64) -> Answer {
    let inputs = json!([
        { "name": "TASK", "datatype": "BYTES", "shape": [1], "data": [task] },
        { "name": "STEPS", "datatype": "INT64", "shape": [1], "data": [steps] },
    ]);
    client.infer("trainer", inputs).expect_status(200)
}

/// The data of an output.
fn output(answer: &Answer, name: &str) -> Vec<Value> {
    let answer = answer.json();
    let outputs = answer["outputs"].as_array().unwrap();
    let named = outputs.iter().find(|output| output["name"] == name);
    named.unwrap()["data"].as_array().unwrap().clone()
}

#[test]
fn digits_are_learned_in_the_sandbox() {
    let server = Server::start();
    let client = trainer(&server);
    let learned = told(&client, "digits", 12);
    let losses: Vec<f64> =
        output(&learned, "LOSS").iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert!(losses[0] > 1.0 && losses[11] < 0.1, "{losses:?}");
    let accuracy = output(&learned, "ACCURACY")[0].as_f64().unwrap();
    assert!(accuracy >= 0.95, "{accuracy} of the held-out digits are right");
    // The same seed, the same losses to the bit.
    assert_eq!(output(&told(&client, "digits", 12), "LOSS"), output(&learned, "LOSS"));
}

#[test]
fn training_in_wrong_ways_is_told_and_does_no_harm() {
    let server = Server::start();
    let client = trainer(&server);
    let answer = told(&client, "misuse", 1);
    let wanted = [
        "there are 2 classes",
        "indices must be INT32 or INT64",
        "both operands must have one shape",
        "the rate must be from 0",
        "the learning rate must be",
        "beta1 must be",
        "the parameter is [1.0, 2.0]",
    ];
    let got = output(&answer, "TOLD");
    assert_eq!(got.len(), wanted.len(), "{got:?}");
    for (got, wanted) in got.iter().zip(wanted) {
        assert!(got.as_str().unwrap().contains(wanted), "wanted {wanted:?}, got {got}");
    }
}
