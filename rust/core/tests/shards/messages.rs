//! Messages: what is damaged or does not fit together is refused.

use erase_core::{Coordinator, Error, Frame, Ids, KeptRows, Mark, Matrix, Params, Part, Shard, SharedParams, Threads};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::places::{Again, Cluster, number, scenario, two_shards};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000),
    ))]

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
    of("parts", cluster.model.complete(cluster.shards[0].part(1, true).unwrap()));
    let twice = cluster.shards[0].part(1, true).unwrap();
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
    of("kind", part.clone().merge(texts.part(1, true).unwrap()).map(drop));
    of("kind", cluster.model.exchange(&Ids::Int(vec![]), vec![texts.rows(0..1)], part.clone()).map(drop));
    of("parts", texts.labels(&texts.ids()).map(drop));
    of("not here", texts.rows_of(&leaving).map(drop));
    of("parameter", texts.part(0, true).map(drop));
    let shared = SharedParams::new(Params { panel: Some(99), ..Params::default() }.check(2).unwrap()).unwrap();
    let mut foreign = Shard::new(shared.clone(), Threads::new(Some(1)));
    foreign.add(Ids::Int(vec![5000]), Matrix::F64(&[0.0, 0.5])).unwrap();
    of("message", cluster.shards[0].take(foreign.rows(0..1)).map(drop));
    of("message", part.clone().merge(foreign.part(1, true).unwrap()).map(drop));
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

/// A shard that has the centres from before an update is not merged with one that has the new ones.
#[test]
fn a_shard_with_old_centres_is_refused() {
    let mut cluster = two_shards(300);
    assert!((0..300).any(|id| cluster.exchange(&[id], &[])));
    cluster.shards[0].assign(&cluster.model.frame()).unwrap();
    assert!(cluster.merged(1).clusters().is_none());
    assert!(matches!(cluster.model.complete(cluster.merged(1)), Err(Error::Parts(_))));
    assert!(!cluster.model.is_complete());
    cluster.complete();
    cluster.check();
}

/// Parts without a shard whose rows are on the panel: here they say a smaller exponent.
#[test]
fn parts_without_rows_of_the_panel_are_refused() {
    let params = Params { n_clusters: 2, panel: Some(8), ..Params::default() }.check(1).unwrap();
    let shared = SharedParams::new(params).unwrap();
    let threads = Threads::new(Some(1));
    let mut shards = [Shard::new(shared.clone(), threads), Shard::new(shared.clone(), threads)];
    shards[0].add(Ids::Int(vec![0, 1, 2]), Matrix::F64(&[0.5, 0.25, 1.0])).unwrap();
    shards[1].add(Ids::Int(vec![3]), Matrix::F64(&[1e6])).unwrap();
    let merged = shards[0].part(1, false).unwrap().merge(shards[1].part(1, false).unwrap()).unwrap();
    let mut model = Coordinator::new(shared, threads);
    let candidates = shards.iter_mut().map(|shard| shard.smallest(None, 8)).collect();
    model.fit(candidates, merged).unwrap();
    let alone = shards[0].part(1, false).unwrap();
    let refused = model.exchange(&Ids::Int(vec![]), Vec::new(), alone.clone()).unwrap_err();
    assert!(matches!(refused, Error::Parts(_)), "{refused}");
    // With the row itself gone it is right.
    assert!(model.exchange(&Ids::Int(vec![3]), Vec::new(), alone).unwrap().moved);
}
