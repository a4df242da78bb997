//! Every metric: its name, what it means and its unit. Recorded by whoever owns the fact; never
//! with a key or a hash as a label.

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

/// Which series exist before anything has happened. `increase()` compares two samples: it does not see
/// the first event of a series that appears with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// None: a series appears when it is first recorded.
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
    /// What exists of it from the start.
    pub start: Start,
}

const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a moment to a day: how long it takes until something is elsewhere.
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
    "role",
    "io",
    "other",
];
const INCARNATION_REASONS: &[&str] =
    &["birth", "start", "unclean_stop", "heads_lost", "rolled_back", "failed_write"];

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
        "1 while the node may be sent traffic, as /readyz says, otherwise 0.";
    RPC_DURATION = "brock_rpc_duration_seconds", Kind::Histogram(SECONDS), Seconds,
        "How long calls took until their answer began, by `method` and `code`.";
    RPC_DENIED = "brock_rpc_denied_total", Kind::Counter, Count,
        "Calls refused because the certificate's role may not make them, by `method` and `role`.";
    AUDIT_ENTRIES = "brock_audit_entries_total", Kind::Counter, Count,
        "Lines of the audit log, by `outcome` of the call: ok, error, denied, none (it is not over yet, or the line is about the log itself).", Start::Each("outcome", &["ok", "error", "denied", "none"]);
    AUDIT_FAILURES = "brock_audit_failures_total", Kind::Counter, Count,
        "Attempts to write the audit log that failed. Operators are refused until one succeeds.", Start::Zero;
    CONNECTIONS = "brock_connections", Kind::Gauge, Count,
        "Accepted connections that are open.";
    CONSOLE_DENIED = "brock_console_denied_total", Kind::Counter, Count,
        "Requests for the console that were refused.", Start::Zero;
    HANDSHAKE_FAILURES = "brock_handshake_failures_total", Kind::Counter, Count,
        "Accepted connections that never became usable, by `reason`.", Start::Each("reason", HANDSHAKE_REASONS);
    CERTIFICATE_EXPIRY = "brock_certificate_expiry_timestamp_seconds", Kind::Gauge, Seconds,
        "When a certificate of the certificates directory ceases to be valid, seconds since the Unix epoch, by `file`.";
    CERTIFICATES_REVOKED = "brock_certificates_revoked", Kind::Gauge, Count,
        "Certificates that this node knows to be revoked, by `ca`: the first half of SHA-256 of the public key of their CA, hex.";
    CERTIFICATE_RELOADS = "brock_certificate_reloads_total", Kind::Counter, Count,
        "Times that exchanged certificates were taken over or refused, by `outcome`: ok or error.", Start::Each("outcome", &["ok", "error"]);
    CONNECTIONS_CUT = "brock_connections_cut_total", Kind::Counter, Count,
        "Connections that were ended because their certificates are not trusted any more.", Start::Zero;
    RECORDS = "brock_records", Kind::Gauge, Count,
        "Records stored here, as the storage engine estimates it.";
    STORAGE_BYTES = "brock_storage_bytes", Kind::Gauge, Bytes,
        "Bytes the storage engine uses, by `kind`: sst, memtable, block_cache.";
    ENGINE_WRITES_STOPPED = "brock_engine_writes_stopped", Kind::Gauge, Count,
        "1 while the storage engine takes no writes until it has caught up with its own work, otherwise 0.";
    ENGINE_DELAYED = "brock_engine_delayed_write_bytes_per_second", Kind::Gauge, Count,
        "The rate that the storage engine slows writes down to because it lags behind; 0 = it does not.";
    ENGINE_COMPACTIONS = "brock_engine_compactions_running", Kind::Gauge, Count,
        "Compactions of files that run.";
    ENGINE_FLUSHES = "brock_engine_flushes_running", Kind::Gauge, Count,
        "Flushes from memory to files that run.";
    ENGINE_SNAPSHOTS = "brock_engine_snapshots", Kind::Gauge, Count,
        "Snapshots that are held: what they see stays on disk.";
    ENGINE_ERRORS = "brock_engine_background_errors_total", Kind::Counter, Count,
        "Flushes and compactions that failed.", Start::Zero;
    ENGINE_WAL = "brock_engine_wal_bytes", Kind::Gauge, Bytes,
        "Bytes of the write-ahead log: what a start after a crash has to read. None in RAM.";
    ENGINE_FILES = "brock_engine_level0_files", Kind::Gauge, Count,
        "Files of level 0 by column `family`. Writes are slowed down from 20 on, and stopped at 36.";
    ENGINE_MEMTABLES = "brock_engine_immutable_memtables", Kind::Gauge, Count,
        "Full tables in memory that are not in files yet, by column `family`.";
    ENGINE_PENDING = "brock_engine_compaction_pending_bytes", Kind::Gauge, Bytes,
        "Bytes that must be rewritten until the files are in shape, by column `family`.";
    ENGINE_LIVE = "brock_engine_live_bytes", Kind::Gauge, Bytes,
        "Bytes of present values, roughly, by column `family`.";
    DISK_FREE = "brock_disk_free_bytes", Kind::Gauge, Bytes,
        "Bytes that this node may still use of the file system where its data lies. Writes are refused below 48 MiB.";
    DISK_TOTAL = "brock_disk_total_bytes", Kind::Gauge, Bytes,
        "Size of the file system where the node's data lies.";
    ALARMS = "brock_alarms", Kind::Gauge, Count,
        "Alarms that the status shows: what an operator was told since the start and has not cleared.";
    CLOCK = "brock_clock", Kind::Gauge, Count,
        "The highest clock applied, by `origin`.";
    COMMIT_OPERATIONS = "brock_commit_operations", Kind::Histogram(COUNTS), Count,
        "Operations written by one group commit.";
    COMMIT_DURATION = "brock_commit_duration_seconds", Kind::Histogram(SECONDS), Seconds,
        "How long a group commit's write and fsync took.";
    WRITE_QUEUE = "brock_write_queue_commands", Kind::Gauge, Count,
        "Commands waiting for the writer.";
    WRITE_RETRIES = "brock_write_retries_total", Kind::Counter, Count,
        "Writes tried again after a conflict or a passing fault of the storage engine.", Start::Zero;
    WRITES_REFUSED = "brock_writes_refused", Kind::Gauge, Count,
        "1 while writes are refused (disk full, or the store has stopped), otherwise 0.";
    CREATES = "brock_creates_total", Kind::Counter, Count,
        "Records created by clients of this node, by `expiring`: true or false.", Start::Each("expiring", &["true", "false"]);
    OPERATIONS = "brock_operations_total", Kind::Counter, Count,
        "Operations on existing records by operators of this node, by `kind`: invalidate, unpublish, delete.", Start::Each("kind", &["invalidate", "unpublish", "delete"]);
    DUPLICATE_KEYS = "brock_duplicate_keys_total", Kind::Counter, Count,
        "Puts refused because the key hash exists, by `values_equal`: true or false.", Start::Each("values_equal", &["true", "false"]);
    CONFLICTS = "brock_conflicts_total", Kind::Counter, Count,
        "Payloads that lost against another one of the same key hash.", Start::Zero;
    CONFLICTS_NOW = "brock_conflict_entries", Kind::Gauge, Count,
        "Payloads that lost against another one of the same key hash and are remembered.";
    QUARANTINED = "brock_quarantined_total", Kind::Counter, Count,
        "Replicated entries that could not be applied and were set aside.", Start::Zero;
    QUARANTINE_NOW = "brock_quarantine_entries", Kind::Gauge, Count,
        "Replicated entries that are set aside because they could not be applied.";
    EXPIRED = "brock_expired_total", Kind::Counter, Count,
        "Expired records that were removed from storage.", Start::Zero;
    COMPACTED = "brock_log_compacted_entries_total", Kind::Counter, Count,
        "Log entries that every member had and that were compacted away.", Start::Zero;
    COLLECTED = "brock_tombstones_collected_total", Kind::Counter, Count,
        "Tombstones that were collected.", Start::Zero;
    FOLDED = "brock_origins_folded_total", Kind::Counter, Count,
        "Finished incarnations that vectors do not list any more.", Start::Zero;
    TOMBSTONES = "brock_tombstones", Kind::Gauge, Count,
        "Deleted records that are remembered.";
    LOG_ENTRIES = "brock_log_entries", Kind::Gauge, Count,
        "Entries in the replication log.";
    LOG_BYTES = "brock_log_bytes", Kind::Gauge, Bytes,
        "Bytes of keys and values in the replication log, before compression.";
    FLOOR = "brock_log_floor", Kind::Gauge, Count,
        "The clock up to which the log is compacted, by `origin`.";
    REMOVALS = "brock_payload_removals_pending", Kind::Gauge, Count,
        "Payloads that are deleted but may still be in some file of the storage engine.";
    MEMBERS = "brock_members", Kind::Gauge, Count,
        "Other nodes whose acknowledgement this node waits for before it compacts.";
    RECEIPTS = "brock_receipts_total", Kind::Counter, Count,
        "Writes that waited for other members, by `outcome`: complete or timed_out.", Start::Each("outcome", &["complete", "timed_out"]);
    VISIBLE = "brock_replication_visible_seconds", Kind::Histogram(LAGS), Seconds,
        "From the commit of an operation at its origin until it was visible here, for what came from its origin directly, by peer `address`.";
    REVOCATION = "brock_revocation_seconds", Kind::Histogram(LAGS), Seconds,
        "From the commit of an invalidate or delete made here until every member was known to have applied it.";
    REVOCATIONS_PENDING = "brock_revocations_pending", Kind::Gauge, Count,
        "Invalidates and deletes made here since the start that some member is not known to have applied.";
    REVOCATION_OLDEST = "brock_revocation_oldest_pending_seconds", Kind::Gauge, Seconds,
        "How long the oldest of them has waited; 0 = there is none.";
    REVOCATIONS_UNTIMED = "brock_revocations_untimed_total", Kind::Counter, Count,
        "Invalidates and deletes made here whose time was not taken, because too many were waiting.", Start::Zero;
    RESYNCS = "brock_resyncs_total", Kind::Counter, Count,
        "Times that this node was filled from a peer's records, by `outcome`: ok or error.", Start::Each("outcome", &["ok", "error"]);
    DIVERGENCES = "brock_divergences_total", Kind::Counter, Count,
        "Times that a peer had applied the same and held other records.", Start::Zero;
    SCRUB_MENDED = "brock_scrub_mended_buckets_total", Kind::Counter, Count,
        "Buckets whose records on disk were not those that were written.", Start::Zero;
    BACKUP_LAST_SUCCESS = "brock_backup_last_success_timestamp_seconds", Kind::Gauge, Seconds,
        "When the last good backup was made, seconds since the Unix epoch.";
    BACKUP_LAST_VERIFIED = "brock_backup_last_verified_timestamp_seconds", Kind::Gauge, Seconds,
        "When this node last read its newest backup again and found it to be what it had made, seconds since the Unix epoch.";
    BACKUP_VERIFY_FAILURES = "brock_backup_verify_failures_total", Kind::Counter, Count,
        "Times that a backup which was read again was not what had been made.", Start::Zero;
    BACKUP_DURATION = "brock_backup_duration_seconds", Kind::Histogram(SECONDS), Seconds,
        "How long a backup took.";
    BACKUP_BYTES = "brock_backup_bytes_total", Kind::Counter, Bytes,
        "Bytes of backups that were uploaded.", Start::Zero;
    BACKUP_FAILURES = "brock_backup_failures_total", Kind::Counter, Count,
        "Backups that were not made.", Start::Zero;
    OBJECT_REQUESTS = "brock_backup_object_requests_total", Kind::Counter, Count,
        "Attempts at requests to the object store of backups, by `operation` and `outcome`: ok, retried, failed.";
    REPAIRED = "brock_repaired_records_total", Kind::Counter, Count,
        "Records that changed by joining a peer's differing state.", Start::Zero;
    INCARNATIONS = "brock_incarnations_minted_total", Kind::Counter, Count,
        "New incarnations of this node, by `reason`: birth, start, unclean_stop, heads_lost, rolled_back, failed_write.", Start::Each("reason", INCARNATION_REASONS);
    DISCOVERED = "brock_discovery_addresses", Kind::Gauge, Count,
        "Addresses that DNS listed when it last answered, by `name` in node.join; this node's own may be among them.";
    DISCOVERY_FAILURES = "brock_discovery_failures_total", Kind::Counter, Count,
        "Times that DNS gave no answer for a `name` in node.join: the peers that were known stay.";
    PEER_UP = "brock_peer_up", Kind::Gauge, Count,
        "1 while this node is pulling from the peer at `address`, otherwise 0.";
    PEER_LAG = "brock_peer_lag_entries", Kind::Gauge, Count,
        "Operations that the peer at `address` was last known to have and this node lacks.";
    PEER_LAST_SUCCESS = "brock_peer_last_success_timestamp_seconds", Kind::Gauge, Seconds,
        "When something was last heard from the peer at `address`, seconds since the Unix epoch.";
    PEER_CLOCK_SKEW = "brock_peer_clock_skew_seconds", Kind::Gauge, Seconds,
        "The wall clock of the peer at `address` minus this node's, in whole seconds, when it was last heard.";
    ROUNDS = "brock_replication_rounds_total", Kind::Counter, Count,
        "Replication rounds, by peer `address` and `outcome`: ok or error.";
    ENTRIES = "brock_replication_entries_total", Kind::Counter, Count,
        "Log entries received from the peer at `address`, duplicates included.";
    ENTRIES_SENT = "brock_replication_sent_entries_total", Kind::Counter, Count,
        "Log entries sent to pullers.", Start::Zero;
    TERMINATED_READS = "brock_terminated_reads_total", Kind::Counter, Count,
        "Reads that were refused because the record is invalidated.", Start::Zero;
    PEEKS = "brock_peeks_total", Kind::Counter, Count,
        "Reads that missed locally, by `outcome`: found, absent, cached_absent, unknown, refused.", Start::Each("outcome", &["found", "absent", "cached_absent", "unknown", "refused"]);
    TRACE_SPANS = "brock_trace_spans_total", Kind::Counter, Count,
        "Spans that were sent to the collector at trace.otlp-endpoint, by `outcome`: sent or failed. Those that found the queue full are not counted.", Start::Each("outcome", &["sent", "failed"]);
    PROCESS_START = "process_start_time_seconds", Kind::Gauge, Seconds,
        "When the process started, seconds since the Unix epoch. Linux only.";
    PROCESS_CPU = "process_cpu_seconds_total", Kind::Counter, Seconds,
        "User and system CPU time that the process has spent. Linux only.";
    PROCESS_MEMORY = "process_resident_memory_bytes", Kind::Gauge, Bytes,
        "Memory of the process that is resident. Linux only.";
    PROCESS_OPEN_FDS = "process_open_fds", Kind::Gauge, Count,
        "File descriptors that are open. Linux only.";
    PROCESS_MAX_FDS = "process_max_fds", Kind::Gauge, Count,
        "File descriptors that may be open. Linux only.";
}

