//! Traces, as a collector gets them: OTLP over HTTP, at a real socket.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Said;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, guest};
use crate::http2::curl;

/// No span takes longer to come, not even on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What takes spans and hands them on.
struct Collector {
    url: String,
    came: Receiver<ExportTraceServiceRequest>,
    /// The spans of requests that have come, by their traces.
    spans: HashMap<String, Vec<Span>>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (sender, came) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || take(stream, &sender));
            }
        });
        Collector { url, came, spans: HashMap::new() }
    }

    /// The spans of a trace, once that of the request itself is there: it is the last to end.
    #[track_caller]
    fn trace(&mut self, trace: &str) -> Vec<Span> {
        let is_whole = |spans: &Vec<Span>| spans.iter().any(|s| s.kind == SpanKind::Server as i32);
        while !self.spans.get(trace).is_some_and(is_whole) {
            let request = self.came.recv_timeout(PATIENCE).expect("the trace comes");
            for resource in request.resource_spans {
                let of = resource.resource.unwrap().attributes;
                let service = of.iter().find(|about| about.key == "service.name").unwrap();
                assert_eq!(text(service.value.as_ref().unwrap().value.as_ref()), "innkeeper");
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    self.spans.entry(hex(&span.trace_id)).or_default().push(span);
                }
            }
        }
        self.spans.remove(trace).unwrap()
    }
}

/// Answers whatever comes on one connection.
fn take(stream: TcpStream, sender: &Sender<ExportTraceServiceRequest>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut len = 0;
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                len = bytes.parse().unwrap();
            }
            head.push(line);
        }
        assert_eq!(head[0], "post /v1/traces http/1.1");
        assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
        let mut body = vec![0; len];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        let said = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(&[said.as_bytes(), &answer].concat()).is_err()
            || sender.send(request).is_err()
        {
            return;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(said: Option<&Said>) -> String {
    match said {
        Some(Said::StringValue(text)) => text.clone(),
        Some(Said::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let about = span.attributes.iter().find(|about| about.key == key);
    let about = about.unwrap_or_else(|| panic!("no {key} in {span:?}"));
    text(about.value.as_ref().unwrap().value.as_ref())
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} in {names:?}"))
}

/// A server whose traces go to `url`, soon.
fn traced(url: &str, more: &str) -> Server {
    Server::with_config(&format!(
        "[telemetry]\ntraces_endpoint = {url:?}\nexport_every_ms = 20\n{more}"
    ))
}

fn row() -> Value {
    let data = vec![1.0; 16];
    json!({ "inputs": [{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": data }] })
}

fn infer(client: &Client, model: &str, parent: &str) -> Answer {
    let path = format!("/v2/models/{model}/infer");
    client.send("POST", &path, &[("traceparent", parent)], row().to_string().as_bytes())
}

#[test]
fn a_prediction_is_traced_station_by_station() {
    let mut collector = Collector::start();
    let server = traced(&collector.url, "");
    let acme = server.tenant("acme");
    acme.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let answer = infer(&acme, "m", &format!("00-{TRACE}-{PARENT}-01")).expect_status(200);

    let spans = collector.trace(TRACE);
    let request = named(&spans, "POST Infer");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    let told = format!("00-{TRACE}-{}-01", hex(&request.span_id));
    assert_eq!(answer.header("traceparent"), Some(told.as_str()));
    for (key, wanted) in [
        ("innkeeper.tenant", "acme"),
        ("innkeeper.model", "m"),
        ("innkeeper.version", "1"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(request, key), wanted, "{key}");
    }
    assert_eq!(
        Some(attribute(request, "innkeeper.request_id").as_str()),
        answer.header("x-request-id")
    );
    let inside = |span: &Span, parent: &Span| {
        assert_eq!(span.parent_span_id, parent.span_id, "{}", span.name);
        // The two clocks may differ by the moment between two looks at them.
        let slack = 1_000_000;
        assert!(span.start_time_unix_nano + slack >= parent.start_time_unix_nano, "{}", span.name);
        assert!(span.end_time_unix_nano <= parent.end_time_unix_nano + slack, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{}", span.name);
    };
    for part in ["queue", "instance", "guest", "check"] {
        inside(named(&spans, part), request);
    }
    let guest = named(&spans, "guest");
    assert_eq!(attribute(guest, "innkeeper.rows"), "1");
    let kernels = named(&spans, "kernels");
    inside(kernels, guest);
    assert!(attribute(kernels, "innkeeper.operations").parse::<u64>().unwrap() > 0);
}

#[test]
fn what_is_not_sampled_is_not_sent() {
    let mut collector = Collector::start();
    let server = traced(&collector.url, "sample_ratio = 0.0\n");
    let acme = server.tenant("acme");
    acme.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    // Neither what chance leaves out, nor what the caller does.
    let alone = infer(&acme, "m", "").expect_status(200);
    assert!(alone.header("traceparent").unwrap().ends_with("-00"), "{alone:?}");
    let left_out = TRACE.replace('0', "1");
    infer(&acme, "m", &format!("00-{left_out}-{PARENT}-00")).expect_status(200);
    infer(&acme, "absent", &format!("00-{TRACE}-{PARENT}-01")).expect_status(404);
    let spans = collector.trace(TRACE);
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(attribute(named(&spans, "POST Infer"), "http.response.status_code"), "404");
    assert!(collector.spans.is_empty(), "{:?}", collector.spans);
}

#[test]
fn calls_are_traced_too() {
    let mut collector = Collector::start();
    let server = traced(&collector.url, "");
    let key = format!("authorization: Bearer {}", server.admin_key);
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing");
    std::fs::write(&nothing, [0; 5]).unwrap();
    let body = format!("@{}", nothing.display());
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let call = |method: &str| {
        let url = format!("http://{}/inference.GRPCInferenceService/{method}", server.grpc);
        let kind = "content-type: application/grpc";
        let sent = ["--http2-prior-knowledge", "-H", &key, "-H", kind, "-H", &parent];
        curl(&[&sent[..], &["--data-binary", &body, "-o", "/dev/null", &url]].concat()).1
    };
    assert_eq!(call("ServerMetadata"), 200);
    let spans = collector.trace(TRACE);
    named(&spans, "inference.GRPCInferenceService/ServerMetadata");
    // What a caller makes up is no name.
    assert_eq!(call("Made-Up"), 200);
    named(&collector.trace(TRACE), "request");
}

#[test]
fn no_request_waits_for_a_collector() {
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", silent.local_addr().unwrap());
    let mut server = traced(&url, "queue_spans_max = 4\nexport_ms_max = 200\n");
    let acme = server.tenant("acme");
    acme.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    for _ in 0..50 {
        infer(&acme, "m", &format!("00-{TRACE}-{PARENT}-01")).expect_status(200);
    }
    assert!(server.terminate().success());
    assert!(server.log().contains("the collector of traces is not reached"), "{}", server.log());
}

#[test]
fn nothing_is_traced_by_default() {
    let server = Server::start();
    let answer = server.admin().get("/v2").expect_status(200);
    assert_eq!(answer.header("traceparent"), None);
}
