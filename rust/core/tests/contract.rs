//! The contract as a law: after any sequence of additions, removals, saves and loads the state is that of a fresh fit
//! on the rows that are there. Small integer grids, so that ties, duplicates and rows on the borders of cells abound.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use erase_core::{
    CacheSize, Error, Ids, Matrix, Model, Params, Projection, Ratio, Resources, Threads, UpdatePath, ValidParams,
};
use proptest::prelude::*;

type Rows = BTreeMap<i64, Vec<f64>>;
type Scenario = (ValidParams, Vec<(i64, Vec<f64>)>, Vec<Operation>);

#[derive(Debug, Clone)]
enum Operation {
    Add(Vec<(i64, Vec<f64>)>),
    /// Positions among the rows present, taken modulo their number.
    Remove(Vec<prop::sample::Index>),
    RemoveSeed(prop::sample::Index),
    RemoveExemplar(prop::sample::Index),
    Reload,
}

fn row(width: usize) -> impl Strategy<Value = Vec<f64>> {
    let entries = prop::collection::vec(-4_i8..=4, width);
    (entries, -2_i32..=2)
        .prop_map(|(entries, scale)| entries.iter().map(|&x| f64::from(x) * 2_f64.powi(scale)).collect())
}

fn rows(width: usize, most: usize) -> impl Strategy<Value = Vec<(i64, Vec<f64>)>> {
    prop::collection::btree_map(-60_i64..60, row(width), 0..=most).prop_map(|rows| rows.into_iter().collect())
}

fn operation(width: usize) -> impl Strategy<Value = Operation> {
    use prop::sample::Index;
    prop_oneof![
        3 => rows(width, 4).prop_map(Operation::Add),
        3 => any::<Index>().prop_map(|one| Operation::Remove(vec![one])),
        1 => prop::collection::vec(any::<Index>(), 2..40).prop_map(Operation::Remove),
        1 => any::<Index>().prop_map(Operation::RemoveSeed),
        1 => any::<Index>().prop_map(Operation::RemoveExemplar),
        1 => Just(Operation::Reload),
    ]
}

fn params(width: usize) -> impl Strategy<Value = ValidParams> {
    let projection = prop_oneof![
        3 => Just(Projection::None),
        1 => (1_usize..4).prop_map(Projection::Signs),
        1 => prop::collection::vec(-1.0_f64..1.0, 2 * width).prop_map(|mut entries| {
            entries[0] = 1.0;
            Projection::Matrix { rows: 2, entries }
        }),
    ];
    let epsilon = prop_oneof![Just((1, 1000)), Just((1, 2)), Just((1, 1)), Just((3, 1))];
    let gamma = prop_oneof![Just((0, 1)), Just((1, 5)), Just((1, 1))];
    let max_norm = prop_oneof![3 => Just(None), 1 => Just(Some(100.0))];
    let center = prop_oneof![2 => Just(None), 1 => prop::collection::vec(-4.0_f64..4.0, width).prop_map(Some)];
    // Panels of as many rows as clusters, of some, and of more rows than there are; and none.
    let panel = prop_oneof![1 => Just(None), 4 => (0_u32..14).prop_map(Some), 1 => (14_u32..60).prop_map(Some)];
    (1_u32..7, epsilon, gamma, 1_u32..9, panel, projection, max_norm, center, any::<u64>()).prop_map(
        move |(n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed)| {
            let (epsilon, gamma) = (Ratio { num: epsilon.0, den: epsilon.1 }, Ratio { num: gamma.0, den: gamma.1 });
            let panel = panel.map(|more| n_clusters + more);
            Params { n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed }
                .check(width)
                .unwrap()
        },
    )
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (1_usize..5).prop_flat_map(|width| (params(width), rows(width, 40), prop::collection::vec(operation(width), 1..25)))
}

