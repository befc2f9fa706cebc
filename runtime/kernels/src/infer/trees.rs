//! Shapes of tree ensembles.

use innkeeper_tensor::{DType, Shape};

use crate::error::invalid;
use crate::infer::dtypes::Class;
use crate::infer::{Operand, operands, result_shape};
use crate::{OpError, Trees};

/// The results' dtypes and shapes.
pub(crate) fn trees(trees: &Trees, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let name = "trees";
    let [(dtype, x)] = operands(name, inputs)?;
    Class::Numeric.check(name, dtype)?;
    let (rows, columns) = match *x.dims() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => return Err(invalid(name, format_args!("takes [n,features], got {x}"))),
    };
    if columns < trees.features() {
        return Err(invalid(
            name,
            format_args!("takes [n,{}] or wider, as its nodes say, got {x}", trees.features()),
        ));
    }
    let scores = (DType::Fp32, result_shape(name, &[rows, trees.targets()])?);
    if trees.is_classifier() {
        return Ok(vec![(DType::Int64, result_shape(name, &[rows])?), scores]);
    }
    Ok(vec![scores])
}
