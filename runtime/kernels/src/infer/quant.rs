//! Checks of operations on quantised numbers.

use innkeeper_tensor::{DType, Shape};

use crate::error::{invalid, unsupported};
use crate::infer::{Operand, axes, matmul, operands, result_shape};
use crate::{OpError, Quant};

type Results = Vec<(DType, Shape)>;

pub(crate) fn quant(quant: &Quant, inputs: &[Operand<'_>]) -> Result<Results, OpError> {
    let op = quant.name();
    match *quant {
        Quant::Dynamic => {
            let [(dtype, x)] = operands(op, inputs)?;
            wants(op, "x", dtype, &[DType::Fp32])?;
            let scalar = result_shape(op, &[])?;
            Ok(vec![
                (DType::Uint8, x.clone()),
                (DType::Fp32, scalar.clone()),
                (DType::Uint8, scalar),
            ])
        }
        Quant::Quantize { to, axis, zero_point } => {
            wants(op, "the result", to, &[DType::Uint8, DType::Int8])?;
            let (x, shape) = scaled(op, inputs, axis, zero_point, to)?;
            wants(op, "x", x, &[DType::Fp32])?;
            Ok(vec![(to, shape)])
        }
        Quant::Dequantize { axis, zero_point } => {
            let of = inputs.first().map_or(DType::Uint8, |x| x.0);
            wants(op, "x", of, &[DType::Uint8, DType::Int8, DType::Int32])?;
            let (_, shape) = scaled(op, inputs, axis, zero_point, of)?;
            Ok(vec![(DType::Fp32, shape)])
        }
        Quant::MatMul { a_zero, b_zero } => {
            let (shape, ..) = integer(op, inputs, a_zero, b_zero)?;
            Ok(vec![(DType::Int32, shape)])
        }
        Quant::Linear8 { bias, residual, .. } => {
            Ok(vec![(DType::Fp32, linear8(op, inputs, bias, residual)?.shape)])
        }
        Quant::Linear4 { group, bias, residual, .. } => {
            Ok(vec![(DType::Fp32, linear4(op, inputs, group, bias, residual)?.shape)])
        }
        Quant::Weight4 { group } => {
            let [(dtype, weight)] = operands(op, inputs)?;
            wants(op, "weight", dtype, &[DType::Fp32])?;
            let &[out, k] = weight.dims() else {
                return Err(invalid(op, format_args!("weight must be [out,in], got {weight}")));
            };
            grouped(op, group, k)?;
            let bytes = (DType::Uint8, result_shape(op, &[out, k / 2])?);
            Ok(vec![bytes, (DType::Fp32, result_shape(op, &[out, k / group])?)])
        }
        Quant::Weight8 => {
            let [(dtype, weight)] = operands(op, inputs)?;
            wants(op, "weight", dtype, &[DType::Fp32])?;
            let &[out, _] = weight.dims() else {
                return Err(invalid(op, format_args!("weight must be [out,in], got {weight}")));
            };
            Ok(vec![(DType::Int8, weight.clone()), (DType::Fp32, result_shape(op, &[out])?)])
        }
    }
}

/// x, its scale and its zero point.
fn scaled(
    op: &str,
    inputs: &[Operand<'_>],
    axis: i64,
    zero_point: bool,
    of_zero: DType,
) -> Result<(DType, Shape), OpError> {
    let wanted = 2 + usize::from(zero_point);
    let ([(dtype, x), (scale, scales), rest @ ..], true) = (inputs, inputs.len() == wanted) else {
        return Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len())));
    };
    wants(op, "scale", *scale, &[DType::Fp32])?;
    let each = scales.rank() == 1 && scales.elements() != 1;
    if each {
        let axis = axes::axis(op, axis, x.rank())?;
        if scales.elements() != x.dims()[axis] {
            let text = format_args!(
                "scale {scales} must have one element, or one for each position along axis {axis} of x {x}"
            );
            return Err(invalid(op, text));
        }
    } else if scales.elements() != 1 {
        return Err(invalid(op, format_args!("scale must be a scalar or of rank 1, got {scales}")));
    }
    if let [(dtype, zeros)] = rest {
        wants(op, "zero point", *dtype, &[of_zero])?;
        if zeros.elements() != scales.elements() || zeros.rank() > 1 {
            return Err(invalid(op, format_args!("zero point {zeros} must be as scale {scales}")));
        }
    }
    Ok((*dtype, (*x).clone()))
}

