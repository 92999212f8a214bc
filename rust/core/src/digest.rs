//! The digest: a hash of a model's whole state in time that does not depend on the number of rows. The rows enter it by
//! their sum (`row_sum.rs`), which is drawn up when a digest is first asked for and followed from then on. Algorithm:
//! docs/algorithm.md, section 9.

use crate::fit::Fit;
use crate::holding::Holding;
use crate::ids::{IdRef, IdTable};
use crate::lloyd::Step;
use crate::model::Model;
use crate::row_sum::{RowSum, update_entries, update_id};

const DIGEST_LEN: usize = 32;

/// A 256-bit hash of a model's whole state: equal for equal models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; DIGEST_LEN]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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

fn update_numbers(hasher: &mut blake3::Hasher, numbers: &[i64]) {
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
}
