//! What an operator does to records and to the cluster: invalidate, unpublish, delete; members,
//! compaction, verification, repair.

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{acks::Wanted, error::Problem, records};
use crate::{
    maintenance::{compact::Compactor, scrub},
    membership::{
        contacts::{Contact, Unreachable},
        members::{MemberView, Members},
        peer::{Peer, RemoteError},
        roster::Roster,
    },
    replication::{
        peek::{Answer, Asker},
        remote::Remote,
        repair::{self, Comparison},
        resync::Resyncs,
    },
    store::{NewOperation, OperationOutcome, Store, Summary},
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

/// A node's lifecycle operations.
pub struct Lifecycle {
    /// This node's store.
    pub store: Store,
    /// For key hashes that are unknown here.
    pub asker: Asker,
    /// The peers, and the members.
    pub roster: Roster,
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
        let wanted = Wanted::decode(acks, &self.store, self.roster.members())?;
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
            let members = self.roster.members();
            members.revocations().add(stamp);
            // The members may have it already.
            members.settle_revocations(self.store.now());
        }
        Ok(self.answer(stamp, already, wanted).await)
    }

    async fn answer(&self, stamp: Stamp, already: bool, wanted: Option<Wanted>) -> proto::OperationResponse {
        let receipt = match wanted {
            Some(wanted) => Some(wanted.receipt(stamp, &self.store, self.roster.members()).await),
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
        let members = self.roster.members();
        let stable = members.stable(&applied, now);
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
                address: view.address.map(|address| address.to_string()).unwrap_or_default(),
                retired: view.retired,
                last_seen_unix: view.last_seen.unwrap_or_default(),
                lag_entries: view.applied.map(|theirs| applied.entries_above(&theirs)),
                holding_back: if waits { held_back.fold(0, u64::saturating_add) } else { 0 },
                connected: view.connected,
            }
        };
        let listed: Vector = self.store.vector().meet(&stable);
        proto::MembersResponse {
            members: members.views(now).into_iter().map(member).collect(),
            stable: codec::vector_to_proto(&listed).clocks,
        }
    }

    /// Retires a member here, and then at every peer that answers.
    pub async fn retire(&self, member: &str) -> Result<proto::RetireMemberResponse, Problem> {
        retire_here(&self.store, self.roster.members(), member, "").await?;
        let outcome = |node: String, error: Option<RemoteError>| proto::retire_member_response::Outcome {
            node,
            error: error.map(|error| error.to_string()).unwrap_or_default(),
        };
        let mut outcomes = vec![outcome(self.store.node_id().to_string(), None)];
        let now = self.store.now();
        let alias = self.roster.members().alias(member, now).unwrap_or_default();
        let request = proto::RetireRequest { member: member.to_owned(), alias };
        let retired = self.roster.contacts(now).peers.into_iter().map(|Contact { peer, name, .. }| {
            let request = request.clone();
            async move {
                let retired = peer.call(|mut client| async move { client.retire(request).await }).await;
                // A node that does not know the member need not forget it.
                let retired = retired.map(drop).or_else(|error| match error {
                    RemoteError::Absent(_) => Ok(()),
                    other => Err(other),
                });
                (name, retired.err())
            }
        });
        for (name, error) in join_all(retired).await {
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
        let contacts = self.roster.contacts(self.store.now());
        let asked: Vec<_> = contacts
            .peers
            .iter()
            .filter(|contact| !contact.is_retired)
            .map(async |contact| (contact.name.clone(), &contact.peer, contact.peer.summary(false).await))
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
        let unresolved = contacts.unresolved.iter().map(|name| (name.to_string(), Unreachable::Unresolved));
        let unreachable = contacts.unreachable.iter().map(|(node_id, reason)| (node_id.to_string(), *reason));
        for (node, reason) in unresolved.chain(unreachable) {
            let error = reason.to_string();
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
        let comparison = repair::compare(mine, &applied, &answer.digest.clone().unwrap_or_default());
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
        let contacts = self.roster.contacts(self.store.now()).peers;
        let mut peers = Vec::new();
        for Contact { peer, name: node, .. } in contacts.into_iter().filter(|contact| !contact.is_retired) {
            peers.push(match repair::repair(&self.store, &peer).await {
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
