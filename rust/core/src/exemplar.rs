//! Exemplars: for each cluster the rows nearest to its centre, nearest first. The first is the
//! cluster's exemplar; the others are runners-up, so that its removal needs no pass over the rows. Derived, not part of
//! the state. Algorithm: docs/algorithm.md, section 7.

use erase_core_kernel::LANES;

use crate::assign::distance;
use crate::ids::slot_number;
use crate::lloyd::Step;
use crate::population::{Population, lanes};
use crate::scores::Known;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Rows kept for each cluster.
const DEPTH: usize = 16;
/// The time to look at a row whose distance is known, in multiply-adds.
const ROW_COST: usize = 128;
/// Most rows of a cluster that can be asked for.
pub const MAX_NEAREST: usize = 64;

/// One row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Near {
    pub(crate) distance: u32,
    pub(crate) slot: u32,
}

/// The nearest rows of each cluster: always the true nearest ones, though not always `depth` of them.
#[derive(Debug, Clone)]
pub(crate) struct Exemplars {
    depth: usize,
    lists: Vec<Vec<Near>>,
}

impl Default for Exemplars {
    fn default() -> Self {
        Self { depth: DEPTH, lists: Vec::new() }
    }
}

impl Exemplars {
    /// The exemplar of each cluster, by slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Option<u32>> {
        self.lists.iter().map(|list| list.first().map(|near| near.slot))
    }

    /// The `count` nearest rows of each cluster, or all of fewer. Lists that are too short for it are made anew
    /// aside.
    pub(crate) fn nearest(
        &self,
        count: usize,
        step: &Step,
        known: Option<&Known>,
        population: &Population<'_>,
        threads: Threads,
    ) -> Vec<Vec<Near>> {
        let of_cluster = |&rows: &i64| usize::try_from(rows).unwrap_or(0).min(count);
        let wanted: Vec<usize> = step.summary.counts.iter().map(of_cluster).collect();
        let short: Vec<bool> = self.lists.iter().zip(&wanted).map(|(list, &wanted)| list.len() < wanted).collect();
        let mut longer = Self { depth: count, lists: self.lists.clone() };
        longer.rebuild(&short, step, known, population, threads);
        longer.lists.iter().zip(&wanted).map(|(list, &wanted)| list[..wanted].to_vec()).collect()
    }

    /// Drops a row that goes from its cluster's list.
    pub(crate) fn leave(&mut self, cluster: u16, slot: u32) {
        self.lists[usize::from(cluster)].retain(|near| near.slot != slot);
    }

    /// Takes in a row that comes to a cluster, which has `count` rows with it. A row beyond the last of an incomplete
    /// list is not taken: rows nearer than it may be missing.
    pub(crate) fn join(&mut self, cluster: u16, slot: u32, distance: u32, population: &Population<'_>, count: i64) {
        let list = &mut self.lists[usize::from(cluster)];
        let complete = i64::try_from(list.len()).is_ok_and(|len| len + 1 == count);
        let place = place(list, Near { distance, slot }, population);
        if place < list.len() || complete {
            list.insert(place, Near { distance, slot });
            list.truncate(self.depth);
        }
    }

    /// A row has a new slot.
    pub(crate) fn rename(&mut self, from: u32, to: u32) {
        for near in self.lists.iter_mut().flatten() {
            if near.slot == from {
                near.slot = to;
            }
        }
    }

    /// Two slots change places.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        for near in self.lists.iter_mut().flatten() {
            if near.slot == a {
                near.slot = b;
            } else if near.slot == b {
                near.slot = a;
            }
        }
    }

    /// Marks the clusters that have rows but none listed.
    pub(crate) fn mark_exhausted(&self, counts: &[i64], wanted: &mut [bool]) {
        for ((list, &count), wanted) in self.lists.iter().zip(counts).zip(wanted) {
            *wanted |= list.is_empty() && count > 0;
        }
    }

    /// Makes the lists of some clusters anew, in one pass over the labels. Distances come from the step's scores if they
    /// are known. Returns the multiply-adds spent.
    pub(crate) fn rebuild(
        &mut self,
        wanted: &[bool],
        step: &Step,
        known: Option<&Known>,
        population: &Population<'_>,
        threads: Threads,
    ) -> u64 {
        self.lists.resize(wanted.len(), Vec::new());
        if !wanted.contains(&true) {
            return 0;
        }
        let (centres, depth) = (&step.summary.centres, self.depth);
        let known = known.filter(|known| known.are_for(centres));
        let work_of_row = if known.is_some() { 0 } else { centres.len() * population.dim() };
        let parts = threads.map(population.blocks(), LANES * (work_of_row + ROW_COST), |range| {
            let mut lists = vec![Vec::new(); wanted.len()];
            let mut scratch = Wiped::zeros(centres.len() * LANES);
            for b in range {
                let block = population.block(b);
                let keys = known.map_or_else(
                    || {
                        centres.keys(block.values, &mut scratch);
                        &*scratch
                    },
                    |known| known.of_block(b),
                );
                for lane in lanes(block.live()) {
                    let slot = block.first + lane;
                    let j = usize::from(step.labels[slot]);
                    if wanted[j] {
                        let distance = distance(keys[j * LANES + lane], block.squares[lane]);
                        insert(&mut lists[j], Near { distance, slot: slot_number(slot) }, population, depth);
                    }
                }
            }
            lists
        });
        for (list, _) in self.lists.iter_mut().zip(wanted).filter(|(_, wanted)| **wanted) {
            list.clear();
        }
        for (j, near) in parts.into_iter().flat_map(|lists| lists.into_iter().enumerate()) {
            for near in near {
                insert(&mut self.lists[j], near, population, depth);
            }
        }
        (work_of_row * population.len()) as u64
    }
}

fn insert(list: &mut Vec<Near>, near: Near, population: &Population<'_>, depth: usize) {
    let full = list.len() == depth;
    if full && list.last().is_some_and(|last| last.distance < near.distance) {
        return;
    }
    let place = place(list, near, population);
    list.insert(place, near);
    list.truncate(depth);
}

/// Where a row belongs in a list: by distance, then by id.
fn place(list: &[Near], near: Near, population: &Population<'_>) -> usize {
    list.partition_point(|other| {
        let by_id = || population.id(other.slot).cmp(&population.id(near.slot));
        other.distance.cmp(&near.distance).then_with(by_id).is_lt()
    })
}
