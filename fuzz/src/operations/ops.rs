//! Operations with any attributes.

use std::sync::Arc;

use innkeeper_kernels::{
    Activation, Aggregate, Attention, Binary, Branch, Cell, Compare, Conv, ConvTranspose,
    Coordinates, Curve, Depth, Draw, Index, Move, Nearest, Norm, Op, Order, Pad, PoolKind, Pooling,
    Post, Quant, Random, Recurrent, Reduce, Resize, Rope, Sample, Scatter, Test, TreeNode,
    TreeTest, TreeWeight, Trees, TreesSpec, Unary, Window,
};
use innkeeper_tensor::DType;

use super::training;
use crate::source::Source;

/// The next operation; `None` where attributes alone are refused.
pub(super) fn op(from: &mut Source<'_>) -> Option<Op> {
    Some(match from.byte() % 39 {
        0 => Op::Full { dtype: from.dtype(), shape: from.sizes(), value: from.number() },
        1 => Op::Arange {
            dtype: from.dtype(),
            start: from.number(),
            step: from.number(),
            count: from.size(),
        },
        2 => Op::Cast { to: from.dtype() },
        3 => Op::Reshape { shape: from.axes() },
        4 => Op::Transpose { permutation: from.sizes() },
        5 => Op::Slice { axis: from.axis(), start: from.axis(), end: from.axis() },
        6 => Op::Concat { axis: from.axis() },
        7 => Op::Gather { axis: from.axis() },
        8 => Op::Binary(binary(from)),
        9 => Op::Scalar { op: binary(from), value: from.number() },
        10 => Op::Compare(compare(from)),
        11 => Op::Select,
        12 => Op::Unary(unary(from)),
        13 => Op::Curve(curve(from)),
        14 => Op::Test(test(from)),
        15 => Op::Reduce { op: reduce(from), axes: from.axes(), keep_dims: from.flag() },
        16 => Op::ArgMax { axis: from.axis(), keep_dims: from.flag() },
        17 => Op::Softmax { axis: from.axis() },
        18 => Op::LogSoftmax { axis: from.axis() },
        19 => Op::MatMul,
        20 => Op::Linear { bias: from.flag(), residual: from.flag(), activation: activation(from) },
        21 | 22 => Op::Move(movement(from)),
        23 | 24 => Op::Index(index(from)),
        25 | 26 => Op::Order(order(from)),
        27 => Op::Norm(norm(from)),
        28 => Op::Attention(attention(from)),
        29 => Op::Rope(Rope {
            heads: from.size(),
            dims: from.size(),
            interleaved: from.flag(),
            positions: from.flag(),
        }),
        30 => Op::Conv(Conv {
            window: window(from),
            groups: from.size(),
            bias: from.flag(),
            residual: from.flag(),
            activation: activation(from),
        }),
        31 => Op::ConvTranspose(ConvTranspose {
            window: window(from),
            output_pads: from.sizes(),
            groups: from.size(),
            bias: from.flag(),
        }),
        32 => Op::Pool(Pooling { kind: pool(from), kernel: from.sizes(), window: window(from) }),
        33 => Op::Resize(resize(from)),
        34 => Op::Random(random(from)),
        35 => Op::Trees(Arc::new(Trees::new(&trees(from)).ok()?)),
        36 => Op::Quant(quant(from)),
        38 => Op::Recurrent(recurrent(from)),
        _ => training::op(from),
    })
}

fn binary(from: &mut Source<'_>) -> Binary {
    use Binary::*;
    from.pick(&[
        Add, Sub, Mul, Div, Pow, Maximum, Minimum, Mod, Fmod, Prelu, And, Or, Xor, BitAnd, BitOr,
        BitXor, ShiftLeft, ShiftRight,
    ])
}

fn compare(from: &mut Source<'_>) -> Compare {
    use Compare::*;
    from.pick(&[Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual])
}

fn unary(from: &mut Source<'_>) -> Unary {
    use Unary::*;
    from.pick(&[
        Neg, Abs, Exp, Ln, Sqrt, Tanh, Sigmoid, Relu, Gelu, Silu, GeluTanh, Floor, Ceil, Round,
        Sign, Reciprocal, Erf, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh,
        Softplus, Softsign, Mish, HardSwish, Not, BitNot,
    ])
}

fn curve(from: &mut Source<'_>) -> Curve {
    let (alpha, beta) = (from.number(), from.number());
    match from.byte() % 9 {
        0 => Curve::Elu { alpha },
        1 => Curve::Celu { alpha },
        2 => Curve::Selu { alpha, gamma: beta },
        3 => Curve::LeakyRelu { alpha },
        4 => Curve::ThresholdedRelu { alpha },
        5 => Curve::HardSigmoid { alpha, beta },
        6 => Curve::Swish { alpha },
        7 => Curve::Shrink { bias: alpha, lambda: beta },
        _ => Curve::Clip { min: from.flag().then_some(alpha), max: from.flag().then_some(beta) },
    }
}

