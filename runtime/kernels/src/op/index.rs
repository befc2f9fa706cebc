//! Operations that pick elements by indices that are tensors themselves.

use innkeeper_tensor::DType;

/// An operation that picks or places elements. Indices are INT32 or INT64, may be negative and then count from the end,
/// and one out of range is an error at the run. Data of every dtype but BYTES unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// data, indices of the same rank, in every dimension but `axis` no larger: the result has the indices' shape, and
    /// element i is data's at i with the index in place of i's position along `axis`. ONNX GatherElements.
    GatherElements {
        /// The dimension that indices pick from.
        axis: i64,
    },
    /// data `[b.., d.., t..]`, indices `[b.., i.., m]`: each of the indices' rows names a position in `d..`, which are m
    /// dimensions; the result is `[b.., i.., t..]`. ONNX GatherND.
    GatherNd {
        /// How many dimensions `b..` are.
        batch_dims: usize,
    },
    /// data, indices, updates of the indices' shape: data with element i of updates put where GatherElements would read
    /// element i. Numeric dtypes where it `reduction` combines. Where several updates meet without one, the last one
    /// stays. ONNX ScatterElements.
    ScatterElements {
        /// The dimension that indices point into.
        axis: i64,
        /// What becomes of the element that was there.
        reduction: Scatter,
    },
    /// data `[d.., t..]`, indices `[i.., m]`, updates `[i.., t..]`: data with each update put where GatherND would read
    /// it. Numeric dtypes where it combines. ONNX ScatterND.
    ScatterNd {
        /// What becomes of the elements that were there.
        reduction: Scatter,
    },
    /// indices, values `[2]`: a new dimension of size `depth` at `axis` of the result, in which `values[1]` stands where
    /// the index points and `values[0]` elsewhere, also everywhere for an index out of range. ONNX OneHot.
    OneHot {
        /// Where the new dimension is, among those of the result.
        axis: i64,
        /// Its size.
        depth: usize,
    },
    /// x of rank r with n elements: where x is not zero, as `[r, n]` INT64, one column for each in row-major order, and
    /// how many columns there are, as INT64 `[]`. Columns after those are 0: a result's size is known before x is, so
    /// that it can be charged; the caller cuts it. ONNX NonZero.
    NonZero,
    /// x, condition (BOOL `[k]`, k at most x's size along the axis): x with those positions first at which the condition
    /// holds and 0 after them, and how many there are, as INT64 `[]`; the caller cuts the rest. ONNX Compress.
    Compress {
        /// The dimension that is cut; x is flattened without one.
        axis: Option<i64>,
    },
    /// x, flattened, of n elements: its different values `[n]`, where each is first `[n]`, which one each element is
    /// `[n]`, how often each is there `[n]`, and how many there are `[]`; all but the first are INT64. What comes after
    /// the different ones is 0; the caller cuts it. NaNs are one value, larger than any other. Numeric dtypes. ONNX
    /// Unique without an axis.
    Unique {
        /// Whether values are in ascending order, else in that of their first place.
        sorted: bool,
    },
}

/// What a scatter does where something is already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scatter {
    /// Replaces it.
    Replace,
    /// Adds to it; integers wrap around.
    Add,
    /// Multiplies it; integers wrap around.
    Mul,
    /// Leaves the smaller, NaN if either is.
    Min,
    /// Leaves the larger, NaN if either is.
    Max,
}

/// An operation on the order of elements along a dimension, or over all of some.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// a: the index (INT64) of the largest or smallest along `axis`, where a NaN wins over any number. Numeric dtypes.
    /// Of no elements it is an error. ONNX ArgMax and ArgMin.
    Arg {
        /// Whether the smallest is looked for, else the largest.
        smallest: bool,
        /// Whether the last of equal ones is taken, else the first.
        last: bool,
        /// The dimension that goes.
        axis: i64,
        /// Whether it stays as a size of 1.
        keep_dims: bool,
    },
    /// a: the sum of the elements up to each along `axis`, in more precision than FP16, BF16 and FP32 have; integers
    /// wrap around. Numeric dtypes. ONNX CumSum.
    CumSum {
        /// The dimension along which is summed.
        axis: i64,
        /// Whether an element's own value is left out.
        exclusive: bool,
        /// Whether the sum is of the elements from each on.
        reverse: bool,
    },
    /// a: the `k` largest or smallest along `axis`, and their indices (INT64), in order, of equal ones the first index
    /// first; a NaN is larger than any number. k is at most the size. Numeric dtypes. ONNX TopK; with k = size a sort.
    TopK {
        /// The dimension along which is compared.
        axis: i64,
        /// How many.
        k: usize,
        /// Whether the largest are taken, else the smallest.
        largest: bool,
    },
    /// a: the mean of the squared distances from the mean over `axes` (all when empty), divided by the count less
    /// `correction`; NaN where that is not above 0. FP16, BF16, FP32, FP64, all computed in FP64. NumPy `var` and `std`.
    Variance {
        /// The dimensions that go, each once.
        axes: Vec<i64>,
        /// Whether each of them stays as a size of 1.
        keep_dims: bool,
        /// 0 for a population, 1 for a sample.
        correction: usize,
        /// Whether the square root is taken: the standard deviation.
        root: bool,
    },
    /// a (BOOL): whether any over `axes` (all when empty) holds; of no elements it does not. ONNX ReduceMax of booleans.
    Any {
        /// The dimensions that go, each once.
        axes: Vec<i64>,
        /// Whether each of them stays as a size of 1.
        keep_dims: bool,
    },
    /// a (BOOL): whether all over `axes` (all when empty) hold; of no elements they do. ONNX ReduceMin of booleans.
    All {
        /// The dimensions that go, each once.
        axes: Vec<i64>,
        /// Whether each of them stays as a size of 1.
        keep_dims: bool,
    },
    /// No operand; ones where column - row is `diagonal`, else zeros. Every dtype but BYTES. ONNX EyeLike.
    Eye {
        /// The dtype of the result.
        dtype: DType,
        /// The first size of the result.
        rows: usize,
        /// The second size of the result.
        columns: usize,
        /// Which diagonal.
        diagonal: i64,
    },
}

impl Index {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Index::GatherElements { .. } => "gather-elements",
            Index::GatherNd { .. } => "gather-nd",
            Index::ScatterElements { .. } => "scatter-elements",
            Index::ScatterNd { .. } => "scatter-nd",
            Index::OneHot { .. } => "one-hot",
            Index::NonZero => "non-zero",
            Index::Compress { .. } => "compress",
            Index::Unique { .. } => "unique",
        }
    }
}

impl Order {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Order::Arg { smallest: false, .. } => "argmax",
            Order::Arg { smallest: true, .. } => "argmin",
            Order::CumSum { .. } => "cumsum",
            Order::TopK { .. } => "top-k",
            Order::Variance { root: false, .. } => "variance",
            Order::Variance { root: true, .. } => "standard-deviation",
            Order::Any { .. } => "any",
            Order::All { .. } => "all",
            Order::Eye { .. } => "eye",
        }
    }
}
