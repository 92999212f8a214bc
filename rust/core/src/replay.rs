//! Running steps: from scratch, or from the first step whose centres changed, looking only at rows for which a centre
//! moved. Reads the model, changes nothing; the result is what `model` commits.

use std::ops::Range;

use crate::assign::Centres;
use crate::ids::slot_number;
use crate::lloyd::{Rule, Step, Summary};
use crate::population::Population;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// A step that was run, as a change of the step it replaces.
pub(crate) struct NewStep {
    pub(crate) summary: Summary,
    pub(crate) labels: Relabel,
}

/// The labels of a new step, by slot of the population.
pub(crate) enum Relabel {
    /// A label for every slot; slots of rows that go have any.
    All(Vec<u16>),
    /// The rows whose label is another than in the step that is replaced, and all rows that come.
    Some(Vec<(u32, u16)>),
}

/// Steps to be run over one population.
pub(crate) struct Replay<'a> {
    pub(crate) population: &'a Population<'a>,
    pub(crate) rule: Rule,
    /// The rule of the model before the update.
    pub(crate) old_rule: Rule,
    /// The steps of the model before the update; none for a fit.
    pub(crate) old: &'a [Step],
    /// Sum of the squared norms of the population.
    pub(crate) square_sum: i64,
    pub(crate) threads: Threads,
}

/// Partial result of a shard: what any worker of any size reports, and what is merged by adding.
struct Partial {
    labels: Vec<u16>,
    moves: Vec<(u32, u16)>,
    sums: Wiped<i64>,
    counts: Vec<i64>,
    distances: u64,
}

impl Partial {
    fn new(clusters: usize, dim: usize) -> Self {
        let (labels, moves) = (Vec::new(), Vec::new());
        Self { labels, moves, sums: Wiped::zeros(clusters * dim), counts: vec![0; clusters], distances: 0 }
    }

    fn count(&mut self, label: u16, row: &[i16], sign: i64) {
        let j = usize::from(label);
        for (sum, &x) in self.sums[j * row.len()..(j + 1) * row.len()].iter_mut().zip(row) {
            *sum += sign * i64::from(x);
        }
        self.counts[j] += sign;
    }

    fn merge(mut self, other: Self) -> Self {
        self.labels.extend(other.labels);
        self.moves.extend(other.moves);
        self.sums.iter_mut().zip(other.sums.iter()).for_each(|(a, b)| *a += b);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.distances += other.distances;
        self
    }
}

