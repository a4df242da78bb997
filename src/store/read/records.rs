//! Records: single ones for clients, pages of them for peers and operators.

use std::{
    collections::{BTreeMap, HashSet},
    iter::Peekable,
};

use crate::store::{error::StoreError, handle::Store, losers::Seen, schema, view::View};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::Vector,
    },
    domain::{
        leaves::{BundleId, Leaves},
        record::{Creation, RecordState},
    },
};

/// A page of records in key order.
#[derive(Debug, Clone)]
pub struct RecordPage {
    /// The records.
    pub states: Vec<(KeyHash, RecordState)>,
    /// The page holds everything up to here.
    pub through: KeyHash,
    /// Whether records lie beyond.
    pub more: bool,
    /// The bundles that the evidence of the records names, unless earlier pages had them.
    pub bundles: Vec<(Origin, Leaves)>,
}

/// The bundles that the pages of one stream had, so that each is sent about once. A bundle of one operation is needed
/// once and not remembered; if the others become too many, they are forgotten, and come again.
#[derive(Debug, Default)]
pub struct SentBundles(HashSet<BundleId>);

impl SentBundles {
    /// The bundles that these states need beyond those.
    fn lacking(&self, state: &RecordState) -> BTreeMap<BundleId, usize> {
        let named = state.evidence.iter().map(|(stamp, evidence)| evidence.bundle_id(stamp.origin));
        named.filter(|id| !self.0.contains(id)).map(|id| (id, Leaves::bytes_of(id.count))).collect()
    }

    fn note<'a>(&mut self, sent: impl Iterator<Item = &'a BundleId>) {
        if self.0.len() >= limits::SENT_BUNDLES {
            self.0.clear();
        }
        self.0.extend(sent.filter(|id| id.count > 1));
    }
}

impl RecordPage {
    /// The last key hash that there can be.
    pub const END: KeyHash = KeyHash([0xff; 32]);

    /// As many records as a message holds, with the bundles that they need; each comes with its size on disk.
    pub(super) fn fill(
        view: &View<'_>,
        sent: &mut SentBundles,
        records: &mut Peekable<impl Iterator<Item = Result<(KeyHash, RecordState, usize), StoreError>>>,
    ) -> Result<Self, StoreError> {
        let (mut states, mut bytes) = (Vec::new(), 0);
        let fits = |count: usize, bytes: usize, size: usize| {
            count < limits::PAGE_RECORDS && (bytes == 0 || bytes + size <= limits::BATCH_MAX_BYTES)
        };
        let (mut more, mut bundles) = (false, Vec::new());
        while let Some(record) = records.peek() {
            let lacking =
                record.as_ref().map_or_else(|_| BTreeMap::new(), |(_, state, _)| sent.lacking(state));
            let more_bytes: usize = lacking.values().sum();
            more = matches!(record, Ok((_, _, size)) if !fits(states.len(), bytes, size + more_bytes));
            if more {
                break;
            }
            let Some(record) = records.next() else { break };
            let (key_hash, state, size) = record?;
            bytes += size + more_bytes;
            sent.note(lacking.keys());
            for id in lacking.keys() {
                // One that is lost, or damaged, leaves its records unproven at the puller, and takes no others along.
                bundles.extend(view.leaves(id).ok().flatten().map(|leaves| (id.origin, leaves)));
            }
            states.push((key_hash, state));
        }
        let last = states.last().filter(|_| more).map(|(key_hash, _)| *key_hash);
        Ok(Self { states, through: last.unwrap_or(Self::END), more, bundles })
    }
}

/// Records of which something is not proven.
#[derive(Debug, Clone, Default)]
pub struct UnprovenRecords {
    /// What they are found by.
    pub key_hashes: Vec<KeyHash>,
    /// How many bytes they have.
    pub bytes: usize,
    /// The last record that was looked at; `None` = all were.
    pub next: Option<KeyHash>,
}

/// One record that was created with different payloads.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// What it is found by.
    pub key_hash: KeyHash,
    /// The create whose payload stands.
    pub winner: Creation,
    /// The others, best first.
    pub losers: Vec<Creation>,
    /// Whether an operator has dealt with it.
    pub acknowledged: bool,
}

