//! The model: the one owner of the state. It finds the rows that an update names and what they do to the panel, lets
//! `fit` and `last` plan and apply what follows for seeds, steps and exemplars, and then changes the rows.

use crate::derived::Derived;
use crate::error::Error;
use crate::exemplar::MAX_NEAREST;
use crate::fit::{Fit, Update};
use crate::holding::Holding;
use crate::ids::{IdRef, Ids, slot_number};
use crate::last::Last;
use crate::panel::Exchange;
use crate::params::ValidParams;
use crate::population::Population;
use crate::resources::Resources;
use crate::rows::{Batch, Matrix};

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
    /// The panel's rows have the first slots.
    pub(crate) held: Holding,
    pub(crate) fit: Fit,
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
        Self { held: Holding::new(&params), params, fit: Fit::default(), resources }
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
        self.held.check_new(&ids, &batch)?;
        let (added, n) = (batch.len(), self.len() + batch.len());
        let exponent = self.held.rows.exponent_after(&[], Some(&batch));
        if self.must_refit(n, exponent) {
            self.held.take_in(ids, batch);
            return Ok(Update { added, ..self.refit() });
        }
        let mut aligned = batch.clone();
        aligned.align(exponent);
        let Self { params, held: Holding { rows, ids: table, panel, last, .. }, fit, resources } = self;
        let all = Population::first(rows, table, rows.len()).with(&ids, aligned);
        let exchange = panel.with(&all, params, resources.threads);
        let update =
            Derived { params, fit, last, resources: *resources }.update(rows, table, panel.size(), &exchange, &all);
        self.held.take_in(ids, batch);
        self.exchange(exchange, &[], n - added);
        let more = self.held.refresh_exemplars(self.resources.threads);
        Ok(Update { added, work: update.work + more, ..update })
    }

    /// Removes rows, as if they had never been there, and overwrites them. Ids may be given more than once.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownIds`] or [`Error::IdKind`]; the model is then as it was.
    pub fn remove(&mut self, ids: &Ids) -> Result<Update, Error> {
        let slots = self.held.ids.slots_of(ids)?;
        Ok(self.remove_slots(&slots))
    }

    /// Removes one row.
    ///
    /// # Errors
    ///
    /// As [`Model::remove`].
    pub fn remove_one(&mut self, id: IdRef<'_>) -> Result<Update, Error> {
        match self.held.ids.slot(id) {
            Some(slot) => Ok(self.remove_slots(&[slot])),
            None => self.remove(&id.into()),
        }
    }

    fn remove_slots(&mut self, slots: &[u32]) -> Update {
        let removed = slots.len();
        self.held.take_out_of_sum(slots);
        let exponent = self.held.rows.exponent_after(slots, None);
        if self.must_refit(self.len() - removed, exponent) {
            (self.fit, self.held.last) = (Fit::default(), Last::default());
            for &slot in slots.iter().rev() {
                self.held.rows.swap_remove(slot as usize);
                self.held.ids.swap_remove(slot);
            }
            return Update { removed, ..self.refit() };
        }
        let Self { params, held: Holding { rows, ids: table, panel, last, .. }, fit, resources } = self;
        let exchange = panel.without(table, params, slots, resources.threads);
        let all = Population::without(rows, table, rows.len(), slots);
        let update =
            Derived { params, fit, last, resources: *resources }.update(rows, table, panel.size(), &exchange, &all);
        self.exchange(exchange, slots, self.len());
        let more = self.held.refresh_exemplars(self.resources.threads);
        Update { removed, work: update.work + more, ..update }
    }

    /// Whether nothing that is derived can be kept: the number of clusters or the scale changes.
    fn must_refit(&self, n: usize, exponent: i16) -> bool {
        exponent != self.held.rows.exponent() || self.params.clusters(n) != self.params.clusters(self.len())
    }

    /// Moves the rows to where they belong after an update that has been applied to what is derived: those that come
    /// onto the panel behind its last one, those that leave it behind those, and those that are removed out of the model.
    /// `base` is the number of rows before the update.
    fn exchange(&mut self, exchange: Exchange, removed: &[u32], base: usize) {
        let Exchange { leaving, coming } = exchange;
        let (keyed, held) = (self.params.keyed(), &mut self.held);
        let mut size = held.panel.size();
        let is_off = |slot: &u32| *slot as usize >= size;
        let mut gone: Vec<u32> = removed.iter().copied().filter(is_off).collect();
        for slot in (slot_number(base)..slot_number(held.len())).filter(|slot| coming.binary_search(slot).is_err()) {
            held.enter(keyed, slot);
        }
        // Ascending, so that none of them is where another one is to be.
        for from in coming {
            let to = slot_number(size);
            size += 1;
            if (from as usize) < base {
                held.leave(keyed, from);
            }
            if from != to {
                held.rename(keyed, to, from);
                gone.iter_mut().filter(|slot| **slot == to).for_each(|slot| *slot = from);
                held.swap(from, to);
            }
        }
        for &slot in leaving.iter().rev() {
            size -= 1;
            let last = slot_number(size);
            self.fit.swap_remove(slot, last);
            held.swap(slot, last);
            if removed.binary_search(&slot).is_ok() {
                gone.push(last);
            } else {
                held.enter(keyed, last);
            }
        }
        held.panel.resize(size);
        gone.sort_unstable();
        held.drop_rows(keyed, &gone);
    }

    fn refit(&mut self) -> Update {
        let Self { params, held: Holding { rows, ids: table, panel, last, .. }, fit, resources } = self;
        rows.settle();
        (*fit, *last) = (Fit::default(), Last::default());
        for (a, b) in panel.choose(table, params, resources.threads) {
            rows.swap(a as usize, b as usize);
            table.swap(a, b);
        }
        let all = Population::first(rows, table, rows.len());
        let on_panel = Population::first(rows, table, panel.size());
        let update = Derived { params, fit, last, resources: *resources }.fit(&on_panel, &all);
        let more = self.held.refresh_exemplars(self.resources.threads);
        Update { work: update.work + more, ..update }
    }

    #[cfg(test)]
    pub(crate) fn is_on_panel(&self, slot: u32) -> bool {
        self.held.panel.holds(slot)
    }
}

