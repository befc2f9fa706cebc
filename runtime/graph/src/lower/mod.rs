//! From ONNX's operators to the operations of the kernels.
//!
//! A lowering function takes a node and its operands, of known dtypes and shapes, and emits operations. It asks for an
//! operand's elements where ONNX gives as a tensor what the kernels have as an attribute, such as the shape of a
//! Reshape.

mod attention;
mod control;
mod create;
mod detect;
mod einsum;
mod elementwise;
mod index;
mod labels;
mod layout;
mod loss;
mod microsoft;
mod ml;
mod norm;
mod product;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod trees;
mod window;

use innkeeper_kernels::Op;
use innkeeper_tensor::DType;

use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(crate) use labels::Table;
pub(crate) use trees::{Ensemble, ensemble};

/// How an operator becomes operations of the kernels.
pub(crate) type Lower = fn(&mut Machine<'_>, &Node, &[Option<Val>]) -> Lowered;

/// The results, in the operator's order.
pub(crate) type Lowered = Result<Vec<Val>, Fail>;

/// The newest version of ONNX's operators that was looked at.
pub(crate) const OPSET_MAX: i64 = 28;

/// The function that lowers an operator.
///
/// # Errors
/// What there is instead.
pub(crate) fn find(domain: &str, op_type: &str) -> Result<Lower, String> {
    let families: &[fn(&str) -> Option<Lower>] = match domain {
        "" => &[
            elementwise::find,
            layout::find,
            create::find,
            reduce::find,
            product::find,
            norm::find,
            control::find,
            index::find,
            window::find,
            attention::find,
            quant::find,
            resize::find,
            einsum::find,
            recurrent::find,
            loss::find,
            detect::find,
        ],
        "ai.onnx.ml" => &[ml::find, trees::find, labels::find],
        "com.microsoft" => &[microsoft::find],
        _ => &[],
    };
    families.iter().find_map(|find| find(op_type)).ok_or_else(|| match (domain, op_type) {
        ("", _) => "no kernel does this operator; export the model with another one".into(),
        ("ai.onnx.ml", "ZipMap") => {
            "it gives maps and not tensors; convert the model with the option zipmap=False".into()
        }
        ("ai.onnx.ml", _) => "no kernel does this operator of the domain ai.onnx.ml".into(),
        (domain, _) => format!(
            "the domain {:?} is not ONNX's own, and the file has no function of that name",
            crate::weights::short(domain)
        ),
    })
}

/// Operand `index`, which must be there.
pub(crate) fn operand(inputs: &[Option<Val>], index: usize) -> Result<Val, Fail> {
    optional(inputs, index).ok_or_else(|| invalid(format_args!("operand {index} is missing")))
}

/// Operand `index`, which may be left out.
pub(crate) fn optional(inputs: &[Option<Val>], index: usize) -> Option<Val> {
    inputs.get(index).copied().flatten()
}

/// All operands, none of which may be left out.
pub(crate) fn all(inputs: &[Option<Val>]) -> Result<Vec<Val>, Fail> {
    (0..inputs.len()).map(|index| operand(inputs, index)).collect()
}

/// The dimension that `axis` means.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Fail> {
    let index = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match index {
        Some(index) if (0..rank as i64).contains(&index) => Ok(index as usize),
        _ => Err(invalid(format_args!("there is no axis {axis} in a tensor of rank {rank}"))),
    }
}

/// The dimensions that `axes` mean, in that order.
pub(crate) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, Fail> {
    list.iter().map(|&one| axis(one, rank)).collect()
}

/// x under another shape.
pub(crate) fn reshape(m: &mut Machine<'_>, x: Val, dims: &[usize]) -> Result<Val, Fail> {
    if m.dims(x) == dims {
        return Ok(x);
    }
    let shape = dims.iter().map(|&dim| dim as i64).collect();
    m.emit(Op::Reshape { shape }, &[x])
}

/// x in another dtype.
pub(crate) fn cast(m: &mut Machine<'_>, x: Val, to: DType) -> Result<Val, Fail> {
    if m.dtype(x) == to {
        return Ok(x);
    }
    m.emit(Op::Cast { to }, &[x])
}

/// A scalar of this dtype.
pub(crate) fn scalar(m: &mut Machine<'_>, dtype: DType, value: f64) -> Result<Val, Fail> {
    m.emit(Op::Full { dtype, shape: Vec::new(), value }, &[])
}

/// The numbers of an operand since some version, and of an attribute before it.
pub(crate) fn ints_at(
    m: &Machine<'_>,
    node: &Node,
    inputs: &[Option<Val>],
    index: usize,
    attribute: &str,
) -> Result<Option<Vec<i64>>, Fail> {
    match optional(inputs, index) {
        Some(val) => m.ints(val).map(Some),
        None => Ok(node.ints(attribute)?.map(<[i64]>::to_vec)),
    }
}
