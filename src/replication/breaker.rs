//! The circuit breaker on destruction: how much one node may invalidate, unpublish and delete here in a minute.
//!
//! What counts is what a peer brings: operations that destroy and are not applied here yet, and states of a resync
//! or a repair that would destroy a record that is alive here. They are counted by the node that brings them and the
//! node in whose name they are, so a peer that writes in another's name stops itself, not the other. The names that
//! this node does not know share one count, and so do the states, whose stamps no log confirms.
//!
//! An operation that another member than its donor and its origin has applied does not count: a paused log would not
//! be there. So a node that was away catches up, however much was deleted meanwhile, as soon as it hears a third one.
//!
//! Nor does one that destroys what is destroyed here already.
//!
//! A pause lasts until an operator ends it, also over a restart. The counts of the last minute do not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::{Instant, sleep},
};

use super::destruction;
use crate::{
    membership::{peer::PeerKey, roster::Roster},
    runtime::{
        alarms::{Alarms, Source},
        planted::{self, Bug},
    },
    store::{Store, StoreError},
};
use brock_core::{
    base::{
        id::{KeyHash, NodeId, Origin},
        limits, metrics as names,
        time::WallClock,
        vector::{Clock, Vector},
    },
    domain::{
        codec::CodecError,
        operation::Entry,
        record::{RecordState, UnixSeconds},
        segment::Segment,
    },
    proto,
};

/// The name under which the store keeps the pauses.
const NOTE: &[u8] = b"paused";

/// Who brings what is counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Brought {
    /// The peer that brings it. IMPORTANT: by its address, which an operator has written: a peer whose certificate
    /// states no node id could take another id at every round.
    by: PeerKey,
    of: Of,
}

/// What is brought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Of {
    /// The logs of a node.
    Node(NodeId),
    /// The logs of all nodes that are not known here.
    Strangers,
    /// States of records, in a resync or a repair.
    States,
}

/// A peer that brings something.
pub type Bringer<'a> = (&'a PeerKey, &'a NodeId);

/// A log that is not applied any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// The node in whose name it is, or that brings records as a whole: `node-admin origin resume` takes its name.
    pub node_id: NodeId,
    /// The peer that brought it.
    pub by: PeerKey,
    /// Whether that is the node itself: then nothing of it is taken from other peers either.
    pub is_direct: bool,
    /// The log, and how far it is applied here; `None` = states of a resync or a repair.
    pub at: Option<(Origin, Clock)>,
    /// Since when.
    pub since: UnixSeconds,
}

/// What of a segment is to be applied.
pub struct Admitted {
    /// `None`: nothing.
    pub segment: Option<Segment>,
    /// Whether the donor need not send more of this log for now.
    pub is_paused: bool,
    brought: Brought,
    counted: u64,
}

#[derive(Default)]
struct State {
    counts: HashMap<Brought, VecDeque<(Instant, u64)>>,
    paused: BTreeMap<Brought, Paused>,
    /// What operators let through: up to these clocks, and until then.
    resumed: HashMap<Brought, (Vector, Instant)>,
}

impl State {
    /// How much more may come in the current minute.
    fn room(&mut self, brought: &Brought, limit: u64, now: Instant) -> u64 {
        let Some(counts) = self.counts.get_mut(brought) else { return limit };
        counts.retain(|(at, _)| now.duration_since(*at) < limits::DESTRUCTION_WINDOW);
        limit.saturating_sub(counts.iter().map(|(_, count)| count).fold(0, |sum, n| sum.saturating_add(*n)))
    }

    /// Events of one second are one item, so that a window has a bounded number of them.
    fn count(&mut self, brought: &Brought, more: u64, now: Instant) {
        self.counts.retain(|_, counts| {
            counts.back().is_some_and(|(at, _)| now.duration_since(*at) < limits::DESTRUCTION_WINDOW)
        });
        let counts = self.counts.entry(brought.clone()).or_default();
        match counts.back_mut() {
            Some((at, count)) if now.duration_since(*at) < Duration::from_secs(1) => *count += more,
            _ => counts.push_back((now, more)),
        }
    }
}

