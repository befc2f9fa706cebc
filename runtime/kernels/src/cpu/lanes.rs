//! Functions of FP32 vectors.
//!
//! Each is a polynomial on a small interval, fitted for the smallest relative error, and an exact way there and back.
//! The bounds given are of the vector code; numbers below the smallest normal one may come out as 0 unless it says
//! otherwise. [`vector`](super::vector) tests them.

// Coefficients are given as they are rounded to FP32.
#![allow(clippy::excessive_precision)]

use pulp::Simd;

use crate::cpu::simd::F32;

/// Adding it leaves a number of up to 22 bits rounded to an integer, in the last bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// ln 2 as a number with trailing zeros and what is left of it.
const LN_2: [f32; 2] = [0.693_359_375, -2.121_944_4e-4];

/// e to the x; 2 units in the last place, subnormal results included.
#[inline(always)]
pub(super) fn exp<S: Simd>(x: F32<S>) -> F32<S> {
    let x = x.at_least(-104.0).at_most(89.0);
    let (n, fraction) = exp_parts(x);
    // In two steps: neither 2^n nor 2^-n need be a normal number.
    let half = (n * 0.5 + ROUND) - ROUND;
    fraction * power_of_two(half) * power_of_two(n - half)
}

/// e to an x that is not positive; 2 units in the last place, below 2^-126 it is 0.
#[inline(always)]
pub(super) fn exp_of_negative<S: Simd>(x: F32<S>) -> F32<S> {
    let (n, fraction) = exp_parts(x.at_least(-88.0));
    fraction * power_of_two(n)
}

/// (n, f) so that e^x is 2^n f.
#[inline(always)]
fn exp_parts<S: Simd>(x: F32<S>) -> (F32<S>, F32<S>) {
    let simd = x.0;
    let n = x.fma(F32::of(simd, std::f32::consts::LOG2_E), F32::of(simd, ROUND)) - ROUND;
    let r = n.fma(F32::of(simd, -LN_2[0]), x);
    let r = n.fma(F32::of(simd, -LN_2[1]), r);
    let tail =
        r.polynomial([0.499_999_94, 0.166_665_15, 0.041_668_456, 8.369_419e-3, 1.381_314_2e-3]);
    (n, (r * r).fma(tail, r) + 1.0)
}

/// 2 to an integer from -126 to 127; to -127 it is 0.
#[inline(always)]
fn power_of_two<S: Simd>(n: F32<S>) -> F32<S> {
    let simd = n.0;
    let biased = (n + (ROUND + 127.0)).bits();
    F32::from_bits(simd, simd.wrapping_dyn_shl_u32s(biased, simd.splat_u32s(23)))
}

/// The natural logarithm; 2 units in the last place, of subnormal numbers too.
#[inline(always)]
pub(super) fn ln<S: Simd>(x: F32<S>) -> F32<S> {
    /// The bits of the square root of 1/2, where the interval of the polynomial begins.
    const ROOT: u32 = 0x3f35_04f3;
    const ONE: u32 = 0x3f80_0000;
    let simd = x.0;
    let small = x.less(F32::of(simd, f32::MIN_POSITIVE));
    let normal = (x * 8_388_608.0).where_or(small, x);
    let shifted = simd.add_u32s(normal.bits(), simd.splat_u32s(ONE - ROOT));
    let biased = simd.wrapping_dyn_shr_u32s(shifted, simd.splat_u32s(23));
    // A small integer in the last bits of 2^23 is that much more.
    let exponent = F32::from_bits(simd, simd.or_u32s(biased, simd.splat_u32s(0x4b00_0000)));
    let base = F32::of(simd, 8_388_608.0 + 127.0 + 23.0);
    let n = exponent - base.where_or(small, F32::of(simd, 8_388_608.0 + 127.0));
    let mantissa = simd.and_u32s(shifted, simd.splat_u32s(0x007f_ffff));
    let f = F32::from_bits(simd, simd.add_u32s(mantissa, simd.splat_u32s(ROOT))) - 1.0;
    let tail = f.polynomial([
        0.333_333_34,
        -0.250_008_22,
        0.200_012_27,
        -0.166_233_57,
        0.142_017_62,
        -0.131_601_94,
        0.127_615_5,
        -0.076_344_3,
    ]);
    let square = f * f;
    let low = n.fma(F32::of(simd, LN_2[1]), square * f * tail);
    let low = square.fma(F32::of(simd, -0.5), low);
    let finite = n.fma(F32::of(simd, LN_2[0]), f + low);
    let zero = F32::of(simd, 0.0);
    // Infinity and NaN are their own logarithms.
    let large = finite.where_or(x.less(F32::of(simd, f32::INFINITY)), x);
    let positive = F32::of(simd, f32::NEG_INFINITY).where_or(x.equals(zero), large);
    F32::of(simd, f32::NAN).where_or(x.less(zero), positive)
}

