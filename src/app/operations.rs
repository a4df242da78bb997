//! What an operator does to records and to the cluster: invalidate, unpublish, delete; members,
//! compaction, verification, repair.

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{acks::Wanted, error::Problem, records};
use crate::{
    maintenance::{compact::Compactor, scrub},
    membership::{
        directory::Directory,
        members::{MemberView, Members},
        peer::{Peer, RemoteError},
    },
    replication::{
        peek::{Answer, Asker},
        remote::Remote,
        repair,
        resync::Resyncs,
    },
    store::{Comparison, NewOperation, OperationOutcome, Store, Summary},
};
use brock_core::{
    base::{
        id::KeyHash,
        limits,
        vector::{Stamp, Vector},
    },
    domain::{codec, operation::Operation, record::RecordState},
    proto::{self, verify_response::Verdict},
};

/// Why a name in `node.join` cannot be asked.
pub const UNRESOLVED: &str = "DNS has not said yet which nodes these are: see `node-admin status`";

/// A node's lifecycle operations.
pub struct Lifecycle {
    /// This node's store.
    pub store: Store,
    /// Who is waited for.
    pub members: Members,
    /// For key hashes that are unknown here.
    pub asker: Asker,
    /// Who the peers are.
    pub directory: Directory,
    /// Keeps the log short.
    pub compactor: Compactor,
    /// Not to be disturbed.
    pub resyncs: Resyncs,
}

impl Lifecycle {
    /// Makes an operation. Durable here when it returns, and at as many members as were asked for,
    /// unless the receipt says otherwise.
    pub async fn operate(
        &self,
        key_hash_bytes: &[u8],
        operation: Operation,
        ahead: bool,
        acks: Option<proto::Acks>,
    ) -> Result<proto::OperationResponse, Problem> {
        let key_hash = records::key_hash(key_hash_bytes)?;
        let wanted = Wanted::decode(acks, &self.store, &self.members)?;
        let request = |ahead| NewOperation { key_hash, operation: operation.clone(), ahead };
        let mut outcome = self.store.operate(request(ahead)).await?;
        if outcome == OperationOutcome::Unknown {
            let deletion = self.check_known_to_peers(key_hash).await?;
            if let (Some(stamp), Operation::Delete) = (deletion, &operation) {
                // The delete that did it is on its way here.
                return Ok(self.answer(stamp, true, wanted).await);
            }
            if deletion.is_some() {
                return Err(Problem::Deleted);
            }
            // Its create is on its way, or will be: the operation takes effect when they meet.
            outcome = self.store.operate(request(true)).await?;
        }
        let (stamp, already) = match outcome {
            OperationOutcome::Done(stamp) => (stamp, false),
            OperationOutcome::Already(stamp) => (stamp, true),
            OperationOutcome::Deleted => return Err(Problem::Deleted),
            OperationOutcome::Unknown => return Err(Problem::Absent),
        };
        if !already && matches!(operation, Operation::Invalidate { .. } | Operation::Delete) {
            self.members.revocations().add(stamp);
            // Somebody may have it already.
            self.members.settle_revocations(self.store.now());
        }
        Ok(self.answer(stamp, already, wanted).await)
    }

    async fn answer(&self, stamp: Stamp, already: bool, wanted: Option<Wanted>) -> proto::OperationResponse {
        let receipt = match wanted {
            Some(wanted) => Some(wanted.receipt(stamp, &self.store, &self.members).await),
            None => None,
        };
        proto::OperationResponse { stamp: Some(codec::stamp_to_proto(stamp)), already, receipt }
    }

    /// Returns the delete, if that is what a peer knows. The operation must not be refused because of
    /// an answer that is a second old.
    async fn check_known_to_peers(&self, key_hash: KeyHash) -> Result<Option<Stamp>, Problem> {
        self.asker.forget(&key_hash);
        let collected = self.store.collected();
        let is_created = |state: &RecordState| state.clone().without_forgotten(&collected, None).is_created();
        match self.asker.ask(key_hash, Instant::now() + limits::PEEK_TIMEOUT).await {
            Answer::Found(state) if state.deletion.is_some() => Ok(state.deletion),
            Answer::Found(state) if is_created(&state) => Ok(None),
            Answer::Found(_) | Answer::Absent => Err(Problem::Absent),
            Answer::Unknown { peers, unanswered } => Err(Problem::NotEveryoneAsked { peers, unanswered }),
            Answer::Refused => Err(Problem::TooManyPeeks),
        }
    }

