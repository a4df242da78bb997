//! One round with a donor: the puller's end of a Replicate stream.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use tokio::{
    sync::{
        mpsc::{self, error::SendTimeoutError},
        watch,
    },
    time::Instant,
};
use tracing::Instrument as _;

use super::{announcer::Announcer, error::RoundError, inbox::Inbox, puller::Puller};
use crate::{
    membership::{duplicates::Place, origins::Supplier, peer::Peer},
    replication::{
        latency::Ages,
        resync::{ResyncError, Source},
        withheld,
    },
    runtime::{alarms, retry::Retry, spans},
    store::{Comparison, StoreError},
    transfer::{
        batch::{BatchError, Checked},
        join::JoinError,
        proof::ProofError,
        work,
    },
};
use brock_core::{
    base::{
        claims::{self, ClaimKind},
        id::{Incarnation, NodeId, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        birth::SignedBirth,
        codec,
        segment::{Segment, entry_bytes},
    },
    proto::{self, out_of_sync::Reason, replicate_request, replicate_response},
};
use brock_net::tls::roles::PeerIdentity;

/// A round with an identified donor.
pub(super) struct Round<'a> {
    puller: &'a Puller,
    /// For calls beside the stream.
    peer: Peer,
    requests: mpsc::Sender<proto::ReplicateRequest>,
    inbox: Inbox,
    donor: NodeId,
    /// Who the donor is, as far as its certificate proves it.
    holder: String,
    /// Changes when an operator lets a paused log go on.
    resumes: watch::Receiver<u64>,
    /// Acknowledges.
    announcer: Announcer,
    /// The origins of whose logs this node takes nothing more from the donor in this round.
    declined: HashSet<Origin>,
    /// What the donor has applied, as far as it has said.
    theirs: Vector,
    /// The donor has shown other histories than it could prove.
    lies_of_history: bool,
    /// The logs that it keeps back, with an alarm in this round.
    withheld: HashSet<Origin>,
}

impl<'a> Round<'a> {
    /// Takes the first message, which says who the donor is. Nothing is applied before that was checked
    /// against its certificate and the other peers. `dialled_at`: before its handshake.
    pub(super) async fn begin(
        puller: &'a Puller,
        peer: Peer,
        requests: mpsc::Sender<proto::ReplicateRequest>,
        mut inbox: Inbox,
        (identity, dialled_at): (&PeerIdentity, std::time::Instant),
        (announced, folds): (Vector, Vector),
    ) -> Result<Self, RoundError> {
        let replicate_response::Message::Heads(heads) = inbox.receive().await? else {
            return Err(RoundError::Protocol("it did not begin with its heads".to_owned()));
        };
        let malformed = |_| RoundError::Protocol("its node id is malformed".to_owned());
        let donor: NodeId = heads.node_id.parse().map_err(malformed)?;
        if let Some(certified) = identity.node_id()
            && certified != donor
        {
            return Err(RoundError::Identity { claimed: donor, certified });
        }
        let incarnation = Incarnation(heads.incarnation);
        let origin = Origin::new(&donor, incarnation);
        puller.roster.members().duplicates().saw(&origin, dialled_at, Place::At(peer.key.clone()));
        puller.roster.admit(&peer.key, (&donor, incarnation), puller.wall_clock.now())?;
        // A certificate that states no node id has a share of the names at each address.
        let nameless = identity.node_id().is_none();
        let introducer = nameless.then(|| format!("{} at {}", identity.holder(), peer.key));
        let is_entered = puller.roster.members().introduce(&donor, introducer.as_deref());
        if introducer.is_some() && !is_entered {
            return Err(RoundError::TooManyNames(donor));
        }
        let holder = introducer.unwrap_or_else(|| identity.holder());
        let mut round = Self {
            resumes: puller.breaker.resumes(),
            puller,
            peer,
            requests,
            inbox,
            donor,
            holder,
            announcer: Announcer::new(origin, announced),
            // Unless it says otherwise, the donor has folded the same origins.
            theirs: folds,
            declined: HashSet::new(),
            lies_of_history: false,
            withheld: HashSet::new(),
        };
        round.take_heads(heads, true).await?;
        for (origin, _) in puller.breaker.paused().iter().filter_map(|paused| paused.at) {
            puller.roster.decline(&round.peer.key, origin);
        }
        Ok(round)
    }

