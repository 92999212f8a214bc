//! Deterministic quantised k-means whose state after any removals and additions is, bit for bit, what a fit on the rows
//! that remain gives.
//!
//! # The contract
//!
//! A [`Model`] is a pure function of the set of its rows with their ids, its parameters and its seed. It does not
//! depend on the order in which rows came and went, on how they were batched, on the number of threads, on the
//! platform, or on having been saved and loaded. [`Model::digest`] is a hash of the whole state, so that the contract
//! can be tested with `==`. Nothing of a row that was removed is kept, and memory that held it is overwritten.
//!
//! # Where each part of it lives
//!
//! The algorithm is defined in `docs/algorithm.md`, how it is maintained in `docs/maintenance.md`. From the bottom up:
//!
//! - [`params`](Params): what may be asked for; `fixed`, `project`, `keyed`: rows and draws in integers;
//! - `ids`, `rows`, `population`: the rows, and the rows as they will be after an update;
//! - `assign`, `seed`, `lloyd`: nearest centres, k-means++ as a race, the steps and their cells;
//! - `panel`: the rows that seeding and updates look at;
//! - `certificate`, `replay`, `exemplar`: what an update changes, found without changing anything;
//! - `fit` applies it to what is derived from the panel, `last` to what is derived from all rows; `model` owns all;
//! - `resolution`: whether the fixed point and the lattice are too coarse for the rows;
//! - `codec`: the model file; `digest`: the hash of the state;
//! - `holding`: the rows that one place has; `shard`, `coordinator`, `results`: a model whose rows are in several places;
//!   `message`, `kept`, `frame`, `part`: what is sent between them;
//! - `threads`, `wipe`: shards, and memory that leaves nothing behind.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod assign;
mod blocks;
mod certificate;
mod codec;
mod coordinator;
mod derived;
mod digest;
mod error;
mod exemplar;
mod field;
mod fit;
mod fixed;
mod flat;
mod frame;
mod holding;
mod ids;
mod kept;
mod keyed;
mod last;
mod lloyd;
mod message;
mod model;
mod neighbours;
mod panel;
mod params;
mod part;
mod population;
mod predict;
mod project;
mod replay;
mod resolution;
mod resources;
mod results;
mod row_sum;
mod rows;
mod scores;
mod seed;
mod shard;
mod threads;
mod wipe;

pub use coordinator::{Coordinator, Exchanged};
pub use digest::Digest;
pub use error::Error;
pub use exemplar::MAX_NEAREST;
pub use fit::{Update, UpdatePath};
pub use frame::{Frame, FrameId};
pub use ids::{IdRef, Ids};
pub use kept::{KeptRows, Mark};
pub use message::SharedParams;
pub use model::Model;
pub use neighbours::Neighbours;
pub use params::{
    MAX_CLUSTERS, MAX_DENOMINATOR, MAX_DIM, MAX_ITER, MAX_PANEL, MAX_PROJECTION, Params, Projection, Ratio, ValidParams,
};
pub use part::{Clusters, Part};
pub use resources::Resources;
pub use rows::{Batch, Matrix};
pub use scores::CacheSize;
pub use shard::{Removed, Shard};
pub use threads::Threads;

#[cfg(test)]
mod golden;
