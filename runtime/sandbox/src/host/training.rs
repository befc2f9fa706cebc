//! The import `training`: operations as those of `tensors`, and steps that change what handles stand for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use innkeeper_kernels::{Backend, Grad, Loss, LossOf, Op, Optim, Slope};
use innkeeper_tensor::{DType, Shape, Tensor};
use wasmtime::component::Resource;

use super::layers::{attention, sizes, window};
use super::run::is_long;
use super::{HostError, HostTensor, State};
use crate::Charge;
use crate::bindings::innkeeper::model::layers::AttentionOptions;
use crate::bindings::innkeeper::model::training;
use crate::bindings::innkeeper::model::training::Window;

type Handle = Resource<HostTensor>;
type Answer = Result<Handle, HostError>;

impl State {
    fn loss(
        &mut self,
        of: LossOf,
        reduction: training::Reduction,
        operands: [&Handle; 2],
    ) -> Result<(Handle, Handle), HostError> {
        let reduction = match reduction {
            training::Reduction::Mean => innkeeper_kernels::Reduction::Mean,
            training::Reduction::Sum => innkeeper_kernels::Reduction::Sum,
        };
        let op = Op::Loss(Loss { of, reduction, gradient: true });
        self.run_all(&op, &operands).map(|[loss, gradient]| (loss, gradient))
    }

    fn backward(&mut self, grad: Grad, operands: &[&Handle]) -> Answer {
        self.run(&Op::Grad(grad), operands)
    }

    /// Takes a step: operands first, then the bill for tensors whose memory is not theirs alone, then the work.
    fn update(
        &mut self,
        optim: Optim,
        changing: &[Handle],
        read: &[Handle],
    ) -> Result<Option<Tensor>, HostError> {
        distinct(changing)?;
        changing.iter().chain(read).try_for_each(|handle| self.open(handle))?;
        let op = Op::Optim(optim);
        let mut kinds: Vec<(DType, &Shape)> = Vec::with_capacity(changing.len() + read.len());
        for handle in changing.iter().chain(read) {
            let tensor = self.tensor(handle)?;
            kinds.push((tensor.dtype(), tensor.shape()));
        }
        op.outputs(&kinds)?;
        let long = is_long(&op, &kinds)?;
        // From here on these count as other holders, should one of them change as well.
        let read: Vec<Tensor> =
            read.iter().map(|handle| self.tensor(handle).cloned()).collect::<Result<_, _>>()?;
        let read: Vec<&Tensor> = read.iter().collect();
        let charges = self.charge_copies(changing)?;
        let mut tensors = self.take(changing)?;
        let stop = self.stop();
        let run = self.lent_run().until(&stop);
        let result = if long {
            self.long_operations.store(true, Ordering::Relaxed);
            self.threads.aside(|| self.backend.update(&optim, &mut tensors, &read, &run))
        } else {
            self.backend.update(&optim, &mut tensors, &read, &run)
        };
        self.recycled.settle();
        self.put_back(changing, tensors, charges)?;
        Ok(result?)
    }

    /// A charge for each tensor that will get memory of its own.
    fn charge_copies(&mut self, handles: &[Handle]) -> Result<Vec<Option<Arc<Charge>>>, HostError> {
        let mut charges = Vec::with_capacity(handles.len());
        for handle in handles {
            let data = self.tensor(handle)?.data();
            let sole = match self.tensor(handle)?.dtype() {
                DType::Fp64 => data.is_sole_vec::<f64>(),
                _ => data.is_sole_vec::<f32>(),
            };
            let bytes = data.len() as u64;
            charges.push(if sole { None } else { Some(self.charge(bytes)?) });
        }
        Ok(charges)
    }

    /// The tensors behind handles, so that nobody else holds them while they change.
    fn take(&mut self, handles: &[Handle]) -> Result<Vec<Tensor>, HostError> {
        let empty = Tensor::from_vec::<f32>(&[0], Vec::new())
            .map_err(|error| HostError::invalid(error.to_string()))?;
        let mut tensors = Vec::with_capacity(handles.len());
        for handle in handles {
            let place = &mut self.table.get_mut(handle)?.tensor;
            tensors.push(std::mem::replace(place, empty.clone()));
        }
        Ok(tensors)
    }

