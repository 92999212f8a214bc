//! Seeding: greedy k-means++, each trial an exponential race, in which a row's key depends on no other row but the seeds
//! before it. Run from scratch, or brought up to date after a change of the rows. Algorithm: docs/algorithm.md, section 5.

use erase_core_kernel::{self as kernel, LANES};
use zeroize::DefaultIsZeroes;

use crate::assign::{Centres, distance};
use crate::field::{self, Field};
use crate::ids::slot_number;
use crate::keyed::{Keyed, RaceDraw, RaceDraws, TRIALS_PER_DRAW};
use crate::population::{Block, Population, lanes};
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Trials in every round but the first.
pub(crate) const TRIALS: usize = 8;
/// Draws that they take.
const GROUPS: usize = TRIALS.div_ceil(TRIALS_PER_DRAW);

/// The row that won a trial, with the key it won by. A weight of 0 means that no row had a positive one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Proposal {
    slot: u32,
    energy: u64,
    weight: u32,
}

impl Proposal {
    fn new(draw: RaceDraw, slot: u32, weight: u32) -> Self {
        Self { slot, energy: draw.energy(), weight }
    }
}

/// One round: what each trial proposed, and its potential. Round 0 has one trial, without a potential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Round {
    trials: usize,
    proposals: [Proposal; TRIALS],
    potentials: [i64; TRIALS],
}

// Potentials are overwritten: their differences before and after a removal are distances of the row.
impl DefaultIsZeroes for Round {}

impl Round {
    fn blank(number: usize) -> Self {
        Self { trials: trials_of(number), ..Self::default() }
    }

    /// The trial whose row is chosen: of the smallest potential, ties to the first, if potentials change by so much.
    fn best(&self, changes: &[i64]) -> usize {
        (0..self.trials).min_by_key(|&trial| self.potentials[trial] + changes[trial]).unwrap_or(0)
    }

    fn chosen(&self) -> u32 {
        self.proposals[self.best(&[0; TRIALS])].slot
    }

    fn proposals(&self) -> &[Proposal] {
        &self.proposals[..self.trials]
    }
}

/// Number of trials of a round.
fn trials_of(round: usize) -> usize {
    if round == 0 { 1 } else { TRIALS }
}

/// Number of trials of the first rounds.
pub(crate) fn trials_before(round: usize) -> usize {
    (0..round).take(1).map(trials_of).sum::<usize>() + TRIALS * round.saturating_sub(1)
}

/// The outcome of all rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seeds {
    rounds: Wiped<Round>,
    /// The rows proposed, round by round: what every row that goes or comes is compared with. Derived.
    pub(crate) proposed: Centres,
}

impl Seeds {
    /// Number of rounds.
    pub(crate) fn len(&self) -> usize {
        self.rounds.len()
    }

    /// The rows chosen, by slot.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = u32> {
        self.rounds.iter().map(Round::chosen)
    }

    /// For each round the slots of the rows proposed, and their potentials.
    pub(crate) fn trials(&self) -> impl Iterator<Item = impl Iterator<Item = (u32, i64)>> {
        self.rounds.iter().map(|round| round.proposals().iter().map(|proposal| proposal.slot).zip(round.potentials))
    }

    /// A row has a new slot.
    pub(crate) fn rename(&mut self, from: u32, to: u32) {
        for proposal in self.rounds.iter_mut().flat_map(|round| &mut round.proposals) {
            if proposal.slot == from {
                proposal.slot = to;
            }
        }
    }

    fn shift(&mut self, changes: &[i64]) {
        for (round, changes) in self.rounds.iter_mut().zip(changes.chunks_exact(TRIALS)) {
            round.potentials.iter_mut().zip(changes).for_each(|(potential, change)| *potential += change);
        }
    }
}

/// What an update does to the seeds.
pub(crate) enum Reseeding {
    /// Every proposal stays; the potentials, round by round, change by so much.
    Followed(Wiped<i64>),
    /// Some trials were run again.
    Raced(Seeds),
}

