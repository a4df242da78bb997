//! This node's certificate, as its store sees it.

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use crate::{
    store,
    transfer::signers::{foreign, verify_birth},
};
use brock_core::{
    base::id::ClusterId,
    domain::{
        birth::{SignedBirth, Standing, Unbelieved},
        record::UnixSeconds,
    },
};
use brock_net::tls::{
    credentials::Identity,
    statement::{self, Context},
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

    fn foreign_domain(&self, signed: &SignedBirth) -> Option<String> {
        let leaf = CertificateDer::from(signed.certificates.first()?.as_ref());
        foreign(&[leaf], self.cluster()?)
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
