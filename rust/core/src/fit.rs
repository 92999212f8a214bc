//! Seeds and steps of the panel. An update is planned first, on a read-only view of the panel's rows as they will be, and
//! applied only then. What becomes of all rows is `last`'s; the rows themselves are `model`'s.

use crate::assign::Centres;
use crate::certificate::{self, certify};
use crate::field::Field;
use crate::flat::Flat;
use crate::lloyd::{Change, Delta, Rule, Step};
use crate::params::ValidParams;
use crate::population::Population;
use crate::replay::{NewStep, Replay, Rerun};
use crate::scores::Scores;
use crate::seed::{Race, Reseeding, Seeding, Seeds};
use crate::threads::Threads;

/// Which way an update took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdatePath {
    /// Every centre stayed: no other row was looked at.
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
    /// The first step that was run again; step 0 assigns to the seeds. None if all stay.
    pub first_iteration: Option<usize>,
    /// Multiply-adds spent.
    pub work: u64,
}

impl Update {
    /// No row came or went.
    pub(crate) const NONE: Self =
        Self { added: 0, removed: 0, path: UpdatePath::Certified, first_iteration: None, work: 0 };
}

/// What an update of the panel will do.
pub(crate) struct Plan {
    pub(crate) path: UpdatePath,
    seeds: Reseeding,
    /// Labels of the rows that come, for each step that stays.
    added_labels: Vec<Vec<u16>>,
    /// Scratch for what the rows that go and come do to the steps that stay.
    delta: Delta,
    /// Steps after those that stay.
    new_steps: Vec<NewStep>,
    /// The first step that is run again.
    pub(crate) first: Option<usize>,
    /// The centres that all rows are assigned to.
    pub(crate) kept: Option<Centres>,
    pub(crate) work: u64,
}

/// The state derived from the rows of the panel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fit {
    pub(crate) seeds: Seeds,
    /// Steps `0 .. T`.
    pub(crate) steps: Vec<Step>,
    pub(crate) scores: Scores,
    pub(crate) field: Field,
    pub(crate) flat: Flat,
}

/// What is given about the panel after an update.
#[derive(Clone, Copy)]
pub(crate) struct UpdateContext<'a> {
    pub(crate) params: &'a ValidParams,
    pub(crate) population: &'a Population<'a>,
    pub(crate) threads: Threads,
}

impl Fit {
    /// Plans a fit from scratch; `self` is empty.
    pub(crate) fn plan_fit(&mut self, context: UpdateContext<'_>) -> Plan {
        let clusters = context.params.clusters(context.population.len());
        let seeding = self.race_anew(context, clusters);
        self.plan_steps(context, seeding)
    }

    /// Finds out what an update does that does not change the number of clusters or the scale. Changes nothing of the
    /// state; known scores run ahead of it.
    pub(crate) fn plan(&mut self, context: UpdateContext<'_>) -> Plan {
        if context.population.changes() > context.population.len() {
            // To follow so many rows through every round and step would cost more than a fit.
            let seeding = self.race_anew(context, self.seeds.len());
            return self.plan_steps(context, seeding);
        }
        let mut field = self.field.take();
        let seeding = context.race().update(&self.seeds, &mut field);
        self.field = field;
        if seeding.changed {
            return self.plan_steps(context, seeding);
        }
        let (old, new) = context.rules();
        let certificate = certify(&self.steps, context.population, &old, &new, context.threads);
        let stay = certificate.added_labels.len();
        let rerun = certificate.breaks.map(|centres| self.replay(context, stay, centres));
        let first = rerun.is_some().then_some(stay);
        let path = match (&seeding.seeds, first) {
            (Reseeding::Raced(_), _) => UpdatePath::Reseeded,
            (Reseeding::Followed(_), None) => UpdatePath::Certified,
            (Reseeding::Followed(_), Some(_)) => UpdatePath::Replayed,
        };
        let (new_steps, more) = rerun.map_or_else(Default::default, |Rerun { steps, work }| (steps, work));
        let kept = self.kept_centres(&certificate.losses, &new_steps);
        let work = seeding.work + certificate.work + more;
        let (added_labels, delta) = (certificate.added_labels, certificate.delta);
        Plan { path, seeds: seeding.seeds, added_labels, delta, new_steps, first, kept, work }
    }

    fn race_anew(&mut self, context: UpdateContext<'_>, clusters: usize) -> Seeding {
        let mut field = self.field.take();
        let seeding = context.race().run(clusters, &mut field);
        self.field = field;
        seeding
    }

