//! Products of quantised numbers, as ONNX Runtime's quantiser writes them.

use innkeeper_kernels::{Activation, Binary, Move, Op, Quant};
use innkeeper_tensor::{DType, Tensor};

use super::{Rewriter, compute};
use crate::machine::{Val, numbers};

/// Dynamic quantisation: x is quantised by its own range, multiplied as bytes, and the product scaled back. That is a
/// layer with weights of 8 bits, which takes a range for each row and so loses less.
pub(super) fn dynamic(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (Op::Binary(Binary::Mul), [a, b]) = (&step.op, &step.inputs[..]) else { return None };
    [(*a, *b), (*b, *a)].into_iter().find_map(|(product, scale)| {
        let (_, cast) = r.made(product)?;
        let Op::Cast { to: DType::Fp32 } = cast.op else { return None };
        let (_, made) = r.made(*cast.inputs.first()?)?;
        let Op::Quant(Quant::MatMul { a_zero: true, b_zero }) = made.op else { return None };
        let [q, weight, zero, weight_zero @ ..] = &made.inputs[..] else { return None };
        let (q, weight, zero) = (*q, *weight, *zero);
        let weight_zero = weight_zero.first().copied().filter(|_| b_zero);
        let (_, quantised) = r.made(q)?;
        let (Op::Quant(Quant::Dynamic), [x]) = (&quantised.op, &quantised.inputs[..]) else {
            return None;
        };
        let (x, &[_, step_of_x, zero_of_x]) = (*x, &quantised.outputs[..]) else { return None };
        if zero != zero_of_x {
            return None;
        }
        let (s, t) = r.binary(scale, Binary::Mul)?;
        let of_weight = if s == step_of_x { t } else { (t == step_of_x).then_some(s)? };
        let weight = signed(r, weight, weight_zero)?;
        let scales = for_each_row(r, of_weight, weight)?;
        let (bias, residual, activation) = (false, false, Activation::None);
        let op = Op::Quant(Quant::Linear8 { bias, residual, activation });
        r.replace(index, op, vec![x, weight, scales])
    })
}

/// Weights `[in, out]` as INT8 `[out, in]` with no zero point; `None` where there is one that no sign bit makes good.
fn signed(r: &mut Rewriter<'_>, weight: Val, zero: Option<Val>) -> Option<Val> {
    let none = |wanted: f64| {
        let Some(zero) = zero else { return Some(wanted == 0.0) };
        Some(numbers(r.known(zero)?).ok()?.iter().all(|&number| number == wanted))
    };
    let transpose = Op::Transpose { permutation: vec![1, 0] };
    match r.dtype(weight) {
        DType::Int8 if none(0.0)? => {
            r.derive("transposed", &[weight], |from| compute(&transpose, from))
        }
        DType::Uint8 if none(128.0)? => r.derive("signed transposed", &[weight], |from| {
            let turned = compute(&transpose, from)?;
            let bytes: Vec<i8> = turned.as_bytes().iter().map(|byte| (byte ^ 128) as i8).collect();
            Tensor::from_vec(turned.shape().dims(), bytes).ok()
        }),
        _ => None,
    }
}

/// A scale, or one for each row, as one for each row.
fn for_each_row(r: &mut Rewriter<'_>, scale: Val, weight: Val) -> Option<Val> {
    let rows = *r.dims(weight).first()?;
    r.derive(&format!("scales {rows}"), &[scale], |from| {
        let [scale] = *from else { return None };
        let count = scale.shape().elements() as i64;
        let flat = compute(&Op::Reshape { shape: vec![count] }, &[scale])?;
        compute(&Op::Move(Move::Expand { shape: vec![rows] }), &[&flat])
    })
}

/// What a dequantised value was: bytes, their scale and zero point.
#[derive(Clone, Copy)]
struct Bytes {
    of: Val,
    scale: Val,
    zero: Option<Val>,
    axis: i64,
}

fn bytes(r: &Rewriter<'_>, val: Val) -> Option<Bytes> {
    let (_, made) = r.made(val)?;
    let Op::Quant(Quant::Dequantize { axis, .. }) = made.op else { return None };
    let [of, scale, zero @ ..] = &made.inputs[..] else { return None };
    let is_bytes = matches!(r.dtype(*of), DType::Uint8 | DType::Int8);
    let zero = zero.first().copied();
    is_bytes.then_some(Bytes { of: *of, scale: *scale, zero, axis })
}

/// Static quantisation: the product of two dequantised operands, of which the right one is a constant, is that of their
/// bytes times both scales. Exactly so: nothing is rounded that was not.
pub(super) fn fixed(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (turned, bias) = match (&step.op, &step.inputs[..]) {
        (Op::MatMul, [_, _]) => (false, None),
        (Op::Linear { bias, residual: false, activation: Activation::None }, [_, _, rest @ ..]) => {
            (true, rest.first().copied().filter(|_| *bias))
        }
        _ => return None,
    };
    let (x, weight) = (bytes(r, step.inputs[0])?, bytes(r, step.inputs[1])?);
    let one = |val: Val| r.dims(val).iter().product::<usize>() == 1;
    let whole = one(x.scale) && r.dims(weight.of).len() == 2 && r.dims(x.of).len() >= 2;
    let column = if turned { 0 } else { 1 };
    let along = one(weight.scale) || weight.axis == column || weight.axis == column - 2;
    if !whole || !along || r.known(weight.of).is_none() {
        return None;
    }
    let (x_scale, weight_scale) = (x.scale, weight.scale);
    let scale = r.derive("scales", &[x_scale, weight_scale], |from| {
        let [a, b] = *from else { return None };
        let flat = compute(&Op::Reshape { shape: Vec::new() }, &[a])?;
        compute(&Op::Binary(Binary::Mul), &[&flat, b])
    })?;
    let of = match turned {
        false => weight.of,
        true => {
            let transpose = Op::Transpose { permutation: vec![1, 0] };
            r.derive("transposed", &[weight.of], |from| compute(&transpose, from))?
        }
    };
    let op = Quant::MatMul { a_zero: x.zero.is_some(), b_zero: weight.zero.is_some() };
    let operands = [x.of, of].into_iter().chain(x.zero).chain(weight.zero).collect();
    let product = r.before(index, Op::Quant(op), operands)?;
    let product = r.before(index, Op::Cast { to: DType::Fp32 }, vec![product])?;
    let Some(bias) = bias else {
        return r.replace(index, Op::Binary(Binary::Mul), vec![product, scale]);
    };
    let scaled = r.before(index, Op::Binary(Binary::Mul), vec![product, scale])?;
    r.replace(index, Op::Binary(Binary::Add), vec![scaled, bias])
}

/// Any other constant that is dequantised is so once, for all plans.
pub(super) fn constants(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (op, inputs) = (step.op.clone(), step.inputs.clone());
    let Op::Quant(Quant::Dequantize { .. }) = op else { return None };
    let made = r.derive(&format!("{op:?}"), &inputs, |from| compute(&op, from))?;
    r.alias(index, made)
}
