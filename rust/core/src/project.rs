//! Projection: an integer matrix applied to a row's mantissa, then a fixed rational scale. Algorithm:
//! docs/algorithm.md, section 2.

use std::sync::Arc;

use erase_core_kernel as kernel;

use crate::error::Error;
use crate::fixed::{self, MAX_SQUARE, MIN_EXPONENT, UNIT_BITS, dot, round_shift};
use crate::keyed::Keyed;
use crate::wipe::Wiped;

/// A projection in integers, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Projector {
    /// Shared: parameters are copied for every batch of rows.
    entries: Arc<[i16]>,
    n_features: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    None,
    Signs { scale: i64 },
    Matrix { exponent: i32 },
}

impl Projector {
    pub(crate) fn none() -> Self {
        Self { entries: Arc::default(), n_features: 0, kind: Kind::None }
    }

    pub(crate) fn signs(m: usize, n_features: usize, keyed: Keyed) -> Self {
        let entries = (0..m as u64).flat_map(|output| keyed.signs(output, n_features)).collect();
        Self { entries, n_features, kind: Kind::Signs { scale: ((1_i64 << 58) / m.cast_signed() as i64).isqrt() } }
    }

    /// Takes a matrix of floats to fixed point at the smallest exponent that holds all its rows, and then all rows of
    /// the matrix in fixed point: so that this one, taken as floats, is taken to itself.
    pub(crate) fn matrix(entries: &[f64], n_features: usize) -> Result<Self, Error> {
        let refused = |what: String| Error::parameter("projection", &what, "a finite matrix that is not all zeros");
        let mut scratch = vec![0; n_features];
        let mut exponent = MIN_EXPONENT;
        for (i, row) in entries.chunks_exact(n_features).enumerate() {
            let of_row = fixed::quantise(row, &mut scratch)
                .map_err(|column| refused(format!("NaN or infinity at row {i}, column {column}")))?;
            exponent = exponent.max(of_row);
        }
        let mut scaled: Vec<i16> = entries.iter().map(|&x| fixed::at_exponent(x, exponent)).collect();
        if scaled.iter().all(|&x| x == 0) {
            return Err(refused("a matrix of zeros".into()));
        }
        while exponent > MIN_EXPONENT
            && scaled.chunks_exact(n_features).all(|row| 4 * i64::from(dot(row, row)) <= MAX_SQUARE)
        {
            for x in &mut scaled {
                *x *= 2;
            }
            exponent -= 1;
        }
        Ok(Self::from_entries(scaled, n_features, exponent.into()))
    }

    /// A matrix that is in fixed point already.
    pub(crate) fn from_entries(entries: Vec<i16>, n_features: usize, exponent: i32) -> Self {
        Self { entries: entries.into(), n_features, kind: Kind::Matrix { exponent } }
    }

    /// Dimension after projection, if there is one.
    pub(crate) fn dim(&self) -> Option<usize> {
        (self.kind != Kind::None).then(|| self.entries.len() / self.n_features)
    }

    pub(crate) fn is_signs(&self) -> bool {
        matches!(self.kind, Kind::Signs { .. })
    }

    /// Entries and exponent of a given matrix.
    pub(crate) fn as_matrix(&self) -> Option<(&[i16], i32)> {
        match self.kind {
            Kind::Matrix { exponent } => Some((&self.entries, exponent)),
            _ => None,
        }
    }

    /// By which power of two the projected rows are smaller than the data.
    pub(crate) fn unit_exponent(&self) -> i32 {
        match self.kind {
            Kind::None => 0,
            Kind::Signs { .. } => 1,
            Kind::Matrix { exponent } => exponent,
        }
    }

    /// Where the projection takes a vector, in units of the data: a figure to look at.
    pub(crate) fn of_floats(&self, vector: &[f64]) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let scale = match self.kind {
            Kind::None => return vector.to_vec(),
            Kind::Signs { scale } => scale as f64 * fixed::power_of_two(1 - 30),
            Kind::Matrix { exponent } => fixed::power_of_two(exponent - UNIT_BITS),
        };
        let product = |row: &[i16]| row.iter().zip(vector).map(|(&entry, x)| f64::from(entry) * x).sum::<f64>();
        self.entries.chunks_exact(self.n_features).map(|row| product(row) * scale).collect()
    }

    /// Projects a mantissa.
    pub(crate) fn apply(&self, mantissa: &[i16], row: &mut [i16]) {
        match self.kind {
            Kind::None => row.copy_from_slice(mantissa),
            Kind::Signs { scale } => fixed::clip(&self.products(mantissa, |z| round_shift(z * scale, 30)), row),
            Kind::Matrix { .. } => {
                fixed::clip(&self.products(mantissa, |z| round_shift(z, UNIT_BITS.unsigned_abs())), row);
            }
        }
    }

    /// The product with each row of the matrix, which is below 2^30: with a bias of 0 the kernel gives twice its negative.
    fn products(&self, mantissa: &[i16], scaled: impl Fn(i64) -> i64) -> Wiped<i64> {
        let outputs = self.entries.len() / self.n_features;
        let mut keys = Wiped::<u32>::zeros(outputs);
        kernel::row_keys(mantissa, &self.entries, &vec![0; outputs], &mut keys);
        keys.iter().map(|key| scaled(-i64::from(key.cast_signed() / 2))).collect::<Vec<_>>().into()
    }
}
