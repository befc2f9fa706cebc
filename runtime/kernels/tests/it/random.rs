//! Random numbers: the same for the same seed, and distributed as they say.

use innkeeper_kernels::{Draw, Op, OpError, Random};
use innkeeper_tensor::{DType, Tensor};

use crate::oracle::{Array, run, run_all, same_on_threads};
use crate::values::{fp32, of};

fn drawn(seed: u64, stream: u64, draw: Draw, inputs: &[&Tensor]) -> Vec<f64> {
    Array::of(&run(&Op::Random(Random { seed, stream, draw }), inputs).unwrap()).data
}

fn mean(data: &[f64]) -> f64 {
    data.iter().sum::<f64>() / data.len() as f64
}

const MANY: usize = 200_000;

#[test]
fn seeds_and_streams_decide() {
    let draw = || Draw::Uniform { dtype: DType::Fp64, shape: vec![1000], low: 0.0, high: 1.0 };
    assert_eq!(drawn(1, 0, draw(), &[]), drawn(1, 0, draw(), &[]));
    assert_ne!(drawn(1, 0, draw(), &[]), drawn(2, 0, draw(), &[]));
    assert_ne!(drawn(1, 0, draw(), &[]), drawn(1, 1, draw(), &[]));
    // An element depends on its place alone.
    let long = Draw::Uniform { dtype: DType::Fp64, shape: vec![MANY], low: 0.0, high: 1.0 };
    assert_eq!(drawn(1, 0, long, &[])[..1000], drawn(1, 0, draw(), &[])[..]);
    // The first word of the known answer of Philox with nothing but zeros.
    let first = 0xe169_c58d_6627_e8d5u64 >> 11;
    assert_eq!(drawn(0, 0, draw(), &[])[0], first as f64 / 2f64.powi(53));
}

#[test]
fn the_same_on_any_threads() {
    for draw in [
        Draw::Uniform { dtype: DType::Fp32, shape: vec![MANY + 1], low: -1.0, high: 1.0 },
        Draw::Normal { dtype: DType::Fp16, shape: vec![MANY + 1], mean: 0.0, deviation: 1.0 },
        Draw::Integers { dtype: DType::Int8, shape: vec![MANY + 1], low: -5, high: 5 },
    ] {
        same_on_threads(&Op::Random(Random { seed: 7, stream: 9, draw }), &[]);
    }
}

#[test]
fn uniform() {
    for dtype in [DType::Fp16, DType::Bf16, DType::Fp32, DType::Fp64] {
        let draw = Draw::Uniform { dtype, shape: vec![MANY], low: -1.0, high: 3.0 };
        let data = drawn(3, 1, draw, &[]);
        assert!(data.iter().all(|x| (-1.0..=3.0).contains(x)));
        assert!((mean(&data) - 1.0).abs() < 0.02, "{dtype} {}", mean(&data));
        let quarter = data.iter().filter(|&&x| x < 0.0).count() as f64 / MANY as f64;
        assert!((quarter - 0.25).abs() < 0.01, "{dtype} {quarter}");
    }
}

#[test]
fn normal() {
    let draw = Draw::Normal { dtype: DType::Fp32, shape: vec![MANY], mean: 2.0, deviation: 3.0 };
    let data = drawn(4, 0, draw, &[]);
    let center = mean(&data);
    let variance = data.iter().map(|x| (x - center).powi(2)).sum::<f64>() / MANY as f64;
    let within = data.iter().filter(|x| (*x - 2.0).abs() < 3.0).count() as f64 / MANY as f64;
    assert!((center - 2.0).abs() < 0.04 && (variance.sqrt() - 3.0).abs() < 0.04);
    assert!((within - 0.6827).abs() < 0.01, "{within}");
}

