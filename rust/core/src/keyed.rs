//! Keyed randomness: every draw is a function of the seed, a purpose, a round and a key, and of nothing that was drawn
//! before. Algorithm: docs/algorithm.md, section 4.
//!
//! The generator is Philox4x32-10 (Salmon et al., SC 2011): counter-based by design, published test vectors, no tables,
//! the same on every platform, and some 12 ns a draw, where a cryptographic hash of each row in each round would cost a
//! multiple of the distance it stands beside. What it does not do is resist someone who knows the seed and may choose
//! ids; neither would a stronger generator under a known seed.

use erase_core_kernel::{self as kernel, LANES};

/// Fractional bits of a race energy.
const ENERGY_BITS: u32 = 48;

/// The seed of a model and every draw from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyed {
    seed: u64,
}

#[derive(Clone, Copy)]
#[repr(u32)]
enum Purpose {
    Race = 1,
    Phase = 2,
    Sign = 3,
    Place = 4,
}

impl Keyed {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn draw(self, purpose: Purpose, a: u64, b: u32) -> [u32; 4] {
        philox(split(self.seed), [split(a)[0], split(a)[1], b, purpose as u32])
    }

    /// The draws of a row for the trials of a round that share them: number `3 * group` and the two after it.
    pub(crate) fn race(self, round: u32, group: usize, row_key: u64) -> RaceDraws {
        RaceDraws::from_words(self.draw(Purpose::Race, row_key, race_counter(round, group)))
    }

    /// The words that the draws of several rows are made of.
    pub(crate) fn race_words(self, round: u32, group: usize, row_keys: &[u64; LANES]) -> [[u32; LANES]; 4] {
        self.lanes(Purpose::Race, row_keys, race_counter(round, group))
    }

    /// The place of a row, by which it is on the panel or not.
    pub(crate) fn place(self, row_key: u64) -> u64 {
        let words = self.draw(Purpose::Place, row_key, 0);
        u64::from(words[0]) | u64::from(words[1]) << 32
    }

    /// The places of several rows.
    pub(crate) fn places(self, row_keys: &[u64; LANES]) -> [u64; LANES] {
        let [low, high, ..] = self.lanes(Purpose::Place, row_keys, 0);
        std::array::from_fn(|lane| u64::from(low[lane]) | u64::from(high[lane]) << 32)
    }

    fn lanes(self, purpose: Purpose, row_keys: &[u64; LANES], b: u32) -> [[u32; LANES]; 4] {
        let (low, high) = (row_keys.map(|key| split(key)[0]), row_keys.map(|key| split(key)[1]));
        kernel::philox(split(self.seed), &low, &high, b, purpose as u32)
    }

    /// `phi_t`: the lattice's phase for update `update`, one entry in `[0, pitch)` for each coordinate.
    pub(crate) fn phase(self, update: u32, pitch: u32, dim: usize) -> Vec<i32> {
        let mut phase = vec![0; dim.next_multiple_of(4 * LANES)];
        let [low, high] = split(self.seed);
        for (first, phase) in (0_u32..).step_by(LANES).zip(phase.chunks_exact_mut(4 * LANES)) {
            let blocks = std::array::from_fn(|lane| first + crate::ids::slot_number(lane));
            let words = kernel::philox([low, high], &blocks, &[0; LANES], update, Purpose::Phase as u32);
            for (i, phase) in phase.iter_mut().enumerate() {
                *phase = ((u64::from(words[i % 4][i / 4]) * u64::from(pitch)) >> 32) as i32;
            }
        }
        phase.truncate(dim);
        phase
    }

    /// Row `output` of the random sign matrix, as -1 and +1.
    pub(crate) fn signs(self, output: u64, inputs: usize) -> Vec<i16> {
        let mut signs = Vec::with_capacity(inputs + 127);
        for (block, _) in (0_u32..).zip((0..inputs).step_by(128)) {
            for word in self.draw(Purpose::Sign, output, block) {
                signs.extend((0..32).map(|bit| if word >> bit & 1 == 1 { -1_i16 } else { 1 }));
            }
        }
        signs.truncate(inputs);
        signs
    }
}

/// Trials that one draw of the generator is enough for, at 42 bits each.
pub(crate) const TRIALS_PER_DRAW: usize = 3;

/// The third word of a race's counter: rounds are below `2^16`.
fn race_counter(round: u32, group: usize) -> u32 {
    round | crate::ids::slot_number(group) << 17
}

