//! The coordinator: what is left of a model whose rows lie in shards. It has the rows of the panel and what follows from them,
//! by the same code as a model, and the sums of the shards' parts. See docs/maintenance.md, "Rows in several places".

use zeroize::Zeroizing;

use crate::derived::Derived;
use crate::error::Error;
use crate::fit::{Fit, Update};
use crate::fixed::MIN_EXPONENT;
use crate::frame::FrameId;
use crate::ids::{IdRef, IdTable, Ids, WipedIds, slot_number};
use crate::kept::{KeptRows, Mark};
use crate::last::Last;
use crate::message::{self, Kind, SharedParams};
use crate::model::Model;
use crate::panel::Exchange;
use crate::part::Part;
use crate::population::Population;
use crate::resources::Resources;
use crate::rows::{Batch, Rows};

/// A model whose rows lie in [`Shard`](crate::Shard)s: its results are those of a [`Model`] of all rows, to the bit.
///
/// ```
/// use erase_core::{Coordinator, Ids, Matrix, Model, Params, Part, Shard, SharedParams, Threads};
///
/// let params = Params { n_clusters: 2, panel: Some(4), ..Params::default() }.check(1)?;
/// let shared = SharedParams::new(params.clone())?;
/// let mut shards = [Shard::new(shared.clone(), Threads::default()), Shard::new(shared.clone(), Threads::default())];
/// shards[0].add(Ids::Int(vec![0, 1, 2]), Matrix::F64(&[0.0, 0.1, 0.2]))?;
/// shards[1].add(Ids::Int(vec![3, 4, 5]), Matrix::F64(&[5.0, 5.1, 5.2]))?;
/// let merged = |shards: &[Shard]| -> Result<Part, erase_core::Error> { shards[0].part(1, true)?.merge(shards[1].part(1, true)?) };
///
/// let mut model = Coordinator::new(shared, Threads::default());
/// let candidates = shards.iter_mut().map(|shard| shard.smallest(None, 4)).collect();
/// model.fit(candidates, merged(&shards)?)?;
/// for shard in &mut shards {
///     shard.assign(&model.frame())?;
/// }
/// model.complete(merged(&shards)?)?;
///
/// let rows = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2];
/// let alone = Model::fit(params, Ids::Int((0..6).collect()), Matrix::F64(&rows), Threads::default())?;
/// assert_eq!(model.digest()?, alone.digest());
/// # Ok::<(), erase_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Coordinator {
    pub(crate) shared: SharedParams,
    /// The rows of the panel, aligned to the exponent of all rows.
    pub(crate) rows: Rows,
    pub(crate) ids: IdTable,
    pub(crate) fit: Fit,
    /// The result of no rows: the centres that are kept.
    pub(crate) last: Last,
    pub(crate) frame: FrameId,
    /// Where the panel ends, if it is full.
    mark: Option<Mark>,
    /// What the shards have said last, assigned to the frame or not.
    pub(crate) total: Part,
    pub(crate) resources: Resources,
}

/// What an update of the panel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// The update; rows are those that left the panel and came onto it.
    pub update: Update,
    /// Whether the shards have to assign their rows to the new frame, and [`Coordinator::complete`] is to be called.
    pub moved: bool,
}

/// A change of the panel, before it is made.
struct Change {
    exchange: Exchange,
    /// The rows that come.
    coming: Option<(WipedIds, Batch)>,
}

impl Coordinator {
    /// A model without rows.
    #[must_use]
    pub fn new(shared: SharedParams, resources: impl Into<Resources>) -> Self {
        let fixed = shared.params.fixed_exponent().map(|(exponent, _)| exponent);
        let rows = Rows::new(shared.params.dim(), fixed);
        let total = Part::empty(shared.origin, fixed.unwrap_or(MIN_EXPONENT));
        let mut coordinator = Self {
            rows,
            ids: IdTable::new(),
            fit: Fit::default(),
            last: Last::default(),
            frame: FrameId([0; 32]),
            mark: None,
            total,
            resources: resources.into(),
            shared,
        };
        coordinator.frame = coordinator.frame().id();
        coordinator
    }

    /// Begins anew with the rows of smallest place of all shards, and their merged parts. The shards have to be assigned then.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::exchange`].
    pub fn fit(&mut self, candidates: Vec<KeptRows>, part: Part) -> Result<Exchanged, Error> {
        let mut fresh = Self::new(self.shared.clone(), self.resources);
        let exchanged = fresh.exchange(&Ids::Int(Vec::new()), candidates, part)?;
        *self = fresh;
        Ok(exchanged)
    }

