//! Seeding: greedy k-means++, each trial an exponential race, in which a row's key depends on no other row but the seeds
//! before it. Run from scratch, or brought up to date after a change of the rows. Algorithm: docs/algorithm.md, section 5.

use std::ops::Range;

use crate::assign::Centres;
use crate::ids::slot_number;
use crate::keyed::{Keyed, RaceDraw};
use crate::population::Population;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Trials in every round but the first.
pub(crate) const TRIALS: usize = 3;

/// The row that won a trial, with the key it won by. A weight of 0 means that no row had a positive one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) slot: u32,
    energy: u64,
    weight: u32,
}

impl Proposal {
    fn new(draw: RaceDraw, slot: u32, weight: u32) -> Self {
        Self { slot, energy: draw.energy(), weight }
    }
}

/// One round: what each trial proposed, and its potential. Round 0 has one trial, without a potential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    trials: usize,
    proposals: [Proposal; TRIALS],
    potentials: [i64; TRIALS],
}

impl Round {
    /// The row that is chosen: of the smallest potential, ties to the first trial.
    pub(crate) fn chosen(&self) -> u32 {
        let best = (0..self.trials).min_by_key(|&trial| self.potentials[trial]).unwrap_or(0);
        self.proposals[best].slot
    }

    /// The rows proposed, and their potentials.
    pub(crate) fn trials(&self) -> impl Iterator<Item = (u32, i64)> {
        self.proposals.iter().map(|proposal| proposal.slot).zip(self.potentials).take(self.trials)
    }

    /// A row has a new slot.
    pub(crate) fn rename(&mut self, from: u32, to: u32) {
        for proposal in self.proposals.iter_mut().filter(|proposal| proposal.slot == from) {
            proposal.slot = to;
        }
    }
}

/// Number of trials of a round.
pub(crate) fn trials_of(round: usize) -> usize {
    if round == 0 { 1 } else { TRIALS }
}

/// All rounds after an update.
pub(crate) struct Seeding {
    pub(crate) rounds: Vec<Round>,
    /// Whether some trial was run again.
    pub(crate) raced: bool,
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

/// What a race knows at each row: its squared norm, and its squared distance to the nearest of the first `seeds` seeds.
/// Empty until it is needed.
#[derive(Default)]
struct Field {
    runners: Vec<Runner>,
    seeds: usize,
    distances: usize,
}

#[derive(Clone, Copy)]
struct Runner {
    square: u32,
    weight: u32,
}

impl Race<'_> {
    /// Runs all rounds.
    pub(crate) fn run(&self, clusters: usize) -> Seeding {
        self.run_from(Vec::with_capacity(clusters), clusters, &mut Field::default())
    }

    /// Brings rounds up to date with the population: trials whose proposal goes, or is beaten by a row that comes, are
    /// run again; and once another row is chosen, so are all rounds behind.
    pub(crate) fn update(&self, rounds: &[Round]) -> Seeding {
        let mut field = Field::default();
        let (mut updated, broken, distances) = self.follow(rounds);
        field.distances += distances;
        let mut raced = false;
        for round in 0..rounds.len() {
            let trials: Vec<usize> = (0..trials_of(round)).filter(|&trial| broken[round][trial]).collect();
            if !trials.is_empty() {
                raced = true;
                let (before, rest) = updated.split_at_mut(round);
                self.run_trials(before, &mut rest[0], &trials, &mut field);
            }
            if updated[round].chosen() != rounds[round].chosen() {
                updated.truncate(round + 1);
                return self.run_from(updated, rounds.len(), &mut field);
            }
        }
        Seeding { rounds: updated, raced, changed: false, work: self.work(&field) }
    }

    /// The rounds with the potentials as the rows that go and come leave them, and which trials have to be run again.
    /// Valid up to the first round that chooses another row.
    fn follow(&self, rounds: &[Round]) -> (Vec<Round>, Vec<[bool; TRIALS]>, usize) {
        let mut updated = rounds.to_vec();
        let mut broken: Vec<[bool; TRIALS]> = rounds
            .iter()
            .map(|round| round.proposals.map(|proposal| self.population.is_removed(proposal.slot)))
            .collect();
        let going = self.population.removed().iter().map(|&slot| (slot, -1));
        let coming = self.population.added().map(|slot| (slot_number(slot), 1));
        let mut distances = 0;
        for (slot, sign) in going.chain(coming) {
            let row = self.population.row(slot as usize);
            let square = square(row);
            let mut weight = 1;
            for (number, round) in rounds.iter().enumerate() {
                let mut to_chosen = u32::MAX;
                let proposals = round.proposals.iter().take(round.trials).zip(&mut broken[number]);
                for (trial, (&proposal, broken)) in proposals.enumerate() {
                    if sign > 0 && !*broken {
                        let candidate = Proposal::new(self.draw(number, slot, trial), slot, weight);
                        *broken = self.beats(candidate, proposal);
                    }
                    let distance = self.distance(proposal.slot, row, square);
                    distances += 1;
                    if number > 0 {
                        updated[number].potentials[trial] += sign * i64::from(distance.min(weight));
                    }
                    if proposal.slot == round.chosen() {
                        to_chosen = distance;
                    }
                }
                weight = if number == 0 { to_chosen } else { weight.min(to_chosen) };
            }
        }
        (updated, broken, distances)
    }

