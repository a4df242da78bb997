//! Every metric: its name, meaning and unit. The owner of the fact records it; a label is never a key or a
//! hash.

use std::fmt::Write as _;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution over these bucket bounds.
    Histogram(&'static [f64]),
}

/// Which series exist before the first event. `increase()` compares two samples, so it misses the first event
/// of a series that appears with that event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// None: a series appears with its first event.
    Absent,
    /// The one without labels, at 0.
    Zero,
    /// One at 0 for each of these values of this label.
    Each(&'static str, &'static [&'static str]),
}

/// One metric's definition.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The exported name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it means, with its labels.
    pub help: &'static str,
    /// The series that exist from the start.
    pub start: Start,
}

const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Replication times, from a millisecond to a day.
const LAGS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    3600.0, 21_600.0, 86_400.0,
];
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

const HANDSHAKE_REASONS: &[&str] = &[
    "timeout",
    "no_certificate",
    "untrusted",
    "expired",
    "protocol_version",
    "revoked",
    "wire_encryption",
    "role",
    "replaced",
    "no_place",
    "io",
    "other",
];
const ROLES_WITHOUT_URI: &[&str] = &["node", "admin"];

const INCARNATION_REASONS: &[&str] = &[
    "birth",
    "start",
    "unclean_stop",
    "heads_lost",
    "rolled_back",
    "failed_write",
    "forked",
    "closed",
    "migrated",
];

macro_rules! metrics {
    (@start) => { Start::Absent };
    (@start $start:expr) => { $start };
    ($($constant:ident = $name:literal, $kind:expr, $unit:ident, $help:literal $(, $start:expr)?;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All metrics, in the order of this file.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: $kind, unit: Unit::$unit, help: $help, start: metrics!(@start $($start)?) },)*
        ];
    };
}

