//! Resampling, and taking elements at places that are computed.

use innkeeper_kernels::{Binary, Compare, Coordinates, Nearest, Op, Resize, Sample, Unary};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, axes, cast, operand, optional, reshape, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "Resize" => resize,
        "Upsample" => upsample,
        "GridSample" => grid_sample,
        _ => return None,
    })
}

/// What a resampling is asked for, for every dimension.
struct Asked {
    sizes: Vec<usize>,
    /// Empty where they are what the sizes say.
    scales: Vec<f64>,
}

/// x, a part of it, scales, sizes; in opset 10 x and scales.
fn resize(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    if node.version < 11 {
        return scaled(m, node, x, operand(inputs, 1)?);
    }
    let rank = m.rank(x);
    let along = match node.ints("axes")? {
        Some(list) => axes(list, rank)?,
        None => (0..rank).collect(),
    };
    let given = |index: usize| {
        optional(inputs, index).filter(|&val| m.shape(val).elements() > 0 || m.rank(val) != 1)
    };
    let coordinates = coordinates(m, node, &along, given(1), rank)?;
    let asked = match (given(2), given(3)) {
        (Some(scales), None) => by_scales(m, x, &along, &m.numbers(scales)?, &coordinates)?,
        (None, Some(sizes)) => by_sizes(m, node, x, &along, &m.ints(sizes)?)?,
        _ => return Err(invalid("wants scales or sizes, and not both")),
    };
    let nearest = match node.text("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Nearest::RoundPreferFloor,
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        other => return Err(invalid(format_args!("nearest_mode is {other:?}"))),
    };
    let mode = match node.text("mode", "nearest")? {
        "nearest" => Sample::Nearest(nearest),
        "linear" => Sample::Linear,
        "cubic" => Sample::Cubic {
            a: f64::from(node.float("cubic_coeff_a", -0.75)?),
            exclude_outside: node.flag("exclude_outside", false)?,
        },
        other => return Err(invalid(format_args!("mode is {other:?}"))),
    };
    let antialias = node.flag("antialias", false)? && !matches!(mode, Sample::Nearest(_));
    resized(m, x, asked, mode, coordinates, antialias)
}

fn resized(
    m: &mut Machine<'_>,
    x: Val,
    asked: Asked,
    mode: Sample,
    coordinates: Coordinates,
    antialias: bool,
) -> Lowered {
    let Asked { sizes, scales } = asked;
    let op = Resize { sizes, scales, mode, coordinates, antialias };
    Ok(vec![m.emit(Op::Resize(op), &[x])?])
}

fn coordinates(
    m: &Machine<'_>,
    node: &Node,
    along: &[usize],
    part: Option<Val>,
    rank: usize,
) -> Result<Coordinates, Fail> {
    Ok(match node.text("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => {
            let part = m.numbers(part.ok_or_else(|| invalid("the part is missing"))?)?;
            if part.len() != 2 * along.len() {
                return Err(invalid("the part must have two numbers for each dimension"));
            }
            let mut parts = vec![(0.0, 1.0); rank];
            for (i, &at) in along.iter().enumerate() {
                parts[at] = (part[i], part[i + along.len()]);
            }
            let outside = f64::from(node.float("extrapolation_value", 0.0)?);
            Coordinates::Crop { parts, outside }
        }
        // What opset 11 had besides is in no model that was met.
        other => {
            return Err(Fail::Unsupported(format!("coordinate_transformation_mode {other:?}")));
        }
    })
}

fn by_scales(
    m: &Machine<'_>,
    x: Val,
    along: &[usize],
    given: &[f64],
    coordinates: &Coordinates,
) -> Result<Asked, Fail> {
    if given.len() != along.len() {
        return Err(invalid(format_args!("{} scales for {} dimensions", given.len(), along.len())));
    }
    let mut sizes = m.dims(x).to_vec();
    let mut scales = vec![1.0; sizes.len()];
    for (&at, &scale) in along.iter().zip(given) {
        let part = match coordinates {
            Coordinates::Crop { parts, .. } => parts[at].1 - parts[at].0,
            _ => 1.0,
        };
        let size = (sizes[at] as f64 * part * scale).floor();
        if !(0.0..=f64::from(u32::MAX)).contains(&size) {
            return Err(invalid(format_args!("a scale is {scale}")));
        }
        (sizes[at], scales[at]) = (size as usize, scale);
    }
    Ok(Asked { sizes, scales })
}

