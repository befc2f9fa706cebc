//! What moves, picks and orders elements.

use super::{size, sizes};
use crate::host::{self, arrays};
use crate::{DType, Result, Tensor};

/// What is around a padded tensor; see [`Tensor::pad`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// This value, converted as [`Tensor::cast`] would from FP64.
    Constant(f64),
    /// The tensor mirrored at its first and last positions, which are not repeated.
    Reflect,
    /// The first and the last position again and again.
    Edge,
    /// The tensor from its other end.
    Wrap,
}

/// What a scatter does where something is already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The different values of a tensor; see [`Tensor::unique`].
#[derive(Debug)]
pub struct Unique {
    /// They.
    pub values: Tensor,
    /// Where each is first (INT64).
    pub first: Tensor,
    /// Which of them each element is (INT64).
    pub which: Tensor,
    /// How often each is there (INT64).
    pub count: Tensor,
}

/// # Moving
///
/// Of every dtype but BYTES.
impl Tensor {
    /// Ones where column - row is `diagonal`, else zeros. ONNX EyeLike.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn eye(dtype: DType, rows: usize, columns: usize, diagonal: i64) -> Result<Tensor> {
        let (rows, columns) = (size(rows)?, size(columns)?);
        Ok(Tensor(host::Handle::eye(host::dtype(dtype), rows, columns, diagonal)?))
    }

    /// Along each of `axes` the positions `start`, `start + step`, ... before `end`, as Python's slices. Steps may be
    /// negative and, when all are 1, left out. ONNX Slice.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[4], &[1i32, 2, 3, 4])?;
    /// let backwards = x.strided_slice(&[0], &[-1], &[i64::MIN], &[-2])?;
    /// assert_eq!(backwards.to_vec::<i32>()?, [4, 2]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn strided_slice(
        &self,
        axes: &[i32],
        starts: &[i64],
        ends: &[i64],
        steps: &[i64],
    ) -> Result<Tensor> {
        Ok(Tensor(self.0.strided_slice(axes, starts, ends, steps)?))
    }

    /// The parts of these sizes along `axis`, in order; the sizes add up. ONNX Split.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn split(&self, axis: i32, parts: &[usize]) -> Result<Vec<Tensor>> {
        Ok(self.0.split(axis, &sizes(parts)?)?.into_iter().map(Tensor).collect())
    }

    /// For each dimension `begins[i]` positions before and `ends[i]` after; negative numbers cut. ONNX Pad.
    ///
    /// ```
    /// # use innkeeper_sdk::{Padding, Tensor};
    /// let x = Tensor::from_slice(&[3], &[1i32, 2, 3])?;
    /// assert_eq!(x.pad(Padding::Reflect, &[2], &[0])?.to_vec::<i32>()?, [3, 2, 1, 2, 3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn pad(&self, mode: Padding, begins: &[i64], ends: &[i64]) -> Result<Tensor> {
        Ok(Tensor(self.0.pad(arrays::padding(mode), begins, ends)?))
    }

    /// Repeated to what this shape and `shape` broadcast to. ONNX Expand.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor(self.0.expand(&sizes(shape)?)?))
    }

    /// The whole tensor `repeats[i]` times along dimension i. ONNX Tile.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn tile(&self, repeats: &[usize]) -> Result<Tensor> {
        Ok(Tensor(self.0.tile(&sizes(repeats)?)?))
    }

    /// Of the last two dimensions the upper triangle from `diagonal` on (`upper`), or the lower up to it; 0 elsewhere.
    /// ONNX Trilu.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn triangle(&self, upper: bool, diagonal: i64) -> Result<Tensor> {
        Ok(Tensor(self.0.triangle(upper, diagonal)?))
    }
}

/// # Choosing
///
/// Of every dtype but BYTES.
impl Tensor {
    /// The positions along `axis` at which `condition` (BOOL of rank 1, no longer than that dimension) holds; without an
    /// axis this is flattened first. ONNX Compress.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[3], &[1f32, 2.0, 3.0])?;
    /// let chosen = x.compress(&Tensor::from_bools(&[3], &[true, false, true])?, Some(0))?;
    /// assert_eq!(chosen.to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn compress(&self, condition: &Tensor, axis: Option<i32>) -> Result<Tensor> {
        Ok(Tensor(self.0.compress(&condition.0, axis)?))
    }

    /// Of all elements, flattened, the different values, in ascending order if `sorted` and else in that of their first
    /// places; NaNs are one value, larger than any other. Numeric dtypes. ONNX Unique.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let unique = Tensor::from_slice(&[4], &[3i32, 1, 3, 3])?.unique(true)?;
    /// assert_eq!(unique.values.to_vec::<i32>()?, [1, 3]);
    /// assert_eq!(unique.first.to_vec::<i64>()?, [1, 0]);
    /// assert_eq!(unique.which.to_vec::<i64>()?, [1, 0, 1, 1]);
    /// assert_eq!(unique.count.to_vec::<i64>()?, [1, 3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn unique(&self, sorted: bool) -> Result<Unique> {
        let (values, first, which, count) = self.0.unique(sorted)?;
        let [values, first, which, count] = [values, first, which, count].map(Tensor);
        Ok(Unique { values, first, which, count })
    }

    /// Along `time_axis` the first `lengths[b]` positions in reverse, for position b along `batch_axis`; `lengths` are
    /// INT32 or INT64. ONNX ReverseSequence.
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a length outside of this.
    pub fn reverse_sequence(
        &self,
        lengths: &Tensor,
        batch_axis: i32,
        time_axis: i32,
    ) -> Result<Tensor> {
        Ok(Tensor(self.0.reverse_sequence(&lengths.0, batch_axis, time_axis)?))
    }
}