    /// Place and id of the panel's last row: no row behind it comes onto the panel as long as none leaves. None if the panel is
    /// not full: then all rows are on it.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Those of these ids whose rows are on the panel.
    #[must_use]
    pub fn on_panel(&self, ids: &Ids) -> Ids {
        self.ids.ids_of(&self.ids.slots_here(ids))
    }

    /// The ids of all rows on the panel, ascending.
    #[must_use]
    pub fn panel_ids(&self) -> Ids {
        self.ids.sorted()
    }

    /// Takes a change in that the shards have made already: `leaving` are the ids that were removed, `candidates` all rows that
    /// may come onto the panel, `part` the merged parts of all shards after it. One update, whatever the change was.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for rows or parts of a model with other parameters, [`Error::Parts`] for too few candidates or ones
    /// that the parts do not count, [`Error::DuplicateId`] and [`Error::IdKind`] for ids that cannot be in one model. The
    /// coordinator is then as it was.
    pub fn exchange(&mut self, leaving: &Ids, candidates: Vec<KeptRows>, part: Part) -> Result<Exchanged, Error> {
        let change = self.change(leaving, candidates, &part)?;
        let (added, removed) = (change.exchange.coming.len(), change.exchange.leaving.len());
        let is_still = added == 0 && removed == 0 && part.exponent == self.rows.exponent();
        let update = if is_still { Update::NONE } else { self.apply(change, part.exponent) };
        self.total = part;
        Ok(Exchanged { update: Update { added, removed, ..update }, moved: !self.is_complete() })
    }

    /// Takes the merged parts of all shards in, once they are assigned to the frame.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for parts of a model with other parameters, [`Error::Parts`] for parts of other rows than
    /// [`Coordinator::exchange`] was told, or of rows that are not assigned to the frame.
    pub fn complete(&mut self, part: Part) -> Result<(), Error> {
        self.shared.check(part.origin)?;
        let of = |part: &Part| (part.rows, part.is_str, part.exponent);
        let sums = part.sum.as_ref().zip(self.total.sum.as_ref());
        if of(&part) != of(&self.total) || sums.is_some_and(|(sum, told)| sum != told) {
            let (got, expected) = (part.rows, self.total.rows);
            let text = format!(
                "the parts ({got} rows) are not of the rows that the coordinator was told of ({expected}): merge those of all \
                 shards, and take changes in by an exchange"
            );
            return Err(Error::parts(text));
        }
        if part.rows > 0 && part.clusters().is_none_or(|clusters| clusters.frame != self.frame) {
            return Err(Error::parts("not all parts are assigned to the present centres: assign every shard first"));
        }
        self.total = part;
        Ok(())
    }

