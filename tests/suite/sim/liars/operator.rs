//! The operator of the cluster, who orders destruction.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::harness::{
    own_ca::{Leaf, OwnCa},
    store::NOW,
};
use brock::{
    runtime::alarms::Alarms,
    store::Store,
    transfer::{orders::Orders, proof::Verifier},
};
use brock_core::{
    base::{
        id::ClusterId,
        time::{WallClock, unix_now},
        trust::TrustMode,
    },
    domain::order::{Chain, OrderProof, Subject},
};
use brock_net::tls::{
    credentials::{ClientIdentity, Identity},
    roles::{PeerIdentity, RolePolicy},
    statement::{Context, Signed, Signer, StatementVerifier},
};
use bytes::Bytes;

/// In minutes: longer than any run.
const VALID: (i64, i64) = (-60, 60 * 24 * 300);

/// One for all worlds.
pub struct Operator {
    signer: Signer,
    pub chain: Chain,
    node: PeerIdentity,
    verifier: StatementVerifier,
    /// When the operator's certificate began to be valid, which is when the worlds begin for the operator.
    began: i64,
    /// By what was signed: a signature differs each time, and a run must not.
    signed: Mutex<HashMap<Vec<u8>, OrderProof>>,
}

impl Operator {
    pub fn get() -> &'static Self {
        static OPERATOR: OnceLock<Operator> = OnceLock::new();
        OPERATOR.get_or_init(|| {
            let ca = OwnCa::new();
            let admin = ca.directory("admin", &Leaf { valid: VALID, ..Leaf::admin("ops") });
            let node = ca.directory("node", &Leaf { valid: VALID, ..Leaf::node("any") });
            let signer = ClientIdentity::load(&admin).expect("an operator's certificate").signer();
            let node = Identity::load(&node, RolePolicy { require_uri: true }).expect("a node's certificate");
            let chain = signer.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
            Self {
                chain: Chain::new(chain).expect("a chain of one certificate"),
                signer,
                node: node.peer(),
                verifier: node.statement_verifier(),
                began: unix_now(),
                signed: Mutex::default(),
            }
        })
    }

    /// The operator's time, in seconds, when it is `now` in a world.
    pub fn time(&self, now: u64) -> i64 {
        self.began + i64::try_from(now).expect("a time in this era") - NOW
    }

    pub fn order(&self, subject: Subject<'_>, now: u64) -> OrderProof {
        let at_unix_ms = self.time(now) * 1000;
        let content = subject.encode(&ClusterId::of("brock"), at_unix_ms);
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let sign = || {
            let signed = self.signer.sign(Context::OperatorOrder, &content);
            let Signed { scheme, signature } = signed.expect("an operator signs");
            OrderProof { certificate: self.chain.id(), at_unix_ms, scheme, signature: signature.into() }
        };
        signed.entry(content.clone()).or_insert_with(sign).clone()
    }

    /// What a node verifies by that believes only what is proven.
    pub fn verifier(&self, store: &Store, wall_clock: &WallClock) -> Verifier {
        let alarms = Alarms::new(wall_clock.clone());
        let context = (wall_clock.clone(), alarms);
        let mode = TrustMode::Distributed;
        let cluster = Some(ClusterId::of("brock"));
        let orders = Orders::new(mode, cluster, self.verifier.clone(), store.clone(), context);
        Verifier::new(store.clone(), mode, Some(orders))
    }
}
