//! Connections that are slow, broken, many or about to end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::harness::{Client, Server, eventually, guest};
use super::wire::{Next, Wire, request};

/// A server that waits for slow clients only shortly.
const IMPATIENT: &str = "[server]\nheader_read_ms = 400\nbody_idle_ms = 400\n";
/// What it is given to notice, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(5);
/// How many connections are held open at once.
const MANY: usize = 10_000;

fn infer(id: &str) -> Vec<u8> {
    let row =
        json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }]);
    json!({ "id": id, "inputs": row }).to_string().into_bytes()
}

fn hostile(mode: &str, value: f32) -> Vec<u8> {
    let inputs = json!([
        { "name": "MODE", "datatype": "BYTES", "shape": [1], "data": [mode] },
        { "name": "VALUE", "datatype": "FP32", "shape": [1], "data": [value] },
    ]);
    json!({ "inputs": inputs }).to_string().into_bytes()
}

/// A client whose requests stop coming, at every place where they can.
#[test]
fn a_slow_client_is_not_waited_for() {
    let server = Server::with_config(IMPATIENT);
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let body = infer("slow");
    let whole = request(&tenant.key, "POST", "/v2/models/m/infer", &[], &body);
    let cuts = [
        ("nothing", 0, None),
        ("half a line", 5, None),
        ("half the headers", 40, None),
        ("headers without their end", whole.len() - body.len() - 2, None),
        ("no body", whole.len() - body.len(), Some(408)),
        ("half a body", whole.len() - 10, Some(408)),
    ];
    for (what, cut, status) in cuts {
        let mut wire = Wire::open(&tenant);
        let began = Instant::now();
        wire.send(&whole[..cut]);
        match (wire.next(SOON), status) {
            (Next::Answer(answer), Some(status)) => {
                assert_eq!(answer.status, status, "{what}: {}", answer.text());
                assert!(answer.error().contains("400 ms"), "{what}: {}", answer.error());
                assert_eq!(answer.header("connection"), Some("close"), "{what}");
                assert!(matches!(wire.next(SOON), Next::Closed), "{what}");
            }
            (Next::Answer(answer), None) => drop(answer.expect_status(408)),
            (Next::Closed, None) => {}
            (other, _) => panic!("{what}: {other:?}"),
        }
        assert!(began.elapsed() >= Duration::from_millis(390), "{what}: it had its time");
    }

    // A byte now and then does not keep headers going on for ever; the pauses are waits for an answer.
    let mut wire = Wire::open(&tenant);
    let began = Instant::now();
    let mut bytes = b"GET /v2 HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x'));
    while !matches!(wire.next(Duration::from_millis(50)), Next::Closed | Next::Answer(_)) {
        wire.send(&[*bytes.next().unwrap()]);
        assert!(began.elapsed() < SOON, "it goes on for ever");
    }

    // A body that keeps coming is read, however long it takes in all.
    let mut wire = Wire::open(&tenant);
    let (head, tail) = whole.split_at(whole.len() - 8);
    wire.send(head);
    for byte in tail {
        assert!(matches!(wire.next(Duration::from_millis(100)), Next::Silent));
        wire.send(&[*byte]);
    }
    wire.answer().expect_status(200);
}

/// A client that closes its side while its model runs is gone, and stops costing anything.
#[test]
fn a_half_closed_connection_ends() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("hostile", "1", &guest("tests/guests/hostile").bundle).expect_status(201);
    let running = || {
        let usage = tenant.get("/api/v1/tenants/acme/usage").expect_status(200).json();
        usage["usage"]["requests_in_flight"].as_u64().unwrap()
    };
    for half in [true, false] {
        let mut wire = Wire::open(&tenant);
        let body = hostile("spin", 0.0);
        wire.send(&request(&tenant.key, "POST", "/v2/models/hostile/infer", &[], &body));
        eventually("the model runs", || running() == 1);
        let began = Instant::now();
        if half {
            wire.half_close();
            assert!(!matches!(wire.next(SOON), Next::Silent), "the server closes as well");
        } else {
            drop(wire);
        }
        eventually("the model stops", || running() == 0);
        assert!(began.elapsed() < SOON, "long before its deadline of 30 s");
    }
    // Half of a request and then nothing more.
    let mut wire = Wire::open(&tenant);
    wire.send(b"POST /v2/models/hostile/infer HTTP/1.1\r\ncontent-le");
    wire.half_close();
    assert!(!matches!(wire.next(SOON), Next::Silent));
    tenant.send("POST", "/v2/models/hostile/infer", &[], &hostile("ok", 1.0)).expect_status(200);
}

