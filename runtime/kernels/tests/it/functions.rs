//! The functions and pairs that are not in `elementwise`: ONNX's and NumPy's.

use innkeeper_kernels::{Binary, Compare, Curve, Op, OpError, Test, Unary};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::elementwise::{erf, spread_fn};
use crate::oracle::{Array, check, rounded, run};
use crate::values::{broadcastable, cases, dims, dtype, fixed, fp32, of, tensor};

/// Every one.
pub(crate) const UNARY: [Unary; 34] = {
    use Unary::*;
    [
        Neg, Abs, Exp, Ln, Sqrt, Tanh, Sigmoid, Relu, Gelu, Silu, GeluTanh, Floor, Ceil, Round,
        Sign, Reciprocal, Erf, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh,
        Softplus, Softsign, Mish, HardSwish, Not, BitNot,
    ]
};

/// Every one.
pub(crate) const COMPARE: [Compare; 6] = {
    use Compare::*;
    [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual]
};

/// By formulas that are not those of the kernels where there are two.
fn unary(op: Unary, a: f64) -> f64 {
    match op {
        Unary::Neg => 0.0 - a,
        Unary::Abs => a.max(-a),
        Unary::Exp => std::f64::consts::E.powf(a),
        Unary::Ln => a.log2() / std::f64::consts::E.log2(),
        Unary::Sqrt => a.powf(0.5),
        Unary::Tanh => 1.0 - 2.0 / ((2.0 * a).exp() + 1.0),
        Unary::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Unary::Relu => a.max(0.0),
        Unary::Gelu => a * (1.0 + erf(a / 2f64.sqrt())) / 2.0,
        Unary::Silu => a / (1.0 + (-a).exp()),
        Unary::GeluTanh => {
            a * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (a + 0.044715 * a.powi(3))).tanh())
                / 2.0
        }
        Unary::Floor => a - a.rem_euclid(1.0),
        Unary::Ceil => a + (-a).rem_euclid(1.0),
        Unary::Round => {
            let (down, up) = (a.floor(), a.ceil());
            let even = if down.rem_euclid(2.0) == 0.0 { down } else { up };
            if a - down < up - a {
                down
            } else if a - down > up - a {
                up
            } else {
                even
            }
        }
        Unary::Sign => f64::from(u8::from(a > 0.0)) - f64::from(u8::from(a < 0.0)),
        Unary::Reciprocal => a.powi(-1),
        Unary::Erf => erf(a),
        Unary::Sin => a.sin(),
        Unary::Cos => (a + std::f64::consts::FRAC_PI_2).sin(),
        Unary::Tan => a.sin() / a.cos(),
        Unary::Asin => a.atan2((1.0 - a * a).sqrt()),
        Unary::Acos => (1.0 - a * a).sqrt().atan2(a),
        Unary::Atan => a.atan2(1.0),
        Unary::Sinh => (a.exp() - (-a).exp()) / 2.0,
        Unary::Cosh => (a.exp() + (-a).exp()) / 2.0,
        Unary::Asinh => a.signum() * (a.abs() + (a * a + 1.0).sqrt()).ln(),
        Unary::Acosh => (a + (a * a - 1.0).sqrt()).ln(),
        Unary::Atanh => ((1.0 + a) / (1.0 - a)).ln() / 2.0,
        Unary::Softplus => (1.0 + a.exp()).ln(),
        Unary::Softsign => a / (1.0 + a.max(-a)),
        Unary::Mish => a * (1.0 + a.exp()).ln().tanh(),
        Unary::HardSwish => a * (a / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Not | Unary::BitNot => unreachable!("not of floats"),
    }
}

