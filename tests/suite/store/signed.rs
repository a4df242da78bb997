//! A signed log: what is proven, and what of an altered one is believed.

use std::collections::BTreeMap;

use crate::harness::{
    identity::{TestOrigin, signing, strict, take, trusting},
    snapshot,
    store::{
        NOW, batch, carried, close, created, creation, delete, deliver, entry, key, new_record, node_id,
        open, options, origin, payload, poison, ram,
    },
};
use brock::{
    store::{CreateOutcome, NewOperation, NewRecord, Scrubbed, SentBundles, Store},
    transfer::{
        bundles::{Bundles, named},
        feed::SnapshotFeed,
        join::{JoinError, Joiner, Terms},
        keyed_state,
        proof::{ProofError, Verifier},
    },
};
use brock_core::{
    base::{
        id::{ClusterId, KeyHash, NodeId, Origin, sha256},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        birth::SignedBirth,
        bundle::{Bundle, Tip, chained, leaf},
        codec,
        leaves::Leaves,
        operation::Operation,
        order::OrderProof,
        record::RecordState,
        segment::{Segment, SegmentEntry},
    },
    proto,
};
use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A store whose log has bundles of several operations, of one, and of large payloads.
async fn origin_store() -> Store {
    let store = open(&signing(ram("origin"))).await;
    let many = (0..100).map(|number| new_record(key(number), b"g")).collect();
    store.create(many).await.unwrap();
    for number in 100..104 {
        created(&store, new_record(key(number), b"g")).await;
    }
    let large = |number| NewRecord {
        payload: payload(&vec![7; limits::BUNDLE_PAYLOAD_BYTES / 2]),
        ..new_record(key(number), b"")
    };
    store.create((104..108).map(large).collect()).await.unwrap();
    let expiring = NewRecord { expires_at: Some(NOW + 3600), public: false, ..new_record(key(108), b"g") };
    created(&store, expiring).await;
    let invalidate = Operation::Invalidate { at: NOW, reason: "leaked".to_owned() };
    for (number, operation) in [(1, invalidate), (2, Operation::Unpublish)] {
        store.operate(NewOperation { key_hash: key(number), operation, ahead: false }).await.unwrap();
    }
    delete(&store, 3).await;
    store
}

/// The log in batches as a donor sends them, each with the origin's birth.
async fn log(store: &Store, origin: Origin, limit: usize) -> Vec<proto::Batch> {
    let (mut batches, mut after) = (Vec::new(), Clock(0));
    while let Some(changes) = store.changes_since(origin, after, limit).await.unwrap() {
        let birth = store.birth(origin).await.unwrap();
        after = Clock(changes.batch.covered_through);
        batches.push(proto::Batch { birth, ..changes.batch });
    }
    batches
}

fn check(verifier: &Verifier, from: &NodeId, batch: proto::Batch) -> Result<Segment, String> {
    let segment = Segment::check(batch).map_err(|error| error.to_string())?;
    verifier.check_segment(from, segment).map_err(|error| error.to_string())
}

#[tokio::test]
async fn batches_hold_whole_bundles_and_every_state_is_proven_wherever_the_log_is_cut() {
    let donor = origin_store().await;
    for limit in [1, 3, 64, 70, 1000] {
        let puller = open(&signing(ram("puller"))).await;
        let batches = log(&donor, donor.origin(), limit).await;
        for batch in &batches {
            let counts: u32 = batch.bundles.iter().map(|bundle| bundle.count).sum();
            assert_eq!(counts as usize, batch.entries.len());
            assert!(batch.encoded_len() < limits::MESSAGE_MAX_BYTES, "{}", batch.encoded_len());
            take(&puller, batch.clone()).await.unwrap();
        }
        assert!(batches.len() > 2, "{limit}");
        assert_eq!(puller.summary().digest, donor.summary().digest);
        // Relayed as it came.
        assert_eq!(log(&puller, donor.origin(), limit).await.len(), batches.len());
        for number in 0..109 {
            let state = puller.get(key(number)).await.unwrap().unwrap();
            // No operator has signed what was destroyed.
            assert_eq!(state.is_proven(), !(1..=3).contains(&number), "{number}: {state:?}");
            let believed = strict(&puller).believe(&key(number), state.clone(), &Bundles::default(), &[]);
            assert!(believed.unproven.is_empty());
            assert_eq!(believed.state.evidence, state.evidence);
        }
        close(puller).await;
    }
    close(donor).await;
}