fn fit(params: &ValidParams, rows: &Rows) -> Model {
    let values = rows.values().flatten().copied().collect::<Vec<_>>();
    // Without scores, with those of some steps, or of all.
    let cache = CacheSize([None, Some(0), Some(600)][rows.len() % 3]);
    let resources = Resources { threads: Threads::new(Some(1)), cache };
    Model::fit(params.clone(), Ids::Int(rows.keys().copied().collect()), Matrix::F64(&values), resources).unwrap()
}

fn assert_equal(model: &Model, fresh: &Model) {
    assert_eq!(model.digest(), fresh.digest());
    assert_eq!(model.ids(), fresh.ids());
    assert_eq!(model.labels(), fresh.labels());
    assert_eq!(model.centres(), fresh.centres());
    assert_eq!(model.inertia().to_bits(), fresh.inertia().to_bits());
    assert_eq!(model.resolution().to_bits(), fresh.resolution().to_bits());
    assert_eq!(model.n_iter(), fresh.n_iter());
    assert_eq!(model.seeds(), fresh.seeds());
    assert_eq!(model.exemplars(), fresh.exemplars());
    assert_eq!(model.nearest(18), fresh.nearest(18));
}

fn int(id: erase_core::IdRef<'_>) -> i64 {
    match id {
        erase_core::IdRef::Int(id) => id,
        erase_core::IdRef::Str(_) => unreachable!("this test uses integers"),
    }
}

/// The ids that a removal names.
fn chosen(model: &Model, rows: &Rows, operation: &Operation) -> Vec<i64> {
    let one_of = |ids: Vec<i64>, index: &prop::sample::Index| {
        if ids.is_empty() { Vec::new() } else { vec![*index.get(&ids)] }
    };
    let present: Vec<i64> = rows.keys().copied().collect();
    match operation {
        Operation::Remove(indices) => indices.iter().flat_map(|index| one_of(present.clone(), index)).collect(),
        Operation::RemoveSeed(index) => one_of(model.seeds().into_iter().map(int).collect(), index),
        Operation::RemoveExemplar(index) => one_of(model.exemplars().into_iter().flatten().map(int).collect(), index),
        Operation::Add(_) | Operation::Reload => Vec::new(),
    }
}

fn perform(model: &mut Model, rows: &mut Rows, operation: &Operation) {
    match operation {
        Operation::Add(new) => {
            let new: Rows = new.iter().filter(|(id, _)| !rows.contains_key(id)).cloned().collect();
            let values: Vec<f64> = new.values().flatten().copied().collect();
            let update = model.add(Ids::Int(new.keys().copied().collect()), Matrix::F64(&values)).unwrap();
            assert_eq!((update.added, update.removed), (new.len(), 0));
            rows.extend(new);
        }
        Operation::Reload => {
            let mut file = Vec::new();
            model.encode(&mut file).unwrap();
            assert_eq!(file.len(), model.encoded_len());
            *model = Model::decode(&file, Threads::new(Some(1))).unwrap();
        }
        removal => {
            let ids = chosen(model, rows, removal);
            let before = rows.len();
            rows.retain(|id, _| !ids.contains(id));
            let update = model.remove(&Ids::Int(ids)).unwrap();
            assert_eq!((update.added, update.removed), (0, before - rows.len()));
        }
    }
}