fn curve(op: Curve, a: f64) -> f64 {
    match op {
        Curve::Elu { alpha } => {
            if a > 0.0 {
                a
            } else {
                alpha * (a.exp() - 1.0)
            }
        }
        Curve::Celu { alpha } => a.max(0.0) + (alpha * ((a / alpha).exp() - 1.0)).min(0.0),
        Curve::Selu { alpha, gamma } => gamma * if a > 0.0 { a } else { alpha * a.exp() - alpha },
        Curve::LeakyRelu { alpha } => {
            if a < 0.0 {
                alpha * a
            } else {
                a
            }
        }
        Curve::ThresholdedRelu { alpha } => {
            if a > alpha {
                a
            } else {
                0.0
            }
        }
        Curve::HardSigmoid { alpha, beta } => (alpha * a + beta).clamp(0.0, 1.0),
        Curve::Swish { alpha } => a / (1.0 + (-alpha * a).exp()),
        Curve::Shrink { bias, lambda } => {
            if a < -lambda {
                a + bias
            } else if a > lambda {
                a - bias
            } else {
                0.0
            }
        }
        Curve::Clip { min, max } => {
            a.max(min.unwrap_or(f64::NEG_INFINITY)).min(max.unwrap_or(f64::INFINITY))
        }
    }
}

/// A step of `dtype` at 1, some times over.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::Fp16 => 2e-3,
        DType::Bf16 => 1.6e-2,
        DType::Fp32 => 2e-6,
        _ => 1e-11,
    }
}

fn floats() -> impl Strategy<Value = DType> {
    prop::sample::select(&[DType::Fp16, DType::Bf16, DType::Fp32, DType::Fp64][..])
}

fn pairs(op: Binary, a: f64, b: f64) -> f64 {
    let (x, y) = (a as i64, b as i64);
    match op {
        Binary::Mod => a - (a / b).floor() * b,
        Binary::Fmod => a - (a / b).trunc() * b,
        Binary::Prelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
        Binary::And | Binary::BitAnd => (x & y) as f64,
        Binary::Or | Binary::BitOr => (x | y) as f64,
        Binary::Xor | Binary::BitXor => (x ^ y) as f64,
        Binary::ShiftLeft => {
            if y < 53 {
                a * 2f64.powi(y as i32)
            } else {
                0.0
            }
        }
        Binary::ShiftRight => {
            if y < 53 {
                (a / 2f64.powi(y as i32)).floor()
            } else {
                0.0
            }
        }
        _ => unreachable!("tested in elementwise.rs"),
    }
}

