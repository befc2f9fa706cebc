//! Picking, placing and ordering.

use innkeeper_kernels::{Index, Op, OpError, Order, Scatter};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, axis, check, indices, rounded, run, run_all};
use crate::values::{cases, dims, dtype, fixed, fp32, of, tensor};

/// Indices of that shape among `size` positions, of either sign.
fn random(dims: &[usize], size: usize, seed: u64, dtype: DType) -> Tensor {
    let picks: Vec<f64> = (0..dims.iter().product::<usize>() as u64)
        .map(|i| {
            let bits = (i + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            (bits % (2 * size as u64)) as f64 - size as f64
        })
        .collect();
    of(dtype, dims, &picks, seed.is_multiple_of(3))
}

fn index_dtype(seed: u64) -> DType {
    if seed & 4 == 0 { DType::Int64 } else { DType::Int32 }
}

fn combined(reduction: Scatter, dtype: DType, old: f64, new: f64) -> f64 {
    match reduction {
        Scatter::Replace => new,
        Scatter::Add => rounded(dtype, old + new),
        Scatter::Mul => rounded(dtype, old * new),
        Scatter::Min => old.min(new),
        Scatter::Max => old.max(new),
    }
}

fn offset(dims: &[usize], index: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (&i, &dim)| at * dim + i)
}