    /// Applies and acknowledges until the round's time is over and nothing is under way. The backoff
    /// restarts only once the donor has sent something useful after its heads: a peer whose every round
    /// fails at the first batch must not be dialled ten times a second for ever.
    pub(super) async fn follow(&mut self, until: Instant, retry: &mut Retry) -> Result<(), RoundError> {
        let mut commits = self.puller.store.commits();
        let mut announce_at = Instant::now();
        let mut dirty = true;
        loop {
            tokio::select! {
                biased;
                message = self.inbox.receive() => {
                    match message? {
                        replicate_response::Message::Heads(heads) => {
                            // Unless its log were enough, it would have said so before.
                            self.note_sound();
                            self.take_heads(heads, false).await?;
                        }
                        replicate_response::Message::Folds(folds) => self.take_folds(folds).await?,
                        replicate_response::Message::OutOfSync(out_of_sync) => {
                            self.resync(out_of_sync).await?;
                            retry.reset();
                            return Ok(());
                        }
                        replicate_response::Message::Batch(batch) => {
                            let span = spans::batch(self.peer.key.as_str(), batch.entries.len() as u64);
                            let applied = self.apply(batch).instrument(span.clone()).await;
                            spans::end(&span, applied.is_ok());
                            applied?;
                            self.announce().await?;
                        }
                    }
                    retry.reset();
                }
                // Operations from elsewhere are announced too, a little later and together: the donor then
                // does not relay them.
                () = tokio::time::sleep_until(announce_at), if dirty => {
                    self.announce().await?;
                    dirty = false;
                    announce_at = Instant::now() + limits::ANNOUNCE_INTERVAL;
                }
                // The next round asks for what this one has declined.
                Ok(()) = self.resumes.changed() => {
                    retry.reset();
                    return Ok(());
                }
                _ = commits.changed(), if !dirty => {
                    dirty = true;
                    announce_at = announce_at.max(Instant::now());
                }
                () = tokio::time::sleep_until(until) => {
                    retry.reset();
                    return Ok(());
                }
            }
        }
    }

    /// The donor says what it has applied: all of it if `fresh`, otherwise what changed.
    async fn take_heads(&mut self, heads: proto::Heads, fresh: bool) -> Result<(), RoundError> {
        let Puller { store, verifier, .. } = self.puller;
        let vector = codec::vector_from_proto(&heads.vector.unwrap_or_default())?;
        // First, because a frozen origin counts in no vector.
        if !self.lies_of_history
            && verifier.take_forks(heads.forks).await? + verifier.compare_tips(heads.tips).await? > 0
        {
            self.lies_of_history = true;
            self.refuse(ClaimKind::History);
        }
        if verifier.take_heads(heads.heads, self.puller.wall_clock.now_ms()).await? > 0 {
            self.refuse(ClaimKind::Head);
        }
        store.check_rollback(&vector, &self.holder).await?;
        let vector = store.relevant(vector, self.theirs.len());
        self.theirs.join(&vector);
        if fresh {
            let learnt = self.puller.orders.learn_closings(heads.closings).await?;
            if learnt.refused > 0 {
                self.refuse(ClaimKind::Closing);
            }
            let birth = heads.birth.and_then(|birth| SignedBirth::from_proto(birth).ok());
            let is_renewed = self.puller.verifier.renew(Vec::from_iter(birth)).await?;
            if is_renewed || learnt.taken > 0 {
                verifier.count_unbelieved().await?;
            }
        }
        let now = self.puller.wall_clock.now();
        let skew_seconds = heads.now_unix.saturating_sub(now);
        // The incarnation may be a newer one than at the beginning of the round.
        let life = (&self.donor, Incarnation(heads.incarnation));
        self.announcer.donates(Origin::new(life.0, life.1));
        self.puller.roster.heard(&self.peer.key, life, &vector, fresh, skew_seconds, now);
        self.puller.roster.weigh(&self.peer.key, &store.applied());
        let withheld = withheld::overdue(store, &self.puller.roster, self.puller.resyncs.report().is_some());
        withheld::report(withheld, &self.peer.key, &mut self.withheld, &self.puller.alarms);
        // At the first heads this node does not know yet what the donor has folded.
        if let Some(digest) = heads.digest.filter(|_| !fresh)
            && store.summary().compare(&self.theirs, &digest) == Comparison::Different
        {
            self.puller.differs.notify_one();
        }
        Ok(())
    }

