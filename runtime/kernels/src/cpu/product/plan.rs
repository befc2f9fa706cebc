//! How a product is cut into chunks for threads.

use std::ops::Range;

/// Multiply-adds of one chunk, at most: well below a millisecond.
const CHUNK_MAX: usize = 32 << 20;
/// And at least, where threads share them: well above the time of handing them over.
const CHUNK_MIN: usize = 1 << 19;
/// Chunks for each thread, where there are enough, so that all end at about the same time.
const CHUNKS_OF_THREAD: usize = 4;
/// Rows of one chunk: few enough for the second cache to hold them, many enough to use each panel often.
pub(in crate::cpu) const ROWS: Range<usize> = 48..96;
/// A right side is read once for each chunk, which takes as long as so many rows.
const READING_ROWS: usize = 8;

/// The result as a grid of chunks.
pub(in crate::cpu) struct Plan {
    m: usize,
    panels: usize,
    rows: usize,
    columns: usize,
}

impl Plan {
    /// For a product of `[m, k]` by `[k, n]` that is not empty, in tiles of so many rows and columns, in chunks of as
    /// many rows as `height` says.
    pub(in crate::cpu) fn new(
        [m, k, n]: [usize; 3],
        [rows_of_tile, columns]: [usize; 2],
        height: Range<usize>,
        threads: usize,
    ) -> Plan {
        let panels = n.div_ceil(columns);
        let work = k.max(1).saturating_mul(n).saturating_mul(m.max(READING_ROWS));
        let mut chunks = work.div_ceil(CHUNK_MAX);
        if threads > 1 {
            chunks = chunks.max((work / CHUNK_MIN).min(threads * CHUNKS_OF_THREAD));
        }
        let area = (m * n).div_ceil(chunks.max(1)).max(1);
        let height = area.isqrt().clamp(height.start, height.end).min(m);
        let mut plan = Plan { m, panels, rows: m.div_ceil(height), columns: 1 };
        plan.columns = chunks.div_ceil(plan.rows).clamp(1, panels);
        let rows_max = m.div_ceil(rows_of_tile);
        plan.rows = plan.rows.max(chunks.div_ceil(plan.columns)).min(rows_max);
        // As many chunks for every thread, where one more would be felt.
        for _ in 0..threads {
            let few = plan.chunks() > 1 && plan.chunks() < threads * 2 * CHUNKS_OF_THREAD;
            if !few || plan.chunks().is_multiple_of(threads) {
                break;
            }
            if plan.columns < panels {
                plan.columns += 1;
            } else if plan.rows < rows_max {
                plan.rows += 1;
            }
        }
        plan
    }

    pub(in crate::cpu) fn chunks(&self) -> usize {
        self.rows * self.columns
    }

    /// The rows and the panels of one chunk. Those that follow each other share their panels.
    pub(in crate::cpu) fn chunk(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let (column, row) = (index / self.rows, index % self.rows);
        (share(self.m, self.rows, row), share(self.panels, self.columns, column))
    }
}

/// Part `index` of `parts` as equal parts of `0..len`.
pub(in crate::cpu) fn share(len: usize, parts: usize, index: usize) -> Range<usize> {
    let at = |index: usize| (len as u128 * index as u128 / parts as u128) as usize;
    at(index)..at(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::product::tile::kernel;

    #[test]
    fn chunks_cover_the_result_once() {
        let sizes = [1, 2, 5, 12, 13, 31, 64, 100, 513];
        for isa in [Isa::Portable, Isa::best()] {
            let kernel = kernel(isa);
            for (m, n) in sizes.iter().flat_map(|&m| sizes.map(|n| (m, n))) {
                for (k, threads) in [(0, 1), (1, 2), (3000, 1), (3000, 3), (100_000, 64)] {
                    let tile = [kernel.rows_max, kernel.columns];
                    let plan = Plan::new([m, k, n], tile, ROWS, threads);
                    let panels = n.div_ceil(kernel.columns);
                    let mut seen = vec![0; m * panels];
                    for index in 0..plan.chunks() {
                        let (rows, panels_of) = plan.chunk(index);
                        for row in rows {
                            panels_of.clone().for_each(|panel| seen[row * panels + panel] += 1);
                        }
                    }
                    assert!(seen.iter().all(|&times| times == 1), "{m} {k} {n} {threads}");
                }
            }
        }
    }
}
