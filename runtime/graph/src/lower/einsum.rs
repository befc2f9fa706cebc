//! Sums of products, named by letters.

use innkeeper_kernels::{Binary, Move, Op, Reduce};

use super::{Lower, Lowered, all, reshape};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    (op_type == "Einsum").then_some(einsum as Lower)
}

/// The name of a dimension: a letter, or a number for those that "..." stands for, counted from the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Rest(usize),
    Letter(u8),
}

/// A tensor with names for its dimensions, each once.
struct Term {
    val: Val,
    labels: Vec<Label>,
}

fn einsum(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let equation: String = node.text("equation", "")?.split_whitespace().collect();
    let operands = all(inputs)?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (&*equation, None),
    };
    let names: Vec<&str> = left.split(',').collect();
    if names.len() != operands.len() || operands.is_empty() {
        return Err(invalid(format_args!("{} terms for {} operands", names.len(), operands.len())));
    }
    let mut terms = Vec::with_capacity(names.len());
    let mut seen: Vec<Label> = Vec::new();
    for (names, &val) in names.iter().zip(&operands) {
        let labels = labels(names, m.rank(val))?;
        seen.extend(&labels);
        terms.push(diagonal(m, Term { val, labels })?);
    }
    let wanted = match right {
        Some(right) => {
            let rest = seen.iter().filter(|label| matches!(label, Label::Rest(_))).max();
            let rest = rest.map_or(0, |label| if let Label::Rest(at) = label { at + 1 } else { 0 });
            let letters = right.replace("...", "").len();
            labels(right, if right.contains("...") { letters + rest } else { letters })?
        }
        None => {
            // What "..." stands for comes first, then the letters that are there once, in order.
            let once = |label: &&Label| {
                matches!(label, Label::Rest(_))
                    || seen.iter().filter(|other| other == label).count() == 1
            };
            let mut wanted: Vec<Label> = seen.iter().filter(once).copied().collect();
            wanted.sort_by_key(|label| match label {
                Label::Rest(at) => (0, usize::MAX - at),
                Label::Letter(letter) => (1, usize::from(*letter)),
            });
            wanted.dedup();
            wanted
        }
    };
    let twice = |label| wanted.iter().filter(|other| *other == label).count() > 1;
    if wanted.iter().any(|label| !seen.contains(label) || twice(label)) {
        return Err(invalid("the result names a dimension twice, or one that no operand has"));
    }
    let mut terms = terms.into_iter();
    let mut sum = terms.next().ok_or_else(|| invalid("wants an operand"))?;
    let mut later: Vec<Term> = terms.collect();
    while !later.is_empty() {
        let next = later.remove(0);
        let needed = |label: &Label| {
            wanted.contains(label) || later.iter().any(|term| term.labels.contains(label))
        };
        sum = product(m, sum, next, needed)?;
    }
    let sum = without(m, sum, |label| wanted.contains(label))?;
    Ok(vec![arranged(m, &sum, &wanted)?.val])
}

/// The names of a term whose tensor has so many dimensions.
fn labels(names: &str, rank: usize) -> Result<Vec<Label>, Fail> {
    let fail = || invalid(format_args!("the term {names:?} does not fit {rank} dimensions"));
    let letter = |byte: u8| byte.is_ascii_alphabetic().then_some(Label::Letter(byte));
    let letters = |names: &str| names.bytes().map(letter).collect::<Option<Vec<_>>>();
    let (before, rest, after) = match names.split_once("...") {
        Some((before, after)) => (before, true, after),
        None => (names, false, ""),
    };
    let (mut labels, after) = letters(before).zip(letters(after)).ok_or_else(fail)?;
    let count = rank.checked_sub(labels.len() + after.len()).ok_or_else(fail)?;
    if count > 0 && !rest {
        return Err(fail());
    }
    labels.extend((0..count).rev().map(Label::Rest));
    labels.extend(after);
    Ok(labels)
}

/// A term in which no name stands twice: of two equal ones the diagonal is left.
fn diagonal(m: &mut Machine<'_>, mut term: Term) -> Result<Term, Fail> {
    loop {
        let twice = |at: &usize| term.labels[..*at].contains(&term.labels[*at]);
        let Some(second) = (0..term.labels.len()).find(twice) else { return Ok(term) };
        let label = term.labels[second];
        let first = term.labels.iter().position(|other| *other == label).unwrap_or(0);
        let dims = m.dims(term.val).to_vec();
        let size = dims[first];
        if dims[second] != size {
            return Err(invalid("a dimension that is named twice must have one size"));
        }
        let others: Vec<usize> =
            (0..dims.len()).filter(|at| *at != first && *at != second).collect();
        let permutation = others.iter().copied().chain([first, second]).collect();
        let moved = m.emit(Op::Transpose { permutation }, &[term.val])?;
        let mut shape: Vec<usize> = others.iter().map(|&at| dims[at]).collect();
        let axis = shape.len() as i64;
        shape.push(size * size);
        let flat = reshape(m, moved, &shape)?;
        let (axes, starts) = (vec![axis], vec![0]);
        let (ends, steps) = (vec![(size * size) as i64], vec![size as i64 + 1]);
        let val = m.emit(Op::Move(Move::Strided { axes, starts, ends, steps }), &[flat])?;
        let labels = others.iter().map(|&at| term.labels[at]).chain([label]).collect();
        term = Term { val, labels };
    }
}

