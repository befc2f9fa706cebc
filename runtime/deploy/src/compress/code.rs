//! One weight in the code that a plan wants.

use innkeeper_kernels::{Backend, Cpu, Op, Quant, Run};
use innkeeper_tensor::{Code, Coded, DType, Shape, Tensor, bf16, f16};

use super::plan::{Plan, Target};
use super::prune::pruned;
use super::report::UNTOUCHED;
use super::{CompressError, gptq, low_rank};

/// Weights of fewer elements are left: they save nothing that counts.
pub(super) const ELEMENTS_MIN: usize = 256;

/// What became of a weight.
pub(super) struct Made {
    pub(super) tensor: Tensor,
    /// What was done, such as `int8`.
    pub(super) method: String,
    /// What was done otherwise than the plan says.
    pub(super) remark: Option<String>,
}

/// Why a weight is left as it is, if it is.
pub(super) fn left(tensor: &Tensor) -> Option<String> {
    if Coded::of(tensor).is_some() {
        return Some("is compressed already".into());
    }
    if tensor.dtype() != DType::Fp32 {
        return Some(format!("is {}; only FP32 is compressed", tensor.dtype()));
    }
    if tensor.shape().rank() < 2 {
        return Some(format!("has the shape {}; wanted two dimensions or more", tensor.shape()));
    }
    if tensor.shape().elements() < ELEMENTS_MIN {
        return Some(format!("is small; from {ELEMENTS_MIN} elements on it would pay"));
    }
    let finite = tensor.elements::<f32>().is_ok_and(|all| all.iter().all(|x| x.is_finite()));
    (!finite).then(|| "has elements that are not finite".into())
}

/// The weight in the plan's code. It must be one that is not [`left`].
///
/// With `sums` of the products of its inputs it is rounded to 4 bits with regard to them.
pub(super) fn made(
    weight: &Tensor,
    plan: &Plan,
    sums: Option<&[f64]>,
) -> Result<Made, CompressError> {
    let dims = weight.shape().dims();
    let width = dims[1..].iter().product();
    let elements = weight.elements::<f32>().map_err(failed)?;
    let (elements, mut method) = match plan.prune {
        Some(how) => (pruned(&elements, width, how), vec!["pruned"]),
        None => (elements.into_owned(), Vec::new()),
    };
    let matrix = Tensor::from_vec(&[dims[0], width], elements).map_err(failed)?;
    let factored = plan.rank.map(|rank| product(&matrix, rank, plan)).transpose()?;
    let (code, remark) = match (factored, plan.to) {
        (Some(Ok((code, name))), _) => {
            method.push(name);
            (code, None)
        }
        (Some(Err(why)), None) => {
            let tensor = matrix.reshaped(weight.shape().clone()).map_err(failed)?;
            let method = if method.is_empty() { UNTOUCHED.into() } else { method.join(" ") };
            return Ok(Made { tensor, method, remark: Some(why) });
        }
        (None, None) => {
            let tensor = matrix.reshaped(weight.shape().clone()).map_err(failed)?;
            return Ok(Made { tensor, method: method.join(" "), remark: None });
        }
        (why, Some(to)) => {
            let (code, name, remark) = code(&matrix, to, plan.group, sums)?;
            method.push(name);
            (code, remark.or(why.and_then(Result::err)))
        }
    };
    let tensor = Coded::tensor(weight.shape().clone(), code).map_err(failed)?;
    Ok(Made { tensor, method: method.join(" "), remark })
}

/// A matrix as a product, whose factors are in the plan's code where they are large enough, or why it stays whole.
fn product(
    matrix: &Tensor,
    rank: usize,
    plan: &Plan,
) -> Result<Result<(Code, &'static str), String>, CompressError> {
    let &[rows, columns] = matrix.shape().dims() else {
        return Ok(Err("it is no matrix".into()));
    };
    if (rows + columns) * rank >= rows * columns {
        return Ok(Err(format!("a product of rank {rank} would save nothing")));
    }
    if rows.min(columns) > low_rank::SIDE_MAX {
        return Ok(Err(format!("both its sides are over {}", low_rank::SIDE_MAX)));
    }
    let (left, right) = low_rank::factors(matrix, rank)?;
    let of_factors = Plan { prune: None, rank: None, ..plan.clone() };
    let coded = |factor: Tensor| match plan.to {
        Some(_) if factor.shape().elements() >= ELEMENTS_MIN => {
            made(&factor, &of_factors, None).map(|made| made.tensor)
        }
        _ => Ok(factor),
    };
    let name = match plan.to {
        None => "low-rank",
        Some(Target::Int8) => "low-rank int8",
        Some(Target::Int4) => "low-rank int4",
        Some(Target::Bf16) => "low-rank bf16",
        Some(Target::Fp16) => "low-rank fp16",
    };
    Ok(Ok((Code::LowRank { left: coded(left)?, right: coded(right)? }, name)))
}

