//! What destroys, with and without an operator's signature. The attacker holds a node's certificate.

use std::{collections::BTreeSet, path::Path};

use crate::harness::{
    audit::{self, Audited},
    certs::Certs,
    client::Client,
    cluster::Cluster,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::TestOrigin,
    node::{TestNode, compacts_on_command, config, node_with},
    own_ca::{Leaf, OwnCa},
    pen::{self, Pen},
    random_key,
    wire::{batch, create, entry, key_hash, log_of, origin},
};
use brock::{config::validate::Config, node::Node};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        time::unix_now,
        trust::TrustMode,
        vector::Clock,
    },
    domain::{
        operation::Operation,
        order::{Chain, OrderProof, SignedOrder, Subject},
    },
    proto,
};
use brock_net::tls::credentials::ClientIdentity;
use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn distributed(config: Config) -> Config {
    Config { trust: TrustMode::Distributed, ..config }
}

/// Every way to lack a valid order for retiring this member now.
fn forgeries(certs: &Certs, member: &str) -> Vec<(&'static str, Option<proto::Order>)> {
    let subject = Subject::Retire(member);
    let mut forged = pen::forgeries(certs, subject, Subject::Retire("node-9"));
    for (what, minutes) in [("of an hour ago", -60), ("of the next hour", 60)] {
        let at_unix_ms = (unix_now() + 60 * minutes) * 1000;
        let pen = Pen { at_unix_ms, ..Pen::of(&certs.admin()) };
        forged.push((what, Some(pen.sign(subject).to_proto())));
    }
    forged
}

async fn retire(puller: &Client, member: &str, order: Option<proto::Order>) -> Result<(), Status> {
    let request = proto::RetireRequest { member: member.to_owned(), order };
    puller.replication.clone().retire(request).await.map(drop)
}

