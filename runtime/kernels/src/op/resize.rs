//! Resampling.

/// x: resampled along every dimension to `sizes`. For position i of a dimension of `sizes`, `coordinates` says which
/// (fractional) place of x it is, and `mode` how the positions around that place make an element; beyond x's ends its
/// first and last positions go on. Numeric dtypes; computed in FP32 (FP64 for FP64), integers truncated as
/// [`Op::Cast`](crate::Op::Cast) would, and with `Nearest` every dtype but BYTES and nothing computed. ONNX Resize.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// The sizes of the result, one for each dimension.
    pub sizes: Vec<usize>,
    /// How much larger each dimension is meant to become, which may differ from what the rounded sizes say; what they
    /// say where it is empty.
    pub scales: Vec<f64>,
    /// How elements are made.
    pub mode: Sample,
    /// Where they are taken.
    pub coordinates: Coordinates,
    /// Whether, where a dimension shrinks, the positions that make an element are as many more. Not for `Nearest`.
    pub antialias: bool,
}

/// How the positions around a place make an element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// The nearest one is taken.
    Nearest(Nearest),
    /// Two, in proportion to their nearness, in each dimension.
    Linear,
    /// Four, by R. Keys's cubic with that coefficient, in each dimension.
    Cubic {
        /// The coefficient; -0.75 usually.
        a: f64,
        /// Whether positions beyond the ends have no weight, else the ends go on.
        exclude_outside: bool,
    },
}

/// What the nearest position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Which place of x, of size l, position i of the result, of size r, is; s is the scale.
#[derive(Debug, Clone, PartialEq)]
pub enum Coordinates {
    /// (i + 1/2) / s - 1/2.
    HalfPixel,
    /// The same about the middle: (1 - r / (s l)) l / 2 more.
    HalfPixelSymmetric,
    /// As HalfPixel, but 0 for r = 1.
    PytorchHalfPixel,
    /// i (l - 1) / (r - 1), 0 for r = 1.
    AlignCorners,
    /// i / s.
    Asymmetric,
    /// From a to b times l - 1 for each dimension's part (a, b), the middle for r = 1; beyond x's ends `outside` is the
    /// result.
    Crop {
        /// Where each dimension's part starts and ends.
        parts: Vec<(f64, f64)>,
        /// What lies outside of x.
        outside: f64,
    },
}
