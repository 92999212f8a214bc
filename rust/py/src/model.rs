//! The model as a Python object.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use erase_core::{Batch, Error, IdRef, Ids, Params, Resources, Update};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use zeroize::{Zeroize, Zeroizing};

use crate::arguments::{Id, ProjectionArgument, Rational, Rows, id, ids, resources};
use crate::errors::{IdKindError, to_python};
use crate::guarded::Guarded;
use crate::report::UpdateReport;

/// Numbers the calls of `save`, so that each has a partial file of its own: several threads may save to one path.
static SAVES: AtomicU64 = AtomicU64::new(0);

/// Distances and ids of the nearest rows.
type Nearest<'py> = (Bound<'py, PyArray2<f64>>, Vec<Id>);

/// How to make a model again from its bytes: the function and its arguments.
pub(crate) type Recipe<'py> = (Bound<'py, PyAny>, (Bound<'py, PyBytes>, Option<usize>, Option<usize>));

/// A fitted model. See `erase_core.QKMeans`, which owns one.
#[pyclass(frozen, module = "erase_core._core")]
pub struct Model {
    inner: Guarded<erase_core::Model>,
}

impl Model {
    pub(crate) fn new(inner: erase_core::Model) -> Self {
        Self { inner: Guarded::new(inner) }
    }

    /// Reads without holding the interpreter.
    fn read<R: Send>(&self, py: Python<'_>, read: impl FnOnce(&erase_core::Model) -> R + Send) -> R {
        self.inner.read(py, read)
    }

    /// Writes without holding the interpreter, and reports.
    fn write(
        &self,
        py: Python<'_>,
        write: impl FnOnce(&mut erase_core::Model) -> Result<Update, Error> + Send,
    ) -> PyResult<UpdateReport> {
        self.inner.write(py, |model| UpdateReport::timed(|| write(model)))
    }
}

#[pymethods]
impl Model {
    /// Fits rows with their ids; integer ids from 0 on where none are given.
    #[staticmethod]
    #[pyo3(signature = (x, ids, *, n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed, n_threads, cache_bytes))]
    #[expect(clippy::too_many_arguments, reason = "the parameters, by name")]
    fn fit(
        py: Python<'_>,
        x: Rows<'_>,
        ids: Option<&Bound<'_, PyList>>,
        n_clusters: u32,
        epsilon: Rational,
        gamma: Rational,
        max_iter: u32,
        panel: Option<u32>,
        projection: Option<ProjectionArgument<'_>>,
        max_norm: Option<f64>,
        center: Option<Vec<f64>>,
        seed: u64,
        n_threads: Option<usize>,
        cache_bytes: Option<usize>,
    ) -> PyResult<Self> {
        let projection = ProjectionArgument::projection(projection)?;
        let (epsilon, gamma) = (epsilon.into(), gamma.into());
        let params = Params { n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed };
        let params = params.check(x.width()).map_err(|error| to_python(&error))?;
        let resources = resources(n_threads, cache_bytes);
        let batch = Batch::quantise(&params, x.matrix()?, resources.threads).map_err(|error| to_python(&error))?;
        let ids = match ids {
            Some(list) => crate::arguments::ids(list)?,
            None => Ids::Int((0_i64..).take(batch.len()).collect()),
        };
        py.detach(|| erase_core::Model::fit_batch(params, ids, batch, resources))
            .map(Self::new)
            .map_err(|error| to_python(&error))
    }

    /// Adds rows; integer ids from the largest present on where none are given.
    fn add(&self, py: Python<'_>, x: Rows<'_>, ids: Option<&Bound<'_, PyList>>) -> PyResult<UpdateReport> {
        let given = ids.map(crate::arguments::ids).transpose()?;
        let (params, threads) = self.read(py, |model| (model.params().clone(), model.resources().threads));
        let batch = Batch::quantise(&params, x.matrix()?, threads).map_err(|error| to_python(&error))?;
        self.write(py, |model| {
            let ids = given.map_or_else(|| model.next_ids(batch.len()), Ok)?;
            model.add_batch(ids, batch)
        })
    }

    /// Removes one id, or all of a list.
    fn remove(&self, py: Python<'_>, which: &Bound<'_, PyAny>) -> PyResult<UpdateReport> {
        match id(which)? {
            Some(Id::Int(id)) => self.write(py, |model| model.remove_one(IdRef::Int(id))),
            Some(Id::Str(id)) => self.write(py, |model| model.remove_one(IdRef::Str(&id))),
            None => {
                let Ok(list) = which.cast::<PyList>() else {
                    let message = format!("an id must be an integer or a string, got {}", which.repr()?);
                    return Err(IdKindError::new_err(message));
                };
                let ids = ids(list)?;
                self.write(py, |model| model.remove(&ids))
            }
        }
    }

    /// The nearest centre of each row.
    fn predict<'py>(&self, py: Python<'py>, x: Rows<'py>) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let labels = self.compare(py, &x, erase_core::Model::predict)?;
        Ok(labels.into_iter().map(i32::from).collect::<Vec<_>>().into_pyarray(py))
    }

    /// The distances of each row to all centres.
    fn transform<'py>(&self, py: Python<'py>, x: Rows<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let distances = self.compare(py, &x, erase_core::Model::transform)?;
        let clusters = distances.len() / x.height().max(1);
        distances.into_pyarray(py).reshape([x.height(), clusters])
    }

    /// The squared distance of each row to its nearest centre.
    fn nearest_square_distances<'py>(&self, py: Python<'py>, x: Rows<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(self.compare(py, &x, erase_core::Model::nearest_square_distances)?.into_pyarray(py))
    }

    /// The nearest rows of each row: distances and ids, query by query.
    fn neighbours<'py>(&self, py: Python<'py>, x: Rows<'py>, count: usize) -> PyResult<Nearest<'py>> {
        let found = self.compare(py, &x, |model, queries| {
            let found = model.neighbours(queries, count)?;
            Ok((found.count, found.distances, found.ids.into_iter().map(Id::from).collect()))
        })?;
        let (count, distances, ids): (usize, Vec<f64>, Vec<Id>) = found;
        Ok((distances.into_pyarray(py).reshape([x.height(), count])?, ids))
    }

    /// Number of rows.
    #[getter]
    fn n_rows(&self, py: Python<'_>) -> usize {
        self.read(py, erase_core::Model::len)
    }

    /// The largest integer id.
    fn largest_id(&self, py: Python<'_>) -> Option<i64> {
        self.read(py, erase_core::Model::largest_id)
    }

    /// Sum of the squared distances to the centres.
    #[getter]
    fn inertia(&self, py: Python<'_>) -> f64 {
        self.read(py, erase_core::Model::inertia)
    }

    /// How coarse the model's steps are against the spread of the rows.
    #[getter]
    fn resolution(&self, py: Python<'_>) -> f64 {
        self.read(py, erase_core::Model::resolution)
    }

    /// Number of updates of the centres that were run.
    #[getter]
    fn n_iter(&self, py: Python<'_>) -> usize {
        self.read(py, erase_core::Model::n_iter)
    }

    /// The ids, ascending.
    fn ids(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        ids_object(py, self.read(py, erase_core::Model::ids))
    }

    /// The cluster of each row, in the order of the ids.
    fn labels<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        self.read(py, |model| model.labels().into_iter().map(i32::from).collect::<Vec<_>>()).into_pyarray(py)
    }

    /// The centres.
    fn centres<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (centres, clusters, dim) = self.read(py, |model| (model.centres(), model.n_clusters(), model.dim()));
        centres.into_pyarray(py).reshape([clusters, dim])
    }

    /// For each cluster the id of its exemplar, or None.
    fn exemplars(&self, py: Python<'_>) -> Vec<Option<Id>> {
        self.read(py, |model| model.exemplars().into_iter().map(|id| id.map(Id::from)).collect())
    }

    /// For each cluster the ids of the rows nearest to its centre.
    fn nearest(&self, py: Python<'_>, count: usize) -> Vec<Vec<Id>> {
        self.read(py, |model| {
            model.nearest(count).into_iter().map(|list| list.into_iter().map(Id::from).collect()).collect()
        })
    }

    /// The ids of the rows chosen as seeds, round by round.
    fn seeds(&self, py: Python<'_>) -> Vec<Id> {
        self.read(py, |model| model.seeds().into_iter().map(Id::from).collect())
    }

    /// For each round of the seeding the ids of the rows that its trials proposed.
    fn proposals(&self, py: Python<'_>) -> Vec<Vec<Id>> {
        self.read(py, |model| {
            model.proposals().into_iter().map(|round| round.into_iter().map(Id::from).collect()).collect()
        })
    }

    /// The hash of the state, in hex.
    fn digest(&self, py: Python<'_>) -> String {
        self.read(py, |model| model.digest().to_string())
    }

    /// Writes the model file: beside its destination first, so that a crash leaves the old file or the new one.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.read(py, |model| {
            let mut partial = path.clone().into_os_string();
            partial.push(format!(".partial-{}-{}", std::process::id(), SAVES.fetch_add(1, Ordering::Relaxed)));
            let partial = PathBuf::from(partial);
            let write = || {
                let mut out = BufWriter::new(File::create(&partial)?);
                model.encode(&mut out)?;
                out.flush()?;
                let (file, buffer) = out.into_parts();
                buffer.map(|mut buffer| buffer.zeroize()).unwrap_or_default();
                file.sync_all()?;
                fs::rename(&partial, &path)
            };
            write().inspect_err(|_| {
                // The first error is the one to report.
                let _ = fs::remove_file(&partial);
            })
        })
        .map_err(|error| os_error(&error, &path))
    }

    /// Reads a model file.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, n_threads: Option<usize>, cache_bytes: Option<usize>) -> PyResult<Self> {
        let bytes = py.detach(|| fs::read(&path)).map(Zeroizing::new).map_err(|error| os_error(&error, &path))?;
        Self::decode(py, &bytes, n_threads, cache_bytes)
    }

    /// The model file as bytes.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.read(py, |model| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(model.encoded_len()));
            model.encode(&mut *bytes).map(|()| bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// A model from the bytes of its file.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8], n_threads: Option<usize>, cache_bytes: Option<usize>) -> PyResult<Self> {
        Self::decode(py, data, n_threads, cache_bytes)
    }

    /// Parameters as `fit` takes them, the projection aside.
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyDict>> {
        let params = self.read(py, |model| model.params().clone());
        params_dict(py, &params)
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> Self {
        Self::new(self.read(py, Clone::clone))
    }

    fn __copy__(&self, py: Python<'_>) -> Self {
        Self::new(self.read(py, Clone::clone))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Recipe<'py>> {
        let bytes = slf.get().to_bytes(slf.py())?;
        let Resources { threads, cache } = slf.get().read(slf.py(), erase_core::Model::resources);
        Ok((slf.get_type().getattr("from_bytes")?, (bytes, threads.requested(), cache.0)))
    }
}

