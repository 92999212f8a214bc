//! The field of a race: what is known at each row of the panel, its squared distances to the rows that trials have proposed
//! and the weight that follows from the seeds. Derived, not part of the state. While all distances are kept, a round is
//! run again for the few rows that are proposed anew; most proposals outlive a change of the seeds before them.

use erase_core_kernel::{self as kernel, LANES};

use crate::assign::{Centres, OFFSET, distance};
use crate::blocks::Blocks;
use crate::population::{Block, Population};
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Stands for a column that is for no row.
const NOBODY: u32 = u32::MAX;

/// Columns of distances, one for each trial of each round, or for those of one round if not all may be kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Field {
    /// Whether there may be a column for each trial of each round.
    pub(crate) may_keep_all: bool,
    /// The row that a column is for, by slot.
    slots: Vec<u32>,
    /// Block by block the weights of the lanes, then their distances, column by column.
    values: Wiped<u32>,
    /// Number of seeds that the weights include.
    pub(crate) seeds: usize,
    /// Distances computed since the last start.
    pub(crate) distances: usize,
}

/// The part of a field that belongs to one block: the weights, that is the squared distances to the nearest seed, and the
/// columns one after the other.
type Record<'a> = (&'a mut [u32; LANES], &'a mut [u32]);

impl Field {
    /// Takes all out. If the work on it fails, it is lost rather than wrong.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self { may_keep_all: self.may_keep_all, ..Self::default() })
    }

    /// Entries of a block.
    fn width(&self) -> usize {
        (1 + self.slots.len()) * LANES
    }

    /// Makes ready for a race of so many `columns` over a population. `proposed` are the rows that the columns have been for
    /// so far; without them nothing is known.
    pub(crate) fn start(&mut self, population: &Population<'_>, columns: usize, proposed: Option<&Centres>) {
        let base = population.base_blocks();
        let proposed = proposed.filter(|_| self.may_keep_all && self.slots.len() == columns);
        if proposed.is_none() || self.values.len() != base * self.width() {
            self.slots = vec![NOBODY; columns];
            self.values = Wiped::zeros(base * self.width());
        }
        let width = self.width();
        self.values.grow(population.blocks() * width);
        if let Some(proposed) = proposed {
            for (b, values) in (base..).zip(self.values[base * width..].chunks_exact_mut(width)) {
                distances(&population.block(b), proposed, &mut values[LANES..]);
            }
        }
        (self.seeds, self.distances) = (0, 0);
    }

    /// Keeps what belongs to the rows that were there before, if it may be kept.
    pub(crate) fn finish(&mut self, population: &Population<'_>) {
        if self.may_keep_all {
            self.values.truncate(population.base_blocks() * self.width());
        } else {
            *self = Self::default();
        }
    }

    /// The column of a row that a trial proposed, if there is one.
    pub(crate) fn column_of(&self, slot: u32) -> Option<usize> {
        self.slots.iter().position(|&other| other == slot)
    }

    /// Maps shards of all blocks: each gets the number of its first block and the records.
    pub(crate) fn map<P: Send>(
        &mut self,
        threads: Threads,
        cost: usize,
        map: impl Fn(usize, &mut dyn Iterator<Item = Record<'_>>) -> P + Sync,
    ) -> Vec<P> {
        let width = self.width();
        threads.map_mut(&mut self.values, width, cost, |first, values| {
            map(first, &mut values.chunks_exact_mut(width).filter_map(<[u32]>::split_first_chunk_mut))
        })
    }

    /// Gives columns to rows, each a column and a slot, and computes the distances that no column has yet.
    pub(crate) fn learn(&mut self, population: &Population<'_>, threads: Threads, wanted: &[(usize, u32)]) {
        let given = |column: usize| wanted.iter().any(|&(other, _)| other == column);
        let mut computed: Vec<(usize, u32)> = Vec::new();
        let mut copied: Vec<(usize, usize)> = Vec::new();
        for &(column, slot) in wanted.iter().filter(|&&(column, slot)| self.slots[column] != slot) {
            let elsewhere = self.column_of(slot).filter(|&from| !given(from) || wanted.contains(&(from, slot)));
            let at_once = computed.iter().find(|&&(_, other)| other == slot).map(|&(from, _)| from);
            match elsewhere.or(at_once) {
                Some(from) => copied.push((from, column)),
                None => computed.push((column, slot)),
            }
        }
        if computed.is_empty() && copied.is_empty() {
            return;
        }
        let rows = population.rows_of(computed.iter().map(|&(_, slot)| slot));
        self.distances += rows.len() * population.len();
        let cost = LANES * (population.dim() * rows.len() + LANES);
        self.map(threads, cost, |first, records| {
            let mut scratch = Wiped::zeros(rows.len() * LANES);
            for (b, (_, columns)) in (first..).zip(records) {
                distances(&population.block(b), &rows, &mut scratch);
                for (&(column, _), computed) in computed.iter().zip(scratch.chunks_exact(LANES)) {
                    columns[column * LANES..][..LANES].copy_from_slice(computed);
                }
                for &(from, to) in &copied {
                    columns.copy_within(from * LANES..(from + 1) * LANES, to * LANES);
                }
            }
        });
        for &(column, slot) in wanted {
            self.slots[column] = slot;
        }
    }

    /// Takes in rows behind `len` others. `proposed` are the rows that the columns are for.
    pub(crate) fn extend(&mut self, len: usize, rows: &Blocks, squares: &[u32], proposed: &Centres) {
        if self.values.is_empty() {
            return;
        }
        let width = self.width();
        self.values.grow((len + rows.len()).div_ceil(LANES) * width);
        let mut keys = Wiped::zeros(proposed.len());
        let mut row = rows.blank_row();
        for (i, &square) in squares.iter().enumerate() {
            rows.read(i, &mut row);
            proposed.row_keys(&row, &mut keys);
            let slot = len + i;
            let lane = slot / LANES * width + LANES + slot % LANES;
            for (column, &key) in keys.iter().enumerate() {
                self.values[lane + column * LANES] = distance(key, square);
            }
        }
    }

    /// Takes out a slot, which no column is for any more; the last one moves there.
    pub(crate) fn swap_remove(&mut self, slot: u32, last: u32) {
        self.slots.iter_mut().filter(|other| **other == last).for_each(|other| *other = slot);
        if self.values.is_empty() {
            return;
        }
        let width = self.width();
        let place = |slot: usize| slot / LANES * width + slot % LANES;
        let (to, from) = (place(slot as usize), place(last as usize));
        for column in 0..=self.slots.len() {
            self.values[to + column * LANES] = self.values[from + column * LANES];
            self.values[from + column * LANES] = 0;
        }
        self.values.truncate((last as usize).div_ceil(LANES) * width);
    }
}

/// Squared distances of a block's rows to some others; zeros for lanes beyond its last row.
pub(crate) fn distances(block: &Block<'_>, to: &Centres, out: &mut [u32]) {
    to.keys(block.values, out);
    kernel::to_distances(out, &block.padded_squares(), OFFSET);
    block.clear_dead(out);
}
