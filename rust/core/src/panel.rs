//! The panel: the rows that seeding and updates look at. Its rows lie in the first slots of the model, so that a pass over
//! it is a pass over its first blocks. Which row comes next when one leaves is known from a reserve: the rows off the
//! panel with the smallest places, made anew in one pass when it is used up. Derived, not part of the state. Algorithm:
//! docs/algorithm.md, section 5.

use std::ops::Range;

use erase_core_kernel::LANES;

use crate::ids::{IdRef, IdTable, WipedIds, slot_number};
use crate::keyed::Keyed;
use crate::params::ValidParams;
use crate::population::Population;
use crate::rows::Batch;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Rows that the reserve is made with, at the least. To make it takes some nanoseconds a row, and is needed at most once in
/// as many removals from the panel. If rows that come make it longer than four times as many, it is cut back to twice.
const RESERVE: usize = 16;
/// Multiply-adds that a place costs about as much as.
const PLACE_COST: usize = 16;

/// A row, by the place that it has and its slot.
type Placed = (u64, u32);

/// How many rows are on the panel, and the next ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panel {
    size: usize,
    reserve: Reserve,
}

/// All rows off the panel whose places are at most `bound`, by place.
#[derive(Debug, Clone, Default)]
struct Reserve {
    rows: Vec<Placed>,
    /// None: it knows of no row.
    bound: Option<u64>,
    /// So many of the first ones are there to be passed over: of a shard those that are on the panel, which lies elsewhere.
    passed: usize,
}

/// What an update does to the panel. Slots are those of a population: rows that come to the model have the slots behind.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Slots that leave it, ascending.
    pub(crate) leaving: Vec<u32>,
    /// Slots that come onto it, ascending.
    pub(crate) coming: Vec<u32>,
}

impl Exchange {
    /// Copies of the rows that come onto the panel, as its population wants them. `all` is the population of all rows.
    pub(crate) fn comers(&self, all: &Population<'_>, exponent: i16) -> (WipedIds, Batch) {
        let ids = all.ids_of(&self.coming);
        let mut rows = Wiped::<i16>::zeros(self.coming.len() * all.dim());
        let mut row = all.blank_row();
        for (&slot, copy) in self.coming.iter().zip(rows.chunks_exact_mut(all.dim())) {
            all.read(slot as usize, &mut row);
            copy.copy_from_slice(&row[..all.dim()]);
        }
        let exponents = vec![exponent; self.coming.len()].into();
        (WipedIds(ids), Batch::from_rows(all.dim(), exponents, &rows))
    }
}

