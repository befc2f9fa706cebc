//! Operations with operands, for holding a device against the processor. Tests on an emulated device and tests on a real
//! one both include this file, and give it the crate as `api`.

use super::api::{
    Activation, Attention, Binary, Compare, Conv, ConvTranspose, Curve, Grad, Loss, LossOf, Move,
    Norm, Op, Optim, Order, PoolKind, Pooling, Reduce, Reduction, Rope, Slope, Test, Unary, Window,
};
use innkeeper_tensor::{Buffer, DType, Shape, Tensor, bf16, f16};

/// An operation, its operands, and how far apart results may be, relative above 1 and absolute below.
pub(crate) struct Case {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) tolerance: f64,
}

/// Every dtype but BOOL and BYTES.
pub(crate) const NUMERIC: [DType; 12] = [
    DType::Uint8,
    DType::Uint16,
    DType::Uint32,
    DType::Uint64,
    DType::Int8,
    DType::Int16,
    DType::Int32,
    DType::Int64,
    DType::Fp16,
    DType::Bf16,
    DType::Fp32,
    DType::Fp64,
];

/// Numbers that `seed` decides.
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between -3 and 3 for floats, small integers else.
    pub(crate) fn tensor(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        let numbers: Vec<f64> = (0..count)
            .map(|_| match dtype.is_float() {
                true => self.below(6_000_000) as f64 / 1e6 - 3.0,
                false => self.below(90) as f64 - 45.0,
            })
            .collect();
        tensor(dtype, dims, &numbers)
    }

    /// None of them 0 or below.
    pub(crate) fn positive(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        let numbers: Vec<f64> = (0..count).map(|_| 1.0 + self.below(40) as f64 / 8.0).collect();
        tensor(dtype, dims, &numbers)
    }

    pub(crate) fn indices(&mut self, dtype: DType, dims: &[usize], end: usize) -> Tensor {
        let count: usize = dims.iter().product();
        let end = end as u64;
        let numbers: Vec<f64> =
            (0..count).map(|_| self.below(2 * end) as f64 - end as f64).collect();
        tensor(dtype, dims, &numbers)
    }
}

/// A tensor of these numbers.
pub(crate) fn tensor(dtype: DType, dims: &[usize], numbers: &[f64]) -> Tensor {
    let mut bytes = Vec::new();
    for &number in numbers {
        let whole = number as i64;
        match dtype {
            DType::Bool => bytes.push((whole & 1) as u8),
            DType::Uint8 | DType::Int8 => bytes.push(whole as u8),
            DType::Uint16 | DType::Int16 => bytes.extend((whole as u16).to_le_bytes()),
            DType::Uint32 | DType::Int32 => bytes.extend((whole as u32).to_le_bytes()),
            DType::Uint64 | DType::Int64 => bytes.extend(whole.to_le_bytes()),
            DType::Fp16 => bytes.extend(f16::from_f64(number).to_le_bytes()),
            DType::Bf16 => bytes.extend(bf16::from_f64(number).to_le_bytes()),
            DType::Fp32 => bytes.extend((number as f32).to_le_bytes()),
            DType::Fp64 => bytes.extend(number.to_le_bytes()),
            DType::Bytes => panic!("no BYTES here"),
        }
    }
    let data = Buffer::aligned_copy(&bytes);
    Tensor::new(dtype, Shape::new(dims).unwrap(), data).unwrap()
}

/// A tensor's elements as FP64.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    fn read<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.chunks(N).map(|chunk| f(chunk.try_into().unwrap())).collect()
    }
    let bytes = tensor.as_bytes();
    match tensor.dtype() {
        DType::Bool | DType::Uint8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        DType::Int8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        DType::Uint16 => read(bytes, |b| f64::from(u16::from_le_bytes(b))),
        DType::Int16 => read(bytes, |b| f64::from(i16::from_le_bytes(b))),
        DType::Uint32 => read(bytes, |b| f64::from(u32::from_le_bytes(b))),
        DType::Int32 => read(bytes, |b| f64::from(i32::from_le_bytes(b))),
        DType::Uint64 => read(bytes, |b| u64::from_le_bytes(b) as f64),
        DType::Int64 => read(bytes, |b| i64::from_le_bytes(b) as f64),
        DType::Fp16 => read(bytes, |b| f64::from(f16::from_le_bytes(b))),
        DType::Bf16 => read(bytes, |b| f64::from(bf16::from_le_bytes(b))),
        DType::Fp32 => read(bytes, |b| f64::from(f32::from_le_bytes(b))),
        DType::Fp64 => read(bytes, f64::from_le_bytes),
        DType::Bytes => panic!("no BYTES here"),
    }
}

