//! Functions of one number that can be part of a vector loop.

use crate::cpu::number::{Float, From64};

/// The element of FP32 or FP64, with functions that have no calls and no branches for FP32.
pub(super) trait Smooth: Float + From64 {
    /// e^x. FP32: to 2 units in the last place, 0 below -87.3 and at most e^88.
    fn quick_exp(self) -> Self;
    /// The hyperbolic tangent. FP32: to 2e-7.
    fn quick_tanh(self) -> Self;
    /// The chance that a standard normal number is at most x. FP32: to 2e-7.
    fn normal_below(self) -> Self;
    /// ln(1 + x).
    fn ln_1p(self) -> Self;

    /// 1 / (1 + e^-x).
    #[inline(always)]
    fn quick_sigmoid(self) -> Self {
        let one = Self::from_f64(1.0);
        let e = self.abs().neg().quick_exp();
        let small = e.div(one.add(e));
        if self < Self::default() { small } else { one.sub(small) }
    }
}

impl Smooth for f64 {
    #[inline(always)]
    fn quick_exp(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn quick_tanh(self) -> f64 {
        self.tanh()
    }

    #[inline(always)]
    fn normal_below(self) -> f64 {
        0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }

    #[inline(always)]
    fn ln_1p(self) -> f64 {
        self.ln_1p()
    }
}

/// The numbers of FP32 that a multiple of 1.5 * 2^23 is added to are rounded to integers, which are then its low bits.
const ROUND: f32 = 12_582_912.0;
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

impl Smooth for f32 {
    #[inline(always)]
    fn quick_exp(self) -> f32 {
        // Comparisons and not min and max, which would lose a NaN.
        let x = if self > 88.0 { 88.0 } else { self };
        let x = if x < -87.3 { -87.3 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
        // Taylor's series; r is at most ln 2 / 2.
        let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)));
        let e = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
        let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
        if self < -87.3 { 0.0 } else { e * f32::from_bits(exponent) }
    }

    #[inline(always)]
    fn quick_tanh(self) -> f32 {
        let e = (2.0 * self.abs()).quick_exp();
        let t = 1.0 - 2.0 / (e + 1.0);
        if self < 0.0 { -t } else { t }
    }

    #[inline(always)]
    fn normal_below(self) -> f32 {
        // Abramowitz and Stegun 1964, formula 7.1.26, for erf(x / sqrt 2).
        let z = self.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let series = 0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4)));
        let tail = 0.5 * t * series * (-z * z).quick_exp();
        if self < 0.0 { tail } else { 1.0 - tail }
    }

    #[inline(always)]
    fn ln_1p(self) -> f32 {
        self.ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_truth() {
        let mut x = -100f32;
        while x < 88.0 {
            let wide = f64::from(x);
            let exp = wide.exp();
            let got = f64::from(x.quick_exp());
            assert!((got - exp).abs() <= 3e-7 * exp || x < -87.2, "exp {x}: {got} {exp}");
            let pairs = [
                (x.quick_tanh(), wide.tanh()),
                (x.quick_sigmoid(), 1.0 / (1.0 + (-wide).exp())),
                (x.normal_below(), wide.normal_below()),
            ];
            for (got, wanted) in pairs {
                assert!((f64::from(got) - wanted).abs() < 3e-7, "{x}: {got} {wanted}");
            }
            x += 0.0137;
        }
        for of in [f32::quick_exp, f32::quick_tanh, f32::quick_sigmoid, f32::normal_below] {
            assert!(of(f32::NAN).is_nan());
        }
        assert_eq!(f32::NEG_INFINITY.quick_exp(), 0.0);
        assert_eq!([f32::INFINITY.quick_tanh(), f32::NEG_INFINITY.quick_tanh()], [1.0, -1.0]);
        assert_eq!([f32::INFINITY.quick_sigmoid(), f32::NEG_INFINITY.quick_sigmoid()], [1.0, 0.0]);
    }
}
