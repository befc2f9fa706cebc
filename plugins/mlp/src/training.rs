//! Training: from the columns of a table to a network.

use innkeeper_sdk::train::{
    Adam, Gradients, Linear, Module, Optimizer, Parameter, Random, Reduction, Sgd, Var,
    without_gradients,
};
use innkeeper_sdk::trainer::{
    Column, Files, Hyperparameter, Metrics, Plan, Position, Task, Trainer, restored, saved,
};
use innkeeper_sdk::{Assets, DType, Error, Inputs, Outputs, Result, Tensor};

use crate::network::{Activation, LABELS, NETWORK, Network, WEIGHTS};
use crate::privacy::{self, Privacy};

/// What the columns of features, flattened and joined, are called in a batch.
const FEATURES: &str = "features";
/// What the network shall answer.
const TARGET: &str = "target";
/// Names that a column of answers goes by, where a job does not name it.
const TARGET_NAMES: [&str; 4] = ["label", "target", "class", "y"];
/// Classes of one network.
const CLASSES_MAX: f64 = 100_000.0;

pub struct Training {
    dense: Dense,
    loss: Loss,
    optimizer: Either,
    clip_norm: f64,
    privacy: Option<Privacy>,
    /// Mean and deviation of each feature, when they are brought to mean 0 and deviation 1.
    spread: Option<[Vec<f32>; 2]>,
    scale: Option<[Tensor; 2]>,
    classes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    CrossEntropy,
    /// Half the mean of the squares, as 1 / (2 m) sum (h(x) - y)^2.
    SquaredError,
}

impl Loss {
    fn of(self, answer: &Var, target: &Tensor, reduction: Reduction) -> Result<Var> {
        match (self, reduction) {
            (Loss::CrossEntropy, _) => answer.cross_entropy_with(target, None, 0.0, reduction),
            (Loss::SquaredError, Reduction::Mean) => {
                answer.mean_squared_error(&matrix(target)?)?.mul_scalar(0.5)
            }
            // The mean over what a row answers, summed over rows.
            (Loss::SquaredError, Reduction::Sum) => {
                let width = answer.shape().last().copied().unwrap_or(1).max(1);
                answer.squared_error_sum(&matrix(target)?)?.mul_scalar(0.5 / width as f64)
            }
        }
    }
}

enum Either {
    Sgd(Sgd),
    Adam(Adam),
}

/// The layers as parameters.
pub(crate) struct Dense {
    pub(crate) layers: Vec<Linear>,
    activation: Activation,
}

impl Dense {
    #[cfg(test)]
    pub(crate) fn new(layers: Vec<Linear>, activation: Activation) -> Dense {
        Dense { layers, activation }
    }

    pub(crate) fn activate(&self, x: &Var) -> Result<Var> {
        match self.activation {
            Activation::Relu => x.relu(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Gelu => x.gelu(),
            Activation::Silu => x.silu(),
        }
    }
}

impl Module for Dense {
    fn forward(&self, x: &Var) -> Result<Var> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?;
            if i + 1 < self.layers.len() {
                x = self.activate(&x)?;
            }
        }
        Ok(x)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let named = self.layers.iter().enumerate().flat_map(|(i, layer)| {
            let named = layer.named_parameters().into_iter();
            named.map(move |(name, parameter)| (format!("dense{}.{name}", i + 1), parameter))
        });
        named.collect()
    }
}

#[innkeeper_sdk::trainer]
impl Trainer for Training {
    fn hyperparameters() -> Vec<Hyperparameter> {
        let text = Hyperparameter::text;
        let choice = Hyperparameter::choice;
        let number = Hyperparameter::number;
        vec![
            text(
                "target",
                "The column to be learnt; else label, target, class, y or the last.",
                "",
            ),
            text("features", "The columns to learn from, with commas; else all others.", ""),
            Hyperparameter::integers(
                "layers",
                "The sizes of the layers between.",
                1..=65_536,
                &[64, 64],
            ),
            choice("activation", "What stands between layers.", &Activation::NAMES, "relu"),
            choice(
                "loss",
                "What is made small: cross_entropy for classes, squared_error for numbers.",
                &["auto", "cross_entropy", "squared_error"],
                "auto",
            ),
            choice("optimizer", "What moves the weights.", &["adam", "adamw", "sgd"], "adam"),
            number("learning_rate", "How far a step goes.", 0.0..=1e6, 1e-3),
            number("momentum", "What sgd keeps of its last steps.", 0.0..=1.0, 0.0),
            number("weight_decay", "How fast weights shrink.", 0.0..=1e3, 0.0),
            number("clip_norm", "The longest gradient; 0 for any.", 0.0..=1e9, 0.0),
            Hyperparameter::integer("epochs", "How often all rows are seen.", 1..=100_000, 10),
            Hyperparameter::integer("batch_size", "Rows of a mini-batch.", 1..=65_536, 32),
            Hyperparameter::flag(
                "standardize",
                "Bring each feature to mean 0 and deviation 1; the weights are then folded back.",
                true,
            ),
            Hyperparameter::flag("resume_weights", "Go on from this version's weights.", false),
            number(
                "dp_clip",
                "Differential privacy: the longest gradient of one row; 0 for none of it.",
                0.0..=1e9,
                0.0,
            ),
            number("dp_noise", "The noise on their sum, in parts of dp_clip.", 0.0..=1e3, 1.0),
            number("dp_delta", "The delta for which the spent epsilon is told.", 1e-30..=0.5, 1e-5),
        ]
    }

