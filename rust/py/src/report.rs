//! The report of an update.

use erase_core::{Path, Update};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How pickle recreates a report: a function and its arguments.
type Recipe<'py> = (Bound<'py, PyAny>, (usize, usize, &'static str, Option<usize>, u64, f64));

const PATHS: [&str; 3] = ["certified", "replayed", "reseeded"];

/// The effect and the cost of one `add` or `remove`.
///
/// Attributes
/// ----------
/// n_added, n_removed : int
///     Rows added and removed.
/// path : {"certified", "replayed", "reseeded"}
///     ``certified``: no centre changed, and only the given rows were examined. ``replayed``: all steps from the first
///     one with changed centres were run again. ``reseeded``: a race of the seeding was run again, and all steps if this
///     changed a seed; or the number of clusters or the scale changed.
/// first_iteration : int or None
///     The first step that was run again or dropped, counted from 0; None if all steps were kept.
/// work : int
///     Number of multiply-adds.
/// seconds : float
///     Wall-clock time in the core.
#[expect(clippy::doc_markdown, reason = "numpydoc")]
#[pyclass(frozen, get_all, module = "erase_core")]
pub struct UpdateReport {
    n_added: usize,
    n_removed: usize,
    path: &'static str,
    first_iteration: Option<usize>,
    work: u64,
    seconds: f64,
}

impl UpdateReport {
    pub(crate) fn new(update: Update, seconds: f64) -> Self {
        let path = PATHS[match update.path {
            Path::Certified => 0,
            Path::Replayed => 1,
            Path::Reseeded => 2,
        }];
        let Update { added, removed, first_iteration, work, .. } = update;
        Self { n_added: added, n_removed: removed, path, first_iteration, work, seconds }
    }
}

#[pymethods]
impl UpdateReport {
    fn __repr__(&self) -> String {
        let first = self.first_iteration.map_or("None".into(), |t| t.to_string());
        format!(
            "UpdateReport(n_added={}, n_removed={}, path='{}', first_iteration={first}, work={}, seconds={:.2e})",
            self.n_added, self.n_removed, self.path, self.work, self.seconds
        )
    }

    /// Recreates a pickled report from its values.
    #[staticmethod]
    fn _restore(
        n_added: usize,
        n_removed: usize,
        path: &str,
        first_iteration: Option<usize>,
        work: u64,
        seconds: f64,
    ) -> PyResult<Self> {
        let known = PATHS.into_iter().find(|&known| known == path);
        let path =
            known.ok_or_else(|| PyValueError::new_err(format!("path must be one of {PATHS:?}, got {path:?}")))?;
        Ok(Self { n_added, n_removed, path, first_iteration, work, seconds })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Recipe<'py>> {
        let &Self { n_added, n_removed, path, first_iteration, work, seconds } = slf.get();
        Ok((slf.get_type().getattr("_restore")?, (n_added, n_removed, path, first_iteration, work, seconds)))
    }
}