    fn run_from(&self, mut rounds: Vec<Round>, clusters: usize, field: &mut Field) -> Seeding {
        while rounds.len() < clusters {
            let nobody = Proposal { slot: 0, energy: 0, weight: 0 };
            let trials = trials_of(rounds.len());
            let mut round = Round { trials, proposals: [nobody; TRIALS], potentials: [0; TRIALS] };
            self.run_trials(&rounds, &mut round, &[0, 1, 2][..trials], field);
            rounds.push(round);
        }
        Seeding { rounds, raced: true, changed: true, work: self.work(field) }
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
        if !before.is_empty() {
            let slots: Vec<u32> = trials.iter().map(|&trial| round.proposals[trial].slot).collect();
            for (&trial, potential) in trials.iter().zip(self.potentials(&slots, field)) {
                round.potentials[trial] = potential;
            }
        }
    }

    /// One pass: brings the weights up to date and finds the winner of each trial.
    fn propose(&self, before: &[Round], trials: &[usize], field: &mut Field) -> Vec<Option<Proposal>> {
        let number = before.len();
        let seeds: Vec<u32> = before.iter().map(Round::chosen).collect();
        let newest = self.centres(&seeds[field.seeds..]);
        let is_fresh = field.runners.is_empty();
        if is_fresh {
            field.runners = vec![Runner { square: 0, weight: u32::MAX }; self.population.slots()];
        }
        field.distances += (newest.len() + usize::from(is_fresh)) * self.population.len();
        field.seeds = number;
        let cost = self.population.dim() * newest.len().max(1);
        let shards = self.threads.map_mut(&mut field.runners, cost, |start, runners| {
            let mut best = vec![None; trials.len()];
            self.population.for_each(start..start + runners.len(), |slot, row| {
                let runner = &mut runners[slot - start];
                if is_fresh {
                    runner.square = square(row);
                }
                for j in 0..newest.len() {
                    runner.weight = runner.weight.min(newest.distance_of_norm(j, row, runner.square));
                }
                let weight = if number == 0 { 1 } else { runner.weight };
                let draws = self.keyed.race(slot_number(number), self.population.row_key(slot_number(slot)));
                for (best, &trial) in best.iter_mut().zip(trials) {
                    *best = self.better(*best, draws.trial(trial), slot_number(slot), weight, &seeds);
                }
            });
            best
        });
        (0..trials.len())
            .map(|i| shards.iter().filter_map(|best| best[i]).reduce(|a, b| if self.beats(b, a) { b } else { a }))
            .collect()
    }

    /// One pass: the potential of each proposal.
    fn potentials(&self, slots: &[u32], field: &mut Field) -> Vec<i64> {
        let proposals = self.centres(slots);
        field.distances += slots.len() * self.population.len();
        let runners = &field.runners;
        let shards = self.threads.map(runners.len(), self.population.dim() * slots.len(), |range: Range<usize>| {
            let mut sums = vec![0_i64; slots.len()];
            self.population.for_each(range, |slot, row| {
                let Runner { square, weight } = runners[slot];
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum += i64::from(proposals.distance_of_norm(j, row, square).min(weight));
                }
            });
            sums
        });
        (0..slots.len()).map(|j| shards.iter().map(|sums| sums[j]).sum()).collect()
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

    fn draw(&self, round: usize, slot: u32, trial: usize) -> RaceDraw {
        self.keyed.race(slot_number(round), self.population.row_key(slot)).trial(trial)
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

    /// The chosen rows as centres.
    pub(crate) fn chosen(&self, rounds: &[Round]) -> Centres {
        self.centres(&rounds.iter().map(Round::chosen).collect::<Vec<_>>())
    }

    fn centres(&self, slots: &[u32]) -> Centres {
        let mut values = Wiped::with_capacity(slots.len() * self.population.dim());
        for &slot in slots {
            values.extend_from_slice(self.population.row(slot as usize));
        }
        Centres::new(values, self.population.dim())
    }

    /// Squared distance of a row, whose squared norm is known, to another by its slot.
    fn distance(&self, slot: u32, row: &[i16], square_norm: u32) -> u32 {
        let other = self.population.row(slot as usize);
        let product = crate::assign::dot(row, other).cast_unsigned().wrapping_mul(2);
        square(other).wrapping_add(square_norm).wrapping_sub(product)
    }

    /// The rounds of known proposals and potentials, with the keys by which the proposals have won.
    pub(crate) fn restore(&self, known: &[Vec<(u32, i64)>]) -> Vec<Round> {
        let mut rounds: Vec<Round> = Vec::with_capacity(known.len());
        for (number, trials) in known.iter().enumerate() {
            let seeds = self.chosen(&rounds);
            let mut proposals = [Proposal { slot: 0, energy: 0, weight: 1 }; TRIALS];
            let mut potentials = [0; TRIALS];
            for (trial, &(slot, potential)) in trials.iter().enumerate() {
                let row = self.population.row(slot as usize);
                let weight = (0..number).map(|seed| seeds.distance(seed, row)).min().unwrap_or(1);
                proposals[trial] = Proposal::new(self.draw(number, slot, trial), slot, weight);
                potentials[trial] = potential;
            }
            rounds.push(Round { trials: trials.len(), proposals, potentials });
        }
        rounds
    }
}

fn product(energy: u64, weight: u32) -> u128 {
    u128::from(energy) * u128::from(weight)
}

fn square(row: &[i16]) -> u32 {
    crate::assign::dot(row, row).cast_unsigned()
}
