//! Small graphs, written byte by byte as protocol buffers.

use innkeeper_graph::{Graph, GraphError, LoadLimits, Unlimited};
use innkeeper_kernels::{Cpu, Run};
use innkeeper_tensor::{Named, Tensor};

/// A field of bytes.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 128 {
        out.push(len as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    out
}

/// A number below 128.
pub(crate) fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let mut node = Vec::new();
    inputs.iter().for_each(|name| node.extend(field(1, name.as_bytes())));
    outputs.iter().for_each(|name| node.extend(field(2, name.as_bytes())));
    node.extend(field(4, op_type.as_bytes()));
    field(1, &node)
}

/// An input (11) or output (12) of FP32; a dimension of 0 is free.
pub(crate) fn value(kind: u8, name: &str, dims: &[u8]) -> Vec<u8> {
    let dim = |&dim: &u8| match dim {
        0 => field(1, &field(2, b"n")),
        dim => field(1, &number(1, dim)),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, 1), field(2, &shape)].concat();
    field(kind, &[field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat())
}

pub(crate) fn weight(name: &str, dims: &[u8], values: &[f32]) -> Vec<u8> {
    let dims = dims.iter().flat_map(|&dim| number(1, dim));
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let parts = [dims.collect(), number(2, 1), field(8, name.as_bytes()), field(9, &raw)];
    field(5, &parts.concat())
}

pub(crate) fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 17))].concat()
}

pub(crate) fn load(bytes: &[u8]) -> Result<Graph, GraphError> {
    Graph::load(bytes, &LoadLimits::default(), &Run::new())
}

pub(crate) fn named(name: &str, dims: &[usize], values: &[f32]) -> Named {
    Named { name: name.into(), tensor: Tensor::from_vec(dims, values.to_vec()).unwrap() }
}

/// relu(x w + b).
pub(crate) fn layer() -> Vec<u8> {
    model(&[
        node("MatMul", &["x", "w"], &["p"]),
        node("Add", &["p", "b"], &["s"]),
        node("Relu", &["s"], &["y"]),
        weight("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        weight("b", &[3], &[-10.0, 0.5, 0.0]),
        value(11, "x", &[0, 2]),
        value(12, "y", &[0, 3]),
    ])
}

#[test]
fn a_layer_runs() {
    let graph = load(&layer()).unwrap();
    assert_eq!(graph.opset(), 17);
    assert_eq!(graph.inputs()[0].to_string(), "FP32 [-1,2]");
    assert_eq!(graph.outputs()[0].to_string(), "FP32 [-1,3]");
    for rows in [1, 2] {
        let x = named("x", &[rows, 2], &[1.0, 2.0].repeat(rows));
        let got = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new()).unwrap();
        assert_eq!(got[0].name, "y");
        assert_eq!(*got[0].tensor.elements::<f32>().unwrap(), [0.0, 12.5, 15.0].repeat(rows));
    }
}

#[test]
fn inputs_are_held_against_the_signature() {
    let graph = load(&layer()).unwrap();
    let run = |inputs| graph.run(&Cpu::new(), inputs, None, &Unlimited, &Run::new());
    let error = run(vec![named("x", &[1, 3], &[0.0; 3])]).unwrap_err();
    assert_eq!(error.to_string(), "input \"x\" must have shape [-1,2], got [1,3]");
    assert!(matches!(run(vec![]), Err(GraphError::Input(_))));
}

#[test]
fn what_is_not_supported_is_named() {
    let bytes =
        model(&[node("Frobnicate", &["x"], &["y"]), value(11, "x", &[2]), value(12, "y", &[2])]);
    let error = load(&bytes).unwrap_err().to_string();
    let wanted = "operator Frobnicate (node \"y\", opset 17) is not supported: ";
    assert!(error.starts_with(wanted), "{error}");
}

#[test]
fn a_stopped_run_ends() {
    let graph = load(&layer()).unwrap();
    let stop = || true;
    let x = named("x", &[1, 2], &[1.0, 2.0]);
    let got = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new().until(&stop));
    assert_eq!(got, Err(GraphError::Stopped));
}