impl Replay<'_> {
    /// Runs the steps from `first` on, which assigns to `centres`. `before` is the loss of the step before it. Returns
    /// the steps and the multiply-adds spent.
    pub(crate) fn run(&self, first: usize, centres: Centres, before: Option<i64>) -> (Vec<NewStep>, u64) {
        let (mut steps, mut centres, mut before, mut work) = (Vec::new(), centres, before, 0);
        for t in first.. {
            let (step, distances) = match self.old.get(t) {
                Some(old) => self.reassign(t, old, centres),
                None => self.assign(t, centres),
            };
            work += distances * self.population.dim() as u64;
            let loss = step.summary.loss;
            centres = step.summary.next_centres(&self.rule);
            steps.push(step);
            if self.rule.is_last(t, before, loss) {
                break;
            }
            before = Some(loss);
        }
        (steps, work)
    }

    /// The steps of known labels, by slot, from the first on. None if they do not end where the rule for stopping says.
    pub(crate) fn recount(&self, centres: Centres, labels: Vec<Vec<u16>>) -> Option<Vec<Step>> {
        let (mut steps, mut centres, mut before) = (Vec::with_capacity(labels.len()), centres, None);
        let last = labels.len().checked_sub(1);
        for (t, labels) in labels.into_iter().enumerate() {
            let total = self.reduce(0..self.population.slots(), &centres, |range, partial| {
                self.population.for_each(range, |slot, row| partial.count(labels[slot], row, 1));
            });
            let summary = Summary::new(centres, total.counts, &total.sums, self.square_sum, &self.rule, t);
            if self.rule.is_last(t, before, summary.loss) != (Some(t) == last) {
                return None;
            }
            centres = summary.next_centres(&self.rule);
            before = Some(summary.loss);
            steps.push(Step { summary, labels });
        }
        Some(steps)
    }

    /// A step from scratch: every row to the nearest of all centres.
    fn assign(&self, t: usize, centres: Centres) -> (NewStep, u64) {
        let total = self.reduce(0..self.population.slots(), &centres, |range, partial| {
            partial.labels.resize(range.len(), 0);
            self.population.for_each(range.clone(), |slot, row| {
                let label = centres.nearest(row);
                partial.labels[slot - range.start] = label;
                partial.count(label, row, 1);
                partial.distances += centres.len() as u64;
            });
        });
        let summary = Summary::new(centres, total.counts, &total.sums, self.square_sum, &self.rule, t);
        (NewStep { summary, labels: Relabel::All(total.labels) }, total.distances)
    }

    /// A step in place of an old one: only a row whose own centre moved looks at all centres again; any other compares
    /// its own, where it is at the same distance as before, with those that moved.
    fn reassign(&self, t: usize, old: &Step, centres: Centres) -> (NewStep, u64) {
        let clusters = centres.len();
        let has_moved: Vec<bool> = (0..clusters).map(|j| centres.centre(j) != old.summary.centres.centre(j)).collect();
        let moved: Vec<usize> = (0..clusters).filter(|&j| has_moved[j]).collect();
        let base = if moved.is_empty() { self.population.base() } else { 0 };
        let mut total = self.reduce(base..self.population.slots(), &centres, |range, partial| {
            self.population.for_each(range, |slot, row| match old.labels.get(slot) {
                None => {
                    let new = centres.nearest(row);
                    partial.distances += clusters as u64;
                    partial.count(new, row, 1);
                    partial.moves.push((slot_number(slot), new));
                }
                Some(&own) => {
                    let new = if has_moved[usize::from(own)] {
                        partial.distances += clusters as u64;
                        centres.nearest(row)
                    } else {
                        partial.distances += 1 + moved.len() as u64;
                        let stay = (centres.key(own.into(), row), own);
                        stay.min(centres.nearest_among(moved.iter().copied(), row)).1
                    };
                    if new != own {
                        partial.count(own, row, -1);
                        partial.count(new, row, 1);
                        partial.moves.push((slot_number(slot), new));
                    }
                }
            });
        });
        for &slot in self.population.removed() {
            total.count(old.labels[slot as usize], self.population.row(slot as usize), -1);
        }
        for (j, sums) in total.sums.chunks_exact_mut(self.population.dim()).enumerate() {
            sums.iter_mut().zip(old.summary.sum(j, &self.old_rule)).for_each(|(sum, before)| *sum += before);
            total.counts[j] += old.summary.counts[j];
        }
        let summary = Summary::new(centres, total.counts, &total.sums, self.square_sum, &self.rule, t);
        (NewStep { summary, labels: Relabel::Some(total.moves) }, total.distances)
    }

    fn reduce(
        &self,
        slots: Range<usize>,
        centres: &Centres,
        map: impl Fn(Range<usize>, &mut Partial) + Sync,
    ) -> Partial {
        let (clusters, dim) = (centres.len(), self.population.dim());
        let partials = self.threads.map(slots.len(), clusters * dim, |range| {
            let mut partial = Partial::new(clusters, dim);
            map(slots.start + range.start..slots.start + range.end, &mut partial);
            partial
        });
        partials.into_iter().reduce(Partial::merge).unwrap_or_else(|| Partial::new(clusters, dim))
    }
}

impl Relabel {
    /// Carries the change out on the labels of the step that is replaced, for a population of `slots` slots. Returns
    /// which of the clusters have other rows than before, those that go or come aside.
    pub(crate) fn apply(self, labels: &mut Vec<u16>, slots: usize, clusters: usize) -> Vec<bool> {
        match self {
            Self::All(all) => {
                *labels = all;
                vec![true; clusters]
            }
            Self::Some(moves) => {
                let base = labels.len();
                labels.resize(slots, 0);
                let mut touched = vec![false; clusters];
                for (slot, new) in moves {
                    let label = &mut labels[slot as usize];
                    if (slot as usize) < base {
                        touched[usize::from(*label)] = true;
                        touched[usize::from(new)] = true;
                    }
                    *label = new;
                }
                touched
            }
        }
    }
}
