//! Optimiser steps, in place where nobody else holds the memory.

use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::{DType, Element, Shape, Tensor};

use crate::cpu::dispatch::float;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::From64;
use crate::cpu::smooth::Smooth;
use crate::cpu::wide::wide;
use crate::op::Optim;
use crate::{OpError, Run};

/// Elements that one thread works on in one go.
const CHUNK: usize = 1 << 14;

/// The step on tensors that are checked: `changing` are replaced by their new values, and what else the operation
/// answers is returned.
pub(super) fn update(
    optim: &Optim,
    changing: &mut [Tensor],
    read: &[&Tensor],
    run: &Run<'_>,
) -> Result<Option<Tensor>, OpError> {
    // Of no tensors there is nothing to do, whatever their dtype.
    let dtype = changing.first().map_or(DType::Fp32, Tensor::dtype);
    float!(dtype, T => match *optim {
        Optim::Sgd { lr, momentum, weight_decay, nesterov } => {
            let rule = Sgd {
                lr: T::from_f64(lr),
                momentum: T::from_f64(momentum),
                decay: T::from_f64(weight_decay),
                nesterov,
            };
            if momentum == 0.0 {
                each(changing, read, run, |[p], g| sgd(p, g, rule))?;
            } else {
                each(changing, read, run, |[p, v], g| sgd_with_momentum(p, v, g, rule))?;
            }
            Ok(None)
        }
        Optim::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step } => {
            let steps = i32::try_from(step).unwrap_or(i32::MAX);
            let debias = |beta: f64| 1.0 - beta.powi(steps);
            let rule = Adam {
                keep: T::from_f64(if decoupled { 1.0 - lr * weight_decay } else { 1.0 }),
                decay: T::from_f64(if decoupled { 0.0 } else { weight_decay }),
                take1: T::from_f64(1.0 - beta1),
                beta2: T::from_f64(beta2),
                take2: T::from_f64(1.0 - beta2),
                lr: T::from_f64(lr / debias(beta1)),
                root: T::from_f64(1.0 / debias(beta2).sqrt()),
                epsilon: T::from_f64(epsilon),
            };
            each(changing, read, run, |[p, m, v], g| adam(p, m, v, g, rule))?;
            Ok(None)
        }
        Optim::ClipNorm { norm_max } => clip::<T>(changing, norm_max, run).map(Some),
    })
}

/// The elements of a tensor, its own when nobody else holds them; what is left in its place is empty. Without memory
/// for a copy the tensor stays.
fn taken<T: Element>(place: &mut Tensor, run: &Run<'_>) -> Result<Vec<T>, OpError> {
    let (dtype, shape) = (place.dtype(), place.shape().clone());
    let empty = tensor::<T>(dtype, Shape::new(&[0]).map_err(broken)?, Vec::new())?;
    let shared = match std::mem::replace(place, empty).into_data().try_into_vec() {
        Ok(own) => return Ok(own),
        Err(shared) => shared,
    };
    let copy = run.room(shape.elements());
    *place = Tensor::new(dtype, shape, shared).map_err(broken)?;
    let mut copy = copy?;
    copy.extend_from_slice(&elements(place)?);
    Ok(copy)
}

fn broken(error: impl std::error::Error) -> OpError {
    OpError::InvalidArgument(error.to_string())
}