/// One draw of the generator, for a group of trials.
#[derive(Clone, Copy)]
pub(crate) struct RaceDraws(u128);

impl RaceDraws {
    pub(crate) fn from_words(words: [u32; 4]) -> Self {
        Self(words.iter().rev().fold(0, |wide, &word| wide << 32 | u128::from(word)))
    }

    /// The draw of a trial, counted from the first of the group.
    pub(crate) fn trial(self, trial: usize) -> RaceDraw {
        #[expect(clippy::cast_possible_truncation, reason = "masked to 42 bits")]
        let bits = (self.0 >> (42 * trial)) as u64 & ((1 << 42) - 1);
        RaceDraw(bits << 22 | 1 << 21)
    }
}

/// The uniform variate behind `E_(r,l)(id)`, so that the logarithm is taken only where it can matter.
#[derive(Clone, Copy)]
pub(crate) struct RaceDraw(u64);

impl RaceDraw {
    /// A lower bound of `energy()` that costs a shift: `-log2(u) >= 1 - u`, and `energy` is never below the true value.
    pub(crate) fn lower_bound(self) -> u64 {
        self.0.wrapping_neg() >> (64 - ENERGY_BITS)
    }

    /// `64 - log2(u)` in units of `2^-48`, rounded up.
    pub(crate) fn energy(self) -> u64 {
        (64 << ENERGY_BITS) - log2(self.0)
    }
}

/// The base-2 logarithm of a non-zero integer in units of `2^-48`, rounded down, digit by digit: squaring a number
/// doubles its logarithm, and passing 2 gives the next binary digit.
fn log2(u: u64) -> u64 {
    let whole = u.ilog2();
    let mut v = u << (63 - whole);
    let mut digits = u64::from(whole);
    for _ in 0..ENERGY_BITS {
        let square = (u128::from(v) * u128::from(v)) >> 63;
        let carry = square >> 64;
        #[expect(clippy::cast_possible_truncation, reason = "shifted into 64 bits")]
        {
            v = (square >> carry) as u64;
            digits = digits << 1 | carry as u64;
        }
    }
    digits
}

/// Philox4x32 with ten rounds: one lane of the kernel's.
fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [low, high, third, fourth] = counter;
    kernel::philox(key, &[low; LANES], &[high; LANES], third, fourth).map(|words| words[0])
}

/// Low and high half.
fn split(v: u64) -> [u32; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    [v as u32, (v >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::load;

    #[test]
    fn philox_gives_its_published_vectors() {
        for case in load("philox").as_array().unwrap() {
            let words = |name: &str| -> Vec<u32> { serde_json::from_value(case[name].clone()).unwrap() };
            let (key, counter) = (words("key"), words("counter"));
            assert_eq!(philox([key[0], key[1]], counter.try_into().unwrap()).to_vec(), words("words"));
        }
    }

    #[test]
    fn race_energies_are_those_of_the_oracle() {
        for case in load("race")["race"].as_array().unwrap() {
            let number = |name: &str| case[name].as_u64().unwrap();
            let round = u32::try_from(number("round")).unwrap();
            let trial = usize::try_from(number("trial")).unwrap();
            let draws = Keyed::new(number("seed")).race(round, trial / TRIALS_PER_DRAW, number("row_key"));
            assert_eq!(draws.trial(trial % TRIALS_PER_DRAW).energy(), number("e"));
        }
    }

    #[test]
    fn places_are_those_of_the_oracle() {
        for case in load("race")["places"].as_array().unwrap() {
            let (seed, key) = (case["seed"].as_u64().unwrap(), case["row_key"].as_u64().unwrap());
            assert_eq!(Keyed::new(seed).place(key), case["place"].as_u64().unwrap());
            assert_eq!(Keyed::new(seed).places(&[key; LANES]), [case["place"].as_u64().unwrap(); LANES]);
        }
    }

    #[test]
    fn the_bound_never_exceeds_the_energy() {
        let keyed = Keyed::new(7);
        let extremes = [0, u128::MAX, 1, 1 << 41].map(|bits| RaceDraws(bits).trial(0));
        let drawn = (0..20_000).flat_map(|id| (0..3).map(move |trial| keyed.race(3, 0, id).trial(trial)));
        for draw in drawn.chain(extremes) {
            assert!(draw.lower_bound() <= draw.energy());
            assert!((1..=1 << 54).contains(&draw.energy()));
        }
    }
}
