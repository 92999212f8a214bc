//! An update of all that is derived: first of the panel, whose rows decide the centres, then of all rows. The rows themselves
//! are `model`'s.

use crate::fit::{Fit, Plan, Update, UpdateContext, UpdatePath};
use crate::last::Last;
use crate::params::ValidParams;
use crate::population::Population;
use crate::resources::Resources;

/// The derived parts of a model, with what an update of them needs besides: the rows stay borrowed meanwhile.
pub(crate) struct Derived<'a> {
    pub(crate) params: &'a ValidParams,
    pub(crate) fit: &'a mut Fit,
    pub(crate) last: &'a mut Last,
    pub(crate) resources: Resources,
}

impl Derived<'_> {
    /// Plans what an update of the rows does, first to the panel and then to all, and applies it.
    pub(crate) fn update(self, panel: &Population<'_>, all: &Population<'_>) -> Update {
        let [last, steps] = self.steps_to_keep(panel, all);
        self.last.scores.keep(last);
        self.fit.scores.keep(steps);
        let threads = self.resources.threads;
        let of_panel = UpdateContext { params: self.params, population: panel, threads };
        let plan = (panel.changes() > 0).then(|| self.fit.plan(of_panel));
        self.finish(plan, of_panel, all)
    }

    /// The same for a fit from scratch, of a model without anything derived.
    pub(crate) fn fit(self, panel: &Population<'_>, all: &Population<'_>) -> Update {
        let [last, steps] = self.steps_to_keep(panel, all);
        self.last.scores.keep(last);
        self.fit.scores.keep(steps);
        let of_panel = UpdateContext { params: self.params, population: panel, threads: self.resources.threads };
        let plan = self.fit.plan_fit(of_panel);
        self.finish(Some(plan), of_panel, all)
    }

    fn finish(self, mut plan: Option<Plan>, panel: UpdateContext<'_>, all: &Population<'_>) -> Update {
        let centres = plan.as_mut().and_then(|plan| plan.kept.take());
        let last = self.last.plan(UpdateContext { population: all, ..panel }, centres);
        let (mut path, mut first) = plan.as_ref().map_or((UpdatePath::Certified, None), |plan| (plan.path, plan.first));
        if last.is_moved() && first.is_none() {
            // The same centres, but others of them are kept.
            first = Some(self.params.max_iter as usize);
            path = if path == UpdatePath::Certified { UpdatePath::Replayed } else { path };
        }
        let update = Update {
            added: all.added().len(),
            removed: all.removed().len(),
            path,
            first_iteration: first,
            work: plan.as_ref().map_or(0, |plan| plan.work) + last.work(),
        };
        if let Some(plan) = plan {
            self.fit.apply(plan, panel);
        }
        self.last.apply(last, all);
        update
    }

    fn steps_to_keep(&self, panel: &Population<'_>, all: &Population<'_>) -> [usize; 2] {
        let clusters = self.params.clusters(all.len());
        self.resources.cache.steps(all.len(), panel.len(), all.dim(), clusters, self.params.max_iter as usize)
    }
}
