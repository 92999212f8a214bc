//! The inner loops of erase-core: products of rows with centres, their sparse updates, minima, and the arithmetic of the
//! lattice, all in integers. Every function gives the same integers on every processor; which instructions it
//! runs is decided once, when the first of them is called.
//!
//! # Layout
//!
//! Rows lie in *blocks* of [`LANES`] rows. A block interleaves its rows by pairs of coordinates: first coordinates 0 and
//! 1 of each of the rows in turn, then 2 and 3, and so on, with a zero behind an odd last coordinate. So the
//! multiply-add of 16-bit pairs, which every vector unit has in some form, works on all rows of a block at once
//! without sums across a register; and a few coordinates of many rows can be read without the others.
//!
//! A *vector* (a centre, or one row by itself) is plain: its coordinates one after the other, with the same zero behind.
//!
//! # Keys
//!
//! The *key* of a row `x` for a centre `c` is `bias - 2 x.c` modulo 2^32. With the bias `|c|^2 + constant` keys of one row
//! compare as its distances do.
//!
//! # Unsafe code
//!
//! This crate holds all that there is in erase-core: the calls of functions compiled for more than the baseline, each
//! behind a check that the processor has what they need (`dispatch.rs`), and the loads and stores of the hand-written
//! ones, whose lengths are checked on entry (`x86.rs`, `neon.rs`). Tests compare every variant that the processor has with
//! the plain one (`portable.rs`), on every shape.
#![deny(missing_docs)]

mod dispatch;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dispatch::Level;
pub use portable::{Cells, Shift, Span};

/// Rows in a block.
pub const LANES: usize = 16;

/// Length of a vector of `dim` coordinates, with the zero behind an odd last one.
#[must_use]
pub const fn padded(dim: usize) -> usize {
    dim.next_multiple_of(2)
}

/// Entries of a block of rows of `dim` coordinates.
#[must_use]
pub const fn block_len(dim: usize) -> usize {
    padded(dim) * LANES
}

/// The keys of a block's rows for several vectors: `LANES` for each vector.
///
/// # Panics
///
/// If the slices' lengths do not belong together.
pub fn keys(block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    keys_at(Level::detected(), block, vectors, biases, out);
}

/// As [`keys`], at a level that the processor has.
///
/// # Panics
///
/// As [`keys`].
pub fn keys_at(level: Level, block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    assert!(block.len().is_multiple_of(2 * LANES), "whole pairs of coordinates");
    assert_eq!(vectors.len(), biases.len() * (block.len() / LANES), "vectors as wide as the rows");
    assert_eq!(out.len(), biases.len() * LANES, "a key for each row and vector");
    dispatch::keys(level, block, vectors, biases, out);
}

/// Brings keys up to date with centres that have moved: `keys` has `LANES` for each centre.
///
/// # Panics
///
/// If the block or the keys are too short for what `shifts` names.
pub fn shift_keys(block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
    shift_keys_at(Level::detected(), block, shifts, keys);
}

/// As [`shift_keys`], at a level that the processor has.
///
/// # Panics
///
/// As [`shift_keys`].
pub fn shift_keys_at(level: Level, block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
    for shift in shifts {
        assert!(shift.end() * 2 * LANES <= block.len(), "coordinates that the rows have");
        assert!((shift.centre + 1) * LANES <= keys.len(), "centres that there are keys for");
    }
    dispatch::shift_keys(level, block, shifts, keys);
}

dispatch::multiversion! {
    /// The smallest of each row's keys, ties to the lowest index, and that index.
    nearest = nearest_at(keys: &[u32], best: &mut [u32; LANES], labels: &mut [u16; LANES]);

    /// The keys of one row for several vectors.
    ///
    /// # Panics
    ///
    /// If there are fewer vectors than biases.
    row_keys = row_keys_at(row: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]);

    /// Adds a row to a sum, or takes it out of one if `sign` is negative.
    add_row = add_row_at(sum: &mut [i64], row: &[i16], sign: i64);

    /// Takes one row out of a block.
    read_lane = read_lane_at(block: &[i16], lane: usize, row: &mut [i16]);

    /// Whether cells hold after a change of their slacks.
    cells_hold = cells_hold_at(cells: Cells<'_>, slack: &[i64], corners: &[i32]) -> bool;

    /// Carries a change of slacks out.
    shift_cells = shift_cells_at(cells: Cells<'_>, slack: &mut [i64], corners: &[i32]);

    /// Finds the cells of quotients: `slack` holds numerators relative to the corners there are, and is left between 0
    /// and `span.width`, relative to the right ones.
    ///
    /// # Panics
    ///
    /// If the width is not positive.
    settle = settle_at(slack: &mut [i64], corners: &mut [i32], phase: &[i32], span: Span);

    /// Scalar product of small numbers with large ones.
    wide_dot = wide_dot_at(a: &[i16], b: &[i64]) -> i64;

    /// Philox4x32-10 at counters of one key that differ in their first two words, a lane for each.
    philox = philox_at(key: [u32; 2], low: &[u32; LANES], high: &[u32; LANES], third: u32, fourth: u32) -> [[u32; LANES]; 4];

    /// For each of three trials the lanes, as bits, whose race may be won: those whose draw over the weight may be at most
    /// the limit. The draws are 42 bits each of the words, lowest first, and an energy is at least `2^48` times one minus
    /// such a draw as a fraction. Lanes that cannot win may be among them, lanes that can are never missing, as long as
    /// limits are rounded up by more than 2^-50 of themselves.
    candidates = candidates_at(words: &[[u32; LANES]; 4], weights: &[u32; LANES], limits: [f64; 3]) -> [u32; 3];

    /// Turns keys of `LANES` rows for several vectors into squared distances: subtracts `offset`, adds the rows' squares.
    to_distances = to_distances_at(keys: &mut [u32], squares: &[u32; LANES], offset: u32);

    /// The smaller of each two.
    least = least_at(of: &mut [u32; LANES], and: &[u32]);

    /// For each of several lists of `LANES`, the sum over live lanes of the smaller of a weight and an entry.
    least_sums = least_sums_at(weights: &[u32; LANES], lists: &[u32], live: u32, sums: &mut [i64]);

    /// Rounds a row times `scale` to the nearest integers, halves to even, and returns their squared norm. `out` is right if
    /// they fit it; far beyond, the norm is only known to be large.
    round_single = round_single_at(row: &[f32], scale: f64, out: &mut [i16]) -> i64;

    /// As `round_single`.
    round_double = round_double_at(row: &[f64], scale: f64, out: &mut [i16]) -> i64;

    /// About the squared norm of a row; not finite if an entry is not.
    energy_single = energy_single_at(row: &[f32]) -> f64;

    /// As `energy_single`.
    energy_double = energy_double_at(row: &[f64]) -> f64;
}

/// Puts a row into a block.
pub fn write_lane(block: &mut [i16], lane: usize, row: &[i16]) {
    for (pair, values) in block.chunks_exact_mut(2 * LANES).zip(row.chunks_exact(2)) {
        pair[2 * lane..2 * lane + 2].copy_from_slice(values);
    }
}

#[cfg(test)]
mod tests;
