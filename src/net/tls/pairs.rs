//! The own certificates with their keys: one, or a classical and a post-quantum one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::{
    TlsError,
    keypair::{KeyPair, Purpose},
    revocation::Revocations,
    roles::{PeerIdentity, RolePolicy},
    trust_store::TrustStore,
};

/// Our own certificates: one, or a classical one and a post-quantum one of the same holder.
pub(crate) struct Pairs {
    /// The identity that they state.
    pub(crate) peer: PeerIdentity,
    pub(crate) first: KeyPair,
    second: Option<KeyPair>,
}

impl Pairs {
    /// Loads them, and refuses a second one that does not fit the first one.
    pub(crate) fn load(
        first: PathBuf,
        second: Option<&Path>,
        policy: RolePolicy,
        purpose: Purpose,
    ) -> Result<Self, TlsError> {
        let first = KeyPair::load(first)?;
        let peer = first.identity(policy, purpose)?;
        let second = second.map(|path| KeyPair::load(path.to_owned())).transpose()?;
        if let Some(second) = &second {
            let refused = |reason| {
                let (path, first) = (second.path().to_owned(), first.path().to_owned());
                TlsError::SecondChain { path, first, reason }
            };
            let other = second.identity(policy, purpose)?;
            if second.kind().post_quantum().is_none() {
                let kind = second.kind();
                return Err(refused(format!(
                    "its key is of the kind {kind}, and a second certificate is of ML-DSA"
                )));
            }
            // Otherwise it would depend on the other end who this is.
            if (other.role, &other.name, &other.trust_domain) != (peer.role, &peer.name, &peer.trust_domain) {
                return Err(refused(format!("it is that of {other}, and the first one that of {peer}")));
            }
        }
        Ok(Self { peer, first, second })
    }

    /// The first one, then the second one.
    pub(crate) fn all(&self) -> impl Iterator<Item = &KeyPair> {
        [&self.first].into_iter().chain(&self.second)
    }

    /// Checks that peers with the same CAs accept each certificate.
    pub(crate) fn trust_store(
        &self,
        dir: &Path,
        (roots, trusted): (Arc<RootCertStore>, &[CertificateDer<'static>]),
        revocations: Arc<Revocations>,
        purpose: Purpose,
    ) -> Result<TrustStore, TlsError> {
        let make =
            |pair| KeyPair::material(pair, dir, (Arc::clone(&roots), trusted), Arc::clone(&revocations));
        let first = make(&self.first);
        self.first.check_trusted(&first, purpose)?;
        let store = TrustStore::new(&first)?;
        if let Some(pair) = self.all().find(|pair| pair.kind().post_quantum().is_some())
            && !store.has_post_quantum_ca()
        {
            return Err(TlsError::NoPostQuantumCa { path: pair.path().to_owned() });
        }
        let Some(second) = &self.second else { return Ok(store) };
        let material = make(second);
        second.check_trusted(&material, purpose)?;
        store.with_second(&material)
    }
}
