//! Matrices of FP32 that are turned: rows become columns.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::cpu::product::turned;

/// Rows, and elements of each, that are turned in registers.
pub(super) const SQUARE: usize = 4;
/// Rows whose elements lie in one cache line when they are columns: these are turned before the next rows' turn.
const ROWS: usize = 16;

/// Elements `part` of rows that are `stride` long become columns: element p of row i goes to
/// `out[(p - part.start) * columns + i]`.
pub(super) fn turn(
    rows: &[f32],
    stride: usize,
    part: Range<usize>,
    columns: usize,
    out: &mut [f32],
) {
    let count = rows.len().checked_div(stride).unwrap_or(0);
    let squares = count - count % SQUARE;
    let whole = part.end - part.len() % SQUARE;
    for first in (0..squares).step_by(ROWS) {
        let last = squares.min(first + ROWS);
        for from in (part.start..whole).step_by(SQUARE) {
            for row in (first..last).step_by(SQUARE) {
                let square = [
                    four(rows, row * stride + from),
                    four(rows, (row + 1) * stride + from),
                    four(rows, (row + 2) * stride + from),
                    four(rows, (row + 3) * stride + from),
                ];
                let to = (from - part.start) * columns + row;
                let [a, b, c, d] = turned(square);
                out[to..to + SQUARE].copy_from_slice(&a);
                out[to + columns..to + columns + SQUARE].copy_from_slice(&b);
                out[to + 2 * columns..to + 2 * columns + SQUARE].copy_from_slice(&c);
                out[to + 3 * columns..to + 3 * columns + SQUARE].copy_from_slice(&d);
            }
        }
        one_by_one(rows, stride, first..last, whole..part.end, part.start, columns, out);
    }
    one_by_one(rows, stride, squares..count, part.clone(), part.start, columns, out);
}

fn one_by_one(
    rows: &[f32],
    stride: usize,
    of: Range<usize>,
    elements: Range<usize>,
    start: usize,
    columns: usize,
    out: &mut [f32],
) {
    for row in of {
        for from in elements.clone() {
            out[(from - start) * columns + row] = rows[row * stride + from];
        }
    }
}

#[inline(always)]
fn four(rows: &[f32], at: usize) -> [f32; SQUARE] {
    let row = &rows[at..at + SQUARE];
    [row[0], row[1], row[2], row[3]]
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turned(square: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    [0, 1, 2, 3].map(|column| [0, 1, 2, 3].map(|row| square[row][column]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        for (count, stride) in [(0, 3), (1, 1), (3, 5), (4, 4), (6, 33), (17, 20), (9, 64)] {
            let rows: Vec<f32> = (0..count * stride).map(|i| i as f32).collect();
            for part in [0..stride, stride / 3..stride, 0..stride - stride / 4, 0..0] {
                for columns in [count, count + 2] {
                    let mut out = vec![-1.0; columns * part.len()];
                    turn(&rows, stride, part.clone(), columns, &mut out);
                    for (i, row) in out.chunks(columns.max(1)).enumerate() {
                        for (column, &x) in row.iter().enumerate() {
                            let wanted = match column < count {
                                true => rows[column * stride + part.start + i],
                                false => -1.0,
                            };
                            assert_eq!(x, wanted, "{count} {stride} {part:?} {columns}");
                        }
                    }
                }
            }
        }
    }
}
