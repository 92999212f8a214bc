//! Ids: integers or strings, one kind in a model; their order; the table that finds a row by its id.

use std::collections::HashSet;

use hashbrown::HashTable;
use zeroize::Zeroize;

use crate::error::Error;
use crate::wipe::Wiped;

/// One id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdRef<'a> {
    /// An integer, ordered as such.
    Int(i64),
    /// A string, ordered by its UTF-8 bytes (which is the order of its code points).
    Str(&'a str),
}

impl IdRef<'_> {
    /// Bytes of it in a model file.
    pub(crate) fn encoded_len(self) -> usize {
        match self {
            Self::Int(_) => size_of::<i64>(),
            Self::Str(id) => size_of::<u32>() + id.len(),
        }
    }

    /// The key of this id's draws (docs/algorithm.md, section 4).
    pub(crate) fn row_key(self) -> u64 {
        match self {
            Self::Int(id) => id.cast_unsigned(),
            Self::Str(id) => {
                let mut first = [0; 8];
                first.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..8]);
                u64::from_le_bytes(first)
            }
        }
    }
}

impl From<IdRef<'_>> for Ids {
    fn from(id: IdRef<'_>) -> Self {
        match id {
            IdRef::Int(id) => Self::Int(vec![id]),
            IdRef::Str(id) => Self::Str(vec![id.to_owned()]),
        }
    }
}

impl std::fmt::Display for IdRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(id) => write!(f, "{id}"),
            Self::Str(id) => write!(f, "{id:?}"),
        }
    }
}

/// One id by itself. It is overwritten when it is freed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OwnedId {
    Int(i64),
    Str(String),
}

impl OwnedId {
    pub(crate) fn as_ref(&self) -> IdRef<'_> {
        match self {
            Self::Int(id) => IdRef::Int(*id),
            Self::Str(id) => IdRef::Str(id),
        }
    }
}

impl From<IdRef<'_>> for OwnedId {
    fn from(id: IdRef<'_>) -> Self {
        match id {
            IdRef::Int(id) => Self::Int(id),
            IdRef::Str(id) => Self::Str(id.to_owned()),
        }
    }
}

impl Drop for OwnedId {
    fn drop(&mut self) {
        match self {
            Self::Int(id) => id.zeroize(),
            Self::Str(id) => id.zeroize(),
        }
    }
}

/// A list of ids of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Integers.
    Int(Vec<i64>),
    /// Strings.
    Str(Vec<String>),
}

impl<'a> FromIterator<IdRef<'a>> for Ids {
    /// Ids of one kind, that of the first; integers if there are none.
    fn from_iter<I: IntoIterator<Item = IdRef<'a>>>(ids: I) -> Self {
        let mut ids = ids.into_iter().peekable();
        if matches!(ids.peek(), Some(IdRef::Str(_))) {
            Self::Str(ids.filter_map(|id| if let IdRef::Str(id) = id { Some(id.to_owned()) } else { None }).collect())
        } else {
            Self::Int(ids.filter_map(|id| if let IdRef::Int(id) = id { Some(id) } else { None }).collect())
        }
    }
}

/// Ids that are overwritten when they are freed.
#[derive(Debug, Clone)]
pub(crate) struct WipedIds(pub(crate) Ids);

impl WipedIds {
    /// Takes in more, of the same kind.
    pub(crate) fn extend(&mut self, mut more: Self) -> Result<(), Error> {
        if self.0.is_empty() {
            std::mem::swap(&mut self.0, &mut more.0);
            return Ok(());
        }
        match (&mut self.0, &mut more.0) {
            (_, more) if more.is_empty() => (),
            (Ids::Int(ids), Ids::Int(more)) => {
                let needed = ids.len() + more.len();
                if needed > ids.capacity() {
                    // What is outgrown is overwritten.
                    let mut outgrown = std::mem::replace(ids, Vec::with_capacity(needed.max(2 * ids.capacity())));
                    ids.extend_from_slice(&outgrown);
                    outgrown.zeroize();
                }
                ids.extend_from_slice(more);
            }
            (Ids::Str(ids), Ids::Str(more)) => ids.append(more),
            (ids, more) => return Err(Error::IdKind { expected: ids.kind(), got: more.kind() }),
        }
        Ok(())
    }

    pub(crate) fn take(mut self) -> Ids {
        std::mem::replace(&mut self.0, Ids::Int(Vec::new()))
    }
}

impl Drop for WipedIds {
    fn drop(&mut self) {
        match &mut self.0 {
            Ids::Int(ids) => ids.zeroize(),
            Ids::Str(ids) => ids.zeroize(),
        }
    }
}

