//! Nodes and initialisers, written.

use innkeeper_tensor::{DType, Tensor};

use super::wire::Message;

/// The field of a graph that holds a node.
pub(super) const NODE: u64 = 1;
/// The field of a graph that holds an initialiser.
pub(super) const INITIALIZER: u64 = 5;

/// Adds a node to a graph.
pub(super) fn node(
    graph: &mut Message,
    op: &str,
    domain: &str,
    inputs: &[&str],
    outputs: &[&str],
    ints: &[(&str, i64)],
) {
    let mut node = Message::default();
    inputs.iter().for_each(|name| node.bytes(1, name.as_bytes()));
    outputs.iter().for_each(|name| node.bytes(2, name.as_bytes()));
    let name = format!("{}_{op}", outputs.first().copied().unwrap_or_default());
    node.bytes(3, name.as_bytes());
    node.bytes(4, op.as_bytes());
    for (name, value) in ints {
        let mut attribute = Message::default();
        attribute.bytes(1, name.as_bytes());
        attribute.int(3, *value);
        // AttributeProto.INT
        attribute.int(20, 2);
        node.bytes(5, &attribute.0);
    }
    if !domain.is_empty() {
        node.bytes(7, domain.as_bytes());
    }
    graph.bytes(NODE, &node.0);
}

/// Adds an initialiser to a graph.
pub(super) fn initializer(graph: &mut Message, name: &str, tensor: &Tensor) -> Result<(), String> {
    let mut message = Message::default();
    for &dim in tensor.shape().dims() {
        message.int(1, dim as i64);
    }
    message.int(2, data_type(tensor.dtype())?);
    message.bytes(8, name.as_bytes());
    message.bytes(9, tensor.as_bytes());
    graph.bytes(INITIALIZER, &message.0);
    Ok(())
}

/// TensorProto.DataType.
fn data_type(dtype: DType) -> Result<i64, String> {
    Ok(match dtype {
        DType::Fp32 => 1,
        DType::Uint8 => 2,
        DType::Int8 => 3,
        DType::Int64 => 7,
        DType::Fp16 => 10,
        DType::Bf16 => 16,
        other => return Err(format!("no initialiser of {other} is written")),
    })
}
