//! Whether another member confirms that the donors of this node's fills have left nothing out.
//!
//! The member must have applied what a donor claimed. If it then holds the same as this node in a stretch of the
//! records, at whatever moments the two were read, the donor has left out nothing there that this member knows: states
//! only rise. So the confirmation goes on from stretch to stretch while writes continue, and from look to look. It
//! compares SHA-256 hashes, because a liar can choose records whose digests cancel out in the sum of a bucket.
//!
//! A member that was filled by the same donor, and is not confirmed itself, confirms only what it has written itself.

use std::ops::RangeInclusive;

use bytes::Bytes;
use tokio::time::Instant;

use super::{remote::Remote, repair};
use crate::{
    membership::peer::RemoteError,
    runtime::planted::{self, Bug},
    store::{Confirmed, Fill, RecordPage, Store},
};
use brock_core::{
    base::{
        id::{Incarnation, KeyHash, NodeId, Origin},
        limits,
    },
    domain::{codec::CodecError, digest::SetDigest},
    proto,
};

/// What a step has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing to confirm, or nothing that this member can confirm now.
    Idle,
    /// The next step goes on from here, soon.
    UnderWay,
    /// These buckets differ, again and again, whatever their digests say.
    Suspects(RangeInclusive<u8>),
    /// The member confirms these fills, or its part of them.
    Confirms(Vec<Confirmed>),
}

/// A pass over all records with one member.
#[derive(Debug)]
struct Pass {
    /// Of the member. Another one may have less.
    incarnation: u32,
    claims: Vec<Confirmed>,
    after: Option<KeyHash>,
    items: usize,
    differed: u32,
}

impl Pass {
    fn new(incarnation: u32, claims: Vec<Confirmed>) -> Self {
        Self { incarnation, claims, after: None, items: limits::CONFIRM_ITEMS, differed: 0 }
    }

    fn is_over(&self) -> bool {
        self.after == Some(RecordPage::END)
    }
}

/// The confirmation by one member, over several steps.
#[derive(Debug, Default)]
pub struct Confirmation {
    pass: Option<Pass>,
}

impl Confirmation {
    /// Compares as much as [`limits::CONFIRM_STEP`] allows with this member. Changes nothing in the store.
    pub async fn step(
        &mut self,
        store: &Store,
        (node_id, remote): (&NodeId, &impl Remote),
    ) -> Result<Step, RemoteError> {
        if store.unconfirmed_fills().iter().all(|fill| fill.donor == *node_id) {
            self.pass = None;
            return Ok(Step::Idle);
        }
        let (incarnation, claims, comparable) = confirmable(store, (node_id, remote)).await?;
        let is_same = |pass: &Pass| pass.incarnation == incarnation && pass.claims == claims;
        let continued = self.pass.take().filter(is_same);
        if claims.is_empty() {
            return Ok(Step::Idle);
        }
        let mut pass = continued.unwrap_or_else(|| Pass::new(incarnation, claims));
        let ended = pass.compare(store, remote, comparable).await;
        if !pass.is_over() {
            self.pass = Some(pass);
            return ended;
        }
        // IMPORTANT: after the last stretch. It may have been restarted without its storage, or filled, in between.
        let (incarnation, claims, _) = confirmable(store, (node_id, remote)).await?;
        let confirmed = claims.into_iter().filter(|claim| pass.claims.contains(claim));
        let confirmed = confirmed.filter(|_| incarnation == pass.incarnation).collect();
        Ok(Step::Confirms(confirmed))
    }
}

/// The member's incarnation, what it can confirm, and whether its tombstones can be compared. Of a fill that it cannot
/// confirm, it confirms what it has written itself since its last start: for that it needs no donor.
async fn confirmable(
    store: &Store,
    (node_id, remote): (&NodeId, &impl Remote),
) -> Result<(u32, Vec<Confirmed>, bool), RemoteError> {
    let theirs = remote.summary(false).await?;
    let applied = repair::applied(&theirs)?;
    let own = Origin::new(node_id, Incarnation(theirs.incarnation));
    let claim = |fill: Fill| {
        if fill.donor == *node_id {
            return None;
        }
        let depends = theirs.unconfirmed.iter().any(|donor| *donor == fill.donor.as_str());
        let depends = depends && !planted::is(Bug::ConfirmByDependent);
        if !depends && applied.covers(&store.without_frozen(fill.applied.clone())) {
            return Some(Confirmed::from(fill));
        }
        let mut left = fill.applied.clone();
        left.remove(&own);
        let has_its_own = applied.get(&own) >= fill.applied.get(&own);
        (left != fill.applied && has_its_own).then_some(Confirmed { fill, left })
    };
    let claims = store.unconfirmed_fills().into_iter().filter_map(claim).collect();
    let has_collected = theirs.digest.as_ref().is_some_and(|digest| digest.has_collected);
    Ok((theirs.incarnation, claims, store.collected().is_empty() && !has_collected))
}

impl Pass {
    /// Goes on until all is equal, the time is over, or a stretch of a single record differs: whatever is under way
    /// then is applied at both until the next step.
    async fn compare(
        &mut self,
        store: &Store,
        remote: &impl Remote,
        comparable: bool,
    ) -> Result<Step, RemoteError> {
        let until = Instant::now() + limits::CONFIRM_STEP;
        while !self.is_over() {
            if Instant::now() >= until {
                return Ok(Step::UnderWay);
            }
            let through = self.stretch(store, remote, comparable).await?;
            match through {
                Ok(through) => {
                    self.after = Some(through);
                    self.items = (self.items * 2).min(limits::CONFIRM_ITEMS);
                    self.differed = 0;
                }
                Err(_) if self.items > 1 => self.items = (self.items / 4).max(1),
                Err(through) => {
                    self.differed += 1;
                    if self.differed < limits::CONFIRM_LOOKS {
                        return Ok(Step::Idle);
                    }
                    self.differed = 0;
                    let first = self.after.as_ref().map_or(0, SetDigest::bucket_of);
                    return Ok(Step::Suspects(first..=SetDigest::bucket_of(&through)));
                }
            }
        }
        Ok(Step::UnderWay)
    }

    /// Where the next stretch of the member's ends: `Ok` = both hold the same there.
    async fn stretch(
        &self,
        store: &Store,
        remote: &impl Remote,
        comparable: bool,
    ) -> Result<Result<KeyHash, KeyHash>, RemoteError> {
        let after = self.after.map(|after| Bytes::copy_from_slice(&after.0)).unwrap_or_default();
        let items = u32::try_from(self.items).unwrap_or(u32::MAX);
        let theirs = remote.hash_records(proto::HashRecordsRequest { after, items }).await?;
        let malformed = || CodecError::Malformed("hash of records");
        let through = KeyHash::try_from(theirs.through.as_ref()).map_err(|_| malformed())?;
        if self.after.is_some_and(|after| through <= after) {
            return Err(malformed().into());
        }
        // One more is already a difference, but a tombstone may be collected there.
        let most = limits::CONFIRM_ITEMS * 2;
        let mine = store.hash_records(self.after, through, most).await?;
        let is_equal = mine.through == through
            && mine.records == *theirs.records
            && (!comparable || mine.tombstones == *theirs.tombstones);
        let is_equal = is_equal || planted::is(Bug::ConfirmBlindly);
        Ok(if is_equal { Ok(through) } else { Err(through) })
    }
}
