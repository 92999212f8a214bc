//! The model file: versioned little-endian bytes, parameters and rows in the order of their ids. All else follows from them.
//! Format: docs/file-format.md.

use std::io::{self, Write};

use crate::error::Error;
use crate::fixed::{self, MIN_EXPONENT};
use crate::ids::{IdRef, Ids, slot_number};
use crate::model::Model;
use crate::params::{MAX_DIM, Params, Projection, Ratio, ValidParams};
use crate::project::Projector;
use crate::resources::Resources;
use crate::rows::Batch;
use crate::wipe::Wiped;

const MAGIC: &[u8; 8] = b"eraseqkm";
const VERSION: u32 = 2;
pub(crate) const CHECKSUM_LEN: usize = 32;
/// Added to the kind of projection where a center follows.
const HAS_CENTER: u8 = 4;
/// Largest exponent that finite data can have, a projection's matrix included.
pub(crate) const MAX_EXPONENT: i16 = 1040;

impl Model {
    /// Writes the model file. Equal models give equal bytes.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn encode(&self, out: impl Write) -> io::Result<()> {
        let mut writer = Writer::new(out);
        writer.model(self)?;
        writer.finish()
    }

    /// Length of the model file in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let ids: usize = (0..self.len()).map(|slot| self.held.ids.get(slot_number(slot)).encoded_len()).sum();
        self.params.head().len() + 9 + ids + 2 * self.len() * (1 + self.dim()) + CHECKSUM_LEN
    }

    /// Reads a model file, and computes the model of the rows in it.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for bytes that are not a whole, sound model file of this version.
    pub fn decode(bytes: &[u8], resources: impl Into<Resources>) -> Result<Self, Error> {
        let body = check_frame(bytes)?;
        let mut reader = Reader { rest: body };
        let (params, ids, batch) = reader.contents()?;
        if !reader.rest.is_empty() {
            return Err(Error::format(format!("{} bytes are left over at its end", reader.rest.len())));
        }
        let sound = |error: Error| Error::format(error.to_string());
        let model = Self::fit_batch(params, ids, batch, resources).map_err(sound)?;
        // What is not in canonical form would come out with other bytes.
        let mut rest = Compare { rest: bytes, equal: true };
        let written = model.encode(&mut rest).is_ok();
        if !(written && rest.equal && rest.rest.is_empty()) {
            return Err(Error::format("its contents are not in canonical form"));
        }
        Ok(model)
    }
}

impl ValidParams {
    /// The model file's first part: everything before the rows.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        // Writing to memory cannot fail.
        let _ = writer.head(self);
        writer.out
    }

    /// Reads what `head` writes.
    pub(crate) fn from_head(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { rest: check_beginning(bytes)? };
        let params = reader.params()?;
        // Only what `head` writes has its bytes.
        if reader.rest.is_empty() && params.head() == bytes {
            Ok(params)
        } else {
            Err(Error::format("its parameters are not in canonical form"))
        }
    }
}

/// Checks what surrounds the contents: magic, version, checksum. Returns the contents.
fn check_frame(bytes: &[u8]) -> Result<&[u8], Error> {
    check_beginning(bytes)?;
    let head = MAGIC.len() + 4;
    let Some(end) = bytes.len().checked_sub(CHECKSUM_LEN).filter(|&end| end >= head) else {
        return Err(Error::format("it is truncated"));
    };
    if blake3::hash(&bytes[..end]).as_bytes() != &bytes[end..] {
        return Err(Error::format("its checksum does not match: it is truncated or corrupted"));
    }
    Ok(&bytes[head..end])
}

/// Checks magic and version. Returns what comes after them.
fn check_beginning(bytes: &[u8]) -> Result<&[u8], Error> {
    if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != *MAGIC {
        return Err(Error::format("it does not begin with the magic bytes of one"));
    }
    let version = Reader { rest: &bytes[MAGIC.len()..] }.u32()?;
    if version != VERSION {
        let advice = if version > VERSION { "; a newer erase-core wrote it, update this one" } else { "" };
        return Err(Error::format(format!("its version is {version}, this software reads {VERSION}{advice}")));
    }
    Ok(&bytes[MAGIC.len() + 4..])
}

