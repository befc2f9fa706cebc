//! Backward passes against finite differences of forward passes written plainly in FP64.

use innkeeper_kernels::{Attention, Backend, Cpu, Grad, Op, OpError, Run, Slope, Window};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, indices, same_on_threads};
use crate::values::{cases, float, of, tensor};

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    Array::of(tensor).data
}

/// The derivative of `f` by every element of every operand.
pub(crate) fn differences(operands: &[Vec<f64>], f: impl Fn(&[Vec<f64>]) -> f64) -> Vec<Vec<f64>> {
    const STEP: f64 = 1e-5;
    let mut at = operands.to_vec();
    let mut slopes = Vec::new();
    for operand in 0..operands.len() {
        let slope = |element: usize, at: &mut Vec<Vec<f64>>| {
            let middle = at[operand][element];
            at[operand][element] = middle + STEP;
            let above = f(at);
            at[operand][element] = middle - STEP;
            let below = f(at);
            at[operand][element] = middle;
            (above - below) / (2.0 * STEP)
        };
        slopes.push((0..operands[operand].len()).map(|i| slope(i, &mut at)).collect());
    }
    slopes
}

/// Within a tolerance that is relative to the largest of the wanted, at least 1.
#[track_caller]
pub(crate) fn close(wanted: &[f64], got: &Tensor, tolerance: f64, what: &str) {
    let got = numbers(got);
    assert_eq!(wanted.len(), got.len(), "{what}");
    let scale = wanted.iter().fold(1f64, |scale, x| scale.max(x.abs()));
    for (i, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
        assert!(
            (wanted - got).abs() <= tolerance * scale,
            "{what}: element {i} is {got}, not {wanted}"
        );
    }
}

fn run(grad: &Grad, inputs: &[&Tensor]) -> Vec<Tensor> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let op = Op::Grad(grad.clone());
    let said = op.outputs(&operands).unwrap();
    assert!(op.cost(&operands) > 0);
    let results = Cpu::new().run(&op, inputs, &Run::new()).unwrap();
    let got: Vec<_> = results.iter().map(|x| (x.dtype(), x.shape().clone())).collect();
    assert_eq!(said, got, "{grad:?}");
    results
}

/// `grad` of dy and `operands` must be the derivatives of sum(dy forward(operands)) by the operands in `by`.
fn check(
    grad: &Grad,
    dy: &Tensor,
    operands: &[&Tensor],
    by: &[usize],
    forward: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let inputs: Vec<&Tensor> = std::iter::once(dy).chain(operands.iter().copied()).collect();
    compare(grad, &inputs, dy, operands, by, forward);
}

/// The same for a backward pass that takes `inputs`.
fn compare(
    grad: &Grad,
    inputs: &[&Tensor],
    dy: &Tensor,
    operands: &[&Tensor],
    by: &[usize],
    forward: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let results = run(grad, inputs);
    let weights = numbers(dy);
    let values: Vec<Vec<f64>> = operands.iter().map(|x| numbers(x)).collect();
    let slopes = differences(&values, |values| {
        let y = forward(values);
        assert_eq!(y.len(), weights.len(), "{grad:?}");
        y.iter().zip(&weights).map(|(y, dy)| y * dy).sum()
    });
    let tolerance = if dy.dtype() == DType::Fp32 { 1e-4 } else { 2e-6 };
    assert_eq!(results.len(), by.len());
    for (result, &operand) in results.iter().zip(by) {
        close(&slopes[operand], result, tolerance, &format!("{grad:?} by operand {operand}"));
    }
}

fn erf(x: f64) -> f64 {
    // Taylor's series: these tests stay near 0.
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn curve(slope: Slope, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match slope {
        Slope::Relu => x.max(0.0),
        Slope::Gelu => x * (1.0 + erf(x / 2f64.sqrt())) / 2.0,
        Slope::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * (1.0 + inner.tanh()) / 2.0
        }
        Slope::Silu => x * sigmoid,
        Slope::Sigmoid => sigmoid,
        Slope::Tanh => x.tanh(),
    }
}

