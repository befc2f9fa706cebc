//! Walking tree ensembles.
//!
//! Eight trees are walked in step: a step waits for the memory of the one before it, and eight of them wait together.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::create;
use crate::cpu::memory::{elements, tensor};
use crate::error::invalid;
use crate::op::trees::{Node, Tree};
use crate::{Aggregate, OpError, Post, Run, TreeTest, Trees};

/// Trees that are walked in step.
const LANES: usize = 8;
/// Steps that one piece of rows takes.
const STEPS: usize = 1 << 16;
/// Rows that share the nodes of eight trees while those are near.
const ROWS: usize = 64;

/// All results of an ensemble that was checked.
pub(super) fn trees(
    trees: &Trees,
    results: Vec<(DType, Shape)>,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let Some((_, shape)) = results.last() else { return Err(invalid("trees", "has no result")) };
    let &[rows, targets] = shape.dims() else { return Err(invalid("trees", "scores are rows")) };
    let columns = x.shape().dims().last().copied().unwrap_or(0);
    let x = create::cast(x, DType::Fp32, run)?;
    let x = elements::<f32>(&x)?;
    let mut scores = run.scratch::<f32>(rows * targets)?;
    let mut labels = run.scratch::<i64>(if trees.is_classifier() { rows } else { 0 })?;
    let piece = (STEPS / trees.steps().max(1)).clamp(1, 4096);
    run.pieces(&mut scores, piece * targets, |index, scores| {
        let first = index * piece;
        for (block, scores) in scores.chunks_mut(ROWS * targets).enumerate() {
            let rows = scores.len() / targets;
            let start = (first + block * ROWS) * columns;
            let x = &x[start..start + rows * columns];
            walk(trees, x, columns, scores);
        }
        Ok(())
    })?;
    match &trees.labels {
        None => scores.chunks_exact_mut(targets).for_each(|row| regress(trees, row)),
        Some(names) => {
            for (row, label) in scores.chunks_exact_mut(targets).zip(&mut labels) {
                *label = names[classify(trees, row)];
            }
        }
    }
    let mut tensors = Vec::with_capacity(2);
    let mut results = results.into_iter();
    if trees.is_classifier()
        && let Some((dtype, shape)) = results.next()
    {
        tensors.push(tensor(dtype, shape, labels)?);
    }
    if let Some((dtype, shape)) = results.next() {
        tensors.push(tensor(dtype, shape, scores)?);
    }
    Ok(tensors)
}

/// What the trees say of some rows, before base values and all else.
fn walk(trees: &Trees, x: &[f32], columns: usize, scores: &mut [f32]) {
    match trees.uniform {
        Some(TreeTest::LessOrEqual) => all(trees, x, columns, scores, |node, x| x <= node.value),
        Some(TreeTest::Less) => all(trees, x, columns, scores, |node, x| x < node.value),
        _ => all(trees, x, columns, scores, holds),
    }
}

/// Whether a node's test holds, whatever it is.
fn holds(node: &Node, x: f32) -> bool {
    if x.is_nan() && node.flags & Node::MISSING_IS_YES != 0 {
        return true;
    }
    match (node.flags >> Node::TEST_SHIFT) & 7 {
        0 => x <= node.value,
        1 => x < node.value,
        2 => x >= node.value,
        3 => x > node.value,
        4 => x == node.value,
        _ => x != node.value,
    }
}

fn all(
    trees: &Trees,
    x: &[f32],
    columns: usize,
    scores: &mut [f32],
    holds: impl Fn(&Node, f32) -> bool + Copy,
) {
    let targets = trees.targets;
    let rows = scores.len() / targets;
    let start = match trees.aggregate {
        Aggregate::Sum | Aggregate::Average => 0.0,
        Aggregate::Min => f64::INFINITY,
        Aggregate::Max => f64::NEG_INFINITY,
    };
    let mut sums = vec![start; rows * targets];
    // A row without columns is one all the same.
    let row = |index: usize| &x[index * columns..(index + 1) * columns];
    for group in trees.trees.chunks(LANES) {
        for (index, sums) in sums.chunks_exact_mut(targets).enumerate() {
            let leaves = descend(&trees.nodes, group, row(index), holds);
            for &leaf in &leaves[..group.len()] {
                add(trees, &trees.nodes[leaf as usize], sums);
            }
        }
    }
    let scale = match trees.aggregate {
        Aggregate::Average => 1.0 / trees.trees.len().max(1) as f64,
        _ => 1.0,
    };
    for (score, sum) in scores.iter_mut().zip(sums) {
        *score = if sum.is_finite() { (sum * scale) as f32 } else { finish(sum, start) };
    }
}

/// What nothing was added to is 0.
fn finish(sum: f64, start: f64) -> f32 {
    if sum == start { 0.0 } else { sum as f32 }
}