metrics! {
    BUILD_INFO = "brock_build_info", Kind::Gauge, Count,
        "Always 1, with the `version` and the `node_id`.";
    READY = "brock_ready", Kind::Gauge, Count,
        "1 while the node is ready for traffic, as /readyz reports it, otherwise 0.";
    RPC_DURATION = "brock_rpc_duration_seconds", Kind::Histogram(SECONDS), Seconds,
        "How long calls took until the answer began, by `method` and `code`.";
    RPC_DENIED = "brock_rpc_denied_total", Kind::Counter, Count,
        "Calls denied because the role of the certificate does not allow them, by `method` and `role`.";
    AUDIT_ENTRIES = "brock_audit_entries_total", Kind::Counter, Count,
        "Lines written to the audit log, by `outcome` of the call: ok, error, denied, none (the call has not ended, or the line is about the log itself).", Start::Each("outcome", &["ok", "error", "denied", "none"]);
    AUDIT_FAILURES = "brock_audit_failures_total", Kind::Counter, Count,
        "Failed attempts to write the audit log. The node refuses operators' calls until an attempt succeeds.", Start::Zero;
    CONNECTIONS = "brock_connections", Kind::Gauge, Count,
        "Open accepted connections.";
    CONSOLE_DENIED = "brock_console_denied_total", Kind::Counter, Count,
        "Denied requests for the console.", Start::Zero;
    HANDSHAKE_FAILURES = "brock_handshake_failures_total", Kind::Counter, Count,
        "Accepted connections whose TLS handshake or identification failed, by `reason`.", Start::Each("reason", HANDSHAKE_REASONS);
    CONNECTIONS_WITHOUT_URI = "brock_connections_without_uri_total", Kind::Counter, Count,
        "Accepted connections whose certificate has no SPIFFE URI, by `role`; with node.require-uri-roles they are refused.", Start::Each("role", ROLES_WITHOUT_URI);
    WIRE = "brock_wire_connections", Kind::Gauge, Count,
        "Open connections, by `end` (dialled, accepted (from a node), or client), key exchange `group`, cipher `suite`, and the `signature` of the other end's certificate.";
    CERTIFICATE_EXPIRY = "brock_certificate_expiry_timestamp_seconds", Kind::Gauge, Seconds,
        "When a certificate in the certificates directory expires, in seconds since the Unix epoch, by `file`; of the second certificate in a file, by `file#2`, and so on.";
    CERTIFICATE_LIFETIME = "brock_certificate_lifetime_seconds", Kind::Gauge, Seconds,
        "The whole period of validity of a certificate in the certificates directory, by `file`, as for its expiry.";
    CERTIFICATES_REVOKED = "brock_certificates_revoked", Kind::Gauge, Count,
        "Revoked certificates that this node knows of, by `ca`: the first half of the SHA-256 of their CA's public key, in hex; of an intermediate CA, of its name.";
    CERTIFICATE_RELOADS = "brock_certificate_reloads_total", Kind::Counter, Count,
        "Reloads of rotated certificates, by `outcome`: ok, or error if the node rejected them.", Start::Each("outcome", &["ok", "error"]);
    CONNECTIONS_CUT = "brock_connections_cut_total", Kind::Counter, Count,
        "Connections that the node closed because their certificates are no longer trusted.", Start::Zero;
    RECORDS = "brock_records", Kind::Gauge, Count,
        "Records stored on this node, as the storage engine estimates them.";
    STORAGE_BYTES = "brock_storage_bytes", Kind::Gauge, Bytes,
        "Bytes used by the storage engine, by `kind`: sst, memtable, block_cache.";
    ENGINE_WRITES_STOPPED = "brock_engine_writes_stopped", Kind::Gauge, Count,
        "1 while the storage engine blocks writes until its compactions and flushes catch up, otherwise 0.";
    ENGINE_DELAYED = "brock_engine_delayed_write_bytes_per_second", Kind::Gauge, Count,
        "The rate to which the storage engine throttles writes while its compactions lag; 0 = no throttling.";
    ENGINE_COMPACTIONS = "brock_engine_compactions_running", Kind::Gauge, Count,
        "Running compactions of files.";
    ENGINE_FLUSHES = "brock_engine_flushes_running", Kind::Gauge, Count,
        "Running flushes from memory to files.";
    ENGINE_SNAPSHOTS = "brock_engine_snapshots", Kind::Gauge, Count,
        "Open snapshots; the data that they see stays on disk.";
    ENGINE_ERRORS = "brock_engine_background_errors_total", Kind::Counter, Count,
        "Failed flushes and compactions.", Start::Zero;
    ENGINE_WAL = "brock_engine_wal_bytes", Kind::Gauge, Bytes,
        "Bytes of the write-ahead log, which a start after a crash replays. Absent for data in RAM.";
    ENGINE_FILES = "brock_engine_level0_files", Kind::Gauge, Count,
        "Files of level 0, by column `family`. The storage engine throttles writes from 20 files on and stops them at 36.";
    ENGINE_MEMTABLES = "brock_engine_immutable_memtables", Kind::Gauge, Count,
        "Full memtables that are not flushed yet, by column `family`.";
    ENGINE_PENDING = "brock_engine_compaction_pending_bytes", Kind::Gauge, Bytes,
        "Bytes that pending compactions have to rewrite, by column `family`.";
    ENGINE_LIVE = "brock_engine_live_bytes", Kind::Gauge, Bytes,
        "Estimated bytes of live values, by column `family`.";
    DISK_FREE = "brock_disk_free_bytes", Kind::Gauge, Bytes,
        "Bytes available to this node on the file system of its data. The node refuses writes below 48 MiB.";
    DISK_TOTAL = "brock_disk_total_bytes", Kind::Gauge, Bytes,
        "Size of the file system of the node's data.";
    ALARMS = "brock_alarms", Kind::Gauge, Count,
        "Alarms raised since the start that no operator has cleared.";
    ORIGINS_PAUSED = "brock_origins_paused", Kind::Gauge, Count,
        "Logs that this node does not apply any further, because they destroyed too much in a minute, until an operator lets them go on.";
    ORIGIN_PAUSES = "brock_origin_pauses_total", Kind::Counter, Count,
        "Times that this node paused a log.", Start::Zero;
    ORIGINS_FORKED = "brock_origins_forked_total", Kind::Counter, Count,
        "Incarnations that this node has frozen since its start, because they have signed two histories.", Start::Zero;
    DUPLICATE_IDS = "brock_duplicate_node_ids", Kind::Gauge, Count,
        "Node ids under which this node has seen several live processes in the last two minutes.";
    CLOCK = "brock_clock", Kind::Gauge, Count,
        "The highest clock applied, by `origin`.";
    COMMIT_OPERATIONS = "brock_commit_operations", Kind::Histogram(COUNTS), Count,
        "Operations written by one group commit.";
    COMMIT_DURATION = "brock_commit_duration_seconds", Kind::Histogram(SECONDS), Seconds,
        "How long a group commit's write and fsync took.";
    WRITE_QUEUE = "brock_write_queue_commands", Kind::Gauge, Count,
        "Commands waiting for the writer.";
    WRITE_RETRIES = "brock_write_retries_total", Kind::Counter, Count,
        "Writes retried after a conflict or a transient error of the storage engine.", Start::Zero;
    WRITES_REFUSED = "brock_writes_refused", Kind::Gauge, Count,
        "1 while the node refuses writes (disk full, or the store has stopped), otherwise 0.";
    CREATES = "brock_creates_total", Kind::Counter, Count,
        "Records created by clients of this node, by `expiring`: true or false.", Start::Each("expiring", &["true", "false"]);
    OPERATIONS = "brock_operations_total", Kind::Counter, Count,
        "Operations on existing records by operators of this node, by `kind`: invalidate, unpublish, delete.", Start::Each("kind", &["invalidate", "unpublish", "delete"]);
    DUPLICATE_KEYS = "brock_duplicate_keys_total", Kind::Counter, Count,
        "Refused puts of key hashes that exist, by `values_equal`: true or false.", Start::Each("values_equal", &["true", "false"]);
    CONFLICTS = "brock_conflicts_total", Kind::Counter, Count,
        "Payloads that lost a conflict with another payload of the same key hash.", Start::Zero;
    CONFLICTS_NOW = "brock_conflict_entries", Kind::Gauge, Count,
        "Remembered payloads that lost a conflict with another payload of the same key hash.";
    UNPROVEN = "brock_unproven_records", Kind::Gauge, Count,
        "Records and tombstones of which an operation is not proven, because its origin has not signed it, or it destroys and no operator has: they fill no node whose trust is distributed.";
    FILLS_UNCONFIRMED = "brock_fills_unconfirmed", Kind::Gauge, Count,
        "Donors that alone have filled this node: no other member has confirmed yet that they left nothing out.";
    HEAD_TIME = "brock_head_timestamp_seconds", Kind::Gauge, Seconds,
        "When an origin has signed the newest verified statement how far its log goes, by its clock, by `origin`. It stays while the origin writes nothing.";
    WITHHELD = "brock_withheld_operations", Kind::Gauge, Count,
        "Operations that origins have signed and this node lacks, of logs of which nothing has come for 20 seconds.";
    FROZEN_NOW = "brock_origins_frozen", Kind::Gauge, Count,
        "Origins that are frozen at this node, because they have signed two histories or have two births.";
    UNBELIEVED = "brock_origins_unbelieved", Kind::Gauge, Count,
        "With node.trust distributed: origins whose births are known here and not believed any more, so that what they have signed fills no empty node.";
    QUARANTINED = "brock_quarantined_total", Kind::Counter, Count,
        "Replicated entries that could not be applied and were quarantined.", Start::Zero;
    QUARANTINE_NOW = "brock_quarantine_entries", Kind::Gauge, Count,
        "Entries in quarantine: replicated entries that could not be applied.";
    ORDERS_REFUSED = "brock_orders_refused_total", Kind::Counter, Count,
        "Replicated operations that were refused with all that follows them in their log, because no operator had ordered them, by the `address` of the peer that sent them.";
    EXPIRED = "brock_expired_total", Kind::Counter, Count,
        "Expired records removed from storage.", Start::Zero;
    COMPACTED = "brock_log_compacted_entries_total", Kind::Counter, Count,
        "Log entries removed by compaction; every member had applied them.", Start::Zero;
    COLLECTED = "brock_tombstones_collected_total", Kind::Counter, Count,
        "Collected tombstones.", Start::Zero;
    ORIGINS_DECLINED = "brock_origins_declined_total", Kind::Counter, Count,
        "New origins that this node did not take from a peer, because that peer supplies more of them than it may.", Start::Zero;
    FOLDED = "brock_origins_folded_total", Kind::Counter, Count,
        "Finished incarnations removed from version vectors.", Start::Zero;
    TOMBSTONES = "brock_tombstones", Kind::Gauge, Count,
        "Tombstones of deleted records.";
    LOG_ENTRIES = "brock_log_entries", Kind::Gauge, Count,
        "Entries in the replication log.";
    LOG_BYTES = "brock_log_bytes", Kind::Gauge, Bytes,
        "Bytes of keys and values in the replication log, before compression.";
    FLOOR = "brock_log_floor", Kind::Gauge, Count,
        "The clock up to which the log is compacted, by `origin`.";
    REMOVALS = "brock_payload_removals_pending", Kind::Gauge, Count,
        "Deleted payloads that may still be in a file of the storage engine.";
    MEMBERS = "brock_members", Kind::Gauge, Count,
        "Other nodes whose acknowledgement this node needs before it compacts its log.";
    RECEIPTS = "brock_receipts_total", Kind::Counter, Count,
        "Writes that waited for acknowledgements of other members, by `outcome`: complete or timed_out.", Start::Each("outcome", &["complete", "timed_out"]);
    VISIBLE = "brock_replication_visible_seconds", Kind::Histogram(LAGS), Seconds,
        "Time from an operation's commit at its origin until it is visible here, for operations received directly from their origin, by peer `address`.";
    REVOCATION = "brock_revocation_seconds", Kind::Histogram(LAGS), Seconds,
        "Time from the commit of an invalidate or delete on this node until every member is known to have applied it.";
    REVOCATIONS_PENDING = "brock_revocations_pending", Kind::Gauge, Count,
        "Invalidates and deletes made on this node since its start that some member is not known to have applied.";
    REVOCATION_OLDEST = "brock_revocation_oldest_pending_seconds", Kind::Gauge, Seconds,
        "Age of the oldest pending revocation; 0 = none is pending.";
    REVOCATIONS_UNTIMED = "brock_revocations_untimed_total", Kind::Counter, Count,
        "Invalidates and deletes made on this node that are not timed, because too many were pending.", Start::Zero;
    RESYNCS = "brock_resyncs_total", Kind::Counter, Count,
        "Resyncs of this node from a peer's records, by `outcome`: ok or error.", Start::Each("outcome", &["ok", "error"]);
    CLAIMS_REFUSED = "brock_claims_refused_total", Kind::Counter, Count,
        "What peers brought or claimed and this node did not believe, by address of the `peer` and `kind`: batch (clocks without entries, entries too large or out of order), page (the same in a resync), collected (deletes that the donor has forgotten, where this node collects no tombstones), drops (more of them than donors may drop in a day), quarantine (operations that cannot be applied, above the share of their node), forged (operations that their origin did not sign), state (records in its answers to reads and comparisons that are malformed, or of which something is not proven), destruction (above node.destruction-limit), unsent (operations that it claims and does not send), report, history (a log that is not the one known here, without proof), acknowledgement (a false signature on what it has applied; a puller without an address is named by its certificate), head (a false signature on how far a log goes), closing (ends of logs without the signature of an operator whose certificate is accepted here).";
    RESYNC_RUNNING = "brock_resync_running", Kind::Gauge, Count,
        "1 while this node is being filled from a peer's records, otherwise 0.";
    RESYNC_RECORDS = "brock_resync_records_total", Kind::Counter, Count,
        "What resyncs have copied to this node, by `kind`: record, log_entry.", Start::Each("kind", &["record", "log_entry"]);
    DIVERGENCES = "brock_divergences_total", Kind::Counter, Count,
        "Times that this node and a peer held different records of what both had applied.", Start::Zero;
    SCRUB_MENDED = "brock_scrub_mended_buckets_total", Kind::Counter, Count,
        "Buckets repaired by the scrubber because their records on disk differed from the records that were written.", Start::Zero;
    SCRUB_UNPROVEN = "brock_scrub_unproven_records_total", Kind::Counter, Count,
        "Records found by the scrubber whose proof to other nodes the disk had lost or damaged.", Start::Zero;
    BUNDLES_DROPPED = "brock_bundles_dropped_total", Kind::Counter, Count,
        "Signed bundles removed from storage because no record or log here consists of their operations any more.", Start::Zero;
    BACKUP_LAST_SUCCESS = "brock_backup_last_success_timestamp_seconds", Kind::Gauge, Seconds,
        "When the last successful backup was made, in seconds since the Unix epoch.";
    BACKUP_INTERVAL = "brock_backup_interval_seconds", Kind::Gauge, Seconds,
        "How often the node makes a full backup: node.backup.interval. Absent if it makes none.";
    BACKUP_LAST_VERIFIED = "brock_backup_last_verified_timestamp_seconds", Kind::Gauge, Seconds,
        "When this node last verified its newest backup, in seconds since the Unix epoch.";
    BACKUP_VERIFY_FAILURES = "brock_backup_verify_failures_total", Kind::Counter, Count,
        "Verifications that found a backup different from what the node had uploaded.", Start::Zero;
    BACKUP_DURATION = "brock_backup_duration_seconds", Kind::Histogram(SECONDS), Seconds,
        "How long a backup took.";
    BACKUP_BYTES = "brock_backup_bytes_total", Kind::Counter, Bytes,
        "Uploaded bytes of backups.", Start::Zero;
    BACKUP_FAILURES = "brock_backup_failures_total", Kind::Counter, Count,
        "Failed backups.", Start::Zero;
    OBJECT_REQUESTS = "brock_backup_object_requests_total", Kind::Counter, Count,
        "Attempts of requests to the object store, by `operation` and `outcome`: ok, retried, failed.";
    REPAIRED = "brock_repaired_records_total", Kind::Counter, Count,
        "Records changed by merging a peer's different state.", Start::Zero;
    INCARNATIONS = "brock_incarnations_minted_total", Kind::Counter, Count,
        "New incarnations of this node, by `reason`: birth, start, unclean_stop, heads_lost, rolled_back, failed_write, forked, closed, migrated.", Start::Each("reason", INCARNATION_REASONS);
    DISCOVERED = "brock_discovery_addresses", Kind::Gauge, Count,
        "Addresses in the last DNS answer, by `name` in node.join; they may include this node's own.";
    DISCOVERY_FAILURES = "brock_discovery_failures_total", Kind::Counter, Count,
        "Failed DNS queries for a `name` in node.join; the node keeps the known peers.";
    PEER_UP = "brock_peer_up", Kind::Gauge, Count,
        "1 while this node pulls from the peer at `address`, otherwise 0.";
    PEER_LAG = "brock_peer_lag_entries", Kind::Gauge, Count,
        "Operations that the peer at `address` has, as last reported, and this node lacks.";
    PEER_LAST_SUCCESS = "brock_peer_last_success_timestamp_seconds", Kind::Gauge, Seconds,
        "When the last message from the peer at `address` arrived, in seconds since the Unix epoch.";
    PEER_CLOCK_SKEW = "brock_peer_clock_skew_seconds", Kind::Gauge, Seconds,
        "The wall clock of the peer at `address` minus this node's, in whole seconds, at its last message.";
    ROUNDS = "brock_replication_rounds_total", Kind::Counter, Count,
        "Replication rounds, by peer `address` and `outcome`: ok or error.";
    ENTRIES = "brock_replication_entries_total", Kind::Counter, Count,
        "Log entries received from the peer at `address`, including duplicates.";
    ENTRIES_SENT = "brock_replication_sent_entries_total", Kind::Counter, Count,
        "Log entries sent to pullers.", Start::Zero;
    TERMINATED_READS = "brock_terminated_reads_total", Kind::Counter, Count,
        "Reads refused because the record is invalidated.", Start::Zero;
    PEEKS = "brock_peeks_total", Kind::Counter, Count,
        "Reads that missed on this node and asked the peers, by `outcome`: found, absent, cached_absent, unknown, refused.", Start::Each("outcome", &["found", "absent", "cached_absent", "unknown", "refused"]);
    TRACE_SPANS = "brock_trace_spans_total", Kind::Counter, Count,
        "Spans sent to the collector at trace.otlp-endpoint, by `outcome`: sent or failed. Spans dropped from a full queue are not counted.", Start::Each("outcome", &["sent", "failed"]);
    PROCESS_START = "process_start_time_seconds", Kind::Gauge, Seconds,
        "When the process started, in seconds since the Unix epoch.";
    PROCESS_CPU = "process_cpu_seconds_total", Kind::Counter, Seconds,
        "User and system CPU time of the process.";
    PROCESS_MEMORY = "process_resident_memory_bytes", Kind::Gauge, Bytes,
        "Resident memory of the process.";
    PROCESS_OPEN_FDS = "process_open_fds", Kind::Gauge, Count,
        "Open file descriptors.";
    PROCESS_MAX_FDS = "process_max_fds", Kind::Gauge, Count,
        "Maximum number of open file descriptors.";
}

