//! Python bindings: convert arguments, release the GIL, call the core once, and convert its error.
//!
//! Rows are quantised into the core's own memory while the GIL is held, since another thread may write to the array
//! later. Everything after that runs without the GIL.
#![deny(missing_docs)]

mod arguments;
mod errors;
mod model;
mod report;

use pyo3::prelude::*;

/// The compiled core of `erase_core`. Private: `erase_core` is the interface.
#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::report::UpdateReport;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
