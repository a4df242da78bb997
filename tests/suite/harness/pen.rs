//! Operators' orders, signed by operators and by others.

use std::path::Path;

use super::{
    certs::Certs,
    wire::{entry, key_hash},
};
use brock_core::{
    base::{id::ClusterId, time::unix_now},
    domain::{
        operation::Operation,
        order::{Chain, OrderProof, SignedOrder, Subject},
    },
    proto,
};
use brock_net::tls::{
    credentials::ClientIdentity,
    statement::{Context, Signed},
};
use bytes::Bytes;

/// An order that the holder of these certificates signs, whatever role and cluster they state.
pub struct Pen {
    pub identity: ClientIdentity,
    pub cluster: &'static str,
    pub context: Context,
    pub at_unix_ms: i64,
}

impl Pen {
    pub fn of(certs_dir: &Path) -> Self {
        Self {
            identity: ClientIdentity::load(certs_dir).unwrap(),
            cluster: "brock",
            context: Context::OperatorOrder,
            at_unix_ms: unix_now() * 1000,
        }
    }

    pub fn sign(&self, subject: Subject<'_>) -> SignedOrder {
        let signer = self.identity.signer();
        let content = subject.encode(&ClusterId::of(self.cluster), self.at_unix_ms);
        let Signed { scheme, signature } = signer.sign(self.context, &content).unwrap();
        let chain = signer.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
        let chain = Chain::new(chain).unwrap();
        let (certificate, at_unix_ms) = (chain.id(), self.at_unix_ms);
        SignedOrder {
            proof: OrderProof { certificate, at_unix_ms, scheme, signature: signature.into() },
            chain,
        }
    }

    /// An operation on a record, as its origin logs it.
    pub fn entry(&self, clock: u64, key: &[u8], operation: &Operation) -> (proto::Entry, Chain) {
        let hash = key_hash(key);
        let SignedOrder { proof, chain } = self.sign(Subject::of(operation, &hash).unwrap());
        let operation = operation.encode_with(Some(&proof));
        (proto::Entry { operation, ..entry(clock, key, &Operation::Delete) }, chain)
    }
}

/// Every way to lack a valid order about `subject`; `other` is another subject of its kind.
pub fn forgeries(
    certs: &Certs,
    subject: Subject<'_>,
    other: Subject<'_>,
) -> Vec<(&'static str, Option<proto::Order>)> {
    let foreign = Certs::new();
    let admin = || Pen::of(&certs.admin());
    let sign = |pen: Pen| Some(pen.sign(subject).to_proto());
    let genuine = admin().sign(subject).to_proto();
    let mut damaged = genuine.clone();
    damaged.signature = genuine.signature.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into();
    let mut later = genuine.clone();
    later.at_unix_ms += 1;
    let mut borrowed = Pen::of(&certs.node("p")).sign(subject).to_proto();
    borrowed.chain.clone_from(&genuine.chain);
    vec![
        ("no order", None),
        ("an empty one", Some(proto::Order::default())),
        ("no certificate", Some(proto::Order { chain: Vec::new(), ..genuine })),
        ("a damaged signature", Some(damaged)),
        ("another time", Some(later)),
        ("signed by a node", sign(Pen::of(&certs.node("p")))),
        ("signed by a node in the name of an operator", Some(borrowed)),
        ("signed by a client", sign(Pen::of(&certs.client()))),
        ("about something else", Some(admin().sign(other).to_proto())),
        ("of another cluster", sign(Pen { cluster: "elsewhere", ..admin() })),
        ("by another cluster's operator", sign(Pen::of(&certs.admin_of("elsewhere")))),
        ("by another CA's operator", sign(Pen::of(&foreign.admin()))),
        ("of another context", sign(Pen { context: Context::OriginBirth, ..admin() })),
    ]
}
