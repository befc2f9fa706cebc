//! Layers: functions with parameters.

use std::cell::{Cell, RefCell};

use super::{Init, Parameter, Random, Var};
use crate::layers::Attention;
use crate::{Error, Result, Tensor};

/// A function of one value, with parameters.
pub trait Module {
    /// The function.
    ///
    /// # Errors
    /// What its operations answer.
    fn forward(&self, x: &Var) -> Result<Var>;

    /// Every parameter with its name, such as `weight`; a part's begin with the part's name and a dot. The names are
    /// those of PyTorch, so that weights come and go as safetensors.
    fn named_parameters(&self) -> Vec<(String, Parameter)>;

    /// Tells the module whether it is being trained: dropout only drops then. At first it is.
    fn set_training(&self, _training: bool) {}

    /// Every parameter.
    fn parameters(&self) -> Vec<Parameter> {
        self.named_parameters().into_iter().map(|(_, parameter)| parameter).collect()
    }
}

/// `part`'s parameters as those of a whole that calls it `name`.
fn within(name: &str, part: &dyn Module) -> impl Iterator<Item = (String, Parameter)> {
    let named = part.named_parameters().into_iter();
    named.map(move |(own, parameter)| (format!("{name}.{own}"), parameter))
}

/// x W^T + b. PyTorch's `Linear`, which begins with the same spread of values.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Parameter,
    /// `[out]`.
    pub bias: Option<Parameter>,
}

impl Linear {
    /// From `inputs` to `outputs`, even from -1 / sqrt(inputs) to 1 / sqrt(inputs).
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn new(inputs: usize, outputs: usize, random: &mut Random) -> Result<Linear> {
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        let init = Init::Uniform { low: -bound, high: bound };
        Linear::with(inputs, outputs, init, Some(init), random)
    }

    /// With values of one's own choice, and without a bias where it has none.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn with(
        inputs: usize,
        outputs: usize,
        weight: Init,
        bias: Option<Init>,
        random: &mut Random,
    ) -> Result<Linear> {
        let weight = Parameter::new(weight.tensor(&[outputs, inputs], random)?);
        let bias = bias.map(|init| init.tensor(&[outputs], random)).transpose()?;
        Ok(Linear { weight, bias: bias.map(Parameter::new) })
    }
}

impl Module for Linear {
    fn forward(&self, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(Parameter::var);
        x.linear(&self.weight.var(), bias.as_ref())
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let bias = self.bias.iter().map(|bias| ("bias".to_owned(), bias.clone()));
        std::iter::once(("weight".to_owned(), self.weight.clone())).chain(bias).collect()
    }
}

/// [`Var::layer_norm`] over the last dimension, with scale 1 and bias 0 at first. PyTorch's `LayerNorm`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[size]`.
    pub weight: Parameter,
    /// `[size]`.
    pub bias: Parameter,
    /// What is added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    /// Over a last dimension of `size`, with epsilon 1e-5.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn new(size: usize) -> Result<LayerNorm> {
        let full = |value| Tensor::full(crate::DType::Fp32, &[size], value).map(Parameter::new);
        Ok(LayerNorm { weight: full(1.0)?, bias: full(0.0)?, epsilon: 1e-5 })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.layer_norm(&self.weight.var(), &self.bias.var(), -1, self.epsilon)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        vec![("weight".into(), self.weight.clone()), ("bias".into(), self.bias.clone())]
    }
}

/// [`Var::rms_norm`] over the last dimension, with scale 1 at first. PyTorch's `RMSNorm`.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// `[size]`.
    pub weight: Parameter,
    /// What is added to the mean of the squares.
    pub epsilon: f64,
}

impl RmsNorm {
    /// Over a last dimension of `size`, with epsilon 1e-5.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn new(size: usize) -> Result<RmsNorm> {
        let weight = Parameter::new(Tensor::full(crate::DType::Fp32, &[size], 1.0)?);
        Ok(RmsNorm { weight, epsilon: 1e-5 })
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.rms_norm(&self.weight.var(), -1, self.epsilon)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        vec![("weight".into(), self.weight.clone())]
    }
}

/// A row for each of a number of words. PyTorch's `Embedding`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[words, size]`.
    pub weight: Parameter,
}

