//! The steps of the iteration: what is kept of each, and how one leads to the next. Algorithm: docs/algorithm.md,
//! section 6. Which rows are looked at again after a change is `replay`'s business, not this file's.

use std::ops::Range;

use erase_core_kernel::{self as kernel, Cells, Span};

use crate::assign::{Centres, MAX_CENTRE_SQUARE};
use crate::keyed::Keyed;
use crate::params::ValidParams;
use crate::wipe::Wiped;

/// The constants of an iteration over `n` rows.
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

    /// Whether step `t` is the last, given its loss and that of the step before.
    pub(crate) fn is_last(&self, t: usize, before: Option<i64>, loss: i64) -> bool {
        t == self.max_iter || !falls(before, loss)
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

    /// The phase of the update that follows step `t`.
    fn phase_after(&self, t: usize, dim: usize) -> Vec<i32> {
        self.keyed.phase(crate::ids::slot_number(t + 1), self.pitch, dim)
    }
}

/// Whether a step's loss falls below that of the step before: if not, the step before is the one that is kept.
pub(crate) fn falls(before: Option<i64>, loss: i64) -> bool {
    before.is_none_or(|before| loss < before)
}

/// One executed step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) summary: Summary,
    /// The cluster of each slot.
    pub(crate) labels: Vec<u16>,
}

