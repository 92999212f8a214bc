//! The result: all rows, assigned to the centres that are kept, and what the model shows. No centres follow from it, so that
//! a row which goes or comes changes a count, the loss and a list, and nothing else. Algorithm: docs/algorithm.md, sections 6
//! and 7.

use std::sync::OnceLock;

use crate::assign::Centres;
use crate::certificate::added_labels;
use crate::exemplar::{Exemplars, Near};
use crate::fit::UpdateContext;
use crate::flat::Flat;
use crate::ids::slot_number;
use crate::lloyd::{Step, Summary};
use crate::population::Population;
use crate::replay::NewStep;
use crate::resolution::Apart;
use crate::scores::Scores;
use crate::threads::Threads;

/// The state that is derived from all rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    step: Option<Step>,
    pub(crate) scores: Scores,
    exemplars: Exemplars,
    /// Clusters whose exemplars have to be found anew.
    stale: Vec<bool>,
    /// How far the centres are apart; found out when it is first asked for.
    apart: OnceLock<Apart>,
}

/// What an update will do to the result.
pub(crate) enum LastPlan {
    /// The centres stay. The labels of the rows that come, and what the loss changes by.
    Followed { added_labels: Vec<u16>, loss: i64, work: u64 },
    /// Other centres, or the first ones.
    Moved { step: NewStep, work: u64 },
    /// No rows, no centres.
    Empty,
}

impl LastPlan {
    /// Whether all rows are assigned anew.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self, Self::Moved { .. })
    }

    /// Multiply-adds spent.
    pub(crate) fn work(&self) -> u64 {
        match self {
            Self::Followed { work, .. } | Self::Moved { work, .. } => *work,
            Self::Empty => 0,
        }
    }
}

impl Last {
    /// Finds out what an update does. `centres` are those that are kept, if they may have changed. Changes nothing of the
    /// state; known scores run ahead of it.
    pub(crate) fn plan(&mut self, context: UpdateContext<'_>, centres: Option<Centres>) -> LastPlan {
        match (&self.step, centres) {
            (None, None) => LastPlan::Empty,
            (Some(step), None) => follow(step, context),
            (Some(step), Some(centres)) if step.summary.centres == centres => follow(step, context),
            (step, Some(centres)) => {
                let mut scores = self.scores.start();
                let (step, work) = context.replay(step.as_slice(), &Flat::default()).run_result(centres, &mut scores);
                self.scores = scores;
                LastPlan::Moved { step, work }
            }
        }
    }

    /// Applies a plan. The rows themselves have not moved yet.
    pub(crate) fn apply(&mut self, plan: LastPlan, population: &Population<'_>) {
        match (plan, &mut self.step) {
            (LastPlan::Moved { step: NewStep { summary, labels: relabel }, .. }, old) => {
                let before = old.take();
                let centres = before.as_ref().map(|before| before.summary.centres.clone());
                let mut labels = before.map(|before| before.labels).unwrap_or_default();
                let touched = relabel.apply(&mut labels, population.slots(), summary.counts.len());
                let moved = |j: usize| centres.as_ref().is_none_or(|old| old.centre(j) != summary.centres.centre(j));
                self.stale = (0..summary.counts.len()).map(|j| touched[j] || moved(j)).collect();
                self.apart = OnceLock::new();
                *old = Some(Step { summary, labels });
            }
            (LastPlan::Followed { added_labels, loss, .. }, Some(step)) => {
                step.labels.extend(added_labels);
                for &slot in population.removed() {
                    step.summary.counts[usize::from(step.labels[slot as usize])] -= 1;
                }
                for &label in &step.labels[population.base()..] {
                    step.summary.counts[usize::from(label)] += 1;
                }
                step.summary.loss += loss;
                if self.apart.get().is_some_and(|apart| !apart.is_of(&step.summary)) {
                    self.apart = OnceLock::new();
                }
                self.stale.clear();
                self.stale.resize(step.summary.counts.len(), false);
            }
            (LastPlan::Followed { .. } | LastPlan::Empty, _) => (),
        }
        if let Some(added) = population.added_rows() {
            self.scores.extend(population.base(), added);
        }
        self.update_exemplars(population);
    }

