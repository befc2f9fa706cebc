//! MiniLM by each of the ways that a guest has to the host's kernels, for `benches/guests.py`: the request's parameter
//! `path` names one. Token ids come in, so that nothing else is measured.

#[cfg(target_family = "wasm")]
mod nn;

// The plugin's own network: what is measured is what an author writes.
#[path = "../../../../plugins/minilm/src/network.rs"]
#[allow(dead_code, reason = "the plugin's pooling is not part of the ONNX file")]
mod network;

use innkeeper_sdk::{
    Assets, DType, Error, Graph, Inputs, Model, Outputs, Result, Signature, Tensor, request,
};

use network::{Network, WIDTH};

const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
const OUTPUT: &str = "last_hidden_state";

pub struct Paths {
    network: Network,
    graph: Graph,
    #[cfg(target_family = "wasm")]
    nn: nn::Context,
}

#[innkeeper_sdk::model]
impl Model for Paths {
    fn load(assets: &Assets) -> Result<Self> {
        Ok(Paths {
            network: Network::open(&assets.weights("weights.safetensors"))?,
            graph: assets.graph("minilm.onnx")?,
            #[cfg(target_family = "wasm")]
            nn: nn::Context::open("minilm.onnx")?,
        })
    }

    fn signature(&self) -> Signature {
        let signature = Signature::new().output(OUTPUT, DType::Fp32, &[-1, -1, WIDTH as i64]);
        INPUTS
            .iter()
            .fold(signature, |signature, name| signature.input(*name, DType::Int64, &[-1, -1]))
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let path = request::parameter("path").unwrap_or_default();
        let tensor = |name| inputs.tensor(name);
        match path.trim_matches('"') {
            "tensors" => {
                let x = self.network.encode(tensor(INPUTS[0])?, None)?;
                Ok(Outputs::new().with(OUTPUT, x))
            }
            "graph" => {
                let [ids, mask, types] = INPUTS.map(|name| tensor(name));
                let named: [(&str, &Tensor); 3] =
                    [(INPUTS[0], ids?), (INPUTS[1], mask?), (INPUTS[2], types?)];
                self.graph.run_for(&named, &[OUTPUT])
            }
            #[cfg(target_family = "wasm")]
            "nn" => Ok(Outputs::new().with(OUTPUT, self.nn.compute(&inputs, &INPUTS)?)),
            other => Err(Error::invalid_argument(format!("there is no path {other:?}"))),
        }
    }
}
