//! What an operator does to records and to the cluster: invalidate, unpublish, delete; members,
//! compaction, verification, repair.

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    acks::{WaitFor, Waiting},
    error::RequestError,
    receipts,
};
use crate::{
    maintenance::{
        compact::{self, Compactor},
        scrub,
    },
    membership::{
        contacts::{Contact, Unreachable},
        members::MemberView,
        peer::{Peer, RemoteError},
        roster::Roster,
    },
    replication::{
        breaker::{Breaker, Paused},
        peek::{Answer, Asker},
        remote,
        repair::{self, Repaired, TheirSummary},
        resync::Resyncs,
    },
    runtime::alarms::{Alarm, Alarms},
    store::{Comparison, NewOperation, OperationOutcome, Store, Summary, Totals},
    transfer::{orders::Orders, proof::Verifier},
};
use brock_core::{
    base::{
        id::{KeyHash, NodeId},
        limits,
        time::WallClock,
        vector::{Stamp, Vector},
    },
    domain::{
        operation::Operation,
        order::{SignedOrder, Subject},
        receipt::Receipt,
        record::RecordState,
    },
};

/// An operation that an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationRequest {
    /// The record.
    pub key_hash: KeyHash,
    /// Whether to do it even if no node knows the record: it then takes effect with the create.
    pub ahead: bool,
    /// Which members to wait for; `None` = this node alone.
    pub wait: Option<WaitFor>,
}

/// An operation that is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InEffect {
    /// The operation: a new one, or the earlier one with the same effect.
    pub stamp: Stamp,
    /// Whether it was in effect already.
    pub already: bool,
    /// Which members hold it; `None` = the request did not ask.
    pub receipt: Option<Receipt>,
}

/// A member, and what it holds back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReport {
    /// What is known of it.
    pub view: MemberView,
    /// Operations applied here that it is not known to have; `None` = nothing is known of it.
    pub lag_entries: Option<u64>,
    /// Log entries that this node could compact if only this member had everything.
    pub holding_back: u64,
}

/// The members, and what they have applied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersReport {
    /// By name.
    pub members: Vec<MemberReport>,
    /// What every member has applied; folded origins are not listed.
    pub stable: Vector,
}

/// What a compaction removed, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactReport {
    /// What went.
    pub removed: compact::Outcome,
    /// What is there now.
    pub left: Totals,
}

/// Whether the nodes hold the same records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convergence {
    /// They do.
    Converged,
    /// Some node lags or could not be asked.
    NotYet,
    /// Nodes that have applied the same operations hold different records.
    Diverged,
}

/// One node, compared with this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifiedNode {
    /// Its name.
    pub node: String,
    /// Why it could not be compared; `None` = it was.
    pub error: Option<String>,
    /// Operations that other nodes have and it has not applied.
    pub lag_entries: u64,
    /// Its records.
    pub records: u64,
    /// Its tombstones.
    pub tombstones: u64,
    /// Whether it has applied the same as this node and holds the same.
    pub equal: bool,
    /// Some of the key hashes that differ, at most [`limits::VERIFY_KEYS_MAX`].
    pub differing: Vec<KeyHash>,
    /// How many differ.
    pub differing_total: u64,
}

/// A comparison of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The result.
    pub convergence: Convergence,
    /// This node first.
    pub nodes: Vec<VerifiedNode>,
}

/// What a repair did with one peer's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairOutcome {
    /// The peer.
    pub node: String,
    /// What was joined.
    pub repaired: Result<Repaired, RemoteError>,
}

/// What an operator can do at a node.
pub struct Operations {
    pub(super) store: Store,
    pub(super) roster: Roster,
    asker: Asker,
    compactor: Compactor,
    resyncs: Resyncs,
    pub(super) verifier: Verifier,
    pub(super) orders: Orders,
    pub(super) wall_clock: WallClock,
    alarms: Alarms,
    breaker: Breaker,
}

impl Operations {
    /// The asker looks for key hashes that this node does not know; a repair waits for the resyncs;
    /// `orders` verifies what operators have signed.
    pub fn new(
        store: Store,
        roster: Roster,
        asker: Asker,
        (compactor, resyncs): (Compactor, Resyncs),
        (verifier, orders): (Verifier, Orders),
        (wall_clock, alarms): (WallClock, Alarms),
        breaker: Breaker,
    ) -> Self {
        Self { store, roster, asker, compactor, resyncs, verifier, orders, wall_clock, alarms, breaker }
    }

