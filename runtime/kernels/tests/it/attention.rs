//! Attention and rotary embedding against their formulas.

use innkeeper_kernels::{Attention, Backend, Cpu, Op, OpError, Rope, Run};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, check_all_everywhere};
use crate::values::{cases, of, tensor};

const FLOATS: [DType; 4] = [DType::Fp32, DType::Fp64, DType::Fp16, DType::Bf16];

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::Fp64 => 1e-12,
        DType::Fp32 => 2e-5,
        DType::Fp16 => 4e-3,
        _ => 3e-2,
    }
}

/// Sizes: batch, heads, queries, keys, depth, width, and heads that share a key.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    b: usize,
    h: usize,
    s: usize,
    t: usize,
    d: usize,
    e: usize,
    shared: usize,
}

/// What a mask adds at an index.
type Added<'a> = &'a dyn Fn(&[usize]) -> f64;

/// The formula, for operands whose heads come first.
fn attended(
    sizes: Sizes,
    scale: f64,
    causal: bool,
    [q, k, v]: [&Array; 3],
    mask: Option<Added<'_>>,
) -> Array {
    let Sizes { b, h, s, t, d, e, shared } = sizes;
    let mut wanted = Array { dims: vec![b, h, s, e], data: vec![] };
    for batch in 0..b {
        for head in 0..h {
            for query in 0..s {
                let scores: Vec<f64> = (0..t)
                    .map(|key| {
                        let dot: f64 = (0..d)
                            .map(|i| {
                                q.at(&[batch, head, query, i])
                                    * k.at(&[batch, head / shared, key, i])
                            })
                            .sum();
                        let hidden = causal && key + s > query + t;
                        let added = mask.map_or(0.0, |mask| mask(&[batch, head, query, key]));
                        if hidden { f64::NEG_INFINITY } else { dot * scale + added }
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores
                    .iter()
                    .map(|score| if largest.is_finite() { (score - largest).exp() } else { 0.0 })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..e {
                    let value: f64 = (0..t)
                        .map(|key| weights[key] * v.at(&[batch, head / shared, key, i]))
                        .sum();
                    wanted.data.push(if sum == 0.0 { 0.0 } else { value / sum });
                }
            }
        }
    }
    wanted
}

/// `[b, h, s, d]` as `[b, s, h * d]`.
fn heads_last(x: &Array) -> Array {
    let &[b, h, s, d] = &x.dims[..] else { panic!("{:?}", x.dims) };
    let data =
        (0..b * s * h * d).map(|i| x.at(&[i / (s * h * d), i / d % h, i / (h * d) % s, i % d]));
    Array { dims: vec![b, s, h * d], data: data.collect() }
}

fn put(dtype: DType, array: &Array, unaligned: bool) -> Tensor {
    of(dtype, &array.dims, &array.data, unaligned)
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0usize), 8 => 1usize..6, 6 => 6usize..40]
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn attends(
        (b, kv, shared) in (0usize..3, 1usize..3, 1usize..3),
        (s, t) in (size(), size()),
        (d, e) in (prop::sample::select(&[0usize, 1, 4, 8, 13, 16, 32][..]), prop::sample::select(&[1usize, 3, 8, 25, 32][..])),
        causal in any::<bool>(),
        mask in 0usize..5,
        layout in 0usize..3,
        scale in prop::option::of(0.1f64..2.0),
        dtype in prop::sample::select(&FLOATS[..]),
        seed in any::<u64>(),
    ) {
        let h = kv * shared;
        // Packed operands have as many keys as queries, which are as long as values.
        let (t, e) = if layout == 2 { (s, d.max(1)) } else { (t, e) };
        let d = if layout == 2 { d.max(1) } else { d };
        let sizes = Sizes { b, h, s, t, d, e, shared };
        let small = |array: Array| Array {
            dims: array.dims, data: array.data.iter().map(|x| x / 4.0).collect()
        };
        // Rounded to the dtype, so that oracle and kernel see the same.
        let rounded = |dims: &[usize], seed| {
            Array::of(&put(dtype, &small(Array::of(&tensor(DType::Fp64, dims, seed))), false))
        };
        let q = rounded(&[b, h, s, d], seed);
        let k = rounded(&[b, kv, t, d], seed ^ 0x55);
        let v = rounded(&[b, kv, t, e], seed ^ 0xaa);
        let masks: [&[usize]; 5] = [&[], &[b, 1, 1, t], &[s, t], &[b, h, s, t], &[b, 1, s, t]];
        let additive = mask % 2 == 0;
        let of_mask = tensor(DType::Fp64, masks[mask], seed ^ 0x77);
        let of_mask = Array::of(&of_mask);
        let of_mask = if additive {
            Array::of(&put(dtype, &of_mask, false))
        } else {
            let keep = of_mask.data.iter().map(|&x| f64::from(x > -2.0)).collect();
            Array { dims: of_mask.dims, data: keep }
        };
        let added = |index: &[usize]| {
            let x = of_mask.spread(index);
            if additive { x } else if x != 0.0 { 0.0 } else { f64::NEG_INFINITY }
        };
        let has_mask = mask > 0;
        let wanted = attended(
            sizes,
            scale.unwrap_or(1.0 / (d.max(1) as f64).sqrt()),
            causal,
            [&q, &k, &v],
            has_mask.then_some(&added as Added<'_>),
        );
        let of_kind = if additive { dtype } else { DType::Bool };
        let mask = put(of_kind, &of_mask, false);
        let odd = seed % 2 == 1;
        let (packed, heads_first) = (layout == 2, layout == 1);
        let (operands, wanted): (Vec<Tensor>, Array) = match layout {
            1 => ([&q, &k, &v].map(|x| put(dtype, x, odd)).into(), wanted),
            0 => ([&q, &k, &v].map(|x| put(dtype, &heads_last(x), odd)).into(), heads_last(&wanted)),
            _ => {
                let [q, k, v] = [&q, &k, &v].map(heads_last);
                let mut data = Vec::new();
                for row in 0..b * s {
                    for x in [&q, &k, &v] {
                        let len = x.dims[2];
                        data.extend(&x.data[row * len..][..len]);
                    }
                }
                let dims = vec![b, s, (h + 2 * kv) * d];
                (vec![put(dtype, &Array { dims, data }, odd)], heads_last(&wanted))
            }
        };
        let mut inputs: Vec<&Tensor> = operands.iter().collect();
        if has_mask {
            inputs.push(&mask);
        }
        let op = Op::Attention(Attention {
            heads: h, kv_heads: kv, scale, causal, mask: has_mask, packed, heads_first,
        });
        check_all_everywhere(&op, &inputs, dtype, &[wanted], tolerance(dtype));
    }

    #[test]
    fn turns(
        (b, s, h, half) in (0usize..3, 0usize..6, 1usize..4, 1usize..9),
        rest in 0usize..5,
        interleaved in any::<bool>(),
        heads_first in any::<bool>(),
        tables in 0usize..3,
        dtype in prop::sample::select(&FLOATS[..]),
        seed in any::<u64>(),
    ) {
        let d = 2 * half + rest;
        let dims = if heads_first { vec![b, h, s, d] } else { vec![b, s, h * d] };
        let x = tensor(dtype, &dims, seed);
        let table = match tables {
            0 => vec![s, half],
            1 => vec![b, s, half],
            _ => vec![9, half],
        };
        let (cos, sin) = (tensor(dtype, &table, seed ^ 3), tensor(dtype, &table, seed ^ 9));
        let positions: Vec<i64> = (0..b * s).map(|i| (i as i64 * 5 + 2) % 9).collect();
        let of_positions = Tensor::from_vec(&[b, s], positions.clone()).unwrap();
        let (from, of_cos, of_sin) = (Array::of(&x), Array::of(&cos), Array::of(&sin));
        let wanted = Array::from_fn(&dims, |index| {
            let (batch, row, at) = if heads_first {
                (index[0], index[2], index[3])
            } else {
                (index[0], index[1], index[2] % d)
            };
            if at >= 2 * half {
                return from.at(index);
            }
            let (pair, second) = if interleaved { (at / 2, at % 2 == 1) } else { (at % half, at >= half) };
            let step = if interleaved { 1 } else { half };
            let mut other = index.to_vec();
            let last = other.len() - 1;
            other[last] = if second { index[last] - step } else { index[last] + step };
            let of = |table: &Array| match tables {
                0 => table.at(&[row, pair]),
                1 => table.at(&[batch, row, pair]),
                _ => table.at(&[positions[batch * s + row] as usize, pair]),
            };
            let (own, other) = (from.at(index), from.at(&other));
            if second { other * of(&of_sin) + own * of(&of_cos) } else { own * of(&of_cos) - other * of(&of_sin) }
        });
        let rope = Rope { heads: h, dims: 2 * half, interleaved, positions: tables == 2 };
        let mut inputs = vec![&x, &cos, &sin];
        if tables == 2 {
            inputs.push(&of_positions);
        }
        check_all_everywhere(&Op::Rope(rope), &inputs, dtype, &[wanted], tolerance(dtype));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let fp32 = |dims: &[usize]| tensor(DType::Fp32, dims, 0);
    let plain = Attention {
        heads: 2,
        kv_heads: 2,
        scale: None,
        causal: false,
        mask: false,
        packed: false,
        heads_first: false,
    };
    let (q, odd, mask) = (fp32(&[1, 3, 8]), fp32(&[1, 3, 7]), fp32(&[2, 2, 3, 3]));
    let positions = Tensor::from_vec(&[1, 3], vec![0i64, 1, 9]).unwrap();
    let rope = Rope { heads: 2, dims: 0, interleaved: false, positions: true };
    let table = fp32(&[3, 2]);
    let cases: [(Op, &[&Tensor], &str); 9] = [
        (Op::Attention(plain), &[&q, &q], "takes 3 operands"),
        (Op::Attention(plain), &[&q, &q, &odd], "operands must be q"),
        (Op::Attention(Attention { kv_heads: 0, ..plain }), &[&q, &q, &q], "kv_heads must divide"),
        (Op::Attention(Attention { heads: 3, ..plain }), &[&q, &q, &q], "kv_heads must divide"),
        (Op::Attention(Attention { mask: true, ..plain }), &[&q, &q, &q, &mask], "broadcast"),
        (Op::Attention(Attention { packed: true, ..plain }), &[&q], "one operand must be"),
        (
            Op::Attention(Attention { packed: true, heads_first: true, ..plain }),
            &[&q],
            "cannot have their heads first",
        ),
        (Op::Rope(rope), &[&q, &table, &table, &positions], "position 9"),
        (Op::Rope(Rope { dims: 3, ..rope }), &[&q, &table, &table, &positions], "in pairs"),
    ];
    for (op, inputs, text) in cases {
        match Cpu::new().run(&op, inputs, &Run::new()) {
            Err(OpError::InvalidArgument(error)) => assert!(error.contains(text), "{error}"),
            other => panic!("{op:?}: {other:?}"),
        }
    }
}
