//! The coordinator of shards as a Python object. Messages are bytes.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

use erase_core::{Batch, Error, KeptRows, Params, Part, Resources, SharedParams};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::arguments::{Id, ProjectionArgument, Rational, Rows, resources};
use crate::errors::to_python;
use crate::guarded::Guarded;
use crate::model::{Model, Recipe, ids_object, params_dict};
use crate::report::UpdateReport;
use crate::shard::id_list;

/// What is left of a model whose rows lie in shards. See `_core.pyi`.
#[pyclass(frozen, module = "erase_core._core")]
pub struct Coordinator {
    inner: Guarded<erase_core::Coordinator>,
}

#[pymethods]
impl Coordinator {
    #[new]
    #[pyo3(signature = (n_features, *, n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed, n_threads, cache_bytes))]
    #[expect(clippy::too_many_arguments, reason = "the parameters, by name")]
    fn new(
        n_features: usize,
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
        let shared = params.check(n_features).and_then(SharedParams::new).map_err(|error| to_python(&error))?;
        let resources = resources(n_threads, cache_bytes);
        Ok(Self { inner: Guarded::new(erase_core::Coordinator::new(shared, resources)) })
    }

    /// The parameters as a message.
    fn parameters<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.read(py, |model| model.shared().to_bytes()))
    }

    /// The parameters.
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = self.inner.read(py, |model| model.shared().clone());
        params_dict(py, shared.params())
    }

    /// Begins anew.
    fn fit(&self, py: Python<'_>, candidates: Vec<PyBackedBytes>, part: &[u8]) -> PyResult<UpdateReport> {
        self.inner.write(py, |model| {
            let (candidates, part) = (kept(model.shared(), &candidates)?, Part::from_bytes(part)?);
            UpdateReport::timed(|| model.fit(candidates, part).map(|exchanged| exchanged.update))
        })
    }

    /// Place and id of the panel's last row.
    fn mark<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let mark = self.inner.read(py, |model| model.mark().map(|mark| mark.to_bytes(model.shared())));
        mark.map(|mark| PyBytes::new(py, &mark))
    }

    /// Those of these rows that are on the panel.
    fn on_panel(&self, py: Python<'_>, ids: &Bound<'_, PyList>) -> PyResult<Vec<Id>> {
        let ids = crate::arguments::ids(ids)?;
        Ok(self.inner.read(py, |model| id_list(&model.on_panel(&ids))))
    }

    /// The rows on the panel.
    fn panel_ids(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        ids_object(py, self.inner.read(py, erase_core::Coordinator::panel_ids))
    }

    /// Takes in a change that the shards have made.
    fn exchange(
        &self,
        py: Python<'_>,
        leaving: &Bound<'_, PyList>,
        candidates: Vec<PyBackedBytes>,
        part: &[u8],
    ) -> PyResult<(UpdateReport, bool)> {
        let leaving = crate::arguments::ids(leaving)?;
        self.inner.write(py, |model| {
            let (candidates, part) = (kept(model.shared(), &candidates)?, Part::from_bytes(part)?);
            let mut moved = false;
            let report = UpdateReport::timed(|| {
                let exchanged = model.exchange(&leaving, candidates, part)?;
                moved = exchanged.moved;
                Ok(exchanged.update)
            })?;
            Ok((report, moved))
        })
    }

    /// The hash of the present frame.
    #[getter]
    fn frame<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.read(py, erase_core::Coordinator::frame_id).0)
    }

    /// The present frame as a message.
    fn frame_message<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.read(py, |model| model.frame().to_bytes()))
    }

    /// Takes in the merged parts of all shards.
    fn complete(&self, py: Python<'_>, part: &[u8]) -> PyResult<()> {
        self.inner.write(py, |model| model.complete(Part::from_bytes(part)?))
    }

    /// Whether the results are those of all rows.
    #[getter]
    fn is_complete(&self, py: Python<'_>) -> bool {
        self.inner.read(py, erase_core::Coordinator::is_complete)
    }

    /// Number of rows of all shards.
    #[getter]
    fn n_rows(&self, py: Python<'_>) -> u64 {
        self.inner.read(py, erase_core::Coordinator::len)
    }

    /// Sum of the squared distances to the centres.
    #[getter]
    fn inertia(&self, py: Python<'_>) -> PyResult<f64> {
        self.inner.try_read(py, erase_core::Coordinator::inertia)
    }

    /// Number of updates of the centres that were run.
    #[getter]
    fn n_iter(&self, py: Python<'_>) -> usize {
        self.inner.read(py, erase_core::Coordinator::n_iter)
    }

    /// How coarse the model's steps are against the spread of the rows.
    #[getter]
    fn resolution(&self, py: Python<'_>) -> PyResult<f64> {
        self.inner.try_read(py, erase_core::Coordinator::resolution)
    }

    /// Number of rows in each cluster.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        Ok(self.inner.try_read(py, erase_core::Coordinator::counts)?.into_pyarray(py))
    }

    /// The centres.
    fn centres<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (centres, shape) = self.inner.read(py, |model| (model.centres(), [model.n_clusters(), model.dim()]));
        centres.into_pyarray(py).reshape(shape)
    }

    /// For each cluster the id of its exemplar, or None.
    fn exemplars(&self, py: Python<'_>) -> PyResult<Vec<Option<Id>>> {
        self.inner.try_read(py, |model| Ok(model.exemplars()?.into_iter().map(|id| id.map(Id::from)).collect()))
    }

    /// For each cluster the ids of the rows nearest to its centre.
    fn nearest(&self, py: Python<'_>, count: usize) -> PyResult<Vec<Vec<Id>>> {
        self.inner.try_read(py, |model| {
            Ok(model.nearest(count)?.into_iter().map(|list| list.into_iter().map(Id::from).collect()).collect())
        })
    }

    /// The ids of the rows chosen as seeds, round by round.
    fn seeds(&self, py: Python<'_>) -> Vec<Id> {
        self.inner.read(py, |model| model.seeds().into_iter().map(Id::from).collect())
    }

    /// For each round of the seeding the ids of the rows that its trials proposed.
    fn proposals(&self, py: Python<'_>) -> Vec<Vec<Id>> {
        self.inner.read(py, |model| {
            model.proposals().into_iter().map(|round| round.into_iter().map(Id::from).collect()).collect()
        })
    }

    /// The nearest centre of each row.
    fn predict<'py>(&self, py: Python<'py>, x: Rows<'py>) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let labels = self.compare(py, &x, erase_core::Coordinator::predict)?;
        Ok(labels.into_iter().map(i32::from).collect::<Vec<_>>().into_pyarray(py))
    }

    /// The distances of each row to all centres.
    fn transform<'py>(&self, py: Python<'py>, x: Rows<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let distances = self.compare(py, &x, erase_core::Coordinator::transform)?;
        let clusters = distances.len() / x.height().max(1);
        distances.into_pyarray(py).reshape([x.height(), clusters])
    }

    /// The squared distance of each row to its nearest centre.
    fn nearest_square_distances<'py>(&self, py: Python<'py>, x: Rows<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(self.compare(py, &x, erase_core::Coordinator::nearest_square_distances)?.into_pyarray(py))
    }

    /// The digest, in hex.
    fn digest(&self, py: Python<'_>) -> PyResult<String> {
        self.inner.try_read(py, |model| Ok(model.digest()?.to_string()))
    }

    /// A model of all rows.
    fn gather(
        &self,
        py: Python<'_>,
        rows: Vec<PyBackedBytes>,
        n_threads: Option<usize>,
        cache_bytes: Option<usize>,
    ) -> PyResult<Model> {
        let resources = resources(n_threads, cache_bytes);
        let model = self.inner.try_read(py, |model| model.gather(kept(model.shared(), &rows)?, resources))?;
        Ok(Model::new(model))
    }

    /// The state as bytes.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.read(py, erase_core::Coordinator::to_bytes))
    }

    /// A coordinator from its state.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8], n_threads: Option<usize>, cache_bytes: Option<usize>) -> PyResult<Self> {
        let resources = resources(n_threads, cache_bytes);
        let inner = py.detach(|| erase_core::Coordinator::from_bytes(data, resources));
        inner.map(|inner| Self { inner: Guarded::new(inner) }).map_err(|error| to_python(&error))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Recipe<'py>> {
        let bytes = slf.get().to_bytes(slf.py());
        let Resources { threads, cache } = slf.get().inner.read(slf.py(), erase_core::Coordinator::resources);
        Ok((slf.get_type().getattr("from_bytes")?, (bytes, threads.requested(), cache.0)))
    }
}