    fn begin(task: &Task) -> Result<(Self, Plan)> {
        let target = target(task)?;
        let features = features(task, target)?;
        let loss = loss(task, target)?;
        let outputs = match loss {
            Loss::CrossEntropy => classes(target)?,
            Loss::SquaredError => target.width().max(1),
        };
        let inputs = features.iter().map(|column| column.width()).sum();
        let activation = Activation::of(task.text("activation")?)?;
        let spread = task.flag("standardize")?.then(|| spread(&features));
        let dense = if task.flag("resume_weights")? {
            resumed(&task.assets, [inputs, outputs], activation, spread.as_ref())?
        } else {
            fresh(task, inputs, outputs, activation)?
        };
        let scale = spread.as_ref().map(scale).transpose()?;
        let training = Training {
            dense,
            loss,
            optimizer: optimizer(task)?,
            clip_norm: task.number("clip_norm")?,
            privacy: Privacy::of(task)?,
            spread,
            scale,
            classes: target.categories.clone(),
        };
        let dtype = match loss {
            Loss::CrossEntropy => DType::Int64,
            Loss::SquaredError => DType::Fp32,
        };
        let names: Vec<&str> = features.iter().map(|column| column.name.as_str()).collect();
        let [epochs, batch] = [task.integer("epochs")?, task.integer("batch_size")?];
        let plan = Plan::new(epochs as u32, batch as u32).feed(FEATURES, DType::Fp32, &names).feed(
            TARGET,
            dtype,
            &[&target.name],
        );
        Ok((training, plan))
    }

    fn step(&mut self, batch: Inputs, position: Position) -> Result<Metrics> {
        if let Some(privacy) = self.privacy {
            let x = self.features(&batch)?;
            let private = privacy::gradients(&self.dense, &x, &privacy, position.step, |answer| {
                self.loss.of(answer, batch.tensor(TARGET)?, Reduction::Sum)
            })?;
            self.optimizer.step(&self.dense.parameters(), &private.gradients)?;
            // Alike over an epoch, so that its mean is what is spent at its end.
            let metrics = self.metrics(&batch, &private.answer, &private.loss)?;
            return Ok(metrics.with("epsilon", privacy.spent(position.epoch)));
        }
        let (answer, loss) = self.forward(&batch)?;
        let mut gradients = loss.backward()?;
        if self.clip_norm > 0.0 {
            gradients.clip_norm(self.clip_norm)?;
        }
        let parameters = self.dense.parameters();
        self.optimizer.step(&parameters, &gradients)?;
        self.metrics(&batch, &answer, &loss)
    }

    fn evaluate(&mut self, batch: Inputs) -> Result<Metrics> {
        let (answer, loss) = without_gradients(|| self.forward(&batch))?;
        self.metrics(&batch, &answer, &loss)
    }

    fn save(&mut self) -> Result<Outputs> {
        saved(&self.dense, &self.optimizer)
    }

    fn restore(&mut self, state: Inputs) -> Result<()> {
        restored(&self.dense, &mut self.optimizer, state)
    }

    fn finish(&mut self) -> Result<Files> {
        let mut weights = Outputs::new();
        for (i, layer) in self.dense.layers.iter().enumerate() {
            let bias = layer.bias.as_ref().ok_or_else(|| Error::internal("a layer has no bias"))?;
            let (mut weight, mut bias) = (layer.weight.value().share()?, bias.value().share()?);
            if i == 0
                && let Some([mean, deviation]) = &self.spread
            {
                // w ((x - mean) / deviation) + b, with x as it comes.
                weight = weight.div(&row(deviation)?)?;
                bias = bias.sub(&weight.mul(&row(mean)?)?.sum(&[1], false)?)?;
            }
            weights.push(&format!("dense{}.weight", i + 1), weight);
            weights.push(&format!("dense{}.bias", i + 1), bias);
        }
        let output = match self.loss {
            Loss::CrossEntropy => "softmax",
            Loss::SquaredError => "linear",
        };
        let network = format!("activation {}\noutput {output}\n", self.dense.activation.name());
        let mut files = Files::new().tensors(WEIGHTS, weights).bytes(NETWORK, network);
        if !self.classes.is_empty() {
            files = files.bytes(LABELS, self.classes.join("\n") + "\n");
        }
        Ok(files)
    }
}