/// The hyperbolic tangent; 3 units in the last place.
#[inline(always)]
pub(super) fn tanh<S: Simd>(x: F32<S>) -> F32<S> {
    let simd = x.0;
    let size = x.abs();
    let e = exp_of_negative(size * -2.0);
    let large = copy_sign((F32::of(simd, 1.0) - e) / (e + 1.0), x);
    let square = x * x;
    let tail = square.polynomial([
        -0.333_332_78,
        0.133_313_31,
        -0.053_730_007,
        0.020_606_18,
        -5.666_980_5e-3,
    ]);
    (square * x).fma(tail, x).where_or(size.less(F32::of(simd, 0.625)), large)
}

/// 1 / (1 + e^-x); 4 units in the last place.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(x: F32<S>) -> F32<S> {
    let simd = x.0;
    let one = F32::of(simd, 1.0);
    // e to a number that is not positive cannot overflow.
    let e = exp_of_negative(-x.abs());
    e.where_or(x.less(F32::of(simd, 0.0)), one) / (e + one)
}

/// x * sigmoid(x); 5 units in the last place.
#[inline(always)]
pub(super) fn silu<S: Simd>(x: F32<S>) -> F32<S> {
    zero_times(x, sigmoid(x))
}

/// The error function; 3 units in the last place.
#[inline(always)]
pub(super) fn erf<S: Simd>(x: F32<S>) -> F32<S> {
    let simd = x.0;
    let size = x.abs();
    let tail = upper_tail(size * std::f32::consts::SQRT_2);
    let large = copy_sign(tail.fma(F32::of(simd, -2.0), F32::of(simd, 1.0)), x);
    let small = (x * x).polynomial([
        std::f32::consts::FRAC_2_SQRT_PI,
        -0.376_126_26,
        0.112_835_854,
        -0.026_853_815,
        5.188_334e-3,
        -8.010_242e-4,
        7.854_009e-5,
    ]) * x;
    small.where_or(size.less(F32::of(simd, 1.0)), large)
}

/// x * (1 + erf(x / sqrt 2)) / 2; 16 units in the last place, also in the lower tail (without FMA 128
/// there).
#[inline(always)]
pub(super) fn gelu<S: Simd>(x: F32<S>) -> F32<S> {
    let simd = x.0;
    let tail = upper_tail(x.abs());
    // 1 + erf(x) would lose every digit of a small tail.
    let share = tail.where_or(x.less(F32::of(simd, 0.0)), F32::of(simd, 1.0) - tail);
    zero_times(x, share)
}

/// x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2; 16 units in the last place, 256 in the lower tail, below -2.
#[inline(always)]
pub(super) fn gelu_tanh<S: Simd>(x: F32<S>) -> F32<S> {
    let simd = x.0;
    // (1 + tanh y) / 2 is sigmoid(2y).
    let cubic = (x * x).fma(F32::of(simd, 0.071_354_816), F32::of(simd, 1.595_769_1));
    zero_times(x, sigmoid(x * cubic))
}

/// The probability that a standard normal variable is above x, which is not negative.
#[inline(always)]
fn upper_tail<S: Simd>(x: F32<S>) -> F32<S> {
    let simd = x.0;
    // e^(x^2 / 2) times the tail is smooth in u = 1 / (1 + 0.35 x), and 0 where u is.
    let x = x.at_most(14.5);
    let u = F32::of(simd, 1.0) / x.fma(F32::of(simd, 0.35), F32::of(simd, 1.0));
    let scaled = u.polynomial([
        0.139_621_3,
        0.139_863_68,
        0.119_819_91,
        0.105_558_55,
        -0.023_227_919,
        0.159_344,
        -0.255_861_58,
        0.144_042_4,
        -0.029_160_347,
    ]) * u;
    // What the square is rounded by matters where it is large.
    let square = x * x;
    let lost = x.fma(x, -square);
    let e = exp_of_negative(square * -0.5);
    (e * scaled).fma(lost * -0.5, e * scaled)
}

/// x * share, where an infinite x times 0 is 0.
#[inline(always)]
fn zero_times<S: Simd>(x: F32<S>, share: F32<S>) -> F32<S> {
    let zero = F32::of(x.0, 0.0);
    zero.where_or(share.equals(zero), x * share)
}

/// |size| with the sign of x.
#[inline(always)]
fn copy_sign<S: Simd>(size: F32<S>, x: F32<S>) -> F32<S> {
    let simd = x.0;
    let sign = simd.and_u32s(x.bits(), simd.splat_u32s(1 << 31));
    F32::from_bits(simd, simd.or_u32s(size.bits(), sign))
}
