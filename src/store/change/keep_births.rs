//! Births of origins whose operations come by another way than batches of their log, and births that are signed again.

use super::Change;
use crate::store::{
    commit::Commit,
    error::StoreError,
    handle::{Shared, Store},
    signing::Certified,
};
use brock_core::domain::birth::SignedBirth;

impl Store {
    /// Keeps births. The caller has verified them. Durable when it returns. Idempotent.
    pub async fn keep_births(&self, births: Vec<SignedBirth>) -> Result<(), StoreError> {
        self.change(KeepBirths(births)).await
    }

    /// Signs the birth of the present incarnation once more, with the certificate that this node has now: nodes that
    /// trust only that one can verify it then. Returns whether it was signed with another one before. Durable when it
    /// returns. Idempotent.
    pub async fn renew_birth(&self) -> Result<bool, StoreError> {
        let renewed = self.blocking(renewed).await?;
        let is_new = renewed.is_some();
        self.keep_births(Vec::from_iter(renewed)).await?;
        Ok(is_new)
    }
}

/// The birth of the present incarnation under another certificate; `None`: it has none, or it is signed with the present
/// one.
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

struct KeepBirths(Vec<SignedBirth>);

impl Change for KeepBirths {
    type Outcome = ();

    /// Contract: an origin that has a birth keeps it; its signature may be replaced.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        self.0.into_iter().for_each(|birth| commit.take_birth(Some(birth)));
        Ok(())
    }
}
