//! Operands: shapes that mostly fit the operation, and elements of every kind.

use innkeeper_kernels::{
    Attention, Cell, Draw, Grad, Index, Loss, LossOf, Move, Norm, Op, Optim, Quant, Recurrent,
};
use innkeeper_tensor::{Buffer, DType, Shape, Tensor, bf16, f16};

use super::ELEMENTS_MAX;
use crate::source::Source;

/// An operand, or what somebody claims to be one.
pub(super) struct Operand {
    dtype: DType,
    shape: Shape,
    /// None where the shape is too large to make.
    tensor: Option<Tensor>,
}

impl Operand {
    pub(super) fn claim(&self) -> (DType, &Shape) {
        (self.dtype, &self.shape)
    }

    pub(super) fn tensor(&self) -> Option<Tensor> {
        self.tensor.clone()
    }
}

/// What an operation wants its operand to be made of.
#[derive(Clone, Copy)]
enum Kind {
    /// The dtype that all such operands have.
    Main,
    Indices,
    Condition,
    Of(DType),
}

type Wanted = (Kind, Vec<usize>);

/// The operands of the operation: those that it wants, now and then something else.
pub(super) fn operands(op: &Op, from: &mut Source<'_>) -> Vec<Operand> {
    let main = match from.rarely(3) {
        true => from.dtype(),
        false => from.pick(&[DType::Fp32, DType::Fp64, DType::Int64, DType::Fp16, DType::Bf16]),
    };
    let mut wanted = wanted(op, from);
    match from.byte() {
        0..220 => {}
        220..230 => drop(wanted.pop()),
        230..240 => wanted.push((Kind::Main, dims(from))),
        _ => wanted = (0..from.byte() % 7).map(|_| (Kind::Main, dims(from))).collect(),
    }
    wanted.into_iter().filter_map(|wanted| operand(wanted, main, from)).collect()
}

fn operand((kind, mut dims): Wanted, main: DType, from: &mut Source<'_>) -> Option<Operand> {
    let change = from.byte();
    let dtype = match kind {
        _ if change == 255 => from.dtype(),
        Kind::Main => main,
        Kind::Indices => from.pick(&[DType::Int64, DType::Int32]),
        Kind::Condition => DType::Bool,
        Kind::Of(dtype) => dtype,
    };
    match change {
        // One size is another one: 0, 1, or huge.
        240..250 if !dims.is_empty() => {
            let at = usize::from(from.byte()) % dims.len();
            dims[at] = from.size();
        }
        250 => dims.push(1),
        251 => drop(dims.pop()),
        _ => {}
    }
    let shape = Shape::new(&dims).ok()?;
    let tensor = (shape.elements() <= ELEMENTS_MAX).then(|| tensor(dtype, &shape, kind, from));
    Some(Operand { dtype, shape, tensor })
}

fn tensor(dtype: DType, shape: &Shape, kind: Kind, from: &mut Source<'_>) -> Tensor {
    let (fill, first, second) = (from.byte() % 5, from.number(), from.number());
    let number = |index: usize| match (kind, fill) {
        // In range, mostly.
        (Kind::Indices, 0..4) => (index * (usize::from(fill) + 1) % 3) as f64 - f64::from(fill % 2),
        (_, 0) => (index % 7) as f64 - 3.0,
        (_, 1) => ((index * 37 + 11) % 101) as f64 / 25.0 - 2.0,
        (_, 2) => first,
        (_, 3) => {
            if index % 2 == 0 {
                first
            } else {
                second
            }
        }
        _ => {
            if index % 5 == 3 {
                second
            } else {
                index as f64
            }
        }
    };
    let mut bytes = Vec::new();
    for index in 0..shape.elements() {
        append(&mut bytes, dtype, number(index));
    }
    // Odd ones lie unaligned.
    let data = match from.rarely(8) {
        true => {
            bytes.insert(0, 0);
            let len = bytes.len();
            Buffer::aligned_copy(&bytes).slice(1..len).expect("it has that many bytes")
        }
        false => Buffer::aligned_copy(&bytes),
    };
    let tensor = Tensor::new(dtype, shape.clone(), data).expect("as many elements as it has");
    if from.rarely(4) { tensor.constant() } else { tensor }
}

