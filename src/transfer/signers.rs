//! Who has signed a birth, an order, or an operator's word for a birth.

use rustls_pki_types::CertificateDer;

use brock_core::{
    base::id::ClusterId,
    domain::{
        birth::{SignedBirth, Standing, Unbelieved},
        order::Subject,
    },
};
use brock_net::tls::{
    roles::{PeerIdentity, Role},
    statement::{self, At, Context, Signed, StatementError, StatementVerifier},
};

/// Why a statement is not taken for an operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// It is not believed at all.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The signer's certificate is of another cluster, so it was signed for that one.
    #[error(
        "it was signed with a certificate of the trust domain {0}, and this node's own is of another one: an operator's \
         certificate is made with the --trust-domain of the cluster (docs/guides/troubleshooting.md, A certificate of another \
         trust domain)"
    )]
    OtherDomain(String),
    /// The signer is no operator of this cluster.
    #[error("it was signed by {0}, which is no operator of this cluster")]
    NotAnOperator(String),
}

/// Returns the operator of a cluster who has signed `content` as an order. `chain` is in DER, leaf first. Blocks.
pub fn operator(
    verifier: &StatementVerifier,
    cluster: ClusterId,
    chain: &[CertificateDer<'_>],
    (content, at): (&[u8], At),
    signed: &Signed,
) -> Result<PeerIdentity, OperatorError> {
    if let Some(domain) = foreign(chain, cluster) {
        return Err(OperatorError::OtherDomain(domain));
    }
    let signer = verifier.verify(chain, at, Context::OperatorOrder, content, signed)?;
    match signer.role == Role::Admin && is_in(&signer, cluster) {
        true => Ok(signer),
        false => Err(OperatorError::NotAnOperator(signer.to_string())),
    }
}

/// Whether a certificate of the origin's node in this cluster has signed a birth, or an operator of this cluster has
/// vouched for it, and how good that is. The error says why not. Blocks.
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
        let vouched = operator(verifier, cluster, &chain, (&content, at), &signature);
        return vouched.map(|_| Standing::Present).map_err(|error| match error {
            OperatorError::Statement(error) => unbelieved(error),
            OperatorError::OtherDomain(domain) => Unbelieved::OtherDomain(domain),
            OperatorError::NotAnOperator(signer) => {
                Unbelieved::Other(format!("{signer}, who vouched for it, is no operator of this cluster"))
            }
        });
    }
    // The cluster is in what is signed. One that the certificate states counts once that has signed for it: a relay may
    // have made another certificate.
    let domain = foreign(&chain, cluster);
    let content = birth.content(&domain.as_deref().map_or(cluster, ClusterId::of));
    let verify = |at| verifier.verify(&chain, at, Context::OriginBirth, &content, &signature);
    // An incarnation may outlive the certificate that it was born with.
    let born_at = u64::try_from(birth.born_at).unwrap_or_default();
    let signer = verify(At::Now).map(|signer| (signer, Standing::Present));
    let signer = signer.or_else(|_| verify(At::Time(born_at)).map(|signer| (signer, Standing::Past)));
    let (signer, standing) = signer.map_err(unbelieved)?;
    if let Some(domain) = domain {
        return Err(Unbelieved::OtherDomain(domain));
    }
    let is_node = signer.role == Role::Node && signer.node_id() == Some(birth.origin.node_id());
    match is_node && is_in(&signer, cluster) {
        true => Ok(standing),
        false => Err(Unbelieved::Other(format!(
            "its certificate is not that of node {} in this cluster",
            birth.origin.node_id()
        ))),
    }
}

/// The trust domain of a signer's certificate, if it is that of another cluster. What such a certificate has signed
/// cannot verify, because the cluster is in it: the signature would be blamed, and the signer of it.
pub fn foreign(chain: &[CertificateDer<'_>], cluster: ClusterId) -> Option<String> {
    statement::trust_domain(chain.first()?).filter(|domain| ClusterId::of(domain) != cluster)
}

fn is_in(signer: &PeerIdentity, cluster: ClusterId) -> bool {
    signer.trust_domain.as_deref().map(ClusterId::of) == Some(cluster)
}

fn unbelieved(error: StatementError) -> Unbelieved {
    match error {
        StatementError::UnknownCa => Unbelieved::UnknownCa,
        StatementError::Revoked => Unbelieved::Revoked,
        other => Unbelieved::Other(other.to_string()),
    }
}
