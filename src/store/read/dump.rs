//! Everything that the store holds, or everything since some point, exactly as it was at one moment:
//! the content of a backup.

use std::{collections::BTreeMap, sync::PoisonError};

use super::{
    log,
    records::{RecordPage, SentBundles},
    small::{self, BirthsPage},
};
use crate::store::{
    cuts::Cuts,
    error::StoreError,
    fills::Fill,
    handle::Store,
    published::Totals,
    view::{UNLOGGED, View},
};
use brock_core::{
    base::{
        id::Origin,
        limits,
        vector::{Clock, Vector},
    },
    domain::{
        birth::Birth,
        codec::{CodecError, LogKey},
        digest::SetDigest,
    },
    proto,
};
use bytes::Bytes;

/// One piece of a dump.
#[derive(Debug, Clone)]
pub enum DumpFrame {
    /// First: what the store held at the moment of the dump.
    Begin(Box<Dumped>),
    /// Births of the origins that sign, and the last bundles of their logs. Only in a full dump; the first batch of an
    /// origin has its birth otherwise.
    Births(BirthsPage),
    /// A page of records, in key order, and the chains of the operators whose orders are in it. Only in a full dump.
    Records(RecordPage, Vec<proto::Chain>),
    /// A stretch of one origin's log, without payloads in a full dump.
    Log(Box<proto::Batch>),
}

/// What the store held at the moment of the dump.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// What was applied; folded origins are not listed.
    pub vector: Vector,
    /// The folded origins.
    pub folds: Vector,
    /// How far the log was compacted.
    pub floors: Vector,
    /// Tombstones up to here may be missing.
    pub collected: Vector,
    /// Digest of the records.
    pub digest: SetDigest,
    /// Totals.
    pub totals: Totals,
    /// Another value whenever records have changed in a way that the log does not show: by a repair,
    /// a resync, a retry from quarantine. The log alone then does not lead here from an earlier dump.
    pub unlogged: Vec<u8>,
    /// Fills that no other member has confirmed.
    pub unconfirmed: Vec<Fill>,
}

impl Dumped {
    /// What was applied, folded origins included.
    pub fn applied(&self) -> Vector {
        let mut applied = self.vector.clone();
        applied.join(&self.folds);
        applied
    }

    /// Fails if the log does not hold everything that was done since.
    fn check_reach(&self, since: &Since) -> Result<(), StoreError> {
        if self.unlogged != since.unlogged {
            return Err(StoreError::NotInLog);
        }
        let since = &since.applied;
        let gone = self.folds.iter().find(|(origin, clock)| since.get(origin) < *clock);
        let below = self.floors.iter().find(|(origin, floor)| since.get(origin) < *floor);
        match gone.or(below) {
            Some((origin, floor)) => Err(StoreError::BelowFloor { origin, floor }),
            None => Ok(()),
        }
    }
}

/// Where an earlier dump ended.
#[derive(Debug, Clone)]
pub struct Since {
    /// [`Dumped::applied`]
    pub applied: Vector,
    /// [`Dumped::unlogged`]
    pub unlogged: Vec<u8>,
}

impl Store {
    /// [`Dumped::unlogged`], as it is now.
    pub async fn unlogged(&self) -> Result<Vec<u8>, StoreError> {
        Ok(self.note(UNLOGGED).await?.unwrap_or_default())
    }

    /// Log entries above this are still to be backed up; `None` = no backup waits for any.
    pub fn keep_for_backup(&self, backed_up: Option<Vector>) {
        *self.shared.kept_for_backup.lock().unwrap_or_else(PoisonError::into_inner) = backed_up;
    }

    /// `stable` without the log entries that must stay for the next backup. If a lot waits, the log
    /// does not wait for the backup any more.
    pub fn without_kept_for_backup(&self, stable: Vector) -> Vector {
        let kept = self.shared.kept_for_backup.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(backed_up) if self.totals().log_bytes < limits::BACKUP_LOG_KEPT_BYTES => {
                stable.meet(backed_up)
            }
            _ => stable,
        }
    }

    /// Gives everything to `sink`, frame by frame, until that returns `false`; with `since`, only what
    /// was done after that. Returns `None` if `sink` ended it. Fails with [`StoreError::BelowFloor`] or
    /// [`StoreError::NotInLog`] if the log does not show all of that. Blocks, also while files are
    /// being rewritten: for a thread of its own.
    pub fn dump(
        &self,
        since: Option<&Since>,
        mut sink: impl FnMut(DumpFrame) -> bool,
    ) -> Result<Option<Dumped>, StoreError> {
        let snapshot = self.shared.database.snapshot();
        let published = snapshot.published()?;
        let births = published.births;
        let dumped = Dumped {
            vector: published.vector,
            folds: published.folds,
            floors: published.floors,
            collected: published.collected,
            digest: published.digest,
            totals: published.totals,
            unlogged: snapshot.meta(UNLOGGED)?.unwrap_or_default(),
            unconfirmed: snapshot.fills()?,
        };
        if let Some(since) = since {
            dumped.check_reach(since)?;
        }
        let is_whole = sink(DumpFrame::Begin(Box::new(dumped.clone())))
            && (since.is_some()
                || (dump_births(&snapshot, &mut sink)?
                    && dump_records(&snapshot, &dumped.digest, &mut sink)?))
            && dump_logs(&snapshot, (&dumped, &births), since, &mut sink)?;
        Ok(is_whole.then_some(dumped))
    }
}

