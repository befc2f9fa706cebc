//! Attention, from its products and its softmax.

use innkeeper_kernels::{Attention, Op, Test};
use innkeeper_tensor::{DType, Tensor};

use super::linear::{After, Layer};
use super::{Rewriter, compute};
use crate::machine::{Info, Val, numbers};

/// softmax(scale q k^T + mask) v over `[b, h, s, d]`.
pub(super) fn attention(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (Op::MatMul, [p, v]) = (&step.op, &step.inputs[..]) else { return None };
    let (p, v) = (*p, *v);
    if r.dims(v).len() != 4 {
        return None;
    }
    let (_, softmax) = r.made(without_nan(r, p))?;
    let Op::Softmax { axis: -1 | 3 } = softmax.op else { return None };
    let scores = *softmax.inputs.first()?;
    let (product, mask) = masked(r, scores)?;
    let Product { q, k, scale } = product;
    let (k, v) = (repeated(r, k), repeated(r, v));
    let (heads, kv_heads) = (*r.dims(q).get(1)?, *r.dims(v).get(1)?);
    let k = match k {
        Key::Heads(k) => k,
        Key::Permuted(source, permutation) => {
            r.before(index, Op::Transpose { permutation }, vec![source])?
        }
    };
    let (mask, causal) = simplified(r, mask, scores)?;
    let op = Attention {
        heads,
        kv_heads,
        scale: Some(scale),
        causal,
        mask: mask.is_some(),
        packed: false,
        heads_first: true,
    };
    let inputs = [q, k, v].into_iter().chain(mask).collect();
    r.replace(index, Op::Attention(op), inputs)
}

struct Product {
    q: Val,
    k: Key,
    scale: f64,
}

/// Keys `[b, h, t, d]`: as they are, or as a transpose of something.
enum Key {
    Heads(Val),
    Permuted(Val, Vec<usize>),
}

/// What is added to the scores, or which of them are kept.
enum Mask {
    None,
    Added(Val),
    Kept(Val),
    Dropped(Val),
}

/// Rows that look at nothing are NaN, which PyTorch replaces by 0: as the operation has it.
fn without_nan(r: &Rewriter<'_>, p: Val) -> Val {
    let inner = || {
        let (_, select) = r.made(p)?;
        let (Op::Select, [test, zero, inner]) = (&select.op, &select.inputs[..]) else {
            return None;
        };
        let (_, test) = r.made(*test)?;
        let is_nan = test.op == Op::Test(Test::IsNan) && test.inputs == [*inner];
        (is_nan && all(r.known(*zero)?, 0.0)).then_some(*inner)
    };
    inner().unwrap_or(p)
}

fn all(tensor: &Tensor, value: f64) -> bool {
    numbers(tensor).is_ok_and(|numbers| numbers.iter().all(|number| *number == value))
}

fn masked(r: &Rewriter<'_>, scores: Val) -> Option<(Product, Mask)> {
    if let Some((a, b)) = r.binary(scores, innkeeper_kernels::Binary::Add) {
        let found = |product, mask| Some((self::product(r, product)?, Mask::Added(mask)));
        return found(a, b).or_else(|| found(b, a));
    }
    let (_, made) = r.made(scores)?;
    if let (Op::Select, [condition, a, b]) = (&made.op, &made.inputs[..]) {
        let is_low = |val: Val| {
            let numbers = numbers(r.known(val)?).ok()?;
            numbers.iter().all(|&number| number < -1e30).then_some(())
        };
        return match (is_low(*b), is_low(*a)) {
            (Some(()), _) => Some((product(r, *a)?, Mask::Kept(*condition))),
            (_, Some(())) => Some((product(r, *b)?, Mask::Dropped(*condition))),
            _ => None,
        };
    }
    Some((product(r, scores)?, Mask::None))
}

/// c * (a q) (b k)^T.
fn product(r: &Rewriter<'_>, val: Val) -> Option<Product> {
    let (val, mut scale) = unscaled(r, val);
    let (_, made) = r.made(val)?;
    let (Op::MatMul, [q, k]) = (&made.op, &made.inputs[..]) else { return None };
    if r.dims(*q).len() != 4 || r.dims(*k).len() != 4 {
        return None;
    }
    let ((q, a), (k, b)) = (unscaled(r, *q), unscaled(r, *k));
    scale *= a * b;
    let (_, made) = r.made(k)?;
    let Op::Transpose { permutation } = &made.op else { return None };
    let source = *made.inputs.first()?;
    let mut permutation = permutation.clone();
    permutation.swap(2, 3);
    let k = if permutation == [0, 1, 2, 3] {
        let (k, c) = unscaled(r, source);
        scale *= c;
        Key::Heads(k)
    } else {
        let (source, c) = unscaled(r, source);
        scale *= c;
        // Where the heads were a dimension after the positions, they still are.
        Key::Permuted(source, permutation)
    };
    Some(Product { q, k, scale })
}

