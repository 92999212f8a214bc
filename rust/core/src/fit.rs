//! Seeds, steps and exemplars: all of a model but its rows. An update is planned first, on a read-only view of the rows
//! as they will be, and applied only then; the rows themselves are `model`'s.

use crate::assign::Centres;
use crate::certificate::{self, Certificate, Verdict, certify};
use crate::exemplar::Exemplars;
use crate::ids::slot_number;
use crate::lloyd::{Cells, Change, Delta, Rule, Step, Summary, falls};
use crate::params::ValidParams;
use crate::population::Population;
use crate::replay::{NewStep, Replay};
use crate::scores::{CacheSize, Scores};
use crate::seed::{Race, Reseeding, Seeding, Seeds};
use crate::threads::Threads;

/// Which way an update took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdatePath {
    /// Every centre stayed: sums were updated, no other row was looked at.
    Certified,
    /// Steps were run again from the first one whose centres changed.
    Replayed,
    /// A row that the seeding had proposed went, or one that came was proposed, so that rounds of it were run again; if
    /// a seed changed by that, all steps too. Or the number of clusters or the scale changed, and all was fitted.
    Reseeded,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Rows that came.
    pub added: usize,
    /// Rows that went.
    pub removed: usize,
    /// Which way it took.
    pub path: UpdatePath,
    /// The first step that was run again or dropped; step 0 assigns to the seeds. None if all stay.
    pub first_iteration: Option<usize>,
    /// Multiply-adds spent.
    pub work: u64,
}

/// What an update will do.
struct Plan {
    path: UpdatePath,
    seeds: Reseeding,
    /// Labels of the rows that come, for each step that stays.
    added_labels: Vec<Vec<u16>>,
    /// Scratch for what the rows that go and come do to the steps that stay.
    delta: Delta,
    /// The cells of the last step that stays, if it was the last of all and is so no more.
    resumed: Option<Cells>,
    /// Steps after those that stay.
    new_steps: Vec<NewStep>,
    /// The first step that is run again or dropped.
    first: Option<usize>,
    work: u64,
}

/// The derived state of a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fit {
    pub(crate) seeds: Seeds,
    pub(crate) steps: Vec<Step>,
    scores: Scores,
    exemplars: Exemplars,
    /// Clusters whose exemplars have to be found anew.
    stale: Vec<bool>,
}

/// What a model file records of a fit; all else follows.
pub(crate) struct FitRecord {
    /// Slot and potential of each trial, round by round.
    pub(crate) rounds: Vec<Vec<(u32, i64)>>,
    /// Labels by slot, step by step.
    pub(crate) labels: Vec<Vec<u16>>,
}

/// What is given about the rows after an update.
struct UpdateContext<'a> {
    params: &'a ValidParams,
    population: &'a Population<'a>,
    /// Sum of the rows' squared norms.
    square_sum: i64,
    threads: Threads,
}

impl Fit {
    /// Of no rows.
    pub(crate) fn new(cache: CacheSize) -> Self {
        Self { scores: Scores::new(cache), ..Self::default() }
    }

    /// Follows an update of the rows that changes neither the number of clusters nor the scale.
    pub(crate) fn update(
        &mut self,
        params: &ValidParams,
        population: &Population<'_>,
        square_sum: i64,
        threads: Threads,
    ) -> Update {
        let context = UpdateContext { params, population, square_sum, threads };
        let plan = self.plan(&context);
        self.apply(plan, &context)
    }

    /// Fits the rows from scratch; `self` is empty.
    pub(crate) fn run(
        &mut self,
        params: &ValidParams,
        population: &Population<'_>,
        square_sum: i64,
        threads: Threads,
    ) -> Update {
        let context = UpdateContext { params, population, square_sum, threads };
        let seeding = context.race().run(params.clusters(population.len()));
        let plan = self.plan_steps(&context, seeding);
        self.apply(plan, &context)
    }

    /// Takes up what an equal model had; `self` is empty. Returns false
    /// if the steps do not follow one from the other.
    pub(crate) fn restore(
        &mut self,
        params: &ValidParams,
        population: &Population<'_>,
        square_sum: i64,
        record: FitRecord,
        threads: Threads,
    ) -> bool {
        let context = UpdateContext { params, population, square_sum, threads };
        self.seeds = context.race().restore(&record.rounds);
        let Some(steps) = context.replay(&[]).recount(context.race().chosen(&self.seeds), record.labels) else {
            return false;
        };
        self.steps = steps;
        self.stale = vec![true; self.seeds.len()];
        true
    }

