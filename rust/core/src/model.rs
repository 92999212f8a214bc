//! The model: the one owner of the state. It finds the rows that an update names, lets `fit` plan and apply
//! what that does to seeds, steps and exemplars, and then changes the rows themselves.

use crate::error::Error;
use crate::fit::{Fit, FitRecord, Update};
use crate::fixed;
use crate::ids::{IdRef, IdTable, Ids, slot_number};
use crate::params::ValidParams;
use crate::population::Population;
use crate::resolution;
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
        let rows = Rows::new(params.dim(), params.fixed_exponent().map(|(exponent, _)| exponent));
        let fit = Fit::new(resources.cache);
        Self { params, rows, ids: IdTable::new(), fit, resources }
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
            self.rows.extend(batch);
            self.ids.extend(ids);
            return Ok(Update { added, ..self.refit() });
        }
        let mut aligned = batch.clone();
        aligned.align(exponent);
        let gained: i64 = aligned.squares.iter().map(|&square| i64::from(square)).sum();
        let square_sum = self.rows.square_sum() + gained;
        let population = Population::with(&self.rows, &self.ids, &ids, aligned);
        let update = self.fit.update(&self.params, &population, square_sum, self.resources.threads);
        self.rows.extend(batch);
        self.ids.extend(ids);
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
        let exponent = self.rows.exponent_after(slots, None);
        if self.must_refit(self.len() - removed, exponent) {
            self.fit = Fit::new(self.resources.cache);
            self.vacate(slots);
            return Update { removed, ..self.refit() };
        }
        let lost: i64 = slots.iter().map(|&slot| i64::from(self.rows.squares()[slot as usize])).sum();
        let square_sum = self.rows.square_sum() - lost;
        let population = Population::without(&self.rows, &self.ids, slots);
        let update = self.fit.update(&self.params, &population, square_sum, self.resources.threads);
        self.vacate(slots);
        let more = self.refresh_exemplars();
        Update { removed, work: update.work + more, ..update }
    }

    /// Whether nothing of the fit can be kept: the number of clusters or the scale changes.
    fn must_refit(&self, n: usize, exponent: i16) -> bool {
        exponent != self.rows.exponent() || self.params.clusters(n) != self.params.clusters(self.len())
    }

    /// Takes out slots, given in ascending order: from the last one on, so that what moves into a place stays.
    fn vacate(&mut self, slots: &[u32]) {
        for &slot in slots.iter().rev() {
            let last = slot_number(self.len() - 1);
            self.rows.swap_remove(slot as usize);
            self.ids.swap_remove(slot);
            self.fit.swap_remove(slot, last);
        }
    }

    fn refit(&mut self) -> Update {
        self.rows.settle();
        let population = Population::whole(&self.rows, &self.ids);
        self.fit = Fit::new(self.resources.cache);
        let update = self.fit.run(&self.params, &population, self.rows.square_sum(), self.resources.threads);
        let more = self.refresh_exemplars();
        Update { work: update.work + more, ..update }
    }

    /// Takes up the record of an equal model; false if they do not follow from the rows.
    pub(crate) fn restore(&mut self, record: FitRecord) -> bool {
        let population = Population::whole(&self.rows, &self.ids);
        let square_sum = self.rows.square_sum();
        let restored = self.fit.restore(&self.params, &population, square_sum, record, self.resources.threads);
        self.refresh_exemplars();
        restored
    }

    fn refresh_exemplars(&mut self) -> u64 {
        self.fit.refresh_exemplars(&Population::whole(&self.rows, &self.ids), self.resources.threads)
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

    /// The cluster of each row, in the order of the ids.
    #[must_use]
    pub fn labels(&self) -> Vec<u16> {
        let Some((_, step)) = self.fit.kept() else { return Vec::new() };
        self.ids.ascending().iter().map(|&slot| step.labels[slot as usize]).collect()
    }

    /// The centres in units of the data (after projection), where the data lie, cluster by cluster.
    #[must_use]
    pub fn centres(&self) -> Vec<f64> {
        let Some((_, step)) = self.fit.kept() else { return Vec::new() };
        let centres = &step.summary.centres;
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
        self.fit.kept().map_or(0.0, |(_, step)| step.summary.loss as f64 * self.unit() * self.unit())
    }

    /// How coarse the fixed point and the lattice are against the spread of the rows: docs/algorithm.md, section 8.
    #[must_use]
    pub fn resolution(&self) -> f64 {
        let Some((_, step)) = self.fit.kept() else { return 0.0 };
        resolution::of(&step.summary, self.params.pitch(), self.dim())
    }

    /// Number of updates of the centres that were run.
    #[must_use]
    pub fn n_iter(&self) -> usize {
        self.fit.steps.len().saturating_sub(1)
    }

    /// For each cluster the id of the row nearest to its centre; none for a cluster without rows.
    #[must_use]
    pub fn exemplars(&self) -> Vec<Option<IdRef<'_>>> {
        self.fit.exemplars().map(|slot| slot.map(|slot| self.ids.get(slot))).collect()
    }

    /// The ids of the rows chosen as seeds, round by round.
    #[must_use]
    pub fn seeds(&self) -> Vec<IdRef<'_>> {
        self.fit.seeds.chosen().map(|slot| self.ids.get(slot)).collect()
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
