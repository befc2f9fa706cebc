//! Operands of optimisers.

use innkeeper_tensor::{DType, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, result_shape};
use crate::op::Optim;

/// More tensors than any model has that one host would train.
const TENSORS_MAX: usize = 1 << 16;

pub(crate) fn optim(optim: &Optim, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let op = optim.name();
    factors(op, optim)?;
    let (changing, read) = optim.groups();
    let count = count(op, inputs.len(), changing + read)?;
    let (parameters, others) = inputs.split_at(count);
    let dtype = parameters.first().map_or(DType::Fp32, |(dtype, _)| *dtype);
    for (index, &(of, _)) in inputs.iter().enumerate() {
        dtypes::same(op, dtype, of)?;
        if index == 0 {
            Class::Float.check(op, of)?;
        }
    }
    for group in others.chunks_exact(count.max(1)) {
        for (index, ((_, wanted), (_, got))) in parameters.iter().zip(group).enumerate() {
            if wanted != got {
                return Err(invalid(
                    op,
                    format_args!(
                        "tensor {index} is {wanted}, and its gradient or state {got}; they must \
                         have one shape"
                    ),
                ));
            }
        }
    }
    let changed = inputs.iter().take(count * changing);
    let mut results: Vec<_> = changed.map(|&(dtype, shape)| (dtype, shape.clone())).collect();
    if let Optim::ClipNorm { .. } = optim {
        results.push((dtype, result_shape(op, &[])?));
    }
    Ok(results)
}

/// How many tensors each of `groups` groups has.
fn count(op: &str, inputs: usize, groups: usize) -> Result<usize, OpError> {
    if !inputs.is_multiple_of(groups) || inputs > TENSORS_MAX {
        return Err(invalid(
            op,
            format_args!(
                "takes {groups} groups of as many tensors, at most {TENSORS_MAX} in all, got \
                 {inputs}"
            ),
        ));
    }
    Ok(inputs / groups)
}

/// Factors outside of their ranges would spoil every parameter at once.
fn factors(op: &str, optim: &Optim) -> Result<(), OpError> {
    let refuse = |what: &str, wanted: &str, got: f64| {
        Err(invalid(op, format_args!("{what} must be {wanted}, got {got}")))
    };
    let not_negative = |what: &str, value: f64| match value {
        value if value >= 0.0 && value.is_finite() => Ok(()),
        value => refuse(what, "0 or more and finite", value),
    };
    let below_one = |what: &str, value: f64| match value {
        value if (0.0..1.0).contains(&value) => Ok(()),
        value => refuse(what, "from 0 (included) to 1 (excluded)", value),
    };
    match *optim {
        Optim::Sgd { lr, momentum, weight_decay, nesterov } => {
            not_negative("the learning rate", lr)?;
            not_negative("momentum", momentum)?;
            not_negative("weight decay", weight_decay)?;
            if nesterov && momentum == 0.0 {
                return Err(invalid(op, "nesterov needs a momentum above 0"));
            }
            Ok(())
        }
        Optim::Adam { lr, beta1, beta2, epsilon, weight_decay, step, .. } => {
            not_negative("the learning rate", lr)?;
            below_one("beta1", beta1)?;
            below_one("beta2", beta2)?;
            not_negative("epsilon", epsilon)?;
            not_negative("weight decay", weight_decay)?;
            if step == 0 {
                return Err(invalid(op, "steps count from 1, got 0"));
            }
            Ok(())
        }
        Optim::ClipNorm { norm_max } if norm_max >= 0.0 => Ok(()),
        Optim::ClipNorm { norm_max } => refuse("the largest norm", "0 or more", norm_max),
    }
}