const SLOPES: [Slope; 6] =
    [Slope::Relu, Slope::Gelu, Slope::GeluTanh, Slope::Silu, Slope::Sigmoid, Slope::Tanh];

/// Means and sums over the last `n` elements at a time.
fn normalised(x: &[f64], n: usize, centre: bool, epsilon: f64) -> Vec<f64> {
    let row = |x: &[f64]| {
        let mean = if centre { x.iter().sum::<f64>() / n as f64 } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        x.iter().map(|x| (x - mean) / (variance + epsilon).sqrt()).collect::<Vec<_>>()
    };
    x.chunks(n).flat_map(row).collect()
}

fn softmax(x: &Array, axis: usize, log: bool) -> Vec<f64> {
    let of = |index: &[usize]| {
        let total: f64 = (0..x.dims[axis])
            .map(|i| {
                let mut other = index.to_vec();
                other[axis] = i;
                x.at(&other).exp()
            })
            .sum();
        if log { x.at(index) - total.ln() } else { x.at(index).exp() / total }
    };
    indices(&x.dims).iter().map(|index| of(index)).collect()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn slopes(
        shape in prop::collection::vec(1usize..6, 0..4),
        dtype in float(),
        slope in prop::sample::select(&SLOPES[..]),
        seed: u64,
    ) {
        // Relu has no derivative at 0.
        let x = tensor(DType::Fp64, &shape, seed);
        let x: Vec<f64> = numbers(&x).iter().map(|x| if x.abs() < 1e-3 { 0.5 } else { *x }).collect();
        let x = of(dtype, &shape, &x, seed % 2 == 0);
        let y: Vec<f64> = numbers(&x).iter().map(|&x| curve(slope, x)).collect();
        let y = of(dtype, &shape, &y, false);
        let dy = tensor(dtype, &shape, !seed);
        let z = if matches!(slope, Slope::Relu | Slope::Sigmoid | Slope::Tanh) { &y } else { &x };
        compare(&Grad::Slope(slope), &[&dy, z], &dy, &[&x], &[0], |x| {
            x[0].iter().map(|&x| curve(slope, x)).collect()
        });
    }

    #[test]
    fn softmaxes(
        shape in prop::collection::vec(1usize..5, 1..4),
        axis in 0usize..3,
        from_end: bool,
        log: bool,
        dtype in float(),
        seed: u64,
    ) {
        let axis = axis % shape.len();
        let x = tensor(dtype, &shape, seed);
        let y = of(dtype, &shape, &softmax(&Array::of(&x), axis, log), false);
        let dy = tensor(dtype, &shape, !seed);
        let told = if from_end { axis as i64 - shape.len() as i64 } else { axis as i64 };
        let grad = if log { Grad::LogSoftmax { axis: told } } else { Grad::Softmax { axis: told } };
        compare(&grad, &[&dy, &y], &dy, &[&x], &[0], |x| {
            softmax(&Array { dims: shape.clone(), data: x[0].clone() }, axis, log)
        });
    }

    #[test]
    fn norms(
        lead in prop::collection::vec(1usize..5, 0..3),
        last in prop::collection::vec(2usize..6, 1..3),
        (bias, centre) in any::<(bool, bool)>(),
        dtype in float(),
        seed: u64,
    ) {
        let shape = [&lead[..], &last].concat();
        let n: usize = last.iter().product();
        let axis = -(last.len() as i64);
        let epsilon = 1e-2;
        let x = tensor(dtype, &shape, seed);
        let scale = tensor(dtype, &last, seed.wrapping_add(2));
        let shift = tensor(dtype, &last, seed.wrapping_add(4));
        let dy = tensor(dtype, &shape, !seed);
        let forward = |x: &[Vec<f64>]| {
            let h = normalised(&x[0], n, centre, epsilon);
            let shift = x.get(2).filter(|_| bias);
            h.iter().enumerate()
                .map(|(i, h)| h * x[1][i % n] + shift.map_or(0.0, |shift| shift[i % n]))
                .collect::<Vec<f64>>()
        };
        let operands = [&x, &scale, &shift];
        let inputs = [&dy, &x, &scale];
        if centre {
            let grad = Grad::LayerNorm { axis, epsilon, bias };
            let by: &[usize] = if bias { &[0, 1, 2] } else { &[0, 1] };
            compare(&grad, &inputs, &dy, &operands, by, forward);
        } else {
            let grad = Grad::RmsNorm { axis, epsilon };
            let forward = |x: &[Vec<f64>]| forward(&x[..2]);
            compare(&grad, &inputs, &dy, &operands[..2], &[0, 1], forward);
        }
    }

    #[test]
    fn batch_norm(
        (n, c) in (1usize..4, 1usize..4),
        spatial in prop::collection::vec(2usize..4, 1..3),
        dtype in float(),
        seed: u64,
    ) {
        let shape = [&[n, c], &spatial[..]].concat();
        let plane: usize = spatial.iter().product();
        let epsilon = 1e-2;
        let x = tensor(dtype, &shape, seed);
        let [scale, shift] = [2, 4].map(|more| tensor(dtype, &[c], seed.wrapping_add(more)));
        let dy = tensor(dtype, &shape, !seed);
        let grad = Grad::BatchNorm { epsilon };
        compare(&grad, &[&dy, &x, &scale], &dy, &[&x, &scale, &shift], &[0, 1, 2], |x| {
            let of = |i: usize| i / plane % c;
            let mut y = x[0].clone();
            for channel in 0..c {
                let mine: Vec<usize> = (0..y.len()).filter(|&i| of(i) == channel).collect();
                let values: Vec<f64> = mine.iter().map(|&i| x[0][i]).collect();
                let h = normalised(&values, values.len(), true, epsilon);
                for (&i, h) in mine.iter().zip(h) {
                    y[i] = h * x[1][channel] + x[2][channel];
                }
            }
            y
        });
    }

    #[test]
    fn gathers(
        before in prop::collection::vec(1usize..4, 0..2),
        size in 1usize..6,
        after in prop::collection::vec(1usize..4, 0..2),
        picks in prop::collection::vec(1usize..4, 0..3),
        wide: bool,
        dtype in float(),
        seed: u64,
    ) {
        let shape = [&before[..], &[size], &after].concat();
        let axis = before.len();
        let count: usize = picks.iter().product();
        let index = |i: usize| ((seed >> (i % 50)) % (2 * size as u64)) as f64 - size as f64;
        let index: Vec<f64> = (0..count).map(index).collect();
        let x = tensor(dtype, &shape, seed);
        let dy = tensor(dtype, &[&before[..], &picks, &after].concat(), !seed);
        let indices_of = of(if wide { DType::Int64 } else { DType::Int32 }, &picks, &index, false);
        let inner: usize = after.iter().product();
        let grad = Grad::Gather { axis: axis as i64, shape: shape.clone() };
        compare(&grad, &[&dy, &indices_of], &dy, &[&x], &[0], |x| {
            let block = |block: &[f64]| index.iter().flat_map(|&i| {
                let i = if i < 0.0 { i + size as f64 } else { i } as usize;
                block[i * inner..(i + 1) * inner].to_vec()
            }).collect::<Vec<_>>();
            x[0].chunks(size * inner).flat_map(block).collect()
        });
    }

    #[test]
    fn sums_to(
        shapes in crate::values::broadcastable::<2>(),
        dtype in float(),
        seed: u64,
    ) {
        let [small, other] = shapes;
        let large = crate::values::spread(&[&small, &other]);
        let dy = tensor(dtype, &large, seed);
        let wanted = Array::of(&dy);
        let mut sums = vec![0.0; small.iter().product()];
        for index in indices(&large) {
            let own: Vec<usize> = index[large.len() - small.len()..].iter().zip(&small)
                .map(|(&i, &dim)| if dim == 1 { 0 } else { i }).collect();
            let place = own.iter().zip(&small).fold(0, |at, (i, dim)| at * dim + i);
            sums[place] += wanted.at(&index);
        }
        close(&sums, &run(&Grad::SumTo { shape: small }, &[&dy])[0], 1e-5, "sum to");
    }

    #[test]
    fn linears(
        lead in prop::collection::vec(0usize..4, 0..3),
        (inner, out) in (1usize..20, 1usize..20),
        (input, bias) in any::<(bool, bool)>(),
        dtype in float(),
        seed: u64,
    ) {
        let x = tensor(dtype, &[&lead[..], &[inner]].concat(), seed);
        let weight = tensor(dtype, &[out, inner], seed.wrapping_add(2));
        let shift = tensor(dtype, &[out], seed.wrapping_add(4));
        let dy = tensor(dtype, &[&lead[..], &[out]].concat(), !seed);
        let by: Vec<usize> =
            [input.then_some(0), Some(1), bias.then_some(2)].into_iter().flatten().collect();
        let grad = Grad::Linear { input, bias };
        compare(&grad, &[&dy, &x, &weight], &dy, &[&x, &weight, &shift], &by, |v| {
            let one = |x: &[f64], o: usize| {
                let row = &v[1][o * inner..(o + 1) * inner];
                x.iter().zip(row).map(|(x, w)| x * w).sum::<f64>() + v[2][o]
            };
            v[0].chunks(inner).flat_map(|x| (0..out).map(move |o| one(x, o))).collect()
        });
    }

    #[test]
    fn convolutions(
        (n, groups, depth, height) in (1usize..3, 1usize..3, 1usize..3, 1usize..3),
        spatial in prop::collection::vec((1usize..6, 1usize..4, 1usize..3, 0usize..2, 0usize..2, 1usize..3), 1..3),
        (input, bias) in any::<(bool, bool)>(),
        dtype in float(),
        seed: u64,
    ) {
        let window = Sliding::new(&spatial);
        let (c, m) = (groups * depth, groups * height);
        let sizes: Vec<usize> = spatial.iter().map(|s| s.0).collect();
        let kernel: Vec<usize> = spatial.iter().map(|s| s.1).collect();
        let Some(outputs) = window.outputs(&sizes, &kernel) else { return Ok(()) };
        let x = tensor(dtype, &[&[n, c], &sizes[..]].concat(), seed);
        let weight = tensor(dtype, &[&[m, depth], &kernel[..]].concat(), seed.wrapping_add(2));
        let shift = tensor(dtype, &[m], seed.wrapping_add(4));
        let dy = tensor(dtype, &[&[n, m], &outputs[..]].concat(), !seed);
        let by: Vec<usize> =
            [input.then_some(0), Some(1), bias.then_some(2)].into_iter().flatten().collect();
        let grad = Grad::Conv { window: window.0.clone(), groups, input, bias };
        compare(&grad, &[&dy, &x, &weight], &dy, &[&x, &weight, &shift], &by, |v| {
            let x = Array { dims: [&[n, c], &sizes[..]].concat(), data: v[0].clone() };
            let w = Array { dims: [&[m, depth], &kernel[..]].concat(), data: v[1].clone() };
            indices(&[&[n, m], &outputs[..]].concat()).iter().map(|at| {
                let mut sum = v[2][at[1]];
                for tap in indices(&[&[depth], &kernel[..]].concat()) {
                    if let Some(place) = window.place(&at[2..], &tap[1..], &sizes) {
                        let channel = at[1] / height * depth + tap[0];
                        let from = [&[at[0], channel], &place[..]].concat();
                        sum += x.at(&from) * w.at(&[&[at[1]], &tap[..]].concat());
                    }
                }
                sum
            }).collect()
        });
    }

    #[test]
    fn pools(
        (n, c) in (1usize..3, 1usize..3),
        spatial in prop::collection::vec((1usize..6, 1usize..4, 1usize..3, 0usize..2, 0usize..2, 1usize..3), 1..3),
        (max, count_include_pad) in any::<(bool, bool)>(),
        dtype in float(),
        seed: u64,
    ) {
        let window = Sliding::new(&spatial);
        let sizes: Vec<usize> = spatial.iter().map(|s| s.0).collect();
        let kernel: Vec<usize> = spatial.iter().map(|s| s.1).collect();
        let Some(outputs) = window.outputs(&sizes, &kernel) else { return Ok(()) };
        let x = tensor(dtype, &[&[n, c], &sizes[..]].concat(), seed);
        let dy = tensor(dtype, &[&[n, c], &outputs[..]].concat(), !seed);
        let sliding = window.0.clone();
        let grad = match max {
            true => Grad::MaxPool { kernel: kernel.clone(), window: sliding },
            false => Grad::AveragePool { kernel: kernel.clone(), window: sliding, count_include_pad },
        };
        check(&grad, &dy, &[&x], &[0], |v| {
            let x = Array { dims: [&[n, c], &sizes[..]].concat(), data: v[0].clone() };
            indices(&[&[n, c], &outputs[..]].concat()).iter().map(|at| {
                let taps = indices(&kernel);
                let inside: Vec<f64> = taps.iter()
                    .filter_map(|tap| window.place(&at[2..], tap, &sizes))
                    .map(|place| x.at(&[&at[..2], &place].concat()))
                    .collect();
                match max {
                    true if inside.is_empty() => 0.0,
                    true => inside.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    false if count_include_pad => inside.iter().sum::<f64>() / taps.len() as f64,
                    false => inside.iter().sum::<f64>() / inside.len().max(1) as f64,
                }
            }).collect()
        });
    }
}