fn unscaled(r: &Rewriter<'_>, val: Val) -> (Val, f64) {
    r.scaled(val).unwrap_or((val, 1.0))
}

trait Repeated {
    type Out;
    fn before(self, r: &Rewriter<'_>) -> Self::Out;
}

impl Repeated for Val {
    type Out = Val;

    /// Keys or values of which each head was repeated for a group of queries.
    fn before(self, r: &Rewriter<'_>) -> Val {
        let inner = || {
            let (_, flat) = r.made(self)?;
            let Op::Reshape { .. } = flat.op else { return None };
            let wide = *flat.inputs.first()?;
            let (_, expand) = r.made(wide)?;
            if expand.op.name() != "expand" {
                return None;
            }
            let narrow = *expand.inputs.first()?;
            let (_, unsqueeze) = r.made(narrow)?;
            let Op::Reshape { .. } = unsqueeze.op else { return None };
            let source = *unsqueeze.inputs.first()?;
            let [b, h, t, d] = r.dims(self) else { return None };
            let [sb, sh, st, sd] = r.dims(source) else { return None };
            let [_, wh, group, ..] = r.dims(wide) else { return None };
            let fits = (b, t, d) == (sb, st, sd) && wh == sh && sh * group == *h;
            let one = r.dims(narrow).get(2) == Some(&1);
            (fits && one).then_some(source)
        };
        inner().unwrap_or(self)
    }
}

impl Repeated for Key {
    type Out = Key;

