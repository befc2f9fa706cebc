//! Operations and operands that were put together without any thought.

use std::time::{Duration, Instant};

use innkeeper_kernels::{Binary, Compare, Curve, Op, Optim, Reduce, Test, Unary};
use innkeeper_kernels::{Coordinates, Draw, Nearest, Random, Resize, Sample};
use innkeeper_kernels::{Depth, Index, Move, Order, Pad, Scatter};
use innkeeper_tensor::{DType, Shape, Tensor};
use proptest::prelude::*;

use crate::functions::{COMPARE, UNARY};
use crate::oracle::{run, run_all};
use crate::values::{any_activation, cases, linear, tensor};

fn any_axis() -> impl Strategy<Value = i64> {
    prop_oneof![20 => -4i64..4, 1 => prop::sample::select(&[i64::MIN, i64::MAX, 16, -17][..])]
}

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 0usize..4, 1 => prop::sample::select(&[usize::MAX, 1 << 62][..])]
}

fn any_dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(&DType::ALL[..])
}

fn any_binary() -> impl Strategy<Value = Binary> {
    use Binary::*;
    let all = &[
        Add, Sub, Mul, Div, Pow, Maximum, Minimum, Mod, Fmod, Prelu, And, Or, Xor, BitAnd, BitOr,
        BitXor, ShiftLeft, ShiftRight,
    ];
    prop::sample::select(&all[..])
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), prop::num::f64::ANY, -3f64..3.0]
}

fn creation() -> impl Strategy<Value = Op> {
    let full = (any_dtype(), prop::collection::vec(any_size(), 0..5), any_number())
        .prop_map(|(dtype, shape, value)| Op::Full { dtype, shape, value });
    let arange = (any_dtype(), any_number(), any_number(), any_size())
        .prop_map(|(dtype, start, step, count)| Op::Arange { dtype, start, step, count });
    let cast = any_dtype().prop_map(|to| Op::Cast { to });
    prop_oneof![full, arange, cast]
}

fn movement() -> impl Strategy<Value = Op> {
    prop_oneof![
        prop::collection::vec(any_axis(), 0..5).prop_map(|shape| Op::Reshape { shape }),
        prop::collection::vec(any_size(), 0..4)
            .prop_map(|permutation| Op::Transpose { permutation }),
        (any_axis(), any_axis(), any_axis()).prop_map(|(axis, start, end)| Op::Slice {
            axis,
            start,
            end
        }),
        any_axis().prop_map(|axis| Op::Concat { axis }),
        any_axis().prop_map(|axis| Op::Gather { axis }),
    ]
}

fn arithmetic() -> impl Strategy<Value = Op> {
    let compare = prop::sample::select(&COMPARE[..]);
    let test = (any::<bool>(), any::<bool>())
        .prop_map(|(negative, positive)| Test::IsInf { negative, positive });
    prop_oneof![
        any_binary().prop_map(Op::Binary),
        (any_binary(), any_number()).prop_map(|(op, value)| Op::Scalar { op, value }),
        compare.prop_map(Op::Compare),
        Just(Op::Select),
        prop::sample::select(&UNARY[..]).prop_map(Op::Unary),
        any_curve().prop_map(Op::Curve),
        test.prop_map(Op::Test),
        Just(Op::Test(Test::IsNan)),
        Just(Op::MatMul),
        (any::<bool>(), any::<bool>(), any_activation())
            .prop_map(|(bias, residual, activation)| { Op::Linear { bias, residual, activation } }),
    ]
}

fn any_curve() -> impl Strategy<Value = Curve> {
    (any_number(), any_number(), 0usize..9).prop_map(|(alpha, beta, which)| match which {
        0 => Curve::Elu { alpha },
        1 => Curve::Celu { alpha },
        2 => Curve::Selu { alpha, gamma: beta },
        3 => Curve::LeakyRelu { alpha },
        4 => Curve::ThresholdedRelu { alpha },
        5 => Curve::HardSigmoid { alpha, beta },
        6 => Curve::Swish { alpha },
        7 => Curve::Shrink { bias: alpha, lambda: beta },
        _ => Curve::Clip { min: Some(alpha), max: (beta > 0.0).then_some(beta) },
    })
}

