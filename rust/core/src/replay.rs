//! Running steps: from scratch, or from the first step whose centres changed. Where the scores of a step are known, they
//! are brought up to date with what its centres moved by; a row is touched only if its cluster changes. Reads the
//! model, changes nothing but known scores; the result is what `iteration` commits.

use erase_core_kernel::{self as kernel, LANES};

use crate::assign::Centres;
use crate::ids::slot_number;
use crate::lloyd::{Change, Delta, Rule, Step, Summary};
use crate::population::{Block, Population, lanes};
use crate::scores::Scores;
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

/// What the labels of a step are compared with.
#[derive(Clone, Copy)]
enum Reference<'a> {
    /// Nothing: every row counts.
    None,
    /// The labels of the step before, for all slots.
    Before(&'a [u16]),
    /// The labels that the step has had, for the slots of the model's rows.
    Old(&'a [u16]),
}

impl<'a> Reference<'a> {
    fn labels(self) -> &'a [u16] {
        match self {
            Self::None => &[],
            Self::Before(labels) | Self::Old(labels) => labels,
        }
    }
}

/// Partial result of a shard: what any worker of any size reports, and what is merged by adding.
struct Partial {
    /// Labels of all slots, unless the reference is the step's own.
    labels: Vec<u16>,
    /// Where labels differ from the step's own.
    moves: Vec<(u32, u16)>,
    delta: Delta,
    work: u64,
}

/// A shard at work.
struct Shard<'a> {
    reference: Reference<'a>,
    partial: Partial,
    row: Wiped<i16>,
}

impl<'a> Shard<'a> {
    fn new(population: &Population<'_>, reference: Reference<'a>, clusters: usize) -> Self {
        let delta = Delta::new(clusters, population.dim());
        let partial = Partial { labels: Vec::new(), moves: Vec::new(), delta, work: 0 };
        Self { reference, partial, row: population.blank_row() }
    }

    /// Takes in a block with its keys.
    fn visit(&mut self, block: &Block<'_>, keys: &[u32]) {
        let (mut best, mut labels) = ([0; LANES], [0; LANES]);
        kernel::nearest(keys, &mut best, &mut labels);
        let known = self.reference.labels();
        let known = &known[block.first.min(known.len())..(block.first + block.squares.len()).min(known.len())];
        let mut differs = 0;
        for (lane, (label, known)) in labels.iter().zip(known).enumerate() {
            differs |= u32::from(label != known) << lane;
        }
        // Lanes without a known label are new.
        differs |= u32::MAX << known.len();
        let is_own = matches!(self.reference, Reference::Old(_));
        for lane in lanes(differs & block.live()) {
            kernel::read_lane(block.values, lane, &mut self.row);
            if let Some(&label) = known.get(lane) {
                self.partial.delta.row(label, &self.row, -1, 0);
            }
            self.partial.delta.row(labels[lane], &self.row, 1, 0);
            if is_own {
                self.partial.moves.push((slot_number(block.first + lane), labels[lane]));
            }
        }
        if !is_own {
            self.partial.labels.extend_from_slice(&labels[..block.squares.len()]);
        }
    }
}

