//! The rows: quantised, projected, aligned to the model's exponent, addressed by slot. Owns what it takes to align
//! them anew when that exponent changes.

use std::collections::BTreeMap;
use std::ops::Range;

use erase_core_kernel::{LANES, block_len, write_lane};

use crate::blocks::{Blocks, Row};
use crate::error::Error;
use crate::fixed::{self, Float, MIN_EXPONENT};
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

    fn entry(&self, position: usize) -> f64 {
        match self {
            Self::F32(values) => values[position].widen(),
            Self::F64(values) => values[position],
        }
    }

    /// A row less the center, each difference rounded to the nearest double.
    fn minus(&self, span: Range<usize>, center: &[f64], out: &mut [f64]) {
        for ((position, c), out) in span.zip(center).zip(out) {
            *out = self.entry(position) - c;
        }
    }

    /// Why a value of a row, less the center if there is one, is not finite.
    fn not_finite(&self, row: usize, column: usize, width: usize) -> Error {
        if self.entry(row * width + column).is_finite() {
            Error::Center { row, column }
        } else {
            Error::NotFinite { row, column }
        }
    }
}

/// Rows in fixed point, each at its own exponent: what is kept of a row (docs/algorithm.md, section 3).
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) rows: Blocks,
    pub(crate) exponents: Wiped<i16>,
    /// Squared norms.
    pub(crate) squares: Wiped<u32>,
}

