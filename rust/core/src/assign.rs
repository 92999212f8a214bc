//! The nearest centre: the inner loop of everything. Algorithm: docs/algorithm.md, section 6, step 1.
//!
//! Distances are compared, and mostly computed, without the row's own norm: the *key* of a row for a centre `c` is
//! `|c|^2 - 2 x.c + OFFSET`, taken modulo 2^32. By the bounds of docs/algorithm.md it never leaves that range, so that
//! wrapping arithmetic is exact.

use crate::fixed;
use crate::wipe::Wiped;

/// Makes every key non-negative: no row has a larger squared norm.
const OFFSET: i64 = (1 << 28) + (1 << 24);
/// Largest squared norm of a centre.
pub(crate) const MAX_CENTRE_SQUARE: i64 = 33 << 26;

/// Exact scalar product. Sums may wrap on the way but not at the end: `|x| |c| < 2^31`.
pub(crate) fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0_i32, |sum, (&x, &y)| sum.wrapping_add(i32::from(x) * i32::from(y)))
}

/// The centres of one step.
#[derive(Debug, Clone)]
pub(crate) struct Centres {
    dim: usize,
    values: Wiped<i16>,
    /// `|c|^2 + OFFSET`, modulo 2^32.
    biases: Vec<u32>,
}

impl Centres {
    pub(crate) fn new(values: Wiped<i16>, dim: usize) -> Self {
        let biases = values.chunks_exact(dim).map(|centre| modulo(fixed::square(centre) + OFFSET)).collect();
        Self { dim, values, biases }
    }

    pub(crate) fn len(&self) -> usize {
        self.biases.len()
    }

    pub(crate) fn centre(&self, j: usize) -> &[i16] {
        &self.values[j * self.dim..(j + 1) * self.dim]
    }

    pub(crate) fn values(&self) -> &[i16] {
        &self.values
    }

    /// Squared norm of a centre.
    pub(crate) fn square(&self, j: usize) -> i64 {
        fixed::square(self.centre(j))
    }

    /// Comparable to the keys of other centres for the same row, and to nothing else.
    pub(crate) fn key(&self, j: usize, row: &[i16]) -> u32 {
        self.biases[j].wrapping_sub(dot(row, self.centre(j)).cast_unsigned().wrapping_mul(2))
    }

    /// Squared distance of a row to a centre.
    pub(crate) fn distance(&self, j: usize, row: &[i16]) -> u32 {
        self.distance_of_norm(j, row, dot(row, row).cast_unsigned())
    }

    /// Squared distance to a centre of a row whose squared norm is known.
    pub(crate) fn distance_of_norm(&self, j: usize, row: &[i16], square: u32) -> u32 {
        self.key(j, row).wrapping_sub(modulo(OFFSET)).wrapping_add(square)
    }

    /// The nearest of all centres, ties to the lowest index.
    pub(crate) fn nearest(&self, row: &[i16]) -> u16 {
        self.nearest_among(0..self.len(), row).1
    }

    /// Key and index of the nearest of some centres, named in ascending order, ties to the lowest index.
    pub(crate) fn nearest_among(&self, centres: impl IntoIterator<Item = usize>, row: &[i16]) -> (u32, u16) {
        let mut best = (u32::MAX, u16::MAX);
        for j in centres {
            best = best.min((self.key(j, row), label(j)));
        }
        best
    }
}

/// A cluster's index as a label.
pub(crate) fn label(j: usize) -> u16 {
    debug_assert!(u16::try_from(j).is_ok());
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^16 clusters")]
    {
        j as u16
    }
}

fn modulo(v: i64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "arithmetic modulo 2^32")]
    {
        v as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extremes of docs/algorithm.md, "Bounds": opposite directions, largest norms, in one and in many dimensions.
    #[test]
    fn extreme_distances_are_exact() {
        for dim in [1_usize, 2, 4, 64, 65_536] {
            let spread = |square: i64| {
                let entry = (square / dim.cast_signed() as i64).isqrt().min(32_767);
                vec![fixed::narrow(entry); dim]
            };
            let centre = spread(MAX_CENTRE_SQUARE);
            for sign in [-1_i16, 1] {
                let row: Vec<i16> = spread(fixed::MAX_SQUARE).iter().map(|x| x * sign).collect();
                let exact: i64 = row.iter().zip(&centre).map(|(&x, &c)| (i64::from(x) - i64::from(c)).pow(2)).sum();
                let centres = Centres::new([centre.clone(), row.clone()].concat().into(), dim);
                assert_eq!(i64::from(centres.distance(0, &row)), exact);
                assert_eq!(centres.nearest(&row), 1);
            }
        }
    }
}
