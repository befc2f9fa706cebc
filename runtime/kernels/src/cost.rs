//! A rough price of an operation.

use innkeeper_tensor::{DType, Shape};

use crate::infer::matmul;
use crate::{Binary, Op, Unary};

/// What a call costs before it touches any element.
const CALL: u64 = 64;
/// What an exponential, a logarithm or their like costs.
const TRANSCENDENTAL: u64 = 8;

impl Op {
    /// About how much work the operation is, in multiply-adds: the larger of what is read and what is written, times
    /// the work per element. It is for sharing time fairly, not for accounting. Operands that do not fit cost what it
    /// takes to refuse them.
    pub fn cost(&self, inputs: &[(DType, &Shape)]) -> u64 {
        let Ok((_, output)) = self.output(inputs) else {
            return CALL;
        };
        let read: u64 =
            inputs.iter().map(|(_, shape)| shape.elements() as u64).fold(0, u64::saturating_add);
        let touched = read.max(output.elements() as u64);
        let per_element = match self {
            Op::Reshape { .. } => return CALL,
            Op::MatMul | Op::Linear { .. } => {
                let depth = Op::depth(inputs) as u64;
                let sums = (output.elements() as u64).saturating_mul(depth);
                return sums.max(touched).saturating_add(CALL);
            }
            Op::Binary(Binary::Pow) | Op::Scalar { op: Binary::Pow, .. } => 2 * TRANSCENDENTAL,
            Op::Unary(Unary::Neg | Unary::Abs | Unary::Sqrt | Unary::Relu) => 1,
            Op::Unary(_) | Op::Softmax { .. } | Op::LogSoftmax { .. } => TRANSCENDENTAL,
            _ => 1,
        };
        touched.saturating_mul(per_element).saturating_add(CALL)
    }

    /// How many products each element of a matrix product sums.
    fn depth(inputs: &[(DType, &Shape)]) -> usize {
        inputs.first().and_then(|(_, x)| matmul::left(x.dims())).map_or(0, |(_, _, k)| k)
    }
}
