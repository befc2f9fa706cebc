//! The bar for serving: hyper and serde_json and nothing else. It parses an Open Inference Protocol request with one
//! FP32 tensor of shape `[1,16]`, adds one, and answers. No registry, no tenants, no limits, no sandbox.
//!
//! Usage: `bare 127.0.0.1:PORT`

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Infer {
    inputs: Vec<Tensor>,
}

#[derive(Deserialize, Serialize)]
struct Tensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Vec<f32>,
}

#[derive(Serialize)]
struct Answer {
    model_name: &'static str,
    model_version: &'static str,
    outputs: Vec<Tensor>,
}

async fn add_one(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let respond = |status: u16, body: Vec<u8>| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() =
            hyper::StatusCode::from_u16(status).expect("the statuses used here are valid");
        response
            .headers_mut()
            .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
        Ok(response)
    };
    let Ok(body) = request.into_body().collect().await else { return respond(400, Vec::new()) };
    let Ok(infer) = serde_json::from_slice::<Infer>(&body.to_bytes()) else {
        return respond(400, Vec::new());
    };
    let outputs = infer.inputs.into_iter().map(|mut tensor| {
        tensor.data.iter_mut().for_each(|x| *x += 1.0);
        tensor.name = "OUTPUT0".into();
        tensor
    });
    let answer = Answer { model_name: "add-one", model_version: "1", outputs: outputs.collect() };
    match serde_json::to_vec(&answer) {
        Ok(body) => respond(200, body),
        Err(_) => respond(500, Vec::new()),
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = hyper::service::service_fn(add_one);
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