impl Training {
    fn features(&self, batch: &Inputs) -> Result<Tensor> {
        let x = matrix(batch.tensor(FEATURES)?)?;
        match &self.scale {
            Some([mean, deviation]) => x.sub(mean)?.div(deviation),
            None => Ok(x),
        }
    }

    /// The answers, and how far they are off.
    fn forward(&self, batch: &Inputs) -> Result<(Var, Var)> {
        let answer = self.dense.forward(&Var::constant(self.features(batch)?))?;
        let loss = self.loss.of(&answer, batch.tensor(TARGET)?, Reduction::Mean)?;
        Ok((answer, loss))
    }

    fn metrics(&self, batch: &Inputs, answer: &Var, loss: &Var) -> Result<Metrics> {
        let metrics = Metrics::new().with("loss", loss.item()?);
        if self.loss != Loss::CrossEntropy {
            return Ok(metrics);
        }
        let right = answer.value().argmax(-1)?.equal(batch.tensor(TARGET)?)?;
        let right = right.cast(DType::Fp32)?.mean(&[0], false)?.to_vec::<f32>()?;
        Ok(metrics.with("accuracy", f64::from(right[0])))
    }
}

impl Optimizer for Either {
    fn step(&mut self, parameters: &[Parameter], gradients: &Gradients) -> Result<()> {
        self.as_mut().step(parameters, gradients)
    }

    fn learning_rate(&self) -> f64 {
        self.as_ref().learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.as_mut().set_learning_rate(learning_rate);
    }

    fn state(&self, parameters: &[(String, Parameter)]) -> Result<Outputs> {
        self.as_ref().state(parameters)
    }

    fn set_state(&mut self, parameters: &[(String, Parameter)], state: Inputs) -> Result<()> {
        self.as_mut().set_state(parameters, state)
    }
}

impl Either {
    fn as_ref(&self) -> &dyn Optimizer {
        match self {
            Either::Sgd(sgd) => sgd,
            Either::Adam(adam) => adam,
        }
    }

    fn as_mut(&mut self) -> &mut dyn Optimizer {
        match self {
            Either::Sgd(sgd) => sgd,
            Either::Adam(adam) => adam,
        }
    }
}

fn target(task: &Task) -> Result<&Column> {
    let named = match task.text("target")? {
        "" => None,
        name => Some(task.column(name)?),
    };
    let known = || {
        let find = |name: &&str| task.columns.iter().find(|column| column.name == *name);
        TARGET_NAMES.iter().find_map(find)
    };
    named
        .or_else(known)
        .or_else(|| task.columns.last())
        .ok_or_else(|| Error::invalid_argument("the data has no columns"))
}

fn features<'a>(task: &'a Task, target: &Column) -> Result<Vec<&'a Column>> {
    let columns: Vec<&Column> = match task.text("features")? {
        "" => task.columns.iter().filter(|column| column.name != target.name).collect(),
        names => names.split(',').map(|name| task.column(name.trim())).collect::<Result<_>>()?,
    };
    if columns.is_empty() {
        return Err(Error::invalid_argument(format!(
            "the data has no column to learn from beside {:?}",
            target.name
        )));
    }
    if let Some(text) = columns.iter().find(|column| column.dtype == DType::Bytes) {
        return Err(Error::invalid_argument(format!(
            "the column {:?} is text, which a network of dense layers does not learn from; name the columns that it \
             shall learn from with features",
            text.name
        )));
    }
    Ok(columns)
}

fn loss(task: &Task, target: &Column) -> Result<Loss> {
    let is_class = matches!(
        target.dtype,
        DType::Bytes
            | DType::Bool
            | DType::Int8
            | DType::Int16
            | DType::Int32
            | DType::Int64
            | DType::Uint8
            | DType::Uint16
            | DType::Uint32
            | DType::Uint64
    );
    match task.text("loss")? {
        "cross_entropy" => Ok(Loss::CrossEntropy),
        "auto" if is_class => Ok(Loss::CrossEntropy),
        _ if target.dtype == DType::Bytes => Err(Error::invalid_argument(format!(
            "the column {:?} is text; squared_error wants numbers",
            target.name
        ))),
        _ => Ok(Loss::SquaredError),
    }
}

