//! Resampling, against a plain reading of ONNX's description: the nearest positions by distance, over all dimensions.

use innkeeper_kernels::{Coordinates, Nearest, Op, OpError, Resize, Sample};
use innkeeper_tensor::DType;
use proptest::prelude::*;

use crate::oracle::{Array, check, indices, rounded, run};
use crate::values::{cases, fp32, of, tensor};

fn place(op: &Resize, dim: usize, i: usize, l: usize) -> f64 {
    let r = op.sizes[dim];
    let s = op.scales.get(dim).copied().unwrap_or(r as f64 / l as f64);
    let i = i as f64;
    let (lf, rf) = (l as f64, r as f64);
    match &op.coordinates {
        Coordinates::HalfPixel => (i + 0.5) / s - 0.5,
        Coordinates::HalfPixelSymmetric => {
            // Added in the kernel's order: the middle lies on a whole number, where one rounding decides the nearest.
            let adjustment = rf / (s * lf);
            ((i + 0.5) / s - 0.5) + lf / 2.0 * (1.0 - adjustment)
        }
        Coordinates::PytorchHalfPixel => {
            if r > 1 {
                (i + 0.5) / s - 0.5
            } else {
                0.0
            }
        }
        Coordinates::AlignCorners => {
            if r > 1 {
                i * (lf - 1.0) / (rf - 1.0)
            } else {
                0.0
            }
        }
        Coordinates::Asymmetric => i / s,
        Coordinates::Crop { parts, .. } => {
            let (a, b) = parts[dim];
            if r > 1 {
                a * (lf - 1.0) + i * (b - a) * (lf - 1.0) / (rf - 1.0)
            } else {
                0.5 * (a + b) * (lf - 1.0)
            }
        }
    }
}

fn cubic(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0
    } else if d < 2.0 {
        a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a
    } else {
        0.0
    }
}

