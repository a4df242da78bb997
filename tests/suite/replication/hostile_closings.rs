//! Ends of logs that no operator has set. The attacker holds a node's certificate, and shows them as every node shows
//! the closings that it knows.

use crate::harness::{
    certs::Certs,
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    node::{TestNode, config},
    pen::{self, Pen},
    random_key,
    wire::origin,
};
use brock::config::validate::Config;
use brock_core::{
    base::{
        claims::ClaimKind,
        id::{ClusterId, NodeId, Origin},
        trust::TrustMode,
        vector::Clock,
    },
    domain::{
        birth::SignedBirth,
        order::{ClosedLog, SignedOrder, Subject},
    },
    proto,
};

fn closing(node_id: &NodeId, logs: &[ClosedLog], order: Option<proto::Order>) -> proto::Closing {
    let logs = logs.iter().map(ClosedLog::to_proto).collect();
    proto::Closing { node_id: node_id.to_string(), logs, order }
}

/// Where an operator has closed a log; `None`: the node does not know that log.
async fn closed(node: &TestNode, log: Origin) -> Option<Option<u64>> {
    let request = proto::ListOriginsRequest::default();
    let listed = node.admin.admin.clone().list_origins(request).await.unwrap().into_inner().origins;
    listed.into_iter().find(|known| known.origin == log.as_bytes().as_slice()).map(|known| known.closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_that_no_operator_has_signed_ends_no_log() {
    for mode in [TrustMode::Distributed, TrustMode::Centralized] {
        let certs = Certs::new();
        let start = async |id: &str, join: &[u16]| {
            TestNode::start(&certs, Config { trust: mode, ..config(&certs, id, free_port(), join) }).await
        };
        let honest = start("honest", &[]).await;
        let keys: Vec<Vec<u8>> = (0..2).map(|_| random_key()).collect();
        honest.client.put(&keys[0], b"grant").await.unwrap();
        let (own, store) = (honest.node.store().origin(), honest.node.store());
        let birth = SignedBirth::from_proto(store.birth(own).await.unwrap().unwrap()).unwrap();
        let birth = Some(birth.birth.statement(&ClusterId::of("brock")));
        let [id, gone]: [NodeId; 2] = ["honest", "gone"].map(|id| id.parse().unwrap());
        let log = |origin, end| ClosedLog { origin, end: Clock(end), birth: None };
        let here = vec![ClosedLog { birth, ..log(own, 1) }];
        let subject = Subject::Close(&id, &here);
        let others = [log(origin("gone", 1), 7)];
        let orders = pen::forgeries(&certs, subject, Subject::Close(&gone, &others));
        let mut forged: Vec<(&str, proto::Closing)> =
            orders.into_iter().map(|(what, order)| (what, closing(&id, &here, order))).collect();
        let sign = |subject: Subject<'_>| {
            let order: SignedOrder = Pen::of(&certs.admin()).sign(subject);
            Some(order.to_proto())
        };
        // An operator's signature, on something else than the closing says.
        let later = vec![ClosedLog { birth, ..log(own, 1_000) }];
        let signed_later = sign(Subject::Close(&id, &later));
        forged.push(("an earlier end than was signed", closing(&id, &here, signed_later)));
        let unborn = [log(own, 1)];
        forged
            .push(("another birth than was signed", closing(&id, &here, sign(Subject::Close(&id, &unborn)))));
        forged.push(("an order to retire", closing(&id, &here, sign(Subject::Retire("honest")))));
        let more = [log(origin("honest", 0), 1), here[0]];
        forged.push(("one log more than was signed", closing(&id, &more, sign(subject))));
        // And on what no closing may say.
        forged.push(("a log of another node", closing(&gone, &here, sign(Subject::Close(&gone, &here)))));
        forged.push(("no log", closing(&id, &[], sign(Subject::Close(&id, &[])))));
        let mut liars = Vec::new();
        for (number, (_, forged)) in forged.iter().enumerate() {
            let id = format!("liar-{number}");
            let script = Script { closings: vec![forged.clone()], ..Script::new(&id) };
            liars.push(FakePeer::start(&certs, &id, script).await);
        }
        let ports: Vec<u16> = liars.iter().map(|liar| liar.port).chain([honest.port]).collect();
        let victim = start("victim", &ports).await;
        for ((what, _), liar) in forged.iter().zip(&liars) {
            let is_refused = || async { (liar.refused(ClaimKind::Closing) > 0).then_some(()) };
            eventually(&format!("in {mode}, refused: {what}"), is_refused).await;
        }
        honest.client.put(&keys[1], b"grant").await.unwrap();
        for key in &keys {
            eventually(&format!("in {mode}, the log goes on"), || victim.client.has_local(key)).await;
        }
        assert_eq!(closed(&victim, own).await, Some(None), "in {mode}");
        victim.stop().await;

        // From the same hands, an operator's closing.
        let closings = vec![closing(&id, &here, sign(subject))];
        let relay = FakePeer::start(&certs, "relay", Script { closings, ..Script::new("relay") }).await;
        let late = start("late", &[relay.port, honest.port]).await;
        eventually(&format!("in {mode}, the log ends"), || async {
            (closed(&late, own).await == Some(Some(1))).then_some(())
        })
        .await;
        assert_eq!(relay.refused(ClaimKind::Closing), 0, "in {mode}");
        late.stop().await;
        honest.stop().await;
    }
}
