//! A coordinator with its shards, what may happen to them, and the comparison with one model of all rows.

use std::collections::BTreeMap;

use erase_core::{
    Batch, Coordinator, Error, Frame, IdRef, Ids, KeptRows, Mark, Matrix, Model, Params, Part, Projection, Ratio,
    Shard, SharedParams, Threads, ValidParams,
};
use proptest::prelude::*;
use proptest::sample::Index;

pub(crate) type Row = Vec<f64>;
/// Reads a message, and writes what it says.
pub(crate) type Again<'a> = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Error> + 'a>;

#[derive(Debug, Clone)]
pub(crate) enum Operation {
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
pub(crate) struct Scenario {
    pub(crate) params: ValidParams,
    pub(crate) shards: usize,
    pub(crate) as_text: bool,
    pub(crate) first: Vec<(i64, Row, Index)>,
    pub(crate) operations: Vec<Operation>,
}

pub(crate) fn row(width: usize, scales: i32) -> impl Strategy<Value = Row> {
    (prop::collection::vec(-4_i8..=4, width), prop_oneof![4 => Just(0), 1 => -scales..=scales])
        .prop_map(|(entries, scale)| entries.iter().map(|&x| f64::from(x) * 2_f64.powi(scale)).collect())
}

pub(crate) fn rows(width: usize, scales: i32, most: usize) -> impl Strategy<Value = Vec<(i64, Row, Index)>> {
    prop::collection::btree_map(-60_i64..60, (row(width, scales), any::<Index>()), 0..=most)
        .prop_map(|rows| rows.into_iter().map(|(id, (row, to))| (id, row, to)).collect())
}

pub(crate) fn operation(width: usize, scales: i32) -> impl Strategy<Value = Operation> {
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

pub(crate) fn params(width: usize, scales: i32) -> impl Strategy<Value = ValidParams> {
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

pub(crate) fn scenario() -> impl Strategy<Value = Scenario> {
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
pub(crate) fn ids_of(ids: impl IntoIterator<Item = i64>, as_text: bool) -> Ids {
    if as_text { Ids::Str(ids.into_iter().map(text).collect()) } else { Ids::Int(ids.into_iter().collect()) }
}

pub(crate) fn text(id: i64) -> String {
    format!("row {id}")
}

pub(crate) fn number(id: IdRef<'_>) -> i64 {
    match id {
        IdRef::Int(id) => id,
        IdRef::Str(id) => id.trim_start_matches("row ").parse().unwrap(),
    }
}

/// A coordinator with its shards, and where each row is.
pub(crate) struct Cluster {
    pub(crate) shared: SharedParams,
    pub(crate) model: Coordinator,
    pub(crate) shards: Vec<Shard>,
    pub(crate) rows: BTreeMap<i64, (Row, usize)>,
    pub(crate) as_text: bool,
}

impl Cluster {
    pub(crate) fn new(scenario: &Scenario) -> Self {
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

    pub(crate) fn ids(&self, ids: impl IntoIterator<Item = i64>) -> Ids {
        ids_of(ids, self.as_text)
    }

    pub(crate) fn add(&mut self, id: i64, row: &Row, to: usize) {
        self.shards[to].add(ids_of([id], self.as_text), Matrix::F64(row)).unwrap();
        self.rows.insert(id, (row.clone(), to));
    }

    /// Merged in an order of its own for each number of rows, by their messages.
    pub(crate) fn merged(&self, nearest: usize) -> Part {
        let mut parts: Vec<Part> = self
            .shards
            .iter()
            .map(|shard| Part::from_bytes(&shard.part(nearest, true).unwrap().to_bytes()).unwrap())
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

    pub(crate) fn fit(&mut self) {
        let panel = self.shared.params().panel().unwrap() as usize;
        let candidates = self.shards.iter_mut().map(|shard| shard.smallest(None, panel)).collect();
        let part = self.merged(1);
        self.model.fit(candidates, part).unwrap();
        self.complete();
    }

    /// Brings the shards to the frame.
    pub(crate) fn complete(&mut self) {
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
    pub(crate) fn change(&mut self, removed: &[i64], added: &[(i64, Row, usize)]) {
        if self.exchange(removed, added) {
            self.complete();
        }
    }

    /// An update up to the frame. Returns whether the shards have to be brought to a new one.
    pub(crate) fn exchange(&mut self, removed: &[i64], added: &[(i64, Row, usize)]) -> bool {
        let mark = self.model.mark().map(|mark| Mark::from_bytes(&self.shared, &mark.to_bytes(&self.shared)).unwrap());
        let leaving = self.ids(removed.iter().copied());
        let missing = self.model.on_panel(&leaving).len();
        let mut found = 0;
        for shard in &mut self.shards {
            found += shard.remove(&leaving).ids.len();
        }
        assert_eq!(found, removed.len());
        self.rows.retain(|id, _| !removed.contains(id));
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
        self.model.exchange(&leaving, candidates, part).unwrap().moved
    }

    pub(crate) fn perform(&mut self, operation: &Operation) {
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
                    self.carry(&rows, from, to);
                }
                self.model.complete(self.merged(20)).unwrap();
            }
            Operation::Move(moves) => {
                for (which, to) in moves.iter().filter(|_| !present.is_empty()) {
                    let id = *which.get(&present);
                    let (from, to) = (self.rows[&id].1, to.index(shards));
                    if from != to {
                        let rows = self.shards[from].rows_of(&self.ids([id])).unwrap();
                        self.carry(&rows, from, to);
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
                let before = self.shards[which].part(1, true).unwrap();
                self.shards[which] = Shard::new(self.shared.clone(), Threads::new(Some(1)));
                let rows: Vec<_> =
                    self.rows.iter().filter(|(_, row)| row.1 == which).map(|(id, row)| (*id, row.0.clone())).collect();
                for (id, row) in rows {
                    self.add(id, &row, which);
                }
                assert_eq!(self.shards[which].part(1, true).unwrap().row_hash(), before.row_hash());
                self.complete();
                assert!(before.rows() == 0 || self.shards[which].part(1, true).unwrap() == before);
            }
            Operation::Clear => self.change(&present, &[]),
        }
    }

    /// Carries rows from one shard to another.
    pub(crate) fn carry(&mut self, rows: &KeptRows, from: usize, to: usize) {
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
    pub(crate) fn check(&self) {
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

    pub(crate) fn check_labels(&self, alone: &Model) {
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

/// `n` rows in two dimensions, all of one exponent, in two shards; a panel of 100.
pub(crate) fn two_shards(n: i64) -> Cluster {
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
