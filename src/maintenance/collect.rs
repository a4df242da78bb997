//! The collector: forgets tombstones, where that is configured.
//!
//! It does so in two steps. *Arming* notes what is stable, and everything that the members had applied by
//! then. *Collecting* happens once this node has applied all of that.

use std::time::Duration;

use prost::Message;

use crate::{
    membership::members::Members,
    runtime::planted::{self, Bug},
    store::{Store, StoreError},
};
use brock_core::{
    base::{limits, time::WallClock, vector::Vector},
    domain::{
        codec::{self, CodecError},
        record::UnixSeconds,
    },
    proto,
};

/// The name under which the store keeps the marks.
const MARKS: &[u8] = b"marks";

/// What was applied here at a time.
type Mark = (UnixSeconds, Vector);

/// A collection that has not happened yet.
#[derive(Debug, Clone)]
struct Armed {
    /// What every member had acknowledged.
    stable: Vector,
    /// What the members had applied by then: every operation that is concurrent with a delete below `stable`
    /// is in it.
    known: Vector,
    /// The members at that time. When they change, the collector arms again.
    members: Vec<String>,
}

/// Collects the tombstones of a store.
pub(super) struct Collector {
    store: Store,
    members: Members,
    /// How long a tombstone is kept at least; `None` = for ever.
    grace: Option<Duration>,
    wall_clock: WallClock,
    /// Oldest first; `None` = not read from the store yet.
    marks: Option<Vec<Mark>>,
    armed: Option<Armed>,
}

impl Collector {
    pub(super) fn new(
        store: Store,
        members: Members,
        grace: Option<Duration>,
        wall_clock: WallClock,
    ) -> Self {
        Self { store, members, grace, wall_clock, marks: None, armed: None }
    }

    /// Notes what is applied now, [`limits::MARKS_PER_GRACE`] times per grace.
    pub(super) async fn mark(&mut self) -> Result<(), StoreError> {
        let Some(grace) = self.grace else { return Ok(()) };
        let (now, applied) = (self.wall_clock.now(), self.store.applied());
        let grace_seconds = seconds(grace);
        let marks = self.marks().await?;
        // A clock that was set back would otherwise stop the marking for as long.
        marks.retain(|(at, _)| *at <= now);
        let apart = grace_seconds / i64::from(limits::MARKS_PER_GRACE);
        if marks.last().is_some_and(|(at, _)| now.saturating_sub(*at) < apart.max(1)) {
            return Ok(());
        }
        marks.push((now, applied));
        // Of the marks that are old enough, only the newest matters.
        let old = marks.iter().filter(|(at, _)| now.saturating_sub(*at) >= grace_seconds).count();
        marks.drain(..old.saturating_sub(1));
        let encoded = proto::Marks { marks: marks.iter().map(encode).collect() }.encode_to_vec();
        self.store.keep_note(MARKS, encoded).await
    }

    /// Forgets tombstones, of what is `stable` now or was when the collector was armed. Returns how many.
    ///
    /// Contract: a tombstone goes only when every member has acknowledged its delete, and when this node has
    /// applied everything that those members had applied by then. Every other operation on that key hash,
    /// wherever it was made, has then met the delete on this node, and none can bring the record back.
    pub(super) async fn collect(&mut self, stable: &Vector) -> Result<u64, StoreError> {
        let Some(grace) = self.grace else { return Ok(0) };
        // A quarantined create is applied and in no record: a node that learns from here what is forgotten
        // would take it for deleted.
        if self.store.quarantined() > 0 || self.store.totals().tombstones == 0 {
            return Ok(0);
        }
        let now = self.wall_clock.now();
        let marks = self.marks().await?;
        let old = marks.iter().rev().find(|(at, _)| now.saturating_sub(*at) >= seconds(grace));
        let old_enough = match old {
            Some((_, applied)) => applied.clone(),
            None if grace.is_zero() => self.store.applied(),
            None => return Ok(0),
        };
        if planted::is(Bug::CollectEarly) {
            return self.collect_below(&old_enough).await;
        }
        let members = self.members.watched_names(now);
        let armed = match self.armed.take() {
            Some(armed) if armed.members == members => armed,
            _ => Armed { stable: stable.clone(), known: self.members.known(now), members },
        };
        let known = self.store.without_frozen(armed.known.clone());
        if !self.store.applied().covers(&known) && !planted::is(Bug::CollectWithoutWaiting) {
            self.armed = Some(armed);
            return Ok(0);
        }
        self.collect_below(&armed.stable.meet(&old_enough)).await
    }

    async fn collect_below(&self, cut: &Vector) -> Result<u64, StoreError> {
        let (mut after, mut collected) = (None, 0);
        loop {
            let (found, next) = self.store.tombstones(after, cut.clone(), limits::COLLECT_BATCH).await?;
            if !found.is_empty() {
                collected += self.store.collect(found, cut.clone()).await? as u64;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(collected),
            }
        }
    }

    async fn marks(&mut self) -> Result<&mut Vec<Mark>, StoreError> {
        if self.marks.is_none() {
            let kept = self.store.note(MARKS).await?.unwrap_or_default();
            self.marks = Some(decode(&kept)?);
        }
        Ok(self.marks.get_or_insert_default())
    }
}

fn seconds(grace: Duration) -> i64 {
    i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)
}

fn encode((at, applied): &Mark) -> proto::marks::Mark {
    proto::marks::Mark { at_unix: *at, applied: Some(codec::vector_to_proto(applied)) }
}

fn decode(bytes: &[u8]) -> Result<Vec<Mark>, CodecError> {
    let kept = proto::Marks::decode(bytes).map_err(|_| CodecError::Malformed("marks"))?;
    let mark = |mark: proto::marks::Mark| {
        Ok((mark.at_unix, codec::vector_from_proto(&mark.applied.unwrap_or_default())?))
    };
    kept.marks.into_iter().map(mark).collect()
}
