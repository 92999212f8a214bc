//! Python bindings: take arguments apart, release the interpreter, call the core once, map the error.
//!
//! Rows are quantised into memory of the core's own while the interpreter is held, because another thread may write to
//! the array afterwards; everything after that runs detached.
#![deny(missing_docs)]

mod arguments;
mod coordinator;
mod errors;
mod guarded;
mod model;
mod report;
mod sealed;
mod shard;

use pyo3::prelude::*;

/// The compiled core of `erase_core`. Private: `erase_core` is the interface.
#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::coordinator::Coordinator;
    #[pymodule_export]
    use super::coordinator::merge_parts;
    #[pymodule_export]
    use super::coordinator::read_part;
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::report::UpdateReport;
    #[pymodule_export]
    use super::sealed::open_in_place;
    #[pymodule_export]
    use super::sealed::open_vectors;
    #[pymodule_export]
    use super::sealed::seal_in_place;
    #[pymodule_export]
    use super::sealed::seal_vectors;
    #[pymodule_export]
    use super::shard::Shard;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
