//! The certificate: does an update of the panel leave every centre where it is? Reads the model, changes nothing.
//!
//! The seeds decide first; then, step by step, the sums of the clusters that rows leave or join, against the cells in
//! which the next centres lie. As long as all hold, no row but those that go or come has to be looked at.

use crate::assign::Centres;
use crate::lloyd::{Change, Delta, Rule, Step};
use crate::population::Population;
use crate::threads::Threads;

/// How far the steps hold, with the labels of the rows that come, for each step that stays.
pub(crate) struct Certificate {
    /// What the step after those that stay assigns to; None if all hold.
    pub(crate) breaks: Option<Centres>,
    pub(crate) added_labels: Vec<Vec<u16>>,
    /// Their losses after the update.
    pub(crate) losses: Vec<i64>,
    /// To be filled again when the update is applied.
    pub(crate) delta: Delta,
    pub(crate) work: u64,
}

/// Checks the steps of a model against an update of its panel.
pub(crate) fn certify(
    steps: &[Step],
    population: &Population<'_>,
    old: &Rule,
    new: &Rule,
    threads: Threads,
) -> Certificate {
    let clusters = steps.first().map_or(0, |first| first.summary.counts.len());
    let delta = Delta::new(clusters, population.dim());
    let (added_labels_of, losses) = (Vec::with_capacity(steps.len()), Vec::with_capacity(steps.len()));
    let mut certificate = Certificate { breaks: None, added_labels: added_labels_of, losses, delta, work: 0 };
    let delta = &mut certificate.delta;
    for (t, step) in steps.iter().enumerate() {
        let labels = added_labels(&step.summary.centres, population, threads);
        fill(delta, step, population, &labels, threads);
        certificate.work += cost(population, clusters);
        certificate.added_labels.push(labels);
        certificate.losses.push(step.summary.loss + delta.loss);
        let change = Change { delta, old, new, t };
        if !step.summary.holds(change) {
            let mut summary = step.summary.clone();
            summary.apply(change, false);
            let before = steps.get(t + 1).map(|next| (&step.summary, &next.summary.centres));
            certificate.breaks = Some(summary.next_centres(new, t, before));
            break;
        }
    }
    certificate
}

/// The clusters that rows which come join in a step whose centres stay.
pub(crate) fn added_labels(centres: &Centres, population: &Population<'_>, threads: Threads) -> Vec<u16> {
    let going = population.removed().len();
    let parts = threads.map(population.added().len(), centres.len() * population.dim(), |range| {
        let mut labels = Vec::with_capacity(range.len());
        population.each_change(going + range.start..going + range.end, |_, row, _| labels.push(centres.nearest(row)));
        labels
    });
    parts.concat()
}

/// Takes a row's cluster, the row, its sign, and its squared distance with that sign.
type Count<'a> = dyn FnMut(u16, &[i16], i64, i64) + 'a;

/// What an update does to the clusters of one step.
pub(crate) fn fill(
    delta: &mut Delta,
    step: &Step,
    population: &Population<'_>,
    added_labels: &[u16],
    threads: Threads,
) {
    let centres = &step.summary.centres;
    let each = |range, count: &mut Count<'_>| {
        population.each_change(range, |slot, row, sign| {
            let label = step.labels.get(slot).copied().unwrap_or_else(|| added_labels[slot - population.base()]);
            let distance = centres.distance(label.into(), row, population.square(slot));
            count(label, row, sign, sign * i64::from(distance));
        });
    };
    let changes = population.changes();
    if changes == 1 {
        return each(0..1, &mut |label, row, sign, loss| {
            delta.only_row(label, row, sign);
            delta.loss = loss;
        });
    }
    delta.clear();
    let parts = threads.map(changes, 4 * population.dim(), |range| {
        let mut part = Delta::new(centres.len(), population.dim());
        each(range, &mut |label, row, sign, loss| {
            part.row(label, row, sign);
            part.loss += loss;
        });
        part
    });
    for part in &parts {
        delta.merge(part);
    }
}

/// Multiply-adds of one step's certificate: a distance and a slack for each row, and all distances of one that comes.
fn cost(population: &Population<'_>, clusters: usize) -> u64 {
    let rows = 2 * population.removed().len() + (2 + clusters) * population.added().len();
    rows as u64 * population.dim() as u64
}
