//! The model: the one owner of the state. It finds the rows that an update names and what they do to the panel, lets
//! `fit` and `last` plan and apply what follows for seeds, steps and exemplars, and then changes the rows.

use std::sync::OnceLock;

use crate::derived::Derived;
use crate::digest::RowSum;
use crate::error::Error;
use crate::exemplar::MAX_NEAREST;
use crate::fit::{Fit, Update};
use crate::fixed;
use crate::ids::{IdRef, IdTable, Ids, slot_number};
use crate::last::Last;
use crate::lloyd::Summary;
use crate::panel::{Exchange, Panel};
use crate::params::ValidParams;
use crate::population::Population;
use crate::resources::Resources;
use crate::rows::{Batch, Matrix, Rows};

/// A fitted model: a pure function of its rows with their ids, its parameters and its seed.
///
/// ```
/// use erase_core::{Ids, Matrix, Model, Params, Threads};
///
/// let rows = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2];
/// let params = Params { n_clusters: 2, ..Params::default() }.check(1)?;
/// let fit = |ids: Vec<i64>, rows: &[f64]| Model::fit(params.clone(), Ids::Int(ids), Matrix::F64(rows), Threads::default());
///
/// let mut model = fit(vec![0, 1, 2, 3, 4, 5], &rows)?;
/// model.remove(&Ids::Int(vec![0]))?;
/// assert_eq!(model.digest(), fit(vec![1, 2, 3, 4, 5], &rows[1..])?.digest());
/// # Ok::<(), erase_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) params: ValidParams,
    pub(crate) rows: Rows,
    pub(crate) ids: IdTable,
    panel: Panel,
    pub(crate) fit: Fit,
    pub(crate) last: Last,
    /// Drawn up when it is first needed.
    pub(crate) row_sum: OnceLock<RowSum>,
    resources: Resources,
}

impl Model {
    /// Fits a model: `matrix` holds one row for each id, row-major.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`], [`Error::Norm`], [`Error::Width`], [`Error::Length`], [`Error::DuplicateId`] or
    /// [`Error::TooManyRows`] for data that are not accepted.
    pub fn fit(
        params: ValidParams,
        ids: Ids,
        matrix: Matrix<'_>,
        resources: impl Into<Resources>,
    ) -> Result<Self, Error> {
        let resources = resources.into();
        let batch = Batch::quantise(&params, matrix, resources.threads)?;
        Self::fit_batch(params, ids, batch, resources)
    }

    /// As [`Model::fit`], with rows that are quantised already.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] or [`Error::DuplicateId`].
    pub fn fit_batch(
        params: ValidParams,
        ids: Ids,
        batch: Batch,
        resources: impl Into<Resources>,
    ) -> Result<Self, Error> {
        let mut model = Self::empty(params, resources.into());
        model.add_batch(ids, batch)?;
        Ok(model)
    }

    pub(crate) fn empty(params: ValidParams, resources: Resources) -> Self {
        let rows = Rows::new(params.dim(), params.fixed_exponent().map(|(exponent, _)| exponent));
        Self {
            params,
            rows,
            ids: IdTable::new(),
            panel: Panel::default(),
            fit: Fit::default(),
            last: Last::default(),
            row_sum: OnceLock::new(),
            resources,
        }
    }

    /// Adds rows, as if they had been there at the fit.
    ///
    /// # Errors
    ///
    /// As [`Model::fit`], and [`Error::PresentId`] or [`Error::IdKind`] for ids that do not go with those present. The
    /// model is then as it was.
    pub fn add(&mut self, ids: Ids, matrix: Matrix<'_>) -> Result<Update, Error> {
        let batch = Batch::quantise(&self.params, matrix, self.resources.threads)?;
        self.add_batch(ids, batch)
    }

