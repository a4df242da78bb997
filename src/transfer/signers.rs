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
    statement::{At, Context, Signed, StatementError, StatementVerifier},
};

/// Why a statement is not taken for an operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// It is not believed at all.
    #[error(transparent)]
    Statement(#[from] StatementError),
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
            OperatorError::NotAnOperator(signer) => {
                Unbelieved::Other(format!("{signer}, who vouched for it, is no operator of this cluster"))
            }
        });
    }
    let content = birth.content(&cluster);
    let verify = |at| verifier.verify(&chain, at, Context::OriginBirth, &content, &signature);
    // An incarnation may outlive the certificate that it was born with.
    let born_at = u64::try_from(birth.born_at).unwrap_or_default();
    let signer = verify(At::Now).map(|signer| (signer, Standing::Present));
    let signer = signer.or_else(|_| verify(At::Time(born_at)).map(|signer| (signer, Standing::Past)));
    let (signer, standing) = signer.map_err(unbelieved)?;
    let is_node = signer.role == Role::Node && signer.node_id() == Some(birth.origin.node_id());
    match is_node && is_in(&signer, cluster) {
        true => Ok(standing),
        false => Err(Unbelieved::Other(format!(
            "its certificate is not that of node {} in this cluster",
            birth.origin.node_id()
        ))),
    }
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