/// Windows by the definition: size, kernel, stride, pads before and after, dilation of each dimension.
struct Sliding(Window);

impl Sliding {
    fn new(spatial: &[(usize, usize, usize, usize, usize, usize)]) -> Sliding {
        let pads = spatial.iter().map(|s| s.3).chain(spatial.iter().map(|s| s.4)).collect();
        Sliding(Window {
            strides: spatial.iter().map(|s| s.2).collect(),
            pads,
            dilations: spatial.iter().map(|s| s.5).collect(),
            ceil: false,
        })
    }

    fn outputs(&self, sizes: &[usize], kernel: &[usize]) -> Option<Vec<usize>> {
        let rank = sizes.len();
        (0..rank)
            .map(|i| {
                let padded = sizes[i] + self.0.pads[i] + self.0.pads[rank + i];
                let reach = (kernel[i] - 1) * self.0.dilations[i] + 1;
                padded.checked_sub(reach).map(|room| room / self.0.strides[i] + 1)
            })
            .collect()
    }

    fn place(&self, window: &[usize], tap: &[usize], sizes: &[usize]) -> Option<Vec<usize>> {
        (0..sizes.len())
            .map(|i| {
                let at = window[i] * self.0.strides[i] + tap[i] * self.0.dilations[i];
                at.checked_sub(self.0.pads[i]).filter(|&at| at < sizes[i])
            })
            .collect()
    }
}

