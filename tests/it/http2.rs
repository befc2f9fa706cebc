//! HTTP/2 at the port for everything, by curl and by hand.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clients::python;
use crate::harness::{Server, eventually, guest, root};
use crate::wire::Wire;

/// What a client begins with: the preface and empty settings.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SOON: Duration = Duration::from_secs(10);

/// What curl says with these arguments: the version of HTTP, the status and the body.
pub fn curl(arguments: &[&str]) -> (String, u16, String) {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30", "-w", "\n%{http_version} %{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let (body, end) = text.rsplit_once('\n').unwrap();
    let (version, status) = end.split_once(' ').unwrap();
    let body = if status == "000" { error } else { body.to_owned() };
    (version.to_owned(), status.parse().unwrap(), body)
}

fn row() -> String {
    let row =
        json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }]);
    json!({ "inputs": row }).to_string()
}

#[test]
fn rest_is_the_same_over_http2() {
    let server = Server::with_config("[server]\nheaders_max = 50\n");
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let key = format!("authorization: Bearer {}", tenant.key);
    let ask = |path: &str, more: &[&str]| {
        let url = format!("{}{path}", server.url);
        let fixed = ["--http2-prior-knowledge", "-H", &key, &url];
        curl(&[&fixed, more].concat())
    };
    let (version, status, body) = ask("/v2/models/m/infer", &["-d", &row()]);
    assert_eq!((version.as_str(), status), ("2", 200), "{body}");
    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(said["outputs"][0]["data"][0], 2.0);
    assert_eq!(ask("/v2/models/absent/infer", &["-d", "{}"]).1, 404);
    assert_eq!(ask("/v2", &["-X", "PATCH"]).1, 405);
    assert_eq!(curl(&["--http2-prior-knowledge", &format!("{}/v2", server.url)]).1, 401);
    let many: Vec<String> = (0..60).map(|i| format!("x-{i}: 1")).collect();
    let many: Vec<&str> = many.iter().flat_map(|header| ["-H", header.as_str()]).collect();
    assert_eq!(ask("/v2", &many).1, 431);
    let long = format!("x-long: {}", "x".repeat(60_000));
    assert_eq!(ask("/v2", &["-H", &long]).1, 431);
    // A body that is too large is refused without being read.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    std::fs::write(&file, vec![b' '; 70 << 20]).unwrap();
    let large = format!("@{}", file.display());
    let (_, status, body) = ask("/v2/models/m/infer", &["--data-binary", &large]);
    // curl 7 drops an answer that comes before its body has gone, though RFC 9113 (8.1) says that it must not.
    let dropped = status == 0 && body.contains("(92)");
    assert!(dropped || (status == 413 && body.contains("body_bytes_max")), "{status} {body}");
    assert_eq!(ask("/v2", &[]).1, 200, "and nothing else suffers");
    // The port for gRPC has nothing else, in either version.
    for version in ["--http2-prior-knowledge", "--http1.1"] {
        let (_, status, body) = curl(&[version, "-H", &key, &format!("http://{}/v2", server.grpc)]);
        assert!(status == 415 && body.contains("gRPC"), "{status} {body}");
    }
    // A client of HTTP/1.1 that offers to go on in HTTP/2 is answered in HTTP/1.1.
    let (version, status, _) = curl(&["--http2", "-H", &key, &format!("{}/v2", server.url)]);
    assert_eq!((version.as_str(), status), ("1.1", 200));
}

/// A frame: its kind, flags, stream and bytes.
fn frame(kind: u8, flags: u8, stream: u32, bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), bytes].concat()
}

/// `GET /` in the compressed form of headers, with nothing else.
const GET: &[u8] = &[0x82, 0x86, 0x84];

#[test]
fn bytes_that_are_no_http2_end_their_connection_alone() {
    let server = Server::with_config("[server]\nheader_read_ms = 400\n");
    let client = server.admin();
    let bomb = frame(1, 5, 1, &[&[0x40, 1, b'x', 0x7f, 0xa1, 0x1f][..], &[b'a'; 4000]].concat());
    let endless: Vec<u8> = (0..200).flat_map(|_| frame(9, 0, 1, &[0; 1000])).collect();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a preface and no more", Vec::new()),
        ("no frames", b"hello there, this is no frame at all".to_vec()),
        ("data for no stream", frame(0, 0, 1, b"x")),
        ("a stream of the server's", frame(1, 5, 2, GET)),
        ("broken headers", frame(1, 5, 1, &[0xff; 30])),
        ("a header that says it is longer", bomb),
        ("headers without end", [frame(1, 1, 1, GET), endless].concat()),
        ("settings of a wrong length", frame(4, 0, 0, &[0; 5])),
        ("a window that overflows", frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
    ];
    for (what, bytes) in cases {
        let mut wire = Wire::open(&client);
        wire.send(&[BEGIN, &bytes].concat());
        assert!(wire.ends(SOON), "{what}");
    }
    client.get("/v2").expect_status(200);
}