    /// The donor has folded other origins away than this node.
    async fn take_folds(&mut self, folds: proto::Folds) -> Result<(), RoundError> {
        let store = &self.puller.store;
        let theirs = codec::folds_from_proto(folds)?;
        store.check_rollback(&theirs, &self.holder).await?;
        let mut mine = store.folds();
        // What is not taken from this donor is not waited for either: its log of a folded origin is gone, so it can
        // only be got by a resync, which would not take it.
        let declined = self.decline(theirs.iter().map(|(origin, _)| origin), false);
        let is_left_out = |origin: &Origin| declined.contains(origin) || store.is_frozen(origin);
        mine.join(&theirs.iter().filter(|(origin, _)| is_left_out(origin)).collect());
        self.theirs.join(&store.relevant(theirs, self.theirs.len()));
        self.send(replicate_request::Message::Folds(codec::folds_to_proto(&mine))).await
    }

    /// The donor's log is not enough: fills this node from its records, and ends the round. The next round
    /// begins where the records end.
    async fn resync(&mut self, out_of_sync: proto::OutOfSync) -> Result<(), RoundError> {
        let reason = match out_of_sync.reason() {
            Reason::BelowFloor => "its log is compacted beyond what this node has",
            Reason::Retired => "this node was retired, and has missed what happened since",
            Reason::Folded => "it has finished incarnations that this node has not seen to their end",
            Reason::Unspecified => {
                return Err(RoundError::Protocol("it did not say what its log lacks".to_owned()));
            }
            Reason::Cheaper => "its records are fewer than its log has entries",
        };
        let Puller { store, resyncs, roster, verifier, breaker, .. } = self.puller;
        let (client, verifier, present) =
            (self.peer.client.clone(), verifier.clone(), roster.members().present());
        let source = Source {
            client,
            supplier: self.supplier(),
            verifier,
            present,
            breaker: (breaker.clone(), self.peer.key.clone()),
            reason,
        };
        let filled = resyncs.run(store, roster.members(), &self.puller.alarms, source).await;
        match &filled {
            Ok(()) => self.note_sound(),
            Err(ResyncError::Join(JoinError::Unsigned(claimed))) => {
                self.puller.offer_births(&self.peer, claimed).await?;
            }
            Err(ResyncError::Join(error)) if error.kind() == Some(ClaimKind::Forged) => {
                self.puller.fills.note_unfilled(&self.donor, &self.peer.key, error);
                roster.refuse_records(&self.peer.key, true);
            }
            Err(_) => {}
        }
        match filled {
            // The next round shows whether that one was enough.
            Err(ResyncError::UnderWay) => {
                resyncs.ended().await;
                Ok(())
            }
            Err(ResyncError::Join(error)) => {
                if let Some(kind) = error.kind() {
                    self.refuse(kind);
                }
                if matches!(error, JoinError::Drops) && resyncs.reports_drops() {
                    let text = format!("a resync from the peer at {} was stopped: {error}", self.peer.key);
                    self.puller.alarms.raise_of(
                        alarms::Source::Peer(self.peer.key.to_string()),
                        "drops",
                        text,
                    );
                }
                Err(ResyncError::from(error).into())
            }
            outcome => Ok(outcome?),
        }
    }

