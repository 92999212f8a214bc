//! The plain versions: what every other variant must equal. Those that `multiversion!` names are written so that the
//! compiler turns them into vector code at every level.

#![allow(clippy::inline_always, reason = "so that the variants of a function are compiled with their features")]

use crate::LANES;

/// How the keys of one centre change when it moves by a few coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// Which centre.
    pub(crate) centre: usize,
    /// Change of its bias.
    bias: u32,
    /// Pairs of coordinates in which it moves, ascending, and by how much.
    pub(crate) moves: Vec<(u32, [i16; 2])>,
}

impl Shift {
    /// The change of the keys of `centre` from one position and bias to another; None if it moves too far in a coordinate
    /// for 16 bits, or in more than `most` pairs of coordinates.
    ///
    /// # Panics
    ///
    /// If the positions are of different lengths.
    #[must_use]
    pub fn between(centre: usize, from: (&[i16], u32), to: (&[i16], u32), most: usize) -> Option<Self> {
        assert_eq!(from.0.len(), to.0.len(), "positions of one dimension");
        let mut moves = Vec::new();
        for ((pair, old), new) in (0..).zip(from.0.chunks_exact(2)).zip(to.0.chunks_exact(2)) {
            if old != new {
                if moves.len() == most {
                    return None;
                }
                moves.push((pair, [new[0].checked_sub(old[0])?, new[1].checked_sub(old[1])?]));
            }
        }
        Some(Self { centre, bias: to.1.wrapping_sub(from.1), moves })
    }

    /// Pairs of coordinates in which the centre moves.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.moves.len()
    }

    /// Number of pairs that rows must have.
    pub(crate) fn end(&self) -> usize {
        self.moves.last().map_or(0, |&(pair, _)| pair as usize + 1)
    }

    /// The new keys, from the old ones and the products with the move.
    pub(crate) fn apply(&self, products: [i32; LANES], keys: &mut [u32]) {
        for (key, product) in keys.iter_mut().zip(products) {
            *key = key.wrapping_add(self.bias).wrapping_sub(product.cast_unsigned().wrapping_mul(2));
        }
    }
}

/// How the slacks of one cluster change: each by `sum + lack * centre - den * corner`.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    /// Change of the sum of the rows; empty if there is none.
    pub sum: &'a [i64],
    /// The centre.
    pub centre: &'a [i16],
    /// Change of what is lacking to the balance.
    pub lack: i32,
    /// Change of the denominator.
    pub den: i32,
    /// Width of a cell, times the denominator after the change.
    pub limit: i64,
}

/// What quotients are, and where they are cut.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Denominator.
    pub den: i64,
    /// Width of a cell.
    pub pitch: i64,
}

pub(crate) fn keys(block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    let width = block.len() / LANES;
    for ((vector, &bias), out) in vectors.chunks_exact(width).zip(biases).zip(out.chunks_exact_mut(LANES)) {
        let mut products = [0_i32; LANES];
        for (rows, pair) in block.chunks_exact(2 * LANES).zip(vector.chunks_exact(2)) {
            multiply_add(&mut products, rows, [pair[0], pair[1]]);
        }
        for (key, product) in out.iter_mut().zip(products) {
            *key = bias.wrapping_sub(product.cast_unsigned().wrapping_mul(2));
        }
    }
}

pub(crate) fn shift_keys(block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
    for shift in shifts {
        let mut products = [0_i32; LANES];
        for &(pair, by) in &shift.moves {
            let start = pair as usize * 2 * LANES;
            multiply_add(&mut products, &block[start..start + 2 * LANES], by);
        }
        shift.apply(products, &mut keys[shift.centre * LANES..][..LANES]);
    }
}

#[inline(always)]
fn multiply_add(products: &mut [i32; LANES], rows: &[i16], by: [i16; 2]) {
    for (product, row) in products.iter_mut().zip(rows.chunks_exact(2)) {
        let sum = (i32::from(row[0]) * i32::from(by[0])).wrapping_add(i32::from(row[1]) * i32::from(by[1]));
        *product = product.wrapping_add(sum);
    }
}

#[inline(always)]
pub(crate) fn nearest(keys: &[u32], best: &mut [u32; LANES], labels: &mut [u16; LANES]) {
    let (mut least, mut wide) = ([u32::MAX; LANES], [0_u32; LANES]);
    for (j, keys) in (0_u32..).zip(keys.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let is_less = keys[lane] < least[lane];
            least[lane] = if is_less { keys[lane] } else { least[lane] };
            wide[lane] = if is_less { j } else { wide[lane] };
        }
    }
    *best = least;
    #[expect(clippy::cast_possible_truncation, reason = "an index among at most 2^16")]
    let narrow = |j: u32| j as u16;
    *labels = wide.map(narrow);
}

