//! Whole runs against PyTorch's, which `tests/goldens/train.py` wrote: the loss of each step to 1e-5.

use std::cell::RefCell;
use std::collections::BTreeMap;

use innkeeper_sdk::layers::{Conv, Window};
use innkeeper_sdk::train::{
    Adam, AvgPool2d, Conv2d, Embedding, LayerNorm, Linear, MaxPool2d, Module, MultiHeadAttention,
    Optimizer, Parameter, Random, Reduction, Sequential, Sgd, Var,
};
use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature, Tensor};

/// The tensors of a golden file, opened as a model opens its weights.
struct Golden(RefCell<BTreeMap<String, Tensor>>);

impl Model for Golden {
    fn load(assets: &Assets) -> Result<Self> {
        let weights = assets.weights("golden.safetensors");
        let open = |name: String| Ok((name.clone(), weights.tensor(&name)?));
        Ok(Golden(RefCell::new(weights.names()?.into_iter().map(open).collect::<Result<_>>()?)))
    }

    fn signature(&self) -> Signature {
        Signature::new().output("Y", DType::Fp32, &[])
    }

    fn predict(&self, _inputs: Inputs) -> Result<Outputs> {
        Ok(Outputs::new())
    }
}

fn golden(name: &str) -> BTreeMap<String, Tensor> {
    let path = format!("{}/tests/goldens/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let assets = [("golden.safetensors", bytes)];
    let loaded = innkeeper_sdk::test::Harness::<Golden>::load(assets).unwrap();
    loaded.model().0.take()
}

fn begin(named: &[(String, Parameter)], golden: &BTreeMap<String, Tensor>) {
    for (name, parameter) in named {
        let value = &golden[&format!("begin.{name}")];
        assert_eq!(value.shape(), parameter.value().shape(), "{name}");
        parameter.set(value.share().unwrap());
    }
}

/// Trains, and holds each loss against the golden one.
fn check(
    name: &str,
    golden: &BTreeMap<String, Tensor>,
    parameters: &[Parameter],
    optimizer: &mut dyn Optimizer,
    norm_max: Option<f64>,
    loss: &dyn Fn() -> Var,
) {
    for (step, wanted) in golden["loss"].to_vec::<f64>().unwrap().into_iter().enumerate() {
        let loss = loss();
        let got = loss.item().unwrap();
        assert!((got - wanted).abs() <= 1e-5 * wanted, "{name}, step {step}: {got}, not {wanted}");
        let mut gradients = loss.backward().unwrap();
        if let Some(norm_max) = norm_max {
            gradients.clip_norm(norm_max).unwrap();
        }
        drop(loss);
        optimizer.step(parameters, &gradients).unwrap();
    }
}

#[test]
fn a_small_network() {
    let optimizers: [(&str, Box<dyn Optimizer>); 4] = [
        ("sgd", Box::new(Sgd::new(0.3))),
        ("nesterov", Box::new(Sgd::new(0.1).momentum(0.9).nesterov().weight_decay(1e-2))),
        ("adam", Box::new(Adam::new(1e-2).weight_decay(1e-2))),
        ("adamw", Box::new(Adam::decoupled(1e-2, 1e-1))),
    ];
    for (name, mut optimizer) in optimizers {
        let golden = golden(&format!("mlp-{name}"));
        let random = &mut Random::new(1);
        let model = Sequential::new()
            .with(Linear::new(12, 16, random).unwrap())
            .relu()
            .with(Linear::new(16, 16, random).unwrap())
            .tanh()
            .with(Linear::new(16, 5, random).unwrap());
        begin(&model.named_parameters(), &golden);
        let x = Var::constant(golden["x"].share().unwrap());
        let loss = || model.forward(&x).unwrap().cross_entropy(&golden["labels"]).unwrap();
        check(name, &golden, &model.parameters(), &mut *optimizer, None, &loss);
    }
}

struct Transformer {
    words: Embedding,
    places: Embedding,
    attention: MultiHeadAttention,
    norms: [LayerNorm; 3],
    up: Linear,
    down: Linear,
    head: Linear,
}

impl Transformer {
    fn new(golden: &BTreeMap<String, Tensor>) -> Result<Transformer> {
        let random = &mut Random::new(1);
        let of = |name: &str| Parameter::new(golden[&format!("begin.{name}")].share().unwrap());
        let linear = |name: &str| Linear {
            weight: of(&format!("{name}weight")),
            bias: golden
                .contains_key(&format!("begin.{name}bias"))
                .then(|| of(&format!("{name}bias"))),
        };
        let norm = |name: &str| LayerNorm {
            weight: of(&format!("{name}.weight")),
            bias: of(&format!("{name}.bias")),
            epsilon: 1e-5,
        };
        let mut attention = MultiHeadAttention::new(8, 2, random)?;
        attention.input = linear("attention.in_proj_");
        attention.output = linear("attention.out_proj.");
        Ok(Transformer {
            words: Embedding { weight: of("words.weight") },
            places: Embedding { weight: of("places.weight") },
            attention,
            norms: [norm("norm1"), norm("norm2"), norm("norm3")],
            up: linear("up."),
            down: linear("down."),
            head: linear("head."),
        })
    }

    fn forward(&self, tokens: &Tensor) -> Result<Var> {
        let length = tokens.shape()[1];
        let places = Tensor::arange(DType::Int64, 0.0, 1.0, length)?;
        let [norm1, norm2, norm3] = &self.norms;
        let x = self.words.look_up(tokens)?.add(&self.places.look_up(&places)?)?;
        let x = x.add(&self.attention.attend_causally(&norm1.forward(&x)?)?)?;
        let inner = self.up.forward(&norm2.forward(&x)?)?.gelu()?;
        let x = x.add(&self.down.forward(&inner)?)?;
        self.head.forward(&norm3.forward(&x)?)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let parts: [&dyn Module; 9] = [
            &self.words,
            &self.places,
            &self.attention,
            &self.norms[0],
            &self.norms[1],
            &self.norms[2],
            &self.up,
            &self.down,
            &self.head,
        ];
        parts.into_iter().flat_map(Module::parameters).collect()
    }
}

#[test]
fn a_small_transformer() {
    let golden = golden("transformer");
    let model = Transformer::new(&golden).unwrap();
    let mut adam = Adam::decoupled(1e-2, 1e-2);
    let loss = || {
        let logits = model.forward(&golden["tokens"]).unwrap();
        logits.cross_entropy_with(&golden["labels"], None, 0.1, Reduction::Mean).unwrap()
    };
    check("transformer", &golden, &model.parameters(), &mut adam, Some(1.0), &loss);
}

#[test]
fn a_small_network_of_images() {
    let golden = golden("images");
    let of = |name: &str| Parameter::new(golden[&format!("begin.{name}")].share().unwrap());
    let conv = |name: &str, window: Window, groups: usize| Conv2d {
        weight: of(&format!("{name}.weight")),
        bias: Some(of(&format!("{name}.bias"))),
        conv: Conv { window, groups, ..Conv::default() },
    };
    let first = conv("first", Window { pads: vec![1; 4], ..Window::default() }, 1);
    let second = conv("second", Window { strides: vec![1, 2], ..Window::default() }, 2);
    let norm = [of("norm.weight"), of("norm.bias")];
    let head = Linear { weight: of("head.weight"), bias: Some(of("head.bias")) };
    let forward = |x: &Var| -> Result<Var> {
        let [scale, bias] = [0, 1].map(|index: usize| norm[index].var());
        let x = first.forward(x)?.batch_norm(&scale, &bias, 1e-5)?.relu()?;
        let x = second.forward(&MaxPool2d::new(2).forward(&x)?)?.relu()?;
        head.forward(&AvgPool2d::new(2).forward(&x)?.reshape(&[-1, 6])?)
    };
    let x = Var::constant(golden["x"].share().unwrap());
    let loss = || forward(&x).unwrap().cross_entropy(&golden["labels"]).unwrap();
    let modules: [&dyn Module; 3] = [&first, &second, &head];
    let parameters = modules.into_iter().flat_map(Module::parameters).chain(norm.clone());
    let parameters: Vec<Parameter> = parameters.collect();
    let mut sgd = Sgd::new(0.1).momentum(0.9);
    check("images", &golden, &parameters, &mut sgd, None, &loss);
}
