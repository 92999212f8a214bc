//! Rows in several places give the model of one place: after any sequence of removals, additions and moves of rows between
//! shards, whatever the split. Small integer grids of several scales, so that ties abound and the exponent goes up and down.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use erase_core::{
    Batch, Coordinator, Error, Frame, IdRef, Ids, KeptRows, Mark, Matrix, Model, Params, Part, Projection, Ratio,
    Shard, SharedParams, Threads, UpdatePath, ValidParams,
};
use proptest::prelude::*;
use proptest::sample::Index;

type Row = Vec<f64>;

#[derive(Debug, Clone)]
enum Operation {
    /// Removals and additions in one update: positions among the rows present, rows with the shards they come to.
    Change { removed: Vec<Index>, added: Vec<(i64, Row, Index)> },
    /// A seed or an exemplar goes.
    RemoveShown(bool, Index),
    /// The rows of a shard are dealt out to all.
    Split(Index),
    /// Rows change their shard.
    Move(Vec<(Index, Index)>),
    /// The coordinator's state is saved and taken up again.
    Resume,
    /// A shard is lost, and its rows are read again.
    Restart(Index),
    /// Every row goes.
    Clear,
}

#[derive(Debug, Clone)]
struct Scenario {
    params: ValidParams,
    shards: usize,
    as_text: bool,
    first: Vec<(i64, Row, Index)>,
    operations: Vec<Operation>,
}

fn row(width: usize, scales: i32) -> impl Strategy<Value = Row> {
    (prop::collection::vec(-4_i8..=4, width), prop_oneof![4 => Just(0), 1 => -scales..=scales])
        .prop_map(|(entries, scale)| entries.iter().map(|&x| f64::from(x) * 2_f64.powi(scale)).collect())
}

fn rows(width: usize, scales: i32, most: usize) -> impl Strategy<Value = Vec<(i64, Row, Index)>> {
    prop::collection::btree_map(-60_i64..60, (row(width, scales), any::<Index>()), 0..=most)
        .prop_map(|rows| rows.into_iter().map(|(id, (row, to))| (id, row, to)).collect())
}

fn operation(width: usize, scales: i32) -> impl Strategy<Value = Operation> {
    let indices = |most| prop::collection::vec(any::<Index>(), 0..most);
    prop_oneof![
        6 => (indices(3), rows(width, scales, 3)).prop_map(|(removed, added)| Operation::Change { removed, added }),
        1 => (indices(30), rows(width, scales, 20)).prop_map(|(removed, added)| Operation::Change { removed, added }),
        2 => (any::<bool>(), any::<Index>()).prop_map(|(seed, index)| Operation::RemoveShown(seed, index)),
        1 => any::<Index>().prop_map(Operation::Split),
        1 => prop::collection::vec((any::<Index>(), any::<Index>()), 1..6).prop_map(Operation::Move),
        1 => Just(Operation::Resume),
        1 => any::<Index>().prop_map(Operation::Restart),
        1 => Just(Operation::Clear),
    ]
}

fn params(width: usize, scales: i32) -> impl Strategy<Value = ValidParams> {
    let projection = prop_oneof![
        3 => Just(Projection::None),
        1 => (1_usize..4).prop_map(Projection::Signs),
        1 => prop::collection::vec(-1.0_f64..1.0, 2 * width).prop_map(|mut entries| {
            entries[0] = 1.0;
            Projection::Matrix { rows: 2, entries }
        }),
    ];
    let ratio = |num, den| Ratio { num, den };
    let epsilon = prop_oneof![Just(ratio(1, 1000)), Just(ratio(1, 2)), Just(ratio(1, 1)), Just(ratio(3, 1))];
    let gamma = prop_oneof![Just(ratio(0, 1)), Just(ratio(1, 5)), Just(ratio(1, 1))];
    let max_norm = prop_oneof![3 => Just(None), 1 => Just(Some(20.0 * 2_f64.powi(scales)))];
    let center = prop_oneof![2 => Just(None), 1 => prop::collection::vec(-4.0_f64..4.0, width).prop_map(Some)];
    // Panels of as many rows as clusters, of some, and of more rows than there are.
    let panel = prop_oneof![4 => 0_u32..14, 1 => 14_u32..60];
    (1_u32..7, epsilon, gamma, 1_u32..6, panel, projection, max_norm, center, any::<u64>()).prop_map(
        move |(n_clusters, epsilon, gamma, max_iter, more, projection, max_norm, center, seed)| {
            let panel = Some(n_clusters + more);
            Params { n_clusters, epsilon, gamma, max_iter, panel, projection, max_norm, center, seed }
                .check(width)
                .unwrap()
        },
    )
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (1_usize..4, prop_oneof![Just(0), Just(2), Just(20)]).prop_flat_map(|(width, scales)| {
        (
            params(width, scales),
            1_usize..=7,
            any::<bool>(),
            rows(width, scales, 40),
            prop::collection::vec(operation(width, scales), 1..10),
        )
            .prop_map(|(params, shards, as_text, first, operations)| Scenario {
                params,
                shards,
                as_text,
                first,
                operations,
            })
    })
}

