//! The network: layers of weights, with one activation between them.

use innkeeper_sdk::{Assets, Error, Result, Tensor};

pub const WEIGHTS: &str = "weights.safetensors";
/// Says what the weights do not: the activation, and what is made of the last layer.
pub const NETWORK: &str = "network.txt";
/// The classes, one on each line, where there are names for them.
pub const LABELS: &str = "labels.txt";

/// What stands between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    Gelu,
    Silu,
}

impl Activation {
    pub const NAMES: [&str; 5] = ["relu", "tanh", "sigmoid", "gelu", "silu"];
    const ALL: [Activation; 5] = [
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Gelu,
        Activation::Silu,
    ];

    pub fn of(name: &str) -> Result<Activation> {
        let position = Self::NAMES.iter().position(|&other| other == name);
        position
            .map(|i| Self::ALL[i])
            .ok_or_else(|| Error::invalid_argument(format!("there is no activation {name:?}")))
    }

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Relu => x.relu(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Gelu => x.gelu(),
            Activation::Silu => x.silu(),
        }
    }
}

/// What is made of the last layer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Probabilities of classes.
    Softmax,
    /// The numbers themselves.
    Linear,
}

/// `dense1`, `dense2`, ...: each a weight `[out, in]` and a bias `[out]`.
pub struct Network {
    pub layers: Vec<(Tensor, Tensor)>,
    pub activation: Activation,
    pub output: Output,
}

impl Network {
    /// The network in these assets: softmax behind relu where they do not say otherwise.
    pub fn open(assets: &Assets) -> Result<Network> {
        let weights = assets.weights(WEIGHTS);
        let names = weights.names()?;
        let mut layers = Vec::new();
        while names.contains(&format!("dense{}.weight", layers.len() + 1)) {
            let name = |part| format!("dense{}.{part}", layers.len() + 1);
            layers.push((weights.tensor(&name("weight"))?, weights.tensor(&name("bias"))?));
        }
        if layers.is_empty() {
            return Err(Error::invalid_argument(format!("{WEIGHTS} has no tensor dense1.weight")));
        }
        let (mut activation, mut output) = (Activation::Relu, Output::Softmax);
        if assets.list().iter().any(|asset| asset.name == NETWORK) {
            for line in assets.read_to_string(NETWORK)?.lines() {
                match line.split_once(' ') {
                    Some(("activation", name)) => activation = Activation::of(name)?,
                    Some(("output", "softmax")) => output = Output::Softmax,
                    Some(("output", "linear")) => output = Output::Linear,
                    _ => return Err(Error::invalid_argument(format!("{NETWORK} says {line:?}"))),
                }
            }
        }
        Ok(Network { layers, activation, output })
    }

    pub fn inputs(&self) -> usize {
        self.layers[0].0.shape()[1]
    }

    pub fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].0.shape()[0]
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (last, hidden) = self.layers.split_last().expect("a network has a layer");
        let mut kept = None;
        for (weight, bias) in hidden {
            let x = kept.as_ref().unwrap_or(x);
            kept = Some(self.activation.apply(&x.linear(weight, Some(bias))?)?);
        }
        let x = kept.as_ref().unwrap_or(x).linear(&last.0, Some(&last.1))?;
        match self.output {
            Output::Softmax => x.softmax(-1),
            Output::Linear => Ok(x),
        }
    }
}