/// The evidence of a record: what the issue of its size is about.
#[tokio::test]
async fn the_evidence_of_a_record_has_at_most_350_bytes() {
    let store = origin_store().await;
    for (number, most) in [(10, 90), (100, 290), (108, 290)] {
        let state = store.get(key(number)).await.unwrap().unwrap();
        let kept: usize = codec::state_to_proto(&state).evidence.iter().map(Message::encoded_len).sum();
        // The bundle, as far as it is this record's, with its key.
        let (_, evidence) = state.evidence.first().unwrap();
        let bundle = (72 + 1 + 137 + 32 * usize::from(evidence.count)).div_ceil(evidence.count.into());
        assert!(kept + bundle <= most, "{number}: {kept} + {bundle} bytes");
    }
    close(store).await;
}

#[tokio::test]
async fn what_the_origin_has_not_signed_is_refused_and_one_that_has_signed_is_never_believed_unsigned() {
    let donor = origin_store().await;
    let (from, relay) = (node_id("origin"), node_id("relay"));
    let store = open(&signing(ram("puller"))).await;
    let batches = log(&donor, donor.origin(), 50).await;
    let (first, second) = (batches[0].clone(), batches[1].clone());
    let unsigned = |batch: &proto::Batch| proto::Batch { bundles: Vec::new(), birth: None, ..batch.clone() };
    // At first contact.
    let strange = |birth: Option<proto::Birth>| proto::Batch { birth, ..first.clone() };
    let forged = |change: fn(&mut proto::Birth)| {
        let mut birth = first.birth.clone().unwrap();
        change(&mut birth);
        Some(birth)
    };
    for batch in [
        unsigned(&first),
        strange(None),
        strange(forged(|birth| birth.key = vec![9; 32].into())),
        strange(forged(|birth| birth.signature = vec![9; 32].into())),
        strange(forged(|birth| birth.born_at_unix += 1)),
    ] {
        assert!(check(&strict(&store), &from, batch).is_err());
    }
    let direct = check(&trusting(&store), &from, unsigned(&first)).unwrap();
    assert!(direct.proof.is_none() && direct.birth.is_none(), "an origin that never signed is trusted there");
    take(&store, first.clone()).await.unwrap();
    // Later, in either mode.
    for verifier in [strict(&store), trusting(&store)] {
        for from in [&from, &relay] {
            let refused = check(&verifier, from, unsigned(&second)).unwrap_err();
            assert_eq!(refused, ProofError::Unsigned(donor.origin()).to_string());
        }
        // Also on the link of the origin itself: what is kept as proof is passed on.
        let mut altered = second.clone();
        altered.entries[0].key_hash = vec![9; 32].into();
        for from in [&from, &relay] {
            let refused = check(&verifier, from, altered.clone()).unwrap_err();
            assert_eq!(refused, ProofError::Forged(donor.origin()).to_string());
        }
        let twin = proto::Batch { birth: forged(|birth| birth.key = vec![9; 32].into()), ..second.clone() };
        assert!(check(&verifier, &from, twin).unwrap_err().contains("two births"));
    }
    take(&store, second).await.unwrap();
    close(store).await;
    close(donor).await;
}

/// What a batch says, apart from payloads: these have digests in it.
fn said(segment: &Segment) -> Vec<(Clock, Vec<u8>, Bytes)> {
    let one = |entry: &SegmentEntry| match entry {
        SegmentEntry::Applicable(entry, _) => (entry.clock, entry.key_hash.0.to_vec(), entry.encoded.clone()),
        SegmentEntry::Quarantined(entry, _) => {
            (Clock(entry.clock), entry.key_hash.to_vec(), entry.operation.clone())
        }
    };
    segment.entries.iter().map(one).collect()
}