#[test]
fn a_last_window_may_go_beyond_the_end() {
    // PyTorch: avg_pool1d(x, 2, stride 2, ceil_mode) of 3 elements; the last window holds one.
    let window = Window { strides: vec![2], ceil: true, ..Window::default() };
    let (x, dy) =
        (tensor(DType::Fp64, &[1, 1, 3], 1), of(DType::Fp64, &[1, 1, 2], &[1.0, 1.0], false));
    let average = |count_include_pad| Grad::AveragePool {
        kernel: vec![2],
        window: window.clone(),
        count_include_pad,
    };
    for counted in [false, true] {
        close(&[0.5, 0.5, 1.0], &run(&average(counted), &[&dy, &x])[0], 0.0, "ceil");
    }
}

#[test]
fn dropout_keeps_what_it_should() {
    let x = of(DType::Fp32, &[100_000], &vec![1.0; 100_000], false);
    let dropped = |rate, seed| numbers(&run(&Grad::Dropout { rate, seed }, &[&x])[0]);
    let some = dropped(0.25, 7);
    let zeros = some.iter().filter(|&&x| x == 0.0).count();
    assert!((24_000..26_000).contains(&zeros), "{zeros}");
    assert!(some.iter().all(|&x| x == 0.0 || x == f64::from(1f32 / 0.75)));
    assert_eq!(some, dropped(0.25, 7));
    assert_ne!(some, dropped(0.25, 8));
    assert!(dropped(0.0, 7).iter().all(|&x| x == 1.0));
}

