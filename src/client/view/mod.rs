//! The status of nodes as JSON, with one set of names for the tools and the console.
//!
//! - [`trace`]: a record's trace.
//! - `peer`: a node's connection to a peer.
//! - `trust`: what a node believes others.
//! - `verdict`: the verdict on a cluster, and the findings behind it.

#![allow(
    missing_docs,
    reason = "the fields are those of proto/brock/v1/status.proto and admin.proto, explained there"
)]

mod peer;
pub mod trace;
mod trust;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use brock_core::{base::id::Incarnation, domain::codec, proto};

pub use peer::{Peer, Round};
pub use trust::{ForkedOrigin, OriginHead, Trust, UnconfirmedFill};
pub use verdict::{Finding, Level, Verdict};

/// A node's answer is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ViewError(String);

/// All nodes, and a verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Cluster {
    pub verdict: Verdict,
    pub nodes: Vec<Node>,
}

/// One node, or why it could not be asked.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    pub node: String,
    pub address: String,
    pub error: String,
    pub retired: bool,
    /// By node id of the origin; `null` if not known.
    pub lags: Option<BTreeMap<String, u64>>,
    /// `null` if not known.
    pub status: Option<Status>,
}

/// The status of a node.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub node_id: String,
    pub incarnation: String,
    pub incarnation_reason: String,
    pub version: String,
    pub started_unix: i64,
    pub now_unix_ms: i64,
    pub ready: bool,
    pub records: u64,
    pub tombstones: u64,
    pub log_entries: u64,
    pub log_bytes: u64,
    /// Deleted payloads that the node's files still contain.
    pub removals_pending: u64,
    pub quarantined: u64,
    pub conflicts: u64,
    /// Those of them that an operator has acknowledged at this node.
    pub conflicts_acknowledged: u64,
    /// `null` if not known.
    pub trust: Option<Trust>,
    /// Empty if writes are accepted.
    pub writes_refused: String,
    pub alarms: Vec<Alarm>,
    /// `null` if none is under way.
    pub resync: Option<Resync>,
    pub backup_public_key: String,
    /// `null` if not enabled.
    pub backup: Option<BackupStatus>,
    pub storage: Storage,
    pub traffic: Traffic,
    /// In the order of their expiry.
    pub certificates: Vec<Certificate>,
    /// The trusted CAs.
    pub authorities: Vec<Authority>,
    /// Node ids under which several processes run.
    pub duplicate_ids: Vec<DuplicateId>,
    /// The limit of open files of its process; 0 if not known.
    pub descriptors_limit: u64,
    /// How many connections it accepts on its gRPC port.
    pub connections_max: u64,
    /// Logs that the node does not apply any further.
    pub paused: Vec<PausedOrigin>,
    pub clocks: BTreeMap<String, u64>,
    pub peers: Vec<Peer>,
    pub tasks: Vec<Task>,
    /// Oldest first; left out unless asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Sample>,
}

/// A resync: the node copies a peer's records.
#[derive(Debug, Clone, Serialize)]
pub struct Resync {
    pub node: String,
    pub reason: String,
    pub records_joined: u64,
    pub log_entries_copied: u64,
    pub records_expected: u64,
    pub since_unix: i64,
    /// When the last records or log entries came.
    pub progressed_unix: i64,
}

/// A piece of background work.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    pub name: String,
    pub state: String,
    pub last_error: String,
}

/// The state of a node's backups.
#[derive(Debug, Clone, Serialize)]
pub struct BackupStatus {
    pub place: String,
    pub last_key: String,
    pub last_success_unix_ms: i64,
    pub last_error: String,
    pub failures: u64,
    pub last_verified_unix_ms: i64,
    pub verify_error: String,
    pub interval_seconds: u64,
}

/// Bytes that the storage engine uses, and the free space.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Storage {
    pub sst_bytes: u64,
    pub memtable_bytes: u64,
    pub block_cache_bytes: u64,
    /// 0 with all data in RAM, or if the disk does not answer.
    pub disk_free_bytes: u64,
    pub disk_total_bytes: u64,
    /// Whether all data is in RAM.
    pub in_ram: bool,
}