fn mutations() -> u64 {
    std::env::var("BROCK_MUTATIONS").map_or(100_000, |count| count.parse().unwrap())
}

/// As many mutations as `BROCK_MUTATIONS` says.
#[tokio::test]
async fn of_mutated_batches_nothing_is_believed_that_the_origin_did_not_sign() {
    let count = mutations();
    let donor = origin_store().await;
    let store = open(&signing(ram("puller"))).await;
    let small = |batch: &proto::Batch| batch.encoded_len() < 20_000;
    let batches: Vec<proto::Batch> = log(&donor, donor.origin(), 5).await.into_iter().filter(small).collect();
    let verifier = strict(&store);
    let genuine: Vec<_> = batches
        .iter()
        .map(|batch| said(&check(&verifier, &node_id("relay"), batch.clone()).unwrap()))
        .collect();
    let mut random = StdRng::seed_from_u64(count);
    let mut believed = 0;
    for _ in 0..count {
        let chosen = random.random_range(0..batches.len());
        let Some(mutated) = mutate(&batches, chosen, &mut random) else { continue };
        if let Ok(segment) = check(&verifier, &node_id("relay"), mutated) {
            // A mutation of what is not signed: of a payload, which fails its digest, or of nothing.
            assert!(genuine.contains(&said(&segment)), "{segment:?}");
            believed += 1;
        }
    }
    assert!(believed < count, "{believed} of {count}");
    close(store).await;
    close(donor).await;
}

/// A quarter as many mutations of a page of a snapshot: its records, their evidence, and the bundles beside them.
#[tokio::test]
async fn of_mutated_pages_nothing_is_believed_that_the_origin_did_not_sign() {
    let (donor, store) = (open(&signing(ram("origin"))).await, open(&signing(ram("puller"))).await);
    donor.create((0..5).map(|number| new_record(key(number), b"g")).collect()).await.unwrap();
    created(&donor, NewRecord { expires_at: Some(NOW + 9), public: false, ..new_record(key(5), b"g") }).await;
    let invalidate = Operation::Invalidate { at: NOW, reason: "leaked".to_owned() };
    for (number, operation) in [(1, invalidate), (2, Operation::Unpublish), (3, Operation::Delete)] {
        donor.operate(NewOperation { key_hash: key(number), operation, ahead: false }).await.unwrap();
    }
    let verifier = strict(&store);
    verifier
        .learn(vec![donor.birth(donor.origin()).await.unwrap().unwrap()], &Vector::default())
        .await
        .unwrap();
    let (page, _) = donor.record_page(None, SentBundles::default()).await.unwrap();
    let genuine: BTreeMap<KeyHash, RecordState> = page.states.iter().cloned().collect();
    let keyed = page.states.iter().map(|(key_hash, state)| keyed_state(*key_hash, state));
    let bundles = page.bundles.iter().map(|(origin, leaves)| leaves.to_proto(*origin));
    let sent =
        proto::RecordPage { records: keyed.collect(), bundles: bundles.collect(), ..Default::default() };
    assert_eq!((sent.records.len(), sent.bundles.len()), (6, 5));
    let count = mutations() / 4;
    let mut random = StdRng::seed_from_u64(count);
    let (mut whole, mut partly) = (0, 0);
    for _ in 0..count {
        let Some(mutated) = mutate_page(&sent, &mut random) else { continue };
        let read = |record: &proto::KeyedState| {
            let key_hash = KeyHash::try_from(record.key_hash.as_ref()).ok()?;
            Some((key_hash, codec::foreign_state(record.state.clone()?).ok()?))
        };
        let states: Vec<_> = mutated.records.iter().filter_map(read).collect();
        let named = named(&mutated.bundles, states.iter().map(|(_, state)| state));
        let mut known = Bundles::default();
        verifier.take_bundles(named, &mut known);
        for (key_hash, state) in states {
            let believed = verifier.believe(&key_hash, state, &known, &[]);
            let nothing = RecordState::default();
            let genuine = genuine.get(&key_hash).unwrap_or(&nothing).without_payload();
            // Whether a create was seen before a delete, nothing proves.
            let believed_state = believed.state.without_payload();
            let joined = genuine.clone().join(believed_state.clone());
            assert_eq!(joined, genuine, "{believed_state:?} was believed");
            let is_whole = believed.unproven.is_empty() && believed_state != nothing;
            *if is_whole { &mut whole } else { &mut partly } += 1;
        }
    }
    assert!(whole > count && partly > count / 20, "{whole} and {partly} of {count}");
    close(store).await;
    close(donor).await;
}

