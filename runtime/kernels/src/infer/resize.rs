//! Shapes of resampling.

use innkeeper_tensor::{DType, Shape};

use crate::error::invalid;
use crate::infer::dtypes::Class;
use crate::infer::{Operand, operands, result_shape};
use crate::{Coordinates, OpError, Resize, Sample};

/// The largest size of a dimension that changes.
const SIZE_MAX: usize = 1 << 20;
/// How much smaller a dimension may be meant to become at once.
const SCALE_MIN: f64 = 1.0 / 4096.0;

/// The only result.
pub(crate) fn resize(op: &Resize, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let name = "resize";
    let [(dtype, x)] = operands(name, inputs)?;
    let nearest = matches!(op.mode, Sample::Nearest(_));
    if nearest { Class::Fixed } else { Class::Numeric }.check(name, dtype)?;
    let rank = x.rank();
    let parts = match &op.coordinates {
        Coordinates::Crop { parts, .. } => Some(parts),
        _ => None,
    };
    let fits = op.sizes.len() == rank
        && (op.scales.is_empty() || op.scales.len() == rank)
        && parts.is_none_or(|parts| parts.len() == rank);
    if !fits {
        return Err(invalid(
            name,
            format_args!("{x} takes {rank} sizes, and as many scales and parts or none"),
        ));
    }
    let finite = |number: f64| number.is_finite() && number.abs() < 1e9;
    if let Some(&scale) = op.scales.iter().find(|&&scale| !finite(scale) || scale < SCALE_MIN) {
        return Err(invalid(name, format_args!("a scale must be {SCALE_MIN} to 1e9, got {scale}")));
    }
    if parts.is_some_and(|parts| parts.iter().any(|&(a, b)| !finite(a) || !finite(b))) {
        return Err(invalid(name, "a part must start and end between -1e9 and 1e9"));
    }
    if let Sample::Cubic { a, .. } = op.mode
        && !finite(a)
    {
        return Err(invalid(name, format_args!("the cubic's coefficient is {a}")));
    }
    if nearest && op.antialias {
        return Err(invalid(name, "nearest has nothing to antialias"));
    }
    for (&from, &to) in x.dims().iter().zip(&op.sizes) {
        if from != to && (from.max(to) > SIZE_MAX || from == 0) {
            return Err(invalid(
                name,
                format_args!("{from} cannot become {to}: sizes that change are 1 to {SIZE_MAX}"),
            ));
        }
        if from > SIZE_MAX && (!op.scales.is_empty() || parts.is_some()) {
            return Err(invalid(name, format_args!("sizes are up to {SIZE_MAX} here, got {x}")));
        }
        // Of a dimension that shrinks to much less than its scale says, every element would take all of it.
        if op.scales.is_empty() && from / to.max(1) > (1.0 / SCALE_MIN) as usize {
            return Err(invalid(name, format_args!("{from} cannot become {to} at once")));
        }
    }
    Ok((dtype, result_shape(name, &op.sizes)?))
}
