//! Operations that move or repeat elements.

use innkeeper_kernels::{Backend, Cpu, Depth, Move, Op, OpError, Pad, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, axis, check, run, run_all, same_on_threads};
use crate::values::{broadcastable, cases, dims, fixed, of, spread, tensor};

/// The positions that Python's `list[start:end:step]` takes.
fn python(size: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
    let size = size as i64;
    let at = |i: i64| if i < 0 { i + size } else { i };
    let (mut i, end) = (at(start), at(end));
    let mut taken = vec![];
    if step > 0 {
        i = i.max(0);
        while i < end.min(size) {
            taken.push(i as usize);
            i += step;
        }
    } else {
        i = i.min(size - 1);
        while i > end.max(-1) {
            taken.push(i as usize);
            i += step;
        }
    }
    taken
}

/// Where position `i` of a padded dimension comes from.
fn padded(mode: Pad, i: i64, size: i64) -> Option<usize> {
    if (0..size).contains(&i) {
        return Some(i as usize);
    }
    match mode {
        Pad::Constant(_) => None,
        Pad::Edge => Some(i.clamp(0, size - 1) as usize),
        Pad::Reflect => Some((if i < 0 { -i } else { 2 * (size - 1) - i }) as usize),
        Pad::Wrap => Some(i.rem_euclid(size) as usize),
    }
}

