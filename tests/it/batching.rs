//! Requests that run together, and those that must not.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, eventually, guest, pack};
use crate::hostile::{Tenant, turn};

/// Batches run one at a time, so that whoever comes meanwhile waits.
const ONE_AT_A_TIME: &str = "[engine]\nthreads = 1\n";

/// The guest that tells what ran together, batched like this.
fn bundle(batching: &str) -> Vec<u8> {
    let toml =
        format!("name = \"batching\"\n[limits]\ndeadline_ms_max = 4000\n[batching]\n{batching}\n");
    pack(&guest("tests/guests/batching").component, &toml, &[])
}

fn server() -> Server {
    Server::with_config(ONE_AT_A_TIME)
}

/// A tenant with the guest as the model `b`.
fn tenant(server: &Server, name: &str, batching: &str) -> Tenant {
    let tenant = Tenant::new(server, name);
    tenant.client.publish("b", "1", &bundle(batching)).expect_status(201);
    tenant
}

fn inputs(rows: &[Vec<i64>]) -> Value {
    let columns = rows.first().map_or(1, Vec::len);
    json!([{ "name": "X", "datatype": "INT64", "shape": [rows.len(), columns], "data": rows.concat() }])
}

fn one(value: i64) -> Value {
    json!({ "inputs": inputs(&[vec![value]]) })
}

fn with(value: i64, parameters: Value) -> Value {
    json!({ "inputs": inputs(&[vec![value]]), "parameters": parameters })
}

/// A model that is busy: while this is kept, requests of the same tenant wait.
struct Busy<'a> {
    tenant: &'a Tenant,
    spinning: TcpStream,
    waiting: u64,
}

