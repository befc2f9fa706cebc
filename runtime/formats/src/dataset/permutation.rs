//! Rows in an order that a seed decides, without a list of them.

/// The numbers below `len` in an order that `seed` decides, the same on every machine and in every version: a Feistel
/// network of six rounds over the next larger power of four, in which what lies outside walks on (Black and Rogaway 2002,
/// *Ciphers with Arbitrary Finite Domains*). Not for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    len: u64,
    seed: u64,
    half_bits: u32,
}

const ROUNDS: u64 = 6;

impl Permutation {
    /// The order of `len` numbers.
    pub fn new(len: u64, seed: u64) -> Permutation {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Permutation { len, seed, half_bits: bits.div_ceil(2).max(1) }
    }

    /// The number at place `i`; `i` itself if that is not below `len`.
    pub fn at(&self, i: u64) -> u64 {
        if i >= self.len {
            return i;
        }
        let mut at = self.round_trip(i);
        // The network maps its own domain onto itself, so that a walk from inside comes back inside; the domain is less
        // than four times as large, so that it does so soon.
        while at >= self.len {
            at = self.round_trip(at);
        }
        at
    }

    fn round_trip(&self, at: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (at >> self.half_bits, at & mask);
        for round in 0..ROUNDS {
            let key = self.seed.wrapping_add(round.wrapping_mul(0xA076_1D64_78BD_642F));
            (left, right) = (right, left ^ (mixed(right ^ mixed(key)) & mask));
        }
        left << self.half_bits | right
    }
}

/// SplitMix64's finaliser (Steele, Lea and Flood 2014).
fn mixed(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once() {
        for len in [1, 2, 3, 4, 5, 16, 17, 100, 1_000, 4_097] {
            for seed in [0, 1, u64::MAX] {
                let permutation = Permutation::new(len, seed);
                let mut all: Vec<u64> = (0..len).map(|i| permutation.at(i)).collect();
                all.sort_unstable();
                assert_eq!(all, (0..len).collect::<Vec<_>>(), "{len} by {seed}");
            }
        }
        assert_eq!(Permutation::new(0, 1).at(0), 0);
        assert!(Permutation::new(u64::MAX, 1).at(5) < u64::MAX);
    }

    #[test]
    fn the_order_is_frozen() {
        let order =
            |len, seed| (0..8).map(|i| Permutation::new(len, seed).at(i)).collect::<Vec<u64>>();
        assert_ne!(order(1_000, 1), order(1_000, 2));
        assert_eq!(order(1_000, 7), FROZEN);
    }

    /// Checkpoints and lineages rely on it.
    const FROZEN: [u64; 8] = [81, 512, 91, 420, 802, 212, 238, 555];

    #[test]
    fn places_say_nothing_about_numbers() {
        // The mean of the numbers in each tenth is near the mean of all, as chance would have it.
        let permutation = Permutation::new(10_000, 3);
        for tenth in 0..10 {
            let sum: u64 = (0..1_000).map(|i| permutation.at(tenth * 1_000 + i)).sum();
            let mean = sum as f64 / 1_000.0;
            assert!((mean - 4_999.5).abs() < 4.0 * 91.3, "tenth {tenth} has the mean {mean}");
        }
    }
}