/// How many classes a column has: 0 to its largest number, or its different texts.
fn classes(target: &Column) -> Result<usize> {
    let name = &target.name;
    if target.dtype == DType::Bytes {
        return match target.categories.len() {
            0 => Err(Error::invalid_argument(format!(
                "the column {name:?} has more different texts than can be classes"
            ))),
            count => Ok(count.max(2)),
        };
    }
    if target.width() != 1 {
        return Err(Error::invalid_argument(format!(
            "the column {name:?} has {} numbers in each row; a class is one",
            target.width()
        )));
    }
    let Some(known) = target.statistics else {
        return Err(Error::invalid_argument(format!("the column {name:?} has no numbers")));
    };
    if known.min < 0.0 || known.max >= CLASSES_MAX {
        return Err(Error::invalid_argument(format!(
            "the column {name:?} goes from {} to {}; classes are numbers from 0 to below {CLASSES_MAX}",
            known.min, known.max
        )));
    }
    Ok((known.max as usize + 1).max(2))
}

/// Mean and deviation of each feature; 0 and 1 where they are not known for each by itself.
fn spread(features: &[&Column]) -> [Vec<f32>; 2] {
    let (mut mean, mut deviation) = (Vec::new(), Vec::new());
    for column in features {
        let (m, d) = match column.statistics {
            Some(known) if known.deviation > 0.0 => (known.mean, known.deviation),
            Some(known) => (known.mean, 1.0),
            None => (0.0, 1.0),
        };
        mean.extend(std::iter::repeat_n(m as f32, column.width()));
        deviation.extend(std::iter::repeat_n(d as f32, column.width()));
    }
    [mean, deviation]
}

fn scale(spread: &[Vec<f32>; 2]) -> Result<[Tensor; 2]> {
    Ok([row(&spread[0])?, row(&spread[1])?])
}

fn row(values: &[f32]) -> Result<Tensor> {
    Tensor::from_slice(&[1, values.len()], values)
}

/// Rows of numbers, whatever shape each has.
fn matrix(x: &Tensor) -> Result<Tensor> {
    match x.shape()[..] {
        [_, _] => x.share(),
        [rows] => x.reshape(&[rows as i64, 1]),
        [rows, ref rest @ ..] => x.reshape(&[rows as i64, rest.iter().product::<usize>() as i64]),
        [] => Err(Error::internal("a batch without rows")),
    }
}

fn fresh(task: &Task, inputs: usize, outputs: usize, activation: Activation) -> Result<Dense> {
    let mut random = Random::new(task.seed);
    let mut sizes = vec![inputs];
    sizes.extend(task.integers("layers")?.iter().map(|&size| size as usize));
    sizes.push(outputs);
    let layers = sizes.windows(2).map(|pair| Linear::new(pair[0], pair[1], &mut random));
    Ok(Dense { layers: layers.collect::<Result<_>>()?, activation })
}

/// The layers of the version that is trained, seen from features of mean 0 and deviation 1.
fn resumed(
    assets: &Assets,
    wanted: [usize; 2],
    activation: Activation,
    spread: Option<&[Vec<f32>; 2]>,
) -> Result<Dense> {
    let network = Network::open(assets)?;
    let got = [network.inputs(), network.outputs()];
    if got != wanted {
        return Err(Error::invalid_argument(format!(
            "the version's network goes from {} to {}, the data from {} to {}",
            got[0], got[1], wanted[0], wanted[1]
        )));
    }
    if network.activation != activation {
        return Err(Error::invalid_argument(format!(
            "the version's network has the activation {}; say so with activation",
            network.activation.name()
        )));
    }
    let mut layers = Vec::with_capacity(network.layers.len());
    for (i, (weight, bias)) in network.layers.iter().enumerate() {
        // A weight of an asset is the host's and is not changed in place.
        let (mut weight, mut bias) = (weight.add_scalar(0.0)?, bias.add_scalar(0.0)?);
        if i == 0
            && let Some([mean, deviation]) = spread
        {
            bias = bias.add(&weight.mul(&row(mean)?)?.sum(&[1], false)?)?;
            weight = weight.mul(&row(deviation)?)?;
        }
        layers.push(Linear { weight: Parameter::new(weight), bias: Some(Parameter::new(bias)) });
    }
    Ok(Dense { layers, activation })
}

fn optimizer(task: &Task) -> Result<Either> {
    let rate = task.number("learning_rate")?;
    let decay = task.number("weight_decay")?;
    Ok(match task.text("optimizer")? {
        "sgd" => Either::Sgd(Sgd::new(rate).momentum(task.number("momentum")?).weight_decay(decay)),
        "adamw" => Either::Adam(Adam::decoupled(rate, decay)),
        _ => Either::Adam(Adam::new(rate).weight_decay(decay)),
    })
}
