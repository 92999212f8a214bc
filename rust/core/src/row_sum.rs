//! A hash of a set of rows that follows each row that comes and goes: a sum of hashes (`LtHash16`). Algorithm:
//! docs/algorithm.md, section 9.

use crate::ids::{IdRef, IdTable, slot_number};
use crate::rows::Rows;
use crate::threads::Threads;
use crate::wipe::Wiped;

/// Numbers of 16 bits in the sum.
const WIDTH: usize = 1024;
/// Bytes of it.
pub(crate) const SUM_LEN: usize = 2 * WIDTH;
/// Multiply-adds that the hash of a row costs about as much as.
const HASH_COST: usize = 1 << 14;

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

/// Takes an id into a hash.
pub(crate) fn update_id(hasher: &mut blake3::Hasher, id: IdRef<'_>) {
    match id {
        IdRef::Int(id) => hasher.update(&id.to_le_bytes()),
        IdRef::Str(id) => {
            hasher.update(&slot_number(id.len()).to_le_bytes());
            hasher.update(id.as_bytes())
        }
    };
}

/// Takes 16-bit numbers into a hash.
pub(crate) fn update_entries(hasher: &mut blake3::Hasher, entries: &[i16]) {
    let mut bytes = Wiped::<u8>::zeros(2 * entries.len());
    for (pair, x) in bytes.chunks_exact_mut(2).zip(entries) {
        pair.copy_from_slice(&x.to_le_bytes());
    }
    hasher.update(&bytes);
}