#[test]
fn integers() {
    let draw = Draw::Integers { dtype: DType::Int8, shape: vec![MANY], low: -3, high: 4 };
    let data = drawn(5, 0, draw, &[]);
    for value in -3..4 {
        let share = data.iter().filter(|&&x| x == f64::from(value)).count() as f64 / MANY as f64;
        assert!((share - 1.0 / 7.0).abs() < 0.01, "{value} {share}");
    }
    let all = Draw::Integers { dtype: DType::Int64, shape: vec![9], low: i64::MIN, high: i64::MAX };
    assert!(drawn(5, 0, all, &[]).iter().any(|&x| x < 0.0));
    for (dtype, low, high) in [(DType::Int8, 0, 129), (DType::Uint8, -1, 3), (DType::Int32, 4, 4)] {
        let draw = Draw::Integers { dtype, shape: vec![1], low, high };
        let op = Op::Random(Random { seed: 0, stream: 0, draw });
        assert!(matches!(run(&op, &[]), Err(OpError::InvalidArgument(_))));
    }
}

#[test]
fn bernoulli() {
    let p = of(DType::Fp32, &[MANY], &vec![0.3; MANY], false);
    for dtype in [DType::Bool, DType::Fp16, DType::Int64] {
        let ones = mean(&drawn(6, 0, Draw::Bernoulli { dtype }, &[&p]));
        assert!((ones - 0.3).abs() < 0.01);
    }
    let edges = fp32(&[4], &[0.0, 1.0, f32::NAN, 2.0]);
    assert_eq!(
        drawn(6, 0, Draw::Bernoulli { dtype: DType::Uint8 }, &[&edges]),
        [0.0, 1.0, 0.0, 1.0]
    );
}

#[test]
fn permutations() {
    let mut data = drawn(8, 0, Draw::Permutation { count: 1000 }, &[]);
    assert!(data.iter().enumerate().filter(|(i, x)| *i as f64 == **x).count() < 20);
    data.sort_by(f64::total_cmp);
    assert!(data.iter().enumerate().all(|(i, x)| i as f64 == *x));
    // Each of the six orders of three is as likely as another.
    let mut counts = std::collections::HashMap::new();
    for stream in 0..6000 {
        let order: Vec<i64> = drawn(8, stream, Draw::Permutation { count: 3 }, &[])
            .iter()
            .map(|&x| x as i64)
            .collect();
        *counts.entry(order).or_insert(0) += 1;
    }
    assert!(counts.len() == 6 && counts.values().all(|count| (850..1150).contains(count)));
}

#[test]
fn multinomials() {
    let logs = [1f32, 3.0, 6.0].map(f32::ln);
    let x = fp32(&[2, 3], &[&logs[..], &[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]].concat());
    let data = drawn(9, 0, Draw::Multinomial { dtype: DType::Int32, samples: MANY }, &[&x]);
    for (class, wanted) in [0.1, 0.3, 0.6].into_iter().enumerate() {
        let share =
            data[..MANY].iter().filter(|&&x| x == class as f64).count() as f64 / MANY as f64;
        assert!((share - wanted).abs() < 0.01, "{class} {share}");
    }
    assert!(data[MANY..].iter().all(|&x| x == 1.0));
    for wrong in [f32::NEG_INFINITY, f32::NAN, f32::INFINITY] {
        let draw = Draw::Multinomial { dtype: DType::Int64, samples: 1 };
        let op = Op::Random(Random { seed: 0, stream: 0, draw });
        assert!(matches!(run(&op, &[&fp32(&[1, 1], &[wrong])]), Err(OpError::InvalidArgument(_))));
    }
}

#[test]
fn dropout() {
    let x = of(DType::Fp32, &[MANY], &vec![2.0; MANY], false);
    let op = |ratio| Op::Random(Random { seed: 1, stream: 1, draw: Draw::Dropout { ratio } });
    let results = run_all(&op(0.25), &[&x]).unwrap();
    let (y, mask) = (Array::of(&results[0]).data, Array::of(&results[1]).data);
    assert!((mean(&mask) - 0.75).abs() < 0.01);
    assert!(y.iter().zip(&mask).all(|(y, mask)| *y == f64::from((2.0f64 / 0.75) as f32) * mask));
    let whole = run_all(&op(0.0), &[&x]).unwrap();
    assert_eq!(whole[0], x);
    assert!(run_all(&op(1.0), &[&x]).is_err() && run_all(&op(f64::NAN), &[&x]).is_err());
}