struct Inner {
    limit: Option<u64>,
    store: Store,
    roster: Roster,
    wall_clock: WallClock,
    alarms: Alarms,
    state: Mutex<State>,
    /// Held while the pauses are written to the store, so that an earlier state cannot overwrite a later.
    writing: AsyncMutex<()>,
    resumes: watch::Sender<u64>,
}

/// The breaker of a node. Cheap to clone.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

impl Breaker {
    /// With the pauses that the store remembers. `limit`: `node.destruction-limit`; `None` = off.
    pub async fn new(
        limit: Option<u64>,
        (store, roster): (Store, Roster),
        (wall_clock, alarms): (WallClock, Alarms),
    ) -> Result<Self, StoreError> {
        let kept = store.note(NOTE).await?.unwrap_or_default();
        let damaged = CodecError::Malformed("paused logs");
        let kept = proto::PausedOrigins::decode(kept.as_slice()).map_err(|_| damaged.clone())?;
        let paused = kept.paused.into_iter().map(|paused| remembered(paused).ok_or(damaged.clone()));
        let paused = paused.collect::<Result<_, _>>()?;
        let breaker = Self(Arc::new(Inner {
            limit,
            store,
            roster,
            wall_clock,
            alarms,
            state: Mutex::new(State { paused, ..State::default() }),
            writing: AsyncMutex::default(),
            resumes: watch::Sender::new(0),
        }));
        breaker.show();
        Ok(breaker)
    }

    /// The logs that are paused here.
    pub fn paused(&self) -> Vec<Paused> {
        self.lock().paused.values().cloned().collect()
    }

    /// Changes when an operator lets a log go on: a round that has declined it ends then.
    pub fn resumes(&self) -> watch::Receiver<u64> {
        self.0.resumes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self) {
        metrics::gauge!(names::ORIGINS_PAUSED).set(self.lock().paused.len() as f64);
    }

    /// What of a segment from `donor` may be applied. The caller applies it, and then calls [`Breaker::count`].
    ///
    /// Contract: nothing above the limit is in the answer, but what another member has applied, or an operator has
    /// let through. The rest is paused, durably, before this returns.
    pub async fn admit(&self, donor: Bringer<'_>, mut segment: Segment) -> Result<Admitted, StoreError> {
        let node_id = segment.origin.node_id();
        let brought = self.brought(donor, &node_id);
        let admitted =
            |segment, is_paused, counted| Admitted { segment, is_paused, brought: brought.clone(), counted };
        let Some(limit) = self.limit() else { return Ok(admitted(Some(segment), false, 0)) };
        let applied = self.0.store.clock(&segment.origin);
        if segment.covered_through > applied && self.is_paused(&brought, &node_id) {
            return Ok(admitted(None, true, 0));
        }
        let idle = self.idle(&segment, applied).await?;
        if destruction::clocks(&segment, applied, &idle).is_empty() {
            return Ok(admitted(Some(segment), false, 0));
        }
        let deadline = Instant::now() + limits::WITNESS_PATIENCE;
        loop {
            let others = self.0.roster.applied_by_others(&segment.origin, donor, &node_id);
            let now = Instant::now();
            let (through, room) = {
                let mut state = self.lock();
                let let_through = state.resumed.get(&brought).filter(|(_, until)| now < *until);
                let let_through = let_through.map(|(vector, _)| vector.get(&segment.origin));
                (
                    applied.max(others.unwrap_or_default()).max(let_through.unwrap_or_default()),
                    state.room(&brought, limit, now),
                )
            };
            let counted = destruction::clocks(&segment, through, &idle);
            let Some(first_above) = usize::try_from(room).ok().and_then(|room| counted.get(room).copied())
            else {
                return Ok(admitted(Some(segment), false, counted.len() as u64));
            };
            // Another member may have it, and has not said so yet.
            if others.is_some() && now < deadline {
                sleep(limits::WITNESS_POLL).await;
                continue;
            }
            segment.cut_before(first_above);
            let last = segment.covered_through;
            self.pause(&brought, donor, Some((segment.origin, last.max(applied)))).await?;
            return Ok(admitted(Some(segment), true, room));
        }
    }

    /// Counts what was admitted, once it is applied.
    pub fn count(&self, admitted: &Admitted) {
        if admitted.counted > 0 {
            self.lock().count(&admitted.brought, admitted.counted, Instant::now());
        }
    }