/// What one rounding of the dtype may cost, and a little more for other ways to compute.
pub(crate) fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::Fp16 => 2e-3,
        DType::Bf16 => 1.6e-2,
        DType::Fp32 => 4e-6,
        DType::Fp64 => 1e-12,
        _ => 0.0,
    }
}

fn case(op: Op, inputs: Vec<Tensor>, tolerance: f64) -> Case {
    Case { op, inputs, tolerance }
}

/// Every case, for a device that runs each in no time.
#[allow(dead_code, reason = "tests on an emulated device take them family by family")]
pub(crate) fn all() -> Vec<Case> {
    let mut seed = Seed(5);
    let families = [elementwise, moves, reductions, products, networks, training];
    families.iter().flat_map(|family| family(&mut seed)).collect()
}

/// Shapes that broadcast, and among them whole vectors, single elements and odd ends.
const PAIRS: [(&[usize], &[usize]); 8] = [
    (&[64], &[64]),
    (&[3, 5], &[3, 5]),
    (&[], &[]),
    (&[2, 3, 16], &[16]),
    (&[7, 3, 32], &[3, 1]),
    (&[4, 1, 5], &[3, 1]),
    (&[1, 40], &[6, 1]),
    (&[0, 4], &[4]),
];

/// Elements at the same place.
pub(crate) fn elementwise(seed: &mut Seed) -> Vec<Case> {
    let mut all = Vec::new();
    let unary = [
        Unary::Neg,
        Unary::Abs,
        Unary::Exp,
        Unary::Sqrt,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Relu,
        Unary::Gelu,
        Unary::Silu,
        Unary::Ln,
    ];
    for op in unary {
        for dims in [&[40][..], &[3, 7], &[0]] {
            all.push(case(Op::Unary(op), vec![seed.positive(DType::Fp32, dims)], 4e-6));
        }
        if !matches!(op, Unary::Ln | Unary::Sqrt) {
            let input = seed.tensor(DType::Fp32, &[33]);
            all.push(case(Op::Unary(op), vec![input], 4e-6));
        }
    }
    all.push(case(Op::Unary(Unary::Gelu), vec![seed.tensor(DType::Fp64, &[10])], 1e-12));
    for dtype in [DType::Int8, DType::Int64] {
        all.push(case(Op::Unary(Unary::Neg), vec![seed.tensor(dtype, &[37])], 0.0));
    }
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Maximum, Binary::Minimum]
    {
        for (a, b) in PAIRS {
            let inputs = vec![seed.tensor(DType::Fp32, a), seed.positive(DType::Fp32, b)];
            all.push(case(Op::Binary(op), inputs, 4e-6));
        }
        for dtype in [DType::Int32, DType::Uint8] {
            let inputs = vec![seed.tensor(dtype, &[5, 16]), seed.positive(dtype, &[16])];
            all.push(case(Op::Binary(op), inputs, 0.0));
        }
    }
    for dtype in NUMERIC {
        let inputs = vec![seed.tensor(dtype, &[3, 32]), seed.tensor(dtype, &[3, 1])];
        all.push(case(Op::Binary(Binary::Mul), inputs, rounding(dtype)));
    }
    for op in [Binary::Mod, Binary::Fmod, Binary::Prelu] {
        for dtype in [DType::Fp32, DType::Int32] {
            let inputs = vec![seed.tensor(dtype, &[40]), seed.positive(dtype, &[40])];
            all.push(case(Op::Binary(op), inputs, 4e-6));
        }
    }
    for op in [Binary::BitXor, Binary::ShiftLeft, Binary::ShiftRight] {
        let inputs = vec![seed.positive(DType::Uint16, &[40]), seed.positive(DType::Uint16, &[1])];
        all.push(case(Op::Binary(op), inputs, 0.0));
    }
    let curves = [
        Curve::Elu { alpha: 0.7 },
        Curve::Celu { alpha: 1.3 },
        Curve::Selu { alpha: 1.6, gamma: 1.05 },
        Curve::LeakyRelu { alpha: 0.1 },
        Curve::ThresholdedRelu { alpha: 0.5 },
        Curve::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Curve::Swish { alpha: 1.5 },
        Curve::Shrink { bias: 0.5, lambda: 1.0 },
        Curve::Clip { min: Some(-1.0), max: None },
    ];
    for curve in curves {
        all.push(case(Op::Curve(curve), vec![seed.tensor(DType::Fp32, &[45])], 4e-6));
    }
    let clip = Op::Curve(Curve::Clip { min: Some(-3.5), max: Some(20.0) });
    all.push(case(clip, vec![seed.tensor(DType::Int8, &[48])], 0.0));
    let scalar = Op::Scalar { op: Binary::Mul, value: -2.5 };
    all.push(case(scalar, vec![seed.tensor(DType::Fp32, &[5, 5])], 4e-6));
    let scalar = Op::Scalar { op: Binary::Div, value: 7.0 };
    all.push(case(scalar, vec![seed.tensor(DType::Int16, &[40])], 0.0));
    for op in [Compare::Equal, Compare::Less, Compare::Greater] {
        for (a, b) in PAIRS {
            let inputs = vec![seed.tensor(DType::Int8, a), seed.tensor(DType::Int8, b)];
            all.push(case(Op::Compare(op), inputs, 0.0));
        }
    }
    let bools = vec![seed.tensor(DType::Bool, &[50]), seed.tensor(DType::Bool, &[50])];
    all.push(case(Op::Compare(Compare::Equal), bools, 0.0));
    let special = [f64::NAN, f64::INFINITY, -f64::INFINITY, -0.0, 0.0, 1e30, -1e-40, 2.0];
    let odd = tensor(DType::Fp32, &[8], &special);
    let mut turned = special;
    turned.rotate_left(3);
    let other = tensor(DType::Fp32, &[8], &turned);
    for op in [Binary::Maximum, Binary::Minimum, Binary::Div, Binary::Add] {
        all.push(case(Op::Binary(op), vec![odd.clone(), other.clone()], 0.0));
    }
    for op in [Compare::Equal, Compare::Less] {
        all.push(case(Op::Compare(op), vec![odd.clone(), other.clone()], 0.0));
    }
    let both = Test::IsInf { negative: true, positive: true };
    for test in [Test::IsNan, both, Test::IsInf { negative: true, positive: false }] {
        all.push(case(Op::Test(test), vec![odd.clone()], 0.0));
    }
    for op in [Unary::Relu, Unary::Sigmoid, Unary::Tanh, Unary::Gelu] {
        all.push(case(Op::Unary(op), vec![odd.clone()], 4e-6));
    }
    all
}

