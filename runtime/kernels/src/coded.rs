//! What operations do with tensors that are kept in a code.

use innkeeper_tensor::{Code, Coded, DType, Tensor};

use crate::Op;

/// What an operation needs of an operand that is kept in a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacked {
    /// Nothing: it reads the code, or as much of the elements as the result has.
    No,
    /// All elements while it runs.
    Meanwhile,
    /// All elements, which are kept with the tensor.
    Kept,
}

impl Unpacked {
    /// What `op` needs of operand `index` of `inputs`; [`Unpacked::No`] of one that is in no code.
    pub fn of(op: &Op, inputs: &[&Tensor], index: usize) -> Unpacked {
        let Some(tensor) = inputs.get(index).filter(|x| x.data().is_remote()) else {
            return Unpacked::No;
        };
        if matches!(op, Op::Reshape { .. } | Op::Cast { to: DType::Fp32 }) {
            return Unpacked::No;
        }
        let plain = |x: &Tensor| !x.data().is_remote() && x.dtype() == DType::Fp32;
        match Coded::of(tensor) {
            Some(coded) => match (op, index) {
                _ if coded.is_expanded() => Unpacked::Kept,
                (Op::Linear { .. }, 1) if plain(inputs[0]) && product(&coded) => Unpacked::No,
                (Op::MatMul, 1) if plain(inputs[0]) && product(&coded) => Unpacked::No,
                (Op::Gather { axis: 0 } | Op::Slice { axis: 0, .. }, 0) => Unpacked::No,
                (Op::Conv(_), 1) => Unpacked::Meanwhile,
                _ => Unpacked::Kept,
            },
            None => Unpacked::Kept,
        }
    }
}

/// Whether there is a product for this code.
fn product(coded: &Coded) -> bool {
    let matrix = coded.shape().rank() == 2;
    match coded.code() {
        Code::Int4 { group, .. } => matrix && [16, 32, 64, 128, 256].contains(group),
        _ => matrix,
    }
}
