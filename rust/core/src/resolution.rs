//! Whether the steps in which a model counts are too coarse for its rows: a figure of the result, so that it follows
//! the rows as all else does. Definition: docs/algorithm.md, section 8.

use crate::lloyd::Summary;

/// Steps of the fixed point that count as much as the lattice's pitch, should that be finer.
const FLOOR: u32 = 1024;

/// The coarser of pitch and floor over the spread of most rows, in each coordinate; 0 for fewer than two rows.
///
/// The spread is that of the 7/8 of the rows whose clusters are nearest to the largest one, so that a few rows far away
/// do not count: it is they that make the fixed point coarse for the others.
pub(crate) fn of(result: &Summary, pitch: u32, dim: usize) -> f64 {
    let Summary { centres, counts, loss, .. } = result;
    let n: i64 = counts.iter().sum();
    // The first of the largest.
    let Some(largest) = (0..counts.len()).rev().max_by_key(|&j| counts[j]).filter(|_| n > 1) else { return 0.0 };
    let mut near: Vec<(u64, i64)> =
        (0..counts.len()).map(|j| (centres.square_distance(largest, j), counts[j])).collect();
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