/// A metric of badgerauth, exported in addition to Brock's own so that its dashboards keep working.
#[derive(Debug, Clone, Copy)]
pub struct SeedMetric {
    /// Its name in badgerauth.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The source of its values.
    pub values: SeedValues,
    /// What it means here.
    pub help: &'static str,
}

/// The source of the values of a badgerauth metric.
#[derive(Debug, Clone, Copy)]
pub enum SeedValues {
    /// From these series of Brock's own.
    Of(&'static [SeedSource]),
    /// It is recorded under its own name.
    Recorded,
    /// Always 0: Brock has nothing of the kind.
    Zero,
}

/// Series whose values a badgerauth metric copies.
#[derive(Debug, Clone, Copy)]
pub struct SeedSource {
    /// Their name as exported.
    pub of: &'static str,
    /// Only those with this label, as it is written; empty = all.
    pub only: &'static str,
    /// The label that replaces it; empty = none. Other labels stay.
    pub instead: &'static str,
}

macro_rules! seed_metrics {
    (@values $values:ident) => { SeedValues::$values };
    (@values $($of:literal [$only:literal => $instead:literal])+) => {
        SeedValues::Of(&[$(SeedSource { of: $of, only: $only, instead: $instead },)+])
    };
    ($($name:expr, $kind:ident, ($($values:tt)+), $help:literal;)*) => {
        /// All metrics of badgerauth.
        pub const SEED: &[SeedMetric] = &[$(SeedMetric {
            name: $name,
            kind: Kind::$kind,
            values: seed_metrics!(@values $($values)+),
            help: $help,
        },)*];
    };
}

/// Recorded, because it sums all incarnations of a node.
pub const SEED_CLOCK: &str = "as_badgerauth_current_clock";

seed_metrics! {
    "as_badgerauth_insert", Counter, ("brock_creates_total" ["expiring=\"false\"" => ""]),
        "Records without expiry created by clients of this node.";
    "as_badgerauth_expiring_insert", Counter, ("brock_creates_total" ["expiring=\"true\"" => ""]),
        "Records with an expiry created by clients of this node.";
    "as_badgerauth_duplicate_key", Counter, ("brock_duplicate_keys_total" ["" => ""]),
        "Refused puts of key hashes that exist, by `values_equal`: true or false.";
    SEED_CLOCK, Gauge, (Recorded),
        "Operations of the node `node_id` that are applied here: the sum of the clocks of its incarnations.";
    "as_badgerauth_peer_up", Counter, ("brock_replication_rounds_total" ["outcome=\"ok\"" => ""]),
        "Successful replication rounds with the peer at `address`.";
    "as_badgerauth_peer_down", Counter, ("brock_replication_rounds_total" ["outcome=\"error\"" => ""]),
        "Failed replication rounds with the peer at `address`.";
    "as_badgerauth_txn_backoff", Counter, ("brock_write_retries_total" ["" => ""]),
        "Retried writes.";
    "as_badgerauth_record_terminated", Counter, ("brock_terminated_reads_total" ["" => ""]),
        "Reads refused because the record is invalidated.";
    "as_badgerauth_kv_bytes_lsm", Gauge, ("brock_storage_bytes" ["kind=\"sst\"" => ""]),
        "Bytes of the storage engine's files.";
    "as_badgerauth_kv_bytes_vlog", Gauge, (Zero),
        "Always 0: the storage engine keeps values in the same files as keys.";
    "as_badgerauth_backup", Counter,
        ("brock_backup_duration_seconds_count" ["" => "successful=\"true\""]
         "brock_backup_failures_total" ["" => "successful=\"false\""]),
        "Successful and failed backups, by `successful`: true or false.";
}

/// Describes every metric to the installed recorder, and creates the series that start at 0.
pub fn describe_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.unit, metric.help),
        }
        match metric.start {
            Start::Absent => {}
            Start::Zero => counter!(metric.name).absolute(0),
            Start::Each(label, values) => {
                values.iter().for_each(|value| counter!(metric.name, label => *value).absolute(0));
            }
        }
    }
    describe_gauge!(
        SEED_CLOCK,
        SEED.iter().find(|seed| seed.name == SEED_CLOCK).map_or("", |seed| seed.help)
    );
}