/// Calls `step` with chunks of each tensor's `N` changing groups and of its gradient, on the threads of `run`. Never
/// stopped in between, since half a step would be none.
fn each<T: Smooth, const N: usize>(
    changing: &mut [Tensor],
    gradients: &[&Tensor],
    run: &Run<'_>,
    step: impl Fn([&mut [T]; N], &[T]) + Sync,
) -> Result<(), OpError> {
    let count = gradients.len();
    let unstopped = run.to_the_end();
    for (index, gradient) in gradients.iter().enumerate() {
        let (dtype, shape) = (gradient.dtype(), gradient.shape());
        let gradient = &*elements::<T>(gradient)?;
        let mut own: [Vec<T>; N] = std::array::from_fn(|_| Vec::new());
        let mut outcome = Ok(());
        for (group, own) in own.iter_mut().enumerate() {
            match taken(&mut changing[group * count + index], run) {
                Ok(elements) => *own = elements,
                Err(error) => outcome = Err(error),
            }
        }
        if outcome.is_ok() {
            let mut rest = own.each_mut().map(|own| &mut own[..]);
            let chunks = gradient.chunks(CHUNK).map(|gradient| {
                let parts = rest.each_mut().map(|rest| {
                    rest.split_off_mut(..gradient.len().min(rest.len())).unwrap_or_default()
                });
                Mutex::new((parts, gradient))
            });
            let chunks: Vec<_> = chunks.collect();
            outcome = unstopped.parallel(chunks.len(), |index| {
                let mut chunk = chunks[index].lock().unwrap_or_else(PoisonError::into_inner);
                let (parts, gradient) = &mut *chunk;
                step(parts.each_mut().map(|part| &mut **part), gradient);
                Ok(())
            });
        }
        for (group, own) in own.into_iter().enumerate() {
            if own.len() == shape.elements() {
                changing[group * count + index] = tensor(dtype, shape.clone(), own)?;
            }
        }
        outcome?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Sgd<T> {
    lr: T,
    momentum: T,
    decay: T,
    nesterov: bool,
}

wide! {
    fn sgd(p: &'a mut [T], g: &'a [T], rule: Sgd<T>) -> () {
        for (p, &g) in p.iter_mut().zip(g) {
            let g = g.add(rule.decay.mul(*p));
            *p = p.sub(rule.lr.mul(g));
        }
    }
}

wide! {
    fn sgd_with_momentum(p: &'a mut [T], v: &'a mut [T], g: &'a [T], rule: Sgd<T>) -> () {
        // How much of the gradient and of the velocity the parameter moves by.
        let one = T::from_f64(1.0);
        let (of_g, of_v) = if rule.nesterov { (one, rule.momentum) } else { (T::default(), one) };
        for ((p, v), &g) in p.iter_mut().zip(v.iter_mut()).zip(g) {
            let g = g.add(rule.decay.mul(*p));
            *v = rule.momentum.mul(*v).add(g);
            *p = p.sub(rule.lr.mul(of_g.mul(g).add(of_v.mul(*v))));
        }
    }
}

#[derive(Clone, Copy)]
struct Adam<T> {
    keep: T,
    decay: T,
    take1: T,
    beta2: T,
    take2: T,
    lr: T,
    root: T,
    epsilon: T,
}

wide! {
    fn adam(
        p: &'a mut [T],
        m: &'a mut [T],
        v: &'a mut [T],
        g: &'a [T],
        rule: Adam<T>,
    ) -> () {
        for (((p, m), v), &g) in p.iter_mut().zip(m.iter_mut()).zip(v.iter_mut()).zip(g) {
            let g = g.add(rule.decay.mul(*p));
            *m = m.add(rule.take1.mul(g.sub(*m)));
            *v = rule.beta2.mul(*v).add(rule.take2.mul(g.mul(g)));
            let root = v.sqrt().mul(rule.root).add(rule.epsilon);
            *p = p.mul(rule.keep).sub(rule.lr.mul(*m).div(root));
        }
    }
}

/// Scales all to the norm; answers what it was.
fn clip<T: Smooth>(
    gradients: &mut [Tensor],
    norm_max: f64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let mut sum = 0.0;
    for gradient in gradients.iter() {
        for chunk in elements::<T>(gradient)?.chunks(CHUNK) {
            run.check()?;
            sum += squares(chunk);
        }
    }
    let norm = sum.sqrt();
    let factor = norm_max / (norm + 1e-6);
    // A norm that is not a number must spoil nothing silently: the gradients stay what they are.
    if factor < 1.0 {
        for gradient in gradients.iter_mut() {
            let (dtype, shape) = (gradient.dtype(), gradient.shape().clone());
            let mut own = taken::<T>(gradient, run)?;
            scale(&mut own, T::from_f64(factor));
            *gradient = tensor(dtype, shape, own)?;
        }
    }
    let dtype = gradients.first().map_or(DType::Fp32, Tensor::dtype);
    scalar::<T>(dtype, norm)
}

fn scalar<T: Element + From64>(dtype: DType, value: f64) -> Result<Tensor, OpError> {
    tensor(dtype, Shape::new(&[]).map_err(broken)?, vec![T::from_f64(value)])
}

wide! {
    fn squares(of: &'a [T]) -> f64 {
        let mut lanes = [0f64; 16];
        for chunk in of.chunks(16) {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += x.widen() * x.widen();
            }
        }
        lanes.iter().sum()
    }
}

wide! {
    fn scale(of: &'a mut [T], factor: T) -> () {
        for x in of {
            *x = x.mul(factor);
        }
    }
}
