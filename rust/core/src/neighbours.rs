//! The rows nearest to others that are not part of the model: exact, by the rows' fixed point, ties to the smaller id.

use std::collections::BinaryHeap;

use erase_core_kernel::{self as kernel, LANES};

use crate::assign::{Centres, OFFSET};
use crate::error::Error;
use crate::fixed::dot;
use crate::ids::{IdRef, slot_number};
use crate::model::Model;
use crate::predict::{FAR_ENOUGH, Query, Routes};
use crate::rows::Batch;
use crate::wipe::Wiped;

/// Queries that share a pass over the rows.
const GROUP: usize = 16;

/// The nearest rows of several queries, query by query, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours<'a> {
    /// How many there are of each query.
    pub count: usize,
    /// Their ids.
    pub ids: Vec<IdRef<'a>>,
    /// Their distances, in units of the data (after projection).
    pub distances: Vec<f64>,
}

/// The nearest rows so far, the worst of them on top. A rank orders as the distance does.
#[derive(Debug)]
struct Nearest<'a, R> {
    count: usize,
    heap: BinaryHeap<(R, IdRef<'a>, u32)>,
}

impl<'a, R: Ord + Copy> Nearest<'a, R> {
    fn new(count: usize) -> Self {
        Self { count, heap: BinaryHeap::with_capacity(count + 1) }
    }

    /// The id is only asked for where the rank does not decide.
    fn offer(&mut self, rank: R, slot: u32, id: impl FnOnce() -> IdRef<'a>) {
        if self.heap.len() < self.count {
            self.heap.push((rank, id(), slot));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && rank <= worst.0
        {
            let id = id();
            if (rank, id) < (worst.0, worst.1) {
                *worst = (rank, id, slot);
            }
        }
    }

    fn merge(parts: impl Iterator<Item = Self>, count: usize) -> Vec<(R, IdRef<'a>, u32)> {
        let mut all: Vec<_> = parts.flat_map(|part| part.heap).collect();
        all.sort_unstable();
        all.truncate(count);
        all
    }
}

impl Model {
    /// The `count` rows nearest to each row of [`Batch::queries`], or all rows if there are fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a model without rows.
    pub fn neighbours(&self, queries: &Batch, count: usize) -> Result<Neighbours<'_>, Error> {
        let routes = self.routes().ok_or(Error::Empty)?;
        let count = count.min(self.len());
        let mut found = Neighbours { count, ids: Vec::new(), distances: Vec::new() };
        let mut row = queries.rows.blank_row();
        let group = || Centres::with_capacity(self.dim(), GROUP);
        let mut near = group();
        for number in 0..queries.len() {
            match routes.query(queries, number, &mut row) {
                Query::Near(row) => {
                    near.push(row);
                    if near.len() == GROUP {
                        self.find_near(&std::mem::replace(&mut near, group()), &mut found);
                    }
                }
                query @ Query::Far { .. } => {
                    // Those before it come first.
                    self.find_near(&std::mem::replace(&mut near, group()), &mut found);
                    self.find_far(routes, &query, &mut found);
                }
            }
        }
        self.find_near(&near, &mut found);
        Ok(found)
    }

