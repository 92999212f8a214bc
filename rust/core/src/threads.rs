//! Work over rows, split into shards. Every pass of the core is a map over shards and a merge of integers, so that the
//! result is the same for any split, any number of threads, and any order of completion.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// How many threads a model may use. Not part of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    requested: Option<usize>,
    count: usize,
}

/// Below this many multiply-adds a pass is done by the calling thread: waking another would cost more.
const GRAIN: usize = 1 << 18;
/// Shards for each thread, so that one which is held up is helped by the others.
const SHARDS_PER_THREAD: usize = 4;

impl Threads {
    /// At most `count` threads; `None` or 0 for as many as there are processors.
    #[must_use]
    pub fn new(count: Option<usize>) -> Self {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let requested = count.filter(|&count| count > 0);
        Self { requested, count: requested.unwrap_or_else(all) }
    }

    /// What was asked for.
    #[must_use]
    pub fn requested(self) -> Option<usize> {
        self.requested
    }

    /// Maps shards of `0..len` and returns the partial results in the order of the shards. `cost` is the number of
    /// multiply-adds that one element takes, and only decides how finely to split.
    pub(crate) fn map<P: Send>(self, len: usize, cost: usize, map: impl Fn(Range<usize>) -> P + Sync) -> Vec<P> {
        let size = self.shard_size(len, cost);
        let shard = |i: usize| i * size..((i + 1) * size).min(len);
        let shards = len.div_ceil(size);
        match self.pool(shards) {
            Some(pool) => pool.install(|| (0..shards).into_par_iter().map(|i| map(shard(i))).collect()),
            None => (0..shards).map(|i| map(shard(i))).collect(),
        }
    }

    /// As `map`, over a mutable slice of records of `width` elements: each shard gets its part and the number of its first
    /// record. `cost` is that of a record.
    pub(crate) fn map_mut<T: Send, P: Send>(
        self,
        slice: &mut [T],
        width: usize,
        cost: usize,
        map: impl Fn(usize, &mut [T]) -> P + Sync,
    ) -> Vec<P> {
        let records = slice.len() / width;
        let size = self.shard_size(records, cost);
        match self.pool(records.div_ceil(size)) {
            Some(pool) => pool.install(|| {
                slice.par_chunks_mut(size * width).enumerate().map(|(i, part)| map(i * size, part)).collect()
            }),
            None => slice.chunks_mut(size * width).enumerate().map(|(i, part)| map(i * size, part)).collect(),
        }
    }

    fn shard_size(self, len: usize, cost: usize) -> usize {
        let least = GRAIN.div_ceil(cost.max(1));
        len.div_ceil(self.count.saturating_mul(SHARDS_PER_THREAD)).max(least).max(1)
    }

    /// The pool for these threads, if it is worth going to. Pools live as long as the process; one that was inherited
    /// over a fork has no threads and is left behind.
    fn pool(self, shards: usize) -> Option<Arc<ThreadPool>> {
        static POOLS: Mutex<Vec<(u32, usize, Arc<ThreadPool>)>> = Mutex::new(Vec::new());
        if self.count < 2 || shards < 2 {
            return None;
        }
        let process = std::process::id();
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, pool)) = pools.iter().find(|(of, count, _)| (*of, *count) == (process, self.count)) {
            return Some(Arc::clone(pool));
        }
        // Where no thread can be started the work is done without.
        let pool = Arc::new(ThreadPoolBuilder::new().num_threads(self.count).build().ok()?);
        pools.push((process, self.count, Arc::clone(&pool)));
        Some(pool)
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_everything_once_and_in_order() {
        for threads in [1, 2, 8] {
            for len in [0, 1, 7, 1000] {
                let parts = Threads::new(Some(threads)).map(len, GRAIN, Iterator::collect::<Vec<_>>);
                assert_eq!(parts.concat(), (0..len).collect::<Vec<_>>());
                let mut slice = vec![0; len];
                Threads::new(Some(threads)).map_mut(&mut slice, 1, GRAIN, |start, part| {
                    part.iter_mut().enumerate().for_each(|(i, x)| *x = start + i);
                });
                assert_eq!(slice, (0..len).collect::<Vec<_>>());
            }
        }
    }
}
