//! A shard: some of the rows of a model whose panel lies elsewhere. It says which of its rows have the smallest places,
//! assigns its rows to centres that it is given, follows the rows that come and go, and reports its part. See
//! docs/maintenance.md, "Rows in several places".

use std::ops::Range;

use crate::error::Error;
use crate::exemplar::MAX_NEAREST;
use crate::fit::UpdateContext;
use crate::fixed::MIN_EXPONENT;
use crate::frame::{Frame, FrameId};
use crate::holding::Holding;
use crate::ids::{IdRef, Ids, slot_number};
use crate::kept::{KeptRows, Mark};
use crate::last::Last;
use crate::message::SharedParams;
use crate::part::{Assigned, Clusters, Near, Part};
use crate::population::Population;
use crate::resources::Resources;
use crate::rows::{Batch, Matrix};

/// The rows that one place holds, and their assignment. See [`Coordinator`](crate::Coordinator) for an example.
#[derive(Debug, Clone)]
pub struct Shard {
    shared: SharedParams,
    held: Holding,
    /// What the rows are assigned to.
    frame: Option<FrameId>,
    resources: Resources,
}

/// What a removal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The rows that were here.
    pub ids: Ids,
    /// Multiply-adds spent.
    pub work: u64,
}

impl Shard {
    /// A shard without rows.
    #[must_use]
    pub fn new(shared: SharedParams, resources: impl Into<Resources>) -> Self {
        Self { held: Holding::new(&shared.params), shared, frame: None, resources: resources.into() }
    }

    /// The parameters.
    #[must_use]
    pub fn shared(&self) -> &SharedParams {
        &self.shared
    }