    /// Finds out what an update does. Changes nothing of the state; known scores run ahead of it.
    fn plan(&mut self, context: &UpdateContext<'_>) -> Plan {
        if context.population.changes() > context.population.len() {
            // To follow so many rows through every round and step would cost more than a fit.
            let seeding = context.race().run(self.seeds.len());
            return self.plan_steps(context, seeding);
        }
        let seeding = context.race().update(&self.seeds);
        if seeding.changed {
            return self.plan_steps(context, seeding);
        }
        let (old, new) = context.rules();
        let certificate = certify(&self.steps, context.population, &old, &new, context.threads);
        let stay = certificate.added_labels.len();
        let mut resumed = None;
        let (first, (new_steps, work)) = match certificate.verdict {
            Verdict::Holds => (None, (Vec::new(), 0)),
            // Nothing is run again; if nothing is dropped either, it is the last step that is kept now, or no more.
            Verdict::Ends => (Some(stay.min(self.steps.len() - 1)), (Vec::new(), 0)),
            Verdict::Breaks { centres: Some(centres), before } => {
                (Some(stay), self.replay(context, stay, centres, Some(before)))
            }
            Verdict::Breaks { centres: None, before } => {
                let last = self.resume_last_step(context, &certificate.added_labels[stay - 1]);
                let centres = last.next_centres(&new);
                resumed = last.cells;
                (Some(stay), self.replay(context, stay, centres, Some(before)))
            }
        };
        let path = match (&seeding.seeds, first) {
            (Reseeding::Raced(_), _) => UpdatePath::Reseeded,
            (Reseeding::Followed(_), None) => UpdatePath::Certified,
            (Reseeding::Followed(_), Some(_)) => UpdatePath::Replayed,
        };
        let work = seeding.work + certificate.work + work;
        let Certificate { added_labels, delta, .. } = certificate;
        Plan { path, seeds: seeding.seeds, added_labels, delta, resumed, new_steps, first, work }
    }

    /// All steps anew, from other seeds.
    fn plan_steps(&mut self, context: &UpdateContext<'_>, seeding: Seeding) -> Plan {
        let Seeding { seeds, mut work, .. } = seeding;
        let mut new_steps = Vec::new();
        if let Some(centres) = context.race().chosen_anew(&seeds) {
            let (steps, more) = self.replay(context, 0, centres, None);
            new_steps = steps;
            work += more;
        }
        let (path, added_labels, resumed, first) = (UpdatePath::Reseeded, Vec::new(), None, Some(0));
        let delta = Delta::new(0, context.population.dim());
        Plan { path, seeds, added_labels, delta, resumed, new_steps, first, work }
    }

    /// The summary, with its cells, of what was the last step and is so no more.
    fn resume_last_step(&self, context: &UpdateContext<'_>, added_labels: &[u16]) -> Summary {
        let (t, step) = (self.steps.len() - 1, &self.steps[self.steps.len() - 1]);
        let (old, new) = context.rules();
        let mut summary = step.summary.clone();
        let mut delta = Delta::new(summary.counts.len(), context.population.dim());
        certificate::fill(&mut delta, step, context.population, added_labels, context.threads);
        summary.apply(Change { delta: &delta, old: &old, new: &new }, t, false);
        let labels = [&step.labels, added_labels].concat();
        let cells = context.replay(&self.steps).cells_of_labels(t, &summary.centres, &summary.counts, &labels);
        Summary { cells: Some(cells), ..summary }
    }

    /// Runs steps. Scores that are worked on are out of the model meanwhile: should it fail, they are lost, not wrong.
    fn replay(
        &mut self,
        context: &UpdateContext<'_>,
        first: usize,
        centres: Centres,
        before: Option<i64>,
    ) -> (Vec<NewStep>, u64) {
        let mut scores = self.scores.start();
        let replay = context.replay(&self.steps);
        let outcome = replay.run(first, centres, before, &mut scores);
        self.scores = scores;
        outcome
    }

    fn apply(&mut self, mut plan: Plan, context: &UpdateContext<'_>) -> Update {
        let population = context.population;
        let stay = plan.added_labels.len();
        let before = self.kept().filter(|_| plan.first.is_some()).map(|(t, step)| (t, step.summary.centres.clone()));
        self.apply_certified(&mut plan, context);
        if let (Some(cells), Some(last)) = (plan.resumed, self.steps.last_mut()) {
            last.summary.cells = Some(cells);
        }
        let replaced = self.replace_steps(stay, plan.new_steps, population.slots());
        plan.seeds.apply(&mut self.seeds);
        self.scores.truncate(self.steps.len());
        if let Some(added) = population.added_rows() {
            self.scores.extend(population.base(), added);
        }
        self.stale = match (self.kept(), before) {
            (None, _) => Vec::new(),
            (Some((_, step)), _) if plan.first.is_none() => vec![false; step.summary.counts.len()],
            (Some((t, step)), Some((old_t, old))) if t == old_t && step.summary.centres.len() == old.len() => {
                let moved = |j: usize| step.summary.centres.centre(j) != old.centre(j);
                let touched = t.checked_sub(stay).map(|i| &replaced[i]);
                (0..old.len()).map(|j| moved(j) || touched.is_some_and(|touched| touched[j])).collect()
            }
            (Some((_, step)), _) => vec![true; step.summary.counts.len()],
        };
        self.update_exemplars(population);
        Update {
            added: population.added().len(),
            removed: population.removed().len(),
            path: plan.path,
            first_iteration: plan.first,
            work: plan.work,
        }
    }

