//! Reads of what this node does not have (yet): its peers are asked.

use std::time::{Duration, Instant};

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::TestNode,
    proxy::{Mode, Proxy},
    random_key,
    wire::{at, batch, held, invalidate, origin, payload, stamp},
};
use brock_core::{
    base::limits,
    domain::{
        codec::state_to_proto,
        record::{Invalidation, RecordState},
    },
    proto::{self, batch_get_response::item::Outcome},
};
use tokio::net::TcpListener;
use tonic::{Code, Status};

fn invalidated(reason: &str) -> RecordState {
    let invalidation = Some(Invalidation { at: 1_700_000_001, reason: reason.to_owned(), stamp: stamp() });
    RecordState { invalidation, ..RecordState::default() }
}

/// A peer that answers Peek with these, and that nothing can be pulled from.
async fn peer(certs: &Certs, id: &str, holds: &[(&[u8], RecordState)]) -> FakePeer {
    let holds = holds.iter().map(|(key, state)| (key.to_vec(), state_to_proto(state))).collect();
    FakePeer::start(certs, id, Script { holds, ..Script::new(id) }).await
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_only_a_peer_has_is_found_unless_the_read_is_local() {
    let certs = Certs::new();
    let key = random_key();
    let empty = TestNode::joining(&certs, "empty", &[]).await;
    let holder = peer(&certs, "holder", &[(&key, held(b"there"))]).await;
    let me = TestNode::joining(&certs, "me", &[empty.port, holder.port]).await;
    assert_eq!(me.client.get(&key).await.unwrap().encrypted_access_grant, "there");
    assert_eq!(code(me.client.get_local(&key).await), Code::NotFound);
    let show = |local| {
        let request = proto::ShowRecordRequest { key_hash: key.clone().into(), local };
        let mut admin = me.admin.admin.clone();
        async move { admin.show_record(request).await }
    };
    let shown = show(false).await.unwrap().into_inner();
    assert_eq!(shown.stamp.unwrap().clock, 1);
    assert_eq!(code(show(true).await), Code::NotFound);
    me.stop().await;
    empty.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_still_on_its_way_is_read_from_the_node_that_has_it() {
    let certs = Certs::new();
    let writer = TestNode::joining(&certs, "writer", &[]).await;
    let proxy = Proxy::start(writer.port).await;
    proxy.set(Mode::Delay(Duration::from_millis(60)));
    let me = TestNode::joining(&certs, "me", &[proxy.port]).await;
    eventually("a read overtakes replication", || async {
        let key = random_key();
        writer.client.put(&key, b"fresh").await.unwrap();
        let here = me.client.get_local(&key).await;
        // Dialling for the first read may take too long over this link; a later one has a connection.
        let found = me.client.get(&key).await.ok()?;
        assert_eq!(found.encrypted_access_grant, "fresh");
        (code(here) == Code::NotFound).then_some(())
    })
    .await;
    me.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_and_could_not_ask_everyone_are_different_answers() {
    let certs = Certs::new();
    let (a, b) = (TestNode::joining(&certs, "a", &[]).await, TestNode::joining(&certs, "b", &[]).await);
    let alone = TestNode::joining(&certs, "alone", &[]).await;
    let all = TestNode::joining(&certs, "all", &[a.port, b.port]).await;
    let some = TestNode::joining(&certs, "some", &[a.port, free_port(), b.port]).await;
    let none = TestNode::joining(&certs, "none", &[free_port(), free_port()]).await;
    assert_eq!(code(alone.client.get(&random_key()).await), Code::NotFound);
    assert_eq!(code(all.client.get(&random_key()).await), Code::NotFound);
    for (node, count) in
        [(&some, "1 of 3 peers could not be asked"), (&none, "2 of 2 peers could not be asked")]
    {
        let status = node.client.get(&random_key()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains(count), "{status}");
        assert_eq!(code(node.client.get_local(&random_key()).await), Code::NotFound);
    }
    for node in [a, b, alone, all, some, none] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_hang_or_are_dead_cost_a_read_of_what_is_here_nothing_and_a_miss_about_a_second() {
    let certs = Certs::new();
    let key = random_key();
    let healthy = peer(&certs, "healthy", &[(&key, held(b"there"))]).await;
    let stalled = TestNode::joining(&certs, "stalled", &[]).await;
    let proxy = Proxy::start(stalled.port).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let join = [healthy.port, proxy.port, mute.local_addr().unwrap().port(), free_port()];
    let me = TestNode::joining(&certs, "me", &join).await;
    let here = random_key();
    me.client.put(&here, b"here").await.unwrap();
    assert_eq!(code(me.client.get(&random_key()).await), Code::Unavailable, "the mute and the dead one");
    proxy.set(Mode::Stall);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(me.client.get(&here).await.unwrap().encrypted_access_grant, "here");
        assert!(began.elapsed() < Duration::from_millis(500), "here: {:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(me.client.get(&key).await.unwrap().encrypted_access_grant, "there");
        assert!(began.elapsed() < Duration::from_millis(900), "there: {:?}", began.elapsed());
        let began = Instant::now();
        let status = me.client.get(&random_key()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("3 of 4 peers"), "{status}");
        let took = began.elapsed();
        assert!(took >= limits::PEEK_TIMEOUT / 2 && took < Duration::from_secs(3), "nowhere: {took:?}");
    }
    me.stop().await;
    // A connection that hangs would hold the shutdown up until its deadline.
    proxy.set(Mode::Pass);
    stalled.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_of_a_batch_has_its_own_outcome_in_order() {
    let certs = Certs::new();
    let (here, there, bad, nowhere) = (random_key(), random_key(), random_key(), random_key());
    let leaked = held(b"bad").join(invalidated("leaked"));
    let holder = peer(&certs, "holder", &[(&there, held(b"there")), (&bad, leaked)]).await;
    let certain = TestNode::joining(&certs, "certain", &[holder.port]).await;
    let doubtful = TestNode::joining(&certs, "doubtful", &[holder.port, free_port()]).await;
    for (node, miss) in [(&certain, Code::NotFound), (&doubtful, Code::Unavailable)] {
        node.client.put(&here, b"here").await.unwrap();
        let item = |key: &[u8], local| proto::GetRequest { key_hash: key.to_vec().into(), local };
        let mut items = Vec::new();
        let mut expected = Vec::new();
        // Many times over, so that answers overtake each other.
        for _ in 0..40 {
            items.extend([
                item(&nowhere, false),
                item(&here, false),
                item(&there, false),
                item(b"short", false),
            ]);
            items.extend([item(&bad, false), item(&there, true), item(&here, true)]);
            expected.extend([Err(miss), Ok("here"), Ok("there"), Err(Code::InvalidArgument)]);
            expected.extend([Err(Code::FailedPrecondition), Err(Code::NotFound), Ok("here")]);
        }
        let began = Instant::now();
        let answer = node.client.kv.clone().batch_get(proto::BatchGetRequest { items }).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let outcomes: Vec<_> =
            answer.into_inner().items.into_iter().map(|item| item.outcome.unwrap()).collect();
        assert_eq!(outcomes.len(), expected.len());
        for (i, (outcome, expected)) in outcomes.into_iter().zip(expected).enumerate() {
            match (outcome, expected) {
                (Outcome::Ok(found), Ok(grant)) => {
                    assert_eq!(found.record.unwrap().encrypted_access_grant, grant, "item {i}");
                }
                (Outcome::Error(error), Err(code)) => assert_eq!(Code::from(error.code), code, "item {i}"),
                (outcome, expected) => panic!("item {i}: {outcome:?} instead of {expected:?}"),
            }
        }
    }
    certain.stop().await;
    doubtful.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_miss_asks_again_only_after_a_while_and_replication_is_seen_at_once() {
    let certs = Certs::new();
    let writer = TestNode::joining(&certs, "writer", &[]).await;
    let other = peer(&certs, "other", &[]).await;
    let me = TestNode::joining(&certs, "me", &[writer.port, other.port]).await;
    let (key, asked) = (random_key(), Instant::now());
    for _ in 0..20 {
        assert_eq!(code(me.client.get(&key).await), Code::NotFound);
    }
    let peeks = *other.peeks.lock().unwrap();
    assert!(asked.elapsed() > limits::NEGATIVE_CACHE_TTL || peeks == 1, "{peeks} peeks");
    eventually("it is asked for again", || async {
        assert_eq!(code(me.client.get(&key).await), Code::NotFound);
        (*other.peeks.lock().unwrap() > peeks).then_some(())
    })
    .await;
    assert!(asked.elapsed() > limits::NEGATIVE_CACHE_TTL / 2);
    // Believed absent since a moment ago; now it comes.
    writer.client.put(&key, b"now").await.unwrap();
    eventually("it has arrived", || me.client.has_local(&key)).await;
    assert_eq!(me.client.get(&key).await.unwrap().encrypted_access_grant, "now");
    me.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_knows_to_be_invalid_deleted_or_expired_is_not_handed_out() {
    let certs = Certs::new();
    let (invalid, deleted, expired) = (random_key(), random_key(), random_key());
    let holds = [
        (invalid.as_slice(), held(b"x").join(invalidated("leaked on a forum"))),
        (deleted.as_slice(), RecordState { deletion: Some(stamp()), ..RecordState::default() }),
        (expired.as_slice(), RecordState { expires_at: Some(1_600_000_000), ..held(b"x") }),
    ];
    let holder = peer(&certs, "holder", &holds).await;
    let me = TestNode::joining(&certs, "me", &[holder.port]).await;
    let status = me.client.get(&invalid).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("leaked on a forum"), "{status}");
    assert_eq!(code(me.client.get(&deleted).await), Code::NotFound);
    assert_eq!(code(me.client.get(&expired).await), Code::NotFound);
    me.stop().await;
}

/// The invalidation has arrived ahead of its create: here, or at the peer that answers first.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_that_anybody_told_of_holds_for_a_record_that_another_has() {
    let certs = Certs::new();
    let key = random_key();
    let late = Script { peek_delay: Duration::from_millis(200), ..Script::new("late") };
    let holds = [(key.clone(), state_to_proto(&held(b"x")))].into();
    let late = FakePeer::start(&certs, "late", Script { holds, ..late }).await;
    let own = origin("warner", 1);
    let batches = vec![batch(own, 0, 1, vec![invalidate(1, &key, "leaked")])];
    let warner = Script { batches, heads: at(own, 1), ..Script::new("warner") };
    let warner = FakePeer::start(&certs, "warner", warner).await;
    let teller = peer(&certs, "teller", &[(&key, invalidated("leaked"))]).await;
    let replicated = TestNode::joining(&certs, "replicated", &[late.port, warner.port]).await;
    eventually("it was warned", || async { (replicated.vector().get(&own).0 == 1).then_some(()) }).await;
    let told = TestNode::joining(&certs, "told", &[late.port, teller.port]).await;
    for node in [&replicated, &told] {
        let status = node.client.get(&key).await.expect_err("the record was handed out");
        assert_eq!(status.code(), Code::FailedPrecondition, "{}: {status}", node.id);
    }
    replicated.stop().await;
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_nonsense_is_not_believed() {
    let certs = Certs::new();
    let key = random_key();
    let mut forged = state_to_proto(&held(b"genuine"));
    forged.creation.as_mut().unwrap().payload = Some(payload(b"forged"));
    let mut no_stamp = state_to_proto(&held(b"x"));
    no_stamp.creation.as_mut().unwrap().stamp = None;
    for peek in [Ok(forged), Ok(no_stamp), Err(Status::internal("broken"))] {
        let liar = FakePeer::start(&certs, "liar", Script { peek, ..Script::new("liar") }).await;
        let honest = peer(&certs, "honest", &[(&key, held(b"genuine"))]).await;
        let me = TestNode::joining(&certs, "me", &[liar.port, honest.port]).await;
        assert_eq!(me.client.get(&key).await.unwrap().encrypted_access_grant, "genuine");
        let status = me.client.get(&random_key()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("1 of 2 peers"), "{status}");
        me.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peek_answers_for_this_node_alone_and_says_what_is_wrong_with_it() {
    let certs = Certs::new();
    let key = random_key();
    let holder = peer(&certs, "holder", &[(&key, held(b"there"))]).await;
    let me = TestNode::joining(&certs, "me", &[holder.port]).await;
    let here = random_key();
    me.client.put(&here, b"here").await.unwrap();
    let asker = Client::with_config(&me.address(), certs.node_identity("p").dialler()).await;
    let peek = |key: &[u8]| {
        let (mut asker, request) =
            (asker.replication.clone(), proto::PeekRequest { key_hash: key.to_vec().into() });
        async move { asker.peek(request).await }
    };
    assert!(peek(&here).await.unwrap().into_inner().state.unwrap().creation.is_some());
    assert_eq!(code(peek(&key).await), Code::NotFound, "it must not ask on");
    assert_eq!(code(peek(b"short").await), Code::InvalidArgument);
    assert_eq!(*holder.peeks.lock().unwrap(), 0);
    me.stop().await;
}
