//! Layers as PyTorch computes them (`tests/golden/make.py`).

use innkeeper_kernels::{
    Activation, Attention, Conv, ConvTranspose, Norm, Op, PoolKind, Pooling, Unary, Window,
};
use innkeeper_tensor::{DType, Tensor};

use crate::oracle::{Array, check_all_everywhere};

const LAYERS: &str = include_str!("../golden/layers.txt");

fn window(strides: &[usize], pads: &[usize], dilations: &[usize], ceil: bool) -> Window {
    Window { strides: strides.into(), pads: pads.into(), dilations: dilations.into(), ceil }
}

fn conv(window: Window, groups: usize, bias: bool, residual: bool, activation: Activation) -> Op {
    Op::Conv(Conv { window, groups, bias, residual, activation })
}

fn pool(kind: PoolKind, kernel: &[usize], window: Window) -> Op {
    Op::Pool(Pooling { kind, kernel: kernel.into(), window })
}

fn attention(heads: usize, kv_heads: usize, causal: bool, mask: bool) -> Op {
    let (scale, packed, heads_first) = (None, false, true);
    Op::Attention(Attention { heads, kv_heads, scale, causal, mask, packed, heads_first })
}

fn layer(name: &str) -> Op {
    let epsilon = 1e-5;
    let plain = window(&[], &[], &[], false);
    let average = |count_include_pad| PoolKind::Average { count_include_pad };
    match name {
        "conv" => {
            let window = window(&[2, 1], &[1, 2, 1, 2], &[1, 2], false);
            conv(window, 1, true, false, Activation::Relu)
        }
        "conv-grouped" => conv(window(&[], &[1; 4], &[], false), 2, false, false, Activation::None),
        "conv-depthwise" => {
            let clip = Activation::Clip { min: 0.0, max: 6.0 };
            conv(window(&[2, 2], &[1; 4], &[], false), 4, true, false, clip)
        }
        "conv-1d" => conv(window(&[3], &[2, 2], &[], false), 1, false, false, Activation::None),
        "conv-residual" => conv(plain, 1, true, true, Activation::Relu),
        "conv-transpose" => Op::ConvTranspose(ConvTranspose {
            window: window(&[2, 2], &[1; 4], &[], false),
            output_pads: vec![1, 1],
            groups: 2,
            bias: true,
        }),
        "max-pool-ceil" => {
            let window = window(&[2, 2], &[1; 4], &[], true);
            pool(PoolKind::Max { indices: false }, &[3, 3], window)
        }
        "average-pool-ceil" => pool(average(true), &[3, 3], window(&[2, 2], &[1; 4], &[], true)),
        "average-pool-inside" => {
            pool(average(false), &[3, 2], window(&[2, 2], &[1; 4], &[], false))
        }
        "layer-norm" => {
            let (bias, residual, keep_sum) = (true, false, false);
            Op::Norm(Norm::Layer { axis: -1, epsilon, bias, residual, keep_sum })
        }
        "rms-norm" => {
            let (epsilon, residual, keep_sum) = (1e-6, false, false);
            Op::Norm(Norm::Rms { axis: 1, epsilon, residual, keep_sum })
        }
        "group-norm" => Op::Norm(Norm::Group { groups: 2, epsilon }),
        "instance-norm" => Op::Norm(Norm::Instance { epsilon }),
        "batch-norm" => Op::Norm(Norm::Batch { epsilon }),
        "attention" => attention(2, 2, false, false),
        "attention-causal" => attention(2, 2, true, false),
        "attention-grouped" => attention(4, 2, false, true),
        "gelu" => Op::Unary(Unary::Gelu),
        "gelu-tanh" => Op::Unary(Unary::GeluTanh),
        "softmax" => Op::Softmax { axis: -1 },
        "log-softmax" => Op::LogSoftmax { axis: -1 },
        other => panic!("no layer is called {other}"),
    }
}

fn array(line: &str) -> (&str, Array) {
    let mut words = line.split(' ');
    let (name, dims) = (words.next().unwrap(), words.next().unwrap());
    let dims = dims.split(',').map(|dim| dim.parse().unwrap()).collect();
    (name, Array { dims, data: words.map(|word| word.parse().unwrap()).collect() })
}

#[test]
fn layers_agree_with_pytorch() {
    let cases: Vec<&str> = LAYERS.split("case ").skip(1).collect();
    assert_eq!(cases.len(), 21);
    for case in cases {
        let mut lines = case.lines();
        let op = layer(lines.next().unwrap());
        let mut arrays: Vec<(&str, Array)> = lines.map(array).collect();
        let (name, wanted) = arrays.pop().unwrap();
        assert_eq!(name, "out");
        let put = |array: &Array| {
            Tensor::from_vec(&array.dims, array.data.iter().map(|&x| x as f32).collect()).unwrap()
        };
        let operands: Vec<Tensor> = arrays.iter().map(|(_, array)| put(array)).collect();
        let inputs: Vec<&Tensor> = operands.iter().collect();
        check_all_everywhere(&op, &inputs, DType::Fp32, &[wanted], 1e-5);
    }
}
