//! Normalisation against its formulas.

use innkeeper_kernels::{Backend, Cpu, Norm, Op, OpError, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, check_all_everywhere};
use crate::values::{cases, dims, tensor};

const FLOATS: [DType; 4] = [DType::Fp32, DType::Fp64, DType::Fp16, DType::Bf16];

/// How far a result may be from the formula.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::Fp64 => 1e-12,
        DType::Fp32 => 2e-5,
        DType::Fp16 => 4e-3,
        _ => 3e-2,
    }
}

/// The elements of each line from `axis` on, normalised.
fn lines(x: &Array, len: usize, epsilon: f64, centred: bool) -> Array {
    let mut data = Vec::new();
    for line in x.data.chunks(len.max(1)) {
        let n = line.len() as f64;
        let mean = if centred { line.iter().sum::<f64>() / n } else { 0.0 };
        let variance = line.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        data.extend(line.iter().map(|x| (x - mean) / (variance + epsilon).sqrt()));
    }
    Array { dims: x.dims.clone(), data }
}

fn weighted(x: &Array, scale: &Array, bias: Option<&Array>) -> Array {
    let len = scale.data.len().max(1);
    let of = |i: usize| bias.map_or(0.0, |bias| bias.data[i % len]);
    let data = x.data.iter().enumerate().map(|(i, x)| x * scale.data[i % len] + of(i)).collect();
    Array { dims: x.dims.clone(), data }
}

fn sum(a: &Array, b: &Array) -> Array {
    let data = a.data.iter().zip(&b.data).map(|(a, b)| a + b).collect();
    Array { dims: a.dims.clone(), data }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn of_lines(
        dims in dims(1..=4),
        axis in 0usize..4,
        dtype in prop::sample::select(&FLOATS[..]),
        bias in any::<bool>(),
        residual in any::<bool>(),
        keep_sum in any::<bool>(),
        centred in any::<bool>(),
        from_end in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let axis = axis % dims.len();
        let bias = bias && centred;
        let x = tensor(dtype, &dims, seed);
        let added = tensor(dtype, &dims, seed ^ 0xabcd);
        let scale = tensor(dtype, &dims[axis..], seed ^ 0x1234);
        let more = tensor(dtype, &dims[axis..], seed ^ 0x4321);
        let mut inputs = vec![&x];
        if residual {
            inputs.push(&added);
        }
        inputs.push(&scale);
        if bias {
            inputs.push(&more);
        }
        let (rank, epsilon) = (dims.len() as i64, 1e-3);
        let signed = if from_end { axis as i64 - rank } else { axis as i64 };
        let norm = if centred {
            Norm::Layer { axis: signed, epsilon, bias, residual, keep_sum }
        } else {
            Norm::Rms { axis: signed, epsilon, residual, keep_sum }
        };
        let total = if residual { sum(&Array::of(&x), &Array::of(&added)) } else { Array::of(&x) };
        let len = dims[axis..].iter().product();
        let normal = lines(&total, len, epsilon, centred);
        let bias = bias.then(|| Array::of(&more));
        let mut wanted = vec![weighted(&normal, &Array::of(&scale), bias.as_ref())];
        if keep_sum {
            wanted.push(total);
        }
        check_all_everywhere(&Op::Norm(norm), &inputs, dtype, &wanted, 8.0 * tolerance(dtype));
    }

    #[test]
    fn of_channels(
        batch in 0usize..3,
        groups in 1usize..4,
        of_group in 1usize..4,
        spatial in dims(0..=2),
        kind in 0usize..3,
        dtype in prop::sample::select(&FLOATS[..]),
        seed in any::<u64>(),
    ) {
        let c = groups * of_group;
        let dims: Vec<usize> = [batch, c].into_iter().chain(spatial).collect();
        let plane: usize = dims[2..].iter().product();
        let x = tensor(dtype, &dims, seed);
        let [scale, bias, mean, spread] =
            [1u64, 2, 3, 4].map(|i| tensor(dtype, &[c], seed.wrapping_add(i * 77)));
        let variance = {
            let squares: Vec<f64> = Array::of(&spread).data.iter().map(|x| x * x + 0.5).collect();
            crate::values::of(dtype, &[c], &squares, false)
        };
        let epsilon = 1e-2;
        let channel = |i: usize| i / plane.max(1) % c;
        let from = Array::of(&x);
        let [scale_of, bias_of, mean_of, variance_of] =
            [&scale, &bias, &mean, &variance].map(Array::of);
        let (norm, inputs, normal) = match kind {
            0 => {
                let data = from.data.iter().enumerate().map(|(i, x)| {
                    let c = channel(i);
                    (x - mean_of.data[c]) / (variance_of.data[c] + epsilon).sqrt()
                });
                let normal = Array { dims: dims.clone(), data: data.collect() };
                (Norm::Batch { epsilon }, vec![&x, &scale, &bias, &mean, &variance], normal)
            }
            1 => {
                let normal = lines(&from, of_group * plane, epsilon, true);
                (Norm::Group { groups, epsilon }, vec![&x, &scale, &bias], normal)
            }
            _ => {
                let normal = lines(&from, plane, epsilon, true);
                (Norm::Instance { epsilon }, vec![&x, &scale, &bias], normal)
            }
        };
        let data = normal.data.iter().enumerate().map(|(i, x)| {
            x * scale_of.data[channel(i)] + bias_of.data[channel(i)]
        });
        let wanted = Array { dims, data: data.collect() };
        check_all_everywhere(&Op::Norm(norm), &inputs, dtype, &[wanted], 8.0 * tolerance(dtype));
    }

    #[test]
    fn by_a_norm(
        dims in dims(1..=3),
        axis in 0usize..3,
        p in 1u32..3,
        dtype in prop::sample::select(&FLOATS[..]),
        seed in any::<u64>(),
    ) {
        let axis = axis % dims.len();
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let wanted = Array::from_fn(&dims, |index| {
            let mut along = index.to_vec();
            let total: f64 = (0..dims[axis]).map(|i| {
                along[axis] = i;
                from.at(&along).abs().powi(p as i32)
            }).sum();
            from.at(index) / total.powf(1.0 / f64::from(p))
        });
        let op = Op::Norm(Norm::Lp { axis: axis as i64, p });
        check_all_everywhere(&op, &[&x], dtype, &[wanted], tolerance(dtype));
    }
}

