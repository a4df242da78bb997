//! A node that one donor has filled says so, until another member has confirmed that nothing was left out.

use std::time::Duration;

use crate::harness::{
    admin::Admin,
    certs::Certs,
    eventually,
    fake_peer::FakePeer,
    free_port,
    identity::{self, TestOrigin, signing},
    node::{TestNode, compacts_on_command, config},
    proxy::{Mode, Proxy},
    random_key,
    snapshot::{births, end, forces, header, page, proven_page},
    stays,
    store::{
        NOW, carried, close, created, creation, entry, key, new_record, node_id, open, options, origin,
        payload, ram,
    },
    wire::key_hash,
};
use brock::{
    config::validate::Config,
    membership::peer::RemoteError,
    replication::{
        comparison::{Comparison, Look},
        confirmation::{Confirmation, Step},
        remote::Remote,
    },
    store::{Confirmed, Fill, Options, Store},
    transfer::{
        feed::SnapshotFeed,
        join::{Joiner, Terms},
        proof::Verifier,
    },
};
use brock_core::{
    base::{
        id::KeyHash,
        limits,
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::segment::Segment,
    proto::{self, out_of_sync::Reason, snapshot_response::Message},
};
use bytes::Bytes;
use tempfile::TempDir;

fn strict(certs: &Certs, id: &str, port: u16, join: &[u16]) -> Config {
    Config { trust: TrustMode::Distributed, ..compacts_on_command(config(certs, id, port, join)) }
}

async fn filled_from(node: &TestNode) -> Vec<String> {
    let trust = node.admin.status().await.trust.unwrap();
    trust.unconfirmed_fills.into_iter().map(|fill| fill.donor).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_donor_has_left_out_comes_from_another_member_which_then_confirms_the_rest() {
    let (certs, storage) = (Certs::new(), TempDir::new().unwrap());
    let ports = [free_port(), free_port()];
    let on_disk = async |id: &str, port: u16, join: &[u16]| {
        let path = Some(storage.path().join(id));
        TestNode::start(&certs, Config { path, ..strict(&certs, id, port, join) }).await
    };
    let writer = on_disk("writer", ports[0], &[]).await;
    let mut keys: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
    keys.sort_by_key(|key| key_hash(key));
    let mut states = Vec::new();
    for key in &keys {
        writer.client.put(key, b"grant").await.unwrap();
        let state = writer.node.store().get(key_hash(key)).await.unwrap().unwrap();
        states.push((key_hash(key), state));
    }
    let (vector, origin) = (writer.vector(), writer.node.store().origin());
    let shown = births(vec![writer.node.store().birth(origin).await.unwrap().unwrap()], writer.node.store());
    // It leaves one out.
    states.remove(1);
    let page = proven_page(writer.node.store(), &states).await;
    writer.stop().await;
    let said = vec![header("donor", &vector, &Vector::default(), 2), shown, page, end(None)];
    let donor = FakePeer::start(&certs, "donor", forces("donor", Reason::BelowFloor, said)).await;

    let join = [donor.port, ports[0]];
    let victim = on_disk("victim", ports[1], &join).await;
    eventually("it is filled, and says from whom alone", || async {
        (victim.vector() == vector && filled_from(&victim).await == ["donor"]).then_some(())
    })
    .await;
    let tool = Admin::new(&certs.admin(), &[victim.address()]);
    let shown = tool.run(&["status"], "");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("filled from donor alone, unconfirmed"), "{shown}");
    assert_eq!(tool.json(&["status"], "")["trust"]["unconfirmed_fills"][0]["donor"], "donor");
    assert!(victim.client.get_local(&keys[1]).await.is_err());
    victim.stop().await;
    let victim = on_disk("victim", ports[1], &join).await;
    assert_eq!(filled_from(&victim).await, ["donor"], "after a restart");

    let writer = on_disk("writer", ports[0], &[]).await;
    eventually("what was left out is there", || victim.client.has_local(&keys[1])).await;
    eventually("the fill is confirmed", || async { filled_from(&victim).await.is_empty().then_some(()) })
        .await;
    victim.stop().await;
    writer.stop().await;
}

/// A donor claims what an honest node has not done yet, with all that this node has signed, so that whoever believes it
/// skips what comes.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_log_no_more_is_adopted_than_its_origin_has_signed() {
    let certs = Certs::new();
    let ports = [free_port(), free_port()];
    let honest = TestNode::start(&certs, strict(&certs, "honest", ports[0], &[])).await;
    let keys: Vec<Vec<u8>> = (0..2).map(|_| random_key()).collect();
    honest.client.put(&keys[0], b"grant").await.unwrap();
    let (store, own) = (honest.node.store(), honest.node.store().origin());
    let state = store.get(key_hash(&keys[0])).await.unwrap().unwrap();
    let claimed: Vector = [(own, Clock(1_000))].into_iter().collect();
    let said = vec![
        header("donor", &claimed, &Vector::default(), 1),
        births(vec![store.birth(own).await.unwrap().unwrap()], store),
        proven_page(store, &[(key_hash(&keys[0]), state)]).await,
        end(None),
    ];
    let donor = FakePeer::start(&certs, "donor", forces("donor", Reason::BelowFloor, said)).await;
    let proxy = Proxy::start(ports[0]).await;
    proxy.set(Mode::Cut);
    let victim = TestNode::start(&certs, strict(&certs, "victim", ports[1], &[donor.port, proxy.port])).await;
    eventually("the records are joined, and the status says what is not believed", || async {
        let peers = victim.admin.status().await.peers;
        let is_said = peers.iter().any(|peer| peer.last_error.contains("shows no signature of that origin"));
        (is_said && victim.client.get_local(&keys[0]).await.is_ok()).then_some(())
    })
    .await;
    assert_eq!(victim.vector(), Vector::default());
    proxy.set(Mode::Pass);
    honest.client.put(&keys[1], b"grant").await.unwrap();
    eventually("what comes next is not skipped", || victim.client.has_local(&keys[1])).await;
    assert_eq!((victim.vector(), store.origin()), (honest.vector(), own), "it goes on as it is");
    victim.stop().await;
    honest.stop().await;
}

