//! A raw binary request: no JSON, the whole body is the one input's data.

use std::sync::Arc;

use bytes::Bytes;
use innkeeper_tensor::{Buffer, Named, Shape, Signature, Tensor, TensorSpec};

use super::Bad;

/// The input that `body` is.
///
/// # Errors
/// A model with several inputs or several free dimensions, and a body that does not fit.
pub(crate) fn input(signature: &Signature, body: &Bytes) -> Result<Named, Bad> {
    let [spec] = &signature.inputs[..] else {
        return Err(Bad::new(format!(
            "a raw binary request is for a model with one input, this one has {}; send the JSON header",
            signature.inputs.len()
        )));
    };
    let tensor = match spec.dtype.size() {
        Some(size) => numbers(signature, spec, size, body)?,
        None => string(spec, body)?,
    };
    Ok(Named { name: spec.name.clone(), tensor })
}

fn numbers(
    signature: &Signature,
    spec: &TensorSpec,
    size: usize,
    body: &Bytes,
) -> Result<Tensor, Bad> {
    let free = || {
        Bad::new(format!(
            "a raw binary request is for an input with at most one free dimension beside the batch, {:?} is {spec}",
            spec.name
        ))
    };
    let mut dims = spec.shape.clone().ok_or_else(free)?;
    // A model that stacks requests is given a batch of one.
    if let Some(batch) = signature.batch_axis.and_then(|axis| dims.get_mut(axis))
        && dims_free(spec) > 1
    {
        *batch = Some(1);
    }
    let known = dims.iter().flatten().try_fold(size, |bytes, &dim| bytes.checked_mul(dim));
    let known = known.ok_or_else(|| Bad::new("the product of the dimensions is too large"))?;
    let mut unknown = dims.iter_mut().filter(|dim| dim.is_none());
    if let Some(dim) = unknown.next() {
        *dim = Some(body.len().checked_div(known).unwrap_or(0));
    }
    if unknown.next().is_some() {
        return Err(free());
    }
    let sizes: Vec<usize> = dims.into_iter().flatten().collect();
    let shape = Shape::new(&sizes).map_err(|error| Bad::new(error.to_string()))?;
    let data = Buffer::shared(Arc::new(body.clone()));
    Tensor::new(spec.dtype, shape, data).map_err(|error| Bad::new(error.to_string()).at(&spec.name))
}

fn dims_free(spec: &TensorSpec) -> usize {
    spec.shape.iter().flatten().filter(|dim| dim.is_none()).count()
}

/// The bare bytes of one element: the length that stands before it in a tensor is put there here.
fn string(spec: &TensorSpec, body: &Bytes) -> Result<Tensor, Bad> {
    let rank = spec.shape.as_ref().map_or(1, Vec::len);
    let fixed_to_one = spec.shape.iter().flatten().all(|dim| dim.is_none_or(|size| size == 1));
    if !fixed_to_one {
        return Err(Bad::new(format!(
            "a raw binary request gives one element, but input {:?} is {spec}",
            spec.name
        )));
    }
    Tensor::from_strings(&vec![1; rank], &[body]).map_err(|error| Bad::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::DType;

    use super::*;

    fn read(
        dtype: DType,
        shape: Option<&[i64]>,
        batch_axis: Option<usize>,
        len: usize,
    ) -> Result<Vec<usize>, String> {
        let shape = shape.map(|dims| dims.iter().map(|&dim| usize::try_from(dim).ok()).collect());
        let spec = TensorSpec { name: "A".into(), dtype, shape, optional: false };
        let signature = Signature { inputs: vec![spec], batch_axis, ..Signature::default() };
        let named = input(&signature, &Bytes::from(vec![0; len])).map_err(|bad| bad.to_string())?;
        Ok(named.tensor.shape().dims().to_vec())
    }

    #[test]
    fn the_free_dimension_takes_what_is_there() {
        assert_eq!(read(DType::Fp32, Some(&[-1, 16]), None, 128), Ok(vec![2, 16]));
        assert_eq!(read(DType::Fp32, Some(&[-1, 16]), Some(0), 64), Ok(vec![1, 16]));
        assert_eq!(read(DType::Fp32, Some(&[-1, -1]), Some(0), 12), Ok(vec![1, 3]));
        assert_eq!(read(DType::Int8, Some(&[4]), None, 4), Ok(vec![4]));
        assert_eq!(read(DType::Bf16, Some(&[-1]), None, 0), Ok(vec![0]));
    }

    #[test]
    fn a_string_gets_its_length() {
        assert_eq!(read(DType::Bytes, Some(&[1]), None, 9), Ok(vec![1]));
        assert_eq!(read(DType::Bytes, Some(&[-1]), None, 0), Ok(vec![1]));
        assert_eq!(read(DType::Bytes, Some(&[-1, 1]), None, 3), Ok(vec![1, 1]));
        assert!(read(DType::Bytes, Some(&[2]), None, 9).unwrap_err().contains("one element"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(
            read(DType::Fp32, Some(&[-1, 16]), None, 65)
                .unwrap_err()
                .contains("takes 64 bytes, got 65")
        );
        assert!(
            read(DType::Fp32, Some(&[-1, -1]), None, 8).unwrap_err().contains("at most one free")
        );
        assert!(read(DType::Fp32, None, None, 8).unwrap_err().contains("at most one free"));
        assert!(read(DType::Fp32, Some(&[-1, 0]), None, 8).unwrap_err().contains("takes 0 bytes"));
        let none = input(&Signature::default(), &Bytes::new()).unwrap_err();
        assert!(none.to_string().contains("this one has 0"));
    }
}