fn by_sizes(
    m: &Machine<'_>,
    node: &Node,
    x: Val,
    along: &[usize],
    given: &[i64],
) -> Result<Asked, Fail> {
    if given.len() != along.len() {
        return Err(invalid(format_args!("{} sizes for {} dimensions", given.len(), along.len())));
    }
    let mut sizes = m.dims(x).to_vec();
    let ratio = |&(&at, &size): &(&usize, &i64)| size as f64 / sizes[at].max(1) as f64;
    let ratios = || along.iter().zip(given).map(|pair| ratio(&pair));
    let common = match node.text("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => Some(ratios().fold(f64::INFINITY, f64::min)),
        "not_smaller" => Some(ratios().fold(0.0, f64::max)),
        other => return Err(invalid(format_args!("keep_aspect_ratio_policy is {other:?}"))),
    };
    let mut scales = Vec::new();
    if let Some(common) = common {
        scales = vec![1.0; sizes.len()];
        for &at in along {
            (scales[at], sizes[at]) = (common, (sizes[at] as f64 * common + 0.5).floor() as usize);
        }
        return Ok(Asked { sizes, scales });
    }
    for (&at, &size) in along.iter().zip(given) {
        sizes[at] = usize::try_from(size).map_err(|_| invalid(format_args!("a size is {size}")))?;
    }
    Ok(Asked { sizes, scales })
}

/// Scales as an attribute before opset 9, as an operand since.
fn upsample(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    if let Some(scales) = optional(inputs, 1) {
        return scaled(m, node, x, scales);
    }
    let scales = node.floats("scales")?.ok_or_else(|| invalid("scales are missing"))?;
    let scales = m.list(&[scales.len()], scales.to_vec())?;
    scaled(m, node, x, scales)
}

/// As before opset 11: position i is taken from i / scale.
fn scaled(m: &mut Machine<'_>, node: &Node, x: Val, scales: Val) -> Lowered {
    let mode = match node.text("mode", "nearest")? {
        "nearest" => Sample::Nearest(Nearest::Floor),
        "linear" => Sample::Linear,
        other => return Err(invalid(format_args!("mode is {other:?}"))),
    };
    let along: Vec<usize> = (0..m.rank(x)).collect();
    let coordinates = Coordinates::Asymmetric;
    let asked = by_scales(m, x, &along, &m.numbers(scales)?, &coordinates)?;
    resized(m, x, asked, mode, coordinates, false)
}

/// What is around an image whose elements are taken.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Zeros,
    Border,
    Reflection,
}

/// Where elements are taken, for one dimension of size `size`.
struct Taking {
    size: usize,
    align_corners: bool,
    around: Around,
}

/// x `[n, c, d..]`, grid `[n, o.., dims]` of places from -1 to 1, the last dimension of x first: `[n, c, o..]`.
fn grid_sample(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, grid) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let dtype = m.dtype(x);
    let (from, to) = (m.dims(x).to_vec(), m.dims(grid).to_vec());
    let dims = from.len().saturating_sub(2);
    let fits = (1..=3).contains(&dims) && to.len() == dims + 2 && to[dims + 1] == dims;
    if !fits || from[0] != to[0] || m.shape(x).elements() == 0 {
        return Err(invalid(format_args!("{} does not sample {}", m.shape(grid), m.shape(x))));
    }
    let around = match node.text("padding_mode", "zeros")? {
        "zeros" => Around::Zeros,
        "border" => Around::Border,
        "reflection" => Around::Reflection,
        other => return Err(invalid(format_args!("padding_mode is {other:?}"))),
    };
    let align_corners = node.flag("align_corners", false)?;
    let count: usize = to[1..=dims].iter().product();
    let grid = cast(m, grid, DType::Fp32)?;
    let grid = reshape(m, grid, &[to[0], count, dims])?;
    let mut lines = Vec::with_capacity(dims);
    for at in 0..dims {
        let axis = (dims - 1 - at) as i64;
        let place = m.emit(Op::Slice { axis: 2, start: axis, end: axis + 1 }, &[grid])?;
        let place = reshape(m, place, &[to[0], count])?;
        let taking = Taking { size: from[at + 2], align_corners, around };
        lines.push(taps(m, node, &taking, place)?);
    }
    // Rows of channels, one for each element of an image.
    let elements: usize = from[2..].iter().product();
    let wide = cast(m, x, DType::Fp32)?;
    let wide = reshape(m, wide, &[from[0], from[1], elements])?;
    let wide = m.emit(Op::Transpose { permutation: vec![0, 2, 1] }, &[wide])?;
    let rows = reshape(m, wide, &[from[0] * elements, from[1]])?;
    let starts = (0..from[0] as i64).map(|n| n * elements as i64).collect();
    let starts = m.list(&[from[0], 1], starts)?;
    let mut sum = None;
    let mut combination = vec![0; dims];
    loop {
        let part = taken(m, rows, starts, &from[2..], &lines, &combination)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => m.emit(Op::Binary(Binary::Add), &[sum, part])?,
        });
        // The next combination of taps, one of each dimension.
        let Some(at) = (0..dims).rev().find(|&at| combination[at] + 1 < lines[at].len()) else {
            break;
        };
        combination[at] += 1;
        combination[at + 1..].fill(0);
    }
    let sum = sum.ok_or_else(|| invalid("nothing is taken"))?;
    let sum = m.emit(Op::Transpose { permutation: vec![0, 2, 1] }, &[sum])?;
    let mut shape = vec![from[0], from[1]];
    shape.extend(&to[1..=dims]);
    let sum = reshape(m, sum, &shape)?;
    Ok(vec![cast(m, sum, dtype)?])
}

