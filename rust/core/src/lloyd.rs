//! The steps of the iteration: what is kept of each, and how one leads to the next. Algorithm: docs/algorithm.md,
//! section 6. Which rows are looked at again after a change is `replay`'s business, not this file's.

use std::ops::Range;
use std::sync::Arc;

use erase_core_kernel::{self as kernel, Span};

use crate::assign::{Centres, MAX_CENTRE_SQUARE};
use crate::keyed::Keyed;
use crate::params::ValidParams;
use crate::wipe::Wiped;

/// The constants of an iteration over a panel of `n` rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    keyed: Keyed,
    pitch: u32,
    /// `b`.
    balance: i64,
    max_iter: usize,
}

impl Rule {
    pub(crate) fn new(params: &ValidParams, n: usize) -> Self {
        let max_iter = params.max_iter as usize;
        Self { keyed: params.keyed(), pitch: params.pitch(), balance: params.balance(n), max_iter }
    }

    /// `T`.
    pub(crate) fn max_iter(&self) -> usize {
        self.max_iter
    }

    fn den(&self, count: i64) -> i64 {
        count.max(self.balance)
    }

    fn lack(&self, count: i64) -> i64 {
        (self.balance - count).max(0)
    }

    /// The pitch of the update that follows step `t`.
    fn pitch_after(&self, t: usize) -> u32 {
        ValidParams::graded(self.pitch, t + 1)
    }

    /// The phase of the update that follows step `t`.
    fn phase_after(&self, t: usize, dim: usize) -> Vec<i32> {
        self.keyed.phase(crate::ids::slot_number(t + 1), self.pitch_after(t), dim)
    }
}

/// One executed step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) summary: Summary,
    /// The cluster of each slot.
    pub(crate) labels: Vec<u16>,
}

/// A step without its labels: the centres that rows were assigned to, the clusters' counts, the sum of the squared
/// distances, and the cells of the lattice in which the next centres lie.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) centres: Centres,
    pub(crate) counts: Vec<i64>,
    pub(crate) loss: i64,
    /// None for the last step, which no centres follow from.
    pub(crate) cells: Option<Cells>,
}

/// The cells in which the next centres lie, one for each cluster. What an update does not touch is shared with the step
/// before it.
#[derive(Debug, Clone)]
pub(crate) struct Cells(Vec<Arc<Cell>>);

/// The cell in which the next centre of a cluster lies.
///
/// Instead of the cluster's sum `S` its *slack* is kept: `num - corner * den`, how far the quotient lies above its
/// cell's lower corner. The cell, and with it the next centre, stays the same as long as `0 <= slack < pitch * den`.
#[derive(Debug, Clone)]
struct Cell {
    slack: Wiped<i64>,
    corners: Wiped<i32>,
}

/// What an update does to the sums of one step's clusters: the rows that leave and join them.
pub(crate) struct Delta {
    dim: usize,
    /// Place of each cluster among those touched.
    places: Vec<Option<u32>>,
    touched: Vec<usize>,
    counts: Vec<i64>,
    sums: Wiped<i64>,
    /// Change of the loss, for whoever counts it.
    pub(crate) loss: i64,
}

impl Delta {
    pub(crate) fn new(clusters: usize, dim: usize) -> Self {
        let places = vec![None; clusters];
        Self { dim, places, touched: Vec::new(), counts: Vec::new(), sums: Wiped::zeros(0), loss: 0 }
    }

    /// For another step: nothing changes.
    pub(crate) fn clear(&mut self) {
        self.touched.iter().for_each(|&j| self.places[j] = None);
        self.touched.clear();
        self.counts.clear();
        self.sums.fill(0);
        self.loss = 0;
    }

    /// Counts a row in (`sign` 1) or out (-1).
    pub(crate) fn row(&mut self, label: u16, row: &[i16], sign: i64) {
        let range = self.touch(label.into());
        kernel::add_row(&mut self.sums[range], row, sign);
        let place = self.place(label.into());
        self.counts[place] += sign;
    }

    /// The same rows in another cluster, all of which are in one.
    fn retarget(&mut self, label: u16) {
        self.touched.iter().for_each(|&j| self.places[j] = None);
        self.touched.fill(label.into());
        self.places[usize::from(label)] = Some(0);
    }

    /// For one row: as `clear` and `row`, but what has been counted once is kept for the next step.
    pub(crate) fn only_row(&mut self, label: u16, row: &[i16], sign: i64) {
        if self.touched.len() == 1 {
            self.retarget(label);
        } else {
            self.clear();
            self.row(label, row, sign);
        }
    }

