//! What is left of many boxes. How many that are is known only once they are there, so this is no operation of kernels.

use super::{Lower, Lowered, operand, optional};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    (op_type == "NonMaxSuppression").then_some(suppress as Lower)
}

/// From the least to the largest of both dimensions.
#[derive(Clone, Copy)]
struct Area {
    y: (f32, f32),
    x: (f32, f32),
}

impl Area {
    fn of(corners: &[f32], by_centre: bool) -> Area {
        let [a, b, c, d] = [corners[0], corners[1], corners[2], corners[3]];
        if by_centre {
            let (w, h) = (c / 2.0, d / 2.0);
            return Area { x: (a - w, a + w), y: (b - h, b + h) };
        }
        Area { y: (a.min(c), a.max(c)), x: (b.min(d), b.max(d)) }
    }

    fn size(self) -> f32 {
        (self.y.1 - self.y.0) * (self.x.1 - self.x.0)
    }

    /// The share that two areas have in common of what they cover together.
    fn overlap(self, other: Area) -> f32 {
        let common = |a: (f32, f32), b: (f32, f32)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
        let both = common(self.y, other.y) * common(self.x, other.x);
        let all = self.size() + other.size() - both;
        // Not the other way round: a NaN is no overlap.
        if both > 0.0 && all > 0.0 { both / all } else { 0.0 }
    }
}

/// Boxes `[batch, n, 4]`, scores `[batch, classes, n]`, how many of a class may stay, how much two may overlap, which
/// score a box must have: batch, class and box of each that stays, `[kept, 3]`.
fn suppress(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (boxes, scores) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let ([batch, n, 4], [same, classes, per]) = (m.dims(boxes), m.dims(scores)) else {
        return Err(invalid("wants boxes [batch,n,4] and scores [batch,classes,n]"));
    };
    if batch != same || n != per {
        return Err(invalid("wants as many scores as boxes"));
    }
    let (batch, n, classes) = (*batch, *n, *classes);
    let given = |index| optional(inputs, index).filter(|&val| m.shape(val).elements() > 0);
    let most = given(2).map_or(Ok(0), |val| m.one_int(val))?;
    let overlap = given(3).map_or(Ok(0.0), |val| m.one_number(val))? as f32;
    let score = given(4).map(|val| m.one_number(val)).transpose()?.map(|score| score as f32);
    let by_centre = node.flag("center_point_box", false)?;
    let boxes = m.tensor(boxes)?.elements::<f32>().map_err(invalid)?.into_owned();
    let scores = m.tensor(scores)?.elements::<f32>().map_err(invalid)?.into_owned();
    let mut kept = Vec::new();
    for item in 0..batch {
        let areas: Vec<Area> = boxes[item * n * 4..][..n * 4]
            .chunks_exact(4)
            .map(|corners| Area::of(corners, by_centre))
            .collect();
        for class in 0..classes {
            let scores = &scores[(item * classes + class) * n..][..n];
            let of_class = best(m, &areas, scores, score, overlap, most)?;
            kept.extend(of_class.into_iter().flat_map(|at| [item, class, at].map(|i| i as i64)));
        }
    }
    let rows = kept.len() / 3;
    let kept = innkeeper_tensor::Tensor::from_vec(&[rows, 3], kept).map_err(invalid)?;
    Ok(vec![m.computed(kept)?])
}

/// The boxes of one class that stay, the best first.
fn best(
    m: &Machine<'_>,
    areas: &[Area],
    scores: &[f32],
    least: Option<f32>,
    overlap: f32,
    most: i64,
) -> Result<Vec<usize>, Fail> {
    let good = |at: &usize| least.is_none_or(|least| scores[*at] > least);
    let mut order: Vec<usize> = (0..areas.len()).filter(good).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let most = usize::try_from(most).unwrap_or(0);
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        if kept.len() >= most {
            break;
        }
        m.check()?;
        if kept.iter().all(|&other| areas[at].overlap(areas[other]) <= overlap) {
            kept.push(at);
        }
    }
    Ok(kept)
}