    /// Whether states from `donor`, which did not come by the log, may be joined. They count.
    pub async fn admit_states(
        &self,
        donor: Bringer<'_>,
        states: &[(KeyHash, RecordState)],
    ) -> Result<bool, StoreError> {
        let Some(limit) = self.limit() else { return Ok(true) };
        let destroying: Vec<_> = states.iter().filter(|(_, state)| destruction::destroys(state)).collect();
        if destroying.is_empty() {
            return Ok(true);
        }
        let key_hashes = destroying.iter().map(|(key_hash, _)| *key_hash).collect();
        let here = self.0.store.get_many(key_hashes).await?;
        let both =
            destroying.iter().zip(&here).filter_map(|((_, theirs), here)| Some((here.as_ref()?, theirs)));
        let hit = both.filter(|(here, theirs)| destruction::would_destroy(here, theirs)).count() as u64;
        if hit == 0 {
            return Ok(true);
        }
        let (brought, now) = (Brought { by: donor.0.clone(), of: Of::States }, Instant::now());
        let is_above = {
            let mut state = self.lock();
            let is_let_through = state.resumed.get(&brought).is_some_and(|(_, until)| now < *until);
            let is_above = !is_let_through
                && (state.paused.contains_key(&brought) || hit > state.room(&brought, limit, now));
            if !is_above && !is_let_through {
                state.count(&brought, hit, now);
            }
            is_above
        };
        if is_above {
            self.pause(&brought, donor, None).await?;
        }
        Ok(!is_above)
    }

    /// Leaves out of `states` what destroys, if that may not be joined.
    pub async fn leave_admitted(
        &self,
        donor: Bringer<'_>,
        states: &mut Vec<(KeyHash, RecordState)>,
    ) -> Result<(), StoreError> {
        if !self.admit_states(donor, states).await? {
            states.retain(|(_, state)| !destruction::destroys(state));
        }
        Ok(())
    }

    /// Lets the paused logs of a node go on: everything that peers claim of them now, for the next hour. Returns
    /// what was paused. Durable when it returns.
    pub async fn resume(&self, node_id: &NodeId) -> Result<Vec<Paused>, StoreError> {
        let until = Instant::now() + limits::RESUMED_FOR;
        let claimed = self.0.roster.claimed_of(node_id);
        let resumed: Vec<_> = {
            let mut state = self.lock();
            let named = state.paused.iter().filter(|(_, paused)| paused.node_id == *node_id);
            let named: Vec<_> = named.map(|(brought, _)| brought.clone()).collect();
            named
                .into_iter()
                .filter_map(|brought| {
                    let paused = state.paused.remove(&brought)?;
                    state.counts.remove(&brought);
                    let mut claimed = claimed.clone();
                    if let Some((origin, _)) = paused.at {
                        claimed.raise(origin, self.0.roster.claimed(&origin));
                    }
                    state.resumed.insert(brought, (claimed, until));
                    Some(paused)
                })
                .collect()
        };
        if !resumed.is_empty() {
            self.remember().await?;
            self.show();
            tracing::warn!(%node_id, "an operator lets a paused log go on");
            self.0.resumes.send_modify(|resumes| *resumes += 1);
        }
        Ok(resumed)
    }

    fn limit(&self) -> Option<u64> {
        self.0.limit.filter(|_| !planted::is(Bug::IgnoreDestructionLimit))
    }

    /// The entries above `applied` that destroy what is destroyed here already: an origin that logs it again, so that
    /// it is proven, takes nothing away.
    async fn idle(&self, segment: &Segment, applied: Clock) -> Result<BTreeSet<Clock>, StoreError> {
        let entries: Vec<&Entry> = destruction::entries(segment, applied).collect();
        if entries.is_empty() {
            return Ok(BTreeSet::new());
        }
        let states = self.0.store.get_many(entries.iter().map(|entry| entry.key_hash).collect()).await?;
        let both = entries.into_iter().zip(states);
        let is_idle = |(entry, state): (&Entry, Option<RecordState>)| {
            state
                .is_some_and(|state| destruction::is_in_effect(&entry.operation, &state))
                .then_some(entry.clock)
        };
        Ok(both.filter_map(is_idle).collect())
    }

