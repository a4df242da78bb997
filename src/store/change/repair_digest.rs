//! Making a bucket's digest match its records again.

use super::Change;
use crate::store::{commit::Commit, error::StoreError, handle::Store, view::View};
use brock_core::{
    base::id::KeyHash,
    domain::digest::{Bucket, SetDigest},
};

/// What was found wrong with the records of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Something other than this store has changed the records.
    pub is_changed: bool,
    /// How many of them lack a bundle that proves them: the disk has lost or damaged it.
    pub unproven: usize,
}

impl Store {
    /// Compares a bucket's digest with the bucket's records, and their evidence with the bundles that it names. Where
    /// something other than this store has changed the records (bit rot, an operator), makes the digest true again, so
    /// that the peers see the difference; [`Store::lacking_proofs`] are the records that lack a bundle.
    pub async fn scrub(&self, bucket: u8) -> Result<Scrubbed, StoreError> {
        let (difference, unproven) = self
            .blocking(move |shared| {
                let snapshot = shared.database.snapshot();
                let (written, (found, unproven)) = (snapshot.bucket(bucket)?, look_at(&snapshot, bucket)?);
                Ok(((written != found).then(|| found.minus(written)), unproven))
            })
            .await?;
        let scrubbed = Scrubbed { is_changed: difference.is_some(), unproven: unproven.len() };
        self.note_lacking_proofs(bucket, unproven);
        if let Some(difference) = difference {
            // Later writes change both sides alike, so the difference still holds.
            self.change(RepairDigest { bucket, difference }).await?;
        }
        Ok(scrubbed)
    }
}

/// The digest that the records of a bucket make, and those of them that lack a bundle.
fn look_at(view: &View<'_>, bucket: u8) -> Result<(Bucket, Vec<KeyHash>), StoreError> {
    let (mut digest, mut unproven) = (Bucket::default(), Vec::new());
    let (below, last) = SetDigest::bounds(bucket);
    for record in view.records(below.as_ref(), Some(&last)) {
        let (key_hash, state, _) = record?;
        digest.replace(&key_hash, None, Some(&state));
        if !view.has_proofs(&key_hash, &state) {
            unproven.push(key_hash);
        }
    }
    Ok((digest, unproven))
}

struct RepairDigest {
    bucket: u8,
    difference: Bucket,
}

impl Change for RepairDigest {
    type Outcome = ();

    /// Contract: the digest changes and no record does; and the next backup is a full one, because
    /// the log does not show what changed the records.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        commit.bucket_repairs.push((self.bucket, self.difference));
        commit.is_unlogged = true;
        Ok(())
    }
}