    /// What the shard may use of the machine.
    #[must_use]
    pub fn resources(&self) -> Resources {
        self.resources
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest exponent of the rows, or the one that `max_norm` fixes; none without rows or `max_norm`.
    #[must_use]
    pub fn exponent(&self) -> Option<i16> {
        let largest = self.held.rows.largest_exponent();
        (!self.is_empty() || largest > MIN_EXPONENT).then_some(largest)
    }

    /// What the rows are assigned to. None before the first [`Shard::assign`], and once a row came that has a larger exponent
    /// than the frame.
    #[must_use]
    pub fn frame(&self) -> Option<FrameId> {
        self.frame
    }

    /// Makes room for so many more rows, so that those that are here need not be moved when they come. It is a hint: nothing
    /// depends on it.
    pub fn expect(&mut self, more: usize) {
        self.held.rows.expect(self.len().saturating_add(more).min(i32::MAX as usize));
    }

    /// Takes rows in, and assigns them if the others are. Returns the multiply-adds spent.
    ///
    /// # Errors
    ///
    /// As [`Model::add`](crate::Model::add); the shard is then as it was.
    pub fn add(&mut self, ids: Ids, matrix: Matrix<'_>) -> Result<u64, Error> {
        let batch = Batch::quantise(&self.shared.params, matrix, self.resources.threads)?;
        self.add_batch(ids, batch)
    }

    /// Takes rows in that come from another place.
    ///
    /// # Errors
    ///
    /// As [`Shard::add`], and [`Error::Message`] for rows of a model with other parameters.
    pub fn take(&mut self, rows: KeptRows) -> Result<u64, Error> {
        self.shared.check(rows.origin)?;
        let KeptRows { ids, batch, .. } = rows;
        // The ids that are refused are overwritten too.
        self.held.check_new(&ids.0, &batch)?;
        self.add_batch(ids.take(), batch)
    }

    /// As [`Shard::add`], with rows that were quantised with these parameters.
    ///
    /// # Errors
    ///
    /// As [`Shard::add`].
    pub fn add_batch(&mut self, ids: Ids, batch: Batch) -> Result<u64, Error> {
        self.held.check_new(&ids, &batch)?;
        if batch.is_empty() {
            return Ok(0);
        }
        let base = self.len();
        let exponent = self.held.rows.exponent_after(&[], Some(&batch));
        let has_centres = self.held.last.summary().is_some();
        if self.frame.is_some() && (!has_centres || exponent != self.held.rows.exponent()) {
            (self.frame, self.held.last) = (None, Last::default());
        }
        let mut work = 0;
        if self.frame.is_some() {
            let mut aligned = batch.clone();
            aligned.align(exponent);
            self.keep_scores(base + batch.len());
            let Holding { rows, ids: table, last, .. } = &mut self.held;
            let all = Population::first(rows, table, base).with(&ids, aligned);
            work = follow(last, &self.shared, self.resources, &all);
        }
        self.held.take_in(ids, batch);
        let keyed = self.shared.params.keyed();
        for slot in slot_number(base)..slot_number(self.len()) {
            self.held.enter(keyed, slot);
        }
        Ok(work + self.held.refresh_exemplars(self.resources.threads))
    }

    /// Removes those of these rows that are here, and overwrites them.
    pub fn remove(&mut self, ids: &Ids) -> Removed {
        let slots = self.held.ids.slots_here(ids);
        let ids = self.held.ids.ids_of(&slots);
        if slots.is_empty() {
            return Removed { ids, work: 0 };
        }
        self.held.take_out_of_sum(&slots);
        let mut work = 0;
        if self.frame.is_some() {
            self.keep_scores(self.len() - slots.len());
            let Holding { rows, ids: table, last, .. } = &mut self.held;
            let all = Population::without(rows, table, rows.len(), &slots);
            work = follow(last, &self.shared, self.resources, &all);
        }
        self.held.drop_rows(self.shared.params.keyed(), &slots);
        Removed { ids, work: work + self.held.refresh_exemplars(self.resources.threads) }
    }

    /// Whether a row is here.
    #[must_use]
    pub fn has(&self, id: IdRef<'_>) -> bool {
        self.held.ids.slot(id).is_some()
    }

    /// The ids, ascending.
    #[must_use]
    pub fn ids(&self) -> Ids {
        self.held.ids.sorted()
    }

    /// The clusters of some rows.
    ///
    /// # Errors
    ///
    /// [`Error::NotHere`] for rows that are not here, [`Error::Parts`] if the rows are not assigned.
    pub fn labels(&self, ids: &Ids) -> Result<Vec<u16>, Error> {
        let slots = self.slots(ids)?;
        if self.frame.is_none() {
            return Err(Error::parts(
                "the rows of this shard are not assigned to the model's centres: assign them first",
            ));
        }
        let labels = self.held.last.labels();
        Ok(slots.into_iter().map(|slot| labels[slot as usize]).collect())
    }

    /// The `count` rows of smallest place behind a mark, or of all, in their order: those that come next onto the panel.
    pub fn smallest(&mut self, after: Option<&Mark>, count: usize) -> KeptRows {
        let (keyed, threads) = (self.shared.params.keyed(), self.resources.threads);
        let Holding { ids, panel, .. } = &mut self.held;
        let slots = panel.smallest(ids, keyed, after.map(Mark::key), count, threads);
        KeptRows::of(&self.held, self.shared.origin, &slots)
    }

    /// Those of these rows that are here and not behind a mark, by place: those that come onto the panel if they were added. All
    /// without a mark, but at most as many as the panel has room for. (A row at the mark has the id of the panel's last one,
    /// which it has replaced.)
    #[must_use]
    pub fn candidates(&self, ids: &Ids, mark: Option<&Mark>) -> KeptRows {
        let keyed = self.shared.params.keyed();
        let placed = |slot: u32| (keyed.place(self.held.ids.row_key(slot)), self.held.ids.get(slot));
        let mut slots = self.held.ids.slots_here(ids);
        slots.retain(|&slot| mark.is_none_or(|mark| placed(slot) <= mark.key()));
        slots.sort_by_cached_key(|&slot| placed(slot));
        slots.truncate(self.shared.params.on_panel(usize::MAX));
        KeptRows::of(&self.held, self.shared.origin, &slots)
    }

    /// Aligns the rows to a frame's exponent and assigns them to its centres. Rows that come and go are followed from then on.
    /// Returns the multiply-adds spent.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for a frame of a model with other parameters, [`Error::Parameter`] for one of a model without the
    /// rows here. The shard is then as it was.
    pub fn assign(&mut self, frame: &Frame) -> Result<u64, Error> {
        self.shared.check(frame.origin)?;
        let id = frame.id();
        if self.frame == Some(id) {
            return Ok(0);
        }
        let own = self.held.rows.largest_exponent();
        if own > frame.exponent {
            let bound = format!("of an exponent of at least {own}, as the rows of this shard: fit with its part first");
            return Err(Error::parameter("centres", &frame.exponent, bound));
        }
        let clusters = frame.centres.len();
        if clusters == 0 && !self.is_empty() {
            let bound = "those of a model with the rows of this shard: fit with its part first";
            return Err(Error::parameter("centres", &"none", bound));
        }
        let before = self.held.last.summary().map_or(0, |summary| summary.centres.len());
        if self.held.rows.exponent() != frame.exponent || before != clusters {
            self.held.last = Last::default();
        }
        self.held.rows.settle_with(frame.exponent);
        self.frame = Some(id);
        if clusters == 0 {
            return Ok(0);
        }
        self.keep_scores_for(self.len(), clusters);
        let Holding { rows, ids, last, .. } = &mut self.held;
        let all = Population::first(rows, ids, rows.len());
        let context = UpdateContext { params: &self.shared.params, population: &all, threads: self.resources.threads };
        let plan = last.plan(context, Some(frame.centres.clone()));
        let work = plan.work();
        last.apply(plan, &all);
        Ok(work + self.held.refresh_exemplars(self.resources.threads))
    }

    /// The shard's part of the model, with so many nearest rows of each cluster: from 1 to [`MAX_NEAREST`]. The hash of the rows,
    /// which a digest needs, takes a pass over them once, and is followed from then on. It is in the part if it is asked for,
    /// or is known.
    ///
    /// # Errors
    ///
    /// [`Error::Parameter`] for another number.
    pub fn part(&self, nearest: usize, with_hash: bool) -> Result<Part, Error> {
        if !(1..=MAX_NEAREST).contains(&nearest) {
            return Err(Error::parameter("nearest", &nearest, format!("from 1 to {MAX_NEAREST}")));
        }
        let (held, threads) = (&self.held, self.resources.threads);
        let assigned = match (self.frame, held.last.summary()) {
            (Some(frame), Some(summary)) => {
                let near =
                    |near: &crate::exemplar::Near| Near { distance: near.distance, id: held.ids.get(near.slot).into() };
                let lists = held.last.nearest(nearest, &held.all(), threads);
                Assigned::To(Clusters {
                    frame,
                    counts: summary.counts.clone(),
                    loss: summary.loss,
                    depth: nearest,
                    nearest: lists.iter().map(|list| list.iter().map(near).collect()).collect(),
                })
            }
            _ if self.is_empty() => Assigned::Any,
            _ => Assigned::Mixed,
        };
        Ok(Part {
            origin: self.shared.origin,
            rows: self.len() as u64,
            is_str: (!self.is_empty()).then(|| held.ids.is_str()),
            exponent: held.rows.largest_exponent(),
            sum: held.sum_for(with_hash, threads),
            assigned,
        })
    }

    /// The rows at a range of positions, cut to those there are. They keep their positions until a row comes or goes.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> KeptRows {
        let end = range.end.min(self.len());
        let slots: Vec<u32> = (slot_number(range.start.min(end))..slot_number(end)).collect();
        KeptRows::of(&self.held, self.shared.origin, &slots)
    }