/// Which rows are nearest to a centre is listed for a few of them. When these run low a row that comes may stand after all
/// that are listed, and yet not be the next.
#[test]
fn a_far_row_does_not_pass_for_the_next() {
    let params = Params {
        n_clusters: 1,
        epsilon: Ratio { num: 1, den: 1000 },
        gamma: Ratio { num: 1, den: 2 },
        max_iter: 10,
        panel: Some(2),
        projection: Projection::None,
        max_norm: Some(1.0),
        center: None,
        seed: 162, // so that the centre is near 0, between two rows of the panel that are far from it
    };
    let params = params.check(1).unwrap();
    let place = |id: i64| if id % 2 == 0 { id + 2 } else { -id - 1 };
    let mut rows: Rows = (0..60).map(|id| (id, vec![f64::from(i32::try_from(place(id)).unwrap()) / 1000.0])).collect();
    let mut model = fit(&params, &rows);
    for removals in 0..18 {
        if removals == 12 {
            perform(&mut model, &mut rows, &Operation::Add(vec![(100, vec![0.2]), (101, vec![-0.2])]));
        }
        let nearest = model.exemplars().into_iter().flatten().map(int).next().unwrap();
        rows.remove(&nearest);
        let update = model.remove(&Ids::Int(vec![nearest])).unwrap();
        // Otherwise the list is made anew.
        assert_eq!(update.path, UpdatePath::Certified);
        assert_equal(&model, &fit(&params, &rows));
    }
}

/// Which row comes onto the panel next is known for a few of many rows. When these are used up, they are found again.
#[test]
fn the_panel_is_filled_again_and_again() {
    let params = Params { n_clusters: 2, panel: Some(3), max_norm: Some(1.0), ..Params::default() }.check(1).unwrap();
    let mut rows: Rows =
        (0..1000).map(|id| (id, vec![f64::from(i32::try_from(id * 7919 % 1000).unwrap()) / 1000.0])).collect();
    let mut model = fit(&params, &rows);
    for _ in 0..120 {
        // A seed is a row of the panel.
        let seed = model.seeds().into_iter().map(int).next().unwrap();
        rows.remove(&seed);
        model.remove(&Ids::Int(vec![seed])).unwrap();
        assert_equal(&model, &fit(&params, &rows));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000),
    ))]

    #[test]
    fn the_state_is_that_of_a_fresh_fit((params, first, operations) in scenario()) {
        let mut rows: Rows = first.into_iter().collect();
        let mut model = fit(&params, &rows);
        for operation in &operations {
            perform(&mut model, &mut rows, operation);
            assert_equal(&model, &fit(&params, &rows));
        }
    }

    #[test]
    fn a_refused_call_changes_nothing((params, first, _) in scenario(), id in -60_i64..60) {
        let rows: Rows = first.into_iter().collect();
        let mut model = fit(&params, &rows);
        let before = model.digest();
        let width = params.n_features();
        if rows.contains_key(&id) {
            let refused = model.add(Ids::Int(vec![id]), Matrix::F64(&vec![0.0; width]));
            prop_assert_eq!(refused, Err(Error::PresentId(id.to_string())));
        } else {
            let mut ids: Vec<i64> = rows.keys().copied().collect();
            ids.push(id);
            prop_assert_eq!(model.remove(&Ids::Int(ids)), Err(Error::UnknownIds(vec![id.to_string()])));
        }
        let not_finite = model.add(Ids::Int(vec![1000]), Matrix::F64(&vec![f64::NAN; width]));
        prop_assert_eq!(not_finite, Err(Error::NotFinite { row: 0, column: 0 }));
        prop_assert_eq!(model.digest(), before);
    }

    /// A file with any bytes changed and its checksum made right again: either refused, or a model that is just what
    /// the file says, and works.
    #[test]
    fn a_forged_file_is_refused_or_a_working_model(
        (params, first, _) in scenario(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let model = fit(&params, &first.into_iter().collect());
        let mut file = Vec::new();
        model.encode(&mut file).unwrap();
        let end = file.len() - 32;
        for (index, byte) in changes {
            file[index.index(end)] = byte;
        }
        let checksum = *blake3::hash(&file[..end]).as_bytes();
        file[end..].copy_from_slice(&checksum);
        if let Ok(mut model) = Model::decode(&file, Threads::new(Some(1))) {
            let mut again = Vec::new();
            model.encode(&mut again).unwrap();
            prop_assert_eq!(again, file);
            model.remove(&model.ids()).unwrap();
            prop_assert!(model.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(matches!(Model::decode(&bytes, Threads::new(Some(1))), Err(Error::Format(_))));
    }
}