    /// As [`Model::add`], with rows that were quantised with this model's parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Length`], [`Error::DuplicateId`], [`Error::PresentId`], [`Error::IdKind`] or [`Error::TooManyRows`].
    pub fn add_batch(&mut self, ids: Ids, batch: Batch) -> Result<Update, Error> {
        if ids.len() != batch.len() {
            return Err(Error::Length { ids: ids.len(), rows: batch.len() });
        }
        self.ids.check_new(&ids)?;
        let (added, n) = (batch.len(), self.len() + batch.len());
        if i32::try_from(n).is_err() {
            return Err(Error::TooManyRows(n));
        }
        let exponent = self.rows.exponent_after(&[], Some(&batch));
        if self.must_refit(n, exponent) {
            self.take_in(ids, batch);
            return Ok(Update { added, ..self.refit() });
        }
        let mut aligned = batch.clone();
        aligned.align(exponent);
        let (rows, table, threads) = (&self.rows, &self.ids, self.resources.threads);
        let all = Population::first(rows, table, rows.len()).with(&ids, aligned);
        let exchange = self.panel.with(&all, &self.params, threads);
        let update =
            Derived { params: &self.params, fit: &mut self.fit, last: &mut self.last, resources: self.resources }
                .update(rows, table, self.panel.size(), &exchange, &all);
        self.take_in(ids, batch);
        self.exchange(exchange, &[], n - added);
        let more = self.refresh_exemplars();
        Ok(Update { added, work: update.work + more, ..update })
    }

    /// Removes rows, as if they had never been there, and overwrites them. Ids may be given more than once.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownIds`] or [`Error::IdKind`]; the model is then as it was.
    pub fn remove(&mut self, ids: &Ids) -> Result<Update, Error> {
        let slots = self.ids.slots_of(ids)?;
        Ok(self.remove_slots(&slots))
    }

    /// Removes one row.
    ///
    /// # Errors
    ///
    /// As [`Model::remove`].
    pub fn remove_one(&mut self, id: IdRef<'_>) -> Result<Update, Error> {
        match self.ids.slot(id) {
            Some(slot) => Ok(self.remove_slots(&[slot])),
            None => self.remove(&id.into()),
        }
    }

    fn remove_slots(&mut self, slots: &[u32]) -> Update {
        let removed = slots.len();
        if let Some(sum) = self.row_sum.get_mut() {
            for &slot in slots {
                sum.count(&self.rows, slot as usize, self.ids.get(slot), -1);
            }
        }
        let exponent = self.rows.exponent_after(slots, None);
        if self.must_refit(self.len() - removed, exponent) {
            (self.fit, self.last) = (Fit::default(), Last::default());
            for &slot in slots.iter().rev() {
                self.rows.swap_remove(slot as usize);
                self.ids.swap_remove(slot);
            }
            return Update { removed, ..self.refit() };
        }
        let (rows, table, threads) = (&self.rows, &self.ids, self.resources.threads);
        let exchange = self.panel.without(table, &self.params, slots, threads);
        let all = Population::without(rows, table, rows.len(), slots);
        let update =
            Derived { params: &self.params, fit: &mut self.fit, last: &mut self.last, resources: self.resources }
                .update(rows, table, self.panel.size(), &exchange, &all);
        self.exchange(exchange, slots, self.len());
        let more = self.refresh_exemplars();
        Update { removed, work: update.work + more, ..update }
    }

    /// Whether nothing that is derived can be kept: the number of clusters or the scale changes.
    fn must_refit(&self, n: usize, exponent: i16) -> bool {
        exponent != self.rows.exponent() || self.params.clusters(n) != self.params.clusters(self.len())
    }

    fn take_in(&mut self, ids: Ids, batch: Batch) {
        let first = self.len();
        self.rows.extend(batch);
        self.ids.extend(ids);
        if let Some(sum) = self.row_sum.get_mut() {
            for slot in first..self.rows.len() {
                sum.count(&self.rows, slot, self.ids.get(slot_number(slot)), 1);
            }
        }
    }

