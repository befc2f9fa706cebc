//! Modes that use wasi:nn.

use innkeeper_sdk::guest::bindings::wasi::nn::errors::Error as NnError;
use innkeeper_sdk::guest::bindings::wasi::nn::graph::{
    ExecutionTarget, Graph, GraphEncoding, load, load_by_name,
};
use innkeeper_sdk::guest::bindings::wasi::nn::tensor::{Tensor as NnTensor, TensorType};
use innkeeper_sdk::{DType, Outputs, Result, Tensor};

use crate::{Networks, said};

pub(crate) fn run(model: &Networks, mode: &str, x: &Tensor) -> Option<Result<Outputs>> {
    let onnx = || vec![model.onnx.clone()];
    let cpu = ExecutionTarget::Cpu;
    let loaded = match mode {
        "nn-load" => load(&onnx(), GraphEncoding::Onnx, cpu),
        "nn-name" | "nn-unfit" | "nn-rank" => load_by_name("tiny.onnx"),
        "nn-missing" => load_by_name("other.onnx"),
        "nn-plain" => load_by_name("plain.txt"),
        "nn-path" => load_by_name("/etc/passwd"),
        "nn-gpu" => load(&onnx(), GraphEncoding::Onnx, ExecutionTarget::Gpu),
        "nn-encoding" => load(&onnx(), GraphEncoding::Ggml, cpu),
        "nn-nothing" => load(&[b"nothing".to_vec()], GraphEncoding::Onnx, cpu),
        _ => return None,
    };
    Some(match loaded.and_then(|graph| compute(&graph, mode, x)) {
        Ok((shape, bytes)) => {
            Tensor::from_bytes(DType::Fp32, &shape, &bytes).map(|y| Outputs::new().with("Y", y))
        }
        Err(error) => said(&[format!("{:?}", error.code()), error.data()]),
    })
}

fn compute(
    graph: &Graph,
    mode: &str,
    x: &Tensor,
) -> std::result::Result<(Vec<usize>, Vec<u8>), NnError> {
    let mut dims: Vec<u32> = x.shape().iter().map(|&size| size as u32).collect();
    let mut bytes = x.to_bytes().unwrap_or_default();
    match mode {
        "nn-unfit" => bytes.truncate(7),
        "nn-rank" => dims.insert(0, 1),
        _ => {}
    }
    let input = NnTensor::new(&dims, TensorType::Fp32, &bytes);
    let context = graph.init_execution_context()?;
    let mut outputs = context.compute(vec![("X".to_owned(), input)])?;
    let (name, y) = outputs.remove(0);
    assert_eq!((name.as_str(), y.ty()), ("Y", TensorType::Fp32));
    Ok((y.dimensions().into_iter().map(|size| size as usize).collect(), y.data()))
}