fn mutate_page(sent: &proto::RecordPage, random: &mut StdRng) -> Option<proto::RecordPage> {
    let mut page = sent.clone();
    let (one, other) =
        (random.random_range(0..page.records.len()), random.random_range(0..page.records.len()));
    let bundle = random.random_range(0..page.bundles.len());
    let flip = |bytes: &Bytes, random: &mut StdRng| {
        let mut bytes = bytes.to_vec();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        Bytes::from(bytes)
    };
    match random.random_range(0..11) {
        0..3 => {
            let bytes = flip(&page.encode_to_vec().into(), random);
            return proto::RecordPage::decode(bytes).ok();
        }
        3 => page.records[one].state = sent.records[other].state.clone(),
        4 => {
            let evidence = sent.records[other].state.as_ref()?.evidence.clone();
            page.records[one].state.as_mut()?.evidence = evidence;
        }
        5 => drop(page.bundles.remove(bundle)),
        6 => page.bundles[bundle].signed = flip(&page.bundles[bundle].signed, random),
        7 => page.bundles[bundle].first = random.random_range(0..12),
        8 => {
            let state = page.records[one].state.as_mut()?;
            let evidence = state.evidence.first_mut()?;
            evidence.count = random.random_range(0..70);
            evidence.before = random.random_range(0..evidence.count.max(1));
        }
        9 => {
            // A record that no node made, and a bundle of the forger's own.
            let mut state = codec::state_from_proto(page.records[one].state.clone()?).ok()?;
            let stamp = state.creation.as_ref()?.stamp;
            let operation = state.evidence.first()?.1.operation().clone();
            let key_hash = KeyHash(random.random());
            let root = leaf(stamp, &key_hash.0, &operation);
            let bundle = Bundle { first: stamp.clock, count: 1, before: [0; 32], signature: [1; 64] };
            let tip = Tip { bundle, root };
            state.evidence = vec![(stamp, tip.evidence(operation))];
            page.records[one] = keyed_state(key_hash, &state);
            page.bundles.push(Leaves::new(tip, vec![root])?.to_proto(stamp.origin));
        }
        _ => {
            // The root as the hash of one operation.
            let root = page.records[one].state.as_ref()?.evidence.first()?.root.clone();
            let leaves = &mut page.bundles[bundle];
            leaves.signed = [&leaves.signed[..96], &root].concat().into();
        }
    }
    Some(page)
}

fn mutate(batches: &[proto::Batch], chosen: usize, random: &mut StdRng) -> Option<proto::Batch> {
    let mut batch = batches[chosen].clone();
    let other = &batches[random.random_range(0..batches.len())];
    let entries = batch.entries.len();
    match random.random_range(0..10) {
        0 => {
            let mut bytes = batch.encode_to_vec();
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            return proto::Batch::decode(bytes.as_slice()).ok();
        }
        1 => drop(batch.entries.remove(random.random_range(0..entries))),
        2 => batch.entries.swap(0, entries - 1),
        3 => {
            let repeated = batch.entries[0].clone();
            batch.entries.push(repeated);
        }
        4 => batch.entries.clone_from(&other.entries),
        5 => batch.bundles.clone_from(&other.bundles),
        6 => batch.covered_through += 1,
        8 => batch.chain.clone_from(&other.chain),
        7 => batch.origin = Bytes::copy_from_slice(origin("origin", random.random()).as_bytes()),
        _ => {
            let last = batch.entries.pop()?;
            batch.covered_through = last.clock - 1;
            if let Some(bundle) = batch.bundles.last_mut() {
                bundle.count -= 1;
            }
        }
    }
    Some(batch)
}