/// The term summed over the dimensions that are not needed.
fn without(m: &mut Machine<'_>, term: Term, needed: impl Fn(&Label) -> bool) -> Result<Term, Fail> {
    let axes: Vec<i64> = (0..term.labels.len())
        .filter(|&at| !needed(&term.labels[at]))
        .map(|at| at as i64)
        .collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let val = m.emit(Op::Reduce { op: Reduce::Sum, axes, keep_dims: false }, &[term.val])?;
    let labels = term.labels.into_iter().filter(needed).collect();
    Ok(Term { val, labels })
}

/// The term with its dimensions in this order; those that it lacks are left out.
fn arranged(m: &mut Machine<'_>, term: &Term, order: &[Label]) -> Result<Term, Fail> {
    let place = |label: &Label| term.labels.iter().position(|other| other == label);
    let permutation: Vec<usize> = order.iter().filter_map(place).collect();
    let labels = permutation.iter().map(|&at| term.labels[at]).collect();
    if permutation.is_sorted() {
        return Ok(Term { val: term.val, labels });
    }
    Ok(Term { val: m.emit(Op::Transpose { permutation }, &[term.val])?, labels })
}

/// Two terms multiplied, and summed over what nobody needs any more: a batch of matrix products.
fn product(
    m: &mut Machine<'_>,
    a: Term,
    b: Term,
    needed: impl Fn(&Label) -> bool,
) -> Result<Term, Fail> {
    let a = without(m, a, |label| needed(label) || b.labels.contains(label))?;
    let b = without(m, b, |label| needed(label) || a.labels.contains(label))?;
    let size = |m: &Machine<'_>, term: &Term, label: &Label| {
        let at = term.labels.iter().position(|other| other == label)?;
        m.dims(term.val).get(at).copied()
    };
    // A dimension of both is one of the batch if it is needed, and else summed over. One that broadcasts is multiplied
    // element by element, which is right for everything.
    let both: Vec<Label> = a.labels.iter().filter(|x| b.labels.contains(x)).copied().collect();
    let differs = both.iter().any(|label| size(m, &a, label) != size(m, &b, label));
    if differs || !m.dtype(a.val).is_float() {
        return elementwise(m, a, b, needed);
    }
    let (batch, summed): (Vec<Label>, Vec<Label>) = both.iter().partition(|label| needed(label));
    let only = |x: &Term| x.labels.iter().filter(|l| !both.contains(l)).copied().collect();
    let (rows, columns): (Vec<Label>, Vec<Label>) = (only(&a), only(&b));
    let sizes = |m: &Machine<'_>, term: &Term, labels: &[Label]| -> Vec<usize> {
        labels.iter().filter_map(|label| size(m, term, label)).collect()
    };
    let of_batch = sizes(m, &a, &batch);
    let (of_rows, of_columns) = (sizes(m, &a, &rows), sizes(m, &b, &columns));
    let depth: usize = sizes(m, &a, &summed).iter().product();
    let left = arranged(m, &a, &[&batch[..], &rows, &summed].concat())?;
    let right = arranged(m, &b, &[&batch[..], &summed, &columns].concat())?;
    let whole = of_batch.iter().product::<usize>();
    let (r, c) = (of_rows.iter().product(), of_columns.iter().product());
    let left = reshape(m, left.val, &[whole, r, depth])?;
    let right = reshape(m, right.val, &[whole, depth, c])?;
    let val = m.emit(Op::MatMul, &[left, right])?;
    let val = reshape(m, val, &[of_batch, of_rows, of_columns].concat())?;
    Ok(Term { val, labels: [batch, rows, columns].concat() })
}

fn elementwise(
    m: &mut Machine<'_>,
    a: Term,
    b: Term,
    needed: impl Fn(&Label) -> bool,
) -> Result<Term, Fail> {
    let mut labels = a.labels.clone();
    labels.extend(b.labels.iter().filter(|label| !a.labels.contains(label)));
    let mut sides = Vec::with_capacity(2);
    for term in [a, b] {
        let term = arranged(m, &term, &labels)?;
        let mut sizes = m.dims(term.val).iter();
        let has = |label: &Label| term.labels.contains(label);
        let dims: Vec<usize> = labels
            .iter()
            .map(|label| if has(label) { sizes.next().copied().unwrap_or(1) } else { 1 })
            .collect();
        sides.push(reshape(m, term.val, &dims)?);
    }
    let val = m.emit(Op::Binary(Binary::Mul), &sides)?;
    without(m, Term { val, labels }, needed)
}