/// A matrix in a code, the code's name, and what is not as was asked.
fn code(
    matrix: &Tensor,
    to: Target,
    group: Option<usize>,
    sums: Option<&[f64]>,
) -> Result<(Code, &'static str, Option<String>), CompressError> {
    let elements = matrix.elements::<f32>().map_err(failed)?;
    let dims = matrix.shape().dims();
    Ok(match (to, group) {
        (Target::Fp16, _) => {
            let values = elements.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
            if values.iter().any(|x| !x.is_finite()) {
                let text = "FP16 does not reach its largest element; BF16 does".to_owned();
                let values = elements.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
                let values = Tensor::from_vec(dims, values).map_err(failed)?;
                return Ok((Code::Half { values }, "bf16", Some(text)));
            }
            let values = Tensor::from_vec(dims, values).map_err(failed)?;
            (Code::Half { values }, "fp16", None)
        }
        (Target::Bf16, _) => {
            let values = elements.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
            let values = Tensor::from_vec(dims, values).map_err(failed)?;
            (Code::Half { values }, "bf16", None)
        }
        (Target::Int4, Some(group)) if dims[1].is_multiple_of(group) => {
            let seen = sums.map(|sums| gptq::quantised(matrix, sums, group)).transpose()?;
            if let Some((values, scales)) = seen.flatten() {
                return Ok((Code::Int4 { values, scales, group }, "int4 gptq", None));
            }
            let (values, scales) = quantised(matrix, Quant::Weight4 { group })?;
            (Code::Int4 { values, scales, group }, "int4", None)
        }
        (Target::Int4 | Target::Int8, group) => {
            let (values, scales) = quantised(matrix, Quant::Weight8)?;
            let text = |group| format!("its rows of {} are not whole groups of {group}", dims[1]);
            (Code::Int8 { values, scales }, "int8", group.map(text))
        }
    })
}

/// Values and scales, rounded to nearest.
pub(super) fn quantised(matrix: &Tensor, how: Quant) -> Result<(Tensor, Tensor), CompressError> {
    let made = Cpu::new().run(&Op::Quant(how), &[matrix], &Run::new()).map_err(failed)?;
    let two: Result<[Tensor; 2], _> = made.try_into();
    let [values, scales] = two.map_err(|_| CompressError::Failed("two results".into()))?;
    Ok((values, scales))
}

/// The squares of `weight - made` and of `weight`, added up, and how many elements of `made` are zero.
pub(super) fn distance(weight: &Tensor, made: &Tensor) -> Result<(f64, f64, usize), CompressError> {
    let from = weight.elements::<f32>().map_err(failed)?;
    let width = weight.shape().dims().get(1..).map_or(1, |rest| rest.iter().product()).max(1);
    let coded = Coded::of(made);
    let plain = match &coded {
        Some(_) => None,
        None => Some(made.elements::<f32>().map_err(failed)?),
    };
    let (mut off, mut all, mut zeros) = (0f64, 0f64, 0);
    let mut row_made = vec![0f32; width];
    for (row, from) in from.chunks_exact(width).enumerate() {
        match (&coded, &plain) {
            (Some(coded), _) => coded.write(row, 0..width, &mut row_made),
            (None, plain) => {
                let elements = plain.as_deref().unwrap_or_default();
                row_made.copy_from_slice(&elements[row * width..][..width]);
            }
        }
        for (&w0, &w) in from.iter().zip(&row_made) {
            off += (f64::from(w) - f64::from(w0)).powi(2);
            all += f64::from(w0).powi(2);
            zeros += usize::from(w == 0.0);
        }
    }
    Ok((off, all, zeros))
}

pub(super) fn failed(error: impl std::fmt::Display) -> CompressError {
    CompressError::Failed(error.to_string())
}

/// The shape of a matrix.
pub(super) fn shape(dims: &[usize]) -> Result<Shape, CompressError> {
    Shape::new(dims).map_err(failed)
}
