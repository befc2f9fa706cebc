//! Every operation that can be differentiated, in FP64, on random shapes.

use innkeeper_sdk::layers::{Activation, Conv, Pool, Window};
use innkeeper_sdk::train::{Parameter, Random, Reduction, Var};
use innkeeper_sdk::{DType, Result, Tensor};

const STEP: f64 = 1e-5;
const ROUNDS: u64 = 6;

/// What an operand may hold.
#[derive(Clone, Copy)]
enum Of {
    Any,
    /// Above 0, for logarithms and divisors.
    Positive,
    /// Away from 0, where relu and its like have a corner.
    Apart,
}

fn tensor(shape: &[usize], of: Of, random: &mut Random) -> Tensor {
    let element = |x: f64| match of {
        Of::Any => 4.0 * x - 2.0,
        Of::Positive => 0.5 + x,
        Of::Apart => (0.1 + x).copysign(if x * 1000.0 % 2.0 < 1.0 { -1.0 } else { 1.0 }),
    };
    let count = shape.iter().product();
    let elements: Vec<f64> = (0..count).map(|_| element(random.uniform())).collect();
    Tensor::from_slice(shape, &elements).unwrap()
}

/// The derivative of sum(weights f(operands)), the weights random, must be that of finite differences.
fn check(name: &str, operands: &[Tensor], seed: u64, f: &dyn Fn(&[Var]) -> Result<Var>) {
    let parameters: Vec<Parameter> =
        operands.iter().map(|operand| Parameter::new(operand.share().unwrap())).collect();
    let weights = std::cell::OnceCell::new();
    let value = || -> Var {
        let vars: Vec<Var> = parameters.iter().map(Parameter::var).collect();
        let y = f(&vars).unwrap_or_else(|error| panic!("{name}: {error}"));
        let weights = weights.get_or_init(|| tensor(y.shape(), Of::Any, &mut Random::new(!seed)));
        y.mul(&weights.share().unwrap().into()).unwrap().sum(&[], false).unwrap()
    };
    let gradients = value().backward().unwrap_or_else(|error| panic!("{name}: {error}"));
    for (index, (parameter, operand)) in parameters.iter().zip(operands).enumerate() {
        let shape = operand.shape();
        let elements = operand.to_vec::<f64>().unwrap();
        let gradient =
            gradients.get(parameter).unwrap_or_else(|| panic!("{name}: no gradient {index}"));
        assert_eq!(gradient.shape(), shape, "{name}: operand {index}");
        let gradient = gradient.to_vec::<f64>().unwrap();
        for place in 0..elements.len() {
            let at = |step: f64| {
                let mut moved = elements.clone();
                moved[place] += step;
                parameter.set(Tensor::from_slice(&shape, &moved).unwrap());
                value().item().unwrap()
            };
            let wanted = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let got = gradient[place];
            assert!(
                (wanted - got).abs() <= 2e-6 * wanted.abs().max(1.0),
                "{name}: element {place} of operand {index} {shape:?} is {got}, not {wanted}"
            );
        }
        parameter.set(operand.share().unwrap());
    }
}

fn shape(random: &mut Random, rank: usize) -> Vec<usize> {
    (0..rank).map(|_| 1 + random.below(4)).collect()
}

fn each_round(mut round: impl FnMut(u64, &mut Random)) {
    for seed in 0..ROUNDS {
        round(seed, &mut Random::new(seed));
    }
}

type One = fn(&Var) -> Result<Var>;
type Two = fn(&Var, &Var) -> Result<Var>;

