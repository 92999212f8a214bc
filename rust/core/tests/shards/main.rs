//! Rows in several places give the model of one place: after any sequence of removals, additions and moves of rows between
//! shards, whatever the split. Small integer grids of several scales, so that ties abound and the exponent goes up and down.
#![allow(clippy::unwrap_used, reason = "tests")]

mod messages;
mod places;

use erase_core::{Ids, UpdatePath};
use proptest::prelude::*;

use places::{Cluster, number, scenario, two_shards};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000),
    ))]

    #[test]
    fn shards_give_the_model_of_all_their_rows(scenario in scenario()) {
        let mut cluster = Cluster::new(&scenario);
        cluster.check();
        for operation in &scenario.operations {
            cluster.perform(operation);
            cluster.check();
        }
    }
}

/// A removal off the panel costs one distance in one shard, whatever the number of rows, and no word about the panel.
#[test]
fn a_removal_off_the_panel_looks_at_no_other_row() {
    for n in [1000, 20_000] {
        let mut cluster = two_shards(n);
        let panel: Vec<i64> = cluster.model.panel_ids().iter().map(number).collect();
        let shown: Vec<i64> = cluster.model.nearest(18).unwrap().into_iter().flatten().map(number).collect();
        let off = (0..n).filter(|id| !panel.contains(id) && !shown.contains(id)).take(30).collect::<Vec<_>>();
        for id in off {
            let before = cluster.model.frame();
            let removed = cluster.shards[usize::try_from(id % 2).unwrap()].remove(&Ids::Int(vec![id]));
            assert_eq!((removed.ids, removed.work), (Ids::Int(vec![id]), 2));
            cluster.rows.remove(&id);
            let part = cluster.merged(18);
            let exchanged = cluster.model.exchange(&Ids::Int(vec![id]), Vec::new(), part).unwrap();
            assert_eq!((exchanged.moved, exchanged.update.work), (false, 0));
            assert_eq!(exchanged.update.path, UpdatePath::Certified);
            assert_eq!(cluster.model.frame(), before);
        }
        cluster.check();
    }
}

/// The bytes that travel do not depend on the number of rows.
#[test]
fn messages_are_as_long_for_many_rows_as_for_few() {
    let lens = [1000, 10_000].map(|n| {
        let mut cluster = two_shards(n);
        let mark = cluster.model.mark().cloned();
        let next = cluster.shards[0].smallest(mark.as_ref(), 3).to_bytes().len();
        let parts = [cluster.shards[0].part(16, true).unwrap(), cluster.merged(16)].map(|part| part.to_bytes().len());
        (next, parts, cluster.model.frame().to_bytes().len(), cluster.model.to_bytes().len())
    });
    assert_eq!(lens[0], lens[1]);
}

/// Rows of the panel go, one after the other: the next ones come from either shard.
#[test]
fn the_panel_is_filled_again_and_again() {
    let mut cluster = two_shards(1000);
    for _ in 0..120 {
        let seed = cluster.model.seeds().into_iter().map(number).next().unwrap();
        cluster.change(&[seed], &[]);
    }
    cluster.check();
}
