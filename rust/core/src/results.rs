//! What a coordinator shows: the results of a model whose rows lie in shards.

use crate::assign::Centres;
use crate::coordinator::Coordinator;
use crate::digest::{Digest, State};
use crate::error::Error;
use crate::exemplar::MAX_NEAREST;
use crate::frame::{Frame, FrameId};
use crate::ids::IdRef;
use crate::lloyd::Summary;
use crate::message::SharedParams;
use crate::part::{Assigned, Clusters};
use crate::predict::Routes;
use crate::resolution::Apart;
use crate::resources::Resources;
use crate::rows::Batch;

impl Coordinator {
    /// The parameters.
    #[must_use]
    pub fn shared(&self) -> &SharedParams {
        &self.shared
    }

    /// What the coordinator may use of the machine.
    #[must_use]
    pub fn resources(&self) -> Resources {
        self.resources
    }

    /// Number of rows of all shards.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of clusters there are.
    #[must_use]
    pub fn n_clusters(&self) -> usize {
        self.shared.params.clusters(self.rows.len())
    }

    /// Dimension of the centres.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// What the shards assign their rows to.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let none = || Centres::with_capacity(self.rows.dim(), 0);
        let centres = self.last.summary().map_or_else(none, |summary| summary.centres.clone());
        Frame { origin: self.shared.origin, exponent: self.rows.exponent(), centres }
    }

    /// The hash of the frame.
    #[must_use]
    pub fn frame_id(&self) -> FrameId {
        self.frame
    }

    /// What rows are compared with, if there are any centres.
    fn routes(&self) -> Option<Routes<'_>> {
        let (params, exponent, threads) = (&self.shared.params, self.rows.exponent(), self.resources.threads);
        self.last.summary().map(|summary| Routes { params, centres: &summary.centres, exponent, threads })
    }

    /// As [`Model::centres`](crate::Model::centres).
    #[must_use]
    pub fn centres(&self) -> Vec<f64> {
        self.routes().map_or_else(Vec::new, |routes| routes.floats())
    }

    /// As [`Model::predict`](crate::Model::predict).
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without rows.
    pub fn predict(&self, queries: &Batch) -> Result<Vec<u16>, Error> {
        self.routes().map(|routes| routes.predict(queries)).ok_or(Error::Empty)
    }

    /// As [`Model::transform`](crate::Model::transform).
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without rows.
    pub fn transform(&self, queries: &Batch) -> Result<Vec<f64>, Error> {
        self.routes().map(|routes| routes.transform(queries)).ok_or(Error::Empty)
    }

    /// As [`Model::nearest_square_distances`](crate::Model::nearest_square_distances).
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without rows.
    pub fn nearest_square_distances(&self, queries: &Batch) -> Result<Vec<f64>, Error> {
        self.routes().map(|routes| routes.nearest_square_distances(queries)).ok_or(Error::Empty)
    }

    /// The ids of the rows chosen as seeds, round by round.
    #[must_use]
    pub fn seeds(&self) -> Vec<IdRef<'_>> {
        self.fit.seeds.chosen().map(|slot| self.ids.get(slot)).collect()
    }

    /// For each round of the seeding the ids of the rows that its trials proposed.
    #[must_use]
    pub fn proposals(&self) -> Vec<Vec<IdRef<'_>>> {
        self.fit.seeds.trials().map(|trials| trials.map(|(slot, _)| self.ids.get(slot)).collect()).collect()
    }

    /// Number of updates of the centres.
    #[must_use]
    pub fn n_iter(&self) -> usize {
        self.fit.steps.len().saturating_sub(1)
    }

    /// The clusters of all rows; none without rows.
    fn result(&self) -> Result<Option<&Clusters>, Error> {
        match &self.total.assigned {
            _ if self.is_empty() => Ok(None),
            Assigned::To(clusters) if clusters.frame == self.frame => Ok(Some(clusters)),
            _ => Err(Error::parts(
                "the model is not complete: assign every shard to the present centres, and complete it with their parts",
            )),
        }
    }

    /// Number of rows of each cluster.
    ///
    /// # Errors
    ///
    /// [`Error::Parts`] before the model is complete; so do all that follow.
    pub fn counts(&self) -> Result<Vec<i64>, Error> {
        Ok(self.result()?.map_or_else(Vec::new, |clusters| clusters.counts.clone()))
    }

    /// As [`Model::inertia`](crate::Model::inertia).
    ///
    /// # Errors
    ///
    /// As [`Coordinator::counts`].
    pub fn inertia(&self) -> Result<f64, Error> {
        let unit = self.shared.params.unit(self.rows.exponent());
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let loss = self.result()?.map_or(0, |clusters| clusters.loss) as f64;
        Ok(loss * unit * unit)
    }

    /// As [`Model::resolution`](crate::Model::resolution).
    ///
    /// # Errors
    ///
    /// As [`Coordinator::counts`].
    pub fn resolution(&self) -> Result<f64, Error> {
        let (Some(clusters), Some(kept)) = (self.result()?, self.last.summary()) else { return Ok(0.0) };
        let (counts, centres) = (clusters.counts.clone(), kept.centres.clone());
        let all = Summary { centres, counts, loss: clusters.loss, cells: None };
        Ok(Apart::new(&all).resolution(&all, self.shared.params.last_pitch(), self.dim()))
    }

    /// As [`Model::exemplars`](crate::Model::exemplars).
    ///
    /// # Errors
    ///
    /// As [`Coordinator::counts`].
    pub fn exemplars(&self) -> Result<Vec<Option<IdRef<'_>>>, Error> {
        let lists = self.result()?.map(|clusters| clusters.nearest.iter());
        Ok(lists.into_iter().flatten().map(|list| list.first().map(|near| near.id.as_ref())).collect())
    }

    /// As [`Model::nearest`](crate::Model::nearest).
    ///
    /// # Errors
    ///
    /// As [`Coordinator::counts`]; also if the parts were asked for fewer.
    pub fn nearest(&self, count: usize) -> Result<Vec<Vec<IdRef<'_>>>, Error> {
        let Some(clusters) = self.result()? else { return Ok(Vec::new()) };
        let count = count.min(MAX_NEAREST);
        if count > clusters.depth {
            let text =
                format!("the parts have {} nearest rows: complete the model with parts of {count}", clusters.depth);
            return Err(Error::parts(text));
        }
        Ok(clusters.nearest.iter().map(|list| list.iter().take(count).map(|near| near.id.as_ref()).collect()).collect())
    }

    /// As [`Model::digest`](crate::Model::digest), and the same bits.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::counts`]; also if the parts have no hash of the rows.
    pub fn digest(&self) -> Result<Digest, Error> {
        let sum = self.total.sum.as_ref().ok_or_else(|| {
            Error::parts("the parts have no hash of the rows: complete the model with parts that do (row_hash=True)")
        })?;
        let state = State {
            head: &self.shared.params.head(),
            is_str: self.total.is_str == Some(true),
            rows: self.total.rows,
            sum,
            fit: &self.fit,
            ids: &self.ids,
            result: self.result()?.map(|clusters| (&*clusters.counts, clusters.loss)),
        };
        Ok(state.digest(self.exemplars()?.into_iter()))
    }
}