    /// As if all rows of the other had been counted here.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (place, &j) in other.touched.iter().enumerate() {
            let range = self.touch(j);
            let sums = &other.sums[place * self.dim..(place + 1) * self.dim];
            self.sums[range].iter_mut().zip(sums).for_each(|(a, b)| *a += b);
            let own = self.place(j);
            self.counts[own] += other.counts[place];
        }
        self.loss += other.loss;
    }

    /// All parts as one.
    pub(crate) fn merged(clusters: usize, dim: usize, parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut merged = parts.next().unwrap_or_else(|| Self::new(clusters, dim));
        parts.for_each(|part| merged.merge(&part));
        merged
    }

    /// Adds the change to the sums of all clusters.
    pub(crate) fn add_to(&self, sums: &mut [i64]) {
        for (&j, change) in self.touched.iter().zip(self.sums.chunks_exact(self.dim)) {
            sums[j * self.dim..(j + 1) * self.dim].iter_mut().zip(change).for_each(|(a, b)| *a += b);
        }
    }

    /// Where a cluster's sum is; it is given a place if it has none.
    fn touch(&mut self, j: usize) -> Range<usize> {
        if self.places[j].is_none() {
            self.places[j] = Some(crate::ids::slot_number(self.touched.len()));
            self.touched.push(j);
            self.counts.push(0);
            self.sums.grow(self.touched.len() * self.dim);
        }
        let place = self.place(j);
        place * self.dim..(place + 1) * self.dim
    }

    /// The place of a cluster that is touched.
    fn place(&self, j: usize) -> usize {
        self.places[j].map_or(0, |place| place as usize)
    }

    /// Change of a cluster's count and sum; None if it is not touched.
    fn of(&self, j: usize) -> Option<(i64, &[i64])> {
        let place = self.places[j]? as usize;
        Some((self.counts[place], &self.sums[place * self.dim..(place + 1) * self.dim]))
    }

    /// Change of a cluster's count.
    fn count(&self, j: usize) -> i64 {
        self.of(j).map_or(0, |(count, _)| count)
    }
}

/// A change of the rules and of the sums of step `t`.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) delta: &'a Delta,
    pub(crate) old: &'a Rule,
    pub(crate) new: &'a Rule,
    pub(crate) t: usize,
}

/// One cluster before and after a change: its counts there, and the rules.
#[derive(Clone, Copy)]
struct Cluster<'a> {
    j: usize,
    before: i64,
    after: i64,
    old: &'a Rule,
    new: &'a Rule,
    t: usize,
}

impl Cluster<'_> {
    fn lack(&self) -> i32 {
        difference(self.old.lack(self.before), self.new.lack(self.after))
    }

    fn den(&self) -> i32 {
        difference(self.old.den(self.before), self.new.den(self.after))
    }
}

impl<'a> Change<'a> {
    fn cluster(self, j: usize, counts: &[i64]) -> Cluster<'a> {
        let Self { delta, old, new, t } = self;
        Cluster { j, before: counts[j], after: counts[j] + delta.count(j), old, new, t }
    }
}

impl Cell {
    /// Moves to where the quotient lies; `slack` is relative to whatever `corners` says now.
    fn settle(&mut self, den: i64, pitch: u32, phase: &[i32]) {
        if den == 0 {
            self.slack.fill(0);
            self.corners.fill(0);
        } else {
            kernel::settle(&mut self.slack, &mut self.corners, phase, Span { den, pitch: pitch.into() });
        }
    }

    /// How the slack changes; None if it does not.
    fn shift<'a>(cluster: Cluster<'a>, delta: &'a Delta, centre: &'a [i16]) -> Option<kernel::Cells<'a>> {
        let sum = delta.of(cluster.j).map(|(_, sum)| sum);
        let (lack, den) = (cluster.lack(), cluster.den());
        if sum.is_none() && lack == 0 && den == 0 {
            return None;
        }
        let limit = i64::from(cluster.new.pitch_after(cluster.t)) * cluster.new.den(cluster.after);
        Some(kernel::Cells { sum: sum.unwrap_or_default(), centre, lack, den, limit })
    }

    fn holds(&self, cluster: Cluster<'_>, delta: &Delta, centre: &[i16]) -> bool {
        let Some(shift) = Self::shift(cluster, delta, centre) else { return true };
        let was_nowhere = cluster.old.den(cluster.before) == 0;
        if was_nowhere || shift.limit == 0 {
            // Without a denominator there is no cell, and the centre stays where it was.
            return was_nowhere && shift.limit == 0;
        }
        kernel::cells_hold(shift, &self.slack, &self.corners)
    }
}