fn picked(x: &Array, dims: &[usize], from: impl Fn(&[usize]) -> Vec<usize>) -> Array {
    Array::from_fn(dims, |index| x.at(&from(index)))
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn sliced(dims in dims(1..=4), cuts in prop::collection::vec((-9i64..9, -12i64..12, -4i64..4), 4), dtype in fixed(), seed: u64, shared: bool) {
        let x = tensor(dtype, &dims, seed);
        let mut cuts = cuts[..dims.len()].to_vec();
        cuts.iter_mut().filter(|cut| cut.2 == 0).for_each(|cut| cut.2 = 1);
        let taken: Vec<Vec<usize>> =
            dims.iter().zip(&cuts).map(|(&size, &(start, end, step))| python(size, start, end, step)).collect();
        let to: Vec<usize> = taken.iter().map(Vec::len).collect();
        let expected = picked(&Array::of(&x), &to, |index| index.iter().zip(&taken).map(|(&i, taken)| taken[i]).collect());
        // The dimensions backwards, by their negative names.
        let back: Vec<_> = cuts.iter().rev().collect();
        let op = Op::Move(Move::Strided {
            axes: (1..=dims.len() as i64).map(|axis| -axis).collect(),
            starts: back.iter().map(|cut| cut.0).collect(),
            ends: back.iter().map(|cut| cut.1).collect(),
            steps: back.iter().map(|cut| cut.2).collect(),
        });
        if shared {
            let view = Cpu::new().run_one(&op, &[&x], &Run::new().sharing()).unwrap();
            prop_assert_eq!(Array::of(&view), expected);
        } else {
            check(&op, &[&x], dtype, &expected, 0.0);
        }
    }

    #[test]
    fn split(dims in dims(1..=4), at in -4i64..4, cuts in prop::collection::vec(0usize..40, 0..4), dtype in fixed(), seed: u64) {
        prop_assume!(at < dims.len() as i64 && at >= -(dims.len() as i64));
        let dim = axis(at, dims.len());
        let mut ends: Vec<usize> = cuts.iter().map(|&cut| cut.min(dims[dim])).chain([dims[dim]]).collect();
        ends.sort_unstable();
        let sizes: Vec<usize> = ends.iter().scan(0, |last, &end| Some(end - std::mem::replace(last, end))).collect();
        let x = tensor(dtype, &dims, seed);
        let parts = run_all(&Op::Move(Move::Split { axis: at, sizes: sizes.clone() }), &[&x]).unwrap();
        let from = Array::of(&x);
        for ((part, &size), &end) in parts.iter().zip(&sizes).zip(&ends) {
            let mut to = dims.clone();
            to[dim] = size;
            let expected = picked(&from, &to, |index| {
                let mut source = index.to_vec();
                source[dim] += end - size;
                source
            });
            prop_assert_eq!(&Array::of(part), &expected);
        }
    }

    #[test]
    fn pads(dims in dims(0..=3), pads in prop::collection::vec((-3i64..5, -3i64..5), 3), dtype in fixed(), seed: u64, mode in 0..4usize) {
        let mode = [Pad::Constant(3.0), Pad::Reflect, Pad::Edge, Pad::Wrap][mode];
        let pads = &pads[..dims.len()];
        let kept: Vec<i64> = dims.iter().zip(pads).map(|(&size, &(begin, end))| size as i64 + begin.min(0) + end.min(0)).collect();
        prop_assume!(kept.iter().all(|&kept| kept >= 0));
        let most = |kept: i64| match mode {
            Pad::Constant(_) => i64::MAX,
            Pad::Reflect => (kept - 1).max(0),
            Pad::Edge => if kept == 0 { 0 } else { i64::MAX },
            Pad::Wrap => kept,
        };
        prop_assume!(pads.iter().zip(&kept).all(|(pad, &kept)| pad.0.max(pad.1) <= most(kept)));
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let to: Vec<usize> = kept.iter().zip(pads).map(|(kept, pad)| (kept + pad.0.max(0) + pad.1.max(0)) as usize).collect();
        let fill = if dtype == DType::Bool { 1.0 } else { 3.0 };
        let expected = Array::from_fn(&to, |index| {
            let source: Option<Vec<usize>> = index.iter().enumerate().map(|(dim, &i)| {
                let at = padded(mode, i as i64 - pads[dim].0.max(0), kept[dim])?;
                Some(at + (-pads[dim].0).max(0) as usize)
            }).collect();
            source.map_or(fill, |source| from.at(&source))
        });
        let (begins, ends) = pads.iter().copied().unzip();
        check(&Op::Move(Move::Pad { mode, begins, ends }), &[&x], dtype, &expected, 0.0);
    }

    #[test]
    fn expanded([from, to] in broadcastable::<2>(), dtype in fixed(), seed: u64) {
        let x = tensor(dtype, &from, seed);
        let source = Array::of(&x);
        let expected = Array::from_fn(&spread(&[&from, &to]), |index| source.spread(index));
        check(&Op::Move(Move::Expand { shape: to }), &[&x], dtype, &expected, 0.0);
    }

    #[test]
    fn tiled(dims in dims(0..=4), repeats in prop::collection::vec(0usize..4, 4), dtype in fixed(), seed: u64) {
        let repeats = repeats[..dims.len()].to_vec();
        let x = tensor(dtype, &dims, seed);
        let to: Vec<usize> = dims.iter().zip(&repeats).map(|(dim, times)| dim * times).collect();
        let expected = picked(&Array::of(&x), &to, |index| index.iter().zip(&dims).map(|(i, dim)| i % dim).collect());
        check(&Op::Move(Move::Tile { repeats }), &[&x], dtype, &expected, 0.0);
    }

    #[test]
    fn triangles(dims in dims(2..=4), diagonal in -6i64..6, upper: bool, dtype in fixed(), seed: u64) {
        let x = tensor(dtype, &dims, seed);
        let from = Array::of(&x);
        let expected = Array::from_fn(&dims, |index| {
            let &[.., row, column] = index else { unreachable!() };
            let on = column as i64 - row as i64;
            if if upper { on >= diagonal } else { on <= diagonal } { from.at(index) } else { 0.0 }
        });
        check(&Op::Move(Move::Trilu { upper, diagonal }), &[&x], dtype, &expected, 0.0);
    }

    #[test]
    fn pixels(n in 0usize..3, c in 0usize..4, h in 1usize..4, w in 1usize..4, block in 1usize..4, crd: bool, dtype in fixed(), seed: u64) {
        let x = tensor(dtype, &[n, c * block * block, h, w], seed);
        let order = if crd { Depth::ColumnRowDepth } else { Depth::DepthColumnRow };
        let expected = picked(&Array::of(&x), &[n, c, h * block, w * block], |i| {
            let (row, column) = (i[2] % block, i[3] % block);
            let channel = if crd { (i[1] * block + row) * block + column } else { (row * block + column) * c + i[1] };
            vec![i[0], channel, i[2] / block, i[3] / block]
        });
        check(&Op::Move(Move::DepthToSpace { block, order }), &[&x], dtype, &expected, 0.0);
        if !crd {
            let wide = run(&Op::Move(Move::DepthToSpace { block, order }), &[&x]).unwrap();
            check(&Op::Move(Move::SpaceToDepth { block }), &[&wide], dtype, &Array::of(&x), 0.0);
        }
    }

    #[test]
    fn sequences(dims in dims(2..=4), axes in (0i64..4, 0i64..4), lengths in prop::collection::vec(0usize..40, 40), dtype in fixed(), seed: u64) {
        let (batch, time) = (axes.0 % dims.len() as i64, axes.1 % dims.len() as i64);
        prop_assume!(batch != time);
        let (b, t) = (batch as usize, time as usize);
        let lengths: Vec<usize> = lengths[..dims[b]].iter().map(|&length| length.min(dims[t])).collect();
        let numbers: Vec<f64> = lengths.iter().map(|&length| length as f64).collect();
        let x = tensor(dtype, &dims, seed);
        let expected = picked(&Array::of(&x), &dims, |index| {
            let mut source = index.to_vec();
            let length = lengths[index[b]];
            if index[t] < length { source[t] = length - 1 - index[t]; }
            source
        });
        let op = Op::Move(Move::ReverseSequence { batch_axis: batch, time_axis: time - dims.len() as i64 });
        check(&op, &[&x, &of(DType::Int64, &[dims[b]], &numbers, false)], dtype, &expected, 0.0);
    }
}

