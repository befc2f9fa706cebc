//! Sums, means, extremes, their places, and softmax.

use innkeeper_kernels::{Op, Reduce};
use innkeeper_tensor::DType;
use proptest::prelude::*;

use crate::oracle::{Array, axis, check, indices, rounded};
use crate::values::{cases, dims, dtype, float, tensor};

/// A shape and some of its axes, of either sign.
fn dims_and_axes() -> impl Strategy<Value = (Vec<usize>, Vec<i64>)> {
    (dims(0..=5), any::<u8>(), any::<u8>()).prop_map(|(dims, chosen, negative)| {
        let rank = dims.len() as i64;
        let axes = (0..rank)
            .filter(|i| chosen >> i & 1 == 1)
            .map(|i| if negative >> i & 1 == 1 { i - rank } else { i })
            .collect();
        (dims, axes)
    })
}

/// All elements that come to one result, for each result in order.
fn groups(x: &Array, axes: &[i64], keep_dims: bool) -> (Vec<usize>, Vec<Vec<f64>>) {
    let rank = x.dims.len();
    let mut gone = vec![axes.is_empty(); rank];
    axes.iter().for_each(|&at| gone[axis(at, rank)] = true);
    let kept: Vec<usize> = (0..rank).map(|i| if gone[i] { 1 } else { x.dims[i] }).collect();
    let reduced: Vec<usize> = (0..rank).map(|i| if gone[i] { x.dims[i] } else { 1 }).collect();
    let members = |index: &Vec<usize>| {
        let place =
            |other: &Vec<usize>| index.iter().zip(other).map(|(a, b)| a + b).collect::<Vec<_>>();
        indices(&reduced).iter().map(|other| x.at(&place(other))).collect()
    };
    let groups = indices(&kept).iter().map(members).collect();
    let shape = (0..rank).filter(|&i| keep_dims || !gone[i]).map(|i| kept[i]).collect();
    (shape, groups)
}

fn reduced(op: Reduce, group: &[f64]) -> f64 {
    match op {
        Reduce::Sum => group.iter().sum(),
        Reduce::Product => group.iter().product(),
        Reduce::Mean => group.iter().sum::<f64>() / group.len() as f64,
        Reduce::Max => group.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduce::Min => group.iter().copied().fold(f64::INFINITY, f64::min),
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn reductions((dims, axes) in dims_and_axes(), dtype in dtype(), keep_dims: bool, seed: u64, which in 0..4usize) {
        let op = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min][which];
        prop_assume!(op != Reduce::Mean || matches!(dtype, DType::Fp32 | DType::Fp64));
        let x = tensor(dtype, &dims, seed);
        let (shape, groups) = groups(&Array::of(&x), &axes, keep_dims);
        prop_assume!(matches!(op, Reduce::Sum | Reduce::Mean) || groups.iter().all(|group| !group.is_empty()));
        let data = groups.iter().map(|group| rounded(dtype, reduced(op, group))).collect();
        // FP64 is summed in another order; sums of the others are exact before they are rounded.
        let tolerance = if dtype.is_float() && dtype.size() >= Some(4) { 1e-7 } else { 0.0 };
        check(&Op::Reduce { op, axes, keep_dims }, &[&x], dtype, &Array { dims: shape, data }, tolerance);
    }

    #[test]
    fn places_of_the_largest(dims in dims(1..=4), at in -4i64..4, dtype in dtype(), keep_dims: bool, seed: u64) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        prop_assume!(dims[axis(at, dims.len())] > 0);
        let x = tensor(dtype, &dims, seed);
        let (shape, groups) = groups(&Array::of(&x), &[at], keep_dims);
        let data = groups.iter().map(|group| {
            let largest = reduced(Reduce::Max, group);
            group.iter().position(|&element| element == largest).unwrap() as f64
        }).collect();
        check(&Op::ArgMax { axis: at, keep_dims }, &[&x], DType::Int64, &Array { dims: shape, data }, 0.0);
    }

    #[test]
    fn softmaxes(dims in dims(1..=4), at in -4i64..4, dtype in float(), seed: u64, logarithm: bool) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let dim = axis(at, dims.len());
        let expected = Array::from_fn(&dims, |index| {
            let along = (0..dims[dim]).map(|i| {
                let mut other = index.to_vec();
                other[dim] = i;
                from.at(&other).exp()
            });
            let share = from.at(index).exp() / along.sum::<f64>();
            if logarithm { share.ln() } else { share }
        });
        let op = if logarithm { Op::LogSoftmax { axis: at } } else { Op::Softmax { axis: at } };
        let tolerance = if dtype == DType::Fp32 { 2e-6 } else { 1e-12 };
        check(&op, &[&x], dtype, &expected, tolerance);
    }
}

#[test]
fn long_sums_keep_their_digits() {
    let ones = Op::Full { dtype: DType::Fp32, shape: vec![1 << 20, 3], value: 0.1 };
    let x = crate::oracle::run(&ones, &[]).unwrap();
    for (axes, count) in [(vec![], 3u32 << 20), (vec![0], 1 << 20)] {
        let sum = Op::Reduce { op: Reduce::Sum, axes, keep_dims: false };
        let exact = f64::from(0.1f32) * f64::from(count);
        for got in Array::of(&crate::oracle::run(&sum, &[&x]).unwrap()).data {
            assert!((got - exact).abs() / exact < 1e-7, "{got} {exact}");
        }
    }
}
