//! Parameters: what a caller may ask for, checked once. A `ValidParams` is a proof that every bound of
//! docs/algorithm.md holds.

use std::sync::Arc;

use crate::error::Error;
use crate::fixed::{self, UNIT_BITS};
use crate::keyed::Keyed;
use crate::project::Projector;

/// Widest row, before and after projection, for which the arithmetic is proven.
pub const MAX_DIM: usize = 1 << 16;
/// Most clusters: a label is 16 bits.
pub const MAX_CLUSTERS: u32 = 1 << 16;
/// Most updates: all of them are run.
pub const MAX_ITER: u32 = 1 << 10;
/// Most entries of a projection: 128 MiB of them.
pub const MAX_PROJECTION: usize = 1 << 26;
/// Largest denominator of a rational parameter.
pub const MAX_DENOMINATOR: u32 = 1_000_000;
const MAX_EPSILON: u32 = 3;
/// Largest panel.
pub const MAX_PANEL: u32 = i32::MAX.cast_unsigned();
/// The dimension from which on the lattice gets finer with the dimension: below, it is as fine as there.
const PITCH_DIM: usize = 256;
/// By how much the pitch of the first updates exceeds that of the last ones.
const GRADES: [u32; 3] = [4, 3, 2];

/// A rational parameter, so that it means the same on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// Numerator.
    pub num: u32,
    /// Denominator, from 1 to [`MAX_DENOMINATOR`].
    pub den: u32,
}

impl Ratio {
    fn lowest_terms(self) -> Self {
        let (mut a, mut b) = (self.num, self.den);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self { num: self.num / a, den: self.den / a }
    }

    fn exceeds(self, whole: u32) -> bool {
        u64::from(self.num) > u64::from(self.den) * u64::from(whole)
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// A linear map applied to every row before clustering. Never one that was fitted to the rows themselves: it would keep
/// a trace of those that are removed.
#[derive(Debug, Clone, PartialEq)]
pub enum Projection {
    /// Rows are clustered as they are.
    None,
    /// Random signs drawn from the seed, to this many dimensions (Achlioptas, JCSS 2003).
    Signs(usize),
    /// A matrix the caller vouches for: it must not depend on data that will have to be forgotten.
    Matrix {
        /// Number of dimensions after projection.
        rows: usize,
        /// Entries, row by row, each as wide as the data.
        entries: Vec<f64>,
    },
}

/// What to fit. Checked by [`Params::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Number of clusters `k`, from 1 to [`MAX_CLUSTERS`].
    pub n_clusters: u32,
    /// Pitch of the lattice on which centres lie, in units of `max_norm / sqrt(dim)`; above 0, at most 3.
    pub epsilon: Ratio,
    /// Balance correction, from 0 to 1: a cluster of fewer than `gamma * n / k` rows moves only in proportion.
    pub gamma: Ratio,
    /// Number of updates of the centres `T`, from 1 to [`MAX_ITER`].
    pub max_iter: u32,
    /// Rows that seeding and updates look at, from `n_clusters` to [`MAX_PANEL`]; None for all.
    pub panel: Option<u32>,
    /// Projection of the rows before clustering.
    pub projection: Projection,
    /// Bound of the rows' Euclidean norms; by default the smallest power of two that holds all rows present.
    pub max_norm: Option<f64>,
    /// What is subtracted from every row before all else, one number for each feature. As with a matrix, the caller
    /// vouches for it: it must not depend on data that will have to be forgotten.
    pub center: Option<Vec<f64>>,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            n_clusters: 8,
            epsilon: Ratio { num: 1, den: 1 },
            gamma: Ratio { num: 1, den: 5 },
            max_iter: 5,
            panel: Some(1024),
            projection: Projection::None,
            max_norm: None,
            center: None,
            seed: 0,
        }
    }
}

/// Parameters that hold every bound, for rows of one width.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidParams {
    pub(crate) n_clusters: u32,
    pub(crate) epsilon: Ratio,
    pub(crate) gamma: Ratio,
    pub(crate) max_iter: u32,
    pub(crate) panel: Option<u32>,
    pub(crate) max_norm: Option<f64>,
    /// Shared: parameters are copied for every batch of rows. Never all zeros.
    pub(crate) center: Option<Arc<[f64]>>,
    pub(crate) seed: u64,
    pub(crate) n_features: usize,
    pub(crate) projector: Projector,
}

