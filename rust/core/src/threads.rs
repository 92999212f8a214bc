//! Work over rows, split into shards. Every pass of the core is a map over shards and a merge of integers, so that the
//! result is the same for any split, any number of threads, and any order of completion.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// How many threads a model may use. Not part of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    requested: Option<usize>,
    count: usize,
}

/// Below this many multiply-adds, a few hundred microseconds, a pass is done by the calling thread alone: to wake another
/// costs tens of microseconds.
const WORTH_WAKING: usize = 1 << 24;
/// Shards for each thread, so that one which is held up is helped by the others.
const SHARDS_PER_THREAD: usize = 8;

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
        let shards = (0..len.div_ceil(size)).map(|i| i * size..((i + 1) * size).min(len));
        self.run(shards.enumerate(), map)
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
        let size = self.shard_size(slice.len() / width, cost);
        let parts = slice.chunks_mut(size * width).enumerate().map(|(i, part)| (i, (i * size, part)));
        self.run(parts, |(first, part)| map(first, part))
    }

    /// Records in a shard: all of them if waking other threads is not worth it.
    fn shard_size(self, len: usize, cost: usize) -> usize {
        if self.count < 2 || len.saturating_mul(cost) < WORTH_WAKING {
            return len.max(1);
        }
        len.div_ceil(self.count.saturating_mul(SHARDS_PER_THREAD)).max(1)
    }

    /// Runs numbered tasks, by the calling thread and whoever of the pool is awake, and returns their results in order.
    fn run<T, P: Send>(
        self,
        tasks: impl ExactSizeIterator<Item = (usize, T)> + Send,
        map: impl Fn(T) -> P + Sync,
    ) -> Vec<P> {
        let Some(pool) = self.pool(tasks.len()) else { return tasks.map(|(_, task)| map(task)).collect() };
        let helpers = (self.count - 1).min(tasks.len());
        let tasks = Mutex::new(tasks);
        let results = Mutex::new(Vec::new());
        let work = || {
            loop {
                let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((number, task)) = next else { return };
                let result = map(task);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            }
        };
        pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| work());
            }
            work();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|&(number, _)| number);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// The pool of helpers for these threads, if there is something to help with. Pools live as long as the process; one
    /// that was inherited over a fork has no threads and is left behind.
    fn pool(self, tasks: usize) -> Option<Arc<ThreadPool>> {
        static POOLS: Mutex<Vec<(u32, usize, Arc<ThreadPool>)>> = Mutex::new(Vec::new());
        if self.count < 2 || tasks < 2 {
            return None;
        }
        let process = std::process::id();
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, pool)) = pools.iter().find(|(of, count, _)| (*of, *count) == (process, self.count)) {
            return Some(Arc::clone(pool));
        }
        // Where no thread can be started the work is done without.
        let pool = Arc::new(ThreadPoolBuilder::new().num_threads(self.count - 1).build().ok()?);
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
                let parts = Threads::new(Some(threads)).map(len, WORTH_WAKING, Iterator::collect::<Vec<_>>);
                assert_eq!(parts.concat(), (0..len).collect::<Vec<_>>());
                let mut slice = vec![0; len];
                Threads::new(Some(threads)).map_mut(&mut slice, 1, WORTH_WAKING, |start, part| {
                    part.iter_mut().enumerate().for_each(|(i, x)| *x = start + i);
                });
                assert_eq!(slice, (0..len).collect::<Vec<_>>());
            }
        }
    }
}
