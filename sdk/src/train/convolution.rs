//! Layers of images.

use super::{Init, Module, Parameter, Random, Var};
use crate::layers::{Conv, Pool, Window};
use crate::{Error, Result};

/// [`Var::conv`] over two spatial dimensions. PyTorch's `Conv2d`, which begins with the same spread of values.
///
/// ```
/// use innkeeper_sdk::layers::{Conv, Window};
/// use innkeeper_sdk::train::{Conv2d, MaxPool2d, Module, Random, Sequential, Var};
/// use innkeeper_sdk::{DType, Tensor};
///
/// let padded = Conv { window: Window { pads: vec![1; 4], ..Window::default() }, ..Conv::default() };
/// let random = &mut Random::new(1);
/// let network = Sequential::new()
///     .with(Conv2d::new([3, 8], [3, 3], padded, random)?)
///     .relu()
///     .with(MaxPool2d::new(2));
/// let images = Var::constant(Tensor::full(DType::Fp32, &[1, 3, 8, 8], 0.5)?);
/// assert_eq!(network.forward(&images)?.shape(), [1, 8, 4, 4]);
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[outputs, inputs / groups, height, width]`.
    pub weight: Parameter,
    /// `[outputs]`.
    pub bias: Option<Parameter>,
    /// Where windows are, and in how many groups channels are split.
    pub conv: Conv,
}

impl Conv2d {
    /// From `inputs` channels to `outputs`, even from -1 / sqrt(n) to 1 / sqrt(n), where n is how many numbers an output
    /// sums up.
    ///
    /// # Errors
    /// See [`Tensor`](crate::Tensor); [`Error::InvalidArgument`] when the groups do not divide the channels.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        [height, width]: [usize; 2],
        conv: Conv,
        random: &mut Random,
    ) -> Result<Conv2d> {
        let groups = conv.groups;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            return Err(Error::invalid_argument(format!(
                "conv: {groups} groups must divide {inputs} inputs and {outputs} outputs"
            )));
        }
        let shape = [outputs, inputs / groups, height, width];
        let count: usize = shape[1..].iter().product();
        let bound = 1.0 / (count.max(1) as f64).sqrt();
        let init = Init::Uniform { low: -bound, high: bound };
        let weight = Parameter::new(init.tensor(&shape, random)?);
        let bias = Some(Parameter::new(init.tensor(&[outputs], random)?));
        Ok(Conv2d { weight, bias, conv })
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(Parameter::var);
        x.conv(&self.weight.var(), bias.as_ref(), &self.conv)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let bias = self.bias.iter().map(|bias| ("bias".to_owned(), bias.clone()));
        std::iter::once(("weight".to_owned(), self.weight.clone())).chain(bias).collect()
    }
}

/// Windows of `size` by `size`, one next to the other.
fn squares(size: usize) -> Pool {
    let window = Window { strides: vec![size; 2], ..Window::default() };
    Pool { kernel: vec![size; 2], window, ceil: false }
}

/// [`Var::max_pool`]. PyTorch's `MaxPool2d`.
#[derive(Clone, Debug)]
pub struct MaxPool2d(pub Pool);

impl MaxPool2d {
    /// Over squares of `size` by `size` that do not overlap.
    pub fn new(size: usize) -> MaxPool2d {
        MaxPool2d(squares(size))
    }
}

impl Module for MaxPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.max_pool(&self.0)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }
}

/// [`Var::average_pool`]; what is padded counts. PyTorch's `AvgPool2d`.
#[derive(Clone, Debug)]
pub struct AvgPool2d(pub Pool);

impl AvgPool2d {
    /// Over squares of `size` by `size` that do not overlap.
    pub fn new(size: usize) -> AvgPool2d {
        AvgPool2d(squares(size))
    }
}

impl Module for AvgPool2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.average_pool(&self.0, true)
    }

    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }
}