    /// Whether the results are those of all rows.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total.rows == 0 || self.total.clusters().is_some_and(|clusters| clusters.frame == self.frame)
    }

    /// A model of all rows, from those of all shards.
    ///
    /// # Errors
    ///
    /// [`Error::Parts`] for more or fewer rows, and the errors of [`Model::fit_batch`].
    pub fn gather(&self, rows: Vec<KeptRows>, resources: impl Into<Resources>) -> Result<Model, Error> {
        let got: usize = rows.iter().map(KeptRows::len).sum();
        if got as u64 != self.total.rows {
            return Err(Error::parts(format!("{got} rows were gathered, but the shards have {}", self.total.rows)));
        }
        let mut model = Model::empty(self.shared.params.clone(), resources.into());
        let mut rows = rows.into_iter();
        let Some(first) = rows.next() else { return Ok(model) };
        self.shared.check(first.origin)?;
        let (mut ids, mut batch) = (first.ids, first.batch);
        for more in rows {
            self.shared.check(more.origin)?;
            ids.extend(more.ids)?;
            batch.extend(more.batch);
        }
        model.add_batch(ids.take(), batch)?;
        Ok(model)
    }

    /// The state: the parameters, the rows of the panel, and what the shards have said.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let slots = self.ids.ascending();
        let (ids, batch) = (WipedIds(self.ids.ids_of(&slots)), self.rows.copies(&slots));
        let panel = KeptRows { origin: self.shared.origin, ids, batch };
        let parts = [self.shared.to_bytes(), panel.to_bytes(), self.total.to_bytes()];
        let len = parts.iter().map(|part| 8 + part.len()).sum();
        message::seal(Kind::State, self.shared.origin, len, |writer| {
            parts.iter().try_for_each(|part| {
                writer.bytes(&(part.len() as u64).to_le_bytes())?;
                writer.bytes(part)
            })
        })
    }

    /// Takes a state up again.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for bytes that are not one.
    pub fn from_bytes(bytes: &[u8], resources: impl Into<Resources>) -> Result<Self, Error> {
        let (_, mut reader) = message::open(Kind::State, bytes)?;
        let mut next = || {
            let len = message::sound(reader.u64())?;
            message::sound(reader.take(usize::try_from(len).unwrap_or(usize::MAX)))
        };
        let shared = SharedParams::from_bytes(next()?)?;
        let panel = KeptRows::from_bytes(&shared, next()?)?;
        let part = Part::from_bytes(next()?)?;
        message::check_end(&reader)?;
        let mut coordinator = Self::new(shared, resources);
        let exchanged = coordinator.exchange(&Ids::Int(Vec::new()), vec![panel], part);
        exchanged.map_err(|error| Error::message(error.to_string()))?;
        // Rows that are not on the panel, or not in the order of their ids, would come out with other bytes.
        if coordinator.to_bytes().as_slice() == bytes {
            Ok(coordinator)
        } else {
            Err(Error::message("its contents are not in canonical form"))
        }
    }

    /// `M`.
    fn capacity(&self) -> usize {
        self.shared.params.on_panel(usize::MAX)
    }

    fn place(&self, row_key: u64) -> u64 {
        self.shared.params.keyed().place(row_key)
    }

    /// Finds out which rows are on the panel after a change. Changes nothing.
    fn change(&self, leaving: &Ids, candidates: Vec<KeptRows>, part: &Part) -> Result<Change, Error> {
        self.shared.check(part.origin)?;
        let mut leaving = self.ids.slots_here(leaving);
        self.check_exponent(&leaving, part.exponent)?;
        let size = usize::try_from(part.rows).unwrap_or(usize::MAX).min(self.capacity());
        let is_still = leaving.is_empty() && candidates.iter().all(KeptRows::is_empty) && size == self.rows.len();
        if is_still && (size == 0 || part.is_str == Some(self.ids.is_str())) {
            return Ok(Change { exchange: Exchange::default(), coming: None });
        }
        let (mut ids, mut batch) = (WipedIds(Ids::Int(Vec::new())), None::<Batch>);
        for rows in candidates {
            self.shared.check(rows.origin)?;
            ids.extend(rows.ids)?;
            match &mut batch {
                Some(batch) => batch.extend(rows.batch),
                None => batch = Some(rows.batch),
            }
        }
        self.check_kinds(&ids.0, self.rows.len() > leaving.len(), part)?;
        let stay = (0..slot_number(self.rows.len())).filter(|slot| leaving.binary_search(slot).is_err());
        // Rows on the panel come first, and among equal ones the first given: the sort is stable.
        let mut pool: Vec<(u64, IdRef<'_>, Result<u32, usize>)> =
            stay.map(|slot| (self.place(self.ids.row_key(slot)), self.ids.get(slot), Ok(slot))).collect();
        pool.extend(ids.0.iter().enumerate().map(|(number, id)| (self.place(id.row_key()), id, Err(number))));
        pool.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        if let Some(batch) = &batch {
            self.merge_equal(&mut pool, batch)?;
        }
        if pool.len() < size {
            let missing = size - pool.len();
            let text = format!(
                "{missing} rows of the panel are missing: ask every shard for the {missing} smallest behind the mark"
            );
            return Err(Error::parts(text));
        }
        let numbers: Vec<usize> = pool[..size].iter().filter_map(|row| row.2.err()).collect();
        leaving.extend(pool[size..].iter().filter_map(|row| row.2.ok()));
        leaving.sort_unstable();
        let coming = batch.filter(|_| !numbers.is_empty()).map(|batch| {
            let chosen = WipedIds(numbers.iter().map(|&number| ids.0.get(number)).collect());
            (chosen, batch.select(numbers.iter().copied()))
        });
        if let Some((_, batch)) = coming.as_ref().filter(|(_, batch)| batch.largest_exponent() > part.exponent) {
            let (own, told) = (batch.largest_exponent(), part.exponent);
            let text = format!(
                "a candidate has the exponent {own}, but the parts have none above {told}: give their parts too"
            );
            return Err(Error::parts(text));
        }
        let base = self.rows.len();
        let slots = (base..base + numbers.len()).map(slot_number).collect();
        Ok(Change { exchange: Exchange { leaving, coming: slots }, coming })
    }

    /// Refuses parts without the rows of the panel that stay.
    fn check_exponent(&self, leaving: &[u32], told: i16) -> Result<(), Error> {
        let own = |slot: &u32| self.rows.own_exponent(*slot as usize);
        let mut slots = (0..slot_number(self.rows.len())).filter(|_| told < self.rows.exponent());
        if slots.any(|slot| own(&slot) > told && leaving.binary_search(&slot).is_err()) {
            let text = "the parts are not those of all rows on the panel: merge those of all shards, after the change";
            return Err(Error::parts(text));
        }
        Ok(())
    }

    /// Refuses ids of another kind than the parts say.
    fn check_kinds(&self, ids: &Ids, some_stay: bool, part: &Part) -> Result<(), Error> {
        let given = (!ids.is_empty()).then(|| ids.kind());
        let staying = self.ids.kind().filter(|_| some_stay);
        let told = part.is_str.map(|is_str| if is_str { "strings" } else { "integers" });
        for got in [given, staying].into_iter().flatten() {
            match told {
                Some(expected) if expected == got => (),
                Some(expected) => return Err(Error::IdKind { expected, got }),
                None => {
                    return Err(Error::parts("there are candidates, but the parts have no rows: give their parts too"));
                }
            }
        }
        Ok(())
    }

    /// Drops rows of a sorted pool that are there already; they must be the very same.
    fn merge_equal(&self, pool: &mut Vec<(u64, IdRef<'_>, Result<u32, usize>)>, batch: &Batch) -> Result<(), Error> {
        let kept = |row: Result<u32, usize>| match row {
            Ok(slot) => (self.rows.own_exponent(slot as usize), self.rows.kept(slot as usize)),
            Err(number) => {
                let mut row = batch.rows.row(number);
                row.truncate(self.rows.dim());
                (batch.exponents[number], row)
            }
        };
        let differs = pool.windows(2).find(|pair| pair[0].1 == pair[1].1 && kept(pair[0].2) != kept(pair[1].2));
        if let Some(pair) = differs {
            return Err(Error::DuplicateId(pair[0].1.to_string()));
        }
        pool.dedup_by(|next, row| next.1 == row.1);
        Ok(())
    }

    /// Makes a change of the panel, with the largest exponent of all rows after it.
    fn apply(&mut self, change: Change, exponent: i16) -> Update {
        let Change { exchange, coming } = change;
        let size = self.rows.len() + exchange.coming.len() - exchange.leaving.len();
        let clusters = |rows: usize| self.shared.params.clusters(rows);
        let is_anew = exponent != self.rows.exponent()
            || clusters(size) != clusters(self.rows.len())
            || exchange.leaving.len() == self.rows.len();
        let update = if is_anew { self.refit(&exchange, coming, exponent) } else { self.follow(&exchange, coming) };
        self.frame = self.frame().id();
        self.mark = self.last_on_panel();
        update
    }

    /// The panel's last row, if it is full.
    fn last_on_panel(&self) -> Option<Mark> {
        let placed = |slot: u32| (self.place(self.ids.row_key(slot)), self.ids.get(slot));
        let slots = (0..slot_number(self.rows.len())).filter(|_| self.rows.len() == self.capacity());
        slots.map(placed).max().map(|(place, id)| Mark { place, id: id.into() })
    }

    /// Nothing that is derived can be kept.
    fn refit(&mut self, exchange: &Exchange, coming: Option<(WipedIds, Batch)>, exponent: i16) -> Update {
        (self.fit, self.last) = (Fit::default(), Last::default());
        for &slot in exchange.leaving.iter().rev() {
            self.rows.swap_remove(slot as usize);
            self.ids.swap_remove(slot);
        }
        if let Some((ids, batch)) = coming {
            self.rows.extend(batch);
            self.ids.extend(ids.take());
        }
        self.rows.settle_with(exponent);
        let Self { shared, rows, ids, fit, last, resources, .. } = self;
        let panel = Population::first(rows, ids, rows.len());
        let none = Population::first(rows, ids, 0);
        let mut update = Derived { params: &shared.params, fit, last, resources: *resources }.fit(&panel, &none);
        update.work += last.refresh(&none, resources.threads);
        update
    }

    /// Seeds and steps follow, as far as they can.
    fn follow(&mut self, exchange: &Exchange, coming: Option<(WipedIds, Batch)>) -> Update {
        let (ids_coming, batch) = coming.unwrap_or_else(|| (WipedIds(Ids::Int(Vec::new())), self.rows.copies(&[])));
        let mut aligned = batch.clone();
        aligned.align(self.rows.exponent());
        let Self { shared, rows, ids, fit, last, resources, .. } = self;
        let panel = Population::without(rows, ids, rows.len(), &exchange.leaving).with(&ids_coming.0, aligned);
        let none = Population::first(rows, ids, 0);
        let mut update = Derived { params: &shared.params, fit, last, resources: *resources }.follow(&panel, &none);
        update.work += last.refresh(&none, resources.threads);
        rows.extend(batch);
        ids.extend(ids_coming.take());
        for &slot in exchange.leaving.iter().rev() {
            let end = slot_number(rows.len() - 1);
            fit.swap_remove(slot, end);
            rows.swap_remove(slot as usize);
            ids.swap_remove(slot);
        }
        update
    }
}