async fn retired(node: &TestNode) -> BTreeSet<String> {
    let members = node.admin.members().await.members;
    members.into_iter().filter(|member| member.retired).map(|member| member.node_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_certificate_retires_no_member_and_an_operators_order_does_everywhere() {
    let cluster = Cluster::start(3).await;
    cluster.node(0).client.put(&random_key(), b"grant").await.unwrap();
    cluster.acknowledged().await;
    let thief = cluster.certs.node_identity("p");
    let puller = Client::with_config(&cluster.node(0).address(), thief.dialler()).await;
    for (what, order) in forgeries(&cluster.certs, "node-1") {
        let refused = retire(&puller, "node-1", order).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
    }
    for node in cluster.running() {
        assert_eq!(retired(node).await, BTreeSet::new(), "{} did what a thief said", node.id);
    }
    assert_eq!(cluster.node(0).admin.verify().await.verdict(), proto::verify_response::Verdict::Converged);

    // An old client has nothing to sign with: the node itself obeys, and names the others.
    let unsigned = Client { orders: None, ..cluster.node(0).admin.clone() };
    let outcomes = unsigned.retire("node-1").await.outcomes;
    let names: Vec<_> = outcomes.iter().map(|outcome| outcome.node.as_str()).collect();
    assert_eq!(names, ["node-0", "node-2"]);
    assert_eq!(outcomes[0].error, "");
    assert!(outcomes[1].error.contains("no operator has signed"), "{outcomes:?}");
    assert_eq!(retired(cluster.node(2)).await, BTreeSet::new());
    let outcomes = cluster.node(0).admin.retire("node-2").await.outcomes;
    assert!(outcomes.iter().all(|outcome| outcome.error.is_empty()), "{outcomes:?}");
    eventually("the other node has retired it too", || async {
        retired(cluster.node(1)).await.contains("node-2").then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_retire_that_is_passed_on_is_in_the_audit_log_as_the_operators() {
    let audited = Audited::start().await;
    let thief = audited.certs.node_identity("p");
    let puller = Client::with_config(&audited.node.address(), thief.dialler()).await;
    assert!(retire(&puller, "node-7", None).await.is_err());
    // It knows no such member, and says so. The operator has ordered it all the same.
    let order = Pen::of(&audited.certs.admin()).sign(Subject::Retire("node-7")).to_proto();
    let unknown = retire(&puller, "node-7", Some(order)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    let (lines, _directory) = audited.stop().await;
    let of_retire = audit::of(&lines, "Retire");
    assert_eq!(audit::kinds(&of_retire), ["intent", "outcome"]);
    for line in &of_retire {
        assert_eq!((&line["who"]["role"], &line["who"]["name"]), (&"admin".into(), &"ops".into()), "{line}");
        assert!(line["who"]["from"].as_str().unwrap().starts_with("node p at 127.0.0.1:"), "{line}");
    }
    assert_eq!(of_retire[0]["what"]["member"], "node-7");
    assert_eq!(of_retire[1]["outcome"], "NotFound");
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_an_operators_order_where_trust_is_distributed() {
    let (certs, node) = node_with(distributed).await;
    let unsigned = Client { orders: None, ..node.admin.clone() };
    let (key, other) = (random_key(), random_key());
    for key in [&key, &other] {
        node.client.put(key, b"grant").await.unwrap();
    }
    let retired = proto::RetireMemberRequest { member: "node-7".to_owned(), order: None };
    for refused in [
        unsigned.delete(&key, None).await.unwrap_err(),
        unsigned.unpublish(&key).await.unwrap_err(),
        unsigned.invalidate(&key, "leaked", None).await.unwrap_err(),
        unsigned.admin.clone().retire_member(retired).await.unwrap_err(),
    ] {
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ORDER_REQUIRED"));
        for part in ["node-admin order sign", "brock cert admin"] {
            assert!(refused.message().contains(part), "{refused}");
        }
    }
    let (hash, other_hash) = (key_hash(&key), key_hash(&other));
    let pen = Pen::of(&certs.admin());
    let revoke = |order: &SignedOrder, reason: &str| proto::InvalidateRequest {
        key_hash: key.clone().into(),
        reason: reason.to_owned(),
        order: Some(order.to_proto()),
        ..Default::default()
    };
    let leaked = pen.sign(Subject::Invalidate(&hash, "leaked"));
    for (order, reason_given) in [
        (&leaked, "lost"),
        (&pen.sign(Subject::Invalidate(&other_hash, "leaked")), "leaked"),
        (&pen.sign(Subject::Delete(&hash)), "leaked"),
        (&Pen::of(&certs.node("p")).sign(Subject::Invalidate(&hash, "leaked")), "leaked"),
    ] {
        let refused =
            node.admin.admin.clone().invalidate(revoke(order, reason_given)).await.expect_err("refused");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "ORDER_INVALID"));
    }
    assert_eq!(node.client.get(&key).await.unwrap().encrypted_access_grant, "grant");
    node.admin.admin.clone().invalidate(revoke(&leaked, "leaked")).await.unwrap();
    let shown = node.admin.show(&key).await.unwrap();
    assert_eq!(shown.invalidated_at_unix, leaked.proof.at(), "the operator's time counts, not the node's");
    // A replay does nothing new.
    let again = node.admin.admin.clone().invalidate(revoke(&leaked, "leaked")).await.unwrap().into_inner();
    assert!(again.already);
    node.admin.unpublish(&other).await.unwrap();
    node.admin.delete(&other, None).await.unwrap();
    assert_eq!(node.admin.status().await.trust.unwrap().mode, "distributed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_destruction_reaches_every_node_however_its_log_travels() {
    let mut cluster = Cluster::start_some(3, 2, |config| distributed(compacts_on_command(config))).await;
    let keys: Vec<_> = (0..4).map(|_| random_key()).collect();
    for key in &keys {
        cluster.node(0).client.put(key, b"grant").await.unwrap();
    }
    cluster.converged().await;
    cluster.node(0).admin.delete(&keys[0], None).await.unwrap();
    cluster.node(0).admin.invalidate(&keys[1], "leaked", None).await.unwrap();
    cluster.node(1).admin.unpublish(&keys[2]).await.unwrap();
    cluster.converged().await;
    // Through a relay: the new node never sees the origin of the delete.
    let origin = cluster.node(0).node.store().origin();
    cluster.stop_node(0).await;
    cluster.start_node(2).await;
    cluster.converged().await;
    let here = cluster.node(2);
    let (_, entries) = log_of(here.node.store(), origin).await;
    let signed = |entry: &proto::Entry| OrderProof::certificate_in(&entry.operation).is_some();
    assert_eq!(entries.iter().filter(|entry| signed(entry)).count(), 2);
    assert_eq!(here.client.get_local(&keys[0]).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(here.client.get_local(&keys[1]).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(!here.admin.show(&keys[2]).await.unwrap().public);
    // What it relays and backs up has the operator's certificates with it, once in each batch.
    let changes = here.node.store().changes_since(origin, Clock(0), 100).await.unwrap().unwrap().batch;
    let admin = ClientIdentity::load(&cluster.certs.admin()).unwrap();
    let certificates: Vec<_> =
        changes.certificates.iter().map(|chain| chain.certificates[0].clone()).collect();
    assert_eq!(certificates, [Bytes::copy_from_slice(&admin.signer().chain()[0])]);
    assert!(cluster.node(2).admin.status().await.alarms.is_empty());
    cluster.stop().await;
}

/// An origin's log whose second operation destroys what the victim has, and what would follow it.
fn attack(
    own: &TestOrigin,
    (destruction, chains): (proto::Entry, Vec<Chain>),
    after: &[u8],
) -> Vec<proto::Batch> {
    let mut first =
        own.sign_each(0, vec![create(1, &random_key(), b"x"), destruction, create(3, after, b"x")]);
    first.certificates = chains.iter().map(Chain::to_proto).collect();
    let more = (3..9).map(|clock| own.sign(clock, vec![create(clock + 1, &random_key(), b"x")]));
    std::iter::once(first).chain(more).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_destroys_without_an_operators_order_ends_there_and_the_others_go_on() {
    let certs = Certs::new();
    let born = |name: &str| TestOrigin::certified(&certs, origin(name, 1));
    let victims = config(&certs, "victim", free_port(), &[]);
    let victim = random_key();
    let delete = Operation::Delete;
    let admin = Pen::of(&certs.admin());
    let foreign = Certs::new();
    let (genuine, chain) = admin.entry(2, &victim, &delete);
    let for_another =
        proto::Entry { key_hash: victim.clone().into(), ..admin.entry(2, &random_key(), &delete).0 };
    let with = |(entry, chain): (proto::Entry, Chain)| (entry, vec![chain]);
    let at = unix_now();
    let revoked = Operation::Invalidate { at, reason: "leaked".to_owned() };
    let (revocation, _) =
        Pen { at_unix_ms: at * 1000, ..Pen::of(&certs.admin()) }.entry(2, &victim, &revoked);
    let other_reason = {
        let SignedOrder { proof, .. } = Pen { at_unix_ms: at * 1000, ..Pen::of(&certs.admin()) }
            .sign(Subject::Invalidate(&key_hash(&victim), "leaked"));
        let changed = Operation::Invalidate { at, reason: "attacker".to_owned() };
        proto::Entry { operation: changed.encode_with(Some(&proof)), ..revocation }
    };
    let unpublish = entry(2, &victim, &Operation::Unpublish);
    let long_ago = Pen { at_unix_ms: 1_000_000_000_000, ..Pen::of(&certs.admin()) };
    let cases = [
        ("unsigned", (entry(2, &victim, &delete), Vec::new())),
        ("unsigned-unpublish", (unpublish, Vec::new())),
        ("no-certificate", (admin.entry(2, &victim, &delete).0, Vec::new())),
        ("another-key", (for_another, vec![chain.clone()])),
        ("another-reason", (other_reason, vec![chain.clone()])),
        ("a-node", with(Pen::of(&certs.node("p")).entry(2, &victim, &delete))),
        ("a-client", with(Pen::of(&certs.client()).entry(2, &victim, &delete))),
        ("another-cluster", with(Pen::of(&certs.admin_of("elsewhere")).entry(2, &victim, &delete))),
        ("another-ca", with(Pen::of(&foreign.admin()).entry(2, &victim, &delete))),
        ("before-the-certificate", with(long_ago.entry(2, &victim, &delete))),
    ];
    let honest = (random_key(), random_key());
    let mut batches = vec![born("owner").sign(0, vec![create(1, &victim, b"grant")])];
    let mut refused = BTreeSet::new();
    for (name, forged) in cases {
        batches.extend(attack(&born(name), forged, &random_key()));
        refused.insert(origin(name, 1));
    }
    batches.push(born("honest").sign(0, vec![create(1, &honest.0, b"grant")]));
    let script = Script { batches, ..Script::new("evil") };
    let evil = FakePeer::start(&certs, "evil", script).await;
    let join = vec![format!("127.0.0.1:{}", evil.port)];
    let node = TestNode::start(&certs, distributed(Config { join, ..victims })).await;
    eventually("what is behind the attacks arrives", || node.client.has_local(&honest.0)).await;
    eventually("the donor was told of each", || async {
        let told: BTreeSet<_> = evil.declined.lock().unwrap().iter().copied().collect();
        (told == refused).then_some(())
    })
    .await;
    assert_eq!(*evil.streams.lock().unwrap(), 1, "the stream went on");
    for origin in &refused {
        assert_eq!(node.vector().get(origin), Clock(1), "{origin}");
    }
    let record = node.client.get_local(&victim).await.unwrap();
    assert_eq!((record.encrypted_access_grant.as_ref(), record.public), (&b"grant"[..], true));
    let status = node.admin.status().await;
    assert_eq!(status.quarantined, 0);
    // The first of them are named, each once: the peer could invent any number, and push out other alarms.
    let is_named = |origin: &&Origin| {
        let text = origin.to_string();
        status.alarms.iter().filter(|alarm| alarm.text.contains(&text)).count() == 1
    };
    assert_eq!(status.alarms.len(), limits::REFUSED_NODES_ALARMED);
    assert_eq!(refused.iter().filter(is_named).count(), status.alarms.len(), "{:?}", status.alarms);
    assert!(!has_chain(&node, &chain), "no order of this operator was valid");
    node.stop().await;

    // From the same hands a genuine order is taken.
    let script = Script { batches: vec![genuine_log(&certs, &genuine, &chain)], ..Script::new("evil") };
    let evil = FakePeer::start(&certs, "evil", script).await;
    let node = TestNode::start(&certs, distributed(config(&certs, "late", free_port(), &[evil.port]))).await;
    eventually("the operator's delete is applied", || async {
        (node.vector().get(&origin("ordered", 1)) == Clock(2)).then_some(())
    })
    .await;
    assert!(has_chain(&node, &chain));
    assert!(evil.declined.lock().unwrap().is_empty());
    node.stop().await;
}

fn genuine_log(certs: &Certs, delete: &proto::Entry, chain: &Chain) -> proto::Batch {
    let entries = vec![create(1, &random_key(), b"x"), delete.clone()];
    let certificates = vec![chain.to_proto()];
    proto::Batch { certificates, ..TestOrigin::certified(certs, origin("ordered", 1)).sign(0, entries) }
}

fn has_chain(node: &TestNode, chain: &Chain) -> bool {
    node.node.store().chain(&chain.id()).unwrap().is_some()
}

/// What the default believes, and what it keeps of a peer's claims.
#[tokio::test(flavor = "multi_thread")]
async fn where_trust_is_centralized_only_proven_certificates_of_operators_are_kept() {
    let certs = Certs::new();
    let (mine, theirs) = (random_key(), random_key());
    let forged = Pen::of(&certs.client()).entry(2, &mine, &Operation::Delete);
    let unrelated = Pen::of(&certs.admin_of("elsewhere")).sign(Subject::Delete(&KeyHash([1; 32]))).chain;
    let genuine = Pen::of(&certs.admin()).entry(4, &theirs, &Operation::Delete);
    let own = origin("peer", 1);
    let entries = vec![create(1, &mine, b"x"), forged.0, create(3, &theirs, b"x"), genuine.0];
    let chains = [&forged.1, &unrelated, &genuine.1];
    let certificates = chains.map(Chain::to_proto).to_vec();
    let batches = vec![proto::Batch { certificates, ..batch(own, 0, 4, entries) }];
    let peer = FakePeer::start(&certs, "peer", Script { batches, ..Script::new("peer") }).await;
    let node = TestNode::start(&certs, config(&certs, "node", free_port(), &[peer.port])).await;
    eventually("all is applied", || async { (node.vector().get(&own) == Clock(4)).then_some(()) }).await;
    assert_eq!(chains.map(|chain| has_chain(&node, chain)), [false, false, true]);
    assert_eq!(node.admin.status().await.trust.unwrap().mode, "centralized");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_trust_domain_obeys_operators_as_before_and_cannot_be_distributed() {
    let (ca, certs) = (OwnCa::new(), Certs::new());
    let old = |name: &str| ca.directory(name, &Leaf { uris: Vec::new(), ..Leaf::node("node-1") });
    let base = |certs_dir| Config { certs_dir, ..config(&certs, "node-1", 0, &[]) };
    let refused = Node::start(distributed(base(old("new"))), None).await.err().expect("it must not start");
    assert!(refused.to_string().contains("brock cert node"), "{refused}");
    let node = Node::start(base(old("old")), None).await.unwrap();
    let admin = ca.directory("admin", &Leaf::admin("ops"));
    let admin = Client::lasting(&node.address().to_string(), &admin).await;
    assert!(admin.orders.is_some());
    let key = random_key();
    admin.put(&key, b"grant").await.unwrap();
    admin.delete(&key, None).await.unwrap();
    let (_, entries) = log_of(node.store(), node.store().origin()).await;
    assert_eq!(entries[1].operation, Operation::Delete.encode(), "what it cannot verify it does not pass on");
    assert!(node.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_certificate_proves_nothing_is_named_with_the_remedy() {
    let (ca, certs) = (OwnCa::new(), Certs::new());
    let nameless = ca.directory("nameless", &Leaf { uris: Vec::new(), ..Leaf::node("") });
    let own = ca.directory("own", &Leaf::node("node-1"));
    let admin = ca.directory("admin", &Leaf::admin("ops"));
    let peer = Config { certs_dir: nameless, ..config(&certs, "node-2", 0, &[]) };
    let peer = Node::start(peer, None).await.unwrap();
    let writer = Client::lasting(&peer.address().to_string(), &admin).await;
    writer.put(&random_key(), b"grant").await.unwrap();
    let strict = Config { certs_dir: own, ..config(&certs, "node-1", 0, &[peer.address().port()]) };
    let node = Node::start(distributed(strict), None).await.unwrap();
    let operator = Client::lasting(&node.address().to_string(), &admin).await;
    let alarm = eventually("an alarm", || async { operator.status().await.alarms.pop() }).await;
    for part in ["come without a birth", "has no SPIFFE URI, make one with `brock cert node`"] {
        assert!(alarm.text.contains(part), "{alarm:?}");
    }
    assert!(node.stop().await.closed && peer.stop().await.closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_signs_takes_no_certificate_with_which_it_could_not() {
    let (ca, certs) = (OwnCa::new(), Certs::new());
    let uri = |domain: &str| vec![format!("spiffe://{domain}/node/node-1")];
    let [own, nameless, foreign] =
        [("own", uri("brock")), ("nameless", Vec::new()), ("foreign", uri("elsewhere"))]
            .map(|(name, uris)| ca.directory(name, &Leaf { uris, ..Leaf::node("node-1") }));
    let config = Config { certs_dir: own.clone(), ..config(&certs, "node-1", 0, &[]) };
    let node = Node::start(distributed(config), None).await.unwrap();
    let admin = ca.directory("admin", &Leaf::admin("ops"));
    let admin = Client::lasting(&node.address().to_string(), &admin).await;
    let saved = ca.directory("saved", &Leaf::node("node-1"));
    let exchange = |from: &Path, to: &Path| {
        for file in ["node.crt", "node.key"] {
            std::fs::rename(from.join(file), to.join(file)).unwrap();
        }
    };
    let problem = async || {
        node.reload().await;
        // What is reloaded ends the connection that asks, too.
        let status = eventually("it is answered", || async { admin.try_status().await.ok() }).await;
        status.tasks.into_iter().find(|task| task.name == "certificates").unwrap().last_error
    };
    exchange(&own, &saved);
    exchange(&nameless, &own);
    let refused = problem().await;
    for part in ["has no spiffe URI", "it is not used", "brock cert node --node-id node-1 --overwrite"] {
        assert!(refused.contains(part), "{refused}");
    }
    exchange(&foreign, &own);
    let refused = problem().await;
    for part in
        ["is of the trust domain elsewhere, and the one in use of brock", "--trust-domain brock --overwrite"]
    {
        assert!(refused.contains(part), "{refused}");
    }
    // What it writes is still proven to be its own.
    let key = random_key();
    admin.put(&key, b"grant").await.unwrap();
    admin.delete(&key, None).await.unwrap();
    exchange(&saved, &own);
    assert_eq!(problem().await, "");
    assert!(node.stop().await.closed);
}
