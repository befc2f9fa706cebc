//! Element by element, with broadcasting.

use innkeeper_kernels::{Binary, Compare, Op, Unary};
use innkeeper_tensor::DType;
use proptest::prelude::*;

use crate::oracle::{Array, check, rounded};
use crate::values::{broadcastable, cases, dims, dtype, fixed, float, of, spread, tensor};

pub(crate) fn spread_fn(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
    let dims = spread(&[&a.dims, &b.dims]);
    Array::from_fn(&dims, |i| f(a.spread(i), b.spread(i)))
}

fn binary(op: Binary, dtype: DType, a: f64, b: f64) -> f64 {
    let exact = match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div if dtype.is_float() => a / b,
        Binary::Div => (a / b).trunc(),
        Binary::Pow => a.powf(b),
        Binary::Maximum => a.max(b),
        Binary::Minimum => a.min(b),
        _ => unreachable!("tested in functions.rs"),
    };
    rounded(dtype, exact)
}

/// The error function, by its series.
pub(crate) fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn unary(op: Unary, a: f64) -> f64 {
    match op {
        Unary::Neg => 0.0 - a,
        Unary::Abs => a.max(-a),
        Unary::Exp => std::f64::consts::E.powf(a),
        Unary::Ln => a.log2() / std::f64::consts::E.log2(),
        Unary::Sqrt => a.powf(0.5),
        Unary::Tanh => (a.exp() - (-a).exp()) / (a.exp() + (-a).exp()),
        Unary::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Unary::Relu => a.max(0.0),
        Unary::Gelu => a * (1.0 + erf(a / 2f64.sqrt())) / 2.0,
        Unary::Silu => a / (1.0 + (-a).exp()),
        _ => unreachable!("tested in functions.rs"),
    }
}

const ARITHMETIC: [Binary; 6] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Maximum, Binary::Minimum];

const UNARY: [Unary; 10] = [
    Unary::Neg,
    Unary::Abs,
    Unary::Exp,
    Unary::Ln,
    Unary::Sqrt,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Relu,
    Unary::Gelu,
    Unary::Silu,
];

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn arithmetic([a, b] in broadcastable::<2>(), dtype in dtype(), seed: u64, which in 0..ARITHMETIC.len()) {
        let op = ARITHMETIC[which];
        let (a, mut b) = (tensor(dtype, &a, seed), tensor(dtype, &b, seed >> 1));
        if op == Binary::Div {
            let mut numbers = Array::of(&b);
            numbers.data.iter_mut().filter(|number| **number == 0.0).for_each(|number| *number = 7.0);
            b = of(dtype, &numbers.dims, &numbers.data, false);
        }
        let expected = spread_fn(&Array::of(&a), &Array::of(&b), |a, b| binary(op, dtype, a, b));
        check(&Op::Binary(op), &[&a, &b], dtype, &expected, 0.0);
    }

    #[test]
    fn powers([a, b] in broadcastable::<2>(), dtype in float(), seed: u64) {
        let (a, b) = (tensor(dtype, &a, seed), tensor(dtype, &b, seed >> 1));
        let expected = spread_fn(&Array::of(&a), &Array::of(&b), |a, b| binary(Binary::Pow, dtype, a, b));
        check(&Op::Binary(Binary::Pow), &[&a, &b], dtype, &expected, 1e-6);
    }

    #[test]
    fn scalars(a in dims(0..=4), dtype in dtype(), seed: u64, value in -100i32..100, which in 0..ARITHMETIC.len()) {
        let op = ARITHMETIC[which];
        let unsigned = matches!(dtype, DType::Uint8 | DType::Uint16 | DType::Uint32 | DType::Uint64);
        // To an unsigned dtype a negative value saturates at 0, by which one cannot divide.
        let value = if unsigned { value.max(0) } else { value };
        let value = if value == 0 && op == Binary::Div { 3 } else { value };
        let a = tensor(dtype, &a, seed);
        let from = Array::of(&a);
        let expected = Array::from_fn(&from.dims, |i| binary(op, dtype, from.at(i), f64::from(value)));
        check(&Op::Scalar { op, value: f64::from(value) }, &[&a], dtype, &expected, 0.0);
    }

    #[test]
    fn comparisons([a, b] in broadcastable::<2>(), dtype in fixed(), seed: u64, same: bool, which in 0..3usize) {
        let (op, holds): (_, fn(f64, f64) -> bool) = [
            (Compare::Equal, (|a, b| a == b) as fn(f64, f64) -> bool),
            (Compare::Less, |a, b| a < b),
            (Compare::Greater, |a, b| a > b),
        ][which];
        prop_assume!(op == Compare::Equal || dtype != DType::Bool);
        let a = tensor(dtype, &a, seed);
        let b = tensor(dtype, &b, if same { seed } else { seed >> 1 });
        let expected = spread_fn(&Array::of(&a), &Array::of(&b), |a, b| f64::from(u8::from(holds(a, b))));
        check(&Op::Compare(op), &[&a, &b], DType::Bool, &expected, 0.0);
    }

    #[test]
    fn selections([condition, a, b] in broadcastable::<3>(), dtype in fixed(), seed: u64) {
        let condition = tensor(DType::Bool, &condition, seed >> 2);
        let (a, b) = (tensor(dtype, &a, seed), tensor(dtype, &b, seed >> 1));
        let [holds, yes, no] = [&condition, &a, &b].map(Array::of);
        let dims = spread(&[&holds.dims, &yes.dims, &no.dims]);
        let expected = Array::from_fn(&dims, |i| if holds.spread(i) == 1.0 { yes.spread(i) } else { no.spread(i) });
        check(&Op::Select, &[&condition, &a, &b], dtype, &expected, 0.0);
    }

    #[test]
    fn functions(a in dims(0..=4), dtype in float(), seed: u64, which in 0..UNARY.len()) {
        let op = UNARY[which];
        let a = tensor(dtype, &a, seed);
        let from = Array::of(&a);
        let expected = Array::from_fn(&from.dims, |i| rounded(dtype, unary(op, from.at(i))));
        let tolerance = match op {
            Unary::Neg | Unary::Abs | Unary::Relu => 0.0,
            _ if dtype == DType::Fp32 => 1e-6,
            _ => 1e-12,
        };
        check(&Op::Unary(op), &[&a], dtype, &expected, tolerance);
    }

    #[test]
    fn signs_of_integers(a in dims(0..=4), dtype in dtype(), seed: u64, negative: bool) {
        let signed = matches!(dtype, DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64);
        prop_assume!(!dtype.is_float() && (signed || !negative));
        let op = if negative { Unary::Neg } else { Unary::Abs };
        let a = tensor(dtype, &a, seed);
        let from = Array::of(&a);
        let expected = Array::from_fn(&from.dims, |i| rounded(dtype, unary(op, from.at(i))));
        check(&Op::Unary(op), &[&a], dtype, &expected, 0.0);
    }
}
