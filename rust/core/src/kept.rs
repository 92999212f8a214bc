//! Rows on their way from one place to another, as they are kept: with their ids, each at its own exponent. And the mark up to
//! which rows are on the panel.

use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::holding::Holding;
use crate::ids::{IdRef, Ids, OwnedId, WipedIds};
use crate::message::{self, Kind, Origin, SharedParams};
use crate::rows::Batch;

/// Rows with their ids, as they are kept. They are overwritten when they are freed.
#[derive(Debug, Clone)]
pub struct KeptRows {
    pub(crate) origin: Origin,
    pub(crate) ids: WipedIds,
    pub(crate) batch: Batch,
}

impl KeptRows {
    /// Copies of some of the rows that are held.
    pub(crate) fn of(held: &Holding, origin: Origin, slots: &[u32]) -> Self {
        Self { origin, ids: WipedIds(held.ids.ids_of(slots)), batch: held.rows.copies(slots) }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Their ids.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids.0
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (n, dim) = (self.len(), self.batch.rows.dim());
        let ids: usize = self.ids().iter().map(IdRef::encoded_len).sum();
        message::seal(Kind::Rows, self.origin, 9 + ids + 2 * n * (1 + dim), |writer| {
            writer.bytes(&[u8::from(matches!(self.ids(), Ids::Str(_)))])?;
            writer.bytes(&(n as u64).to_le_bytes())?;
            self.ids().iter().try_for_each(|id| writer.id(id))?;
            writer.entries(&self.batch.exponents)?;
            let mut row = self.batch.rows.blank_row();
            (0..n).try_for_each(|number| {
                self.batch.rows.read(number, &mut row);
                writer.entries(&row[..dim])
            })
        })
    }

    /// Reads the message, which must belong to these parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for bytes that are not one, or not of this model.
    pub fn from_bytes(shared: &SharedParams, bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = shared.open(Kind::Rows, bytes)?;
        let (kind, n) = (message::sound(reader.u8())?, message::sound(reader.u64())?);
        let n = usize::try_from(n).ok().filter(|&n| i32::try_from(n).is_ok());
        let n = n.ok_or_else(|| Error::message("it has more rows than are supported"))?;
        let ids = WipedIds(message::sound(reader.ids(kind, n))?);
        let batch = message::sound(reader.batch(shared.params(), n))?;
        message::check_end(&reader)?;
        let mut seen = HashSet::with_capacity(n);
        if let Some(twice) = ids.0.iter().find(|&id| !seen.insert(id)) {
            return Err(Error::message(format!("id {twice} is in it twice")));
        }
        Ok(Self { origin: shared.origin, ids, batch })
    }
}

/// A row by its place: where the panel ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub(crate) place: u64,
    pub(crate) id: OwnedId,
}

impl Mark {
    /// In the order by which rows come onto the panel.
    pub(crate) fn key(&self) -> (u64, IdRef<'_>) {
        (self.place, self.id.as_ref())
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self, shared: &SharedParams) -> Zeroizing<Vec<u8>> {
        let id = self.id.as_ref();
        message::seal(Kind::Mark, shared.origin, 9 + id.encoded_len(), |writer| {
            writer.bytes(&self.place.to_le_bytes())?;
            writer.bytes(&[u8::from(matches!(id, IdRef::Str(_)))])?;
            writer.id(id)
        })
    }

    /// Reads the message, which must belong to these parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for bytes that are not one, or not of this model.
    pub fn from_bytes(shared: &SharedParams, bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = shared.open(Kind::Mark, bytes)?;
        let (place, kind) = (message::sound(reader.u64())?, message::sound(reader.u8())?);
        let ids = WipedIds(message::sound(reader.ids(kind, 1))?);
        message::check_end(&reader)?;
        Ok(Self { place, id: ids.0.get(0).into() })
    }
}
