//! The rows as they will be after an update, without changing anything yet: those of the model less the ones that go,
//! then the ones that come. Every pass runs over such a view, so that a fit, a replay and a reseeding are one code.

use std::ops::Range;

use crate::ids::{IdRef, IdTable, Ids};
use crate::rows::Rows;
use crate::wipe::Wiped;

/// A read-only view of the rows after an update. Rows that come have the slots after the model's last.
pub(crate) struct Population<'a> {
    rows: &'a Rows,
    ids: &'a IdTable,
    removed: &'a [u32],
    added: Option<Added<'a>>,
}

struct Added<'a> {
    ids: &'a Ids,
    /// Aligned to the model's exponent.
    rows: Wiped<i16>,
}

impl<'a> Population<'a> {
    /// The model's rows as they are.
    pub(crate) fn whole(rows: &'a Rows, ids: &'a IdTable) -> Self {
        Self { rows, ids, removed: &[], added: None }
    }

    /// Without some slots, in ascending order.
    pub(crate) fn without(rows: &'a Rows, ids: &'a IdTable, removed: &'a [u32]) -> Self {
        Self { rows, ids, removed, added: None }
    }

    /// With more rows, aligned to the model's exponent.
    pub(crate) fn with(rows: &'a Rows, ids: &'a IdTable, new: &'a Ids, aligned: Wiped<i16>) -> Self {
        Self { rows, ids, removed: &[], added: Some(Added { ids: new, rows: aligned }) }
    }

    pub(crate) fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// Number of rows that the model has now; slots from here on are rows that come.
    pub(crate) fn base(&self) -> usize {
        self.rows.len()
    }

    /// Number of slots, those of rows that go among them.
    pub(crate) fn slots(&self) -> usize {
        self.base() + self.added.as_ref().map_or(0, |added| added.ids.len())
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.slots() - self.removed.len()
    }

    pub(crate) fn removed(&self) -> &[u32] {
        self.removed
    }

    pub(crate) fn is_removed(&self, slot: u32) -> bool {
        self.removed.binary_search(&slot).is_ok()
    }

    /// Slots of the rows that come.
    pub(crate) fn added(&self) -> Range<usize> {
        self.base()..self.slots()
    }

    pub(crate) fn row(&self, slot: usize) -> &[i16] {
        match (&self.added, slot.checked_sub(self.base())) {
            (Some(added), Some(i)) => &added.rows[i * self.dim()..(i + 1) * self.dim()],
            _ => self.rows.row(slot),
        }
    }

    pub(crate) fn id(&self, slot: u32) -> IdRef<'_> {
        match (&self.added, (slot as usize).checked_sub(self.base())) {
            (Some(added), Some(i)) => added.ids.get(i),
            _ => self.ids.get(slot),
        }
    }

    pub(crate) fn row_key(&self, slot: u32) -> u64 {
        match (&self.added, (slot as usize).checked_sub(self.base())) {
            (Some(added), Some(i)) => added.ids.get(i).row_key(),
            _ => self.ids.row_key(slot),
        }
    }

    /// Calls `visit` with the slot and the row of every row in a range of slots.
    pub(crate) fn for_each(&self, range: Range<usize>, mut visit: impl FnMut(usize, &[i16])) {
        self.segments(range, |first, rows| {
            for (slot, row) in (first..).zip(rows.chunks_exact(self.dim())) {
                visit(slot, row);
            }
        });
    }

    /// Calls `visit` with runs of rows that lie side by side in memory: the first slot and the rows.
    fn segments(&self, range: Range<usize>, mut visit: impl FnMut(usize, &[i16])) {
        let mut start = range.start;
        let end = range.end.min(self.base());
        let skipped = self.removed.partition_point(|&slot| (slot as usize) < start);
        for &slot in &self.removed[skipped..] {
            let slot = slot as usize;
            if slot >= end {
                break;
            }
            if start < slot {
                visit(start, self.rows.block(start..slot));
            }
            start = slot + 1;
        }
        if start < end {
            visit(start, self.rows.block(start..end));
        }
        if let Some(added) = &self.added {
            let (first, last) = (range.start.max(self.base()), range.end);
            if first < last {
                let at = |slot: usize| (slot - self.base()) * self.dim();
                visit(first, &added.rows[at(first)..at(last)]);
            }
        }
    }
}
