//! Operators' orders: what destroys a record or retires a member, signed so that every node can verify it.

use bytes::Bytes;

use brock_core::{
    base::{id::ClusterId, time::WallClock},
    domain::order::{Chain, OrderProof, SignedOrder, Subject},
    proto,
};
use brock_net::tls::{
    credentials::ClientIdentity,
    roles::Role,
    statement::{Context, Signed, Signer, StatementError},
};

/// Signs orders with the key of an operator's certificate. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders {
    signer: Signer,
    cluster: ClusterId,
}

impl Orders {
    /// `None`: the certificate is not an operator's, or does not state the trust domain of its cluster in a URI. No
    /// node would accept its orders.
    pub fn new(credentials: &ClientIdentity) -> Option<Self> {
        let peer = credentials.peer();
        let cluster = peer.trust_domain.as_deref().filter(|_| peer.role == Role::Admin)?;
        Some(Self { signer: credentials.signer(), cluster: ClusterId::of(cluster) })
    }

    /// Signs an order, for the field `order` of a request about the same subject. Nodes accept it for five minutes.
    pub fn sign(&self, subject: Subject<'_>) -> Result<proto::Order, StatementError> {
        let at_unix_ms = i64::try_from(WallClock::system().now_ms()).unwrap_or(i64::MAX);
        let content = subject.encode(&self.cluster, at_unix_ms);
        let Signed { scheme, signature } = self.signer.sign(Context::OperatorOrder, &content)?;
        let certificates = self.signer.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
        let chain = Chain::new(certificates).ok_or(StatementError::Chain)?;
        let certificate = chain.id();
        let proof = OrderProof { certificate, at_unix_ms, scheme, signature: signature.into() };
        Ok(SignedOrder { proof, chain }.to_proto())
    }
}