fn test(from: &mut Source<'_>) -> Test {
    match from.flag() {
        true => Test::IsNan,
        false => Test::IsInf { negative: from.flag(), positive: from.flag() },
    }
}

fn reduce(from: &mut Source<'_>) -> Reduce {
    from.pick(&[Reduce::Sum, Reduce::Product, Reduce::Mean, Reduce::Max, Reduce::Min])
}

fn activation(from: &mut Source<'_>) -> Activation {
    use Activation::*;
    match from.byte() % 10 {
        0 => None,
        1 => Relu,
        2 => Gelu,
        3 => GeluTanh,
        4 => Silu,
        5 => Sigmoid,
        6 => Tanh,
        7 => HardSwish,
        8 => LeakyRelu(from.number() as f32),
        _ => Clip { min: from.number() as f32, max: from.number() as f32 },
    }
}

fn movement(from: &mut Source<'_>) -> Move {
    match from.byte() % 9 {
        0 => Move::Strided {
            axes: from.axes(),
            starts: from.axes(),
            ends: from.axes(),
            steps: from.axes(),
        },
        1 => Move::Split { axis: from.axis(), sizes: from.sizes() },
        2 => {
            let mode = match from.byte() % 4 {
                0 => Pad::Constant(from.number()),
                1 => Pad::Reflect,
                2 => Pad::Edge,
                _ => Pad::Wrap,
            };
            Move::Pad { mode, begins: from.axes(), ends: from.axes() }
        }
        3 => Move::Expand { shape: from.sizes() },
        4 => Move::Tile { repeats: from.sizes() },
        5 => Move::Trilu { upper: from.flag(), diagonal: from.axis() },
        6 => Move::SpaceToDepth { block: from.size() },
        7 => Move::DepthToSpace {
            block: from.size(),
            order: from.pick(&[Depth::DepthColumnRow, Depth::ColumnRowDepth]),
        },
        _ => Move::ReverseSequence { batch_axis: from.axis(), time_axis: from.axis() },
    }
}

fn index(from: &mut Source<'_>) -> Index {
    use Scatter::*;
    const ALL: [Scatter; 5] = [Replace, Add, Mul, Min, Max];
    match from.byte() % 8 {
        0 => Index::GatherElements { axis: from.axis() },
        1 => Index::GatherNd { batch_dims: from.size() },
        2 => Index::ScatterElements { axis: from.axis(), reduction: from.pick(&ALL) },
        3 => Index::ScatterNd { reduction: from.pick(&ALL) },
        4 => Index::OneHot { axis: from.axis(), depth: from.size() },
        5 => Index::NonZero,
        6 => Index::Compress { axis: from.flag().then(|| from.axis()) },
        _ => Index::Unique { sorted: from.flag() },
    }
}

fn order(from: &mut Source<'_>) -> Order {
    match from.byte() % 7 {
        0 => Order::Arg {
            smallest: from.flag(),
            last: from.flag(),
            axis: from.axis(),
            keep_dims: from.flag(),
        },
        1 => Order::CumSum { axis: from.axis(), exclusive: from.flag(), reverse: from.flag() },
        2 => Order::TopK { axis: from.axis(), k: from.size(), largest: from.flag() },
        3 => Order::Variance {
            axes: from.axes(),
            keep_dims: from.flag(),
            correction: from.size(),
            root: from.flag(),
        },
        4 => Order::Any { axes: from.axes(), keep_dims: from.flag() },
        5 => Order::All { axes: from.axes(), keep_dims: from.flag() },
        _ => Order::Eye {
            dtype: from.dtype(),
            rows: from.size(),
            columns: from.size(),
            diagonal: from.axis(),
        },
    }
}

fn norm(from: &mut Source<'_>) -> Norm {
    let epsilon = from.number();
    match from.byte() % 6 {
        0 => Norm::Layer {
            axis: from.axis(),
            epsilon,
            bias: from.flag(),
            residual: from.flag(),
            keep_sum: from.flag(),
        },
        1 => Norm::Rms { axis: from.axis(), epsilon, residual: from.flag(), keep_sum: from.flag() },
        2 => Norm::Batch { epsilon },
        3 => Norm::Group { groups: from.size(), epsilon },
        4 => Norm::Instance { epsilon },
        _ => Norm::Lp { axis: from.axis(), p: from.pick(&[1, 2, 0, 3, u32::MAX]) },
    }
}

fn attention(from: &mut Source<'_>) -> Attention {
    Attention {
        heads: from.size(),
        kv_heads: from.size(),
        scale: from.flag().then(|| from.number()),
        causal: from.flag(),
        mask: from.flag(),
        packed: from.rarely(4),
        heads_first: from.flag(),
    }
}

pub(super) fn window(from: &mut Source<'_>) -> Window {
    Window { strides: from.sizes(), pads: from.sizes(), dilations: from.sizes(), ceil: from.flag() }
}

