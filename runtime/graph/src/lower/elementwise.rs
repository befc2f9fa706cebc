//! Operators that work element by element.

use innkeeper_kernels::{Binary, Compare, Curve, Op, Test, Unary};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, all, cast, operand, optional, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    if unary_op(op_type).is_some() {
        return Some(unary);
    }
    if binary_op(op_type).is_some() {
        return Some(binary);
    }
    if compare_op(op_type).is_some() {
        return Some(compare);
    }
    Some(match op_type {
        "Elu" | "Celu" | "Selu" | "LeakyRelu" | "ThresholdedRelu" | "HardSigmoid" | "Swish"
        | "Shrink" => curve,
        "Gelu" => gelu,
        "Clip" => clip,
        "Mod" => modulo,
        "BitShift" => shift,
        "Max" | "Min" | "Sum" | "Mean" => variadic,
        "IsNaN" => is_nan,
        "IsInf" => is_inf,
        "Where" => select,
        "Cast" => to,
        "CastLike" => like,
        "Identity" => identity,
        "Dropout" => dropout,
        _ => return None,
    })
}

fn unary_op(op_type: &str) -> Option<Unary> {
    use Unary::*;
    Some(match op_type {
        "Neg" => Neg,
        "Abs" => Abs,
        "Exp" => Exp,
        "Log" => Ln,
        "Sqrt" => Sqrt,
        "Tanh" => Tanh,
        "Sigmoid" => Sigmoid,
        "Relu" => Relu,
        "Floor" => Floor,
        "Ceil" => Ceil,
        "Round" => Round,
        "Sign" => Sign,
        "Reciprocal" => Reciprocal,
        "Erf" => Erf,
        "Sin" => Sin,
        "Cos" => Cos,
        "Tan" => Tan,
        "Asin" => Asin,
        "Acos" => Acos,
        "Atan" => Atan,
        "Sinh" => Sinh,
        "Cosh" => Cosh,
        "Asinh" => Asinh,
        "Acosh" => Acosh,
        "Atanh" => Atanh,
        "Softplus" => Softplus,
        "Softsign" => Softsign,
        "Mish" => Mish,
        "HardSwish" => HardSwish,
        "Not" => Not,
        "BitwiseNot" => BitNot,
        _ => return None,
    })
}

fn unary(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = unary_op(&node.op_type).ok_or_else(|| invalid("no function of one element"))?;
    Ok(vec![m.emit(Op::Unary(op), &[operand(inputs, 0)?])?])
}

fn binary_op(op_type: &str) -> Option<Binary> {
    use Binary::*;
    Some(match op_type {
        "Add" => Add,
        "Sub" => Sub,
        "Mul" => Mul,
        "Div" => Div,
        "Pow" => Pow,
        "PRelu" => Prelu,
        "And" => And,
        "Or" => Or,
        "Xor" => Xor,
        "BitwiseAnd" => BitAnd,
        "BitwiseOr" => BitOr,
        "BitwiseXor" => BitXor,
        _ => return None,
    })
}

fn binary(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = binary_op(&node.op_type).ok_or_else(|| invalid("no function of two elements"))?;
    let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    if op == Binary::Pow && m.dtype(a) != m.dtype(b) {
        return mixed_power(m, a, b);
    }
    Ok(vec![m.emit(Op::Binary(op), &[a, b])?])
}

/// The exponent may be of another dtype; the result has the base's.
fn mixed_power(m: &mut Machine<'_>, a: Val, b: Val) -> Lowered {
    let dtype = m.dtype(a);
    if dtype.is_float() || !m.dtype(b).is_float() {
        let b = cast(m, b, dtype)?;
        return Ok(vec![m.emit(Op::Binary(Binary::Pow), &[a, b])?]);
    }
    let (a, b) = (cast(m, a, DType::Fp64)?, cast(m, b, DType::Fp64)?);
    let power = m.emit(Op::Binary(Binary::Pow), &[a, b])?;
    Ok(vec![cast(m, power, dtype)?])
}

fn compare_op(op_type: &str) -> Option<Compare> {
    use Compare::*;
    Some(match op_type {
        "Equal" => Equal,
        "Less" => Less,
        "LessOrEqual" => LessOrEqual,
        "Greater" => Greater,
        "GreaterOrEqual" => GreaterOrEqual,
        _ => return None,
    })
}

