//! Single records from a backup, without a storage for all records.
//!
//! Every object is checked against its manifest before it is read. Whether the backup as a whole restores
//! to what the node held is checked only by `verify`.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    error::{RestoreError, io_error},
    fetch::{fetch, local},
    parts::{PartError, PartReader},
    restore::{Progress, Restore},
};
use crate::transfer::join::JoinError;
use brock_core::{
    base::{id::KeyHash, limits, vector::Stamp},
    domain::{
        codec,
        record::RecordState,
        segment::{Segment, SegmentEntry},
    },
    proto::{self, backup_frame::Frame, snapshot_response::Message},
};

/// Records by their key hash.
pub type Extracted = BTreeMap<KeyHash, RecordState>;

impl Restore<'_> {
    /// The states of the records that `wants` selects, each joined from all states in the backup. Keeps
    /// the objects in `staging` while it reads them.
    pub async fn extract(
        &self,
        staging: &Path,
        wants: impl Fn(&KeyHash) -> bool,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Extracted, RestoreError> {
        self.check_identity()?;
        let parts = || self.chain.iter().flat_map(|known| &known.manifest.parts);
        let mut done = Progress { total_bytes: parts().map(|part| part.bytes).sum(), ..Progress::default() };
        let mut found = Extracted::new();
        for known in self.chain {
            let identity = self.identity.filter(|_| !known.manifest.recipients.is_empty());
            for part in &known.manifest.parts {
                let path = local(staging, part);
                fetch(self.target, part, &path).await?;
                let mut reader = PartReader::open(&path, &part.key, identity)?;
                while let Some(frame) = reader.next_frame()? {
                    let frame = frame.frame.ok_or_else(|| PartError::Malformed(part.key.clone()))?;
                    take(frame, &wants, &mut found)?;
                    if found.len() > limits::BACKUP_EXTRACT_RECORDS {
                        return Err(RestoreError::TooMany);
                    }
                }
                fs::remove_file(&path).map_err(io_error(&path))?;
                done.bytes += part.bytes;
                done.records = found.len() as u64;
                progress(done);
            }
        }
        Ok(found)
    }
}

fn take(frame: Frame, wants: &impl Fn(&KeyHash) -> bool, found: &mut Extracted) -> Result<(), RestoreError> {
    match frame {
        Frame::Snapshot(proto::SnapshotResponse { message: Some(Message::Records(page)) }) => {
            for record in page.records {
                let malformed = |_| JoinError::Protocol("a record's key hash is malformed".to_owned());
                let key_hash = KeyHash::try_from(record.key_hash.as_ref()).map_err(malformed)?;
                if wants(&key_hash) {
                    let state = codec::foreign_state(record.state.unwrap_or_default());
                    join(found, key_hash, state.map_err(JoinError::from)?);
                }
            }
        }
        // The records of a full backup reflect its log already.
        Frame::Snapshot(_) => {}
        Frame::Batch(batch) => {
            let segment = Segment::check(batch)?;
            for entry in segment.entries {
                let SegmentEntry::Applicable(entry, payload) = entry else { continue };
                if wants(&entry.key_hash) {
                    let stamp = Stamp { origin: segment.origin, clock: entry.clock };
                    join(found, entry.key_hash, entry.operation.state(stamp, payload));
                }
            }
        }
    }
    Ok(())
}

fn join(found: &mut Extracted, key_hash: KeyHash, state: RecordState) {
    let known = found.remove(&key_hash).unwrap_or_default();
    found.insert(key_hash, known.join(state));
}
