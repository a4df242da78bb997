//! The network between the nodes: it loses, repeats, reorders and delays, and parts them one way or
//! both. The two ends of a stream do what `replication/pull` and `replication/donor` do.

use std::time::Duration;

use super::{
    liars::Lie,
    node::{Feeding, Stream, verifier},
    world::World,
};
use brock::{
    membership::members::Admission,
    replication::donor::{
        feed::{Feed, Next},
        session::{self, Announced},
    },
    store::StoreError,
};
use brock_core::{
    base::{
        id::{Incarnation, Origin},
        trust::TrustMode,
        vector::{Clock, Vector},
    },
    domain::{codec, segment::Segment},
    proto::{self, out_of_sync::Reason},
};
use rand::Rng;
use tokio::time::Instant;

/// On its way from a node (`None` = the ghost) to another.
#[derive(Debug, Clone)]
pub struct Flight {
    pub from: Option<usize>,
    pub to: usize,
    pub message: Message,
    /// How the message was altered.
    pub lie: Option<Lie>,
}

/// Who speaks: which of its disks, and which of its lives.
#[derive(Debug, Clone, Copy)]
pub struct Speaker {
    life: u32,
    incarnation: Incarnation,
}

/// What nodes tell each other.
#[derive(Debug, Clone)]
pub enum Message {
    /// Of a puller: what it has applied, and what it has folded away.
    Hello(Speaker, Vector, Vector),
    /// Of a donor: all that it has applied, or what changed.
    Heads(Speaker, Box<proto::Heads>, bool),
    Batch(Box<proto::Batch>),
    Acknowledgement(Speaker, Vector),
    OutOfSync(Reason),
    /// Of a puller: it takes nothing more of that log.
    Declined(Origin),
}

/// Batches on their way at once to a puller that does not answer.
const SERVED_AT_ONCE: usize = 3;

