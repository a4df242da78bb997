//! The status of this node: for its operators, for the console, and for peers that show the whole cluster.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{error::RequestError, records::Records};
use crate::{
    backup::job::Backups,
    membership::{
        duplicates::{Duplicate, Place},
        roster::Roster,
        status::{PeerReport, Round},
    },
    replication::{
        breaker::{self, Breaker},
        resync::{ResyncReport, Resyncs},
        withheld::{self, Withheld},
    },
    runtime::{
        alarms::{Alarm, Alarms, Source},
        descriptors::Descriptors,
    },
    store::{Fill, Health, StorageUse, Store},
    transfer::proof::Verifier,
};
use brock_core::{
    base::{
        duration::milliseconds,
        id::{Incarnation, Origin},
        limits,
        time::WallClock,
        trust::TrustMode,
        vector::{Stamp, Vector},
    },
    domain::{codec, fork::Fork, head::Head},
    proto,
};
use brock_net::{
    task::{TaskReport, TaskStatus, Tasks},
    tls::{
        credentials::{Expiry, Identity},
        registry::OpenPeer,
        revocation::Authority,
    },
};

/// Reports a node's status.
pub struct Reporter {
    /// The node's store.
    pub store: Store,
    /// Counts what clients read.
    pub records: Arc<Records>,
    /// Shows a resync under way.
    pub resyncs: Resyncs,
    /// What the node believes other nodes.
    pub trust: TrustMode,
    /// Says which origins it does not believe any more.
    pub verifier: Verifier,
    /// Shows paused logs.
    pub breaker: Breaker,
    /// The node's backups; `None` = it makes none.
    pub backups: Option<Backups>,
    /// The key that signs them, hex.
    pub backup_public_key: String,
    /// The node's alarms.
    pub alarms: Alarms,
    /// For the peers' reports.
    pub roster: Roster,
    /// The node's background work.
    pub tasks: Tasks,
    /// Whether the node is ready.
    pub readiness: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The node's certificates.
    pub identity: Identity,
    /// The shares of the process in its limit of open files.
    pub descriptors: Descriptors,
    /// Where the time comes from.
    pub wall_clock: WallClock,
    /// When the node started, in seconds since 1970.
    pub started: i64,
    /// The samples of the last minutes.
    pub history: Mutex<VecDeque<proto::Sample>>,
}

impl Reporter {
    /// The status now; with `history`, the samples of the last minutes too.
    pub async fn status(&self, history: bool) -> Result<proto::StatusResponse, RequestError> {
        let store = &self.store;
        let (applied, totals) = (store.applied(), store.totals());
        let reports = self.roster.compared(&applied);
        let traffic = self.traffic(&applied, &reports);
        let open = self.identity.open_peers();
        let (storage, acknowledged) = (store.storage_use().await?, store.acknowledged_forks().await?);
        let mut expiries = self.identity.expiries();
        expiries.sort_by_key(|expiry| expiry.not_after_unix_seconds);
        let writes_refused = match &*store.health().borrow() {
            Health::Well => String::new(),
            Health::WritesRefused(reason)
            | Health::ReadOnly(reason)
            | Health::Stopped(reason)
            | Health::Lost(reason) => reason.clone(),
        };
        Ok(proto::StatusResponse {
            node_id: store.node_id().to_string(),
            incarnation: store.origin().incarnation().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            records: totals.records,
            clocks: codec::vector_to_proto(&store.vector()).clocks,
            peers: reports.into_iter().map(|report| peer(report, &open)).collect(),
            quarantined: totals.quarantined,
            conflicts: totals.conflicts,
            conflicts_acknowledged: totals.acknowledged,
            trust: Some(proto::Trust {
                heads: self.heads(),
                ..trust(self.trust, (store, &self.verifier), &acknowledged)
            }),
            writes_refused,
            tasks: self.tasks.reports().into_iter().map(task).collect(),
            alarms: self.alarms.list().into_iter().map(alarm_to_proto).collect(),
            ready: (self.readiness)(),
            tombstones: totals.tombstones,
            log_entries: totals.log_entries,
            log_bytes: totals.log_bytes,
            removals_pending: totals.removals,
            resync: self.resyncs.report().map(resync),
            incarnation_reason: store.incarnation_reason().to_owned(),
            backup_public_key: self.backup_public_key.clone(),
            backup: self.backups.as_ref().map(backup),
            started_unix: self.started,
            now_unix_ms: signed(self.wall_clock.now_ms()),
            storage: Some(encode_storage(storage)),
            traffic: Some(traffic),
            certificates: expiries.into_iter().map(certificate).collect(),
            duplicate_ids: self.roster.members().duplicates().list().into_iter().map(duplicate).collect(),
            authorities: self.identity.authorities().into_iter().map(authority).collect(),
            descriptors_limit: self.descriptors.limit,
            connections_max: self.descriptors.connections as u64,
            paused: self.breaker.paused().iter().map(breaker::paused_to_proto).collect(),
            history: if history { self.samples().iter().cloned().collect() } else { Vec::new() },
        })
    }