/// Compares what is written with what there is.
struct Compare<'a> {
    rest: &'a [u8],
    equal: bool,
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => self.rest = rest,
            None => self.equal = false,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes values, and hashes them for the checksum.
pub(crate) struct Writer<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, hasher: blake3::Hasher::new() }
    }

    /// Ends with the checksum of all that was written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let checksum = self.hasher.finalize();
        self.out.write_all(checksum.as_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    pub(crate) fn count(&mut self, count: usize) -> io::Result<()> {
        // Every count of the format is bounded by 2^31.
        self.bytes(&slot_number(count).to_le_bytes())
    }

    pub(crate) fn id(&mut self, id: IdRef<'_>) -> io::Result<()> {
        match id {
            IdRef::Int(id) => self.bytes(&id.to_le_bytes()),
            IdRef::Str(id) => {
                self.count(id.len())?;
                self.bytes(id.as_bytes())
            }
        }
    }

    pub(crate) fn entries(&mut self, entries: &[i16]) -> io::Result<()> {
        let mut bytes = Wiped::<u8>::zeros(2 * entries.len());
        for (pair, x) in bytes.chunks_exact_mut(2).zip(entries) {
            pair.copy_from_slice(&x.to_le_bytes());
        }
        self.bytes(&bytes)
    }

    fn model(&mut self, model: &Model) -> io::Result<()> {
        self.head(&model.params)?;
        let order = model.held.ids.ascending();
        self.bytes(&[u8::from(model.held.ids.is_str())])?;
        self.bytes(&(order.len() as u64).to_le_bytes())?;
        for &slot in &order {
            self.id(model.held.ids.get(slot))?;
        }
        for &slot in &order {
            self.bytes(&model.held.rows.own_exponent(slot as usize).to_le_bytes())?;
        }
        for &slot in &order {
            self.entries(&model.held.rows.kept(slot as usize))?;
        }
        Ok(())
    }

    fn head(&mut self, params: &ValidParams) -> io::Result<()> {
        self.bytes(MAGIC)?;
        self.bytes(&VERSION.to_le_bytes())?;
        self.params(params)
    }

    fn params(&mut self, params: &ValidParams) -> io::Result<()> {
        let ValidParams { epsilon, gamma, .. } = params;
        let panel = params.panel.unwrap_or(0);
        for word in [params.n_clusters, params.max_iter, panel, epsilon.num, epsilon.den, gamma.num, gamma.den] {
            self.bytes(&word.to_le_bytes())?;
        }
        self.bytes(&params.seed.to_le_bytes())?;
        self.bytes(&[u8::from(params.max_norm.is_some())])?;
        self.bytes(&params.max_norm.unwrap_or(0.0).to_le_bytes())?;
        let center = if params.center.is_some() { HAS_CENTER } else { 0 };
        match (params.projector.as_matrix(), params.projector.dim()) {
            (_, None) => self.bytes(&[center])?,
            (None, Some(m)) => {
                self.bytes(&[1 + center])?;
                self.count(m)?;
            }
            (Some((entries, exponent)), Some(m)) => {
                self.bytes(&[2 + center])?;
                self.count(m)?;
                self.count(params.n_features)?;
                self.bytes(&exponent.to_le_bytes())?;
                self.entries(entries)?;
            }
        }
        self.count(params.n_features)?;
        params.center.iter().flat_map(|center| center.iter()).try_for_each(|c| self.bytes(&c.to_le_bytes()))
    }
}

