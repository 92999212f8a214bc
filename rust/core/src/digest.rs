//! The digest: a hash of a model's whole state in time that does not depend on the number of rows. The rows enter it by a
//! sum of hashes (`LtHash16`), which is drawn up when a digest is first asked for and followed from then on. Algorithm:
//! docs/algorithm.md, section 9.

use crate::fit::Fit;
use crate::holding::Holding;
use crate::ids::{IdRef, IdTable, slot_number};
use crate::lloyd::Step;
use crate::model::Model;
use crate::rows::Rows;
use crate::threads::Threads;
use crate::wipe::Wiped;

const DIGEST_LEN: usize = 32;
/// Numbers of 16 bits in the sum.
const WIDTH: usize = 1024;
/// Bytes of it.
pub(crate) const SUM_LEN: usize = 2 * WIDTH;
/// Multiply-adds that the hash of a row costs about as much as.
const HASH_COST: usize = 1 << 14;

/// A 256-bit hash of a model's whole state: equal for equal models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; DIGEST_LEN]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash of a set of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowSum(Wiped<u16>);

impl RowSum {
    pub(crate) fn new() -> Self {
        Self(Wiped::zeros(WIDTH))
    }

    /// Takes a row in (`sign` 1) or out (-1).
    pub(crate) fn count(&mut self, rows: &Rows, slot: usize, id: IdRef<'_>, sign: i64) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"eraserow");
        hasher.update(&[u8::from(matches!(id, IdRef::Str(_)))]);
        update_id(&mut hasher, id);
        hasher.update(&rows.own_exponent(slot).to_le_bytes());
        update_entries(&mut hasher, &rows.kept(slot));
        let mut expanded = Wiped::<u8>::zeros(2 * WIDTH);
        let hash = hasher.finalize();
        blake3::Hasher::new().update(hash.as_bytes()).finalize_xof().fill(&mut expanded);
        for (sum, bytes) in self.0.iter_mut().zip(expanded.chunks_exact(2)) {
            let number = u16::from_le_bytes([bytes[0], bytes[1]]);
            *sum = if sign > 0 { sum.wrapping_add(number) } else { sum.wrapping_sub(number) };
        }
    }

    /// The hash of all rows.
    pub(crate) fn draw_up(rows: &Rows, ids: &IdTable, threads: Threads) -> Self {
        let parts = threads.map(rows.len(), HASH_COST, |range| {
            let mut sum = Self::new();
            for slot in range {
                sum.count(rows, slot, ids.get(slot_number(slot)), 1);
            }
            sum
        });
        parts.into_iter().reduce(|merged, part| merged.merge(&part)).unwrap_or_else(Self::new)
    }

    /// The hash of the rows of both.
    pub(crate) fn merge(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(a, b)| *a = a.wrapping_add(*b));
        self
    }

    /// Its bytes, in their order.
    pub(crate) fn to_bytes(&self) -> Wiped<u8> {
        let mut bytes = Wiped::zeros(SUM_LEN);
        for (pair, number) in bytes.chunks_exact_mut(2).zip(self.0.iter()) {
            pair.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; SUM_LEN]) -> Self {
        Self(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect::<Vec<_>>().into())
    }
}

/// All that a digest is of.
pub(crate) struct State<'a> {
    /// The model file's first part.
    pub(crate) head: &'a [u8],
    pub(crate) is_str: bool,
    pub(crate) rows: u64,
    pub(crate) sum: &'a RowSum,
    pub(crate) fit: &'a Fit,
    /// The ids of the panel's rows, by slot.
    pub(crate) ids: &'a IdTable,
    /// Counts and loss of all rows; none without rows.
    pub(crate) result: Option<(&'a [i64], i64)>,
}

impl State<'_> {
    /// The digest, with the id of each cluster's exemplar.
    pub(crate) fn digest<'i>(&self, exemplars: impl Iterator<Item = Option<IdRef<'i>>>) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.head);
        hasher.update(&[u8::from(self.is_str)]);
        hasher.update(&self.rows.to_le_bytes());
        hasher.update(&self.sum.to_bytes());
        for (number, trials) in self.fit.seeds.trials().enumerate() {
            for (slot, potential) in trials {
                update_id(&mut hasher, self.ids.get(slot));
                if number > 0 {
                    hasher.update(&potential.to_le_bytes());
                }
            }
        }
        let steps = &self.fit.steps;
        for Step { summary, .. } in steps {
            for j in 0..summary.centres.len() {
                update_entries(&mut hasher, summary.centres.centre(j));
            }
            update_numbers(&mut hasher, &summary.counts);
        }
        if let (Some(first), Some(last), Some((counts, loss))) = (steps.first(), steps.last(), self.result) {
            update_numbers(&mut hasher, &[first.summary.loss, last.summary.loss]);
            update_numbers(&mut hasher, counts);
            update_numbers(&mut hasher, &[loss]);
        }
        for exemplar in exemplars {
            hasher.update(&[u8::from(exemplar.is_some())]);
            if let Some(id) = exemplar {
                update_id(&mut hasher, id);
            }
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

impl Model {
    /// The hash of the state. The first one asked for takes a pass over the rows, the others do not.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let Holding { ids, last, .. } = &self.held;
        let state = State {
            head: &self.params.head(),
            is_str: ids.is_str(),
            rows: self.len() as u64,
            sum: self.held.sum(self.resources().threads),
            fit: &self.fit,
            ids,
            result: last.summary().map(|result| (&*result.counts, result.loss)),
        };
        state.digest(last.exemplars().map(|slot| slot.map(|slot| ids.get(slot))))
    }
}

fn update_id(hasher: &mut blake3::Hasher, id: IdRef<'_>) {
    match id {
        IdRef::Int(id) => hasher.update(&id.to_le_bytes()),
        IdRef::Str(id) => {
            hasher.update(&slot_number(id.len()).to_le_bytes());
            hasher.update(id.as_bytes())
        }
    };
}

fn update_numbers(hasher: &mut blake3::Hasher, numbers: &[i64]) {
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
}

fn update_entries(hasher: &mut blake3::Hasher, entries: &[i16]) {
    let mut bytes = Wiped::<u8>::zeros(2 * entries.len());
    for (pair, x) in bytes.chunks_exact_mut(2).zip(entries) {
        pair.copy_from_slice(&x.to_le_bytes());
    }
    hasher.update(&bytes);
}
