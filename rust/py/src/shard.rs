//! A shard as a Python object. Messages are bytes.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

use erase_core::{Batch, Error, Frame, Ids, KeptRows, Mark, SharedParams};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::arguments::{Id, Rows, ids, resources};
use crate::errors::to_python;
use crate::guarded::Guarded;
use crate::model::ids_object;

/// The rows that one place holds. See `_core.pyi`.
#[pyclass(frozen, module = "erase_core._core")]
pub struct Shard {
    inner: Guarded<erase_core::Shard>,
}

/// Ids as a list.
pub(crate) fn id_list(ids: &Ids) -> Vec<Id> {
    ids.iter().map(Id::from).collect()
}

#[pymethods]
impl Shard {
    #[new]
    fn new(py: Python<'_>, parameters: &[u8], n_threads: Option<usize>, cache_bytes: Option<usize>) -> PyResult<Self> {
        let resources = resources(n_threads, cache_bytes);
        let shared = py.detach(|| SharedParams::from_bytes(parameters)).map_err(|error| to_python(&error))?;
        Ok(Self { inner: Guarded::new(erase_core::Shard::new(shared, resources)) })
    }

    /// Number of rows held.
    #[getter]
    fn n_rows(&self, py: Python<'_>) -> usize {
        self.inner.read(py, erase_core::Shard::len)
    }

    /// The largest exponent of its rows.
    #[getter]
    fn exponent(&self, py: Python<'_>) -> Option<i16> {
        self.inner.read(py, erase_core::Shard::exponent)
    }

    /// What its rows are assigned to.
    #[getter]
    fn frame<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.inner.read(py, erase_core::Shard::frame).map(|frame| PyBytes::new(py, &frame.0))
    }

    /// Makes room for more rows.
    fn expect(&self, py: Python<'_>, more: usize) -> PyResult<()> {
        self.inner.write(py, |shard| {
            shard.expect(more);
            Ok(())
        })
    }

    /// Takes rows in.
    fn add(&self, py: Python<'_>, x: Rows<'_>, ids: &Bound<'_, PyList>) -> PyResult<()> {
        let ids = crate::arguments::ids(ids)?;
        let (shared, threads) = self.inner.read(py, |shard| (shard.shared().clone(), shard.resources().threads));
        let batch = Batch::quantise(shared.params(), x.matrix()?, threads).map_err(|error| to_python(&error))?;
        self.inner.write(py, |shard| shard.add_batch(ids, batch)).map(|_| ())
    }

    /// Takes rows in that came out of a shard.
    fn take(&self, py: Python<'_>, rows: &[u8]) -> PyResult<()> {
        self.inner
            .write(py, |shard| {
                let rows = KeptRows::from_bytes(shard.shared(), rows)?;
                shard.take(rows)
            })
            .map(|_| ())
    }

    /// Overwrites those of these rows that are here, and returns their ids.
    fn remove(&self, py: Python<'_>, ids: &Bound<'_, PyList>) -> PyResult<Vec<Id>> {
        let ids = crate::arguments::ids(ids)?;
        self.inner.write(py, |shard| Ok(id_list(&shard.remove(&ids).ids)))
    }

    /// Whether each row is here.
    fn has(&self, py: Python<'_>, ids: &Bound<'_, PyList>) -> PyResult<Vec<bool>> {
        let ids = crate::arguments::ids(ids)?;
        Ok(self.inner.read(py, |shard| ids.iter().map(|id| shard.has(id)).collect()))
    }

    /// The ids, ascending.
    fn ids(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        ids_object(py, self.inner.read(py, erase_core::Shard::ids))
    }

    /// The clusters of some rows.
    fn labels<'py>(&self, py: Python<'py>, ids: &Bound<'_, PyList>) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let ids = crate::arguments::ids(ids)?;
        let labels = self.inner.try_read(py, |shard| shard.labels(&ids))?;
        Ok(labels.into_iter().map(i32::from).collect::<Vec<_>>().into_pyarray(py))
    }

    /// The rows of smallest place behind a mark.
    fn smallest<'py>(&self, py: Python<'py>, after: Option<&[u8]>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let rows = self.inner.write(py, |shard| {
            let mark = mark(shard.shared(), after)?;
            Ok(shard.smallest(mark.as_ref(), count).to_bytes())
        })?;
        Ok(PyBytes::new(py, &rows))
    }

    /// Those of some rows that come before a mark.
    fn candidates<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'_, PyList>,
        mark: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let ids = crate::arguments::ids(ids)?;
        let rows = self.inner.try_read(py, |shard| {
            let mark = self::mark(shard.shared(), mark)?;
            Ok(shard.candidates(&ids, mark.as_ref()).to_bytes())
        })?;
        Ok(PyBytes::new(py, &rows))
    }

    /// Assigns the rows to the model's centres.
    fn assign(&self, py: Python<'_>, centres: &[u8]) -> PyResult<()> {
        self.inner
            .write(py, |shard| {
                let frame = Frame::from_bytes(shard.shared(), centres)?;
                shard.assign(&frame)
            })
            .map(|_| ())
    }

    /// The shard's part of the model.
    #[pyo3(signature = (nearest = 1, *, row_hash = true))]
    fn part<'py>(&self, py: Python<'py>, nearest: usize, row_hash: bool) -> PyResult<Bound<'py, PyBytes>> {
        let part = self.inner.try_read(py, |shard| Ok(shard.part(nearest, row_hash)?.to_bytes()))?;
        Ok(PyBytes::new(py, &part))
    }

    /// The rows from one position to another.
    fn rows<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> Bound<'py, PyBytes> {
        let rows = self.inner.read(py, |shard| shard.rows(start..stop).to_bytes());
        PyBytes::new(py, &rows)
    }

    /// Rows by id.
    fn rows_of<'py>(&self, py: Python<'py>, ids: &Bound<'_, PyList>) -> PyResult<Bound<'py, PyBytes>> {
        let ids = self::ids(ids)?;
        let rows = self.inner.try_read(py, |shard| Ok(shard.rows_of(&ids)?.to_bytes()))?;
        Ok(PyBytes::new(py, &rows))
    }
}

fn mark(shared: &SharedParams, bytes: Option<&[u8]>) -> Result<Option<Mark>, Error> {
    bytes.map(|bytes| Mark::from_bytes(shared, bytes)).transpose()
}