/// The leaves that a row comes to in up to [`LANES`] trees.
#[inline(always)]
fn descend(
    nodes: &[Node],
    group: &[Tree],
    row: &[f32],
    holds: impl Fn(&Node, f32) -> bool,
) -> [u32; LANES] {
    let mut at = [group[0].root; LANES];
    let mut depth = 0;
    for (at, tree) in at.iter_mut().zip(group) {
        *at = tree.root;
        depth = depth.max(tree.depth);
    }
    for _ in 0..depth {
        for at in &mut at {
            let node = &nodes[*at as usize];
            // Of a leaf this is no column, and it does not matter.
            let x = row.get(node.feature as usize).copied().unwrap_or(0.0);
            let step = if holds(node, x) { 0 } else { node.flags & Node::STEP };
            *at = node.next + step;
        }
    }
    at
}

#[inline(always)]
fn add(trees: &Trees, leaf: &Node, sums: &mut [f64]) {
    let count = (leaf.flags >> Node::COUNT_SHIFT) as usize;
    let first = leaf.feature as usize;
    if count == 1 && sums.len() == 1 && matches!(trees.aggregate, Aggregate::Sum) {
        sums[0] += f64::from(leaf.value);
        return;
    }
    for &(target, weight) in &trees.weights[first..first + count] {
        let sum = &mut sums[target as usize];
        let weight = f64::from(weight);
        *sum = match trees.aggregate {
            Aggregate::Sum | Aggregate::Average => *sum + weight,
            Aggregate::Min => sum.min(weight),
            Aggregate::Max => sum.max(weight),
        };
    }
}

fn regress(trees: &Trees, row: &mut [f32]) {
    row.iter_mut().zip(&trees.base).for_each(|(score, base)| *score += base);
    post(trees.post, row);
}

/// Which class a row is of; its scores are made ready.
fn classify(trees: &Trees, row: &mut [f32]) -> usize {
    let spoken = trees.spoken.iter().filter(|spoken| **spoken).count();
    if row.len() == 2 && spoken == 1 {
        return classify_by_one(trees, row);
    }
    if trees.base.len() == row.len() {
        row.iter_mut().zip(&trees.base).for_each(|(score, base)| *score += base);
    } else if let Some(base) = trees.base.first() {
        row[0] += base;
    }
    let mut best: Option<usize> = None;
    for (class, score) in row.iter().enumerate().filter(|(class, _)| trees.spoken[*class]) {
        if best.is_none_or(|best| *score > row[best]) {
            best = Some(class);
        }
    }
    post(trees.post, row);
    best.unwrap_or(0)
}

/// Two classes of which the leaves speak of one: its score says both.
fn classify_by_one(trees: &Trees, row: &mut [f32]) -> usize {
    let spoken = usize::from(!trees.spoken[0]);
    let base = match trees.base[..] {
        [_, base] | [base] => base,
        _ => 0.0,
    };
    let score = row[spoken] + base;
    if trees.post == Post::Probit {
        let score = probit(score);
        row.copy_from_slice(&[-score, score]);
        return usize::from(score > 0.0);
    }
    if trees.all_positive {
        row.copy_from_slice(&[1.0 - score, score]);
        return usize::from(score > 0.5);
    }
    if trees.post == Post::Logistic {
        row.copy_from_slice(&[logistic(-score), logistic(score)]);
    } else {
        row.copy_from_slice(&[-score, score]);
        post(trees.post, row);
    }
    usize::from(score > 0.0)
}

fn post(post: Post, row: &mut [f32]) {
    match post {
        Post::None => {}
        Post::Logistic => row.iter_mut().for_each(|score| *score = logistic(*score)),
        Post::Probit => row.iter_mut().for_each(|score| *score = probit(*score)),
        Post::Softmax | Post::SoftmaxZero => {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for score in row.iter_mut() {
                let e = (*score - largest).exp();
                if post == Post::Softmax || score.abs() > 1e-7 {
                    sum += e;
                    *score = e;
                } else {
                    *score *= (-largest).exp();
                }
            }
            row.iter_mut().for_each(|score| *score /= sum);
        }
    }
}

fn logistic(score: f32) -> f32 {
    let e = (-score.abs()).exp();
    (if score < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

fn probit(score: f32) -> f32 {
    // S. Winitzki, "A handy approximation for the error function and its inverse", 2008.
    let a = 0.147f32;
    let y = 2.0 * score - 1.0;
    let log = ((1.0 - y) * (1.0 + y)).ln();
    let v = 2.0 / (std::f32::consts::PI * a) + 0.5 * log;
    let inverse = (-v + (v * v - log / a).sqrt()).sqrt().copysign(y);
    std::f32::consts::SQRT_2 * inverse
}
