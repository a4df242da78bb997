//! Births of origins whose operations come by another way than batches of their log, and births that are signed again.

use std::collections::BTreeMap;

use super::Change;
use crate::store::{
    commit::Commit,
    error::StoreError,
    handle::{Shared, Store},
    signing::Certified,
};
use brock_core::{
    base::{
        id::{NodeId, Origin},
        limits,
        vector::{Clock, Vector},
    },
    domain::birth::{Birth, SignedBirth},
};

impl Store {
    /// Keeps births. The caller has verified them. Of origins that have no place here and are not `expected` to get
    /// one, [`limits::BIRTHS_PER_NODE`] of each node are kept. Durable when it returns. Idempotent.
    pub async fn keep_births(&self, births: Vec<SignedBirth>, expected: &Vector) -> Result<(), StoreError> {
        let fits = |birth: &SignedBirth| self.has_place(&birth.birth.origin, expected);
        let (listed, others) = births.into_iter().partition(fits);
        self.change(KeepBirths { listed, others }).await
    }

    /// Whether the birth of an origin that none is known of would be kept.
    pub fn keeps_birth(&self, origin: &Origin, expected: &Vector) -> bool {
        self.has_place(origin, expected)
            || births_of(&self.shared.published().births, &origin.node_id()) < limits::BIRTHS_PER_NODE
    }

    fn has_place(&self, origin: &Origin, expected: &Vector) -> bool {
        let published = self.shared.published();
        expected.lists(origin) || published.lists(origin) || published.forks.contains_key(origin)
    }

    /// Signs the birth of the present incarnation once more, with the certificate that this node has now: nodes that
    /// trust only that one can verify it then. Returns whether it was signed with another one before. Durable when it
    /// returns. Idempotent.
    pub async fn renew_birth(&self) -> Result<bool, StoreError> {
        let renewed = self.blocking(renewed).await?;
        let is_new = renewed.is_some();
        self.keep_births(Vec::from_iter(renewed), &Vector::default()).await?;
        Ok(is_new)
    }
}

/// The birth of the present incarnation under another certificate; `None`: it has none, or it is signed with the
/// present one.
fn renewed(shared: &Shared) -> Result<Option<SignedBirth>, StoreError> {
    let Some(identity) = shared.mint.identity() else { return Ok(None) };
    let kept = shared.database.view().birth(&shared.origin())?.map(SignedBirth::from_proto).transpose()?;
    let (Some(cluster), Some(kept)) = (identity.cluster(), kept) else { return Ok(None) };
    let signed = identity.sign(&kept.birth.content(&cluster)).map_err(StoreError::Signing)?;
    let Certified { scheme, signature, certificates } = signed;
    let is_new = certificates != kept.certificates;
    Ok(is_new.then_some(SignedBirth {
        birth: kept.birth,
        scheme,
        signature,
        certificates,
        vouched_at_unix_ms: None,
    }))
}

/// The births of how many incarnations of a node there are.
fn births_of(births: &BTreeMap<Origin, Birth>, node_id: &NodeId) -> usize {
    births.range(Origin::all_of(node_id)).count()
}

struct KeepBirths {
    listed: Vec<SignedBirth>,
    others: Vec<SignedBirth>,
}

impl Change for KeepBirths {
    type Outcome = ();

    /// Contract: an origin that has a birth keeps it; its signature may be replaced. The holder of a node's certificate
    /// signs any number of births, so those of origins without a place here are bounded.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        for birth in self.listed {
            commit.take_birth(Some(birth), Clock::default());
        }
        for birth in self.others {
            let (origin, node_id) = (birth.birth.origin, birth.birth.origin.node_id());
            let known =
                births_of(&commit.before.births, &node_id) + births_of(&commit.raised.births, &node_id);
            if known < limits::BIRTHS_PER_NODE || commit.born(&origin).is_some() {
                commit.take_birth(Some(birth), Clock::default());
            }
        }
        Ok(())
    }
}
