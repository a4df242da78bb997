//! A puller's end of a stream and of a resync where nothing is believed without proof, as in
//! `replication/pull/round.rs` and `replication/resync.rs`.

use super::{Lie, batches, pages};
use crate::sim::{network::Message, node::Resync, world::World};
use brock::{
    membership::origins::Supplier,
    runtime::alarms::Alarms,
    store::StoreError,
    transfer::{
        batch::{BatchError, Checked},
        join::{JoinError, Joiner, Terms},
        proof::ProofError,
    },
};
use brock_core::{
    base::{
        id::Origin,
        limits,
        vector::{Clock, Vector},
    },
    proto,
};
use rand::Rng;

impl World {
    /// A puller applies a batch, as far as it believes it. Returns whether the round goes on.
    ///
    /// Claim: an honest node refuses every batch that shows a lie, and nothing of it changes anything.
    pub async fn take_doubted(
        &mut self,
        puller: usize,
        donor: usize,
        batch: proto::Batch,
        lie: Option<Lie>,
    ) -> bool {
        let Some(running) = self.running(puller) else { return false };
        let (store, verifier) = (running.store.clone(), running.verifier.clone());
        let relay = self.nodes[donor].id.clone();
        let is_second_birth = lie.is_some_and(|lie| lie.what == batches::SECOND_BIRTH);
        let origin = batches::origin_of(&batch);
        if is_second_birth && origin.is_some_and(|origin| store.born(&origin).is_none()) {
            // The puller was restarted meanwhile, and has forgotten the first: that is another matter.
            return true;
        }
        let checked = match verifier.check_batch(&relay, batch, |origin| store.clock(origin)) {
            Ok(checked) => checked,
            Err(BatchError::Malformed(_)) => {
                self.check_refused(puller, donor, lie, true);
                self.refuse_claim(puller, donor, "batch");
                return false;
            }
            Err(BatchError::Proof(origin, forged)) => {
                self.check_refused(puller, donor, lie, true);
                self.refuse_forged(puller, donor, forged).await;
                self.decline(puller, donor, origin);
                return true;
            }
            Err(BatchError::Store(error)) => panic!("{puller} cannot read: {error}"),
        };
        self.check_refused(puller, donor, lie, false);
        let Checked { segment, chains, refused } = checked;
        let origin = segment.origin;
        if self.declines(puller, donor, &origin) {
            return true;
        }
        store.keep_chains(chains).await.expect("the store takes writes");
        let through = segment.covered_through;
        let claim = [(origin, through)].into_iter().collect();
        if origin.is_of(store.node_id()) && store.check_rollback(&claim, relay.as_str()).await.is_err() {
            return false;
        }
        if !self.declined(puller, donor, [origin], true).is_empty() {
            self.decline(puller, donor, origin);
            return true;
        }
        let outcome = store.apply(segment).await;
        // Without what is signed, which differs each time.
        let described = match &outcome {
            Err(StoreError::Forked { .. }) => "another history".to_owned(),
            outcome => format!("{outcome:?}"),
        };
        self.note(format!("{puller} applies {origin} through {through}: {described}"));
        match outcome {
            Ok(_) => self.tally.add("batches applied", 1),
            Err(StoreError::Gap { .. }) => {
                self.tally.add("gaps refused", 1);
                return false;
            }
            Err(StoreError::RolledBack { theirs, .. }) => {
                let _ = store.rolled_back(theirs, relay.as_str()).await;
                return false;
            }
            Err(StoreError::Frozen(_)) => {
                self.decline(puller, donor, origin);
                return true;
            }
            Err(StoreError::Forked { pair, .. }) => {
                let proven = match pair {
                    Some(pair) => {
                        verifier.prove_fork(origin, pair.0, pair.1).await.expect("the store freezes")
                    }
                    None => false,
                };
                if !proven {
                    self.refuse_claim(puller, donor, "history");
                }
                let is_followed = proven && !store.is_frozen(&origin);
                assert!(!is_followed, "{puller} follows {origin}, and has proven that it has two histories");
                self.tally.add("histories met in a log", 1);
                self.decline(puller, donor, origin);
                return true;
            }
            Err(error) => panic!("{puller} cannot apply: {error}"),
        }
        if refused.is_some() {
            self.tally.add("destruction refused", 1);
            self.refuse_claim(puller, donor, "order");
            self.decline(puller, donor, origin);
        }
        true
    }

    /// Another birth freezes the origin, and names the node that has them in that way.
    async fn refuse_forged(&mut self, puller: usize, donor: usize, forged: ProofError) {
        if let ProofError::TwoBirths(other) = forged
            && let Some(running) = self.running(puller)
            && running.verifier.clone().prove_two_births(*other).await.expect("the store freezes")
        {
            self.liars.name(puller, donor);
            return;
        }
        self.refuse_claim(puller, donor, "forged");
    }

    fn declines(&self, puller: usize, donor: usize, origin: &Origin) -> bool {
        let stream = self.running(puller).and_then(|running| running.streams.get(&donor));
        stream.is_some_and(|stream| stream.declined.contains(origin))
    }