/// A step without its labels: the centres that rows were assigned to, the clusters' counts, the loss, and the cells
/// of the lattice in which the next centres lie.
///
/// Instead of a cluster's sum `S` its *slack* is kept: `num - corner * den`, how far the quotient lies above its
/// cell's lower corner. The cell, and with it the next centre, stays the same as long as `0 <= slack < pitch * den`.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) centres: Centres,
    pub(crate) counts: Vec<i64>,
    pub(crate) loss: i64,
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
    loss: i64,
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

    /// Counts a row in (`sign` 1) or out (-1), at its squared distance to the cluster's centre.
    pub(crate) fn row(&mut self, label: u16, row: &[i16], sign: i64, distance: u32) {
        let range = self.touch(label.into());
        kernel::add_row(&mut self.sums[range], row, sign);
        let place = self.place(label.into());
        self.counts[place] += sign;
        self.loss += sign * i64::from(distance);
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

    /// Adds the change to counts and sums of all clusters.
    pub(crate) fn add_to(&self, counts: &mut [i64], sums: &mut [i64]) {
        for (&j, change) in self.touched.iter().zip(self.sums.chunks_exact(self.dim)) {
            counts[j] += self.count(j);
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

    pub(crate) fn loss(&self) -> i64 {
        self.loss
    }
}

/// A change of the rules and of the sums.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) delta: &'a Delta,
    pub(crate) old: &'a Rule,
    pub(crate) new: &'a Rule,
}

impl Summary {
    /// The summary of an assignment with these counts and sums.
    pub(crate) fn new(
        centres: Centres,
        counts: Vec<i64>,
        sums: &[i64],
        square_sum: i64,
        rule: &Rule,
        t: usize,
    ) -> Self {
        let (slack, corners) = (Wiped::zeros(sums.len()), Wiped::zeros(sums.len()));
        let mut summary = Self { centres, counts, loss: 0, slack, corners };
        summary.slack.copy_from_slice(sums);
        summary.loss =
            square_sum + (0..summary.counts.len()).map(|j| summary.spread(j, &sums[summary.span(j)])).sum::<i64>();
        let phase = rule.phase_after(t, summary.dim());
        for j in 0..summary.counts.len() {
            let lack = rule.lack(summary.counts[j]);
            let span = summary.span(j);
            for (v, &c) in summary.slack[span].iter_mut().zip(summary.centres.centre(j)) {
                *v += lack * i64::from(c);
            }
            summary.settle(j, rule, &phase);
        }
        summary
    }

    /// The summary of the same step after some of its rows have changed their cluster, gone or come, and its centres have
    /// moved. Cells of clusters that have the same rows, and no lack, stay where they are.
    pub(crate) fn moved(&self, centres: Centres, square_sum: i64, change: Change<'_>, t: usize) -> Self {
        let mut summary = self.clone();
        let dim = self.dim();
        let mut phase = Vec::new();
        let mut sum = Wiped::<i64>::zeros(dim);
        summary.loss = square_sum;
        for j in 0..self.counts.len() {
            self.sum(j, change.old, &mut sum);
            if let Some((count, sums)) = change.delta.of(j) {
                summary.counts[j] += count;
                sum.iter_mut().zip(sums).for_each(|(sum, change)| *sum += change);
            }
            summary.loss += Self::spread_of(&centres, j, summary.counts[j], &sum);
            let lack = change.new.lack(summary.counts[j]);
            let (old_den, new_den) = (change.old.den(self.counts[j]), change.new.den(summary.counts[j]));
            if change.delta.of(j).is_none() && lack == 0 && old_den == new_den {
                continue;
            }
            let span = summary.span(j);
            let cells = summary.slack[span.clone()].iter_mut().zip(&summary.corners[span]);
            for (((v, &l), &s), &c) in cells.zip(sum.iter()).zip(centres.centre(j)) {
                *v = s + lack * i64::from(c) - i64::from(l) * new_den;
            }
            if phase.is_empty() {
                phase = change.new.phase_after(t, dim);
            }
            summary.settle(j, change.new, &phase);
        }
        summary.centres = centres;
        summary
    }

    /// A cluster's share of the loss, its rows' squared norms aside.
    fn spread(&self, j: usize, sum: &[i64]) -> i64 {
        Self::spread_of(&self.centres, j, self.counts[j], sum)
    }

    fn spread_of(centres: &Centres, j: usize, count: i64, sum: &[i64]) -> i64 {
        count * i64::from(centres.square(j)) - 2 * kernel::wide_dot(centres.centre(j), sum)
    }

    fn dim(&self) -> usize {
        self.slack.len() / self.counts.len()
    }

    fn span(&self, j: usize) -> Range<usize> {
        j * self.dim()..(j + 1) * self.dim()
    }

    /// Finds the cell of a cluster whose `slack` is relative to whatever `corners` says now.
    fn settle(&mut self, j: usize, rule: &Rule, phase: &[i32]) {
        let den = rule.den(self.counts[j]);
        let span = self.span(j);
        let (slack, corners) = (&mut self.slack[span.clone()], &mut self.corners[span]);
        if den == 0 {
            slack.fill(0);
            corners.fill(0);
        } else {
            kernel::settle(slack, corners, phase, Span { den, pitch: rule.pitch.into() });
        }
    }

    /// Sum of the rows of a cluster.
    fn sum(&self, j: usize, rule: &Rule, sum: &mut [i64]) {
        let (den, lack) = (rule.den(self.counts[j]), rule.lack(self.counts[j]));
        let cells = self.slack[self.span(j)].iter().zip(&self.corners[self.span(j)]);
        for ((sum, (&v, &l)), &c) in sum.iter_mut().zip(cells).zip(self.centres.centre(j)) {
            *sum = v + i64::from(l) * den - lack * i64::from(c);
        }
    }

    /// Sums of the rows of all clusters.
    pub(crate) fn sums(&self, rule: &Rule) -> Wiped<i64> {
        let mut sums = Wiped::zeros(self.slack.len());
        for (j, sum) in sums.chunks_exact_mut(self.dim()).enumerate() {
            self.sum(j, rule, sum);
        }
        sums
    }

    /// `C_(t+1)`.
    pub(crate) fn next_centres(&self, rule: &Rule) -> Centres {
        let half = (rule.pitch / 2).cast_signed();
        let mut centres = Centres::with_capacity(self.dim(), self.counts.len());
        let mut proposed = Wiped::<i16>::zeros(self.dim());
        for (j, &count) in self.counts.iter().enumerate() {
            let mut square = 0;
            let mut fits = rule.den(count) > 0;
            for (c, &l) in proposed.iter_mut().zip(&self.corners[self.span(j)]) {
                let exact = l + half;
                #[expect(clippy::cast_possible_truncation, reason = "not taken if it does not fit")]
                {
                    *c = exact as i16;
                }
                square += i64::from(exact) * i64::from(exact);
                fits &= exact.unsigned_abs() <= i16::MAX.unsigned_abs().into();
            }
            let is_taken = fits && square <= MAX_CENTRE_SQUARE;
            centres.push(if is_taken { &proposed } else { self.centres.centre(j) });
        }
        centres
    }

    /// Whether every cell holds after a change.
    pub(crate) fn holds(&self, change: Change<'_>) -> bool {
        let blank = Wiped::zeros(self.dim());
        self.affected(change).all(|j| self.cell_holds(j, change, &blank))
    }

    /// Clusters whose slack may change.
    fn affected<'a>(&self, change: Change<'a>) -> impl Iterator<Item = usize> + use<'a> {
        let all = if change.old.balance == change.new.balance { 0 } else { self.counts.len() };
        let touched = if all == 0 { change.delta.touched.as_slice() } else { &[] };
        (0..all).chain(touched.iter().copied())
    }

    /// How a cluster's slack changes; None if it does not.
    fn cells<'a>(&'a self, j: usize, change: Change<'a>, blank: &'a [i64]) -> Option<Cells<'a>> {
        let (before, after) = (self.counts[j], self.counts[j] + change.delta.count(j));
        let lack = difference(change.old.lack(before), change.new.lack(after));
        let den = difference(change.old.den(before), change.new.den(after));
        let sum = change.delta.of(j).map(|(_, sum)| sum);
        if sum.is_none() && lack == 0 && den == 0 {
            return None;
        }
        let limit = i64::from(change.new.pitch) * change.new.den(after);
        Some(Cells { sum: sum.unwrap_or(blank), centre: self.centres.centre(j), lack, den, limit })
    }

    fn cell_holds(&self, j: usize, change: Change<'_>, blank: &[i64]) -> bool {
        let Some(cells) = self.cells(j, change, blank) else { return true };
        let was_nowhere = change.old.den(self.counts[j]) == 0;
        if was_nowhere || cells.limit == 0 {
            // Without a denominator there is no cell, and the centre stays where it was.
            return was_nowhere && cells.limit == 0;
        }
        kernel::cells_hold(cells, &self.slack[self.span(j)], &self.corners[self.span(j)])
    }

    /// Carries out a change; cells that do not hold are found anew.
    pub(crate) fn apply(&mut self, change: Change<'_>, t: usize) {
        let blank = Wiped::zeros(self.dim());
        for j in self.affected(change) {
            let holds = self.cell_holds(j, change, &blank);
            let span = self.span(j);
            let mut slack = std::mem::take(&mut self.slack);
            if let Some(cells) = self.cells(j, change, &blank) {
                kernel::shift_cells(cells, &mut slack[span.clone()], &self.corners[span]);
            }
            self.slack = slack;
            self.counts[j] += change.delta.count(j);
            if !holds {
                self.settle(j, change.new, &change.new.phase_after(t, self.dim()));
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