impl Reseeding {
    /// Carries it out.
    pub(crate) fn apply(self, seeds: &mut Seeds) {
        match self {
            Self::Followed(changes) => seeds.shift(&changes),
            Self::Raced(new) => *seeds = new,
        }
    }
}

/// All rounds after an update.
pub(crate) struct Seeding {
    pub(crate) seeds: Reseeding,
    /// Whether another row is chosen in some round.
    pub(crate) changed: bool,
    /// Multiply-adds spent.
    pub(crate) work: u64,
}

/// The race over one population.
pub(crate) struct Race<'a> {
    pub(crate) population: &'a Population<'a>,
    pub(crate) keyed: Keyed,
    pub(crate) threads: Threads,
}

/// How the rows that go and come change the rounds, as long as every round chooses as before.
struct Following {
    /// Changes of the potentials, round by round.
    potentials: Wiped<i64>,
    /// Trials that have to be run again.
    broken: Vec<[bool; TRIALS]>,
}

impl Following {
    fn new(rounds: usize) -> Self {
        Self { potentials: Wiped::zeros(rounds * TRIALS), broken: vec![[false; TRIALS]; rounds] }
    }

    fn merge(mut self, other: &Self) -> Self {
        let sums = self.potentials.iter_mut().zip(&*other.potentials);
        sums.for_each(|(a, b)| *a += b);
        self.broken.iter_mut().flatten().zip(other.broken.iter().flatten()).for_each(|(a, b)| *a |= b);
        self
    }
}