fn compare(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = compare_op(&node.op_type).ok_or_else(|| invalid("no comparison"))?;
    Ok(vec![m.emit(Op::Compare(op), &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}

fn curve(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let get = |name: &str, default: f32| node.float(name, default).map(f64::from);
    let op = match node.op_type.as_str() {
        "Elu" => Curve::Elu { alpha: get("alpha", 1.0)? },
        "Celu" => Curve::Celu { alpha: get("alpha", 1.0)? },
        "Selu" => {
            Curve::Selu { alpha: get("alpha", 1.673_263_2)?, gamma: get("gamma", 1.050_701)? }
        }
        "LeakyRelu" => Curve::LeakyRelu { alpha: get("alpha", 0.01)? },
        "ThresholdedRelu" => Curve::ThresholdedRelu { alpha: get("alpha", 1.0)? },
        "HardSigmoid" => Curve::HardSigmoid { alpha: get("alpha", 0.2)?, beta: get("beta", 0.5)? },
        "Swish" => Curve::Swish { alpha: get("alpha", 1.0)? },
        _ => Curve::Shrink { bias: get("bias", 0.0)?, lambda: get("lambd", 0.5)? },
    };
    Ok(vec![m.emit(Op::Curve(op), &[operand(inputs, 0)?])?])
}

fn gelu(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = match node.text("approximate", "none")? {
        "none" => Unary::Gelu,
        "tanh" => Unary::GeluTanh,
        other => return Err(invalid(format_args!("approximate is {other:?}, not none or tanh"))),
    };
    Ok(vec![m.emit(Op::Unary(op), &[operand(inputs, 0)?])?])
}

fn clip(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let bounds = [("min", 1), ("max", 2)].map(|(name, index)| match optional(inputs, index) {
        Some(val) if m.known(val).is_some() => m.one_number(val).map(Some),
        Some(_) => Err(Fail::NeedsValue),
        None => Ok(node.float_if(name)?.map(f64::from)),
    });
    match bounds {
        [Ok(None), Ok(None)] => Ok(vec![x]),
        // FP64 holds every bound of the other dtypes but those of 64 bits.
        [Ok(min), Ok(max)] if !is_wide(m.dtype(x)) => {
            Ok(vec![m.emit(Op::Curve(Curve::Clip { min, max }), &[x])?])
        }
        _ => {
            let mut x = x;
            for (index, op) in [(1, Binary::Maximum), (2, Binary::Minimum)] {
                if let Some(bound) = optional(inputs, index) {
                    x = m.emit(Op::Binary(op), &[x, bound])?;
                }
            }
            Ok(vec![x])
        }
    }
}

fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::Int64 | DType::Uint64)
}

fn modulo(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = if node.flag("fmod", false)? { Binary::Fmod } else { Binary::Mod };
    Ok(vec![m.emit(Op::Binary(op), &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}

fn shift(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = match node.text("direction", "")? {
        "LEFT" => Binary::ShiftLeft,
        "RIGHT" => Binary::ShiftRight,
        other => return Err(invalid(format_args!("direction is {other:?}, not LEFT or RIGHT"))),
    };
    let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let signed = m.dtype(a);
    let unsigned = match signed {
        DType::Int8 => DType::Uint8,
        DType::Int16 => DType::Uint16,
        DType::Int32 => DType::Uint32,
        DType::Int64 => DType::Uint64,
        _ => return Ok(vec![m.emit(Op::Binary(op), &[a, b])?]),
    };
    // The same bits without a sign. A negative number goes down as its complement does, whose upper bits are 0.
    let by = cast(m, b, unsigned)?;
    let shifted = |m: &mut Machine<'_>, x: Val| {
        let x = cast(m, x, unsigned)?;
        let x = m.emit(Op::Binary(op), &[x, by])?;
        cast(m, x, signed)
    };
    let plain = shifted(m, a)?;
    if op == Binary::ShiftLeft {
        return Ok(vec![plain]);
    }
    let complement = m.emit(Op::Unary(Unary::BitNot), &[a])?;
    let shifted = shifted(m, complement)?;
    let below = m.emit(Op::Unary(Unary::BitNot), &[shifted])?;
    let zero = scalar(m, signed, 0.0)?;
    let negative = m.emit(Op::Compare(Compare::Less), &[a, zero])?;
    Ok(vec![m.emit(Op::Select, &[negative, below, plain])?])
}

fn variadic(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = match node.op_type.as_str() {
        "Max" => Binary::Maximum,
        "Min" => Binary::Minimum,
        _ => Binary::Add,
    };
    let operands = all(inputs)?;
    let [first, rest @ ..] = &operands[..] else { return Err(invalid("wants an operand")) };
    let mut sum = *first;
    for &next in rest {
        sum = m.emit(Op::Binary(op), &[sum, next])?;
    }
    if node.op_type == "Mean" {
        let count = scalar(m, m.dtype(sum), operands.len() as f64)?;
        sum = m.emit(Op::Binary(Binary::Div), &[sum, count])?;
    }
    Ok(vec![sum])
}

fn is_nan(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    Ok(vec![m.emit(Op::Test(Test::IsNan), &[operand(inputs, 0)?])?])
}

fn is_inf(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let test = Test::IsInf {
        negative: node.flag("detect_negative", true)?,
        positive: node.flag("detect_positive", true)?,
    };
    Ok(vec![m.emit(Op::Test(test), &[operand(inputs, 0)?])?])
}

fn select(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let operands = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    Ok(vec![m.emit(Op::Select, &operands)?])
}

fn to(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let to = node.int("to", 0)?;
    let x = operand(inputs, 0)?;
    if matches!(to, 21 | 22) {
        return Ok(vec![super::quant::wrapped(m, x, to == 22)?]);
    }
    let to = crate::weights::dtype(to).map_err(Fail::Unsupported)?;
    Ok(vec![cast(m, x, to)?])
}

fn like(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    // Of 4 bits, as the model was read.
    if node.has("to") {
        return to(m, node, inputs);
    }
    let to = m.dtype(operand(inputs, 1)?);
    Ok(vec![cast(m, operand(inputs, 0)?, to)?])
}

fn identity(_: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    Ok(vec![operand(inputs, 0)?])
}

/// Inference leaves everything as it is.
fn dropout(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    if let Some(training) = optional(inputs, 2)
        && m.one_number(training)? != 0.0
        && optional(inputs, 1).map_or(Ok(0.5), |ratio| m.one_number(ratio))? != 0.0
    {
        return Err(Fail::Unsupported(
            "training_mode is set; export the model for inference (eval mode)".into(),
        ));
    }
    if node.outputs.len() < 2 {
        return Ok(vec![x]);
    }
    let (dtype, value) = (DType::Bool, 1.0);
    let shape = m.dims(x).to_vec();
    let mask = m.emit(Op::Full { dtype, shape, value }, &[])?;
    Ok(vec![x, mask])
}
