//! The steps of the iteration: what is kept of each, and how one leads to the next. Algorithm: docs/algorithm.md,
//! section 6. Which rows are looked at again after a change is `replay`'s business, not this file's.

use crate::assign::{Centres, MAX_CENTRE_SQUARE};
use crate::fixed::narrow;
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
        t == self.max_iter || before.is_some_and(|before| loss >= before)
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

/// What an update does to the sums of one step's clusters.
pub(crate) struct Delta {
    dim: usize,
    sums: Wiped<i64>,
    counts: Vec<i64>,
    loss: i64,
    touched: Vec<usize>,
}

impl Delta {
    pub(crate) fn new(clusters: usize, dim: usize) -> Self {
        let (sums, counts) = (Wiped::zeros(clusters * dim), vec![0; clusters]);
        Self { dim, sums, counts, loss: 0, touched: Vec::new() }
    }

    pub(crate) fn clear(&mut self) {
        for &j in &self.touched {
            self.sums[j * self.dim..(j + 1) * self.dim].fill(0);
            self.counts[j] = 0;
        }
        self.touched.clear();
        self.loss = 0;
    }

    /// Counts a row in (`sign` 1) or out (-1).
    pub(crate) fn row(&mut self, centres: &Centres, label: u16, row: &[i16], sign: i64) {
        let j = usize::from(label);
        if !self.touched.contains(&j) {
            self.touched.push(j);
        }
        for (sum, &x) in self.sums[j * self.dim..(j + 1) * self.dim].iter_mut().zip(row) {
            *sum += sign * i64::from(x);
        }
        self.counts[j] += sign;
        self.loss += sign * i64::from(centres.distance(j, row));
    }

    pub(crate) fn loss(&self) -> i64 {
        self.loss
    }
}

