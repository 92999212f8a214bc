//! Something of the core that Python shares between threads. Python never holds a mutable borrow of it, and the lock lets any
//! number of threads read and one write, none of which holds the interpreter meanwhile.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use erase_core::Error;
use pyo3::prelude::*;

use crate::errors::{EraseError, to_python};

/// A value behind a lock.
pub(crate) struct Guarded<T>(RwLock<T>);

impl<T: Send + Sync> Guarded<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(RwLock::new(inner))
    }

    /// Reads without holding the interpreter.
    pub(crate) fn read<R: Send>(&self, py: Python<'_>, read: impl FnOnce(&T) -> R + Send) -> R {
        py.detach(|| read(&self.readable()))
    }

    // A panic while the lock was held is a defect of the core; what it left behind can still be looked at.
    fn readable(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `read`, for what may fail.
    pub(crate) fn try_read<R: Send>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&T) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        self.read(py, read).map_err(|error| to_python(&error))
    }

    /// Writes without holding the interpreter.
    pub(crate) fn write<R: Send>(
        &self,
        py: Python<'_>,
        write: impl FnOnce(&mut T) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        let outcome = py.detach(|| self.0.write().ok().map(|mut inner| write(&mut inner)));
        let Some(outcome) = outcome else {
            let message = "an internal error interrupted an earlier update of this model; fit it anew".to_owned();
            return Err(EraseError::new_err(message));
        };
        outcome.map_err(|error| to_python(&error))
    }
}