#[tokio::test]
async fn evidence_of_another_place_or_of_nothing_is_left_out_of_a_peers_state() {
    let donor = origin_store().await;
    let store = open(&signing(ram("puller"))).await;
    let state = donor.get(key(1)).await.unwrap().unwrap();
    let sent = carried(&donor, vec![(key(1), state.clone())]).await.bundles;
    let mut bundles = Bundles::default();
    assert_eq!(strict(&store).take_bundles(sent.clone(), &mut bundles), Vec::new(), "without the birth");
    assert_eq!(strict(&store).believe(&key(1), state.clone(), &bundles, &[]).unproven.len(), 2);
    strict(&store)
        .learn(vec![donor.birth(donor.origin()).await.unwrap().unwrap()], &Vector::default())
        .await
        .unwrap();
    assert_eq!(strict(&store).believe(&key(1), state.clone(), &bundles, &[]).unproven.len(), 2);
    assert_eq!(strict(&store).take_bundles(sent.clone(), &mut bundles), sent);
    assert!(strict(&store).believe(&key(1), state.clone(), &bundles, &[]).unproven.is_empty());
    // The state of one key hash is not that of another one.
    let moved = strict(&store).believe(&key(9), state.clone(), &bundles, &[]);
    assert_eq!((moved.state.clone(), moved.unproven.len()), (Default::default(), 2));
    // An origin that signs is not believed unsigned on a trusted link either; one that does not is.
    assert_eq!(trusting(&store).believe(&key(9), state.clone(), &bundles, &[]), moved);
    let stamp = |clock| Stamp { origin: origin("unsigned", 1), clock: Clock(clock) };
    let unsigned = creation(NOW, &payload(b"u")).state(stamp(1), Some(payload(b"u")));
    let unsigned = unsigned.join(Operation::Unpublish.state(stamp(2), None));
    let kept = trusting(&store).believe(&key(9), unsigned.clone(), &Bundles::default(), &[]);
    assert!(kept.state == unsigned && kept.unproven.is_empty(), "{kept:?}");
    // Of both together what is proven and what the unsigned origin did, and nothing that names the signing one.
    let late = Operation::Unpublish.state(Stamp { origin: donor.origin(), clock: Clock(99) }, None);
    let mixed = trusting(&store).believe(&key(1), state.clone().join(late), &bundles, &[]);
    assert_eq!((mixed.state, mixed.unproven.len()), (state.clone(), 1));
    // What a donor adds to a state is not proven by the rest of it.
    let mut invented = state.clone();
    invented.deletion = None;
    invented.unpublication = Some(Stamp { origin: donor.origin(), clock: Clock(1) });
    let believed = strict(&store).believe(&key(1), invented, &bundles, &[]);
    assert!(believed.state.unpublication.is_none() && believed.state.invalidation.is_some());
    store.join(carried(&donor, vec![(key(1), state.clone())]).await).await.unwrap();
    assert_eq!(store.get(key(1)).await.unwrap(), Some(state));
    close(store).await;
    close(donor).await;
}

