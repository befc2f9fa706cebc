//! Which dtypes an operation takes.

use innkeeper_tensor::DType;

use crate::OpError;
use crate::error::{invalid, unsupported};

/// A family of dtypes that some operations take.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    /// FP32 and FP64.
    Float,
    /// FP16, BF16, FP32 and FP64.
    Floating,
    /// Those and the signed integers.
    Signed,
    /// The integers.
    Integer,
    /// The unsigned integers.
    Unsigned,
    /// BOOL.
    Logical,
    /// Every dtype but BOOL and BYTES.
    Numeric,
    /// Every dtype but BYTES.
    Fixed,
}

impl Class {
    pub(crate) fn check(self, op: &str, dtype: DType) -> Result<(), OpError> {
        if self.takes(dtype) {
            return Ok(());
        }
        let wanted = match self {
            Class::Float => "FP32 and FP64",
            Class::Floating => "FP16, BF16, FP32 and FP64",
            Class::Signed => "the floats and the signed integers",
            Class::Integer => "the integers",
            Class::Unsigned => "the unsigned integers",
            Class::Logical => "BOOL",
            Class::Numeric => "every dtype but BOOL and BYTES",
            Class::Fixed => "every dtype but BYTES",
        };
        let advice = if dtype == DType::Bytes { "" } else { "; cast first" };
        Err(unsupported(op, format_args!("takes {wanted}, got {dtype}{advice}")))
    }

    fn takes(self, dtype: DType) -> bool {
        use DType::*;
        match self {
            Class::Float => matches!(dtype, Fp32 | Fp64),
            Class::Floating => dtype.is_float(),
            Class::Signed => dtype.is_float() || matches!(dtype, Int8 | Int16 | Int32 | Int64),
            Class::Integer => !dtype.is_float() && !matches!(dtype, Bool | Bytes),
            Class::Unsigned => matches!(dtype, Uint8 | Uint16 | Uint32 | Uint64),
            Class::Logical => dtype == Bool,
            Class::Numeric => !matches!(dtype, Bool | Bytes),
            Class::Fixed => dtype != Bytes,
        }
    }
}

/// Two operands must have one dtype.
pub(crate) fn same(op: &str, a: DType, b: DType) -> Result<(), OpError> {
    if a == b {
        return Ok(());
    }
    Err(invalid(op, format_args!("operands must have one dtype, got {a} and {b}; cast one")))
}

/// Whether `from` casts to `to`.
pub(crate) fn castable(op: &str, from: DType, to: DType) -> Result<(), OpError> {
    if from == to || (from != DType::Bytes && to != DType::Bytes) {
        return Ok(());
    }
    Err(unsupported(op, format_args!("BYTES casts only to itself, wanted {from} to {to}")))
}

/// Indices must be INT32 or INT64.
pub(crate) fn index(op: &str, dtype: DType) -> Result<(), OpError> {
    if matches!(dtype, DType::Int32 | DType::Int64) {
        return Ok(());
    }
    Err(invalid(op, format_args!("indices must be INT32 or INT64, got {dtype}; cast them")))
}

/// A condition must be BOOL.
pub(crate) fn condition(op: &str, dtype: DType) -> Result<(), OpError> {
    if dtype == DType::Bool {
        return Ok(());
    }
    Err(invalid(op, format_args!("the condition must be BOOL, got {dtype}; cast or compare")))
}
