//! Convolution and pooling against their formulas.

use innkeeper_kernels::{
    Activation, Backend, Conv, ConvTranspose, Cpu, Op, OpError, PoolKind, Pooling, Run, Window,
};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, check_all_everywhere, indices};
use crate::values::{cases, tensor};

const FLOATS: [DType; 5] = [DType::Fp32, DType::Fp32, DType::Fp64, DType::Fp16, DType::Bf16];

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::Fp64 => 1e-11,
        DType::Fp32 => 1e-4,
        DType::Fp16 => 2e-2,
        _ => 2e-1,
    }
}

/// One spatial dimension: size, kernel, stride, dilation and pads.
#[derive(Debug, Clone, Copy)]
struct Way {
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
}

fn way(size_max: usize) -> impl Strategy<Value = Way> {
    (1..size_max, 1usize..4, 1usize..4, 1usize..3, 0usize..3, 0usize..3).prop_map(
        |(size, kernel, stride, dilation, before, after)| {
            let size = size.max((kernel - 1) * dilation + 1);
            Way { size, kernel, stride, dilation, before, after }
        },
    )
}

fn ways() -> impl Strategy<Value = Vec<Way>> {
    prop_oneof![
        1 => prop::collection::vec(way(70), 1..=1),
        3 => prop::collection::vec(way(24), 2..=2),
        1 => prop::collection::vec(way(5), 3..=3),
    ]
}

fn window(ways: &[Way], ceil: bool) -> Window {
    let before = ways.iter().map(|way| way.before);
    Window {
        strides: ways.iter().map(|way| way.stride).collect(),
        pads: before.chain(ways.iter().map(|way| way.after)).collect(),
        dilations: ways.iter().map(|way| way.dilation).collect(),
        ceil,
    }
}

fn outputs(ways: &[Way]) -> Vec<usize> {
    let of = |way: &Way| {
        let room = way.size + way.before + way.after - (way.kernel - 1) * way.dilation - 1;
        room / way.stride + 1
    };
    ways.iter().map(of).collect()
}

/// Where element `tap` of window `at` lies; `None` in the padding.
fn place(ways: &[Way], at: &[usize], tap: &[usize]) -> Option<Vec<usize>> {
    ways.iter()
        .zip(at.iter().zip(tap))
        .map(|(way, (at, tap))| {
            let place = (at * way.stride + tap * way.dilation).checked_sub(way.before)?;
            (place < way.size).then_some(place)
        })
        .collect()
}