/// What moves, converts and makes elements.
pub(crate) fn moves(seed: &mut Seed) -> Vec<Case> {
    let mut all = Vec::new();
    let numbers = [
        0.0,
        1.0,
        -1.0,
        0.5,
        -2.75,
        127.5,
        128.0,
        255.9,
        -129.0,
        65504.0,
        65520.0,
        1e10,
        -1e10,
        3e38,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1.000_488_281_25,
        1.000_488_281_26,
        6e-8,
        2e-8,
    ];
    for from in NUMERIC {
        let x = if from.is_float() {
            tensor(from, &[numbers.len()], &numbers)
        } else {
            let wide = [
                0.0,
                1.0,
                -1.0,
                127.0,
                128.0,
                255.0,
                2049.0,
                16_777_217.0,
                9.007_199_254_740_993e15,
                -3e9,
            ];
            tensor(from, &[wide.len()], &wide)
        };
        for to in [DType::Uint8, DType::Int64, DType::Fp16, DType::Fp32, DType::Bool] {
            all.push(case(Op::Cast { to }, vec![x.clone()], 0.0));
        }
    }
    for to in [DType::Bf16, DType::Uint64, DType::Int8, DType::Fp64] {
        for from in [DType::Fp64, DType::Int64] {
            all.push(case(Op::Cast { to }, vec![seed.tensor(from, &[40])], 0.0));
        }
    }
    all.push(case(Op::Cast { to: DType::Fp16 }, vec![seed.tensor(DType::Bool, &[9])], 0.0));
    for (dtype, value) in
        [(DType::Fp32, 2.5), (DType::Int8, -3.0), (DType::Bool, 1.0), (DType::Fp64, 0.0)]
    {
        all.push(case(Op::Full { dtype, shape: vec![3, 17], value }, vec![], 0.0));
        if dtype != DType::Bool {
            all.push(case(Op::Arange { dtype, start: -2.0, step: 0.75, count: 21 }, vec![], 0.0));
        }
    }
    for (dims, permutation) in [
        (&[5, 7][..], &[1, 0][..]),
        (&[70, 33], &[1, 0]),
        (&[2, 40, 36], &[0, 2, 1]),
        (&[2, 3, 4, 8], &[0, 2, 1, 3]),
        (&[2, 3, 4, 5], &[3, 1, 0, 2]),
        (&[1, 6, 1], &[2, 0, 1]),
        (&[3, 0, 2], &[2, 1, 0]),
    ] {
        for dtype in [DType::Uint8, DType::Fp16, DType::Fp32, DType::Int64] {
            let op = Op::Transpose { permutation: permutation.to_vec() };
            all.push(case(op, vec![seed.tensor(dtype, dims)], 0.0));
        }
    }
    for (axis, start, end) in [(0, 1, 3), (1, 4, 20), (-1, -7, i64::MAX), (1, 5, 5), (0, 0, 99)] {
        let x = seed.tensor(DType::Fp32, &[4, 24, 9]);
        all.push(case(Op::Slice { axis, start, end }, vec![x], 0.0));
    }
    for (axis, lengths) in [(0, [2, 1, 5]), (1, [4, 8, 4]), (-1, [3, 0, 2])] {
        let dims = |len: usize| {
            let mut dims = [3, 4, 8];
            dims[if axis < 0 { 2 } else { axis as usize }] = len;
            dims
        };
        let parts = lengths.map(|len| seed.tensor(DType::Int16, &dims(len))).to_vec();
        all.push(case(Op::Concat { axis }, parts, 0.0));
    }
    for (axis, data, indices) in
        [(0, &[7, 16][..], &[3, 2][..]), (1, &[3, 5, 3], &[4]), (-1, &[2, 9], &[]), (0, &[4], &[0])]
    {
        for dtype in [DType::Int32, DType::Int64] {
            let size = data[if axis < 0 { data.len() - 1 } else { axis as usize }];
            let inputs = vec![seed.tensor(DType::Fp32, data), seed.indices(dtype, indices, size)];
            all.push(case(Op::Gather { axis }, inputs, 0.0));
        }
    }
    for (a, b) in PAIRS {
        for dtype in [DType::Fp32, DType::Uint8] {
            let inputs =
                vec![seed.tensor(DType::Bool, a), seed.tensor(dtype, a), seed.tensor(dtype, b)];
            all.push(case(Op::Select, inputs, 0.0));
        }
    }
    let x = seed.tensor(DType::Fp32, &[2, 6]);
    all.push(case(Op::Reshape { shape: vec![3, -1] }, vec![x], 0.0));
    all
}