fn append(bytes: &mut Vec<u8>, dtype: DType, number: f64) {
    let whole = number as i64;
    match dtype {
        DType::Bool => bytes.push((whole & 1) as u8),
        DType::Uint8 | DType::Int8 => bytes.push(whole as u8),
        DType::Uint16 | DType::Int16 => bytes.extend((whole as u16).to_le_bytes()),
        DType::Uint32 | DType::Int32 => bytes.extend((whole as u32).to_le_bytes()),
        DType::Uint64 | DType::Int64 => bytes.extend(whole.to_le_bytes()),
        DType::Fp16 => bytes.extend(f16::from_f64(number).to_le_bytes()),
        DType::Bf16 => bytes.extend(bf16::from_f64(number).to_le_bytes()),
        DType::Fp32 => bytes.extend((number as f32).to_le_bytes()),
        DType::Fp64 => bytes.extend(number.to_le_bytes()),
        DType::Bytes => bytes.extend([1, 0, 0, 0, whole as u8]),
    }
}

/// Any small shape.
fn dims(from: &mut Source<'_>) -> Vec<usize> {
    (0..from.byte() % 5).map(|_| from.small()).collect()
}

/// A shape with leading dimensions and these.
fn ending(from: &mut Source<'_>, last: &[usize]) -> Vec<usize> {
    let mut dims: Vec<usize> = (0..from.byte() % 3).map(|_| from.small()).collect();
    dims.extend(last);
    dims
}

/// As many of these dimensions as broadcast to them, some of them 1.
fn part(dims: &[usize], from: &mut Source<'_>) -> Vec<usize> {
    let (ones, gone) = (from.byte(), usize::from(from.byte()) % (dims.len() + 1));
    let one = |(i, &dim): (usize, &usize)| if ones >> (i % 8) & 1 == 1 { 1 } else { dim };
    dims.iter().enumerate().map(one).skip(if ones & 128 == 0 { 0 } else { gone }).collect()
}

fn wanted(op: &Op, from: &mut Source<'_>) -> Vec<Wanted> {
    use Kind::*;
    let main = |dims: &[usize]| (Main, dims.to_vec());
    match op {
        Op::Full { .. } | Op::Arange { .. } => Vec::new(),
        Op::Concat { .. } => {
            let dims = dims(from);
            (0..1 + from.byte() % 4).map(|_| main(&dims)).collect()
        }
        Op::Gather { .. } => vec![(Main, dims(from)), (Indices, dims(from))],
        Op::Binary(_) | Op::Compare(_) => {
            let dims = dims(from);
            let (a, b) = (part(&dims, from), part(&dims, from));
            vec![main(&a), main(&b)]
        }
        Op::Select => {
            let dims = dims(from);
            vec![(Condition, part(&dims, from)), (Main, part(&dims, from)), main(&dims)]
        }
        Op::MatMul => {
            let [m, k, n] = [from.small(), from.small(), from.small()];
            vec![(Main, ending(from, &[m, k])), (Main, ending(from, &[k, n]))]
        }
        Op::Linear { bias, residual, .. } => linear(from, *bias, *residual),
        Op::Move(Move::ReverseSequence { .. }) => {
            let dims = dims(from);
            let batch = dims.first().copied().unwrap_or(1);
            vec![(Main, dims), (Indices, vec![batch])]
        }
        Op::Index(index) => indexed(*index, from),
        Op::Norm(norm) => normed(norm, from),
        Op::Attention(of) => attended(of, from),
        Op::Rope(rope) => {
            let [b, s, half] = [from.small(), from.small(), 1 + from.small() % 4];
            let heads = rope.heads.clamp(1, 8);
            let turned = if rope.dims == 0 { half } else { (rope.dims / 2).clamp(1, 8) };
            let width = (2 * half).max(2 * turned);
            let rows = if rope.positions { 4 } else { s };
            let mut all = vec![main(&[b, s, heads * width])];
            all.extend([main(&[rows, turned]), main(&[rows, turned])]);
            all.extend(rope.positions.then(|| (Indices, vec![b, s])));
            all
        }
        Op::Conv(of) => {
            let (x, weight, channels) = convolved(of.groups, from);
            let mut all = vec![main(&x), main(&weight)];
            all.extend(of.bias.then(|| main(&[channels])));
            all.extend(of.residual.then(|| main(&[&[x[0], channels], &x[2..]].concat())));
            all
        }
        Op::ConvTranspose(of) => {
            let (x, mut weight, channels) = convolved(of.groups, from);
            weight.splice(..2, [x[1], channels / of.groups.clamp(1, 4)]);
            let mut all = vec![main(&x), main(&weight)];
            all.extend(of.bias.then(|| main(&[channels])));
            all
        }
        Op::Pool(_) => vec![main(&image(from))],
        Op::Random(random) => match random.draw {
            Draw::Bernoulli { .. } | Draw::Multinomial { .. } | Draw::Dropout { .. } => {
                vec![(Main, dims(from))]
            }
            _ => Vec::new(),
        },
        Op::Recurrent(of) => recurrent(of, from),
        Op::Trees(trees) => vec![main(&[from.small(), trees.features().max(from.small())])],
        Op::Loss(loss) => lost(loss, from),
        Op::Quant(quant) => quantised(quant, from),
        Op::Grad(grad) => backward(grad, from),
        Op::Optim(optim) => {
            let groups = match optim {
                Optim::Sgd { momentum: 0.0, .. } => 2,
                Optim::Sgd { .. } => 3,
                Optim::Adam { .. } => 4,
                Optim::ClipNorm { .. } => 1,
            };
            let shapes: Vec<Wanted> = (0..from.byte() % 4).map(|_| (Main, dims(from))).collect();
            (0..groups).flat_map(|_| shapes.clone()).collect()
        }
        _ => vec![(Main, dims(from))],
    }
}

