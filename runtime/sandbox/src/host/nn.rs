//! The imports `wasi:nn`: the same graphs, tensors and budgets as ours, under the names of WASI.
//!
//! What wasi:nn cannot say in its types is an error with a text: devices that are not there, encodings other than ONNX,
//! tensors whose bytes do not fit their shape.

use std::sync::Arc;

use innkeeper_tensor::{Buffer, DType, Named, Shape, Tensor};
use wasmtime::Result;
use wasmtime::component::Resource;

use super::graph::{HostGraph, Problem};
use super::{HostTensor, State};
use crate::Charge;
use crate::bindings::wasi::nn::errors::{self, ErrorCode};
use crate::bindings::wasi::nn::graph::{self, ExecutionTarget, GraphEncoding};
use crate::bindings::wasi::nn::inference;
use crate::bindings::wasi::nn::tensor::{self, TensorType};

/// An error behind a guest's handle.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostNnError {
    code: ErrorCode,
    text: String,
}

/// A graph that is ready to compute.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostContext(HostGraph);

/// What the constructor of a tensor was given that makes none. It cannot answer an error; whoever computes with it can.
pub(super) struct Unfit {
    dims: Vec<u32>,
    ty: TensorType,
    code: ErrorCode,
    text: String,
}

type Failed = Resource<HostNnError>;
/// An input, and what it counts.
type Lent = (Named, Option<Arc<Charge>>);

impl State {
    fn fail(&mut self, problem: Problem) -> Result<Failed> {
        let (code, text) = match problem {
            Problem::Argument(text) => (ErrorCode::InvalidArgument, text),
            Problem::NotFound(text) => (ErrorCode::NotFound, text),
            Problem::Encoding(text) => (ErrorCode::InvalidEncoding, text),
            Problem::Unsupported(text) => (ErrorCode::UnsupportedOperation, text),
            Problem::TooLarge(text) => (ErrorCode::TooLarge, text),
            Problem::Stopped(text) => (ErrorCode::Timeout, text),
        };
        Ok(self.keep(HostNnError { code, text })?)
    }

    /// The tensors behind the handles, which are no more, whatever comes of it.
    fn take_inputs(
        &mut self,
        inputs: Vec<inference::NamedTensor>,
    ) -> Result<std::result::Result<Vec<Lent>, HostNnError>> {
        let mut named = Vec::with_capacity(inputs.len());
        let mut unfit = None;
        for (name, handle) in inputs {
            let HostTensor { tensor, unfit: problem, charge, .. } = self.pull(handle)?;
            if let Some(Unfit { code, text, .. }) = problem.map(|problem| *problem) {
                let text = format!("the input {name:?}: {text}");
                unfit.get_or_insert(HostNnError { code, text });
            }
            // The bytes are counted until the graph has run.
            named.push((Named { name, tensor }, charge));
        }
        Ok(unfit.map_or(Ok(named), Err))
    }
}

impl tensor::Host for State {}

impl tensor::HostTensor for State {
    fn new(
        &mut self,
        dims: Vec<u32>,
        ty: TensorType,
        data: Vec<u8>,
    ) -> Result<Resource<HostTensor>> {
        let charge = match self.take_bytes(data.len() as u64) {
            Ok(charge) => charge,
            Err(over) => {
                let text = self.over_text("tensor_bytes_max", over);
                let unfit = Unfit { dims, ty, code: ErrorCode::TooLarge, text };
                return Ok(self.push_unfit(empty(), None, unfit)?);
            }
        };
        let charge = Some(Arc::new(charge));
        let data = Buffer::aligned_copy(&data);
        let sizes: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
        let made = Shape::new(&sizes).map_err(|error| error.to_string()).and_then(|shape| {
            Tensor::new(dtype_from(ty), shape, data.clone()).map_err(|error| error.to_string())
        });
        match made {
            Ok(tensor) => Ok(self.push_charged(tensor, charge)?),
            Err(text) => {
                let unfit = Unfit { dims, ty, code: ErrorCode::InvalidArgument, text };
                let bytes = Shape::new(&[data.len()])
                    .ok()
                    .and_then(|shape| Tensor::new(DType::Uint8, shape, data).ok());
                Ok(self.push_unfit(bytes.unwrap_or_else(empty), charge, unfit)?)
            }
        }
    }

    fn dimensions(&mut self, this: Resource<HostTensor>) -> Result<Vec<u32>> {
        let HostTensor { tensor, unfit, .. } = self.table.get(&this)?;
        Ok(match unfit {
            Some(unfit) => unfit.dims.clone(),
            None => {
                let dims = tensor.shape().dims().iter();
                dims.map(|&dim| u32::try_from(dim).unwrap_or(u32::MAX)).collect()
            }
        })
    }

    fn ty(&mut self, this: Resource<HostTensor>) -> Result<TensorType> {
        let HostTensor { tensor, unfit, .. } = self.table.get(&this)?;
        // Only tensors of these types ever get a handle of wasi:nn.
        Ok(unfit
            .as_ref()
            .map_or_else(|| type_of(tensor.dtype()).unwrap_or(TensorType::U8), |unfit| unfit.ty))
    }

    fn data(&mut self, this: Resource<HostTensor>) -> Result<Vec<u8>> {
        let bytes = self.table.get(&this)?.tensor.as_bytes();
        if bytes.len() as u64 > self.limits.guest_memory_bytes_max {
            let max = self.limits.guest_memory_bytes_max;
            let limit = "guest_memory_bytes_max";
            let text = format!("{} bytes do not fit under {limit} of {max}", bytes.len());
            self.stopped = Some(crate::GuestError::Limit { limit, max });
            return Err(wasmtime::Error::msg(text));
        }
        Ok(bytes.to_vec())
    }