/// Reductions, softmax and their like.
pub(crate) fn reductions(seed: &mut Seed) -> Vec<Case> {
    let mut all = Vec::new();
    for op in [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min] {
        for (dims, axes) in [
            (&[6, 50][..], &[1][..]),
            (&[6, 50], &[0]),
            (&[3, 4, 5], &[0, 2]),
            (&[3, 4, 5], &[]),
            (&[2, 5000], &[1]),
            (&[700, 3], &[0]),
            (&[], &[]),
            (&[2, 1, 9], &[1, 2]),
        ] {
            let op = Op::Reduce { op, axes: axes.to_vec(), keep_dims: axes.len() == 1 };
            all.push(case(op, vec![seed.tensor(DType::Fp32, dims)], 2e-6));
        }
    }
    for dtype in NUMERIC {
        let op = Op::Reduce { op: Reduce::Sum, axes: vec![-1], keep_dims: false };
        all.push(case(op, vec![seed.tensor(dtype, &[3, 70])], rounding(dtype)));
        let op = Op::Reduce { op: Reduce::Max, axes: vec![0], keep_dims: true };
        all.push(case(op, vec![seed.tensor(dtype, &[9, 5])], 0.0));
    }
    let empty = Op::Reduce { op: Reduce::Sum, axes: vec![1], keep_dims: false };
    all.push(case(empty, vec![seed.tensor(DType::Fp32, &[4, 0])], 0.0));
    for (dims, axis) in [(&[4, 33][..], 1), (&[5, 3, 4], 1), (&[300], 0), (&[2, 2, 2], -1)] {
        for dtype in [DType::Fp32, DType::Int8] {
            let op = Op::ArgMax { axis, keep_dims: false };
            all.push(case(op, vec![seed.tensor(dtype, dims)], 0.0));
        }
        for op in [Op::Softmax { axis }, Op::LogSoftmax { axis }] {
            all.push(case(op, vec![seed.tensor(DType::Fp32, dims)], 4e-6));
        }
    }
    let wide = seed.tensor(DType::Fp32, &[2, 9000]);
    all.push(case(Op::Softmax { axis: -1 }, vec![wide], 4e-6));
    all.push(case(Op::LogSoftmax { axis: 0 }, vec![seed.tensor(DType::Fp64, &[40, 3])], 1e-12));
    let odd = [1.0, f64::NAN, 3.0, 3.0, f64::NAN, f64::INFINITY];
    let odd = tensor(DType::Fp32, &[6], &odd);
    all.push(case(Op::ArgMax { axis: 0, keep_dims: false }, vec![odd.clone()], 0.0));
    let max = Op::Reduce { op: Reduce::Max, axes: vec![], keep_dims: false };
    all.push(case(max, vec![odd], 0.0));
    all
}

