//! Seals and opens vectors, many at a time, and the content of larger files in place. The formats are documented in
//! docs/file-format.md. Vectors: AES-256-GCM under a key for each example, with the store and the slot as associated
//! data, over the id and the vector.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use numpy::{PyReadonlyArray2, PyReadwriteArray1, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use zeroize::{Zeroize, Zeroizing};

use crate::arguments::{Id, id};

const KEY: usize = 32;
const TAG: usize = 16;
/// The nonce of vectors. A key seals one vector, so it is used once.
const NONCE: [u8; 12] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Seals the vectors of examples in consecutive slots, each under its key.
///
/// `keys` has 32 bytes for each row. Returns the sealed vectors.
#[pyfunction]
pub fn seal_vectors<'py>(
    py: Python<'py>,
    context: &[u8],
    first: u64,
    keys: &[u8],
    ids: &Bound<'py, PyList>,
    vectors: PyReadonlyArray2<'py, f32>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let dim = vectors.shape()[1];
    let rows = vectors.as_slice()?.chunks_exact(dim.max(1));
    if keys.len() != KEY * ids.len() || vectors.shape()[0] != ids.len() {
        return Err(PyValueError::new_err("there must be as many keys and ids as vectors"));
    }
    let mut plain = Zeroizing::new(Vec::new());
    let mut sealed = Vec::with_capacity(ids.len());
    for (((slot, key), value), row) in (first..).zip(keys.chunks_exact(KEY)).zip(ids).zip(rows) {
        plain.zeroize();
        match id(&value)? {
            Some(Id::Int(number)) => {
                plain.push(0);
                plain.extend_from_slice(&number.to_le_bytes());
            }
            Some(Id::Str(text)) => {
                plain.push(1);
                let length = u32::try_from(text.len()).map_err(|_| PyValueError::new_err("an id is too long"))?;
                plain.extend_from_slice(&length.to_le_bytes());
                plain.extend_from_slice(text.as_bytes());
            }
            None => return Err(PyValueError::new_err("an id must be an integer or a string")),
        }
        for x in row {
            plain.extend_from_slice(&x.to_le_bytes());
        }
        let associated = associated(context, slot);
        let tag = cipher(key).encrypt_in_place_detached(&Nonce::from(NONCE), &associated, &mut plain);
        let tag = tag.map_err(|_| PyValueError::new_err("a vector is too long to be sealed"))?;
        plain.extend_from_slice(&tag);
        sealed.push(PyBytes::new(py, &plain));
    }
    Ok(sealed)
}

/// Opens vectors into the rows of `out`, each by its key and for its slot.
///
/// Returns the ids and None; or the index of the first one that does not open, or has another length.
#[pyfunction]
pub fn open_vectors(
    context: &[u8],
    slots: Vec<u64>,
    keys: &[u8],
    blobs: Vec<Bound<'_, PyBytes>>,
    mut out: PyReadwriteArray2<'_, f32>,
) -> PyResult<(Vec<Id>, Option<usize>)> {
    let dim = out.shape()[1];
    if keys.len() != KEY * slots.len() || blobs.len() != slots.len() || out.shape()[0] != slots.len() {
        return Err(PyValueError::new_err("there must be as many slots, keys, blobs and rows"));
    }
    let mut plain = Zeroizing::new(Vec::new());
    let mut ids = Vec::with_capacity(slots.len());
    let rows = out.as_slice_mut()?.chunks_exact_mut(dim.max(1));
    for (index, (((slot, key), blob), row)) in
        slots.into_iter().zip(keys.chunks_exact(KEY)).zip(&blobs).zip(rows).enumerate()
    {
        plain.zeroize();
        plain.extend_from_slice(blob.as_bytes());
        let Some(id) = open(&mut plain, key, &associated(context, slot), row) else {
            return Ok((ids, Some(index)));
        };
        ids.push(id);
    }
    Ok((ids, None))
}

/// Seals bytes in place: they are the ciphertext afterwards. Returns the tag.
///
/// A key must be used once with each nonce.
#[pyfunction]
pub fn seal_in_place<'py>(
    py: Python<'py>,
    key: &[u8],
    nonce: [u8; 12],
    associated: &[u8],
    mut content: PyReadwriteArray1<'py, u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    check_key(key)?;
    let bytes = content.as_slice_mut()?;
    let tag = py.detach(|| cipher(key).encrypt_in_place_detached(&Nonce::from(nonce), associated, bytes));
    let tag = tag.map_err(|_| PyValueError::new_err("the content is too long to be sealed"))?;
    Ok(PyBytes::new(py, &tag))
}

/// Opens bytes in place. Returns whether they open; if not, they are as they were.
#[pyfunction]
pub fn open_in_place(
    py: Python<'_>,
    key: &[u8],
    nonce: [u8; 12],
    associated: &[u8],
    mut content: PyReadwriteArray1<'_, u8>,
    tag: [u8; TAG],
) -> PyResult<bool> {
    check_key(key)?;
    let (bytes, tag) = (content.as_slice_mut()?, Tag::from(tag));
    let opened = py.detach(|| cipher(key).decrypt_in_place_detached(&Nonce::from(nonce), associated, bytes, &tag));
    Ok(opened.is_ok())
}

fn check_key(key: &[u8]) -> PyResult<()> {
    if key.len() == KEY { Ok(()) } else { Err(PyValueError::new_err("a key must have 32 bytes")) }
}

/// Opens one vector in place; none if it does not open, or is not what `seal_vectors` seals.
fn open(sealed: &mut Vec<u8>, key: &[u8], associated: &[u8], row: &mut [f32]) -> Option<Id> {
    let split = sealed.len().checked_sub(TAG)?;
    let tag = *Tag::from_slice(&sealed[split..]);
    sealed.truncate(split);
    cipher(key).decrypt_in_place_detached(&Nonce::from(NONCE), associated, sealed, &tag).ok()?;
    let (&kind, rest) = sealed.split_first()?;
    let (id, vector) = if kind == 0 {
        let (number, vector) = rest.split_first_chunk()?;
        (Id::Int(i64::from_le_bytes(*number)), vector)
    } else {
        let (count, rest) = rest.split_first_chunk()?;
        let (text, vector) = rest.split_at_checked(u32::from_le_bytes(*count) as usize)?;
        (Id::Str(str::from_utf8(text).ok()?.to_owned()), vector)
    };
    if vector.len() != 4 * row.len() {
        return None;
    }
    for (x, bytes) in row.iter_mut().zip(vector.chunks_exact(4)) {
        *x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Some(id)
}

fn cipher(key: &[u8]) -> Aes256Gcm {
    Aes256Gcm::new(aes_gcm::Key::<Aes256Gcm>::from_slice(key))
}

fn associated(context: &[u8], slot: u64) -> Vec<u8> {
    [context, &slot.to_le_bytes()].concat()
}
