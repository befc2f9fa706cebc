//! What is refused, and how it is said.

use innkeeper_kernels::{Activation, Binary, Compare, Curve, Op, OpError, Reduce, Test, Unary};
use innkeeper_tensor::{DType, Shape, Tensor};

use crate::oracle::run;
use crate::values::{NUMERIC, linear, of};

use DType::*;

type Operand = (DType, &'static [usize]);

fn output(op: &Op, operands: &[Operand]) -> Result<(DType, Shape), OpError> {
    let shapes: Vec<(DType, Shape)> =
        operands.iter().map(|(dtype, dims)| (*dtype, Shape::new(dims).unwrap())).collect();
    let operands: Vec<(DType, &Shape)> =
        shapes.iter().map(|(dtype, shape)| (*dtype, shape)).collect();
    op.output(&operands)
}

fn sum(axes: &[i64]) -> Op {
    Op::Reduce { op: Reduce::Sum, axes: axes.to_vec(), keep_dims: false }
}

fn transpose(permutation: &[usize]) -> Op {
    Op::Transpose { permutation: permutation.to_vec() }
}

fn reshape(shape: &[i64]) -> Op {
    Op::Reshape { shape: shape.to_vec() }
}

fn full(dtype: DType, shape: &[usize]) -> Op {
    Op::Full { dtype, shape: shape.to_vec(), value: 0.0 }
}

const ADD: Op = Op::Binary(Binary::Add);

/// Operation, operands, and a part of what is said.
#[test]
fn what_does_not_fit_is_an_invalid_argument() {
    let cases: &[(Op, &[Operand], &str)] = &[
        (ADD, &[(Fp32, &[2])], "add: takes 2 operands, got 1"),
        (ADD, &[], "got 0"),
        (full(Fp32, &[1]), &[(Fp32, &[1])], "full: takes 0 operands, got 1"),
        (Op::Concat { axis: 0 }, &[], "at least 1"),
        (ADD, &[(Fp32, &[2]), (Fp64, &[2])], "one dtype, got FP32 and FP64; cast"),
        (ADD, &[(Fp32, &[2, 3]), (Fp32, &[2])], "[2,3] and [2] do not broadcast"),
        (ADD, &[(Fp32, &[3]), (Fp32, &[0])], "do not broadcast"),
        (ADD, &[(Fp32, &[1 << 40, 1]), (Fp32, &[1, 1 << 40])], "cannot exist"),
        (Op::Select, &[(Uint8, &[2]), (Fp32, &[2]), (Fp32, &[2])], "must be BOOL, got UINT8"),
        (Op::Select, &[(Bool, &[2]), (Fp32, &[2]), (Int32, &[2])], "one dtype"),
        (Op::Select, &[(Bool, &[2]), (Fp32, &[3]), (Fp32, &[1])], "do not broadcast"),
        (full(Fp32, &[1 << 62]), &[], "cannot exist"),
        (full(Fp32, &[0, usize::MAX, usize::MAX]), &[], "cannot exist"),
        (full(Fp32, &[1; 17]), &[], "at most 16"),
        (Op::Arange { dtype: Fp32, start: 0.0, step: 1.0, count: usize::MAX }, &[], "cannot exist"),
        (reshape(&[4]), &[(Fp32, &[2, 3])], "[4] holds 4 elements, [2,3] has 6"),
        (reshape(&[-1, -1]), &[(Fp32, &[2, 3])], "-1"),
        (reshape(&[-1, 4]), &[(Fp32, &[2, 3])], "cannot be worked out"),
        (reshape(&[-1, 0]), &[(Fp32, &[0])], "cannot be worked out"),
        (reshape(&[-2, 3]), &[(Fp32, &[2, 3])], "-2"),
        (reshape(&[1; 17]), &[(Fp32, &[1])], "at most 16"),
        (reshape(&[-1, i64::MAX, i64::MAX]), &[(Fp32, &[2])], "cannot exist"),
        (reshape(&[i64::MAX, 4]), &[(Fp32, &[2])], "cannot exist"),
        (transpose(&[0]), &[(Fp32, &[2, 3])], "got [0]"),
        (transpose(&[0, 0]), &[(Fp32, &[2, 3])], "got [0, 0]"),
        (transpose(&[0, 2]), &[(Fp32, &[2, 3])], "got [0, 2]"),
        (transpose(&[0, 1, 2]), &[(Fp32, &[2, 3])], "once each"),
        (
            Op::Slice { axis: 2, start: 0, end: 1 },
            &[(Fp32, &[2, 3])],
            "axis 2 must be from -2 to 1",
        ),
        (Op::Slice { axis: 0, start: 0, end: 1 }, &[(Fp32, &[])], "a scalar has no axis 0"),
        (Op::Concat { axis: -3 }, &[(Fp32, &[2, 3])], "axis -3"),
        (Op::Concat { axis: 0 }, &[(Fp32, &[2, 3]), (Fp32, &[2, 4])], "part 1 is FP32 [2,4]"),
        (Op::Concat { axis: 0 }, &[(Fp32, &[2, 3]), (Fp32, &[2])], "part 1"),
        (Op::Concat { axis: 0 }, &[(Fp32, &[2]), (Fp32, &[2]), (Fp64, &[2])], "part 2 is FP64"),
        (Op::Concat { axis: 0 }, &[(Fp32, &[1 << 59]), (Fp32, &[1 << 59])], "cannot exist"),
        (
            Op::Gather { axis: 0 },
            &[(Fp32, &[2]), (Uint8, &[1])],
            "must be INT32 or INT64, got UINT8",
        ),
        (Op::Gather { axis: 1 }, &[(Fp32, &[2]), (Int32, &[1])], "axis 1"),
        (Op::Gather { axis: 0 }, &[(Fp32, &[2; 9]), (Int32, &[1; 9])], "at most 16"),
        (sum(&[0, -2]), &[(Fp32, &[2, 3])], "axis -2 is there twice"),
        (sum(&[i64::MIN]), &[(Fp32, &[2, 3])], "axis -9223372036854775808"),
        (sum(&[0]), &[(Fp32, &[])], "scalar"),
        (Op::ArgMax { axis: 5, keep_dims: true }, &[(Fp32, &[2])], "axis 5"),
        (
            Op::ArgMax { axis: 0, keep_dims: true },
            &[(Fp32, &[0])],
            "argmax: there is none of no elements",
        ),
        (Op::Softmax { axis: 0 }, &[(Fp32, &[])], "softmax: a scalar"),
        (Op::LogSoftmax { axis: i64::MAX }, &[(Fp32, &[1])], "log-softmax: axis"),
        (
            Op::MatMul,
            &[(Fp32, &[2, 3]), (Fp32, &[2, 3])],
            "columns (3) must be the right side's rows (2)",
        ),
        (Op::MatMul, &[(Fp32, &[3]), (Fp32, &[4])], "columns (3)"),
        (Op::MatMul, &[(Fp32, &[]), (Fp32, &[4])], "a scalar is no matrix"),
        (Op::MatMul, &[(Fp32, &[2, 1, 1]), (Fp32, &[3, 1, 1])], "do not broadcast"),
        (Op::MatMul, &[(Fp32, &[2, 2]), (Fp64, &[2, 2])], "one dtype"),
        (Op::MatMul, &[(Fp32, &[1 << 32, 1]), (Fp32, &[1, 1 << 32])], "cannot exist"),
        (linear(false), &[(Fp32, &[2, 3]), (Fp32, &[3, 2])], "must end in 2"),
        (linear(false), &[(Fp32, &[]), (Fp32, &[3, 2])], "x must be [..,in]"),
        (linear(false), &[(Fp32, &[3]), (Fp32, &[3])], "weight [out,in]"),
        (linear(true), &[(Fp32, &[3]), (Fp32, &[2, 3])], "takes 3 operands, got 2"),
        (linear(true), &[(Fp32, &[3]), (Fp32, &[2, 3]), (Fp32, &[3])], "bias must be [2]"),
        (linear(true), &[(Fp32, &[3]), (Fp32, &[2, 3]), (Fp64, &[2])], "one dtype"),
        (
            Op::Linear { bias: false, residual: true, activation: Activation::Relu },
            &[(Fp32, &[3]), (Fp32, &[2, 3]), (Fp32, &[3])],
            "residual must be [2]",
        ),
    ];
    for (op, operands, wanted) in cases {
        match output(op, operands) {
            Err(OpError::InvalidArgument(text)) => {
                assert!(text.contains(wanted), "{op:?} on {operands:?}: {text}");
                assert!(text.starts_with(op.name()), "{text}");
            }
            other => panic!("{op:?} on {operands:?}: {other:?}"),
        }
    }
}

/// Which dtypes each operation takes: everything else is unsupported.
#[test]
fn dtypes() {
    const FLOAT: &[DType] = &[Fp32, Fp64];
    const FLOATS: &[DType] = &[Fp16, Bf16, Fp32, Fp64];
    const SIGNED: &[DType] = &[Fp16, Bf16, Fp32, Fp64, Int8, Int16, Int32, Int64];
    const UNSIGNED: &[DType] = &[Uint8, Uint16, Uint32, Uint64];
    let integers: Vec<DType> = NUMERIC.into_iter().filter(|dtype| !dtype.is_float()).collect();
    let fixed: Vec<DType> = NUMERIC.into_iter().chain([Bool]).collect();
    let reduce = |op| Op::Reduce { op, axes: vec![], keep_dims: false };
    let cases: Vec<(Op, usize, &[DType])> = vec![
        (ADD, 2, &NUMERIC),
        (Op::Binary(Binary::Sub), 2, &NUMERIC),
        (Op::Binary(Binary::Mul), 2, &NUMERIC),
        (Op::Binary(Binary::Div), 2, &NUMERIC),
        (Op::Binary(Binary::Pow), 2, &NUMERIC),
        (Op::Binary(Binary::Maximum), 2, &NUMERIC),
        (Op::Binary(Binary::Minimum), 2, &NUMERIC),
        (Op::Scalar { op: Binary::Add, value: 1.0 }, 1, &NUMERIC),
        (Op::Scalar { op: Binary::Mul, value: 1.0 }, 1, &NUMERIC),
        (Op::Compare(Compare::Equal), 2, &fixed),
        (Op::Compare(Compare::Less), 2, &NUMERIC),
        (Op::Compare(Compare::Greater), 2, &NUMERIC),
        (Op::Unary(Unary::Neg), 1, SIGNED),
        (Op::Unary(Unary::Abs), 1, &NUMERIC),
        (Op::Unary(Unary::Exp), 1, FLOATS),
        (Op::Unary(Unary::Ln), 1, FLOATS),
        (Op::Unary(Unary::Sqrt), 1, FLOATS),
        (Op::Unary(Unary::Tanh), 1, FLOATS),
        (Op::Unary(Unary::Sigmoid), 1, FLOATS),
        (Op::Unary(Unary::Relu), 1, SIGNED),
        (Op::Unary(Unary::Gelu), 1, FLOATS),
        (Op::Unary(Unary::Silu), 1, FLOATS),
        (Op::Unary(Unary::Mish), 1, FLOATS),
        (Op::Unary(Unary::Sign), 1, &NUMERIC),
        (Op::Unary(Unary::Not), 1, &[Bool]),
        (Op::Unary(Unary::BitNot), 1, &integers),
        (Op::Curve(Curve::Elu { alpha: 1.0 }), 1, FLOATS),
        (Op::Curve(Curve::Clip { min: None, max: None }), 1, &NUMERIC),
        (Op::Test(Test::IsNan), 1, FLOATS),
        (Op::Binary(Binary::Mod), 2, &NUMERIC),
        (Op::Binary(Binary::Prelu), 2, &NUMERIC),
        (Op::Binary(Binary::Xor), 2, &[Bool]),
        (Op::Binary(Binary::BitOr), 2, &integers),
        (Op::Binary(Binary::ShiftLeft), 2, UNSIGNED),
        (Op::Compare(Compare::NotEqual), 2, &fixed),
        (Op::Compare(Compare::LessOrEqual), 2, &NUMERIC),
        (reduce(Reduce::Sum), 1, &NUMERIC),
        (reduce(Reduce::Mean), 1, FLOATS),
        (reduce(Reduce::Max), 1, &NUMERIC),
        (reduce(Reduce::Min), 1, &NUMERIC),
        (Op::ArgMax { axis: 0, keep_dims: false }, 1, &NUMERIC),
        (Op::Softmax { axis: 0 }, 1, FLOAT),
        (Op::LogSoftmax { axis: 0 }, 1, FLOAT),
        (Op::MatMul, 2, FLOATS),
        (transpose(&[1, 0]), 1, &fixed),
        (Op::Slice { axis: 0, start: 0, end: 1 }, 1, &fixed),
        (Op::Concat { axis: 0 }, 2, &fixed),
        (reshape(&[4]), 1, &DType::ALL),
        (Op::Cast { to: Fp16 }, 1, &fixed),
    ];
    for (op, operands, taken) in &cases {
        for dtype in DType::ALL {
            let x = of(dtype, &[2, 2], &[1.0; 4], false);
            check_dtype(op, &vec![&x; *operands], taken.contains(&dtype), dtype);
        }
    }
    for dtype in DType::ALL {
        let x = of(dtype, &[2, 2], &[1.0; 4], false);
        let (index, holds) = (of(Int32, &[1], &[0.0], false), of(Bool, &[1], &[1.0], false));
        check_dtype(&Op::Gather { axis: 0 }, &[&x, &index], dtype != Bytes, dtype);
        check_dtype(&Op::Select, &[&holds, &x, &x], dtype != Bytes, dtype);
        check_dtype(&full(dtype, &[1]), &[], dtype != Bytes, dtype);
        let arange = Op::Arange { dtype, start: 0.0, step: 1.0, count: 1 };
        check_dtype(&arange, &[], NUMERIC.contains(&dtype), dtype);
        check_dtype(&linear(false), &[&x, &x], FLOATS.contains(&dtype), dtype);
    }
}

fn check_dtype(op: &Op, operands: &[&Tensor], taken: bool, dtype: DType) {
    match run(op, operands) {
        Ok(_) => assert!(taken, "{op:?} took {dtype}"),
        Err(OpError::Unsupported(text)) => {
            assert!(!taken, "{op:?} on {dtype}: {text}");
            assert!(text.contains(dtype.name()) && text.starts_with(op.name()), "{text}");
        }
        Err(other) => panic!("{op:?} on {dtype}: {other}"),
    }
}

#[test]
fn an_index_out_of_range_is_named() {
    let data = of(Fp32, &[2, 3], &[0.0; 6], false);
    for (index, fits) in
        [(-3.0, true), (2.0, true), (-4.0, false), (3.0, false), (1e18, false), (-1e19, false)]
    {
        let indices = of(Int64, &[2], &[0.0, index], false);
        match run(&Op::Gather { axis: 1 }, &[&data, &indices]) {
            Ok(_) => assert!(fits, "{index}"),
            Err(error) => {
                assert!(!fits, "{index}: {error}");
                let text = error.to_string();
                assert!(text.contains(&format!("index {}", index as i64)), "{text}");
                assert!(text.contains("from -3 to 3"), "{text}");
            }
        }
    }
    // Also where nothing would be copied.
    let none = of(Fp32, &[0, 3], &[], false);
    assert!(run(&Op::Gather { axis: 0 }, &[&none, &of(Int32, &[1], &[0.0], false)]).is_err());
    let none = of(Fp32, &[3, 0], &[], false);
    assert!(run(&Op::Gather { axis: 0 }, &[&none, &of(Int32, &[1], &[3.0], false)]).is_err());
}

#[test]
fn a_result_without_memory_is_refused() {
    // Fits an address space but no machine.
    let error = run_unchecked(&full(Fp64, &[1 << 58]));
    assert!(matches!(&error, OpError::Unsupported(text) if text.contains("memory")), "{error}");
}

fn run_unchecked(op: &Op) -> OpError {
    use innkeeper_kernels::{Backend, Cpu, Run};
    Cpu::new().run_one(op, &[], &Run::new()).unwrap_err()
}

/// An operation that a backend does by way of another must not hand it back and forth.
#[test]
fn the_number_of_operands_is_checked_at_the_run() {
    use innkeeper_kernels::{Aggregate, Post, TreeNode, TreeWeight, Trees, TreesSpec};
    use innkeeper_kernels::{
        Backend, Cpu, Grad, Loss, LossOf, Optim, Quant, Reduction, Run, Slope,
    };
    let loss = Loss { of: LossOf::MeanSquaredError, reduction: Reduction::Mean, gradient: true };
    let spec = TreesSpec {
        nodes: vec![TreeNode { tree: 0, node: 0, branch: None }],
        weights: vec![TreeWeight { tree: 0, node: 0, target: 0, weight: 1.0 }],
        targets: 1,
        aggregate: Aggregate::Sum,
        post: Post::None,
        base: vec![],
        labels: None,
    };
    let ops = [
        Op::Loss(loss),
        Op::Trees(Trees::new(&spec).unwrap().into()),
        Op::Grad(Grad::Slope(Slope::Relu)),
        Op::Quant(Quant::Dynamic),
        Op::Optim(Optim::ClipNorm { norm_max: 1.0 }),
        Op::MatMul,
        Op::Select,
        ADD,
    ];
    let x = of(Fp32, &[2, 2], &[1.0; 4], false);
    for op in &ops {
        for count in 0..6 {
            let kinds = vec![(Fp32, x.shape()); count];
            let results = Cpu::new().run(op, &vec![&x; count], &Run::new());
            assert_eq!(results.is_ok(), op.outputs(&kinds).is_ok(), "{op:?} of {count}");
        }
    }
}
