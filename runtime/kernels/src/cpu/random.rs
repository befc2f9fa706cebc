//! Seeded random numbers.

use innkeeper_tensor::{DType, Element, Shape, Tensor, bf16, f16};

use crate::cpu::dispatch::{floating, numeric};
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::{From64, Number};
use crate::cpu::pieces::{PIECE, fill_by};
use crate::error::invalid;
use crate::{Draw, OpError, Random, Run};

/// Elements of a piece; even, so that blocks are not cut.
const NUMBERS: usize = PIECE / 4;

/// All results of an operation that was checked.
pub(super) fn random(
    op: &Random,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let name = op.name();
    let source = Source { seed: op.seed, stream: op.stream };
    let Some((dtype, shape)) = results.first().cloned() else {
        return Err(invalid(name, "has no result"));
    };
    let result = match (&op.draw, inputs) {
        (&Draw::Uniform { low, high, .. }, []) => floating!(dtype, T => {
            let span = high - low;
            let out = each(run, shape.elements(), source, |bits| {
                <T as From64>::from_f64(low + fraction(bits, <T as Bits>::BITS) * span)
            })?;
            tensor::<T>(dtype, shape, out)
        }),
        (&Draw::Normal { mean, deviation, .. }, []) => floating!(dtype, T => {
            let out = normal(run, shape.elements(), source, |z| {
                <T as From64>::from_f64(mean + deviation * z)
            })?;
            tensor::<T>(dtype, shape, out)
        }),
        (&Draw::Integers { low, high, .. }, []) => numeric!(dtype, T => {
            let span = high.wrapping_sub(low) as u64;
            let out = each(run, shape.elements(), source, |bits| {
                // Of an unsigned dtype neither is negative, so that the low bits are the number.
                <T as From64>::from_i64(low.wrapping_add(below(bits, span) as i64))
            })?;
            tensor::<T>(dtype, shape, out)
        }),
        (Draw::Bernoulli { .. }, [x]) => bernoulli(dtype, shape, x, source, run),
        (Draw::Permutation { .. }, []) => permutation(shape, source, run),
        (Draw::Multinomial { .. }, [x]) => multinomial(dtype, shape, x, source, run),
        (&Draw::Dropout { ratio }, [x]) => return dropout(x, ratio, source, run),
        _ => Err(invalid(name, "wrong number of operands")),
    }?;
    Ok(vec![result])
}

/// Where the bits come from.
#[derive(Clone, Copy)]
struct Source {
    seed: u64,
    stream: u64,
}

impl Source {
    /// The bits of elements `2 block` and `2 block + 1`.
    fn block(self, block: u64) -> [u64; 2] {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let ([a, b], [c, d]) = (halves(block), halves(self.stream));
        let [w, x, y, z] = philox([a, b, c, d], halves(self.seed));
        [u64::from(w) | u64::from(x) << 32, u64::from(y) | u64::from(z) << 32]
    }

    /// The bits of one element.
    fn at(self, index: usize) -> u64 {
        self.block(index as u64 / 2)[index % 2]
    }
}

/// Philox 4x32-10.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [a, b, c, d] = counter;
        let (first, second) = (u64::from(a) * 0xD251_1F53, u64::from(c) * 0xCD9E_8D57);
        counter = [
            (second >> 32) as u32 ^ b ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ d ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// How many bits of a fraction a float holds.
trait Bits {
    const BITS: u32;
}
impl Bits for f64 {
    const BITS: u32 = 53;
}
impl Bits for f32 {
    const BITS: u32 = 24;
}
impl Bits for f16 {
    const BITS: u32 = 11;
}
impl Bits for bf16 {
    const BITS: u32 = 8;
}

/// The upper bits as a fraction from 0 to 1, excluded.
fn fraction(bits: u64, count: u32) -> f64 {
    (bits >> (64 - count)) as f64 / (1u64 << count) as f64
}

/// A number below `span`, or any for 0, which stands for 2^64.
fn below(bits: u64, span: u64) -> u64 {
    if span == 0 { bits } else { ((u128::from(bits) * u128::from(span)) >> 64) as u64 }
}

fn each<T: Element + Default>(
    run: &Run<'_>,
    len: usize,
    source: Source,
    f: impl Fn(u64) -> T + Sync,
) -> Result<Vec<T>, OpError> {
    fill_by(run, len, NUMBERS, |start, out| {
        for (index, pair) in out.chunks_mut(2).enumerate() {
            let bits = source.block((start / 2 + index) as u64);
            pair.iter_mut().zip(bits).for_each(|(out, bits)| *out = f(bits));
        }
        Ok(())
    })
}

fn normal<T: Element + Default>(
    run: &Run<'_>,
    len: usize,
    source: Source,
    f: impl Fn(f64) -> T + Sync,
) -> Result<Vec<T>, OpError> {
    fill_by(run, len, NUMBERS, |start, out| {
        for (index, pair) in out.chunks_mut(2).enumerate() {
            let [first, second] = source.block((start / 2 + index) as u64);
            // 1 - u is above 0. The functions are those of libm, which are the same on every machine.
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - fraction(first, 53)));
            let (sine, cosine) = libm::sincos(std::f64::consts::TAU * fraction(second, 53));
            let both = [radius * cosine, radius * sine];
            pair.iter_mut().zip(both).for_each(|(out, z)| *out = f(z));
        }
        Ok(())
    })
}

