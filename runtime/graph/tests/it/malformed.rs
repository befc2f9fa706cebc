//! Files that are no models, or that want to do harm: a clear error, and no panic.

use innkeeper_graph::{Graph, GraphError, LoadLimits, Unlimited};
use innkeeper_kernels::{Cpu, Run};
use proptest::prelude::*;

use crate::simple::{field, layer, load, model, named, node, number, value, weight};

/// What is wrong, and a part of what is said about it.
fn check(bytes: &[u8], wanted: &str) {
    let error = load(bytes).map(drop).expect_err(wanted).to_string();
    assert!(error.contains(wanted), "wanted {wanted:?}, got {error:?}");
}

fn input() -> Vec<u8> {
    value(11, "x", &[2])
}

fn output() -> Vec<u8> {
    value(12, "y", &[2])
}

#[test]
fn every_shorter_file_is_refused_or_harmless() {
    let whole = layer();
    for len in 0..whole.len() {
        let _ = load(&whole[..len]);
    }
    check(&[], "it holds no graph");
    check(&whole[..whole.len() - 1], "it ends in the middle of a field");
    check(b"not a model at all", "cannot be used");
}

#[test]
fn names_must_fit() {
    let relu = |from, to| node("Relu", &[from], &[to]);
    check(&model(&[relu("z", "y"), input(), output()]), "reads \"z\", which is no input");
    check(&model(&[relu("x", "y"), relu("x", "y"), input(), output()]), "given to two values");
    check(&model(&[relu("x", "x"), input(), output()]), "given to two values");
    check(&model(&[relu("x", "z"), input(), output()]), "computed by no node");
    let circle = [relu("b", "a"), relu("a", "b"), relu("b", "y"), input(), output()];
    check(&model(&circle), "wait for each other in a circle");
}

#[test]
fn nodes_may_stand_in_any_order() {
    let graph = [node("Relu", &["a"], &["y"]), node("Neg", &["x"], &["a"]), input(), output()];
    let graph = load(&model(&graph)).unwrap();
    let x = named("x", &[2], &[1.0, -2.0]);
    let got = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new()).unwrap();
    assert_eq!(*got[0].tensor.elements::<f32>().unwrap(), [0.0, 2.0]);
}

/// A weight of these dimensions with 4 bytes.
fn claimed(dims: &[u8], more: &[u8]) -> Vec<u8> {
    let parts = [dims, &number(2, 1), &field(8, b"w"), &field(9, &[0; 4]), more].concat();
    let add = node("Add", &["x", "w"], &["y"]);
    model(&[add, field(5, &parts), input(), output()])
}

#[test]
fn weights_must_be_there() {
    // 10^10 elements: nothing is allocated for them.
    let large = [1 << 3, 0x80, 0xc8, 0xaf, 0xa0, 0x25];
    check(&claimed(&large, &[]), "takes 40000000000 bytes, the file has 4");
    let huge = [1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    check(&claimed(&[huge, huge].concat(), &[]), "too large");
    let negative = [1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    check(&claimed(&negative, &[]), "sizes are not negative");
    check(&claimed(&number(1, 1).repeat(17), &[]), "at most 16 dimensions");
    let external = [number(14, 1), field(13, &field(2, b"/etc/passwd"))].concat();
    check(&claimed(&number(1, 1), &external), "its data is in another file");
    check(&claimed(&number(1, 1), &number(2, 99)), "element type 99");
    check(&claimed(&number(1, 1), &number(2, 14)), "complex numbers are not supported");
}

#[test]
fn limits_hold() {
    let limited =
        |limits: LoadLimits| Graph::load(&layer(), &limits, &Run::new()).map(drop).unwrap_err();
    let nodes = LoadLimits { nodes_max: 2, ..LoadLimits::default() };
    assert_eq!(limited(nodes), GraphError::Limit("the model has more than 2 nodes".into()));
    let bytes = LoadLimits { weight_bytes_max: 30, ..LoadLimits::default() };
    let wanted = "the model's constants take more than 30 bytes";
    assert_eq!(limited(bytes), GraphError::Limit(wanted.into()));
}

#[test]
fn loading_stops_when_it_must() {
    let run = Run::new().until(&|| true);
    let stopped = Graph::load(&layer(), &LoadLimits::default(), &run).map(drop);
    assert_eq!(stopped, Err(GraphError::Stopped));
}

/// If in If in If, this deep.
fn nested(depth: usize) -> Vec<u8> {
    let mut body = [node("Relu", &["x"], &["o"]), value(12, "o", &[2])].concat();
    for _ in 0..depth {
        let attribute = |name: &[u8]| {
            let parts = [field(1, name), field(6, &body), vec![20 << 3 & 0x7f | 0x80, 1, 5]];
            field(5, &parts.concat())
        };
        let attributes = [attribute(b"then_branch"), attribute(b"else_branch")].concat();
        let parts = [field(1, b"c"), field(2, b"o"), field(4, b"If"), attributes];
        body = [field(1, &parts.concat()), value(12, "o", &[2])].concat();
        if body.len() > 1 << 20 {
            break;
        }
    }
    body
}

#[test]
fn graphs_nest_only_so_deep() {
    let body = nested(12);
    check(&model(&[body]), "nested more than 8 deep");
}

#[test]
fn opsets_and_types_are_checked() {
    let graph = field(7, &[node("Relu", &["x"], &["y"]), input(), output()].concat());
    let with = |opset: u8| [graph.clone(), field(8, &number(2, opset))].concat();
    check(&with(6), "opset 6; opsets 7 to");
    check(&with(100), "opset 100; opsets 7 to");
    let sequence = field(11, &[field(1, b"x"), field(2, &field(4, &[]))].concat());
    check(&model(&[node("Relu", &["x"], &["y"]), sequence, output()]), "it is no tensor");
}

#[test]
fn empty_tensors_run() {
    let graph = load(&layer()).unwrap();
    let x = named("x", &[0, 2], &[]);
    let got = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new()).unwrap();
    assert_eq!(got[0].tensor.shape().dims(), [0, 3]);
}

#[test]
fn what_does_not_fit_inside_is_told_by_node() {
    let graph = model(&[
        node("Add", &["x", "w"], &["y"]),
        weight("w", &[3], &[0.0; 3]),
        value(11, "x", &[0]),
        value(12, "y", &[0]),
    ]);
    let graph = load(&graph).unwrap();
    let x = named("x", &[2], &[0.0; 2]);
    let error = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new()).unwrap_err();
    assert!(error.to_string().starts_with("operator Add (node \"y\", opset 17): "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes of a good file changed, left out and put in: whatever loads, runs or says why not.
    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6)
    ) {
        let mut bytes = layer();
        for (at, byte, what) in changes {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(graph) = load(&bytes) {
            let x = named("x", &[1, 2], &[1.0, 2.0]);
            let _ = graph.run(&Cpu::new(), vec![x], None, &Unlimited, &Run::new());
        }
    }
}
