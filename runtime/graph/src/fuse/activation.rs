//! Activations that were written out.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use innkeeper_kernels::{Binary, Curve, Op, Unary};

use super::{Rewriter, near};
use crate::machine::Val;

/// x * (1 + erf(x / sqrt 2)) / 2, or its approximation by tanh, the factors in any order.
pub(super) fn gelu(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let out = *r.step(index)?.outputs.first()?;
    let Op::Binary(Binary::Mul | Binary::Div) = r.step(index)?.op else { return None };
    let mut factors = Vec::new();
    let constant = flatten(r, out, &mut factors, 4)?;
    let [a, b] = factors[..] else { return None };
    if !near(constant, 0.5) {
        return None;
    }
    [(a, b), (b, a)].into_iter().find_map(|(x, one_plus)| {
        let inner = r.plus(one_plus, 1.0)?;
        let (_, made) = r.made(inner)?;
        let argument = *made.inputs.first()?;
        let op = match made.op {
            Op::Unary(Unary::Erf) => {
                let (source, c) = r.scaled(argument)?;
                (source == x && near(c, FRAC_1_SQRT_2)).then_some(Unary::Gelu)?
            }
            Op::Unary(Unary::Tanh) => {
                is_cubic(r, argument, x)?;
                Unary::GeluTanh
            }
            _ => return None,
        };
        r.replace(index, Op::Unary(op), vec![x])
    })
}

/// The factors of a product that are no constants, and the product of those that are.
fn flatten(r: &Rewriter<'_>, val: Val, factors: &mut Vec<Val>, depth: usize) -> Option<f64> {
    if depth > 0 {
        if let Some((x, c)) = r.scaled(val) {
            return Some(c * flatten(r, x, factors, depth - 1)?);
        }
        if let Some((a, b)) = r.binary(val, Binary::Mul) {
            let mut inner = Vec::new();
            let a = flatten(r, a, &mut inner, depth - 1)?;
            let b = flatten(r, b, &mut inner, depth - 1)?;
            factors.extend(inner);
            return Some(a * b);
        }
    }
    factors.push(val);
    Some(1.0)
}

/// Whether a value is sqrt(2 / pi) * (x + 0.044715 x^3).
fn is_cubic(r: &Rewriter<'_>, val: Val, x: Val) -> Option<()> {
    let root = (2.0 / PI).sqrt();
    let mut factors = Vec::new();
    let constant = flatten(r, val, &mut factors, 3)?;
    if !near(constant, root) {
        return None;
    }
    match factors[..] {
        [sum] => {
            let (a, b) = r.binary(sum, Binary::Add)?;
            let cube = if a == x { b } else { (b == x).then_some(a)? };
            is_power(r, cube, x, 3)
        }
        // x * (1 + 0.044715 x^2)
        [a, b] => {
            let sum = if a == x { b } else { (b == x).then_some(a)? };
            is_power(r, r.plus(sum, 1.0)?, x, 2)
        }
        _ => None,
    }
}

/// Whether a value is 0.044715 x^power.
fn is_power(r: &Rewriter<'_>, val: Val, x: Val, power: usize) -> Option<()> {
    let mut factors = Vec::new();
    let constant = flatten(r, val, &mut factors, 4)?;
    if !near(constant, 0.044_715) {
        return None;
    }
    let mut count = 0;
    for factor in factors {
        count += match r.binary(factor, Binary::Pow) {
            Some((base, exponent)) if base == x => r.scalar(exponent)? as usize,
            _ if factor == x => 1,
            _ => return None,
        };
    }
    (count == power).then_some(())
}

/// x * sigmoid(alpha x).
pub(super) fn silu(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (Op::Binary(Binary::Mul), [a, b]) = (&step.op, &step.inputs[..]) else { return None };
    [(*a, *b), (*b, *a)].into_iter().find_map(|(x, gate)| {
        let (_, made) = r.made(gate)?;
        let Op::Unary(Unary::Sigmoid) = made.op else { return None };
        let argument = *made.inputs.first()?;
        if argument == x {
            return r.replace(index, Op::Unary(Unary::Silu), vec![x]);
        }
        let (source, alpha) = r.scaled(argument)?;
        if source != x {
            return None;
        }
        r.replace(index, Op::Curve(Curve::Swish { alpha }), vec![x])
    })
}
