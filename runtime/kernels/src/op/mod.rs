//! The operations and their attributes.

mod activation;
mod attention;
mod conv;
mod elementwise;
mod grad;
mod index;
mod loss;
mod movement;
mod norm;
mod optim;
mod quant;
mod random;
mod recurrent;
mod resize;
pub(crate) mod trees;

use std::sync::Arc;

use innkeeper_tensor::DType;

pub use activation::Activation;
pub use attention::{Attention, Rope};
pub use conv::{Conv, ConvTranspose, PoolKind, Pooling};
pub use elementwise::{Binary, Compare, Curve, Test, Unary};
pub use grad::{Grad, Slope, Window};
pub use index::{Index, Order, Scatter};
pub use loss::{Loss, LossOf, Reduction};
pub use movement::{Depth, Move, Pad};
pub use norm::Norm;
pub use optim::Optim;
pub use quant::Quant;
pub use random::{Draw, Random};
pub use recurrent::{Cell, Recurrent};
pub use resize::{Coordinates, Nearest, Resize, Sample};
pub use trees::{Aggregate, Branch, Post, TreeNode, TreeTest, TreeWeight, Trees, TreesSpec};
pub use trees::{TREE_DEPTH_MAX, TREE_NODES_MAX, TREE_TARGETS_MAX};

/// An operation on tensors, with its attributes. Operands come at the call, in the order given here.
///
/// *Broadcasting* is that of NumPy and ONNX: shapes are aligned at the last dimension, and a size of 1 or a missing
/// dimension is repeated. An *axis* may be negative and then counts from the end. A *numeric* dtype is any but BOOL and
/// BYTES. Operands of one operation have one dtype; nothing is promoted silently. A dtype that an operation does not
/// take is [`Unsupported`](crate::OpError::Unsupported); anything else that does not fit (the number of operands,
/// mixed dtypes, shapes, axes, a result too large to exist) is
/// [`InvalidArgument`](crate::OpError::InvalidArgument).
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// No operand; a tensor of `shape` in which every element is `value`, converted as [`Op::Cast`] would from FP64.
    /// Every dtype but BYTES. ONNX ConstantOfShape.
    Full {
        /// The dtype of the result.
        dtype: DType,
        /// The shape of the result.
        shape: Vec<usize>,
        /// The value of every element.
        value: f64,
    },
    /// No operand; element i of the result, of shape `[count]`, is `start + i * step`, computed in FP64 and converted
    /// as [`Op::Cast`] would. Every numeric dtype. ONNX Range.
    Arange {
        /// The dtype of the result.
        dtype: DType,
        /// Element 0.
        start: f64,
        /// The distance from one element to the next.
        step: f64,
        /// How many elements there are.
        count: usize,
    },
    /// x: the same shape with every element converted. Floats go to integers by truncation towards zero, saturating,
    /// NaN to 0; integers to narrower ones by keeping the low bits; anything but zero (so also NaN) to BOOL true; BOOL
    /// to zero or one. What goes to a float is rounded once, to nearest, ties to even. Every dtype, but BYTES casts
    /// only to itself. ONNX Cast.
    Cast {
        /// The dtype of the result.
        to: DType,
    },
    /// x: the same elements under another shape, sharing the bytes. One dimension may be -1 and is worked out, which
    /// needs the others' product not to be zero; a 0 is a size of 0. Every dtype. ONNX Reshape with allowzero = 1.
    Reshape {
        /// The shape wanted.
        shape: Vec<i64>,
    },
    /// x: dimension i of the result is dimension `permutation[i]` of x. Every dtype but BYTES. ONNX Transpose.
    Transpose {
        /// Every dimension once.
        permutation: Vec<usize>,
    },
    /// x: positions `start` (included) to `end` (excluded) along `axis`. Negative positions count from the end, and
    /// positions are clamped, as in Python: nothing is out of range. Every dtype but BYTES. ONNX Slice with step 1.
    Slice {
        /// The dimension that is cut.
        axis: i64,
        /// The first position taken.
        start: i64,
        /// The first position not taken.
        end: i64,
    },
    /// One or more parts of one dtype, joined along `axis` in order; all other dimensions agree. Every dtype but BYTES.
    /// ONNX Concat.
    Concat {
        /// The dimension that grows.
        axis: i64,
    },
    /// data, indices (INT32 or INT64 of any shape, negative from the end): with data `[a.., n, b..]` and indices
    /// `[i..]` the result is `[a.., i.., b..]`. An index out of range is an error at the run. Data of every dtype but
    /// BYTES. ONNX Gather.
    Gather {
        /// The dimension n of data that indices pick from.
        axis: i64,
    },
    /// a, b: element by element, broadcast.
    Binary(Binary),
    /// a: `op` on a and a scalar of a's dtype, converted from `value` as [`Op::Cast`] would from FP64.
    Scalar {
        /// What is done; dtypes and errors are its own.
        op: Binary,
        /// The right operand.
        value: f64,
    },
    /// a, b: element by element, broadcast; the result is BOOL. A NaN equals nothing and compares false.
    Compare(Compare),
    /// condition (BOOL), a, b: where the condition holds a, else b; all three broadcast. a and b of every dtype but
    /// BYTES. ONNX Where.
    Select,
    /// a: element by element, the same shape and dtype.
    Unary(Unary),
    /// a: element by element by a function with parameters, the same shape and dtype.
    Curve(Curve),
    /// a: element by element; the result is BOOL.
    Test(Test),
    /// a: over some dimensions.
    Reduce {
        /// What is worked out.
        op: Reduce,
        /// The dimensions that go, each once; all when empty.
        axes: Vec<i64>,
        /// Whether each of them stays as a size of 1.
        keep_dims: bool,
    },
    /// a: the index (INT64) of the first largest along `axis`, where a NaN is larger than any number. Numeric dtypes.
    /// Of no elements it is an error. ONNX ArgMax.
    ArgMax {
        /// The dimension that goes.
        axis: i64,
        /// Whether it stays as a size of 1.
        keep_dims: bool,
    },
    /// a: e^a / sum(e^a) along `axis`, the largest a subtracted first so that nothing overflows. FP32, FP64. ONNX
    /// Softmax.
    Softmax {
        /// The dimension along which the result sums to 1.
        axis: i64,
    },
    /// a: a - ln(sum(e^a)) along `axis`, the largest a subtracted first so that nothing overflows. FP32, FP64. ONNX
    /// LogSoftmax.
    LogSoftmax {
        /// The dimension along which e to the result sums to 1.
        axis: i64,
    },
    /// a, b: the matrix product over the last two dimensions, the others broadcast: `[.., m, k]` by `[.., k, n]` gives
    /// `[.., m, n]`. A rank-1 a is a row, a rank-1 b a column, and that dimension is not in the result. With k = 0 the
    /// result is 0. FP32, FP64, and FP16 and BF16 with sums in FP32 that are rounded once. ONNX MatMul.
    MatMul,
    /// x `[.., in]`, weight `[out, in]`, with `bias` then `[out]`, with `residual` then one of the result's shape:
    /// activation(x W^T + bias + residual), `[.., out]`. Dtypes as for [`Op::MatMul`]. PyTorch's `linear`; ONNX Gemm with transB = 1.
    Linear {
        /// Whether an operand is added to every row.
        bias: bool,
        /// Whether an operand is added element by element: what a residual connection carries past the product.
        residual: bool,
        /// What is done to each sum.
        activation: Activation,
    },
    /// Moves, repeats or leaves out elements.
    Move(Move),
    /// Picks or places elements by indices.
    Index(Index),
    /// What depends on the order of elements.
    Order(Order),
    /// Normalisation.
    Norm(Norm),
    /// Scaled dot-product attention.
    Attention(Attention),
    /// Rotary position embedding.
    Rope(Rope),
    /// A convolution.
    Conv(Conv),
    /// What a convolution is the derivative of.
    ConvTranspose(ConvTranspose),
    /// Pooling.
    Pool(Pooling),
    /// Resampling.
    Resize(Resize),
    /// A recurrent layer.
    Recurrent(Recurrent),
    /// Random elements.
    Random(Random),
    /// x `[n, features]`, or `[features]` for one row, rounded to FP32: what a tree ensemble says of each row. Scores
    /// FP32 `[n, targets]`; of a classifier the labels INT64 `[n]` come before them. Numeric dtypes. ONNX-ML
    /// TreeEnsembleRegressor, TreeEnsembleClassifier, TreeEnsemble.
    Trees(Arc<Trees>),
    /// What training minimises, with its gradient.
    Loss(Loss),
    /// Operations on numbers of few bits; operands and results are each one's own.
    Quant(Quant),
    /// A backward pass.
    Grad(Grad),
    /// A step of an optimiser.
    Optim(Optim),
}