impl Cells {
    /// The cells of the sums of a step's clusters.
    pub(crate) fn new(centres: &Centres, counts: &[i64], sums: &[i64], rule: &Rule, t: usize) -> Self {
        let dim = sums.len() / counts.len();
        let phase = rule.phase_after(t, dim);
        let cell = |((j, &count), sum): ((usize, &i64), &[i64])| {
            let mut cell = Cell { slack: Wiped::zeros(dim), corners: Wiped::zeros(dim) };
            cell.slack.copy_from_slice(sum);
            let lack = rule.lack(count);
            for (v, &c) in cell.slack.iter_mut().zip(centres.centre(j)) {
                *v += lack * i64::from(c);
            }
            cell.settle(rule.den(count), rule.pitch_after(t), &phase);
            Arc::new(cell)
        };
        Self(counts.iter().enumerate().zip(sums.chunks_exact(dim)).map(cell).collect())
    }

    /// The cells of the same step after some of its rows have changed their cluster, gone or come, and its centres have
    /// moved. Those of clusters that have the same rows, and no lack, stay where they are.
    pub(crate) fn moved(&self, counts: &[i64], centres: (&Centres, &Centres), change: Change<'_>) -> Self {
        let mut cells = self.clone();
        let mut phase = Vec::new();
        for (j, cell) in cells.0.iter_mut().enumerate() {
            let cluster = change.cluster(j, counts);
            let lacks = [cluster.old.lack(cluster.before), cluster.new.lack(cluster.after)];
            if change.delta.of(j).is_none() && lacks == [0, 0] {
                continue;
            }
            let from = (lacks[0], centres.0.centre(j));
            let to = (lacks[1], centres.1.centre(j));
            // The slack relative to the corners that there are: that of the new numerator and denominator.
            let cell = Arc::make_mut(cell);
            let sum = change.delta.of(j).map_or(&[][..], |(_, sum)| sum);
            let shift = kernel::Cells { sum, centre: to.1, lack: 0, den: cluster.den(), limit: 0 };
            kernel::shift_cells(shift, &mut cell.slack, &cell.corners);
            if lacks != [0, 0] {
                for ((v, &old), &new) in cell.slack.iter_mut().zip(from.1).zip(to.1) {
                    *v += to.0 * i64::from(new) - from.0 * i64::from(old);
                }
            }
            if phase.is_empty() {
                phase = change.new.phase_after(change.t, cell.slack.len());
            }
            cell.settle(change.new.den(cluster.after), change.new.pitch_after(change.t), &phase);
        }
        cells
    }

    /// Sums of the rows of all clusters.
    pub(crate) fn sums(&self, centres: &Centres, counts: &[i64], rule: &Rule) -> Wiped<i64> {
        let dim = self.0.first().map_or(0, |cell| cell.slack.len());
        let mut sums = Wiped::zeros(self.0.len() * dim);
        for (((j, &count), sums), cell) in counts.iter().enumerate().zip(sums.chunks_exact_mut(dim)).zip(&self.0) {
            let (den, lack) = (rule.den(count), rule.lack(count));
            sums.copy_from_slice(&cell.slack);
            for ((sum, &l), &c) in sums.iter_mut().zip(&*cell.corners).zip(centres.centre(j)) {
                *sum += i64::from(l) * den - lack * i64::from(c);
            }
        }
        sums
    }
}

