//! Calls of operations, on small tensors that are always the same.
//!
//! The integration test has this file too and calls everything natively: what a guest gets must be that.

use innkeeper_sdk::layers::{Activation, Attention, Conv, Pool, Window};
use innkeeper_sdk::{
    Coordinates, DType, DepthOrder, Key, Nearest, Padding, Result, Sample, Scatter, Tensor,
};

/// A call, by its name.
pub type Call = (&'static str, fn() -> Result<Vec<Tensor>>);

const KEY: Key = Key { seed: 5, stream: 2 };

/// FP32 numbers between -1 and 1.
fn x(shape: &[usize]) -> Result<Tensor> {
    let count = shape.iter().product::<usize>();
    let elements: Vec<f32> = (0..count).map(|i| ((i * 37 % 64) as f32 - 31.5) / 32.0).collect();
    Tensor::from_slice(shape, &elements)
}

fn numbers(elements: &[i64]) -> Result<Tensor> {
    Tensor::from_slice(&[elements.len()], elements)
}

fn one(result: Result<Tensor>) -> Result<Vec<Tensor>> {
    Ok(vec![result?])
}

fn two(result: Result<(Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    let (a, b) = result?;
    Ok(vec![a, b])
}

fn padded(groups: usize) -> Conv {
    let window = Window { strides: vec![2, 1], pads: vec![1; 4], ..Window::default() };
    Conv { window, groups, activation: Activation::Relu }
}

fn pool() -> Pool {
    let window = Window { strides: vec![2; 2], pads: vec![1, 0, 0, 1], ..Window::default() };
    Pool { kernel: vec![2, 3], window, ceil: true }
}

/// Every call that must succeed.
pub const CALLS: &[Call] = &[
    // Layers.
    ("linear", || {
        let (y, bias) = (x(&[3, 4])?, x(&[5])?);
        one(y.linear_with(&x(&[5, 4])?, Some(&bias), Some(&x(&[3, 5])?), Activation::Gelu))
    }),
    ("linear clipped", || {
        let clip = Activation::Clip { min: -0.25, max: 0.5 };
        one(x(&[3, 4])?.linear_with(&x(&[5, 4])?, None, None, clip))
    }),
    ("layer-norm", || one(x(&[3, 8])?.layer_norm(&x(&[8])?, Some(&x(&[8])?), -1, 1e-5))),
    ("add-layer-norm", || two(x(&[3, 8])?.add_layer_norm(&x(&[3, 8])?, &x(&[8])?, None, -1, 1e-5))),
    ("rms-norm", || one(x(&[3, 8])?.rms_norm(&x(&[8])?, 1, 1e-5))),
    ("add-rms-norm", || two(x(&[3, 8])?.add_rms_norm(&x(&[3, 8])?, &x(&[8])?, 1, 1e-5))),
    ("batch-norm", || {
        let [a, b, mean] = [x(&[3])?, x(&[3])?, x(&[3])?];
        one(x(&[2, 3, 4])?.batch_norm(&a, &b, &mean, &mean.abs()?, 1e-3))
    }),
    ("group-norm", || one(x(&[2, 4, 3])?.group_norm(&x(&[4])?, &x(&[4])?, 2, 1e-3))),
    ("lp-norm", || one(x(&[3, 4])?.lp_norm(-1, 2))),
    ("conv", || {
        let weight = x(&[6, 2, 3, 2])?;
        one(x(&[2, 4, 6, 5])?.conv(&weight, Some(&x(&[6])?), None, &padded(2)))
    }),
    ("conv-transpose", || {
        let at = Window { strides: vec![2], ..Window::default() };
        one(x(&[1, 2, 4])?.conv_transpose(&x(&[2, 3, 3])?, None, &at, &[1], 1))
    }),
    ("max-pool", || one(x(&[1, 2, 5, 5])?.max_pool(&pool()))),
    ("max-pool-indices", || two(x(&[1, 2, 5, 5])?.max_pool_indices(&pool()))),
    ("average-pool", || one(x(&[1, 2, 5, 5])?.average_pool(&pool(), false))),
    ("lp-pool", || one(x(&[1, 2, 5, 5])?.lp_pool(&pool(), 2))),
    ("attention", || {
        let heads = Attention { kv_heads: 1, causal: true, ..Attention::new(2) };
        one(x(&[2, 3, 8])?.attention(&x(&[2, 5, 4])?, &x(&[2, 5, 6])?, None, &heads))
    }),
    ("attention-packed", || {
        let mask = Tensor::from_bools(&[2, 1, 1, 3], &[true, true, false, true, true, true])?;
        one(x(&[2, 3, 24])?.attention_packed(Some(&mask), &Attention::new(2)))
    }),
    ("rope", || {
        let positions = Tensor::from_slice(&[1, 2], &[3i64, 0])?;
        let (cos, sin) = (x(&[4, 2])?.cos()?, x(&[4, 2])?.sin()?);
        one(x(&[1, 2, 8])?.rope([&cos, &sin], Some(&positions), 2, 4, false))
    }),
    // Arrays.
    ("eye", || one(Tensor::eye(DType::Int16, 3, 4, 1))),
    ("strided-slice", || one(x(&[4, 5])?.strided_slice(&[1, 0], &[-1, 0], &[-6, 4], &[-2, 3]))),
    ("split", || x(&[5, 2])?.split(0, &[1, 4])),
    ("pad", || one(x(&[3, 2])?.pad(Padding::Reflect, &[2, 0], &[1, -1]))),
    ("pad with a number", || one(x(&[2])?.pad(Padding::Constant(7.0), &[1], &[2]))),
    ("pad with edges", || one(x(&[2])?.pad(Padding::Edge, &[1], &[2]))),
    ("pad around", || one(x(&[3])?.pad(Padding::Wrap, &[1], &[2]))),
    ("expand", || one(x(&[3, 1])?.expand(&[2, 1, 2]))),
    ("tile", || one(x(&[1, 2])?.tile(&[2, 3]))),
    ("triangle", || one(x(&[3, 3])?.triangle(true, 1))),
    ("gather-elements", || {
        one(x(&[2, 3])?.gather_elements(&Tensor::from_slice(&[1, 2], &[1i32, -1])?, 0))
    }),
    ("gather-nd", || one(x(&[2, 3, 2])?.gather_nd(&numbers(&[1, -1])?, 0))),
    ("scatter-elements", || {
        let at = Tensor::from_slice(&[1, 2], &[2i64, 2])?;
        one(x(&[1, 4])?.scatter_elements(&at, &x(&[1, 2])?, 1, Scatter::Add))
    }),
    ("scatter-nd", || {
        let at = Tensor::from_slice(&[2, 1], &[0i64, 2])?;
        one(x(&[3])?.scatter_nd(&at, &x(&[2])?, Scatter::Max))
    }),
    ("one-hot", || one(numbers(&[2, -1, 0])?.one_hot(&x(&[2])?, -1, 3))),
    ("non-zero", || one(x(&[3, 3])?.triangle(false, 0)?.non_zero())),
    ("compress", || {
        let kept = Tensor::from_bools(&[3], &[true, false, true])?;
        Ok(vec![x(&[2, 3])?.compress(&kept, Some(-1))?, x(&[2, 3])?.compress(&kept, None)?])
    }),
    ("unique", || {
        let unique = numbers(&[4, -1, 4, 9, -1])?.unique(false)?;
        Ok(vec![unique.values, unique.first, unique.which, unique.count])
    }),
    ("reverse-sequence", || one(x(&[2, 4])?.reverse_sequence(&numbers(&[3, 1])?, 0, 1))),
    ("depth-to-space", || one(x(&[1, 8, 1, 2])?.depth_to_space(2, DepthOrder::ColumnRowDepth))),
    ("space-to-depth", || one(x(&[1, 2, 2, 4])?.space_to_depth(2))),
    ("resize", || {
        let image = x(&[1, 1, 3, 4])?;
        let nearest = Sample::Nearest(Nearest::Floor);
        Ok(vec![
            image.resize(&[1, 1, 5, 2], Sample::Linear, Coordinates::HalfPixel, true)?,
            image.resize(&[1, 1, 6, 4], Sample::Cubic(-0.75), Coordinates::AlignCorners, false)?,
            image.resize(&[1, 1, 6, 8], nearest, Coordinates::Asymmetric, false)?,
        ])
    }),
    ("constant", || {
        let weight = x(&[5, 4])?.constant()?;
        let first = x(&[3, 4])?.linear(&weight, None)?;
        Ok(vec![first, x(&[3, 4])?.linear(&weight.constant()?, None)?])
    }),
    ("orders", || {
        let (values, indices) = x(&[7])?.top_k(3, 0, false)?;
        Ok(vec![values, indices, x(&[7])?.argmin(0, true)?, x(&[7])?.cumsum(0, true, true)?])
    }),
    ("reductions", || {
        let x = x(&[3, 4])?;
        let positive = x.greater(&x.zeros_like()?)?;
        Ok(vec![
            x.product(&[0], false)?,
            x.logsumexp(&[-1], true)?,
            x.norm(3.0, &[], false)?,
            x.variance(&[1], false, 1)?,
            x.standard_deviation(&[0], true, 0)?,
            positive.any(&[0], false)?,
            positive.all(&[], false)?,
        ])
    }),
    // Numbers of few bits.
    ("dynamic-quantise", || {
        let (quantised, scale, zero_point) = x(&[9])?.dynamic_quantise()?;
        Ok(vec![quantised, scale, zero_point])
    }),
    ("quantise", || {
        let (scale, zero) = (x(&[3])?.abs()?, Tensor::full(DType::Int8, &[3], 4.0)?);
        let quantised = x(&[2, 3])?.quantise(&scale, Some(&zero), DType::Int8, 1)?;
        let back = quantised.dequantise(&scale, Some(&zero), -1)?;
        Ok(vec![quantised, back])
    }),
    ("matmul-integer", || {
        let scale = Tensor::from_slice(&[], &[1f32 / 64.0])?;
        let quantised = |shape: &[usize]| x(shape)?.quantise(&scale, None, DType::Int8, 0);
        let zero = Tensor::full(DType::Int8, &[1], 3.0)?;
        one(quantised(&[3, 4])?.matmul_integer(&quantised(&[4, 2])?, Some(&zero), None))
    }),
    ("linear8", || {
        let (weight, scales) = x(&[5, 8])?.weight8()?;
        let (kept, bias) = (weight.constant()?, x(&[5])?);
        let y = x(&[3, 8])?.linear8(&kept, &scales, Some(&bias), None, Activation::Silu)?;
        Ok(vec![weight, scales, y])
    }),
    ("linear4", || {
        let (weight, scales) = x(&[4, 64])?.weight4(32)?;
        let (both, residual) = ([&weight, &scales], x(&[3, 4])?);
        let y = x(&[3, 64])?.linear4(both, 32, None, Some(&residual), Activation::None)?;
        Ok(vec![weight, scales, y])
    }),
    // Random numbers.
    ("uniform", || one(Tensor::random_uniform(DType::Fp32, &[2, 3], -1.0, 2.0, KEY))),
    ("normal", || one(Tensor::random_normal(DType::Fp64, &[5], 1.0, 2.0, KEY))),
    ("integers", || one(Tensor::random_integers(DType::Uint8, &[9], 3, 200, KEY))),
    ("permutation", || one(Tensor::random_permutation(12, KEY))),
    ("bernoulli", || one(x(&[16])?.abs()?.bernoulli(DType::Bool, KEY))),
    ("multinomial", || one(x(&[2, 4])?.multinomial(6, KEY))),
];

/// Every call that must be refused.
pub const WRONG: &[Call] = &[
    ("linear of integers", || {
        let x = Tensor::full(DType::Int32, &[2, 2], 1.0)?;
        one(x.linear_with(&x, None, None, Activation::Relu))
    }),
    ("linear of two dtypes", || one(x(&[2, 2])?.linear(&x(&[2, 2])?.cast(DType::Fp64)?, None))),
    ("layer-norm along no axis", || one(x(&[2, 2])?.layer_norm(&x(&[2])?, None, -3, 0.0))),
    ("conv in 0 groups", || {
        one(x(&[1, 2, 4])?.conv(
            &x(&[2, 2, 2])?,
            None,
            None,
            &Conv { groups: 0, ..Conv::default() },
        ))
    }),
    ("conv of an absurd window", || {
        let window = Window { dilations: vec![1 << 24; 2], ..Window::default() };
        let conv = Conv { window, ..Conv::default() };
        one(x(&[1, 1, 4, 4])?.conv(&x(&[1, 1, 2, 2])?, None, None, &conv))
    }),
    ("conv with absurd padding", || {
        let window = Window { pads: vec![u32::MAX as usize; 4], ..Window::default() };
        let conv = Conv { window, ..Conv::default() };
        one(x(&[1, 1, 4, 4])?.conv(&x(&[1, 1, 2, 2])?, None, None, &conv))
    }),
    ("pool without spatial dimensions", || one(x(&[2, 2])?.max_pool(&Pool::default()))),
    ("attention of no heads", || one(x(&[1, 2, 4])?.attention_packed(None, &Attention::new(0)))),
    ("rope beyond its table", || {
        let positions = Tensor::from_slice(&[1, 2], &[1i64, 9])?;
        let table = x(&[4, 2])?;
        one(x(&[1, 2, 4])?.rope([&table, &table], Some(&positions), 1, 0, true))
    }),
    ("max of nothing", || one(Tensor::full(DType::Fp32, &[0, 3], 0.0)?.max(&[0], false))),
    ("top-k of more than there is", || two(x(&[3])?.top_k(4, 0, true))),
    ("split into too much", || x(&[4])?.split(0, &[2, 3])),
    ("pad by nearly everything", || one(x(&[2])?.pad(Padding::Edge, &[i64::MAX], &[i64::MAX]))),
    ("tile past all memory", || one(x(&[4])?.tile(&[u32::MAX as usize]))),
    ("expand past all sizes", || one(x(&[1])?.expand(&[u32::MAX as usize; 4]))),
    ("slice by a step of 0", || one(x(&[4])?.strided_slice(&[0], &[0], &[4], &[0]))),
    ("gather beyond the end", || one(x(&[4])?.gather_elements(&numbers(&[4])?, 0))),
    ("scatter of strings", || {
        let texts = Tensor::from_strings(&[1], &["a"])?;
        one(texts.scatter_elements(&numbers(&[0])?, &texts, 0, Scatter::Replace))
    }),
    ("compress by a longer condition", || {
        one(x(&[2])?.compress(&Tensor::from_bools(&[3], &[true; 3])?, Some(0)))
    }),
    ("unique booleans", || one(Ok(Tensor::from_bools(&[1], &[true])?.unique(true)?.values))),
    (
        "depth-to-space by 0",
        || one(x(&[1, 4, 1, 1])?.depth_to_space(0, DepthOrder::DepthColumnRow)),
    ),
    ("resize to more than anything", || {
        let size = u32::MAX as usize;
        one(x(&[1, 4])?.resize(&[1, size], Sample::Linear, Coordinates::HalfPixel, false))
    }),
    ("quantise to floats", || one(x(&[2])?.quantise(&x(&[1])?, None, DType::Fp16, 0))),
    ("linear8 of unquantised weights", || {
        one(x(&[2, 2])?.linear8(&x(&[2, 2])?, &x(&[2])?, None, None, Activation::None))
    }),
    ("weight4 in groups of 7", || two(x(&[2, 14])?.weight4(7))),
    ("uniform between infinities", || {
        one(Tensor::random_uniform(DType::Fp32, &[1], f64::NEG_INFINITY, f64::INFINITY, KEY))
    }),
    ("integers from 2 to 1", || one(Tensor::random_integers(DType::Int8, &[1], 2, 1, KEY))),
    ("a permutation past all memory", || one(Tensor::random_permutation(u32::MAX as usize, KEY))),
];

/// What a call answered: of each result dtype and shape, and all elements one after the other.
pub fn told(results: &[Tensor]) -> Result<(Vec<String>, Vec<f64>)> {
    let (mut kinds, mut elements) = (Vec::new(), Vec::new());
    for result in results {
        kinds.push(format!("{} {:?}", result.dtype(), result.shape()));
        elements.extend(result.cast(DType::Fp64)?.to_vec::<f64>()?);
    }
    Ok((kinds, elements))
}