    async fn apply(&mut self, mut batch: proto::Batch) -> Result<(), RoundError> {
        let store = &self.puller.store;
        let entries = batch.entries.len() as u64;
        let bytes = batch.entries.iter().map(|entry| entry_bytes(entry) as u64).sum();
        let ages = Ages::take(&mut batch, &self.donor, self.inbox.heard, self.inbox.round_trip / 2);
        let sent_through = batch.covered_through;
        let Some(Checked { segment, chains, refused }) = self.verified(batch).await? else { return Ok(()) };
        let origin = segment.origin;
        // By a refused operation, or where an operator has closed the log.
        let is_shortened = segment.covered_through.0 < sent_through;
        if self.declined.contains(&origin) {
            // Sent before the donor read that this node declines it.
            return Ok(());
        }
        store.keep_chains(chains).await?;
        if origin.is_of(store.node_id()) {
            let claim = [(origin, segment.covered_through)].into_iter().collect();
            store.check_rollback(&claim, &self.holder).await?;
        }
        if !self.decline([origin], true).is_empty() {
            return self.say_declined(origin).await;
        }
        let applied = store.clock(&origin);
        if segment.after <= applied && applied < segment.covered_through {
            self.puller.roster.sent(&self.peer.key, &origin, entries);
        }
        let mut admitted = self.puller.breaker.admit((&self.peer.key, &self.donor), segment).await?;
        if admitted.is_paused {
            self.refuse(ClaimKind::Destruction);
            self.say_declined(origin).await?;
        }
        let Some(segment) = admitted.segment.take() else { return Ok(()) };
        let born =
            segment.birth.as_ref().map(|signed| signed.birth).filter(|_| store.born(&origin).is_none());
        let Some(before) = self.applied(segment).await? else { return Ok(()) };
        born.iter().for_each(|birth| self.puller.note_birth(birth));
        ages.record(self.peer.key.as_str(), before);
        self.puller.breaker.count(&admitted);
        self.puller.roster.received(&self.peer.key, entries, bytes, self.puller.wall_clock.now());
        if let Some(refused) = refused {
            self.puller.orders.note_refused(self.peer.key.as_str(), &refused);
        }
        if is_shortened { self.say_declined(origin).await } else { Ok(()) }
    }

    /// A batch as far as it is believed; `None`: nothing of it, and the donor knows that.
    async fn verified(&mut self, batch: proto::Batch) -> Result<Option<Checked>, RoundError> {
        let Puller { store, verifier, .. } = self.puller;
        let (store, verifying, donor) = (store.clone(), verifier.clone(), self.donor.clone());
        // Milliseconds that do not belong on the async runtime.
        let checking = work(move || verifying.check_batch(&donor, batch, |origin| store.clock(origin)));
        match checking.await? {
            Ok(checked) => return Ok(Some(checked)),
            Err(BatchError::Malformed(error)) => {
                self.refuse(ClaimKind::Batch);
                return Err(error.into());
            }
            Err(BatchError::Proof(origin, ProofError::TwoBirths(other))) => {
                if !verifier.prove_two_births(*other).await? {
                    self.refuse(ClaimKind::Forged);
                }
                self.say_declined(origin).await?;
            }
            Err(BatchError::Proof(origin, forged)) => self.take_forged(origin, &forged).await?,
            Err(BatchError::Store(error)) => return Err(error.into()),
        }
        Ok(None)
    }

    /// Gives a segment to the store. Returns up to where the origin had been applied before; `None`: the log is not
    /// followed, and the donor knows that.
    async fn applied(&mut self, segment: Segment) -> Result<Option<Clock>, RoundError> {
        let (store, origin) = (&self.puller.store, segment.origin);
        let _no_resync = self.puller.resyncs.applying().await;
        let good = segment.before_quarantined(store.clock(&origin));
        let through = Stamp { origin, clock: segment.covered_through };
        // What cannot be applied may be a relay's forgery, and would keep the true entry out: the origin itself
        // is believed first.
        let waits = good.is_some() && !origin.is_of(&self.donor) && self.puller.roster.supplies(through);
        let (segment, declines) = match good.clone() {
            Some(good) if waits => (good, true),
            _ => (segment, false),
        };
        let mut outcome = store.apply(segment).await;
        if let (Err(error @ StoreError::QuarantineFull(_)), Some(good)) = (&outcome, good) {
            self.refuse(ClaimKind::Quarantine);
            tracing::warn!(address = %self.peer.key, %error, "a log is not followed any further");
            outcome = store.apply(good).await;
            self.say_declined(origin).await?;
        } else if declines {
            self.say_declined(origin).await?;
        }
        match outcome {
            Err(StoreError::Frozen(_)) => {}
            Err(StoreError::Forked { pair, .. }) => {
                let proven = match pair.map(|pair| *pair) {
                    Some((here, theirs)) => self.puller.verifier.prove_fork(origin, here, theirs).await?,
                    None => false,
                };
                if !proven {
                    self.refuse(ClaimKind::History);
                }
            }
            Err(error @ StoreError::RolledBack { theirs, .. }) => {
                store.rolled_back(theirs, &self.holder).await?;
                // The donor counts the batch as sent. A new hello asks for it again, as another
                // incarnation's.
                return Err(error.into());
            }
            outcome => return Ok(Some(outcome?)),
        }
        self.say_declined(origin).await?;
        Ok(None)
    }

