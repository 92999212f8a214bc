//! Seeding: k-means++ as an exponential race, in which a row's key depends on no other row but the seeds before it.
//! Algorithm: docs/algorithm.md, section 5.

use std::ops::Range;

use crate::assign::Centres;
use crate::ids::slot_number;
use crate::keyed::Keyed;
use crate::population::Population;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// The row that won a round, with the key it won by. A weight of 0 means that no row had a positive one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) slot: u32,
    energy: u64,
    weight: u32,
}

/// What a race does at each row: squared norm, and squared distance to the nearest seed so far.
#[derive(Clone, Copy, Default)]
struct Runner {
    square: u32,
    weight: u32,
}

/// The race over one population.
pub(crate) struct Race<'a> {
    pub(crate) population: &'a Population<'a>,
    pub(crate) keyed: Keyed,
    pub(crate) threads: Threads,
}

impl Race<'_> {
    /// Runs the rounds after those whose winners are given, up to `clusters` seeds. Returns all seeds, and the
    /// multiply-adds spent.
    pub(crate) fn run(&self, known: &[Seed], clusters: usize) -> (Vec<Seed>, u64) {
        let mut seeds = known.to_vec();
        let mut runners = vec![Runner::default(); self.population.slots()];
        // The first pass takes in all known seeds at once, every later one the seed of the round before.
        let mut newest = 0..known.len();
        let mut work = 0;
        while seeds.len() < clusters {
            work += ((newest.len() + usize::from(seeds.len() == known.len())) * self.population.len()) as u64;
            let Some(winner) = self.round(&seeds, newest, known.len(), &mut runners) else { break };
            newest = seeds.len()..seeds.len() + 1;
            seeds.push(winner);
        }
        (seeds, work * self.population.dim() as u64)
    }

    /// The keys by which known winners, round by round, have won.
    pub(crate) fn rerun(&self, slots: &[u32]) -> Vec<Seed> {
        let mut seeds: Vec<Seed> = slots.iter().map(|&slot| Seed { slot, energy: 0, weight: 0 }).collect();
        let centres = self.centres(&seeds);
        for (round, seed) in seeds.iter_mut().enumerate() {
            let row = self.population.row(seed.slot as usize);
            seed.energy = self.keyed.race(slot_number(round), self.population.row_key(seed.slot)).energy();
            seed.weight = (0..round).map(|before| centres.distance(before, row)).min().unwrap_or(1);
        }
        seeds
    }

    fn round(&self, seeds: &[Seed], newest: Range<usize>, known: usize, runners: &mut [Runner]) -> Option<Seed> {
        let round = slot_number(seeds.len());
        let first_pass = seeds.len() == known;
        let centres = self.centres(&seeds[newest.clone()]);
        let cost = self.population.dim() * newest.len().max(1);
        let winners = self.threads.map_mut(runners, cost, |start, runners| {
            let mut best: Option<Seed> = None;
            self.population.for_each(start..start + runners.len(), |slot, row| {
                let runner = &mut runners[slot - start];
                if first_pass {
                    *runner = Runner { square: square(row), weight: u32::MAX };
                }
                for j in 0..centres.len() {
                    runner.weight = runner.weight.min(centres.distance_of_norm(j, row, runner.square));
                }
                let weight = if round == 0 { 1 } else { runner.weight };
                best = self.better(best, slot_number(slot), weight, round, seeds);
            });
            best
        });
        winners.into_iter().flatten().reduce(|a, b| if self.beats(b, a) { b } else { a })
    }

    /// The better of the best so far and a row; the row's logarithm is taken only if it can win.
    fn better(&self, best: Option<Seed>, slot: u32, weight: u32, round: u32, seeds: &[Seed]) -> Option<Seed> {
        let draw = self.keyed.race(round, self.population.row_key(slot));
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
        if weight == 0 && seeds.iter().any(|seed| seed.slot == slot) {
            return best;
        }
        let candidate = Seed { slot, energy: draw.energy(), weight };
        match best {
            Some(best) if !self.beats(candidate, best) => Some(best),
            _ => Some(candidate),
        }
    }

    /// Whether `a` comes before `b` in its round.
    fn beats(&self, a: Seed, b: Seed) -> bool {
        let order = match (a.weight, b.weight) {
            (0, 0) => a.energy.cmp(&b.energy),
            (0, _) => return false,
            (_, 0) => return true,
            _ => product(a.energy, b.weight).cmp(&product(b.energy, a.weight)),
        };
        order.then_with(|| self.population.id(a.slot).cmp(&self.population.id(b.slot))).is_lt()
    }

    /// The rows of some seeds as centres.
    pub(crate) fn centres(&self, seeds: &[Seed]) -> Centres {
        let mut values = Wiped::with_capacity(seeds.len() * self.population.dim());
        for seed in seeds {
            values.extend_from_slice(self.population.row(seed.slot as usize));
        }
        Centres::new(values, self.population.dim())
    }

    /// The first round that the population decides otherwise, if there is one: its winner goes, or a row that comes
    /// beats it.
    pub(crate) fn first_changed(&self, seeds: &[Seed]) -> Option<usize> {
        let mut first = seeds.iter().position(|seed| self.population.is_removed(seed.slot)).unwrap_or(seeds.len());
        let centres = self.centres(&seeds[..first]);
        for slot in self.population.added() {
            let row = self.population.row(slot);
            let mut weight = 1;
            for (round, &winner) in seeds[..first].iter().enumerate() {
                let draw = self.keyed.race(slot_number(round), self.population.row_key(slot_number(slot)));
                let candidate = Seed { slot: slot_number(slot), energy: draw.energy(), weight };
                if self.beats(candidate, winner) {
                    first = round;
                    break;
                }
                let distance = centres.distance(round, row);
                weight = if round == 0 { distance } else { weight.min(distance) };
            }
        }
        (first < seeds.len()).then_some(first)
    }
}

fn product(energy: u64, weight: u32) -> u128 {
    u128::from(energy) * u128::from(weight)
}

fn square(row: &[i16]) -> u32 {
    crate::assign::dot(row, row).cast_unsigned()
}
