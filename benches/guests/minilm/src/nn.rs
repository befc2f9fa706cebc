//! By wasi:nn.

use innkeeper_sdk::guest::bindings::wasi::nn::errors::Error as NnError;
use innkeeper_sdk::guest::bindings::wasi::nn::graph::load_by_name;
use innkeeper_sdk::guest::bindings::wasi::nn::inference::GraphExecutionContext;
use innkeeper_sdk::guest::bindings::wasi::nn::tensor::{Tensor as NnTensor, TensorType};
use innkeeper_sdk::{DType, Error, Inputs, Result, Tensor};

pub(crate) struct Context(GraphExecutionContext);

fn internal(error: NnError) -> Error {
    Error::internal(error.data())
}

impl Context {
    pub(crate) fn open(asset: &str) -> Result<Context> {
        let graph = load_by_name(asset).map_err(internal)?;
        Ok(Context(graph.init_execution_context().map_err(internal)?))
    }

    /// What the network says of these inputs, which go to it as bytes, and so does its answer.
    pub(crate) fn compute(&self, inputs: &Inputs, names: &[&str]) -> Result<Tensor> {
        let mut given = Vec::new();
        for name in names {
            let tensor = inputs.tensor(name)?;
            let dims: Vec<u32> = tensor.shape().iter().map(|&size| size as u32).collect();
            let tensor = NnTensor::new(&dims, TensorType::I64, &tensor.to_bytes()?);
            given.push(((*name).to_owned(), tensor));
        }
        let (_, answer) = self.0.compute(given).map_err(internal)?.swap_remove(0);
        let shape: Vec<usize> = answer.dimensions().iter().map(|&size| size as usize).collect();
        Tensor::from_bytes(DType::Fp32, &shape, &answer.data())
    }
}