    /// Rows by id, each once.
    ///
    /// # Errors
    ///
    /// [`Error::NotHere`] for rows that are not here.
    pub fn rows_of(&self, ids: &Ids) -> Result<KeptRows, Error> {
        let mut slots = self.slots(ids)?;
        slots.sort_unstable();
        slots.dedup();
        Ok(KeptRows::of(&self.held, self.shared.origin, &slots))
    }

    /// The slot of each id.
    fn slots(&self, ids: &Ids) -> Result<Vec<u32>, Error> {
        let slots: Vec<u32> = ids.iter().filter_map(|id| self.held.ids.slot(id)).collect();
        if slots.len() == ids.len() {
            return Ok(slots);
        }
        Err(Error::NotHere(ids.iter().filter(|&id| !self.has(id)).map(|id| id.to_string()).collect()))
    }

    fn keep_scores(&mut self, rows: usize) {
        let clusters = self.held.last.summary().map_or(0, |summary| summary.centres.len());
        self.keep_scores_for(rows, clusters);
    }

    /// Sets what may be kept of that which could be computed again.
    fn keep_scores_for(&mut self, rows: usize, clusters: usize) {
        let (dim, max_iter) = (self.shared.params.dim(), self.shared.params.max_iter as usize);
        let kept = self.resources.cache.budget(rows, 0, dim, clusters, max_iter);
        self.held.last.scores.keep(kept.last);
    }
}

/// Follows rows that come and go. Returns the multiply-adds spent.
fn follow(last: &mut Last, shared: &SharedParams, resources: Resources, all: &Population<'_>) -> u64 {
    let context = UpdateContext { params: &shared.params, population: all, threads: resources.threads };
    let plan = last.plan(context, None);
    let work = plan.work();
    last.apply(plan, all);
    work
}
