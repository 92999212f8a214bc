//! What a model may use of the machine. Not part of its state.

use crate::scores::CacheSize;
use crate::threads::Threads;

/// Threads and memory. A count of threads alone will do where one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Threads.
    pub threads: Threads,
    /// Memory for what could be computed again.
    pub cache: CacheSize,
}

impl From<Threads> for Resources {
    fn from(threads: Threads) -> Self {
        Self { threads, cache: CacheSize::default() }
    }
}