    /// A puller takes nothing more of a log from a donor in this round.
    fn decline(&mut self, puller: usize, donor: usize, origin: Origin) {
        let Some(running) = self.running_mut(puller) else { return };
        let Some(stream) = running.streams.get_mut(&donor) else { return };
        stream.declined.insert(origin);
        self.send(puller, donor, Message::Declined(origin));
    }

    /// Those of these origins that a puller does not take from a donor.
    fn declined(
        &self,
        puller: usize,
        donor: usize,
        origins: impl IntoIterator<Item = Origin>,
        lists: bool,
    ) -> std::collections::BTreeSet<Origin> {
        let Some(running) = self.running(puller) else { return Default::default() };
        let alarms = Alarms::new(running.wall_clock.clone());
        let (store, members) = (&running.store, &running.members);
        members.origins().declined(store, members, &self.supplier(donor), origins, lists, &alarms)
    }

    fn supplier(&self, donor: usize) -> Supplier {
        let node_id = self.nodes[donor].id.clone();
        Supplier { holder: node_id.to_string(), node_id }
    }

    /// A resync from a donor of which nothing is believed without proof; `None`: it has failed lately.
    pub fn doubted_resync(&self, puller: usize, donor: usize) -> Option<Resync> {
        let running = self.running(puller)?;
        if running.aside.get(&donor).is_some_and(|until| *until > self.now) {
            return None;
        }
        let (store, members) = (running.store.clone(), running.members.clone());
        let (supplier, alarms) = (self.supplier(donor), Alarms::new(running.wall_clock.clone()));
        let terms = Terms { may_drop: None, present: members.present() };
        let named = (supplier.node_id.clone(), supplier.holder.clone());
        let declines = {
            let store = store.clone();
            Box::new(move |origins: Vec<Origin>, lists: bool| {
                members.origins().declined(&store, &members, &supplier, origins, lists, &alarms)
            })
        };
        let joiner = Joiner::from_peer(store, named, terms, running.verifier.clone(), declines);
        Some(Resync { donor, joiner, feed: None, pages: 0, said: Vector::default(), owes: None })
    }

    /// A message of a snapshot as its donor sends it; `None`: it leaves it out.
    pub fn sent_page(
        &mut self,
        puller: usize,
        message: proto::SnapshotResponse,
    ) -> Option<proto::SnapshotResponse> {
        let resync = self.running(puller).and_then(|running| running.resync.as_ref())?;
        let (donor, said) = (resync.donor, resync.said.clone());
        let (message, lie) = self.leave_page(donor, puller, message, &said);
        let resync = self.running_mut(puller).and_then(|running| running.resync.as_mut())?;
        resync.owes = resync.owes.or(lie.filter(|lie| lie.shows));
        if let Some(said) = message.as_ref().and_then(pages::said_in) {
            resync.said = said;
        }
        message
    }

    /// A resync has ended or failed.
    ///
    /// Claim: an honest node adopts nothing from a donor that has shown a lie in it.
    pub fn check_resynced(&mut self, puller: usize, donor: usize, outcome: &Result<bool, JoinError>) {
        let owes = self.running(puller).and_then(|running| running.resync.as_ref()?.owes);
        match outcome {
            Ok(false) => {}
            Ok(true) => self.check_refused(puller, donor, owes, false),
            Err(error) => {
                match error.kind() {
                    Some(kind) => {
                        self.check_refused(puller, donor, owes, true);
                        self.refuse_claim(puller, donor, kind.as_str());
                    }
                    None if matches!(error, JoinError::Unsigned(_)) => {
                        self.check_refused(puller, donor, owes, true);
                        self.tally.add("claims of logs left out", 1);
                    }
                    None => return,
                }
                let until = self.now + limits::RESYNC_ASIDE_MIN.as_secs();
                if let Some(running) = self.running_mut(puller) {
                    running.aside.insert(donor, until);
                    running.resync = None;
                }
            }
        }
    }

    /// A message of a resync was taken.
    ///
    /// Claim: of an honest origin whose birth it knows, an honest node adopts no clock that this has not reached.
    pub fn check_adopted(&self, node: usize, before: &Vector) {
        let Some(running) = self.running(node).filter(|_| !self.is_liar(node)) else { return };
        let raised = running.store.applied().above(before);
        if raised.is_empty() {
            return;
        }
        let is_of_liar = |origin: &Origin| {
            (0..self.nodes.len()).any(|liar| self.is_liar(liar) && origin.is_of(&self.nodes[liar].id))
        };
        let is_known = |origin: &Origin| !is_of_liar(origin) && running.store.born(origin).is_some();
        let signed = self.history.signed();
        for (origin, clock) in raised.iter().filter(|(origin, _)| is_known(origin)) {
            assert!(
                clock <= signed.get(&origin),
                "{node} has adopted {clock} of {origin}, which is not signed"
            );
        }
    }

    /// Whether a donor that lies says that its log is not enough, whatever it is.
    pub fn pretends(&mut self, donor: usize) -> bool {
        self.lies(donor) && self.random.random_bool(0.25)
    }

    /// How far the operations of an origin are really signed, by what the history knows.
    pub fn really_signed(&self, applied: &Vector) -> Vector {
        let signed = self.history.signed();
        applied.meet(&signed).iter().filter(|(_, clock)| *clock > Clock::default()).collect()
    }
}
