//! The type of one element.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

/// The type of one tensor element, named as the Open Inference Protocol v2 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Two's complement, 8 bits.
    Int8,
    /// Two's complement, 16 bits.
    Int16,
    /// Two's complement, 32 bits.
    Int32,
    /// Two's complement, 64 bits.
    Int64,
    /// IEEE 754 binary16.
    Fp16,
    /// The upper half of an IEEE 754 binary32.
    Bf16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// A string of bytes with a length of its own: u32 little-endian, then the bytes.
    Bytes,
}

impl DType {
    /// Every dtype.
    pub const ALL: [DType; 14] = [
        DType::Bool,
        DType::Uint8,
        DType::Uint16,
        DType::Uint32,
        DType::Uint64,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::Fp16,
        DType::Bf16,
        DType::Fp32,
        DType::Fp64,
        DType::Bytes,
    ];

    /// Bytes of one element; `None` for [`DType::Bytes`], whose elements differ.
    pub const fn size(self) -> Option<usize> {
        match self {
            DType::Bool | DType::Uint8 | DType::Int8 => Some(1),
            DType::Uint16 | DType::Int16 | DType::Fp16 | DType::Bf16 => Some(2),
            DType::Uint32 | DType::Int32 | DType::Fp32 => Some(4),
            DType::Uint64 | DType::Int64 | DType::Fp64 => Some(8),
            DType::Bytes => None,
        }
    }

    /// The bytes of an element of this value; `None` where the dtype does not have it exactly. The one value of
    /// [`DType::Bytes`] is 0, for the empty string.
    pub fn element(self, value: i64) -> Option<Vec<u8>> {
        let float = value as f64;
        let is_exact = float as i128 == i128::from(value);
        Some(match self {
            DType::Bool => vec![u8::try_from(value).ok().filter(|&value| value <= 1)?],
            DType::Uint8 => u8::try_from(value).ok()?.to_le_bytes().into(),
            DType::Uint16 => u16::try_from(value).ok()?.to_le_bytes().into(),
            DType::Uint32 => u32::try_from(value).ok()?.to_le_bytes().into(),
            DType::Uint64 => u64::try_from(value).ok()?.to_le_bytes().into(),
            DType::Int8 => i8::try_from(value).ok()?.to_le_bytes().into(),
            DType::Int16 => i16::try_from(value).ok()?.to_le_bytes().into(),
            DType::Int32 => i32::try_from(value).ok()?.to_le_bytes().into(),
            DType::Int64 => value.to_le_bytes().into(),
            DType::Fp16 if f16::from_f64(float).to_f64() == float && is_exact => {
                f16::from_f64(float).to_le_bytes().into()
            }
            DType::Bf16 if bf16::from_f64(float).to_f64() == float && is_exact => {
                bf16::from_f64(float).to_le_bytes().into()
            }
            DType::Fp32 if f64::from(float as f32) == float && is_exact => {
                (float as f32).to_le_bytes().into()
            }
            DType::Fp64 if is_exact => float.to_le_bytes().into(),
            DType::Bytes if value == 0 => 0u32.to_le_bytes().into(),
            _ => return None,
        })
    }

    /// The name in the Open Inference Protocol: `FP32`, `BYTES`, ...
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "BOOL",
            DType::Uint8 => "UINT8",
            DType::Uint16 => "UINT16",
            DType::Uint32 => "UINT32",
            DType::Uint64 => "UINT64",
            DType::Int8 => "INT8",
            DType::Int16 => "INT16",
            DType::Int32 => "INT32",
            DType::Int64 => "INT64",
            DType::Fp16 => "FP16",
            DType::Bf16 => "BF16",
            DType::Fp32 => "FP32",
            DType::Fp64 => "FP64",
            DType::Bytes => "BYTES",
        }
    }

    /// Whether this is FP16, BF16, FP32 or FP64.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dtype's name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown datatype {0:?}; there are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64 and BYTES"
)]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    /// Reads the protocol's name, which is case-sensitive.
    fn from_str(name: &str) -> Result<Self, UnknownDType> {
        DType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| UnknownDType(name.chars().take(32).collect()))
    }
}

/// A Rust type whose values are the elements of a tensor.
pub trait Element: bytemuck::NoUninit + bytemuck::AnyBitPattern + Send + Sync + 'static {
    /// The dtype that it stands for.
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })*
    };
}
element! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Fp16, bf16 => Bf16, f32 => Fp32, f64 => Fp64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_exactly_its_value() {
        let bytes = |dtype: DType, value| dtype.element(value);
        assert_eq!(bytes(DType::Int16, -2), Some(vec![0xfe, 0xff]));
        assert_eq!(bytes(DType::Fp32, 1), Some(1f32.to_le_bytes().to_vec()));
        assert_eq!(bytes(DType::Fp16, 2), Some(f16::from_f32(2.0).to_le_bytes().to_vec()));
        assert_eq!(bytes(DType::Bytes, 0), Some(vec![0; 4]));
        for (dtype, value) in [
            (DType::Bool, 2),
            (DType::Uint8, -1),
            (DType::Int8, 128),
            (DType::Fp32, (1 << 24) + 1),
            (DType::Fp16, 4_097),
            (DType::Fp64, i64::MAX),
            (DType::Bytes, 1),
        ] {
            assert_eq!(bytes(dtype, value), None, "{dtype} {value}");
        }
        assert!(DType::ALL.iter().all(|dtype| dtype.element(0).is_some()));
    }

    #[test]
    fn every_name_reads_back() {
        for dtype in DType::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
    }

    #[test]
    fn names_are_case_sensitive_and_errors_are_short() {
        assert!("fp32".parse::<DType>().is_err());
        let long = "X".repeat(10_000).parse::<DType>().unwrap_err();
        assert!(long.to_string().len() < 300);
    }
}
