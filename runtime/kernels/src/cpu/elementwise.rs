//! Operations on elements at the same place of several operands.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use innkeeper_tensor::{DType, Element, Shape, Tensor};
use pulp::{Simd, WithSimd};

use crate::cpu::create;
use crate::cpu::dispatch::{numeric, refused, word};
use crate::cpu::memory::{elements, tensor, words};
use crate::cpu::number::Number;
use crate::cpu::pieces::fill;
use crate::cpu::simd::dispatch_narrow;
use crate::cpu::walk::Walk;
use crate::{Binary, Compare, OpError, Run};

pub(super) fn binary(
    op: Binary,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    use Binary::*;
    match op {
        And | Or | Xor | BitAnd | BitOr | BitXor => bits(op, shape, a, b, run),
        ShiftLeft | ShiftRight => shift(op == ShiftLeft, shape, a, b, run),
        _ => numeric!(a.dtype(), T => arithmetic::<T>(op, shape, a, b, run)),
    }
}

pub(super) fn scalar(
    op: Binary,
    shape: Shape,
    a: &Tensor,
    value: f64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    binary(op, shape, a, &create::scalar(a.dtype(), value)?, run)
}

pub(super) fn compare(
    op: Compare,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    if a.dtype() == DType::Bool {
        let (x, y) = (words::<u8>(a), words::<u8>(b));
        return compared(op, shape, [a, b], &x, &y, run);
    }
    numeric!(a.dtype(), T => {
        let (x, y) = (elements::<T>(a)?, elements::<T>(b)?);
        compared(op, shape, [a, b], &x, &y, run)
    })
}

fn compared<T: Number>(
    op: Compare,
    shape: Shape,
    [a, b]: [&Tensor; 2],
    x: &[T],
    y: &[T],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let walk = Walk::broadcast(&shape, [a.shape(), b.shape()]);
    let pair = Pair { walk, len: shape.elements(), x, y, vectors: T::VECTORS };
    let out = match op {
        Compare::Equal => pair.zip(|x, y| u8::from(x == y), run),
        Compare::NotEqual => pair.zip(|x, y| u8::from(x != y), run),
        Compare::Less => pair.zip(|x, y| u8::from(x < y), run),
        Compare::LessOrEqual => pair.zip(|x, y| u8::from(x <= y), run),
        Compare::Greater => pair.zip(|x, y| u8::from(x > y), run),
        Compare::GreaterOrEqual => pair.zip(|x, y| u8::from(x >= y), run),
    }?;
    tensor(DType::Bool, shape, out)
}

pub(super) fn select(
    shape: Shape,
    condition: &Tensor,
    a: &Tensor,
    b: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let walk = Walk::broadcast(&shape, [condition.shape(), a.shape(), b.shape()]);
    let holds = condition.as_bytes();
    word!(a.dtype(), W => {
        let (from_a, from_b) = (words::<W>(a), words::<W>(b));
        let (_, [step, step_a, step_b]) = walk.inner();
        let out = fill::<W>(run, shape.elements(), |start, out| {
            let mut rest = out;
            walk.spans(start..start + rest.len(), |[at, at_a, at_b], len| {
                let (row, after) = std::mem::take(&mut rest).split_at_mut(len);
                for (i, out) in row.iter_mut().enumerate() {
                    let (x, y) = (from_a[at_a + i * step_a], from_b[at_b + i * step_b]);
                    *out = if holds[at + i * step] != 0 { x } else { y };
                }
                rest = after;
            });
            Ok(())
        })?;
        tensor(a.dtype(), shape, out)
    })
}

/// Operations on bits, which are the same for every dtype of a size; BOOL has only one bit.
fn bits(
    op: Binary,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    word!(a.dtype(), W => {
        let (x, y) = (words::<W>(a), words::<W>(b));
        let walk = Walk::broadcast(&shape, [a.shape(), b.shape()]);
        let pair = Pair { walk, len: shape.elements(), x: &x[..], y: &y[..], vectors: false };
        let out = match op {
            Binary::And | Binary::BitAnd => pair.zip(|x, y| x & y, run),
            Binary::Or | Binary::BitOr => pair.zip(|x, y| x | y, run),
            _ => pair.zip(|x, y| x ^ y, run),
        }?;
        tensor(a.dtype(), shape, out)
    })
}

// One of the words is u32 itself.
#[allow(clippy::unnecessary_cast)]
fn shift(
    left: bool,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    word!(a.dtype(), W => {
        let (x, y) = (words::<W>(a), words::<W>(b));
        let walk = Walk::broadcast(&shape, [a.shape(), b.shape()]);
        let pair = Pair { walk, len: shape.elements(), x: &x[..], y: &y[..], vectors: false };
        let by = |y: W| y.min(64 as W) as u32;
        let out = if left {
            pair.zip(|x: W, y| x.checked_shl(by(y)).unwrap_or(0), run)
        } else {
            pair.zip(|x: W, y| x.checked_shr(by(y)).unwrap_or(0), run)
        }?;
        tensor(a.dtype(), shape, out)
    })
}

