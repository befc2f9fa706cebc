//! Matrix products.

use std::sync::atomic::{AtomicUsize, Ordering};

use innkeeper_kernels::{Activation, Backend, Cpu, Op, OpError, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, check_everywhere};
use crate::values::{any_activation, broadcastable, cases, float, fp32, linear, spread, tensor};

/// Sizes on every side of what the kernels treat differently: none, one, few rows, whole vectors, and odd remainders.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0usize), 3 => Just(1), 6 => 2usize..8, 4 => 15usize..34, 1 => 60usize..140]
}

fn tolerance(dtype: DType, k: usize) -> f64 {
    (if dtype == DType::Fp32 { 2e-6 } else { 1e-14 }) * (k as f64 + 1.0)
}

/// What an activation is.
pub(crate) fn activated(activation: Activation, a: f64) -> f64 {
    match activation {
        Activation::None => a,
        Activation::Relu => a.max(0.0),
        Activation::Gelu => 0.5 * a * libm::erfc(-a / 2f64.sqrt()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (a + 0.044715 * a.powi(3));
            0.5 * a * (1.0 + inner.tanh())
        }
        Activation::Silu => a / (1.0 + (-a).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Activation::Tanh => a.tanh(),
        Activation::HardSwish => a * (a / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::LeakyRelu(alpha) => {
            if a < 0.0 {
                a * f64::from(alpha)
            } else {
                a
            }
        }
        Activation::Clip { min, max } => a.max(f64::from(min)).min(f64::from(max)),
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn products([batch_a, batch_b] in broadcastable::<2>(), m in size(), k in size(), n in size(), dtype in float(), seed: u64) {
        let batch = spread(&[&batch_a, &batch_b]);
        prop_assume!(batch.iter().product::<usize>() * m.max(1) * k.max(1) * n.max(1) < 300_000);
        let a = tensor(dtype, &[&batch_a[..], &[m, k]].concat(), seed);
        let b = tensor(dtype, &[&batch_b[..], &[k, n]].concat(), seed >> 1);
        let (left, right) = (Array::of(&a), Array::of(&b));
        let expected = Array::from_fn(&[&batch[..], &[m, n]].concat(), |index| {
            let (batch, place) = index.split_at(index.len() - 2);
            (0..k).map(|p| {
                let at = |own: &Array, last: [usize; 2]| {
                    let mut index = batch[batch.len() + 2 - own.dims.len()..].to_vec();
                    index.iter_mut().zip(&own.dims).for_each(|(i, &dim)| if dim == 1 { *i = 0 });
                    own.at(&[&index[..], &last].concat())
                };
                at(&left, [place[0], p]) * at(&right, [p, place[1]])
            }).sum()
        });
        check_everywhere(&Op::MatMul, &[&a, &b], dtype, &expected, tolerance(dtype, k));
    }

    #[test]
    fn vectors(m in size(), k in size(), dtype in float(), seed: u64) {
        let (matrix, vector) = (tensor(dtype, &[m, k], seed), tensor(dtype, &[k], seed >> 1));
        let (a, x) = (Array::of(&matrix), Array::of(&vector));
        let columns = Array::from_fn(&[m], |i| (0..k).map(|p| a.at(&[i[0], p]) * x.at(&[p])).sum());
        check_everywhere(&Op::MatMul, &[&matrix, &vector], dtype, &columns, tolerance(dtype, k));

        let row = tensor(dtype, &[m], seed >> 2);
        let y = Array::of(&row);
        let rows = Array::from_fn(&[k], |j| (0..m).map(|p| y.at(&[p]) * a.at(&[p, j[0]])).sum());
        check_everywhere(&Op::MatMul, &[&row, &matrix], dtype, &rows, tolerance(dtype, m));

        let dot = Array::from_fn(&[], |_| (0..k).map(|p| x.at(&[p]) * x.at(&[p])).sum());
        check_everywhere(&Op::MatMul, &[&vector, &vector], dtype, &dot, tolerance(dtype, k));
    }

    #[test]
    fn linears(lead in prop::collection::vec(size(), 0..3), inputs in size(), outputs in size(), dtype in float(), seed: u64, bias: bool, residual: bool, activation in any_activation()) {
        let rows: usize = lead.iter().map(|&size| size.max(1)).product();
        prop_assume!(rows * inputs.max(1) * outputs.max(1) < 300_000);
        let x = tensor(dtype, &[&lead[..], &[inputs]].concat(), seed);
        let weight = tensor(dtype, &[outputs, inputs], seed >> 1);
        let offset = tensor(dtype, &[outputs], seed >> 2);
        let past = tensor(dtype, &[&lead[..], &[outputs]].concat(), seed >> 3);
        let [from, w, b, r] = [&x, &weight, &offset, &past].map(Array::of);
        let expected = Array::from_fn(&[&lead[..], &[outputs]].concat(), |index| {
            let (lead, out) = index.split_at(index.len() - 1);
            let sum: f64 = (0..inputs).map(|p| from.at(&[lead, &[p]].concat()) * w.at(&[out[0], p])).sum();
            let sum = if bias { sum + b.at(out) } else { sum };
            activated(activation, if residual { sum + r.at(index) } else { sum })
        });
        let mut operands: Vec<&Tensor> = vec![&x, &weight];
        operands.extend(bias.then_some(&offset));
        operands.extend(residual.then_some(&past));
        check_everywhere(&Op::Linear { bias, residual, activation }, &operands, dtype, &expected, 2.0 * tolerance(dtype, inputs));
    }
}

proptest! {
    #![proptest_config(cases(40))]

    /// Large enough for several chunks and several blocks of each, and for packing.
    #[test]
    fn large_products(m in 40usize..400, k in 300usize..900, n in 30usize..300, seed: u64, bias: bool, residual: bool, transposed: bool) {
        let (x, w) = (tensor(DType::Fp32, &[m, k], seed), tensor(DType::Fp32, &[n, k], seed >> 1));
        let (offset, past) = (tensor(DType::Fp32, &[n], seed >> 2), tensor(DType::Fp32, &[m, n], seed >> 3));
        let [from, weight, b, r] = [&x, &w, &offset, &past].map(Array::of);
        let sum = |i: usize, j: usize| -> f64 {
            from.data[i * k..][..k].iter().zip(&weight.data[j * k..][..k]).map(|(x, w)| x * w).sum()
        };
        let mut expected = Array::from_fn(&[m, n], |at| sum(at[0], at[1]));
        if transposed {
            let columns: Vec<f32> = (0..k * n).map(|i| weight.data[i % n * k + i / n] as f32).collect();
            let columns = fp32(&[k, n], &columns);
            check_everywhere(&Op::MatMul, &[&x, &columns], DType::Fp32, &expected, tolerance(DType::Fp32, k));
        } else {
            let mut operands: Vec<&Tensor> = vec![&x, &w];
            operands.extend(bias.then_some(&offset));
            operands.extend(residual.then_some(&past));
            for (i, out) in expected.data.iter_mut().enumerate() {
                *out += if bias { b.data[i % n] } else { 0.0 } + if residual { r.data[i] } else { 0.0 };
                *out = out.max(0.0);
            }
            let op = Op::Linear { bias, residual, activation: Activation::Relu };
            check_everywhere(&op, &operands, DType::Fp32, &expected, tolerance(DType::Fp32, k));
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Sums of 16-bit floats are FP32, and results are rounded once.
    #[test]
    fn products_of_halves(m in 1usize..60, k in 0usize..200, n in 1usize..70, brain: bool, residual: bool, bias: bool, seed: u64) {
        let dtype = if brain { DType::Bf16 } else { DType::Fp16 };
        let (x, w) = (tensor(dtype, &[m, k], seed), tensor(dtype, &[n, k], seed >> 1));
        let (offset, past) = (tensor(dtype, &[n], seed >> 2), tensor(dtype, &[m, n], seed >> 3));
        let [from, weight, b, r] = [&x, &w, &offset, &past].map(Array::of);
        let sum = |at: &[usize]| -> f64 { (0..k).map(|p| from.at(&[at[0], p]) * weight.at(&[at[1], p])).sum() };
        let expected = Array::from_fn(&[m, n], |at| {
            sum(at) + if bias { b.data[at[1]] } else { 0.0 } + if residual { r.at(at) } else { 0.0 }
        });
        let mut operands: Vec<&Tensor> = vec![&x, &w];
        operands.extend(bias.then_some(&offset));
        operands.extend(residual.then_some(&past));
        let tolerance = if brain { 0.004 } else { 0.0005 } + tolerance(DType::Fp32, k);
        let op = Op::Linear { bias, residual, activation: Activation::None };
        check_everywhere(&op, &operands, dtype, &expected, tolerance);

        let turned: Vec<f64> = (0..k * n).map(|i| weight.data[i % n * k + i / n]).collect();
        let turned = crate::values::of(dtype, &[k, n], &turned, false);
        check_everywhere(&Op::MatMul, &[&x, &turned], dtype, &Array::from_fn(&[m, n], sum), tolerance);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    /// Few rows, and enough columns for threads to share them.
    #[test]
    fn few_rows_of_many_columns(m in 1usize..5, k in 100usize..200, n in 2_700usize..3_000, dtype in float(), seed: u64) {
        let (x, w) = (tensor(dtype, &[m, k], seed), tensor(dtype, &[k, n], seed >> 1));
        let turned = tensor(dtype, &[n, k], seed >> 2);
        let [from, plain, rows] = [&x, &w, &turned].map(Array::of);
        let row = |i: usize| &from.data[i * k..][..k];
        let expected = Array::from_fn(&[m, n], |at| {
            row(at[0]).iter().enumerate().map(|(p, x)| x * plain.data[p * n + at[1]]).sum()
        });
        check_everywhere(&Op::MatMul, &[&x, &w], dtype, &expected, tolerance(dtype, k));
        let expected = Array::from_fn(&[m, n], |at| {
            row(at[0]).iter().zip(&rows.data[at[1] * k..]).map(|(x, w)| x * w).sum()
        });
        check_everywhere(&linear(false), &[&x, &turned], dtype, &expected, tolerance(dtype, k));
    }
}

#[test]
fn a_product_of_few_rows_can_be_stopped_in_the_middle() {
    let (x, w) = (fp32(&[2, 4096], &vec![1.0; 8192]), fp32(&[4096, 2048], &vec![1.0; 8 << 20]));
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 2;
    let run = Run::new().until(&stop);
    let result = Cpu::new().run_one(&Op::MatMul, &[&x, &w], &run);
    assert_eq!(result.err(), Some(OpError::Stopped));
}

#[test]
fn infinities_and_nans_spread_only_where_they_belong() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for m in [1, 5] {
        // In the first row only; 17 columns are not a whole number of vectors.
        let mut a = vec![1.0; m * 17];
        a[16] = nan;
        let mut b = vec![1.0; 17 * 2];
        b[33] = inf;
        let expected: Vec<f64> = (0..m * 2)
            .map(|i| {
                if i < 2 {
                    f64::NAN
                } else if i % 2 == 1 {
                    f64::INFINITY
                } else {
                    17.0
                }
            })
            .collect();
        let expected = Array { dims: vec![m, 2], data: expected };
        check_everywhere(
            &Op::MatMul,
            &[&fp32(&[m, 17], &a), &fp32(&[17, 2], &b)],
            DType::Fp32,
            &expected,
            0.0,
        );

        let mut weight = vec![1.0; 2 * 17];
        weight[33] = inf;
        check_everywhere(
            &linear(false),
            &[&fp32(&[m, 17], &a), &fp32(&[2, 17], &weight)],
            DType::Fp32,
            &expected,
            0.0,
        );
    }
}
