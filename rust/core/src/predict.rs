//! Rows that are not part of the model: which cluster they fall into, and how far they are from each centre.

use crate::assign::Centres;
use crate::error::Error;
use crate::fixed;
use crate::model::Model;
use crate::params::ValidParams;
use crate::rows::Batch;
use crate::threads::Threads;

/// A query row in the model's fixed point, if its norm is within the model's; else at its own, larger exponent.
pub(crate) enum Query<'a> {
    Near(&'a [i16]),
    Far { row: &'a [i16], exponent: i16, shift: u32 },
}

/// From here on a difference between two products outweighs every centre's norm, and more bits change nothing.
pub(crate) const FAR_ENOUGH: u32 = 60;

/// What rows are compared with: centres, in a model's fixed point.
#[derive(Clone, Copy)]
pub(crate) struct Routes<'a> {
    pub(crate) params: &'a ValidParams,
    pub(crate) centres: &'a Centres,
    /// `pR`.
    pub(crate) exponent: i16,
    pub(crate) threads: Threads,
}

impl Routes<'_> {
    /// The nearest centre of each row.
    pub(crate) fn predict(&self, queries: &Batch) -> Vec<u16> {
        self.map_queries(queries, |query| match query {
            Query::Near(row) => self.centres.nearest(row),
            Query::Far { row, shift, .. } => nearest_far(self.centres, row, shift),
        })
    }

    /// The distances of each row to all centres, row by row.
    pub(crate) fn transform(&self, queries: &Batch) -> Vec<f64> {
        let distances = self.map_queries(queries, |query| -> Vec<f64> {
            let distance = |(square, unit): (f64, f64)| square.sqrt() * unit;
            (0..self.centres.len()).map(|j| distance(self.square_distance(j, &query))).collect()
        });
        distances.concat()
    }

    /// The squared distance of each row to its nearest centre.
    pub(crate) fn nearest_square_distances(&self, queries: &Batch) -> Vec<f64> {
        self.map_queries(queries, |query| {
            let squares = (0..self.centres.len()).map(|j| {
                let (square, unit) = self.square_distance(j, &query);
                square * unit * unit
            });
            squares.fold(f64::INFINITY, f64::min)
        })
    }

    /// The centres in units of the data (after projection), where the data lie, one after the other.
    pub(crate) fn floats(&self) -> Vec<f64> {
        let (centres, unit) = (self.centres, self.params.unit(self.exponent));
        let mut floats: Vec<f64> =
            (0..centres.len()).flat_map(|j| centres.centre(j)).map(|&c| f64::from(c) * unit).collect();
        if let Some(center) = self.params.center() {
            let center = self.params.projector.of_floats(center);
            floats
                .chunks_exact_mut(center.len())
                .flat_map(|row| row.iter_mut().zip(&center))
                .for_each(|(x, c)| *x += c);
        }
        floats
    }

    /// The squared distance of a row to a centre, and the unit that it is in the square of.
    pub(crate) fn square_distance(&self, j: usize, query: &Query<'_>) -> (f64, f64) {
        let centres = self.centres;
        match *query {
            Query::Near(row) => {
                (f64::from(centres.distance(j, row, fixed::small_square(row))), self.params.unit(self.exponent))
            }
            Query::Far { row, exponent, shift } => {
                // The centre is brought to the row's scale, where nothing overflows.
                let scale = 2_f64.powi(-i32::try_from(shift).unwrap_or(i32::MAX));
                let differences = row.iter().zip(centres.padded(j)).map(|(&x, &c)| f64::from(x) - f64::from(c) * scale);
                (differences.map(|difference| difference * difference).sum(), self.params.unit(exponent))
            }
        }
    }

    /// One of the queries, read into `row`.
    pub(crate) fn query<'a>(&self, queries: &Batch, number: usize, row: &'a mut [i16]) -> Query<'a> {
        let (own, exponent) = (queries.exponents[number], self.exponent);
        queries.rows.read(number, row);
        if own <= exponent {
            fixed::align(row, own, exponent);
            Query::Near(row)
        } else {
            Query::Far { row, exponent: own, shift: u32::from((own - exponent).unsigned_abs()) }
        }
    }

    fn map_queries<R: Send>(&self, queries: &Batch, map: impl Fn(Query<'_>) -> R + Sync) -> Vec<R> {
        let parts = self.threads.map(queries.len(), self.centres.len() * self.params.dim(), |range| {
            let mut row = queries.rows.blank_row();
            let of_row = |number: usize| map(self.query(queries, number, &mut row));
            range.map(of_row).collect::<Vec<_>>()
        });
        parts.into_iter().flatten().collect()
    }
}

impl Model {
    /// What rows are compared with, if there are any centres.
    pub(crate) fn routes(&self) -> Option<Routes<'_>> {
        let centres = &self.held.last.summary()?.centres;
        let (exponent, threads) = (self.held.rows.exponent(), self.resources().threads);
        Some(Routes { params: self.params(), centres, exponent, threads })
    }

    /// The nearest centre of each row of [`Batch::queries`].
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] for a model without rows.
    pub fn predict(&self, queries: &Batch) -> Result<Vec<u16>, Error> {
        self.routes().map(|routes| routes.predict(queries)).ok_or(Error::Empty)
    }

    /// The distances of each row to all centres, row by row, in units of the data (after projection).
    ///
    /// # Errors
    ///
    /// As [`Model::predict`].
    pub fn transform(&self, queries: &Batch) -> Result<Vec<f64>, Error> {
        self.routes().map(|routes| routes.transform(queries)).ok_or(Error::Empty)
    }

    /// The squared distance of each row to its nearest centre, in units of the data (after projection).
    ///
    /// # Errors
    ///
    /// As [`Model::predict`].
    pub fn nearest_square_distances(&self, queries: &Batch) -> Result<Vec<f64>, Error> {
        self.routes().map(|routes| routes.nearest_square_distances(queries)).ok_or(Error::Empty)
    }
}

/// The nearest centre of a row that is `2^shift` times as long as its entries say.
fn nearest_far(centres: &Centres, row: &[i16], shift: u32) -> u16 {
    let key = |j: usize| {
        let product = i128::from(fixed::dot(row, centres.padded(j)));
        i128::from(centres.square(j)) - (product << (shift.min(FAR_ENOUGH) + 1))
    };
    let nearest = (0..centres.len()).min_by_key(|&j| key(j)).unwrap_or(0);
    crate::assign::label(nearest)
}