/// Claim: the count of unproven records is exact, whatever changes them and however the store is opened.
#[tokio::test]
async fn records_that_are_not_proven_are_counted_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let options = signing(options(directory.path()));
    let store = open(&options).await;
    let counted = |store: &Store| (store.totals().unproven, store.unborn());
    created(&store, new_record(key(1), b"g")).await;
    assert_eq!(counted(&store), (0, 0));
    let unsigned = origin("unsigned", 1);
    let content = payload(b"g");
    let create = |clock, number| entry(clock, key(number), &creation(NOW, &content), Some(&content));
    let revoke = Operation::Invalidate { at: NOW, reason: "leaked".to_owned() };
    let entries = vec![create(1, 2), create(2, 3), entry(3, key(1), &revoke, None)];
    deliver(&store, batch(unsigned, 0, entries)).await.unwrap();
    assert_eq!(counted(&store), (3, 1));
    // A tombstone of this node is proven if an operator has signed it, whatever was there before.
    let delete = NewOperation { key_hash: key(2), operation: Operation::Delete, ahead: false };
    let (certificate, signature) = ([1; 32], Bytes::from_static(b"signature"));
    let order = OrderProof { certificate, at_unix_ms: NOW * 1000, scheme: 7, signature };
    store.operate_with(delete, Some(order)).await.unwrap();
    assert_eq!(counted(&store), (2, 1));
    let unpublish = NewOperation { key_hash: key(4), operation: Operation::Unpublish, ahead: true };
    store.operate(unpublish).await.unwrap();
    assert_eq!(counted(&store), (3, 1));
    for bucket in 0..=u8::MAX {
        assert_eq!(store.scrub(bucket).await.unwrap(), Scrubbed::default(), "{bucket}");
    }
    close(store).await;
    let store = open(&options).await;
    assert_eq!(counted(&store), (3, 1));
    close(store).await;
}

#[tokio::test]
async fn an_incarnation_states_where_the_one_before_it_ended_and_never_continues_it() {
    let directory = tempfile::tempdir().unwrap();
    let options = signing(options(directory.path()));
    let birth = |store: &Store| {
        let (store, origin) = (store.clone(), store.origin());
        async move { SignedBirth::from_proto(store.birth(origin).await.unwrap().unwrap()).unwrap().birth }
    };
    let store = open(&options).await;
    let first = birth(&store).await;
    assert_eq!(first.previous, None);
    // In two commits: the chain of the second continues that of the first.
    let mut chain = first.chain(&ClusterId::of("test"));
    for number in 1..=2 {
        let stamp = created(&store, new_record(key(number), b"g")).await;
        let state = store.get(key(number)).await.unwrap().unwrap();
        let (_, evidence) = state.evidence.first().unwrap();
        let id = evidence.bundle_id(stamp.origin);
        assert!(evidence.is_in(&store.leaves(&id).unwrap().unwrap(), stamp, &key(number).0));
        chain = chained(&chain, &evidence.root);
    }
    close(store).await;
    // A start without a write in between.
    for _ in 0..2 {
        let store = open(&options).await;
        let next = birth(&store).await;
        let previous = next.previous.unwrap();
        assert_eq!(previous.last, Stamp { origin: first.origin, clock: Clock(2) });
        assert_eq!(previous.chain, chain, "the chain ends elsewhere");
        assert_ne!(next.key, first.key);
        close(store).await;
    }
}

#[tokio::test]
async fn a_signed_entry_that_cannot_be_applied_is_relayed_with_its_signature_also_once_it_is_dropped() {
    let (middle, last) = (open(&signing(ram("middle"))).await, open(&signing(ram("last"))).await);
    let later = TestOrigin::new(origin("later-version", 1));
    let cannot = vec![poison(1, key(1)), entry(2, key(2), &Operation::Unpublish, None), poison(3, key(3))];
    take(&middle, later.sign(0, cannot)).await.unwrap();
    assert!(middle.drop_quarantined(Stamp { origin: later.origin, clock: Clock(1) }).await.unwrap());
    for batch in log(&middle, later.origin, 10).await {
        take(&last, batch).await.unwrap();
    }
    assert_eq!((last.quarantined(), last.clock(&later.origin)), (2, Clock(3)));
    let evidence = |store: &Store| {
        let store = store.clone();
        async move { store.get(key(2)).await.unwrap().unwrap().evidence }
    };
    assert_eq!(evidence(&last).await, evidence(&middle).await);
    close(middle).await;
    close(last).await;
}

