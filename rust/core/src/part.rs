//! A shard's part of the model, and how parts merge: sums of integers, and the nearest of the nearest rows. Merging is
//! associative and commutative, and the part of an empty shard changes nothing, so that shards may report in any order and be
//! merged in groups.

use zeroize::{Zeroize, Zeroizing};

use crate::codec::{MAX_EXPONENT, Reader, Writer};
use crate::error::Error;
use crate::exemplar::MAX_NEAREST;
use crate::fixed::MIN_EXPONENT;
use crate::frame::FrameId;
use crate::ids::{IdRef, OwnedId, WipedIds};
use crate::message::{self, Kind, Origin};
use crate::params::MAX_CLUSTERS;
use crate::row_sum::{RowSum, SUM_LEN};

/// Most bytes of a part besides its clusters.
const FIXED_LEN: usize = 8 + 1 + 2 + 1 + SUM_LEN + 1;

/// What some of the rows contribute to the model. Its size does not depend on their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub(crate) origin: Origin,
    pub(crate) rows: u64,
    /// Whether ids are strings; none without rows.
    pub(crate) is_str: Option<bool>,
    pub(crate) exponent: i16,
    /// None if it was not asked for.
    pub(crate) sum: Option<RowSum>,
    pub(crate) assigned: Assigned,
}

/// What the rows of a part are assigned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// There are no rows, so that it does not matter.
    Any,
    /// All to one frame.
    To(Clusters),
    /// Some rows are not assigned, or not to the frame that others are.
    Mixed,
}

/// The clusters of some rows that are assigned to one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    pub(crate) frame: FrameId,
    pub(crate) counts: Vec<i64>,
    pub(crate) loss: i64,
    /// So many rows are in each list of `nearest`, or all of fewer.
    pub(crate) depth: usize,
    pub(crate) nearest: Vec<Vec<Near>>,
}

/// One of the rows nearest to a centre: they are ordered by distance, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Near {
    pub(crate) distance: u32,
    pub(crate) id: OwnedId,
}

impl Drop for Near {
    fn drop(&mut self) {
        self.distance.zeroize();
    }
}