impl<'a> Busy<'a> {
    fn new(tenant: &'a Tenant) -> Busy<'a> {
        let spinning = tenant.begin("b", &one(-3)["inputs"]);
        // Its input counts from when the guest has it.
        eventually("the guest spins", || tenant.usage("tensor_bytes") > 0);
        Busy { tenant, spinning, waiting: 1 }
    }

    /// Sends a request and waits until it waits.
    fn send(&mut self, body: &Value) -> Pending {
        let pending = send(&self.tenant.client, "/v2/models/b/infer", body);
        self.waiting += 1;
        let tenant = self.tenant;
        eventually("it waits", || tenant.usage("requests_in_flight") == self.waiting);
        pending
    }

    /// The model is free again.
    fn end(self) {
        drop(self.spinning);
    }
}

/// A request that was sent.
struct Pending(TcpStream);

fn send(client: &Client, path: &str, body: &Value) -> Pending {
    let body = body.to_string();
    let mut socket = TcpStream::connect(client.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        client.key,
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).unwrap();
    Pending(socket)
}

impl Pending {
    fn answer(mut self) -> Answer {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    /// How many rows ran together, which call it was, and the parameter.
    #[track_caller]
    fn told(self) -> [i64; 3] {
        let told = output(&self.answer().expect_status(200), "TOLD");
        [told[0], told[1], told[2]]
    }
}

fn output(answer: &Answer, name: &str) -> Vec<i64> {
    let answer = answer.json();
    let outputs = answer["outputs"].as_array().unwrap();
    let output = outputs.iter().find(|output| output["name"] == name).unwrap();
    output["data"].as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

#[test]
fn rows_come_back_to_their_callers() {
    let _turn = turn();
    let server = Server::start();
    let tenant = tenant(&server, "tenant", "preferred = [4, 8]\nmax = 16\ndelay_us = 2000");
    let client = &tenant.client;
    let ran_together = std::thread::scope(|scope| {
        let callers = (0..200i64).map(|caller| {
            scope.spawn(move || {
                let count = 1 + caller % 5;
                let rows: Vec<Vec<i64>> =
                    (0..count).map(|row| vec![1_000 * caller + 10 * row, caller]).collect();
                let answer = client.infer("b", inputs(&rows)).expect_status(200);
                let wanted: Vec<i64> = rows.concat().iter().map(|value| value + 1).collect();
                assert_eq!(output(&answer, "Y"), wanted);
                let told = output(&answer, "TOLD");
                assert!(told[0] >= count && told[0] <= 16, "{told:?}");
                told[0] > count
            })
        });
        let callers: Vec<_> = callers.collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .filter(|&together| together)
            .count()
    });
    assert!(ran_together > 0, "200 requests at once, and none ran with another");
    tenant.expect_idle();
    assert_eq!(tenant.usage("requests"), 200);
    assert_eq!(tenant.usage("failures"), 0);
}

#[test]
fn what_waits_runs_together_up_to_the_maximum() {
    let _turn = turn();
    let server = server();
    let tenant = tenant(&server, "tenant", "max = 4");
    let mut busy = Busy::new(&tenant);
    let requests: Vec<Pending> = (0..6).map(|value| busy.send(&one(value))).collect();
    busy.end();
    let told: Vec<_> = requests.into_iter().map(|pending| pending.told()).collect();
    // In the order in which they came; the guest that span is gone, and with it its count.
    assert_eq!(told, [[4, 1, 0], [4, 1, 0], [4, 1, 0], [4, 1, 0], [2, 2, 0], [2, 2, 0]]);
    tenant.expect_idle();
}

#[test]
fn a_bad_request_fails_alone() {
    let _turn = turn();
    let server = server();
    let tenant = tenant(&server, "tenant", "max = 32");
    for (bad, status, text) in [
        (-1, 500, "trapped"),
        (-2, 422, "X said invalid-argument"),
        (-3, 504, "deadline_ms_max of 4000 ms"),
    ] {
        let mut busy = Busy::new(&tenant);
        let good: Vec<Pending> = (0..2).map(|value| busy.send(&one(value))).collect();
        let bad = busy.send(&one(bad));
        let late = busy.send(&one(7));
        busy.end();
        for (pending, wanted) in good.into_iter().chain([late]).zip([1, 2, 8]) {
            let answer = pending.answer().expect_status(200);
            assert_eq!(output(&answer, "Y"), [wanted]);
            assert_eq!(output(&answer, "TOLD")[0], 1, "it was tried again by itself");
        }
        let answer = bad.answer().expect_status(status);
        assert!(answer.error().contains(text), "{}", answer.text());
        tenant.expect_idle();
    }
    // Those that span and left, and those that were bad.
    assert_eq!(tenant.usage("failures"), 6);
}

#[test]
fn a_model_that_loses_rows_is_asked_one_by_one() {
    let _turn = turn();
    let server = server();
    let tenant = tenant(&server, "tenant", "max = 32");
    let mut busy = Busy::new(&tenant);
    let (a, b) = (busy.send(&one(-4)), busy.send(&one(5)));
    busy.end();
    assert!(output(&a.answer().expect_status(200), "Y").is_empty());
    assert_eq!(output(&b.answer().expect_status(200), "Y"), [6]);
    let log = tenant.client.get("/api/v1/models/b/logs").expect_status(200).text();
    assert!(log.contains("must have 2 rows along dimension 0"), "{log}");
}

#[test]
fn only_what_is_alike_runs_together() {
    let _turn = turn();
    let server = server();
    let tenant = tenant(&server, "tenant", "max = 32");
    let wide = json!({ "inputs": inputs(&[vec![1, 2]]) });
    let mut named = one(1);
    named["outputs"] = json!([{ "name": "TOLD" }]);
    let mut busy = Busy::new(&tenant);
    let requests = [
        one(1),
        with(1, json!({ "p": 1 })),
        wide.clone(),
        with(2, json!({ "p": 2 })),
        named,
        one(2),
        with(3, json!({ "p": 1, "priority": 0, "timeout": 9_000_000 })),
        wide,
    ];
    let requests: Vec<Pending> = requests.iter().map(|body| busy.send(body)).collect();
    busy.end();
    let told: Vec<_> =
        requests.into_iter().map(Pending::told).map(|[rows, _, p]| (rows, p)).collect();
    assert_eq!(told, [(2, 0), (2, 1), (2, 0), (1, 2), (1, 0), (2, 0), (2, 1), (2, 0)]);
}

#[test]
fn requests_of_several_lengths_are_padded_where_the_model_says_so() {
    let _turn = turn();
    let server = server();
    let pad = "max = 32\npad = [{ input = \"X\", value = 7, outputs = [\"Y\"] }]";
    let tenant = tenant(&server, "tenant", pad);
    let mut busy = Busy::new(&tenant);
    let requests = [vec![vec![1]], vec![vec![2, 3, 4], vec![5, 6, 7]], vec![vec![8, 9]]];
    let sent: Vec<Pending> =
        requests.iter().map(|rows| busy.send(&json!({ "inputs": inputs(rows) }))).collect();
    busy.end();
    for (rows, pending) in requests.iter().zip(sent) {
        let answer = pending.answer().expect_status(200);
        let wanted: Vec<i64> = rows.concat().iter().map(|value| value + 1).collect();
        assert_eq!((output(&answer, "Y"), output(&answer, "TOLD")[0]), (wanted, 4));
    }
    let bad = bundle("max = 32\npad = [{ input = \"Z\" }]");
    let refused = tenant.client.publish("bad", "1", &bad).expect_status(422);
    assert!(refused.error().contains("one open dimension"), "{}", refused.text());
}

#[test]
fn who_leaves_or_has_waited_too_long_does_not_run() {
    let _turn = turn();
    let server = server();
    let tenant = tenant(&server, "tenant", "max = 32");
    let mut busy = Busy::new(&tenant);
    let stays = busy.send(&one(1));
    let leaves = busy.send(&one(2));
    drop(leaves);
    eventually("it has left", || tenant.usage("requests_in_flight") == 2);
    let impatient =
        send(&tenant.client, "/v2/models/b/infer", &with(3, json!({ "timeout": 1_500 })));
    let answer = impatient.answer().expect_status(504);
    let text = "waited longer for its turn than the request's timeout of 1500 us";
    assert_eq!(answer.error(), text);
    busy.end();
    assert_eq!(stays.told(), [1, 1, 0]);
    tenant.expect_idle();

    // The patience of a request holds wherever it waits.
    tenant.limit(&json!({ "requests_in_flight_max": 1 }));
    let busy = Busy::new(&tenant);
    let impatient =
        send(&tenant.client, "/v2/models/b/infer", &with(3, json!({ "timeout": 1_500 })));
    assert_eq!(impatient.answer().expect_status(504).error(), text);
    busy.end();
}

#[test]
fn the_first_priority_goes_first() {
    let _turn = turn();
    let server = server();
    let tenant = tenant(&server, "tenant", "max = 1\npriorities = 3\ndefault_priority = 2");
    let mut busy = Busy::new(&tenant);
    let requests =
        [3, 0, 1, 2].map(|priority| busy.send(&with(1, json!({ "priority": priority }))));
    busy.end();
    let order = requests.map(|pending| pending.told()[1]);
    assert_eq!(order, [4, 2, 1, 3], "the default is 2");
    let refused = tenant.client.post("/v2/models/b/infer", &with(1, json!({ "priority": 4 })));
    let error = refused.expect_status(400).error();
    assert_eq!(error, "parameters.priority: the model has 3 levels of priority, got 4");
}

#[test]
fn what_cannot_be_a_row_of_a_batch_is_refused() {
    let server = Server::start();
    let tenant = tenant(&server, "tenant", "max = 2");
    let refused = tenant.client.infer("b", inputs(&[vec![1], vec![2], vec![3]])).expect_status(422);
    assert_eq!(
        refused.error(),
        "the request has 3 rows along the batch axis; the model takes at most 2"
    );
    let mut uneven = inputs(&[vec![1], vec![2]]);
    let z = json!({ "name": "Z", "datatype": "INT64", "shape": [1], "data": [1] });
    uneven.as_array_mut().unwrap().push(z);
    let refused = tenant.client.infer("b", uneven).expect_status(422);
    let wanted =
        r#"input "X" has 2 rows and input "Z" has 1; all inputs of a request must have as many"#;
    assert_eq!(refused.error(), wanted);
    assert!(output(&tenant.client.infer("b", inputs(&[])).expect_status(200), "Y").is_empty());
}

#[test]
fn tenants_share_a_batch_only_where_the_owner_lets_them() {
    let _turn = turn();
    for (across, together) in [(false, 1), (true, 2)] {
        let server = server();
        let owner = tenant(&server, "owner", &format!("max = 32\nacross_tenants = {across}"));
        let guest = Tenant::new(&server, "guest");
        owner.client.put("/api/v1/models/b/sharing", &json!({ "with": "all" })).expect_status(200);
        let path = "/t/owner/v2/models/b/infer";
        let mut busy = Busy::new(&owner);
        let own = busy.send(&one(1));
        let others = match across {
            true => {
                let pending = send(&guest.client, path, &one(2));
                eventually("it waits", || guest.usage("requests_in_flight") == 1);
                pending
            }
            // The owner's batches hold up nobody else's.
            false => send(&guest.client, path, &one(2)),
        };
        if !across {
            let answer = others.answer().expect_status(200);
            assert_eq!(
                (output(&answer, "Y"), output(&answer, "TOLD")[..2].to_vec()),
                (vec![3], vec![1, 1])
            );
            busy.end();
        } else {
            busy.end();
            assert_eq!(others.told(), [2, 1, 0]);
        }
        assert_eq!(own.told()[0], together);
        let used: HashMap<_, _> =
            [&owner, &guest].map(|tenant| (tenant.name.as_str(), tenant.usage("requests"))).into();
        assert_eq!(used, HashMap::from([("owner", 2), ("guest", 1)]));
        owner.expect_idle();
        guest.expect_idle();
    }
}

#[test]
fn how_a_model_is_batched_is_checked_and_shown() {
    let server = Server::start();
    let tenant = tenant(&server, "tenant", "preferred = [4, 8]\nmax = 32\ndelay_us = 500");
    let batching = json!({ "preferred": [4, 8], "max": 32, "delay_us": 500, "priorities": 1 });
    let version = tenant.client.get("/api/v1/models/b/versions/1").expect_status(200).json();
    assert_eq!(
        (&version["facts"]["batching"], &version["manifest"]["batching"]),
        (&batching, &batching)
    );
    let document = tenant.client.get("/api/v1/models/b/versions/1/interface").expect_status(200);
    assert_eq!(document.json()["x-innkeeper"]["batching"], batching);

    let hostile =
        pack(&guest("tests/guests/hostile").component, "name = \"h\"\n[batching]\nmax = 2\n", &[]);
    let refused = tenant.client.publish("h", "1", &hostile).expect_status(422);
    assert!(refused.error().contains("the signature declares no batch axis"), "{}", refused.text());
}
