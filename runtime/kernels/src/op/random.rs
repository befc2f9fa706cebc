//! Seeded random numbers.

use innkeeper_tensor::DType;

/// Random elements by Philox 4x32-10 (J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011).
///
/// Element i is made of bits 64 (i mod 2) to 64 (i mod 2) + 63 of the block with the counter `(i / 2, stream)` and the key
/// `seed`, each 64 bits with the low half first. So an element depends on seed, stream and its place alone, and is the
/// same on every backend and for every number of threads, up to the rounding of logarithms and cosines.
#[derive(Debug, Clone, PartialEq)]
pub struct Random {
    /// What all of a program's numbers depend on.
    pub seed: u64,
    /// Which of a seed's streams; each call that shall differ takes another.
    pub stream: u64,
    /// What is drawn.
    pub draw: Draw,
}

/// What is drawn. u is the upper bits of an element's 64 as a fraction from 0 to 1 (excluded), as many as the dtype
/// holds: 53 for FP64, 24 for FP32, 11 for FP16, 8 for BF16.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// No operand; low + u (high - low), computed in FP64 and rounded once, by which it may become `high`. FP16, BF16,
    /// FP32, FP64. ONNX RandomUniform.
    Uniform {
        /// The dtype of the result.
        dtype: DType,
        /// The shape of the result.
        shape: Vec<usize>,
        /// The smallest.
        low: f64,
        /// Not reached but by rounding.
        high: f64,
    },
    /// No operand; normally distributed by Box and Muller's method from the u of elements 2j and 2j + 1 with 53 bits,
    /// computed in FP64. FP16, BF16, FP32, FP64. ONNX RandomNormal.
    Normal {
        /// The dtype of the result.
        dtype: DType,
        /// The shape of the result.
        shape: Vec<usize>,
        /// The mean.
        mean: f64,
        /// The standard deviation.
        deviation: f64,
    },
    /// No operand; integers from low to high (excluded): low plus the upper 64 bits of the element's 64 times
    /// (high - low). Integers that hold both ends. NumPy `integers`.
    Integers {
        /// The dtype of the result.
        dtype: DType,
        /// The shape of the result.
        shape: Vec<usize>,
        /// The smallest.
        low: i64,
        /// One more than the largest.
        high: i64,
    },
    /// Probabilities (FP16, BF16, FP32, FP64): 1 where u with 53 bits is below the probability, else 0; NaN gives 0. Every
    /// dtype but BYTES. ONNX Bernoulli.
    Bernoulli {
        /// The dtype of the result.
        dtype: DType,
    },
    /// No operand; the numbers below `count` (INT64) in random order, by Fisher and Yates. NumPy `permutation`.
    Permutation {
        /// How many.
        count: usize,
    },
    /// Logarithms of weights `[n, classes]` (FP16, BF16, FP32, FP64): for each row `samples` classes, each as likely as
    /// its weight in the sum. A row whose weights have no finite sum above 0 is an error at the run. INT32, INT64. ONNX
    /// Multinomial.
    Multinomial {
        /// The dtype of the result.
        dtype: DType,
        /// How many for each row.
        samples: usize,
    },
    /// x (FP16, BF16, FP32, FP64): x / (1 - ratio) where u with 53 bits is not below `ratio`, else 0; and the mask (BOOL)
    /// of those that stayed. 0 <= ratio < 1. ONNX Dropout in training.
    Dropout {
        /// How many go.
        ratio: f64,
    },
}

impl Random {
    pub(crate) fn name(&self) -> &'static str {
        match self.draw {
            Draw::Uniform { .. } => "random-uniform",
            Draw::Normal { .. } => "random-normal",
            Draw::Integers { .. } => "random-integers",
            Draw::Bernoulli { .. } => "bernoulli",
            Draw::Permutation { .. } => "random-permutation",
            Draw::Multinomial { .. } => "multinomial",
            Draw::Dropout { .. } => "dropout",
        }
    }
}