/// A node's counters.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Traffic {
    pub reads: u64,
    pub writes: u64,
    pub entries_received: u64,
}

/// When a certificate expires.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    pub file: String,
    pub not_after_unix: i64,
    pub lifetime_seconds: i64,
}

/// An alarm, for an operator to look into.
#[derive(Debug, Clone, Serialize)]
pub struct Alarm {
    /// When it was last raised.
    pub at_unix: i64,
    pub text: String,
    /// How often it was raised.
    pub count: u64,
    /// The address of the peer that caused it; empty = the node itself.
    pub source: String,
}

/// A log that a node does not apply any further, because it destroyed too much in a short time.
#[derive(Debug, Clone, Serialize)]
pub struct PausedOrigin {
    pub node_id: String,
    /// The address of the peer that brought it.
    pub by: String,
    /// `null` for records that the peer sent as a whole.
    pub origin: Option<String>,
    /// Up to here it is applied.
    pub clock: u64,
    pub since_unix: i64,
}

/// A CA whose certificates a node accepts.
#[derive(Debug, Clone, Serialize)]
pub struct Authority {
    /// The first half of SHA-256 of its public key, hex.
    pub key: String,
    pub name: String,
    /// How many of its certificates the node's revocation lists contain.
    pub revoked: u64,
    /// Whether it is not in the node's certificates directory.
    pub absent: bool,
}

/// A node id under which several processes run.
#[derive(Debug, Clone, Serialize)]
pub struct DuplicateId {
    pub node_id: String,
    pub processes: Vec<Process>,
}

/// One of several processes with the same node id.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    pub incarnation: String,
    /// Where it was seen.
    pub places: Vec<String>,
}

/// A node's counters at one time.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub at_unix_ms: i64,
    pub traffic: Traffic,
    pub records: u64,
    pub log_entries: u64,
    pub log_bytes: u64,
    pub sst_bytes: u64,
}

/// A setting that a node runs with.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub source: String,
}

impl TryFrom<proto::ClusterResponse> for Cluster {
    type Error = ViewError;

    fn try_from(response: proto::ClusterResponse) -> Result<Self, ViewError> {
        let proto::ClusterResponse { nodes, verdict } = response;
        let verdict = verdict.ok_or_else(|| ViewError("the verdict is missing".to_owned()))?;
        let nodes = nodes.into_iter().map(Node::try_from).collect::<Result<_, _>>()?;
        Ok(Self { verdict: verdict.try_into()?, nodes })
    }
}

impl TryFrom<proto::cluster_response::Node> for Node {
    type Error = ViewError;

    fn try_from(node: proto::cluster_response::Node) -> Result<Self, ViewError> {
        let proto::cluster_response::Node { node, address, error, status, lags, retired, pulls: _ } = node;
        // What one node says must not hide the others.
        let (status, error) = match status.map(Status::try_from).transpose() {
            Ok(status) => (status, error),
            Err(problem) => (None, format!("its status is malformed: {problem}")),
        };
        let lags = lags.map(|lags| lags.entries.into_iter().collect());
        Ok(Self { node, address, error, retired, lags, status })
    }
}

impl TryFrom<proto::StatusResponse> for Status {
    type Error = ViewError;