impl Params {
    /// Checks every parameter against its bounds, for rows of `n_features` columns.
    ///
    /// # Errors
    ///
    /// [`Error::Parameter`] names the first parameter that is out of bounds.
    pub fn check(&self, n_features: usize) -> Result<ValidParams, Error> {
        let dim_bound = format!("from 1 to {MAX_DIM}");
        if !(1..=MAX_DIM).contains(&n_features) {
            return Err(Error::parameter("the number of features", &n_features, &dim_bound));
        }
        let entries = match &self.projection {
            Projection::None => 0,
            Projection::Signs(m) | Projection::Matrix { rows: m, .. } => m.saturating_mul(n_features),
        };
        if entries > MAX_PROJECTION {
            let bound = format!("of at most {MAX_PROJECTION} entries (m * n_features)");
            return Err(Error::parameter("projection", &entries, bound));
        }
        let projector = match &self.projection {
            Projection::None => Projector::none(),
            Projection::Signs(m) if (1..=MAX_DIM).contains(m) => Projector::signs(*m, n_features, self.keyed()),
            Projection::Signs(m) => return Err(Error::parameter("projection", &m, &dim_bound)),
            Projection::Matrix { rows, entries } => {
                if !(1..=MAX_DIM).contains(rows) || entries.len() != rows * n_features {
                    let shape = format!("a matrix of shape (1 to {MAX_DIM}, {n_features})");
                    return Err(Error::parameter(
                        "projection",
                        &format_args!("{} entries in {rows} rows", entries.len()),
                        shape,
                    ));
                }
                Projector::matrix(entries, n_features)?
            }
        };
        self.check_with(n_features, projector)
    }

    /// As `check`, with the projection already made (as a model file has it).
    pub(crate) fn check_with(&self, n_features: usize, projector: Projector) -> Result<ValidParams, Error> {
        if !(1..=MAX_CLUSTERS).contains(&self.n_clusters) {
            return Err(Error::parameter("n_clusters", &self.n_clusters, format!("from 1 to {MAX_CLUSTERS}")));
        }
        if !(1..=MAX_ITER).contains(&self.max_iter) {
            return Err(Error::parameter("max_iter", &self.max_iter, format!("from 1 to {MAX_ITER}")));
        }
        if self.panel.is_some_and(|panel| !(self.n_clusters..=MAX_PANEL).contains(&panel)) {
            let panel = self.panel.unwrap_or_default();
            let bound = format!("from n_clusters={} to {MAX_PANEL}, or None", self.n_clusters);
            return Err(Error::parameter("panel", &panel, bound));
        }
        for (name, ratio, most, least) in [("epsilon", self.epsilon, MAX_EPSILON, 1), ("gamma", self.gamma, 1, 0)] {
            if ratio.num < least || !(1..=MAX_DENOMINATOR).contains(&ratio.den) || ratio.exceeds(most) {
                let from = if least == 0 { "from 0" } else { "above 0 (at least 1e-6)" };
                return Err(Error::parameter(name, &ratio, format!("{from} and at most {most}")));
            }
        }
        if let Some(max_norm) = self.max_norm {
            fixed::norm_bound(max_norm)?;
        }
        let center = self.center.as_deref().map(|center| check_center(center, n_features)).transpose()?.flatten();
        Ok(ValidParams {
            n_clusters: self.n_clusters,
            epsilon: self.epsilon.lowest_terms(),
            gamma: self.gamma.lowest_terms(),
            max_iter: self.max_iter,
            panel: self.panel,
            max_norm: self.max_norm,
            center,
            seed: self.seed,
            n_features,
            projector,
        })
    }

    fn keyed(&self) -> Keyed {
        Keyed::new(self.seed)
    }
}

/// The center in the one form that means the same: no negative zeros, and none at all instead of zeros.
fn check_center(center: &[f64], n_features: usize) -> Result<Option<Arc<[f64]>>, Error> {
    if center.len() != n_features {
        let bound = format!("{n_features} numbers, one for each feature");
        return Err(Error::parameter("center", &format_args!("{}", center.len()), bound));
    }
    if let Some(column) = center.iter().position(|c| !c.is_finite()) {
        return Err(Error::parameter("center", &format_args!("{} at column {column}", center[column]), "finite"));
    }
    let center: Arc<[f64]> = center.iter().map(|c| c + 0.0).collect();
    Ok(center.iter().any(|&c| c != 0.0).then_some(center))
}