/// How a cluster's slack changes: `slack' = slack + sum + lack * centre - den * corner`.
struct Shift<'a> {
    sum: &'a [i64],
    lack: i64,
    den: i64,
    /// `pitch * den` after the change.
    limit: i64,
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
        let dim = sums.len() / counts.len();
        let mut loss = square_sum;
        for (j, (&count, sum)) in counts.iter().zip(sums.chunks_exact(dim)).enumerate() {
            let product: i64 = centres.centre(j).iter().zip(sum).map(|(&c, &s)| i64::from(c) * s).sum();
            loss += count * centres.square(j) - 2 * product;
        }
        let (slack, corners) = (Wiped::zeros(sums.len()), Wiped::zeros(sums.len()));
        let mut summary = Self { centres, counts, loss, slack, corners };
        let phase = rule.phase_after(t, dim);
        for (j, sum) in sums.chunks_exact(dim).enumerate() {
            let lack = rule.lack(summary.counts[j]);
            let span = j * dim..(j + 1) * dim;
            for ((v, &s), &c) in summary.slack[span].iter_mut().zip(sum).zip(summary.centres.centre(j)) {
                *v = s + lack * i64::from(c);
            }
            summary.settle(j, rule, &phase);
        }
        summary
    }

    fn dim(&self) -> usize {
        self.slack.len() / self.counts.len()
    }

    fn span(&self, j: usize) -> std::ops::Range<usize> {
        j * self.dim()..(j + 1) * self.dim()
    }

    /// Finds the cell of a cluster whose `slack` is relative to whatever `corners` says now.
    fn settle(&mut self, j: usize, rule: &Rule, phase: &[i32]) {
        let den = rule.den(self.counts[j]);
        let pitch = i64::from(rule.pitch);
        let span = self.span(j);
        for ((v, l), &phi) in self.slack[span.clone()].iter_mut().zip(&mut self.corners[span]).zip(phase) {
            let num = *v + i64::from(*l) * den;
            if den == 0 {
                (*v, *l) = (0, 0);
                continue;
            }
            let cell = (num + i64::from(phi) * den).div_euclid(pitch * den);
            let corner = cell * pitch - i64::from(phi);
            *v = num - corner * den;
            #[expect(clippy::cast_possible_truncation, reason = "within a pitch of a mean of 16-bit numbers")]
            {
                *l = corner as i32;
            }
        }
    }

    /// Sum of the rows of a cluster.
    pub(crate) fn sum(&self, j: usize, rule: &Rule) -> impl Iterator<Item = i64> {
        let (den, lack) = (rule.den(self.counts[j]), rule.lack(self.counts[j]));
        let cells = self.slack[self.span(j)].iter().zip(&self.corners[self.span(j)]);
        cells.zip(self.centres.centre(j)).map(move |((&v, &l), &c)| v + i64::from(l) * den - lack * i64::from(c))
    }

    /// `C_(t+1)`.
    pub(crate) fn next_centres(&self, rule: &Rule) -> Centres {
        let half = i64::from(rule.pitch / 2);
        let mut values = Wiped::with_capacity(self.slack.len());
        for (j, &count) in self.counts.iter().enumerate() {
            let proposed = self.corners[self.span(j)].iter().map(|&l| i64::from(l) + half);
            let in_bounds = || {
                let square: i64 = proposed.clone().map(|c| c * c).sum();
                square <= MAX_CENTRE_SQUARE && proposed.clone().all(|c| c.abs() <= i64::from(i16::MAX))
            };
            if rule.den(count) == 0 || !in_bounds() {
                values.extend_from_slice(self.centres.centre(j));
            } else {
                values.extend_from_slice(&proposed.map(narrow).collect::<Vec<_>>());
            }
        }
        Centres::new(values, self.dim())
    }

    /// Whether every cell holds after a change of the sums, and of the balance from that of `old` to that of `new`.
    pub(crate) fn holds(&self, delta: &Delta, old: &Rule, new: &Rule) -> bool {
        self.affected(delta, old, new).all(|j| self.cell_holds(j, delta, old, new))
    }

    /// Clusters whose slack changes.
    fn affected<'a>(&self, delta: &'a Delta, old: &Rule, new: &Rule) -> impl Iterator<Item = usize> + use<'a> {
        let all = if old.balance == new.balance { 0 } else { self.counts.len() };
        let touched = if all == 0 { delta.touched.as_slice() } else { &[] };
        (0..all).chain(touched.iter().copied())
    }

    fn shift<'a>(&self, j: usize, delta: &'a Delta, old: &Rule, new: &Rule) -> Shift<'a> {
        let (before, after) = (self.counts[j], self.counts[j] + delta.counts[j]);
        Shift {
            sum: &delta.sums[self.span(j)],
            lack: new.lack(after) - old.lack(before),
            den: new.den(after) - old.den(before),
            limit: i64::from(new.pitch) * new.den(after),
        }
    }

    fn cell_holds(&self, j: usize, delta: &Delta, old: &Rule, new: &Rule) -> bool {
        let shift = self.shift(j, delta, old, new);
        if old.den(self.counts[j]) == 0 || shift.limit == 0 {
            // Without a denominator there is no cell, and the centre stays where it was.
            return old.den(self.counts[j]) == 0 && shift.limit == 0;
        }
        let cells = self.slack[self.span(j)].iter().zip(&self.corners[self.span(j)]);
        let moved = cells
            .zip(shift.sum)
            .zip(self.centres.centre(j))
            .map(|(((&v, &l), &s), &c)| v + s + shift.lack * i64::from(c) - shift.den * i64::from(l));
        // No early exit: the loop is short, and without one it runs in vectors. Either difference is negative outside.
        moved.fold(0, |signs, v| signs | v | (shift.limit - 1 - v)) >= 0
    }

    /// Carries out a change; cells that do not hold are found anew.
    pub(crate) fn apply(&mut self, delta: &Delta, old: &Rule, new: &Rule, t: usize) {
        for j in self.affected(delta, old, new) {
            let holds = self.cell_holds(j, delta, old, new);
            let shift = self.shift(j, delta, old, new);
            let span = self.span(j);
            let cells = self.slack[span.clone()].iter_mut().zip(&self.corners[span]);
            for (((v, &l), &s), &c) in cells.zip(shift.sum).zip(self.centres.centre(j)) {
                *v += s + shift.lack * i64::from(c) - shift.den * i64::from(l);
            }
            self.counts[j] += delta.counts[j];
            if !holds {
                self.settle(j, new, &new.phase_after(t, self.dim()));
            }
        }
        self.loss += delta.loss;
    }
}
