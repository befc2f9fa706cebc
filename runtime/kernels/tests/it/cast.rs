//! Conversions, and tensors from nothing.

use innkeeper_kernels::Op;
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, check, rounded, run};
use crate::values::{NUMERIC, cases, dims, fixed, of, tensor};

/// FP64 values and what they are in each dtype.
#[test]
fn floats_to_everything() {
    use DType::*;
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let cases: &[(f64, DType, f64)] = &[
        (2.9, Int32, 2.0),
        (-2.9, Int32, -2.0),
        (-0.9, Uint8, 0.0),
        (-1.0, Uint8, 0.0),
        (300.0, Uint8, 255.0),
        (300.0, Int8, 127.0),
        (-300.0, Int8, -128.0),
        (1e30, Int64, i64::MAX as f64),
        (-1e30, Int64, i64::MIN as f64),
        (1e30, Uint64, u64::MAX as f64),
        (inf, Int16, 32767.0),
        (-inf, Int16, -32768.0),
        (nan, Int32, 0.0),
        (nan, Uint64, 0.0),
        (nan, Bool, 1.0),
        (0.0, Bool, 0.0),
        (-0.0, Bool, 0.0),
        (1e-300, Bool, 1.0),
        (-7.0, Bool, 1.0),
        (65504.0, Fp16, 65504.0),
        (65519.9, Fp16, 65504.0),
        (65520.0, Fp16, inf),
        (1e300, Bf16, inf),
        (-1e300, Fp16, -inf),
        (nan, Fp16, nan),
        (nan, Bf16, nan),
        (2f64.powi(-25), Fp16, 0.0),
        (2f64.powi(-25) * 1.0001, Fp16, 2f64.powi(-24)),
        // Just above the middle of two halves: by way of FP32 to nearest it would be the middle, and round down.
        (1.0 + 2f64.powi(-11) + 2f64.powi(-40), Fp16, 1.0 + 2f64.powi(-10)),
        (1.0 + 2f64.powi(-11), Fp16, 1.0),
        (1.0 + 2f64.powi(-8) + 2f64.powi(-40), Bf16, 1.0 + 2f64.powi(-7)),
        (1.0 + 2f64.powi(-8), Bf16, 1.0),
        (1e-320, Fp32, 0.0),
        (1e39, Fp32, inf),
    ];
    for &(from, to, expected) in cases {
        let x = Tensor::from_vec(&[1], vec![from]).unwrap();
        let expected = Array { dims: vec![1], data: vec![expected] };
        check(&Op::Cast { to }, &[&x], to, &expected, 0.0);
        let full = Op::Full { dtype: to, shape: vec![1], value: from };
        check(&full, &[], to, &expected, 0.0);
    }
}

#[test]
fn integers_keep_their_low_bits() {
    let wide = Tensor::from_vec(&[4], vec![i64::MIN, -1, 0x1_2345_6789, i64::MAX]).unwrap();
    let cases: [(DType, Vec<u8>); 4] = [
        (DType::Uint8, vec![0, 255, 0x89, 255]),
        (DType::Int8, vec![0, 255, 0x89, 255]),
        (DType::Uint32, [0, u32::MAX, 0x2345_6789, u32::MAX].map(u32::to_le_bytes).concat()),
        (
            DType::Uint64,
            [1 << 63, u64::MAX, 0x1_2345_6789, u64::MAX >> 1].map(u64::to_le_bytes).concat(),
        ),
    ];
    for (to, bytes) in cases {
        assert_eq!(run(&Op::Cast { to }, &[&wide]).unwrap().as_bytes(), bytes, "{to}");
    }
    let unsigned = Tensor::from_vec(&[2], vec![u64::MAX, 1 << 63]).unwrap();
    let signed = run(&Op::Cast { to: DType::Int64 }, &[&unsigned]).unwrap();
    assert_eq!(*signed.elements::<i64>().unwrap(), [-1, i64::MIN]);
    let float = run(&Op::Cast { to: DType::Fp32 }, &[&unsigned]).unwrap();
    assert_eq!(*float.elements::<f32>().unwrap(), [2f32.powi(64), 2f32.powi(63)]);
    // 2^62 + 2^54 is the middle of two BF16; one more must round up.
    let middle =
        Tensor::from_vec(&[2], vec![(1i64 << 62) + (1 << 54), (1 << 62) + (1 << 54) + 1]).unwrap();
    let brain = run(&Op::Cast { to: DType::Bf16 }, &[&middle]).unwrap();
    assert_eq!(Array::of(&brain).data, [2f64.powi(62), 2f64.powi(62) + 2f64.powi(55)]);
}

#[test]
fn the_same_dtype_shares_the_bytes() {
    let x = Tensor::from_strings(&[1], &["a"]).unwrap();
    let y = run(&Op::Cast { to: DType::Bytes }, &[&x]).unwrap();
    assert_eq!(x.as_bytes().as_ptr(), y.as_bytes().as_ptr());
}

#[test]
fn ranges() {
    let arange = |dtype, start, step, count| Op::Arange { dtype, start, step, count };
    for dtype in NUMERIC {
        let expected = Array { dims: vec![4], data: vec![1.0, 3.0, 5.0, 7.0] };
        check(&arange(dtype, 1.0, 2.0, 4), &[], dtype, &expected, 0.0);
        check(&arange(dtype, 1.0, 2.0, 0), &[], dtype, &Array { dims: vec![0], data: vec![] }, 0.0);
    }
    let expected = Array { dims: vec![3], data: vec![0.0, -0.5, -1.0] };
    check(&arange(DType::Fp64, 0.0, -0.5, 3), &[], DType::Fp64, &expected, 0.0);
    let expected = Array { dims: vec![3], data: vec![250.0, 255.0, 255.0] };
    check(&arange(DType::Uint8, 250.0, 10.0, 3), &[], DType::Uint8, &expected, 0.0);
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn between_all(dims in dims(0..=3), from in fixed(), to in fixed(), seed: u64) {
        let x = tensor(from, &dims, seed);
        let source = Array::of(&x);
        let expected = Array::from_fn(&dims, |i| {
            let value = source.at(i);
            match to {
                DType::Bool => f64::from(u8::from(value != 0.0)),
                _ if !to.is_float() && from.is_float() && value < 0.0 && rounded(to, -1.0) > 0.0 => 0.0,
                _ if !to.is_float() && from.is_float() => value.trunc(),
                _ => rounded(to, value),
            }
        });
        check(&Op::Cast { to }, &[&x], to, &expected, 0.0);
    }

    #[test]
    fn floats_round_once(bits: u64, scale in -30i32..20, to in prop::sample::select(&[DType::Fp16, DType::Bf16, DType::Fp32][..])) {
        // Near the middle of two halves, where a second rounding would show.
        let value = f64::from_bits((bits & 0x800F_FF00_0000_000F) | 0x3FF0_0000_0000_0000) * 2f64.powi(scale);
        let x = of(DType::Fp64, &[], &[value], false);
        check(&Op::Cast { to }, &[&x], to, &Array { dims: vec![], data: vec![rounded(to, value)] }, 0.0);
    }
}
