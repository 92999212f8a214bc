//! Every way a call can fail, as one typed error. What a message says is part of the interface: it names the parameter,
//! the value and the bound, and what to do.

use std::fmt::Display;

/// A failed call. The model it was made on is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter is out of its range.
    #[error("{name} must be {bound}, got {value}")]
    Parameter {
        /// The parameter's name, as in the Python interface.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        bound: String,
    },
    /// A value of the data is NaN or infinite.
    #[error("X contains NaN or infinity at row {row}, column {column}; remove or impute it")]
    NotFinite {
        /// Position of the row in the data given.
        row: usize,
        /// Column of the value.
        column: usize,
    },
    /// A value lies so far from the center that the difference is no finite float.
    #[error("X minus center is infinite at row {row}, column {column}; scale both, or use another center")]
    Center {
        /// Position of the row in the data given.
        row: usize,
        /// Column of the value.
        column: usize,
    },
    /// Rows of another width than the model's.
    #[error("X has {got} features, but the model has {expected} features as input")]
    Width {
        /// The model's number of features.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// As many ids as rows are needed.
    #[error("ids has {ids} entries, but X has {rows} rows; give one id for each row")]
    Length {
        /// Number of ids given.
        ids: usize,
        /// Number of rows given.
        rows: usize,
    },
    /// A row's norm is larger than `max_norm`.
    #[error("the norm of row {row} of X, {norm}, exceeds max_norm={max_norm}; scale the row or raise max_norm")]
    Norm {
        /// Position of the row in the data given.
        row: usize,
        /// Its norm.
        norm: String,
        /// The parameter.
        max_norm: String,
    },
    /// An id was given twice.
    #[error("duplicate id {0}: every row needs an id of its own")]
    DuplicateId(String),
    /// An id that is in the model already was added.
    #[error("id {0} is in the model already; remove it first to replace its row")]
    PresentId(String),
    /// Ids that are not in the model were to be removed.
    #[error("unknown {}: {}; nothing was removed", if .0.len() == 1 { "id" } else { "ids" }, summary(.0))]
    UnknownIds(Vec<String>),
    /// Rows that are not in a shard were asked for.
    #[error("not in this shard: {} {}; ask the shard that holds them", if .0.len() == 1 { "id" } else { "ids" }, summary(.0))]
    NotHere(Vec<String>),
    /// String ids for a model of integer ids, or the reverse.
    #[error("ids must be {expected}, as in the model, got {got}")]
    IdKind {
        /// The model's kind of ids.
        expected: &'static str,
        /// The kind that was given.
        got: &'static str,
    },
    /// No ids were given, and none can be counted up.
    #[error("ids must be given: {rows} cannot be counted up from the largest present, {largest}")]
    NoNextIds {
        /// Number of rows that need an id.
        rows: usize,
        /// The largest id in the model.
        largest: i64,
    },
    /// More rows than the arithmetic is proven for.
    #[error("the model would have {0} rows, but at most 2147483647 are supported")]
    TooManyRows(usize),
    /// The model has no rows, so there is nothing to predict with.
    #[error("the model is empty: all its rows were removed; add rows before predicting")]
    Empty,
    /// A message between shards and their coordinator that is not whole and sound, or belongs to another model.
    #[error("not a valid message: {0}")]
    Message(String),
    /// What shards say does not fit together, or is not all that is needed.
    #[error("{0}")]
    Parts(String),
    /// A file or byte string that is not a whole, sound model of this version.
    #[error("not a valid model file: {0}")]
    Format(String),
}

impl Error {
    pub(crate) fn parameter(name: &'static str, value: &dyn Display, bound: impl Into<String>) -> Self {
        Self::Parameter { name, value: value.to_string(), bound: bound.into() }
    }

    pub(crate) fn format(what: impl Into<String>) -> Self {
        Self::Format(what.into())
    }

    pub(crate) fn message(what: impl Into<String>) -> Self {
        Self::Message(what.into())
    }

    pub(crate) fn parts(what: impl Into<String>) -> Self {
        Self::Parts(what.into())
    }
}

/// A list of ids for a message: all of a few, the first ten of many.
fn summary(ids: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = ids[..ids.len().min(SHOWN)].join(", ");
    if ids.len() > SHOWN { format!("{shown} and {} more", ids.len() - SHOWN) } else { shown }
}