/// Takes values off the front of a file's contents. Nothing is allocated for more than what is really there.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| Error::format("it is truncated"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// `count` values of `N` bytes each.
    pub(crate) fn list<const N: usize, T>(
        &mut self,
        count: usize,
        value: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let len = count.checked_mul(N).ok_or_else(|| Error::format("it is truncated"))?;
        let chunks = self.take(len)?.chunks_exact(N);
        let array = |chunk: &[u8]| {
            let mut array = [0; N];
            array.copy_from_slice(chunk);
            array
        };
        Ok(chunks.map(|chunk| value(array(chunk))).collect())
    }

    fn params(&mut self) -> Result<ValidParams, Error> {
        let (n_clusters, max_iter, panel) = (self.u32()?, self.u32()?, self.u32()?);
        let panel = (panel > 0).then_some(panel);
        let epsilon = Ratio { num: self.u32()?, den: self.u32()? };
        let gamma = Ratio { num: self.u32()?, den: self.u32()? };
        let seed = self.u64()?;
        let (has_max_norm, max_norm) = (self.u8()?, f64::from_le_bytes(self.array()?));
        let max_norm = (has_max_norm != 0).then_some(max_norm);
        let kind = self.u8()?;
        let (kind, has_center) = (kind & !HAS_CENTER, kind & HAS_CENTER != 0);
        let m = if kind == 0 { 0 } else { self.u32()? as usize };
        let matrix = if kind == 2 {
            let d = self.u32()? as usize;
            let exponent = i32::from_le_bytes(self.array()?);
            let entries = self.list(m.saturating_mul(d), i16::from_le_bytes)?;
            Some((d, exponent, entries))
        } else {
            None
        };
        let n_features = self.u32()? as usize;
        let center = has_center.then(|| self.list(n_features, f64::from_le_bytes)).transpose()?;
        let projection = if kind == 1 { Projection::Signs(m) } else { Projection::None };
        let params = Params { n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed };
        let invalid = |what: Error| Error::format(format!("a parameter is out of bounds: {what}"));
        let valid = params.check(n_features).map_err(invalid)?;
        match (kind, matrix) {
            (0 | 1, _) => Ok(valid),
            (2, Some((d, exponent, entries))) => {
                let sound = d == n_features
                    && (1..=MAX_DIM).contains(&m)
                    && (i32::from(MIN_EXPONENT)..=MAX_EXPONENT.into()).contains(&exponent)
                    && entries.chunks_exact(d).all(|row| fixed::square(row) <= fixed::MAX_SQUARE);
                if !sound {
                    return Err(Error::format("its projection is out of bounds"));
                }
                params.check_with(n_features, Projector::from_entries(entries, d, exponent)).map_err(invalid)
            }
            _ => Err(Error::format(format!("its kind of projection is {kind}, this software knows 0, 1 and 2"))),
        }
    }

    pub(crate) fn ids(&mut self, kind: u8, n: usize) -> Result<Ids, Error> {
        let ids = match kind {
            0 => Ids::Int(self.list(n, i64::from_le_bytes)?),
            1 => {
                let mut ids = Vec::new();
                for _ in 0..n {
                    let len = self.u32()? as usize;
                    let text = std::str::from_utf8(self.take(len)?).map_err(|_| Error::format("an id is not UTF-8"))?;
                    ids.push(text.to_owned());
                }
                Ids::Str(ids)
            }
            _ => return Err(Error::format(format!("its kind of ids is {kind}, this software knows 0 and 1"))),
        };
        Ok(ids)
    }

    pub(crate) fn batch(&mut self, params: &ValidParams, n: usize) -> Result<Batch, Error> {
        let dim = params.dim();
        let exponents: Vec<i16> = self.list(n, i16::from_le_bytes)?;
        let mantissas = Wiped::from(self.list(n.saturating_mul(dim), i16::from_le_bytes)?);
        let fixed = params.fixed_exponent().map(|(exponent, _)| exponent);
        let sound = exponents
            .iter()
            .all(|&own| (MIN_EXPONENT..=MAX_EXPONENT).contains(&own) && fixed.is_none_or(|fixed| own == fixed));
        if !sound || mantissas.chunks_exact(dim).any(|row| fixed::square(row) > fixed::MAX_SQUARE) {
            return Err(Error::format("a row is out of bounds"));
        }
        Ok(Batch::from_rows(dim, exponents.into(), &mantissas))
    }

    fn contents(&mut self) -> Result<(ValidParams, Ids, Batch), Error> {
        let params = self.params()?;
        let kind = self.u8()?;
        let n = usize::try_from(self.u64()?).ok().filter(|&n| i32::try_from(n).is_ok());
        let n = n.ok_or_else(|| Error::format("it has more rows than are supported"))?;
        let ids = self.ids(kind, n)?;
        if (1..n).any(|i| ids.get(i - 1) >= ids.get(i)) {
            return Err(Error::format("its ids are not in ascending order"));
        }
        let batch = self.batch(&params, n)?;
        Ok((params, ids, batch))
    }
}