/// Products.
pub(crate) fn products(seed: &mut Seed) -> Vec<Case> {
    let mut all = Vec::new();
    for (a, b) in [
        (&[5, 7][..], &[7, 3][..]),
        (&[70, 40], &[40, 66]),
        (&[3, 4, 5], &[3, 5, 6]),
        (&[2, 3, 4, 5], &[5, 2]),
        (&[4, 5], &[2, 3, 5, 6]),
        (&[2, 1, 3, 4], &[3, 4, 2]),
        (&[2, 3, 1, 1], &[2, 1, 1, 4]),
        (&[6], &[6]),
        (&[6], &[6, 2]),
        (&[2, 6], &[6]),
        (&[3, 0], &[0, 2]),
        (&[0, 3], &[3, 2]),
    ] {
        for dtype in [DType::Fp32, DType::Fp64] {
            let inputs = vec![seed.tensor(dtype, a), seed.tensor(dtype, b)];
            all.push(case(Op::MatMul, inputs, rounding(dtype) * 8.0));
        }
    }
    let activations = [
        Activation::None,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::HardSwish,
        Activation::LeakyRelu(0.1),
        Activation::Clip { min: -0.5, max: 2.0 },
    ];
    for (i, activation) in activations.into_iter().enumerate() {
        let (bias, residual) = (i % 2 == 0, i % 3 == 0);
        let mut inputs =
            vec![seed.tensor(DType::Fp32, &[2, 9, 33]), seed.tensor(DType::Fp32, &[17, 33])];
        inputs.extend(bias.then(|| seed.tensor(DType::Fp32, &[17])));
        inputs.extend(residual.then(|| seed.tensor(DType::Fp32, &[2, 9, 17])));
        all.push(case(Op::Linear { bias, residual, activation }, inputs, 4e-5));
    }
    all
}