/// `[n, c, spatial..]`.
fn image(from: &mut Source<'_>) -> Vec<usize> {
    let spatial = 1 + from.byte() % 3;
    (0..2 + spatial).map(|_| from.small()).collect()
}

/// x and weight of a convolution, and how many channels come out.
fn convolved(groups: usize, from: &mut Source<'_>) -> (Vec<usize>, Vec<usize>, usize) {
    let (groups, per_group, out) = (groups.clamp(1, 4), from.small(), from.small());
    let mut x = image(from);
    x[1] = groups * per_group;
    let mut weight = vec![groups * out, per_group];
    weight.extend(x[2..].iter().map(|_| 1 + from.small() % 4));
    (x, weight, groups * out)
}

fn recurrent(of: &Recurrent, from: &mut Source<'_>) -> Vec<Wanted> {
    let [t, b, h] = [from.small(), from.small(), from.small()];
    let wide = of.cell.gates() * h;
    let split = of.cell == (Cell::Gru { after: false });
    let mut shapes = vec![vec![t, b, wide], vec![if split { 2 * h } else { wide }, h]];
    shapes.extend(split.then(|| vec![h, h]));
    shapes.extend(of.bias.then(|| vec![wide]));
    shapes.push(vec![b, h]);
    shapes.extend((of.cell == Cell::Lstm).then(|| vec![b, h]));
    shapes.extend(of.peepholes.then(|| vec![3 * h]));
    let mut all: Vec<Wanted> =
        shapes.into_iter().map(|dims| (Kind::Of(DType::Fp32), dims)).collect();
    all.extend(of.lengths.then(|| (Kind::Indices, vec![b])));
    all
}

fn linear(from: &mut Source<'_>, bias: bool, residual: bool) -> Vec<Wanted> {
    let [input, output] = [from.small(), from.small()];
    let x = ending(from, &[input]);
    let rows = x[..x.len() - 1].to_vec();
    let mut all = vec![(Kind::Main, x), (Kind::Main, vec![output, input])];
    all.extend(bias.then(|| (Kind::Main, vec![output])));
    all.extend(residual.then(|| (Kind::Main, [rows, vec![output]].concat())));
    all
}

fn indexed(index: Index, from: &mut Source<'_>) -> Vec<Wanted> {
    use Kind::*;
    let data = dims(from);
    let inner = data.last().copied().unwrap_or(1);
    match index {
        Index::GatherElements { .. } => vec![(Main, data.clone()), (Indices, data)],
        Index::GatherNd { .. } => vec![(Main, data), (Indices, ending(from, &[1]))],
        Index::ScatterElements { .. } => {
            vec![(Main, data.clone()), (Indices, data.clone()), (Main, data)]
        }
        Index::ScatterNd { .. } => {
            let rows = from.small();
            let updates = [&[rows], data.get(1..).unwrap_or_default()].concat();
            vec![(Main, data), (Indices, vec![rows, 1]), (Main, updates)]
        }
        Index::OneHot { .. } => vec![(Indices, data), (Main, vec![2])],
        Index::Compress { .. } => vec![(Main, data), (Condition, vec![inner])],
        Index::NonZero | Index::Unique { .. } => vec![(Main, data)],
    }
}