    /// The members, and what holds the log back.
    pub fn members(&self) -> proto::MembersResponse {
        let (applied, now) = (self.store.applied(), self.store.now());
        let stable = self.members.stable(&applied, now);
        let floors = self.store.floors();
        let member = |view: MemberView| {
            let theirs = view.applied.clone().unwrap_or_default();
            let waits = !view.retired;
            // What this node could compact if only this member had everything.
            let held_back = applied.iter().map(|(origin, clock)| {
                clock.0.saturating_sub(theirs.get(&origin).max(floors.get(&origin)).0)
            });
            proto::Member {
                node_id: view.node_id.map(|node_id| node_id.to_string()).unwrap_or_default(),
                address: view.address.unwrap_or_default(),
                retired: view.retired,
                last_seen_unix: view.last_seen,
                lag_entries: view.applied.map(|theirs| applied.entries_above(&theirs)),
                holding_back: if waits { held_back.fold(0, u64::saturating_add) } else { 0 },
                connected: view.connected,
            }
        };
        let listed: Vector = self.store.vector().meet(&stable);
        proto::MembersResponse {
            members: self.members.views(now).into_iter().map(member).collect(),
            stable: codec::vector_to_proto(&listed).clocks,
        }
    }

    /// Retires a member here, and then at every peer that answers.
    pub async fn retire(&self, member: &str) -> Result<proto::RetireMemberResponse, Problem> {
        retire_here(&self.store, &self.members, member, "").await?;
        let outcome = |node: String, error: Option<RemoteError>| proto::retire_member_response::Outcome {
            node,
            error: error.map(|error| error.to_string()).unwrap_or_default(),
        };
        let mut outcomes = vec![outcome(self.store.node_id().to_string(), None)];
        let views = self.members.views(self.store.now());
        let peers = self.directory.peers();
        let told = peers.iter().map(|peer| {
            let (name, alias) = (name_of(&views, peer), alias_of(&views, member));
            async move {
                let request = proto::RetireRequest { member: member.to_owned(), alias };
                let told = peer.call(|mut client| async move { client.retire(request).await }).await;
                // Who does not know it need not forget it.
                let told = told.map(drop).or_else(|error| match error {
                    RemoteError::Absent(_) => Ok(()),
                    other => Err(other),
                });
                (name, told.err())
            }
        });
        for (name, error) in join_all(told).await {
            // The retired one need not agree.
            if name != member {
                outcomes.push(outcome(name, error));
            }
        }
        Ok(proto::RetireMemberResponse { outcomes })
    }

    /// Compacts now.
    pub async fn compact(&self) -> Result<proto::CompactResponse, Problem> {
        let outcome = self.compactor.compact(true).await?;
        let totals = self.store.totals();
        Ok(proto::CompactResponse {
            entries_removed: outcome.entries_removed,
            bytes_removed: outcome.bytes_removed,
            entries_kept: totals.log_entries,
            bytes_kept: totals.log_bytes,
            payloads_removed: outcome.payloads_removed,
            tombstones_collected: outcome.tombstones_collected,
            origins_folded: outcome.origins_folded,
        })
    }

    /// Compares this node with every other. Looks again a few times before it says that somebody lags
    /// or differs: operations take a moment, and a record may arrive ahead of its operation.
    pub async fn verify(&self) -> Result<proto::VerifyResponse, Problem> {
        let mut looks = 0;
        loop {
            looks += 1;
            let response = self.look().await?;
            if response.verdict() == Verdict::Converged || looks == limits::VERIFY_LOOKS {
                return Ok(response);
            }
            sleep(limits::VERIFY_PAUSE).await;
        }
    }

    async fn look(&self) -> Result<proto::VerifyResponse, Problem> {
        let views = self.members.views(self.store.now());
        let peers = self.directory.peers();
        let asked: Vec<_> = peers
            .iter()
            .filter(|peer| !is_retired(&views, peer))
            .map(async |peer| (name_of(&views, peer), peer, peer.summary(false).await))
            .collect();
        let answers = join_all(asked).await;
        let mine = self.store.summary();
        let mut everything = mine.applied();
        let mut seen = Vec::new();
        for (name, peer, answer) in answers {
            let answer = answer.and_then(|answer| Ok((repair::applied(&answer)?, answer)));
            if let Ok((applied, _)) = &answer {
                everything.join(applied);
            }
            seen.push((name, peer, answer));
        }
        let mut nodes = vec![own_line(&self.store, &mine, &everything)];
        for (name, peer, answer) in seen {
            nodes.push(match answer {
                Ok((applied, answer)) => self.line(&mine, &everything, peer, applied, answer).await,
                Err(error) => {
                    let error = error.to_string();
                    proto::verify_response::Node { node: name, error, ..Default::default() }
                }
            });
        }
        for node in self.directory.unresolved() {
            let error = UNRESOLVED.to_owned();
            nodes.push(proto::verify_response::Node { node, error, ..Default::default() });
        }
        for (node, error) in unreachable(&views, &peers) {
            nodes.push(proto::verify_response::Node { node, error, ..Default::default() });
        }
        let lags = nodes.iter().any(|node| !node.error.is_empty() || node.lag_entries > 0);
        let differs = nodes.iter().any(|node| node.error.is_empty() && node.differing_total > 0);
        let verdict = match (differs, lags) {
            (true, _) => Verdict::Diverged,
            (false, true) => Verdict::NotYet,
            (false, false) => Verdict::Converged,
        };
        Ok(proto::VerifyResponse { verdict: verdict.into(), nodes })
    }

