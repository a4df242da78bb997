//! This node's certificate, as its store sees it.

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use crate::store::{self, Standing};
use brock_core::{
    base::id::ClusterId,
    domain::{
        birth::{SignedBirth, Unbelieved},
        order::Subject,
        record::UnixSeconds,
    },
};
use brock_net::tls::{
    credentials::Identity,
    roles::Role,
    statement::{self, At, Context, Signed, StatementError, StatementVerifier},
};

/// The certificate of a node, by which its origins are born.
#[derive(Debug)]
pub struct NodeCertificate(Identity);

impl NodeCertificate {
    /// The one that `identity` has loaded at the time of each signature.
    pub fn new(identity: Identity) -> Self {
        Self(identity)
    }
}

impl store::Identity for NodeCertificate {
    fn cluster(&self) -> Option<ClusterId> {
        let peer = self.0.peer();
        peer.node_id()?;
        peer.trust_domain.as_deref().map(ClusterId::of)
    }

    fn sign(&self, content: &[u8]) -> Result<store::Certified, String> {
        let signer = self.0.signer();
        let signed = signer.sign(Context::OriginBirth, content).map_err(|error| error.to_string())?;
        Ok(store::Certified {
            scheme: signed.scheme,
            signature: signed.signature.into(),
            certificates: signer.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        })
    }

    fn ends(&self, signed: &SignedBirth) -> Option<UnixSeconds> {
        statement::ends(&CertificateDer::from(signed.certificates.first()?.as_ref()))
    }

    fn verify(&self, signed: &SignedBirth) -> Result<(), Unbelieved> {
        let nameless = || Unbelieved::Other("this node's own certificate names no cluster".to_owned());
        let cluster = self.cluster().ok_or_else(nameless)?;
        verify_birth(&self.0.statement_verifier(), cluster, signed).map(drop)
    }

    fn standing(&self, signed: &SignedBirth) -> Option<Standing> {
        let verifier = self.0.statement_verifier().believing_revoked();
        verify_birth(&verifier, self.cluster()?, signed).ok()
    }
}

/// Whether a certificate of the origin's node in this cluster has signed a birth, or an operator of this cluster has
/// vouched for it, and how good that is. The error says why not.
pub fn verify_birth(
    verifier: &StatementVerifier,
    cluster: ClusterId,
    signed: &SignedBirth,
) -> Result<Standing, Unbelieved> {
    let birth = &signed.birth;
    let chain: Vec<CertificateDer<'_>> =
        signed.certificates.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
    let signature = Signed { scheme: signed.scheme, signature: signed.signature.to_vec() };
    if let Some(at_unix_ms) = signed.vouched_at_unix_ms {
        let content = Subject::Vouch(&birth.statement(&cluster)).encode(&cluster, at_unix_ms);
        let at = At::Time(u64::try_from(at_unix_ms.div_euclid(1000)).unwrap_or_default());
        let operator = verifier.verify(&chain, at, Context::OperatorOrder, &content, &signature);
        let operator = operator.map_err(unbelieved)?;
        let is_here = operator.trust_domain.as_deref().map(ClusterId::of) == Some(cluster);
        return match operator.role == Role::Admin && is_here {
            true => Ok(Standing::Present),
            false => Err(Unbelieved::Other(format!(
                "{operator}, who vouched for it, is no operator of this cluster"
            ))),
        };
    }
    let content = birth.content(&cluster);
    let verify = |at| verifier.verify(&chain, at, Context::OriginBirth, &content, &signature);
    // An incarnation may outlive the certificate that it was born with.
    let born_at = u64::try_from(birth.born_at).unwrap_or_default();
    let signer = verify(At::Now).map(|signer| (signer, Standing::Present));
    let signer = signer.or_else(|_| verify(At::Time(born_at)).map(|signer| (signer, Standing::Past)));
    let (signer, standing) = signer.map_err(unbelieved)?;
    let is_node = signer.role == Role::Node && signer.node_id() == Some(birth.origin.node_id());
    let is_here = signer.trust_domain.as_deref().map(ClusterId::of) == Some(cluster);
    match is_node && is_here {
        true => Ok(standing),
        false => Err(Unbelieved::Other(format!(
            "its certificate is not that of node {} in this cluster",
            birth.origin.node_id()
        ))),
    }
}

fn unbelieved(error: StatementError) -> Unbelieved {
    match error {
        StatementError::UnknownCa => Unbelieved::UnknownCa,
        StatementError::Revoked => Unbelieved::Revoked,
        other => Unbelieved::Other(other.to_string()),
    }
}