/// Every position's weight for one dimension; none for outside.
fn weights(op: &Resize, dim: usize, i: usize, l: usize) -> Option<Vec<f64>> {
    let at = place(op, dim, i, l);
    if matches!(op.coordinates, Coordinates::Crop { .. }) && !(0.0..=l as f64 - 1.0).contains(&at) {
        return None;
    }
    let mut weights = vec![0.0; l];
    let last = l as i64 - 1;
    match op.mode {
        Sample::Nearest(nearest) => {
            let (floor, part) = (at.floor(), at - at.floor());
            let up = match nearest {
                Nearest::RoundPreferFloor => part > 0.5,
                Nearest::RoundPreferCeil => part >= 0.5,
                Nearest::Floor => false,
                Nearest::Ceil => part > 0.0,
            };
            weights[(floor as i64 + i64::from(up)).clamp(0, last) as usize] = 1.0;
        }
        Sample::Linear | Sample::Cubic { .. } => {
            let s = op.scales.get(dim).copied().unwrap_or(op.sizes[dim] as f64 / l as f64);
            let s = if op.antialias { s.min(1.0) } else { 1.0 };
            for position in -200..200i64 {
                let d = ((position as f64 - at) * s).abs();
                let weight = match op.mode {
                    Sample::Cubic { a, .. } => cubic(d, a),
                    _ => (1.0 - d).max(0.0),
                };
                let excludes = matches!(op.mode, Sample::Cubic { exclude_outside: true, .. });
                if !excludes || (0..=last).contains(&position) {
                    weights[position.clamp(0, last) as usize] += weight;
                }
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
    }
    Some(weights)
}

fn oracle(op: &Resize, x: &Array) -> Array {
    Array::from_fn(&op.sizes, |index| {
        let weights: Option<Vec<Vec<f64>>> = index
            .iter()
            .enumerate()
            .map(|(dim, &i)| {
                let l = x.dims[dim];
                let s = op.scales.get(dim).copied().unwrap_or(op.sizes[dim] as f64 / l as f64);
                if l == op.sizes[dim]
                    && s == 1.0
                    && !matches!(op.coordinates, Coordinates::Crop { .. })
                {
                    let mut own = vec![0.0; l];
                    own[i] = 1.0;
                    return Some(own);
                }
                weights(op, dim, i, l)
            })
            .collect();
        match (weights, &op.coordinates) {
            (Some(weights), _) => indices(&x.dims)
                .iter()
                .map(|source| {
                    let weight: f64 =
                        source.iter().zip(&weights).map(|(&i, weights)| weights[i]).product();
                    weight * x.at(source)
                })
                .sum(),
            (None, Coordinates::Crop { outside, .. }) => *outside,
            (None, _) => unreachable!("only a crop has an outside"),
        }
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn resized(
        dims in prop::collection::vec(1usize..6, 1..4),
        sizes in prop::collection::vec(1usize..9, 3),
        kept: u8,
        off in prop::collection::vec(-0.2f64..0.2, 3),
        scaled: bool,
        mode in 0..7usize,
        coordinates in 0..6usize,
        antialias: bool,
        wide: bool,
        seed: u64,
    ) {
        let sizes: Vec<usize> = dims.iter().zip(&sizes).enumerate()
            .map(|(i, (&dim, &size))| if kept >> i & 1 == 1 { dim } else { size }).collect();
        let scales: Vec<f64> = dims.iter().zip(&sizes).zip(&off)
            .map(|((&l, &r), off)| if l == r { 1.0 } else { (r as f64 + off) / l as f64 }).collect();
        let mode = [
            Sample::Nearest(Nearest::RoundPreferFloor), Sample::Nearest(Nearest::RoundPreferCeil),
            Sample::Nearest(Nearest::Floor), Sample::Nearest(Nearest::Ceil), Sample::Linear,
            Sample::Cubic { a: -0.75, exclude_outside: false }, Sample::Cubic { a: -0.5, exclude_outside: true },
        ][mode];
        let coordinates = [
            Coordinates::HalfPixel, Coordinates::HalfPixelSymmetric, Coordinates::PytorchHalfPixel,
            Coordinates::AlignCorners, Coordinates::Asymmetric,
            Coordinates::Crop { parts: off.iter().map(|off| (off + 0.1, 0.9 + off)).take(dims.len()).collect(), outside: 7.0 },
        ][coordinates].clone();
        let nearest = matches!(mode, Sample::Nearest(_));
        let op = Resize { sizes, scales: if scaled { scales } else { vec![] }, mode, coordinates, antialias: antialias && !nearest };
        let dtype = if wide { DType::Fp64 } else { DType::Fp32 };
        let x = tensor(dtype, &dims, seed);
        let expected = oracle(&op, &Array::of(&x));
        check(&Op::Resize(op), &[&x], dtype, &expected, 1e-5);
    }

    #[test]
    fn of_integers(from in 1usize..9, to in 1usize..9, seed: u64) {
        let x = tensor(DType::Uint8, &[from], seed);
        let op = Resize { sizes: vec![to], scales: vec![], mode: Sample::Linear, coordinates: Coordinates::AlignCorners, antialias: false };
        let mut expected = oracle(&op, &Array::of(&x));
        let got = Array::of(&run(&Op::Resize(op), &[&x]).unwrap());
        expected.data.iter_mut().for_each(|x| *x = rounded(DType::Uint8, x.trunc()));
        for (got, wanted) in got.data.iter().zip(&expected.data) {
            // Truncation may fall to either side of a whole number.
            prop_assert!((got - wanted).abs() <= 1.0);
        }
    }
}

#[test]
fn as_onnx_shows_it() {
    // The example of ONNX's documentation for linear, scales 2, half pixels.
    let x = fp32(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let op = Resize {
        sizes: vec![1, 1, 4, 4],
        scales: vec![1.0, 1.0, 2.0, 2.0],
        mode: Sample::Linear,
        coordinates: Coordinates::HalfPixel,
        antialias: false,
    };
    let data = vec![
        1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0,
    ];
    check(&Op::Resize(op), &[&x], DType::Fp32, &Array { dims: vec![1, 1, 4, 4], data }, 1e-6);
}

#[test]
fn what_does_not_fit() {
    let x = of(DType::Fp32, &[2, 3], &[0.0; 6], false);
    let base = Resize {
        sizes: vec![4, 6],
        scales: vec![],
        mode: Sample::Linear,
        coordinates: Coordinates::HalfPixel,
        antialias: false,
    };
    let cases = [
        (Resize { sizes: vec![4], ..base.clone() }, "takes 2 sizes"),
        (Resize { scales: vec![1.0], ..base.clone() }, "takes 2 sizes"),
        (Resize { scales: vec![1.0, 0.0], ..base.clone() }, "scale must be"),
        (Resize { scales: vec![1.0, f64::NAN], ..base.clone() }, "scale must be"),
        (Resize { sizes: vec![1 << 30, 6], ..base.clone() }, "cannot become"),
        (
            Resize { mode: Sample::Nearest(Nearest::Floor), antialias: true, ..base.clone() },
            "antialias",
        ),
        (
            Resize { mode: Sample::Cubic { a: f64::INFINITY, exclude_outside: true }, ..base },
            "coefficient",
        ),
    ];
    for (op, wanted) in cases {
        match run(&Op::Resize(op), &[&x]) {
            Err(OpError::InvalidArgument(text)) => assert!(text.contains(wanted), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