#[inline(always)]
pub(crate) fn row_keys(row: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    assert!(vectors.len() >= biases.len() * row.len(), "a vector for each bias");
    for ((vector, &bias), key) in vectors.chunks_exact(row.len()).zip(biases).zip(out) {
        let product = row.iter().zip(vector).fold(0_i32, |sum, (&x, &c)| sum.wrapping_add(i32::from(x) * i32::from(c)));
        *key = bias.wrapping_sub(product.cast_unsigned().wrapping_mul(2));
    }
}

#[inline(always)]
pub(crate) fn add_row(sum: &mut [i64], row: &[i16], sign: i64) {
    if sign < 0 {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum -= i64::from(x));
    } else {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += i64::from(x));
    }
}

#[inline(always)]
pub(crate) fn read_lane(block: &[i16], lane: usize, row: &mut [i16]) {
    for (pair, values) in block.chunks_exact(2 * LANES).zip(row.chunks_exact_mut(2)) {
        values.copy_from_slice(&pair[2 * lane..2 * lane + 2]);
    }
}

/// Negative if a slack is outside of its cell: either of two differences is then.
#[inline(always)]
fn outside(v: i64, limit: i64) -> i64 {
    v | (limit - 1 - v)
}

#[inline(always)]
pub(crate) fn cells_hold(cells: Cells<'_>, slack: &[i64], corners: &[i32]) -> bool {
    let Cells { sum, centre, lack, den, limit } = cells;
    // No early exit: the loop is short, and without one it runs in vectors.
    let mut signs = 0;
    if lack == 0 && !sum.is_empty() {
        for ((&v, &l), &s) in slack.iter().zip(corners).zip(sum) {
            let v = v + s - i64::from(den) * i64::from(l);
            signs |= outside(v, limit);
        }
    } else {
        for (i, ((&v, &l), &c)) in slack.iter().zip(corners).zip(centre).enumerate() {
            let sum = sum.get(i).copied().unwrap_or(0);
            let v = v + sum + i64::from(lack) * i64::from(c) - i64::from(den) * i64::from(l);
            signs |= outside(v, limit);
        }
    }
    signs >= 0
}

#[inline(always)]
pub(crate) fn shift_cells(cells: Cells<'_>, slack: &mut [i64], corners: &[i32]) {
    let Cells { sum, centre, lack, den, .. } = cells;
    for (v, &s) in slack.iter_mut().zip(sum) {
        *v += s;
    }
    for (v, &l) in slack.iter_mut().zip(corners) {
        *v -= i64::from(den) * i64::from(l);
    }
    if lack != 0 {
        for (v, &c) in slack.iter_mut().zip(centre) {
            *v += i64::from(lack) * i64::from(c);
        }
    }
}

/// Adding this leaves no room for a fraction: numbers below 2^51 are rounded to integers, halves to even, and the integer
/// stands in the low bits.
const SHIFT: f64 = 6_755_399_441_055_744.0;

/// A float of an integer below 2^51 in magnitude, without a conversion that not every vector unit has.
#[inline(always)]
fn float(v: i64) -> f64 {
    f64::from_bits(SHIFT.to_bits().wrapping_add(v.cast_unsigned())) - SHIFT
}