    /// The donor then waits for no acknowledgement of what it has sent of that log, and goes on with the others.
    async fn say_declined(&mut self, origin: Origin) -> Result<(), RoundError> {
        self.declined.insert(origin);
        self.puller.roster.decline(&self.peer.key, origin);
        let origin = Bytes::copy_from_slice(origin.as_bytes());
        self.send(replicate_request::Message::Declined(proto::Declined { origin })).await
    }

    fn supplier(&self) -> Supplier {
        Supplier { node_id: self.donor.clone(), holder: self.holder.clone() }
    }

    /// Those of these origins that this node does not take from the donor, counted. `lists`: it takes the others.
    fn decline(&self, origins: impl IntoIterator<Item = Origin>, lists: bool) -> BTreeSet<Origin> {
        let Puller { store, roster, .. } = self.puller;
        let members = roster.members();
        members.origins().declined(store, members, &self.supplier(), origins, lists, &self.puller.alarms)
    }

    /// Counts a claim of the peer that is not believed.
    fn refuse(&self, kind: ClaimKind) {
        claims::refused(&self.peer.key, kind, 1);
    }

    fn note_sound(&self) {
        let Puller { store, orders, .. } = self.puller;
        // Of a log that is closed or frozen nothing is to come.
        let is_known = |origin: &Origin| {
            store.clock(origin) > Clock::default()
                || orders.closed(origin).is_some()
                || store.is_frozen(origin)
        };
        self.puller.fills.note_sound(&self.donor, is_known);
        self.puller.roster.refuse_records(&self.peer.key, false);
    }

    /// A batch that its origin did not sign. Nothing of it is applied or kept aside: the true one may come from
    /// another donor.
    async fn take_forged(&mut self, origin: Origin, forged: &ProofError) -> Result<(), RoundError> {
        self.refuse(ClaimKind::Forged);
        if self.declined.contains(&origin) {
            return Ok(());
        }
        let address = &self.peer.key;
        tracing::warn!(%address, %origin, error = %forged, "operations that are not proven were refused");
        let advice = forged.advice();
        let is_birth = matches!(forged, ProofError::Unborn(_) | ProofError::Birth { .. });
        if is_birth && self.puller.store.clock(&origin) == Clock::default() {
            self.puller.fills.note_refused(&self.donor, address, origin, &format!("{forged}. {advice}"));
        } else if origin.is_of(&self.donor) {
            let text = format!("the peer at {address}: {forged}. {advice}");
            self.puller.alarms.raise_of(alarms::Source::Peer(address.to_string()), "forged", text);
        }
        self.say_declined(origin).await
    }

    /// Sends what became durable here since the last announcement.
    async fn announce(&mut self) -> Result<(), RoundError> {
        match self.announcer.next(&self.puller.store).await? {
            Some(request) => self.say(request).await,
            None => Ok(()),
        }
    }

    async fn send(&self, message: replicate_request::Message) -> Result<(), RoundError> {
        self.say(proto::ReplicateRequest { message: Some(message), ..Default::default() }).await
    }

    async fn say(&self, request: proto::ReplicateRequest) -> Result<(), RoundError> {
        // A donor that does not read would otherwise stop this puller for ever.
        match self.requests.send_timeout(request, limits::STREAM_SILENCE_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => Err(RoundError::Deaf),
            Err(SendTimeoutError::Closed(_)) => Err(RoundError::Ended),
        }
    }
}