#[test]
fn what_does_not_fit_is_refused() {
    let f = |dims: &[usize]| tensor(DType::Fp32, dims, 1);
    let index = of(DType::Int64, &[1], &[0.0], false);
    let window = Window::default;
    let cases: Vec<(Grad, Vec<Tensor>, &str)> = vec![
        (Grad::Slope(Slope::Relu), vec![f(&[2]), f(&[3])], "dy must be [3], got [2]"),
        (Grad::Slope(Slope::Relu), vec![f(&[2])], "takes 2 operands, got 1"),
        (Grad::Softmax { axis: 1 }, vec![f(&[2]), f(&[2])], "axis 1"),
        (
            Grad::LayerNorm { axis: -1, epsilon: 0.0, bias: false },
            vec![f(&[2, 3]), f(&[2, 3]), f(&[2])],
            "scale must be [3], got [2]",
        ),
        (Grad::RmsNorm { axis: -1, epsilon: f64::NAN }, vec![f(&[2]), f(&[2]), f(&[2])], "epsilon"),
        (Grad::BatchNorm { epsilon: 0.0 }, vec![f(&[2]), f(&[2]), f(&[2])], "x must be [n,c,..]"),
        (
            Grad::Gather { axis: 0, shape: vec![usize::MAX, usize::MAX] },
            vec![f(&[1]), index.clone()],
            "cannot exist",
        ),
        (Grad::Gather { axis: 0, shape: vec![3, 2] }, vec![f(&[1]), index], "dy must be [1,2]"),
        (Grad::SumTo { shape: vec![3] }, vec![f(&[2])], "do not broadcast"),
        (Grad::SumTo { shape: vec![3] }, vec![f(&[1])], "must be [1], got [3]"),
        (
            Grad::Linear { input: true, bias: true },
            vec![f(&[2, 3]), f(&[2, 4]), f(&[5, 4])],
            "dy must be [2,5]",
        ),
        (
            Grad::Conv { window: window(), groups: 0, input: true, bias: true },
            vec![f(&[1, 1, 1]), f(&[1, 1, 1]), f(&[1, 1, 1])],
            "dy must be [n,m,o..]",
        ),
        (
            Grad::MaxPool { kernel: vec![9], window: window() },
            vec![f(&[1, 1, 1]), f(&[1, 1, 1])],
            "has no windows",
        ),
        (
            Grad::MaxPool { kernel: vec![1], window: Window { strides: vec![0], ..window() } },
            vec![f(&[1, 1, 1]), f(&[1, 1, 1])],
            "strides must be",
        ),
        (
            Grad::MaxPool {
                kernel: vec![usize::MAX],
                window: Window { dilations: vec![usize::MAX], ..window() },
            },
            vec![f(&[1, 1, 1]), f(&[1, 1, 1])],
            "has no windows",
        ),
        (Grad::Dropout { rate: 1.0, seed: 0 }, vec![f(&[1])], "the rate must be"),
        (Grad::Dropout { rate: f64::NAN, seed: 0 }, vec![f(&[1])], "the rate must be"),
    ];
    for (grad, inputs, text) in cases {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let error = Cpu::new().run(&Op::Grad(grad.clone()), &inputs, &Run::new()).unwrap_err();
        assert!(
            matches!(&error, OpError::InvalidArgument(got) if got.contains(text)),
            "{grad:?}: {error}"
        );
    }
    let whole = of(DType::Int32, &[2], &[1.0, 2.0], false);
    let relu = Op::Grad(Grad::Slope(Slope::Relu));
    let error = Cpu::new().run(&relu, &[&whole, &whole], &Run::new()).unwrap_err();
    assert!(matches!(error, OpError::Unsupported(_)), "{error}");
}