/// What was asked for, as it is kept.
impl ValidParams {
    /// Number of clusters asked for.
    #[must_use]
    pub fn n_clusters(&self) -> u32 {
        self.n_clusters
    }

    /// Pitch of the lattice, in lowest terms.
    #[must_use]
    pub fn epsilon(&self) -> Ratio {
        self.epsilon
    }

    /// Balance correction, in lowest terms.
    #[must_use]
    pub fn gamma(&self) -> Ratio {
        self.gamma
    }

    /// Number of updates of the centres.
    #[must_use]
    pub fn max_iter(&self) -> u32 {
        self.max_iter
    }

    /// Rows that seeding and updates look at; None for all.
    #[must_use]
    pub fn panel(&self) -> Option<u32> {
        self.panel
    }

    /// Bound of the rows' norms.
    #[must_use]
    pub fn max_norm(&self) -> Option<f64> {
        self.max_norm
    }

    /// What is subtracted from every row; None for zeros.
    #[must_use]
    pub fn center(&self) -> Option<&[f64]> {
        self.center.as_deref()
    }

    /// Seed of every draw.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Width of the rows.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// The projection; a matrix as it is used, in fixed point.
    #[must_use]
    pub fn projection(&self) -> Projection {
        match (self.projector.dim(), self.projector.as_matrix()) {
            (None, _) => Projection::None,
            (Some(m), None) => Projection::Signs(m),
            (Some(rows), Some((entries, exponent))) => {
                let unit = fixed::power_of_two(exponent - UNIT_BITS);
                Projection::Matrix { rows, entries: entries.iter().map(|&x| f64::from(x) * unit).collect() }
            }
        }
    }
}

impl ValidParams {
    pub(crate) fn keyed(&self) -> Keyed {
        Keyed::new(self.seed)
    }

    /// `D`: dimension of the rows that are clustered.
    pub(crate) fn dim(&self) -> usize {
        self.projector.dim().unwrap_or(self.n_features)
    }

    /// The length of one unit of the fixed point in units of the data, for rows that are aligned to an exponent.
    pub(crate) fn unit(&self, exponent: i16) -> f64 {
        let exponent = i32::from(exponent) - UNIT_BITS + self.projector.unit_exponent();
        // In two factors, so that an exponent at the ends of a float's range is not lost on the way.
        2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2)
    }

    /// `K` for `n` rows.
    pub(crate) fn clusters(&self, n: usize) -> usize {
        n.min(self.n_clusters as usize)
    }

    /// `min(n, M)`: rows on the panel, of `n`.
    pub(crate) fn on_panel(&self, n: usize) -> usize {
        self.panel.map_or(n, |panel| n.min(panel as usize))
    }

    /// `e`: the lattice's pitch, even and at least 2.
    pub(crate) fn pitch(&self) -> u32 {
        let bits = if self.projector.is_signs() { UNIT_BITS - 1 } else { UNIT_BITS }.unsigned_abs();
        let (p, q) = (u128::from(self.epsilon.num), u128::from(self.epsilon.den));
        let dim = self.dim().max(PITCH_DIM) as u128;
        let half = (((p * p) << (2 * bits)) / (4 * q * q * dim)).isqrt().max(1);
        u32::try_from(2 * half).unwrap_or(u32::MAX).min(1 << UNIT_BITS)
    }

    /// `b`: the number of rows that a cluster needs to move freely, with `n` rows on the panel.
    pub(crate) fn balance(&self, n: usize) -> i64 {
        let clusters = self.clusters(n).max(1) as u64;
        let share = u64::from(self.gamma.num) * n as u64;
        (share.div_ceil(u64::from(self.gamma.den) * clusters)).cast_signed()
    }

    /// `e_T`: the pitch of the last update.
    pub(crate) fn last_pitch(&self) -> u32 {
        Self::graded(self.pitch(), self.max_iter as usize)
    }

    /// `e_t`: the pitch of an update, counted from 1, for the pitch `e`.
    pub(crate) fn graded(pitch: u32, update: usize) -> u32 {
        let grade = update.checked_sub(1).and_then(|i| GRADES.get(i)).copied().unwrap_or(1);
        (grade * pitch).min(1 << UNIT_BITS)
    }

    /// Exponent that `max_norm` fixes, if it is given, with the largest squared norm there.
    pub(crate) fn fixed_exponent(&self) -> Option<(i16, i64)> {
        self.max_norm.and_then(|max_norm| fixed::norm_bound(max_norm).ok())
    }
}