fn relu6(x: f64) -> f64 {
    x.clamp(0.0, 6.0)
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn convolves(
        ways in ways(),
        batch in 0usize..3,
        groups in prop_oneof![3 => Just(1usize), 1 => 2usize..4],
        depth in prop_oneof![4 => 1usize..4, 1 => 10usize..20, 1 => 30usize..40],
        filters in prop_oneof![6 => 1usize..5, 4 => 10usize..30, 1 => 193usize..200],
        depthwise in prop_oneof![3 => Just(false), 1 => Just(true)],
        (bias, residual, activation) in (any::<bool>(), any::<bool>(), any::<bool>()),
        dtype in prop::sample::select(&FLOATS[..]),
        seed in any::<u64>(),
    ) {
        let (groups, depth, filters) =
            if depthwise { (groups * depth, 1, 1 + filters % 2) } else { (groups, depth, filters) };
        let sizes = ways.iter().map(|way| way.size);
        let (c, m) = (groups * depth, groups * filters);
        let of_x: Vec<usize> = [batch, c].into_iter().chain(sizes).collect();
        let kernel: Vec<usize> = ways.iter().map(|way| way.kernel).collect();
        let of_weight: Vec<usize> = [m, depth].into_iter().chain(kernel.iter().copied()).collect();
        let of_out: Vec<usize> = [batch, m].into_iter().chain(outputs(&ways)).collect();
        prop_assume!(of_out.iter().product::<usize>() * depth < 60_000);
        let x = tensor(dtype, &of_x, seed);
        let weight = tensor(dtype, &of_weight, seed ^ 0x33);
        let of_bias = tensor(dtype, &[m], seed ^ 0x44);
        let of_residual = tensor(dtype, &of_out, seed ^ 0x66);
        let [from, w, b, r] = [&x, &weight, &of_bias, &of_residual].map(Array::of);
        let taps = indices(&kernel);
        let wanted = Array::from_fn(&of_out, |index| {
            let mut sum = 0.0;
            for channel in 0..depth {
                for tap in &taps {
                    if let Some(at) = place(&ways, &index[2..], tap) {
                        let from_c = index[1] / filters * depth + channel;
                        let at: Vec<usize> = [index[0], from_c].into_iter().chain(at).collect();
                        let tap: Vec<usize> =
                            [index[1], channel].into_iter().chain(tap.iter().copied()).collect();
                        sum += from.at(&at) * w.at(&tap);
                    }
                }
            }
            if bias {
                sum += b.data[index[1]];
            }
            if residual {
                sum += r.at(index);
            }
            if activation { relu6(sum) } else { sum }
        });
        let op = Op::Conv(Conv {
            window: window(&ways, false),
            groups,
            bias,
            residual,
            activation: if activation { Activation::Clip { min: 0.0, max: 6.0 } } else { Activation::None },
        });
        let mut inputs = vec![&x, &weight];
        if bias {
            inputs.push(&of_bias);
        }
        if residual {
            inputs.push(&of_residual);
        }
        check_all_everywhere(&op, &inputs, dtype, &[wanted], tolerance(dtype));
    }

    #[test]
    fn is_transposed(
        ways in ways(),
        batch in 1usize..3,
        (groups, depth, filters) in (1usize..3, 1usize..4, 1usize..4),
        more in 0usize..2,
        bias in any::<bool>(),
        dtype in prop::sample::select(&FLOATS[..]),
        seed in any::<u64>(),
    ) {
        // Here x is the result's side of the ways.
        let ways: Vec<Way> = ways
            .into_iter()
            .map(|way| {
                let reach = (way.size - 1) * way.stride + (way.kernel - 1) * way.dilation + 1;
                Way { before: way.before.min(reach / 3), after: way.after.min(reach / 3), ..way }
            })
            .collect();
        let of_x: Vec<usize> =
            [batch, groups * depth].into_iter().chain(ways.iter().map(|way| way.size)).collect();
        let kernel: Vec<usize> = ways.iter().map(|way| way.kernel).collect();
        let of_weight: Vec<usize> =
            [groups * depth, filters].into_iter().chain(kernel.iter().copied()).collect();
        let results: Vec<usize> = ways
            .iter()
            .map(|way| {
                (way.size - 1) * way.stride + (way.kernel - 1) * way.dilation + 1 + more
                    - way.before - way.after
            })
            .collect();
        let of_out: Vec<usize> =
            [batch, groups * filters].into_iter().chain(results.iter().copied()).collect();
        prop_assume!(of_out.iter().product::<usize>() < 20_000);
        let x = tensor(dtype, &of_x, seed);
        let weight = tensor(dtype, &of_weight, seed ^ 0x33);
        let of_bias = tensor(dtype, &[groups * filters], seed ^ 0x44);
        let [from, w, b] = [&x, &weight, &of_bias].map(Array::of);
        let mut wanted = Array::from_fn(&of_out, |index| if bias { b.data[index[1]] } else { 0.0 });
        let reversed: Vec<Way> =
            ways.iter().zip(&results).map(|(way, &size)| Way { size, ..*way }).collect();
        for index in indices(&of_x) {
            for tap in indices(&kernel) {
                let Some(at) = place(&reversed, &index[2..], &tap) else { continue };
                for filter in 0..filters {
                    let m = index[1] / depth * filters + filter;
                    let to: Vec<usize> =
                        [index[0], m].into_iter().chain(at.iter().copied()).collect();
                    let of_tap: Vec<usize> =
                        [index[1], filter].into_iter().chain(tap.iter().copied()).collect();
                    let offset = to.iter().zip(&of_out).fold(0, |at, (i, dim)| at * dim + i);
                    wanted.data[offset] += from.at(&index) * w.at(&of_tap);
                }
            }
        }
        let op = Op::ConvTranspose(ConvTranspose {
            window: window(&ways, false),
            output_pads: vec![more; ways.len()],
            groups,
            bias,
        });
        let mut inputs = vec![&x, &weight];
        if bias {
            inputs.push(&of_bias);
        }
        check_all_everywhere(&op, &inputs, dtype, &[wanted], tolerance(dtype));
    }

    #[test]
    fn pools(
        ways in ways(),
        (batch, c) in (0usize..3, 1usize..4),
        kind in 0usize..4,
        dtype in prop::sample::select(&FLOATS[..]),
        global in prop_oneof![3 => Just(false), 1 => Just(true)],
        seed in any::<u64>(),
    ) {
        let ways: Vec<Way> = ways
            .into_iter()
            .map(|way| if global {
                Way { kernel: way.size, stride: 1, dilation: 1, before: 0, after: 0, ..way }
            } else {
                Way { before: way.before.min(way.kernel - 1), after: way.after.min(way.kernel - 1), ..way }
            })
            .collect();
        let of_x: Vec<usize> =
            [batch, c].into_iter().chain(ways.iter().map(|way| way.size)).collect();
        let of_out: Vec<usize> = [batch, c].into_iter().chain(outputs(&ways)).collect();
        let x = tensor(dtype, &of_x, seed);
        let from = Array::of(&x);
        let kernel: Vec<usize> = ways.iter().map(|way| way.kernel).collect();
        let taps = indices(&kernel);
        let values = |index: &[usize]| -> Vec<(f64, usize)> {
            taps.iter()
                .filter_map(|tap| place(&ways, &index[2..], tap))
                .map(|at| {
                    let at: Vec<usize> = index[..2].iter().copied().chain(at).collect();
                    let offset = at.iter().zip(&of_x).fold(0, |at, (i, dim)| at * dim + i);
                    (from.at(&at), offset)
                })
                .collect()
        };
        let largest = |index: &[usize]| {
            values(index).into_iter().fold((f64::NEG_INFINITY, -1.0), |best, (x, at)| {
                if x > best.0 { (x, at as f64) } else { best }
            })
        };
        let mean = |index: &[usize], padded: bool| {
            let values = values(index);
            let count = if padded { taps.len() } else { values.len() };
            values.iter().map(|(x, _)| x).sum::<f64>() / count as f64
        };
        let (kind, wanted) = match kind {
            0 => (PoolKind::Max { indices: false }, Array::from_fn(&of_out, |i| largest(i).0)),
            1 => (PoolKind::Average { count_include_pad: false }, Array::from_fn(&of_out, |i| mean(i, false))),
            2 => (PoolKind::Average { count_include_pad: true }, Array::from_fn(&of_out, |i| mean(i, true))),
            _ => (PoolKind::Lp { p: 2 }, Array::from_fn(&of_out, |i| {
                values(i).iter().map(|(x, _)| x * x).sum::<f64>().sqrt()
            })),
        };
        // Averages of windows in the padding alone are 0 / 0 or 0 in different libraries.
        prop_assume!(!wanted.data.iter().any(|x| x.is_nan() || x.is_infinite()) || dtype == DType::Fp32 && matches!(kind, PoolKind::Max { .. }));
        let kernel = if global { vec![] } else { kernel };
        let pooling = Pooling { kind, kernel, window: window(&ways, false) };
        let op = Op::Pool(pooling.clone());
        check_all_everywhere(&op, &[&x], dtype, &[wanted], tolerance(dtype));
        if let PoolKind::Max { .. } = kind {
            let op = Op::Pool(Pooling { kind: PoolKind::Max { indices: true }, ..pooling });
            let results = Cpu::new().run(&op, &[&x], &Run::new()).unwrap();
            let wanted = Array::from_fn(&of_out, |i| largest(i).1);
            prop_assert_eq!(results.len(), 2);
            prop_assert_eq!(Array::of(&results[1]), wanted);
        }
    }
}

