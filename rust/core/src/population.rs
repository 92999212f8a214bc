//! The rows as they will be after an update, without changing anything yet: those of the model, or of its panel, less the
//! ones that go, then the ones that come. Every pass runs over such a view, block by block, so that a fit, a replay and a reseeding are
//! one code.

use std::ops::Range;

use erase_core_kernel::{LANES, padded};

use crate::assign::Centres;
use crate::blocks::{Blocks, Row};
use crate::ids::{IdRef, IdTable, Ids, slot_number};
use crate::rows::{Batch, Rows};
use crate::wipe::Wiped;

/// A read-only view of the rows after an update. Rows that come have the slots after the model's last.
pub(crate) struct Population<'a> {
    rows: &'a Rows,
    ids: &'a IdTable,
    /// How many of the model's rows, from the first slot on, it has before the update.
    base: usize,
    removed: &'a [u32],
    /// The rows that go, one after the other: each is looked at in every step.
    removed_rows: Wiped<i16>,
    added: Option<Added<'a>>,
}

struct Added<'a> {
    ids: &'a Ids,
    row_keys: Wiped<u64>,
    /// Aligned to the model's exponent.
    batch: Batch,
}

/// Rows that lie together, and which of them there are.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) values: &'a [i16],
    /// Squared norms; none for lanes beyond the last row.
    pub(crate) squares: &'a [u32],
    /// Slot of the first lane.
    pub(crate) first: usize,
    /// A bit for each lane that is a row of the population.
    live: u32,
}

impl Block<'_> {
    /// A bit for each lane that is a row of the population.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Number of lanes that are rows of the population.
    pub(crate) fn len(&self) -> usize {
        self.live.count_ones() as usize
    }

    /// Overwrites keys of lanes beyond the last row: what lies there may be rows that are not on the panel.
    pub(crate) fn clear_dead(&self, keys: &mut [u32]) {
        if self.squares.len() < LANES {
            keys.chunks_exact_mut(LANES).for_each(|keys| keys[self.squares.len()..].fill(0));
        }
    }

    /// Squared norms, and zeros for lanes beyond the last row.
    pub(crate) fn padded_squares(&self) -> [u32; LANES] {
        let mut squares = [0; LANES];
        squares[..self.squares.len()].copy_from_slice(self.squares);
        squares
    }
}

/// The lanes whose bits are set.
pub(crate) fn lanes(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (lane < u32::BITS).then_some(lane as usize)
    })
}

impl<'a> Population<'a> {
    /// The first `base` of the model's rows as they are.
    pub(crate) fn first(rows: &'a Rows, ids: &'a IdTable, base: usize) -> Self {
        Self::without(rows, ids, base, &[])
    }

    /// The same without some slots, in ascending order.
    pub(crate) fn without(rows: &'a Rows, ids: &'a IdTable, base: usize, removed: &'a [u32]) -> Self {
        let width = padded(rows.dim());
        let mut removed_rows = Wiped::zeros(removed.len() * width);
        for (&slot, row) in removed.iter().zip(removed_rows.chunks_exact_mut(width)) {
            rows.aligned().read(slot as usize, row);
        }
        Self { rows, ids, base, removed, removed_rows, added: None }
    }

    /// With more rows, aligned to the model's exponent.
    pub(crate) fn with(mut self, ids: &'a Ids, batch: Batch) -> Self {
        if !batch.is_empty() {
            let row_keys = ids.iter().map(IdRef::row_key).collect::<Vec<_>>().into();
            self.added = Some(Added { ids, row_keys, batch });
        }
        self
    }

    pub(crate) fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// Number of rows that there are now; slots from here on are rows that come.
    pub(crate) fn base(&self) -> usize {
        self.base
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

    /// The rows that go, in the order of `removed`.
    pub(crate) fn removed_rows(&self) -> std::slice::ChunksExact<'_, i16> {
        self.removed_rows.chunks_exact(padded(self.dim()))
    }

    pub(crate) fn is_removed(&self, slot: u32) -> bool {
        self.removed.binary_search(&slot).is_ok()
    }

    /// Slots of the rows that come.
    pub(crate) fn added(&self) -> Range<usize> {
        self.base()..self.slots()
    }

    /// The rows that come.
    pub(crate) fn added_rows(&self) -> Option<&Blocks> {
        self.added.as_ref().map(|added| &added.batch.rows)
    }

    /// Their squared norms.
    pub(crate) fn added_squares(&self) -> &[u32] {
        self.added.as_ref().map_or(&[], |added| &added.batch.squares)
    }

