//! The parts of ONNX's messages that are written here. Numbers of fields are `onnx.proto`'s.

use innkeeper_tensor::{DType, Tensor};
use prost::Message;

/// The version of the operators that are written.
pub(crate) const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    producer_name: Option<String>,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, optional, tag = "1")]
    domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    version: Option<i64>,
}

/// A graph.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<NodeProto>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfoProto>,
}

/// An operator at work.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(crate) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attribute: Vec<AttributeProto>,
}

/// A setting of an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    s: Option<Vec<u8>>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    strings: Vec<Vec<u8>>,
    #[prost(int32, optional, tag = "20")]
    r#type: Option<i32>,
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(string, optional, tag = "8")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
}

/// An input or output.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfoProto {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, optional, tag = "1")]
    elem_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// A setting.
pub(crate) enum Attr<'a> {
    Float(f32),
    Int(i64),
    Ints(&'a [i64]),
    Text(&'a str),
    Texts(&'a [&'a str]),
}

/// The message of a setting.
pub(crate) fn attribute(name: &str, value: &Attr<'_>) -> AttributeProto {
    let empty = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    match value {
        Attr::Float(value) => AttributeProto { f: Some(*value), r#type: Some(1), ..empty },
        Attr::Int(value) => AttributeProto { i: Some(*value), r#type: Some(2), ..empty },
        Attr::Text(value) => AttributeProto { s: Some((*value).into()), r#type: Some(3), ..empty },
        Attr::Ints(values) => AttributeProto { ints: values.to_vec(), r#type: Some(7), ..empty },
        Attr::Texts(values) => {
            let strings = values.iter().map(|value| (*value).into()).collect();
            AttributeProto { strings, r#type: Some(8), ..empty }
        }
    }
}

/// The message of a constant.
pub(crate) fn constant(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().dims().iter().map(|&dim| dim as i64).collect(),
        data_type: Some(number(tensor.dtype())),
        name: Some(name.to_owned()),
        raw_data: Some(tensor.as_bytes().to_vec()),
    }
}

/// The message of an input or output; a dimension that is not known gets the name that `param` gives it.
pub(crate) fn value_info(
    name: &str,
    dtype: DType,
    shape: &[Option<usize>],
    param: impl Fn(usize) -> String,
) -> ValueInfoProto {
    let dim = |(axis, dim): (usize, &Option<usize>)| DimensionProto {
        dim_value: dim.map(|dim| dim as i64),
        dim_param: if dim.is_none() { Some(param(axis)) } else { None },
    };
    let shape = TensorShapeProto { dim: shape.iter().enumerate().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: Some(number(dtype)), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor) }),
    }
}

/// The file of a model with this graph.
pub(crate) fn model(graph: GraphProto) -> Vec<u8> {
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) };
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("innkeeper".to_owned()),
        graph: Some(graph),
        opset_import: vec![opset],
    };
    model.encode_to_vec()
}

/// ONNX's number of a dtype.
fn number(dtype: DType) -> i32 {
    match dtype {
        DType::Fp32 => 1,
        DType::Uint8 => 2,
        DType::Int8 => 3,
        DType::Uint16 => 4,
        DType::Int16 => 5,
        DType::Int32 => 6,
        DType::Int64 => 7,
        DType::Bytes => 8,
        DType::Bool => 9,
        DType::Fp16 => 10,
        DType::Fp64 => 11,
        DType::Uint32 => 12,
        DType::Uint64 => 13,
        DType::Bf16 => 16,
    }
}
