//! Operands to test with.

use innkeeper_kernels::{Activation, Op};
use innkeeper_tensor::{Buffer, DType, RANK_MAX, Shape, Tensor, bf16, f16};
use proptest::prelude::*;

/// Every dtype but BOOL and BYTES.
pub(crate) const NUMERIC: [DType; 12] = [
    DType::Uint8,
    DType::Uint16,
    DType::Uint32,
    DType::Uint64,
    DType::Int8,
    DType::Int16,
    DType::Int32,
    DType::Int64,
    DType::Fp16,
    DType::Bf16,
    DType::Fp32,
    DType::Fp64,
];

pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

pub(crate) fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(&NUMERIC[..])
}

/// FP32 or FP64.
pub(crate) fn float() -> impl Strategy<Value = DType> {
    prop::sample::select(&[DType::Fp32, DType::Fp64][..])
}

/// Every dtype but BYTES.
pub(crate) fn fixed() -> impl Strategy<Value = DType> {
    prop_oneof![1 => Just(DType::Bool), 12 => dtype()]
}

/// Sizes of dimensions, mostly small, now and then 0 or long enough to fill vectors.
pub(crate) fn dims(rank: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![1 => Just(0usize), 4 => Just(1), 16 => 2usize..5, 3 => 15usize..40];
    prop::collection::vec(size, rank)
        .prop_filter("small", |dims| dims.iter().map(|&dim| dim.max(1)).product::<usize>() < 20_000)
}

/// Shapes that broadcast with each other.
pub(crate) fn broadcastable<const N: usize>() -> impl Strategy<Value = [Vec<usize>; N]> {
    let masks = prop::array::uniform::<_, N>((any::<u8>(), 0usize..5, any::<bool>()));
    (dims(0..=4), masks).prop_map(|(dims, masks)| {
        masks.map(|(ones, dropped, whole)| {
            if whole {
                return dims.clone();
            }
            let dropped = dropped.min(dims.len());
            let ones = |(i, &dim)| if ones >> i & 1 == 1 { 1 } else { dim };
            dims.iter().enumerate().map(ones).skip(dropped).collect()
        })
    })
}

/// The shape that these broadcast to.
pub(crate) fn spread(shapes: &[&[usize]]) -> Vec<usize> {
    let rank = shapes.iter().map(|dims| dims.len()).max().unwrap();
    (0..rank)
        .map(|i| {
            let sizes = shapes
                .iter()
                .filter_map(|dims| (i + dims.len()).checked_sub(rank).map(|i| dims[i]));
            sizes.fold(1, |a, b| if a == 1 { b } else { a })
        })
        .collect()
}

/// A tensor of numbers that `seed` decides: integers of at most three digits (wrapped around for narrow dtypes), floats
/// between -4 and 4. Odd seeds give bytes that lie unaligned.
pub(crate) fn tensor(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let elements: usize = dims.iter().product();
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    };
    let numbers: Vec<f64> = (0..elements)
        .map(|_| match dtype.is_float() {
            true => next() as f64 / 2f64.powi(29) - 4.0,
            // Wrapped around, these would be too large to multiply in FP64.
            false if matches!(dtype, DType::Uint32 | DType::Uint64) => (next() % 300) as f64,
            false => (next() % 600) as f64 - 300.0,
        })
        .collect();
    of(dtype, dims, &numbers, seed % 2 == 1)
}

/// A tensor of these numbers, its bytes lying aligned or not.
pub(crate) fn of(dtype: DType, dims: &[usize], numbers: &[f64], unaligned: bool) -> Tensor {
    let mut bytes = vec![0u8; usize::from(unaligned)];
    for &number in numbers {
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
    let data = if unaligned {
        let len = bytes.len();
        Buffer::aligned_copy(&bytes).slice(1..len).unwrap()
    } else {
        Buffer::aligned_copy(&bytes)
    };
    assert!(dims.len() <= RANK_MAX);
    Tensor::new(dtype, Shape::new(dims).unwrap(), data).unwrap()
}

/// FP32, aligned.
pub(crate) fn fp32(dims: &[usize], numbers: &[f32]) -> Tensor {
    Tensor::from_vec(dims, numbers.to_vec()).unwrap()
}

/// A linear layer with nothing after its sum.
pub(crate) fn linear(bias: bool) -> Op {
    Op::Linear { bias, residual: false, activation: Activation::None }
}

pub(crate) fn any_activation() -> impl Strategy<Value = Activation> {
    use Activation::*;
    prop::sample::select(
        &[
            None,
            Relu,
            Gelu,
            GeluTanh,
            Silu,
            Sigmoid,
            Tanh,
            HardSwish,
            LeakyRelu(0.1),
            Clip { min: -1.0, max: 6.0 },
        ][..],
    )
}
