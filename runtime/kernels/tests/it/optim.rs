//! Optimiser steps against their formulas, and what happens to memory.

use innkeeper_kernels::{Backend, Cpu, Op, OpError, Optim, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::grad::{close, numbers};
use crate::values::{cases, float, of, tensor};

/// One parameter by the textbook.
fn formula(optim: &Optim, state: &mut [f64], g: f64) {
    match (*optim, state) {
        (Optim::Sgd { lr, weight_decay, .. }, [p]) => *p -= lr * (g + weight_decay * *p),
        (Optim::Sgd { lr, momentum, weight_decay, nesterov }, [p, v]) => {
            let g = g + weight_decay * *p;
            *v = momentum * *v + g;
            *p -= lr * if nesterov { g + momentum * *v } else { *v };
        }
        (Optim::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step }, [p, m, v]) => {
            let g = if decoupled { g } else { g + weight_decay * *p };
            if decoupled {
                *p -= lr * weight_decay * *p;
            }
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let t = step as f64;
            let (m, v) = (*m / (1.0 - beta1.powf(t)), *v / (1.0 - beta2.powf(t)));
            *p -= lr * m / (v.sqrt() + epsilon);
        }
        _ => panic!("other groups"),
    }
}

fn optims() -> impl Strategy<Value = Optim> {
    let decay = || prop::sample::select(&[0.0, 0.01][..]);
    let sgd = (decay(), prop::sample::select(&[0.0, 0.9][..]), any::<bool>()).prop_map(
        |(weight_decay, momentum, nesterov)| Optim::Sgd {
            lr: 0.1,
            momentum,
            weight_decay,
            nesterov: nesterov && momentum > 0.0,
        },
    );
    let adam = (decay(), any::<bool>(), 1u64..2000).prop_map(|(weight_decay, decoupled, step)| {
        Optim::Adam {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay,
            decoupled,
            step,
        }
    });
    prop_oneof![sgd, adam]
}