/// Integers, or texts that are ordered otherwise.
fn ids_of(ids: impl IntoIterator<Item = i64>, as_text: bool) -> Ids {
    if as_text { Ids::Str(ids.into_iter().map(text).collect()) } else { Ids::Int(ids.into_iter().collect()) }
}

fn text(id: i64) -> String {
    format!("row {id}")
}

fn number(id: IdRef<'_>) -> i64 {
    match id {
        IdRef::Int(id) => id,
        IdRef::Str(id) => id.trim_start_matches("row ").parse().unwrap(),
    }
}

/// A coordinator with its shards, and where each row is.
struct Cluster {
    shared: SharedParams,
    model: Coordinator,
    shards: Vec<Shard>,
    rows: BTreeMap<i64, (Row, usize)>,
    as_text: bool,
}

impl Cluster {
    fn new(scenario: &Scenario) -> Self {
        // As it travels.
        let shared = SharedParams::from_bytes(&SharedParams::new(scenario.params.clone()).unwrap().to_bytes()).unwrap();
        let threads = Threads::new(Some(1));
        let shards: Vec<Shard> = (0..scenario.shards).map(|_| Shard::new(shared.clone(), threads)).collect();
        let model = Coordinator::new(shared.clone(), threads);
        let mut cluster = Self { shared, model, shards, rows: BTreeMap::new(), as_text: scenario.as_text };
        for (id, row, to) in &scenario.first {
            cluster.add(*id, row, to.index(scenario.shards));
        }
        cluster.fit();
        cluster
    }

    fn ids(&self, ids: impl IntoIterator<Item = i64>) -> Ids {
        ids_of(ids, self.as_text)
    }

    fn add(&mut self, id: i64, row: &Row, to: usize) {
        self.shards[to].add(ids_of([id], self.as_text), Matrix::F64(row)).unwrap();
        self.rows.insert(id, (row.clone(), to));
    }

    /// Merged in an order of its own for each number of rows, by their messages.
    fn merged(&self, nearest: usize) -> Part {
        let mut parts: Vec<Part> = self
            .shards
            .iter()
            .map(|shard| Part::from_bytes(&shard.part(nearest).unwrap().to_bytes()).unwrap())
            .collect();
        let len = parts.len();
        parts.rotate_left(self.rows.len() % len);
        while parts.len() > 1 {
            let (one, other) = (parts.remove(0), parts.pop().unwrap());
            let both = one.clone().merge(other.clone()).unwrap();
            assert_eq!(other.merge(one).unwrap(), both);
            parts.insert(0, both);
        }
        parts.remove(0)
    }

    fn fit(&mut self) {
        let panel = self.shared.params().panel().unwrap() as usize;
        let candidates = self.shards.iter_mut().map(|shard| shard.smallest(None, panel)).collect();
        let part = self.merged(1);
        self.model.fit(candidates, part).unwrap();
        self.complete();
    }

    /// Brings the shards to the frame.
    fn complete(&mut self) {
        let frame = Frame::from_bytes(&self.shared, &self.model.frame().to_bytes()).unwrap();
        if !self.rows.is_empty() {
            for shard in &mut self.shards {
                shard.assign(&frame).unwrap();
            }
        }
        assert!(self.rows.is_empty() || self.merged(1).clusters().unwrap().frame() == frame.id());
        self.model.complete(self.merged(20)).unwrap();
    }