fn reduction() -> impl Strategy<Value = Op> {
    let reduce = prop::sample::select(&[Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min][..]);
    prop_oneof![
        (reduce, prop::collection::vec(any_axis(), 0..4), any::<bool>())
            .prop_map(|(op, axes, keep_dims)| Op::Reduce { op, axes, keep_dims }),
        (any_axis(), any::<bool>()).prop_map(|(axis, keep_dims)| Op::ArgMax { axis, keep_dims }),
        any_axis().prop_map(|axis| Op::Softmax { axis }),
        any_axis().prop_map(|axis| Op::LogSoftmax { axis }),
    ]
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any_size(), 0..4)
}

fn any_axes() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(any_axis(), 0..4)
}

fn any_move() -> impl Strategy<Value = Move> {
    let mode = prop_oneof![
        any_number().prop_map(Pad::Constant),
        prop::sample::select(&[Pad::Reflect, Pad::Edge, Pad::Wrap][..]),
    ];
    prop_oneof![
        (any_axes(), any_axes(), any_axes(), any_axes())
            .prop_map(|(axes, starts, ends, steps)| Move::Strided { axes, starts, ends, steps }),
        (any_axis(), any_sizes()).prop_map(|(axis, sizes)| Move::Split { axis, sizes }),
        (mode, any_axes(), any_axes()).prop_map(|(mode, begins, ends)| Move::Pad {
            mode,
            begins,
            ends
        }),
        any_sizes().prop_map(|shape| Move::Expand { shape }),
        any_sizes().prop_map(|repeats| Move::Tile { repeats }),
        (any::<bool>(), any_axis()).prop_map(|(upper, diagonal)| Move::Trilu { upper, diagonal }),
        any_size().prop_map(|block| Move::SpaceToDepth { block }),
        (any_size(), prop::sample::select(&[Depth::DepthColumnRow, Depth::ColumnRowDepth][..]))
            .prop_map(|(block, order)| Move::DepthToSpace { block, order }),
        (any_axis(), any_axis())
            .prop_map(|(batch_axis, time_axis)| Move::ReverseSequence { batch_axis, time_axis }),
    ]
}

fn any_index() -> impl Strategy<Value = Index> {
    use Scatter::*;
    let reduction = || prop::sample::select(&[Replace, Add, Mul, Min, Max][..]);
    prop_oneof![
        any_axis().prop_map(|axis| Index::GatherElements { axis }),
        any_size().prop_map(|batch_dims| Index::GatherNd { batch_dims }),
        (any_axis(), reduction())
            .prop_map(|(axis, reduction)| Index::ScatterElements { axis, reduction }),
        reduction().prop_map(|reduction| Index::ScatterNd { reduction }),
        (any_axis(), any_size()).prop_map(|(axis, depth)| Index::OneHot { axis, depth }),
        Just(Index::NonZero),
        prop::option::of(any_axis()).prop_map(|axis| Index::Compress { axis }),
        any::<bool>().prop_map(|sorted| Index::Unique { sorted }),
    ]
}

fn any_order() -> impl Strategy<Value = Order> {
    let flags = || (any::<bool>(), any::<bool>());
    prop_oneof![
        (any_axis(), flags(), any::<bool>()).prop_map(|(axis, (smallest, last), keep_dims)| {
            Order::Arg { smallest, last, axis, keep_dims }
        }),
        (any_axis(), flags()).prop_map(|(axis, (exclusive, reverse))| Order::CumSum {
            axis,
            exclusive,
            reverse
        }),
        (any_axis(), any_size(), any::<bool>()).prop_map(|(axis, k, largest)| Order::TopK {
            axis,
            k,
            largest
        }),
        (any_axes(), flags(), any_size()).prop_map(|(axes, (keep_dims, root), correction)| {
            Order::Variance { axes, keep_dims, correction, root }
        }),
        (any_axes(), any::<bool>()).prop_map(|(axes, keep_dims)| Order::Any { axes, keep_dims }),
        (any_axes(), any::<bool>()).prop_map(|(axes, keep_dims)| Order::All { axes, keep_dims }),
        (any_dtype(), any_size(), any_size(), any_axis()).prop_map(
            |(dtype, rows, columns, diagonal)| Order::Eye { dtype, rows, columns, diagonal }
        ),
    ]
}