impl Race<'_> {
    /// Runs all rounds.
    pub(crate) fn run(&self, clusters: usize, field: &mut Field) -> Seeding {
        self.start(field, clusters, None);
        let seeding = self.run_from(Wiped::with_capacity(clusters), &Seeds::default(), clusters, field);
        field.finish(self.population);
        seeding
    }

    fn start(&self, field: &mut Field, clusters: usize, proposed: Option<&Centres>) {
        let columns = if field.may_keep_all { trials_before(clusters) } else { TRIALS };
        field.start(self.population, columns, proposed);
    }

    /// Brings seeds up to date with the population: trials whose proposal goes, or is beaten by a row that comes, are
    /// run again; and once another row is chosen, so are all rounds behind.
    pub(crate) fn update(&self, seeds: &Seeds, field: &mut Field) -> Seeding {
        let Following { potentials, broken } = self.follow(seeds);
        let stays = |(round, changes): (&Round, &[i64])| round.best(changes) == round.best(&[0; TRIALS]);
        let is_whole = !broken.iter().flatten().any(|&broken| broken);
        let work = (self.population.changes() * seeds.proposed.len() * self.population.dim()) as u64;
        if is_whole && seeds.rounds.iter().zip(potentials.chunks_exact(TRIALS)).all(stays) {
            return Seeding { seeds: Reseeding::Followed(potentials), changed: false, work };
        }
        let mut updated = seeds.clone();
        updated.shift(&potentials);
        self.start(field, seeds.len(), Some(&seeds.proposed));
        let seeding = self.update_rounds(seeds, updated.rounds, &broken, field);
        field.finish(self.population);
        Seeding { work: seeding.work + work, ..seeding }
    }

    /// Runs the trials that are broken, and all rounds behind one that chooses another row.
    fn update_rounds(
        &self,
        seeds: &Seeds,
        mut updated: Wiped<Round>,
        broken: &[[bool; TRIALS]],
        field: &mut Field,
    ) -> Seeding {
        for (number, old) in seeds.rounds.iter().enumerate() {
            let trials: Vec<usize> = (0..old.trials).filter(|&trial| broken[number][trial]).collect();
            if !trials.is_empty() {
                let (before, rest) = updated.split_at_mut(number);
                self.run_trials(before, &mut rest[0], &trials, field);
            }
            if updated[number].chosen() != old.chosen() {
                updated.truncate(number + 1);
                return self.run_from(updated, seeds, seeds.len(), field);
            }
        }
        Seeding { seeds: Reseeding::Raced(self.seeds(updated, seeds)), changed: false, work: self.work(field) }
    }

    /// How the rows that go and come change the rounds. Valid up to the first round that chooses another row.
    fn follow(&self, seeds: &Seeds) -> Following {
        let cost = seeds.proposed.len() * self.population.dim();
        let parts = self.threads.map(self.population.changes(), cost, |range| {
            let mut part = Following::new(seeds.len());
            let mut keys = Wiped::<u32>::zeros(seeds.proposed.len());
            self.population.each_change(range, |slot, row, sign| {
                seeds.proposed.row_keys(row, &mut keys);
                let square = self.population.square(slot);
                for key in &mut *keys {
                    *key = distance(*key, square);
                }
                self.follow_row(&seeds.rounds, &keys, slot_number(slot), sign, &mut part);
            });
            part
        });
        let merged = parts.into_iter().reduce(|merged, part| merged.merge(&part));
        let mut following = merged.unwrap_or_else(|| Following::new(seeds.len()));
        if !self.population.removed().is_empty() {
            for (round, broken) in seeds.rounds.iter().zip(&mut following.broken) {
                for (proposal, broken) in round.proposals().iter().zip(broken) {
                    *broken |= self.population.is_removed(proposal.slot);
                }
            }
        }
        following
    }

    /// What one row, with its distances to all proposals, does.
    fn follow_row(&self, rounds: &[Round], distances: &[u32], slot: u32, sign: i64, part: &mut Following) {
        let mut weight = 1;
        let mut distances = distances;
        for (number, round) in rounds.iter().enumerate() {
            let (here, behind) = distances.split_at(round.trials);
            distances = behind;
            if sign > 0 {
                let row_key = self.population.row_key(slot);
                let groups = round.proposals().chunks(TRIALS_PER_DRAW);
                for (group, (proposals, broken)) in
                    groups.zip(part.broken[number].chunks_mut(TRIALS_PER_DRAW)).enumerate()
                {
                    let draws = self.keyed.race(slot_number(number), group, row_key);
                    for (trial, (&proposal, broken)) in proposals.iter().zip(broken).enumerate() {
                        let best = self.better(Some(proposal), draws.trial(trial), slot, weight, &[]);
                        *broken |= best != Some(proposal);
                    }
                }
            }
            let to_chosen = here[round.best(&[0; TRIALS])];
            if number == 0 {
                weight = to_chosen;
            } else {
                for (potential, &distance) in part.potentials[number * TRIALS..].iter_mut().zip(here) {
                    *potential += sign * i64::from(distance.min(weight));
                }
                weight = weight.min(to_chosen);
            }
        }
    }

    fn run_from(&self, mut rounds: Wiped<Round>, old: &Seeds, clusters: usize, field: &mut Field) -> Seeding {
        while rounds.len() < clusters {
            let mut round = Round::blank(rounds.len());
            let trials: Vec<usize> = (0..round.trials).collect();
            self.run_trials(&rounds, &mut round, &trials, field);
            rounds.extend_from_slice(&[round]);
        }
        Seeding { seeds: Reseeding::Raced(self.seeds(rounds, old)), changed: true, work: self.work(field) }
    }

    /// The outcome of rounds. Rows that the same trial proposed before are taken from there.
    fn seeds(&self, rounds: Wiped<Round>, old: &Seeds) -> Seeds {
        let mut before = old.rounds.iter().flat_map(Round::proposals).zip(0..);
        let mut proposed = Centres::with_capacity(self.population.dim(), trials_before(rounds.len()));
        let mut row = self.population.blank_row();
        for Proposal { slot, .. } in rounds.iter().flat_map(Round::proposals) {
            if let Some((_, place)) = before.next().filter(|(old, _)| old.slot == *slot) {
                proposed.push_from(&old.proposed, place);
            } else {
                self.population.read(*slot as usize, &mut row);
                proposed.push(&row);
            }
        }
        Seeds { rounds, proposed }
    }

    /// Runs some trials of the round after those before.
    fn run_trials(&self, before: &[Round], round: &mut Round, trials: &[usize], field: &mut Field) {
        let winners = self.propose(before, trials, field);
        for (&trial, winner) in trials.iter().zip(winners) {
            // There is one: fewer rounds are run than there are rows.
            if let Some(winner) = winner {
                round.proposals[trial] = winner;
            }
        }
        let first = if field.may_keep_all { trials_before(before.len()) } else { 0 };
        let wanted: Vec<(usize, u32)> =
            trials.iter().map(|&trial| (first + trial, round.proposals[trial].slot)).collect();
        field.learn(self.population, self.threads, &wanted);
        if !before.is_empty() {
            let columns: Vec<usize> = wanted.iter().map(|&(column, _)| column).collect();
            for (&trial, potential) in trials.iter().zip(self.potentials(&columns, field)) {
                round.potentials[trial] = potential;
            }
        }
    }

    /// One pass: brings the weights up to date and finds the winner of each trial.
    fn propose(&self, before: &[Round], trials: &[usize], field: &mut Field) -> Vec<Option<Proposal>> {
        let number = before.len();
        let seeds: Vec<u32> = before.iter().map(Round::chosen).collect();
        let (newest, is_first) = (&seeds[field.seeds..], field.seeds == 0);
        let known: Vec<usize> = newest.iter().filter_map(|&seed| field.column_of(seed)).collect();
        let unknown = newest.iter().copied().filter(|&seed| field.column_of(seed).is_none());
        let unknown = self.population.rows_of(unknown);
        field.distances += unknown.len() * self.population.len();
        field.seeds = number;
        let cost = LANES * (self.population.dim() * unknown.len() + LANES);
        let shards = field.map(self.threads, cost, |first, records| {
            let mut heat = Heat::new(self, slot_number(number), trials, &seeds);
            let mut scratch = Wiped::zeros(unknown.len() * LANES);
            for (b, (weights, columns)) in (first..).zip(records) {
                let block = self.population.block(b);
                if is_first {
                    weights.fill(u32::MAX);
                }
                for &column in &known {
                    kernel::least(weights, &columns[column * LANES..][..LANES]);
                }
                field::distances(&block, &unknown, &mut scratch);
                scratch.chunks_exact(LANES).for_each(|distances| kernel::least(weights, distances));
                heat.run(&block, if number == 0 { &[1; LANES] } else { weights });
            }
            heat.best
        });
        (0..trials.len())
            .map(|i| shards.iter().filter_map(|best| best[i]).reduce(|a, b| if self.beats(b, a) { b } else { a }))
            .collect()
    }

    /// One pass: the potentials of the proposals that some columns, ascending, are for.
    fn potentials(&self, columns: &[usize], field: &mut Field) -> Vec<i64> {
        let (Some(&first), Some(&last)) = (columns.first(), columns.last()) else { return Vec::new() };
        let shards = field.map(self.threads, LANES * LANES * columns.len(), |first_block, records| {
            let mut sums = Wiped::<i64>::zeros(last + 1 - first);
            for (b, (weights, distances)) in (first_block..).zip(records) {
                let distances = &distances[first * LANES..(last + 1) * LANES];
                kernel::least_sums(weights, distances, self.population.block(b).live(), &mut sums);
            }
            sums
        });
        let sum = |&column: &usize| shards.iter().map(|sums| sums[column - first]).sum();
        columns.iter().map(sum).collect()
    }

    /// The better of the best so far and a row; the row's logarithm is taken only if it can win.
    fn better(
        &self,
        best: Option<Proposal>,
        draw: RaceDraw,
        slot: u32,
        weight: u32,
        seeds: &[u32],
    ) -> Option<Proposal> {
        if let Some(best) = best {
            let hopeless = match (weight, best.weight) {
                (0, 0) => draw.lower_bound() > best.energy,
                (0, _) => true,
                (_, 0) => false,
                _ => product(draw.lower_bound(), best.weight) > product(best.energy, weight),
            };
            if hopeless {
                return Some(best);
            }
        }
        if weight == 0 && seeds.contains(&slot) {
            return best;
        }
        let candidate = Proposal::new(draw, slot, weight);
        match best {
            Some(best) if !self.beats(candidate, best) => Some(best),
            _ => Some(candidate),
        }
    }

    /// Whether `a` comes before `b` in a trial.
    fn beats(&self, a: Proposal, b: Proposal) -> bool {
        let order = match (a.weight, b.weight) {
            (0, 0) => a.energy.cmp(&b.energy),
            (0, _) => return false,
            (_, 0) => return true,
            _ => product(a.energy, b.weight).cmp(&product(b.energy, a.weight)),
        };
        order.then_with(|| self.population.id(a.slot).cmp(&self.population.id(b.slot))).is_lt()
    }

    fn work(&self, field: &Field) -> u64 {
        (field.distances * self.population.dim()) as u64
    }

    /// The chosen rows as centres, if seeds were run again; None if there are none.
    pub(crate) fn chosen_anew(&self, seeds: &Reseeding) -> Option<Centres> {
        match seeds {
            Reseeding::Raced(seeds) if seeds.len() > 0 => Some(self.population.rows_of(seeds.chosen())),
            _ => None,
        }
    }
}