proptest! {
    #![proptest_config(cases(768))]

    #[test]
    fn functions(a in dims(0..=4), dtype in floats(), seed: u64, which in 0..32usize, small: bool) {
        let op = UNARY[which];
        let mut a = Array::of(&tensor(dtype, &a, seed));
        if small || matches!(op, Unary::Tan | Unary::Erf) {
            a.data.iter_mut().for_each(|x| *x /= 4.0);
        }
        let a = of(dtype, &a.dims, &a.data, seed % 2 == 1);
        let from = Array::of(&a);
        // 1 / 0 and what is near it have no scale that a tolerance could be of.
        prop_assume!(op != Unary::Reciprocal || from.data.iter().all(|x| x.abs() > 1e-3));
        prop_assume!(!matches!(op, Unary::Atanh) || from.data.iter().all(|x| x.abs() < 0.99));
        let expected = Array::from_fn(&from.dims, |i| rounded(dtype, unary(op, from.at(i))));
        check(&Op::Unary(op), &[&a], dtype, &expected, tolerance(dtype));
    }

    #[test]
    fn curves(a in dims(0..=4), dtype in floats(), seed: u64, alpha in 0.1f32..2.0, beta in -1f32..1.0, which in 0..10usize) {
        let (alpha, beta) = (f64::from(alpha), f64::from(beta));
        let op = [
            Curve::Elu { alpha }, Curve::Celu { alpha }, Curve::Selu { alpha, gamma: beta },
            Curve::LeakyRelu { alpha: beta }, Curve::ThresholdedRelu { alpha: beta },
            Curve::HardSigmoid { alpha, beta }, Curve::Swish { alpha },
            Curve::Shrink { bias: beta, lambda: alpha },
            Curve::Clip { min: Some(-0.5), max: Some(1.5) },
            Curve::Clip { min: None, max: Some(-1.0) },
        ][which];
        let a = tensor(dtype, &a, seed);
        let from = Array::of(&a);
        let expected = Array::from_fn(&from.dims, |i| rounded(dtype, curve(op, from.at(i))));
        check(&Op::Curve(op), &[&a], dtype, &expected, tolerance(dtype));
    }

    #[test]
    fn of_integers(a in dims(0..=4), dtype in dtype(), seed: u64, which in 0..5usize) {
        prop_assume!(!dtype.is_float());
        let signed = matches!(dtype, DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64);
        let a = tensor(dtype, &a, seed);
        let from = Array::of(&a);
        let (op, f): (Op, fn(f64) -> f64) = [
            (Op::Unary(Unary::Sign), (|a| unary(Unary::Sign, a)) as fn(f64) -> f64),
            (Op::Unary(Unary::Abs), f64::abs),
            (Op::Unary(Unary::Relu), |a| a.max(0.0)),
            (Op::Unary(Unary::BitNot), |a| -a - 1.0),
            (Op::Curve(Curve::Clip { min: Some(3.0), max: Some(90.0) }), |a| a.clamp(3.0, 90.0)),
        ][which].clone();
        prop_assume!(signed || which != 2);
        prop_assume!(which != 3 || dtype != DType::Uint64);
        let expected = Array::from_fn(&from.dims, |i| rounded(dtype, f(from.at(i))));
        check(&op, &[&a], dtype, &expected, 0.0);
    }

    #[test]
    fn pairs_of_elements([a, b] in broadcastable::<2>(), dtype in fixed(), seed: u64, which in 0..9usize) {
        use Binary::*;
        let op = [Mod, Fmod, Prelu, BitAnd, BitOr, BitXor, ShiftLeft, ShiftRight, And][which];
        let unsigned = matches!(dtype, DType::Uint8 | DType::Uint16 | DType::Uint32 | DType::Uint64);
        let op = if dtype == DType::Bool { [And, Or, Xor][which % 3] } else { op };
        prop_assume!(match op {
            BitAnd | BitOr | BitXor => !dtype.is_float(),
            ShiftLeft | ShiftRight => unsigned,
            And => dtype == DType::Bool,
            // Their quotients are not exact in the oracle.
            Mod | Fmod => !dtype.is_float(),
            _ => true,
        });
        let (a, mut b) = (tensor(dtype, &a, seed), tensor(dtype, &b, seed >> 1));
        let mut numbers = Array::of(&b);
        match op {
            Mod | Fmod => numbers.data.iter_mut().filter(|x| **x == 0.0).for_each(|x| *x = 7.0),
            ShiftLeft | ShiftRight => numbers.data.iter_mut().for_each(|x| *x = (*x % 20.0).abs()),
            _ => {}
        }
        if op != Prelu { b = of(dtype, &numbers.dims, &numbers.data, false); }
        let expected = spread_fn(&Array::of(&a), &Array::of(&b), |a, b| rounded(dtype, pairs(op, a, b)));
        let bits = dtype.size().unwrap() as f64 * 8.0;
        let shifts = matches!(op, ShiftLeft | ShiftRight);
        prop_assume!(!shifts || numbers.data.iter().all(|&x| x < bits));
        check(&Op::Binary(op), &[&a, &b], dtype, &expected, 0.0);
    }

    #[test]
    fn remainders_of_floats([a, b] in broadcastable::<2>(), seed: u64, signed: bool) {
        let (a, b) = (tensor(DType::Fp64, &a, seed), tensor(DType::Fp64, &b, seed >> 1));
        prop_assume!(Array::of(&b).data.iter().all(|b| b.abs() > 1e-2));
        let op = if signed { Binary::Fmod } else { Binary::Mod };
        let got = Array::of(&run(&Op::Binary(op), &[&a, &b]).unwrap());
        let (a, b) = (Array::of(&a), Array::of(&b));
        for index in crate::oracle::indices(&got.dims) {
            let (r, a, b) = (got.at(&index), a.spread(&index), b.spread(&index));
            let sign = if signed { a } else { b };
            prop_assert!(r.abs() < b.abs());
            prop_assert!(r == 0.0 || (r < 0.0) == (sign < 0.0));
            let whole = (a - r) / b;
            prop_assert!((whole - whole.round()).abs() < 1e-9, "{a} {b} {r}");
        }
    }

    #[test]
    fn integer_powers(base in -9i64..9, exponent in 0i64..12) {
        let whole = |x: i64| Tensor::from_vec(&[1], vec![x]).unwrap();
        let got = run(&Op::Binary(Binary::Pow), &[&whole(base), &whole(exponent)]).unwrap();
        let expected: i64 = (0..exponent).map(|_| base).product();
        prop_assert_eq!(got.elements::<i64>().unwrap()[0], expected);
    }

    #[test]
    fn comparisons([a, b] in broadcastable::<2>(), dtype in fixed(), seed: u64, same: bool, which in 0..3usize) {
        let (op, holds): (_, fn(f64, f64) -> bool) = [
            (Compare::NotEqual, (|a, b| a != b) as fn(f64, f64) -> bool),
            (Compare::LessOrEqual, |a, b| a <= b),
            (Compare::GreaterOrEqual, |a, b| a >= b),
        ][which];
        prop_assume!(op == Compare::NotEqual || dtype != DType::Bool);
        let a = tensor(dtype, &a, seed);
        let b = tensor(dtype, &b, if same { seed } else { seed >> 1 });
        let expected = spread_fn(&Array::of(&a), &Array::of(&b), |a, b| f64::from(u8::from(holds(a, b))));
        check(&Op::Compare(op), &[&a, &b], DType::Bool, &expected, 0.0);
    }
}

