//! Channels, pixels, and other sizes.

use super::{size, sizes};
use crate::host::arrays;
use crate::{Result, Tensor};

/// Which channels become the pixels of one square; see [`Tensor::depth_to_space`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthOrder {
    /// Channel (row * block + column) * channels + c. ONNX DCR.
    DepthColumnRow,
    /// Channel (c * block + row) * block + column, as PyTorch's `pixel_shuffle`. ONNX CRD.
    ColumnRowDepth,
}

/// Which position is the nearest to a place between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearest {
    /// Rounded, halves down.
    RoundPreferFloor,
    /// Rounded, halves up.
    RoundPreferCeil,
    /// The one before.
    Floor,
    /// The one after.
    Ceil,
}

/// How the positions around a place make an element; see [`Tensor::resize`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// The nearest one is taken.
    Nearest(Nearest),
    /// Two in each dimension, in proportion to their nearness.
    Linear,
    /// Four in each dimension, by Keys's cubic with this coefficient (-0.75 usually).
    Cubic(f64),
}

/// Which place of a dimension of size l position i of the result, of size r, is; s is r / l. See [`Tensor::resize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// (i + 1/2) / s - 1/2.
    HalfPixel,
    /// The same, but 0 for r = 1.
    PytorchHalfPixel,
    /// i (l - 1) / (r - 1), 0 for r = 1.
    AlignCorners,
    /// i / s.
    Asymmetric,
}

/// # Images
impl Tensor {
    /// Blocks of channels of `[n, c, h, w]` become squares of pixels: `[n, c / block^2, h * block, w * block]`. Every
    /// dtype but BYTES. ONNX DepthToSpace.
    ///
    /// ```
    /// # use innkeeper_sdk::{DepthOrder, Tensor};
    /// let x = Tensor::from_slice(&[1, 4, 1, 1], &[1f32, 2.0, 3.0, 4.0])?;
    /// let y = x.depth_to_space(2, DepthOrder::DepthColumnRow)?;
    /// assert_eq!((y.shape(), y.to_vec::<f32>()?), (vec![1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn depth_to_space(&self, block: usize, order: DepthOrder) -> Result<Tensor> {
        Ok(Tensor(self.0.depth_to_space(size(block)?, arrays::depth_order(order))?))
    }

    /// Squares of pixels of `[n, c, h, w]` become channels: `[n, c * block^2, h / block, w / block]`. Every dtype but
    /// BYTES. ONNX SpaceToDepth.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn space_to_depth(&self, block: usize) -> Result<Tensor> {
        Ok(Tensor(self.0.space_to_depth(size(block)?)?))
    }

    /// Resampled along every dimension to `shape`; beyond the ends the first and last positions go on. With `antialias`,
    /// which is not for [`Sample::Nearest`], as many more positions make an element as a dimension shrinks. Numeric
    /// dtypes, computed in FP32 (FP64 for FP64); with [`Sample::Nearest`] every dtype but BYTES. ONNX Resize.
    ///
    /// ```
    /// # use innkeeper_sdk::{Coordinates, Sample, Tensor};
    /// let x = Tensor::from_slice(&[1, 2], &[1f32, 3.0])?;
    /// let y = x.resize(&[1, 3], Sample::Linear, Coordinates::AlignCorners, false)?;
    /// assert_eq!(y.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; a size that changes is at most 2^20.
    pub fn resize(
        &self,
        shape: &[usize],
        mode: Sample,
        coordinates: Coordinates,
        antialias: bool,
    ) -> Result<Tensor> {
        let (mode, coordinates) = (arrays::sample(mode), arrays::coordinates(coordinates));
        Ok(Tensor(self.0.resize(&sizes(shape)?, mode, coordinates, antialias)?))
    }
}