const SCATTERS: [Scatter; 5] =
    [Scatter::Replace, Scatter::Add, Scatter::Mul, Scatter::Min, Scatter::Max];

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn elements(data in dims(1..=4), shrink in prop::collection::vec(0usize..3, 4), len in 0usize..6, at in -4i64..4, dtype in fixed(), seed: u64, which in 0..6usize) {
        prop_assume!(at < data.len() as i64 && at >= -(data.len() as i64));
        let dim = axis(at, data.len());
        prop_assume!(data[dim] > 0);
        let mut by: Vec<usize> = data.iter().zip(&shrink).map(|(dim, less)| dim.saturating_sub(*less)).collect();
        by[dim] = len;
        let picks = random(&by, data[dim], seed, index_dtype(seed));
        let (x, chosen) = (tensor(dtype, &data, seed), Array::of(&picks));
        let mut from = Array::of(&x);
        let source = |index: &[usize]| {
            let mut source = index.to_vec();
            source[dim] = axis(chosen.at(index) as i64, data[dim]);
            source
        };
        if which == 5 {
            let expected = Array::from_fn(&by, |index| from.at(&source(index)));
            check(&Op::Index(Index::GatherElements { axis: at }), &[&x, &picks], dtype, &expected, 0.0);
        } else {
            let reduction = SCATTERS[which];
            prop_assume!(dtype != DType::Bool || reduction == Scatter::Replace);
            let updates = tensor(dtype, &by, seed >> 3);
            let new = Array::of(&updates);
            for index in indices(&by) {
                let place = offset(&data, &source(&index));
                from.data[place] = combined(reduction, dtype, from.data[place], new.at(&index));
            }
            prop_assume!(from.data.iter().all(|x| x.abs() < 2f64.powi(53)));
            check(&Op::Index(Index::ScatterElements { axis: at, reduction }), &[&x, &picks, &updates], dtype, &from, 0.0);
        }
    }

    #[test]
    fn rows(data in dims(1..=4), lead in prop::collection::vec(1usize..4, 0..3), m in 1usize..4, batch in 0usize..3, dtype in fixed(), seed: u64, which in 0..6usize) {
        let batch = if which == 5 { batch } else { 0 };
        prop_assume!(batch + m <= data.len() && data[batch..batch + m].iter().all(|&dim| dim > 0));
        let rows = [&data[..batch], &lead].concat();
        // Along each pointed dimension others.
        let columns: Vec<Array> = (0..m).map(|i| {
            Array::of(&random(&rows, data[batch + i], seed.wrapping_add(i as u64 * 77), DType::Int64))
        }).collect();
        let count: usize = rows.iter().product();
        let picks: Vec<f64> = (0..count).flat_map(|row| columns.iter().map(move |column| column.data[row])).collect();
        let picks = of(index_dtype(seed), &[&rows[..], &[m]].concat(), &picks, false);
        let tail = &data[batch + m..];
        let to = [&rows[..], tail].concat();
        let (x, mut from) = (tensor(dtype, &data, seed), Array::of(&tensor(dtype, &data, seed)));
        let source = |index: &[usize]| {
            let row = offset(&rows, &index[..rows.len()]);
            let mut source = index[..batch].to_vec();
            source.extend((0..m).map(|i| axis(columns[i].data[row] as i64, data[batch + i])));
            source.extend(&index[rows.len()..]);
            source
        };
        if which == 5 {
            let expected = Array::from_fn(&to, |index| from.at(&source(index)));
            check(&Op::Index(Index::GatherNd { batch_dims: batch }), &[&x, &picks], dtype, &expected, 0.0);
        } else {
            let reduction = SCATTERS[which];
            prop_assume!(dtype != DType::Bool || reduction == Scatter::Replace);
            let updates = tensor(dtype, &to, seed >> 3);
            let new = Array::of(&updates);
            for index in indices(&to) {
                let place = offset(&data, &source(&index));
                from.data[place] = combined(reduction, dtype, from.data[place], new.at(&index));
            }
            prop_assume!(from.data.iter().all(|x| x.abs() < 2f64.powi(53)));
            check(&Op::Index(Index::ScatterNd { reduction }), &[&x, &picks, &updates], dtype, &from, 0.0);
        }
    }

    #[test]
    fn one_hots(by in dims(0..=3), at in -4i64..4, depth in 0usize..6, dtype in fixed(), seed: u64) {
        let rank = by.len() as i64 + 1;
        prop_assume!(at < rank && at >= -rank);
        let dim = axis(at, rank as usize);
        // Some of them out of range.
        let picks = random(&by, depth + 1, seed, index_dtype(seed));
        let values = of(dtype, &[2], &[0.0, 1.0], false);
        let chosen = Array::of(&picks);
        let mut to = by.clone();
        to.insert(dim, depth);
        let expected = Array::from_fn(&to, |index| {
            let mut row = index.to_vec();
            let place = row.remove(dim) as i64;
            let pick = chosen.at(&row) as i64;
            f64::from(u8::from(pick == place || pick + depth as i64 == place))
        });
        check(&Op::Index(Index::OneHot { axis: at, depth }), &[&picks, &values], dtype, &expected, 0.0);
    }

    #[test]
    fn places_of_extremes(dims in dims(1..=4), at in -4i64..4, dtype in dtype(), keep_dims: bool, smallest: bool, last: bool, seed: u64) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let dim = axis(at, dims.len());
        prop_assume!(dims[dim] > 0);
        // Few different values, so that some are equal.
        let mut from = Array::of(&tensor(dtype, &dims, seed));
        from.data.iter_mut().for_each(|x| *x = (*x).abs().round() % 3.0);
        let x = of(dtype, &dims, &from.data, false);
        let mut to = dims.clone();
        to[dim] = 1;
        let mut expected = Array::from_fn(&to, |index| {
            let line: Vec<f64> = (0..dims[dim]).map(|i| {
                let mut source = index.to_vec();
                source[dim] = i;
                from.at(&source)
            }).collect();
            let best = line.iter().copied().fold(line[0], if smallest { f64::min } else { f64::max });
            let mut places = line.iter().enumerate().filter(|(_, x)| **x == best).map(|(i, _)| i as f64);
            if last { places.next_back().unwrap() } else { places.next().unwrap() }
        });
        if !keep_dims { expected.dims.remove(dim); }
        let op = Order::Arg { smallest, last, axis: at, keep_dims };
        check(&Op::Order(op), &[&x], DType::Int64, &expected, 0.0);
    }

    #[test]
    fn running_sums(dims in dims(1..=4), at in -4i64..4, dtype in dtype(), exclusive: bool, reverse: bool, seed: u64) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let dim = axis(at, dims.len());
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let expected = Array::from_fn(&dims, |index| {
            let here = index[dim];
            let range = match (exclusive, reverse) {
                (false, false) => 0..here + 1,
                (true, false) => 0..here,
                (false, true) => here..dims[dim],
                (true, true) => here + 1..dims[dim],
            };
            let sum: f64 = range.map(|i| {
                let mut source = index.to_vec();
                source[dim] = i;
                from.at(&source)
            }).sum();
            rounded(dtype, sum)
        });
        let tolerance = if dtype == DType::Fp64 { 1e-12 } else { 0.0 };
        check(&Op::Order(Order::CumSum { axis: at, exclusive, reverse }), &[&x], dtype, &expected, tolerance);
    }

    #[test]
    fn tops(dims in dims(1..=3), at in -3i64..3, k in 0usize..9, dtype in dtype(), largest: bool, few: bool, seed: u64) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let dim = axis(at, dims.len());
        let k = k.min(dims[dim]);
        let mut from = Array::of(&tensor(dtype, &dims, seed));
        if few { from.data.iter_mut().for_each(|x| *x = (*x).abs().round() % 3.0); }
        let x = of(dtype, &dims, &from.data, seed % 2 == 1);
        let from = Array::of(&x);
        let results = run_all(&Op::Order(Order::TopK { axis: at, k, largest }), &[&x]).unwrap();
        let mut to = dims.clone();
        to[dim] = k;
        let order = |index: &[usize]| {
            let along = |i: usize| {
                let mut source = index.to_vec();
                source[dim] = i;
                from.at(&source)
            };
            let mut order: Vec<usize> = (0..dims[dim]).collect();
            order.sort_by(|&a, &b| if largest { along(b).total_cmp(&along(a)) } else { along(a).total_cmp(&along(b)) });
            (along(order[index[dim]]), order[index[dim]])
        };
        prop_assert_eq!(Array::of(&results[0]), Array::from_fn(&to, |index| order(index).0));
        prop_assert_eq!(Array::of(&results[1]), Array::from_fn(&to, |index| order(index).1 as f64));
    }

    #[test]
    fn spreads(dims in dims(0..=4), chosen: u8, keep_dims: bool, correction in 0usize..3, root: bool, wide: bool, seed: u64) {
        let dtype = if wide { DType::Fp64 } else { DType::Fp32 };
        let axes: Vec<i64> = (0..dims.len() as i64).filter(|i| chosen >> i & 1 == 1).collect();
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let gone = |i: usize| axes.is_empty() || axes.contains(&(i as i64));
        let kept: Vec<usize> = (0..dims.len()).map(|i| if gone(i) { 1 } else { dims[i] }).collect();
        let reduced: Vec<usize> = (0..dims.len()).map(|i| if gone(i) { dims[i] } else { 1 }).collect();
        let mut expected = Array::from_fn(&kept, |index| {
            let group: Vec<f64> = indices(&reduced).iter()
                .map(|other| from.at(&index.iter().zip(other).map(|(a, b)| a + b).collect::<Vec<_>>())).collect();
            let n = group.len() as f64;
            let mean = group.iter().sum::<f64>() / n;
            let squares: f64 = group.iter().map(|x| (x - mean).powi(2)).sum();
            if n <= correction as f64 { return f64::NAN; }
            let variance = squares / (n - correction as f64);
            if root { variance.sqrt() } else { variance }
        });
        expected.dims = (0..dims.len()).filter(|&i| keep_dims || !gone(i)).map(|i| kept[i]).collect();
        check(&Op::Order(Order::Variance { axes, keep_dims, correction, root }), &[&x], dtype, &expected, 1e-6);
    }

    #[test]
    fn any_and_all(dims in dims(0..=4), chosen: u8, keep_dims: bool, any: bool, seed: u64, density in 1u64..6) {
        let axes: Vec<i64> = (0..dims.len() as i64).filter(|i| chosen >> i & 1 == 1).collect();
        let mut from = Array::of(&tensor(DType::Uint8, &dims, seed));
        from.data.iter_mut().for_each(|x| *x = f64::from(u8::from((*x as u64).is_multiple_of(density))));
        let x = of(DType::Bool, &dims, &from.data, false);
        let gone = |i: usize| axes.is_empty() || axes.contains(&(i as i64));
        let kept: Vec<usize> = (0..dims.len()).map(|i| if gone(i) { 1 } else { dims[i] }).collect();
        let reduced: Vec<usize> = (0..dims.len()).map(|i| if gone(i) { dims[i] } else { 1 }).collect();
        let mut expected = Array::from_fn(&kept, |index| {
            let mut group = indices(&reduced).into_iter()
                .map(|other| from.at(&index.iter().zip(&other).map(|(a, b)| a + b).collect::<Vec<_>>()) == 1.0);
            f64::from(u8::from(if any { group.any(|x| x) } else { group.all(|x| x) }))
        });
        expected.dims = (0..dims.len()).filter(|&i| keep_dims || !gone(i)).map(|i| kept[i]).collect();
        let op = if any { Order::Any { axes, keep_dims } } else { Order::All { axes, keep_dims } };
        check(&Op::Order(op), &[&x], DType::Bool, &expected, 0.0);
    }

    #[test]
    fn eyes(rows in 0usize..6, columns in 0usize..6, diagonal in -7i64..7, dtype in fixed()) {
        let expected = Array::from_fn(&[rows, columns], |i| f64::from(u8::from(i[1] as i64 - i[0] as i64 == diagonal)));
        check(&Op::Order(Order::Eye { dtype, rows, columns, diagonal }), &[], dtype, &expected, 0.0);
    }

    #[test]
    fn not_zero(dims in dims(0..=3), dtype in fixed(), seed: u64) {
        let mut from = Array::of(&tensor(dtype, &dims, seed));
        from.data.iter_mut().for_each(|x| *x = (*x).abs().round() % 2.0);
        let x = of(dtype, &dims, &from.data, false);
        let results = run_all(&Op::Index(Index::NonZero), &[&x]).unwrap();
        let places: Vec<Vec<usize>> = indices(&dims).into_iter().filter(|index| from.at(index) != 0.0).collect();
        prop_assert_eq!(Array::of(&results[1]).data, [places.len() as f64]);
        let expected = Array::from_fn(&[dims.len(), from.data.len()], |i| places.get(i[1]).map_or(0.0, |place| place[i[0]] as f64));
        prop_assert_eq!(Array::of(&results[0]), expected);
    }

    #[test]
    fn compressed(dims in dims(1..=3), at in -3i64..3, flat: bool, short in 0usize..3, dtype in fixed(), seed: u64) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let x = tensor(dtype, &dims, seed);
        let mut from = Array::of(&x);
        if flat { from.dims = vec![from.data.len()]; }
        let dim = if flat { 0 } else { axis(at, dims.len()) };
        let condition = tensor(DType::Bool, &[from.dims[dim].saturating_sub(short)], seed >> 2);
        let chosen: Vec<usize> = Array::of(&condition).data.iter().enumerate().filter(|(_, x)| **x == 1.0).map(|(i, _)| i).collect();
        let op = Op::Index(Index::Compress { axis: (!flat).then_some(at) });
        let results = run_all(&op, &[&x, &condition]).unwrap();
        let expected = Array::from_fn(&from.dims, |index| {
            let mut source = index.to_vec();
            let Some(&at) = chosen.get(index[dim]) else { return 0.0 };
            source[dim] = at;
            from.at(&source)
        });
        prop_assert_eq!(Array::of(&results[0]), expected);
        prop_assert_eq!(Array::of(&results[1]).data, [chosen.len() as f64]);
    }

    #[test]
    fn different_ones(dims in dims(0..=3), dtype in dtype(), sorted: bool, seed: u64) {
        let mut from = Array::of(&tensor(dtype, &dims, seed));
        from.data.iter_mut().for_each(|x| *x = (*x).abs().round() % 5.0);
        let x = of(dtype, &dims, &from.data, false);
        let results: Vec<Vec<f64>> =
            run_all(&Op::Index(Index::Unique { sorted }), &[&x]).unwrap().iter().map(|x| Array::of(x).data).collect();
        let mut values: Vec<f64> = vec![];
        from.data.iter().for_each(|x| if !values.contains(x) { values.push(*x) });
        if sorted { values.sort_by(f64::total_cmp); }
        let n = values.len();
        prop_assert_eq!(&results[4], &[n as f64]);
        prop_assert_eq!(&results[0][..n], &values);
        for (i, value) in values.iter().enumerate() {
            prop_assert_eq!(results[1][i], from.data.iter().position(|x| x == value).unwrap() as f64);
            prop_assert_eq!(results[3][i], from.data.iter().filter(|x| *x == value).count() as f64);
        }
        for (x, &group) in from.data.iter().zip(&results[2]) {
            prop_assert_eq!(*x, values[group as usize]);
        }
    }
}