/// Claim: a record that comes to the donor during a snapshot is proven to the puller too, although the donor knew no
/// birth of its origin when the snapshot began.
#[tokio::test]
async fn a_page_comes_after_the_births_that_it_needs() {
    let open_all = async |id| open(&signing(ram(id))).await;
    let (donor, late, puller) = (open_all("donor").await, open_all("late").await, open_all("puller").await);
    created(&donor, new_record(key(1), b"g")).await;
    created(&late, new_record(key(2), b"g")).await;
    let mut feed = SnapshotFeed::begin(donor.clone(), proto::SnapshotRequest::default()).unwrap();
    let verifier = Some(trusting(&puller));
    let mut joiner = Joiner::new(puller.clone(), node_id("donor"), Terms::default(), verifier);
    for _ in ["header", "births"] {
        joiner.take(feed.next().await.unwrap().unwrap()).await.unwrap();
    }
    trusting(&donor)
        .learn(vec![late.birth(late.origin()).await.unwrap().unwrap()], &Vector::default())
        .await
        .unwrap();
    let state = late.get(key(2)).await.unwrap().unwrap();
    donor.join(carried(&late, vec![(key(2), state)]).await).await.unwrap();
    while let Some(message) = feed.next().await.unwrap() {
        joiner.take(message).await.unwrap();
    }
    for number in 1..=2 {
        let state = puller.get(key(number)).await.unwrap().unwrap();
        assert!(state.is_proven(), "{number}: {state:?}");
    }
    for store in [donor, late, puller] {
        close(store).await;
    }
}

/// The donor holds the log of an origin that signs as one that does not: it could not verify the birth.
/// The holder of a node's certificate signs any number of them.
#[tokio::test]
async fn births_of_which_nothing_is_here_are_bounded_but_for_those_that_are_expected() {
    let store = open(&signing(ram("one"))).await;
    let most = u32::try_from(limits::BIRTHS_PER_NODE).unwrap();
    let born = |id: &str, incarnation| {
        let own = TestOrigin::new(origin(id, incarnation));
        own.sign(0, vec![entry(1, key(1), &Operation::Unpublish, None)]).birth.unwrap()
    };
    let none = Vector::default();
    let many = (1..=most + 3).map(|incarnation| born("thief", incarnation)).collect();
    strict(&store).learn(many, &none).await.unwrap();
    strict(&store).learn(vec![born("thief", most + 4), born("two", 1)], &none).await.unwrap();
    let knows = |id: &str, incarnation| store.born(&origin(id, incarnation)).is_some();
    assert!(
        knows("thief", most) && !knows("thief", most + 1) && !knows("thief", most + 4) && knows("two", 1)
    );
    let expected = [(origin("thief", most + 5), Clock(1))].into_iter().collect();
    strict(&store).learn(vec![born("thief", most + 5)], &expected).await.unwrap();
    assert!(knows("thief", most + 5));
    close(store).await;
}

#[tokio::test]
async fn what_a_donor_shows_without_its_proof_is_not_taken_for_forgotten() {
    let signer = origin_store().await;
    let puller = open(&signing(ram("puller"))).await;
    trusting(&puller)
        .learn(vec![signer.birth(signer.origin()).await.unwrap().unwrap()], &Vector::default())
        .await
        .unwrap();
    let state = signer.get(key(1)).await.unwrap().unwrap();
    puller.join(carried(&signer, vec![(key(1), state.clone())]).await).await.unwrap();
    let terms = Terms { may_drop: Some(10), present: Vec::new() };
    let mut joiner = Joiner::new(puller.clone(), node_id("donor"), terms, Some(trusting(&puller)));
    let vector = [(signer.origin(), signer.clock(&signer.origin()))].into_iter().collect();
    let bare = RecordState { evidence: Default::default(), ..state.clone() };
    let shown = proto::KeyedState {
        key_hash: Bytes::copy_from_slice(&key(1).0),
        state: Some(codec::state_to_proto(&bare)),
    };
    let messages = [
        snapshot::header("donor", &vector, &Vector::default(), 1),
        snapshot::page(vec![shown], 0xff, Some(&vector)),
    ];
    for message in messages {
        joiner.take(proto::SnapshotResponse { message: Some(message) }).await.unwrap();
    }
    assert_eq!(puller.get(key(1)).await.unwrap(), Some(state));
    let end = joiner.take(proto::SnapshotResponse { message: Some(snapshot::end(Some(&vector))) }).await;
    assert!(matches!(&end, Err(JoinError::Unproven(unproven)) if unproven.operations == 2), "{end:?}");
    assert_eq!(puller.clock(&signer.origin()), Clock(0));
    close(puller).await;
    close(signer).await;
}