fn any_sizes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![
        20 => 0usize..4,
        1 => prop::sample::select(&[usize::MAX, 1 << 62, 1 << 31, 100][..]),
    ];
    prop::collection::vec(size, count)
}

fn any_window() -> impl Strategy<Value = Window> {
    (any_sizes(0..3), any_sizes(0..6), any_sizes(0..3), any::<bool>())
        .prop_map(|(strides, pads, dilations, ceil)| Window { strides, pads, dilations, ceil })
}

proptest! {
    #![proptest_config(cases(8_000))]

    #[test]
    fn no_window_can_panic(
        window in any_window(),
        of_x in prop::collection::vec(0usize..5, 2..6),
        of_weight in prop::collection::vec(0usize..4, 2..6),
        (like, groups, kind) in (any::<bool>(), 0usize..3, 0usize..4),
        kernel in any_sizes(0..4),
        seed in any::<u64>(),
    ) {
        let mut of_weight = of_weight;
        if like {
            of_weight.resize(of_x.len(), 2);
            of_weight[1] = of_x[1] / groups.max(1);
        }
        let [x, weight] = [&of_x, &of_weight].map(|dims| tensor(DType::Fp32, dims, seed));
        let (bias, residual, activation) = (false, false, Activation::None);
        let conv = Op::Conv(Conv { window: window.clone(), groups, bias, residual, activation });
        let output_pads = kernel.clone();
        let transposed = ConvTranspose { window: window.clone(), output_pads, groups, bias };
        let kind = match kind {
            0 => PoolKind::Max { indices: true },
            1 => PoolKind::Average { count_include_pad: true },
            2 => PoolKind::Average { count_include_pad: false },
            _ => PoolKind::Lp { p: 3 },
        };
        let pool = Op::Pool(Pooling { kind, kernel, window });
        let both: [&Tensor; 2] = [&x, &weight];
        let cases = [(conv, &both[..]), (Op::ConvTranspose(transposed), &both), (pool, &both[..1])];
        for (op, inputs) in cases {
            let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
            prop_assert!(op.cost(&operands) > 0);
            // What would be large is for the caller to refuse.
            let small = op.outputs(&operands)
                .is_ok_and(|results| results.iter().all(|(_, shape)| shape.elements() < 1 << 16));
            if small {
                let _ = Cpu::new().run(&op, inputs, &Run::new());
            }
        }
    }
}