/// Derivatives, losses and optimisers' steps.
pub(crate) fn training(seed: &mut Seed) -> Vec<Case> {
    let f32s = DType::Fp32;
    let mut all = Vec::new();
    let slopes =
        [Slope::Relu, Slope::Gelu, Slope::GeluTanh, Slope::Silu, Slope::Sigmoid, Slope::Tanh];
    for slope in slopes {
        let inputs = vec![seed.tensor(f32s, &[41]), seed.tensor(f32s, &[41])];
        all.push(case(Op::Grad(Grad::Slope(slope)), inputs, 1e-5));
    }
    for (dims, axis) in [(&[4, 33][..], 1), (&[5, 3, 4], 1)] {
        for grad in [Grad::Softmax { axis }, Grad::LogSoftmax { axis }] {
            let inputs = vec![seed.tensor(f32s, dims), seed.tensor(f32s, dims)];
            all.push(case(Op::Grad(grad), inputs, 2e-5));
        }
    }
    for bias in [true, false] {
        let inputs = vec![
            seed.tensor(f32s, &[3, 5, 40]),
            seed.tensor(f32s, &[3, 5, 40]),
            seed.tensor(f32s, &[40]),
        ];
        let layer = Grad::LayerNorm { axis: -1, epsilon: 1e-5, bias };
        all.push(case(Op::Grad(layer), inputs.clone(), 2e-5));
        all.push(case(Op::Grad(Grad::RmsNorm { axis: 2, epsilon: 1e-6 }), inputs, 2e-5));
    }
    let inputs = vec![seed.tensor(f32s, &[2, 5, 4]), seed.indices(DType::Int64, &[5], 3)];
    all.push(case(Op::Grad(Grad::Gather { axis: 1, shape: vec![2, 3, 4] }), inputs, 1e-5));
    for shape in [vec![5], vec![3, 1], vec![2, 1, 5], vec![]] {
        let inputs = vec![seed.tensor(f32s, &[2, 3, 5])];
        all.push(case(Op::Grad(Grad::SumTo { shape }), inputs, 1e-5));
    }
    for (input, bias) in [(true, true), (false, true), (true, false)] {
        let inputs = vec![
            seed.tensor(f32s, &[2, 7, 5]),
            seed.tensor(f32s, &[2, 7, 9]),
            seed.tensor(f32s, &[5, 9]),
        ];
        all.push(case(Op::Grad(Grad::Linear { input, bias }), inputs, 4e-5));
    }
    let labels = tensor(DType::Int64, &[2, 3], &[0.0, 3.0, 6.0, 2.0, 2.0, 1.0]);
    for reduction in [Reduction::Mean, Reduction::Sum] {
        for (ignore, smoothing) in [(None, 0.0), (Some(2), 0.1)] {
            let of = LossOf::CrossEntropy { ignore, smoothing };
            let inputs = vec![seed.tensor(f32s, &[2, 3, 7]), labels.clone()];
            all.push(case(Op::Loss(Loss { of, reduction, gradient: true }), inputs, 1e-5));
        }
        for of in [LossOf::MeanSquaredError, LossOf::BinaryCrossEntropy] {
            let target = tensor(f32s, &[300], &[0.25; 300]);
            let inputs = vec![seed.tensor(f32s, &[300]), target];
            all.push(case(Op::Loss(Loss { of, reduction, gradient: true }), inputs.clone(), 1e-5));
            all.push(case(Op::Loss(Loss { of, reduction, gradient: false }), inputs, 1e-5));
        }
    }
    let shapes = [&[6, 5][..], &[40]];
    let mut group = |positive: bool| {
        shapes
            .map(|dims| if positive { seed.positive(f32s, dims) } else { seed.tensor(f32s, dims) })
    };
    let (p, g, first, second) = (group(false), group(false), group(false), group(true));
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let velocity = if momentum == 0.0 { vec![] } else { first.to_vec() };
        let inputs = [p.to_vec(), velocity, g.to_vec()].concat();
        let step = Optim::Sgd { lr: 0.1, momentum, weight_decay: 0.01, nesterov };
        all.push(case(Op::Optim(step), inputs, 1e-5));
    }
    for decoupled in [true, false] {
        let inputs = [p.to_vec(), first.to_vec(), second.to_vec(), g.to_vec()].concat();
        let step = Optim::Adam {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            decoupled,
            step: 3,
        };
        all.push(case(Op::Optim(step), inputs, 1e-5));
    }
    for norm_max in [1.0, 1e9] {
        all.push(case(Op::Optim(Optim::ClipNorm { norm_max }), g.to_vec(), 1e-5));
    }
    all
}