    fn drop(&mut self, this: Resource<HostTensor>) -> Result<()> {
        self.pull(this)?;
        Ok(())
    }
}

impl graph::Host for State {
    fn load(
        &mut self,
        builder: Vec<graph::GraphBuilder>,
        encoding: GraphEncoding,
        target: ExecutionTarget,
    ) -> Result<std::result::Result<Resource<HostGraph>, Failed>> {
        let loaded = check(encoding, target).and_then(|()| {
            let one = <[Vec<u8>; 1]>::try_from(builder).map_err(|several| {
                Problem::Argument(format!(
                    "an ONNX graph is one list of bytes, got {}; external data is not read",
                    several.len()
                ))
            });
            let [onnx] = one?;
            self.load_graph(onnx)
        });
        match loaded {
            Ok(graph) => Ok(Ok(self.keep(graph)?)),
            Err(problem) => Ok(Err(self.fail(problem)?)),
        }
    }

    fn load_by_name(
        &mut self,
        name: String,
    ) -> Result<std::result::Result<Resource<HostGraph>, Failed>> {
        match self.open_graph(&name) {
            Ok(graph) => Ok(Ok(self.keep(graph)?)),
            Err(problem) => Ok(Err(self.fail(problem)?)),
        }
    }
}

impl graph::HostGraph for State {
    fn init_execution_context(
        &mut self,
        this: Resource<HostGraph>,
    ) -> Result<std::result::Result<Resource<HostContext>, Failed>> {
        let graph = self.table.get(&this)?.clone();
        Ok(Ok(self.keep(HostContext(graph))?))
    }

    fn drop(&mut self, this: Resource<HostGraph>) -> Result<()> {
        Ok(self.forget(this)?)
    }
}

impl inference::Host for State {}

impl inference::HostGraphExecutionContext for State {
    async fn compute(
        &mut self,
        this: Resource<HostContext>,
        inputs: Vec<inference::NamedTensor>,
    ) -> Result<std::result::Result<Vec<inference::NamedTensor>, Failed>> {
        let graph = self.table.get(&this)?.0.clone();
        let answer = match self.take_inputs(inputs)? {
            Ok(inputs) => {
                let (named, _charges): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
                let check = |dtype| {
                    type_of(dtype).map(drop).ok_or_else(|| {
                        format!(
                            "is {dtype}, which no tensor of wasi:nn is; use innkeeper:model/graph"
                        )
                    })
                };
                self.run_graph(&graph, named, &[], &check).await
            }
            Err(error) => return Ok(Err(self.keep(error)?)),
        };
        match answer {
            Ok(outputs) => {
                let mut answer = Vec::with_capacity(outputs.len());
                for (name, tensor, charge) in outputs {
                    answer.push((name, self.push_charged(tensor, charge)?));
                }
                Ok(Ok(answer))
            }
            Err(problem) => Ok(Err(self.fail(problem)?)),
        }
    }

    fn drop(&mut self, this: Resource<HostContext>) -> Result<()> {
        Ok(self.forget(this)?)
    }
}

impl errors::Host for State {}

impl errors::HostError for State {
    fn code(&mut self, this: Resource<HostNnError>) -> Result<ErrorCode> {
        Ok(self.table.get(&this)?.code)
    }

    fn data(&mut self, this: Resource<HostNnError>) -> Result<String> {
        Ok(self.table.get(&this)?.text.clone())
    }

    fn drop(&mut self, this: Resource<HostNnError>) -> Result<()> {
        Ok(self.forget(this)?)
    }
}

fn check(encoding: GraphEncoding, target: ExecutionTarget) -> std::result::Result<(), Problem> {
    if !matches!(encoding, GraphEncoding::Onnx | GraphEncoding::Autodetect) {
        let text = "this host reads graphs in the encoding onnx alone; export the model to ONNX";
        return Err(Problem::Encoding(text.into()));
    }
    let device = match target {
        ExecutionTarget::Cpu => return Ok(()),
        ExecutionTarget::Gpu => "gpu",
        ExecutionTarget::Tpu => "tpu",
    };
    Err(Problem::Unsupported(format!(
        "this host has no device {device} for graphs; use the execution target cpu"
    )))
}

/// Stands for a tensor whose bytes there was no room for.
fn empty() -> Tensor {
    Tensor::from_vec::<u8>(&[0], Vec::new()).expect("a tensor of no elements takes no bytes")
}

fn dtype_from(ty: TensorType) -> DType {
    match ty {
        TensorType::Fp16 => DType::Fp16,
        TensorType::Fp32 => DType::Fp32,
        TensorType::Fp64 => DType::Fp64,
        TensorType::Bf16 => DType::Bf16,
        TensorType::U8 => DType::Uint8,
        TensorType::I32 => DType::Int32,
        TensorType::I64 => DType::Int64,
    }
}

fn type_of(dtype: DType) -> Option<TensorType> {
    Some(match dtype {
        DType::Fp16 => TensorType::Fp16,
        DType::Fp32 => TensorType::Fp32,
        DType::Fp64 => TensorType::Fp64,
        DType::Bf16 => TensorType::Bf16,
        DType::Uint8 => TensorType::U8,
        DType::Int32 => TensorType::I32,
        DType::Int64 => TensorType::I64,
        _ => return None,
    })
}