#[test]
fn nans_are_the_largest() {
    const NAN: f32 = f32::NAN;
    let x = fp32(&[5], &[1.0, NAN, f32::INFINITY, NAN, 0.0]);
    let top = |largest| {
        let results = run_all(&Op::Order(Order::TopK { axis: 0, k: 5, largest }), &[&x]).unwrap();
        Array::of(&results[1]).data
    };
    assert_eq!(top(true), [1.0, 3.0, 2.0, 0.0, 4.0]);
    assert_eq!(top(false), [4.0, 0.0, 2.0, 1.0, 3.0]);
    for (smallest, last, expected) in
        [(false, false, 1.0), (false, true, 3.0), (true, false, 1.0), (true, true, 3.0)]
    {
        let op = Op::Order(Order::Arg { smallest, last, axis: 0, keep_dims: false });
        assert_eq!(Array::of(&run(&op, &[&x]).unwrap()).data, [expected]);
    }
    let unique = run_all(&Op::Index(Index::Unique { sorted: true }), &[&x]).unwrap();
    assert_eq!(Array::of(&unique[4]).data, [4.0]);
    assert_eq!(Array::of(&unique[3]).data, [1.0, 1.0, 1.0, 2.0, 0.0]);
}

#[test]
fn what_does_not_fit() {
    let x = of(DType::Fp32, &[2, 3], &[0.0; 6], false);
    let by = |dims: &[usize], index: f64| {
        let len = dims.iter().product();
        of(DType::Int64, dims, &vec![index; len], false)
    };
    let scatter = Op::Index(Index::ScatterNd { reduction: Scatter::Add });
    let cases: Vec<(Op, Vec<Tensor>, &str)> = vec![
        (
            Op::Index(Index::GatherElements { axis: 0 }),
            vec![x.clone(), by(&[1, 4], 0.0)],
            "no larger",
        ),
        (Op::Index(Index::GatherElements { axis: 0 }), vec![x.clone(), by(&[1], 0.0)], "no larger"),
        (
            Op::Index(Index::GatherElements { axis: 0 }),
            vec![x.clone(), by(&[1, 1], 2.0)],
            "index 2",
        ),
        (Op::Index(Index::GatherNd { batch_dims: 0 }), vec![x.clone(), by(&[1, 3], 0.0)], "[..,m]"),
        (Op::Index(Index::GatherNd { batch_dims: 0 }), vec![x.clone(), by(&[1, 0], 0.0)], "[..,m]"),
        (Op::Index(Index::GatherNd { batch_dims: 1 }), vec![x.clone(), by(&[3, 1], 0.0)], "[..,m]"),
        (Op::Index(Index::GatherNd { batch_dims: 0 }), vec![x.clone(), by(&[1], -3.0)], "index -3"),
        (scatter.clone(), vec![x.clone(), by(&[1, 1], 0.0), x.clone()], "updates must be [1,3]"),
        (scatter.clone(), vec![x.clone(), by(&[2, 1], 2.0), x.clone()], "index 2"),
        (Op::Index(Index::OneHot { axis: 0, depth: 2 }), vec![by(&[1], 0.0), x.clone()], "values"),
        (
            Op::Index(Index::OneHot { axis: 0, depth: usize::MAX }),
            vec![by(&[2], 0.0), of(DType::Fp32, &[2], &[0.0, 1.0], false)],
            "cannot exist",
        ),
        (Op::Order(Order::TopK { axis: 0, k: 3, largest: true }), vec![x.clone()], "k is 3"),
        (
            Op::Order(Order::CumSum { axis: 2, exclusive: false, reverse: false }),
            vec![x.clone()],
            "axis 2",
        ),
        (
            Op::Index(Index::Compress { axis: Some(0) }),
            vec![x.clone(), of(DType::Bool, &[3], &[1.0; 3], false)],
            "k at most 2",
        ),
        (
            Op::Order(Order::Eye { dtype: DType::Fp32, rows: usize::MAX, columns: 2, diagonal: 0 }),
            vec![],
            "cannot exist",
        ),
    ];
    for (op, inputs, wanted) in cases {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        match run_all(&op, &inputs) {
            Err(OpError::InvalidArgument(text)) => {
                assert!(text.contains(wanted) && text.starts_with(op.name()), "{text}");
            }
            other => panic!("{op:?}: {other:?}"),
        }
    }
}
