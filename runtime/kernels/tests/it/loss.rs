//! Losses against their formulas, and their gradients against finite differences.

use innkeeper_kernels::{Backend, Cpu, Loss, LossOf, Op, OpError, Reduction, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::grad::{close, differences, numbers};
use crate::oracle::Array;
use crate::values::{cases, float, of, tensor};

fn reductions() -> impl Strategy<Value = Reduction> {
    prop::sample::select(&[Reduction::Mean, Reduction::Sum][..])
}

/// The loss by its textbook formula.
fn formula(of: LossOf, reduction: Reduction, x: &[f64], target: &[f64]) -> f64 {
    let (terms, count): (Vec<f64>, f64) = match of {
        LossOf::MeanSquaredError => {
            (x.iter().zip(target).map(|(x, t)| (x - t) * (x - t)).collect(), x.len() as f64)
        }
        LossOf::BinaryCrossEntropy => {
            let p = |x: f64| 1.0 / (1.0 + (-x).exp());
            let term = |(x, t): (&f64, &f64)| -t * p(*x).ln() - (1.0 - t) * (1.0 - p(*x)).ln();
            (x.iter().zip(target).map(term).collect(), x.len() as f64)
        }
        LossOf::CrossEntropy { ignore, smoothing } => {
            let classes = x.len() / target.len().max(1);
            let kept: Vec<usize> =
                (0..target.len()).filter(|&i| Some(target[i] as i64) != ignore).collect();
            let term = |&row: &usize| {
                let logits = &x[row * classes..(row + 1) * classes];
                let total: f64 = logits.iter().map(|x| x.exp()).sum();
                let nll = |class: usize| -(logits[class].exp() / total).ln();
                let all: f64 = (0..classes).map(nll).sum();
                (1.0 - smoothing) * nll(target[row] as usize) + smoothing / classes as f64 * all
            };
            (kept.iter().map(term).collect(), kept.len() as f64)
        }
    };
    let sum: f64 = terms.iter().sum();
    if reduction == Reduction::Mean { sum / count } else { sum }
}

fn check(of_what: LossOf, reduction: Reduction, x: &Tensor, target: &Tensor) {
    let (values, targets) = (numbers(x), numbers(target));
    let wanted = formula(of_what, reduction, &values, &targets);
    let loss = Loss { of: of_what, reduction, gradient: true };
    let run = |loss| Cpu::new().run(&Op::Loss(loss), &[x, target], &Run::new()).unwrap();
    let results = run(loss);
    let tolerance = if x.dtype() == DType::Fp32 { 3e-5 } else { 1e-9 };
    close(&[wanted], &results[0], tolerance, "loss");
    let slopes = differences(&[values], |x| formula(of_what, reduction, &x[0], &targets));
    let tolerance = if x.dtype() == DType::Fp32 { 3e-5 } else { 1e-6 };
    close(&slopes[0], &results[1], tolerance, "gradient");
    assert_eq!(results[1].shape(), x.shape());
    let alone = run(Loss { gradient: false, ..loss });
    assert_eq!(alone.len(), 1);
    close(&numbers(&results[0]), &alone[0], 1e-6, "without a gradient");
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn cross_entropy(
        rows in prop::collection::vec(1usize..4, 0..3),
        classes in prop_oneof![1usize..5, 15usize..40],
        dtype in float(),
        reduction in reductions(),
        smoothing in prop::sample::select(&[0.0, 0.1, 1.0][..]),
        (wide, ignored) in any::<(bool, bool)>(),
        seed: u64,
    ) {
        let count: usize = rows.iter().product();
        let shape: Vec<usize> = rows.iter().copied().chain([classes]).collect();
        let x = tensor(dtype, &shape, seed);
        // The first label always counts.
        let label = |i: usize| match ignored && i % 3 == 1 {
            true => -100.0,
            false => ((seed >> (i % 60)) as usize % classes) as f64,
        };
        let labels: Vec<f64> = (0..count).map(label).collect();
        let index = if wide { DType::Int64 } else { DType::Int32 };
        let labels = of(index, &rows, &labels, false);
        let ignore = ignored.then_some(-100);
        check(LossOf::CrossEntropy { ignore, smoothing }, reduction, &x, &labels);
    }

    #[test]
    fn pairs(
        shape in prop::collection::vec(1usize..6, 0..4),
        dtype in float(),
        reduction in reductions(),
        seed: u64,
    ) {
        let x = tensor(dtype, &shape, seed);
        check(LossOf::MeanSquaredError, reduction, &x, &tensor(dtype, &shape, !seed));
        let targets: Vec<f64> = numbers(&tensor(dtype, &shape, !seed)).iter().map(|t| (t + 4.0) / 8.0).collect();
        check(LossOf::BinaryCrossEntropy, reduction, &x, &of(dtype, &shape, &targets, false));
    }
}

#[test]
fn nothing_overflows() {
    let x = of(DType::Fp32, &[2, 2], &[1e4, -1e4, -1e4, 1e4], false);
    let labels = of(DType::Int64, &[2], &[1.0, 1.0], false);
    let loss = Loss {
        of: LossOf::CrossEntropy { ignore: None, smoothing: 0.0 },
        reduction: Reduction::Sum,
        gradient: true,
    };
    let results = Cpu::new().run(&Op::Loss(loss), &[&x, &labels], &Run::new()).unwrap();
    close(&[2e4], &results[0], 0.0, "loss");
    close(&[1.0, -1.0, 0.0, 0.0], &results[1], 0.0, "gradient");

    let x = of(DType::Fp32, &[2], &[1e4, -1e4], false);
    let targets = of(DType::Fp32, &[2], &[0.0, 0.0], false);
    let loss = Loss { of: LossOf::BinaryCrossEntropy, ..loss };
    let results = Cpu::new().run(&Op::Loss(loss), &[&x, &targets], &Run::new()).unwrap();
    close(&[1e4], &results[0], 0.0, "loss");
    close(&[1.0, 0.0], &results[1], 0.0, "gradient");
}

#[test]
fn labels_that_are_no_class() {
    let x = tensor(DType::Fp32, &[2, 3], 1);
    let run = |label: f64| {
        let labels = of(DType::Int64, &[2], &[0.0, label], false);
        let of = LossOf::CrossEntropy { ignore: Some(-1), smoothing: 0.0 };
        let loss = Loss { of, reduction: Reduction::Mean, gradient: true };
        Cpu::new().run(&Op::Loss(loss), &[&x, &labels], &Run::new())
    };
    assert!(run(-1.0).is_ok());
    for label in [3.0, -2.0, 1e15] {
        let error = run(label).unwrap_err();
        assert!(
            matches!(&error, OpError::InvalidArgument(text) if text.contains("there are 3 classes")),
            "{error}"
        );
    }
}

#[test]
fn no_label_that_counts() {
    let x = tensor(DType::Fp64, &[1, 3], 1);
    let labels = of(DType::Int32, &[1], &[7.0], false);
    let of = LossOf::CrossEntropy { ignore: Some(7), smoothing: 0.0 };
    let loss = Loss { of, reduction: Reduction::Mean, gradient: true };
    let results = Cpu::new().run(&Op::Loss(loss), &[&x, &labels], &Run::new()).unwrap();
    assert!(Array::of(&results[0]).data[0].is_nan());
    close(&[0.0; 3], &results[1], 0.0, "gradient");
}
