//! Functions of one float, over slices.

use innkeeper_tensor::{Element, bf16, f16};
use pulp::{Simd, WithSimd};

use crate::cpu::simd::dispatch_narrow;
use crate::cpu::vector;
use crate::{Curve, Unary};

/// A function from each element of the first slice to that of the second, which are equally long.
pub(super) type Slices<W> = Box<dyn Fn(&[W], &mut [W]) + Sync>;

/// FP32 or FP64: what is computed in.
pub(super) trait Math: Copy + Send + Sync + 'static {
    /// The function; `None` for those that are not of floats.
    fn unary(op: Unary) -> Option<Slices<Self>>;
    /// The function; `None` for those that are not of floats alone.
    fn curve(op: Curve) -> Option<Slices<Self>>;
}

/// A float that is stored, and the one that it is computed in.
pub(super) trait Compute: Element {
    type Wide: Math;
    fn apply(f: &Slices<Self::Wide>, from: &[Self], out: &mut [Self]);
}

impl Compute for f32 {
    type Wide = f32;
    fn apply(f: &Slices<f32>, from: &[f32], out: &mut [f32]) {
        f(from, out);
    }
}

impl Compute for f64 {
    type Wide = f64;
    fn apply(f: &Slices<f64>, from: &[f64], out: &mut [f64]) {
        f(from, out);
    }
}

/// Elements that are widened at a time.
const BLOCK: usize = 256;

macro_rules! half {
    ($half:ident) => {
        impl Compute for $half {
            type Wide = f32;
            fn apply(f: &Slices<f32>, from: &[$half], out: &mut [$half]) {
                use half::slice::HalfFloatSliceExt;
                let (mut wide, mut result) = ([0f32; BLOCK], [0f32; BLOCK]);
                for (from, out) in from.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                    let (wide, result) = (&mut wide[..from.len()], &mut result[..from.len()]);
                    from.convert_to_f32_slice(wide);
                    f(wide, result);
                    out.convert_from_f32_slice(result);
                }
            }
        }
    };
}
half!(f16);
half!(bf16);

/// A loop that is compiled once for each set of vector instructions.
struct Each<'a, W, F> {
    from: &'a [W],
    out: &'a mut [W],
    f: &'a F,
}

impl<W: Copy, F: Fn(W) -> W> WithSimd for Each<'_, W, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, &x) in self.out.iter_mut().zip(self.from) {
            *out = (self.f)(x);
        }
    }
}

#[allow(clippy::unnecessary_wraps)]
fn each<W: Copy + 'static>(f: impl Fn(W) -> W + Sync + 'static) -> Option<Slices<W>> {
    Some(Box::new(move |from, out| dispatch_narrow(Each { from, out, f: &f })))
}