impl Model {
    /// Compares rows with the centres.
    fn compare<R: Send>(
        &self,
        py: Python<'_>,
        x: &Rows<'_>,
        compare: impl FnOnce(&erase_core::Model, &Batch) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        let (params, threads) = self.read(py, |model| (model.params().clone(), model.resources().threads));
        let queries = Batch::queries(&params, x.matrix()?, threads).map_err(|error| to_python(&error))?;
        self.read(py, |model| compare(model, &queries)).map_err(|error| to_python(&error))
    }

    fn decode(py: Python<'_>, bytes: &[u8], n_threads: Option<usize>, cache_bytes: Option<usize>) -> PyResult<Self> {
        let resources = resources(n_threads, cache_bytes);
        py.detach(|| erase_core::Model::decode(bytes, resources)).map(Self::new).map_err(|error| to_python(&error))
    }
}

/// Parameters as `Model.fit` takes them.
pub(crate) fn params_dict<'py>(
    py: Python<'py>,
    params: &erase_core::ValidParams,
) -> PyResult<Bound<'py, pyo3::types::PyDict>> {
    let dict = pyo3::types::PyDict::new(py);
    dict.set_item("n_clusters", params.n_clusters())?;
    dict.set_item("epsilon", (params.epsilon().num, params.epsilon().den))?;
    dict.set_item("gamma", (params.gamma().num, params.gamma().den))?;
    dict.set_item("max_iter", params.max_iter())?;
    dict.set_item("panel", params.panel())?;
    dict.set_item("max_norm", params.max_norm())?;
    dict.set_item("center", params.center().map(|center| center.to_vec().into_pyarray(py)))?;
    dict.set_item("seed", params.seed())?;
    dict.set_item("n_features", params.n_features())?;
    match params.projection() {
        erase_core::Projection::None => dict.set_item("projection", py.None())?,
        erase_core::Projection::Signs(m) => dict.set_item("projection", m)?,
        erase_core::Projection::Matrix { rows, entries } => {
            dict.set_item("projection", entries.into_pyarray(py).reshape([rows, params.n_features()])?)?;
        }
    }
    Ok(dict)
}

/// Ids as Python has them: an array of integers, or a list of strings.
pub(crate) fn ids_object(py: Python<'_>, ids: Ids) -> PyResult<Py<PyAny>> {
    match ids {
        Ids::Int(ids) => Ok(ids.into_pyarray(py).into_any().unbind()),
        Ids::Str(ids) => Ok(PyList::new(py, ids)?.into_any().unbind()),
    }
}

/// Python's own error for a failed call of the operating system, with the file that it was about.
fn os_error(error: &std::io::Error, path: &Path) -> PyErr {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((code, text, path.to_path_buf()))
        }
        None => PyOSError::new_err(format!("{}: {error}", path.display())),
    }
}