impl Embedding {
    /// `words` rows of `size`, normal.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn new(words: usize, size: usize, random: &mut Random) -> Result<Embedding> {
        let weight = Init::Normal { deviation: 1.0 }.tensor(&[words, size], random)?;
        Ok(Embedding { weight: Parameter::new(weight) })
    }

    /// The rows of `words` (INT32 or INT64, any shape).
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`] for a word that is not there.
    pub fn look_up(&self, words: &Tensor) -> Result<Var> {
        self.weight.var().gather(words, 0)
    }
}

impl Module for Embedding {
    /// [`Embedding::look_up`] of a constant.
    fn forward(&self, x: &Var) -> Result<Var> {
        self.look_up(x.value())
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        vec![("weight".into(), self.weight.clone())]
    }
}

/// [`Var::dropout`] with other elements at each call, while training.
#[derive(Debug)]
pub struct Dropout {
    rate: f64,
    random: RefCell<Random>,
    training: Cell<bool>,
}

impl Dropout {
    /// Elements are 0 with probability `rate`; `seed` decides which.
    pub fn new(rate: f64, seed: u64) -> Dropout {
        let random = RefCell::new(Random::new(seed));
        Dropout { rate, random, training: Cell::new(true) }
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Var) -> Result<Var> {
        if self.training.get() && self.rate > 0.0 {
            x.dropout(self.rate, self.random.borrow_mut().bits())
        } else {
            Ok(x.clone())
        }
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    fn set_training(&self, training: bool) {
        self.training.set(training);
    }
}

/// Attention with several heads, as PyTorch's `MultiheadAttention` with `batch_first`: q, k and v are linear layers of x,
/// kept in one, then softmax(q k^T / sqrt(d) + mask) v for each head, then another linear layer. Vaswani et al. 2017,
/// *Attention Is All You Need*.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    /// From size to 3 size: q, k and v.
    pub input: Linear,
    /// From size to size.
    pub output: Linear,
    heads: usize,
}

impl MultiHeadAttention {
    /// For values of `size`, which must be a multiple of `heads`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: it is none.
    pub fn new(size: usize, heads: usize, random: &mut Random) -> Result<MultiHeadAttention> {
        if heads == 0 || !size.is_multiple_of(heads) {
            return Err(Error::invalid_argument(format!(
                "attention: size {size} must be a multiple of the number of heads, {heads}"
            )));
        }
        let (weight, bias) = (Init::XavierUniform { gain: 1.0 }, Some(Init::Constant(0.0)));
        Ok(MultiHeadAttention {
            input: Linear::with(size, 3 * size, weight, bias, random)?,
            output: Linear::with(size, size, weight, bias, random)?,
            heads,
        })
    }

    /// x `[b, s, size]` to the same shape; `mask` is added to the scores `[b, heads, s, s]`, to which it broadcasts.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn attend(&self, x: &Var, mask: Option<&Tensor>) -> Result<Var> {
        let packed = self.input.forward(x)?;
        self.output.forward(&packed.attention_packed(mask, &Attention::new(self.heads))?)
    }

    /// [`attend`](MultiHeadAttention::attend) in which each place sees itself and those before: half of the work of a
    /// mask that says so.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn attend_causally(&self, x: &Var) -> Result<Var> {
        let causal = Attention { causal: true, ..Attention::new(self.heads) };
        self.output.forward(&self.input.forward(x)?.attention_packed(None, &causal)?)
    }

    /// A mask for [`attend`](MultiHeadAttention::attend) that lets each of `length` places see itself and those before.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn causal_mask(length: usize) -> Result<Tensor> {
        let hidden = |row: usize, column: usize| if column > row { f32::NEG_INFINITY } else { 0.0 };
        let elements: Vec<f32> = (0..length)
            .flat_map(|row| (0..length).map(move |column| hidden(row, column)))
            .collect();
        Tensor::from_slice(&[length, length], &elements)
    }
}

impl Module for MultiHeadAttention {
    /// [`MultiHeadAttention::attend`] without a mask.
    fn forward(&self, x: &Var) -> Result<Var> {
        self.attend(x, None)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        within("input", &self.input).chain(within("output", &self.output)).collect()
    }
}

/// One module after the other. PyTorch's `Sequential`: parts are called 0, 1 and so on.
#[derive(Default)]
pub struct Sequential(Vec<Box<dyn Module>>);

impl Sequential {
    /// Nothing yet: what comes in goes out.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// With one more module at the end.
    #[must_use]
    pub fn with(mut self, module: impl Module + 'static) -> Sequential {
        self.0.push(Box::new(module));
        self
    }

    /// With a function without parameters at the end.
    #[must_use]
    pub fn then(self, function: impl Fn(&Var) -> Result<Var> + 'static) -> Sequential {
        self.with(Function(Box::new(function)))
    }

    /// With [`Var::relu`] at the end.
    #[must_use]
    pub fn relu(self) -> Sequential {
        self.then(Var::relu)
    }

    /// With [`Var::gelu`] at the end.
    #[must_use]
    pub fn gelu(self) -> Sequential {
        self.then(Var::gelu)
    }

    /// With [`Var::tanh`] at the end.
    #[must_use]
    pub fn tanh(self) -> Sequential {
        self.then(Var::tanh)
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.0.iter().try_fold(x.clone(), |x, module| module.forward(&x))
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let parts = self.0.iter().enumerate();
        parts
            .flat_map(|(index, part)| within(&index.to_string(), &**part).collect::<Vec<_>>())
            .collect()
    }

    fn set_training(&self, training: bool) {
        self.0.iter().for_each(|module| module.set_training(training));
    }
}

type Call = dyn Fn(&Var) -> Result<Var>;

struct Function(Box<Call>);

impl Module for Function {
    fn forward(&self, x: &Var) -> Result<Var> {
        (self.0)(x)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }
}
