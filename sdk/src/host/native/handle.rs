//! Tensors: the methods that wit-bindgen makes of the interface `tensors`, on the kernels.

use std::sync::LazyLock;

use innkeeper_kernels::{
    Activation, Backend, Binary, Compare, Cpu, Curve, Op, OpError, Pool, Reduce, Run, Test, Unary,
};
use innkeeper_tensor::{Buffer, Shape, Tensor};

use crate::{DType, Error, Result};

pub(super) static CPU: LazyLock<Cpu> = LazyLock::new(Cpu::new);

/// A thread for each processor, as a host has them; none where the system gives none.
static POOL: LazyLock<Option<Pool>> =
    LazyLock::new(|| Pool::new(std::thread::available_parallelism().ok()?.get()).ok());

/// What an operation may use.
pub(super) fn lent() -> Run<'static> {
    POOL.as_ref().map_or_else(Run::new, |pool| Run::new().on(pool, pool.threads()))
}

/// A tensor, held directly.
#[derive(Clone, Debug)]
pub(crate) struct Handle(pub(crate) Tensor);

impl From<OpError> for Error {
    fn from(error: OpError) -> Error {
        match error {
            OpError::InvalidArgument(text) => Error::InvalidArgument(text),
            OpError::Unsupported(text) => Error::Unsupported(text),
            OpError::Stopped => Error::Internal(error.to_string()),
        }
    }
}

pub(super) fn run(op: Op, inputs: &[&Handle]) -> Result<Handle> {
    let tensors: Vec<&Tensor> = inputs.iter().map(|handle| &handle.0).collect();
    Ok(Handle(CPU.run_one(&op, &tensors, &lent())?))
}

pub(super) fn run_many(op: Op, inputs: &[&Handle]) -> Result<Vec<Handle>> {
    let tensors: Vec<&Tensor> = inputs.iter().map(|handle| &handle.0).collect();
    Ok(CPU.run(&op, &tensors, &lent())?.into_iter().map(Handle).collect())
}

pub(super) fn sizes(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|&size| size as usize).collect()
}

fn axes(axes: &[i32]) -> Vec<i64> {
    axes.iter().copied().map(i64::from).collect()
}

fn invalid(error: impl std::error::Error) -> Error {
    Error::invalid_argument(error.to_string())
}

/// What is made of nothing, and what is read.
impl Handle {
    pub(crate) fn from_bytes(dtype: DType, shape: &[u32], data: &[u8]) -> Result<Handle> {
        let shape = Shape::new(&sizes(shape)).map_err(invalid)?;
        Tensor::new(dtype, shape, Buffer::aligned_copy(data)).map(Handle).map_err(invalid)
    }

    pub(crate) fn full(dtype: DType, shape: &[u32], value: f64) -> Result<Handle> {
        run(Op::Full { dtype, shape: sizes(shape), value }, &[])
    }

    pub(crate) fn arange(dtype: DType, start: f64, step: f64, count: u32) -> Result<Handle> {
        run(Op::Arange { dtype, start, step, count: count as usize }, &[])
    }

    pub(crate) fn dtype(&self) -> DType {
        self.0.dtype()
    }

    pub(crate) fn shape(&self) -> Vec<u32> {
        // A size beyond u32 cannot come from the contract, whose sizes are u32, and no file holds one.
        self.0.shape().dims().iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect()
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.0.as_bytes().len() as u64
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.0.as_bytes().to_vec())
    }

    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = self.0.as_bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        bytes.get(start..end).map(<[u8]>::to_vec).ok_or_else(|| {
            Error::invalid_argument(format!(
                "read: {length} bytes from {offset} on; the tensor has {}",
                bytes.len()
            ))
        })
    }

    pub(crate) fn share(&self) -> Result<Handle> {
        Ok(self.clone())
    }
}

/// Other dtypes, other shapes, other orders.
impl Handle {
    pub(crate) fn cast(&self, to: DType) -> Result<Handle> {
        run(Op::Cast { to }, &[self])
    }

    pub(crate) fn reshape(&self, shape: &[i64]) -> Result<Handle> {
        run(Op::Reshape { shape: shape.to_vec() }, &[self])
    }

    pub(crate) fn transpose(&self, permutation: &[u32]) -> Result<Handle> {
        run(Op::Transpose { permutation: sizes(permutation) }, &[self])
    }

    pub(crate) fn slice(&self, axis: i32, start: i64, end: i64) -> Result<Handle> {
        run(Op::Slice { axis: axis.into(), start, end }, &[self])
    }

    pub(crate) fn concat(parts: &[&Handle], axis: i32) -> Result<Handle> {
        run(Op::Concat { axis: axis.into() }, parts)
    }

    pub(crate) fn gather(&self, indices: &Handle, axis: i32) -> Result<Handle> {
        run(Op::Gather { axis: axis.into() }, &[self, indices])
    }
}