    /// One update by the protocol of the documentation.
    fn change(&mut self, removed: &[i64], added: &[(i64, Row, usize)]) {
        let mark = self.model.mark();
        let mark = mark.map(|mark| Mark::from_bytes(&self.shared, &mark.to_bytes(&self.shared)).unwrap());
        let leaving = self.ids(removed.iter().copied());
        let missing = self.model.on_panel(&leaving).len();
        let mut found = 0;
        for shard in &mut self.shards {
            found += shard.remove(&leaving).ids.len();
        }
        assert_eq!(found, removed.len());
        removed.iter().for_each(|id| drop(self.rows.remove(id)));
        for (id, row, to) in added {
            self.add(*id, row, *to);
        }
        let ids = self.ids(added.iter().map(|row| row.0));
        let mut candidates: Vec<KeptRows> =
            self.shards.iter().map(|shard| shard.candidates(&ids, mark.as_ref())).collect();
        candidates.extend(self.shards.iter_mut().map(|shard| shard.smallest(mark.as_ref(), missing)));
        let candidates: Vec<KeptRows> =
            candidates.iter().map(|rows| KeptRows::from_bytes(&self.shared, &rows.to_bytes()).unwrap()).collect();
        let part = self.merged(20);
        let exchanged = self.model.exchange(&leaving, candidates, part).unwrap();
        if exchanged.moved {
            self.complete();
        }
    }

    fn perform(&mut self, operation: &Operation) {
        let shards = self.shards.len();
        let present: Vec<i64> = self.rows.keys().copied().collect();
        match operation {
            Operation::Change { removed, added } => {
                let mut ids: Vec<i64> =
                    removed.iter().filter(|_| !present.is_empty()).map(|index| *index.get(&present)).collect();
                ids.sort_unstable();
                ids.dedup();
                // A row may come in the place of one that goes.
                let is_free = |id: &i64| !self.rows.contains_key(id) || ids.contains(id);
                let added: Vec<_> = added.iter().filter(|row| is_free(&row.0)).collect();
                let added: Vec<_> =
                    added.into_iter().map(|(id, row, to)| (*id, row.clone(), to.index(shards))).collect();
                self.change(&ids, &added);
            }
            Operation::RemoveShown(is_seed, index) => {
                let shown: Vec<i64> = if *is_seed {
                    self.model.seeds().into_iter().map(number).collect()
                } else {
                    self.model.exemplars().unwrap().into_iter().flatten().map(number).collect()
                };
                if !shown.is_empty() {
                    self.change(&[*index.get(&shown)], &[]);
                }
            }
            Operation::Split(index) => {
                let from = index.index(shards);
                let moves = (0..self.shards[from].len()).map(|i| (from, i % shards));
                let moves: Vec<_> = moves.filter(|(from, to)| from != to).collect();
                let slices: Vec<KeptRows> = (0..self.shards[from].len())
                    .filter(|i| i % shards != from)
                    .map(|i| self.shards[from].rows(i..i + 1))
                    .collect();
                for (rows, (_, to)) in slices.into_iter().zip(moves) {
                    self.carry(rows, from, to);
                }
                self.model.complete(self.merged(20)).unwrap();
            }
            Operation::Move(moves) => {
                for (which, to) in moves.iter().filter(|_| !present.is_empty()) {
                    let id = *which.get(&present);
                    let (from, to) = (self.rows[&id].1, to.index(shards));
                    if from != to {
                        let rows = self.shards[from].rows_of(&self.ids([id])).unwrap();
                        self.carry(rows, from, to);
                    }
                }
                self.model.complete(self.merged(20)).unwrap();
            }
            Operation::Resume => {
                let (bytes, digest) = (self.model.to_bytes(), self.model.digest().unwrap());
                self.model = Coordinator::from_bytes(&bytes, Threads::new(Some(1))).unwrap();
                assert_eq!(self.model.digest().unwrap(), digest);
                assert!(self.model.to_bytes() == bytes);
            }
            Operation::Restart(index) => {
                let which = index.index(shards);
                let before = self.shards[which].part(1).unwrap();
                self.shards[which] = Shard::new(self.shared.clone(), Threads::new(Some(1)));
                let rows: Vec<_> =
                    self.rows.iter().filter(|(_, row)| row.1 == which).map(|(id, row)| (*id, row.0.clone())).collect();
                for (id, row) in rows {
                    self.add(id, &row, which);
                }
                assert_eq!(self.shards[which].part(1).unwrap().row_hash(), before.row_hash());
                self.complete();
                assert!(before.rows() == 0 || self.shards[which].part(1).unwrap() == before);
            }
            Operation::Clear => self.change(&present, &[]),
        }
    }

