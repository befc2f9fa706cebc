//! Networks that the host runs whole.

use crate::{Outputs, Result, Signature, Tensor, TensorSpec, host};

/// A network from an ONNX file, run by the host on the same kernels as [`Tensor`]s, with its operations fused and its
/// weights in the order in which the kernels read them. Inputs and results stay in the host.
///
/// [`Assets::graph`](crate::Assets::graph) opens one that came with the model.
///
/// ```
/// use innkeeper_sdk::{Assets, Graph, Inputs, Model, Outputs, Result, Signature};
///
/// struct Classifier {
///     network: Graph,
/// }
///
/// impl Model for Classifier {
///     fn load(assets: &Assets) -> Result<Self> {
///         Ok(Classifier { network: assets.graph("network.onnx")? })
///     }
///
///     fn signature(&self) -> Signature {
///         self.network.signature()
///     }
///
///     fn predict(&self, inputs: Inputs) -> Result<Outputs> {
///         let logits = self.network.run(&[("X", inputs.tensor("X")?)])?;
///         Ok(Outputs::new().with("Y", logits.tensor("Y")?.softmax(-1)?))
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Graph(pub(crate) host::Graph);

impl Graph {
    /// The network in these bytes of an ONNX file. They count against the model's `tensor_bytes_max`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument): it is no ONNX file.
    /// [`Error::Unsupported`](crate::Error::Unsupported): an operator that the host does not have; the text names it,
    /// its node and the opset. [`Error::ResourceExhausted`](crate::Error::ResourceExhausted).
    pub fn from_bytes(onnx: &[u8]) -> Result<Graph> {
        Ok(Graph(host::Graph::from_bytes(onnx)?))
    }

    /// What it takes, in the file's order. A size that the file leaves open is -1.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        self.0.inputs().into_iter().map(Into::into).collect()
    }

    /// What it gives, in the file's order.
    pub fn outputs(&self) -> Vec<TensorSpec> {
        self.0.outputs().into_iter().map(Into::into).collect()
    }

    /// Both, as the signature of a model that is this network and nothing else.
    pub fn signature(&self) -> Signature {
        Signature { inputs: self.inputs(), outputs: self.outputs(), ..Signature::default() }
    }

    /// Facts of the file, such as `opset`.
    pub fn metadata(&self) -> Vec<(String, String)> {
        self.0.metadata()
    }

    /// All results, for these inputs in any order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument): an input is missing, unknown, or of another dtype or
    /// shape. [`Error::ResourceExhausted`](crate::Error::ResourceExhausted): what the run takes does not fit under
    /// `tensor_bytes_max`.
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        self.run_for(inputs, &[])
    }

    /// The results of these names alone, in this order; work for others is not done.
    ///
    /// # Errors
    /// As [`Graph::run`], and for a name that is no result's.
    pub fn run_for(&self, inputs: &[(&str, &Tensor)], outputs: &[&str]) -> Result<Outputs> {
        let inputs: Vec<_> =
            inputs.iter().map(|(name, tensor)| ((*name).to_owned(), &tensor.0)).collect();
        let outputs: Vec<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
        let results = self.0.run(&inputs, &outputs)?;
        Ok(results.into_iter().map(host::named).collect())
    }
}