impl Coordinator {
    /// Compares rows with the centres.
    fn compare<R: Send>(
        &self,
        py: Python<'_>,
        x: &Rows<'_>,
        compare: impl FnOnce(&erase_core::Coordinator, &Batch) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        let (shared, threads) = self.inner.read(py, |model| (model.shared().clone(), model.resources().threads));
        let queries = Batch::queries(shared.params(), x.matrix()?, threads).map_err(|error| to_python(&error))?;
        self.inner.try_read(py, |model| compare(model, &queries))
    }
}

fn kept(shared: &SharedParams, messages: &[PyBackedBytes]) -> Result<Vec<KeptRows>, Error> {
    messages.iter().map(|message| KeptRows::from_bytes(shared, message)).collect()
}

/// Merges parts of shards.
#[pyfunction]
pub fn merge_parts(py: Python<'_>, parts: Vec<PyBackedBytes>) -> PyResult<Bound<'_, PyBytes>> {
    let merged = py.detach(|| {
        let mut parts = parts.iter().map(|part| Part::from_bytes(part));
        let none = || Err(Error::Message("there are no parts to merge".to_owned()));
        let first = parts.next().unwrap_or_else(none)?;
        parts.try_fold(first, |merged, part| merged.merge(part?)).map(|merged| merged.to_bytes())
    });
    merged.map(|merged| PyBytes::new(py, &merged)).map_err(|error| to_python(&error))
}

/// What a part says.
#[pyfunction]
pub fn read_part<'py>(py: Python<'py>, part: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let part = Part::from_bytes(part).map_err(|error| to_python(&error))?;
    let clusters = part.clusters();
    let dict = PyDict::new(py);
    dict.set_item("n_rows", part.rows())?;
    dict.set_item("exponent", part.exponent())?;
    dict.set_item("row_hash", part.row_hash().map(|hash| PyBytes::new(py, &hash)))?;
    dict.set_item("frame", clusters.map(|clusters| PyBytes::new(py, &clusters.frame().0)))?;
    dict.set_item("counts", clusters.map(|clusters| clusters.counts().to_vec().into_pyarray(py)))?;
    dict.set_item("loss", clusters.map(erase_core::Clusters::loss))?;
    let nearest = clusters.map(|clusters| {
        let list = |list: &mut dyn Iterator<Item = (u32, erase_core::IdRef<'_>)>| {
            list.map(|(distance, id)| (distance, Id::from(id))).collect::<Vec<_>>()
        };
        clusters.nearest().map(|mut near| list(&mut near)).collect::<Vec<_>>()
    });
    dict.set_item("nearest", nearest)?;
    Ok(dict)
}
