//! Optimisers: each step is one call of the host for all parameters.

use std::collections::BTreeMap;

use super::tape::{Gradients, Parameter};
use crate::train::call::Step;
use crate::{Error, Inputs, Outputs, Result, Tensor, host};

/// Something that moves parameters against their gradients.
pub trait Optimizer {
    /// One step. Parameters without a gradient stay as they are.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument): factors out of range, parameters of several dtypes.
    /// What the host answers to an operation.
    fn step(&mut self, parameters: &[Parameter], gradients: &Gradients) -> Result<()>;

    /// The learning rate.
    fn learning_rate(&self) -> f64;

    /// Changes the learning rate, as a [`Schedule`](crate::train::Schedule) says.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// What it remembers of the steps so far, for these parameters: each tensor under what it is, a dot and the
    /// parameter's name.
    ///
    /// # Errors
    /// What the host answers to an operation.
    fn state(&self, parameters: &[(String, Parameter)]) -> Result<Outputs>;

    /// Goes on from what [`state`](Optimizer::state) answered for the same parameters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument): a tensor has another dtype or shape.
    fn set_state(&mut self, parameters: &[(String, Parameter)], state: Inputs) -> Result<()>;
}

/// Stochastic gradient descent, with momentum if wanted: PyTorch's `SGD`. Sutskever et al. 2013, *On the importance of
/// initialization and momentum in deep learning*.
#[derive(Debug)]
pub struct Sgd {
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
    velocities: BTreeMap<u64, Tensor>,
}

impl Sgd {
    /// p = p - `learning_rate` g.
    pub fn new(learning_rate: f64) -> Sgd {
        let velocities = BTreeMap::new();
        Sgd { learning_rate, momentum: 0.0, weight_decay: 0.0, nesterov: false, velocities }
    }

    /// v = `momentum` v + g and p = p - `learning_rate` v, where v is 0 at first.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// p = p - `learning_rate` (g + momentum v) with momentum.
    #[must_use]
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }

    /// g = g + `weight_decay` p before everything else.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Sgd {
        self.weight_decay = weight_decay;
        self
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, parameters: &[Parameter], gradients: &Gradients) -> Result<()> {
        let step = Step::Sgd {
            lr: self.learning_rate,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            nesterov: self.nesterov,
        };
        let moving = moving(parameters, gradients);
        if self.momentum == 0.0 {
            return take(&step, &moving, []);
        }
        let mut velocities = Vec::with_capacity(moving.len());
        for (parameter, gradient) in &moving {
            let velocity = self.velocities.remove(&parameter.id());
            velocities.push(velocity.map_or_else(|| gradient.zeros_like(), Ok)?);
        }
        let result = take(&step, &moving, [&mut velocities]);
        let ids = moving.iter().map(|(parameter, _)| parameter.id());
        self.velocities.extend(ids.zip(velocities));
        result
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn state(&self, parameters: &[(String, Parameter)]) -> Result<Outputs> {
        let mut state = Outputs::new();
        for (name, parameter) in parameters {
            if let Some(velocity) = self.velocities.get(&parameter.id()) {
                state.push(&format!("velocity.{name}"), velocity.share()?);
            }
        }
        Ok(state)
    }

    fn set_state(&mut self, parameters: &[(String, Parameter)], mut state: Inputs) -> Result<()> {
        self.velocities.clear();
        for (name, parameter) in parameters {
            if let Some(velocity) = taken(&mut state, "velocity", name, parameter)? {
                self.velocities.insert(parameter.id(), velocity);
            }
        }
        Ok(())
    }
}

/// Adam and AdamW: PyTorch's of the same names. Kingma and Ba 2015, *Adam: A Method for Stochastic Optimization*;
/// Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*.
///
/// ```
/// use innkeeper_sdk::Tensor;
/// use innkeeper_sdk::train::{Adam, Optimizer, Parameter};
///
/// let weight = Parameter::new(Tensor::from_slice(&[1], &[4f32])?);
/// let mut adam = Adam::new(0.1);
/// for _ in 0..200 {
///     let loss = weight.var().mean_squared_error(&Tensor::from_slice(&[1], &[3f32])?)?;
///     adam.step(&[weight.clone()], &loss.backward()?)?;
/// }
/// assert!((weight.value().to_vec::<f32>()?[0] - 3.0).abs() < 1e-2);
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct Adam {
    learning_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    decoupled: bool,
    state: BTreeMap<u64, Moments>,
}

#[derive(Debug)]
struct Moments {
    steps: u64,
    first: Tensor,
    second: Tensor,
}

impl Adam {
    /// With betas of 0.9 and 0.999, epsilon 1e-8 and no weight decay.
    pub fn new(learning_rate: f64) -> Adam {
        Adam {
            learning_rate,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            state: BTreeMap::new(),
        }
    }

    /// AdamW, where each step shrinks parameters by `learning_rate` times `weight_decay` of themselves.
    pub fn decoupled(learning_rate: f64, weight_decay: f64) -> Adam {
        Adam { weight_decay, decoupled: true, ..Adam::new(learning_rate) }
    }

