//! Python values taken apart.

use erase_core::{CacheSize, IdRef, Ids, Matrix, Projection, Ratio, Resources, Threads};
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyList, PyString};

use crate::errors::IdKindError;

/// What a model may use of the machine.
pub(crate) fn resources(n_threads: Option<usize>, cache_bytes: Option<usize>) -> Resources {
    Resources { threads: Threads::new(n_threads), cache: CacheSize(cache_bytes) }
}

/// A C-contiguous array of rows in either precision.
#[derive(FromPyObject)]
pub(crate) enum Rows<'py> {
    /// Single precision.
    F32(PyReadonlyArray2<'py, f32>),
    /// Double precision.
    F64(PyReadonlyArray2<'py, f64>),
}

impl Rows<'_> {
    pub(crate) fn matrix(&self) -> PyResult<Matrix<'_>> {
        match self {
            Self::F32(array) => Ok(Matrix::F32(array.as_slice()?)),
            Self::F64(array) => Ok(Matrix::F64(array.as_slice()?)),
        }
    }

    pub(crate) fn height(&self) -> usize {
        self.shape()[0]
    }

    pub(crate) fn width(&self) -> usize {
        self.shape()[1]
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::F32(array) => array.shape(),
            Self::F64(array) => array.shape(),
        }
    }
}

/// One id.
#[derive(IntoPyObject)]
pub(crate) enum Id {
    Int(i64),
    Str(String),
}

impl From<IdRef<'_>> for Id {
    fn from(id: IdRef<'_>) -> Self {
        match id {
            IdRef::Int(id) => Self::Int(id),
            IdRef::Str(id) => Self::Str(id.to_owned()),
        }
    }
}

/// One id, or None for a value of another type.
pub(crate) fn id(value: &Bound<'_, PyAny>) -> PyResult<Option<Id>> {
    // The ordinary case first: the rest costs as much as a removal.
    if value.is_exact_instance_of::<PyInt>()
        && let Ok(number) = value.extract()
    {
        return Ok(Some(Id::Int(number)));
    }
    if let Ok(text) = value.cast::<PyString>() {
        let utf8 = text.to_str().map_err(|_| {
            let message = format!("ids must be valid Unicode, got a lone surrogate in {}", repr(value));
            IdKindError::new_err(message)
        })?;
        return Ok(Some(Id::Str(utf8.to_owned())));
    }
    // numpy's booleans of some versions can pass for integers too.
    if value.is_instance_of::<PyBool>() || value.get_type().name()?.to_str()?.starts_with("bool") {
        return Ok(None);
    }
    match value.extract::<i64>() {
        Ok(number) => Ok(Some(Id::Int(number))),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) && value.is_instance_of::<PyInt>() => {
            let message = format!("ids must fit 64 bits as signed integers, got {value}; use strings for larger ones");
            Err(IdKindError::new_err(message))
        }
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn repr(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "a value".to_owned(), |repr| repr.to_string())
}

/// A list of ids of one kind.
pub(crate) fn ids(values: &Bound<'_, PyList>) -> PyResult<Ids> {
    let (mut ints, mut strings) = (Vec::new(), Vec::new());
    for value in values {
        match id(&value)? {
            Some(Id::Int(number)) => ints.push(number),
            Some(Id::Str(text)) => strings.push(text),
            None => {
                let message = format!("ids must be integers or strings, got {}", value.repr()?);
                return Err(IdKindError::new_err(message));
            }
        }
        if !ints.is_empty() && !strings.is_empty() {
            let message = "ids must be all integers or all strings, got both".to_owned();
            return Err(IdKindError::new_err(message));
        }
    }
    Ok(if strings.is_empty() { Ids::Int(ints) } else { Ids::Str(strings) })
}

/// A numerator and a denominator.
#[derive(FromPyObject)]
pub(crate) struct Rational(u32, u32);

impl From<Rational> for Ratio {
    fn from(Rational(num, den): Rational) -> Self {
        Self { num, den }
    }
}

/// None, a number of dimensions, or a matrix.
#[derive(FromPyObject)]
pub(crate) enum ProjectionArgument<'py> {
    Signs(usize),
    Matrix(PyReadonlyArray2<'py, f64>),
}

impl ProjectionArgument<'_> {
    pub(crate) fn projection(argument: Option<Self>) -> PyResult<Projection> {
        Ok(match argument {
            None => Projection::None,
            Some(Self::Signs(m)) => Projection::Signs(m),
            Some(Self::Matrix(array)) => {
                Projection::Matrix { rows: array.shape()[0], entries: array.as_slice()?.to_vec() }
            }
        })
    }
}