/// An element that is taken along one dimension: its index (INT64), and what it counts (FP32).
type Tap = (Val, Val);

fn taps(m: &mut Machine<'_>, node: &Node, taking: &Taking, place: Val) -> Result<Vec<Tap>, Fail> {
    let one = |op, value| Op::Scalar { op, value };
    let size = taking.size as f64;
    // From -1..1 to elements.
    let moved = m.emit(one(Binary::Add, 1.0), &[place])?;
    let mut place = if taking.align_corners {
        m.emit(one(Binary::Mul, (size - 1.0) / 2.0), &[moved])?
    } else {
        let scaled = m.emit(one(Binary::Mul, size / 2.0), &[moved])?;
        m.emit(one(Binary::Sub, 0.5), &[scaled])?
    };
    let mode = node.text("mode", if node.version >= 20 { "linear" } else { "bilinear" })?;
    let is_cubic = matches!(mode, "cubic" | "bicubic");
    if !is_cubic {
        place = bounded(m, taking, place)?;
    }
    match mode {
        "nearest" => {
            let nearest = m.emit(Op::Unary(Unary::Round), &[place])?;
            let weight = scalar(m, DType::Fp32, 1.0)?;
            Ok(vec![tap(m, taking, nearest, weight)?])
        }
        "linear" | "bilinear" => {
            let low = m.emit(Op::Unary(Unary::Floor), &[place])?;
            let after = m.emit(Op::Binary(Binary::Sub), &[place, low])?;
            let negative = m.emit(Op::Unary(Unary::Neg), &[after])?;
            let before = m.emit(one(Binary::Add, 1.0), &[negative])?;
            let high = m.emit(one(Binary::Add, 1.0), &[low])?;
            Ok(vec![tap(m, taking, low, before)?, tap(m, taking, high, after)?])
        }
        "cubic" | "bicubic" => {
            let low = m.emit(Op::Unary(Unary::Floor), &[place])?;
            let after = m.emit(Op::Binary(Binary::Sub), &[place, low])?;
            let mut taps = Vec::with_capacity(4);
            for step in -1..=2 {
                let weight = keys(m, after, f64::from(step))?;
                let at = m.emit(one(Binary::Add, f64::from(step)), &[low])?;
                let at = bounded(m, taking, at)?;
                taps.push(tap(m, taking, at, weight)?);
            }
            Ok(taps)
        }
        other => Err(invalid(format_args!("mode is {other:?}"))),
    }
}

