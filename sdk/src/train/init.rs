//! Random numbers from a seed, and what parameters begin with.

use crate::{Result, Tensor};

/// Random numbers that a seed decides, the same on every machine: xoshiro256++ (Blackman and Vigna 2021, *Scrambled
/// Linear Pseudorandom Number Generators*), whose state SplitMix64 fills. Not for secrets.
///
/// ```
/// use innkeeper_sdk::train::Random;
///
/// let mut order: Vec<u32> = (0..5).collect();
/// Random::new(1).shuffle(&mut order);
/// let mut again: Vec<u32> = (0..5).collect();
/// Random::new(1).shuffle(&mut again);
/// assert_eq!(order, again);
/// ```
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Random {
        let mut state = seed;
        Random(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let Random([a, b, c, d]) = self;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number from 0 (included) to 1 (excluded), evenly spread.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 2f64.powi(53)
    }

    /// A normal number of mean 0 and deviation 1, by the way of Box and Muller 1958.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        // Uneven by less than end / 2^64.
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Puts `items` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// What the elements of a parameter begin as. `fan_in` and `fan_out` are the numbers of elements that come to one
/// result, and to which one operand goes: for a weight `[out, in, k..]` in * k and out * k.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same for all.
    Constant(f64),
    /// From `low` to `high`, evenly spread.
    Uniform {
        /// The smallest.
        low: f64,
        /// Above the largest.
        high: f64,
    },
    /// Normal, of mean 0.
    Normal {
        /// The standard deviation.
        deviation: f64,
    },
    /// Even from -b to b with b = gain sqrt(3 / fan_in). He et al. 2015, *Delving Deep into Rectifiers*; PyTorch's
    /// `kaiming_uniform_`. A gain of sqrt 2 is for relu, 1 / sqrt 3 what PyTorch's layers begin with.
    KaimingUniform {
        /// What the function after it shrinks by.
        gain: f64,
    },
    /// Normal with a deviation of gain / sqrt(fan_in). PyTorch's `kaiming_normal_`.
    KaimingNormal {
        /// What the function after it shrinks by.
        gain: f64,
    },
    /// Even from -b to b with b = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio 2010, *Understanding the
    /// difficulty of training deep feedforward neural networks*; PyTorch's `xavier_uniform_`, Keras's default.
    XavierUniform {
        /// What the function after it shrinks by.
        gain: f64,
    },
    /// Normal with a deviation of gain sqrt(2 / (fan_in + fan_out)). PyTorch's `xavier_normal_`.
    XavierNormal {
        /// What the function after it shrinks by.
        gain: f64,
    },
}

impl Init {
    /// An FP32 tensor of this shape.
    ///
    /// ```
    /// use innkeeper_sdk::train::{Init, Random};
    ///
    /// let weight = Init::XavierUniform { gain: 1.0 }.tensor(&[64, 1000], &mut Random::new(1))?;
    /// assert_eq!(weight.shape(), [64, 1000]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn tensor(&self, shape: &[usize], random: &mut Random) -> Result<Tensor> {
        let (fan_in, fan_out) = fans(shape);
        let both = (fan_in + fan_out).max(1.0);
        let even = |bound: f64| (-bound, 2.0 * bound);
        let count = shape.iter().product();
        let mut uniform = |(low, span): (f64, f64)| -> Vec<f32> {
            (0..count).map(|_| (low + span * random.uniform()) as f32).collect()
        };
        let elements = match *self {
            Init::Constant(value) => return Tensor::full(crate::DType::Fp32, shape, value),
            Init::Uniform { low, high } => uniform((low, high - low)),
            Init::KaimingUniform { gain } => uniform(even(gain * (3.0 / fan_in.max(1.0)).sqrt())),
            Init::XavierUniform { gain } => uniform(even(gain * (6.0 / both).sqrt())),
            Init::Normal { deviation } => normal(count, deviation, random),
            Init::KaimingNormal { gain } => normal(count, gain / fan_in.max(1.0).sqrt(), random),
            Init::XavierNormal { gain } => normal(count, gain * (2.0 / both).sqrt(), random),
        };
        Tensor::from_slice(shape, &elements)
    }
}

fn normal(count: usize, deviation: f64, random: &mut Random) -> Vec<f32> {
    (0..count).map(|_| (deviation * random.normal()) as f32).collect()
}

fn fans(shape: &[usize]) -> (f64, f64) {
    match shape {
        [] => (1.0, 1.0),
        &[size] => (size as f64, size as f64),
        [out, inner, kernel @ ..] => {
            let taps = kernel.iter().product::<usize>();
            ((inner * taps) as f64, (out * taps) as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_as_they_should() {
        let mut random = Random::new(3);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..100_000 {
            let x = random.normal();
            sum += x;
            squares += x * x;
        }
        assert!((sum / 1e5f64).abs() < 0.02 && (squares / 1e5 - 1.0f64).abs() < 0.02);
        let mut counts = [0; 7];
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn parameters_begin_within_their_bounds() {
        let bound = 6f32.sqrt() / 30f32.sqrt();
        let weight = Init::XavierUniform { gain: 1.0 }.tensor(&[10, 20], &mut Random::new(1));
        let weight = weight.unwrap().to_vec::<f32>().unwrap();
        let largest = weight.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} {bound}");
        let weight =
            Init::KaimingNormal { gain: 2f64.sqrt() }.tensor(&[100, 50], &mut Random::new(1));
        let weight = weight.unwrap().to_vec::<f32>().unwrap();
        let square = weight.iter().map(|x| x * x).sum::<f32>() / 5000.0;
        assert!((square - 2.0 / 50.0).abs() < 0.004, "{square}");
    }
}