    /// Carries rows from one shard to another.
    fn carry(&mut self, rows: KeptRows, from: usize, to: usize) {
        let rows = KeptRows::from_bytes(&self.shared, &rows.to_bytes()).unwrap();
        for id in rows.ids().iter().map(number).collect::<Vec<_>>() {
            self.rows.get_mut(&id).unwrap().1 = to;
        }
        self.shards[from].remove(rows.ids());
        self.shards[to].take(rows).unwrap();
        let frame = self.model.frame();
        if !self.model.is_empty() {
            self.shards[to].assign(&frame).unwrap();
        }
    }

    /// All results are those of one model of all rows.
    fn check(&self) {
        let params = self.shared.params();
        let values: Vec<f64> = self.rows.values().flat_map(|row| row.0.clone()).collect();
        let ids = self.ids(self.rows.keys().copied());
        let alone = Model::fit(params.clone(), ids, Matrix::F64(&values), Threads::new(Some(1))).unwrap();
        let model = &self.model;
        assert!(model.is_complete());
        assert_eq!(model.len(), alone.len() as u64);
        assert_eq!(model.centres(), alone.centres());
        assert_eq!(model.seeds(), alone.seeds());
        assert_eq!(model.proposals(), alone.proposals());
        assert_eq!(model.n_iter(), alone.n_iter());
        assert_eq!(model.exemplars().unwrap(), alone.exemplars());
        assert_eq!(model.nearest(18).unwrap(), alone.nearest(18));
        assert_eq!(model.inertia().unwrap().to_bits(), alone.inertia().to_bits());
        assert_eq!(model.resolution().unwrap().to_bits(), alone.resolution().to_bits());
        assert_eq!(model.digest().unwrap(), alone.digest());
        self.check_labels(&alone);
        let queries = Batch::queries(params, Matrix::F64(&values), Threads::new(Some(1))).unwrap();
        assert_eq!(model.predict(&queries), alone.predict(&queries));
        assert_eq!(model.transform(&queries), alone.transform(&queries));
        assert_eq!(model.nearest_square_distances(&queries), alone.nearest_square_distances(&queries));
        let rows = self.shards.iter().flat_map(|shard| [shard.rows(0..2), shard.rows(2..usize::MAX)]).collect();
        let gathered = model.gather(rows, Threads::new(Some(1))).unwrap();
        let bytes = |model: &Model| {
            let mut bytes = Vec::new();
            model.encode(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(bytes(&gathered), bytes(&alone));
    }

    fn check_labels(&self, alone: &Model) {
        let mut counts = vec![0_i64; alone.n_clusters()];
        let labels: BTreeMap<i64, u16> = alone.ids().iter().map(number).zip(alone.labels()).collect();
        for shard in self.shards.iter().filter(|shard| !shard.is_empty()) {
            let ids = shard.ids();
            for (id, label) in ids.iter().map(number).zip(shard.labels(&ids).unwrap()) {
                assert_eq!(labels[&id], label);
                counts[usize::from(label)] += 1;
            }
        }
        assert_eq!(self.model.counts().unwrap(), counts);
    }
}

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

    /// Every message with a byte changed, cut short or made longer is refused, and so is one with its checksum made right
    /// again unless it says something sound.
    #[test]
    fn damaged_messages_are_refused(scenario in scenario(), at in any::<Index>(), to in any::<u8>()) {
        let cluster = Cluster::new(&scenario);
        let shared = cluster.shared.clone();
        let rows = cluster.shards[0].rows(0..8).to_bytes().to_vec();
        let part = cluster.merged(3).to_bytes().to_vec();
        let frame = cluster.model.frame().to_bytes().to_vec();
        let state = cluster.model.to_bytes().to_vec();
        let mark = cluster.model.mark().map(|mark| mark.to_bytes(&shared).to_vec());
        type Again<'a> = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Error> + 'a>;
        let again_rows: Again<'_> = Box::new(|bytes| Ok(KeptRows::from_bytes(&shared, bytes)?.to_bytes().to_vec()));
        let again_part: Again<'_> = Box::new(|bytes| Ok(Part::from_bytes(bytes)?.to_bytes().to_vec()));
        let again_frame: Again<'_> = Box::new(|bytes| Ok(Frame::from_bytes(&shared, bytes)?.to_bytes().to_vec()));
        let again_mark: Again<'_> = Box::new(|bytes| Ok(Mark::from_bytes(&shared, bytes)?.to_bytes(&shared).to_vec()));
        let again_params: Again<'_> = Box::new(|bytes| Ok(SharedParams::from_bytes(bytes)?.to_bytes().to_vec()));
        let again_state: Again<'_> =
            Box::new(|bytes| Ok(Coordinator::from_bytes(bytes, Threads::new(Some(1)))?.to_bytes().to_vec()));
        let mut messages = vec![
            (rows, again_rows), (part, again_part), (frame, again_frame), (state, again_state),
            (shared.to_bytes().to_vec(), again_params),
        ];
        messages.extend(mark.map(|mark| (mark, again_mark)));
        for (message, again) in &messages {
            prop_assert_eq!(&again(message).unwrap(), message);
            prop_assert!(matches!(again(&message[..at.index(message.len())]), Err(Error::Message(_))));
            let mut changed = message.clone();
            changed.push(0);
            prop_assert!(matches!(again(&changed), Err(Error::Message(_))));
            changed.pop();
            let position = at.index(message.len());
            changed[position] ^= to.max(1);
            prop_assert!(matches!(again(&changed), Err(Error::Message(_))));
            let end = changed.len() - 32;
            let checksum = *blake3::hash(&changed[..end]).as_bytes();
            changed[end..].copy_from_slice(&checksum);
            match again(&changed) {
                Ok(bytes) => prop_assert_eq!(bytes, changed),
                Err(error) => prop_assert!(matches!(error, Error::Message(_) | Error::Parameter { .. }), "{}", error),
            }
        }
        // One message is not another.
        for (i, (message, _)) in messages.iter().enumerate() {
            for (_, other) in messages.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other) {
                prop_assert!(matches!(other(message), Err(Error::Message(_))));
            }
        }
    }