/// One round's trials over some blocks.
struct Heat<'a> {
    race: &'a Race<'a>,
    round: u32,
    trials: &'a [usize],
    seeds: &'a [u32],
    best: Vec<Option<Proposal>>,
    /// By trial, whether it is run or not: above this quotient of energy and weight a row cannot win.
    limits: [[f64; TRIALS_PER_DRAW]; GROUPS],
}

impl<'a> Heat<'a> {
    fn new(race: &'a Race<'a>, round: u32, trials: &'a [usize], seeds: &'a [u32]) -> Self {
        let best = vec![None; trials.len()];
        // Nothing is looked for where no trial is run, anything where there is no best yet.
        let mut limits = [[-1.0; TRIALS_PER_DRAW]; GROUPS];
        for &trial in trials {
            limits[trial / TRIALS_PER_DRAW][trial % TRIALS_PER_DRAW] = f64::INFINITY;
        }
        Self { race, round, trials, seeds, best, limits }
    }

    fn run(&mut self, block: &Block<'_>, weights: &[u32; LANES]) {
        let population = self.race.population;
        let row_keys = population.row_keys(block);
        let mut words = [[0; LANES]; 4];
        let (mut drawn, mut candidates) = (usize::MAX, [0; TRIALS_PER_DRAW]);
        for (best, &trial) in self.best.iter_mut().zip(self.trials) {
            let (group, of_group) = (trial / TRIALS_PER_DRAW, trial % TRIALS_PER_DRAW);
            if group != drawn {
                words = self.race.keyed.race_words(self.round, group, &row_keys);
                candidates = kernel::candidates(&words, weights, self.limits[group]);
                drawn = group;
            }
            for lane in lanes(candidates[of_group] & block.live()) {
                let draw = RaceDraws::from_words(words.map(|words| words[lane])).trial(of_group);
                let slot = slot_number(block.first + lane);
                let better = self.race.better(*best, draw, slot, weights[lane], self.seeds);
                if better != *best {
                    *best = better;
                    self.limits[group][of_group] = better.map_or(f64::INFINITY, limit);
                }
            }
        }
    }
}

/// A bound of the quotient of energy and weight, rounded up; none as long as no row had a weight.
fn limit(best: Proposal) -> f64 {
    if best.weight == 0 {
        return f64::INFINITY;
    }
    #[expect(clippy::cast_precision_loss, reason = "rounded up behind, by far more")]
    let energy = best.energy as f64;
    energy / f64::from(best.weight) * (1.0 + 1e-12)
}

fn product(energy: u64, weight: u32) -> u128 {
    u128::from(energy) * u128::from(weight)
}