/// Norms, attention, convolution and pooling.
pub(crate) fn networks(seed: &mut Seed) -> Vec<Case> {
    let mut all = Vec::new();
    for dtype in [DType::Fp32, DType::Bf16] {
        for (size, bias, residual) in [(40, true, true), (33, true, false), (9000, false, true)] {
            let dims = [2, 3, size];
            let mut layer = vec![seed.tensor(dtype, &dims)];
            layer.extend(residual.then(|| seed.tensor(dtype, &dims)));
            layer.push(seed.tensor(dtype, &[size]));
            let rms = layer.clone();
            layer.extend(bias.then(|| seed.tensor(dtype, &[size])));
            let keep_sum = residual;
            let norm = Norm::Layer { axis: -1, epsilon: 1e-5, bias, residual, keep_sum };
            all.push(case(Op::Norm(norm), layer, rounding(dtype) * 8.0));
            let norm = Norm::Rms { axis: 2, epsilon: 1e-6, residual, keep_sum: false };
            all.push(case(Op::Norm(norm), rms, rounding(dtype) * 8.0));
        }
    }
    let f32s = DType::Fp32;
    let channels = |seed: &mut Seed| seed.positive(f32s, &[6]);
    let x = seed.tensor(f32s, &[2, 6, 5, 3]);
    let weights: Vec<Tensor> = (0..4).map(|_| channels(seed)).collect();
    let with = |count: usize| [&[x.clone()][..], &weights[..count]].concat();
    all.push(case(Op::Norm(Norm::Batch { epsilon: 1e-5 }), with(4), 1e-5));
    all.push(case(Op::Norm(Norm::Group { groups: 3, epsilon: 1e-5 }), with(2), 2e-5));
    all.push(case(Op::Norm(Norm::Instance { epsilon: 1e-5 }), with(2), 2e-5));
    for p in [1, 2] {
        all.push(case(Op::Norm(Norm::Lp { axis: 1, p }), vec![x.clone()], 1e-5));
    }
    attentions(seed, &mut all);
    convolutions(seed, &mut all);
    let parts = Op::Move(Move::Split { axis: 1, sizes: vec![2, 3, 1] });
    all.push(case(parts, vec![seed.tensor(f32s, &[3, 6, 4])], 0.0));
    let wide = Op::Move(Move::Expand { shape: vec![2, 3, 8] });
    all.push(case(wide, vec![seed.tensor(f32s, &[3, 1])], 0.0));
    let least = Order::Arg { smallest: true, last: true, axis: 1, keep_dims: false };
    all.push(case(Op::Order(least), vec![tensor(f32s, &[1, 4], &[2.0, 1.0, 1.0, 3.0])], 0.0));
    all
}

fn attentions(seed: &mut Seed, all: &mut Vec<Case>) {
    for dtype in [DType::Fp32, DType::Fp16, DType::Bf16] {
        let near = if dtype == DType::Fp32 { 2e-5 } else { rounding(dtype) * 3.0 };
        for (heads, kv_heads, s, t, d, causal) in [
            (2, 2, 5, 5, 8, false),
            (4, 2, 40, 70, 16, true),
            (2, 1, 70, 66, 32, false),
            (1, 1, 1, 9, 24, true),
        ] {
            let q = seed.tensor(dtype, &[2, s, heads * d]);
            let k = seed.tensor(dtype, &[2, t, kv_heads * d]);
            let v = seed.tensor(dtype, &[2, t, kv_heads * d]);
            let mut op = Attention {
                heads,
                kv_heads,
                scale: None,
                causal,
                mask: false,
                packed: false,
                heads_first: false,
            };
            all.push(case(Op::Attention(op), vec![q.clone(), k.clone(), v.clone()], near));
            op.mask = true;
            let keep = seed.tensor(DType::Bool, &[2, 1, s, t]);
            all.push(case(Op::Attention(op), vec![q.clone(), k.clone(), v.clone(), keep], near));
            let added = seed.tensor(dtype, &[s, t]);
            all.push(case(Op::Attention(op), vec![q, k, v, added], near));
        }
        let op = Attention {
            heads: 2,
            kv_heads: 1,
            scale: Some(0.3),
            causal: false,
            mask: false,
            packed: true,
            heads_first: false,
        };
        all.push(case(Op::Attention(op), vec![seed.tensor(dtype, &[2, 9, 64])], near));
        let op = Attention { packed: false, heads_first: true, causal: true, ..op };
        let q = seed.tensor(dtype, &[1, 2, 7, 16]);
        let (k, v) = (seed.tensor(dtype, &[1, 1, 9, 16]), seed.tensor(dtype, &[1, 1, 9, 16]));
        all.push(case(Op::Attention(op), vec![q, k, v], near));
    }
    for (interleaved, dims) in [(false, 0), (true, 4)] {
        let half = if dims == 0 { 4 } else { dims / 2 };
        let rope = Rope { heads: 3, dims, interleaved, positions: false };
        let x = seed.tensor(DType::Fp32, &[2, 5, 24]);
        let table = [seed.tensor(DType::Fp32, &[5, half]), seed.tensor(DType::Fp32, &[5, half])];
        let inputs = [&[x.clone()][..], &table].concat();
        all.push(case(Op::Rope(rope), inputs.clone(), 1e-5));
        let at = tensor(DType::Int64, &[2, 5], &[0.0, 1.0, 4.0, 3.0, 2.0, 2.0, 2.0, 0.0, 4.0, 1.0]);
        let rope = Rope { positions: true, ..rope };
        all.push(case(Op::Rope(rope), [inputs, vec![at]].concat(), 1e-5));
    }
}

