//! Fixed point: floats become 16-bit integers with one exponent a row, and rows are aligned to one exponent for the
//! model. The only place of the core where rows are floats. Algorithm: docs/algorithm.md, sections 1 and 3.

use erase_core_kernel as kernel;

use crate::error::Error;
use crate::wipe::Wiped;

/// Bits of the fixed point: a norm of 1 at exponent 0 is `2^14`.
pub(crate) const UNIT_BITS: i32 = 14;
/// Largest squared norm of a row in fixed point.
pub(crate) const MAX_SQUARE: i64 = (1 << 28) + (1 << 23);
/// Exponent of a zero row, and the smallest there is.
pub(crate) const MIN_EXPONENT: i16 = -900;

/// `2^exponent` for an exponent in the range of normal numbers.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent));
    f64::from_bits(u64::from((1023 + exponent).unsigned_abs()) << 52)
}

/// Exact scalar product. Sums may wrap on the way but not at the end: `|x| |c| < 2^31`.
pub(crate) fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0_i32, |sum, (&x, &y)| sum.wrapping_add(i32::from(x) * i32::from(y)))
}

/// A float of either precision, read by the kernel in vectors.
pub(crate) trait Float: Copy {
    /// About the squared norm of a row; not finite if an entry is not.
    fn energy(row: &[Self]) -> f64;
    /// The row times `scale`, rounded; returns the squared norm, at least `2^40` if an entry is beyond 20 bits.
    fn round(row: &[Self], scale: f64, out: &mut [i16]) -> i64;
    /// The exact value, whatever the processor is told to do with subnormal numbers.
    fn widen(self) -> f64;
}

impl Float for f32 {
    fn energy(row: &[Self]) -> f64 {
        kernel::energy_single(row)
    }

    fn round(row: &[Self], scale: f64, out: &mut [i16]) -> i64 {
        kernel::round_single(row, scale, out)
    }

    fn widen(self) -> f64 {
        if self.to_bits() << 1 >> 24 != 0 {
            return self.into();
        }
        let mantissa = f64::from(self.to_bits() & 0x007F_FFFF) * power_of_two(-149);
        if self.is_sign_negative() { -mantissa } else { mantissa }
    }
}

impl Float for f64 {
    fn energy(row: &[Self]) -> f64 {
        kernel::energy_double(row)
    }

    fn round(row: &[Self], scale: f64, out: &mut [i16]) -> i64 {
        kernel::round_double(row, scale, out)
    }

    /// Doubles that are subnormal are zero in fixed point at every exponent.
    fn widen(self) -> f64 {
        self
    }
}

/// Below this a row of floats may have subnormal entries that matter.
const FAINT: f64 = 1e-60;

/// Writes the row's mantissa and returns its exponent, or the column of a value that is not finite.
///
/// The exponent is the smallest one with a squared norm of at most `MAX_SQUARE`. A float estimate says where to look;
/// integers decide.
pub(crate) fn quantise<T: Float>(row: &[T], mantissa: &mut [i16]) -> Result<i16, usize> {
    let energy = T::energy(row);
    if (FAINT..f64::INFINITY).contains(&energy) {
        return Ok(quantise_near(row, mantissa, guess(energy)));
    }
    // Very small or large, or not finite: doubles, and the exponent from the largest of them.
    let wide = Wiped::from(row.iter().map(|x| x.widen()).collect::<Vec<_>>());
    if let Some(column) = wide.iter().position(|x| !x.is_finite()) {
        return Err(column);
    }
    let largest = wide.iter().fold(0.0_f64, |m, &x| m.max(x.abs()));
    Ok(quantise_near(&wide, mantissa, binary_exponent(largest).max(MIN_EXPONENT.into())))
}

/// Quantises at the right exponent, looked for from a first guess on.
fn quantise_near<T: Float>(row: &[T], mantissa: &mut [i16], guess: i32) -> i16 {
    let at = |exponent: i32, out: &mut [i16]| T::round(row, power_of_two(UNIT_BITS - exponent), out);
    let mut exponent = guess;
    let mut square = at(exponent, mantissa);
    while square > MAX_SQUARE {
        exponent += 1;
        square = at(exponent, mantissa);
    }
    while exponent > i32::from(MIN_EXPONENT) && may_be_finer(square, row.len()) {
        let mut finer = Wiped::<i16>::zeros(row.len());
        let finer_square = at(exponent - 1, &mut finer);
        if finer_square > MAX_SQUARE {
            break;
        }
        exponent -= 1;
        square = finer_square;
        mantissa.copy_from_slice(&finer);
    }
    #[expect(clippy::cast_possible_truncation, reason = "between -900 and 1040")]
    {
        exponent as i16
    }
}

