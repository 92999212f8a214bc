//! Known scores: for a step the keys of every row for every centre. Where they are known, a step is run again at the cost of
//! what its centres moved by, not of all distances. Derived, not part of the state, and within a budget.
//!
//! The keys of a step carry the centres that they are for. So they may lag behind the step's own centres, or be
//! ahead of them while an update is planned, and are never wrong: whoever wants keys for some centres has
//! them brought there by `approach`.

use erase_core_kernel::{LANES, Shift, padded};

use crate::assign::Centres;
use crate::blocks::Blocks;
use crate::seed::trials_before;
use crate::wipe::Wiped;

/// A multiply-add of a shift, against one of a whole product.
const SHIFT_COST: usize = 8;
/// A cache for a model this small is never worth saving on.
const FLOOR: usize = 32 << 20;

/// How much memory a model may use for what it could compute again. Not part of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheSize(
    /// Bytes; by default some 3/4 of a byte for each coordinate of a row and 10 bytes a row for each of at most ten iterations, and never less than 32 MiB.
    pub Option<usize>,
);

impl CacheSize {
    /// What may be kept of a model of so many `rows`, of which `panel` are on the panel.
    pub(crate) fn budget(self, rows: usize, panel: usize, dim: usize, clusters: usize, max_iter: usize) -> Budget {
        let keys = |rows: usize, columns: usize| {
            rows.next_multiple_of(LANES).saturating_mul(columns.saturating_mul(size_of::<u32>())).max(1)
        };
        let default = || rows.saturating_mul(3 * dim / 4 + 10 * max_iter.min(10)).max(FLOOR);
        let mut left = self.0.unwrap_or_else(default);
        let mut grant = |bytes: usize, most: usize| {
            let granted = (left / bytes).min(most);
            left -= granted * bytes;
            granted
        };
        let last = grant(keys(rows, clusters), 1);
        let steps = grant(keys(panel, clusters), max_iter);
        let field = grant(keys(panel, 1 + trials_before(clusters)), 1) == 1;
        let flat = grant((2 * panel * padded(dim)).max(1), 1) == 1;
        Budget { last, steps, field, flat }
    }
}

/// What is kept of that which could be computed again.
pub(crate) struct Budget {
    /// Whether the keys of the assignment of all rows are: the number of such steps.
    pub(crate) last: usize,
    /// Number of the panel's steps, from step 1 on, whose keys are. Step 0 assigns to the seeds, which hardly ever move.
    pub(crate) steps: usize,
    /// Whether all distances of the seeding are.
    pub(crate) field: bool,
    /// Whether the panel's rows are once more, one after the other.
    pub(crate) flat: bool,
}

/// The keys of one step, for the centres that stand beside them.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    centres: Centres,
    /// Block by block, for each centre a key for each lane.
    keys: Wiped<u32>,
}

/// How to get from the keys that are known to those for other centres.
pub(crate) struct Approach {
    /// Centres that have moved by a few coordinates.
    pub(crate) shifts: Vec<Shift>,
    /// Centres whose keys are computed, and where they belong.
    pub(crate) computed: Centres,
    pub(crate) places: Vec<usize>,
}

impl Approach {
    /// From nothing.
    pub(crate) fn all(centres: &Centres) -> Self {
        Self { shifts: Vec::new(), computed: centres.clone(), places: (0..centres.len()).collect() }
    }

    /// From one to the other. A shift costs about as much for each pair of coordinates as a whole product does.
    fn between(from: &Centres, to: &Centres, dim: usize) -> Self {
        let mut approach = Self { shifts: Vec::new(), computed: Centres::with_capacity(dim, 0), places: Vec::new() };
        for j in 0..to.len() {
            let (old, new) = (from.padded(j), to.padded(j));
            if old == new {
                continue;
            }
            if let Some(shift) = Shift::between(j, (old, from.bias(j)), (new, to.bias(j)), dim.div_ceil(4)) {
                approach.shifts.push(shift);
            } else {
                approach.computed.push(new);
                approach.places.push(j);
            }
        }
        approach
    }

    /// Brings the keys of a block to where the approach leads. `scratch` has room for the keys that are computed.
    pub(crate) fn run(&self, block: &[i16], keys: &mut [u32], scratch: &mut [u32]) {
        erase_core_kernel::shift_keys(block, &self.shifts, keys);
        if self.places.len() * LANES == keys.len() {
            return self.computed.keys(block, keys);
        }
        if !self.places.is_empty() {
            self.computed.keys(block, scratch);
            for (&j, computed) in self.places.iter().zip(scratch.chunks_exact(LANES)) {
                keys[j * LANES..(j + 1) * LANES].copy_from_slice(computed);
            }
        }
    }