impl Ids {
    /// Number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Int(ids) => ids.len(),
            Self::Str(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id at a position. Panics beyond the end.
    #[must_use]
    pub fn get(&self, position: usize) -> IdRef<'_> {
        match self {
            Self::Int(ids) => IdRef::Int(ids[position]),
            Self::Str(ids) => IdRef::Str(&ids[position]),
        }
    }

    /// All of them in turn.
    pub fn iter(&self) -> impl Iterator<Item = IdRef<'_>> {
        (0..self.len()).map(|position| self.get(position))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "integers",
            Self::Str(_) => "strings",
        }
    }
}

/// The ids of a model's rows by slot, and the slot of each id.
#[derive(Debug, Clone)]
pub(crate) struct IdTable {
    column: Column,
    slots: HashTable<u32>,
}

#[derive(Debug, Clone)]
enum Column {
    Int(Wiped<i64>),
    /// With the row keys, which cost a hash each.
    Str(Vec<String>, Wiped<u64>),
}

impl IdTable {
    pub(crate) fn new() -> Self {
        Self { column: Column::Int(Wiped::with_capacity(0)), slots: HashTable::new() }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.column {
            Column::Int(ids) => ids.len(),
            Column::Str(ids, _) => ids.len(),
        }
    }

    pub(crate) fn get(&self, slot: u32) -> IdRef<'_> {
        match &self.column {
            Column::Int(ids) => IdRef::Int(ids[slot as usize]),
            Column::Str(ids, _) => IdRef::Str(&ids[slot as usize]),
        }
    }

    pub(crate) fn row_key(&self, slot: u32) -> u64 {
        match &self.column {
            Column::Int(ids) => ids[slot as usize].cast_unsigned(),
            Column::Str(_, keys) => keys[slot as usize],
        }
    }

    pub(crate) fn slot(&self, id: IdRef<'_>) -> Option<u32> {
        self.slots.find(spread(id.row_key()), |&slot| self.get(slot) == id).copied()
    }

    /// The kind of ids, if there are any: an empty table takes either.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        (self.len() > 0).then_some(match self.column {
            Column::Int(_) => "integers",
            Column::Str(..) => "strings",
        })
    }

    pub(crate) fn is_str(&self) -> bool {
        self.kind() == Some("strings")
    }

    /// The largest integer id present.
    pub(crate) fn largest_int(&self) -> Option<i64> {
        match &self.column {
            Column::Int(ids) => ids.iter().copied().max(),
            Column::Str(..) => None,
        }
    }

    /// Refuses ids of the other kind, ids that are present, and ids that occur twice.
    pub(crate) fn check_new(&self, ids: &Ids) -> Result<(), Error> {
        self.check_kind(ids)?;
        if let Some(present) = ids.iter().find(|&id| self.slot(id).is_some()) {
            return Err(Error::PresentId(present.to_string()));
        }
        let order = ascending(ids.len(), |position| ids.get(position as usize));
        match order.windows(2).find(|pair| ids.get(pair[0] as usize) == ids.get(pair[1] as usize)) {
            Some(pair) => Err(Error::DuplicateId(ids.get(pair[0] as usize).to_string())),
            None => Ok(()),
        }
    }

    /// The slots of these ids, ascending and each once.
    pub(crate) fn slots_of(&self, ids: &Ids) -> Result<Vec<u32>, Error> {
        if self.len() > 0 {
            self.check_kind(ids)?;
        }
        let mut slots = Vec::with_capacity(ids.len());
        let mut unknown = Vec::new();
        for id in ids.iter() {
            match self.slot(id) {
                Some(slot) => slots.push(slot),
                None => unknown.push(id.to_string()),
            }
        }
        if !unknown.is_empty() {
            let mut seen = HashSet::new();
            unknown.retain(|id| seen.insert(id.clone()));
            return Err(Error::UnknownIds(unknown));
        }
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    /// The slots of those of these ids that are here, ascending and each once.
    pub(crate) fn slots_here(&self, ids: &Ids) -> Vec<u32> {
        let mut slots: Vec<u32> = ids.iter().filter_map(|id| self.slot(id)).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The ids of some slots.
    pub(crate) fn ids_of(&self, slots: &[u32]) -> Ids {
        slots.iter().map(|&slot| self.get(slot)).collect()
    }

    pub(crate) fn check_kind(&self, ids: &Ids) -> Result<(), Error> {
        match self.kind() {
            Some(expected) if !ids.is_empty() && expected != ids.kind() => {
                Err(Error::IdKind { expected, got: ids.kind() })
            }
            _ => Ok(()),
        }
    }

    /// Takes in ids that passed `check_new`.
    pub(crate) fn extend(&mut self, ids: Ids) {
        if ids.is_empty() {
            return;
        }
        let first = self.len();
        match (&mut self.column, ids) {
            (Column::Int(old), Ids::Int(mut new)) => {
                old.extend_from_slice(&new);
                new.zeroize();
            }
            (Column::Str(old, keys), Ids::Str(new)) => {
                keys.extend_from_slice(&row_keys(&new));
                old.extend(new);
            }
            (column, Ids::Int(new)) => *column = Column::Int(new.into()),
            (column, Ids::Str(new)) => {
                let keys = row_keys(&new);
                *column = Column::Str(new, keys);
            }
        }
        for slot in first..self.len() {
            let slot = slot_number(slot);
            let hash = spread(self.row_key(slot));
            let Self { column, slots } = self;
            slots.insert_unique(hash, slot, |&other| spread(column.row_key(other)));
        }
    }

    /// Takes a slot out; the last slot moves there.
    pub(crate) fn swap_remove(&mut self, slot: u32) {
        let last = slot_number(self.len() - 1);
        let (hash, last_hash) = (spread(self.row_key(slot)), spread(self.row_key(last)));
        if let Ok(entry) = self.slots.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        if let Some(moved) = self.slots.find_mut(last_hash, |&other| other == last) {
            *moved = slot;
        }
        match &mut self.column {
            Column::Int(ids) => ids.swap_remove_record(slot as usize, 1),
            Column::Str(ids, keys) => {
                keys.swap_remove_record(slot as usize, 1);
                ids.swap_remove(slot as usize).zeroize();
            }
        }
        if last == 0 {
            // Which kind of ids there was is forgotten with the last one.
            *self = Self::new();
        }
    }

    /// Two slots change places.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        let hashes = [spread(self.row_key(a)), spread(self.row_key(b))];
        if a == b {
            return;
        }
        // Both are found before either is written: rows of one key share a hash.
        let places = [(hashes[0], a), (hashes[1], b)]
            .map(|(hash, slot)| self.slots.find_bucket_index(hash, |&other| other == slot));
        for (place, slot) in places.into_iter().zip([b, a]) {
            if let Some(entry) = place.and_then(|place| self.slots.get_bucket_mut(place)) {
                *entry = slot;
            }
        }
        match &mut self.column {
            Column::Int(ids) => ids.swap(a as usize, b as usize),
            Column::Str(ids, keys) => {
                ids.swap(a as usize, b as usize);
                keys.swap(a as usize, b as usize);
            }
        }
    }

    /// All slots in the order of their ids.
    pub(crate) fn ascending(&self) -> Vec<u32> {
        ascending(self.len(), |slot| self.get(slot))
    }

    /// All ids in ascending order.
    pub(crate) fn sorted(&self) -> Ids {
        let order = self.ascending();
        match &self.column {
            Column::Int(ids) => Ids::Int(order.iter().map(|&slot| ids[slot as usize]).collect()),
            Column::Str(ids, _) => Ids::Str(order.iter().map(|&slot| ids[slot as usize].clone()).collect()),
        }
    }
}

