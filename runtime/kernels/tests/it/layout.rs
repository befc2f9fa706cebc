//! Operations that only move elements.

use innkeeper_kernels::Op;
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, axis, check, run};
use crate::values::{cases, dims, fixed, of, tensor};

/// A list as Python would cut it.
fn python_slice(size: usize, start: i64, end: i64) -> Vec<usize> {
    let size = size as i64;
    let place =
        |position: i64| if position < 0 { (position + size).max(0) } else { position.min(size) };
    (0..size).filter(|&i| i >= place(start) && i < place(end)).map(|i| i as usize).collect()
}

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn transposed((dims, order) in dims(0..=5).prop_flat_map(|dims| {
        let order: Vec<usize> = (0..dims.len()).collect();
        (Just(dims), Just(order).prop_shuffle())
    }), dtype in fixed(), seed: u64) {
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let to: Vec<usize> = order.iter().map(|&i| dims[i]).collect();
        let expected = Array::from_fn(&to, |index| {
            let mut source = vec![0; dims.len()];
            index.iter().zip(&order).for_each(|(&i, &dim)| source[dim] = i);
            from.at(&source)
        });
        check(&Op::Transpose { permutation: order }, &[&x], dtype, &expected, 0.0);
    }

    #[test]
    fn sliced(dims in dims(1..=4), dtype in fixed(), seed: u64, at in -4i64..4, start in -8i64..8, end in -8i64..8) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let dim = axis(at, dims.len());
        let taken = python_slice(dims[dim], start, end);
        let mut to = dims.clone();
        to[dim] = taken.len();
        let expected = Array::from_fn(&to, |index| {
            let mut source = index.to_vec();
            source[dim] = taken[index[dim]];
            from.at(&source)
        });
        check(&Op::Slice { axis: at, start, end }, &[&x], dtype, &expected, 0.0);
    }

    #[test]
    fn joined(dims in dims(1..=4), sizes in prop::collection::vec(0usize..4, 1..6), dtype in fixed(), seed: u64, at in -4i64..4) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let dim = axis(at, dims.len());
        let parts: Vec<Tensor> = sizes.iter().enumerate().map(|(i, &size)| {
            let mut own = dims.clone();
            own[dim] = size;
            tensor(dtype, &own, seed.wrapping_add(i as u64))
        }).collect();
        let mut to = dims.clone();
        to[dim] = sizes.iter().sum();
        let arrays: Vec<Array> = parts.iter().map(Array::of).collect();
        let expected = Array::from_fn(&to, |index| {
            let mut source = index.to_vec();
            let mut part = 0;
            while source[dim] >= sizes[part] {
                source[dim] -= sizes[part];
                part += 1;
            }
            arrays[part].at(&source)
        });
        let parts: Vec<&Tensor> = parts.iter().collect();
        check(&Op::Concat { axis: at }, &parts, dtype, &expected, 0.0);
    }

    #[test]
    fn gathered(data in dims(1..=3), indices in dims(0..=2), dtype in fixed(), seed: u64, at in -3i64..3, long: bool) {
        prop_assume!(at < data.len() as i64 && at >= -(data.len() as i64));
        let dim = axis(at, data.len());
        let size = data[dim] as i64;
        prop_assume!(size > 0);
        let picks: Vec<f64> = (0..indices.iter().product::<usize>() as u64)
            .map(|i| ((seed.rotate_left(i as u32 * 7) % (2 * size as u64)) as i64 - size) as f64)
            .collect();
        let index_dtype = if long { DType::Int64 } else { DType::Int32 };
        let index_tensor = of(index_dtype, &indices, &picks, seed % 3 == 0);
        let x = tensor(dtype, &data, seed);
        let (from, picks) = (Array::of(&x), Array::of(&index_tensor));
        let to = [&data[..dim], &indices, &data[dim + 1..]].concat();
        let expected = Array::from_fn(&to, |index| {
            let pick = picks.at(&index[dim..dim + indices.len()]) as i64;
            let mut source = index[..dim].to_vec();
            source.push(axis(pick, data[dim]));
            source.extend(&index[dim + indices.len()..]);
            from.at(&source)
        });
        check(&Op::Gather { axis: at }, &[&x, &index_tensor], dtype, &expected, 0.0);
    }

    #[test]
    fn reshaped((dims, order) in dims(0..=4).prop_flat_map(|dims| {
        (Just(dims.clone()), Just(dims).prop_shuffle())
    }), open in 0usize..5, dtype in fixed(), seed: u64) {
        let x = tensor(dtype, &dims, seed);
        let mut shape: Vec<i64> = order.iter().map(|&dim| dim as i64).collect();
        if open < shape.len() && order.iter().enumerate().all(|(i, &dim)| i == open || dim > 0) {
            shape[open] = -1;
        }
        let expected = Array { dims: order, data: Array::of(&x).data };
        check(&Op::Reshape { shape }, &[&x], dtype, &expected, 0.0);
    }
}

#[test]
fn strings_reshape_and_share() {
    let x = Tensor::from_strings(&[2, 2], &["a", "bc", "", "d"]).unwrap();
    let y = run(&Op::Reshape { shape: vec![-1] }, &[&x]).unwrap();
    assert_eq!(y.shape().dims(), [4]);
    assert_eq!(y.as_bytes().as_ptr(), x.as_bytes().as_ptr());
}

#[test]
fn results_lie_aligned() {
    let x = of(DType::Fp64, &[3, 2], &[1.0; 6], true);
    for op in [Op::Transpose { permutation: vec![1, 0] }, Op::Slice { axis: 0, start: 1, end: 9 }] {
        let y = run(&op, &[&x]).unwrap();
        assert_eq!(y.as_bytes().as_ptr() as usize % 8, 0, "{op:?}");
    }
}