#[test]
fn nothing_has_a_norm_of_zero() {
    let zeros = Tensor::from_vec(&[3], vec![0f32; 3]).unwrap();
    let op = Op::Norm(Norm::Lp { axis: 0, p: 2 });
    assert_eq!(Cpu::new().run_one(&op, &[&zeros], &Run::new()).unwrap(), zeros);
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = tensor(DType::Fp32, &[2, 6], 0);
    let [six, five] = [6usize, 5].map(|n| tensor(DType::Fp32, &[n], 0));
    let layer = |axis, bias, residual| {
        Op::Norm(Norm::Layer { axis, epsilon: 1e-5, bias, residual, keep_sum: false })
    };
    let cases: [(Op, &[&Tensor], &str); 8] = [
        (layer(1, false, false), &[], "operands"),
        (layer(1, true, false), &[&x, &six], "takes 3 operands"),
        (layer(1, false, false), &[&x, &five], "from the axis on"),
        (layer(2, false, false), &[&x, &six], "axis"),
        (layer(1, false, true), &[&x, &six, &six], "residual"),
        (Op::Norm(Norm::Group { groups: 4, epsilon: 0.0 }), &[&x, &six, &six], "do not divide"),
        (Op::Norm(Norm::Group { groups: 0, epsilon: 0.0 }), &[&x, &six, &six], "do not divide"),
        (Op::Norm(Norm::Lp { axis: 0, p: 3 }), &[&x], "p must be"),
    ];
    for (op, inputs, text) in cases {
        match Cpu::new().run(&op, inputs, &Run::new()) {
            Err(OpError::InvalidArgument(error)) => assert!(error.contains(text), "{error}"),
            other => panic!("{op:?}: {other:?}"),
        }
    }
}
