//! Operations on tensors that are kept in a code, against the same on their elements.

use innkeeper_kernels::{
    Activation, Backend, Conv, Cpu, Isa, Op, OpError, Pool, Quant, Run, Unpacked,
};
use innkeeper_tensor::{Code, Coded, DType, Shape, Tensor, bf16, f16};
use proptest::prelude::*;

use crate::oracle::Array;
use crate::values::{cases, fp32, tensor};

/// Each code of random elements `[rows, columns]`, which must be whole groups of 16.
fn codes(rows: usize, columns: usize, seed: u64) -> Vec<Code> {
    let weight = tensor(DType::Fp32, &[rows, columns], seed);
    let elements = weight.elements::<f32>().unwrap();
    let parts = |quant: Quant| {
        let made = Cpu::new().run(&Op::Quant(quant), &[&weight], &Run::new()).unwrap();
        let [values, scales] = made.try_into().unwrap();
        (values, scales)
    };
    let dims = [rows, columns];
    let halves: Vec<f16> = elements.iter().map(|&x| f16::from_f32(x)).collect();
    let brains: Vec<bf16> = elements.iter().map(|&x| bf16::from_f32(x)).collect();
    let (values, scales) = parts(Quant::Weight8);
    let mut codes = vec![
        Code::Int8 { values, scales },
        Code::Half { values: Tensor::from_vec(&dims, halves).unwrap() },
        Code::Half { values: Tensor::from_vec(&dims, brains).unwrap() },
    ];
    let (values, scales) = parts(Quant::Weight4 { group: 16 });
    codes.push(Code::Int4 { values, scales, group: 16 });
    if 2 * (rows + columns) < rows * columns {
        codes.push(Code::LowRank {
            left: tensor(DType::Fp32, &[rows, 2], seed >> 1),
            right: tensor(DType::Fp32, &[2, columns], seed >> 2),
        });
    }
    codes
}

fn in_code(dims: &[usize], code: Code) -> (Tensor, Tensor) {
    let coded = Coded::tensor(Shape::new(dims).unwrap(), code.clone()).unwrap();
    let other = Coded::tensor(Shape::new(dims).unwrap(), code).unwrap();
    let plain = fp32(dims, &other.elements::<f32>().unwrap());
    (coded, plain)
}

/// Runs `op` with operand `at` in a code and plain, by every set of instructions; results may differ by `share` of the
/// largest. Nothing may be written out but where `unpacked` says so.
fn check(op: &Op, operands: &[&Tensor], at: usize, plain: &Tensor, share: f64, unpacked: Unpacked) {
    let mut wanted = operands.to_vec();
    wanted[at] = plain;
    let wanted = Array::of(&Cpu::new().run_one(op, &wanted, &Run::new()).unwrap());
    let most = wanted.data.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    let pool = Pool::new(2).unwrap();
    assert_eq!(Unpacked::of(op, operands, at), unpacked, "{op:?}");
    for isa in Isa::ALL {
        let Some(cpu) = Cpu::with_isa(isa) else {
            println!("{} was not tested: this machine does not have it", isa.name());
            continue;
        };
        let got = Array::of(&cpu.run_one(op, operands, &Run::new().on(&pool, 2)).unwrap());
        assert_eq!(got.dims, wanted.dims, "{op:?}");
        for (got, wanted) in got.data.iter().zip(&wanted.data) {
            assert!((got - wanted).abs() <= share * most, "{op:?}: {got} is not {wanted}");
        }
    }
    let coded = Coded::of(operands[at]).unwrap();
    assert_eq!(coded.is_expanded(), unpacked == Unpacked::Kept, "{op:?}");
}