/// A window that is cut at the end, as PyTorch 2.15.0 does it.
#[test]
fn a_last_window_may_be_cut() {
    let x = Tensor::from_vec(&[1, 1, 6], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let window = Window { strides: vec![3], pads: vec![1, 1], dilations: vec![1], ceil: true };
    let pool = |kind| {
        let op = Op::Pool(Pooling { kind, kernel: vec![3], window: window.clone() });
        Cpu::new()
            .run(&op, &[&x], &Run::new())
            .unwrap()
            .remove(0)
            .elements::<f32>()
            .unwrap()
            .to_vec()
    };
    assert_eq!(pool(PoolKind::Max { indices: false }), [2.0, 5.0, 6.0]);
    assert_eq!(pool(PoolKind::Average { count_include_pad: true }), [1.0, 4.0, 3.0]);
    assert_eq!(pool(PoolKind::Average { count_include_pad: false }), [1.5, 4.0, 6.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let fp32 = |dims: &[usize]| tensor(DType::Fp32, dims, 0);
    let plain = Conv {
        window: Window::default(),
        groups: 1,
        bias: false,
        residual: false,
        activation: Activation::None,
    };
    let (x, weight) = (fp32(&[1, 4, 5, 5]), fp32(&[2, 4, 3, 3]));
    let (wide, grouped) = (fp32(&[2, 4, 6, 6]), fp32(&[2, 2, 3, 3]));
    let window = |strides: &[usize], pads: &[usize], ceil| Window {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        dilations: vec![],
        ceil,
    };
    let conv = |window: Window| Op::Conv(Conv { window, ..plain.clone() });
    let cases: [(Op, &[&Tensor], &str); 8] = [
        (Op::Conv(plain.clone()), &[&x], "takes 2 operands"),
        (Op::Conv(plain.clone()), &[&x, &grouped], "groups divide"),
        (Op::Conv(Conv { groups: 0, ..plain.clone() }), &[&x, &weight], "groups divide"),
        (Op::Conv(plain.clone()), &[&x, &wide], "windows"),
        (conv(window(&[0, 1], &[], false)), &[&x, &weight], "strides"),
        (conv(window(&[], &[1, 1], false)), &[&x, &weight], "pads"),
        (conv(window(&[], &[usize::MAX; 4], false)), &[&x, &weight], "windows"),
        (conv(window(&[], &[], true)), &[&x, &weight], "ceil"),
    ];
    for (op, inputs, text) in cases {
        match Cpu::new().run(&op, inputs, &Run::new()) {
            Err(OpError::InvalidArgument(error)) => assert!(error.contains(text), "{error}"),
            other => panic!("{op:?}: {other:?}"),
        }
    }
}
