//! Records that lack a bundle which proves them: the disk has lost or damaged it.

use std::{
    collections::BTreeSet,
    sync::{MutexGuard, PoisonError},
};

use crate::store::{error::StoreError, handle::Store};
use brock_core::{
    base::{id::KeyHash, limits},
    domain::digest::{BUCKETS, SetDigest},
};

impl Store {
    /// The next of the records above `after` that [`Store::scrub`] has found to lack a bundle, as many as can be
    /// fetched at once; from the first again when there are none.
    pub fn lacking_proofs(&self, after: Option<KeyHash>) -> Vec<KeyHash> {
        let lacking = self.without_proofs();
        let page = |after: Option<KeyHash>| -> Vec<KeyHash> {
            let above =
                lacking.range(after.unwrap_or(KeyHash([0; 32]))..).filter(|next| Some(**next) != after);
            above.take(limits::FETCH_STATES_MAX).copied().collect()
        };
        let next = page(after);
        if next.is_empty() { page(None) } else { next }
    }

    /// Looks whether these lack nothing any more. Returns how many of them do not.
    pub async fn recheck_proofs(&self, key_hashes: Vec<KeyHash>) -> Result<usize, StoreError> {
        let proven = self
            .blocking(move |shared| {
                // Of two moments, perhaps: then it is looked at again.
                let view = shared.database.view();
                let mut proven = Vec::new();
                for key_hash in key_hashes {
                    let state = view.state(&key_hash)?.unwrap_or_default();
                    proven.extend(view.has_proofs(&key_hash, &state).then_some(key_hash));
                }
                Ok(proven)
            })
            .await?;
        let mut lacking = self.without_proofs();
        Ok(proven.iter().filter(|key_hash| lacking.remove(key_hash)).count())
    }

    /// What a look at a bucket has found, in place of what one before has. Each bucket has its share of the room.
    pub(in crate::store) fn note_lacking_proofs(&self, bucket: u8, found: Vec<KeyHash>) {
        let mut lacking = self.without_proofs();
        lacking.retain(|key_hash| SetDigest::bucket_of(key_hash) != bucket);
        lacking.extend(found.into_iter().take(limits::REPAIR_KEYS_MAX / BUCKETS));
    }

    fn without_proofs(&self) -> MutexGuard<'_, BTreeSet<KeyHash>> {
        self.shared.needed.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