fn convolutions(seed: &mut Seed, all: &mut Vec<Case>) {
    let f32s = DType::Fp32;
    let window = |strides: &[usize], pads: &[usize], dilations: &[usize]| Window {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        dilations: dilations.to_vec(),
        ceil: false,
    };
    let cases = [
        (&[2, 3, 9, 8][..], &[4, 3, 3, 3][..], window(&[2, 1], &[1, 0, 1, 2], &[]), 1),
        (&[2, 4, 9, 8], &[6, 2, 3, 3], window(&[], &[1, 1, 1, 1], &[2, 1]), 2),
        (&[1, 5, 6, 6], &[7, 5, 1, 1], Window::default(), 1),
        (&[2, 3, 20], &[4, 3, 5], window(&[3], &[2, 2], &[]), 1),
        (&[1, 2, 4, 5, 3], &[3, 2, 2, 2, 2], Window::default(), 1),
    ];
    for (i, (x, weight, window, groups)) in cases.into_iter().enumerate() {
        let activation = if i == 0 { Activation::Relu } else { Activation::None };
        let (bias, residual) = (i < 3, false);
        let mut inputs = vec![seed.tensor(f32s, x), seed.tensor(f32s, weight)];
        inputs.extend(bias.then(|| seed.tensor(f32s, &[weight[0]])));
        let conv = Conv { window, groups, bias, residual, activation };
        all.push(case(Op::Conv(conv), inputs, 4e-5));
    }
    let transpose = ConvTranspose {
        window: window(&[2, 1], &[1, 0, 0, 1], &[1, 2]),
        output_pads: vec![1, 0],
        groups: 2,
        bias: true,
    };
    let inputs = vec![
        seed.tensor(f32s, &[2, 4, 5, 4]),
        seed.tensor(f32s, &[4, 3, 3, 2]),
        seed.tensor(f32s, &[6]),
    ];
    all.push(case(Op::ConvTranspose(transpose), inputs, 4e-5));
    let kinds = [
        PoolKind::Max { indices: true },
        PoolKind::Average { count_include_pad: false },
        PoolKind::Average { count_include_pad: true },
        PoolKind::Lp { p: 2 },
    ];
    for kind in kinds {
        for ceil in [false, true] {
            let window = Window { ceil, ..window(&[2, 2], &[1, 1, 1, 1], &[]) };
            let pool = Pooling { kind, kernel: vec![3, 2], window };
            all.push(case(Op::Pool(pool), vec![seed.tensor(f32s, &[2, 3, 8, 7])], 1e-5));
        }
        let pool = Pooling { kind, kernel: vec![], window: Window::default() };
        all.push(case(Op::Pool(pool), vec![seed.tensor(f32s, &[2, 3, 5, 4])], 1e-5));
    }
}
