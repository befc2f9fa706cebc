//! Bytes as choices: small numbers mostly, now and then one that nobody expects.

use arbitrary::Unstructured;
use innkeeper_tensor::DType;

/// Where choices come from. When the bytes are used up, every choice is the first one.
pub(crate) struct Source<'a>(Unstructured<'a>);

/// One in so many choices of a number is an odd one.
const ODD: u8 = 240;

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Source<'a> {
        Source(Unstructured::new(bytes))
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True in one of `times` choices.
    pub(crate) fn rarely(&mut self, times: u8) -> bool {
        self.byte() % times == times - 1
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// At most `max` bytes, their number first.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let wanted = usize::from(self.0.arbitrary::<u16>().unwrap_or(0)).min(max);
        let len = wanted.min(self.0.len());
        self.0.bytes(len).unwrap_or(&[])
    }

    /// What was not used yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }

    /// A size of a dimension that a tensor can have.
    pub(crate) fn small(&mut self) -> usize {
        self.pick(&[1, 2, 3, 4, 0, 5, 8, 17])
    }

    /// A size of anything.
    pub(crate) fn size(&mut self) -> usize {
        match self.byte() {
            byte @ 0..ODD => usize::from(byte % 6),
            _ => self.pick(&[7, 16, 33, 1 << 16, 1 << 32, 1 << 62, usize::MAX, usize::MAX / 2 + 1]),
        }
    }

    pub(crate) fn sizes(&mut self) -> Vec<usize> {
        (0..self.byte() % 5).map(|_| self.size()).collect()
    }

    /// An axis, a position or a distance.
    pub(crate) fn axis(&mut self) -> i64 {
        match self.byte() {
            byte @ 0..ODD => i64::from(byte % 9) - 4,
            _ => self.pick(&[i64::MIN, i64::MAX, 16, -17, 1 << 32, -(1 << 40), i64::MIN + 1]),
        }
    }

    pub(crate) fn axes(&mut self) -> Vec<i64> {
        (0..self.byte() % 5).map(|_| self.axis()).collect()
    }

    pub(crate) fn number(&mut self) -> f64 {
        const KNOWN: [f64; 24] = [
            0.0,
            1.0,
            -1.0,
            0.5,
            2.0,
            -3.5,
            1e-5,
            100.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            1e39,
            -1e39,
            65_520.0,
            2_147_483_648.0,
            -2_147_483_649.0,
            9.3e18,
            -9.3e18,
            255.5,
            1.9e19,
        ];
        match self.byte() {
            byte @ 0..ODD => KNOWN[usize::from(byte) % KNOWN.len()],
            _ => f64::from_bits(self.word()),
        }
    }

    pub(crate) fn dtype(&mut self) -> DType {
        self.pick(&DType::ALL)
    }
}