fn strided(axes: &[i64], starts: &[i64], ends: &[i64], steps: &[i64]) -> Op {
    let [axes, starts, ends, steps] = [axes, starts, ends, steps].map(<[i64]>::to_vec);
    Op::Move(Move::Strided { axes, starts, ends, steps })
}

#[test]
fn views_share_only_where_a_run_allows_it() {
    let x = of(DType::Fp32, &[4, 3], &[0.0; 12], false);
    let inside = |y: &Tensor| x.as_bytes().as_ptr_range().contains(&y.as_bytes().as_ptr());
    let rows = strided(&[0], &[1], &[3], &[]);
    let columns = strided(&[1], &[1], &[3], &[]);
    let one = strided(&[], &[2, 1], &[3, 3], &[]);
    for (op, shares) in [(&rows, true), (&columns, false), (&one, true)] {
        let shared = Cpu::new().run_one(op, &[&x], &Run::new().sharing()).unwrap();
        assert_eq!(inside(&shared), shares, "{op:?}");
        assert!(!inside(&run(op, &[&x]).unwrap()));
    }
    // Where they do not lie aligned they are copied.
    let x = of(DType::Fp32, &[4, 3], &[1.0; 12], true);
    let copy = Cpu::new().run_one(&rows, &[&x], &Run::new().sharing()).unwrap();
    assert_eq!(copy.as_bytes().as_ptr() as usize % 4, 0);
}

#[test]
fn long_ones_on_any_threads() {
    let x = tensor(DType::Fp32, &[7, 33, 5, 211], 2);
    for op in [
        strided(&[0, 1, 3], &[6, 1, 200], &[-99, 30, 3], &[-2, 1, -3]),
        Op::Move(Move::Pad {
            mode: Pad::Constant(1.0),
            begins: vec![1, 0, 2, 3],
            ends: vec![0, 1, 0, 9],
        }),
        Op::Move(Move::Tile { repeats: vec![1, 2, 1, 2] }),
        Op::Move(Move::Trilu { upper: true, diagonal: 1 }),
        Op::Move(Move::Expand { shape: vec![3, 7, 33, 5, 211] }),
        Op::Transpose { permutation: vec![0, 2, 3, 1] },
        Op::Transpose { permutation: vec![3, 1, 0, 2] },
        Op::Unary(innkeeper_kernels::Unary::Erf),
    ] {
        same_on_threads(&op, &[&x]);
    }
}

