//! Dtypes and shapes of random tensors.

use innkeeper_tensor::{DType, Shape};

use crate::error::{invalid, unsupported};
use crate::infer::dtypes::Class;
use crate::infer::{Operand, operands, result_shape};
use crate::{Draw, OpError, Random};

/// The results' dtypes and shapes.
pub(crate) fn random(op: &Random, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let name = op.name();
    let one = |dtype, shape| Ok(vec![(dtype, shape)]);
    match &op.draw {
        Draw::Uniform { dtype, shape, low: a, high: b }
        | Draw::Normal { dtype, shape, mean: a, deviation: b } => {
            let [] = operands(name, inputs)?;
            Class::Floating.check(name, *dtype)?;
            if !a.is_finite() || !b.is_finite() {
                return Err(invalid(name, format_args!("wanted finite numbers, got {a} and {b}")));
            }
            one(*dtype, result_shape(name, shape)?)
        }
        Draw::Integers { dtype, shape, low, high } => {
            let [] = operands(name, inputs)?;
            Class::Integer.check(name, *dtype)?;
            let (least, most) = range(*dtype);
            if low >= high || i128::from(*low) < least || i128::from(*high) - 1 > most {
                return Err(invalid(
                    name,
                    format_args!(
                        "wanted low < high within {dtype}, which holds {least} to {most}, \
                         got {low} and {high}"
                    ),
                ));
            }
            one(*dtype, result_shape(name, shape)?)
        }
        Draw::Bernoulli { dtype } => {
            let [(from, x)] = operands(name, inputs)?;
            Class::Floating.check(name, from)?;
            Class::Fixed.check(name, *dtype)?;
            one(*dtype, x.clone())
        }
        Draw::Permutation { count } => {
            let [] = operands(name, inputs)?;
            one(DType::Int64, result_shape(name, &[*count])?)
        }
        Draw::Multinomial { dtype, samples } => {
            let [(from, x)] = operands(name, inputs)?;
            Class::Floating.check(name, from)?;
            if !matches!(dtype, DType::Int32 | DType::Int64) {
                return Err(unsupported(name, format_args!("gives INT32 or INT64, not {dtype}")));
            }
            match *x.dims() {
                [n, classes] if classes > 0 => one(*dtype, result_shape(name, &[n, *samples])?),
                _ => Err(invalid(name, format_args!("takes [n,classes], got {x}"))),
            }
        }
        Draw::Dropout { ratio } => {
            let [(dtype, x)] = operands(name, inputs)?;
            Class::Floating.check(name, dtype)?;
            if !(0.0..1.0).contains(ratio) {
                return Err(invalid(
                    name,
                    format_args!("the ratio must be 0 or more and below 1, got {ratio}"),
                ));
            }
            Ok(vec![(dtype, x.clone()), (DType::Bool, x.clone())])
        }
    }
}

fn range(dtype: DType) -> (i128, i128) {
    let bits = dtype.size().map_or(0, |size| size as u32 * 8);
    match dtype {
        DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64 => {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        }
        _ => (0, (1i128 << bits) - 1),
    }
}
