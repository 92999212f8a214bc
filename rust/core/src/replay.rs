//! Running steps: from scratch, or from the first step whose centres changed. Where the scores of a step are known, they
//! are brought up to date with what its centres moved by; a row is read only if its cluster changes, and in the last
//! step not even then. Reads the model, changes nothing but known scores; the result is what `fit` and `last` commit.

use std::ops::Range;

use erase_core_kernel::{self as kernel, LANES};

use crate::assign::{Centres, distance};
use crate::flat::Flat;
use crate::ids::slot_number;
use crate::lloyd::{Cells, Change, Delta, Rule, Step, Summary};
use crate::population::{Block, Population, lanes};
use crate::scores::Scores;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// A step that was run, as a change of the step it replaces.
pub(crate) struct NewStep {
    pub(crate) summary: Summary,
    pub(crate) labels: Relabel,
}

/// Steps that were run.
pub(crate) struct Rerun {
    pub(crate) steps: Vec<NewStep>,
    pub(crate) work: u64,
}

/// The labels of a new step, by slot of the population.
pub(crate) enum Relabel {
    /// A label for every slot; slots of rows that go have any.
    All(Vec<u16>),
    /// The rows whose label is another than in the step that is replaced, and all rows that come.
    Some(Vec<Move>),
}

/// A row in another cluster than before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    slot: u32,
    /// None for a row that comes.
    from: Option<u16>,
    to: u16,
}

/// Steps to be run over one population.
pub(crate) struct Replay<'a> {
    pub(crate) population: &'a Population<'a>,
    pub(crate) rule: Rule,
    /// The rule of the model before the update.
    pub(crate) old_rule: Rule,
    /// The steps of the model before the update; none for a fit.
    pub(crate) old: &'a [Step],
    /// Rows that can be read at once.
    pub(crate) flat: &'a Flat,
    pub(crate) threads: Threads,
}

/// What the labels of a step are compared with.
#[derive(Clone, Copy)]
enum Reference<'a> {
    /// Nothing: no row has been looked at yet.
    None,
    /// The step before, which was run as a whole: its labels for all slots.
    Before(&'a [u16], &'a Summary),
    /// What the step has been so far: its labels for the slots of the model's rows.
    Old(&'a Step),
}

impl<'a> Reference<'a> {
    fn labels(self) -> &'a [u16] {
        match self {
            Self::None => &[],
            Self::Before(labels, _) => labels,
            Self::Old(step) => &step.labels,
        }
    }

    fn is_own(self) -> bool {
        matches!(self, Self::Old(_))
    }
}

/// Result of a pass over some rows: what any worker of any size reports, and what is merged by adding.
#[derive(Default)]
struct Pass {
    /// Labels of all slots, unless the reference is the step's own.
    labels: Vec<u16>,
    /// Rows that are in another cluster than in the reference, if there is one.
    moves: Vec<Move>,
    /// Sum of the rows' smallest squared distances.
    loss: i64,
    /// Multiply-adds spent.
    work: u64,
}

impl Pass {
    /// Takes in a block with its keys.
    fn visit(&mut self, block: &Block<'_>, keys: &[u32], reference: Reference<'_>) {
        let (mut best, mut labels) = ([0; LANES], [0; LANES]);
        kernel::nearest(keys, &mut best, &mut labels);
        let of_lanes = best.iter().enumerate().filter(|(lane, _)| block.live() >> lane & 1 == 1);
        self.loss += of_lanes.map(|(lane, &key)| i64::from(distance(key, block.squares[lane]))).sum::<i64>();
        if !reference.is_own() {
            self.labels.extend_from_slice(&labels[..block.squares.len()]);
        }
        if matches!(reference, Reference::None) {
            return;
        }
        let known = reference.labels();
        let known = &known[block.first.min(known.len())..(block.first + block.squares.len()).min(known.len())];
        let mut differs = 0;
        for (lane, (label, known)) in labels.iter().zip(known).enumerate() {
            differs |= u32::from(label != known) << lane;
        }
        // Lanes without a known label are new.
        differs |= u32::MAX << known.len();
        for lane in lanes(differs & block.live()) {
            let slot = slot_number(block.first + lane);
            self.moves.push(Move { slot, from: known.get(lane).copied(), to: labels[lane] });
        }
    }

    fn merge(mut self, other: Self) -> Self {
        if self.labels.is_empty() {
            self.labels = other.labels;
        } else {
            self.labels.extend(other.labels);
        }
        self.moves.extend(other.moves);
        self.loss += other.loss;
        self.work += other.work;
        self
    }
}

