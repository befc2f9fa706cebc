//! Values at the edges, as tables.

use innkeeper_kernels::{Binary, Compare, Op, OpError, Reduce, Unary};
use innkeeper_tensor::{DType, Element, Tensor};

use crate::oracle::{Array, check, run};
use crate::values::{fp32, linear};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

fn array(dims: &[usize], data: &[f32]) -> Array {
    Array { dims: dims.to_vec(), data: data.iter().map(|&x| f64::from(x)).collect() }
}

#[test]
fn functions() {
    let cases: [(Unary, &[(f32, f32)]); 10] = [
        (Unary::Neg, &[(INF, -INF), (NAN, NAN)]),
        (Unary::Abs, &[(-INF, INF), (NAN, NAN)]),
        (Unary::Exp, &[(-INF, 0.0), (1e4, INF), (-1e4, 0.0), (0.0, 1.0), (NAN, NAN)]),
        (Unary::Ln, &[(0.0, -INF), (-1.0, NAN), (INF, INF), (1.0, 0.0)]),
        (Unary::Sqrt, &[(-1.0, NAN), (INF, INF), (0.0, 0.0)]),
        (Unary::Tanh, &[(INF, 1.0), (-INF, -1.0), (1e30, 1.0), (NAN, NAN)]),
        (
            Unary::Sigmoid,
            &[(INF, 1.0), (-INF, 0.0), (1e30, 1.0), (-1e30, 0.0), (0.0, 0.5), (NAN, NAN)],
        ),
        (Unary::Relu, &[(INF, INF), (-INF, 0.0), (NAN, NAN), (-1.0, 0.0)]),
        (Unary::Gelu, &[(INF, INF), (1e30, 1e30), (-1e30, 0.0), (0.0, 0.0), (NAN, NAN)]),
        (Unary::Silu, &[(INF, INF), (-1e30, 0.0), (1e30, 1e30), (NAN, NAN)]),
    ];
    for (op, pairs) in cases {
        let (from, to): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        let dims = [pairs.len()];
        check(&Op::Unary(op), &[&fp32(&dims, &from)], DType::Fp32, &array(&dims, &to), 0.0);
    }
}

#[test]
fn a_small_tail_of_gelu_keeps_its_digits() {
    let got = run(&Op::Unary(Unary::Gelu), &[&fp32(&[1], &[-5.0])]).unwrap();
    // -5 * Phi(-5)
    let exact = -5.0 * 2.866_515_718_791_939e-7;
    assert!((Array::of(&got).data[0] / exact - 1.0).abs() < 1e-5);
}

#[test]
fn pairs_of_floats() {
    let cases: [(Binary, f32, f32, f32); 11] = [
        (Binary::Maximum, NAN, 1.0, NAN),
        (Binary::Maximum, 1.0, NAN, NAN),
        (Binary::Maximum, -INF, 1.0, 1.0),
        (Binary::Minimum, NAN, 1.0, NAN),
        (Binary::Minimum, 1.0, NAN, NAN),
        (Binary::Minimum, INF, 1.0, 1.0),
        (Binary::Div, 1.0, 0.0, INF),
        (Binary::Div, 0.0, 0.0, NAN),
        (Binary::Add, INF, -INF, NAN),
        (Binary::Pow, 0.0, 0.0, 1.0),
        (Binary::Pow, -8.0, 0.5, NAN),
    ];
    for (op, a, b, expected) in cases {
        let operands = [&fp32(&[1], &[a]), &fp32(&[1], &[b])];
        check(&Op::Binary(op), &operands, DType::Fp32, &array(&[1], &[expected]), 0.0);
        let scalar = Op::Scalar { op, value: f64::from(b) };
        check(&scalar, &operands[..1], DType::Fp32, &array(&[1], &[expected]), 0.0);
    }
}