impl Column {
    fn row_key(&self, slot: u32) -> u64 {
        match self {
            Self::Int(ids) => ids[slot as usize].cast_unsigned(),
            Self::Str(_, keys) => keys[slot as usize],
        }
    }
}

impl Drop for IdTable {
    fn drop(&mut self) {
        if let Column::Str(ids, _) = &mut self.column {
            ids.zeroize();
        }
    }
}

fn row_keys(ids: &[String]) -> Wiped<u64> {
    ids.iter().map(|id| IdRef::Str(id).row_key()).collect::<Vec<_>>().into()
}

fn ascending<'a>(len: usize, id: impl Fn(u32) -> IdRef<'a>) -> Vec<u32> {
    let mut order: Vec<u32> = (0..slot_number(len)).collect();
    order.sort_unstable_by(|&a, &b| id(a).cmp(&id(b)));
    order
}

/// A position in a table of at most 2^31 rows.
pub(crate) fn slot_number(position: usize) -> u32 {
    debug_assert!(u32::try_from(position).is_ok());
    #[expect(clippy::cast_possible_truncation, reason = "tables hold at most 2^31 rows, checked on entry")]
    {
        position as u32
    }
}

/// Spreads a row key over all bits of a hash: ids are often consecutive.
fn spread(key: u64) -> u64 {
    let wide = u128::from(key ^ 0x9E37_79B9_7F4A_7C15) * u128::from(0xA076_1D64_78BD_642F_u64);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are folded together")]
    {
        (wide >> 64) as u64 ^ wide as u64
    }
}
