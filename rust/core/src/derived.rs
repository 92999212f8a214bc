//! An update of all that is derived: first of the panel, whose rows decide the centres, then of all rows. The rows themselves
//! are `model`'s.

use crate::fit::{Fit, Plan, Update, UpdateContext, UpdatePath};
use crate::ids::IdTable;
use crate::last::Last;
use crate::panel::Exchange;
use crate::params::ValidParams;
use crate::population::Population;
use crate::resources::Resources;
use crate::rows::Rows;

/// The derived parts of a model, with what an update of them needs besides: the rows stay borrowed meanwhile.
pub(crate) struct Derived<'a> {
    pub(crate) params: &'a ValidParams,
    pub(crate) fit: &'a mut Fit,
    pub(crate) last: &'a mut Last,
    pub(crate) resources: Resources,
}

impl Derived<'_> {
    /// Plans what an update of the rows does, first to the panel and then to all, and applies it. `size` is the number of
    /// rows on the panel before the update, `exchange` what it does to them.
    pub(crate) fn update(
        self,
        rows: &Rows,
        ids: &IdTable,
        size: usize,
        exchange: &Exchange,
        all: &Population<'_>,
    ) -> Update {
        let (ids_coming, rows_coming) = exchange.comers(all, rows.exponent());
        let panel = Population::without(rows, ids, size, &exchange.leaving).with(&ids_coming.0, rows_coming);
        self.follow(&panel, all)
    }

    /// The same for a panel that is given as it will be. `all` are the rows to assign: none where they lie elsewhere.
    pub(crate) fn follow(mut self, panel: &Population<'_>, all: &Population<'_>) -> Update {
        let of_panel = self.prepare(panel, all);
        let plan = (panel.changes() > 0).then(|| self.fit.plan(of_panel));
        self.finish(plan, of_panel, all)
    }

    /// The same for a fit from scratch, of a model without anything derived.
    pub(crate) fn fit(mut self, panel: &Population<'_>, all: &Population<'_>) -> Update {
        let of_panel = self.prepare(panel, all);
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

    /// Sets what may be kept of that which could be computed again, and returns the context of the panel.
    fn prepare<'p>(&mut self, panel: &'p Population<'p>, all: &Population<'_>) -> UpdateContext<'p>
    where
        Self: 'p,
    {
        // Of the panel, which has as many rows as there are clusters at the least: all rows may lie elsewhere.
        let (clusters, max_iter) = (self.params.clusters(panel.len()), self.params.max_iter as usize);
        let kept = self.resources.cache.budget(all.len(), panel.len(), all.dim(), clusters, max_iter);
        self.last.scores.keep(kept.last);
        self.fit.scores.keep(kept.steps);
        self.fit.field.may_keep_all = kept.field;
        self.fit.flat.may_be_kept = kept.flat;
        UpdateContext { params: self.params, population: panel, threads: self.resources.threads }
    }
}