#[test]
fn comparisons_with_nan_are_false() {
    for op in [Compare::Equal, Compare::Less, Compare::Greater] {
        let operands = [&fp32(&[2], &[NAN, 1.0]), &fp32(&[2], &[NAN, NAN])];
        check(&Op::Compare(op), &operands, DType::Bool, &array(&[2], &[0.0, 0.0]), 0.0);
    }
}

fn integers<T: Element + PartialEq + std::fmt::Debug>(op: Binary, a: T, b: T, expected: T) {
    let [x, y] = [a, b].map(|x| Tensor::from_vec(&[1], vec![x]).unwrap());
    let got = run(&Op::Binary(op), &[&x, &y]).unwrap();
    assert_eq!(*got.elements::<T>().unwrap(), [expected], "{op:?} of {a:?} and {b:?}");
}

#[test]
fn integers_wrap_around() {
    integers(Binary::Add, i64::MAX, 1, i64::MIN);
    integers(Binary::Add, u64::MAX, 1, 0);
    integers(Binary::Sub, 0u64, 1, u64::MAX);
    integers(Binary::Mul, i64::MIN, -1, i64::MIN);
    integers(Binary::Mul, u32::MAX, u32::MAX, 1);
    integers(Binary::Div, i64::MIN, -1, i64::MIN);
    integers(Binary::Div, -7i8, 2, -3);
    integers(Binary::Maximum, u64::MAX, u64::MAX - 1, u64::MAX);
    integers(Binary::Minimum, i64::MAX, i64::MAX - 1, i64::MAX - 1);
    for (op, expected) in [(Unary::Neg, i64::MIN), (Unary::Abs, i64::MIN)] {
        let x = Tensor::from_vec(&[1], vec![i64::MIN]).unwrap();
        let got = run(&Op::Unary(op), &[&x]).unwrap();
        assert_eq!(*got.elements::<i64>().unwrap(), [expected]);
    }
    let x = Tensor::from_vec(&[2], vec![u64::MAX, 2]).unwrap();
    let sum = Op::Reduce { op: Reduce::Sum, axes: vec![], keep_dims: false };
    assert_eq!(*run(&sum, &[&x]).unwrap().elements::<u64>().unwrap(), [1]);
    let less = run(&Op::Compare(Compare::Less), &[&x, &x]).unwrap();
    assert_eq!(less.as_bytes(), [0, 0]);
}

#[test]
fn dividing_an_integer_by_zero_is_an_error() {
    let div = Op::Binary(Binary::Div);
    let x = Tensor::from_vec(&[2], vec![1i32, 2]).unwrap();
    let zero = Tensor::from_vec(&[2], vec![1i32, 0]).unwrap();
    let error = run(&div, &[&x, &zero]).unwrap_err();
    assert!(
        matches!(&error, OpError::InvalidArgument(text) if text.contains("by zero")),
        "{error}"
    );
    assert!(run(&Op::Scalar { op: Binary::Div, value: 0.5 }, &[&x]).is_err());
    // Nothing is divided.
    let none = Tensor::from_vec::<i32>(&[0, 2], vec![]).unwrap();
    assert!(run(&div, &[&none, &zero]).is_ok());
}

#[test]
fn extremes_meet_nans() {
    let x = fp32(&[3, 3], &[1.0, NAN, 3.0, -INF, -INF, -INF, 2.0, 5.0, 5.0]);
    let reduce = |op| Op::Reduce { op, axes: vec![1], keep_dims: false };
    check(&reduce(Reduce::Max), &[&x], DType::Fp32, &array(&[3], &[NAN, -INF, 5.0]), 0.0);
    check(&reduce(Reduce::Min), &[&x], DType::Fp32, &array(&[3], &[NAN, -INF, 2.0]), 0.0);
    let argmax = Op::ArgMax { axis: 1, keep_dims: false };
    check(&argmax, &[&x], DType::Int64, &array(&[3], &[1.0, 0.0, 1.0]), 0.0);
    let two = fp32(&[3], &[INF, NAN, NAN]);
    let first = Op::ArgMax { axis: 0, keep_dims: true };
    check(&first, &[&two], DType::Int64, &array(&[1], &[1.0]), 0.0);
    // Every lane and the remainder of a long line.
    for at in 0..70 {
        let mut line = vec![0.0; 70];
        line[at] = NAN;
        let all = Op::Reduce { op: Reduce::Max, axes: vec![], keep_dims: false };
        check(&all, &[&fp32(&[70], &line)], DType::Fp32, &array(&[], &[NAN]), 0.0);
        check(
            &reduce(Reduce::Min),
            &[&fp32(&[1, 70], &line)],
            DType::Fp32,
            &array(&[1], &[NAN]),
            0.0,
        );
    }
}