/// How far a product may be off: those of 8 bits quantise the rows of x too.
fn share(code: &Code) -> f64 {
    if matches!(code, Code::Int8 { .. }) { 0.03 } else { 1e-4 }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn products_are_those_of_the_elements(m in 1usize..70, groups in 1usize..5, n in 1usize..70, seed: u64) {
        let k = groups * 16;
        for code in codes(n, k, seed) {
            let share = share(&code);
            let (weight, plain) = in_code(&[n, k], code);
            let x = tensor(DType::Fp32, &[m, k], seed >> 3);
            let bias = tensor(DType::Fp32, &[n], seed >> 4);
            let residual = tensor(DType::Fp32, &[m, n], seed >> 5);
            let op = Op::Linear { bias: true, residual: true, activation: Activation::Relu };
            check(&op, &[&x, &weight, &bias, &residual], 1, &plain, share, Unpacked::No);
        }
        // A weight [in, out], as a product has it.
        for code in codes(n, k, seed) {
            let share = share(&code);
            let (weight, plain) = in_code(&[n, k], code);
            let x = tensor(DType::Fp32, &[2, m, n], seed >> 3);
            check(&Op::MatMul, &[&x, &weight], 1, &plain, share, Unpacked::No);
        }
    }

    #[test]
    fn lookups_write_out_what_they_answer(rows in 1usize..9, groups in 1usize..4, seed: u64) {
        for code in codes(rows, groups * 16, seed) {
            let (table, plain) = in_code(&[rows, groups * 16], code);
            let last = rows as i64 - 1;
            let at = Tensor::from_vec(&[2, 2], vec![0, last, -1, last / 2]).unwrap();
            check(&Op::Gather { axis: 0 }, &[&table, &at], 0, &plain, 0.0, Unpacked::No);
            let slice = Op::Slice { axis: 0, start: 1, end: -1 };
            check(&slice, &[&table], 0, &plain, 0.0, Unpacked::No);
        }
    }
}

#[test]
fn a_convolution_keeps_nothing() {
    for code in codes(4, 48, 7).into_iter().take(4) {
        let (weight, plain) = in_code(&[4, 3, 4, 4], code);
        let x = tensor(DType::Fp32, &[2, 3, 8, 8], 9);
        let op = Op::Conv(Conv {
            window: Default::default(),
            groups: 1,
            bias: false,
            residual: false,
            activation: Activation::None,
        });
        check(&op, &[&x, &weight], 1, &plain, 1e-5, Unpacked::Meanwhile);
    }
}

#[test]
fn any_other_operation_writes_out_once() {
    for code in codes(4, 16, 3) {
        let (weight, plain) = in_code(&[4, 16], code);
        let transpose = Op::Transpose { permutation: vec![1, 0] };
        check(&transpose, &[&weight], 0, &plain, 0.0, Unpacked::Kept);
        assert_eq!(weight.derived_byte_length(), 4 * 16 * 4);
    }
    for code in codes(4, 16, 3) {
        let (weight, plain) = in_code(&[4, 16], code);
        let flat = Cpu::new().run_one(&Op::Reshape { shape: vec![64] }, &[&weight], &Run::new());
        let flat = flat.unwrap();
        assert_eq!(weight.derived_byte_length(), 0);
        assert_eq!(flat.elements::<f32>().unwrap(), plain.elements::<f32>().unwrap());
    }
}

#[test]
fn wrong_operands_are_told() {
    let (table, _) = in_code(&[4, 16], codes(4, 16, 3).remove(0));
    let at = Tensor::from_vec(&[2], vec![0i64, 4]).unwrap();
    let error = Cpu::new().run_one(&Op::Gather { axis: 0 }, &[&table, &at], &Run::new());
    let OpError::InvalidArgument(text) = error.unwrap_err() else { panic!("another error") };
    assert!(text.contains("index 4 is not in dimension 0 of [4,16]"), "{text}");
    let x = tensor(DType::Fp32, &[2, 3], 1);
    let linear = Op::Linear { bias: false, residual: false, activation: Activation::None };
    for op in [linear, Op::MatMul] {
        assert!(Cpu::new().run_one(&op, &[&x, &table], &Run::new()).is_err());
    }
}