    async fn line(
        &self,
        mine: &Summary,
        everything: &Vector,
        peer: &Peer,
        applied: Vector,
        answer: proto::SummaryResponse,
    ) -> proto::verify_response::Node {
        let comparison = mine.compare(&applied, &answer.digest.clone().unwrap_or_default());
        let mut node = proto::verify_response::Node {
            node: answer.node_id,
            lag_entries: everything.entries_above(&applied),
            records: answer.records,
            tombstones: answer.tombstones,
            equal: comparison == Comparison::Equal,
            ..Default::default()
        };
        if comparison == Comparison::Different {
            match repair::differences(&self.store, peer).await {
                Ok(differences) => {
                    node.differing_total = differences.total;
                    let shown = differences.key_hashes.iter().take(limits::VERIFY_KEYS_MAX);
                    node.differing =
                        shown.map(|key_hash| bytes::Bytes::copy_from_slice(&key_hash.0)).collect();
                }
                Err(error) => node.error = format!("its records differ, and could not be listed: {error}"),
            }
        }
        node
    }

    /// Reads all records again, and joins what differs at every peer.
    pub async fn repair(&self) -> Result<proto::RepairResponse, Problem> {
        scrub::all(&self.store).await?;
        let _no_resync = self.resyncs.others().await;
        let views = self.members.views(self.store.now());
        let mut peers = Vec::new();
        for peer in self.directory.peers().iter().filter(|peer| !is_retired(&views, peer)) {
            let node = name_of(&views, peer);
            peers.push(match repair::repair(&self.store, peer).await {
                Ok(repaired) => proto::repair_response::Peer {
                    node,
                    error: String::new(),
                    differing: repaired.differing,
                    repaired: repaired.repaired,
                    ambiguous: repaired.ambiguous,
                },
                Err(error) => {
                    proto::repair_response::Peer { node, error: error.to_string(), ..Default::default() }
                }
            });
        }
        Ok(proto::RepairResponse { peers })
    }
}

/// Retires a member at this node. Durable when it returns.
pub async fn retire_here(store: &Store, members: &Members, member: &str, alias: &str) -> Result<(), Problem> {
    if [member, alias].contains(&store.node_id().as_str()) {
        // It has nobody to wait for in itself.
        return Ok(());
    }
    let _writing = members.writing().await;
    let applied = store.applied();
    let state = members
        .retire(member, &applied)
        .or_else(|error| if alias.is_empty() { Err(error) } else { members.retire(alias, &applied) })?;
    store.remember(vec![state], Vec::new()).await?;
    tracing::warn!(member, "an operator retired a member: it is not waited for any more");
    Ok(())
}

fn own_line(store: &Store, mine: &Summary, everything: &Vector) -> proto::verify_response::Node {
    proto::verify_response::Node {
        node: store.node_id().to_string(),
        lag_entries: everything.entries_above(&mine.applied()),
        records: mine.totals.records,
        tombstones: mine.totals.tombstones,
        equal: true,
        ..Default::default()
    }
}

/// A peer's node id, or its address until it has said one.
pub fn name_of(views: &[MemberView], peer: &Peer) -> String {
    let view = views.iter().find(|view| view.address.as_ref() == Some(&peer.address));
    let node_id = view.and_then(|view| view.node_id.as_ref()).map(ToString::to_string);
    node_id.unwrap_or_else(|| peer.address.clone())
}

/// A member's address for its node id, or the other way round; empty if that is not known.
fn alias_of(views: &[MemberView], member: &str) -> String {
    let by_id = |view: &&MemberView| view.node_id.as_ref().is_some_and(|id| id.as_str() == member);
    if let Some(view) = views.iter().find(by_id) {
        return view.address.clone().unwrap_or_default();
    }
    let by_address = views.iter().find(|view| view.address.as_deref() == Some(member));
    by_address.and_then(|view| view.node_id.as_ref()).map(ToString::to_string).unwrap_or_default()
}

/// Members that nobody can ask from here, and why: those that pull from here and are not in
/// `node.join`, as long as no nameless address may be one of them; and those that DNS does not list
/// any more.
pub fn unreachable(views: &[MemberView], peers: &[Peer]) -> Vec<(String, String)> {
    let all_are_named = views.iter().all(|view| view.node_id.is_some());
    let reason = |view: &MemberView| match &view.address {
        None if all_are_named => Some("it is not in this node's node.join, so it cannot be asked from here"),
        Some(address) if peers.iter().all(|peer| peer.address != *address) => Some(
            "DNS does not list it any more, so it cannot be asked from here: retire it if it never returns",
        ),
        _ => None,
    };
    let named =
        views.iter().filter(|view| !view.retired).filter_map(|view| Some((view.node_id.as_ref()?, view)));
    named.filter_map(|(node_id, view)| Some((node_id.to_string(), reason(view)?.to_owned()))).collect()
}

fn is_retired(views: &[MemberView], peer: &Peer) -> bool {
    views.iter().any(|view| view.retired && view.address.as_ref() == Some(&peer.address))
}