/// R. Keys's cubic with the coefficient -0.75, for the element `step` after the one before the place.
fn keys(m: &mut Machine<'_>, after: Val, step: f64) -> Result<Val, Fail> {
    const A: f64 = -0.75;
    let less = m.emit(Op::Scalar { op: Binary::Sub, value: step }, &[after])?;
    let far = m.emit(Op::Unary(Unary::Abs), &[less])?;
    // The factors of 1, x, x^2 and x^3, near the place and further away.
    let factors = match step {
        0.0 | 1.0 => [1.0, 0.0, -(A + 3.0), A + 2.0],
        _ => [-4.0 * A, 8.0 * A, -5.0 * A, A],
    };
    let mut sum = scalar(m, DType::Fp32, factors[3])?;
    for factor in factors[..3].iter().rev() {
        sum = m.emit(Op::Binary(Binary::Mul), &[sum, far])?;
        sum = m.emit(Op::Scalar { op: Binary::Add, value: *factor }, &[sum])?;
    }
    Ok(sum)
}

/// A place within the image, where what is around it says so.
fn bounded(m: &mut Machine<'_>, taking: &Taking, place: Val) -> Result<Val, Fail> {
    let one = |op, value| Op::Scalar { op, value };
    let size = taking.size as f64;
    let place = match taking.around {
        Around::Zeros => return Ok(place),
        Around::Border => place,
        Around::Reflection => {
            let (low, span) = match taking.align_corners {
                true => (0.0, size - 1.0),
                false => (-0.5, size),
            };
            // A triangle of the period 2 span.
            let far = m.emit(one(Binary::Sub, low), &[place])?;
            let far = m.emit(Op::Unary(Unary::Abs), &[far])?;
            let far = m.emit(one(Binary::Fmod, 2.0 * span.max(0.5)), &[far])?;
            let off = m.emit(one(Binary::Sub, span), &[far])?;
            let off = m.emit(Op::Unary(Unary::Abs), &[off])?;
            let off = m.emit(Op::Unary(Unary::Neg), &[off])?;
            m.emit(one(Binary::Add, span + low), &[off])?
        }
    };
    let place = m.emit(one(Binary::Maximum, 0.0), &[place])?;
    m.emit(one(Binary::Minimum, size - 1.0), &[place])
}

/// The element at a whole place; one outside counts nothing.
fn tap(m: &mut Machine<'_>, taking: &Taking, at: Val, weight: Val) -> Result<Tap, Fail> {
    let one = |op, value| Op::Scalar { op, value };
    let last = taking.size as f64 - 1.0;
    let inside = m.emit(one(Binary::Maximum, 0.0), &[at])?;
    let inside = m.emit(one(Binary::Minimum, last), &[inside])?;
    let there = m.emit(Op::Compare(Compare::Equal), &[inside, at])?;
    let nothing = scalar(m, DType::Fp32, 0.0)?;
    let weight = m.emit(Op::Select, &[there, weight, nothing])?;
    // A NaN is nowhere: the cast makes 0 of it, and it counts nothing.
    Ok((cast(m, inside, DType::Int64)?, weight))
}

/// Rows at one combination of taps, weighed.
fn taken(
    m: &mut Machine<'_>,
    rows: Val,
    starts: Val,
    sizes: &[usize],
    lines: &[Vec<Tap>],
    combination: &[usize],
) -> Result<Val, Fail> {
    let mut index: Option<Val> = None;
    let mut weight: Option<Val> = None;
    for ((line, &which), &size) in lines.iter().zip(combination).zip(sizes) {
        let (at, counts) = line[which];
        index = Some(match index {
            None => at,
            Some(index) => {
                let op = Op::Scalar { op: Binary::Mul, value: size as f64 };
                let index = m.emit(op, &[index])?;
                m.emit(Op::Binary(Binary::Add), &[index, at])?
            }
        });
        weight = Some(match weight {
            None => counts,
            Some(weight) => m.emit(Op::Binary(Binary::Mul), &[weight, counts])?,
        });
    }
    let (Some(index), Some(weight)) = (index, weight) else {
        return Err(invalid("there is no dimension to take from"));
    };
    let index = m.emit(Op::Binary(Binary::Add), &[index, starts])?;
    let dims = m.dims(index).to_vec();
    let taken = m.emit(Op::Gather { axis: 0 }, &[rows, index])?;
    let weight =
        m.emit(Op::Move(innkeeper_kernels::Move::Expand { shape: dims.clone() }), &[weight])?;
    let weight = reshape(m, weight, &[dims[0], dims[1], 1])?;
    m.emit(Op::Binary(Binary::Mul), &[taken, weight])
}