/// Requests that are taken back as soon as they are made.
#[test]
fn rapid_resets_end_their_connection_alone() {
    let server = Server::start();
    let client = server.admin();
    let mut wire = Wire::open(&client);
    wire.send(BEGIN);
    let pair = |stream: u32| {
        [frame(1, 5, stream, GET), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    for batch in 0..200 {
        let flood: Vec<u8> = (0..100).flat_map(|i| pair(2 * (batch * 100 + i) + 1)).collect();
        wire.send(&flood);
    }
    assert!(wire.ends(SOON), "the flood goes on");
    client.get("/v2").expect_status(200);
}

/// A field of a message: its number, and its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A framed request for the hostile guest to spin for ever.
fn spin() -> Vec<u8> {
    let tensor = |name: &[u8], datatype: &[u8]| {
        field(5, &[field(1, name), field(2, datatype), field(3, &[1])].concat())
    };
    let message = [
        field(1, b"hostile"),
        tensor(b"MODE", b"BYTES"),
        tensor(b"VALUE", b"FP32"),
        field(7, b"\x04\0\0\0spin"),
        field(7, &[0; 4]),
    ]
    .concat();
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

/// A client whose time is over, or that goes away, stops its model long before the deadline of 30 seconds.
#[test]
fn a_call_that_nobody_waits_for_stops() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("hostile", "1", &guest("tests/guests/hostile").bundle).expect_status(201);
    let folder = tempfile::tempdir().unwrap();
    let (body, trailers) = (folder.path().join("body"), folder.path().join("trailers"));
    std::fs::write(&body, spin()).unwrap();
    let key = format!("authorization: Bearer {}", tenant.key);
    let (body, trailers) = (format!("@{}", body.display()), trailers.display().to_string());
    let url = format!("http://{}/inference.GRPCInferenceService/ModelInfer", server.grpc);
    let call = |more: &[&str]| {
        let kind = "content-type: application/grpc";
        let fixed = ["--http2-prior-knowledge", "-H", &key, "-H", kind, "-H", "te: trailers"];
        curl(&[&fixed[..], &["--data-binary", &body, "-D", &trailers, &url], more].concat())
    };
    let at_rest = || {
        let usage = tenant.get("/api/v1/tenants/acme/usage").expect_status(200).json();
        usage["usage"]["requests_in_flight"] == 0
    };
    assert_eq!(call(&["-H", "grpc-timeout: 300m"]).1, 200);
    let said = std::fs::read_to_string(&trailers).unwrap();
    assert!(said.contains("grpc-status: 4"), "DEADLINE_EXCEEDED: {said}");
    eventually("its model stops", at_rest);
    assert_eq!(call(&["--max-time", "0.5"]).1, 0, "curl goes away");
    eventually("its model stops", at_rest);
    call(&["-H", "grpc-timeout: soon"]);
    let said = std::fs::read_to_string(&trailers).unwrap();
    assert!(said.contains("grpc-status: 3"), "INVALID_ARGUMENT: {said}");
}

#[test]
fn one_connection_too_many_in_http2() {
    let server = Server::with_config("[server]\nconnections_max = 2\n");
    let taken: Vec<Wire> = (0..2).map(|_| Wire::open(&server.admin())).collect();
    let mut last = Wire::open(&server.admin());
    last.send(BEGIN);
    let said = last.rest(SOON);
    // GOAWAY, with the word to calm down.
    assert!(said.ends_with(&[0, 0, 0, 11]) && said[9 + 3] == 7, "{said:?}");
    drop(taken);
}

/// SIGTERM: what runs is answered, and what only rests does not hold up the end.
#[test]
fn a_server_that_ends_says_goodbye() {
    let mut server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("hostile", "1", &guest("tests/guests/hostile").bundle).expect_status(201);
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let busy = json!({ "inputs": [
        { "name": "MODE", "datatype": "BYTES", "shape": [1], "data": ["busy"] },
        { "name": "VALUE", "datatype": "FP32", "shape": [1], "data": [1_500.0] },
    ] });
    let mut resting = Command::new(python())
        .arg(root().join("tests/clients/grpc_goodbye.py"))
        .env("INNKEEPER_URL", &server.url)
        .env("INNKEEPER_GRPC", &server.grpc)
        .env("ACME_KEY", &tenant.key)
        .env("FRIEND_KEY", "")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = resting.stdout.take().unwrap();
    let mut ready = [0; 5];
    said.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let key = format!("authorization: Bearer {}", tenant.key);
            let url = format!("{}/v2/models/hostile/infer", tenant.url);
            curl(&["--http2-prior-knowledge", "-H", &key, "-d", &busy.to_string(), &url])
        });
        let in_flight = || {
            let usage = tenant.get("/api/v1/tenants/acme/usage").expect_status(200).json();
            usage["usage"]["requests_in_flight"].as_u64().unwrap()
        };
        eventually("the model runs", || in_flight() == 1);
        assert!(server.terminate().success());
        let (version, status, body) = running.join().unwrap();
        assert_eq!((version.as_str(), status), ("2", 200), "{body}");
    });
    assert!(!server.log().contains("did not end in time"), "{}", server.log());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(resting.wait().unwrap().success(), "{rest}");
}