/// The result's shape, rows, depth and columns of an integer product.
pub(crate) fn integer(
    op: &str,
    inputs: &[Operand<'_>],
    a_zero: bool,
    b_zero: bool,
) -> Result<(Shape, usize, usize, usize), OpError> {
    const BYTES: [DType; 2] = [DType::Uint8, DType::Int8];
    let wanted = 2 + usize::from(a_zero) + usize::from(b_zero);
    let ([(of_a, a), (of_b, b), rest @ ..], true) = (inputs, inputs.len() == wanted) else {
        return Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len())));
    };
    wants(op, "a", *of_a, &BYTES)?;
    wants(op, "b", *of_b, &BYTES)?;
    let (&[depth, n], [lead @ .., k]) = (b.dims(), a.dims()) else {
        return Err(invalid(op, format_args!("a must be [..,m,k] and b [k,n], got {a} and {b}")));
    };
    if depth != *k {
        let text = format_args!("{a} by {b}: a's columns ({k}) must be b's rows ({depth})");
        return Err(invalid(op, text));
    }
    let m = result_shape(op, lead)?.elements();
    let (a_zeros, b_zeros) = matmul::added(rest.iter(), a_zero, b_zero);
    let rows = if lead.len() == 1 { m } else { 1 };
    for (name, zeros, of, each) in [("a", a_zeros, of_a, rows), ("b", b_zeros, of_b, n)] {
        let Some((dtype, zeros)) = zeros else { continue };
        wants(op, "zero point", *dtype, &[*of])?;
        if zeros.elements() != 1 && zeros.elements() != each {
            let text = format_args!(
                "the zero point of {name} must have 1 or {each} elements, got {zeros}"
            );
            return Err(invalid(op, text));
        }
    }
    Ok((result_shape(op, &[lead, &[n]].concat())?, m, *k, n))
}

pub(crate) fn linear8(
    op: &str,
    inputs: &[Operand<'_>],
    bias: bool,
    residual: bool,
) -> Result<matmul::Product, OpError> {
    let wanted = 3 + usize::from(bias) + usize::from(residual);
    let ([x, weight, scales, rest @ ..], true) = (inputs, inputs.len() == wanted) else {
        return Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len())));
    };
    wants(op, "weight", weight.0, &[DType::Int8])?;
    for (name, operand) in [("x", x), ("scales", scales)]
        .into_iter()
        .chain(rest.iter().map(|added| ("bias and residual", added)))
    {
        wants(op, name, operand.0, &[DType::Fp32])?;
    }
    let (bias, residual) = matmul::added(rest.iter().map(|operand| operand.1), bias, residual);
    let product = matmul::linear(op, x.1, weight.1, bias, residual)?;
    if scales.1.dims() != [product.n] {
        let text = format_args!("scales must be [{}] as weight says, got {}", product.n, scales.1);
        return Err(invalid(op, text));
    }
    Ok(product)
}

pub(crate) fn linear4(
    op: &str,
    inputs: &[Operand<'_>],
    group: usize,
    bias: bool,
    residual: bool,
) -> Result<matmul::Product, OpError> {
    let wanted = 3 + usize::from(bias) + usize::from(residual);
    let ([x, weight, scales, rest @ ..], true) = (inputs, inputs.len() == wanted) else {
        return Err(invalid(op, format_args!("takes {wanted} operands, got {}", inputs.len())));
    };
    wants(op, "weight", weight.0, &[DType::Uint8])?;
    for (name, operand) in [("x", x), ("scales", scales)]
        .into_iter()
        .chain(rest.iter().map(|added| ("bias and residual", added)))
    {
        wants(op, name, operand.0, &[DType::Fp32])?;
    }
    let (&[.., k], &[out, half]) = (x.1.dims(), weight.1.dims()) else {
        let text =
            format_args!("x must be [..,in] and weight [out,in/2], got {} and {}", x.1, weight.1);
        return Err(invalid(op, text));
    };
    grouped(op, group, k)?;
    if half != k / 2 {
        let text = format_args!("weight must be [out,{}] for x {}, got {}", k / 2, x.1, weight.1);
        return Err(invalid(op, text));
    }
    if scales.1.dims() != [out, k / group] {
        let text = format_args!("scales must be [{out},{}], got {}", k / group, scales.1);
        return Err(invalid(op, text));
    }
    let (bias, residual) = matmul::added(rest.iter().map(|operand| operand.1), bias, residual);
    matmul::linear(op, x.1, &result_shape(op, &[out, k])?, bias, residual)
}

/// Whether rows of `k` can be in groups of this size.
fn grouped(op: &str, group: usize, k: usize) -> Result<(), OpError> {
    if ![16, 32, 64, 128, 256].contains(&group) {
        let text = format_args!("groups must be of 16, 32, 64, 128 or 256, got {group}");
        return Err(invalid(op, text));
    }
    if !k.is_multiple_of(group) {
        return Err(invalid(op, format_args!("rows of {k} are not whole groups of {group}")));
    }
    Ok(())
}

fn wants(op: &str, name: &str, got: DType, wanted: &[DType]) -> Result<(), OpError> {
    if wanted.contains(&got) {
        return Ok(());
    }
    let names: Vec<&str> = wanted.iter().map(|dtype| dtype.name()).collect();
    Err(unsupported(op, format_args!("{name} must be {}, got {got}", names.join(" or "))))
}