fn groups(optim: &Optim) -> usize {
    match optim {
        Optim::Sgd { momentum, .. } => 1 + usize::from(*momentum > 0.0),
        Optim::Adam { .. } => 3,
        Optim::ClipNorm { .. } => 1,
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn steps(
        optim in optims(),
        shapes in prop::collection::vec(prop::collection::vec(0usize..20, 0..3), 0..4),
        dtype in float(),
        seed: u64,
    ) {
        let groups = groups(&optim);
        // The last group, of Adam, holds squares.
        let state: Vec<Tensor> = (0..groups)
            .flat_map(|group| shapes.iter().enumerate().map(move |(i, shape)| (group, i, shape)))
            .map(|(group, i, shape)| {
                let x = numbers(&tensor(dtype, shape, seed.wrapping_add((group * 10 + i) as u64)));
                let x: Vec<f64> = x.iter().map(|x| if group == 2 { x * x } else { *x }).collect();
                of(dtype, shape, &x, seed % 2 == 1)
            })
            .collect();
        let gradients: Vec<Tensor> =
            shapes.iter().enumerate().map(|(i, s)| tensor(dtype, s, !seed ^ i as u64)).collect();
        let inputs: Vec<&Tensor> = state.iter().chain(&gradients).collect();
        let results = Cpu::new().run(&Op::Optim(optim), &inputs, &Run::new()).unwrap();
        prop_assert_eq!(results.len(), state.len());
        let tolerance = if dtype == DType::Fp32 { 1e-6 } else { 1e-12 };
        for (i, gradient) in gradients.iter().enumerate() {
            let mut wanted = vec![Vec::new(); groups];
            for (element, &g) in numbers(gradient).iter().enumerate() {
                let mut now: Vec<f64> =
                    (0..groups).map(|group| numbers(&state[group * shapes.len() + i])[element]).collect();
                formula(&optim, &mut now, g);
                wanted.iter_mut().zip(now).for_each(|(wanted, now)| wanted.push(now));
            }
            for (group, wanted) in wanted.iter().enumerate() {
                close(wanted, &results[group * shapes.len() + i], tolerance, &format!("{optim:?}"));
            }
        }
    }

    #[test]
    fn norms(
        shapes in prop::collection::vec(prop::collection::vec(0usize..20, 0..3), 0..4),
        dtype in float(),
        norm_max in prop::sample::select(&[0.0, 0.5, 1e9, f64::INFINITY][..]),
        seed: u64,
    ) {
        let gradients: Vec<Tensor> =
            shapes.iter().enumerate().map(|(i, s)| tensor(dtype, s, !seed ^ i as u64)).collect();
        let norm: f64 = gradients.iter().flat_map(numbers).map(|g| g * g).sum::<f64>().sqrt();
        let factor = (norm_max / (norm + 1e-6)).min(1.0);
        let inputs: Vec<&Tensor> = gradients.iter().collect();
        let clip = Op::Optim(Optim::ClipNorm { norm_max });
        let results = Cpu::new().run(&clip, &inputs, &Run::new()).unwrap();
        close(&[norm], &results[gradients.len()], 1e-6, "norm");
        for (result, gradient) in results.iter().zip(&gradients) {
            let wanted: Vec<f64> = numbers(gradient).iter().map(|g| g * factor).collect();
            close(&wanted, result, 1e-6, "clipped");
        }
    }
}

#[test]
fn memory_is_used_again_only_where_nobody_else_holds_it() {
    let sgd = Optim::Sgd { lr: 1.0, momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let own = || Tensor::from_vec(&[2], vec![1f32, 2.0]).unwrap();
    let gradient = Tensor::from_vec(&[2], vec![1f32, 1.0]).unwrap();
    let held = own();
    let mut changing = [own(), held.clone()];
    let before = changing.each_ref().map(|x| x.as_bytes().as_ptr());
    Cpu::new().update(&sgd, &mut changing, &[&gradient, &gradient], &Run::new()).unwrap();
    let after = changing.each_ref().map(|x| x.as_bytes().as_ptr());
    assert_eq!((before[0] == after[0], before[1] == after[1]), (true, false));
    for changed in &changing {
        close(&[0.0, 1.0], changed, 0.0, "changed");
    }
    close(&[1.0, 2.0], &held, 0.0, "held by somebody else");
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let sgd = |lr, momentum, nesterov| Optim::Sgd { lr, momentum, weight_decay: 0.0, nesterov };
    let adam = |beta1, step| Optim::Adam {
        lr: 0.1,
        beta1,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
        step,
    };
    let cases = [
        (sgd(-1.0, 0.0, false), 1, 1, "the learning rate must be 0 or more and finite, got -1"),
        (sgd(f64::NAN, 0.0, false), 1, 1, "the learning rate"),
        (sgd(0.1, f64::INFINITY, false), 2, 1, "momentum must be"),
        (sgd(0.1, 0.0, true), 1, 1, "nesterov needs"),
        (sgd(0.1, 0.9, false), 1, 1, "takes 3 groups"),
        (adam(1.0, 1), 3, 1, "beta1 must be"),
        (adam(0.9, 0), 3, 1, "steps count from 1"),
        (adam(0.9, 1), 2, 1, "takes 4 groups"),
        (Optim::ClipNorm { norm_max: f64::NAN }, 1, 0, "the largest norm must be"),
    ];
    for (optim, changing, read, text) in cases {
        let x = tensor(DType::Fp32, &[2], 1);
        let mut changing = vec![x.clone(); changing];
        let error =
            Cpu::new().update(&optim, &mut changing, &vec![&x; read], &Run::new()).unwrap_err();
        assert!(
            matches!(&error, OpError::InvalidArgument(got) if got.contains(text)),
            "{optim:?}: {error}"
        );
        assert!(changing.iter().all(|now| *now == x));
    }
    let (a, b) = (tensor(DType::Fp32, &[2], 1), tensor(DType::Fp32, &[3], 1));
    let error =
        Cpu::new().update(&sgd(0.1, 0.0, false), &mut [a.clone()], &[&b], &Run::new()).unwrap_err();
    assert!(error.to_string().contains("tensor 0 is [2]"), "{error}");
    let half = tensor(DType::Fp16, &[2], 1);
    let error = Cpu::new()
        .update(&sgd(0.1, 0.0, false), &mut [half.clone()], &[&half], &Run::new())
        .unwrap_err();
    assert!(matches!(error, OpError::Unsupported(_)), "{error}");
}
