//! What a model may ask for and not get: sizes beyond any memory, axes that are not there, more than its budget. Whatever
//! fails, nothing stays charged.

use std::sync::atomic::{AtomicUsize, Ordering};

use innkeeper_graph::{Budget, Graph, GraphError, Unlimited};
use innkeeper_kernels::{Cpu, Run};
use innkeeper_tensor::{Named, Tensor};

use crate::simple::{field, layer, load, model, named, node, number, value, weight};

/// A node with attributes.
fn node_with(op_type: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut parts: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
    outputs.iter().for_each(|name| parts.extend(field(2, name.as_bytes())));
    parts.extend(field(4, op_type.as_bytes()));
    attributes.iter().for_each(|attribute| parts.extend(field(5, attribute)));
    field(1, &parts)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// An attribute that is an integer.
fn integer(name: &str, value: i64) -> Vec<u8> {
    let kind = [varint(20 << 3), varint(2)].concat();
    [field(1, name.as_bytes()), vec![3 << 3], varint(value as u64), kind].concat()
}

/// A weight of INT64.
fn sizes(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let parts =
        [number(1, values.len() as u8), number(2, 7), field(8, name.as_bytes()), field(9, &raw)];
    field(5, &parts.concat())
}

/// An input or output of INT64.
fn whole(kind: u8, name: &str, dims: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|&dim| field(1, &number(1, dim))).collect();
    let tensor = [number(1, 7), field(2, &shape)].concat();
    field(kind, &[field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat())
}

/// At most this many bytes at once.
#[derive(Default)]
struct Counted {
    used: AtomicUsize,
    max: usize,
}

impl Counted {
    fn of(max: usize) -> Counted {
        Counted { max, ..Counted::default() }
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Budget for Counted {
    fn charge(&self, bytes: usize) -> Result<(), String> {
        let sum = self.used().checked_add(bytes).filter(|&sum| sum <= self.max);
        let sum = sum.ok_or_else(|| format!("at most {} bytes", self.max))?;
        self.used.store(sum, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What loading and running this comes to, with a budget of a mebibyte of which nothing may stay charged.
#[track_caller]
fn refused(graph: &[Vec<u8>], inputs: &[Named], wanted: &str) {
    let error = match load(&model(graph)) {
        Err(error) => error,
        Ok(graph) => {
            let budget = Counted::of(1 << 20);
            let results = graph.run(&Cpu::new(), inputs.to_vec(), None, &budget, &Run::new());
            assert_eq!(budget.used(), 0, "{results:?}");
            results.expect_err(wanted)
        }
    };
    assert!(error.to_string().contains(wanted), "wanted {wanted:?}, got {error}");
}

#[test]
fn sizes_beyond_any_memory_are_refused() {
    let x = [named("x", &[2], &[1.0, 2.0])];
    let ends = [value(11, "x", &[2]), value(12, "y", &[0, 0])];
    let grown = |op_type: &str, by: &[i64]| {
        let node = node(op_type, &["x", "s"], &["y"]);
        [&[node, sizes("s", by)], &ends[..]].concat()
    };
    // More elements than a number can count, than memory could hold, and than the budget has.
    refused(&grown("Expand", &[1 << 62, 1 << 62, 2]), &x, "too large");
    refused(&grown("Expand", &[1 << 40, 2]), &x, "at most 1048576 bytes");
    refused(&grown("Expand", &[1 << 20, 2]), &x, "at most 1048576 bytes");
    refused(&grown("Tile", &[i64::MAX]), &x, "too large");
    refused(&grown("Tile", &[-1]), &x, "Tile");
    refused(&grown("Reshape", &[-7]), &x, "Reshape");
    let made = [node("ConstantOfShape", &["s"], &["y"]), sizes("s", &[1 << 33, 1 << 33])];
    refused(&[&made[..], &ends].concat(), &x, "too large");
    let padded = [node("Pad", &["x", "s"], &["y"]), sizes("s", &[i64::MAX, i64::MAX])];
    refused(&[&padded[..], &ends].concat(), &x, "Pad");
}

#[test]
fn axes_count_from_the_end_and_must_be_there() {
    let ends = [value(11, "x", &[2, 2]), value(12, "y", &[2, 2])];
    let x = || named("x", &[2, 2], &[0.0, 1.0, 5.0, 5.0]);
    let softmax = |axis| {
        let node = node_with("Softmax", &["x"], &["y"], &[integer("axis", axis)]);
        [&[node], &ends[..]].concat()
    };
    let y = |axis| {
        let graph = load(&model(&softmax(axis))).unwrap();
        let got = graph.run(&Cpu::new(), vec![x()], None, &Unlimited, &Run::new()).unwrap();
        got[0].tensor.elements::<f32>().unwrap().to_vec()
    };
    assert_eq!(y(-1), y(1));
    assert_eq!(y(-2), y(0));
    assert_ne!(y(-1), y(-2));
    for axis in [-3, 2, i64::MIN, i64::MAX] {
        refused(&softmax(axis), &[x()], "operator Softmax (node \"y\", opset 17)");
    }
}

#[test]
fn nan_goes_through() {
    let ends = [value(11, "x", &[3]), value(12, "y", &[3])];
    for op_type in ["Relu", "Sigmoid", "Neg", "Sqrt"] {
        let graph = load(&model(&[&[node(op_type, &["x"], &["y"])], &ends[..]].concat())).unwrap();
        let x = named("x", &[3], &[f32::NAN, 0.0, 1.0]);
        let got = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new()).unwrap();
        let y = got[0].tensor.elements::<f32>().unwrap();
        assert!(y[0].is_nan() && !y[1].is_nan() && !y[2].is_nan(), "{op_type}: {y:?}");
    }
}

/// A layer, whose run may fail in several ways.
fn charged_after(run: impl Fn(&Graph, &Counted) -> Result<Vec<Named>, GraphError>) -> usize {
    let graph = load(&layer()).unwrap();
    let budget = Counted::of(1 << 10);
    let results = run(&graph, &budget);
    let outputs: usize =
        results.iter().flatten().map(|output| output.tensor.as_bytes().len()).sum();
    assert_eq!(budget.used(), outputs, "{results:?}");
    outputs
}

#[test]
fn only_outputs_stay_charged() {
    let rows = |rows: usize| vec![named("x", &[rows, 2], &vec![1.0; 2 * rows])];
    let once = |graph: &Graph, budget: &Counted, inputs| {
        graph.run(&Cpu::new(), inputs, None, budget, &Run::new())
    };
    assert_eq!(charged_after(|graph, budget| once(graph, budget, rows(2))), 24);
    // Too much, not what was asked for, and stopped on the way.
    assert_eq!(charged_after(|graph, budget| once(graph, budget, rows(1 << 12))), 0);
    assert_eq!(charged_after(|graph, budget| once(graph, budget, Vec::new())), 0);
    let stop = || true;
    let run = Run::new().until(&stop);
    let stopped =
        |graph: &Graph, budget: &Counted| graph.run(&Cpu::new(), rows(2), None, budget, &run);
    assert_eq!(charged_after(stopped), 0);
}

#[test]
fn nothing_stays_charged_when_elements_do_not_fit() {
    // Planned whole: the index shows at the run.
    let gather = [
        node("Gather", &["w", "x"], &["y"]),
        weight("w", &[3], &[1.0, 2.0, 3.0]),
        whole(11, "x", &[1]),
        value(12, "y", &[1]),
    ];
    let x = |index: i64| Named {
        name: "x".into(),
        tensor: Tensor::from_vec(&[1], vec![index]).unwrap(),
    };
    refused(&gather, &[x(3)], "operator Gather");
    refused(&gather, &[x(-4)], "operator Gather");
    // Run node by node: the shape is an element.
    let shaped = [
        node("Relu", &["w"], &["r"]),
        node("Expand", &["r", "x"], &["e"]),
        node("Neg", &["e"], &["y"]),
        weight("w", &[1], &[1.0]),
        whole(11, "x", &[1]),
        value(12, "y", &[0]),
    ];
    refused(&shaped, &[x(-1)], "operator Expand");
    refused(&shaped, &[x(1 << 40)], "at most 1048576 bytes");
    refused(&shaped, &[x(i64::MAX)], "Expand");
}
