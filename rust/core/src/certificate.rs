//! The certificate: does an update leave every centre where it is? Reads the model, changes nothing.
//!
//! The seeds decide first; then, step by step, the sums of the clusters that rows leave or join, against the cells in
//! which the next centres lie, and the losses, against the rule for stopping. As long as all hold, no row but those
//! that go or come has to be looked at.

use crate::assign::Centres;
use crate::lloyd::{Change, Delta, Rule, Step, falls};
use crate::population::Population;
use crate::threads::Threads;

/// How far the certificate reaches.
pub(crate) enum Verdict {
    /// All steps stay, with their sums updated.
    Holds,
    /// The steps that were certified stay, but another one is kept: the last of them ends the iteration now, or did so
    /// before by `max_iter` alone and its loss has begun or ceased to fall.
    Ends,
    /// The steps that were certified stay; the next one assigns to other centres, or did not exist.
    Breaks {
        /// What the next step assigns to; None if that does not follow from what is kept of the last step.
        centres: Option<Centres>,
        /// Loss of the step before.
        before: i64,
    },
}

/// The verdict, with the labels of the rows that come, for each step that stays.
pub(crate) struct Certificate {
    pub(crate) verdict: Verdict,
    pub(crate) added_labels: Vec<Vec<u16>>,
    /// To be filled again when the update is carried out.
    pub(crate) delta: Delta,
    pub(crate) work: u64,
}

/// Checks the steps of a model against an update of its rows.
pub(crate) fn certify(
    steps: &[Step],
    population: &Population<'_>,
    old: &Rule,
    new: &Rule,
    threads: Threads,
) -> Certificate {
    let clusters = steps.first().map_or(0, |first| first.summary.counts.len());
    let delta = Delta::new(clusters, population.dim());
    let mut certificate =
        Certificate { verdict: Verdict::Holds, added_labels: Vec::with_capacity(steps.len()), delta, work: 0 };
    let delta = &mut certificate.delta;
    let mut before = None;
    for (t, step) in steps.iter().enumerate() {
        let labels = added_labels(step, population, threads);
        fill(delta, step, population, &labels, threads);
        certificate.work += cost(population, step.summary.counts.len());
        certificate.added_labels.push(labels);
        let change = Change { delta, old, new };
        let loss = step.summary.loss + delta.loss();
        let is_last = new.is_last(t, before, loss);
        let was_last = t + 1 == steps.len();
        let old_before = t.checked_sub(1).map(|t| steps[t].summary.loss);
        let other_kept = falls(old_before, step.summary.loss) != falls(before, loss);
        if is_last && (!was_last || other_kept) {
            certificate.verdict = Verdict::Ends;
        } else if was_last != is_last || !was_last && !step.summary.holds(change) {
            let centres = step.summary.cells.is_some().then(|| {
                let mut summary = step.summary.clone();
                summary.apply(change, t, false);
                summary.next_centres(new)
            });
            certificate.verdict = Verdict::Breaks { centres, before: loss };
        }
        if !matches!(certificate.verdict, Verdict::Holds) {
            break;
        }
        before = Some(loss);
    }
    certificate
}

/// The clusters that rows which come join in a step whose centres stay.
fn added_labels(step: &Step, population: &Population<'_>, threads: Threads) -> Vec<u16> {
    let (going, centres) = (population.removed().len(), &step.summary.centres);
    let parts = threads.map(population.added().len(), centres.len() * population.dim(), |range| {
        let mut labels = Vec::with_capacity(range.len());
        population.each_change(going + range.start..going + range.end, |_, row, _| labels.push(centres.nearest(row)));
        labels
    });
    parts.concat()
}

/// Takes a row's cluster, the row, its sign and its distance.
type Count<'a> = dyn FnMut(u16, &[i16], i64, u32) + 'a;

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
            count(label, row, sign, centres.distance(label.into(), row, population.square(slot)));
        });
    };
    let changes = population.changes();
    if changes == 1 {
        return each(0..1, &mut |label, row, sign, distance| delta.only_row(label, row, sign, distance));
    }
    delta.clear();
    let parts = threads.map(changes, 4 * population.dim(), |range| {
        let mut part = Delta::new(centres.len(), population.dim());
        each(range, &mut |label, row, sign, distance| part.row(label, row, sign, distance));
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