impl Panel {
    /// Number of rows, which have the first slots.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether a slot is on the panel.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        (slot as usize) < self.size
    }

    pub(crate) fn resize(&mut self, size: usize) {
        self.size = size;
    }

    /// Chooses the panel anew from all rows. Returns pairs of slots that have to change places for it.
    pub(crate) fn choose(&mut self, ids: &IdTable, params: &ValidParams, threads: Threads) -> Vec<(u32, u32)> {
        let n = ids.len();
        *self = Self { size: params.on_panel(n), reserve: Reserve::default() };
        if self.size == n {
            self.reserve.bound = Some(u64::MAX);
            return Vec::new();
        }
        let size = self.size;
        let (mut found, bound) = find_smallest(ids, params.keyed(), 0..n, size + RESERVE, threads);
        sort(&mut found, |slot| ids.get(slot));
        let (chosen, rest) = found.split_at(size);
        let mut taken = vec![false; size];
        for &(_, slot) in chosen.iter().filter(|(_, slot)| (*slot as usize) < size) {
            taken[slot as usize] = true;
        }
        let free = (0..size).filter(|&slot| !taken[slot]).map(slot_number);
        let far = chosen.iter().map(|&(_, slot)| slot).filter(|&slot| slot as usize >= size);
        let pairs: Vec<(u32, u32)> = free.zip(far).collect();
        self.reserve.rows = rest.to_vec();
        self.reserve.bound = Some(bound);
        for (_, slot) in &mut self.reserve.rows {
            // `pairs` ascend by the first.
            if let Ok(i) = pairs.binary_search_by_key(slot, |pair| pair.0) {
                *slot = pairs[i].1;
            }
        }
        pairs
    }

    /// What the removal of some slots, ascending, does. Changes nothing but the reserve, which may be made anew.
    pub(crate) fn without(
        &mut self,
        ids: &IdTable,
        params: &ValidParams,
        removed: &[u32],
        threads: Threads,
    ) -> Exchange {
        let on_panel = removed.partition_point(|&slot| self.holds(slot));
        let leaving = removed[..on_panel].to_vec();
        let size = params.on_panel(ids.len() - removed.len());
        let needed = size + leaving.len() - self.size;
        if needed == 0 {
            return Exchange { leaving, coming: Vec::new() };
        }
        let enough = needed + removed.len() - on_panel;
        if self.reserve.rows.len() < enough && self.reserve.bound != Some(u64::MAX) {
            let off = self.size..ids.len();
            let (rows, bound) = find_smallest(ids, params.keyed(), off, enough + RESERVE, threads);
            self.reserve = Reserve { rows, bound: Some(bound), passed: 0 };
            sort(&mut self.reserve.rows, |slot| ids.get(slot));
        }
        let mut next: Vec<Placed> = Vec::with_capacity(needed + 1);
        for &row in &self.reserve.rows {
            // Rows of one place come in the order of their ids, which is not the order in which they came.
            if next.len() >= needed && next.last().is_none_or(|last| last.0 != row.0) {
                break;
            }
            if removed.binary_search(&row.1).is_err() {
                next.push(row);
            }
        }
        sort(&mut next, |slot| ids.get(slot));
        let mut coming: Vec<u32> = next[..needed].iter().map(|&(_, slot)| slot).collect();
        coming.sort_unstable();
        Exchange { leaving, coming }
    }

    /// What additional rows do. `all` is the population of all rows with them.
    pub(crate) fn with(&self, all: &Population<'_>, params: &ValidParams, threads: Threads) -> Exchange {
        let size = params.on_panel(all.slots());
        let added = slot_number(all.base())..slot_number(all.slots());
        if size == all.slots() {
            return Exchange { leaving: Vec::new(), coming: added.collect() };
        }
        let keyed = params.keyed();
        let places = |range: Range<usize>| places_of(range, |slot| all.row_key(slot), keyed, threads);
        let mut new: Vec<Placed> = places(all.added());
        let on_panel = places(0..self.size);
        if size == self.size {
            // The panel is full: only what comes before its last row matters.
            let largest = on_panel.iter().map(|row| row.0).max().unwrap_or(0);
            new.retain(|row| row.0 <= largest);
            if new.is_empty() {
                return Exchange::default();
            }
        }
        let mut pool = on_panel;
        pool.append(&mut new);
        sort(&mut pool, |slot| all.id(slot));
        let (inside, outside) = pool.split_at(size);
        let slots = |rows: &[Placed], wanted: fn(usize, usize) -> bool| {
            let base = all.base();
            let mut slots: Vec<u32> =
                rows.iter().map(|row| row.1).filter(|&slot| wanted(slot as usize, base)).collect();
            slots.sort_unstable();
            slots
        };
        Exchange { leaving: slots(outside, |slot, base| slot < base), coming: slots(inside, |slot, base| slot >= base) }
    }

    /// Where the panel lies elsewhere: the slots of the `count` rows of smallest place behind a mark, or of all fewer, in
    /// their order.
    pub(crate) fn smallest(
        &mut self,
        ids: &IdTable,
        keyed: Keyed,
        after: Option<(u64, IdRef<'_>)>,
        count: usize,
        threads: Threads,
    ) -> Vec<u32> {
        if count == 0 {
            return Vec::new();
        }
        let is_behind = |row: &Placed| after.is_none_or(|after| (row.0, ids.get(row.1)) > after);
        let mut behind = self.reserve.behind(is_behind);
        if behind.len() < count && self.reserve.bound != Some(u64::MAX) {
            let place = u128::from(after.map_or(0, |after| after.0));
            let before = usize::try_from((place * ids.len() as u128) >> 64).unwrap_or(ids.len());
            let mut wanted = before.saturating_add(count).saturating_add(RESERVE);
            loop {
                let (mut rows, bound) = find_smallest(ids, keyed, 0..ids.len(), wanted.min(ids.len()), threads);
                sort(&mut rows, |slot| ids.get(slot));
                self.reserve = Reserve { rows, bound: Some(bound), passed: 0 };
                behind = self.reserve.behind(is_behind);
                if behind.len() >= count || bound == u64::MAX {
                    break;
                }
                wanted = wanted.saturating_mul(2);
            }
        }
        sort(&mut behind, |slot| ids.get(slot));
        behind.truncate(count);
        self.reserve.passed = behind.last().map_or(0, |last| self.reserve.rows.partition_point(|row| row.0 <= last.0));
        behind.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Whether it is known which rows come next, so that rows off the panel are followed.
    pub(crate) fn has_reserve(&self) -> bool {
        self.reserve.bound.is_some()
    }

    /// A row is off the panel now.
    pub(crate) fn enter(&mut self, place: u64, slot: u32) {
        self.reserve.insert(place, slot);
    }

    /// A row that was off the panel is on it now, or gone.
    pub(crate) fn leave(&mut self, place: u64, slot: u32) {
        if let Some(i) = self.reserve.find(place, slot) {
            self.reserve.rows.remove(i);
        }
    }

    /// A row off the panel has a new slot.
    pub(crate) fn rename(&mut self, place: u64, from: u32, to: u32) {
        if let Some(i) = self.reserve.find(place, from) {
            self.reserve.rows[i].1 = to;
        }
    }
}

impl Reserve {
    /// The rows behind some row. Those of one place are in any order, so that all are looked at.
    fn behind(&self, is_behind: impl Fn(&Placed) -> bool) -> Vec<Placed> {
        self.rows.iter().filter(|row| is_behind(row)).copied().collect()
    }

    fn find(&self, place: u64, slot: u32) -> Option<usize> {
        if self.bound.is_none_or(|bound| place > bound) {
            return None;
        }
        let first = self.rows.partition_point(|row| row.0 < place);
        let same = self.rows[first..].iter().take_while(|row| row.0 == place);
        same.enumerate().find(|(_, row)| row.1 == slot).map(|(i, _)| first + i)
    }

    fn insert(&mut self, place: u64, slot: u32) {
        if self.bound.is_none_or(|bound| place > bound) {
            return;
        }
        let i = self.rows.partition_point(|row| row.0 <= place);
        self.rows.insert(i, (place, slot));
        if self.rows.len() > self.passed + 4 * RESERVE {
            let bound = self.rows[self.passed + 2 * RESERVE].0;
            // Up to a place, so that rows of one place are all there or none.
            self.rows.truncate(self.rows.partition_point(|row| row.0 < bound));
            self.bound = Some(bound.saturating_sub(1));
        }
    }
}

/// Orders rows by place, then by id.
fn sort<T: Ord>(rows: &mut [Placed], id: impl Fn(u32) -> T) {
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(&id(b.1))));
}