#[test]
fn functions_of_one_number() {
    let cases: [(&str, Of, One); 15] = [
        ("neg", Of::Any, Var::neg),
        ("abs", Of::Apart, Var::abs),
        ("exp", Of::Any, Var::exp),
        ("ln", Of::Positive, Var::ln),
        ("sqrt", Of::Positive, Var::sqrt),
        ("tanh", Of::Any, Var::tanh),
        ("sigmoid", Of::Any, Var::sigmoid),
        ("relu", Of::Apart, Var::relu),
        ("gelu", Of::Any, Var::gelu),
        ("gelu-tanh", Of::Any, Var::gelu_tanh),
        ("silu", Of::Any, Var::silu),
        ("add-scalar", Of::Any, |x| x.add_scalar(1.5)),
        ("mul-scalar", Of::Any, |x| x.mul_scalar(-2.5)),
        ("dropout", Of::Any, |x| x.dropout(0.4, 9)),
        ("square", Of::Any, |x| x.mul(x)),
    ];
    for (name, of, f) in cases {
        each_round(|seed, random| {
            let shape = shape(random, seed as usize % 4);
            check(name, &[tensor(&shape, of, random)], seed, &|v| f(&v[0]));
        });
    }
}

#[test]
fn functions_of_two_numbers() {
    let cases: [(&str, Of, Two); 7] = [
        ("add", Of::Any, Var::add),
        ("sub", Of::Any, Var::sub),
        ("mul", Of::Any, Var::mul),
        ("div", Of::Positive, Var::div),
        ("pow", Of::Positive, Var::pow),
        ("maximum", Of::Any, Var::maximum),
        ("minimum", Of::Any, Var::minimum),
    ];
    let shapes: [[&[usize]; 2]; 6] = [
        [&[2, 3], &[2, 3]],
        [&[2, 3], &[3]],
        [&[2, 1], &[1, 3]],
        [&[], &[2, 2]],
        [&[4], &[]],
        [&[2, 1, 3], &[4, 1]],
    ];
    for (name, of, f) in cases {
        for (seed, [a, b]) in shapes.into_iter().enumerate() {
            let random = &mut Random::new(seed as u64);
            let operands = [tensor(a, of, random), tensor(b, of, random)];
            check(name, &operands, seed as u64, &|v| f(&v[0], &v[1]));
        }
    }
    each_round(|seed, random| {
        let condition = Tensor::from_bools(&[3], &[true, false, seed % 2 == 0]).unwrap();
        let operands = [tensor(&[2, 3], Of::Any, random), tensor(&[3], Of::Any, random)];
        check("select", &operands, seed, &|v| v[0].select(&condition, &v[1]));
    });
}

#[test]
fn equal_elements_share_a_derivative() {
    let x = Parameter::new(Tensor::from_slice(&[3], &[2f64, 2.0, 1.0]).unwrap());
    let largest = x.var().max(&[], false).unwrap().backward().unwrap();
    assert_eq!(largest.get(&x).unwrap().to_vec::<f64>().unwrap(), [0.5, 0.5, 0.0]);
    let both = x.var().maximum(&x.var()).unwrap().sum(&[], false).unwrap().backward().unwrap();
    assert_eq!(both.get(&x).unwrap().to_vec::<f64>().unwrap(), [1.0; 3]);
}

#[test]
fn reductions() {
    type Reduce = fn(&Var, &[i32], bool) -> Result<Var>;
    let cases: [(&str, Reduce); 4] =
        [("sum", Var::sum), ("mean", Var::mean), ("max", Var::max), ("min", Var::min)];
    let over: [&[i32]; 5] = [&[], &[0], &[-1], &[1, 2], &[0, -1]];
    for (name, f) in cases {
        for (seed, axes) in over.into_iter().enumerate() {
            let random = &mut Random::new(seed as u64);
            let x = [tensor(&[2, 3, 2], Of::Any, random)];
            for keep in [false, true] {
                check(name, &x, seed as u64, &|v| f(&v[0], axes, keep));
            }
        }
    }
}

