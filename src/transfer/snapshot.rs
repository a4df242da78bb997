//! A whole store as messages: what a donor sends to a puller that its log cannot help any more, and
//! what the puller does with it. Knows no connections.
//!
//! It is a scan while writes go on, not a point in time. That is enough: states only rise, so every
//! record is sent as it was at the donor's vector of the beginning, or later, and joining what is
//! too early changes nothing. So a broken stream can go on where it ended, as long as the donor has
//! not been restarted.

use bytes::Bytes;

use crate::{
    runtime::planted::{self, Bug},
    store::{Adoption, Page, Store, StoreError, Stretch, keyed_state},
};
use brock_core::{
    base::{
        id::{Incarnation, KeyHash, NodeId, Origin},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{self, CodecError},
        segment::{Segment, SegmentError},
    },
    proto::{self, snapshot_response::Message},
};

/// Why a donor does not go on with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The cursor belongs to another life of the donor.
    #[error("this node was restarted since that snapshot began: begin anew")]
    Restarted,
    /// The cursor makes no sense.
    #[error("cursor: {0}")]
    Cursor(#[from] CodecError),
}

enum Stage {
    Header,
    Records(Option<KeyHash>),
    Log(Option<Stamp>),
    End,
    Done,
}

/// The donor's end.
pub struct SnapshotFeed {
    store: Store,
    incarnation: Incarnation,
    /// What the donor had applied when the snapshot began.
    vector: Vector,
    /// What the puller has applied.
    puller: Vector,
    stage: Stage,
    then: Stage,
}

impl SnapshotFeed {
    /// From the beginning, or from where a broken one ended.
    pub fn begin(store: Store, request: proto::SnapshotRequest) -> Result<Self, SnapshotError> {
        let incarnation = store.origin().incarnation();
        let puller = codec::vector_from_proto(&request.applied.unwrap_or_default())?;
        let Some(cursor) = request.cursor else {
            let vector = store.vector();
            let stage = (Stage::Header, Stage::Records(None));
            return Ok(Self { store, incarnation, vector, puller, stage: stage.0, then: stage.1 });
        };
        let vector = codec::vector_from_proto(&cursor.vector.unwrap_or_default())?;
        if cursor.incarnation != incarnation.0 || !store.applied().covers(&vector) {
            return Err(SnapshotError::Restarted);
        }
        let malformed = |_| CodecError::Malformed("cursor");
        let after = match cursor.after_key_hash.as_ref() {
            [] => None,
            bytes => Some(KeyHash::try_from(bytes).map_err(malformed)?),
        };
        let then = match (cursor.log, &cursor.after_stamp) {
            (false, _) => Stage::Records(after),
            (true, stamp) => {
                Stage::Log(stamp.as_ref().map(codec::stamp_from_proto).transpose().map_err(malformed)?)
            }
        };
        Ok(Self { store, incarnation, vector, puller, stage: Stage::Header, then })
    }

    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<proto::SnapshotResponse>, StoreError> {
        let message = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Header => {
                self.stage = std::mem::replace(&mut self.then, Stage::Done);
                Message::Header(self.header())
            }
            Stage::Records(after) => {
                let applied = self.store.applied();
                let page = self.store.record_page(after).await?;
                // IMPORTANT: after the page was read. What was collected while it was read may be
                // missing in it. But only as far as was applied before: a later create that the page
                // lacks was not deleted, it was not there yet.
                let collected = self.store.collected().meet(&applied);
                let collected = (!collected.is_empty()).then(|| codec::vector_to_proto(&collected));
                self.stage = if page.more { Stage::Records(Some(page.through)) } else { Stage::Log(None) };
                Message::Records(proto::RecordPage {
                    records: page
                        .states
                        .iter()
                        .map(|(key_hash, state)| keyed_state(*key_hash, state))
                        .collect(),
                    through: Bytes::copy_from_slice(&page.through.0),
                    collected,
                })
            }
            Stage::Log(after) => match self.log_page(after).await? {
                Some(batch) => {
                    let origin = Origin::try_from(batch.origin.as_ref()).ok();
                    let clock = Clock(batch.covered_through);
                    self.stage = Stage::Log(origin.map(|origin| Stamp { origin, clock }));
                    Message::Log(proto::LogPage { batch: Some(batch) })
                }
                None => {
                    self.stage = Stage::End;
                    Message::End(self.end())
                }
            },
            Stage::End | Stage::Done => return Ok(None),
        };
        Ok(Some(proto::SnapshotResponse { message: Some(message) }))
    }

    fn header(&self) -> proto::SnapshotHeader {
        proto::SnapshotHeader {
            node_id: self.store.node_id().to_string(),
            incarnation: self.incarnation.0,
            vector: Some(codec::vector_to_proto(&self.vector)),
            folds: Some(codec::folds_to_proto(&self.store.folds())),
            records: self.store.records() + self.store.totals().tombstones,
        }
    }

    fn end(&self) -> proto::SnapshotEnd {
        // Folded origins have no floor of their own: all of them is below it.
        let mut floors = self.store.floors();
        floors.join(&self.store.folds());
        proto::SnapshotEnd { floors: Some(codec::vector_to_proto(&floors)), collected: self.collected() }
    }

    fn collected(&self) -> Option<proto::Vector> {
        let collected = self.store.collected();
        (!collected.is_empty()).then(|| codec::vector_to_proto(&collected))
    }

    /// What the log still holds above `after`, origin by origin.
    async fn log_page(&self, after: Option<Stamp>) -> Result<Option<proto::Batch>, StoreError> {
        for (origin, through) in self.vector.iter() {
            let from = match after {
                Some(after) if origin < after.origin => continue,
                Some(after) if origin == after.origin => after.clock,
                _ => Clock::default(),
            };
            let from = from.max(self.puller.get(&origin));
            if let Some(changes) = self.store.retained_log(origin, from, through).await?
                && !changes.batch.entries.is_empty()
            {
                return Ok(Some(changes.batch));
            }
        }
        Ok(None)
    }
}

