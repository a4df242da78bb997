//! Digests of the record set, by which nodes compare what they hold.

use crate::store::{error::StoreError, handle::Store, published::Totals};
use brock_core::{
    base::{
        id::{KeyHash, sha256},
        limits,
        vector::Vector,
    },
    domain::{
        digest::{SetDigest, of_record},
        record::RecordState,
    },
    proto,
};

/// What is applied here, and the digests of the records at exactly that point.
#[derive(Debug, Clone)]
pub struct Summary {
    /// What is applied; folded origins are not listed.
    pub vector: Vector,
    /// The folded origins.
    pub folds: Vector,
    /// Tombstones of records that were created up to here may have been collected.
    pub collected: Vector,
    /// Of the records.
    pub digest: SetDigest,
    /// Totals.
    pub totals: Totals,
}

impl Summary {
    /// What is applied, folded origins included.
    pub fn applied(&self) -> Vector {
        let mut applied = self.vector.clone();
        applied.join(&self.folds);
        applied
    }

    /// Compares the records with another node's, if both have applied the same.
    pub fn compare(&self, their_applied: &Vector, theirs: &proto::Digest) -> Comparison {
        let applied = self.applied();
        if !applied.covers(their_applied) || !their_applied.covers(&applied) {
            return Comparison::Incomparable;
        }
        let (records, tombstones) = self.digest.roots();
        // A node that collects tombstones forgets them sooner than another.
        let has_all = self.collected.is_empty() && !theirs.has_collected;
        let equal = records == *theirs.records && (!has_all || tombstones == *theirs.tombstones);
        if equal { Comparison::Equal } else { Comparison::Different }
    }
}

/// How another node's records compare with this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It has applied the same, and holds the same.
    Equal,
    /// It has applied the same, and holds something else.
    Different,
    /// One of the two has applied operations that the other has not.
    Incomparable,
}

/// The hashes of a stretch of the record set, as [`HashRecordsResponse`](proto::HashRecordsResponse) describes them.
/// Two nodes have the same only if they hold the same there: unlike the sum of a bucket, no choice of records that are
/// left out keeps them the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StretchHash {
    /// The last key hash of the stretch.
    pub through: KeyHash,
    /// Of the records.
    pub records: [u8; 32],
    /// Of the tombstones.
    pub tombstones: [u8; 32],
}

/// One record in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketItem {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// The first bytes of its digest.
    pub digest: [u8; limits::ITEM_DIGEST_BYTES],
    /// Whether it is a tombstone.
    pub deleted: bool,
}

impl BucketItem {
    fn of(key_hash: KeyHash, state: &RecordState) -> Self {
        let whole = of_record(&key_hash, state);
        let mut digest = [0; limits::ITEM_DIGEST_BYTES];
        digest.copy_from_slice(&whole[..limits::ITEM_DIGEST_BYTES]);
        Self { key_hash, digest, deleted: state.deletion.is_some() }
    }
}

impl Store {
    /// Digests and vector, as they belong together.
    pub fn summary(&self) -> Summary {
        let published = self.shared.published();
        Summary {
            vector: published.vector.clone(),
            folds: published.folds.clone(),
            collected: published.collected.clone(),
            digest: published.digest.clone(),
            totals: published.totals,
        }
    }

    /// The records of one bucket above `after`, in key order, and whether there are more.
    pub async fn bucket(
        &self,
        bucket: u8,
        after: Option<KeyHash>,
    ) -> Result<(Vec<BucketItem>, bool), StoreError> {
        self.blocking(move |shared| {
            let (below, last) = SetDigest::bounds(bucket);
            let after = after.max(below);
            let mut items = Vec::new();
            let mut bytes = 0;
            for record in shared.database.view().records(after.as_ref(), Some(&last)) {
                let (key_hash, state, size) = record?;
                if items.len() == limits::BUCKET_PAGE_ITEMS || bytes >= limits::BUCKET_PAGE_BYTES {
                    return Ok((items, true));
                }
                bytes += size;
                items.push(BucketItem::of(key_hash, &state));
            }
            Ok((items, false))
        })
        .await
    }

    /// The hashes of the records above `after`, up to `through` or so many of them, if that is less, or as many as may
    /// be read at once.
    pub async fn hash_records(
        &self,
        after: Option<KeyHash>,
        through: KeyHash,
        items: usize,
    ) -> Result<StretchHash, StoreError> {
        self.blocking(move |shared| {
            let (mut records, mut tombstones) = (Vec::new(), Vec::new());
            let (mut last, mut bytes) = (None, 0);
            let mut ends_at = through;
            for (number, record) in shared.database.view().records(after.as_ref(), Some(&through)).enumerate()
            {
                if let Some(last) = last.filter(|_| number >= items || bytes >= limits::BUCKET_PAGE_BYTES) {
                    ends_at = last;
                    break;
                }
                let (key_hash, state, size) = record?;
                bytes += size;
                let digests = if state.deletion.is_some() { &mut tombstones } else { &mut records };
                digests.extend_from_slice(&of_record(&key_hash, &state));
                last = Some(key_hash);
            }
            Ok(StretchHash { through: ends_at, records: sha256(&records), tombstones: sha256(&tombstones) })
        })
        .await
    }

    /// The digest of each of these records, as [`Store::bucket`] returns it; those that are not here
    /// are left out.
    pub async fn items(&self, key_hashes: Vec<KeyHash>) -> Result<Vec<BucketItem>, StoreError> {
        let states = self.get_many(key_hashes.clone()).await?;
        let items = key_hashes.into_iter().zip(states);
        Ok(items.filter_map(|(key_hash, state)| Some(BucketItem::of(key_hash, &state?))).collect())
    }
}

/// From the wire; `None` = malformed.
pub fn item_from_proto(item: &proto::list_bucket_response::Item) -> Option<BucketItem> {
    Some(BucketItem {
        key_hash: KeyHash::try_from(item.key_hash.as_ref()).ok()?,
        digest: item.digest.as_ref().try_into().ok()?,
        deleted: item.deleted,
    })
}