    #[test]
    fn any_bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(matches!(Part::from_bytes(&bytes), Err(Error::Message(_))));
        prop_assert!(matches!(SharedParams::from_bytes(&bytes), Err(Error::Message(_))));
        let coordinator = Coordinator::from_bytes(&bytes, Threads::new(Some(1)));
        prop_assert!(matches!(coordinator, Err(Error::Message(_))));
    }
}

/// `n` rows in two dimensions, all of one exponent, in two shards; a panel of 100.
fn two_shards(n: i64) -> Cluster {
    let params = Params { n_clusters: 4, panel: Some(100), max_norm: Some(2.0), ..Params::default() }.check(2).unwrap();
    let row = |id: i64| {
        let entry = |step: i64| f64::from(i32::try_from(id * step % 1009).unwrap()) / 1009.0;
        vec![entry(7919), entry(104_729)]
    };
    let mut first: Vec<(i64, Row, Index)> = Vec::new();
    let scenario =
        Scenario { params, shards: 2, as_text: false, first: std::mem::take(&mut first), operations: vec![] };
    let mut cluster = Cluster::new(&scenario);
    for to in 0..2 {
        let ids: Vec<i64> = (0..n).filter(|id| id % 2 == to).collect();
        let values: Vec<f64> = ids.iter().flat_map(|&id| row(id)).collect();
        let to = usize::try_from(to).unwrap();
        cluster.rows.extend(ids.iter().map(|&id| (id, (row(id), to))));
        cluster.shards[to].add(Ids::Int(ids), Matrix::F64(&values)).unwrap();
    }
    cluster.fit();
    cluster.model.complete(cluster.merged(20)).unwrap();
    cluster
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
        let mark = cluster.model.mark();
        let next = cluster.shards[0].smallest(mark.as_ref(), 3).to_bytes().len();
        let parts = [cluster.shards[0].part(16).unwrap(), cluster.merged(16)].map(|part| part.to_bytes().len());
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

/// What does not fit together is refused, and nothing has changed.
#[test]
fn what_does_not_fit_together_is_refused() {
    let mut cluster = two_shards(300);
    let digest = cluster.model.digest().unwrap();
    let of = |kind: &str, outcome: Result<(), Error>| {
        let error = outcome.unwrap_err();
        let got = match &error {
            Error::Parts(_) => "parts",
            Error::Message(_) => "message",
            Error::DuplicateId(_) => "duplicate",
            Error::IdKind { .. } => "kind",
            Error::Parameter { .. } => "parameter",
            Error::NotHere(_) => "not here",
            _ => "another",
        };
        assert_eq!(got, kind, "{error}");
    };
    let part = cluster.merged(1);
    let seed: Vec<i64> = cluster.model.seeds().into_iter().map(number).take(1).collect();
    let leaving = Ids::Int(seed.clone());
    // A row of the panel goes, and none comes; a part of fewer rows; a shard twice.
    of("parts", cluster.model.exchange(&leaving, Vec::new(), part.clone()).map(drop));
    of("parts", cluster.model.complete(cluster.shards[0].part(1).unwrap()));
    let twice = cluster.shards[0].part(1).unwrap();
    of("duplicate", twice.clone().merge(twice).map(drop));
    of("parts", cluster.model.gather(vec![cluster.shards[0].rows(0..usize::MAX)], Threads::new(Some(1))).map(drop));
    // One id, two rows.
    let mut other = Shard::new(cluster.shared.clone(), Threads::new(Some(1)));
    other.add(Ids::Int(seed.clone()), Matrix::F64(&[0.0, 1.0])).unwrap();
    of("duplicate", cluster.model.exchange(&Ids::Int(vec![]), vec![other.rows(0..1)], part.clone()).map(drop));
    // The same row again does no harm.
    let again = cluster.shards.iter().map(|shard| shard.candidates(&leaving, None)).collect();
    assert!(!cluster.model.exchange(&Ids::Int(vec![]), again, cluster.merged(20)).unwrap().moved);
    // Ids of another kind; rows of other parameters; labels and rows that are not here or not assigned.
    let mut texts = Shard::new(cluster.shared.clone(), Threads::new(Some(1)));
    texts.add(Ids::Str(vec!["a".to_owned()]), Matrix::F64(&[0.0, 1.0])).unwrap();
    of("kind", part.clone().merge(texts.part(1).unwrap()).map(drop));
    of("kind", cluster.model.exchange(&Ids::Int(vec![]), vec![texts.rows(0..1)], part.clone()).map(drop));
    of("parts", texts.labels(&texts.ids()).map(drop));
    of("not here", texts.rows_of(&leaving).map(drop));
    of("parameter", texts.part(0).map(drop));
    let shared = SharedParams::new(Params { panel: Some(99), ..Params::default() }.check(2).unwrap()).unwrap();
    let mut foreign = Shard::new(shared.clone(), Threads::new(Some(1)));
    foreign.add(Ids::Int(vec![5000]), Matrix::F64(&[0.0, 0.5])).unwrap();
    of("message", cluster.shards[0].take(foreign.rows(0..1)).map(drop));
    of("message", part.clone().merge(foreign.part(1).unwrap()).map(drop));
    of("message", foreign.assign(&cluster.model.frame()).map(drop));
    of("message", cluster.model.exchange(&Ids::Int(vec![]), vec![foreign.rows(0..1)], part.clone()).map(drop));
    // More exact rows than the coordinator knows of.
    let empty = Coordinator::new(shared, Threads::new(Some(1)));
    of("parameter", foreign.assign(&empty.frame()).map(drop));
    of("parameter", SharedParams::new(Params { panel: None, ..Params::default() }.check(2).unwrap()).map(drop));
    of("parts", cluster.model.nearest(30).map(drop));
    assert_eq!(cluster.model.digest().unwrap(), digest);
    cluster.check();
}