impl Summary {
    /// `C_(t+1)` for step `t`; those of this step itself if it is the last. `before` is the same step before an update,
    /// with the centres that followed it then: what a cluster that was not touched has now too.
    pub(crate) fn next_centres(&self, rule: &Rule, t: usize, before: Option<(&Self, &Centres)>) -> Centres {
        let Some(Cells(cells)) = &self.cells else { return self.centres.clone() };
        let half = (rule.pitch_after(t) / 2).cast_signed();
        let dim = cells.first().map_or(0, |cell| cell.corners.len());
        let mut centres = Centres::with_capacity(dim, self.counts.len());
        let mut proposed = Wiped::<i16>::zeros(dim);
        for (j, cell) in cells.iter().enumerate() {
            if let Some((_, next)) = before.filter(|(step, _)| step.has_cluster(j, self)) {
                centres.push_from(next, j);
                continue;
            }
            let mut square = 0;
            let mut largest = 0;
            for (c, &l) in proposed.iter_mut().zip(&*cell.corners) {
                let exact = l + half;
                #[expect(clippy::cast_possible_truncation, reason = "not taken if it does not fit")]
                {
                    *c = exact as i16;
                }
                square += i64::from(exact) * i64::from(exact);
                largest |= exact.unsigned_abs();
            }
            // All entries fit 15 bits and a sign exactly if this does.
            let fits = largest <= i16::MAX.unsigned_abs().into() && square <= MAX_CENTRE_SQUARE;
            centres.push(if fits && rule.den(self.counts[j]) > 0 { &proposed } else { self.centres.centre(j) });
        }
        centres
    }

    /// Whether another has the very same cell for a cluster, and the same centre.
    fn has_cluster(&self, j: usize, other: &Self) -> bool {
        let (Some(Cells(own)), Some(Cells(others))) = (&self.cells, &other.cells) else { return false };
        Arc::ptr_eq(&own[j], &others[j]) && self.centres.centre(j) == other.centres.centre(j)
    }

    /// Whether every cell holds after a change.
    pub(crate) fn holds(&self, change: Change<'_>) -> bool {
        let Some(Cells(cells)) = &self.cells else { return true };
        let holds = |j: usize| cells[j].holds(change.cluster(j, &self.counts), change.delta, self.centres.centre(j));
        self.affected(change).all(holds)
    }

    /// Clusters whose slack may change.
    fn affected<'a>(&self, change: Change<'a>) -> impl Iterator<Item = usize> + use<'a> {
        let all = if change.old.balance == change.new.balance { 0 } else { self.counts.len() };
        let touched = if all == 0 { change.delta.touched.as_slice() } else { &[] };
        (0..all).chain(touched.iter().copied())
    }

    /// Carries out a change; cells that do not hold are found anew, unless all are known to.
    pub(crate) fn apply(&mut self, change: Change<'_>, is_certified: bool) {
        for j in self.affected(change) {
            let cluster = change.cluster(j, &self.counts);
            self.counts[j] = cluster.after;
            let Some(Cells(cells)) = &mut self.cells else { continue };
            let centre = self.centres.centre(j);
            let Some(shift) = Cell::shift(cluster, change.delta, centre) else { continue };
            let cell = Arc::make_mut(&mut cells[j]);
            let holds = is_certified || cell.holds(cluster, change.delta, centre);
            kernel::shift_cells(shift, &mut cell.slack, &cell.corners);
            if !holds {
                let phase = change.new.phase_after(change.t, centre.len());
                cell.settle(change.new.den(cluster.after), change.new.pitch_after(change.t), &phase);
            }
        }
        self.loss += change.delta.loss;
    }
}

/// A difference of two numbers of rows.
fn difference(before: i64, after: i64) -> i32 {
    debug_assert!(i32::try_from(after - before).is_ok());
    #[expect(clippy::cast_possible_truncation, reason = "there are at most 2^31 rows")]
    {
        (after - before) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No golden model gets there: a centre drifts beyond the bound of its norm before.
    #[test]
    fn a_centre_with_an_entry_beyond_16_bits_is_not_taken() {
        let mut old = Centres::with_capacity(1, 1);
        old.push(&[5]);
        let mut seen = [0; 2];
        for seed in 0..20 {
            let (t, rule) = (8, Rule { keyed: Keyed::new(seed), pitch: 2, balance: 0, max_iter: 9 });
            let phase = rule.phase_after(t, 1)[0];
            seen[usize::from(phase == 1)] += 1;
            for (sum, taken) in [(32767, phase == 0), (-32767, true), (-32768, phase == 0), (100, true)] {
                let cells = Some(Cells::new(&old, &[1], &[sum], &rule, t));
                let summary = Summary { centres: old.clone(), counts: vec![1], loss: 0, cells };
                // The middle of the cell: one above its lower corner.
                let exact = (sum + i64::from(phase)).div_euclid(2) * 2 - i64::from(phase) + 1;
                assert_eq!(taken, exact.abs() <= 32767, "sum {sum}, phase {phase}");
                let expected = if taken { exact } else { 5 };
                assert_eq!(i64::from(summary.next_centres(&rule, t, None).centre(0)[0]), expected);
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0);
    }
}
