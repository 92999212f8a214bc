//! Messages between the places that hold a model's rows: little-endian bytes with a checksum, and the hash of the parameters
//! that they belong to. A message that is damaged, of another kind or of another model is refused.

use std::io;

use zeroize::Zeroizing;

use crate::codec::{CHECKSUM_LEN, Reader, Writer};
use crate::error::Error;
use crate::params::ValidParams;

const MAGIC: &[u8; 8] = b"erasemsg";
const VERSION: u32 = 1;
const ORIGIN_LEN: usize = 32;
const HEAD_LEN: usize = MAGIC.len() + 4 + 1 + ORIGIN_LEN;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Params = 1,
    Rows = 2,
    Mark = 3,
    Frame = 4,
    Part = 5,
    State = 6,
}

/// The hash of a model's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin([u8; ORIGIN_LEN]);

impl Origin {
    fn of(head: &[u8]) -> Self {
        Self(*blake3::hash(head).as_bytes())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The parameters of a model whose rows lie in several places. Its panel has a bounded size, since it lies in one.
#[derive(Debug, Clone)]
pub struct SharedParams {
    pub(crate) params: ValidParams,
    pub(crate) origin: Origin,
}

impl SharedParams {
    /// Parameters for shards and their coordinator.
    ///
    /// # Errors
    ///
    /// [`Error::Parameter`] without a panel: all rows would be on it.
    pub fn new(params: ValidParams) -> Result<Self, Error> {
        if params.panel.is_none() {
            let bound =
                "a number of rows (not None) where the rows lie in several places: they would all have to be in one";
            return Err(Error::parameter("panel", &"None", bound));
        }
        Ok(Self { origin: Origin::of(&params.head()), params })
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &ValidParams {
        &self.params
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let head = self.params.head();
        seal(Kind::Params, self.origin, head.len(), |writer| writer.bytes(&head))
    }

    /// Reads the message.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] for bytes that are not one, [`Error::Parameter`] as [`SharedParams::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (origin, reader) = open(Kind::Params, bytes)?;
        let shared = Self::new(sound(ValidParams::from_head(reader.rest))?)?;
        if shared.origin == origin { Ok(shared) } else { Err(Error::message("its parameters are not those it names")) }
    }

    /// Opens a message that belongs to these parameters.
    pub(crate) fn open<'a>(&self, kind: Kind, bytes: &'a [u8]) -> Result<Reader<'a>, Error> {
        let (origin, reader) = open(kind, bytes)?;
        self.check(origin)?;
        Ok(reader)
    }

    /// Refuses what belongs to other parameters.
    pub(crate) fn check(&self, origin: Origin) -> Result<(), Error> {
        if origin == self.origin { Ok(()) } else { Err(foreign()) }
    }
}

/// The error for what belongs to another model.
pub(crate) fn foreign() -> Error {
    Error::message("it belongs to a model with other parameters")
}

/// A message with a body of at most so many bytes, for which there is room from the start: nothing is left behind.
pub(crate) fn seal(
    kind: Kind,
    origin: Origin,
    len: usize,
    write: impl FnOnce(&mut Writer<&mut Vec<u8>>) -> io::Result<()>,
) -> Zeroizing<Vec<u8>> {
    let capacity = HEAD_LEN + len + CHECKSUM_LEN;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut writer = Writer::new(&mut *bytes);
    // Writing to memory cannot fail.
    let _ = (|| {
        writer.bytes(MAGIC)?;
        writer.bytes(&VERSION.to_le_bytes())?;
        writer.bytes(&[kind as u8])?;
        writer.bytes(origin.as_bytes())?;
        write(&mut writer)?;
        writer.finish()
    })();
    debug_assert!(bytes.len() <= capacity);
    bytes
}

/// Checks a message, and returns what it belongs to and its body.
pub(crate) fn open(kind: Kind, bytes: &[u8]) -> Result<(Origin, Reader<'_>), Error> {
    if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != *MAGIC {
        return Err(Error::message("it does not begin with the magic bytes of one"));
    }
    let Some(end) = bytes.len().checked_sub(CHECKSUM_LEN).filter(|&end| end >= HEAD_LEN) else {
        return Err(Error::message("it is truncated"));
    };
    if blake3::hash(&bytes[..end]).as_bytes() != &bytes[end..] {
        return Err(Error::message("its checksum does not match: it is truncated or corrupted"));
    }
    let mut reader = Reader { rest: &bytes[MAGIC.len()..end] };
    let (version, got) = (sound(reader.u32())?, sound(reader.u8())?);
    if version != VERSION {
        let text = format!("its version is {version}, this software reads {VERSION}; use one version in all places");
        return Err(Error::message(text));
    }
    if got != kind as u8 {
        return Err(Error::message(format!("it is of kind {got}, not {} ({kind:?})", kind as u8)));
    }
    Ok((Origin(sound(reader.array())?), reader))
}

/// An error of reading bytes, as one of a message.
pub(crate) fn sound<T>(outcome: Result<T, Error>) -> Result<T, Error> {
    outcome.map_err(|error| match error {
        Error::Format(what) => Error::Message(what),
        error => error,
    })
}

/// Refuses what is left behind a body.
pub(crate) fn check_end(reader: &Reader<'_>) -> Result<(), Error> {
    if reader.rest.is_empty() {
        Ok(())
    } else {
        Err(Error::message(format!("{} bytes are left over at its end", reader.rest.len())))
    }
}
