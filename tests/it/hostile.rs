//! Guests that misbehave fail alone.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, eventually, guest, pack};

/// Guests that spin take the processor from whoever else measures time, so that these tests take
/// turns.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The inputs that tell the hostile guest what to do.
pub fn told(mode: &str, value: Option<f32>) -> Value {
    let values: Vec<f32> = value.into_iter().collect();
    told_at_length(mode, &values)
}

/// As [`told`], with a longer `VALUE`.
pub fn told_at_length(mode: &str, values: &[f32]) -> Value {
    let mode = json!({ "name": "MODE", "datatype": "BYTES", "shape": [1], "data": [mode] });
    if values.is_empty() {
        return json!([mode]);
    }
    let shape = [values.len()];
    json!([mode, { "name": "VALUE", "datatype": "FP32", "shape": shape, "data": values }])
}

/// The hostile guest as a bundle, with this isolation and these lines under `[limits]`.
pub fn hostile(isolation: &str, limits: &str) -> Vec<u8> {
    let toml = format!("name = \"hostile\"\nisolation = \"{isolation}\"\n[limits]\n{limits}\n");
    pack(&guest("tests/guests/hostile").component, &toml, &[])
}

/// The hostile guest as a bundle, with this in its `innkeeper.toml`.
pub fn hostile_with(sections: &str) -> Vec<u8> {
    let toml = format!("name = \"hostile\"\n{sections}\n");
    pack(&guest("tests/guests/hostile").component, &toml, &[])
}

/// A tenant of a test's server.
pub struct Tenant {
    pub name: String,
    pub client: Client,
    admin: Client,
}

impl Tenant {
    pub fn new(server: &Server, name: &str) -> Tenant {
        Tenant { name: name.into(), client: server.tenant(name), admin: server.admin() }
    }

    /// With the hostile guest as the models `kept` and `fresh`, one for each isolation.
    pub fn hostile(server: &Server, name: &str) -> Tenant {
        let tenant = Tenant::new(server, name);
        tenant.client.publish("kept", "1", &hostile("tenant", "")).expect_status(201);
        tenant.client.publish("fresh", "1", &hostile("request", "")).expect_status(201);
        tenant
    }

    /// With the model `add-one`.
    pub fn peaceful(server: &Server, name: &str) -> Tenant {
        let tenant = Tenant::new(server, name);
        let bundle = &guest("plugins/add-one").bundle;
        tenant.client.publish("add-one", "1", bundle).expect_status(201);
        tenant
    }

    /// Sets these limits, and all others back.
    #[track_caller]
    pub fn limit(&self, limits: &Value) {
        let path = format!("/api/v1/tenants/{}/limits", self.name);
        self.admin.put(&path, limits).expect_status(200);
    }

    /// One number of the tenant's usage.
    pub fn usage(&self, what: &str) -> u64 {
        let usage = self.client.get(&format!("/api/v1/tenants/{}/usage", self.name));
        let usage = usage.expect_status(200).json();
        usage["usage"][what].as_u64().unwrap_or_else(|| panic!("no {what} in {usage}"))
    }

    /// Calls a hostile model.
    pub fn tell(&self, model: &str, mode: &str, value: Option<f32>) -> Answer {
        self.client.infer(model, told(mode, value))
    }

    /// `OUTPUT0` of a hostile model that has to answer.
    #[track_caller]
    pub fn number(&self, model: &str, mode: &str, value: Option<f32>) -> f64 {
        output0(&self.tell(model, mode, value).expect_status(200))[0]
    }