    /// The status and what the node has applied: for a peer.
    pub async fn report(&self, history: bool) -> Result<proto::ReportResponse, RequestError> {
        let status = self.status(history).await?;
        let applied = codec::vector_to_proto(&self.store.applied());
        Ok(proto::ReportResponse { status: Some(status), applied: Some(applied) })
    }

    /// Takes samples at regular intervals, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken, status: TaskStatus) {
        let mut ticks = interval(limits::SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        status.set_state("sampling");
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            status.set_outcome(&self.sample().await);
        }
    }

    async fn sample(&self) -> Result<(), RequestError> {
        let store = &self.store;
        let totals = store.totals();
        let sample = proto::Sample {
            at_unix_ms: signed(self.wall_clock.now_ms()),
            traffic: Some(self.traffic(&store.applied(), &self.roster.reports())),
            records: totals.records,
            log_entries: totals.log_entries,
            log_bytes: totals.log_bytes,
            sst_bytes: store.storage_use().await?.sst_bytes,
        };
        let mut samples = self.samples();
        if samples.len() == limits::SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
        Ok(())
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, VecDeque<proto::Sample>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest heads: first those of which operations are lacking.
    fn heads(&self) -> Vec<proto::OriginHead> {
        let is_filled = self.resyncs.report().is_some();
        let mut lacking = withheld::overdue(&self.store, &self.roster, is_filled);
        lacking.sort_by_key(|withheld| std::cmp::Reverse(withheld.by.len()));
        let mut heads: Vec<_> = lacking.into_iter().take(limits::HEADS_SHOWN).map(lacking_head).collect();
        let shown: BTreeSet<Bytes> = heads.iter().map(|head| head.origin.clone()).collect();
        let others = self.store.newest_heads(limits::HEADS_SHOWN).into_iter().map(|known| head(&known));
        heads.extend(others.filter(|head| !shown.contains(&head.origin)));
        heads.truncate(limits::HEADS_SHOWN);
        heads
    }

    fn traffic(&self, applied: &Vector, peers: &[PeerReport]) -> proto::Traffic {
        let own = applied.iter().filter(|(origin, _)| origin.is_of(self.store.node_id()));
        proto::Traffic {
            reads: self.records.reads(),
            // Clocks of earlier incarnations come from peers.
            writes: own.fold(0, |sum, (_, clock)| sum.saturating_add(clock.0)),
            entries_received: peers.iter().fold(0, |sum, peer| sum.saturating_add(peer.entries_received)),
        }
    }
}

fn trust(
    mode: TrustMode,
    (store, verifier): (&Store, &Verifier),
    acknowledged: &BTreeSet<Origin>,
) -> proto::Trust {
    let forked = |fork: &Arc<Fork>| proto::ForkedOrigin {
        origin: Bytes::copy_from_slice(fork.origin().as_bytes()),
        kind: fork.kind().to_owned(),
        acknowledged: acknowledged.contains(&fork.origin()),
    };
    proto::Trust {
        mode: mode.to_string(),
        unproven_records: store.totals().unproven,
        unborn_origins: store.unborn() as u64,
        unbelieved_origins: verifier.unbelieved(),
        signs: store.born(&store.origin()).is_some(),
        forks: store.forks().iter().take(limits::FORKS_MAX).map(forked).collect(),
        unconfirmed_fills: store.unconfirmed_fills().into_iter().map(fill).collect(),
        heads: Vec::new(),
    }
}

fn head(head: &Head) -> proto::OriginHead {
    proto::OriginHead {
        origin: Bytes::copy_from_slice(head.origin.as_bytes()),
        clock: head.clock().0,
        at_unix_ms: head.at_unix_ms,
        ..proto::OriginHead::default()
    }
}

fn lacking_head(withheld: Withheld) -> proto::OriginHead {
    proto::OriginHead {
        lacking: withheld.operations(),
        lacking_seconds: withheld.lacking.since.elapsed().as_secs(),
        withheld_by: withheld.by.iter().take(limits::REPORT_ITEMS).map(ToString::to_string).collect(),
        ..head(&withheld.lacking.head)
    }
}

fn fill(fill: Fill) -> proto::UnconfirmedFill {
    proto::UnconfirmedFill { donor: fill.donor.to_string(), since_unix: fill.since }
}