/// An incarnation that never wrote is in no vector, and only its node knows its birth. A donor claims to have finished
/// its log; whoever believes that cannot be pulled from by the node itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_birth_only_its_node_knows_is_retracted_when_that_node_shows_it() {
    let (certs, storage) = (Certs::new(), TempDir::new().unwrap());
    let ports = [free_port(), free_port()];
    let start = async |id: &str, port: u16, join: &[u16]| {
        let path = Some(storage.path().join(id));
        TestNode::start(&certs, Config { path, ..strict(&certs, id, port, join) }).await
    };
    let honest = start("honest", ports[0], &[ports[1]]).await;
    let silent = honest.node.store().origin();
    honest.stop().await;
    let folds = [(silent, Clock(1_000))].into_iter().collect();
    let said = vec![header("donor", &Vector::default(), &folds, 0), page(Vec::new(), 0xff, None), end(None)];
    let donor = FakePeer::start(&certs, "donor", forces("donor", Reason::Folded, said)).await;
    let victim = start("victim", ports[1], &[donor.port]).await;
    let applied = |node: &TestNode| node.node.store().applied();
    eventually("it believes the donor", || async { applied(&victim).lists(&silent).then_some(()) }).await;
    drop(donor);

    let honest = start("honest", ports[0], &[ports[1]]).await;
    assert_ne!(honest.node.store().origin(), silent);
    let key = random_key();
    victim.client.put(&key, b"grant").await.unwrap();
    eventually("the claim is retracted", || async { (!applied(&victim).lists(&silent)).then_some(()) }).await;
    eventually("the log is followed", || honest.client.has_local(&key)).await;
    eventually("both have the same", || async { (applied(&honest) == applied(&victim)).then_some(()) }).await;
    victim.stop().await;
    honest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_the_donor_does_not_confirm_itself_and_the_other_is_well() {
    let certs = Certs::new();
    let donor = TestNode::start(&certs, strict(&certs, "donor", free_port(), &[])).await;
    donor.client.put(&random_key(), b"grant").await.unwrap();
    let compacted = donor.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap().into_inner();
    assert_eq!(compacted.entries_kept, 0);
    let late = TestNode::start(&certs, strict(&certs, "late", free_port(), &[donor.port])).await;
    eventually("it is filled", || async { (late.vector() == donor.vector()).then_some(()) }).await;
    // Filled from the one that only the donor has filled.
    assert_eq!(filled_from(&late).await, ["donor"]);
    let third = TestNode::start(&certs, strict(&certs, "third", free_port(), &[donor.port, late.port])).await;
    eventually("the third is filled", || async { (third.vector() == donor.vector()).then_some(()) }).await;
    let is_as_before = || async { filled_from(&late).await == ["donor"] };
    // Each node compares its records with the others' after a fill, within a second or two.
    stays("it waits for a member that the donor has not filled", Duration::from_secs(4), is_as_before).await;
    assert!(late.admin.status().await.ready);
    let view = late.admin.admin.clone().cluster(proto::ClusterRequest::default()).await.unwrap();
    let findings = view.into_inner().verdict.unwrap().findings;
    assert!(!findings.iter().any(|finding| finding.what.contains("was filled from")), "{findings:?}");
    for node in [third, late, donor] {
        node.stop().await;
    }
}