/// At least `count` rows of a range of slots, if it has as many, and the bound such that they are all whose places are at
/// most that.
fn find_smallest(
    ids: &IdTable,
    keyed: Keyed,
    range: Range<usize>,
    count: usize,
    threads: Threads,
) -> (Vec<Placed>, u64) {
    // Places are uniform over all rows, those on the panel the smallest: so many from the whole hold as many off the panel.
    let mut wanted = count + range.start;
    loop {
        wanted += wanted / 4 + 8;
        let share = (1_u128 << 64) * wanted as u128 / (range.end.max(1) as u128);
        let bound = u64::try_from(share).unwrap_or(u64::MAX);
        let parts = threads.map(range.len().div_ceil(LANES), LANES * PLACE_COST, |blocks| {
            let slots = range.start + blocks.start * LANES..range.end.min(range.start + blocks.end * LANES);
            let mut rows = Vec::new();
            each_place(
                slots,
                |slot| ids.row_key(slot),
                keyed,
                |place, slot| {
                    if place <= bound {
                        rows.push((place, slot));
                    }
                },
            );
            rows
        });
        let rows = parts.concat();
        if rows.len() >= count || bound == u64::MAX {
            return (rows, bound);
        }
    }
}

/// The places of a range of slots.
fn places_of(range: Range<usize>, row_key: impl Fn(u32) -> u64 + Sync, keyed: Keyed, threads: Threads) -> Vec<Placed> {
    let first = range.start;
    let parts = threads.map(range.len(), PLACE_COST, |part| {
        let mut rows = Vec::with_capacity(part.len());
        let slots = first + part.start..first + part.end;
        each_place(slots, &row_key, keyed, |place, slot| rows.push((place, slot)));
        rows
    });
    parts.concat()
}

fn each_place(range: Range<usize>, row_key: impl Fn(u32) -> u64, keyed: Keyed, mut visit: impl FnMut(u64, u32)) {
    for first in range.clone().step_by(LANES) {
        let live = LANES.min(range.end - first);
        let mut keys = [0; LANES];
        for (lane, key) in keys.iter_mut().enumerate().take(live) {
            *key = row_key(slot_number(first + lane));
        }
        for (lane, place) in keyed.places(&keys).into_iter().enumerate().take(live) {
            visit(place, slot_number(first + lane));
        }
    }
}
