//! Modes that use the interface `graph`.

use innkeeper_sdk::{Graph, Outputs, Result, Tensor};

use crate::{Networks, said};

pub(crate) fn run(model: &Networks, mode: &str, x: &Tensor) -> Option<Result<Outputs>> {
    Some(match mode {
        "asset" => answer(&model.network, x),
        "bytes" => Graph::from_bytes(&model.onnx).and_then(|network| answer(&network, x)),
        "described" => said(&described(&model.network)),
        "wrong-name" => model.network.run(&[("Z", x)]),
        "no-onnx" => Graph::from_bytes(b"nothing").and_then(|network| answer(&network, x)),
        "graphs" => keep(model),
        _ => return None,
    })
}

fn answer(network: &Graph, x: &Tensor) -> Result<Outputs> {
    network.run_for(&[("X", x)], &["Y"])
}

fn described(network: &Graph) -> Vec<String> {
    let specs = network.inputs().into_iter().chain(network.outputs());
    let specs = specs.map(|spec| format!("{} {} {:?}", spec.name, spec.dtype, spec.shape));
    let facts = network.metadata().into_iter().map(|(key, value)| format!("{key} {value}"));
    specs.chain(facts).collect()
}

/// Keeps graphs of its own without end.
fn keep(model: &Networks) -> Result<Outputs> {
    let mut kept = Vec::new();
    loop {
        kept.push(Graph::from_bytes(&model.onnx)?);
    }
}
