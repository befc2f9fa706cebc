//! Which instructions the processor has.

use std::sync::LazyLock;

/// A set of instructions that kernels are written for. Every kernel gives the same results with each, up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// What every processor of this architecture has.
    Portable,
    /// AVX2, FMA and F16C: vectors of 8 floats.
    Avx2,
    /// AVX-512 F, BW, DQ and VL besides: vectors of 16 floats. Where VNNI is there too, it is used.
    Avx512,
}

impl Isa {
    /// Every one, the plainest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The best that this processor has.
    pub fn best() -> Isa {
        static BEST: LazyLock<Isa> = LazyLock::new(|| {
            Isa::ALL.into_iter().rev().find(|isa| isa.is_there()).unwrap_or(Isa::Portable)
        });
        *BEST
    }

    /// Whether this processor has them.
    pub fn is_there(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => detected::avx2(),
            Isa::Avx512 => detected::avx2() && detected::avx512(),
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether AVX-512's dot products of bytes may be used.
    pub(crate) fn vnni(self) -> bool {
        self == Isa::Avx512 && detected::vnni()
    }
}

impl Default for Isa {
    fn default() -> Isa {
        Isa::best()
    }
}

#[cfg(target_arch = "x86_64")]
mod detected {
    pub(super) fn avx2() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }

    pub(super) fn avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    pub(super) fn vnni() -> bool {
        is_x86_feature_detected!("avx512vnni")
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod detected {
    pub(super) fn avx2() -> bool {
        false
    }

    pub(super) fn avx512() -> bool {
        false
    }

    pub(super) fn vnni() -> bool {
        false
    }
}