/// The integer nearest to a float below 2^51 in magnitude, halves to even.
#[inline(always)]
fn integer(x: f64) -> i64 {
    (x + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed()
}

/// The float quotient only says where to look: it is nearer than 1/2 to the true one, so that the nearest integer is
/// the floor or one above, and the remainder, an integer, decides.
#[inline(always)]
pub(crate) fn settle(slack: &mut [i64], corners: &mut [i32], phase: &[i32], span: Span) {
    let Span { den, pitch } = span;
    let width = pitch * den;
    assert!(width > 0, "cells have a width");
    let inverse = 1.0 / float(width);
    for ((v, l), &phi) in slack.iter_mut().zip(corners).zip(phase) {
        let num = *v + (i64::from(*l) + i64::from(phi)) * den;
        let guess = integer(float(num) * inverse);
        let rest = num - guess * width;
        let is_above = rest < 0;
        let cell = if is_above { guess - 1 } else { guess };
        *v = if is_above { rest + width } else { rest };
        #[expect(clippy::cast_possible_truncation, reason = "within a pitch of a mean of 16-bit numbers")]
        {
            *l = (cell * pitch) as i32 - phi;
        }
    }
}

#[inline(always)]
pub(crate) fn wide_dot(a: &[i16], b: &[i64]) -> i64 {
    a.iter().zip(b).map(|(&a, &b)| i64::from(a) * b).sum()
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

#[inline(always)]
pub(crate) fn philox(
    key: [u32; 2],
    low: &[u32; LANES],
    high: &[u32; LANES],
    third: u32,
    fourth: u32,
) -> [[u32; LANES]; 4] {
    let [mut a, mut b, mut c, mut d] = [*low, *high, [third; LANES], [fourth; LANES]];
    let mut key = key;
    for _ in 0..ROUNDS {
        let (mut first, mut second) = ([0_u64; LANES], [0_u64; LANES]);
        for lane in 0..LANES {
            first[lane] = u64::from(MULTIPLIERS[0]) * u64::from(a[lane]);
            second[lane] = u64::from(MULTIPLIERS[1]) * u64::from(c[lane]);
        }
        for lane in 0..LANES {
            a[lane] = half(second[lane] >> 32) ^ b[lane] ^ key[0];
            b[lane] = half(second[lane]);
            c[lane] = half(first[lane] >> 32) ^ d[lane] ^ key[1];
            d[lane] = half(first[lane]);
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    [a, b, c, d]
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn half(v: u64) -> u32 {
    v as u32
}

#[inline(always)]
pub(crate) fn candidates(words: &[[u32; LANES]; 4], weights: &[u32; LANES], limits: [f64; 3]) -> [u32; 3] {
    let mut masks = [0; 3];
    for (trial, (mask, limit)) in masks.iter_mut().zip(limits).enumerate() {
        let mut excess = [0.0_f64; LANES];
        for lane in 0..LANES {
            let [a, b, c, d] = words.each_ref().map(|words| u64::from(words[lane]));
            let bits = match trial {
                0 => a | (b & 0x3FF) << 32,
                1 => b >> 10 | (c & 0xF_FFFF) << 22,
                _ => c >> 20 | (d & 0x3FFF_FFFF) << 12,
            };
            // 2^48 (1 - draw), the draw standing in the middle of its last digit, less one for rounding.
            let energy = float((1 << 42) - bits.cast_signed()) * 64.0 - 33.0;
            excess[lane] = energy - limit * float(i64::from(weights[lane]));
        }
        for (lane, excess) in excess.into_iter().enumerate() {
            // Where there is no limit yet it is infinite, and times no weight not a number: that is not hopeless.
            *mask |= u32::from(excess.is_nan() || excess <= 0.0) << lane;
        }
    }
    masks
}

#[inline(always)]
pub(crate) fn to_distances(keys: &mut [u32], squares: &[u32; LANES], offset: u32) {
    for keys in keys.chunks_exact_mut(LANES) {
        for (key, &square) in keys.iter_mut().zip(squares) {
            *key = key.wrapping_sub(offset).wrapping_add(square);
        }
    }
}

#[inline(always)]
pub(crate) fn least(of: &mut [u32; LANES], and: &[u32]) {
    for (a, &b) in of.iter_mut().zip(and) {
        *a = (*a).min(b);
    }
}

#[inline(always)]
pub(crate) fn least_sums(weights: &[u32; LANES], lists: &[u32], live: u32, sums: &mut [i64]) {
    let masks: [u32; LANES] = std::array::from_fn(|lane| (live >> lane & 1).wrapping_neg());
    for (list, sum) in lists.chunks_exact(LANES).zip(sums) {
        *sum += (0..LANES).map(|lane| i64::from(list[lane].min(weights[lane]) & masks[lane])).sum::<i64>();
    }
}

/// Beyond this a rounded value only has to be large: its square alone is.
const LIMIT: f64 = 1_048_576.0;

#[inline(always)]
fn round<T: Into<f64> + Copy>(row: &[T], scale: f64, out: &mut [i16]) -> i64 {
    let mut square = 0;
    for (out, &x) in out.iter_mut().zip(row) {
        let v = integer((x.into() * scale).clamp(-LIMIT, LIMIT));
        #[expect(clippy::cast_possible_truncation, reason = "right if it fits, as promised")]
        {
            *out = v as i16;
            // Below 2^20 in magnitude: a product of 32-bit numbers, which vector units have.
            square += i64::from(v as i32) * i64::from(v as i32);
        }
    }
    square
}

#[inline(always)]
pub(crate) fn round_single(row: &[f32], scale: f64, out: &mut [i16]) -> i64 {
    round(row, scale, out)
}

#[inline(always)]
pub(crate) fn round_double(row: &[f64], scale: f64, out: &mut [i16]) -> i64 {
    round(row, scale, out)
}

/// In a fixed number of partial sums, so that it runs in vectors.
#[inline(always)]
fn energy<T: Into<f64> + Copy>(row: &[T]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let chunks = row.chunks_exact(LANES);
    for (sum, &x) in sums.iter_mut().zip(chunks.remainder()) {
        *sum += x.into() * x.into();
    }
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x.into() * x.into();
        }
    }
    sums.iter().sum()
}

#[inline(always)]
pub(crate) fn energy_single(row: &[f32]) -> f64 {
    energy(row)
}

#[inline(always)]
pub(crate) fn energy_double(row: &[f64]) -> f64 {
    energy(row)
}