fn any_random() -> impl Strategy<Value = Random> {
    let made = (any_dtype(), any_sizes(), any_number(), any_number());
    let draw = prop_oneof![
        made.prop_map(|(dtype, shape, low, high)| Draw::Uniform { dtype, shape, low, high }),
        (any_dtype(), any_sizes(), any_number(), any_number()).prop_map(
            |(dtype, shape, mean, deviation)| Draw::Normal { dtype, shape, mean, deviation }
        ),
        (any_dtype(), any_sizes(), any_axis(), any_axis())
            .prop_map(|(dtype, shape, low, high)| Draw::Integers { dtype, shape, low, high }),
        any_dtype().prop_map(|dtype| Draw::Bernoulli { dtype }),
        any_size().prop_map(|count| Draw::Permutation { count }),
        (any_dtype(), any_size()).prop_map(|(dtype, samples)| Draw::Multinomial { dtype, samples }),
        any_number().prop_map(|ratio| Draw::Dropout { ratio }),
    ];
    (any::<u64>(), any::<u64>(), draw).prop_map(|(seed, stream, draw)| Random {
        seed,
        stream,
        draw,
    })
}

fn any_resize() -> impl Strategy<Value = Resize> {
    let mode = (any_number(), any::<bool>(), 0usize..6).prop_map(|(a, flag, which)| match which {
        0 => Sample::Linear,
        1 => Sample::Cubic { a, exclude_outside: flag },
        2 => Sample::Nearest(Nearest::Floor),
        3 => Sample::Nearest(Nearest::Ceil),
        4 => Sample::Nearest(Nearest::RoundPreferCeil),
        _ => Sample::Nearest(Nearest::RoundPreferFloor),
    });
    let parts = prop::collection::vec((any_number(), any_number()), 0..4);
    let coordinates = (parts, any_number(), 0usize..6).prop_map(|(parts, outside, which)| {
        use Coordinates::*;
        match which {
            0 => HalfPixel,
            1 => HalfPixelSymmetric,
            2 => PytorchHalfPixel,
            3 => AlignCorners,
            4 => Asymmetric,
            _ => Crop { parts, outside },
        }
    });
    let scales = prop::collection::vec(any_number(), 0..4);
    (any_sizes(), scales, mode, coordinates, any::<bool>()).prop_map(
        |(sizes, scales, mode, coordinates, antialias)| Resize {
            sizes,
            scales,
            mode,
            coordinates,
            antialias,
        },
    )
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn anything_with_several_results(
        op in prop_oneof![
            any_move().prop_map(Op::Move),
            any_index().prop_map(Op::Index),
            any_order().prop_map(Op::Order),
            any_random().prop_map(Op::Random),
            any_resize().prop_map(Op::Resize),
        ],
        shapes in prop::collection::vec(prop::collection::vec(0usize..4, 0..4), 0..4),
        same: bool,
        // The second operand is mostly indices.
        dtypes in (any_dtype(), prop_oneof![3 => Just(DType::Int64), 1 => any_dtype()], any_dtype()),
        seed: u64,
    ) {
        let (first, second, third) = dtypes;
        let dtypes = [first, second, if same { first } else { third }];
        let tensors: Vec<Tensor> = shapes
            .iter()
            .zip(dtypes)
            .enumerate()
            .map(|(i, (dims, dtype))| {
                let dims = if same && i == 2 { &shapes[1] } else { dims };
                let x = tensor(dtype, dims, seed);
                // Small enough for some to be in range.
                let small: Vec<f64> = match dtype {
                    DType::Int64 => crate::oracle::Array::of(&x).data.iter().map(|x| x % 4.0).collect(),
                    _ => return x,
                };
                crate::values::of(dtype, dims, &small, seed % 2 == 1)
            })
            .collect();
        let operands: Vec<(DType, &Shape)> = tensors.iter().map(|x| (x.dtype(), x.shape())).collect();
        prop_assert!(op.cost(&operands) > 0);
        // What would be large is for the caller to refuse.
        let small = op.outputs(&operands)
            .is_ok_and(|results| results.iter().all(|(_, shape)| shape.elements() < 1 << 20));
        let borrowed: Vec<&Tensor> = tensors.iter().collect();
        if small {
            let _ = run_all(&op, &borrowed);
        }
    }

    #[test]
    fn anything(
        op in prop_oneof![creation(), movement(), arithmetic(), reduction()],
        shapes in prop::collection::vec(prop::collection::vec(0usize..4, 0..4), 0..4),
        // One dtype for all in most cases, or nothing would get past the check.
        dtypes in prop_oneof![
            3 => any_dtype().prop_map(|dtype| vec![dtype; 4]),
            1 => prop::collection::vec(any_dtype(), 4),
        ],
        seed: u64,
    ) {
        let tensors: Vec<Tensor> = shapes
            .iter()
            .zip(&dtypes)
            .map(|(dims, &dtype)| tensor(dtype, dims, seed))
            .collect();
        let operands: Vec<(DType, &Shape)> = tensors.iter().map(|x| (x.dtype(), x.shape())).collect();
        prop_assert!(op.cost(&operands) > 0);
        let borrowed: Vec<&Tensor> = tensors.iter().collect();
        let _ = run(&op, &borrowed);
    }
}

