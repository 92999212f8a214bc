//! Exemplars: for each cluster of the kept step the rows nearest to its centre, nearest first. The first is the
//! cluster's exemplar; the others are runners-up, so that its removal needs no pass over the rows. Derived, not part of
//! the state. Algorithm: docs/algorithm.md, section 7.

use crate::assign::Centres;
use crate::ids::slot_number;
use crate::lloyd::Step;
use crate::population::Population;
use crate::threads::Threads;

/// Rows kept for each cluster.
const DEPTH: usize = 16;

/// One row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Near {
    distance: u32,
    pub(crate) slot: u32,
}

/// The nearest rows of each cluster: always the true nearest ones, though not always `DEPTH` of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exemplars {
    lists: Vec<Vec<Near>>,
}

impl Exemplars {
    /// The exemplar of each cluster, by slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Option<u32>> {
        self.lists.iter().map(|list| list.first().map(|near| near.slot))
    }

    /// Drops a row that goes from its cluster's list.
    pub(crate) fn leave(&mut self, cluster: u16, slot: u32) {
        self.lists[usize::from(cluster)].retain(|near| near.slot != slot);
    }

    /// Takes in a row that comes to a cluster, which has `count` rows with it. A row beyond the last of an incomplete
    /// list is not taken: rows nearer than it may be missing.
    pub(crate) fn join(&mut self, cluster: u16, slot: u32, centres: &Centres, population: &Population<'_>, count: i64) {
        let distance = centres.distance(cluster.into(), population.row(slot as usize));
        let list = &mut self.lists[usize::from(cluster)];
        let complete = i64::try_from(list.len()).is_ok_and(|len| len + 1 == count);
        let place = place(list, Near { distance, slot }, population);
        if place < list.len() || complete {
            list.insert(place, Near { distance, slot });
            list.truncate(DEPTH);
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

    /// Marks the clusters that have rows but none listed.
    pub(crate) fn mark_exhausted(&self, counts: &[i64], wanted: &mut [bool]) {
        for ((list, &count), wanted) in self.lists.iter().zip(counts).zip(wanted) {
            *wanted |= list.is_empty() && count > 0;
        }
    }

    /// Makes the lists of some clusters anew, in one pass over the labels. Returns the multiply-adds spent.
    pub(crate) fn rebuild(
        &mut self,
        wanted: &[bool],
        step: &Step,
        population: &Population<'_>,
        threads: Threads,
    ) -> u64 {
        self.lists.resize(wanted.len(), Vec::new());
        if !wanted.contains(&true) {
            return 0;
        }
        let centres = &step.summary.centres;
        let parts = threads.map(population.slots(), population.dim(), |range| {
            let mut lists = vec![Vec::new(); wanted.len()];
            let mut seen = 0;
            population.for_each(range, |slot, row| {
                let j = usize::from(step.labels[slot]);
                if wanted[j] {
                    seen += 1;
                    let near = Near { distance: centres.distance(j, row), slot: slot_number(slot) };
                    insert(&mut lists[j], near, population);
                }
            });
            (lists, seen)
        });
        for (list, _) in self.lists.iter_mut().zip(wanted).filter(|(_, wanted)| **wanted) {
            list.clear();
        }
        let mut seen = 0;
        for (lists, rows) in parts {
            seen += rows;
            for (j, near) in
                lists.into_iter().enumerate().flat_map(|(j, list)| list.into_iter().map(move |near| (j, near)))
            {
                insert(&mut self.lists[j], near, population);
            }
        }
        seen * population.dim() as u64
    }
}

fn insert(list: &mut Vec<Near>, near: Near, population: &Population<'_>) {
    let full = list.len() == DEPTH;
    if full && list.last().is_some_and(|last| last.distance < near.distance) {
        return;
    }
    let place = place(list, near, population);
    list.insert(place, near);
    list.truncate(DEPTH);
}

/// Where a row belongs in a list: by distance, then by id.
fn place(list: &[Near], near: Near, population: &Population<'_>) -> usize {
    list.partition_point(|other| {
        let by_id = || population.id(other.slot).cmp(&population.id(near.slot));
        other.distance.cmp(&near.distance).then_with(by_id).is_lt()
    })
}
