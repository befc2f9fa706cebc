//! ONNX's own tests of its operators, from its PyPI package.
//!
//! `tests/node-tests.txt` lists every test with `pass`, or with why it does not. A test that is listed as a pass must
//! pass; one that passes and is not listed so is said, so that the list is brought up to date by
//! `INNKEEPER_NODE_TESTS=write cargo test --release -p innkeeper-graph node_tests`.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use innkeeper_graph::{Graph, GraphError, LoadLimits, Unlimited};
use innkeeper_kernels::Backend;
use innkeeper_kernels::{Cpu, Op, Run};
use innkeeper_tensor::{DType, Named, Tensor};

const COMMAND: &str = "python3 -m venv target/onnx && target/onnx/bin/pip install onnx==1.23.2 && \
    target/onnx/bin/python runtime/graph/tests/node_tests.py target/node-tests";

#[test]
fn node_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = match std::env::var_os("INNKEEPER_NODE_TESTS_FOLDER") {
        Some(folder) => PathBuf::from(folder),
        None => root.join("target/node-tests"),
    };
    let names = fs::read_to_string(folder.join("names.txt"))
        .unwrap_or_else(|_| panic!("there is no {}; make it by\n{COMMAND}", folder.display()));
    let results: BTreeMap<&str, Result<(), String>> = names
        .lines()
        .filter_map(|line| Some((line.split(' ').next()?, tried(&folder, line))))
        .collect();
    let passed = results.values().filter(|result| result.is_ok()).count();
    println!("{passed} of {} node tests pass", results.len());
    let text: String = results
        .iter()
        .map(|(name, result)| match result {
            Ok(()) => format!("{name} pass\n"),
            Err(why) => format!("{name} {}\n", why.lines().next().unwrap_or_default()),
        })
        .collect();
    let listed_at = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node-tests.txt");
    if std::env::var("INNKEEPER_NODE_TESTS").is_ok_and(|value| value == "write") {
        fs::write(&listed_at, text).unwrap();
        return;
    }
    let listed = fs::read_to_string(&listed_at).unwrap();
    let wanted = listed.lines().filter_map(|line| line.strip_suffix(" pass"));
    let broken: Vec<String> = wanted
        .filter_map(|name| match results.get(name) {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(format!("{name}: {why}")),
            None => Some(format!("{name}: it is not in {}", folder.display())),
        })
        .collect();
    assert!(broken.is_empty(), "listed as passing, but not:\n{}", broken.join("\n"));
}

fn tried(folder: &Path, line: &str) -> Result<(), String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut tolerance = || words.next().and_then(|word| word.parse().ok()).unwrap_or(1e-3f64);
    let (relative, absolute) = (tolerance(), tolerance());
    let attempt = || attempt(folder, name, relative, absolute);
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| Err("PANIC".into()))
}

fn load(path: &Path) -> Result<Graph, GraphError> {
    Graph::load(&fs::read(path).unwrap(), &LoadLimits::default(), &Run::new())
}

fn attempt(folder: &Path, name: &str, relative: f64, absolute: f64) -> Result<(), String> {
    let graph = load(&folder.join(format!("{name}.onnx"))).map_err(|error| match error {
        GraphError::Unsupported { .. } => format!("unsupported {error}"),
        error => format!("not loaded {error}"),
    })?;
    let mut sets = 0;
    while let Ok(bytes) = fs::read(folder.join(format!("{name}.{sets}.onnx"))) {
        let data = Graph::load(&bytes, &LoadLimits::default(), &Run::new())
            .map_err(|error| format!("unsupported data: {error}"))?;
        let held = run(&data, Vec::new()).map_err(|error| format!("data: {error}"))?;
        let part = |kind: &str| -> Vec<Named> {
            let named = held.iter().filter_map(|one| {
                Some(Named {
                    name: one.name.strip_prefix(kind)?.into(),
                    tensor: one.tensor.clone(),
                })
            });
            named.collect()
        };
        let got = run(&graph, part("input.")).map_err(|error| match error {
            GraphError::Unsupported { .. } => format!("unsupported {error}"),
            error => format!("not run {error}"),
        })?;
        for wanted in part("output.") {
            let got = got.iter().find(|one| one.name == wanted.name).unwrap();
            compare(&got.tensor, &wanted.tensor, relative, absolute)
                .map_err(|why| format!("wrong {}: {why}", wanted.name))?;
        }
        sets += 1;
    }
    if sets == 0 { Err("unsupported it takes or gives what is no tensor".into()) } else { Ok(()) }
}

fn run(graph: &Graph, inputs: Vec<Named>) -> Result<Vec<Named>, GraphError> {
    graph.run(&Cpu::new(), inputs, None, &Unlimited, &Run::new())
}

fn compare(got: &Tensor, wanted: &Tensor, relative: f64, absolute: f64) -> Result<(), String> {
    if (got.dtype(), got.shape()) != (wanted.dtype(), wanted.shape()) {
        let (a, b, c, d) = (got.dtype(), got.shape(), wanted.dtype(), wanted.shape());
        return Err(format!("{a} {b}, wanted {c} {d}"));
    }
    if got.dtype() == DType::Bytes {
        return if got == wanted { Ok(()) } else { Err("other strings".into()) };
    }
    let numbers = |tensor: &Tensor| {
        let cast =
            Cpu::new().run_one(&Op::Cast { to: DType::Fp64 }, &[tensor], &Run::new()).unwrap();
        cast.elements::<f64>().unwrap().into_owned()
    };
    for (index, (got, wanted)) in numbers(got).into_iter().zip(numbers(wanted)).enumerate() {
        let near = got == wanted
            || (got.is_nan() && wanted.is_nan())
            || (got - wanted).abs() <= absolute + relative * wanted.abs();
        if !near {
            return Err(format!("element {index} is {got}, wanted {wanted}"));
        }
    }
    Ok(())
}