    /// Begins a call and does not wait for its answer. The client is gone when the socket is
    /// dropped.
    pub fn begin(&self, model: &str, inputs: &Value) -> TcpStream {
        let body = json!({ "inputs": inputs }).to_string();
        let mut socket = TcpStream::connect(self.client.url.trim_start_matches("http://")).unwrap();
        let head = format!(
            "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.client.key,
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        socket
    }

    /// As [`Tenant::begin`] of a guest that never ends, and waits until `running` of them run.
    pub fn spin(&self, model: &str, running: u64) -> TcpStream {
        let socket = self.begin(model, &told("spin", None));
        eventually("the guest spins", || self.usage("requests_in_flight") == running);
        socket
    }

    /// Calls `add-one` and holds the answer against what it must be.
    #[track_caller]
    pub fn add_one(&self) {
        let data: Vec<f32> = (0..16u8).map(f32::from).collect();
        let input = json!([
            { "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": data }
        ]);
        let wanted: Vec<f64> = (1..17u8).map(f64::from).collect();
        assert_eq!(output0(&self.client.infer("add-one", input).expect_status(200)), wanted);
    }

    /// Nothing of what this tenant did is left behind.
    #[track_caller]
    pub fn expect_idle(&self) {
        let used = ["requests_in_flight", "requests_queued", "tensor_bytes"];
        eventually("nothing is in use", || used.iter().all(|what| self.usage(what) == 0));
    }
}

fn output0(answer: &Answer) -> Vec<f64> {
    let answer = answer.json();
    let outputs = answer["outputs"].as_array().unwrap();
    let output = outputs.iter().find(|output| output["name"] == "OUTPUT0").unwrap();
    output["data"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// What the hostile tenant of [`every_hostile_guest_fails_alone`] may do.
fn tight() -> Value {
    json!({
        "deadline_ms_max": 1_000,
        "guest_memory_bytes_max": 64 << 20,
        "handles_max": 1_000,
        "tensor_bytes_max": 32 << 20,
        "hostcall_bytes_max": 4 << 20,
        "output_bytes_max": 4 << 20,
    })
}

/// Mode, its value, the status and what the error says.
type Case = (&'static str, Option<f32>, u16, &'static [&'static str]);

const CASES: &[Case] = &[
    ("spin", None, 504, &["deadline_ms_max of 1000 ms"]),
    ("kernels", None, 504, &["deadline_ms_max of 1000 ms"]),
    ("panic", None, 500, &["trapped"]),
    ("unreachable", None, 500, &["trapped", "unreachable"]),
    ("recurse", None, 500, &["trapped", "out of bounds"]),
    ("memory", None, 500, &["guest_memory_bytes_max of 67108864"]),
    ("handles", None, 500, &["handles_max of 1000"]),
    ("tensor-bytes", None, 500, &["tensor_bytes_max of 33554432"]),
    ("big-tensor", None, 500, &["tensor_bytes_max of 33554432"]),
    ("broadcast-bomb", None, 500, &["tensor_bytes_max of 33554432"]),
    ("overflowing-shape", None, 422, &["product of the dimensions"]),
    ("high-rank", None, 422, &["dimensions"]),
    ("host-call", Some(8.0), 500, &["hostcall_bytes_max of 4194304"]),
    ("large-text", Some(8.0), 500, &["hostcall_bytes_max of 4194304"]),
    ("large-output", Some(8.0), 500, &["output_bytes_max of 4194304"]),
    ("many-outputs", Some(100.0), 500, &["no output named \"OUTPUT1\""]),
    ("many-outputs", Some(2_000.0), 500, &["handles_max of 1000"]),
    ("read-past", None, 422, &["not inside the tensor's 4 bytes"]),
    ("divide-by-zero", None, 422, &["zero"]),
    ("lying-strings", None, 422, &["BYTES"]),
    ("wrong-length", None, 422, &["12", "8"]),
    ("wrong-dtype", None, 500, &["output \"OUTPUT0\" must be FP32, got INT64"]),
    ("wrong-shape", None, 500, &["output \"OUTPUT0\" must have shape [1], got [2]"]),
    ("wrong-rank", None, 500, &["output \"OUTPUT0\" must have shape [1], got [1,1]"]),
    ("wrong-name", None, 500, &["no output named \"NOT-IN-SIGNATURE\""]),
    ("missing", None, 500, &["output \"OUTPUT0\" is missing"]),
    ("twice", None, 500, &["output \"OUTPUT0\" is given twice"]),
    ("invalid-argument", None, 422, &["MODE said invalid-argument"]),
    ("not-found", None, 500, &["the model failed: MODE said not-found"]),
    ("unsupported", None, 500, &["the model failed: MODE said unsupported"]),
    ("resource-exhausted", None, 500, &["the model failed: MODE said resource-exhausted"]),
    ("internal", None, 500, &["the model failed: MODE said internal"]),
    ("long-error", Some(1.0), 422, &["xxx", "..."]),
    ("long-error", Some(8.0), 500, &["hostcall_bytes_max of 4194304"]),
    ("nonsense", None, 422, &["there is no MODE \"nonsense\""]),
];

#[test]
fn every_hostile_guest_fails_alone() {
    let _turn = turn();
    let server = Server::start();
    let mallory = Tenant::hostile(&server, "mallory");
    let alice = Tenant::peaceful(&server, "alice");
    mallory.limit(&tight());
    let mut wrong = Vec::new();
    for model in ["kept", "fresh"] {
        for case in CASES {
            wrong.extend(fails_alone(&mallory, &alice, model, case));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // An error that the guest has dealt with says nothing about the calls that follow.
    assert!((40.0..64.0).contains(&mallory.number("kept", "memory-try", None)));
    let trap = mallory.tell("kept", "unreachable", None).expect_status(500).error();
    assert!(trap.contains("trapped"), "{trap}");
    // One operation that takes longer than the deadline stops at it.
    mallory.limit(&json!({ "deadline_ms_max": 200 }));
    let late = mallory.tell("fresh", "huge-product", None).expect_status(504).error();
    assert!(late.contains("deadline_ms_max of 200 ms"), "{late}");
    mallory.limit(&tight());
    // What a guest hands over is limited call by call.
    assert_eq!(mallory.number("kept", "host-calls", Some(8.0)), 8.0);
    assert_eq!(mallory.number("kept", "log-lines", Some(5_000.0)), 5_000.0);
    mallory.expect_idle();
    assert_eq!(alice.usage("failures"), 0);
}

/// The guest's request fails, another tenant is answered meanwhile, and nothing is left behind.
/// Gives back what is wrong with how it fails.
fn fails_alone(mallory: &Tenant, alice: &Tenant, model: &str, case: &Case) -> Option<String> {
    let (mode, value, status, says) = *case;
    let answer = std::thread::scope(|scope| {
        let hostile = scope.spawn(|| mallory.tell(model, mode, value));
        let mut rounds = 0;
        while rounds == 0 || !hostile.is_finished() {
            alice.add_one();
            rounds += 1;
        }
        hostile.join().unwrap()
    });
    let next = mallory.number(model, "ok", Some(7.0));
    assert_eq!(next, 7.0, "{model} {mode}: the next request");
    mallory.expect_idle();

    let error = answer.error();
    let right = answer.status == status
        && says.iter().all(|part| error.contains(part))
        && error.len() < 3_000;
    (!right).then(|| {
        format!("{model} {mode}: wanted {status} {says:?}, got {} {error:?}", answer.status)
    })
}

#[test]
fn instances_are_kept_apart() {
    let _turn = turn();
    let server = Server::start();
    let (owner, guest) = (Tenant::hostile(&server, "owner"), Tenant::new(&server, "guest"));
    a_fresh_instance_for_every_request(&owner);
    what_goes_wrong_ends_the_instance(&owner);
    tenants_never_share_an_instance(&owner, &guest);
    a_client_that_leaves_stops_its_guest(&owner);
    a_client_that_leaves_the_queue_is_gone(&owner);
    owner.expect_idle();
}

fn counts(tenant: &Tenant, model: &str, wanted: &[f64]) {
    for (call, wanted) in wanted.iter().enumerate() {
        let got = tenant.number(model, "state", None);
        assert_eq!(got, *wanted, "{}: {model}, call {call}", tenant.name);
    }
}

fn a_fresh_instance_for_every_request(owner: &Tenant) {
    counts(owner, "fresh", &[1.0, 1.0, 1.0]);
    counts(owner, "kept", &[1.0, 2.0, 3.0]);
    assert_eq!(owner.usage("warm_instances"), 1);
    owner.limit(&json!({ "warm_instances_max": 0 }));
    counts(owner, "kept", &[1.0, 1.0]);
    assert_eq!(owner.usage("warm_instances"), 0);
    owner.limit(&json!({}));
}

fn what_goes_wrong_ends_the_instance(owner: &Tenant) {
    owner.limit(&json!({ "deadline_ms_max": 500, "guest_memory_bytes_max": 32 << 20 }));
    counts(owner, "kept", &[1.0, 2.0]);
    // An error that the guest answers itself does not end it; one that ends it leaves nothing.
    for (mode, status, next) in [
        ("invalid-argument", 422, 3.0),
        ("internal", 500, 4.0),
        ("wrong-dtype", 500, 5.0),
        ("panic", 500, 1.0),
        ("spin", 504, 1.0),
        ("memory", 500, 1.0),
        ("recurse", 500, 1.0),
        ("handles", 500, 1.0),
    ] {
        owner.tell("kept", mode, None).expect_status(status);
        assert_eq!(owner.number("kept", "state", None), next, "after {mode}");
    }
    owner.limit(&json!({}));
}

fn tenants_never_share_an_instance(owner: &Tenant, guest: &Tenant) {
    let sharing = json!({ "with": [guest.name] });
    for model in ["kept", "fresh"] {
        owner.client.put(&format!("/api/v1/models/{model}/sharing"), &sharing).expect_status(200);
    }
    let call = |mode: &str, value| {
        let path = format!("/t/{}/v2/models/kept/infer", owner.name);
        guest.client.post(&path, &json!({ "inputs": told(mode, value) }))
    };
    owner.limit(&json!({ "warm_instances_max": 4 }));
    counts(owner, "kept", &[1.0, 2.0, 3.0]);
    for wanted in [1.0, 2.0] {
        assert_eq!(output0(&call("state", None).expect_status(200)), [wanted]);
    }
    counts(owner, "kept", &[4.0]);
    assert_eq!(output0(&call("state", None).expect_status(200)), [3.0]);

    assert_eq!(owner.number("kept", "keep-input", Some(42.0)), 1.0);
    assert!(owner.tell("kept", "kept", None).expect_status(200).text().contains("42"));
    let none = call("kept", None).expect_status(500).error();
    assert!(none.contains("nothing is kept"), "{none}");
    // What is kept counts, for whoever keeps it.
    assert_eq!((owner.usage("tensor_bytes"), guest.usage("tensor_bytes")), (4, 0));
    owner.tell("kept", "unreachable", None).expect_status(500);
    owner.tell("kept", "kept", None).expect_status(500);
    assert_eq!(owner.usage("tensor_bytes"), 0);

    // Whoever calls is counted, not whoever owns.
    let before = owner.usage("requests");
    call("ok", None).expect_status(200);
    assert_eq!(owner.usage("requests"), before);
    assert!(guest.usage("requests") > 0);
    owner.limit(&json!({}));
}

fn a_client_that_leaves_stops_its_guest(owner: &Tenant) {
    for model in ["kept", "fresh"] {
        counts(owner, model, &[1.0]);
        let socket = owner.spin(model, 1);
        let left = Instant::now();
        drop(socket);
        eventually("the guest stops", || owner.usage("requests_in_flight") == 0);
        let took = left.elapsed();
        // The deadline is 30 s and a tick 1 ms; the rest is for a machine that is busy.
        assert!(took < Duration::from_secs(2), "{model}: the guest ran on for {took:?}");
        counts(owner, model, &[1.0]);
        owner.tell(model, "unreachable", None).expect_status(500);
    }
}

fn a_client_that_leaves_the_queue_is_gone(owner: &Tenant) {
    owner.limit(&json!({ "requests_in_flight_max": 1 }));
    let running = owner.spin("kept", 1);
    let waiting = owner.begin("kept", &told("spin", None));
    eventually("the second waits", || owner.usage("requests_queued") == 1);
    drop(waiting);
    eventually("nobody waits", || owner.usage("requests_queued") == 0);
    drop(running);
    assert_eq!(owner.number("kept", "ok", Some(3.0)), 3.0);
    owner.limit(&json!({}));
}

#[test]
fn spinning_guests_do_not_keep_others_from_being_answered() {
    let _turn = turn();
    let server = Server::start();
    let (mallory, alice) =
        (Tenant::hostile(&server, "mallory"), Tenant::peaceful(&server, "alice"));
    alice.client.publish("slow", "1", &hostile("tenant", "")).expect_status(201);
    let spinning: Vec<_> = (1..=3).map(|running| mallory.spin("kept", running)).collect();
    let began = Instant::now();
    for _ in 0..100 {
        alice.add_one();
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "100 answers took {took:?} beside spinning guests");
    // A model that takes long runs on the same threads as the guests that spin.
    for _ in 0..3 {
        assert_eq!(alice.number("slow", "count", Some(20.0)), 20e6);
    }
    assert_eq!(mallory.usage("requests_in_flight"), 3, "they spin all the while");
    drop(spinning);
    mallory.expect_idle();
    assert_eq!(mallory.number("kept", "ok", Some(1.0)), 1.0);
}

#[test]
fn logs_and_blame_stay_with_the_model() {
    let _turn = turn();
    let server = Server::start();
    let (owner, other) = (Tenant::hostile(&server, "owner"), Tenant::new(&server, "other"));
    logs_hold_what_the_guest_wrote(&owner);
    logs_are_cut(&owner);
    logs_are_the_owners(&server, &owner, &other);
    a_model_that_always_fails_rests(&owner, &other);
}

/// The lines of a model's log after this one.
fn lines(tenant: &Tenant, model: &str, since: u64) -> (Vec<Value>, u64) {
    let path = format!("/api/v1/models/{model}/logs?since={since}&max=1000");
    let answer = tenant.client.get(&path).expect_status(200).json();
    (answer["lines"].as_array().unwrap().clone(), answer["next"].as_u64().unwrap())
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap()
}

fn logs_hold_what_the_guest_wrote(owner: &Tenant) {
    let body = json!({ "id": "request-17", "inputs": told("log-levels", None) });
    owner.client.post("/v2/models/fresh/infer", &body).expect_status(200);
    let (written, next) = lines(owner, "fresh", 0);
    let got: Vec<_> = written.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(got, ["debug", "info", "warn", "error"]);
    assert!(message(&written[3]).starts_with("an error line\nwith a second line"));
    for line in &written {
        assert_eq!((&line["request_id"], &line["version"]), (&json!("request-17"), &json!("1")));
    }

    owner.tell("fresh", "panic", None).expect_status(500);
    let (written, next) = lines(owner, "fresh", next);
    let has = |text: &str| written.iter().any(|line| message(line).contains(text));
    assert!(has("the guest was told to panic") && has("trapped"), "{written:?}");
    assert!(lines(owner, "fresh", next).0.is_empty(), "only what is new");
    assert!(lines(owner, "kept", 0).0.is_empty(), "the other model has its own log");
}

fn logs_are_cut(owner: &Tenant) {
    let bytes = |lines: &[Value]| lines.iter().map(|line| message(line).len()).sum::<usize>();
    // One request's part.
    for (mode, value) in [("log-lines", 20_000.0), ("log-bytes", 1.0)] {
        let (_, before) = lines(owner, "fresh", 0);
        owner.tell("fresh", mode, Some(value)).expect_status(200);
        let (written, _) = lines(owner, "fresh", before);
        assert!(bytes(&written) < (17 << 10), "{mode}: {} bytes", bytes(&written));
        let told: Vec<_> = written.iter().filter(|line| message(line).contains("lost")).collect();
        assert_eq!(told.len(), 1, "{mode}: what is lost is said once: {told:?}");
        assert!(message(told[0]).contains("log_bytes_per_request_max"), "{told:?}");
    }
    // All that is kept of one model.
    for _ in 0..20 {
        owner.tell("fresh", "log-lines", Some(100.0)).expect_status(200);
    }
    assert!(bytes(&lines(owner, "fresh", 0).0) <= 256 << 10);
    owner.limit(&json!({ "log_bytes_max": 2_000, "log_bytes_per_request_max": 1_000 }));
    let (_, before) = lines(owner, "fresh", 0);
    owner.tell("fresh", "log-lines", Some(100.0)).expect_status(200);
    let (written, _) = lines(owner, "fresh", before);
    assert!(bytes(&written) <= 2_000, "{} bytes", bytes(&written));
    assert!(lines(owner, "fresh", 0).0.len() <= written.len(), "older lines made room");
    owner.limit(&json!({}));
}

fn logs_are_the_owners(server: &Server, owner: &Tenant, other: &Tenant) {
    owner.tell("fresh", "log-levels", None).expect_status(200);
    let path = "/api/v1/models/fresh/logs";
    other.client.get(path).expect_status(404);
    owner.client.put("/api/v1/models/fresh/sharing", &json!({ "with": "all" })).expect_status(200);
    other.client.get(path).expect_status(404);
    let caller = server.key(&owner.name, &["predict"]);
    caller.get(path).expect_status(403);

    // Neither may a caller empty them by limits of its own.
    let kept = lines(owner, "fresh", 0).0.len();
    other.limit(&json!({ "log_bytes_max": 0 }));
    let body = json!({ "inputs": told("log-levels", None) });
    other.client.post("/t/owner/v2/models/fresh/infer", &body).expect_status(200);
    assert_eq!(lines(owner, "fresh", 0).0.len(), kept + 4, "the caller's lines are added");
    other.limit(&json!({}));
}

fn a_model_that_always_fails_rests(owner: &Tenant, other: &Tenant) {
    let mut failures = 0;
    let rest = loop {
        let answer = owner.tell("fresh", "unreachable", None);
        if answer.status == 503 {
            break answer;
        }
        failures += 1;
        assert!(answer.status == 500 && failures <= 60, "{failures}: {}", answer.text());
    };
    assert_eq!(failures, 50);
    assert!(rest.error().contains("rests for"), "{}", rest.error());
    assert!(rest.header("retry-after").is_some());
    // For this caller and this model alone.
    let body = json!({ "inputs": told("ok", None) });
    other.client.post("/t/owner/v2/models/fresh/infer", &body).expect_status(200);
    owner.tell("kept", "ok", None).expect_status(200);
    eventually("it has rested", || owner.tell("fresh", "ok", None).status == 200);
}