    /// Moves the rows to where they belong after an update that has been applied to what is derived: those that come
    /// onto the panel behind its last one, those that leave it behind those, and those that are removed out of the model.
    /// `base` is the number of rows before the update.
    fn exchange(&mut self, exchange: Exchange, removed: &[u32], base: usize) {
        let Exchange { leaving, coming } = exchange;
        let (keyed, mut size) = (self.params.keyed(), self.panel.size());
        let is_off = |slot: &u32| *slot as usize >= size;
        let mut gone: Vec<u32> = removed.iter().copied().filter(is_off).collect();
        let place = |ids: &IdTable, slot: u32| keyed.place(ids.row_key(slot));
        for slot in (slot_number(base)..slot_number(self.len())).filter(|slot| coming.binary_search(slot).is_err()) {
            self.panel.enter(place(&self.ids, slot), slot);
        }
        // Ascending, so that none of them is where another one is to be.
        for from in coming {
            let to = slot_number(size);
            size += 1;
            if (from as usize) < base {
                self.panel.leave(place(&self.ids, from), from);
            }
            if from != to {
                self.panel.rename(place(&self.ids, to), to, from);
                gone.iter_mut().filter(|slot| **slot == to).for_each(|slot| *slot = from);
                self.swap(from, to);
            }
        }
        for &slot in leaving.iter().rev() {
            size -= 1;
            let last = slot_number(size);
            self.fit.swap_remove(slot, last);
            self.swap(slot, last);
            if removed.binary_search(&slot).is_ok() {
                gone.push(last);
            } else {
                self.panel.enter(place(&self.ids, last), last);
            }
        }
        self.panel.resize(size);
        // From the last one on, so that what moves into a place stays.
        gone.sort_unstable();
        for &slot in gone.iter().rev() {
            let last = slot_number(self.len() - 1);
            self.panel.leave(place(&self.ids, slot), slot);
            if last != slot {
                self.panel.rename(place(&self.ids, last), last, slot);
            }
            self.rows.swap_remove(slot as usize);
            self.ids.swap_remove(slot);
            self.last.swap_remove(slot, last);
        }
    }

    fn swap(&mut self, a: u32, b: u32) {
        if a != b {
            self.rows.swap(a as usize, b as usize);
            self.ids.swap(a, b);
            self.last.swap(a, b);
        }
    }

    fn refit(&mut self) -> Update {
        self.rows.settle();
        (self.fit, self.last) = (Fit::default(), Last::default());
        let threads = self.resources.threads;
        for (a, b) in self.panel.choose(&self.ids, &self.params, threads) {
            self.rows.swap(a as usize, b as usize);
            self.ids.swap(a, b);
        }
        let (rows, table) = (&self.rows, &self.ids);
        let all = Population::first(rows, table, rows.len());
        let panel = Population::first(rows, table, self.panel.size());
        let update =
            Derived { params: &self.params, fit: &mut self.fit, last: &mut self.last, resources: self.resources }
                .fit(&panel, &all);
        let more = self.refresh_exemplars();
        Update { work: update.work + more, ..update }
    }

    #[cfg(test)]
    pub(crate) fn is_on_panel(&self, slot: u32) -> bool {
        self.panel.holds(slot)
    }

    fn refresh_exemplars(&mut self) -> u64 {
        let population = Population::first(&self.rows, &self.ids, self.rows.len());
        self.last.refresh(&population, self.resources.threads)
    }
}

/// A fitted model's results.
impl Model {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &ValidParams {
        &self.params
    }

    /// Number of clusters there are: those asked for, or one for each of fewer rows.
    #[must_use]
    pub fn n_clusters(&self) -> usize {
        self.params.clusters(self.len())
    }