/// A metric of badgerauth, exported besides Brock's own so that dashboards made for it keep working.
#[derive(Debug, Clone, Copy)]
pub struct SeedMetric {
    /// Its name there.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Where its values come from.
    pub values: SeedValues,
    /// What it means here.
    pub help: &'static str,
}

/// Where the values of a metric of badgerauth come from.
#[derive(Debug, Clone, Copy)]
pub enum SeedValues {
    /// From these series of Brock's own.
    Of(&'static [SeedSource]),
    /// It is recorded under its own name.
    Recorded,
    /// There is nothing of the kind here.
    Zero,
}

/// Series of which a metric of badgerauth shows the same values.
#[derive(Debug, Clone, Copy)]
pub struct SeedSource {
    /// Their name as exported.
    pub of: &'static str,
    /// Only those with this label, as it is written; empty = all.
    pub only: &'static str,
    /// What stands in its place; empty = nothing. Other labels stay.
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

/// Recorded, because it takes all incarnations of a node together.
pub const SEED_CLOCK: &str = "as_badgerauth_current_clock";

seed_metrics! {
    "as_badgerauth_insert", Counter, ("brock_creates_total" ["expiring=\"false\"" => ""]),
        "Records without expiry created by clients of this node.";
    "as_badgerauth_expiring_insert", Counter, ("brock_creates_total" ["expiring=\"true\"" => ""]),
        "Records with an expiry created by clients of this node.";
    "as_badgerauth_duplicate_key", Counter, ("brock_duplicate_keys_total" ["" => ""]),
        "Puts refused because the key hash exists, by `values_equal`: true or false.";
    SEED_CLOCK, Gauge, (Recorded),
        "Operations of the node `node_id` that are applied here: the clocks of all its incarnations together.";
    "as_badgerauth_peer_up", Counter, ("brock_replication_rounds_total" ["outcome=\"ok\"" => ""]),
        "Replication rounds with the peer at `address` that ended in order.";
    "as_badgerauth_peer_down", Counter, ("brock_replication_rounds_total" ["outcome=\"error\"" => ""]),
        "Replication rounds with the peer at `address` that failed.";
    "as_badgerauth_txn_backoff", Counter, ("brock_write_retries_total" ["" => ""]),
        "Writes tried again.";
    "as_badgerauth_record_terminated", Counter, ("brock_terminated_reads_total" ["" => ""]),
        "Reads that were refused because the record is invalidated.";
    "as_badgerauth_kv_bytes_lsm", Gauge, ("brock_storage_bytes" ["kind=\"sst\"" => ""]),
        "Bytes of the storage engine's files.";
    "as_badgerauth_kv_bytes_vlog", Gauge, (Zero),
        "Always 0: values lie in the same files as keys.";
    "as_badgerauth_backup", Counter,
        ("brock_backup_duration_seconds_count" ["" => "successful=\"true\""]
         "brock_backup_failures_total" ["" => "successful=\"false\""]),
        "Backups made and not made, by `successful`: true or false.";
}

/// Describes every metric to the installed recorder, and begins those that begin at 0.
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

/// The tables of all metrics, as docs/reference/metrics.md shows them.
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

/// What a help text has in backticks is a label.
fn labels(help: &str) -> String {
    let labels = help.split('`').skip(1).step_by(2);
    labels.map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