    /// Multiply-adds for a row.
    pub(crate) fn work(&self, dim: usize) -> usize {
        self.places.len() * dim + self.shifted()
    }

    /// The time that it takes for a row, in multiply-adds of whole products. Few coordinates of many rows lie far apart
    /// in memory.
    pub(crate) fn cost(&self, dim: usize) -> usize {
        self.places.len() * dim + SHIFT_COST * self.shifted()
    }

    /// Multiply-adds of the shifts.
    fn shifted(&self) -> usize {
        self.shifts.iter().map(|shift| 2 * shift.pairs()).sum()
    }
}

impl Known {
    /// How to get to other centres, and the keys, to be brought there block by block.
    pub(crate) fn approach(&mut self, centres: &Centres, dim: usize) -> (Approach, &mut [u32]) {
        let approach = if self.centres.len() == centres.len() {
            Approach::between(&self.centres, centres, dim)
        } else {
            Approach::all(centres)
        };
        self.centres = centres.clone();
        (approach, &mut self.keys)
    }

    /// Whether the keys are those for some centres.
    pub(crate) fn are_for(&self, centres: &Centres) -> bool {
        self.centres == *centres
    }

    /// The keys of a block.
    pub(crate) fn of_block(&self, b: usize) -> &[u32] {
        let len = self.centres.len() * LANES;
        &self.keys[b * len..(b + 1) * len]
    }

    fn swap(&mut self, a: usize, b: usize) {
        let clusters = self.centres.len();
        let place = |slot: usize, j: usize| (slot / LANES * clusters + j) * LANES + slot % LANES;
        (0..clusters).for_each(|j| self.keys.swap(place(a, j), place(b, j)));
    }

    fn swap_remove(&mut self, slot: usize, last: usize) {
        let clusters = self.centres.len();
        let place = |slot: usize, j: usize| (slot / LANES * clusters + j) * LANES + slot % LANES;
        for j in 0..clusters {
            self.keys[place(slot, j)] = self.keys[place(last, j)];
            self.keys[place(last, j)] = 0;
        }
        self.keys.truncate(last.div_ceil(LANES) * clusters * LANES);
    }

    /// Takes in rows, after `len` that are known.
    fn extend(&mut self, len: usize, more: &Blocks) {
        let clusters = self.centres.len();
        self.keys.grow((len + more.len()).div_ceil(LANES) * clusters * LANES);
        let mut keys = Wiped::<u32>::zeros(clusters);
        let mut row = more.blank_row();
        for i in 0..more.len() {
            more.read(i, &mut row);
            self.centres.row_keys(&row, &mut keys);
            let slot = len + i;
            for (j, &key) in keys.iter().enumerate() {
                self.keys[(slot / LANES * clusters + j) * LANES + slot % LANES] = key;
            }
        }
    }
}

/// The known scores of all steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scores {
    /// Number of steps, from step 1 on, whose keys are to be kept.
    steps: usize,
    /// By step; none where they are not known, or not to be.
    known: Vec<Option<Known>>,
}

impl Scores {
    /// Sets how many steps' keys are to be kept.
    pub(crate) fn keep(&mut self, steps: usize) {
        self.steps = steps;
    }

    /// Takes all out, to be worked on.
    pub(crate) fn start(&mut self) -> Self {
        Self { steps: self.steps, known: std::mem::take(&mut self.known) }
    }

    /// Takes the keys of a step out, to be worked on, or blank ones for that; None if the step's are not to be kept.
    pub(crate) fn take(&mut self, t: usize, rows: usize, clusters: usize) -> Option<Known> {
        if t == 0 || t > self.steps {
            return None;
        }
        let taken = self.known.get_mut(t).and_then(Option::take);
        let len = rows.div_ceil(LANES) * clusters * LANES;
        taken
            .filter(|known| known.keys.len() == len)
            .or_else(|| Some(Known { centres: Centres::default(), keys: Wiped::zeros(len) }))
    }

    /// Puts a step's keys back.
    pub(crate) fn put(&mut self, t: usize, known: Option<Known>) {
        if self.known.len() <= t {
            self.known.resize(t + 1, None);
        }
        self.known[t] = known;
    }

    pub(crate) fn of_step(&self, t: usize) -> Option<&Known> {
        self.known.get(t)?.as_ref()
    }

    /// Two slots change places.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.known.iter_mut().flatten().for_each(|known| known.swap(a, b));
    }

    /// Takes out a slot; the last one moves there.
    pub(crate) fn swap_remove(&mut self, slot: usize, last: usize) {
        self.known.iter_mut().flatten().for_each(|known| known.swap_remove(slot, last));
    }

    /// Takes in rows, after `len` that are known.
    pub(crate) fn extend(&mut self, len: usize, more: &Blocks) {
        self.known.iter_mut().flatten().for_each(|known| known.extend(len, more));
    }
}