#[test]
fn indices_out_of_range_are_errors() {
    let dy = tensor(DType::Fp32, &[1, 2], 1);
    for index in [3.0, -4.0, 1e18, -1e18] {
        let indices = of(DType::Int64, &[1], &[index], false);
        let op = Op::Grad(Grad::Gather { axis: 0, shape: vec![3, 2] });
        let error = Cpu::new().run(&op, &[&dy, &indices], &Run::new()).unwrap_err();
        assert!(error.to_string().contains("out of range"), "{error}");
    }
}

/// How the operands of attention lie: heads before the rows, after them, or all three in one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    First,
    Last,
    Packed,
}

/// Sizes of an attention: batches, heads, heads of keys, queries, keys, elements of a key and of a value.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    b: usize,
    h: usize,
    kv: usize,
    s: usize,
    t: usize,
    d: usize,
    e: usize,
}

impl Sizes {
    fn operands(self, lie: Lie) -> Vec<Vec<usize>> {
        let Sizes { b, h, kv, s, t, d, e } = self;
        match lie {
            Lie::First => vec![vec![b, h, s, d], vec![b, kv, t, d], vec![b, kv, t, e]],
            Lie::Last => vec![vec![b, s, h * d], vec![b, t, kv * d], vec![b, t, kv * e]],
            Lie::Packed => vec![vec![b, s, (h + 2 * kv) * d]],
        }
    }

