//! Centres, and how rows compare to them: the inner loop of everything. Algorithm: docs/algorithm.md, section 6, step 1.
//!
//! Distances are compared, and mostly computed, without the row's own norm: the *key* of a row for a centre `c` is
//! `|c|^2 - 2 x.c + OFFSET`, taken modulo 2^32. By the bounds of docs/algorithm.md it never leaves that range, so that
//! wrapping arithmetic is exact.

use erase_core_kernel::{self as kernel, padded};

use crate::fixed::dot;
use crate::wipe::Wiped;

/// Makes every key non-negative: no row has a larger squared norm.
pub(crate) const OFFSET: u32 = (1 << 28) + (1 << 24);
/// Largest squared norm of a centre.
pub(crate) const MAX_CENTRE_SQUARE: i64 = 33 << 26;

/// Some centres: those of a step, or rows that others are compared with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Centres {
    dim: usize,
    /// One after the other, as the kernel wants vectors.
    vectors: Wiped<i16>,
    /// `|c|^2 + OFFSET`, modulo 2^32.
    biases: Wiped<u32>,
}

impl Centres {
    pub(crate) fn with_capacity(dim: usize, centres: usize) -> Self {
        let vectors = Wiped::with_capacity(centres * padded(dim));
        Self { dim, vectors, biases: Wiped::with_capacity(centres) }
    }

    /// Appends a centre, padded or not.
    pub(crate) fn push(&mut self, centre: &[i16]) {
        let len = self.vectors.len() + padded(self.dim);
        self.vectors.extend_from_slice(&centre[..self.dim]);
        self.vectors.grow(len);
        self.biases.extend_from_slice(&[dot(centre, centre).cast_unsigned().wrapping_add(OFFSET)]);
    }

    /// Appends one of others of the same dimension.
    pub(crate) fn push_from(&mut self, others: &Self, j: usize) {
        self.vectors.extend_from_slice(others.padded(j));
        self.biases.extend_from_slice(&others.biases[j..=j]);
    }

    pub(crate) fn len(&self) -> usize {
        self.biases.len()
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn centre(&self, j: usize) -> &[i16] {
        &self.padded(j)[..self.dim]
    }

    /// A centre with the zero behind an odd last coordinate.
    pub(crate) fn padded(&self, j: usize) -> &[i16] {
        let width = padded(self.dim);
        &self.vectors[j * width..(j + 1) * width]
    }

    /// What all keys for a centre contain.
    pub(crate) fn bias(&self, j: usize) -> u32 {
        self.biases[j]
    }

    /// Squared norm of a centre.
    pub(crate) fn square(&self, j: usize) -> u32 {
        self.biases[j].wrapping_sub(OFFSET)
    }

    /// The keys of a block's rows for all centres, lane by lane for each centre.
    pub(crate) fn keys(&self, block: &[i16], keys: &mut [u32]) {
        kernel::keys(block, &self.vectors, &self.biases, keys);
    }

    /// The keys of one row, padded, for all centres.
    pub(crate) fn row_keys(&self, row: &[i16], keys: &mut [u32]) {
        kernel::row_keys(row, &self.vectors, &self.biases, keys);
    }

    /// Squared distance of two centres, which two of the largest norm bring beyond 32 bits.
    pub(crate) fn square_distance(&self, a: usize, b: usize) -> u64 {
        let differences = self.centre(a).iter().zip(self.centre(b)).map(|(&a, &b)| i32::from(a).abs_diff(b.into()));
        differences.map(|difference| u64::from(difference).pow(2)).sum()
    }

    /// Squared distance of a row, padded and of known squared norm, to one centre.
    pub(crate) fn distance(&self, j: usize, row: &[i16], square: u32) -> u32 {
        let mut key = [0];
        kernel::row_keys(row, self.padded(j), &self.biases[j..=j], &mut key);
        distance(key[0], square)
    }

    /// The nearest of all centres, ties to the lowest index, of a row, padded.
    pub(crate) fn nearest(&self, row: &[i16]) -> u16 {
        let mut keys = Wiped::zeros(self.len());
        self.row_keys(row, &mut keys);
        let nearest = keys.iter().enumerate().min_by_key(|(_, key)| **key);
        label(nearest.map_or(0, |(j, _)| j))
    }
}

/// The squared distance that a key stands for, of a row of known squared norm.
pub(crate) fn distance(key: u32, square: u32) -> u32 {
    key.wrapping_sub(OFFSET).wrapping_add(square)
}

/// A cluster's index as a label.
pub(crate) fn label(j: usize) -> u16 {
    debug_assert!(u16::try_from(j).is_ok());
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^16 clusters")]
    {
        j as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed;

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
                let mut centres = Centres::with_capacity(dim, 2);
                centres.push(&centre);
                centres.push(&row);
                let mut padded = row.clone();
                padded.resize(dim.next_multiple_of(2), 0);
                assert_eq!(i64::from(centres.distance(0, &padded, fixed::small_square(&row))), exact);
                assert_eq!(centres.nearest(&padded), 1);
            }
        }
    }
}