/// Returns whether `sink` wants more.
fn dump_births(snapshot: &View<'_>, sink: &mut impl FnMut(DumpFrame) -> bool) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let page = BirthsPage::read(snapshot, after)?;
        after = page.next;
        if !page.births.is_empty() && !sink(DumpFrame::Births(page)) {
            return Ok(false);
        }
        if after.is_none() {
            return Ok(true);
        }
    }
}

/// Returns whether `sink` wants more.
fn dump_records(
    snapshot: &View<'_>,
    written: &SetDigest,
    sink: &mut impl FnMut(DumpFrame) -> bool,
) -> Result<bool, StoreError> {
    let mut records = snapshot.records(None, None).peekable();
    let (mut found, mut sent) = (SetDigest::default(), SentBundles::default());
    loop {
        let page = RecordPage::fill(snapshot, &mut sent, &mut records)?;
        for (key_hash, state) in &page.states {
            let mut bucket = found.get(SetDigest::bucket_of(key_hash));
            bucket.replace(key_hash, None, Some(state));
            found.set(SetDigest::bucket_of(key_hash), bucket);
        }
        let is_last = !page.more;
        if is_last && found != *written {
            // A restore would refuse it. The scrubber repairs the digest.
            return Err(CodecError::Malformed("set of records: it is not what was written").into());
        }
        let ids = small::chain_ids(page.states.iter().map(|(_, state)| state));
        let wants_more = sink(DumpFrame::Records(page, small::chains(snapshot, &ids)?));
        if is_last || !wants_more {
            return Ok(wants_more);
        }
    }
}

/// Returns whether `sink` wants more.
fn dump_logs(
    snapshot: &View<'_>,
    (dumped, births): (&Dumped, &BTreeMap<Origin, Birth>),
    since: Option<&Since>,
    sink: &mut impl FnMut(DumpFrame) -> bool,
) -> Result<bool, StoreError> {
    for (origin, through) in dumped.vector.iter() {
        // Of a folded origin that is listed again, the log begins behind the fold.
        let floor = dumped.floors.get(&origin).max(dumped.folds.get(&origin));
        let after = since.map_or(floor, |since| since.applied.get(&origin));
        // The pages of a full dump have the payloads.
        let with_payloads = since.is_some();
        let signs = births.contains_key(&origin);
        if !dump_log(snapshot, signs, (origin, after, through), with_payloads, sink)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn dump_log(
    snapshot: &View<'_>,
    signs: bool,
    (origin, after, through): (Origin, Clock, Clock),
    with_payloads: bool,
    sink: &mut impl FnMut(DumpFrame) -> bool,
) -> Result<bool, StoreError> {
    let begin = |after: u64| proto::Batch {
        origin: Bytes::copy_from_slice(origin.as_bytes()),
        after,
        covered_through: after,
        ..proto::Batch::default()
    };
    let mut cuts = Cuts::new(snapshot, signs, (origin, after))?;
    let after = cuts.after();
    let (mut batch, mut bytes, mut chains) = (begin(after.0), 0, log::Chains::default());
    // A full dump has the births, and its pages the payloads.
    batch.birth = if with_payloads { snapshot.birth(&origin)? } else { None };
    for logged in snapshot.log(origin, after, through) {
        let logged = logged?;
        let is_cut = cuts.is_before(logged.key.stamp.clock)?;
        let entry = log::entry(snapshot, &logged, || match with_payloads {
            true => snapshot.state(&logged.key.key_hash),
            false => Ok(None),
        })?;
        let mut chain = chains.next(snapshot, &entry.operation)?;
        let size = entry.operation.len() + entry.payload.as_ref().map_or(0, Bytes::len) + LogKey::BYTES;
        if is_cut
            && !batch.entries.is_empty()
            && (bytes + size > limits::BATCH_MAX_BYTES
                || batch.entries.len() >= limits::BATCH_ENTRIES_MAX
                || (chain.is_some() && batch.certificates.len() >= limits::BATCH_CHAINS_MAX))
        {
            let next = begin(batch.covered_through);
            cuts.sign_next(&mut batch);
            if !sink(DumpFrame::Log(Box::new(std::mem::replace(&mut batch, next)))) {
                return Ok(false);
            }
            (bytes, chains) = (0, log::Chains::default());
            chain = chains.next(snapshot, &entry.operation)?;
        }
        bytes += size;
        batch.covered_through = entry.clock;
        batch.entries.push(entry);
        batch.certificates.extend(chain);
    }
    if batch.after < through.0 {
        batch.covered_through = through.0;
        cuts.sign_next(&mut batch);
        return Ok(sink(DumpFrame::Log(Box::new(batch))));
    }
    Ok(true)
}