/// Fills a store with what the donor has, but for one record.
async fn fill(store: &Store, donor: &Store, left_out: Option<KeyHash>) {
    let verifier = Verifier::new(store.clone(), TrustMode::Centralized, None);
    let id = donor.node_id().clone();
    let mut joiner = Joiner::new(store.clone(), id, Terms::default(), Some(verifier));
    let mut feed = SnapshotFeed::begin(donor.clone(), joiner.request()).unwrap();
    while let Some(mut message) = feed.next().await.unwrap() {
        if let (Some(Message::Records(page)), Some(left_out)) = (&mut message.message, left_out) {
            page.records.retain(|record| record.key_hash != left_out.0.as_slice());
        }
        joiner.take(message).await.unwrap();
    }
}

async fn donors(store: &Store) -> Vec<String> {
    let fills = store.unconfirmed_fills();
    fills.into_iter().map(|fill| fill.donor.to_string()).collect()
}

fn whole(fills: &[Fill]) -> Vec<Confirmed> {
    fills.iter().cloned().map(Confirmed::from).collect()
}

/// The steps with one member until one of them says something.
async fn confirmed_by(store: &Store, member: &str, remote: &impl Remote) -> Step {
    let (mut confirmation, member) = (Confirmation::default(), node_id(member));
    for _ in 0..10 {
        match confirmation.step(store, (&member, remote)).await.unwrap() {
            Step::Idle | Step::UnderWay => {}
            said => return said,
        }
    }
    Step::Idle
}

/// A store with records of its own, in several stretches, and one that it has filled.
async fn original_and_copy(left_out: Option<KeyHash>) -> (Store, Store) {
    let original = Store::open(&ram("original")).unwrap();
    for chunk in 0..5 {
        let numbers = chunk * 1000..(chunk + 1) * 1000;
        let records = numbers.map(|number| new_record(key(number), b"g")).collect();
        original.create(records).await.unwrap();
    }
    assert!(original.records() as usize > limits::CONFIRM_ITEMS);
    let copy = Store::open(&ram("copy")).unwrap();
    fill(&copy, &original, left_out).await;
    (original, copy)
}

#[tokio::test]
async fn a_member_confirms_what_it_holds_itself_and_only_what_another_has_filled() {
    let (original, copy) = original_and_copy(None).await;
    let filled = copy.unconfirmed_fills();
    assert_eq!(donors(&copy).await, ["original"]);
    assert_eq!(confirmed_by(&copy, "original", &original).await, Step::Idle, "the donor of itself");
    assert_eq!(confirmed_by(&copy, "other", &original).await, Step::Confirms(whole(&filled)));
    // What a donor was filled with by another one is as unconfirmed here as there.
    let next = Store::open(&ram("next")).unwrap();
    fill(&next, &copy, None).await;
    assert_eq!(donors(&next).await, ["copy", "original"]);
    let Step::Confirms(by_original) = confirmed_by(&next, "original", &original).await else {
        panic!("the original holds the same")
    };
    assert_eq!(by_original.iter().map(|part| part.fill.donor.as_str()).collect::<Vec<_>>(), ["copy"]);
    let twin = Store::open(&ram("twin")).unwrap();
    fill(&twin, &original, None).await;
    assert_eq!(confirmed_by(&copy, "twin", &twin).await, Step::Idle, "the same donor has filled it");
    // A member that lacks something that the donor has claimed.
    let empty = Store::open(&ram("empty")).unwrap();
    assert_eq!(confirmed_by(&copy, "empty", &empty).await, Step::Idle);

    let another = Fill { since: filled[0].since + 1, ..filled[0].clone() };
    copy.confirm_fills(vec![another]).await.unwrap();
    assert_eq!(donors(&copy).await, ["original"], "what was confirmed is another fill");
    copy.confirm_fills(filled).await.unwrap();
    assert!(donors(&copy).await.is_empty());
}