    /// Dimension of the centres.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.params.dim()
    }

    /// What the model may use of the machine. Not part of its state.
    #[must_use]
    pub fn resources(&self) -> Resources {
        self.resources
    }

    /// The ids, ascending.
    #[must_use]
    pub fn ids(&self) -> Ids {
        self.ids.sorted()
    }

    /// The ids that so many rows get if none are given: the integers after the largest one present.
    ///
    /// # Errors
    ///
    /// [`Error::IdKind`] if the ids are strings, [`Error::NoNextIds`] if there are not as many integers left.
    pub fn next_ids(&self, rows: usize) -> Result<Ids, Error> {
        if self.ids.is_str() {
            return Err(Error::IdKind { expected: "given as strings", got: "none" });
        }
        let largest = self.ids.largest_int().unwrap_or(-1);
        let last = i64::try_from(rows).ok().and_then(|rows| largest.checked_add(rows));
        let last = last.ok_or(Error::NoNextIds { rows, largest })?;
        Ok(Ids::Int((largest..last).map(|before| before + 1).collect()))
    }

    /// The largest integer id; none if the ids are strings, or there are no rows.
    #[must_use]
    pub fn largest_id(&self) -> Option<i64> {
        self.ids.largest_int()
    }

    /// The cluster of each row, in the order of the ids.
    #[must_use]
    pub fn labels(&self) -> Vec<u16> {
        let labels = self.last.labels();
        self.ids.ascending().iter().map(|&slot| labels[slot as usize]).collect()
    }

    /// The centres in units of the data (after projection), where the data lie, cluster by cluster.
    #[must_use]
    pub fn centres(&self) -> Vec<f64> {
        let Some(Summary { centres, .. }) = self.last.summary() else { return Vec::new() };
        let mut floats: Vec<f64> =
            (0..centres.len()).flat_map(|j| centres.centre(j)).map(|&c| f64::from(c) * self.unit()).collect();
        if let Some(center) = self.params.center() {
            let center = self.params.projector.of_floats(center);
            floats
                .chunks_exact_mut(center.len())
                .flat_map(|row| row.iter_mut().zip(&center))
                .for_each(|(x, c)| *x += c);
        }
        floats
    }

    /// Sum of the squared distances of the rows to their centres, in units of the data (after projection).
    #[must_use]
    pub fn inertia(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let loss = self.last.loss() as f64;
        loss * self.unit() * self.unit()
    }

    /// How coarse the fixed point and the lattice are against the spread of the rows: docs/algorithm.md, section 8.
    #[must_use]
    pub fn resolution(&self) -> f64 {
        self.last.resolution(self.params.last_pitch(), self.dim())
    }

    /// Number of updates of the centres: `max_iter`, or none without rows.
    #[must_use]
    pub fn n_iter(&self) -> usize {
        self.fit.steps.len().saturating_sub(1)
    }

    /// For each cluster the id of the row nearest to its centre; none for a cluster without rows.
    #[must_use]
    pub fn exemplars(&self) -> Vec<Option<IdRef<'_>>> {
        self.last.exemplars().map(|slot| slot.map(|slot| self.ids.get(slot))).collect()
    }

    /// For each cluster the ids of the `count` rows nearest to its centre, nearest first, or of all its rows if it has
    /// fewer: at most [`MAX_NEAREST`].
    #[must_use]
    pub fn nearest(&self, count: usize) -> Vec<Vec<IdRef<'_>>> {
        let population = Population::first(&self.rows, &self.ids, self.rows.len());
        let lists = self.last.nearest(count.min(MAX_NEAREST), &population, self.resources.threads);
        lists.into_iter().map(|list| list.into_iter().map(|slot| self.ids.get(slot)).collect()).collect()
    }

    /// The ids of the rows chosen as seeds, round by round.
    #[must_use]
    pub fn seeds(&self) -> Vec<IdRef<'_>> {
        self.fit.seeds.chosen().map(|slot| self.ids.get(slot)).collect()
    }

    /// For each round of the seeding the ids of the rows that its trials proposed.
    #[must_use]
    pub fn proposals(&self) -> Vec<Vec<IdRef<'_>>> {
        let of_round = |trials: Vec<(u32, i64)>| trials.iter().map(|&(slot, _)| self.ids.get(slot)).collect();
        self.fit.seeds.trials().map(|trials| of_round(trials.collect())).collect()
    }

    /// The length of one unit of the fixed point in units of the data.
    pub(crate) fn unit(&self) -> f64 {
        self.unit_at(self.rows.exponent())
    }

    /// The same for rows that are aligned to another exponent.
    pub(crate) fn unit_at(&self, exponent: i16) -> f64 {
        let exponent = i32::from(exponent) - fixed::UNIT_BITS + self.params.projector.unit_exponent();
        // In two factors, so that an exponent at the ends of a float's range is not lost on the way.
        2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2)
    }
}