    fn result(self, lie: Lie) -> Vec<usize> {
        let Sizes { b, h, s, e, .. } = self;
        if lie == Lie::First { vec![b, h, s, e] } else { vec![b, s, h * e] }
    }

    /// Where a row of `of` (q, k, v, y) begins.
    fn at(self, lie: Lie, of: usize, batch: usize, head: usize, row: usize) -> usize {
        let Sizes { h, kv, s, t, d, e, .. } = self;
        let (heads, rows, width) = [(h, s, d), (kv, t, d), (kv, t, e), (h, s, e)][of];
        match lie {
            Lie::First => ((batch * heads + head) * rows + row) * width,
            Lie::Packed if of < 3 => {
                let before = [0, h, h + kv][of];
                (batch * s + row) * (h + 2 * kv) * d + (before + head) * d
            }
            _ => (batch * rows + row) * heads * width + head * width,
        }
    }
}

/// Attention by its formula; the mask is `[s, t]`.
fn attended(
    sizes: Sizes,
    lie: Lie,
    causal: bool,
    mask: Option<&[f64]>,
    values: &[Vec<f64>],
) -> Vec<f64> {
    let Sizes { b, h, kv, s, t, d, e } = sizes;
    let of = |index: usize| &values[index.min(values.len() - 1)];
    let scale = 1.0 / (d as f64).sqrt();
    let mut y = vec![0.0; b * h * s * e];
    for index in 0..b * h * s {
        let (batch, head, query) = (index / (h * s), index / s % h, index % s);
        let shared = head / (h / kv);
        let seen = if causal { (t + query + 1).saturating_sub(s).min(t) } else { t };
        let q = &of(0)[sizes.at(lie, 0, batch, head, query)..][..d];
        let score = |key: usize| {
            let k = &of(1)[sizes.at(lie, 1, batch, shared, key)..][..d];
            let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
            dot * scale + mask.map_or(0.0, |mask| mask[query * t + key])
        };
        let scores: Vec<f64> = (0..seen).map(score).collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        for (key, score) in scores.iter().enumerate().filter(|_| sum > 0.0) {
            let v = &of(2)[sizes.at(lie, 2, batch, shared, key)..][..e];
            let y = &mut y[sizes.at(lie, 3, batch, head, query)..][..e];
            y.iter_mut().zip(v).for_each(|(y, v)| *y += score.exp() / sum * v);
        }
    }
    y
}

fn attention(sizes: Sizes, lie: Lie, causal: bool, mask: bool) -> Grad {
    Grad::Attention(Attention {
        heads: sizes.h,
        kv_heads: sizes.kv,
        scale: None,
        causal,
        mask,
        packed: lie == Lie::Packed,
        heads_first: lie == Lie::First,
    })
}

