//! The tensors of several requests as those of one, and back.

use innkeeper_tensor::{Mismatch, Named, Signature, StackError, Tensor};

/// How many rows a request has along the signature's batch axis; `None` where there is no axis or no input.
///
/// # Errors
/// Two inputs do not agree.
pub(crate) fn rows(signature: &Signature, inputs: &[Named]) -> Result<Option<u64>, Mismatch> {
    let (Some(axis), Some(first)) = (signature.batch_axis, inputs.first()) else { return Ok(None) };
    let of = |input: &Named| input.tensor.shape().dims().get(axis).copied().unwrap_or(0);
    let rows = of(first);
    match inputs.iter().find(|input| of(input) != rows) {
        None => Ok(Some(rows as u64)),
        Some(other) => Err(Mismatch::Rows {
            name: first.name.clone(),
            rows,
            other: other.name.clone(),
            other_rows: of(other),
        }),
    }
}

/// The inputs of all requests, each with the same names, stacked along `axis`.
///
/// # Errors
/// They do not have the same names and shapes.
pub(crate) fn stack(requests: &[Vec<Named>], axis: usize) -> Result<Vec<Named>, StackError> {
    let first = requests.first().ok_or(StackError::Empty)?;
    let stacked = first.iter().map(|input| {
        let find = |request: &Vec<Named>| request.iter().position(|other| other.name == input.name);
        let tensors = requests.iter().map(|request| find(request).map(|at| &request[at].tensor));
        let tensors: Vec<&Tensor> = tensors.collect::<Option<_>>().ok_or(StackError::Empty)?;
        Ok(Named { name: input.name.clone(), tensor: Tensor::stack(&tensors, axis)? })
    });
    stacked.collect()
}

/// The outputs of a batch, taken apart into those of its requests, which have this many rows each.
///
/// # Errors
/// An output does not have as many rows as all of them together.
pub(crate) fn split(
    outputs: &[Named],
    axis: usize,
    rows: &[usize],
) -> Result<Vec<Vec<Named>>, Mismatch> {
    let mut answers: Vec<Vec<Named>> = vec![Vec::with_capacity(outputs.len()); rows.len()];
    for Named { name, tensor } in outputs {
        let parts = tensor.split(axis, rows).map_err(|_| Mismatch::BatchRows {
            name: name.clone(),
            axis,
            wanted: rows.iter().sum(),
            got: tensor.shape().clone(),
        })?;
        for (answer, tensor) in answers.iter_mut().zip(parts) {
            answer.push(Named { name: name.clone(), tensor });
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, dims: &[usize], first: i64) -> Named {
        let count: usize = dims.iter().product();
        let tensor = Tensor::from_vec(dims, (first..).take(count).collect()).unwrap();
        Named { name: name.into(), tensor }
    }

    #[test]
    fn inputs_are_found_by_name_and_rows_come_back() {
        let (a, b) = (
            [named("X", &[1, 2], 0), named("Y", &[1], 100)],
            [named("Y", &[2], 200), named("X", &[2, 2], 10)],
        );
        let stacked = stack(&[a.to_vec(), b.to_vec()], 0).unwrap();
        assert_eq!(
            stacked,
            [
                Named {
                    tensor: Tensor::from_vec(&[3, 2], vec![0i64, 1, 10, 11, 12, 13]).unwrap(),
                    ..a[0].clone()
                },
                Named {
                    tensor: Tensor::from_vec(&[3], vec![100i64, 200, 201]).unwrap(),
                    ..a[1].clone()
                },
            ]
        );
        let answers = split(&stacked, 0, &[1, 2]).unwrap();
        assert_eq!(answers, [a.to_vec(), vec![b[1].clone(), b[0].clone()]]);
        let error = split(&stacked, 0, &[1, 1]).unwrap_err().to_string();
        assert_eq!(
            error,
            r#"output "X" must have 2 rows along dimension 0 as the batch has, got [3,2]"#
        );
    }

    #[test]
    fn ragged_requests_are_refused() {
        let signature = Signature { batch_axis: Some(0), ..Signature::default() };
        assert_eq!(rows(&signature, &[named("X", &[3, 2], 0), named("Y", &[3], 0)]), Ok(Some(3)));
        assert_eq!(rows(&signature, &[]), Ok(None));
        let uneven = rows(&signature, &[named("X", &[3, 2], 0), named("Y", &[2], 0)]).unwrap_err();
        assert_eq!(
            uneven.to_string(),
            r#"input "X" has 3 rows and input "Y" has 2; all inputs of a request must have as many"#
        );
        let plain = Signature::default();
        assert_eq!(rows(&plain, &[named("X", &[3], 0), named("Y", &[2], 0)]), Ok(None));
    }
}