/// Two nodes create the same in one second; at one of them both become durable together.
#[tokio::test]
async fn of_two_creates_that_say_the_same_the_stamps_decide_also_within_one_commit() {
    let store = open(&signing(ram("a"))).await;
    let later = TestOrigin::new(origin("z", 1));
    let (mut created_here, grant) = (0, payload(b"g"));
    for number in 0..200 {
        let theirs = entry(number + 1, key(number), &creation(NOW, &grant), Some(&grant));
        let segment = check(&strict(&store), &node_id("relay"), later.sign(number, vec![theirs])).unwrap();
        let own = store.create(vec![new_record(key(number), b"g")]);
        let (own, applied) = tokio::join!(own, store.apply(segment));
        applied.unwrap();
        let Some(CreateOutcome::Created(stamp)) = own.unwrap().pop() else { continue };
        created_here += 1;
        let state = store.get(key(number)).await.unwrap().unwrap();
        assert_eq!(state.creation.as_ref().map(|creation| creation.stamp), Some(stamp), "{number}");
        assert!(state.is_proven() && state.has_payload());
    }
    // Of different payloads both stay: what the creates have in common is decided by the stamps as well.
    let (other, mut both) = (payload(b"other"), 0);
    for number in 200..400 {
        let operation =
            Operation::Create { created_at: NOW, expires_at: None, public: false, digest: sha256(&other) };
        let theirs = entry(number + 1, key(number), &operation, Some(&other));
        let segment = check(&strict(&store), &node_id("relay"), later.sign(number, vec![theirs])).unwrap();
        let own = store.create(vec![NewRecord { public: false, ..new_record(key(number), b"g") }]);
        let (own, applied) = tokio::join!(own, store.apply(segment));
        applied.unwrap();
        let Some(CreateOutcome::Created(stamp)) = own.unwrap().pop() else { continue };
        both += 1;
        let state = store.get(key(number)).await.unwrap().unwrap();
        assert_eq!((state.unpublished_create, state.losers.len()), (Some(stamp), 1), "{number}");
        assert!(state.is_proven());
    }
    assert!(created_here > 0 && both > 0);
    close(store).await;
}

/// A peer that has not heard of the revocation yet must keep it, or it forgets the birth once it does.
#[tokio::test]
async fn what_an_operator_vouches_for_is_kept_also_where_the_certificate_is_still_accepted() {
    let store = open(&signing(ram("one"))).await;
    let own = TestOrigin::new(origin("two", 1));
    let certified = SignedBirth::from_proto(own.birth()).unwrap();
    strict(&store).learn(vec![own.birth()], &Vector::default()).await.unwrap();
    let vouched = |at: i64| SignedBirth {
        vouched_at_unix_ms: Some(at),
        certificates: vec![Bytes::from(at.to_string())],
        ..certified.clone()
    };
    // What comes, and what is kept then: the last word of an operator.
    for (comes, kept) in [
        (certified.clone(), certified.clone()),
        (vouched(5), vouched(5)),
        (certified.clone(), vouched(5)),
        (vouched(4), vouched(5)),
        (vouched(6), vouched(6)),
    ] {
        strict(&store).renew(vec![comes]).await.unwrap();
        assert_eq!(store.signed_birth(&own.origin).unwrap(), Some(kept));
    }
    close(store).await;
}

/// Others know by that how far the log of the one before it goes.
#[tokio::test]
async fn an_incarnation_after_one_that_wrote_nothing_states_where_the_last_log_ended() {
    let store = open(&signing(ram("one"))).await;
    let last = created(&store, new_record(key(1), b"g")).await;
    for _ in 0..2 {
        let origin = store.go_on("rolled_back").await.unwrap();
        assert_eq!(store.born(&origin).unwrap().previous.map(|previous| previous.last), Some(last));
    }
    assert_eq!(store.stated_end(&last.origin), Some(last.clock));
    close(store).await;
}