/// A fitted model's results.
impl Model {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.rows.len()
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
        self.held.ids.sorted()
    }

    /// The ids that so many rows get if none are given: the integers after the largest one present.
    ///
    /// # Errors
    ///
    /// [`Error::IdKind`] if the ids are strings, [`Error::NoNextIds`] if there are not as many integers left.
    pub fn next_ids(&self, rows: usize) -> Result<Ids, Error> {
        if self.held.ids.is_str() {
            return Err(Error::IdKind { expected: "given as strings", got: "none" });
        }
        let largest = self.held.ids.largest_int().unwrap_or(-1);
        let last = i64::try_from(rows).ok().and_then(|rows| largest.checked_add(rows));
        let last = last.ok_or(Error::NoNextIds { rows, largest })?;
        Ok(Ids::Int((largest..last).map(|before| before + 1).collect()))
    }

    /// The largest integer id; none if the ids are strings, or there are no rows.
    #[must_use]
    pub fn largest_id(&self) -> Option<i64> {
        self.held.ids.largest_int()
    }

    /// The cluster of each row, in the order of the ids.
    #[must_use]
    pub fn labels(&self) -> Vec<u16> {
        let labels = self.held.last.labels();
        self.held.ids.ascending().iter().map(|&slot| labels[slot as usize]).collect()
    }

    /// The centres in units of the data (after projection), where the data lie, cluster by cluster.
    #[must_use]
    pub fn centres(&self) -> Vec<f64> {
        self.routes().map_or_else(Vec::new, |routes| routes.floats())
    }

    /// Sum of the squared distances of the rows to their centres, in units of the data (after projection).
    #[must_use]
    pub fn inertia(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let loss = self.held.last.loss() as f64;
        loss * self.unit() * self.unit()
    }

    /// How coarse the fixed point and the lattice are against the spread of the rows: docs/algorithm.md, section 8.
    #[must_use]
    pub fn resolution(&self) -> f64 {
        self.held.last.resolution(self.params.last_pitch(), self.dim())
    }

    /// Number of updates of the centres: `max_iter`, or none without rows.
    #[must_use]
    pub fn n_iter(&self) -> usize {
        self.fit.steps.len().saturating_sub(1)
    }

    /// For each cluster the id of the row nearest to its centre; none for a cluster without rows.
    #[must_use]
    pub fn exemplars(&self) -> Vec<Option<IdRef<'_>>> {
        self.held.last.exemplars().map(|slot| slot.map(|slot| self.held.ids.get(slot))).collect()
    }

    /// For each cluster the ids of the `count` rows nearest to its centre, nearest first, or of all its rows if it has
    /// fewer: at most [`MAX_NEAREST`].
    #[must_use]
    pub fn nearest(&self, count: usize) -> Vec<Vec<IdRef<'_>>> {
        let lists = self.held.last.nearest(count.min(MAX_NEAREST), &self.held.all(), self.resources.threads);
        lists.into_iter().map(|list| list.into_iter().map(|near| self.held.ids.get(near.slot)).collect()).collect()
    }

    /// The ids of the rows chosen as seeds, round by round.
    #[must_use]
    pub fn seeds(&self) -> Vec<IdRef<'_>> {
        self.fit.seeds.chosen().map(|slot| self.held.ids.get(slot)).collect()
    }

    /// For each round of the seeding the ids of the rows that its trials proposed.
    #[must_use]
    pub fn proposals(&self) -> Vec<Vec<IdRef<'_>>> {
        let of_round = |trials: Vec<(u32, i64)>| trials.iter().map(|&(slot, _)| self.held.ids.get(slot)).collect();
        self.fit.seeds.trials().map(|trials| of_round(trials.collect())).collect()
    }

    /// The length of one unit of the fixed point in units of the data.
    pub(crate) fn unit(&self) -> f64 {
        self.params.unit(self.held.rows.exponent())
    }
}