    /// Brings the sums and labels of the steps that stay up to date.
    fn apply_certified(&mut self, plan: &mut Plan, context: &UpdateContext<'_>) {
        let (old, new) = context.rules();
        let stay = plan.added_labels.len();
        for (t, (step, labels)) in self.steps.iter_mut().zip(&plan.added_labels).enumerate() {
            certificate::fill(&mut plan.delta, step, context.population, labels, context.threads);
            // The last one is where the certificate ended, or was not asked.
            let is_certified = t + 1 < stay;
            step.summary.apply(Change { delta: &plan.delta, old: &old, new: &new }, t, is_certified);
            step.labels.extend(labels);
        }
    }

    /// Puts new steps behind the first `stay`, in place of what is there. Returns for each the clusters whose rows are
    /// others than in the step it replaces.
    fn replace_steps(&mut self, stay: usize, new_steps: Vec<NewStep>, slots: usize) -> Vec<Vec<bool>> {
        self.steps.truncate(stay + new_steps.len());
        let mut touched = Vec::with_capacity(new_steps.len());
        for (t, NewStep { summary, labels: relabel }) in (stay..).zip(new_steps) {
            let mut labels = self.steps.get_mut(t).map(|step| std::mem::take(&mut step.labels)).unwrap_or_default();
            touched.push(relabel.apply(&mut labels, slots, summary.counts.len()));
            let step = Step { summary, labels };
            match self.steps.get_mut(t) {
                Some(old) => *old = step,
                None => self.steps.push(step),
            }
        }
        touched
    }

    /// Keeps the lists of exemplars that are not stale in step with the rows that go and come.
    fn update_exemplars(&mut self, population: &Population<'_>) {
        let Some(kept) = self.kept_index() else { return };
        let step = &self.steps[kept];
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
    pub(crate) fn refresh_exemplars(&mut self, population: &Population<'_>, threads: Threads) -> u64 {
        let Some(kept) = self.kept_index() else {
            self.exemplars = Exemplars::default();
            return 0;
        };
        let step = &self.steps[kept];
        let mut wanted = std::mem::take(&mut self.stale);
        self.exemplars.mark_exhausted(&step.summary.counts, &mut wanted);
        self.exemplars.rebuild(&wanted, step, self.scores.of_step(kept), population, threads)
    }

    /// Takes out a slot; the last one moves there.
    pub(crate) fn swap_remove(&mut self, slot: u32, last: u32) {
        for step in &mut self.steps {
            step.labels.swap_remove(slot as usize);
        }
        self.seeds.rename(last, slot);
        self.scores.swap_remove(slot as usize, last as usize);
        self.exemplars.rename(last, slot);
    }

    fn kept_index(&self) -> Option<usize> {
        match self.steps.as_slice() {
            [] => None,
            [.., before, last] if !falls(Some(before.summary.loss), last.summary.loss) => Some(self.steps.len() - 2),
            steps => Some(steps.len() - 1),
        }
    }

    /// The step whose centres and labels are the model's: the last one, unless its loss did not fall.
    pub(crate) fn kept(&self) -> Option<(usize, &Step)> {
        self.kept_index().map(|t| (t, &self.steps[t]))
    }

    /// The exemplar of each cluster, by slot.
    pub(crate) fn exemplars(&self) -> impl Iterator<Item = Option<u32>> {
        self.exemplars.slots()
    }
}

impl<'a> UpdateContext<'a> {
    /// The rules before and after the update.
    fn rules(&self) -> (Rule, Rule) {
        (Rule::new(self.params, self.population.base()), Rule::new(self.params, self.population.len()))
    }

    fn race(&self) -> Race<'a> {
        Race { population: self.population, keyed: self.params.keyed(), threads: self.threads }
    }

    fn replay(&self, old: &'a [Step]) -> Replay<'a> {
        let (old_rule, rule) = self.rules();
        let Self { population, square_sum, threads, .. } = *self;
        Replay { population, rule, old_rule, old, square_sum, threads }
    }
}