fn arithmetic<T: Number>(
    op: Binary,
    shape: Shape,
    a: &Tensor,
    b: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let dtype = a.dtype();
    let (x, y) = (elements::<T>(a)?, elements::<T>(b)?);
    let divides = matches!(op, Binary::Div | Binary::Mod | Binary::Fmod);
    // Every element of b is used as soon as there is a result at all.
    if divides && T::INTEGER && shape.elements() > 0 && y.contains(&T::default()) {
        return Err(OpError::InvalidArgument(format!("{}: {dtype} divided by zero", op.name())));
    }
    let walk = Walk::broadcast(&shape, [a.shape(), b.shape()]);
    let pair = Pair { walk, len: shape.elements(), x: &x[..], y: &y[..], vectors: T::VECTORS };
    let slow =
        Pair { walk: Walk::broadcast(&shape, [a.shape(), b.shape()]), vectors: false, ..pair };
    let zero = T::default();
    let out = match op {
        Binary::Add => pair.zip(T::add, run),
        Binary::Sub => pair.zip(T::sub, run),
        Binary::Mul => pair.zip(T::mul, run),
        Binary::Div => pair.zip(T::div, run),
        Binary::Maximum => pair.zip(T::maximum, run),
        Binary::Minimum => pair.zip(T::minimum, run),
        Binary::Prelu => pair.zip(|x, y| if x < T::default() { x.mul(y) } else { x }, run),
        Binary::Mod => slow.zip(T::modulo, run),
        Binary::Fmod => slow.zip(T::remainder, run),
        Binary::Pow => {
            let wrong = AtomicBool::new(false);
            let out = slow.zip(
                |x, y| {
                    if T::INTEGER && x == zero && y < zero {
                        wrong.store(true, Relaxed);
                    }
                    x.power(y)
                },
                run,
            );
            if wrong.into_inner() {
                let text = format!("pow: {dtype} zero to a negative power divides by zero");
                return Err(OpError::InvalidArgument(text));
            }
            out
        }
        _ => return Err(refused(dtype)),
    }?;
    tensor(dtype, shape, out)
}

/// The elements of two operands, and how they are walked in step.
struct Pair<'a, T> {
    walk: Walk<2>,
    len: usize,
    x: &'a [T],
    y: &'a [T],
    vectors: bool,
}

impl<T: Copy + Sync> Pair<'_, T> {
    fn zip<O: Element + Default>(
        &self,
        f: impl Fn(T, T) -> O + Copy + Sync,
        run: &Run<'_>,
    ) -> Result<Vec<O>, OpError> {
        fill(run, self.len, |start, out| {
            let part = Part { pair: self, start, out, f };
            if self.vectors {
                dispatch_narrow(part);
            } else {
                part.compute();
            }
            Ok(())
        })
    }
}

/// The part of the result that starts at one element.
struct Part<'a, 'b, T, O, F> {
    pair: &'a Pair<'b, T>,
    start: usize,
    out: &'a mut [O],
    f: F,
}

impl<T: Copy, O, F: Fn(T, T) -> O> Part<'_, '_, T, O, F> {
    #[inline(always)]
    fn compute(self) {
        let Part { pair: &Pair { ref walk, x, y, .. }, start, out, f } = self;
        let (_, strides) = walk.inner();
        let elements = start..start + out.len();
        let mut rest = out;
        walk.spans(elements, |[i, j], len| {
            let (row, after) = std::mem::take(&mut rest).split_at_mut(len);
            match strides {
                [1, 1] => {
                    let pairs = x[i..i + len].iter().zip(&y[j..j + len]);
                    row.iter_mut().zip(pairs).for_each(|(out, (&x, &y))| *out = f(x, y));
                }
                [1, _] => {
                    let y = y[j];
                    row.iter_mut().zip(&x[i..i + len]).for_each(|(out, &x)| *out = f(x, y));
                }
                [_, 1] => {
                    let x = x[i];
                    row.iter_mut().zip(&y[j..j + len]).for_each(|(out, &y)| *out = f(x, y));
                }
                // Only one element: along a longer dimension one of the two moves.
                _ => row.iter_mut().for_each(|out| *out = f(x[i], y[j])),
            }
            rest = after;
        });
    }
}

impl<T: Copy, O, F: Fn(T, T) -> O> WithSimd for Part<'_, '_, T, O, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.compute();
    }
}