    fn brought(&self, (key, donor): Bringer<'_>, node_id: &NodeId) -> Brought {
        let members = self.0.roster.members();
        let is_known =
            node_id == donor || node_id == members.own_id() || members.remembers(node_id).is_some();
        Brought { by: key.clone(), of: if is_known { Of::Node(node_id.clone()) } else { Of::Strangers } }
    }

    /// A node that is paused itself is not relayed either.
    fn is_paused(&self, brought: &Brought, node_id: &NodeId) -> bool {
        let state = self.lock();
        let is_itself = |paused: &Paused| paused.is_direct && paused.node_id == *node_id;
        state.paused.contains_key(brought) || state.paused.values().any(is_itself)
    }

    async fn pause(
        &self,
        brought: &Brought,
        (key, donor): Bringer<'_>,
        at: Option<(Origin, Clock)>,
    ) -> Result<(), StoreError> {
        let paused = Paused {
            node_id: match &brought.of {
                Of::Node(node_id) => node_id.clone(),
                Of::Strangers | Of::States => donor.clone(),
            },
            by: key.clone(),
            is_direct: brought.of == Of::Node(donor.clone()),
            at,
            since: self.0.wall_clock.now(),
        };
        {
            let mut state = self.lock();
            // More than so many are the work of one liar. What is above the limit is not applied all the same.
            if state.paused.contains_key(brought) || state.paused.len() >= limits::PAUSED_MAX {
                return Ok(());
            }
            state.resumed.remove(brought);
            state.paused.insert(brought.clone(), paused.clone());
        }
        self.remember().await?;
        self.show();
        metrics::counter!(names::ORIGIN_PAUSES).increment(1);
        let limit = self.0.limit.unwrap_or_default();
        let Paused { node_id, by, at, .. } = paused;
        let what = match at {
            Some((origin, clock)) => {
                format!("the log {origin}, brought by the peer at {by}, is paused here after {clock}")
            }
            None => format!(
                "no state of a record that the peer at {by} sends in a resync or a repair destroys it here any more"
            ),
        };
        self.0.alarms.raise_of(
            Source::Peer(by.to_string()),
            "paused",
            format!(
                "{node_id} has invalidated, unpublished or deleted more than {limit} records within a minute \
                 (node.destruction-limit): {what}. If that is intended: `node-admin origin resume {node_id}` at every node. \
                 If not, revoke its certificate: docs/guides/troubleshooting.md, The log of a node is paused"
            ),
        );
        Ok(())
    }

    async fn remember(&self) -> Result<(), StoreError> {
        let _writing = self.0.writing.lock().await;
        let paused = self.lock().paused.iter().map(|(brought, paused)| to_proto(brought, paused)).collect();
        self.0.store.keep_note(NOTE, proto::PausedOrigins { paused }.encode_to_vec()).await
    }
}

/// As the store keeps it, and as a status shows it.
pub fn paused_to_proto(paused: &Paused) -> proto::PausedOrigin {
    proto::PausedOrigin {
        node_id: paused.node_id.to_string(),
        by: paused.by.to_string(),
        origin: paused
            .at
            .map(|(origin, _)| bytes::Bytes::copy_from_slice(origin.as_bytes()))
            .unwrap_or_default(),
        clock: paused.at.map(|(_, clock)| clock.0).unwrap_or_default(),
        since_unix: paused.since,
        shared: false,
        direct: paused.is_direct,
    }
}

fn to_proto(brought: &Brought, paused: &Paused) -> proto::PausedOrigin {
    proto::PausedOrigin { shared: brought.of == Of::Strangers, ..paused_to_proto(paused) }
}

fn remembered(kept: proto::PausedOrigin) -> Option<(Brought, Paused)> {
    let (node_id, by): (NodeId, PeerKey) = (kept.node_id.parse().ok()?, kept.by.as_str().into());
    let origin = Origin::try_from(kept.origin.as_ref()).ok();
    let at = origin.map(|origin| (origin, Clock(kept.clock)));
    let of = match (at, kept.shared) {
        (None, _) => Of::States,
        (Some(_), true) => Of::Strangers,
        (Some(_), false) => Of::Node(node_id.clone()),
    };
    let brought = Brought { by: by.clone(), of };
    Some((brought, Paused { node_id, by, at, is_direct: kept.direct, since: kept.since_unix }))
}