impl Kind {
    /// Its name in Prometheus' text format.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The tables of all metrics as Markdown.
pub fn reference_markdown() -> String {
    let mut text = "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let Metric { name, kind, unit, help, start } = metric;
        let unit = match unit {
            Unit::Count => "",
            unit => unit.as_str(),
        };
        let from = match start {
            Start::Absent => String::new(),
            Start::Zero => " From the start.".to_owned(),
            Start::Each(label, values) => format!(" From the start, with `{label}` {}.", values.join(", ")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {} | {unit} | {} | {help}{from} |", kind.name(), labels(help));
    }
    text.push_str("\n| metric of badgerauth | type | labels | same as | meaning |\n|---|---|---|---|---|\n");
    for seed in SEED {
        let same = match seed.values {
            SeedValues::Of(sources) => {
                let series = |source: &SeedSource| match source.only {
                    "" => format!("`{}`", source.of),
                    only => format!("`{}{{{only}}}`", source.of),
                };
                sources.iter().map(series).collect::<Vec<_>>().join(", ")
            }
            SeedValues::Recorded | SeedValues::Zero => String::new(),
        };
        let (name, kind, labels, help) = (seed.name, seed.kind.name(), labels(seed.help), seed.help);
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {same} | {help} |");
    }
    text
}

/// The labels: the words in backticks in a help text.
fn labels(help: &str) -> String {
    let labels = help.split('`').skip(1).step_by(2);
    labels.map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