    /// Keeps the lists of exemplars that are not stale in step with the rows that go and come.
    fn update_exemplars(&mut self, population: &Population<'_>) {
        let Some(step) = &self.step else { return };
        population.each_change(0..population.changes(), |slot, row, sign| {
            let label = step.labels[slot];
            if self.stale[usize::from(label)] {
                return;
            }
            if sign < 0 {
                self.exemplars.leave(label, slot_number(slot));
            } else {
                let count = step.summary.counts[usize::from(label)];
                let distance = step.summary.centres.distance(label.into(), row, population.square(slot));
                self.exemplars.join(label, slot_number(slot), distance, population, count);
            }
        });
    }

    /// Finds the exemplars that are stale or used up. To be called once the rows themselves have changed. Returns the
    /// multiply-adds spent.
    pub(crate) fn refresh(&mut self, population: &Population<'_>, threads: Threads) -> u64 {
        let Some(step) = &self.step else { return 0 };
        let mut wanted = std::mem::take(&mut self.stale);
        self.exemplars.mark_exhausted(&step.summary.counts, &mut wanted);
        let work = self.exemplars.rebuild(&wanted, step, self.scores.of_step(1), population, threads);
        self.stale = wanted;
        work
    }

    /// Two slots change places.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        if let Some(step) = &mut self.step {
            step.labels.swap(a as usize, b as usize);
        }
        self.scores.swap(a as usize, b as usize);
        self.exemplars.swap(a, b);
    }

    /// Takes out a slot; the last one moves there.
    pub(crate) fn swap_remove(&mut self, slot: u32, last: u32) {
        if let Some(step) = &mut self.step {
            step.labels.swap_remove(slot as usize);
        }
        self.scores.swap_remove(slot as usize, last as usize);
        self.exemplars.rename(last, slot);
    }

    /// The centres with their counts.
    pub(crate) fn summary(&self) -> Option<&Summary> {
        self.step.as_ref().map(|step| &step.summary)
    }

    /// How coarse the model's steps are against the spread of the rows; 0 without rows.
    pub(crate) fn resolution(&self, pitch: u32, dim: usize) -> f64 {
        let Some(summary) = self.summary() else { return 0.0 };
        self.apart.get_or_init(|| Apart::new(summary)).resolution(summary, pitch, dim)
    }

    /// The cluster of each row, by slot.
    pub(crate) fn labels(&self) -> &[u16] {
        self.step.as_ref().map_or(&[], |step| &step.labels)
    }

    /// Sum of the squared distances of the rows to their centres.
    pub(crate) fn loss(&self) -> i64 {
        self.step.as_ref().map_or(0, |step| step.summary.loss)
    }

    /// The `count` rows nearest to each centre, nearest first, or all of fewer.
    pub(crate) fn nearest(&self, count: usize, population: &Population<'_>, threads: Threads) -> Vec<Vec<Near>> {
        let Some(step) = &self.step else { return Vec::new() };
        self.exemplars.nearest(count, step, self.scores.of_step(1), population, threads)
    }

    /// The exemplar of each cluster, by slot.
    pub(crate) fn exemplars(&self) -> impl Iterator<Item = Option<u32>> {
        self.exemplars.slots()
    }
}

/// The centres stay: what the rows that go and come do.
fn follow(step: &Step, context: UpdateContext<'_>) -> LastPlan {
    let UpdateContext { population, threads, .. } = context;
    let centres = &step.summary.centres;
    let added_labels = added_labels(centres, population, threads);
    let mut loss = 0;
    population.each_change(0..population.changes(), |slot, row, sign| {
        let label = step.labels.get(slot).copied().unwrap_or_else(|| added_labels[slot - population.base()]);
        loss += sign * i64::from(centres.distance(label.into(), row, population.square(slot)));
    });
    let rows = population.changes() + centres.len() * population.added().len();
    LastPlan::Followed { added_labels, loss, work: (rows * population.dim()) as u64 }
}
