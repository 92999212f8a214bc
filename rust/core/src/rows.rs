//! The rows: quantised, projected, aligned to the model's exponent, addressed by slot. Owns what it takes to align
//! them anew when that exponent changes, and overwrites a row that goes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::error::Error;
use crate::fixed::{self, MIN_EXPONENT};
use crate::params::ValidParams;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Passes over a row that quantising it takes, to weigh it against the products of a projection.
const PASSES: usize = 8;

/// Rows as a caller gives them: row-major, each of the model's width.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl Matrix<'_> {
    fn entries(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }
}

/// Rows in fixed point, each at its own exponent: what is kept of a row (docs/algorithm.md, section 3).
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) dim: usize,
    pub(crate) exponents: Wiped<i16>,
    pub(crate) mantissas: Wiped<i16>,
}

impl Batch {
    /// Quantises and projects rows that are to become part of a model.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if the values are no whole number of rows, [`Error::NotFinite`] and [`Error::Norm`] for a row
    /// that is not accepted, [`Error::TooManyRows`].
    pub fn quantise(params: &ValidParams, matrix: Matrix<'_>, threads: Threads) -> Result<Self, Error> {
        let Some((fixed, bound)) = params.fixed_exponent() else {
            return Self::read(params, matrix, threads, |_, _, _| Ok(()));
        };
        let mut batch = Self::read(params, matrix, threads, |row, exponent, mantissa| {
            let within = exponent <= fixed && {
                let shift = 2 * u32::from((fixed - exponent).unsigned_abs());
                shift >= 32 || fixed::square(mantissa) <= bound << shift
            };
            if within {
                return Ok(());
            }
            let norm = fixed::norm(mantissa, exponent);
            let max_norm = params.max_norm.unwrap_or_default();
            Err(Error::Norm { row, norm: format!("{norm:e}"), max_norm: format!("{max_norm:?}") })
        })?;
        batch.align(fixed);
        Ok(batch)
    }

    /// Quantises and projects rows to be compared with a model's: they may have any norm.
    ///
    /// # Errors
    ///
    /// [`Error::Width`], [`Error::NotFinite`] or [`Error::TooManyRows`].
    pub fn queries(params: &ValidParams, matrix: Matrix<'_>, threads: Threads) -> Result<Self, Error> {
        Self::read(params, matrix, threads, |_, _, _| Ok(()))
    }

    fn read(
        params: &ValidParams,
        matrix: Matrix<'_>,
        threads: Threads,
        check: impl Fn(usize, i16, &[i16]) -> Result<(), Error> + Sync,
    ) -> Result<Self, Error> {
        let (width, dim) = (params.n_features, params.dim());
        if !matrix.entries().is_multiple_of(width) {
            return Err(Error::Width { expected: width, got: matrix.entries() % width });
        }
        let n = matrix.entries() / width;
        if i32::try_from(n).is_err() {
            return Err(Error::TooManyRows(n));
        }
        let mut batch = Self { dim, exponents: Wiped::zeros(n), mantissas: Wiped::zeros(n * dim) };
        let mut records: Vec<_> = batch.exponents.iter_mut().zip(batch.mantissas.chunks_exact_mut(dim)).collect();
        let cost = width * (PASSES + params.projector.dim().unwrap_or(0));
        let results = threads.map_mut(&mut records, cost, |start, records| {
            let mut mantissa = Wiped::<i16>::zeros(width);
            for (number, (exponent, row)) in (start..).zip(records) {
                let span = number * width..(number + 1) * width;
                let quantised = match matrix {
                    Matrix::F32(values) => fixed::quantise(&values[span], &mut mantissa),
                    Matrix::F64(values) => fixed::quantise(&values[span], &mut mantissa),
                };
                **exponent = quantised.map_err(|column| Error::NotFinite { row: number, column })?;
                check(number, **exponent, &mantissa)?;
                params.projector.apply(&mantissa, row);
            }
            Ok(())
        });
        results.into_iter().collect::<Result<(), Error>>()?;
        Ok(batch)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exponents.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exponents.is_empty()
    }

    pub(crate) fn row(&self, i: usize) -> &[i16] {
        &self.mantissas[i * self.dim..(i + 1) * self.dim]
    }

    pub(crate) fn largest_exponent(&self) -> i16 {
        self.exponents.iter().copied().max().unwrap_or(MIN_EXPONENT)
    }

    /// All rows brought to one exponent, no smaller than theirs.
    pub(crate) fn align(&mut self, exponent: i16) {
        for (row, own) in self.mantissas.chunks_exact_mut(self.dim).zip(self.exponents.iter_mut()) {
            fixed::align(row, *own, exponent);
            *own = exponent;
        }
    }
}

/// The rows of a model by slot, aligned to one exponent.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    dim: usize,
    /// Exponent that `max_norm` fixes.
    fixed: Option<i16>,
    exponent: i16,
    aligned: Wiped<i16>,
    exponents: Wiped<i16>,
    /// The rows before alignment; absent as long as alignment has changed none of them, which is the rule for
    /// embeddings, whose norms are all alike.
    mantissas: Option<Wiped<i16>>,
    /// How many rows have each exponent: tells at once whether a change of rows changes the model's.
    tally: BTreeMap<i16, usize>,
    /// Sum of the squared norms of the aligned rows.
    square_sum: i64,
}

