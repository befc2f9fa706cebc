//! Operands of normalisation.

use innkeeper_tensor::{DType, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, axes};
use crate::op::{Norm, Op};

pub(crate) fn norm(norm: &Norm, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let op = Op::Norm(*norm).name();
    let wanted = operands(norm);
    let &[(dtype, x), ref rest @ ..] = inputs else {
        return Err(invalid(op, format_args!("takes {wanted} operands, got none")));
    };
    if inputs.len() != wanted {
        return Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len())));
    }
    Class::Floating.check(op, dtype)?;
    for (other, _) in rest {
        dtypes::same(op, dtype, *other)?;
    }
    match *norm {
        Norm::Layer { axis, residual, keep_sum, .. }
        | Norm::Rms { axis, residual, keep_sum, .. } => {
            let axis = axes::axis(op, axis, x.rank())?;
            let (added, weights) = rest.split_at(usize::from(residual));
            for (_, added) in added {
                if *added != x {
                    return Err(invalid(op, format_args!("the residual must be {x}, got {added}")));
                }
            }
            for (_, weight) in weights {
                if weight.dims() != &x.dims()[axis..] {
                    let text = "scale and bias must be the dimensions of x from the axis on";
                    return Err(invalid(op, format_args!("{text}; got {weight} for x {x}")));
                }
            }
            Ok(vec![(dtype, x.clone()); 1 + usize::from(keep_sum)])
        }
        Norm::Batch { .. } | Norm::Group { .. } | Norm::Instance { .. } => {
            let &[_, c, ..] = x.dims() else {
                return Err(invalid(op, format_args!("x must be [n,c,..], got {x}")));
            };
            for (_, weight) in rest {
                if weight.dims() != [c] {
                    let text = format_args!("weights must be [{c}], as x {x} says; got {weight}");
                    return Err(invalid(op, text));
                }
            }
            if let Norm::Group { groups, .. } = norm
                && (*groups == 0 || !c.is_multiple_of(*groups))
            {
                return Err(invalid(
                    op,
                    format_args!("{groups} groups do not divide {c} channels"),
                ));
            }
            Ok(vec![(dtype, x.clone())])
        }
        Norm::Lp { axis, p } => {
            axes::axis(op, axis, x.rank())?;
            if !matches!(p, 1 | 2) {
                return Err(invalid(op, format_args!("p must be 1 or 2, got {p}")));
            }
            Ok(vec![(dtype, x.clone())])
        }
    }
}

/// How many operands there are.
fn operands(norm: &Norm) -> usize {
    match *norm {
        Norm::Layer { bias, residual, .. } => 2 + usize::from(bias) + usize::from(residual),
        Norm::Rms { residual, .. } => 2 + usize::from(residual),
        Norm::Batch { .. } => 5,
        Norm::Group { .. } | Norm::Instance { .. } => 3,
        Norm::Lp { .. } => 1,
    }
}