impl Part {
    /// That of no rows.
    pub(crate) fn empty(origin: Origin, exponent: i16) -> Self {
        Self { origin, rows: 0, is_str: None, exponent, sum: Some(RowSum::new()), assigned: Assigned::Any }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The largest exponent of the rows, or the one that `max_norm` fixes; none without rows or `max_norm`.
    #[must_use]
    pub fn exponent(&self) -> Option<i16> {
        (self.rows > 0 || self.exponent > MIN_EXPONENT).then_some(self.exponent)
    }

    /// The hash of the set of the rows, 2048 bytes, if it was asked for of all shards.
    #[must_use]
    pub fn row_hash(&self) -> Option<Vec<u8>> {
        self.sum.as_ref().map(|sum| sum.to_bytes().to_vec())
    }

    /// What the rows are assigned to, if that is the same for all.
    #[must_use]
    pub fn clusters(&self) -> Option<&Clusters> {
        match &self.assigned {
            Assigned::To(clusters) => Some(clusters),
            Assigned::Any | Assigned::Mixed => None,
        }
    }

    /// The part of the rows of both.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for parts of models with different parameters, [`Error::IdKind`] and [`Error::DuplicateId`] for ids
    /// that cannot be in one model, [`Error::Parts`] if a sum leaves the range of 63 bits.
    pub fn merge(self, other: Self) -> Result<Self, Error> {
        if self.origin != other.origin {
            return Err(message::foreign());
        }
        let kind = |is_str: bool| if is_str { "strings" } else { "integers" };
        if let (Some(own), Some(others)) = (self.is_str, other.is_str)
            && own != others
        {
            return Err(Error::IdKind { expected: kind(own), got: kind(others) });
        }
        let assigned = match (self.assigned, other.assigned) {
            (Assigned::Any, assigned) | (assigned, Assigned::Any) => assigned,
            (Assigned::To(own), Assigned::To(others)) if own.frame == others.frame => Assigned::To(own.merge(others)?),
            _ => Assigned::Mixed,
        };
        Ok(Self {
            origin: self.origin,
            rows: self.rows.checked_add(other.rows).ok_or_else(too_many)?,
            is_str: self.is_str.or(other.is_str),
            exponent: self.exponent.max(other.exponent),
            sum: self.sum.zip(other.sum).map(|(sum, other)| sum.merge(&other)),
            assigned,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let len = FIXED_LEN + self.clusters().map_or(0, Clusters::encoded_len);
        message::seal(Kind::Part, self.origin, len, |writer| {
            writer.bytes(&self.rows.to_le_bytes())?;
            writer.bytes(&[self.is_str.map_or(0, |is_str| 1 + u8::from(is_str))])?;
            writer.bytes(&self.exponent.to_le_bytes())?;
            writer.bytes(&[u8::from(self.sum.is_some())])?;
            self.sum.iter().try_for_each(|sum| writer.bytes(&sum.to_bytes()))?;
            match &self.assigned {
                Assigned::Any => writer.bytes(&[0]),
                Assigned::To(clusters) => {
                    writer.bytes(&[1])?;
                    clusters.write(writer)
                }
                Assigned::Mixed => writer.bytes(&[2]),
            }
        })
    }

    /// Reads the message.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for bytes that are not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (origin, mut reader) = message::open(Kind::Part, bytes)?;
        let (rows, kind) = (message::sound(reader.u64())?, message::sound(reader.u8())?);
        let exponent = i16::from_le_bytes(message::sound(reader.array())?);
        let sum = match message::sound(reader.u8())? {
            0 => None,
            1 => Some(RowSum::from_bytes(&message::sound(reader.array::<SUM_LEN>())?)),
            _ => return Err(Error::message("it does not say whether it has the hash of its rows")),
        };
        let is_str = [None, Some(false), Some(true)].get(usize::from(kind)).copied();
        let is_str = is_str.ok_or_else(|| Error::message(format!("its kind of ids is {kind}")))?;
        let assigned = match message::sound(reader.u8())? {
            0 if rows == 0 => Assigned::Any,
            1 => Assigned::To(Clusters::read(&mut reader, rows, is_str == Some(true))?),
            2 => Assigned::Mixed,
            _ => return Err(Error::message("it does not say what its rows are assigned to")),
        };
        message::check_end(&reader)?;
        if is_str.is_some() != (rows > 0) || !(MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
            return Err(Error::message("its figures do not go together"));
        }
        Ok(Self { origin, rows, is_str, exponent, sum, assigned })
    }
}

impl Clusters {
    /// The frame that the rows are assigned to.
    #[must_use]
    pub fn frame(&self) -> FrameId {
        self.frame
    }

    /// Number of rows of each cluster.
    #[must_use]
    pub fn counts(&self) -> &[i64] {
        &self.counts
    }

    /// Sum of the squared distances, in units of the fixed point.
    #[must_use]
    pub fn loss(&self) -> i64 {
        self.loss
    }

    /// For each cluster the squared distances and the ids of the rows nearest to its centre, nearest first.
    pub fn nearest(&self) -> impl Iterator<Item = impl Iterator<Item = (u32, IdRef<'_>)>> {
        self.nearest.iter().map(|list| list.iter().map(|near| (near.distance, near.id.as_ref())))
    }

    fn merge(self, other: Self) -> Result<Self, Error> {
        let depth = self.depth.min(other.depth);
        let counts = self.counts.iter().zip(&other.counts).map(|(a, b)| a.checked_add(*b).ok_or_else(too_many));
        let lists = self.nearest.into_iter().zip(other.nearest).map(|(mut list, more)| {
            list.extend(more);
            list.sort_unstable();
            if let Some(pair) = list.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(Error::DuplicateId(pair[0].id.as_ref().to_string()));
            }
            list.truncate(depth);
            Ok(list)
        });
        Ok(Self {
            frame: self.frame,
            counts: counts.collect::<Result<_, _>>()?,
            loss: self.loss.checked_add(other.loss).ok_or_else(too_many)?,
            depth,
            nearest: lists.collect::<Result<_, _>>()?,
        })
    }

    fn encoded_len(&self) -> usize {
        let near = self.nearest.iter().flatten().map(|near| 4 + near.id.as_ref().encoded_len()).sum::<usize>();
        32 + 4 + 12 * self.counts.len() + 8 + 4 + near
    }

    fn write(&self, writer: &mut Writer<&mut Vec<u8>>) -> std::io::Result<()> {
        writer.bytes(&self.frame.0)?;
        writer.count(self.counts.len())?;
        self.counts.iter().try_for_each(|count| writer.bytes(&count.to_le_bytes()))?;
        writer.bytes(&self.loss.to_le_bytes())?;
        writer.count(self.depth)?;
        self.nearest.iter().try_for_each(|list| {
            writer.count(list.len())?;
            list.iter().try_for_each(|near| {
                writer.bytes(&near.distance.to_le_bytes())?;
                writer.id(near.id.as_ref())
            })
        })
    }

    /// Reads the clusters of so many rows.
    fn read(reader: &mut Reader<'_>, rows: u64, is_str: bool) -> Result<Self, Error> {
        let frame = FrameId(message::sound(reader.array())?);
        let clusters = message::sound(reader.u32())? as usize;
        let counts = message::sound(reader.list(clusters, i64::from_le_bytes))?;
        let loss = i64::from_le_bytes(message::sound(reader.array())?);
        let depth = message::sound(reader.u32())? as usize;
        let held = counts.iter().try_fold(0_i64, |sum, &count| if count < 0 { None } else { sum.checked_add(count) });
        let is_sound = clusters <= MAX_CLUSTERS as usize
            && loss >= 0
            && (1..=MAX_NEAREST).contains(&depth)
            && held.is_some_and(|held| held.unsigned_abs() == rows);
        if !is_sound {
            return Err(Error::message("its figures do not go together"));
        }
        let mut nearest = Vec::new();
        for &count in &counts {
            let len = message::sound(reader.u32())? as usize;
            if len != usize::try_from(count).unwrap_or(usize::MAX).min(depth) {
                return Err(Error::message("a list of nearest rows is not as long as it says"));
            }
            let mut list: Vec<Near> = Vec::with_capacity(len);
            for _ in 0..len {
                let distance = message::sound(reader.u32())?;
                let ids = WipedIds(message::sound(reader.ids(u8::from(is_str), 1))?);
                let near = Near { distance, id: ids.0.get(0).into() };
                if list.last().is_some_and(|last| *last >= near) {
                    return Err(Error::message("a list of nearest rows is not in order"));
                }
                list.push(near);
            }
            nearest.push(list);
        }
        Ok(Self { frame, counts, loss, depth, nearest })
    }
}

fn too_many() -> Error {
    Error::parts("the rows are too many: their number, or the sum of their squared distances, reaches 2^63")
}