    /// The way back from [`State::take`]. What was charged for is the handle's own from now on.
    fn put_back(
        &mut self,
        handles: &[Handle],
        tensors: Vec<Tensor>,
        charges: Vec<Option<Arc<Charge>>>,
    ) -> Result<(), HostError> {
        for ((handle, tensor), charge) in handles.iter().zip(tensors).zip(charges) {
            let place = self.table.get_mut(handle)?;
            place.tensor = tensor;
            if let Some(charge) = charge {
                self.charged_handles += u64::from(place.charge.is_none());
                place.charge = Some(charge);
            }
            // What was derived from the old value went with it.
            if !place.tensor.is_constant() {
                place.derived = None;
            }
        }
        Ok(())
    }
}

/// A tensor cannot become two things at once.
fn distinct(handles: &[Handle]) -> Result<(), HostError> {
    let mut all: Vec<u32> = handles.iter().map(Resource::rep).collect();
    all.sort_unstable();
    match all.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(HostError::invalid("a step changes each tensor once; one was named twice")),
        false => Ok(()),
    }
}

/// Groups of tensors one after the other, which must go in step.
fn joined<const N: usize>(groups: [Vec<Handle>; N]) -> Vec<Handle> {
    groups.into_iter().flatten().collect()
}

/// The first list says how many tensors there are: the operation itself sees only their sum.
fn in_step(parameters: &[Handle], others: &[&[Handle]]) -> Result<(), HostError> {
    match others.iter().find(|group| group.len() != parameters.len()) {
        Some(group) => Err(HostError::invalid(format!(
            "every list must have as many tensors as there are parameters, {}, got {}",
            parameters.len(),
            group.len()
        ))),
        None => Ok(()),
    }
}

impl training::Host for State {
    fn mean_squared_error(
        &mut self,
        prediction: Handle,
        target: Handle,
        reduction: training::Reduction,
    ) -> Result<(Handle, Handle), HostError> {
        self.loss(LossOf::MeanSquaredError, reduction, [&prediction, &target])
    }

    fn cross_entropy(
        &mut self,
        logits: Handle,
        labels: Handle,
        ignore: Option<i64>,
        smoothing: f64,
        reduction: training::Reduction,
    ) -> Result<(Handle, Handle), HostError> {
        self.loss(LossOf::CrossEntropy { ignore, smoothing }, reduction, [&logits, &labels])
    }

    fn binary_cross_entropy(
        &mut self,
        logits: Handle,
        targets: Handle,
        reduction: training::Reduction,
    ) -> Result<(Handle, Handle), HostError> {
        self.loss(LossOf::BinaryCrossEntropy, reduction, [&logits, &targets])
    }

    fn slope_gradient(&mut self, slope: training::Slope, dy: Handle, z: Handle) -> Answer {
        let slope = match slope {
            training::Slope::Relu => Slope::Relu,
            training::Slope::Gelu => Slope::Gelu,
            training::Slope::GeluTanh => Slope::GeluTanh,
            training::Slope::Silu => Slope::Silu,
            training::Slope::Sigmoid => Slope::Sigmoid,
            training::Slope::Tanh => Slope::Tanh,
        };
        self.backward(Grad::Slope(slope), &[&dy, &z])
    }

    fn softmax_gradient(&mut self, dy: Handle, y: Handle, axis: i32) -> Answer {
        self.backward(Grad::Softmax { axis: axis.into() }, &[&dy, &y])
    }

    fn log_softmax_gradient(&mut self, dy: Handle, y: Handle, axis: i32) -> Answer {
        self.backward(Grad::LogSoftmax { axis: axis.into() }, &[&dy, &y])
    }

