//! Weights of small magnitude become zero.

use super::plan::Prune;

/// The rows of `width` elements, pruned. Of equal magnitudes the first go.
pub(super) fn pruned(elements: &[f32], width: usize, how: Prune) -> Vec<f32> {
    let mut out = elements.to_vec();
    match how {
        Prune::Share(share) => {
            let count = (share * out.len() as f64).floor() as usize;
            smallest(&mut out, count);
        }
        Prune::TwoOfFour => {
            let of_rows = out.chunks_mut(width.max(1));
            for four in of_rows.flat_map(|row| row.chunks_exact_mut(4)) {
                smallest(four, 2);
            }
        }
    }
    out
}

/// Makes the `count` elements of the smallest magnitude zero.
fn smallest(elements: &mut [f32], count: usize) {
    let mut order: Vec<usize> = (0..elements.len()).collect();
    if count > 0 && count < order.len() {
        let by = |&a: &usize, &b: &usize| {
            elements[a].abs().total_cmp(&elements[b].abs()).then(a.cmp(&b))
        };
        order.select_nth_unstable_by(count - 1, by);
    }
    for &index in &order[..count.min(order.len())] {
        elements[index] = 0.0;
    }
}