/// Without elements, no size may cost time.
#[test]
fn nothing_is_quick_however_large_it_is() {
    let huge = 1usize << 50;
    let shapes: [&[usize]; 4] = [&[huge, 0], &[0, huge], &[huge, 0, 8], &[0, 8, huge]];
    let ops = [
        Op::Transpose { permutation: vec![1, 0] },
        Op::Slice { axis: 1, start: 0, end: 9 },
        Op::Slice { axis: 0, start: 0, end: 9 },
        Op::Binary(Binary::Add),
        Op::Compare(Compare::Less),
        Op::Concat { axis: 0 },
        Op::Concat { axis: 1 },
        Op::Softmax { axis: 0 },
        Op::Softmax { axis: 1 },
        Op::Reduce { op: Reduce::Sum, axes: vec![], keep_dims: false },
        Op::Reduce { op: Reduce::Max, axes: vec![], keep_dims: false },
        Op::MatMul,
        linear(false),
    ];
    let start = Instant::now();
    for dims in shapes {
        let x = Tensor::from_vec::<f32>(dims, vec![]).unwrap();
        for op in &ops {
            for inputs in [&[&x][..], &[&x, &x]] {
                let said =
                    op.output(&inputs.iter().map(|x| (x.dtype(), x.shape())).collect::<Vec<_>>());
                // A result that is not empty is for the caller to refuse.
                if said.is_ok_and(|(_, shape)| shape.elements() <= 1) {
                    run(op, inputs).unwrap();
                }
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn costs_follow_the_work() {
    // Also what has no operands and no results is a call.
    let nothing = Optim::Sgd { lr: 1.0, momentum: 0.0, weight_decay: 0.0, nesterov: false };
    assert!(Op::Optim(nothing).cost(&[]) > 0);
    let none = Shape::new(&[0]).unwrap();
    assert!(Op::Move(Move::Split { axis: 0, sizes: vec![] }).cost(&[(DType::Fp32, &none)]) > 0);
    let [small, large] = [[4usize, 4], [64, 64]].map(|dims| Shape::new(&dims).unwrap());
    let pair = |op: &Op, shape: &Shape| op.cost(&[(DType::Fp32, shape), (DType::Fp32, shape)]);
    assert!(pair(&Op::MatMul, &large) >= 64 * 64 * 64);
    assert!(pair(&Op::MatMul, &large) > pair(&Op::Binary(Binary::Add), &large));
    assert!(pair(&Op::Binary(Binary::Add), &large) > pair(&Op::Binary(Binary::Add), &small));
    let one = |op: &Op| op.cost(&[(DType::Fp32, &large)]);
    assert!(one(&Op::Unary(Unary::Exp)) > one(&Op::Unary(Unary::Abs)));
    assert!(one(&Op::Reshape { shape: vec![-1] }) < one(&Op::Unary(Unary::Abs)));
    let deep = Shape::new(&[1 << 29, 1 << 29]).unwrap();
    let far = Op::MatMul.cost(&[(DType::Fp32, &deep), (DType::Fp32, &deep)]);
    assert_eq!(far, u64::MAX);
}