impl Replay<'_> {
    /// Runs the panel's steps from `first` to the last one. The first assigns to `centres`.
    pub(crate) fn run(&self, first: usize, mut centres: Centres, scores: &mut Scores) -> Rerun {
        let (mut steps, mut work): (Vec<NewStep>, _) = (Vec::new(), 0);
        for t in first..=self.rule.max_iter() {
            let reference = match (self.old.get(t), steps.last()) {
                (Some(old), _) => Reference::Old(old),
                (None, Some(NewStep { labels: Relabel::All(labels), summary })) => Reference::Before(labels, summary),
                (None, _) => Reference::None,
            };
            let (step, spent) = self.step(t, centres, reference, scores);
            work += spent;
            let before = self.old.get(t).zip(self.old.get(t + 1));
            let before = before.map(|(old, next)| (&old.summary, &next.summary.centres));
            centres = step.summary.next_centres(&self.rule, t, before);
            steps.push(step);
        }
        Rerun { steps, work }
    }

    fn step(&self, t: usize, centres: Centres, reference: Reference<'_>, scores: &mut Scores) -> (NewStep, u64) {
        let pass = match reference {
            // The centres are where they were: so are the labels, and the loss is that of the rows that stay.
            Reference::Old(old) if old.summary.centres == centres => {
                let mut pass =
                    self.compute(self.population.base_blocks()..self.population.blocks(), &centres, reference);
                pass.loss += old.summary.loss - self.loss_of_removed(old);
                pass
            }
            _ => self.pass(t, &centres, reference, scores),
        };
        let counts = self.counts(centres.len(), &pass, reference);
        let cells = (t < self.rule.max_iter()).then(|| self.cells(t, &centres, &counts, &pass, reference));
        let labels = if reference.is_own() { Relabel::Some(pass.moves) } else { Relabel::All(pass.labels) };
        (NewStep { summary: Summary { centres, counts, loss: pass.loss, cells }, labels }, pass.work)
    }

    /// What the rows that go have contributed to a step's loss.
    fn loss_of_removed(&self, old: &Step) -> i64 {
        let removed = self.population.removed().iter().zip(self.population.removed_rows());
        removed
            .map(|(&slot, row)| {
                let (label, square) = (old.labels[slot as usize], self.population.square(slot as usize));
                i64::from(old.summary.centres.distance(label.into(), row, square))
            })
            .sum()
    }

    /// Assigns all rows, from which no centres follow. Returns the step and the multiply-adds spent.
    pub(crate) fn run_result(&self, centres: Centres, scores: &mut Scores) -> (NewStep, u64) {
        let reference = self.old.first().map_or(Reference::None, Reference::Old);
        let pass = self.pass(1, &centres, reference, scores);
        let counts = self.counts(centres.len(), &pass, reference);
        let labels = if reference.is_own() { Relabel::Some(pass.moves) } else { Relabel::All(pass.labels) };
        (NewStep { summary: Summary { centres, counts, loss: pass.loss, cells: None }, labels }, pass.work)
    }

    /// How many rows each cluster has after a pass.
    fn counts(&self, clusters: usize, pass: &Pass, reference: Reference<'_>) -> Vec<i64> {
        let mut counts = match reference {
            Reference::None => vec![0; clusters],
            Reference::Before(_, summary) => summary.counts.clone(),
            Reference::Old(step) => step.summary.counts.clone(),
        };
        match reference {
            Reference::None => {
                for slot in (0..self.population.slots()).filter(|&slot| !self.population.is_removed(slot_number(slot)))
                {
                    counts[usize::from(pass.labels[slot])] += 1;
                }
            }
            Reference::Before(..) => (),
            Reference::Old(step) => {
                for &slot in self.population.removed() {
                    counts[usize::from(step.labels[slot as usize])] -= 1;
                }
            }
        }
        for moved in &pass.moves {
            if let Some(from) = moved.from {
                counts[usize::from(from)] -= 1;
            }
            counts[usize::from(moved.to)] += 1;
        }
        counts
    }

    /// The cells of a step after a pass: from those of the reference, by the rows that have moved, if there are any.
    fn cells(&self, t: usize, centres: &Centres, counts: &[i64], pass: &Pass, reference: Reference<'_>) -> Cells {
        match reference {
            Reference::Old(Step {
                summary: Summary { centres: old, counts: before, cells: Some(cells), .. },
                labels,
            }) => {
                let mut delta = self.delta_of_moves(counts.len(), &pass.moves);
                for (&slot, row) in self.population.removed().iter().zip(self.population.removed_rows()) {
                    delta.row(labels[slot as usize], row, -1);
                }
                let change = Change { delta: &delta, old: &self.old_rule, new: &self.rule, t };
                cells.moved(before, (old, centres), change)
            }
            Reference::Before(_, Summary { centres: old, counts: before, cells: Some(cells), .. }) => {
                let delta = self.delta_of_moves(counts.len(), &pass.moves);
                let mut sums = cells.sums(old, before, &self.rule);
                delta.add_to(&mut sums);
                Cells::new(centres, counts, &sums, &self.rule, t)
            }
            // Every step of the panel that another one follows has cells, so that there is no reference here.
            _ => self.cells_of_labels(t, centres, counts, &pass.labels),
        }
    }

    /// What rows that have moved do to the sums.
    fn delta_of_moves(&self, clusters: usize, moves: &[Move]) -> Delta {
        let parts = self.threads.map(moves.len(), READ_COST * self.population.dim(), |range| {
            let mut delta = Delta::new(clusters, self.population.dim());
            let mut row = self.population.blank_row();
            for moved in &moves[range] {
                let row = self.flat.row(moved.slot as usize).unwrap_or_else(|| {
                    self.population.read(moved.slot as usize, &mut row);
                    &row
                });
                if let Some(from) = moved.from {
                    delta.row(from, row, -1);
                }
                delta.row(moved.to, row, 1);
            }
            delta
        });
        Delta::merged(clusters, self.population.dim(), parts)
    }

    /// The cells of a step of known labels, by slot.
    fn cells_of_labels(&self, t: usize, centres: &Centres, counts: &[i64], labels: &[u16]) -> Cells {
        let (clusters, dim) = (counts.len(), self.population.dim());
        let parts = self.threads.map(self.population.blocks(), LANES * dim, |range| {
            let mut delta = Delta::new(clusters, dim);
            let mut row = self.population.blank_row();
            for block in range.map(|b| self.population.block(b)) {
                for lane in lanes(block.live()) {
                    kernel::read_lane(block.values, lane, &mut row);
                    delta.row(labels[block.first + lane], &row, 1);
                }
            }
            delta
        });
        let mut sums = Wiped::zeros(clusters * dim);
        Delta::merged(clusters, dim, parts).add_to(&mut sums);
        Cells::new(centres, counts, &sums, &self.rule, t)
    }

    /// One pass over all rows.
    fn pass(&self, t: usize, centres: &Centres, reference: Reference<'_>, scores: &mut Scores) -> Pass {
        let population = self.population;
        let (clusters, dim) = (centres.len(), population.dim());
        let mut known = scores.take(t, population.base(), clusters);
        let pass = if let Some(known) = &mut known {
            let (approach, keys) = known.approach(centres, dim);
            let cost = LANES * (approach.cost(dim) + KEY_COST * clusters);
            let parts = self.threads.map_mut(keys, clusters * LANES, cost, |start, keys| {
                let mut pass = Pass::default();
                let mut scratch = Wiped::zeros(approach.places.len() * LANES);
                for (b, keys) in (start..).zip(keys.chunks_exact_mut(clusters * LANES)) {
                    let block = population.block(b);
                    approach.run(block.values, keys, &mut scratch);
                    block.clear_dead(keys);
                    pass.work += (block.len() * approach.work(dim)) as u64;
                    pass.visit(&block, keys, reference);
                }
                pass
            });
            parts.into_iter().reduce(Pass::merge).unwrap_or_default()
        } else {
            self.compute(0..population.base_blocks(), centres, reference)
        };
        scores.put(t, known);
        pass.merge(self.compute(population.base_blocks()..population.blocks(), centres, reference))
    }

    /// A pass over some blocks for which no scores are known or kept.
    fn compute(&self, blocks: Range<usize>, centres: &Centres, reference: Reference<'_>) -> Pass {
        let (clusters, dim) = (centres.len(), self.population.dim());
        let parts = self.threads.map(blocks.len(), LANES * clusters * dim, |range| {
            let mut pass = Pass::default();
            let mut keys = Wiped::zeros(clusters * LANES);
            for b in range {
                let block = self.population.block(blocks.start + b);
                centres.keys(block.values, &mut keys);
                pass.work += (block.len() * clusters * dim) as u64;
                pass.visit(&block, &keys, reference);
            }
            pass
        });
        parts.into_iter().reduce(Pass::merge).unwrap_or_default()
    }
}

/// Reading a row that is somewhere in memory, against a multiply-add of one that streams in.
const READ_COST: usize = 8;
/// The same of a key that streams in.
const KEY_COST: usize = 16;

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
                labels.resize(slots, 0);
                let mut touched = vec![false; clusters];
                for Move { slot, from, to } in moves {
                    if let Some(from) = from {
                        touched[usize::from(from)] = true;
                        touched[usize::from(to)] = true;
                    }
                    labels[slot as usize] = to;
                }
                touched
            }
        }
    }
}