#[test]
fn shapes() {
    each_round(|seed, random| {
        let x = [tensor(&[2, 3, 4], Of::Any, random)];
        check("reshape", &x, seed, &|v| v[0].reshape(&[4, -1]));
        check("transpose", &x, seed, &|v| v[0].transpose(&[2, 0, 1]));
        check("swap-axes", &x, seed, &|v| v[0].swap_axes(0, -1));
        let (axis, start) = (random.below(3) as i32 - 3, random.below(4) as i64 - 2);
        check("slice", &x, seed, &|v| v[0].slice(axis, start, 99));
        check("slice", &x, seed, &|v| v[0].slice(axis, -99, start));
        let more = [tensor(&[2, 1, 4], Of::Any, random), tensor(&[2, 2, 4], Of::Any, random)];
        for axis in [1, -2] {
            check("concat", &more, seed, &|v| Var::concat(&[&v[0], &v[1], &v[0]], axis));
        }
        let picks: Vec<i64> = (0..5).map(|_| random.below(6) as i64 - 3).collect();
        let picks = Tensor::from_slice(&[5, 1], &picks).unwrap();
        check("gather", &x, seed, &|v| v[0].gather(&picks, 1));
    });
}

#[test]
fn products() {
    let shapes: [[&[usize]; 2]; 5] = [
        [&[2, 3], &[3, 4]],
        [&[2, 1, 3], &[3, 2]],
        [&[2, 3], &[2, 3, 1]],
        [&[2, 1, 2, 3], &[3, 3, 2]],
        [&[1, 1], &[1, 1]],
    ];
    for (seed, [a, b]) in shapes.into_iter().enumerate() {
        let random = &mut Random::new(seed as u64);
        let operands = [tensor(a, Of::Any, random), tensor(b, Of::Any, random)];
        check("matmul", &operands, seed as u64, &|v| v[0].matmul(&v[1]));
    }
    each_round(|seed, random| {
        let [lead, inner, out] = [1 + random.below(3), 1 + random.below(4), 1 + random.below(4)];
        let operands = [
            tensor(&[lead, 2, inner], Of::Any, random),
            tensor(&[out, inner], Of::Any, random),
            tensor(&[out], Of::Any, random),
        ];
        check("linear", &operands, seed, &|v| v[0].linear(&v[1], Some(&v[2])));
        check("linear without bias", &operands[..2], seed, &|v| v[0].linear(&v[1], None));
        let x = operands[0].share().unwrap();
        check("linear of data", &operands[1..], seed, &|v| {
            Var::constant(x.share()?).linear(&v[0], Some(&v[1]))
        });
    });
}

#[test]
fn normalisations() {
    each_round(|seed, random| {
        let n = 2 + random.below(4);
        let x = tensor(&[3, 2, n], Of::Any, random);
        let [scale, bias] = [0; 2].map(|_| tensor(&[n], Of::Any, random));
        let operands = [x, scale, bias];
        check("layer-norm", &operands, seed, &|v| v[0].layer_norm(&v[1], &v[2], -1, 1e-3));
        check("rms-norm", &operands[..2], seed, &|v| v[0].rms_norm(&v[1], 2, 1e-3));
        for axis in [0, 1, -1] {
            check("softmax", &operands[..1], seed, &|v| v[0].softmax(axis));
            check("log-softmax", &operands[..1], seed, &|v| v[0].log_softmax(axis));
        }
        let channels = [
            tensor(&[2, 3, n], Of::Any, random),
            tensor(&[3], Of::Any, random),
            tensor(&[3], Of::Any, random),
        ];
        check("batch-norm", &channels, seed, &|v| v[0].batch_norm(&v[1], &v[2], 1e-3));
        let heads: [Tensor; 3] = [0; 3].map(|_| tensor(&[2, 2, 3, n], Of::Any, random));
        let mask = Tensor::from_slice(&[3, 3], &[0f64, -9.0, -9.0, 0.0, 0.0, -9.0, 0.0, 0.0, 0.0]);
        let mask = mask.unwrap();
        check("attention", &heads, seed, &|v| v[0].attention(&v[1], &v[2], Some(&mask), 0.7));
    });
}

