//! Converts errors of the core to Python exceptions. The classes are defined in `erase_core/errors.py`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

use erase_core::Error;

/// Creates an exception of a class in `erase_core.errors`.
pub(crate) fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = ERRORS.get_or_try_init(py, || py.import("erase_core.errors").map(Bound::unbind));
    let class = module.and_then(|module| module.bind(py).getattr(class)?.cast_into::<PyType>().map_err(PyErr::from));
    match class {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

/// Converts an error of the core to a Python exception.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Parameter { .. } => "ParameterError",
        Error::DuplicateId(_) | Error::PresentId(_) => "DuplicateIdError",
        Error::UnknownIds(_) => "UnknownIdError",
        Error::IdKind { .. } => "IdKindError",
        Error::Empty => "EmptyModelError",
        Error::Format(_) => "ModelFileError",
        _ => "DataError",
    };
    raise(py, class, error.to_string())
}
