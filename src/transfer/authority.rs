//! The CAs of a cluster, in place of a certificate of a node: what is signed can be verified, and nothing signed.

use std::sync::Arc;

use super::{orders::Orders, proof::Verifier, signers::verify_birth};
use crate::{
    runtime::alarms::Alarms,
    store::{Certified, Identity, Store},
};
use brock_core::{
    base::{id::ClusterId, time::WallClock, trust::TrustMode},
    domain::birth::{SignedBirth, Standing, Unbelieved},
};
use brock_net::tls::statement::StatementVerifier;

/// Verifies with the CAs alone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authority {
    verifier: StatementVerifier,
    cluster: ClusterId,
}

impl Authority {
    /// Of the cluster with that SPIFFE trust domain.
    pub fn new(verifier: StatementVerifier, trust_domain: &str) -> Self {
        Self { verifier, cluster: ClusterId::of(trust_domain) }
    }

    /// For the options of a store.
    pub fn identity(&self) -> Arc<dyn Identity> {
        Arc::new(self.clone())
    }

    /// Believes only what is proven. The store must have been opened with [`Authority::identity`].
    pub fn strict(&self, store: &Store) -> Verifier {
        let (mode, wall_clock) = (TrustMode::Distributed, WallClock::system());
        let context = (wall_clock.clone(), Alarms::new(wall_clock));
        let orders = Orders::new(mode, Some(self.cluster), self.verifier.clone(), store.clone(), context);
        Verifier::new(store.clone(), mode, Some(orders))
    }
}

impl Identity for Authority {
    fn cluster(&self) -> Option<ClusterId> {
        Some(self.cluster)
    }

    fn signs(&self) -> bool {
        false
    }

    fn sign(&self, _: &[u8]) -> Result<Certified, String> {
        Err("there is no certificate to sign with".to_owned())
    }

    fn verify(&self, birth: &SignedBirth) -> Result<(), Unbelieved> {
        verify_birth(&self.verifier, self.cluster, birth).map(drop)
    }

    fn standing(&self, birth: &SignedBirth) -> Option<Standing> {
        verify_birth(&self.verifier.clone().believing_revoked(), self.cluster, birth).ok()
    }
}