#[test]
fn attention_goes_back_as_its_formula_says() {
    // More queries than keys, so that some see nothing; one key; rows beyond one block; shared keys.
    let sizes = [
        (Sizes { b: 1, h: 1, kv: 1, s: 1, t: 1, d: 1, e: 1 }, Lie::First),
        (Sizes { b: 2, h: 2, kv: 2, s: 3, t: 4, d: 2, e: 3 }, Lie::First),
        (Sizes { b: 1, h: 2, kv: 1, s: 5, t: 3, d: 4, e: 1 }, Lie::Last),
        (Sizes { b: 1, h: 1, kv: 1, s: 70, t: 9, d: 1, e: 2 }, Lie::Last),
        (Sizes { b: 2, h: 4, kv: 2, s: 5, t: 5, d: 2, e: 2 }, Lie::Packed),
        (Sizes { b: 3, h: 2, kv: 2, s: 6, t: 6, d: 3, e: 3 }, Lie::Packed),
    ];
    for (index, (sizes, lie)) in sizes.into_iter().enumerate() {
        let Sizes { s, t, .. } = sizes;
        for (dtype, causal, masked) in [
            (DType::Fp64, false, false),
            (DType::Fp64, true, true),
            (DType::Fp32, true, false),
            (DType::Fp32, false, true),
        ] {
            let seed = index as u64 * 10 + u64::from(causal);
            let of_shape = |(i, shape): (usize, &Vec<usize>)| tensor(dtype, shape, seed + i as u64);
            let shapes = sizes.operands(lie);
            let operands: Vec<Tensor> = shapes.iter().enumerate().map(of_shape).collect();
            let dy = tensor(dtype, &sizes.result(lie), seed + 7);
            let mut added = numbers(&tensor(dtype, &[s, t], seed + 8));
            // A query that a mask shows nothing.
            added[..t].fill(f64::NEG_INFINITY);
            let mask = of(dtype, &[1, 1, s, t], &added, false);
            let operands: Vec<&Tensor> = operands.iter().collect();
            let mut inputs = [&[&dy], &operands[..]].concat();
            inputs.extend(masked.then_some(&mask));
            let grad = attention(sizes, lie, causal, masked);
            let added = masked.then_some(&added[..]);
            let by: Vec<usize> = (0..operands.len()).collect();
            compare(&grad, &inputs, &dy, &operands, &by, |values| {
                attended(sizes, lie, causal, added, values)
            });
        }
    }
}

#[test]
fn long_ones_are_the_same_on_threads() {
    let of = |dims: &[usize], seed| tensor(DType::Fp32, dims, seed);
    let rows = [of(&[3000, 24], 1), of(&[3000, 24], 2), of(&[24], 3)];
    let layer = Grad::LayerNorm { axis: -1, epsilon: 1e-5, bias: true };
    same_on_threads(&Op::Grad(layer), &[&rows[0], &rows[1], &rows[2]]);
    same_on_threads(&Op::Grad(Grad::Softmax { axis: 1 }), &[&rows[0], &rows[1]]);
    same_on_threads(&Op::Grad(Grad::Slope(Slope::GeluTanh)), &[&rows[0], &rows[1]]);
    same_on_threads(&Op::Grad(Grad::Dropout { rate: 0.5, seed: 7 }), &[&rows[0]]);
    same_on_threads(&Op::Grad(Grad::SumTo { shape: vec![24] }), &[&rows[0]]);
    let linear = Grad::Linear { input: true, bias: true };
    same_on_threads(&Op::Grad(linear), &[&rows[0], &of(&[3000, 40], 4), &of(&[24, 40], 5)]);
    for b in [1, 6] {
        let sizes = Sizes { b, h: 2, kv: 1, s: 130, t: 130, d: 8, e: 8 };
        let grad = Op::Grad(attention(sizes, Lie::Packed, true, false));
        same_on_threads(&grad, &[&of(&[b, 130, 16], 6), &of(&[b, 130, 32], 7)]);
    }
}

#[test]
fn sums_over_many_rows_are_those_of_each() {
    let dims = [5001, 7];
    let x = tensor(DType::Fp32, &dims, 11);
    let got = run(&Grad::SumTo { shape: vec![7] }, &[&x]);
    let all = numbers(&x);
    let wanted: Vec<f64> = (0..7).map(|j| all.iter().skip(j).step_by(7).sum()).collect();
    close(&wanted, &got[0], 1e-6, "sum over rows");
}