/// What is no HTTP, or tries to be two requests at once, gets an error and the end of its connection.
#[test]
fn bytes_that_are_no_request() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let key = &tenant.key;
    let many: Vec<String> = (0..200).map(|i| format!("x-{i}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = format!("x-long: {}", "x".repeat(64 << 10));
    let long_path = format!("/v2/models/{}", "x".repeat(80 << 10));
    let get = |headers: &[&str]| request(key, "GET", "/v2", headers, b"");
    let cases: [(&str, Vec<u8>, &[u16]); 13] = [
        ("no HTTP", b"hello there\r\n\r\n".to_vec(), &[400]),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
        ("no version", b"GET /v2\r\n\r\n".to_vec(), &[400]),
        ("zeros", vec![0; 1024], &[400]),
        ("a header without a name", get(&[": x"]), &[400]),
        ("a header with a line break", get(&["x: a\rb"]), &[400]),
        ("two lengths", get(&["content-length: 5", "content-length: 6"]), &[400]),
        ("a length that is none", get(&["content-length: x"]), &[400]),
        ("a negative length", get(&["content-length: -1"]), &[400]),
        ("an unknown coding", get(&["transfer-encoding: identity, x"]), &[400, 501]),
        ("too many headers", get(&many), &[431]),
        ("too long a header", get(&[&long]), &[431]),
        ("too long a path", request(key, "GET", &long_path, &[], b""), &[414, 431]),
    ];
    for (what, bytes, wanted) in cases {
        let mut wire = Wire::open(&tenant);
        wire.send(&bytes);
        let answer = wire.answer();
        assert!(wanted.contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        assert!(matches!(wire.next(SOON), Next::Closed), "{what}: it ends");
    }
    // Of both ways to say a length, no reader in front of this one may take the other.
    let mut wire = Wire::open(&tenant);
    let both = ["content-length: 5", "transfer-encoding: chunked"];
    wire.send(&request(key, "POST", "/v2/models/m/infer", &both, b""));
    wire.send(b"0\r\n\r\nGET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n");
    let first = wire.answer();
    assert!(first.status >= 400, "{}", first.text());
    tenant.get("/v2").expect_status(200);
}

/// Requests sent without waiting are answered one by one, in their order.
#[test]
fn requests_may_be_sent_ahead() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let path = "/v2/models/m/infer";
    let mut bytes = Vec::new();
    for i in 0..20 {
        bytes.extend(request(&tenant.key, "POST", path, &[], &infer(&format!("r{i}"))));
        bytes.extend(request(&tenant.key, "GET", &format!("/v2/models/absent-{i}"), &[], b""));
    }
    let mut wire = Wire::open(&tenant);
    wire.send(&bytes);
    for i in 0..20 {
        assert_eq!(wire.answer().expect_status(200).json()["id"], format!("r{i}"));
        let absent = wire.answer().expect_status(404);
        assert!(absent.error().contains(&format!("absent-{i}")), "{}", absent.error());
    }
    assert!(matches!(wire.next(Duration::from_millis(50)), Next::Silent), "it stays open");
    // Whoever asks for 100-continue gets it, or the answer.
    let whole = request(&tenant.key, "POST", path, &["expect: 100-continue"], &infer("c"));
    wire.send(&whole);
    let mut answer = wire.answer();
    if answer.status == 100 {
        answer = wire.answer();
    }
    assert_eq!(answer.expect_status(200).json()["id"], "c");
}

/// An answer that does not need the body may come before it. The connection then either goes on with the next request,
/// or the answer says that it ends.
#[test]
fn an_answer_before_the_body_loses_no_request() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let small = infer("x");
    let large = vec![b' '; 1 << 20];
    let cases: [(&str, &str, &str, &str, &[u8], u16); 8] = [
        ("no key", "", "POST", "/v2/models/m/infer", &small, 401),
        ("no route", &tenant.key, "POST", "/nowhere", &small, 404),
        ("no method", &tenant.key, "PATCH", "/v2", &small, 405),
        ("no model", &tenant.key, "POST", "/v2/models/x/infer", &small, 404),
        ("no scope", &tenant.key, "POST", "/api/v1/tenants", &small, 403),
        ("no use for it", &tenant.key, "GET", "/v2", &small, 200),
        ("no key, and a large body", "", "POST", "/v2/models/m/infer", &large, 401),
        ("no model, and a large body", &tenant.key, "POST", "/v2/models/x/infer", &large, 404),
    ];
    for (what, key, method, path, body, status) in cases {
        for chunked in [false, true] {
            let mut wire = Wire::open(&tenant);
            let length = format!("content-length: {}", body.len());
            let length = if chunked { "transfer-encoding: chunked" } else { &length };
            wire.send(&request(key, method, path, &[length], b""));
            // The head has arrived alone.
            let early = wire.next(Duration::from_millis(50));
            if chunked {
                wire.send(format!("{:x}\r\n", body.len()).as_bytes());
            }
            wire.send(body);
            if chunked {
                wire.send(b"\r\n0\r\n\r\n");
            }
            let answer = match early {
                Next::Answer(answer) => answer,
                Next::Silent => wire.answer(),
                Next::Closed => panic!("{what}: closed without an answer"),
            };
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            if answer.header("connection") != Some("close") {
                wire.send(&request(&tenant.key, "GET", "/v2/models/m", &[], b""));
                assert_eq!(wire.answer().json()["name"], "m", "{what}: the next request");
            } else {
                assert!(body.len() > 64 << 10, "{what}: a small body ends no connection");
            }
        }
    }
}