macro_rules! unary {
    ($($name:ident = $op:ident),* $(,)?) => {
        impl Handle {
            $(pub(crate) fn $name(&self) -> Result<Handle> {
                run(Op::Unary(Unary::$op), &[self])
            })*
        }
    };
}
unary! {
    neg = Neg, abs = Abs, exp = Exp, ln = Ln, sqrt = Sqrt,
    tanh = Tanh, sigmoid = Sigmoid, relu = Relu, gelu = Gelu, silu = Silu,
    gelu_tanh = GeluTanh,
    floor = Floor,
    ceil = Ceil,
    round = Round,
    sign = Sign,
    reciprocal = Reciprocal,
    erf = Erf,
    sin = Sin,
    cos = Cos,
    tan = Tan,
    asin = Asin,
    acos = Acos,
    atan = Atan,
    sinh = Sinh,
    cosh = Cosh,
    asinh = Asinh,
    acosh = Acosh,
    atanh = Atanh,
    softplus = Softplus,
    softsign = Softsign,
    mish = Mish,
    hard_swish = HardSwish,
    logical_not = Not,
    bit_not = BitNot,
}

macro_rules! binary {
    ($($name:ident = $op:expr),* $(,)?) => {
        impl Handle {
            $(pub(crate) fn $name(&self, rhs: &Handle) -> Result<Handle> {
                run($op, &[self, rhs])
            })*
        }
    };
}
binary! {
    add = Op::Binary(Binary::Add),
    sub = Op::Binary(Binary::Sub),
    mul = Op::Binary(Binary::Mul),
    div = Op::Binary(Binary::Div),
    pow = Op::Binary(Binary::Pow),
    maximum = Op::Binary(Binary::Maximum),
    minimum = Op::Binary(Binary::Minimum),
    equal = Op::Compare(Compare::Equal),
    less = Op::Compare(Compare::Less),
    greater = Op::Compare(Compare::Greater),
    modulo = Op::Binary(Binary::Mod),
    fmod = Op::Binary(Binary::Fmod),
    prelu = Op::Binary(Binary::Prelu),
    logical_and = Op::Binary(Binary::And),
    logical_or = Op::Binary(Binary::Or),
    logical_xor = Op::Binary(Binary::Xor),
    bit_and = Op::Binary(Binary::BitAnd),
    bit_or = Op::Binary(Binary::BitOr),
    bit_xor = Op::Binary(Binary::BitXor),
    shift_left = Op::Binary(Binary::ShiftLeft),
    shift_right = Op::Binary(Binary::ShiftRight),
    not_equal = Op::Compare(Compare::NotEqual),
    less_or_equal = Op::Compare(Compare::LessOrEqual),
    greater_or_equal = Op::Compare(Compare::GreaterOrEqual),
    matmul = Op::MatMul,
}

macro_rules! curves {
    ($($name:ident = $op:ident($($parameter:ident),*)),* $(,)?) => {
        impl Handle {
            $(pub(crate) fn $name(&self, $($parameter: f64),*) -> Result<Handle> {
                run(Op::Curve(Curve::$op { $($parameter),* }), &[self])
            })*
        }
    };
}
curves! {
    elu = Elu(alpha),
    celu = Celu(alpha),
    selu = Selu(alpha, gamma),
    leaky_relu = LeakyRelu(alpha),
    thresholded_relu = ThresholdedRelu(alpha),
    hard_sigmoid = HardSigmoid(alpha, beta),
    swish = Swish(alpha),
    shrink = Shrink(bias, lambda),
}

macro_rules! reduce {
    ($($name:ident = $op:ident),* $(,)?) => {
        impl Handle {
            $(pub(crate) fn $name(&self, over: &[i32], keep_dims: bool) -> Result<Handle> {
                run(Op::Reduce { op: Reduce::$op, axes: axes(over), keep_dims }, &[self])
            })*
        }
    };
}
reduce!(sum = Sum, product = Product, mean = Mean, max = Max, min = Min);

/// The rest, each in a form of its own.
impl Handle {
    pub(crate) fn clip(&self, min: Option<f64>, max: Option<f64>) -> Result<Handle> {
        run(Op::Curve(Curve::Clip { min, max }), &[self])
    }

    pub(crate) fn is_nan(&self) -> Result<Handle> {
        run(Op::Test(Test::IsNan), &[self])
    }

    pub(crate) fn is_inf(&self, negative: bool, positive: bool) -> Result<Handle> {
        run(Op::Test(Test::IsInf { negative, positive }), &[self])
    }

    pub(crate) fn add_scalar(&self, value: f64) -> Result<Handle> {
        run(Op::Scalar { op: Binary::Add, value }, &[self])
    }

    pub(crate) fn mul_scalar(&self, value: f64) -> Result<Handle> {
        run(Op::Scalar { op: Binary::Mul, value }, &[self])
    }

    pub(crate) fn select(&self, a: &Handle, b: &Handle) -> Result<Handle> {
        run(Op::Select, &[self, a, b])
    }

    pub(crate) fn argmax(&self, axis: i32, keep_dims: bool) -> Result<Handle> {
        run(Op::ArgMax { axis: axis.into(), keep_dims }, &[self])
    }

    pub(crate) fn softmax(&self, axis: i32) -> Result<Handle> {
        run(Op::Softmax { axis: axis.into() }, &[self])
    }

    pub(crate) fn log_softmax(&self, axis: i32) -> Result<Handle> {
        run(Op::LogSoftmax { axis: axis.into() }, &[self])
    }

    pub(crate) fn linear(&self, weight: &Handle, bias: Option<&Handle>) -> Result<Handle> {
        let operands = [self, weight].into_iter().chain(bias);
        let op = Op::Linear { bias: bias.is_some(), residual: false, activation: Activation::None };
        run(op, &operands.collect::<Vec<_>>())
    }
}
