//! Rows in the kernel's layout: in blocks, interleaved by pairs of coordinates. Owns the bytes of rows, and overwrites a
//! row that goes.

use std::ops::Range;

use erase_core_kernel::{self as kernel, LANES, block_len, padded};

use crate::wipe::Wiped;

/// Rows of one dimension, addressed by slot.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    dim: usize,
    len: usize,
    values: Wiped<i16>,
}

/// A row by itself, with a zero behind an odd last coordinate.
pub(crate) type Row = Wiped<i16>;

impl Blocks {
    pub(crate) fn zeros(dim: usize, len: usize) -> Self {
        Self { dim, len, values: Wiped::zeros(len.div_ceil(LANES) * block_len(dim)) }
    }

    /// Rows that lie one after the other.
    pub(crate) fn from_rows(dim: usize, rows: &[i16]) -> Self {
        let mut blocks = Self::zeros(dim, rows.len() / dim);
        let mut padded = blocks.blank_row();
        for (slot, row) in rows.chunks_exact(dim).enumerate() {
            padded[..dim].copy_from_slice(row);
            blocks.write(slot, &padded);
        }
        blocks
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Number of blocks; lanes of the last one beyond the last row are zero.
    pub(crate) fn count(&self) -> usize {
        self.len.div_ceil(LANES)
    }

    pub(crate) fn block(&self, b: usize) -> &[i16] {
        let len = block_len(self.dim);
        &self.values[b * len..(b + 1) * len]
    }

    /// All blocks, one after the other.
    pub(crate) fn values_mut(&mut self) -> &mut [i16] {
        &mut self.values
    }

    /// A row of zeros.
    pub(crate) fn blank_row(&self) -> Row {
        Row::zeros(padded(self.dim))
    }

    pub(crate) fn read(&self, slot: usize, row: &mut [i16]) {
        kernel::read_lane(self.block(slot / LANES), slot % LANES, row);
    }

    pub(crate) fn row(&self, slot: usize) -> Row {
        let mut row = self.blank_row();
        self.read(slot, &mut row);
        row
    }

    pub(crate) fn write(&mut self, slot: usize, row: &[i16]) {
        let range = self.range(slot / LANES);
        kernel::write_lane(&mut self.values[range], slot % LANES, row);
    }

    /// Makes room for so many rows, if there is as much memory.
    pub(crate) fn expect(&mut self, rows: usize) {
        self.values.expect(rows.div_ceil(LANES) * block_len(self.dim));
    }

    /// Takes in rows of another.
    pub(crate) fn extend(&mut self, more: Self) {
        if self.len == 0 && self.values.capacity() < more.values.len() {
            *self = more;
            return;
        }
        // Line by line: the lanes of a block fill up the block that is begun, and the rest begins the next one.
        let (len, begun, filled) = (block_len(self.dim), self.len / LANES, 2 * (self.len % LANES));
        self.len += more.len;
        self.values.grow(self.count() * len);
        for (b, block) in (begun..).zip(more.values.chunks_exact(len)) {
            let (head, tail) = self.values[b * len..].split_at_mut(len);
            let lines = || block.chunks_exact(2 * LANES).map(|line| line.split_at(2 * LANES - filled));
            for (to, (line, _)) in head.chunks_exact_mut(2 * LANES).zip(lines()) {
                to[filled..].copy_from_slice(line);
            }
            // Without a next block, the rest has no rows.
            for (to, (_, rest)) in tail.chunks_exact_mut(2 * LANES).zip(lines()) {
                to[..filled].copy_from_slice(rest);
            }
        }
    }

    /// Two slots change places.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        let (first, second) = (self.row(a), self.row(b));
        self.write(a, &second);
        self.write(b, &first);
    }

    /// Takes out a slot; the last row moves there.
    pub(crate) fn swap_remove(&mut self, slot: usize) {
        let last = self.len - 1;
        let (to, from) = (self.range(slot / LANES), self.range(last / LANES));
        let (to_lane, from_lane) = (2 * (slot % LANES), 2 * (last % LANES));
        if to == from {
            for line in self.values[to].chunks_exact_mut(2 * LANES) {
                line.copy_within(from_lane..from_lane + 2, to_lane);
                line[from_lane..from_lane + 2].fill(0);
            }
        } else {
            let (head, tail) = self.values.split_at_mut(from.start);
            let lines = head[to].chunks_exact_mut(2 * LANES).zip(tail.chunks_exact_mut(2 * LANES));
            for (to, from) in lines {
                to[to_lane..to_lane + 2].copy_from_slice(&from[from_lane..from_lane + 2]);
                from[from_lane..from_lane + 2].fill(0);
            }
        }
        self.len = last;
        // What is cut off has been overwritten, row by row.
        self.values.truncate(self.count() * block_len(self.dim));
    }

    fn range(&self, b: usize) -> Range<usize> {
        let len = block_len(self.dim);
        b * len..(b + 1) * len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_portions_of_any_size() {
        for dim in [1, 3, 4] {
            let rows: Vec<i16> = (1..).take(100 * dim).collect();
            for portion in [1, 7, 16, 19, 100] {
                for expected in [0, 5, 100] {
                    let mut blocks = Blocks::zeros(dim, 0);
                    blocks.expect(expected);
                    for some in rows.chunks(portion * dim) {
                        blocks.extend(Blocks::from_rows(dim, some));
                    }
                    let at_once = Blocks::from_rows(dim, &rows);
                    assert_eq!((blocks.len, &blocks.values), (at_once.len, &at_once.values));
                }
            }
        }
    }

    #[test]
    fn rows_come_and_go_by_slot() {
        for dim in [1, 2, 5] {
            let row = |id: i16| (0..dim).map(|i| id * 10 + i16::try_from(i).unwrap()).collect::<Vec<_>>();
            let rows = |ids: std::ops::Range<i16>| ids.flat_map(row).collect::<Vec<_>>();
            let mut blocks = Blocks::from_rows(dim, &rows(0..20));
            blocks.extend(Blocks::from_rows(dim, &rows(20..40)));
            let mut ids: Vec<i16> = (0..40).collect();
            for slot in [39, 0, 16, 3, 35, 5, 5] {
                ids.swap_remove(slot);
                blocks.swap_remove(slot);
                assert_eq!(blocks.len(), ids.len());
                assert_eq!(blocks.values.len(), blocks.count() * block_len(dim));
                for (slot, &id) in ids.iter().enumerate() {
                    assert_eq!(blocks.row(slot)[..dim], row(id));
                }
                let shown = blocks.values.iter().filter(|&&x| x != 0).count();
                assert_eq!(
                    shown,
                    ids.iter().flat_map(|&id| row(id)).filter(|&x| x != 0).count(),
                    "no more than the rows"
                );
            }
        }
    }
}
