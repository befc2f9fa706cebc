//! The classification extension: the largest values of an output, each with its place and its label.

use std::cmp::Ordering;
use std::fmt::Display;

use half::{bf16, f16};
use innkeeper_predict::Deployment;
use innkeeper_tensor::{DType, Named, Tensor, TensorError, TensorSpec};

use super::Bad;
use crate::error::Failure;
use crate::model_config;

/// More classes than anybody reads.
pub(crate) const CLASSES_MAX: u64 = 65_536;

/// Whether an output can be asked for as classes.
///
/// # Errors
/// BOOL and BYTES, which have no order that says anything.
pub(crate) fn check(spec: &TensorSpec) -> Result<(), Bad> {
    match spec.dtype {
        DType::Bool | DType::Bytes => {
            let problem = format!("{} has no classes; classification is for numbers", spec.dtype);
            Err(Bad::new(problem).at(&format!("output {:?}", spec.name)))
        }
        _ => Ok(()),
    }
}

/// Puts classes in the place of the outputs for which `classes` says how many are wanted.
///
/// # Errors
/// A dtype that [`check`] refuses; a model whose labels cannot be had.
pub(crate) async fn put(
    deployment: &Deployment,
    outputs: &mut [Named],
    classes: impl Fn(&str) -> Option<usize>,
) -> Result<(), Failure> {
    let has_rows = deployment.signature.batch_axis == Some(0);
    for output in outputs {
        let Some(count) = classes(&output.name) else { continue };
        let labels = labels(deployment, &output.name).await?;
        *output = classify(output, count, has_rows, labels.as_deref())?;
    }
    Ok(())
}

/// The labels of an output's classes, if the model has any.
async fn labels(deployment: &Deployment, output: &str) -> Result<Option<String>, Failure> {
    let Some(name) = model_config::labels(deployment, output) else { return Ok(None) };
    let bytes = deployment.asset(name).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned()))
}

/// The `count` largest values of each row, as BYTES `value:index` or `value:index:label`. A model that takes batches has
/// rows; else all elements are one.
///
/// # Errors
/// A dtype that [`check`] refuses.
fn classify(
    output: &Named,
    count: usize,
    has_rows: bool,
    labels: Option<&str>,
) -> Result<Named, Bad> {
    let dims = output.tensor.shape().dims();
    let elements = output.tensor.shape().elements();
    let rows = if has_rows { dims.first().copied().unwrap_or(1) } else { 1 };
    let width = elements.checked_div(rows).unwrap_or(0);
    let labels: Vec<&str> = labels.map(|text| text.lines().collect()).unwrap_or_default();
    let texts = texts(&output.tensor, width, count, &labels)
        .map_err(|error| Bad::new(error.to_string()).at(&output.name))?;
    let kept = count.min(width);
    let shape = if has_rows { vec![rows, kept] } else { vec![kept] };
    let tensor =
        Tensor::from_strings(&shape, &texts).map_err(|error| Bad::new(error.to_string()))?;
    Ok(Named { name: output.name.clone(), tensor })
}

fn texts(
    tensor: &Tensor,
    width: usize,
    count: usize,
    labels: &[&str],
) -> Result<Vec<String>, TensorError> {
    macro_rules! of {
        ($type:ty) => {
            largest(&tensor.elements::<$type>()?, width, count, labels)
        };
    }
    Ok(match tensor.dtype() {
        DType::Uint8 => of!(u8),
        DType::Uint16 => of!(u16),
        DType::Uint32 => of!(u32),
        DType::Uint64 => of!(u64),
        DType::Int8 => of!(i8),
        DType::Int16 => of!(i16),
        DType::Int32 => of!(i32),
        DType::Int64 => of!(i64),
        DType::Fp16 => of!(f16),
        DType::Bf16 => of!(bf16),
        DType::Fp32 => of!(f32),
        DType::Fp64 | DType::Bool | DType::Bytes => of!(f64),
    })
}

fn largest<T: PartialOrd + Copy + Display>(
    elements: &[T],
    width: usize,
    count: usize,
    labels: &[&str],
) -> Vec<String> {
    let mut texts = Vec::new();
    for row in elements.chunks(width.max(1)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        // Of equal values the first comes first; what is no number comes last.
        order.sort_by(|&a, &b| descending(row[a], row[b]));
        texts.extend(order.into_iter().take(count).map(|index| match labels.get(index) {
            Some(label) => format!("{}:{index}:{label}", row[index]),
            None => format!("{}:{index}", row[index]),
        }));
    }
    texts
}

fn descending<T: PartialOrd>(a: T, b: T) -> Ordering {
    let is_number = |value: &T| value.partial_cmp(value).is_some();
    b.partial_cmp(&a).unwrap_or_else(|| is_number(&b).cmp(&is_number(&a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tensor: Tensor, count: usize, has_rows: bool, labels: Option<&str>) -> Vec<String> {
        let output = Named { name: "Y".into(), tensor };
        let classes = classify(&output, count, has_rows, labels).unwrap();
        let texts = classes.tensor.strings().unwrap();
        texts.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_largest_values_come_first() {
        let rows = Tensor::from_vec(&[2, 3], vec![0.1f32, 0.7, 0.2, f32::NAN, -1.0, 3.5]).unwrap();
        let got = read(rows.clone(), 2, true, Some("cat\ndog"));
        assert_eq!(got, ["0.7:1:dog", "0.2:2", "3.5:2", "-1:1:dog"]);
        assert_eq!(read(rows.clone(), 1, false, None), ["3.5:5"]);
        assert_eq!(read(rows, 9, true, None).len(), 6);
        let whole = Tensor::from_vec(&[3], vec![5i64, 9, 9]).unwrap();
        assert_eq!(read(whole, 2, false, None), ["9:1", "9:2"]);
        let none = Tensor::from_vec(&[0, 3], Vec::<f32>::new()).unwrap();
        assert!(read(none, 2, true, None).is_empty());
    }

    #[test]
    fn what_has_no_order_is_refused() {
        let spec = |dtype| TensorSpec { name: "Y".into(), dtype, shape: None, optional: false };
        for dtype in DType::ALL {
            let refused = matches!(dtype, DType::Bool | DType::Bytes);
            assert_eq!(check(&spec(dtype)).is_err(), refused, "{dtype}");
        }
    }
}