/// Bytes of memory that a process has in use.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

fn handles(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Whether this process, and the servers that it starts, may have so many files open.
fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return true;
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(files));
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).is_ok()
}

#[test]
fn ten_thousand_connections() {
    if !may_open(MANY as u64 + 2_000) {
        println!("SKIPPED: ten_thousand_connections needs the right to open as many files");
        eprintln!("SKIPPED: ten_thousand_connections needs the right to open as many files");
        return;
    }
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let whole = request(&tenant.key, "POST", "/v2/models/m/infer", &[], &infer("many"));
    let (head, tail) = whole.split_at(whole.len() / 2);
    tenant.infer("m", rows()).expect_status(200);
    let (before, few) = (resident(server.pid()), handles(server.pid()));

    let mut wires = Vec::with_capacity(MANY);
    for i in 0..MANY {
        let mut wire = Wire::open(&tenant);
        // A third each: says nothing, stands in the midst of a request, has had an answer.
        match i % 3 {
            0 => {}
            1 => wire.send(head),
            _ => {
                wire.send(&whole);
                wire.answer().expect_status(200);
            }
        }
        wires.push(wire);
        if i % 1_000 == 999 {
            let began = Instant::now();
            server.client(&tenant.key).infer("m", rows()).expect_status(200);
            assert!(began.elapsed() < Duration::from_secs(1), "{:?} at {i}", began.elapsed());
        }
    }
    eventually("all are taken", || handles(server.pid()) >= MANY);
    let grown = resident(server.pid()).saturating_sub(before);
    assert!(grown < MANY * (32 << 10), "{} bytes each", grown / MANY);
    for (i, wire) in wires.iter_mut().enumerate().step_by(50) {
        wire.send(if i % 3 == 1 { tail } else { &whole });
        wire.answer().expect_status(200);
    }
    drop(wires);
    eventually("all are let go", || handles(server.pid()) < few + 50);
    tenant.infer("m", rows()).expect_status(200);
}

fn rows() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }])
}

/// Whoever comes when all connections are taken is told so, and gets in when one is free again.
#[test]
fn one_connection_too_many() {
    let server = Server::with_config("[server]\nconnections_max = 20\n");
    let admin = server.admin();
    let taken: Vec<Wire> = (0..30).map(|_| Wire::open(&admin)).collect();
    let mut last = Wire::open(&admin);
    last.send(&request(&admin.key, "GET", "/v2", &[], b""));
    let refused = last.answer().expect_status(503);
    assert!(refused.error().contains("all its connections in use"), "{}", refused.error());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(matches!(last.next(SOON), Next::Closed));
    drop(taken);
    eventually("there is room again", || {
        let mut wire = Wire::open(&admin);
        wire.send(&request(&admin.key, "GET", "/v2", &[], b""));
        wire.answer().status == 200
    });
}

/// SIGTERM under load: every request that was sent is answered, and the process ends by itself and well.
#[test]
fn no_request_fails_when_the_server_is_asked_to_end() {
    const CLIENTS: usize = 8;
    let mut server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("hostile", "1", &guest("tests/guests/hostile").bundle).expect_status(201);
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let path = "/v2/models/hostile/infer";
    let (first, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // One that takes long is under way when the signal comes.
        let mut long = Wire::open(&tenant);
        long.send(&request(&tenant.key, "POST", path, &[], &hostile("busy", 1_500.0)));
        let mut idle = Wire::open(&tenant);
        for i in 0..CLIENTS {
            let (client, first, answered) = (&tenant, &first, &answered);
            scope.spawn(move || {
                let body = if i % 2 == 0 { infer("x") } else { hostile("busy", 20.0) };
                let path = if i % 2 == 0 { "/v2/models/m/infer" } else { path };
                let asked = request(&client.key, "POST", path, &[], &body);
                drain(client, &asked, first, answered);
            });
        }
        eventually("all clients are at work", || first.load(Ordering::Relaxed) == CLIENTS);
        let ended = scope.spawn(|| server.terminate());
        // A connection that was idle may still bring its request, in the first moment.
        idle.send(&request(&tenant.key, "GET", "/v2/models/m", &[], b""));
        idle.answer().expect_status(200);
        let long = long.answer().expect_status(200);
        assert_eq!(long.header("connection"), Some("close"));
        assert!(ended.join().unwrap().success());
    });
    assert!(answered.into_inner() > CLIENTS);
    assert!(Wire::connect(&server.url).is_err(), "nobody listens");
    assert!(server.log().contains("stopped"), "{}", server.log());
}

/// Asks again and again until the server says that this was the last.
fn drain(client: &Client, asked: &[u8], first: &AtomicUsize, answered: &AtomicUsize) {
    let mut wire = Wire::open(client);
    let mut count = 0;
    loop {
        wire.send(asked);
        let answer = wire.answer().expect_status(200);
        answered.fetch_add(1, Ordering::Relaxed);
        count += 1;
        if count == 1 {
            first.fetch_add(1, Ordering::Relaxed);
        }
        if answer.header("connection") == Some("close") {
            return;
        }
    }
}