fn bernoulli(
    dtype: DType,
    shape: Shape,
    x: &Tensor,
    source: Source,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let ones = floating!(x.dtype(), S => {
        let from = elements::<S>(x)?;
        fill_by::<u8>(run, from.len(), NUMBERS, |start, out| {
            for (index, (out, p)) in out.iter_mut().zip(&from[start..]).enumerate() {
                *out = u8::from(fraction(source.at(start + index), 53) < p.widen());
            }
            Ok(())
        })
    })?;
    if dtype == DType::Bool {
        return tensor(dtype, shape, ones);
    }
    numeric!(dtype, T => {
        let out = fill_by::<T>(run, ones.len(), NUMBERS, |start, out| {
            let bits = out.iter_mut().zip(&ones[start..]);
            bits.for_each(|(out, &one)| *out = <T as From64>::from_u64(u64::from(one)));
            Ok(())
        })?;
        tensor(dtype, shape, out)
    })
}

fn permutation(shape: Shape, source: Source, run: &Run<'_>) -> Result<Tensor, OpError> {
    let mut numbers = run.room::<i64>(shape.elements())?;
    numbers.extend(0..shape.elements() as i64);
    for last in (1..numbers.len()).rev() {
        if last.is_multiple_of(PIECE) {
            run.check()?;
        }
        numbers.swap(last, below(source.at(last), last as u64 + 1) as usize);
    }
    tensor(DType::Int64, shape, numbers)
}

fn multinomial(
    dtype: DType,
    shape: Shape,
    x: &Tensor,
    source: Source,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let (classes, samples) = (x.shape().dims()[1], shape.dims()[1]);
    let mut out = run.room::<i64>(shape.elements())?;
    floating!(x.dtype(), T => {
        let from = elements::<T>(x)?;
        let mut sums = vec![0f64; classes];
        for (row, logs) in from.chunks_exact(classes).enumerate() {
            run.check()?;
            let largest = logs.iter().map(|x| x.widen()).fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            for (total, log) in sums.iter_mut().zip(logs) {
                sum += libm::exp(log.widen() - largest);
                *total = sum;
            }
            if !sum.is_finite() || sum <= 0.0 {
                let text = format_args!("the weights of row index {row} have no finite sum above 0");
                return Err(invalid("multinomial", text));
            }
            for sample in 0..samples {
                let wanted = fraction(source.at(row * samples + sample), 53) * sum;
                let class = sums.partition_point(|&total| total <= wanted);
                out.push(class.min(classes - 1) as i64);
            }
        }
        Ok(())
    })?;
    if dtype == DType::Int32 {
        return tensor(dtype, shape, out.iter().map(|&class| class as i32).collect());
    }
    tensor(dtype, shape, out)
}

fn dropout(x: &Tensor, ratio: f64, source: Source, run: &Run<'_>) -> Result<Vec<Tensor>, OpError> {
    let len = x.shape().elements();
    let mask = each(run, len, source, |bits| u8::from(fraction(bits, 53) >= ratio))?;
    let scale = 1.0 / (1.0 - ratio);
    let y = floating!(x.dtype(), T => {
        let from = elements::<T>(x)?;
        let out = fill_by::<T>(run, len, NUMBERS, |start, out| {
            let pairs = out.iter_mut().zip(from[start..].iter().zip(&mask[start..]));
            for (out, (x, &stays)) in pairs {
                // Not by multiplying with 0, which would keep a NaN.
                *out = if stays == 1 { T::narrow(x.widen() * scale) } else { T::default() };
            }
            Ok(())
        })?;
        tensor(x.dtype(), x.shape().clone(), out)
    })?;
    Ok(vec![y, tensor(DType::Bool, x.shape().clone(), mask)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the paper's own code.
    #[test]
    fn philox_is_philox() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