    fn before(self, r: &Rewriter<'_>) -> Key {
        match self {
            Key::Heads(k) => Key::Heads(k.before(r)),
            other => other,
        }
    }
}

fn repeated<T: Repeated>(r: &Rewriter<'_>, val: T) -> T::Out {
    val.before(r)
}

/// The mask as an operand, and whether it is that of causality, which needs none.
fn simplified(r: &mut Rewriter<'_>, mask: Mask, scores: Val) -> Option<(Option<Val>, bool)> {
    let [.., s, t] = *r.dims(scores) else { return None };
    let (val, kept_if) = match mask {
        Mask::None => return Some((None, false)),
        Mask::Added(val) => (val, None),
        Mask::Kept(val) => (val, Some(1.0)),
        Mask::Dropped(val) => (val, Some(0.0)),
    };
    if let Some(tensor) = r.known(val) {
        let low = |number: f64| number < -1e30;
        let kept = |number: f64| match kept_if {
            Some(kept) => number == kept,
            None => number == 0.0,
        };
        let numbers = numbers(tensor).ok()?;
        if numbers.iter().all(|&number| kept(number)) {
            return Some((None, false));
        }
        let square = r.dims(val).ends_with(&[s, t]) && t >= s && numbers.len() == s * t;
        let causal = square
            && numbers.iter().enumerate().all(|(at, &number)| {
                let (row, column) = (at / t, at % t);
                if column <= row + (t - s) { kept(number) } else { !kept(number) }
            })
            && (kept_if.is_some() || numbers.iter().all(|&number| kept(number) || low(number)));
        if causal {
            return Some((None, true));
        }
        if kept_if == Some(0.0) {
            let not = Op::Unary(innkeeper_kernels::Unary::Not);
            let tensor = compute(&not, &[tensor])?;
            let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
            return Some((
                Some(r.add(Info { dtype, shape, known: Some(tensor), key: None })),
                false,
            ));
        }
    }
    let fits = match kept_if {
        None => r.dtype(val) == r.dtype(scores),
        Some(kept) => kept == 1.0 && r.dtype(val) == DType::Bool,
    };
    fits.then_some((Some(val), false))
}

const SWAPPED: [usize; 4] = [0, 2, 1, 3];

/// Where heads were made a dimension of their own only for the products: attention without those transposes.
pub(super) fn heads_last(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let Op::Transpose { permutation } = &step.op else { return None };
    let out = *step.outputs.first()?;
    if permutation[..] != SWAPPED {
        return None;
    }
    let (_, made) = r.only(*step.inputs.first()?)?;
    let Op::Attention(op) = made.op else { return None };
    if !op.heads_first {
        return None;
    }
    let [q, k, v, mask @ ..] = &made.inputs[..] else { return None };
    let mask = mask.to_vec();
    let sources = [positions_first(r, *q)?, positions_first(r, *k)?, positions_first(r, *v)?];
    let mut inputs = Vec::with_capacity(4);
    for source in sources {
        let [b, s, h, d] = *r.dims(source) else { return None };
        let shape = vec![b as i64, s as i64, (h * d) as i64];
        let flat = match r.made(source) {
            Some((_, step))
                if matches!(step.op, Op::Reshape { .. })
                    && r.dims(step.inputs[0]) == [b, s, h * d] =>
            {
                step.inputs[0]
            }
            _ => r.before(index, Op::Reshape { shape }, vec![source])?,
        };
        inputs.push(flat);
    }
    inputs.extend(mask);
    let op = Attention { heads_first: false, ..op };
    let joined = r.before(index, Op::Attention(op), inputs)?;
    let shape = r.dims(out).iter().map(|&dim| dim as i64).collect();
    r.replace(index, Op::Reshape { shape }, vec![joined])
}

/// What `[b, h, s, d]` was transposed from, `[b, s, h, d]`.
fn positions_first(r: &Rewriter<'_>, val: Val) -> Option<Val> {
    let (_, made) = r.made(val)?;
    match &made.op {
        Op::Transpose { permutation } if permutation[..] == SWAPPED => made.inputs.first().copied(),
        _ => None,
    }
}

/// q, k and v that were split from one tensor.
pub(super) fn split(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let (op, inputs) = unpacked(r, index)?;
    let [q, k, v, mask @ ..] = &inputs[..] else { return None };
    let (_, made) = r.made(*q)?;
    if made.op.name() != "split" || made.outputs != [*q, *k, *v] {
        return None;
    }
    let source = *made.inputs.first()?;
    let packed = [source].into_iter().chain(mask.iter().copied()).collect();
    r.replace(index, Op::Attention(Attention { packed: true, ..op }), packed)
}

/// An attention whose q, k and v could lie side by side.
fn unpacked(r: &Rewriter<'_>, index: usize) -> Option<(Attention, Vec<Val>)> {
    let step = r.step(index)?;
    let Op::Attention(op) = step.op else { return None };
    if op.packed || op.heads_first {
        return None;
    }
    let [q, k, v, ..] = step.inputs[..] else { return None };
    let width = |val: Val, heads: usize| r.dims(val).get(2)?.checked_div(heads);
    let d = width(q, op.heads)?;
    let alike = width(k, op.kv_heads)? == d && width(v, op.kv_heads)? == d;
    (alike && r.dims(q).get(..2) == r.dims(k).get(..2)).then(|| (op, step.inputs.clone()))
}

/// q, k and v that are linear layers of one tensor become one layer.
pub(super) fn merged(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let (op, inputs) = unpacked(r, index)?;
    let mut parts = Vec::with_capacity(3);
    let mut alike = None;
    for val in inputs.get(..3)? {
        let (_, made) = r.only(*val)?;
        let (layer, after) = Layer::of(&made.op)?;
        let (source, rest) = made.inputs.split_first()?;
        let plain = after == After { bias: after.bias, ..After::NOTHING };
        if !plain || *alike.get_or_insert((layer, after, *source)) != (layer, after, *source) {
            return None;
        }
        parts.push(rest.to_vec());
    }
    let (layer, after, source) = alike?;
    let mut operands = vec![source];
    // Weights, what else describes them, and biases: all have a row or an element for each result.
    for at in 0..layer.operands() - 1 + usize::from(after.bias) {
        let of_each: Vec<Val> = parts.iter().filter_map(|part| part.get(at).copied()).collect();
        let concat = Op::Concat { axis: 0 };
        operands.push(r.derive("joined", &of_each, |from| compute(&concat, from))?);
    }
    let joined = r.before(index, layer.op(after), operands)?;
    let packed = [joined].into_iter().chain(inputs.get(3..)?.iter().copied()).collect();
    r.replace(index, Op::Attention(Attention { packed: true, ..op }), packed)
}