macro_rules! math {
    ($float:ident, $erf:path, $erfc:path) => {
        impl Math for $float {
            fn unary(op: Unary) -> Option<Slices<$float>> {
                use std::$float::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
                if let Some(f) = <$float>::vectors(op) {
                    return Some(f);
                }
                match op {
                    Unary::Neg => each(|x: $float| -x),
                    Unary::Abs => each($float::abs),
                    Unary::Exp => each($float::exp),
                    Unary::Ln => each($float::ln),
                    Unary::Sqrt => each($float::sqrt),
                    Unary::Tanh => each($float::tanh),
                    Unary::Sigmoid => each(sigmoid),
                    Unary::Relu => each(|x: $float| if x <= 0.0 { 0.0 } else { x }),
                    // 1 + erf(x) would lose every digit of a small tail; erfc(-x) is the same and does not.
                    Unary::Gelu => each(|x: $float| 0.5 * x * $erfc(-x * FRAC_1_SQRT_2)),
                    Unary::Silu => each(|x: $float| x * sigmoid(x)),
                    Unary::GeluTanh => each(|x: $float| {
                        // (1 + tanh u) / 2 is sigmoid(2 u), which loses nothing below zero.
                        let u = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044715 * x * x * x);
                        x * sigmoid(2.0 * u)
                    }),
                    Unary::Floor => each($float::floor),
                    Unary::Ceil => each($float::ceil),
                    Unary::Round => each($float::round_ties_even),
                    Unary::Sign => {
                        each(|x: $float| if x == 0.0 || x.is_nan() { x } else { x.signum() })
                    }
                    Unary::Reciprocal => each(|x: $float| 1.0 / x),
                    Unary::Erf => each($erf),
                    Unary::Sin => each($float::sin),
                    Unary::Cos => each($float::cos),
                    Unary::Tan => each($float::tan),
                    Unary::Asin => each($float::asin),
                    Unary::Acos => each($float::acos),
                    Unary::Atan => each($float::atan),
                    Unary::Sinh => each($float::sinh),
                    Unary::Cosh => each($float::cosh),
                    Unary::Asinh => each($float::asinh),
                    Unary::Acosh => each($float::acosh),
                    Unary::Atanh => each($float::atanh),
                    Unary::Softplus => each(|x: $float| x.max(0.0) + (-x.abs()).exp().ln_1p()),
                    Unary::Softsign => each(|x: $float| x / (1.0 + x.abs())),
                    Unary::Mish => each(|x: $float| {
                        // tanh(ln(1 + e)) as a fraction; from 20 on it is 1.
                        let e = x.min(20.0).exp();
                        let w = e * (e + 2.0);
                        x * (w / (w + 2.0))
                    }),
                    Unary::HardSwish => each(|x: $float| x * (x / 6.0 + 0.5).max(0.0).min(1.0)),
                    Unary::Not | Unary::BitNot => None,
                }
            }

            fn curve(op: Curve) -> Option<Slices<$float>> {
                match op {
                    Curve::Elu { alpha } => elu(alpha as $float, 1.0),
                    Curve::Selu { alpha, gamma } => elu(alpha as $float, gamma as $float),
                    Curve::Celu { alpha } => {
                        let alpha = alpha as $float;
                        each(move |x: $float| {
                            let low = alpha * (x / alpha).exp_m1();
                            if x.is_nan() { x } else { x.max(0.0) + low.min(0.0) }
                        })
                    }
                    Curve::LeakyRelu { alpha } => {
                        let alpha = alpha as $float;
                        each(move |x: $float| if x < 0.0 { alpha * x } else { x })
                    }
                    Curve::ThresholdedRelu { alpha } => {
                        let alpha = alpha as $float;
                        each(move |x: $float| if x <= alpha { 0.0 } else { x })
                    }
                    Curve::HardSigmoid { alpha, beta } => {
                        let (alpha, beta) = (alpha as $float, beta as $float);
                        each(move |x: $float| {
                            let y = alpha * x + beta;
                            if y < 0.0 {
                                0.0
                            } else if y > 1.0 {
                                1.0
                            } else {
                                y
                            }
                        })
                    }
                    Curve::Swish { alpha } => {
                        let alpha = alpha as $float;
                        each(move |x: $float| x * sigmoid(alpha * x))
                    }
                    Curve::Shrink { bias, lambda } => {
                        let (bias, lambda) = (bias as $float, lambda as $float);
                        each(move |x: $float| {
                            if x < -lambda {
                                x + bias
                            } else if x > lambda {
                                x - bias
                            } else if x.is_nan() {
                                x
                            } else {
                                0.0
                            }
                        })
                    }
                    Curve::Clip { .. } => None,
                }
            }
        }
    };
}

/// What is not the same for either float, and what several functions share.
trait Shared: Math {
    /// The functions that have vector code.
    fn vectors(op: Unary) -> Option<Slices<Self>>;
    fn sigmoid(self) -> Self;
    fn elu(alpha: Self, gamma: Self) -> Option<Slices<Self>>;
}

macro_rules! shared {
    ($float:ident, $vectors:expr) => {
        impl Shared for $float {
            fn vectors(op: Unary) -> Option<Slices<$float>> {
                $vectors(op)
            }

            #[inline(always)]
            fn sigmoid(self) -> $float {
                // e to a number that is not positive cannot overflow.
                let e = (-self.abs()).exp();
                (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
            }

            fn elu(alpha: $float, gamma: $float) -> Option<Slices<$float>> {
                each(move |x: $float| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() })
            }
        }
    };
}
shared!(f32, vector::unary);
shared!(f64, |_| None);

#[inline(always)]
fn sigmoid<W: Shared>(x: W) -> W {
    x.sigmoid()
}

fn elu<W: Shared>(alpha: W, gamma: W) -> Option<Slices<W>> {
    W::elu(alpha, gamma)
}

math!(f32, libm::erff, libm::erfcf);
math!(f64, libm::erf, libm::erfc);