/// What is worked out over dimensions. Numeric dtypes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// The sum; of no elements it is 0. Integers wrap around; FP16, BF16 and FP32 are summed in more precision than
    /// they have and rounded once. ONNX ReduceSum.
    Sum,
    /// The product; of no elements it is 1. Integers wrap around; floats are multiplied in FP64. ONNX ReduceProd.
    Product,
    /// The mean; of no elements it is NaN. FP32, FP64. ONNX ReduceMean.
    Mean,
    /// The largest, NaN if there is one; of no elements it is an error. ONNX ReduceMax.
    Max,
    /// The smallest, NaN if there is one; of no elements it is an error. ONNX ReduceMin.
    Min,
}

impl Op {
    /// The operation's name as error texts, logs and profiles have it: that of `wit/model.wit`.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Full { .. } => "full",
            Op::Arange { .. } => "arange",
            Op::Cast { .. } => "cast",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Slice { .. } => "slice",
            Op::Concat { .. } => "concat",
            Op::Gather { .. } => "gather",
            Op::Binary(op) => op.name(),
            Op::Scalar { op: Binary::Add, .. } => "add-scalar",
            Op::Scalar { op: Binary::Mul, .. } => "mul-scalar",
            Op::Scalar { op, .. } => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Unary(op) => op.name(),
            Op::Curve(op) => op.name(),
            Op::Test(op) => op.name(),
            Op::Reduce { op, .. } => op.name(),
            Op::ArgMax { .. } => "argmax",
            Op::Softmax { .. } => "softmax",
            Op::LogSoftmax { .. } => "log-softmax",
            Op::MatMul => "matmul",
            Op::Linear { .. } => "linear",
            Op::Move(op) => op.name(),
            Op::Index(op) => op.name(),
            Op::Order(op) => op.name(),
            Op::Norm(norm) => norm.name(),
            Op::Attention(_) => "attention",
            Op::Rope(_) => "rope",
            Op::Conv(_) => "conv",
            Op::ConvTranspose(_) => "conv-transpose",
            Op::Pool(pool) => pool.name(),
            Op::Random(op) => op.name(),
            Op::Resize(_) => "resize",
            Op::Recurrent(op) => op.name(),
            Op::Trees(_) => "trees",
            Op::Loss(loss) => loss.name(),
            Op::Quant(quant) => quant.name(),
            Op::Grad(grad) => grad.name(),
            Op::Optim(optim) => optim.name(),
        }
    }
}

impl Reduce {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reduce::Sum => "sum",
            Reduce::Product => "product",
            Reduce::Mean => "mean",
            Reduce::Max => "max",
            Reduce::Min => "min",
        }
    }
}
