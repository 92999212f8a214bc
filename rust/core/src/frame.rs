//! What a shard has to know of the model to assign its rows: the centres, and the exponent that they and all rows are aligned
//! to.

use zeroize::Zeroizing;

use crate::assign::{Centres, MAX_CENTRE_SQUARE};
use crate::codec::MAX_EXPONENT;
use crate::error::Error;
use crate::fixed::{self, MIN_EXPONENT};
use crate::message::{self, Kind, Origin, SharedParams};
use crate::wipe::Wiped;

/// The centres of a model and the exponent of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub(crate) origin: Origin,
    pub(crate) exponent: i16,
    pub(crate) centres: Centres,
}

/// The hash of a frame: equal for equal frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameId(pub [u8; 32]);

impl Frame {
    /// Its hash.
    #[must_use]
    pub fn id(&self) -> FrameId {
        FrameId(*blake3::hash(&self.to_bytes()).as_bytes())
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (clusters, dim) = (self.centres.len(), self.centres.dim());
        message::seal(Kind::Frame, self.origin, 6 + 2 * clusters * dim, |writer| {
            writer.bytes(&self.exponent.to_le_bytes())?;
            writer.count(clusters)?;
            (0..clusters).try_for_each(|j| writer.entries(self.centres.centre(j)))
        })
    }

    /// Reads the message, which must belong to these parameters.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for bytes that are not one, or not of this model.
    pub fn from_bytes(shared: &SharedParams, bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = shared.open(Kind::Frame, bytes)?;
        let (params, dim) = (shared.params(), shared.params().dim());
        let exponent = i16::from_le_bytes(message::sound(reader.array())?);
        let clusters = message::sound(reader.u32())? as usize;
        // A centre may be a row.
        let entries = Wiped::from(message::sound(reader.list(clusters.saturating_mul(dim), i16::from_le_bytes))?);
        message::check_end(&reader)?;
        let is_within = |centre: &[i16]| fixed::square(centre) <= MAX_CENTRE_SQUARE && !centre.contains(&i16::MIN);
        let is_fixed = params.fixed_exponent().is_none_or(|(fixed, _)| exponent == fixed);
        let is_sound = clusters <= params.n_clusters as usize && entries.chunks_exact(dim).all(is_within);
        if !(is_sound && is_fixed && (MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent)) {
            return Err(Error::message("its centres are out of bounds"));
        }
        let mut centres = Centres::with_capacity(dim, clusters);
        entries.chunks_exact(dim).for_each(|centre| centres.push(centre));
        Ok(Self { origin: shared.origin, exponent, centres })
    }
}