impl Rows {
    pub(crate) fn new(dim: usize, fixed: Option<i16>) -> Self {
        let empty = || Wiped::with_capacity(0);
        let exponent = fixed.unwrap_or(MIN_EXPONENT);
        let (aligned, exponents) = (empty(), empty());
        Self { dim, fixed, exponent, aligned, exponents, mantissas: None, tally: BTreeMap::new(), square_sum: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.exponents.len()
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// `pR`.
    pub(crate) fn exponent(&self) -> i16 {
        self.exponent
    }

    pub(crate) fn square_sum(&self) -> i64 {
        self.square_sum
    }

    /// The aligned rows of a range of slots.
    pub(crate) fn block(&self, slots: std::ops::Range<usize>) -> &[i16] {
        &self.aligned[slots.start * self.dim..slots.end * self.dim]
    }

    /// One aligned row.
    pub(crate) fn row(&self, slot: usize) -> &[i16] {
        self.block(slot..slot + 1)
    }

    /// What is kept of a row: its exponent and the row before alignment.
    pub(crate) fn kept(&self, slot: usize) -> (i16, &[i16]) {
        let rows = self.mantissas.as_ref().unwrap_or(&self.aligned);
        (self.exponents[slot], &rows[slot * self.dim..(slot + 1) * self.dim])
    }

    /// The model's exponent once these rows have gone and come.
    pub(crate) fn exponent_after(&self, removed: &[u32], added: Option<&Batch>) -> i16 {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let mut going: BTreeMap<i16, usize> = BTreeMap::new();
        for &slot in removed {
            *going.entry(self.exponents[slot as usize]).or_default() += 1;
        }
        let staying = self.tally.iter().rev().find(|(exponent, count)| going.get(exponent) != Some(count));
        staying.map_or(MIN_EXPONENT, |(&exponent, _)| exponent).max(added.map_or(MIN_EXPONENT, Batch::largest_exponent))
    }

    /// Takes in rows. If they change the model's exponent, `settle` must follow.
    pub(crate) fn extend(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        if self.len() == 0 {
            self.exponent = self.fixed.unwrap_or(batch.largest_exponent());
        }
        let exponent = self.exponent;
        // A smaller exponent changes the row that comes, unless it is zero; a larger one changes those that are here.
        let changed = |i: usize| match batch.exponents[i].cmp(&exponent) {
            Ordering::Less => batch.row(i).iter().any(|&y| y != 0),
            Ordering::Equal => false,
            Ordering::Greater => true,
        };
        if self.mantissas.is_none() && (0..batch.len()).any(changed) {
            self.mantissas = Some(self.aligned.clone());
        }
        if let Some(mantissas) = &mut self.mantissas {
            mantissas.extend_from_slice(&batch.mantissas);
        }
        for &own in batch.exponents.iter() {
            *self.tally.entry(own).or_default() += 1;
        }
        let first = self.len();
        self.exponents.extend_from_slice(&batch.exponents);
        if self.aligned.is_empty() {
            self.aligned = batch.mantissas;
        } else {
            self.aligned.extend_from_slice(&batch.mantissas);
        }
        self.align_from(first);
    }

    /// Takes out a slot; the last slot moves there.
    pub(crate) fn swap_remove(&mut self, slot: usize) {
        self.square_sum -= fixed::square(self.row(slot));
        let own = self.exponents[slot];
        if let Some(count) = self.tally.get_mut(&own) {
            *count -= 1;
            if *count == 0 {
                self.tally.remove(&own);
            }
        }
        self.exponents.swap_remove_record(slot, 1);
        self.aligned.swap_remove_record(slot, self.dim);
        if let Some(mantissas) = &mut self.mantissas {
            mantissas.swap_remove_record(slot, self.dim);
        }
    }

    /// Brings the model's exponent up to date with the rows and aligns them anew if it changed.
    pub(crate) fn settle(&mut self) {
        let largest = self.tally.last_key_value().map_or(MIN_EXPONENT, |(&exponent, _)| exponent);
        let exponent = self.fixed.unwrap_or(largest);
        if exponent == self.exponent {
            return;
        }
        self.exponent = exponent;
        if let Some(mantissas) = &self.mantissas {
            self.aligned = mantissas.clone();
        }
        self.square_sum = 0;
        self.align_from(0);
        if self.tally.len() <= 1 {
            self.mantissas = None;
        }
    }

    /// Aligns the rows from a slot on and counts their norms in. Rows above the model's exponent wait for `settle`.
    fn align_from(&mut self, first: usize) {
        let (exponent, dim) = (self.exponent, self.dim);
        let rows = self.aligned[first * dim..].chunks_exact_mut(dim);
        for (row, &own) in rows.zip(&self.exponents[first..]) {
            if own <= exponent {
                fixed::align(row, own, exponent);
            }
            self.square_sum += fixed::square(row);
        }
    }
}
