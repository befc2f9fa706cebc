//! Content codings, both ways, and the cap on what they unfold to.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::binary::{call, taken_apart};
use super::{expect_error, world};
use crate::harness::{Answer, guest};

const IDENTITY: &str = "/v2/models/identity/infer";
const LENGTH: &str = "inference-header-content-length";

fn packed(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        _ => plain.to_vec(),
    }
}

fn unpacked(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    match answer.header("content-encoding") {
        Some("gzip") => GzDecoder::new(&answer.body[..]).read_to_end(&mut plain).unwrap(),
        Some("deflate") => ZlibDecoder::new(&answer.body[..]).read_to_end(&mut plain).unwrap(),
        _ => return answer.body.clone(),
    };
    plain
}

/// A request with enough zeros that its answer is worth packing.
fn zeros(len: usize) -> Value {
    json!({ "inputs": [{ "name": "INPUT_UINT8", "datatype": "UINT8", "shape": [len],
        "data": vec![0; len] }] })
}

#[test]
fn bodies_come_packed() {
    let world = world();
    let json = zeros(5_000).to_string();
    let head = json!({ "inputs": [{ "name": "INPUT_UINT8", "datatype": "UINT8", "shape": [5_000],
        "parameters": { "binary_data_size": 5_000 } }] });
    let head = head.to_string();
    let binary = [head.as_bytes(), &[0; 5_000]].concat();
    let head_len = head.len().to_string();
    for coding in ["gzip", "deflate", "identity", "GZIP"] {
        let (coded, lower) = (("content-encoding", coding), coding.to_lowercase());
        let body = packed(&lower, json.as_bytes());
        let answer = world.acme.send("POST", IDENTITY, &[coded], &body).expect_status(200).json();
        assert_eq!(answer["outputs"][0]["shape"], json!([5_000]), "{coding}");
        // The length of the header is that of the plain text.
        let headers = [coded, (LENGTH, head_len.as_str())];
        let answer = world.acme.send("POST", IDENTITY, &headers, &packed(&lower, &binary));
        assert_eq!(answer.expect_status(200).json()["outputs"][0]["shape"], json!([5_000]));
    }
    let send = |coding: &str, body: &[u8]| {
        world.acme.send("POST", IDENTITY, &[("content-encoding", coding)], body)
    };
    for coding in ["br", "zstd", "gzip, gzip"] {
        expect_error(send(coding, json.as_bytes()), 415, "gzip");
    }
    for coding in ["gzip", "deflate"] {
        expect_error(send(coding, json.as_bytes()), 400, "inflate");
        let whole = packed(coding, json.as_bytes());
        expect_error(send(coding, &whole[..whole.len() / 2]), 400, "");
        expect_error(send(coding, b""), 400, "");
    }
}

#[test]
fn answers_go_packed_to_who_takes_them_so() {
    let world = world();
    let body = zeros(5_000).to_string();
    let plain = world.acme.send("POST", IDENTITY, &[], body.as_bytes()).expect_status(200);
    assert_eq!(plain.header("content-encoding"), None);
    let cases = [
        ("gzip", Some("gzip")),
        ("deflate", Some("deflate")),
        ("gzip, deflate", Some("gzip")),
        ("deflate, gzip;q=0.5", Some("deflate")),
        ("br, GZIP;q=1.0", Some("gzip")),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate", Some("deflate")),
        ("identity", None),
        ("br", None),
        ("", None),
    ];
    for (accept, wanted) in cases {
        let accept_header = [("accept-encoding", accept)];
        let answer = world.acme.send("POST", IDENTITY, &accept_header, body.as_bytes());
        let answer = answer.expect_status(200);
        assert_eq!(answer.header("content-encoding"), wanted, "{accept}");
        assert_eq!(unpacked(&answer), plain.body, "{accept}");
        if wanted.is_some() {
            assert!(answer.body.len() < plain.body.len() / 2, "{accept}: {}", answer.body.len());
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
        }
    }
    // Bytes too; the length of the header is that of the plain text.
    let mut request = zeros(5_000);
    request["parameters"] = json!({ "binary_data_output": true });
    for coding in ["gzip", "deflate"] {
        let accept = [("accept-encoding", coding)];
        let mut answer = world
            .acme
            .send("POST", IDENTITY, &accept, request.to_string().as_bytes())
            .expect_status(200);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        answer.body = unpacked(&answer);
        let (_, tensors) = taken_apart(&answer);
        assert_eq!(tensors[0].1, vec![0; 5_000]);
    }
}

#[test]
fn the_cap_holds_after_inflating() {
    const MAX: usize = 64 << 10;
    let world = world();
    let small = world.server.tenant("small");
    small.publish("identity", "1", &guest("plugins/identity").bundle).expect_status(201);
    let limits = json!({ "body_bytes_max": MAX });
    world.server.admin().put("/api/v1/tenants/small/limits", &limits).expect_status(200);

    let request = zeros(100).to_string();
    for coding in ["identity", "gzip", "deflate"] {
        let send = |len: usize| {
            // White space after the JSON is JSON.
            let plain = request.clone() + &" ".repeat(len - request.len());
            let body = packed(coding, plain.as_bytes());
            small.send("POST", IDENTITY, &[("content-encoding", coding)], &body)
        };
        assert_eq!(send(MAX).status, 200, "{coding}");
        let answer = send(MAX + 1);
        assert!(answer.text().contains(&MAX.to_string()), "{coding}: {}", answer.text());
        expect_error(answer, 413, "body_bytes_max");
    }
    // A bomb: 64 MiB, in less than may be sent.
    let bomb = packed("gzip", &vec![b' '; 64 << 20]);
    assert!(bomb.len() <= MAX, "{}", bomb.len());
    let answer = small.send("POST", IDENTITY, &[("content-encoding", "gzip")], &bomb);
    expect_error(answer, 413, "body_bytes_max");
    // The others have the limits that they had.
    let head = json!({ "inputs": [{ "name": "INPUT_UINT8", "datatype": "UINT8", "shape": [2 * MAX],
        "parameters": { "binary_data_size": 2 * MAX } }],
        "parameters": { "binary_data_output": true } });
    call(&world.acme, IDENTITY, &head, &vec![7; 2 * MAX]).expect_status(200);
}