fn pool(from: &mut Source<'_>) -> PoolKind {
    match from.byte() % 3 {
        0 => PoolKind::Max { indices: from.flag() },
        1 => PoolKind::Average { count_include_pad: from.flag() },
        _ => PoolKind::Lp { p: from.pick(&[2, 1, 3, 0, u32::MAX]) },
    }
}

fn resize(from: &mut Source<'_>) -> Resize {
    use Nearest::*;
    let mode = match from.byte() % 3 {
        0 => Sample::Nearest(from.pick(&[RoundPreferFloor, RoundPreferCeil, Floor, Ceil])),
        1 => Sample::Linear,
        _ => Sample::Cubic { a: from.number(), exclude_outside: from.flag() },
    };
    let coordinates = match from.byte() % 6 {
        0 => Coordinates::HalfPixel,
        1 => Coordinates::HalfPixelSymmetric,
        2 => Coordinates::PytorchHalfPixel,
        3 => Coordinates::AlignCorners,
        4 => Coordinates::Asymmetric,
        _ => {
            let parts = (0..from.byte() % 5).map(|_| (from.number(), from.number())).collect();
            Coordinates::Crop { parts, outside: from.number() }
        }
    };
    let scales = (0..from.byte() % 5).map(|_| from.number()).collect();
    Resize { sizes: from.sizes(), scales, mode, coordinates, antialias: from.flag() }
}

fn random(from: &mut Source<'_>) -> Random {
    let dtype = from.dtype();
    let draw = match from.byte() % 7 {
        0 => Draw::Uniform { dtype, shape: from.sizes(), low: from.number(), high: from.number() },
        1 => Draw::Normal {
            dtype,
            shape: from.sizes(),
            mean: from.number(),
            deviation: from.number(),
        },
        2 => Draw::Integers { dtype, shape: from.sizes(), low: from.axis(), high: from.axis() },
        3 => Draw::Bernoulli { dtype },
        4 => Draw::Permutation { count: from.size() },
        5 => Draw::Multinomial { dtype, samples: from.size() },
        _ => Draw::Dropout { ratio: from.number() },
    };
    Random { seed: from.word(), stream: from.word(), draw }
}

fn quant(from: &mut Source<'_>) -> Quant {
    const GROUPS: [usize; 8] = [16, 32, 64, 128, 256, 0, 1, usize::MAX];
    match from.byte() % 8 {
        0 => Quant::Dynamic,
        1 => Quant::Quantize {
            to: from.pick(&[DType::Uint8, DType::Int8, DType::Int32]),
            axis: from.axis(),
            zero_point: from.flag(),
        },
        2 => Quant::Dequantize { axis: from.axis(), zero_point: from.flag() },
        3 => Quant::MatMul { a_zero: from.flag(), b_zero: from.flag() },
        4 => Quant::Linear8 {
            bias: from.flag(),
            residual: from.flag(),
            activation: activation(from),
        },
        5 => Quant::Linear4 {
            group: from.pick(&GROUPS),
            bias: from.flag(),
            residual: from.flag(),
            activation: activation(from),
        },
        6 => Quant::Weight4 { group: from.pick(&GROUPS) },
        _ => Quant::Weight8,
    }
}

fn recurrent(from: &mut Source<'_>) -> Recurrent {
    let cells = [Cell::Rnn, Cell::Gru { after: false }, Cell::Gru { after: true }, Cell::Lstm];
    Recurrent {
        cell: from.pick(&cells),
        reverse: from.flag(),
        bias: from.flag(),
        peepholes: from.rarely(4),
        lengths: from.flag(),
        activations: [activation(from), activation(from), activation(from)],
    }
}

fn trees(from: &mut Source<'_>) -> TreesSpec {
    let near = |from: &mut Source<'_>| i64::from(from.byte() % 8);
    let nodes = (0..from.byte() % 16).map(|_| TreeNode {
        tree: i64::from(from.rarely(4)),
        node: near(from),
        branch: from.flag().then(|| Branch {
            feature: u32::from(from.byte() % 4),
            test: tree_test(from),
            value: from.number() as f32,
            yes: near(from),
            no: near(from),
            missing_is_yes: from.flag(),
        }),
    });
    let nodes = nodes.collect();
    let weights = (0..from.byte() % 16).map(|_| TreeWeight {
        tree: i64::from(from.rarely(4)),
        node: near(from),
        target: u32::from(from.byte() % 4),
        weight: from.number() as f32,
    });
    TreesSpec {
        nodes,
        weights: weights.collect(),
        targets: from.size(),
        aggregate: from.pick(&[Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max]),
        post: from.pick(&[
            Post::None,
            Post::Softmax,
            Post::SoftmaxZero,
            Post::Logistic,
            Post::Probit,
        ]),
        base: (0..from.byte() % 4).map(|_| from.number() as f32).collect(),
        labels: from.flag().then(|| (0..from.byte() % 4).map(i64::from).collect()),
    }
}

fn tree_test(from: &mut Source<'_>) -> TreeTest {
    use TreeTest::*;
    from.pick(&[LessOrEqual, Less, GreaterOrEqual, Greater, Equal, NotEqual])
}