#[test]
fn edges() {
    let x = of(DType::Int64, &[4], &[0.0, 1.0, 2.0, 3.0], false);
    let (least, most) = (i64::MIN, i64::MAX);
    for (start, end, step, expected) in [
        (least, most, 1, &[0.0, 1.0, 2.0, 3.0][..]),
        (most, least, -1, &[3.0, 2.0, 1.0, 0.0]),
        (-1, -5, -2, &[3.0, 1.0]),
        (0, most, most, &[0.0]),
        (most, least, least, &[3.0]),
        (3, 1, 1, &[]),
    ] {
        let array = Array { dims: vec![expected.len()], data: expected.to_vec() };
        check(&strided(&[0], &[start], &[end], &[step]), &[&x], DType::Int64, &array, 0.0);
    }
}

#[test]
fn what_does_not_fit() {
    let x = of(DType::Fp32, &[2, 3], &[0.0; 6], false);
    let pad = |mode, begins: &[i64], ends: &[i64]| {
        Op::Move(Move::Pad { mode, begins: begins.to_vec(), ends: ends.to_vec() })
    };
    let cases = [
        (strided(&[0], &[0], &[1], &[0]), "step must not be 0"),
        (strided(&[0, 0], &[0, 0], &[1, 1], &[]), "twice"),
        (strided(&[2], &[0], &[1], &[]), "axis 2"),
        (strided(&[], &[0], &[], &[]), "equally many"),
        (Op::Move(Move::Split { axis: 0, sizes: vec![1] }), "add up to 2"),
        (Op::Move(Move::Split { axis: 0, sizes: vec![usize::MAX, 3] }), "add up to 2"),
        (Op::Move(Move::Split { axis: 0, sizes: vec![] }), "sizes"),
        (pad(Pad::Reflect, &[0, 3], &[0, 0]), "gives 2 more"),
        (pad(Pad::Wrap, &[0, 4], &[0, 0]), "gives 3 more"),
        (pad(Pad::Edge, &[0], &[0]), "2 dimensions to pad"),
        (pad(Pad::Edge, &[-1, 0], &[-2, 0]), "cut more"),
        (pad(Pad::Edge, &[i64::MIN, 0], &[0, 0]), "cut more"),
        (pad(Pad::Constant(0.0), &[i64::MAX, 0], &[i64::MAX, 0]), "cannot exist"),
        (Op::Move(Move::Expand { shape: vec![2] }), "do not broadcast"),
        (Op::Move(Move::Tile { repeats: vec![1] }), "takes 2 repeats"),
        (Op::Move(Move::Tile { repeats: vec![usize::MAX, 2] }), "cannot exist"),
        (Op::Move(Move::SpaceToDepth { block: 2 }), "takes [n,c,h,w]"),
        (
            Op::Move(Move::DepthToSpace { block: 0, order: Depth::DepthColumnRow }),
            "takes [n,c,h,w]",
        ),
    ];
    for (op, wanted) in cases {
        match run_all(&op, &[&x]) {
            Err(OpError::InvalidArgument(text)) => {
                assert!(text.contains(wanted) && text.starts_with(op.name()), "{text}");
            }
            other => panic!("{op:?}: {other:?}"),
        }
    }
    let lengths = of(DType::Int64, &[2], &[1.0, 4.0], false);
    let op = Op::Move(Move::ReverseSequence { batch_axis: 0, time_axis: 1 });
    assert!(run(&op, &[&x, &lengths]).unwrap_err().to_string().contains("length 4"));
}
