//! Which Python class each error of the core becomes. The classes are defined in `erase_core/errors.py`.

use pyo3::import_exception;
use pyo3::prelude::*;

use erase_core::Error;

import_exception!(erase_core.errors, DataError);
import_exception!(erase_core.errors, DuplicateIdError);
import_exception!(erase_core.errors, EmptyModelError);
import_exception!(erase_core.errors, EraseError);
import_exception!(erase_core.errors, IdKindError);
import_exception!(erase_core.errors, ModelFileError);
import_exception!(erase_core.errors, ParameterError);
import_exception!(erase_core.errors, UnknownIdError);

/// The exception that stands for an error of the core.
pub(crate) fn to_python(error: &Error) -> PyErr {
    let new_err = match error {
        Error::Parameter { .. } => ParameterError::new_err,
        Error::DuplicateId(_) | Error::PresentId(_) => DuplicateIdError::new_err,
        Error::UnknownIds(_) | Error::NotHere(_) => UnknownIdError::new_err,
        Error::IdKind { .. } => IdKindError::new_err,
        Error::Empty => EmptyModelError::new_err,
        Error::Format(_) | Error::Message(_) => ModelFileError::new_err,
        _ => DataError::new_err,
    };
    new_err(error.to_string())
}