    /// How much of the moments stays at each step.
    #[must_use]
    pub fn betas(mut self, first: f64, second: f64) -> Adam {
        self.betas = [first, second];
        self
    }

    /// What is added to the denominator.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Adam {
        self.epsilon = epsilon;
        self
    }

    /// g = g + `weight_decay` p first; for AdamW how fast parameters shrink.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Adam {
        self.weight_decay = weight_decay;
        self
    }

    fn step_number(&self, step: u64) -> Step {
        Step::Adam {
            lr: self.learning_rate,
            betas: self.betas,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            decoupled: self.decoupled,
            step,
        }
    }
}

impl Optimizer for Adam {
    fn step(&mut self, parameters: &[Parameter], gradients: &Gradients) -> Result<()> {
        // Those that came later have made fewer steps; mostly all are one group.
        let mut by_steps: BTreeMap<u64, Vec<(&Parameter, &Tensor)>> = BTreeMap::new();
        for (parameter, gradient) in moving(parameters, gradients) {
            let steps = self.state.get(&parameter.id()).map_or(0, |moments| moments.steps);
            by_steps.entry(steps + 1).or_default().push((parameter, gradient));
        }
        for (steps, moving) in by_steps {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            for (parameter, gradient) in &moving {
                let moments = match self.state.remove(&parameter.id()) {
                    Some(moments) => (moments.first, moments.second),
                    None => (gradient.zeros_like()?, gradient.zeros_like()?),
                };
                first.push(moments.0);
                second.push(moments.1);
            }
            let result = take(&self.step_number(steps), &moving, [&mut first, &mut second]);
            for (((parameter, _), first), second) in moving.iter().zip(first).zip(second) {
                self.state.insert(parameter.id(), Moments { steps, first, second });
            }
            result?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn state(&self, parameters: &[(String, Parameter)]) -> Result<Outputs> {
        let mut state = Outputs::new();
        for (name, parameter) in parameters {
            if let Some(moments) = self.state.get(&parameter.id()) {
                let steps = Tensor::from_slice(&[], &[moments.steps])?;
                state.push(&format!("steps.{name}"), steps);
                state.push(&format!("first.{name}"), moments.first.share()?);
                state.push(&format!("second.{name}"), moments.second.share()?);
            }
        }
        Ok(state)
    }

    fn set_state(&mut self, parameters: &[(String, Parameter)], mut state: Inputs) -> Result<()> {
        self.state.clear();
        for (name, parameter) in parameters {
            let Some(steps) = state.take(&format!("steps.{name}")) else { continue };
            let steps = steps.to_vec::<u64>()?.first().copied().unwrap_or_default();
            let mut moment = |what| {
                taken(&mut state, what, name, parameter)?.ok_or_else(|| {
                    Error::invalid_argument(format!("there is no tensor \"{what}.{name}\""))
                })
            };
            let moments = Moments { steps, first: moment("first")?, second: moment("second")? };
            self.state.insert(parameter.id(), moments);
        }
        Ok(())
    }
}

/// The tensor of an optimiser's state that goes with a parameter.
fn taken(
    state: &mut Inputs,
    what: &str,
    name: &str,
    parameter: &Parameter,
) -> Result<Option<Tensor>> {
    let Some(tensor) = state.take(&format!("{what}.{name}")) else { return Ok(None) };
    let value = parameter.value();
    if (tensor.dtype(), tensor.shape()) != (value.dtype(), value.shape()) {
        let (got, wanted) = (tensor.shape(), value.shape());
        return Err(Error::invalid_argument(format!(
            "\"{what}.{name}\" must be {} {wanted:?}, got {} {got:?}",
            value.dtype(),
            tensor.dtype(),
        )));
    }
    Ok(Some(tensor))
}

/// The parameters that have a gradient, with it.
fn moving<'a>(
    parameters: &'a [Parameter],
    gradients: &'a Gradients,
) -> Vec<(&'a Parameter, &'a Tensor)> {
    let mut seen = std::collections::BTreeSet::new();
    parameters
        .iter()
        .filter(|parameter| seen.insert(parameter.id()))
        .filter_map(|parameter| Some((parameter, gradients.get(parameter)?)))
        .collect()
}

/// Has the host change the parameters and the tensors of `state`.
fn take<const N: usize>(
    step: &Step,
    moving: &[(&Parameter, &Tensor)],
    state: [&mut Vec<Tensor>; N],
) -> Result<()> {
    if moving.is_empty() {
        return Ok(());
    }
    let gradients: Vec<&host::Handle> = moving.iter().map(|(_, gradient)| &gradient.0).collect();
    let parameters: Vec<&Parameter> = moving.iter().map(|(parameter, _)| *parameter).collect();
    Parameter::with_all(&parameters, |tensors| {
        let mut groups: Vec<Vec<&mut host::Handle>> = Vec::with_capacity(N + 1);
        groups.push(tensors.iter_mut().map(|tensor| &mut tensor.0).collect());
        for group in state {
            groups.push(group.iter_mut().map(|tensor| &mut tensor.0).collect());
        }
        host::training::step(step, groups, &gradients)
    })?
}
