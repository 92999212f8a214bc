//! A vector that leaves nothing behind: its memory is overwritten when it is freed, when it grows, and where an element
//! is taken out. Rows, and sums from whose difference a row could be computed, live in it.

use std::ops::{Deref, DerefMut};

use zeroize::{DefaultIsZeroes, optimization_barrier};

/// A `Vec` whose buffer is overwritten with zeros before it is given back to the allocator. Behind its length there are
/// zeros only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wiped<T: DefaultIsZeroes>(Vec<T>);

impl<T: DefaultIsZeroes> Wiped<T> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn zeros(len: usize) -> Self {
        Self(vec![T::default(); len])
    }

    /// Appends; a buffer that is outgrown is overwritten before it is freed.
    pub(crate) fn extend_from_slice(&mut self, more: &[T]) {
        self.reserve(self.0.len() + more.len());
        self.0.extend_from_slice(more);
    }

    /// How many elements there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends zeros up to a length.
    pub(crate) fn grow(&mut self, len: usize) {
        self.reserve(len);
        self.0.resize(len.max(self.0.len()), T::default());
    }

    /// Cuts off what lies beyond a length, and overwrites it.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(rest) = self.0.get_mut(len..) {
            wipe(rest);
        }
        self.0.truncate(len);
    }

    fn reserve(&mut self, needed: usize) {
        if needed > self.0.capacity() {
            let larger = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            self.move_to(larger);
        }
    }

    /// Makes room for a length that is expected, if there is as much memory.
    pub(crate) fn expect(&mut self, len: usize) {
        let mut larger = Vec::new();
        if len > self.0.capacity() && larger.try_reserve_exact(len.max(self.0.capacity() * 2)).is_ok() {
            self.move_to(larger);
        }
    }

    fn move_to(&mut self, mut larger: Vec<T>) {
        larger.extend_from_slice(&self.0);
        wipe(&mut self.0);
        self.0 = larger;
    }

    /// Takes out the elements `index * width ..` of one record by moving the last record there, and overwrites what
    /// the last record leaves.
    pub(crate) fn swap_remove_record(&mut self, index: usize, width: usize) {
        let last = self.0.len() - width;
        self.0.copy_within(last.., index * width);
        wipe(&mut self.0[last..]);
        self.0.truncate(last);
    }
}

impl<T: DefaultIsZeroes> From<Vec<T>> for Wiped<T> {
    fn from(vec: Vec<T>) -> Self {
        Self(vec)
    }
}

impl<T: DefaultIsZeroes> Clone for Wiped<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: DefaultIsZeroes> Drop for Wiped<T> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl<T: DefaultIsZeroes> Deref for Wiped<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: DefaultIsZeroes> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// Overwrites with zeros, for good: the compiler must assume that somebody looks.
fn wipe<T: DefaultIsZeroes>(slice: &mut [T]) {
    slice.fill(T::default());
    optimization_barrier(slice);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_taken_out_is_replaced_by_the_last() {
        let mut v = Wiped::from(vec![1_i16, 2, 3, 4, 5, 6]);
        v.swap_remove_record(0, 2);
        assert_eq!(&*v, &[5, 6, 3, 4]);
        v.swap_remove_record(1, 2);
        assert_eq!(&*v, &[5, 6]);
    }
}
