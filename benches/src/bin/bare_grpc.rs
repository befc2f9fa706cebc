//! The bar for serving over gRPC: tonic and prost on hyper and nothing else. It decodes an Open Inference Protocol request
//! with one raw FP32 tensor, adds one, and answers. No registry, no tenants, no limits, no sandbox.
//!
//! Usage: `bare_grpc 127.0.0.1:PORT`

// What `prost` derives has no documentation of its own.
#![allow(missing_docs)]

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, PartialEq, prost::Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    raw_input_contents: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    raw_output_contents: Vec<Bytes>,
}

struct AddOne;

impl UnaryService<Infer> for AddOne {
    type Response = Answer;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Infer>) -> Self::Future {
        Box::pin(async move {
            let infer = request.into_inner();
            let raw = infer.raw_input_contents.first();
            let raw = raw.ok_or_else(|| Status::invalid_argument("no raw input"))?;
            let numbers = raw.chunks_exact(4).flat_map(|four| {
                (f32::from_le_bytes([four[0], four[1], four[2], four[3]]) + 1.0).to_le_bytes()
            });
            let raw_output_contents = vec![numbers.collect::<Vec<u8>>().into()];
            let outputs =
                infer.inputs.into_iter().map(|input| Tensor { name: "OUTPUT0".into(), ..input });
            Ok(tonic::Response::new(Answer {
                model_name: infer.model_name,
                model_version: "1".into(),
                outputs: outputs.collect(),
                raw_output_contents,
            }))
        })
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on grpc://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = hyper::service::service_fn(|request: Request<Incoming>| async {
            let mut grpc = Grpc::new(ProstCodec::<Answer, Infer>::default());
            Ok::<_, Infallible>(grpc.unary(AddOne, request).await)
        });
        tokio::spawn(async move {
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