impl Store {
    /// The state of a key hash, as [`Store::get`] returns it, if that needs no disk; `Ok(None)` = it
    /// does. Most reads are answered from memory, and those need not leave their thread.
    pub fn get_cached(&self, key_hash: &KeyHash) -> Result<Option<Option<RecordState>>, StoreError> {
        self.shared.database.view().cached_state(key_hash)
    }

    /// The state of a key hash; `None` if nothing is known of it.
    pub async fn get(&self, key_hash: KeyHash) -> Result<Option<RecordState>, StoreError> {
        if let Some(state) = self.get_cached(&key_hash)? {
            return Ok(state);
        }
        self.blocking(move |shared| shared.database.view().state(&key_hash)).await
    }

    /// The states of several key hashes, in order.
    pub async fn get_many(&self, key_hashes: Vec<KeyHash>) -> Result<Vec<Option<RecordState>>, StoreError> {
        self.blocking(move |shared| shared.database.view().states(&key_hashes).collect()).await
    }

    /// Records above `after` in key order: as many as a message holds. `sent`: what earlier pages of the stream had; it
    /// is given back with this page's.
    pub async fn record_page(
        &self,
        after: Option<KeyHash>,
        mut sent: SentBundles,
    ) -> Result<(RecordPage, SentBundles), StoreError> {
        let _held = self.hold_bundles().await;
        self.blocking(move |shared| {
            let view = shared.database.view();
            let page =
                RecordPage::fill(&view, &mut sent, &mut view.records(after.as_ref(), None).peekable())?;
            Ok((page, sent))
        })
        .await
    }

    /// The first records above `after` of which something is not proven. Looks at a bounded number of records.
    pub async fn unproven(&self, after: Option<KeyHash>) -> Result<UnprovenRecords, StoreError> {
        self.blocking(move |shared| {
            let mut found = UnprovenRecords::default();
            for (looked_at, record) in shared.database.view().records(after.as_ref(), None).enumerate() {
                let (key_hash, state, size) = record?;
                if !state.is_proven() {
                    found.key_hashes.push(key_hash);
                    found.bytes += size;
                }
                if found.key_hashes.len() >= limits::MIGRATION_RECORDS
                    || found.bytes >= limits::BATCH_MAX_BYTES
                    || looked_at >= limits::MIGRATION_LOOKS
                {
                    found.next = Some(key_hash);
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Records that were created with different payloads, above `after`, and whether there are more.
    pub async fn conflict_page(
        &self,
        after: Option<KeyHash>,
        limit: usize,
    ) -> Result<(Vec<Conflict>, bool), StoreError> {
        self.blocking(move |shared| {
            let view = shared.database.view();
            let marked = view.marks(schema::CONFLICT, after.as_ref(), limit + 1)?;
            let more = marked.len() > limit;
            let (key_hashes, marks): (Vec<KeyHash>, Vec<_>) = marked.into_iter().take(limit).unzip();
            let mut conflicts = Vec::new();
            for ((key_hash, mark), state) in key_hashes.iter().zip(marks).zip(view.states(&key_hashes)) {
                let Some(RecordState { creation: Some(winner), losers, .. }) = state? else { continue };
                let acknowledged = Seen::count(Seen::decode(&mark)?, &losers) > 0;
                conflicts.push(Conflict { key_hash: *key_hash, winner, losers, acknowledged });
            }
            Ok((conflicts, more))
        })
        .await
    }

    /// Tombstones above `after` whose deletes lie at or below `stable`: up to `limit` of them, and
    /// the key hash to continue after; `None` = these were all.
    pub async fn tombstones(
        &self,
        after: Option<KeyHash>,
        stable: Vector,
        limit: usize,
    ) -> Result<(Vec<KeyHash>, Option<KeyHash>), StoreError> {
        self.blocking(move |shared| {
            let mut found = Vec::new();
            for record in shared.database.view().records(after.as_ref(), None) {
                let (key_hash, state, _) = record?;
                if state.was_created && state.deletion.is_some_and(|stamp| stable.has(stamp)) {
                    found.push(key_hash);
                    if found.len() == limit {
                        return Ok((found, Some(key_hash)));
                    }
                }
            }
            Ok((found, None))
        })
        .await
    }
}