#[test]
fn edges() {
    use Unary::*;
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let cases: [(Unary, &[(f32, f32)]); 16] = [
        (Round, &[(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, 0.0), (-1.5, -2.0), (INF, INF)]),
        (Floor, &[(-0.5, -1.0), (NAN, NAN), (-INF, -INF)]),
        (Ceil, &[(0.1, 1.0), (NAN, NAN)]),
        (Sign, &[(-INF, -1.0), (0.0, 0.0), (NAN, NAN), (1e-30, 1.0)]),
        (Reciprocal, &[(0.0, INF), (-INF, 0.0), (NAN, NAN)]),
        (Erf, &[(INF, 1.0), (-INF, -1.0), (NAN, NAN)]),
        (Asin, &[(1.5, NAN), (0.0, 0.0)]),
        (Acosh, &[(0.5, NAN), (1.0, 0.0), (INF, INF)]),
        (Atanh, &[(1.0, INF), (-1.0, -INF), (2.0, NAN)]),
        (Softplus, &[(1e30, 1e30), (-1e30, 0.0), (INF, INF), (NAN, NAN)]),
        (Mish, &[(1e30, 1e30), (INF, INF), (NAN, NAN)]),
        (GeluTanh, &[(1e10, 1e10), (NAN, NAN)]),
        (HardSwish, &[(INF, INF), (-4.0, 0.0), (NAN, NAN)]),
        (Softsign, &[(1e30, 1.0), (-1e30, -1.0)]),
        (Sinh, &[(1e3, INF), (-1e3, -INF)]),
        (Tan, &[(0.0, 0.0), (INF, NAN)]),
    ];
    for (op, pairs) in cases {
        let (from, to): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        let to = to.iter().map(|&x| f64::from(x)).collect();
        let expected = Array { dims: vec![pairs.len()], data: to };
        check(&Op::Unary(op), &[&fp32(&[pairs.len()], &from)], DType::Fp32, &expected, 0.0);
    }
    let x = fp32(&[4], &[NAN, INF, -INF, 0.0]);
    let said = |op| run(&Op::Test(op), &[&x]).unwrap().as_bytes().to_vec();
    assert_eq!(said(Test::IsNan), [1, 0, 0, 0]);
    assert_eq!(said(Test::IsInf { negative: true, positive: true }), [0, 1, 1, 0]);
    assert_eq!(said(Test::IsInf { negative: false, positive: true }), [0, 1, 0, 0]);
    assert_eq!(said(Test::IsInf { negative: true, positive: false }), [0, 0, 1, 0]);
    for op in [
        Curve::Elu { alpha: 1.0 },
        Curve::Celu { alpha: 1.0 },
        Curve::Shrink { bias: 0.0, lambda: 0.5 },
        Curve::ThresholdedRelu { alpha: 1.0 },
        Curve::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Curve::Clip { min: Some(0.0), max: Some(1.0) },
    ] {
        let got = Array::of(&run(&Op::Curve(op), &[&fp32(&[1], &[NAN])]).unwrap());
        assert!(got.data[0].is_nan(), "{op:?}");
    }
    // The upper bound wins.
    let clip = Op::Curve(Curve::Clip { min: Some(3.0), max: Some(1.0) });
    assert_eq!(Array::of(&run(&clip, &[&fp32(&[1], &[2.0])]).unwrap()).data, [1.0]);
}