/// Why a snapshot could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The donor sent something that does not belong there.
    #[error("the donor broke the protocol: {0}")]
    Protocol(String),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CodecError> for JoinError {
    fn from(error: CodecError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<SegmentError> for JoinError {
    fn from(error: SegmentError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// What the header said.
struct Header {
    incarnation: u32,
    vector: Vector,
    folds: Vector,
    records: u64,
}

/// The puller's end. Remembers how far it came, so that a broken snapshot can go on.
pub struct Joiner {
    store: Store,
    donor: NodeId,
    header: Option<Header>,
    after: Option<KeyHash>,
    is_in_log: bool,
    after_stamp: Option<Stamp>,
    /// Whether the donor has collected tombstones.
    drops: bool,
    /// Records joined.
    pub records: u64,
    /// Log entries copied.
    pub log_entries: u64,
}

impl Joiner {
    /// Nothing has come yet.
    pub fn new(store: Store, donor: NodeId) -> Self {
        Self {
            store,
            donor,
            header: None,
            after: None,
            is_in_log: false,
            after_stamp: None,
            drops: false,
            records: 0,
            log_entries: 0,
        }
    }

    /// Whose records these are.
    pub fn donor(&self) -> &NodeId {
        &self.donor
    }

    /// Whether it may go on where it broke off. Not with a donor that has collected tombstones: what
    /// the pages took away may have come back from elsewhere meanwhile.
    pub fn is_resumable(&self) -> bool {
        !self.drops
    }

    /// How many records there will be, roughly.
    pub fn expected(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.records)
    }

    /// What to ask the donor for.
    pub fn request(&self) -> proto::SnapshotRequest {
        let cursor = self.header.as_ref().map(|header| proto::SnapshotCursor {
            incarnation: header.incarnation,
            after_key_hash: self.after.map(|after| Bytes::copy_from_slice(&after.0)).unwrap_or_default(),
            log: self.is_in_log || self.after == Some(KeyHash([0xff; 32])),
            after_stamp: self.after_stamp.map(codec::stamp_to_proto),
            vector: Some(codec::vector_to_proto(&header.vector)),
        });
        proto::SnapshotRequest {
            node_id: self.store.node_id().to_string(),
            cursor,
            applied: Some(codec::vector_to_proto(&self.store.applied())),
        }
    }

    /// Joins one message, durably. Returns whether it was the last.
    ///
    /// Contract: until the last one, nothing is taken over but states, and joining those is always
    /// safe. The last one raises the vector over everything that the pages held.
    pub async fn take(&mut self, message: proto::SnapshotResponse) -> Result<bool, JoinError> {
        let message = message.message.ok_or_else(|| JoinError::Protocol("an empty message".to_owned()))?;
        match message {
            Message::Header(header) => self.take_header(header).await?,
            Message::Records(page) => self.take_records(page).await?,
            Message::Log(page) => {
                let batch = page.batch.unwrap_or_default();
                let entries = batch.entries.len() as u64;
                let segment = Segment::check(batch)?;
                let through = self.header.as_ref().map(|header| header.vector.get(&segment.origin));
                if through.is_none_or(|through| segment.covered_through > through) {
                    return Err(JoinError::Protocol("its log goes beyond its header".to_owned()));
                }
                let last = Stamp { origin: segment.origin, clock: segment.covered_through };
                self.store.import_log(segment).await?;
                self.is_in_log = true;
                self.after_stamp = Some(last);
                self.log_entries += entries;
            }
            Message::End(end) => {
                let Some(header) = &self.header else {
                    return Err(JoinError::Protocol("its end came before its header".to_owned()));
                };
                if self.after != Some(KeyHash([0xff; 32])) {
                    return Err(JoinError::Protocol("its end came before its last record".to_owned()));
                }
                let floors = codec::vector_from_proto(&end.floors.unwrap_or_default())?;
                let collected = codec::vector_from_proto(&end.collected.unwrap_or_default())?;
                self.store.adopt(Adoption { floors, collected, ..adoption(header) }).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn take_header(&mut self, header: proto::SnapshotHeader) -> Result<(), JoinError> {
        if header.node_id != self.donor.as_str() {
            return Err(JoinError::Protocol("it is another node's".to_owned()));
        }
        let fresh = Header {
            incarnation: header.incarnation,
            vector: codec::vector_from_proto(&header.vector.unwrap_or_default())?,
            folds: codec::folds_from_proto(header.folds.unwrap_or_default())?,
            records: header.records,
        };
        // The donor may know more of this node than this node does: then the storage was rolled
        // back, and the clocks that it holds are not to be used again.
        let theirs = fresh.vector.get(&self.store.origin()).max(fresh.folds.get(&self.store.origin()));
        self.store.rolled_back(theirs).await?;
        if planted::is(Bug::AdoptFirst) {
            self.store.adopt(adoption(&fresh)).await?;
        }
        match &self.header {
            Some(known) if known.incarnation == fresh.incarnation && known.vector == fresh.vector => {}
            Some(_) => return Err(JoinError::Protocol("it went on with another snapshot".to_owned())),
            None => self.header = Some(fresh),
        }
        Ok(())
    }

    async fn take_records(&mut self, page: proto::RecordPage) -> Result<(), JoinError> {
        if self.header.is_none() {
            return Err(JoinError::Protocol("its records came before its header".to_owned()));
        }
        let malformed = |_| JoinError::Protocol("a record's key hash is malformed".to_owned());
        let through = KeyHash::try_from(page.through.as_ref()).map_err(malformed)?;
        let mut states = Vec::with_capacity(page.records.len());
        let mut last = self.after;
        for record in page.records {
            let key_hash = KeyHash::try_from(record.key_hash.as_ref()).map_err(malformed)?;
            if last.is_some_and(|last| key_hash <= last) || key_hash > through {
                return Err(JoinError::Protocol("a page has a record out of order".to_owned()));
            }
            last = Some(key_hash);
            let state = record.state.unwrap_or_default();
            states.push((key_hash, codec::foreign_state(state)?));
        }
        if self.after.is_some_and(|after| through <= after) {
            return Err(JoinError::Protocol("a page ends before it begins".to_owned()));
        }
        let collected = codec::vector_from_proto(&page.collected.unwrap_or_default())?;
        self.drops |= !collected.is_empty();
        self.records += states.len() as u64;
        let stretch = Stretch { after: self.after, through, collected };
        self.store.join(Page { states, complete: Some(stretch) }).await?;
        self.after = Some(through);
        Ok(())
    }
}

fn adoption(header: &Header) -> Adoption {
    Adoption { vector: header.vector.clone(), folds: header.folds.clone(), ..Adoption::default() }
}
