//! The panel's rows once more, one after the other. Out of the blocks of `rows` a whole row comes from a cache line for each
//! pair of its coordinates; a replay reads many that change their cluster. Derived, and within the budget of memory.

use erase_core_kernel::padded;

use crate::blocks::Blocks;
use crate::population::Population;
use crate::wipe::Wiped;

/// Rows by slot, padded. Empty until they are needed, or if they may not be kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flat {
    /// Whether they may be kept.
    pub(crate) may_be_kept: bool,
    width: usize,
    values: Wiped<i16>,
}

impl Flat {
    /// Makes ready for an update of these rows.
    pub(crate) fn start(&mut self, population: &Population<'_>) {
        self.width = padded(population.dim());
        if !self.may_be_kept {
            self.values = Wiped::default();
        } else if self.values.len() != population.base() * self.width {
            self.values = Wiped::zeros(population.base() * self.width);
            for (slot, row) in self.values.chunks_exact_mut(self.width).enumerate() {
                population.read(slot, row);
            }
        }
    }

    /// A row, if it is here.
    pub(crate) fn row(&self, slot: usize) -> Option<&[i16]> {
        let row = self.values.get(slot * self.width..(slot + 1) * self.width)?;
        (!row.is_empty()).then_some(row)
    }

    /// Takes in rows behind the others.
    pub(crate) fn extend(&mut self, rows: &Blocks) {
        if self.values.is_empty() {
            return;
        }
        let mut row = rows.blank_row();
        for slot in 0..rows.len() {
            rows.read(slot, &mut row);
            self.values.extend_from_slice(&row);
        }
    }

    /// Takes out a slot; the last one moves there.
    pub(crate) fn swap_remove(&mut self, slot: u32) {
        if !self.values.is_empty() {
            self.values.swap_remove_record(slot as usize, self.width);
        }
    }
}