    /// The node that carries the operations out.
    pub fn node_id(&self) -> &NodeId {
        self.store.node_id()
    }

    /// Revokes a record. Durable here when it returns, and at as many members as the request waits for,
    /// unless the receipt says otherwise; so are [`Operations::unpublish`] and [`Operations::delete`].
    pub async fn invalidate(
        &self,
        request: OperationRequest,
        reason: String,
        order: Option<SignedOrder>,
    ) -> Result<InEffect, RequestError> {
        let problem = match reason.len() {
            _ if reason.trim().is_empty() => {
                "is empty: say why, the users of the key are shown it".to_owned()
            }
            0..=limits::REASON_MAX_BYTES => {
                let order = self.verifiable(order);
                let at = order.as_ref().map_or_else(|| self.wall_clock.now(), |order| order.proof.at());
                return self.operate(request, Operation::Invalidate { at, reason }, order).await;
            }
            bytes => format!("is {bytes} bytes; at most {}", limits::REASON_MAX_BYTES),
        };
        Err(RequestError::field("reason", problem))
    }

    /// Makes a record private.
    pub async fn unpublish(
        &self,
        request: OperationRequest,
        order: Option<SignedOrder>,
    ) -> Result<InEffect, RequestError> {
        self.operate(request, Operation::Unpublish, order).await
    }

    /// Removes a record and its payload.
    pub async fn delete(
        &self,
        request: OperationRequest,
        order: Option<SignedOrder>,
    ) -> Result<InEffect, RequestError> {
        self.operate(request, Operation::Delete, order).await
    }

    async fn operate(
        &self,
        request: OperationRequest,
        operation: Operation,
        order: Option<SignedOrder>,
    ) -> Result<InEffect, RequestError> {
        let OperationRequest { key_hash, ahead, wait } = request;
        let order = self.verifiable(order);
        match (&order, Subject::of(&operation, &key_hash)) {
            (Some(order), Some(subject)) => drop(self.orders.accept(subject, order).await?),
            _ if self.orders.are_required() => return Err(RequestError::OrderRequired),
            _ => {}
        }
        let proof = order.map(|order| order.proof);
        let now = self.wall_clock.now();
        let waiting = wait.map(|wait| Waiting::begin(wait, self.roster.members(), now)).transpose()?;
        let wanted = |ahead| NewOperation { key_hash, operation: operation.clone(), ahead };
        let mut outcome = self.store.operate_with(wanted(ahead), proof.clone()).await?;
        if outcome == OperationOutcome::Unknown {
            let deletion = self.check_known_to_peers(key_hash).await?;
            if let (Some(stamp), Operation::Delete) = (deletion, &operation) {
                // That delete is on its way here.
                return Ok(self.in_effect((key_hash, &operation), (stamp, true), waiting).await);
            }
            if deletion.is_some() {
                return Err(RequestError::Deleted);
            }
            // The create is on its way, or will be: the operation takes effect when they meet.
            outcome = self.store.operate_with(wanted(true), proof).await?;
        }
        let (stamp, already) = match outcome {
            OperationOutcome::Done(stamp) => (stamp, false),
            OperationOutcome::Already(stamp) => (stamp, true),
            OperationOutcome::Deleted => return Err(RequestError::Deleted),
            OperationOutcome::Unknown => return Err(RequestError::Absent),
        };
        if !already && matches!(operation, Operation::Invalidate { .. } | Operation::Delete) {
            let members = self.roster.members();
            members.revocations().add(stamp);
            // A member may have it already.
            members.settle_revocations(self.wall_clock.now());
        }
        Ok(self.in_effect((key_hash, &operation), (stamp, already), waiting).await)
    }

    /// A node whose certificate has no URI cannot verify an order, so it does not keep or pass it on. The caller's
    /// certificate alone counts there, as it always did.
    pub(super) fn verifiable(&self, order: Option<SignedOrder>) -> Option<SignedOrder> {
        order.filter(|_| self.orders.can_verify())
    }

