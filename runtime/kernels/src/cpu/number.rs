//! Arithmetic on elements, one trait per family of dtypes.

use innkeeper_tensor::{DType, Element, bf16, f16};

/// The element of a numeric dtype.
pub(super) trait Number: Element + PartialOrd + Default {
    /// What sums of it are accumulated in.
    type Sum: Copy + Default + Send;
    /// Not larger than any other; minus infinity for floats.
    const LOWEST: Self;
    /// Not smaller than any other; infinity for floats.
    const HIGHEST: Self;
    /// Whether dividing by zero is an error.
    const INTEGER: bool;
    /// Whether loops over it are worth compiling for several sets of vector instructions.
    const VECTORS: bool = matches!(Self::DTYPE, DType::Fp32 | DType::Fp64 | DType::Int32);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Integers must not be divided by zero here: the quotient is then 0.
    fn div(self, other: Self) -> Self;
    /// What is left of a division, with the sign of `other`. Integers as for `div`.
    fn modulo(self, other: Self) -> Self;
    /// What is left of a division, with the sign of `self`. Integers as for `div`.
    fn remainder(self, other: Self) -> Self;
    /// `self` to the power of `other`.
    fn power(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
    /// The exact value in an accumulator.
    fn widen(self) -> Self::Sum;
    fn plus(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// 1 in an accumulator.
    const UNIT: Self::Sum;
    fn times(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// Rounded once.
    fn narrow(sum: Self::Sum) -> Self;

    /// The larger, NaN if either is.
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    /// The smaller, NaN if either is.
    #[inline(always)]
    fn minimum(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }
}

macro_rules! integers {
    ($($int:ty)*) => {$(
        impl Number for $int {
            type Sum = $int;
            const LOWEST: Self = <$int>::MIN;
            const HIGHEST: Self = <$int>::MAX;
            const INTEGER: bool = true;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn modulo(self, other: Self) -> Self {
                if other == 0 {
                    return 0;
                }
                let left = self.wrapping_rem(other);
                // Only for signed integers can the signs differ.
                if left != 0 && (left > 0) != (other > 0) { left.wrapping_add(other) } else { left }
            }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            fn power(self, other: Self) -> Self {
                let minus_one = (0 as $int).wrapping_sub(1);
                let odd = other & 1 == 1;
                let mut exponent = match u64::try_from(other) {
                    Ok(exponent) => exponent,
                    // Below zero only 1 and -1 are not truncated to 0.
                    Err(_) if self == 1 || (self == minus_one && !odd) => return 1,
                    Err(_) => return if self == minus_one { self } else { 0 },
                };
                let (mut base, mut result) = (self, 1 as $int);
                while exponent > 0 {
                    if exponent & 1 == 1 {
                        result = result.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    exponent >>= 1;
                }
                result
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
            #[inline(always)]
            fn widen(self) -> Self {
                self
            }
            #[inline(always)]
            fn plus(a: Self, b: Self) -> Self {
                a.wrapping_add(b)
            }
            const UNIT: Self = 1;
            #[inline(always)]
            fn times(a: Self, b: Self) -> Self {
                a.wrapping_mul(b)
            }
            #[inline(always)]
            fn narrow(sum: Self) -> Self {
                sum
            }
        }
    )*};
}
integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

macro_rules! floats {
    ($($float:ty, $infinity:expr, $lowest:expr, $power:expr;)*) => {$(
        impl Number for $float {
            type Sum = f64;
            const LOWEST: Self = $lowest;
            const HIGHEST: Self = $infinity;
            const INTEGER: bool = false;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn modulo(self, other: Self) -> Self {
                let left = self % other;
                let zero = Self::default();
                if left != zero && (left < zero) != (other < zero) { left + other } else { left }
            }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                self % other
            }
            fn power(self, other: Self) -> Self {
                $power(self, other)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            #[inline(always)]
            fn widen(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn plus(a: f64, b: f64) -> f64 {
                a + b
            }
            const UNIT: f64 = 1.0;
            #[inline(always)]
            fn times(a: f64, b: f64) -> f64 {
                a * b
            }
            #[inline(always)]
            fn narrow(sum: f64) -> Self {
                <$float as From64>::from_f64(sum)
            }
        }
    )*};
}
floats! {
    f16, f16::INFINITY, f16::NEG_INFINITY, |x: f16, y: f16| {
        f16::from_f32(x.to_f32().powf(y.to_f32()))
    };
    bf16, bf16::INFINITY, bf16::NEG_INFINITY, |x: bf16, y: bf16| {
        bf16::from_f32(x.to_f32().powf(y.to_f32()))
    };
    f32, f32::INFINITY, f32::NEG_INFINITY, f32::powf;
    f64, f64::INFINITY, f64::NEG_INFINITY, f64::powf;
}

/// The element of FP32 or FP64.
pub(super) trait Float: Number<Sum = f64> {
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn exp(self) -> Self;
    fn sqrt(self) -> Self;
    fn tanh(self) -> Self;
    fn sigmoid(self) -> Self;
    fn relu(self) -> Self;
    fn gelu(self) -> Self;
    fn silu(self) -> Self;
}

macro_rules! real {
    ($float:ident, $erfc:path) => {
        impl Float for $float {
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn sigmoid(self) -> Self {
                // e to a number that is not positive cannot overflow.
                let e = (-self.abs()).exp();
                (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
            }
            #[inline(always)]
            fn relu(self) -> Self {
                if self <= 0.0 { 0.0 } else { self }
            }
            fn gelu(self) -> Self {
                // 1 + erf(x) would lose every digit of a small tail; erfc(-x) is the same and does not.
                0.5 * self * $erfc(-self * std::$float::consts::FRAC_1_SQRT_2)
            }
            fn silu(self) -> Self {
                self * Float::sigmoid(self)
            }
        }
    };
}
real!(f32, libm::erfcf);
real!(f64, libm::erfc);

/// An element that the three widest kinds of number convert to, as [`Op::Cast`](crate::Op::Cast) says.
pub(super) trait From64: Element {
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
    fn from_u64(value: u64) -> Self;
}

macro_rules! from_64 {
    ($($number:ty)*) => {$(
        // `as` is exactly the contract: floats saturate, NaN is 0, integers keep their low bits.
        impl From64 for $number {
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $number
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as $number
            }
            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as $number
            }
        }
    )*};
}
from_64! { u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 }

macro_rules! half_from_64 {
    ($($half:ty)*) => {$(
        // By way of an FP32 rounded to odd: two roundings to nearest could end one step off.
        impl From64 for $half {
            fn from_f64(value: f64) -> Self {
                let near = value as f32;
                let wide = f64::from(near);
                <$half>::from_f32(to_odd(near, wide.abs() > value.abs(), wide == value))
            }
            fn from_i64(value: i64) -> Self {
                <$half>::from_f32(integer_to_odd(value as f32, i128::from(value)))
            }
            fn from_u64(value: u64) -> Self {
                <$half>::from_f32(integer_to_odd(value as f32, i128::from(value)))
            }
        }
    )*};
}
half_from_64! { f16 bf16 }

fn integer_to_odd(near: f32, value: i128) -> f32 {
    // No 64-bit integer is so large that the way back would saturate.
    let wide = near as i128;
    to_odd(near, wide.abs() > value.abs(), wide == value)
}

/// `near` as if it had been rounded to odd: towards zero, then the last bit set unless the result is exact.
fn to_odd(near: f32, too_large: bool, exact: bool) -> f32 {
    if exact || near.is_nan() {
        return near;
    }
    f32::from_bits((near.to_bits() - u32::from(too_large)) | 1)
}

/// An element as one of the three widest kinds of number, exactly.
pub(super) trait Into64: Element {
    fn cast<D: From64>(self) -> D;
    fn is_zero(self) -> bool;
}

macro_rules! into_64 {
    ($($number:ty, $from:ident, $wide:ty;)*) => {$(
        impl Into64 for $number {
            #[inline(always)]
            fn cast<D: From64>(self) -> D {
                D::$from(<$wide>::from(self))
            }
            #[inline(always)]
            fn is_zero(self) -> bool {
                <$wide>::from(self) == <$wide>::default()
            }
        }
    )*};
}
into_64! {
    u8, from_u64, u64;
    u16, from_u64, u64;
    u32, from_u64, u64;
    u64, from_u64, u64;
    i8, from_i64, i64;
    i16, from_i64, i64;
    i32, from_i64, i64;
    i64, from_i64, i64;
    f16, from_f64, f64;
    bf16, from_f64, f64;
    f32, from_f64, f64;
    f64, from_f64, f64;
}
