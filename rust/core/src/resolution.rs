//! Whether the steps in which a model counts are too coarse for its rows: a figure of the result, so that it follows
//! the rows as all else does. Definition: docs/algorithm.md, section 8.

use crate::lloyd::Summary;

/// Steps of the fixed point that count as much as the lattice's pitch, should that be finer.
const FLOOR: u32 = 1024;

/// How far the centres are from that of the largest cluster: what does not change as long as they stay.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    largest: usize,
    squares: Vec<u64>,
}

impl Apart {
    pub(crate) fn new(result: &Summary) -> Self {
        let (largest, centres) = (largest(&result.counts), &result.centres);
        Self { largest, squares: (0..centres.len()).map(|j| centres.square_distance(largest, j)).collect() }
    }

    /// Whether these are still the distances of a result whose centres have stayed.
    pub(crate) fn is_of(&self, result: &Summary) -> bool {
        self.largest == largest(&result.counts)
    }

    /// The coarser of pitch and floor over the spread of most rows, in each coordinate; 0 for fewer than two rows.
    ///
    /// The spread is that of the 7/8 of the rows whose clusters are nearest to the largest one, so that a few rows far
    /// away do not count: it is they that make the fixed point coarse for the others.
    pub(crate) fn resolution(&self, result: &Summary, pitch: u32, dim: usize) -> f64 {
        let Summary { counts, loss, .. } = result;
        let n: i64 = counts.iter().sum();
        if n < 2 {
            return 0.0;
        }
        let mut near: Vec<(u64, i64)> = self.squares.iter().copied().zip(counts.iter().copied()).collect();
        near.sort_unstable();
        let mut held = 0;
        let radius = near.iter().find(|(_, count)| {
            held += count;
            8 * held >= 7 * n
        });
        let n = u128::from(n.unsigned_abs());
        let spread = u128::from(radius.map_or(0, |&(square, _)| square)) * n + u128::from(loss.unsigned_abs());
        let step = u128::from(pitch.max(FLOOR));
        #[expect(clippy::cast_precision_loss, reason = "two integers, each rounded once: the same on every platform")]
        (((step * step * dim as u128 * n) as f64) / spread as f64).sqrt()
    }
}

/// The largest cluster; the first of several.
fn largest(counts: &[i64]) -> usize {
    (0..counts.len()).rev().max_by_key(|&j| counts[j]).unwrap_or(0)
}