/// What one task of `Batch::read` fills.
struct Task<'a> {
    block: &'a mut [i16],
    exponents: &'a mut [i16],
    squares: &'a mut [u32],
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

    /// Rows in fixed point that lie one after the other, with their exponents.
    pub(crate) fn from_rows(dim: usize, exponents: Wiped<i16>, rows: &[i16]) -> Self {
        let squares = rows.chunks_exact(dim).map(fixed::small_square).collect::<Vec<_>>();
        Self { rows: Blocks::from_rows(dim, rows), exponents, squares: squares.into() }
    }

    /// Row by row, so that nothing of the size of the data is needed but the result.
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
        let mut batch = Self { rows: Blocks::zeros(dim, n), exponents: Wiped::zeros(n), squares: Wiped::zeros(n) };
        let blocks = batch.rows.values_mut().chunks_exact_mut(block_len(dim));
        let columns = batch.exponents.chunks_mut(LANES).zip(batch.squares.chunks_mut(LANES));
        let mut tasks: Vec<_> =
            blocks.zip(columns).map(|(block, (exponents, squares))| Task { block, exponents, squares }).collect();
        let cost = LANES * width * (PASSES + params.projector.dim().unwrap_or(0));
        let results = threads.map_mut(&mut tasks, 1, cost, |start, tasks| {
            let mut mantissa = Wiped::<i16>::zeros(width);
            let mut projected = Wiped::zeros(erase_core_kernel::padded(dim));
            let mut shifted = Wiped::<f64>::zeros(if params.center.is_some() { width } else { 0 });
            for (b, task) in (start..).zip(tasks) {
                for (lane, (own, square)) in task.exponents.iter_mut().zip(task.squares.iter_mut()).enumerate() {
                    let number = b * LANES + lane;
                    let span = number * width..(number + 1) * width;
                    *own = match (&params.center, matrix) {
                        (None, Matrix::F32(values)) => fixed::quantise(&values[span], &mut mantissa),
                        (None, Matrix::F64(values)) => fixed::quantise(&values[span], &mut mantissa),
                        (Some(center), _) => {
                            matrix.minus(span, center, &mut shifted);
                            fixed::quantise(&shifted, &mut mantissa)
                        }
                    }
                    .map_err(|column| matrix.not_finite(number, column, width))?;
                    check(number, *own, &mantissa)?;
                    params.projector.apply(&mantissa, &mut projected[..dim]);
                    *square = fixed::small_square(&projected);
                    write_lane(task.block, lane, &projected);
                }
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

    pub(crate) fn largest_exponent(&self) -> i16 {
        self.exponents.iter().copied().max().unwrap_or(MIN_EXPONENT)
    }

    /// Takes in rows of another.
    pub(crate) fn extend(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.exponents.extend_from_slice(&more.exponents);
        self.squares.extend_from_slice(&more.squares);
    }

    /// Some of the rows, by number.
    pub(crate) fn select(&self, numbers: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
        let dim = self.rows.dim();
        let mut rows = Wiped::zeros(numbers.len() * dim);
        let mut row = self.rows.blank_row();
        for (number, copy) in numbers.clone().zip(rows.chunks_exact_mut(dim)) {
            self.rows.read(number, &mut row);
            copy.copy_from_slice(&row[..dim]);
        }
        Self::from_rows(dim, numbers.map(|number| self.exponents[number]).collect::<Vec<_>>().into(), &rows)
    }

    /// All rows brought to one exponent, no smaller than theirs.
    pub(crate) fn align(&mut self, exponent: i16) {
        align(&mut self.rows, &mut self.squares, &self.exponents, 0, exponent);
        self.exponents.fill(exponent);
    }
}

/// Aligns rows from a slot on that have an exponent below the one given.
fn align(rows: &mut Blocks, squares: &mut [u32], exponents: &[i16], first: usize, exponent: i16) {
    let mut row = rows.blank_row();
    for slot in first..rows.len() {
        if exponents[slot] < exponent {
            rows.read(slot, &mut row);
            fixed::align(&mut row, exponents[slot], exponent);
            rows.write(slot, &row);
            squares[slot] = fixed::small_square(&row);
        }
    }
}

/// The rows of a model by slot, aligned to one exponent.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    /// Exponent that `max_norm` fixes.
    fixed: Option<i16>,
    /// The largest exponent of rows of the model that lie elsewhere.
    floor: i16,
    exponent: i16,
    aligned: Blocks,
    /// Squared norms of the aligned rows.
    squares: Wiped<u32>,
    exponents: Wiped<i16>,
    /// The rows before alignment, with their squared norms; absent as long as alignment has changed none of them, which
    /// is the rule for embeddings, whose norms are all alike.
    mantissas: Option<(Blocks, Wiped<u32>)>,
    /// How many rows have each exponent: tells at once whether a change of rows changes the model's.
    tally: BTreeMap<i16, usize>,
}

impl Rows {
    pub(crate) fn new(dim: usize, fixed: Option<i16>) -> Self {
        Self {
            fixed,
            floor: MIN_EXPONENT,
            exponent: fixed.unwrap_or(MIN_EXPONENT),
            aligned: Blocks::zeros(dim, 0),
            squares: Wiped::zeros(0),
            exponents: Wiped::zeros(0),
            mantissas: None,
            tally: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.exponents.len()
    }

    pub(crate) fn dim(&self) -> usize {
        self.aligned.dim()
    }

    /// `pR`.
    pub(crate) fn exponent(&self) -> i16 {
        self.exponent
    }

    /// The aligned rows.
    pub(crate) fn aligned(&self) -> &Blocks {
        &self.aligned
    }

    /// Squared norms of the aligned rows, by slot.
    pub(crate) fn squares(&self) -> &[u32] {
        &self.squares
    }

    /// What is kept of a row, besides its exponent: the row before alignment.
    pub(crate) fn kept(&self, slot: usize) -> Row {
        let rows = self.mantissas.as_ref().map_or(&self.aligned, |(rows, _)| rows);
        let mut row = rows.row(slot);
        row.truncate(self.dim());
        row
    }

    /// Exponent of a row before alignment.
    pub(crate) fn own_exponent(&self, slot: usize) -> i16 {
        self.exponents[slot]
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
        let staying = staying.map_or(self.floor, |(&exponent, _)| exponent.max(self.floor));
        staying.max(added.map_or(MIN_EXPONENT, Batch::largest_exponent))
    }

    /// Makes room for so many rows, if there is as much memory.
    pub(crate) fn expect(&mut self, rows: usize) {
        self.aligned.expect(rows);
        self.squares.expect(rows);
        self.exponents.expect(rows);
    }

    /// Takes in rows. If they change the model's exponent, `settle` must follow.
    pub(crate) fn extend(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        if self.len() == 0 {
            self.exponent = self.fixed.unwrap_or(batch.largest_exponent().max(self.floor));
        }
        let exponent = self.exponent;
        // A smaller exponent changes the row that comes, unless it is zero. A larger one waits for `settle`.
        let changed = |i: usize| batch.exponents[i] < exponent && batch.squares[i] > 0;
        if self.mantissas.is_none() && (0..batch.len()).any(changed) {
            self.mantissas = Some((self.aligned.clone(), self.squares.clone()));
        }
        if let Some((rows, squares)) = &mut self.mantissas {
            rows.extend(batch.rows.clone());
            squares.extend_from_slice(&batch.squares);
        }
        for &own in batch.exponents.iter() {
            *self.tally.entry(own).or_default() += 1;
        }
        let first = self.len();
        self.exponents.extend_from_slice(&batch.exponents);
        self.aligned.extend(batch.rows);
        self.squares.extend_from_slice(&batch.squares);
        self.align_from(first);
    }

    /// Two slots change places.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.exponents.swap(a, b);
        self.squares.swap(a, b);
        self.aligned.swap(a, b);
        if let Some((rows, squares)) = &mut self.mantissas {
            rows.swap(a, b);
            squares.swap(a, b);
        }
    }

    /// Takes out a slot; the last slot moves there.
    pub(crate) fn swap_remove(&mut self, slot: usize) {
        let own = self.exponents[slot];
        if let Some(count) = self.tally.get_mut(&own) {
            *count -= 1;
            if *count == 0 {
                self.tally.remove(&own);
            }
        }
        self.exponents.swap_remove_record(slot, 1);
        self.squares.swap_remove_record(slot, 1);
        self.aligned.swap_remove(slot);
        if let Some((rows, squares)) = &mut self.mantissas {
            rows.swap_remove(slot);
            squares.swap_remove_record(slot, 1);
        }
    }

    /// Brings the model's exponent up to date with the rows and aligns them anew if it changed.
    pub(crate) fn settle(&mut self) {
        let exponent = self.largest_exponent().max(self.floor);
        if exponent == self.exponent {
            return;
        }
        self.exponent = exponent;
        if let Some((rows, squares)) = &self.mantissas {
            (self.aligned, self.squares) = (rows.clone(), squares.clone());
        } else if (0..self.len()).any(|slot| self.exponents[slot] < exponent && self.squares[slot] > 0) {
            // Rows of one exponent, and now that of another one is larger.
            self.mantissas = Some((self.aligned.clone(), self.squares.clone()));
        }
        self.align_from(0);
        if self.tally.keys().all(|&own| own == exponent) {
            self.mantissas = None;
        }
    }

    /// As `settle`, where the largest exponent of all rows of the model, here and elsewhere, is this.
    pub(crate) fn settle_with(&mut self, largest: i16) {
        self.floor = largest;
        self.settle();
    }

    /// The largest exponent of the rows; the one that `max_norm` fixes, if it is given.
    pub(crate) fn largest_exponent(&self) -> i16 {
        let largest = self.tally.last_key_value().map_or(MIN_EXPONENT, |(&exponent, _)| exponent);
        self.fixed.unwrap_or(largest)
    }

    /// Copies of some rows as they are kept, each at its own exponent.
    pub(crate) fn copies(&self, slots: &[u32]) -> Batch {
        let mut rows = Wiped::zeros(slots.len() * self.dim());
        for (&slot, copy) in slots.iter().zip(rows.chunks_exact_mut(self.dim())) {
            copy.copy_from_slice(&self.kept(slot as usize));
        }
        let exponents = slots.iter().map(|&slot| self.exponents[slot as usize]).collect::<Vec<_>>();
        Batch::from_rows(self.dim(), exponents.into(), &rows)
    }

    /// Aligns the rows from a slot on with their norms. Rows above the model's exponent wait for `settle`.
    fn align_from(&mut self, first: usize) {
        align(&mut self.aligned, &mut self.squares, &self.exponents, first, self.exponent);
    }
}
