//! Quantised numbers and their products.

use innkeeper_kernels::{Activation, Backend, Cpu, Isa, Op, OpError, Pool, Quant, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::Array;
use crate::values::{cases, fp32, tensor};

/// Runs `op` with every set of instructions that this machine has, on one thread and on two, the second operand being a
/// constant or not; all must agree.
fn run(quant: Quant, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let op = Op::Quant(quant);
    let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let said = op.outputs(&shapes);
    let first = Cpu::new().run(&op, inputs, &Run::new());
    match (&said, &first) {
        (Ok(said), Ok(results)) => {
            let got: Vec<_> = results.iter().map(|x| (x.dtype(), x.shape().clone())).collect();
            assert_eq!(*said, got);
        }
        (said, got) => assert_eq!(said.as_ref().err(), got.as_ref().err()),
    }
    let first = first?;
    let pool = Pool::new(2).unwrap();
    let mut constant = inputs.to_vec();
    let held = inputs.get(1).map(|x| (*x).clone().constant());
    if let Some(held) = &held {
        constant[1] = held;
    }
    for isa in Isa::ALL {
        let Some(cpu) = Cpu::with_isa(isa) else {
            println!("{} was not tested: this machine does not have it", isa.name());
            continue;
        };
        for inputs in [inputs, &constant] {
            let got = cpu.run(&op, inputs, &Run::new().on(&pool, 2)).unwrap();
            for (got, first) in got.iter().zip(&first) {
                let (got, first) = (Array::of(got), Array::of(first));
                // Sums of bytes are exact, those of floats are not.
                let depth = inputs[0].shape().dims().last().map_or(1.0, |&k| k as f64);
                let off = if matches!(quant, Quant::Linear4 { .. }) { 2e-5 * depth } else { 1e-5 };
                let near = |(a, b): (&f64, &f64)| (a - b).abs() <= off * b.abs().max(1.0);
                assert!(got.data.iter().zip(&first.data).all(near), "{op:?} by {}", isa.name());
            }
        }
    }
    Ok(first)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn integer_products_are_exact(m in 0usize..40, k in 0usize..70, n in 0usize..70, a_signed: bool, b_signed: bool, zeros in 0usize..4, seed: u64) {
        let of = |signed| if signed { DType::Int8 } else { DType::Uint8 };
        let (a, b) = (tensor(of(a_signed), &[m, k], seed), tensor(of(b_signed), &[k, n], seed >> 1));
        let (a_zero, b_zero) = (zeros & 1 != 0, zeros & 2 != 0);
        let za = tensor(of(a_signed), &[m], seed >> 2);
        let zb = if seed % 3 == 0 { tensor(of(b_signed), &[], seed >> 3) } else { tensor(of(b_signed), &[n], seed >> 3) };
        let [x, y, of_a, of_b] = [&a, &b, &za, &zb].map(Array::of);
        let expected = Array::from_fn(&[m, n], |at| (0..k).map(|p| {
            let from_a = if a_zero { of_a.data[at[0]] } else { 0.0 };
            let from_b = if b_zero { of_b.data[at[1] % of_b.data.len()] } else { 0.0 };
            (x.at(&[at[0], p]) - from_a) * (y.at(&[p, at[1]]) - from_b)
        }).sum());
        let mut inputs = vec![&a, &b];
        inputs.extend(a_zero.then_some(&za));
        inputs.extend(b_zero.then_some(&zb));
        let got = run(Quant::MatMul { a_zero, b_zero }, &inputs).unwrap();
        prop_assert_eq!(Array::of(&got[0]), expected);
    }

    #[test]
    fn linear_layers_of_bytes_are_near_their_real_ones(m in 1usize..40, k in 1usize..300, n in 1usize..80, bias: bool, residual: bool, relu: bool, seed: u64) {
        let (x, w) = (tensor(DType::Fp32, &[m, k], seed & !1), tensor(DType::Fp32, &[n, k], seed >> 1 << 1));
        let (offset, past) = (tensor(DType::Fp32, &[n], seed), tensor(DType::Fp32, &[m, n], seed));
        let weight = run(Quant::Weight8, &[&w]).unwrap();
        let [from, q, scales, b, r] = [&x, &weight[0], &weight[1], &offset, &past].map(Array::of);
        let activation = if relu { Activation::Relu } else { Activation::None };
        let expected = Array::from_fn(&[m, n], |at| {
            let row = |p| from.at(&[at[0], p]);
            let sum: f64 = (0..k).map(|p| row(p) * q.at(&[at[1], p])).sum::<f64>() * scales.data[at[1]];
            let sum = sum + if bias { b.data[at[1]] } else { 0.0 } + if residual { r.at(at) } else { 0.0 };
            if relu { sum.max(0.0) } else { sum }
        });
        let mut inputs = vec![&x, &weight[0], &weight[1]];
        inputs.extend(bias.then_some(&offset));
        inputs.extend(residual.then_some(&past));
        let got = run(Quant::Linear8 { bias, residual, activation }, &inputs).unwrap();
        // Each of k numbers of x is off by half a step of 8 / 255 at most, each weight is below 4.1.
        let off = k as f64 * 0.5 * 8.1 / 255.0 * 4.1 + 1e-3;
        for (got, wanted) in Array::of(&got[0]).data.iter().zip(&expected.data) {
            prop_assert!((got - wanted).abs() <= off, "{got} {wanted}");
        }
        // And the weights are what they were, up to half a step.
        for (i, (&q, &w)) in q.data.iter().zip(&Array::of(&w).data).enumerate() {
            prop_assert!((q * scales.data[i / k] - w).abs() <= 0.5001 * scales.data[i / k]);
        }
    }

    #[test]
    fn linear_layers_of_nibbles_are_those_of_their_weights(m in 1usize..40, groups in 1usize..20, n in 1usize..70, group in prop::sample::select(&[16usize, 32, 64, 128, 256][..]), bias: bool, seed: u64) {
        let k = (groups * group).min(512) / group * group;
        let (x, w) = (tensor(DType::Fp32, &[m, k], seed), tensor(DType::Fp32, &[n, k], seed >> 1));
        let offset = tensor(DType::Fp32, &[n], seed >> 2);
        let weight = run(Quant::Weight4 { group }, &[&w]).unwrap();
        let [from, wide, bytes, scales, b] = [&x, &w, &weight[0], &weight[1], &offset].map(Array::of);
        let value = |j: usize, p: usize| {
            let nibble = bytes.data[j * k / 2 + p / 2] as u8 >> (p % 2 * 4) & 15;
            (f64::from(nibble) - 8.0) * scales.data[(j * k + p) / group]
        };
        for (i, wide) in wide.data.iter().enumerate() {
            // The largest of the other sign is cut off, by at most a step.
            prop_assert!((value(i / k, i % k) - wide).abs() <= 1.001 * scales.data[i / group].abs());
        }
        let op = Quant::Linear4 { group, bias, residual: false, activation: Activation::None };
        let mut inputs = vec![&x, &weight[0], &weight[1]];
        inputs.extend(bias.then_some(&offset));
        // Another constant's scales must not be taken for these.
        let other = fp32(&[n, k / group], &vec![7.0; n * k / group]).constant();
        let held = weight[0].clone().constant();
        Cpu::new().run(&Op::Quant(op), &[&x, &held, &other, &offset][..3 + usize::from(bias)], &Run::new()).unwrap();
        inputs[1] = &held;
        let got = run(op, &inputs).unwrap().remove(0);
        for (i, got) in Array::of(&got).data.iter().enumerate() {
            let sum: f64 = (0..k).map(|p| from.at(&[i / n, p]) * value(i % n, p)).sum();
            let wanted = sum + if bias { b.data[i % n] } else { 0.0 };
            prop_assert!((got - wanted).abs() <= 2e-5 * k as f64, "{got} {wanted}");
        }
    }

    #[test]
    fn there_and_back(rows in 1usize..6, each in 1usize..50, signed: bool, axis: bool, zero_point: bool, seed: u64) {
        let x = tensor(DType::Fp32, &[rows, each], seed);
        let (count, to) = (if axis { rows } else { 1 }, if signed { DType::Int8 } else { DType::Uint8 });
        let scale: Vec<f32> = (0..count).map(|i| 0.05 + i as f32 / 50.0).collect();
        let scale = fp32(&[count], &scale);
        let zero = tensor(to, &[count], seed >> 1);
        let mut inputs = vec![&x, &scale];
        inputs.extend(zero_point.then_some(&zero));
        let q = run(Quant::Quantize { to, axis: 0, zero_point }, &inputs).unwrap().remove(0);
        let [from, scales, zeros, got] = [&x, &scale, &zero, &q].map(Array::of);
        let (least, most) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
        let wanted = |i: usize| {
            let at = i / each % count;
            let zero = if zero_point { zeros.data[at] } else { 0.0 };
            // In the precision of the operation: ties are where they are.
            let q = f64::from((from.data[i] as f32 / scales.data[at] as f32).round_ties_even());
            (q + zero).clamp(least, most)
        };
        for (i, &got) in got.data.iter().enumerate() {
            prop_assert_eq!(got, wanted(i));
        }
        inputs[0] = &q;
        let back = run(Quant::Dequantize { axis: 0, zero_point }, &inputs).unwrap().remove(0);
        for (i, &back) in Array::of(&back).data.iter().enumerate() {
            let at = i / each % count;
            let zero = if zero_point { zeros.data[at] } else { 0.0 };
            prop_assert!((back - (wanted(i) - zero) * scales.data[at]).abs() < 1e-4);
        }
    }
}

/// The examples of ONNX's own page on DynamicQuantizeLinear.
#[test]
fn dynamic_quantisation_is_that_of_onnx() {
    let cases: [(&[f32], &[f64], f64, f64); 3] = [
        (
            &[0.0, 2.0, -3.0, -2.5, 1.34, 0.5],
            &[153.0, 255.0, 0.0, 26.0, 221.0, 179.0],
            0.0196078438,
            153.0,
        ),
        (
            &[-1.0, -2.1, -1.3, -2.5, -3.34, -4.0],
            &[191.0, 121.0, 172.0, 96.0, 42.0, 0.0],
            0.0156862754,
            255.0,
        ),
        (
            &[1.0, 2.1, 1.3, 2.5, 3.34, 4.0],
            &[64.0, 134.0, 83.0, 159.0, 213.0, 255.0],
            0.0156862754,
            0.0,
        ),
    ];
    for (x, q, scale, zero) in cases {
        let got = run(Quant::Dynamic, &[&fp32(&[x.len()], x)]).unwrap();
        assert_eq!(Array::of(&got[0]).data, q);
        assert!((Array::of(&got[1]).data[0] - scale).abs() < 1e-8);
        assert_eq!(Array::of(&got[2]).data, [zero]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (x, w) = (fp32(&[2, 3], &[0.0; 6]), tensor(DType::Int8, &[4, 3], 2));
    let plain = Quant::Linear8 { bias: false, residual: false, activation: Activation::None };
    let cases: Vec<(Quant, Vec<&Tensor>, &str)> = vec![
        (plain, vec![&x, &w], "takes 3 operands, got 2"),
        (plain, vec![&x, &w, &x], "scales must be [4]"),
        (plain, vec![&x, &x, &x], "weight must be INT8, got FP32"),
        (Quant::MatMul { a_zero: false, b_zero: false }, vec![&w, &w], "a's columns (3)"),
        (Quant::MatMul { a_zero: false, b_zero: false }, vec![&x, &w], "a must be UINT8 or INT8"),
        (
            Quant::Quantize { to: DType::Int32, axis: 0, zero_point: false },
            vec![&x, &x],
            "the result must be",
        ),
        (
            Quant::Quantize { to: DType::Int8, axis: 0, zero_point: false },
            vec![&x, &x],
            "scale must be",
        ),
        (Quant::Dynamic, vec![&w], "x must be FP32"),
        (Quant::Weight4 { group: 32 }, vec![&x], "rows of 3 are not whole groups of 32"),
        (Quant::Weight4 { group: 0 }, vec![&x], "groups must be of 16"),
    ];
    for (quant, inputs, wanted) in cases {
        let text = run(quant, &inputs).unwrap_err().to_string();
        assert!(text.contains(wanted), "{quant:?}: {text}");
    }
}
