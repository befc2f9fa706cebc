//! Operands of losses.

use innkeeper_tensor::{DType, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, operands, result_shape};
use crate::op::{Loss, LossOf};

pub(crate) fn loss(loss: &Loss, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let op = loss.name();
    let [(dtype, x), (other, target)] = operands(op, inputs)?;
    Class::Float.check(op, dtype)?;
    match loss.of {
        LossOf::CrossEntropy { smoothing, .. } => {
            dtypes::index(op, other)?;
            labels(op, x, target)?;
            if !(0.0..=1.0).contains(&smoothing) {
                let text = format_args!("smoothing must be from 0 to 1, got {smoothing}");
                return Err(invalid(op, text));
            }
        }
        LossOf::MeanSquaredError | LossOf::BinaryCrossEntropy => {
            dtypes::same(op, dtype, other)?;
            if x != target {
                return Err(invalid(
                    op,
                    format_args!("both operands must have one shape, got {x} and {target}"),
                ));
            }
        }
    }
    let mut results = vec![(dtype, result_shape(op, &[])?)];
    results.extend(loss.gradient.then(|| (dtype, x.clone())));
    Ok(results)
}

/// Labels are as the logits without their last dimension.
fn labels(op: &str, logits: &Shape, labels: &Shape) -> Result<(), OpError> {
    match logits.dims() {
        [rows @ .., classes] if *classes > 0 && rows == labels.dims() => Ok(()),
        _ => Err(invalid(
            op,
            format_args!(
                "logits must be [..,classes] with at least one class and labels [..], got {logits} \
                 and {labels}"
            ),
        )),
    }
}