#[test]
fn softmax_does_not_overflow() {
    let x = fp32(&[2, 2], &[1e4, 1e4, -1e4, -INF]);
    let expected = array(&[2, 2], &[0.5, 0.5, 1.0, 0.0]);
    check(&Op::Softmax { axis: -1 }, &[&x], DType::Fp32, &expected, 0.0);
    let half = -std::f32::consts::LN_2;
    let expected = array(&[2, 2], &[half, half, 0.0, -INF]);
    check(&Op::LogSoftmax { axis: 1 }, &[&x], DType::Fp32, &expected, 0.0);
    let nan = fp32(&[3], &[0.0, NAN, 1.0]);
    check(&Op::Softmax { axis: 0 }, &[&nan], DType::Fp32, &array(&[3], &[NAN; 3]), 0.0);
}

#[test]
fn of_nothing() {
    let none = fp32(&[2, 0], &[]);
    let reduce = |op, axes: &[i64]| Op::Reduce { op, axes: axes.to_vec(), keep_dims: false };
    check(&reduce(Reduce::Sum, &[1]), &[&none], DType::Fp32, &array(&[2], &[0.0; 2]), 0.0);
    check(&reduce(Reduce::Mean, &[]), &[&none], DType::Fp32, &array(&[], &[NAN]), 0.0);
    check(&reduce(Reduce::Max, &[0]), &[&none], DType::Fp32, &array(&[0], &[]), 0.0);
    for op in [
        reduce(Reduce::Max, &[1]),
        reduce(Reduce::Min, &[]),
        Op::ArgMax { axis: 1, keep_dims: true },
    ] {
        assert!(matches!(run(&op, &[&none]), Err(OpError::InvalidArgument(_))), "{op:?}");
    }
    let empty_product = array(&[2, 3], &[0.0; 6]);
    check(&Op::MatMul, &[&none, &fp32(&[0, 3], &[])], DType::Fp32, &empty_product, 0.0);
    let bias = fp32(&[3], &[1.0, 2.0, 3.0]);
    let rows = array(&[2, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    check(&linear(true), &[&none, &fp32(&[3, 0], &[]), &bias], DType::Fp32, &rows, 0.0);
}

#[test]
fn products_over_dimensions() {
    let product =
        |axes: &[i64]| Op::Reduce { op: Reduce::Product, axes: axes.to_vec(), keep_dims: false };
    let x = fp32(&[2, 3], &[1.0, 2.0, 3.0, -4.0, 0.5, 2.0]);
    check(&product(&[1]), &[&x], DType::Fp32, &array(&[2], &[6.0, -4.0]), 0.0);
    check(&product(&[0]), &[&x], DType::Fp32, &array(&[3], &[-4.0, 1.0, 6.0]), 0.0);
    check(&product(&[0]), &[&fp32(&[0, 2], &[])], DType::Fp32, &array(&[2], &[1.0, 1.0]), 0.0);
    let wraps = Tensor::from_vec(&[3], vec![100i8, 3, 1]).unwrap();
    assert_eq!(*run(&product(&[]), &[&wraps]).unwrap().elements::<i8>().unwrap(), [44]);
}