/// # Picking
///
/// Indices are INT32 or INT64, negative ones from the end. Of every dtype but BYTES.
impl Tensor {
    /// The indices' shape; element i is this tensor's at i with the index in place of i's position along `axis`. ONNX
    /// GatherElements.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn gather_elements(&self, indices: &Tensor, axis: i32) -> Result<Tensor> {
        Ok(Tensor(self.0.gather_elements(&indices.0, axis)?))
    }

    /// Each row of `indices` names a position in the dimensions after the first `batch_dims`. ONNX GatherND.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn gather_nd(&self, indices: &Tensor, batch_dims: usize) -> Result<Tensor> {
        Ok(Tensor(self.0.gather_nd(&indices.0, size(batch_dims)?)?))
    }

    /// This with each of `updates` put where [`gather_elements`](Tensor::gather_elements) would read it; numeric dtypes
    /// where it combines. ONNX ScatterElements.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn scatter_elements(
        &self,
        indices: &Tensor,
        updates: &Tensor,
        axis: i32,
        reduction: Scatter,
    ) -> Result<Tensor> {
        let reduction = arrays::scatter(reduction);
        Ok(Tensor(self.0.scatter_elements(&indices.0, &updates.0, axis, reduction)?))
    }

    /// This with each of `updates` put where [`gather_nd`](Tensor::gather_nd) would read it; numeric dtypes where it
    /// combines. ONNX ScatterND.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn scatter_nd(
        &self,
        indices: &Tensor,
        updates: &Tensor,
        reduction: Scatter,
    ) -> Result<Tensor> {
        let reduction = arrays::scatter(reduction);
        Ok(Tensor(self.0.scatter_nd(&indices.0, &updates.0, reduction)?))
    }

    /// These indices as a new dimension of size `depth` at `axis`, in which `values[1]` stands where the index points
    /// and `values[0]` elsewhere. ONNX OneHot.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn one_hot(&self, values: &Tensor, axis: i32, depth: usize) -> Result<Tensor> {
        Ok(Tensor(self.0.one_hot(&values.0, axis, size(depth)?)?))
    }

    /// Where this is not zero: INT64 `[rank, count]`, one column for each, in row-major order. ONNX NonZero.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[0i32, 5, 0, 7])?;
    /// let at = x.non_zero()?;
    /// assert_eq!((at.shape(), at.to_vec::<i64>()?), (vec![2, 2], vec![0, 1, 1, 1]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn non_zero(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.non_zero()?))
    }
}

/// # Ordering and summing up
///
/// Of numeric dtypes, unless they say otherwise.
impl Tensor {
    /// INT64: the index of the first smallest along `axis`, like [`argmax`](Tensor::argmax). ONNX ArgMin.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn argmin(&self, axis: i32, keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.argmin(axis, keep_dims)?))
    }

    /// The `k` largest or smallest along `axis`, in order, and their indices (INT64); with k the size a sort. ONNX TopK.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[4], &[3f32, 1.0, 4.0, 1.5])?;
    /// let (values, indices) = x.top_k(2, -1, true)?;
    /// assert_eq!((values.to_vec::<f32>()?, indices.to_vec::<i64>()?), (vec![4.0, 3.0], vec![2, 0]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn top_k(&self, k: usize, axis: i32, largest: bool) -> Result<(Tensor, Tensor)> {
        let (values, indices) = self.0.top_k(size(k)?, axis, largest)?;
        Ok((Tensor(values), Tensor(indices)))
    }

    /// The sum of the elements up to each along `axis`, without its own when `exclusive`, from the end when `reverse`.
    /// ONNX CumSum.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn cumsum(&self, axis: i32, exclusive: bool, reverse: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.cumsum(axis, exclusive, reverse)?))
    }

    /// The mean squared distance from the mean over `axes` (all when empty), divided by the count less `correction`: 0
    /// for a population, 1 for a sample. Floating dtypes. NumPy `var`.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn variance(&self, axes: &[i32], keep_dims: bool, correction: usize) -> Result<Tensor> {
        Ok(Tensor(self.0.variance(axes, keep_dims, size(correction)?)?))
    }

    /// The square root of [`variance`](Tensor::variance). NumPy `std`.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn standard_deviation(
        &self,
        axes: &[i32],
        keep_dims: bool,
        correction: usize,
    ) -> Result<Tensor> {
        Ok(Tensor(self.0.standard_deviation(axes, keep_dims, size(correction)?)?))
    }

    /// Whether any over `axes` (all when empty) holds. BOOL.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn any(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.any(axes, keep_dims)?))
    }

    /// Whether all over `axes` (all when empty) hold. BOOL.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn all(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.all(axes, keep_dims)?))
    }
}