    /// All steps anew, from other seeds.
    fn plan_steps(&mut self, context: UpdateContext<'_>, seeding: Seeding) -> Plan {
        let Seeding { seeds, mut work, .. } = seeding;
        let mut new_steps = Vec::new();
        if let Some(centres) = context.race().chosen_anew(&seeds) {
            let rerun = self.replay(context, 0, centres);
            work += rerun.work;
            new_steps = rerun.steps;
        }
        let kept = self.kept_centres(&[], &new_steps);
        let delta = Delta::new(0, context.population.dim());
        Plan {
            path: UpdatePath::Reseeded,
            seeds,
            added_labels: Vec::new(),
            delta,
            new_steps,
            first: Some(0),
            kept,
            work,
        }
    }

    /// The last centres, or the seeds if those are not worse for the panel. `losses` are those of the steps that stay, the
    /// first ones of the model; after them come the new ones.
    fn kept_centres(&self, losses: &[i64], new_steps: &[NewStep]) -> Option<Centres> {
        let stay = self.steps.iter().zip(losses).map(|(step, &loss)| (&step.summary.centres, loss));
        let new = new_steps.iter().map(|step| (&step.summary.centres, step.summary.loss));
        let mut all = stay.chain(new);
        let first = all.next()?;
        let (centres, _) = all.last().filter(|last| last.1 < first.1).unwrap_or(first);
        Some(centres.clone())
    }

    /// Runs steps. Scores that are worked on are out of the model meanwhile: should it fail, they are lost, not wrong.
    fn replay(&mut self, context: UpdateContext<'_>, first: usize, centres: Centres) -> Rerun {
        if !self.steps.is_empty() {
            self.flat.start(context.population);
        }
        let mut scores = self.scores.start();
        let outcome = context.replay(&self.steps, &self.flat).run(first, centres, &mut scores);
        self.scores = scores;
        outcome
    }

    /// Applies a plan. The rows themselves have not moved yet.
    pub(crate) fn apply(&mut self, mut plan: Plan, context: UpdateContext<'_>) {
        let population = context.population;
        let stay = plan.added_labels.len();
        self.apply_certified(&mut plan, context);
        self.replace_steps(stay, plan.new_steps, population.slots());
        plan.seeds.apply(&mut self.seeds);
        if let Some(added) = population.added_rows() {
            self.scores.extend(population.base(), added);
            self.flat.extend(added);
            self.field.extend(population.base(), added, population.added_squares(), &self.seeds.proposed);
        }
    }

    /// Brings the sums and labels of the steps that stay up to date.
    fn apply_certified(&mut self, plan: &mut Plan, context: UpdateContext<'_>) {
        let (old, new) = context.rules();
        let stay = plan.added_labels.len();
        for (t, (step, labels)) in self.steps.iter_mut().zip(&plan.added_labels).enumerate() {
            certificate::fill(&mut plan.delta, step, context.population, labels, context.threads);
            // The last one is where the certificate ended.
            let is_certified = t + 1 < stay || plan.first.is_none();
            step.summary.apply(Change { delta: &plan.delta, old: &old, new: &new, t }, is_certified);
            step.labels.extend(labels);
        }
    }

    /// Puts new steps behind the first `stay`, in place of what is there.
    fn replace_steps(&mut self, stay: usize, new_steps: Vec<NewStep>, slots: usize) {
        for (t, NewStep { summary, labels: relabel }) in (stay..).zip(new_steps) {
            let mut labels = self.steps.get_mut(t).map(|step| std::mem::take(&mut step.labels)).unwrap_or_default();
            relabel.apply(&mut labels, slots, summary.counts.len());
            let step = Step { summary, labels };
            match self.steps.get_mut(t) {
                Some(old) => *old = step,
                None => self.steps.push(step),
            }
        }
    }

    /// Takes out a slot of the panel; its last one moves there.
    pub(crate) fn swap_remove(&mut self, slot: u32, last: u32) {
        for step in &mut self.steps {
            step.labels.swap_remove(slot as usize);
        }
        self.seeds.rename(last, slot);
        self.field.swap_remove(slot, last);
        self.flat.swap_remove(slot);
        self.scores.swap_remove(slot as usize, last as usize);
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

    pub(crate) fn replay(&self, old: &'a [Step], flat: &'a Flat) -> Replay<'a> {
        let (old_rule, rule) = self.rules();
        let Self { population, threads, .. } = *self;
        Replay { population, rule, old_rule, old, flat, threads }
    }
}