/// One value in fixed point at an exponent that is known to hold it.
pub(crate) fn at_exponent(x: f64, exponent: i16) -> i16 {
    let mut out = [0];
    Float::round(&[x], power_of_two(UNIT_BITS - i32::from(exponent)), &mut out);
    out[0]
}

/// A first exponent, right for all but a few rows; never below the smallest.
fn guess(energy: f64) -> i32 {
    // 4^p * (1 + 2^-5) >= energy
    (binary_exponent(energy / (1.0 + 1.0 / 32.0)) + 1).div_euclid(2).max(MIN_EXPONENT.into())
}

/// The smallest `e` with `x < 2^e`, for a positive normal `x`; something very small for the others.
fn binary_exponent(x: f64) -> i32 {
    let biased = x.to_bits() >> 52 & 0x7FF;
    let biased = i32::try_from(biased).unwrap_or(i32::MAX);
    biased - 1022
}

/// Whether the next smaller exponent might still be within bounds: its norm is at least twice this one's, less what
/// rounding can take away (half a unit in each coordinate, before and after).
fn may_be_finer(square: i64, dim: usize) -> bool {
    let rounding = dim.isqrt() + 1;
    let norm = square.unsigned_abs().isqrt();
    (2 * norm).saturating_sub(2 * rounding as u64) <= MAX_SQUARE.unsigned_abs().isqrt() + 1
}

/// Rounds `v / 2^shift` to the nearest integer, halves to even.
pub(crate) fn round_shift(v: i64, shift: u32) -> i64 {
    if shift == 0 {
        return v;
    }
    let floor = v >> shift;
    let rest = v - (floor << shift);
    let half = 1_i64 << (shift - 1);
    floor + i64::from(rest > half || (rest == half && floor & 1 == 1))
}

/// Brings a row from its own exponent to the model's, which is no smaller: halves to even.
pub(crate) fn align(row: &mut [i16], exponent: i16, model_exponent: i16) {
    debug_assert!(exponent <= model_exponent);
    let shift = u32::from((model_exponent - exponent).unsigned_abs()).min(32);
    if shift > 0 {
        for x in row {
            *x = narrow(round_shift((*x).into(), shift));
        }
    }
}

/// The smallest `p` with `max_norm <= 2^p`, and the largest squared norm that a row may have at that exponent.
pub(crate) fn norm_bound(max_norm: f64) -> Result<(i16, i64), Error> {
    if !(max_norm.is_finite() && max_norm >= power_of_two(MIN_EXPONENT.into())) {
        return Err(Error::parameter("max_norm", &max_norm, "a positive finite number, or None"));
    }
    let upper = binary_exponent(max_norm);
    let exponent = if max_norm.to_bits() << 12 == 0 { upper - 1 } else { upper };
    let ratio = max_norm * 0.5 / power_of_two(exponent - 1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a bound near 2^28")]
    let square = (ratio * ratio * MAX_SQUARE as f64) as i64;
    #[expect(clippy::cast_possible_truncation, reason = "between -900 and 1024")]
    Ok((exponent as i16, square))
}

/// Squared norm of a row that is within bounds.
pub(crate) fn small_square(row: &[i16]) -> u32 {
    dot(row, row).cast_unsigned()
}

/// Squared norm.
pub(crate) fn square(row: &[i16]) -> i64 {
    row.iter().map(|&x| i64::from(x) * i64::from(x)).sum()
}

/// The norm of a row in units of the data, to be looked at.
pub(crate) fn norm(mantissa: &[i16], exponent: i16) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let norm = (square(mantissa) as f64).sqrt();
    norm * 2_f64.powi(i32::from(exponent) - UNIT_BITS)
}

/// Brings the entries of a projected row into the ball that the arithmetic is proven for, and into 16 bits.
pub(crate) fn clip(wide: &[i64], row: &mut [i16]) {
    // At most d * 2^26 under random signs and m * 2^29 under a matrix: far from overflow.
    let square: i64 = wide.iter().map(|y| y * y).sum();
    if square <= MAX_SQUARE {
        for (x, &y) in row.iter_mut().zip(wide) {
            *x = narrow(y);
        }
    } else {
        let norm = square.isqrt() + 1;
        for (x, &y) in row.iter_mut().zip(wide) {
            *x = narrow((y << UNIT_BITS) / norm);
        }
    }
}

/// An integer that is known to fit 16 bits.
pub(crate) fn narrow(v: i64) -> i16 {
    debug_assert!(i16::try_from(v).is_ok(), "{v} does not fit");
    #[expect(clippy::cast_possible_truncation, reason = "the caller's invariant, checked in debug builds")]
    {
        v as i16
    }
}
