//! The donor's end of a snapshot: the messages of a whole store, for a puller that the log cannot
//! help any more. Knows no connections.
//!
//! It is a scan while writes continue, not a point in time. That is enough: states only rise, so every
//! record is sent as it was at the donor's vector of the beginning, or later, and joining a state that
//! is too early changes nothing. So an interrupted stream can continue where it ended, as long as the
//! donor has not been restarted.

use std::collections::{BTreeSet, HashMap};

use super::messages;
use crate::store::{BirthsPage, RecordPage, SentBundles, Store, StoreError};
use brock_core::{
    base::{
        id::{Incarnation, KeyHash, Origin},
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        bundle::Tip,
        codec::{self, CodecError},
        evidence::Evidence,
    },
    proto,
};

/// Why a donor does not continue a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The cursor belongs to another life of the donor.
    #[error("this node was restarted since that snapshot began: begin again")]
    Restarted,
    /// The cursor makes no sense.
    #[error("cursor: {0}")]
    Cursor(#[from] CodecError),
}

enum Stage {
    Header,
    Births(Option<Origin>),
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
    /// The last bundles of these logs; empty if the snapshot continues, because those of then are not known any more.
    tips: HashMap<Origin, Tip>,
    /// What the puller has applied.
    puller: Vector,
    stage: Stage,
    then: Stage,
    /// The origins whose births were sent.
    born: BTreeSet<Origin>,
    /// The bundles that its pages had.
    sent: SentBundles,
    /// The page after the births that it needs.
    page: Option<proto::SnapshotResponse>,
}

impl SnapshotFeed {
    /// From the beginning, or from where an interrupted one ended.
    pub fn begin(store: Store, request: proto::SnapshotRequest) -> Result<Self, SnapshotError> {
        let incarnation = store.origin().incarnation();
        let puller = codec::vector_from_proto(&request.applied.unwrap_or_default())?;
        let Some(cursor) = request.cursor else {
            let (vector, tips) = store.vector_with_tips();
            let (stage, then) = (Stage::Header, Stage::Records(None));
            return Ok(Self { tips, ..Self::at(store, incarnation, (vector, puller), (stage, then)) });
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
        Ok(Self::at(store, incarnation, (vector, puller), (Stage::Header, then)))
    }

    fn at(
        store: Store,
        incarnation: Incarnation,
        (vector, puller): (Vector, Vector),
        (stage, then): (Stage, Stage),
    ) -> Self {
        let (tips, born, sent) = (HashMap::new(), BTreeSet::new(), SentBundles::default());
        Self { store, incarnation, vector, tips, puller, stage, then, born, sent, page: None }
    }

    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<proto::SnapshotResponse>, StoreError> {
        if let Some(page) = self.page.take() {
            return Ok(Some(page));
        }
        let message = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Header => {
                self.stage = Stage::Births(None);
                let (folds, totals) = (self.store.folds(), self.store.totals());
                let (applied, unconfirmed) = ((&self.vector, &folds), self.store.unconfirmed_fills());
                messages::header(self.store.node_id(), self.incarnation, applied, totals, unconfirmed)
            }
            Stage::Births(after) => {
                let BirthsPage { births, tips, next } = self.store.births_with_tips(after).await?;
                // As they were at the header's vector, if that is known.
                let then = |(origin, now): (Origin, Tip)| {
                    let then = self.tips.get(&origin).filter(|then| then.bundle.last() < now.bundle.last());
                    (origin, then.copied().unwrap_or(now))
                };
                let tips = tips.into_iter().map(then).collect();
                self.stage = match next {
                    Some(last) => Stage::Births(Some(last)),
                    None => std::mem::replace(&mut self.then, Stage::Done),
                };
                self.births(births, tips)
            }
            Stage::Records(after) => {
                let applied = self.store.applied();
                let sent = std::mem::take(&mut self.sent);
                let (page, sent) = self.store.record_page(after, sent).await?;
                self.sent = sent;
                // IMPORTANT: after the page was read. Tombstones that were collected meanwhile may be
                // missing in it. But only as far as was applied before: a later create that the page
                // lacks was not deleted, it was not there yet.
                let collected = self.store.collected().meet(&applied);
                self.stage = if page.more { Stage::Records(Some(page.through)) } else { Stage::Log(None) };
                let chains = self.store.chains_of(page.states.iter().map(|(_, state)| state)).await?;
                let unsent = self.unsent_births(&page).await?;
                let page = messages::records(&page, &collected, chains);
                if unsent.is_empty() {
                    page
                } else {
                    self.page = Some(page);
                    self.births(unsent, Vec::new())
                }
            }
            Stage::Log(after) => match self.log_page(after).await? {
                Some(batch) => {
                    let origin = Origin::try_from(batch.origin.as_ref()).ok();
                    let clock = Clock(batch.covered_through);
                    self.stage = Stage::Log(origin.map(|origin| Stamp { origin, clock }));
                    messages::log(batch)
                }
                None => {
                    self.stage = Stage::End;
                    messages::end(&self.store.collected())
                }
            },
            Stage::End | Stage::Done => return Ok(None),
        };
        Ok(Some(message))
    }

    fn births(&mut self, births: Vec<proto::Birth>, tips: Vec<(Origin, Tip)>) -> proto::SnapshotResponse {
        self.born.extend(births.iter().filter_map(|birth| Origin::try_from(birth.origin.as_ref()).ok()));
        messages::births(births, tips)
    }

    /// Births that the page needs and that were not known here yet when all others were sent: a record that a repair or
    /// another resync has brought meanwhile may be of an origin that the vector does not list.
    async fn unsent_births(&self, page: &RecordPage) -> Result<Vec<proto::Birth>, StoreError> {
        let is_unsent = |(stamp, _): &(Stamp, Evidence)| !self.born.contains(&stamp.origin);
        let states = page.states.iter().map(|(_, state)| state);
        let births =
            self.store.births_of(states.filter(|state| state.evidence.iter().any(is_unsent))).await?;
        let is_new = |birth: &proto::Birth| {
            Origin::try_from(birth.origin.as_ref()).is_ok_and(|origin| !self.born.contains(&origin))
        };
        Ok(births.into_iter().filter(is_new).collect())
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