    async fn in_effect(
        &self,
        (key_hash, operation): (KeyHash, &Operation),
        (stamp, already): (Stamp, bool),
        waiting: Option<Waiting>,
    ) -> InEffect {
        let receipt = match waiting {
            Some(waiting) => {
                let members = self.roster.members();
                let mut held = waiting.receipt(stamp, members, self.wall_clock.now()).await;
                members.collect_signatures(&mut held, stamp).await;
                let operation = operation.name();
                Some(self.prove(receipts::Subject { key_hash, operation, stamp, already }, held).await)
            }
            None => None,
        };
        InEffect { stamp, already, receipt }
    }

    /// Returns the delete, if a peer knows the record as deleted. Ignores what the peers said before: the
    /// operation must not be refused because of an answer that is a second old.
    async fn check_known_to_peers(&self, key_hash: KeyHash) -> Result<Option<Stamp>, RequestError> {
        self.asker.forget(&key_hash);
        let collected = self.store.collected();
        let is_created = |state: &RecordState| state.clone().without_forgotten(&collected, None).is_created();
        match self.asker.ask(key_hash, Instant::now() + limits::PEEK_TIMEOUT).await {
            Answer::Found(state) if state.deletion.is_some() => Ok(state.deletion),
            Answer::Found(state) if is_created(&state) => Ok(None),
            Answer::Found(_) | Answer::Absent => Err(RequestError::NotAhead(RequestError::Absent.into())),
            Answer::Unknown { peers, unanswered } => {
                Err(RequestError::NotAhead(RequestError::NotEveryoneAsked { peers, unanswered }.into()))
            }
            Answer::Refused => Err(RequestError::NotAhead(RequestError::TooManyPeeks.into())),
        }
    }

    /// The members, and what holds the log back.
    pub fn members(&self) -> MembersReport {
        let (applied, floors, now) = (self.store.applied(), self.store.floors(), self.wall_clock.now());
        let members = self.roster.members();
        let stable = members.stable(&applied, now);
        // Of a folded origin nothing is in the log.
        let (listed, logged) = (self.store.vector(), self.store.totals().log_entries);
        let report = |view: MemberView| {
            let theirs = view.applied.clone().unwrap_or_default();
            let held_back = listed.iter().map(|(origin, clock)| {
                clock.0.saturating_sub(theirs.get(&origin).max(floors.get(&origin)).0)
            });
            // A log that came with a resync has fewer entries than clocks.
            let held_back = held_back.fold(0, u64::saturating_add).min(logged);
            let holding_back = if view.retired { 0 } else { held_back };
            let lag_entries = view.applied.as_ref().map(|theirs| applied.entries_above(theirs));
            MemberReport { view, lag_entries, holding_back }
        };
        let members = members.views(now).into_iter().map(report).collect();
        MembersReport { members, stable: self.store.vector().meet(&stable) }
    }

    /// Compacts now.
    pub async fn compact(&self) -> Result<CompactReport, RequestError> {
        let removed = self.compactor.compact(true).await?;
        Ok(CompactReport { removed, left: self.store.totals() })
    }

    /// Lets the paused logs of a node go on at this node. Returns what was paused.
    pub async fn resume_origin(&self, node_id: &NodeId) -> Result<Vec<Paused>, RequestError> {
        Ok(self.breaker.resume(node_id).await?)
    }

    /// Clears this node's alarms, and returns them.
    pub fn clear_alarms(&self) -> Vec<Alarm> {
        self.alarms.clear()
    }

    /// Compares this node with every other. Compares again a few times before it reports that a node lags
    /// or differs: operations take a moment, and a record may arrive before its operation.
    pub async fn verify(&self) -> Result<Verification, RequestError> {
        let mut comparisons = 0;
        loop {
            comparisons += 1;
            let verification = self.compare().await?;
            if verification.convergence == Convergence::Converged || comparisons == limits::VERIFY_LOOKS {
                return Ok(verification);
            }
            sleep(limits::VERIFY_PAUSE).await;
        }
    }