#[tokio::test]
async fn a_member_that_waits_itself_confirms_what_it_has_written_and_no_more() {
    let first = Store::open(&ram("first")).unwrap();
    created(&first, new_record(key(1), b"g")).await;
    let second = Store::open(&ram("second")).unwrap();
    fill(&second, &first, None).await;
    created(&second, new_record(key(2), b"g")).await;
    // The first one has that too, and fills a third.
    fill(&first, &second, None).await;
    let third = Store::open(&ram("third")).unwrap();
    fill(&third, &first, None).await;
    let from_first =
        |store: &Store| store.unconfirmed_fills().into_iter().find(|fill| fill.donor.as_str() == "first");
    let noted = from_first(&third).unwrap();
    assert!(noted.applied.lists(&second.origin()) && from_first(&second).is_some(), "both wait");
    let Step::Confirms(confirmed) = confirmed_by(&third, "second", &second).await else {
        panic!("it needs no donor for its own log")
    };
    third.confirm_fills(confirmed).await.unwrap();
    let left = from_first(&third).unwrap();
    assert_eq!(left.applied.iter().collect::<Vec<_>>(), [(first.origin(), Clock(1))]);
    assert_eq!(confirmed_by(&third, "second", &second).await, Step::Idle, "that is all");
}

#[tokio::test]
async fn what_a_donor_may_have_left_out_of_anothers_log_is_acknowledged_by_no_signature() {
    let original = Store::open(&signing(ram("original"))).unwrap();
    created(&original, new_record(key(1), b"g")).await;
    let third = TestOrigin::new(origin("third", 1));
    let grant = payload(b"g");
    let step = |clock| {
        let create = entry(clock, key(clock), &creation(NOW, &grant), Some(&grant));
        Segment::check(third.sign(clock - 1, vec![create])).unwrap()
    };
    let of_third = async |store: &Store, clock| {
        let segment = identity::strict(store).check_segment(&node_id("third"), step(clock)).unwrap();
        store.apply(segment).await.unwrap();
    };
    of_third(&original, 1).await;
    let at_home = tempfile::tempdir().unwrap();
    let at_copy = signing(Options { node_id: node_id("copy"), ..options(at_home.path()) });
    let copy = open(&at_copy).await;
    fill(&copy, &original, Some(key(1))).await;
    let signs = |store: &Store, origin| store.acknowledgement(&origin).map(|signed| signed.applied.clock.0);
    assert_eq!(signs(&copy, third.origin), None, "the donor may have left out something of it");
    assert_eq!(signs(&copy, original.origin()), Some(1), "of its own log, it loses what only it knows");
    // What comes by the log does not make up for it, nor does a restart.
    of_third(&copy, 2).await;
    close(copy).await;
    let copy = open(&at_copy).await;
    assert_eq!((copy.clock(&third.origin).0, signs(&copy, third.origin)), (2, None));
    copy.confirm_fills(copy.unconfirmed_fills()).await.unwrap();
    assert_eq!(signs(&copy, third.origin), Some(2));
    close(copy).await;
}

#[tokio::test]
async fn a_fill_that_brings_nothing_waits_for_no_confirmation_and_one_that_does_waits_again() {
    let (original, copy) = original_and_copy(None).await;
    copy.confirm_fills(copy.unconfirmed_fills()).await.unwrap();
    fill(&copy, &original, None).await;
    assert!(donors(&copy).await.is_empty());
    created(&original, new_record(key(90_000), b"g")).await;
    fill(&copy, &original, None).await;
    assert_eq!(donors(&copy).await, ["original"]);
}

/// A member whose digests of buckets are those of another store: as if a donor had left out records that cancel out in
/// the sums.
struct SameSums<'a> {
    member: &'a Store,
    other: &'a Store,
}