impl World {
    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.hears[to][from] {
            let (message, lie) = self.leave(from, to, message);
            self.flights.push(Flight { from: Some(from), to, message, lie });
        }
    }

    fn speaker(&self, node: usize) -> Option<Speaker> {
        let incarnation = self.running(node)?.store.origin().incarnation();
        Some(Speaker { life: self.nodes[node].disk.life, incarnation })
    }

    /// A puller begins a round with a donor.
    pub fn say_hello(&mut self, puller: usize, donor: usize) {
        let Some(speaker) = self.speaker(puller) else { return };
        let Some(running) = self.running_mut(puller) else { return };
        let (vector, folds) = (running.store.vector(), running.store.folds());
        running.streams.insert(donor, Stream { announced: vector.clone(), ..Stream::default() });
        self.send(puller, donor, Message::Hello(speaker, vector, folds));
    }

    /// Some flights arrive, are lost, or arrive and come once more.
    pub async fn arrive(&mut self) {
        for _ in 0..self.random.random_range(1..=4) {
            if self.flights.is_empty() {
                return;
            }
            let flight = self.flights.swap_remove(self.random.random_range(0..self.flights.len()));
            let is_acknowledgement = matches!(flight.message, Message::Acknowledgement(..));
            match self.random.random_range(0..20) {
                0 | 1 => {
                    self.tally.add("flights lost", 1);
                    self.tally.add("acknowledgements late or lost", u64::from(is_acknowledgement));
                    continue;
                }
                2 | 3 => {
                    self.tally.add("flights repeated", 1);
                    self.tally.add("acknowledgements late or lost", u64::from(is_acknowledgement));
                    self.flights.push(flight.clone());
                }
                _ => {}
            }
            self.deliver(flight).await;
        }
    }

    pub async fn deliver(&mut self, flight: Flight) {
        let Flight { from, to, message, lie } = flight;
        let Some(running) = self.running(to) else { return };
        if matches!(message, Message::Batch(_)) && running.is_removing() {
            // The puller waits with it.
            self.flights.push(Flight { from, to, message, lie });
            return;
        }
        self.touched.insert(to);
        match (from, message) {
            (Some(from), Message::Batch(batch)) if self.is_strict() => {
                match self.take_doubted(to, from, *batch, lie).await {
                    true => self.announce(to, from),
                    false => self.end_round(to, from),
                }
            }
            (from, Message::Batch(batch)) => self.take_batch(to, from, *batch).await,
            (Some(from), Message::Hello(speaker, vector, folds)) => {
                self.welcome(to, from, speaker, (vector, folds)).await;
            }
            (Some(from), Message::Heads(speaker, heads, is_all)) => {
                self.take_heads(to, from, (speaker, is_all), (*heads, lie)).await;
            }
            (Some(from), Message::Acknowledgement(speaker, vector)) => {
                self.take_acknowledgement(to, from, speaker, vector).await;
            }
            (Some(from), Message::OutOfSync(reason)) => self.begin_resync(to, from, reason).await,
            (Some(from), Message::Declined(origin)) => {
                let feeding = self.running_mut(to).and_then(|running| running.feeds.get_mut(&from));
                feeding.into_iter().for_each(|feeding| feeding.feed.decline(origin));
            }
            (None, message) => panic!("the ghost says nothing but batches, not {message:?}"),
        }
    }

    /// A donor hears a hello, and begins a feed or refuses.
    async fn welcome(&mut self, donor: usize, puller: usize, speaker: Speaker, said: (Vector, Vector)) {
        let (vector, folds) = said;
        let name = self.nodes[puller].id.clone();
        let Some(running) = self.nodes[donor].running.as_ref() else { return };
        let (store, members) = (running.store.clone(), running.members.clone());
        let now = running.wall_clock.now();
        if store.check_rollback(&vector, name.as_str()).await.is_err() {
            return;
        }
        let mut told = Announced::to(vector.clone());
        self.send_heads(donor, puller, &mut told, true);
        members.leave_out(store.forks().iter().map(|fork| fork.origin()));
        let mine = store.folds();
        let same = codec::folds_digest(&folds) == codec::folds_digest(&mine);
        let mut applied = vector;
        applied.join(if same { &mine } else { &folds });
        self.told[donor][puller].says_hello(speaker.life);
        let admission = members.hello(&name, speaker.incarnation, &applied, now);
        self.check_admission(donor, puller, &applied, admission);
        if let Some(refusal) = session::out_of_sync(&store, &applied, admission) {
            self.refuse(donor, puller, refusal.reason());
            return;
        }
        let feed = Feed::new(store.node_id().clone(), applied, Duration::ZERO);
        if let Some(running) = self.running_mut(donor) {
            running.feeds.insert(puller, Feeding { feed, told });
        }
    }

    /// Claim: a retired node is a member again when it has everything that this node had when it
    /// retired it, and not before.
    fn check_admission(&mut self, donor: usize, puller: usize, applied: &Vector, admission: Admission) {
        let missed = self.nodes[donor].disk.retired.get(&puller);
        let expected = match missed {
            Some(missed) if !applied.covers(missed) => Admission::Retired,
            _ => Admission::Member,
        };
        assert!(admission == expected, "{puller} at {donor}, which retired it, is a {admission:?}");
        if admission == Admission::Member && missed.is_some() {
            self.tally.add("retired nodes that came back", 1);
            self.nodes[donor].disk.retired.remove(&puller);
        }
    }

    fn refuse(&mut self, donor: usize, puller: usize, reason: Reason) {
        if let Some(running) = self.running_mut(donor) {
            running.feeds.remove(&puller);
        }
        let counted = match reason {
            Reason::BelowFloor => "refused by a floor",
            Reason::Retired => "refused as retired",
            Reason::Folded => "refused as folded",
            Reason::Cheaper => "refused as cheaper",
            Reason::Unspecified => panic!("{donor} does not say why"),
        };
        self.tally.add(counted, 1);
        self.note(format!("{donor} refuses {puller}: {reason:?}"));
        self.send(donor, puller, Message::OutOfSync(reason));
    }

    fn send_heads(&mut self, donor: usize, puller: usize, told: &mut Announced, is_all: bool) {
        let Some(speaker) = self.speaker(donor) else { return };
        let Some(running) = self.running(donor) else { return };
        let store = running.store.clone();
        let heads = session::heads(&store, &running.wall_clock, told);
        self.note_heads(&store, &heads);
        self.send(donor, puller, Message::Heads(speaker, Box::new(heads), is_all));
    }

    /// Claim: no two nodes have different histories of an origin that has signed one.
    async fn take_heads(
        &mut self,
        puller: usize,
        donor: usize,
        (speaker, is_all): (Speaker, bool),
        (mut heads, lie): (proto::Heads, Option<Lie>),
    ) {
        let (name, address) = (self.nodes[donor].id.clone(), self.nodes[donor].address.clone());
        let Some(store) = self.store(puller) else { return };
        let vector = codec::vector_from_proto(&heads.vector.take().unwrap_or_default());
        let vector = vector.expect("stores send well-formed vectors");
        if self.is_strict() {
            self.take_histories(puller, donor, &mut heads, lie).await;
        } else {
            self.compare_histories(puller, donor, &mut heads).await;
        }
        let is_refused = store.check_rollback(&vector, name.as_str()).await.is_err();
        if is_refused && self.is_strict() {
            self.end_round(puller, donor);
            return;
        }
        let vector = store.relevant(vector, 0);
        self.told[puller][donor].says_heads(speaker.life, is_all);
        let Some(running) = self.running_mut(puller) else { return };
        let now = running.wall_clock.now();
        running.skews.insert(donor, heads.now_unix.saturating_sub(now));
        running.members.heard(&address.as_str().into(), (&name, speaker.incarnation), &vector, is_all, now);
    }

    /// The heads of nodes none of which lies: the clocks of some may be years off.
    async fn compare_histories(&mut self, puller: usize, donor: usize, heads: &mut proto::Heads) {
        let Some(running) = self.running(puller) else { return };
        let (store, now_ms) = (running.store.clone(), running.wall_clock.now_ms());
        let trust = verifier(&store, TrustMode::Distributed);
        let (tips, signed) = (std::mem::take(&mut heads.tips), std::mem::take(&mut heads.heads));
        self.tally.add("logs compared by their last bundles", tips.len() as u64);
        self.tally.add("heads shown", signed.len() as u64);
        assert_eq!(trust.compare_tips(tips).await, Ok(0), "{puller} is shown another history by {donor}");
        trust.take_heads(signed, now_ms).await.expect("the store freezes nothing");
        let frozen = store.forks();
        assert!(frozen.is_empty(), "{puller} has frozen what has one history: {frozen:?}");
    }

    /// A round has failed: the next one begins with a hello.
    fn end_round(&mut self, puller: usize, donor: usize) {
        if let Some(running) = self.running_mut(puller) {
            running.streams.remove(&donor);
        }
    }

    /// A donor sends what it may.
    pub async fn serve(&mut self, donor: usize, puller: usize) {
        if self.random.random_bool(0.5) {
            self.show_a_face(donor, puller);
        }
        for _ in 0..self.random.random_range(1..=SERVED_AT_ONCE) {
            if !self.serve_once(donor, puller).await {
                break;
            }
        }
        if self.random.random_bool(0.2) {
            self.tell_heads(donor, puller);
        }
    }

    fn tell_heads(&mut self, donor: usize, puller: usize) {
        let feeding = self.running_mut(donor).and_then(|running| running.feeds.remove(&puller));
        let Some(mut feeding) = feeding else { return };
        self.send_heads(donor, puller, &mut feeding.told, false);
        if let Some(running) = self.running_mut(donor) {
            running.feeds.insert(puller, feeding);
        }
    }

    /// Returns whether something was sent.
    pub async fn serve_once(&mut self, donor: usize, puller: usize) -> bool {
        let limit = self.random.random_range(1..12);
        if self.pretends(donor)
            && self.running(donor).is_some_and(|running| running.feeds.contains_key(&puller))
        {
            self.refuse(donor, puller, Reason::BelowFloor);
            return false;
        }
        let Some(running) = self.running_mut(donor) else { return false };
        let store = running.store.clone();
        let Some(feeding) = running.feeds.get_mut(&puller) else { return false };
        let above = store.above(feeding.feed.vector());
        let Next::Send(origin, after) = feeding.feed.next(&above, |_| false, Instant::now()) else {
            return false;
        };
        match store.changes_since(origin, after, limit).await {
            Ok(None) => false,
            Ok(Some(mut changes)) => {
                changes.batch.birth = store.birth(origin).await.expect("the store reads");
                feeding.feed.sent(origin, Clock(changes.batch.covered_through));
                self.history.note_batch(&changes.batch);
                self.remember_batch(&changes.batch);
                self.send(donor, puller, Message::Batch(Box::new(changes.batch)));
                true
            }
            Err(StoreError::BelowFloor { .. }) => {
                self.refuse(donor, puller, Reason::BelowFloor);
                false
            }
            Err(error) => panic!("{donor} cannot read its log: {error}"),
        }
    }

    /// A puller applies a batch and acknowledges what it has gained.
    async fn take_batch(&mut self, puller: usize, donor: Option<usize>, batch: proto::Batch) {
        let Some(store) = self.store(puller) else { return };
        let segment = Segment::check(batch).expect("stores send well-formed batches");
        let relay = donor.map_or_else(|| store.node_id().clone(), |donor| self.nodes[donor].id.clone());
        let mode = match segment.origin == self.ghost_origin {
            true => TrustMode::Centralized,
            false => TrustMode::Distributed,
        };
        let segment =
            verifier(&store, mode).check_segment(&relay, segment).expect("stores send what origins signed");
        let (origin, through) = (segment.origin, segment.covered_through);
        let from = format!("{donor:?}");
        if origin.is_of(store.node_id())
            && store.check_rollback(&[(origin, through)].into_iter().collect(), &from).await.is_err()
        {
            return;
        }
        let outcome = store.apply(segment).await;
        self.note(format!("{puller} applies {origin} through {through}: {outcome:?}"));
        match outcome {
            Ok(_) => self.tally.add("batches applied", 1),
            Err(error) => {
                match error {
                    StoreError::Gap { .. } => self.tally.add("gaps refused", 1),
                    StoreError::RolledBack { theirs, .. } => drop(store.rolled_back(theirs, &from).await),
                    error => panic!("{puller} cannot apply: {error}"),
                }
                if let Some(donor) = donor {
                    self.end_round(puller, donor);
                }
                return;
            }
        }
        if let Some(donor) = donor {
            self.announce(puller, donor);
        }
    }

    fn announce(&mut self, puller: usize, donor: usize) {
        let Some(speaker) = self.speaker(puller) else { return };
        let Some(running) = self.running_mut(puller) else { return };
        let Some(stream) = running.streams.get_mut(&donor) else { return };
        let fresh = running.store.above(&stream.announced);
        if !fresh.is_empty() {
            stream.announced.join(&fresh);
            self.send(puller, donor, Message::Acknowledgement(speaker, fresh));
        }
    }

    async fn take_acknowledgement(&mut self, donor: usize, puller: usize, speaker: Speaker, vector: Vector) {
        let name = self.nodes[puller].id.clone();
        self.told[donor][puller].acknowledges(speaker.life);
        let Some(running) = self.running_mut(donor) else { return };
        let store = running.store.clone();
        let _ = store.check_rollback(&vector, name.as_str()).await;
        running.members.acknowledge(&name, &vector, running.wall_clock.now());
        if let Some(feeding) = running.feeds.get_mut(&puller) {
            feeding.feed.acknowledge(&vector);
        }
    }

    /// The network parts in two, or every link for itself fails or works, or all is well.
    pub fn part(&mut self) {
        let kind = self.random.random_range(0..4);
        let side: Vec<bool> = self.nodes.iter().map(|_| self.random.random()).collect();
        for to in 0..self.nodes.len() {
            for from in 0..self.nodes.len() {
                self.hears[to][from] = match kind {
                    0 => side[to] == side[from],
                    1 => self.random.random_bool(0.4),
                    _ => true,
                };
            }
        }
        self.tally.add("partitions", u64::from(kind < 2));
        self.note(format!("links: {:?}", self.hears));
    }

    /// All nodes hear each other, and nothing is on its way. Returns what was.
    pub fn mend_the_network(&mut self) -> Vec<Flight> {
        self.hears.iter_mut().flatten().for_each(|link| *link = true);
        std::mem::take(&mut self.flights)
    }

    /// A puller catches up with a donor over a network without faults.
    pub async fn catch_up(&mut self, puller: usize, donor: usize) {
        let mut messages = 0;
        self.say_hello(puller, donor);
        self.show_a_face(donor, puller);
        loop {
            messages += 1;
            assert!(messages < 3000, "{puller} never catches up with {donor}");
            if !self.flights.is_empty() {
                let flight = self.flights.remove(0);
                self.deliver(flight).await;
            } else if self.running(puller).is_some_and(|running| running.is_resyncing()) {
                if self.go_on_with_resync(puller).await {
                    if self.is_strict() {
                        // Meanwhile the donor has pulled too: it may not know yet what the puller has frozen, and would
                        // refuse it again.
                        self.say_hello(donor, puller);
                    }
                    self.say_hello(puller, donor);
                }
            } else if !self.serve_once(donor, puller).await && self.flights.is_empty() {
                break;
            }
        }
        self.look_at_what_changed().await;
    }

    /// Forgets the streams of a node that has stopped.
    pub fn hang_up(&mut self, stopped: usize) {
        for node in &mut self.nodes {
            let Some(running) = &mut node.running else { continue };
            running.streams.remove(&stopped);
            running.feeds.remove(&stopped);
            if let Some(resync) = running.resync.as_mut().filter(|resync| resync.donor == stopped) {
                resync.feed = None;
            }
        }
    }
}