    async fn compare(&self) -> Result<Verification, RequestError> {
        let contacts = self.roster.contacts(self.wall_clock.now());
        let asked = contacts.peers.iter().filter(|contact| !contact.is_retired);
        let answers = asked.map(async |contact| (contact, TheirSummary::of(&contact.peer).await));
        let answers = join_all(answers).await;
        let mine = self.store.summary();
        let mut everything = mine.applied();
        let mut summaries = Vec::with_capacity(answers.len());
        for (contact, answer) in answers {
            let summary = answer.map(|theirs| {
                everything.join(&theirs.applied);
                let comparison = theirs.compare(&mine);
                // What it says it is called counts only until a round has shown it.
                let is_named = contact.name != contact.peer.key.as_str();
                let node = VerifiedNode {
                    node: if is_named { contact.name.clone() } else { theirs.node_id },
                    records: theirs.records,
                    tombstones: theirs.tombstones,
                    equal: comparison == Comparison::Equal,
                    ..VerifiedNode::default()
                };
                (node, theirs.applied, comparison)
            });
            summaries.push((contact, summary));
        }
        let mut nodes = vec![self.own_line(&mine, &everything)];
        for (contact, summary) in summaries {
            nodes.push(match summary {
                Ok((mut node, applied, comparison)) => {
                    node.lag_entries = everything.entries_above(&applied);
                    if comparison == Comparison::Different {
                        self.list_differences(&contact.peer, &mut node).await;
                    }
                    node
                }
                Err(error) => not_asked(contact.name.clone(), error.to_string()),
            });
        }
        let unresolved = contacts.unresolved.iter().map(|name| (name.to_string(), Unreachable::Unresolved));
        let unreachable = contacts.unreachable.iter().map(|(node_id, reason)| (node_id.to_string(), *reason));
        let unasked = unresolved.chain(unreachable);
        nodes.extend(unasked.map(|(node, reason)| not_asked(node, reason.to_string())));
        Ok(Verification { convergence: convergence(&nodes), nodes })
    }

    fn own_line(&self, mine: &Summary, everything: &Vector) -> VerifiedNode {
        VerifiedNode {
            node: self.store.node_id().to_string(),
            lag_entries: everything.entries_above(&mine.applied()),
            records: mine.totals.records,
            tombstones: mine.totals.tombstones,
            equal: true,
            ..VerifiedNode::default()
        }
    }

    async fn list_differences(&self, peer: &Peer, node: &mut VerifiedNode) {
        match repair::differences(&self.store, peer).await {
            Ok(mut differences) => {
                node.differing_total = differences.total;
                differences.key_hashes.truncate(limits::VERIFY_KEYS_MAX);
                node.differing = differences.key_hashes;
            }
            Err(error) => {
                node.error = Some(format!("its records differ, and could not be listed: {error}"));
            }
        }
    }

    /// Reads all records again, and joins what differs at every peer.
    pub async fn repair(&self) -> Result<Vec<RepairOutcome>, RequestError> {
        scrub::all(&self.store, &self.alarms).await?;
        let _no_resync = self.resyncs.others().await;
        let contacts = self.roster.contacts(self.wall_clock.now()).peers;
        let mut outcomes = Vec::new();
        for Contact { peer, name, .. } in contacts.into_iter().filter(|contact| !contact.is_retired) {
            // A peer that has not said its id yet is resumed under this node's.
            let node_id = name.parse().unwrap_or_else(|_| self.store.node_id().clone());
            let brought = Some((&self.breaker, (&peer.key, &node_id)));
            let repaired = repair::repair((&self.store, &self.verifier), &peer, brought).await;
            remote::count_refused(&peer.key, repaired.as_ref().map(|repaired| repaired.unproven));
            outcomes.push(RepairOutcome { node: name, repaired });
        }
        Ok(outcomes)
    }
}

fn not_asked(node: String, error: String) -> VerifiedNode {
    VerifiedNode { node, error: Some(error), ..VerifiedNode::default() }
}

fn convergence(nodes: &[VerifiedNode]) -> Convergence {
    if nodes.iter().any(|node| node.error.is_none() && node.differing_total > 0) {
        Convergence::Diverged
    } else if nodes.iter().any(|node| node.error.is_some() || node.lag_entries > 0) {
        Convergence::NotYet
    } else {
        Convergence::Converged
    }
}
