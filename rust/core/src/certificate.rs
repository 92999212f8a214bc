//! The certificate: does an update leave every centre where it is? Reads the model, changes nothing.
//!
//! The seeds decide first; then, step by step, the sums of the clusters that rows leave or join, against the cells in
//! which the next centres lie, and the losses, against the rule for stopping. As long as all hold, no row but those
//! that go or come has to be looked at.

use crate::assign::Centres;
use crate::lloyd::{Delta, Rule, Step};
use crate::population::Population;

/// How far the certificate reaches.
pub(crate) enum Verdict {
    /// All steps stay, with their sums updated.
    Holds,
    /// The steps that were certified stay, but another one is kept: the last of them ends the iteration now, or did so
    /// before by `max_iter` alone and its loss has begun or ceased to fall.
    Ends,
    /// The steps that were certified stay; the next one assigns to other centres, or did not exist.
    Breaks {
        /// What the next step assigns to.
        centres: Centres,
        /// Loss of the step before.
        before: i64,
    },
}

/// The verdict, with the labels of the rows that come, for each step that stays.
pub(crate) struct Certificate {
    pub(crate) verdict: Verdict,
    pub(crate) added_labels: Vec<Vec<u16>>,
    pub(crate) work: u64,
}

/// Checks the steps of a model against an update of its rows.
pub(crate) fn certify(steps: &[Step], population: &Population<'_>, old: &Rule, new: &Rule) -> Certificate {
    let mut certificate = Certificate { verdict: Verdict::Holds, added_labels: Vec::new(), work: 0 };
    let Some(first) = steps.first() else { return certificate };
    let mut delta = Delta::new(first.summary.counts.len(), population.dim());
    let mut before = None;
    for (t, step) in steps.iter().enumerate() {
        let labels: Vec<u16> =
            population.added().map(|slot| step.summary.centres.nearest(population.row(slot))).collect();
        fill(&mut delta, step, population, &labels);
        certificate.work += cost(population, step.summary.counts.len());
        certificate.added_labels.push(labels);
        let loss = step.summary.loss + delta.loss();
        let is_last = new.is_last(t, before, loss);
        let was_last = t + 1 == steps.len();
        let old_before = t.checked_sub(1).map(|t| steps[t].summary.loss);
        let kept = |loss, before: Option<i64>| before.is_none_or(|before| loss < before);
        let other_kept = kept(step.summary.loss, old_before) != kept(loss, before);
        if is_last && (!was_last || other_kept) {
            certificate.verdict = Verdict::Ends;
        } else if was_last != is_last || !was_last && !step.summary.holds(&delta, old, new) {
            let mut summary = step.summary.clone();
            summary.apply(&delta, old, new, t);
            certificate.verdict = Verdict::Breaks { centres: summary.next_centres(new), before: loss };
        }
        if !matches!(certificate.verdict, Verdict::Holds) {
            break;
        }
        before = Some(loss);
    }
    certificate
}

/// What an update does to the clusters of one step.
pub(crate) fn fill(delta: &mut Delta, step: &Step, population: &Population<'_>, added_labels: &[u16]) {
    delta.clear();
    let centres = &step.summary.centres;
    for &slot in population.removed() {
        delta.row(centres, step.labels[slot as usize], population.row(slot as usize), -1);
    }
    for (slot, &label) in population.added().zip(added_labels) {
        delta.row(centres, label, population.row(slot), 1);
    }
}

/// Multiply-adds of one step's certificate: a distance and a slack for each row, and all distances of one that comes.
fn cost(population: &Population<'_>, clusters: usize) -> u64 {
    let rows = 2 * population.removed().len() + (2 + clusters) * population.added().len();
    (rows * population.dim()) as u64
}
