//! Vectors of FP32 for whatever the processor has: AVX-512, AVX2 with FMA, or one number at a time.
//!
//! Work that is generic over [`Simd`] runs through [`dispatch`], which compiles it once for each of them and chooses at
//! run time. [`F32`] lets it be written as formulas.

use std::ops::{Add, Div, Mul, Neg, Sub};

#[cfg(target_arch = "x86_64")]
use pulp::x86;
use pulp::{Scalar, Simd, WithSimd};

use crate::Isa;

/// Does the work with the widest vectors that there are.
#[inline]
pub(super) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Does the work with vectors of at most 32 bytes: for the many loops that wait for memory, which wider vectors would not
/// make faster and only compile once more.
#[inline]
pub(super) fn dispatch_narrow<W: WithSimd>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = x86::V3::try_new() {
        return Simd::vectorize(simd, work);
    }
    Scalar::new().vectorize(work)
}

/// Does the work with the vectors of one instruction set, or with the plainest if the processor has it not.
#[inline]
pub(super) fn dispatch_by<W: WithSimd>(isa: Isa, work: W) -> W::Output {
    match isa {
        Isa::Portable => Scalar::new().vectorize(work),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => match x86::V3::try_new() {
            Some(simd) => Simd::vectorize(simd, work),
            None => Scalar::new().vectorize(work),
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => match x86::V4::try_new() {
            Some(simd) => Simd::vectorize(simd, work),
            None => Scalar::new().vectorize(work),
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => dispatch(work),
    }
}

/// A vector of FP32.
pub(super) struct F32<S: Simd>(pub(super) S, pub(super) S::f32s);

impl<S: Simd> Clone for F32<S> {
    #[inline(always)]
    fn clone(&self) -> F32<S> {
        *self
    }
}

impl<S: Simd> Copy for F32<S> {}

impl<S: Simd> F32<S> {
    /// The same number in every lane.
    #[inline(always)]
    pub(super) fn of(simd: S, value: f32) -> F32<S> {
        F32(simd, simd.splat_f32s(value))
    }

    /// The first lanes from a slice that may be too short; 0 in the others.
    #[inline(always)]
    pub(super) fn load(simd: S, from: &[f32]) -> F32<S> {
        // Loading a part takes many times as long on some processors.
        match S::as_simd_f32s(from).0 {
            [whole, ..] => F32(simd, *whole),
            [] => F32(simd, simd.partial_load_f32s(from)),
        }
    }

    /// As many lanes as the slice takes.
    #[inline(always)]
    pub(super) fn store(self, to: &mut [f32]) {
        match S::as_mut_simd_f32s(to).0 {
            [whole, ..] => *whole = self.1,
            [] => self.0.partial_store_f32s(to, self.1),
        }
    }

    /// self * b + c, rounded once where the processor can.
    #[inline(always)]
    pub(super) fn fma(self, b: F32<S>, c: F32<S>) -> F32<S> {
        // Without the instruction, rounding once is a call to a slow function.
        if S::IS_SCALAR {
            self * b + c
        } else {
            F32(self.0, self.0.mul_add_e_f32s(self.1, b.1, c.1))
        }
    }

    /// The polynomial of these coefficients, lowest first.
    #[inline(always)]
    pub(super) fn polynomial<const N: usize>(self, coefficients: [f32; N]) -> F32<S> {
        let mut acc = F32::of(self.0, coefficients[N - 1]);
        for &coefficient in coefficients[..N - 1].iter().rev() {
            acc = acc.fma(self, F32::of(self.0, coefficient));
        }
        acc
    }

    #[inline(always)]
    pub(super) fn less(self, other: F32<S>) -> S::m32s {
        self.0.less_than_f32s(self.1, other.1)
    }

    #[inline(always)]
    pub(super) fn equals(self, other: F32<S>) -> S::m32s {
        self.0.equal_f32s(self.1, other.1)
    }

    /// self where the mask holds, else `other`.
    #[inline(always)]
    pub(super) fn where_or(self, mask: S::m32s, other: F32<S>) -> F32<S> {
        F32(self.0, self.0.select_f32s(mask, self.1, other.1))
    }

    #[inline(always)]
    pub(super) fn abs(self) -> F32<S> {
        F32(self.0, self.0.abs_f32s(self.1))
    }

    /// The larger; any of the two if one is NaN.
    #[inline(always)]
    pub(super) fn max(self, other: F32<S>) -> F32<S> {
        F32(self.0, self.0.max_f32s(self.1, other.1))
    }

    /// Not below `limit`; NaN stays NaN.
    #[inline(always)]
    pub(super) fn at_least(self, limit: f32) -> F32<S> {
        let limit = F32::of(self.0, limit);
        limit.where_or(self.less(limit), self)
    }

    /// Not above `limit`; NaN stays NaN.
    #[inline(always)]
    pub(super) fn at_most(self, limit: f32) -> F32<S> {
        let limit = F32::of(self.0, limit);
        limit.where_or(limit.less(self), self)
    }

    /// The sum of the lanes.
    #[inline(always)]
    pub(super) fn sum(self) -> f32 {
        self.0.reduce_sum_f32s(self.1)
    }

    /// The largest of the lanes; any of them if one is NaN.
    #[inline(always)]
    pub(super) fn largest(self) -> f32 {
        self.0.reduce_max_f32s(self.1)
    }

    #[inline(always)]
    pub(super) fn bits(self) -> S::u32s {
        self.0.transmute_u32s_f32s(self.1)
    }

    #[inline(always)]
    pub(super) fn from_bits(simd: S, bits: S::u32s) -> F32<S> {
        F32(simd, simd.transmute_f32s_u32s(bits))
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $vector:ident) => {
        impl<S: Simd> $trait for F32<S> {
            type Output = F32<S>;
            #[inline(always)]
            fn $method(self, other: F32<S>) -> F32<S> {
                F32(self.0, self.0.$vector(self.1, other.1))
            }
        }

        impl<S: Simd> $trait<f32> for F32<S> {
            type Output = F32<S>;
            #[inline(always)]
            fn $method(self, other: f32) -> F32<S> {
                self.$method(F32::of(self.0, other))
            }
        }
    };
}
operator!(Add, add, add_f32s);
operator!(Sub, sub, sub_f32s);
operator!(Mul, mul, mul_f32s);
operator!(Div, div, div_f32s);

impl<S: Simd> Neg for F32<S> {
    type Output = F32<S>;
    #[inline(always)]
    fn neg(self) -> F32<S> {
        F32(self.0, self.0.neg_f32s(self.1))
    }
}