#[test]
fn integers_at_the_edges() {
    fn pair<T: innkeeper_tensor::Element + PartialEq + std::fmt::Debug>(
        op: Binary,
        a: T,
        b: T,
    ) -> Result<T, OpError> {
        let [x, y] = [a, b].map(|x| Tensor::from_vec(&[1], vec![x]).unwrap());
        run(&Op::Binary(op), &[&x, &y]).map(|got| got.elements::<T>().unwrap()[0])
    }
    assert_eq!(pair(Binary::Pow, 2i32, -1), Ok(0));
    assert_eq!(pair(Binary::Pow, -1i32, -3), Ok(-1));
    assert_eq!(pair(Binary::Pow, -1i32, -2), Ok(1));
    assert_eq!(pair(Binary::Pow, 1i8, -128), Ok(1));
    assert_eq!(pair(Binary::Pow, 0i64, 0), Ok(1));
    assert_eq!(pair(Binary::Pow, 3u8, 6), Ok(217));
    assert!(pair(Binary::Pow, 0i64, -1).is_err());
    assert_eq!(pair(Binary::Mod, i64::MIN, -1), Ok(0));
    assert_eq!(pair(Binary::Fmod, i8::MIN, -1), Ok(0));
    assert_eq!(pair(Binary::Mod, -7i32, 3), Ok(2));
    assert_eq!(pair(Binary::Fmod, -7i32, 3), Ok(-1));
    assert!(pair(Binary::Mod, 1u8, 0).is_err());
    assert_eq!(pair(Binary::ShiftLeft, 1u8, 8), Ok(0));
    assert_eq!(pair(Binary::ShiftLeft, 3u8, 7), Ok(128));
    assert_eq!(pair(Binary::ShiftRight, u64::MAX, 64), Ok(0));
    assert_eq!(pair(Binary::ShiftRight, 128u8, 7), Ok(1));
    let celu = Op::Curve(Curve::Celu { alpha: 0.0 });
    assert!(matches!(run(&celu, &[&fp32(&[1], &[0.0])]), Err(OpError::InvalidArgument(_))));
}

/// Longer than one piece, from every alignment of broadcast rows to pieces.
#[test]
fn long_ones_are_done_in_pieces() {
    let dims = [3, 5, 7919];
    let (a, b) = (tensor(DType::Fp32, &dims, 4), tensor(DType::Fp32, &[3, 1, 7919], 6));
    let column = tensor(DType::Fp32, &[3, 5, 1], 8);
    for b in [&a, &b, &column, &fp32(&[], &[2.0])] {
        for pair in [[&a, b], [b, &a]] {
            let expected = spread_fn(&Array::of(pair[0]), &Array::of(pair[1]), |a, b| {
                f64::from((a - b) as f32)
            });
            check(&Op::Binary(Binary::Sub), &pair, DType::Fp32, &expected, 0.0);
        }
    }
    for dtype in [DType::Fp16, DType::Fp32] {
        let a = tensor(dtype, &dims, 5);
        let from = Array::of(&a);
        let expected = Array::from_fn(&from.dims, |i| rounded(dtype, from.at(i).abs()));
        check(&Op::Unary(Unary::Abs), &[&a], dtype, &expected, 0.0);
    }
}