    fn layer_norm_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        scale: Handle,
        axis: i32,
        epsilon: f64,
    ) -> Result<(Handle, Handle, Handle), HostError> {
        let grad = Grad::LayerNorm { axis: axis.into(), epsilon, bias: true };
        self.run_all(&Op::Grad(grad), &[&dy, &x, &scale]).map(|[a, b, c]| (a, b, c))
    }

    fn attention_gradient(
        &mut self,
        dy: Handle,
        q: Handle,
        k: Handle,
        v: Handle,
        mask: Option<Handle>,
        options: AttentionOptions,
    ) -> Result<(Handle, Handle, Handle), HostError> {
        let operands: Vec<&Handle> = [&dy, &q, &k, &v].into_iter().chain(&mask).collect();
        let grad = Grad::Attention(attention(options, mask.is_some(), false));
        self.run_all(&Op::Grad(grad), &operands).map(|[a, b, c]| (a, b, c))
    }

    fn attention_packed_gradient(
        &mut self,
        dy: Handle,
        qkv: Handle,
        mask: Option<Handle>,
        options: AttentionOptions,
    ) -> Answer {
        let operands: Vec<&Handle> = [&dy, &qkv].into_iter().chain(&mask).collect();
        self.backward(Grad::Attention(attention(options, mask.is_some(), true)), &operands)
    }

    fn rms_norm_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        scale: Handle,
        axis: i32,
        epsilon: f64,
    ) -> Result<(Handle, Handle), HostError> {
        let grad = Grad::RmsNorm { axis: axis.into(), epsilon };
        self.run_all(&Op::Grad(grad), &[&dy, &x, &scale]).map(|[a, b]| (a, b))
    }

    fn batch_norm_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        scale: Handle,
        epsilon: f64,
    ) -> Result<(Handle, Handle, Handle), HostError> {
        let grad = Grad::BatchNorm { epsilon };
        self.run_all(&Op::Grad(grad), &[&dy, &x, &scale]).map(|[a, b, c]| (a, b, c))
    }

    fn gather_gradient(
        &mut self,
        dy: Handle,
        indices: Handle,
        axis: i32,
        shape: Vec<u32>,
    ) -> Answer {
        self.backward(Grad::Gather { axis: axis.into(), shape: sizes(&shape) }, &[&dy, &indices])
    }

    fn sum_to(&mut self, dy: Handle, shape: Vec<u32>) -> Answer {
        self.backward(Grad::SumTo { shape: sizes(&shape) }, &[&dy])
    }

    fn linear_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        weight: Handle,
        input: bool,
        bias: bool,
    ) -> Result<Vec<Handle>, HostError> {
        self.run_many(&Op::Grad(Grad::Linear { input, bias }), &[&dy, &x, &weight])
    }

    fn conv_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        weight: Handle,
        at: Window,
        groups: u32,
        input: bool,
        bias: bool,
    ) -> Result<Vec<Handle>, HostError> {
        let (window, groups) = (window(&at, false), groups as usize);
        self.run_many(&Op::Grad(Grad::Conv { window, groups, input, bias }), &[&dy, &x, &weight])
    }

    fn max_pool_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        kernel: Vec<u32>,
        at: Window,
        ceil: bool,
    ) -> Answer {
        let (kernel, window) = (sizes(&kernel), window(&at, ceil));
        self.backward(Grad::MaxPool { kernel, window }, &[&dy, &x])
    }

    fn average_pool_gradient(
        &mut self,
        dy: Handle,
        x: Handle,
        kernel: Vec<u32>,
        at: Window,
        ceil: bool,
        count_include_pad: bool,
    ) -> Answer {
        let (kernel, window) = (sizes(&kernel), window(&at, ceil));
        self.backward(Grad::AveragePool { kernel, window, count_include_pad }, &[&dy, &x])
    }

    fn dropout(&mut self, x: Handle, rate: f64, seed: u64) -> Answer {
        self.backward(Grad::Dropout { rate, seed }, &[&x])
    }

    fn sgd_step(
        &mut self,
        parameters: Vec<Handle>,
        velocities: Vec<Handle>,
        gradients: Vec<Handle>,
        rule: training::Sgd,
    ) -> Result<(), HostError> {
        let training::Sgd { lr, momentum, weight_decay, nesterov } = rule;
        if momentum == 0.0 {
            in_step(&parameters, &[&gradients])?;
            if !velocities.is_empty() {
                return Err(HostError::invalid("without momentum there are no velocities"));
            }
        } else {
            in_step(&parameters, &[&velocities, &gradients])?;
        }
        let optim = Optim::Sgd { lr, momentum, weight_decay, nesterov };
        self.update(optim, &joined([parameters, velocities]), &gradients).map(drop)
    }

    fn adam_step(
        &mut self,
        parameters: Vec<Handle>,
        first_moments: Vec<Handle>,
        second_moments: Vec<Handle>,
        gradients: Vec<Handle>,
        rule: training::Adam,
    ) -> Result<(), HostError> {
        in_step(&parameters, &[&first_moments, &second_moments, &gradients])?;
        let training::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step } = rule;
        let optim = Optim::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step };
        let changing = joined([parameters, first_moments, second_moments]);
        self.update(optim, &changing, &gradients).map(drop)
    }

    fn clip_norm(&mut self, gradients: Vec<Handle>, norm_max: f64) -> Result<f64, HostError> {
        let norm = self.update(Optim::ClipNorm { norm_max }, &gradients, &[])?;
        let one = |norm: Tensor| match norm.dtype() {
            DType::Fp64 => norm.elements::<f64>().ok()?.first().copied(),
            _ => norm.elements::<f32>().ok()?.first().map(|&norm| f64::from(norm)),
        };
        norm.and_then(one).ok_or_else(|| HostError::invalid("clip-norm: there is no norm"))
    }
}