/// The dimensions from `axis` on.
fn from_axis(dims: &[usize], axis: i64) -> Vec<usize> {
    let rank = dims.len() as i64;
    let axis = if axis < 0 { axis.saturating_add(rank) } else { axis };
    dims[axis.clamp(0, rank) as usize..].to_vec()
}

fn normed(norm: &Norm, from: &mut Source<'_>) -> Vec<Wanted> {
    let x = image(from);
    let (channels, main) = (vec![x[1]], |dims: &[usize]| (Kind::Main, dims.to_vec()));
    let mut all = vec![main(&x)];
    match *norm {
        Norm::Layer { axis, bias, residual, .. } => {
            let scale = from_axis(&x, axis);
            all.extend(residual.then(|| main(&x)));
            all.push(main(&scale));
            all.extend(bias.then(|| main(&scale)));
        }
        Norm::Rms { axis, residual, .. } => {
            all.extend(residual.then(|| main(&x)));
            all.push(main(&from_axis(&x, axis)));
        }
        Norm::Batch { .. } => all.extend((0..4).map(|_| main(&channels))),
        Norm::Group { .. } | Norm::Instance { .. } => {
            all.extend((0..2).map(|_| main(&channels)));
        }
        Norm::Lp { .. } => {}
    }
    all
}

fn attended(of: &innkeeper_kernels::Attention, from: &mut Source<'_>) -> Vec<Wanted> {
    let (heads, kv) = (of.heads.clamp(1, 6), of.kv_heads.clamp(1, 6));
    let [b, s, t, d, e] = [(); 5].map(|()| from.small());
    let main = |dims: &[usize]| (Kind::Main, dims.to_vec());
    let mut all = match (of.packed, of.heads_first) {
        (true, _) => vec![main(&[b, s, (heads + 2 * kv) * d])],
        (_, true) => vec![main(&[b, heads, s, d]), main(&[b, kv, t, d]), main(&[b, kv, t, e])],
        _ => vec![main(&[b, s, heads * d]), main(&[b, t, kv * d]), main(&[b, t, kv * e])],
    };
    let keys = if of.packed { s } else { t };
    let mask = part(&[b, heads, s, keys], from);
    let kind = if from.flag() { Kind::Condition } else { Kind::Main };
    all.extend(of.mask.then_some((kind, mask)));
    all
}

fn lost(loss: &Loss, from: &mut Source<'_>) -> Vec<Wanted> {
    let dims = ending(from, &[3]);
    match loss.of {
        LossOf::CrossEntropy { .. } => {
            let labels = dims[..dims.len() - 1].to_vec();
            vec![(Kind::Main, dims), (Kind::Indices, labels)]
        }
        _ => vec![(Kind::Main, dims.clone()), (Kind::Main, dims)],
    }
}

