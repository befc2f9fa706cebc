//! Networks: the methods that wit-bindgen makes of the interface `graph`, on the graph crate.

use innkeeper_graph::{GraphError, LoadLimits, Unlimited};
use innkeeper_kernels::Cpu;
use innkeeper_tensor::{Named, TensorSpec};

use super::Handle;
use super::handle::lent;
use crate::{Error, Result};

/// A network, held directly.
#[derive(Debug)]
pub(crate) struct Graph(innkeeper_graph::Graph);

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Error {
        let text = error.to_string();
        match error {
            GraphError::Unsupported { .. } => Error::Unsupported(text),
            GraphError::Limit(_) | GraphError::Stopped => Error::ResourceExhausted(text),
            _ => Error::InvalidArgument(text),
        }
    }
}

impl Graph {
    pub(crate) fn from_bytes(onnx: &[u8]) -> Result<Graph> {
        Ok(Graph(innkeeper_graph::Graph::load(onnx, &LoadLimits::default(), &lent())?))
    }

    pub(crate) fn inputs(&self) -> Vec<TensorSpec> {
        self.0.inputs().to_vec()
    }

    pub(crate) fn outputs(&self) -> Vec<TensorSpec> {
        self.0.outputs().to_vec()
    }

    pub(crate) fn metadata(&self) -> Vec<(String, String)> {
        vec![("opset".into(), self.0.opset().to_string())]
    }

    pub(crate) fn run(
        &self,
        inputs: &[(String, &Handle)],
        outputs: &[String],
    ) -> Result<Vec<Named>> {
        let named = |(name, handle): &(String, &Handle)| Named {
            name: name.clone(),
            tensor: handle.0.clone(),
        };
        let inputs = inputs.iter().map(named).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let names = if names.is_empty() { None } else { Some(&names[..]) };
        Ok(self.0.run(&Cpu::new(), inputs, names, &Unlimited, &lent())?)
    }
}

impl From<TensorSpec> for crate::TensorSpec {
    fn from(spec: TensorSpec) -> crate::TensorSpec {
        let size =
            |dim: Option<usize>| dim.map_or(-1, |dim| i64::try_from(dim).unwrap_or(i64::MAX));
        crate::TensorSpec {
            name: spec.name,
            dtype: spec.dtype,
            shape: spec.shape.map(|dims| dims.into_iter().map(size).collect()),
            optional: spec.optional,
        }
    }
}