impl Remote for SameSums<'_> {
    async fn summary(&self, buckets: bool) -> Result<proto::SummaryResponse, RemoteError> {
        let other = Remote::summary(self.other, buckets).await?;
        let proto::SummaryResponse { digest, record_buckets, tombstone_buckets, .. } = other;
        let member = Remote::summary(self.member, buckets).await?;
        Ok(proto::SummaryResponse { digest, record_buckets, tombstone_buckets, ..member })
    }

    async fn list_bucket(
        &self,
        request: proto::ListBucketRequest,
    ) -> Result<proto::ListBucketResponse, RemoteError> {
        Remote::list_bucket(self.member, request).await
    }

    async fn hash_records(
        &self,
        request: proto::HashRecordsRequest,
    ) -> Result<proto::HashRecordsResponse, RemoteError> {
        Remote::hash_records(self.member, request).await
    }

    async fn fetch_states(
        &self,
        request: proto::FetchStatesRequest,
    ) -> Result<proto::FetchStatesResponse, RemoteError> {
        Remote::fetch_states(self.member, request).await
    }
}

#[tokio::test]
async fn what_the_sums_of_the_buckets_hide_is_found_by_the_hashes() {
    let left_out = key(4321);
    let (original, copy) = original_and_copy(Some(left_out)).await;
    assert!(copy.get(left_out).await.unwrap().is_none());
    let member = SameSums { member: &original, other: &copy };
    let verifier = Verifier::new(copy.clone(), TrustMode::Centralized, None);
    let mut comparison = Comparison::default();
    for _ in 0..=limits::COMPARE_LOOKS {
        let look = comparison.look((&copy, &verifier), &member, None).await.unwrap();
        assert_eq!(look, Look::Equal, "the sums show nothing");
    }
    let Step::Suspects(buckets) = confirmed_by(&copy, "other", &member).await else {
        panic!("the hashes show nothing")
    };
    assert!(buckets.contains(&left_out.0[0]) && buckets.len() <= 2, "{buckets:?}");
    comparison.suspect(buckets);
    for _ in 0..limits::COMPARE_LOOKS {
        comparison.look((&copy, &verifier), &member, None).await.unwrap();
    }
    assert!(copy.get(left_out).await.unwrap().is_some(), "the records were not compared");
    let look = comparison.look((&copy, &verifier), &member, None).await.unwrap();
    assert_eq!(look, Look::Equal, "it is over");
    assert!(matches!(confirmed_by(&copy, "other", &member).await, Step::Confirms(_)));
}

/// Claim: writes that go on, each at the member a little later than here, keep no fill from being confirmed.
#[tokio::test]
async fn a_fill_is_confirmed_while_writes_go_on() {
    /// Between any two answers, a record is written here that the member does not have yet.
    struct Late<'a>(&'a Store, &'a Store, std::sync::atomic::AtomicU64);
    impl Remote for Late<'_> {
        async fn summary(&self, buckets: bool) -> Result<proto::SummaryResponse, RemoteError> {
            Remote::summary(self.0, buckets).await
        }
        async fn list_bucket(
            &self,
            request: proto::ListBucketRequest,
        ) -> Result<proto::ListBucketResponse, RemoteError> {
            Remote::list_bucket(self.0, request).await
        }
        async fn hash_records(
            &self,
            request: proto::HashRecordsRequest,
        ) -> Result<proto::HashRecordsResponse, RemoteError> {
            let Self(member, copy, next) = self;
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = Remote::hash_records(*member, request).await;
            created(copy, new_record(key(100_000 + number), b"g")).await;
            if let Some(before) = number.checked_sub(1) {
                let before = key(100_000 + before);
                let state = copy.get(before).await.unwrap().unwrap();
                member.join(carried(copy, vec![(before, state)]).await).await.unwrap();
            }
            answer
        }
        async fn fetch_states(
            &self,
            request: proto::FetchStatesRequest,
        ) -> Result<proto::FetchStatesResponse, RemoteError> {
            Remote::fetch_states(self.0, request).await
        }
    }
    let (original, copy) = original_and_copy(None).await;
    let hash = original.hash_records(None, KeyHash([0xff; 32]), 1).await.unwrap();
    let asked = proto::HashRecordsRequest { after: Bytes::copy_from_slice(&hash.through.0), items: u32::MAX };
    let answer = Remote::hash_records(&original, asked).await.unwrap();
    assert_ne!(answer.through, [0xff; 32].as_slice(), "an answer is bounded");
    let filled = copy.unconfirmed_fills();
    let member = Late(&original, &copy, 0.into());
    let said = confirmed_by(&copy, "other", &member).await;
    assert!(matches!(&said, Step::Confirms(parts) if *parts == whole(&filled)), "{said:?}");
}