fn quantised(quant: &Quant, from: &mut Source<'_>) -> Vec<Wanted> {
    use DType::*;
    use Kind::Of;
    let byte = from.pick(&[Uint8, Int8, Int32]);
    let dims = dims(from);
    let scale = if from.flag() { Vec::new() } else { vec![dims.last().copied().unwrap_or(1)] };
    match *quant {
        Quant::Dynamic => vec![(Of(Fp32), dims)],
        Quant::Quantize { to, zero_point, .. } => {
            let mut all = vec![(Of(Fp32), dims), (Of(Fp32), scale.clone())];
            all.extend(zero_point.then_some((Of(to), scale)));
            all
        }
        Quant::Dequantize { zero_point, .. } => {
            let mut all = vec![(Of(byte), dims), (Of(Fp32), scale.clone())];
            all.extend(zero_point.then_some((Of(byte), scale)));
            all
        }
        Quant::MatMul { a_zero, b_zero } => {
            let [m, k, n] = [from.small(), from.small(), from.small()];
            let (a, b) = (from.pick(&[Uint8, Int8]), from.pick(&[Uint8, Int8]));
            let (rows, columns) = (from.pick(&[1, m]), from.pick(&[1, n]));
            let mut all = vec![(Of(a), ending(from, &[m, k])), (Of(b), vec![k, n])];
            all.extend(a_zero.then(|| (Of(a), vec![rows])));
            all.extend(b_zero.then(|| (Of(b), vec![columns])));
            all
        }
        Quant::Linear8 { bias, residual, .. } => {
            let mut all = linear(from, bias, residual);
            all.iter_mut().for_each(|operand| operand.0 = Of(Fp32));
            let outputs = all[1].1[0];
            all[1].0 = Of(Int8);
            all.insert(2, (Of(Fp32), vec![outputs]));
            all
        }
        Quant::Linear4 { group, bias, residual, .. } => {
            let mut all = linear(from, bias, residual);
            all.iter_mut().for_each(|operand| operand.0 = Of(Fp32));
            let (outputs, groups) = (all[1].1[0], from.small());
            let input = group.min(256) * groups;
            if let Some(last) = all[0].1.last_mut() {
                *last = input;
            }
            all[1] = (Of(Uint8), vec![outputs, input / 2]);
            all.insert(2, (Of(Fp32), vec![outputs, groups]));
            all
        }
        Quant::Weight4 { group } => {
            vec![(Of(Fp32), vec![from.small(), group.min(256) * from.small()])]
        }
        Quant::Weight8 => vec![(Of(Fp32), vec![from.small(), from.small()])],
    }
}

fn backward(grad: &Grad, from: &mut Source<'_>) -> Vec<Wanted> {
    let main = |dims: &[usize]| (Kind::Main, dims.to_vec());
    let x = image(from);
    match *grad {
        Grad::Slope(_) | Grad::Softmax { .. } | Grad::LogSoftmax { .. } => {
            vec![main(&x), main(&x)]
        }
        Grad::LayerNorm { axis, .. } | Grad::RmsNorm { axis, .. } => {
            vec![main(&x), main(&x), main(&from_axis(&x, axis))]
        }
        Grad::BatchNorm { .. } => vec![main(&x), main(&x), main(&[x[1]])],
        Grad::Gather { ref shape, .. } => {
            let rows = from.small();
            let tail: Vec<usize> = shape.iter().skip(1).map(|&dim| dim.min(8)).collect();
            vec![main(&[&[rows], &tail[..]].concat()), (Kind::Indices, vec![rows])]
        }
        Grad::Linear { .. } => {
            let all = linear(from, false, false);
            let rows = &all[0].1[..all[0].1.len() - 1];
            let dy = [rows, &[all[1].1[0]]].concat();
            [vec![main(&dy)], all].concat()
        }
        Grad::Conv { groups, .. } => {
            let (x, weight, channels) = convolved(groups, from);
            let output = x[2..].iter().zip(&weight[2..]).map(|(i, k)| (i + 1).saturating_sub(*k));
            let dy: Vec<usize> = [x[0], channels].into_iter().chain(output).collect();
            vec![main(&dy), main(&x), main(&weight)]
        }
        Grad::MaxPool { ref kernel, .. } | Grad::AveragePool { ref kernel, .. } => {
            let sizes = x[2..].iter().zip(kernel.iter().chain(std::iter::repeat(&1)));
            let output = sizes.map(|(i, k)| (i + 1).saturating_sub(*k));
            let dy: Vec<usize> = x[..2].iter().copied().chain(output).collect();
            vec![main(&dy), main(&x)]
        }
        Grad::Attention(Attention { heads, kv_heads, packed, heads_first, .. }) => {
            let [b, s, t, d, e] = [(); 5].map(|()| from.small());
            let (h, kv) = (heads.min(8), kv_heads.min(8));
            let sides = match (packed, heads_first) {
                (true, _) => vec![vec![b, s, h * d], vec![b, s, (h + 2 * kv) * d]],
                (false, true) => {
                    vec![vec![b, h, s, e], vec![b, h, s, d], vec![b, kv, t, d], vec![b, kv, t, e]]
                }
                (false, false) => {
                    vec![
                        vec![b, s, h * e],
                        vec![b, s, h * d],
                        vec![b, t, kv * d],
                        vec![b, t, kv * e],
                    ]
                }
            };
            sides.iter().map(|side| main(side)).collect()
        }
        Grad::SumTo { .. } | Grad::Dropout { .. } => vec![main(&x)],
    }
}
