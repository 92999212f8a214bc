//! The report of an update.

use std::time::Instant;

use erase_core::{Error, Update, UpdatePath};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What pickle makes a report of again: a function and its arguments.
type Recipe<'py> = (Bound<'py, PyAny>, (usize, usize, &'static str, Option<usize>, u64, f64));

const PATHS: [&str; 3] = ["certified", "replayed", "reseeded"];

/// What one `add` or `remove` did, and what it cost.
///
/// Attributes
/// ----------
/// n_added, n_removed : int
///     Rows that came and went.
/// path : {"certified", "replayed", "reseeded"}
///     ``certified``: every centre stayed, and no row but those named was looked at. ``replayed``: steps were run again
///     from the first one whose centres changed. ``reseeded``: a race of the seeding was run again, and all steps too if
///     a seed changed by it; or the number of clusters or the scale changed.
/// first_iteration : int or None
///     The first step that was run again, counted from 0; None if all stayed.
/// work : int
///     Multiply-adds spent.
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
    /// The report of what is done here, with its time.
    pub(crate) fn timed(update: impl FnOnce() -> Result<Update, Error>) -> Result<Self, Error> {
        let start = Instant::now();
        Ok(Self::new(update()?, start.elapsed().as_secs_f64()))
    }

    fn new(update: Update, seconds: f64) -> Self {
        let path = PATHS[match update.path {
            UpdatePath::Certified => 0,
            UpdatePath::Replayed => 1,
            UpdatePath::Reseeded => 2,
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

    /// A report with these values: one that was pickled.
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