    /// Queries within the model's norms: distances as in the iteration, block by block, for all of them at once.
    fn find_near<'a>(&'a self, queries: &Centres, found: &mut Neighbours<'a>) {
        if queries.len() == 0 {
            return;
        }
        let (rows, count) = (self.held.rows.aligned(), found.count);
        let cost = LANES * self.dim() * queries.len();
        let parts = self.resources().threads.map(rows.count(), cost, |range| {
            let mut keys = Wiped::zeros(queries.len() * LANES);
            let mut nearest: Vec<_> = (0..queries.len()).map(|_| Nearest::new(count)).collect();
            for b in range {
                let first = b * LANES;
                let mut squares = [0; LANES];
                let live = LANES.min(self.len() - first);
                squares[..live].copy_from_slice(&self.held.rows.squares()[first..first + live]);
                queries.keys(rows.block(b), &mut keys);
                kernel::to_distances(&mut keys, &squares, OFFSET);
                for (nearest, distances) in nearest.iter_mut().zip(keys.chunks_exact(LANES)) {
                    for (lane, &distance) in distances[..live].iter().enumerate() {
                        let slot = slot_number(first + lane);
                        nearest.offer(distance, slot, || self.held.ids.get(slot));
                    }
                }
            }
            nearest
        });
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        for _ in 0..queries.len() {
            for (square, id, _) in Nearest::merge(parts.iter_mut().filter_map(Iterator::next), count) {
                found.ids.push(id);
                found.distances.push(f64::from(square).sqrt() * self.unit());
            }
        }
    }

    /// A query of a larger exponent than the rows': rare, and row by row.
    fn find_far<'a>(&'a self, routes: Routes<'_>, query: &Query<'_>, found: &mut Neighbours<'a>) {
        let Query::Far { row: q, shift, .. } = *query else { return };
        let (rows, count) = (self.held.rows.aligned(), found.count);
        let parts = self.resources().threads.map(self.len(), self.dim(), |range| {
            let mut row = rows.blank_row();
            let mut nearest = Nearest::new(count);
            for slot in range {
                rows.read(slot, &mut row);
                let product = i128::from(dot(&row, q)) << (shift.min(FAR_ENOUGH) + 1);
                let rank = i128::from(self.held.rows.squares()[slot]) - product;
                nearest.offer(rank, slot_number(slot), || self.held.ids.get(slot_number(slot)));
            }
            nearest
        });
        for (_, id, slot) in Nearest::merge(parts.into_iter(), count) {
            let row = rows.row(slot as usize);
            let mut single = Centres::with_capacity(self.dim(), 1);
            single.push(&row);
            let (square, unit) = Routes { centres: &single, ..routes }.square_distance(0, query);
            found.ids.push(id);
            found.distances.push(square.sqrt() * unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;
    use crate::params::Params;
    use crate::rows::Matrix;
    use crate::threads::Threads;

    /// Against the definition: all distances, sorted with the ids.
    #[test]
    fn neighbours_are_the_smallest_distances_ties_to_the_smaller_id() -> Result<(), Error> {
        let rows: Vec<f64> = (0..3 * 200).map(|i| f64::from(i * 7919 % 5)).collect();
        let ids: Vec<i64> = (0..200).map(|i| (i * 77) % 200).collect();
        let params = Params { n_clusters: 4, max_norm: Some(8.0), ..Params::default() }.check(3)?;
        let queries = [0.0, 1.0, 4.0, 2.0, 2.0, 2.0, 40.0, 8.0, -16.0, 0.0, 0.0, -9e9, 3.0, 0.0, 1.0];
        for threads in [1, 2] {
            let threads = Threads::new(Some(threads));
            let model = Model::fit(params.clone(), Ids::Int(ids.clone()), Matrix::F64(&rows), threads)?;
            let batch = Batch::queries(model.params(), Matrix::F64(&queries), threads)?;
            for count in [1, 7, 199, 500] {
                let found = model.neighbours(&batch, count)?;
                assert_eq!(found.count, count.min(200));
                for (query, got) in queries.chunks_exact(3).zip(found.ids.chunks_exact(found.count)) {
                    // All are small integers, exact in fixed point; of the huge one, less than its square.
                    let far = |row: &[f64]| row.iter().zip(query).map(|(x, q)| x * (x - 2.0 * q)).sum::<f64>();
                    let mut all: Vec<_> = rows.chunks_exact(3).map(far).zip(&ids).collect();
                    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
                    let expected: Vec<_> = all[..found.count].iter().map(|(_, id)| IdRef::Int(**id)).collect();
                    assert_eq!(got, expected);
                }
            }
        }
        Ok(())
    }
}