    fn try_from(response: proto::StatusResponse) -> Result<Self, ViewError> {
        // Destructured, so that a new field cannot be forgotten here.
        let proto::StatusResponse {
            node_id,
            incarnation,
            incarnation_reason,
            version,
            records,
            clocks,
            peers,
            quarantined,
            conflicts,
            conflicts_acknowledged,
            trust,
            writes_refused,
            tasks,
            alarms,
            ready,
            tombstones,
            log_entries,
            log_bytes,
            removals_pending,
            resync,
            backup_public_key,
            backup,
            started_unix,
            now_unix_ms,
            storage,
            traffic,
            certificates,
            history,
            authorities,
            duplicate_ids,
            descriptors_limit,
            connections_max,
            paused,
        } = response;
        Ok(Self {
            node_id,
            incarnation: Incarnation(incarnation).to_string(),
            incarnation_reason,
            version,
            started_unix,
            now_unix_ms,
            ready,
            records,
            tombstones,
            log_entries,
            log_bytes,
            removals_pending,
            quarantined,
            conflicts,
            conflicts_acknowledged,
            trust: trust.map(Trust::try_from).transpose()?,
            writes_refused,
            alarms: alarms.into_iter().map(Alarm::from).collect(),
            resync: resync.map(Resync::from),
            backup_public_key,
            backup: backup.map(BackupStatus::from),
            storage: storage.map(Storage::from).unwrap_or_default(),
            traffic: traffic.map(Traffic::from).unwrap_or_default(),
            certificates: certificates.into_iter().map(Certificate::from).collect(),
            authorities: authorities.into_iter().map(Authority::from).collect(),
            duplicate_ids: duplicate_ids.into_iter().map(DuplicateId::from).collect(),
            descriptors_limit,
            connections_max,
            paused: paused.into_iter().map(PausedOrigin::try_from).collect::<Result<_, _>>()?,
            clocks: by_origin(clocks)?,
            peers: peers.into_iter().map(Peer::try_from).collect::<Result<_, _>>()?,
            tasks: tasks.into_iter().map(Task::from).collect(),
            history: history.into_iter().map(Sample::from).collect(),
        })
    }
}

fn by_origin(clocks: Vec<proto::Stamp>) -> Result<BTreeMap<String, u64>, ViewError> {
    let read = clocks.iter().map(|stamp| {
        let stamp = codec::stamp_from_proto(stamp).map_err(|error| ViewError(error.to_string()))?;
        Ok((stamp.origin.to_string(), stamp.clock.0))
    });
    read.collect()
}

macro_rules! same_fields {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        $(impl From<proto::$name> for $name {
            fn from(message: proto::$name) -> Self {
                let proto::$name { $($field),* } = message;
                Self { $($field),* }
            }
        })*
    };
}

same_fields! {
    Round { started_unix_ms, duration_ms, entries, bytes, error }
    Resync { node, reason, records_joined, log_entries_copied, records_expected, since_unix, progressed_unix }
    Task { name, state, last_error }
    BackupStatus {
        place, last_key, last_success_unix_ms, last_error, failures, last_verified_unix_ms, verify_error,
        interval_seconds,
    }
    Storage { sst_bytes, memtable_bytes, block_cache_bytes, disk_free_bytes, disk_total_bytes, in_ram }
    Traffic { reads, writes, entries_received }
    Certificate { file, not_after_unix, lifetime_seconds }
    Authority { key, name, revoked, absent }
    Alarm { at_unix, text, count, source }
}

impl From<proto::DuplicateId> for DuplicateId {
    fn from(duplicate: proto::DuplicateId) -> Self {
        let process = |process: proto::duplicate_id::Process| Process {
            incarnation: Incarnation(process.incarnation).to_string(),
            places: process.places,
        };
        let proto::DuplicateId { node_id, processes } = duplicate;
        Self { node_id, processes: processes.into_iter().map(process).collect() }
    }
}

impl TryFrom<proto::PausedOrigin> for PausedOrigin {
    type Error = ViewError;

    fn try_from(paused: proto::PausedOrigin) -> Result<Self, ViewError> {
        let proto::PausedOrigin { node_id, by, origin, clock, since_unix, shared: _, direct: _ } = paused;
        let stamp = (!origin.is_empty()).then_some(proto::Stamp { origin, clock });
        let stamp = stamp.as_ref().map(codec::stamp_from_proto).transpose();
        let stamp = stamp.map_err(|error| ViewError(error.to_string()))?;
        Ok(Self { node_id, by, origin: stamp.map(|stamp| stamp.origin.to_string()), clock, since_unix })
    }
}

impl From<proto::Sample> for Sample {
    fn from(sample: proto::Sample) -> Self {
        let proto::Sample { at_unix_ms, traffic, records, log_entries, log_bytes, sst_bytes } = sample;
        let traffic = traffic.map(Traffic::from).unwrap_or_default();
        Self { at_unix_ms, traffic, records, log_entries, log_bytes, sst_bytes }
    }
}

impl From<proto::show_configuration_response::Setting> for Setting {
    fn from(setting: proto::show_configuration_response::Setting) -> Self {
        let proto::show_configuration_response::Setting { key, value, source } = setting;
        Self { key, value, source }
    }
}
