//! The one door to the `gemm` crate, and the only unsafe code of this one.

#![allow(unsafe_code)]

use crate::OpError;
use crate::cpu::number::Float;

/// An element that the `gemm` crate multiplies; it panics on others.
pub(super) trait Real: Float {
    const ONE: Self;
}

impl Real for f32 {
    const ONE: f32 = 1.0;
}

impl Real for f64 {
    const ONE: f64 = 1.0;
}

/// Two row-major matrices: a is `[m, k]`; b is `[k, n]`, or `[n, k]` when it is transposed.
pub(super) struct Matrices<'a, T> {
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) a: &'a [T],
    pub(super) b: &'a [T],
    pub(super) b_transposed: bool,
}

impl<T> Matrices<'_, T> {
    /// Whether the slices and `out` are as long as the sizes say.
    fn fit(&self, out: &[T]) -> bool {
        self.m.checked_mul(self.k) == Some(self.a.len())
            && self.k.checked_mul(self.n) == Some(self.b.len())
            && self.m.checked_mul(self.n) == Some(out.len())
    }
}

/// `out += a b`, on this thread.
pub(super) fn gemm<T: Real>(matrices: &Matrices<'_, T>, out: &mut [T]) -> Result<(), OpError> {
    let &Matrices { m, k, n, a, b, b_transposed } = matrices;
    if !matrices.fit(out) {
        let text = format!("a product of [{m},{k}] by [{k},{n}] does not fit its operands");
        return Err(OpError::InvalidArgument(text));
    }
    if m == 0 || k == 0 || n == 0 {
        return Ok(());
    }
    // A slice's length fits into an isize, and no stride is longer than its slice.
    let (row, column) = if b_transposed { (1, k as isize) } else { (n as isize, 1) };
    // SAFETY: `fit` has shown that each slice holds exactly the matrix of the sizes passed with it, whose last element
    // lies at (rows - 1) * row stride + (columns - 1) * column stride = length - 1, so that every access is inside. All
    // three are initialised; `out` is borrowed mutably and hence overlaps neither side. `T` is f32 or f64, which are
    // the only implementers of `Real` and which the callee takes.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            true,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            column,
            row,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_slices_that_do_not_fit() {
        let (a, b) = ([1f32; 6], [1f32; 6]);
        let cases =
            [(2, 3, 2, 4, true), (2, 3, 2, 3, false), (3, 3, 2, 6, false), (2, 2, 3, 6, false)];
        for (m, k, n, len, fits) in cases {
            let matrices = Matrices { m, k, n, a: &a, b: &b, b_transposed: false };
            assert_eq!(gemm(&matrices, &mut vec![0.0; len]).is_ok(), fits, "{m} {k} {n} {len}");
        }
        let huge =
            Matrices { m: usize::MAX, k: 2, n: usize::MAX, a: &a, b: &b, b_transposed: false };
        assert!(gemm(&huge, &mut [0.0]).is_err());
    }

    #[test]
    fn adds_to_what_is_there() {
        let matrices =
            Matrices { m: 1, k: 2, n: 1, a: &[2f64, 3.0], b: &[5.0, 7.0], b_transposed: true };
        let mut out = [100.0];
        gemm(&matrices, &mut out).unwrap();
        assert_eq!(out, [131.0]);
    }
}
