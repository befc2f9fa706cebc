//! Dtypes of operations on elements at the same place.

use innkeeper_tensor::{DType, Shape};

use crate::error::invalid;
use crate::infer::dtypes::Class;
use crate::infer::{Operand, one, same};
use crate::{Binary, Compare, Curve, OpError, Unary};

pub(crate) fn binary(op: Binary) -> Class {
    use Binary::*;
    match op {
        And | Or | Xor => Class::Logical,
        BitAnd | BitOr | BitXor => Class::Integer,
        ShiftLeft | ShiftRight => Class::Unsigned,
        _ => Class::Numeric,
    }
}

pub(crate) fn compare(op: Compare) -> Class {
    match op {
        Compare::Equal | Compare::NotEqual => Class::Fixed,
        _ => Class::Numeric,
    }
}

pub(crate) fn unary(op: Unary) -> Class {
    match op {
        Unary::Neg | Unary::Relu => Class::Signed,
        Unary::Abs | Unary::Sign => Class::Numeric,
        Unary::Not => Class::Logical,
        Unary::BitNot => Class::Integer,
        _ => Class::Floating,
    }
}

pub(crate) fn curve(
    op: &str,
    inputs: &[Operand<'_>],
    curve: Curve,
) -> Result<(DType, Shape), OpError> {
    let class = match curve {
        Curve::Celu { alpha } if alpha as f32 == 0.0 => {
            return Err(invalid(op, "alpha is 0, by which nothing can be divided; use relu"));
        }
        Curve::Clip { .. } => Class::Numeric,
        _ => Class::Floating,
    };
    one(op, inputs, class, same)
}
