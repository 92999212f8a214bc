//! The rows that one place holds, and what follows from each of them alone: their assignment, their order by place, their
//! hash. A model is one such place with all rows, the panel's first; a shard is one of several. Algorithm of the parts:
//! docs/maintenance.md, "Rows in several places".

use std::sync::OnceLock;

use crate::error::Error;
use crate::ids::{IdTable, Ids, slot_number};
use crate::keyed::Keyed;
use crate::last::Last;
use crate::panel::Panel;
use crate::params::ValidParams;
use crate::population::Population;
use crate::row_sum::RowSum;
use crate::rows::{Batch, Rows};
use crate::threads::Threads;

/// Rows by slot, with what is kept of each.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    pub(crate) rows: Rows,
    pub(crate) ids: IdTable,
    pub(crate) panel: Panel,
    pub(crate) last: Last,
    /// Drawn up when it is first needed.
    sum: OnceLock<RowSum>,
}

impl Holding {
    pub(crate) fn new(params: &ValidParams) -> Self {
        Self {
            rows: Rows::new(params.dim(), params.fixed_exponent().map(|(exponent, _)| exponent)),
            ids: IdTable::new(),
            panel: Panel::default(),
            last: Last::default(),
            sum: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// All rows as they are.
    pub(crate) fn all(&self) -> Population<'_> {
        Population::first(&self.rows, &self.ids, self.len())
    }

    /// Refuses rows that cannot come.
    pub(crate) fn check_new(&self, ids: &Ids, batch: &Batch) -> Result<(), Error> {
        if ids.len() != batch.len() {
            return Err(Error::Length { ids: ids.len(), rows: batch.len() });
        }
        self.ids.check_new(ids)?;
        let n = self.len() + batch.len();
        if i32::try_from(n).is_err() { Err(Error::TooManyRows(n)) } else { Ok(()) }
    }

    /// Takes in rows that passed `check_new`, behind those that are here.
    pub(crate) fn take_in(&mut self, ids: Ids, batch: Batch) {
        let first = self.len();
        self.rows.extend(batch);
        self.ids.extend(ids);
        if let Some(sum) = self.sum.get_mut() {
            for slot in first..self.rows.len() {
                sum.count(&self.rows, slot, self.ids.get(slot_number(slot)), 1);
            }
        }
    }

    /// Takes rows that are going to be removed out of their hash.
    pub(crate) fn take_out_of_sum(&mut self, slots: &[u32]) {
        if let Some(sum) = self.sum.get_mut() {
            for &slot in slots {
                sum.count(&self.rows, slot as usize, self.ids.get(slot), -1);
            }
        }
    }

    /// The hash of all rows. The first time takes a pass over them.
    pub(crate) fn sum(&self, threads: Threads) -> &RowSum {
        self.sum.get_or_init(|| RowSum::draw_up(&self.rows, &self.ids, threads))
    }

    /// A copy of it, if it is asked for or known. That of no rows does not have to be followed.
    pub(crate) fn sum_for(&self, is_wanted: bool, threads: Threads) -> Option<RowSum> {
        match self.sum.get() {
            Some(sum) => Some(sum.clone()),
            None if self.len() == 0 => Some(RowSum::new()),
            None => is_wanted.then(|| self.sum(threads).clone()),
        }
    }

    fn place(&self, keyed: Keyed, slot: u32) -> u64 {
        keyed.place(self.ids.row_key(slot))
    }

    /// A row is off the panel now.
    pub(crate) fn enter(&mut self, keyed: Keyed, slot: u32) {
        if self.panel.has_reserve() {
            self.panel.enter(self.place(keyed, slot), slot);
        }
    }

    /// A row that was off the panel comes onto it.
    pub(crate) fn leave(&mut self, keyed: Keyed, slot: u32) {
        self.panel.leave(self.place(keyed, slot), slot);
    }

    /// Rows change places: one off the panel gets the slot of another.
    pub(crate) fn rename(&mut self, keyed: Keyed, from: u32, to: u32) {
        self.panel.rename(self.place(keyed, from), from, to);
    }

    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        if a != b {
            self.rows.swap(a as usize, b as usize);
            self.ids.swap(a, b);
            self.last.swap(a, b);
        }
    }

    /// Takes out rows off the panel, by ascending slots, and overwrites them.
    pub(crate) fn drop_rows(&mut self, keyed: Keyed, slots: &[u32]) {
        // From the last one on, so that what moves into a place stays.
        for &slot in slots.iter().rev() {
            let last = slot_number(self.len() - 1);
            self.leave(keyed, slot);
            if last != slot {
                self.rename(keyed, last, slot);
            }
            self.rows.swap_remove(slot as usize);
            self.ids.swap_remove(slot);
            self.last.swap_remove(slot, last);
        }
    }

    /// Finds the exemplars that are missing. Returns the multiply-adds spent.
    pub(crate) fn refresh_exemplars(&mut self, threads: Threads) -> u64 {
        let population = Population::first(&self.rows, &self.ids, self.rows.len());
        self.last.refresh(&population, threads)
    }
}