#[test]
fn attention_of_any_shape() {
    each_round(|seed, random| {
        // Another length on the other side, no mask, and heads that share one of keys and values.
        let heads = 1 + random.below(3);
        for (kv, mask) in [(heads, false), (heads, true), (1, false)] {
            let operands = [
                tensor(&[2, heads, 3, 2], Of::Any, random),
                tensor(&[2, kv, 4, 2], Of::Any, random),
                tensor(&[2, kv, 4, 3], Of::Any, random),
            ];
            let mask = mask.then(|| tensor(&[2, 1, 3, 4], Of::Any, random));
            check("attention", &operands, seed, &|v| {
                v[0].attention(&v[1], &v[2], mask.as_ref(), 0.5)
            });
        }
    });
}

#[test]
fn convolutions() {
    each_round(|seed, random| {
        let (stride, pad, dilation) = (1 + random.below(2), random.below(2), 1 + random.below(2));
        for groups in [1, 2] {
            let window = Window {
                strides: vec![stride, 1],
                pads: vec![pad, 0, pad, 1],
                dilations: vec![dilation, 1],
            };
            let conv = Conv { window, groups, ..Conv::default() };
            let operands = [
                tensor(&[2, 4, 6, 5], Of::Any, random),
                tensor(&[2, 4 / groups, 3, 2], Of::Any, random),
                tensor(&[2], Of::Any, random),
            ];
            check("conv", &operands, seed, &|v| v[0].conv(&v[1], Some(&v[2]), &conv));
            check("conv without bias", &operands[..2], seed, &|v| v[0].conv(&v[1], None, &conv));
            let x = operands[0].share().unwrap();
            check("conv of data", &operands[1..], seed, &|v| {
                Var::constant(x.share()?).conv(&v[0], Some(&v[1]), &conv)
            });
        }
        let line = [tensor(&[1, 2, 7], Of::Any, random), tensor(&[3, 2, 2], Of::Any, random)];
        check("conv of a line", &line, seed, &|v| v[0].conv(&v[1], None, &Conv::default()));
    });
    let x = Var::constant(Tensor::full(DType::Fp32, &[1, 1, 2, 2], 1.0).unwrap());
    let relu = Conv { activation: Activation::Relu, ..Conv::default() };
    let error = x.conv(&x, None, &relu).err().unwrap().to_string();
    assert!(error.contains("activation"), "{error}");
}

#[test]
fn pools() {
    each_round(|seed, random| {
        let x = [tensor(&[2, 2, 5, 4], Of::Any, random)];
        let (stride, ceil) = (1 + random.below(2), seed % 2 == 0);
        let window = Window { strides: vec![stride; 2], pads: vec![1; 4], ..Window::default() };
        let all = Pool::default();
        for pool in [Pool { kernel: vec![2, 3], window, ceil }, all] {
            check("max-pool", &x, seed, &|v| v[0].max_pool(&pool));
            for count in [false, true] {
                check("average-pool", &x, seed, &|v| v[0].average_pool(&pool, count));
            }
        }
    });
}

#[test]
fn losses() {
    each_round(|seed, random| {
        let x = [tensor(&[3, 4], Of::Any, random)];
        let target = tensor(&[3, 4], Of::Any, random);
        check("mse", &x, seed, &|v| v[0].mean_squared_error(&target));
        check("squared errors", &x, seed, &|v| v[0].squared_error_sum(&target)?.mul_scalar(0.1));
        let chances = target.sigmoid().unwrap();
        check("binary", &x, seed, &|v| v[0].binary_cross_entropy(&chances));
        let labels = Tensor::from_slice(&[3], &[0i32, -1, random.below(4) as i32]).unwrap();
        for (smoothing, reduction) in [(0.0, Reduction::Mean), (0.2, Reduction::Sum)] {
            check("cross-entropy", &x, seed, &|v| {
                v[0].cross_entropy_with(&labels, Some(-1), smoothing, reduction)
            });
        }
        // A loss that is not the end.
        check("loss and more", &x, seed, &|v| {
            v[0].mean_squared_error(&target)?
                .mul_scalar(3.0)?
                .add(&v[0].mul(&v[0])?.sum(&[], false)?)
        });
    });
}