impl Replay<'_> {
    /// Runs the steps from `first` on, which assigns to `centres`. `before` is the loss of the step before it. Returns
    /// the steps and the multiply-adds spent.
    pub(crate) fn run(
        &self,
        first: usize,
        centres: Centres,
        before: Option<i64>,
        scores: &mut Scores,
    ) -> (Vec<NewStep>, u64) {
        let (mut steps, mut centres, mut before, mut work): (Vec<NewStep>, _, _, _) = (Vec::new(), centres, before, 0);
        for t in first.. {
            let (step, spent) = match self.old.get(t) {
                Some(old) => self.reassign(t, old, centres, scores),
                None => self.assign(t, centres, steps.last(), scores),
            };
            work += spent;
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
            let parts = self.threads.map(self.population.blocks(), LANES * self.population.dim(), |range| {
                let mut delta = Delta::new(centres.len(), self.population.dim());
                let mut row = self.population.blank_row();
                for block in range.map(|b| self.population.block(b)) {
                    for lane in lanes(block.live()) {
                        kernel::read_lane(block.values, lane, &mut row);
                        delta.row(labels[block.first + lane], &row, 1, 0);
                    }
                }
                delta
            });
            let delta = self.merged(centres.len(), parts.iter());
            let summary = self.summary(t, centres, None, &delta);
            if self.rule.is_last(t, before, summary.loss) != (Some(t) == last) {
                return None;
            }
            centres = summary.next_centres(&self.rule);
            before = Some(summary.loss);
            steps.push(Step { summary, labels });
        }
        Some(steps)
    }

    /// A step where there was none, after the one before if that was run as a whole too.
    fn assign(&self, t: usize, centres: Centres, before: Option<&NewStep>, scores: &mut Scores) -> (NewStep, u64) {
        let before = before.and_then(|before| match &before.labels {
            Relabel::All(labels) => Some((labels, &before.summary)),
            Relabel::Some(_) => None,
        });
        let reference = before.map_or(Reference::None, |(labels, _)| Reference::Before(labels));
        let parts = self.pass(t, &centres, reference, true, scores);
        let delta = self.merged(centres.len(), parts.iter().map(|part| &part.delta));
        let summary = self.summary(t, centres, before.map(|(_, summary)| summary), &delta);
        let labels = parts.iter().flat_map(|part| &part.labels).copied().collect();
        (NewStep { summary, labels: Relabel::All(labels) }, parts.iter().map(|part| part.work).sum())
    }

    /// A step in place of an old one.
    fn reassign(&self, t: usize, old: &Step, centres: Centres, scores: &mut Scores) -> (NewStep, u64) {
        let parts = self.pass(t, &centres, Reference::Old(&old.labels), centres != old.summary.centres, scores);
        let mut delta = self.merged(centres.len(), parts.iter().map(|part| &part.delta));
        for (&slot, row) in self.population.removed().iter().zip(self.population.removed_rows()) {
            delta.row(old.labels[slot as usize], row, -1, 0);
        }
        let change = Change { delta: &delta, old: &self.old_rule, new: &self.rule };
        let summary = old.summary.moved(centres, self.square_sum, change, t);
        let work = parts.iter().map(|part| part.work).sum();
        let moves = parts.into_iter().flat_map(|part| part.moves).collect();
        (NewStep { summary, labels: Relabel::Some(moves) }, work)
    }

    /// A step's summary from the rows that count in and out since the step before.
    fn summary(&self, t: usize, centres: Centres, before: Option<&Summary>, delta: &Delta) -> Summary {
        let clusters = centres.len();
        let (counts, sums) = before.map_or_else(
            || (vec![0; clusters], Wiped::zeros(clusters * self.population.dim())),
            |before| (before.counts.clone(), before.sums(&self.rule)),
        );
        let (mut counts, mut sums) = (counts, sums);
        delta.add_to(&mut counts, &mut sums);
        Summary::new(centres, counts, &sums, self.square_sum, &self.rule, t)
    }

    /// One pass over the rows: the model's, unless they cannot have changed their cluster, and those that come.
    fn pass(
        &self,
        t: usize,
        centres: &Centres,
        reference: Reference<'_>,
        with_base: bool,
        scores: &mut Scores,
    ) -> Vec<Partial> {
        let population = self.population;
        let (clusters, dim) = (centres.len(), population.dim());
        let mut parts = Vec::new();
        if with_base {
            let mut known = scores.take(t, population.base(), dim, clusters, self.rule.max_iter());
            if let Some(known) = &mut known {
                let (approach, keys) = known.approach(centres, dim);
                let cost = LANES * (approach.work(dim) + 4 * clusters);
                parts = self.threads.map_mut(keys, clusters * LANES, cost, |start, keys| {
                    let mut shard = Shard::new(population, reference, clusters);
                    let mut scratch = vec![0; approach.places.len() * LANES];
                    for (b, keys) in (start..).zip(keys.chunks_exact_mut(clusters * LANES)) {
                        let block = population.block(b);
                        approach.run(block.values, keys, &mut scratch);
                        shard.partial.work += (block.len() * approach.work(dim)) as u64;
                        shard.visit(&block, keys);
                    }
                    shard.partial
                });
            } else {
                parts = self.compute(0..population.base_blocks(), centres, reference);
            }
            scores.put(t, known);
        }
        parts.extend(self.compute(population.base_blocks()..population.blocks(), centres, reference));
        parts
    }

    /// A pass over some blocks for which no scores are known or kept.
    fn compute(&self, blocks: std::ops::Range<usize>, centres: &Centres, reference: Reference<'_>) -> Vec<Partial> {
        let (clusters, dim) = (centres.len(), self.population.dim());
        self.threads.map(blocks.len(), LANES * clusters * dim, |range| {
            let mut shard = Shard::new(self.population, reference, clusters);
            let mut keys = vec![0; clusters * LANES];
            for b in range {
                let block = self.population.block(blocks.start + b);
                centres.keys(block.values, &mut keys);
                shard.partial.work += (block.len() * clusters * dim) as u64;
                shard.visit(&block, &keys);
            }
            shard.partial
        })
    }

    fn merged<'d>(&self, clusters: usize, parts: impl Iterator<Item = &'d Delta>) -> Delta {
        let mut merged = Delta::new(clusters, self.population.dim());
        parts.for_each(|part| merged.merge(part));
        merged
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