    /// Number of rows that go and come.
    pub(crate) fn changes(&self) -> usize {
        self.removed.len() + self.added().len()
    }

    /// Calls `visit` with the slot, the row and the sign, -1 or 1, of some of the rows that go and come, counted from
    /// the first that goes on.
    pub(crate) fn each_change(&self, range: Range<usize>, mut visit: impl FnMut(usize, &[i16], i64)) {
        let (going, end) = (self.removed.len(), range.end);
        let width = padded(self.dim());
        for i in range.start..end.min(going) {
            visit(self.removed[i] as usize, &self.removed_rows[i * width..(i + 1) * width], -1);
        }
        if let Some(added) = &self.added {
            let mut row = self.blank_row();
            for i in range.start.max(going)..end {
                added.batch.rows.read(i - going, &mut row);
                visit(self.base() + i - going, &row, 1);
            }
        }
    }

    pub(crate) fn blank_row(&self) -> Row {
        self.rows.aligned().blank_row()
    }

    pub(crate) fn read(&self, slot: usize, row: &mut [i16]) {
        match (&self.added, slot.checked_sub(self.base())) {
            (Some(added), Some(i)) => added.batch.rows.read(i, row),
            _ => self.rows.aligned().read(slot, row),
        }
    }

    /// Some rows, to be compared with others.
    pub(crate) fn rows_of(&self, slots: impl Iterator<Item = u32>) -> Centres {
        let mut rows = Centres::with_capacity(self.dim(), slots.size_hint().0);
        let mut row = self.blank_row();
        for slot in slots {
            self.read(slot as usize, &mut row);
            rows.push(&row);
        }
        rows
    }

    /// Squared norm of a row.
    pub(crate) fn square(&self, slot: usize) -> u32 {
        match (&self.added, slot.checked_sub(self.base())) {
            (Some(added), Some(i)) => added.batch.squares[i],
            _ => self.rows.squares()[slot],
        }
    }

    pub(crate) fn id(&self, slot: u32) -> IdRef<'_> {
        match (&self.added, (slot as usize).checked_sub(self.base())) {
            (Some(added), Some(i)) => added.ids.get(i),
            _ => self.ids.get(slot),
        }
    }

    /// The ids of some slots.
    pub(crate) fn ids_of(&self, slots: &[u32]) -> Ids {
        slots.iter().map(|&slot| self.id(slot)).collect()
    }

    pub(crate) fn row_key(&self, slot: u32) -> u64 {
        match (&self.added, (slot as usize).checked_sub(self.base())) {
            (Some(added), Some(i)) => added.row_keys[i],
            _ => self.ids.row_key(slot),
        }
    }

    /// The row keys of a block; those of lanes that are no rows are anything.
    pub(crate) fn row_keys(&self, block: &Block<'_>) -> [u64; LANES] {
        let mut keys = [0; LANES];
        for (lane, key) in keys.iter_mut().enumerate().take(block.squares.len()) {
            *key = self.row_key(slot_number(block.first + lane));
        }
        keys
    }

    /// Number of blocks of the model's rows.
    pub(crate) fn base_blocks(&self) -> usize {
        self.base.div_ceil(LANES)
    }

    /// Number of blocks: those of the model's rows, then those of the rows that come.
    pub(crate) fn blocks(&self) -> usize {
        self.base_blocks() + self.added.as_ref().map_or(0, |added| added.batch.rows.count())
    }

    pub(crate) fn block(&self, b: usize) -> Block<'_> {
        match (&self.added, b.checked_sub(self.base_blocks())) {
            (Some(added), Some(b)) => self.block_of(&added.batch.rows, &added.batch.squares, b, self.base()),
            _ => self.block_of(self.rows.aligned(), &self.rows.squares()[..self.base], b, 0),
        }
    }

    fn block_of<'b>(&self, rows: &'b Blocks, squares: &'b [u32], b: usize, first_slot: usize) -> Block<'b> {
        let start = b * LANES;
        let squares = &squares[start..squares.len().min(start + LANES)];
        let first = first_slot + start;
        let mut live = (1_u32 << squares.len()) - 1;
        if self.removed.last().is_some_and(|&last| last as usize >= first) {
            let from = self.removed.partition_point(|&slot| (slot as usize) < first);
            for &slot in self.removed[from..].iter().take_while(|&&slot| (slot as usize) < first + LANES) {
                live &= !(1 << (slot as usize - first));
            }
        }
        Block { values: rows.block(b), squares, first, live }
    }
}