fn peer(report: PeerReport, open: &[OpenPeer]) -> proto::Peer {
    let is_dialled = |peer: &&OpenPeer| peer.address.as_deref() == Some(report.key.as_str());
    let is_it = |peer: &&OpenPeer| report.node_id.is_some() && peer.node_id == report.node_id;
    let connection = open.iter().find(is_dialled).or_else(|| open.iter().find(is_it));
    let (group, suite, signature) = connection
        .map(|peer| &peer.negotiated)
        .map(|wire| (wire.group.clone(), wire.suite.clone(), wire.signature.to_string()))
        .unwrap_or_default();
    let unsent = report.unsent.iter().take(limits::UNSENT_SHOWN);
    let unsent = unsent.map(|(origin, clock)| codec::stamp_to_proto(Stamp { origin, clock })).collect();
    proto::Peer {
        group,
        suite,
        signature,
        address: report.key.to_string(),
        node_id: report.node_id.map(|node_id| node_id.to_string()).unwrap_or_default(),
        up: report.up,
        since_unix: report.since,
        last_error: report.last_error.unwrap_or_default(),
        lag_entries: report.lag,
        rounds: report.rounds,
        entries_received: report.entries_received,
        last_success_unix: report.last_heard.map(|heard| heard.at_unix).unwrap_or_default(),
        clock_skew_seconds: report.clock_skew_seconds.unwrap_or_default(),
        round_trip_micros: report.round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        refused: report.is_refused,
        recent_rounds: report.recent_rounds.into_iter().map(round).collect(),
        unsent,
        unsent_origins: report.unsent.len() as u64,
    }
}

fn round(round: Round) -> proto::Round {
    proto::Round {
        started_unix_ms: signed(round.started_unix_ms),
        duration_ms: milliseconds(round.duration),
        entries: round.entries,
        bytes: round.bytes,
        error: round.error.unwrap_or_default(),
    }
}

fn resync(report: ResyncReport) -> proto::Resync {
    proto::Resync {
        node: report.node_id.to_string(),
        reason: report.reason,
        records_joined: report.records,
        log_entries_copied: report.log_entries,
        records_expected: report.expected,
        since_unix: report.since,
        progressed_unix: report.progressed,
    }
}

fn task(report: TaskReport) -> proto::Task {
    let TaskReport { name, state, last_error } = report;
    proto::Task { name: name.to_string(), state, last_error: last_error.unwrap_or_default() }
}

fn backup(backups: &Backups) -> proto::BackupStatus {
    let report = backups.report();
    let (last_key, last_success_unix_ms) =
        report.last.map(|last| (last.key, signed(last.at_unix_ms))).unwrap_or_default();
    proto::BackupStatus {
        place: backups.target().place(),
        last_key,
        last_success_unix_ms,
        last_error: report.last_error.unwrap_or_default(),
        failures: report.failures,
        last_verified_unix_ms: report.last_verified_unix_ms.map(signed).unwrap_or_default(),
        verify_error: report.verify_error.unwrap_or_default(),
        interval_seconds: backups.interval().as_secs(),
    }
}

fn encode_storage(used: StorageUse) -> proto::Storage {
    proto::Storage {
        sst_bytes: used.sst_bytes,
        memtable_bytes: used.memtable_bytes,
        block_cache_bytes: used.block_cache_bytes,
        disk_free_bytes: used.disk.as_ref().map(|disk| disk.free_bytes).unwrap_or_default(),
        disk_total_bytes: used.disk.as_ref().map(|disk| disk.total_bytes).unwrap_or_default(),
        in_ram: used.in_ram,
    }
}

fn certificate(expiry: Expiry) -> proto::Certificate {
    proto::Certificate {
        file: expiry.file,
        not_after_unix: expiry.not_after_unix_seconds,
        lifetime_seconds: expiry.lifetime_seconds,
    }
}

/// An alarm as a status shows it.
pub fn alarm_to_proto(alarm: Alarm) -> proto::Alarm {
    let source = match alarm.source {
        Source::Here => String::new(),
        Source::Peer(address) => address,
    };
    proto::Alarm { at_unix: alarm.at_unix, text: alarm.text, count: alarm.count, source }
}

fn duplicate(duplicate: Duplicate) -> proto::DuplicateId {
    let process = |(incarnation, places): (Incarnation, BTreeSet<Place>)| proto::duplicate_id::Process {
        incarnation: incarnation.0,
        places: places.iter().map(ToString::to_string).collect(),
    };
    proto::DuplicateId {
        node_id: duplicate.node_id.to_string(),
        processes: duplicate.processes.into_iter().map(process).collect(),
    }
}

fn authority(authority: Authority) -> proto::Authority {
    let Authority { key, name, revoked, is_absent } = authority;
    proto::Authority { key, name, revoked, absent: is_absent }
}

fn signed(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}
