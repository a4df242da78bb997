//! All bounds in one place: sizes, counts, queues and timeouts that are not settings.
//!
//! A bound that operators may need to change is a setting instead (`config/settings.rs`).

use std::time::Duration;

pub use super::shares::*;

mod breaker;
mod claims;
mod trust;
pub use breaker::*;
pub use claims::*;
pub use trust::*;

// ---- records -----------------------------------------------------------------------------

/// The default for `node.payload-limit`.
pub const PAYLOAD_DEFAULT_BYTES: usize = 64 * 1024;
/// The most that `node.payload-limit` may be set to: a batch message must hold several payloads.
pub const PAYLOAD_MAX_BYTES: usize = 1024 * 1024;
/// The last second of the year 9999. A later time in a Put is one in milliseconds.
pub const RECORD_TIME_MAX: i64 = 253_402_300_799;
/// How far the creation time in a Put may be ahead of this node's clock.
pub const CREATED_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// From how many places in source files a contained panic is reported.
pub const PANIC_PLACES_MAX: usize = 64;
/// When a call that met a full queue is worth a retry.
pub const RETRY_SOON: Duration = Duration::from_millis(100);
/// When a call that met an unreachable peer, or a failed backup, is worth a retry.
pub const RETRY_LATER: Duration = Duration::from_secs(1);
/// The longest invalidation reason.
pub const REASON_MAX_BYTES: usize = 1024;
/// The largest encoded operation, without its payload: a reason, and a signature of ML-DSA-87.
pub const OPERATION_MAX_BYTES: usize = 8 * 1024;
/// Conflicting creates that one record remembers as losers.
pub const LOSERS_MAX: usize = 7;

// ---- messages ----------------------------------------------------------------------------

/// The largest gRPC message that a node accepts.
pub const MESSAGE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most items in a BatchPut or BatchGet.
pub const BATCH_ITEMS_MAX: usize = 1000;
/// The most bytes of records in a BatchGet answer: gRPC clients accept 4 MiB. Further items answer RESOURCE_EXHAUSTED.
pub const BATCH_GET_ANSWER_BYTES: usize = 4 * 1024 * 1024 - 128 * 1024;
/// The most requests of one Session that run at once.
pub const SESSION_DEPTH: usize = 256;

// ---- connections -------------------------------------------------------------------------

/// The most accepted connections at once, of identified callers; fewer with a low limit of open files.
pub const CONNECTIONS_MAX: usize = 4096;
/// Of these, clients and operators leave so many to nodes; at most a quarter.
pub const CONNECTIONS_FOR_NODES: usize = 128;
/// Of the rest, clients leave so many to operators; at most an eighth of all.
pub const CONNECTIONS_FOR_ADMINS: usize = 32;
/// The most connections whose handshake is not finished; further ones replace the oldest.
pub const HANDSHAKES_MAX: usize = 256;
/// The file descriptors that a node needs at least.
pub const DESCRIPTORS_MIN: u64 = 256;
/// A node raises its limit of open files up to this.
pub const DESCRIPTORS_USEFUL: u64 = 65_536;
/// Descriptors for all but the storage engine's tables and accepted connections: for dialling, logs, backups, DNS.
pub const DESCRIPTORS_OWN: usize = 256;
/// The same with a low limit.
pub const DESCRIPTORS_OWN_MIN: usize = 96;
/// From this limit on, every share of the descriptors is as large as it may be.
pub const DESCRIPTORS_ENOUGH: u64 =
    (DESCRIPTORS_OWN + DATABASE_FILES_OPEN + HTTP_CONNECTIONS_MAX + HANDSHAKES_MAX + CONNECTIONS_MAX) as u64;
/// A connection that was not used for so long may give its place to another one.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(30);
/// How long the TLS handshake of an accepted connection may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long resolving, connecting and handshaking with a peer may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Identified connections that may wait for the server.
pub const ACCEPTED_QUEUE: usize = 64;
/// How long the accept loop pauses after the system refused it a socket (no descriptors, no memory).
pub const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The least time between two warnings about a lack of descriptors, memory or places for connections.
pub const ACCEPT_WARN_INTERVAL: Duration = Duration::from_secs(60);
/// How long a refused connection stays open so that the alert reaches the other end.
pub const REFUSAL_LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read and discarded meanwhile.
pub const REFUSAL_LINGER_BYTES: u64 = 64 * 1024;
/// The most addresses of one host name that one dial tries.
pub const DIAL_ADDRESSES_MAX: usize = 8;
/// The largest certificate or key file.
pub const CERTIFICATE_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Certificates, keys and revocation lists in a certificates directory.
pub const CERTIFICATE_FILES_MAX: usize = 64;
/// How often the certificates directory is checked. Connections with a revoked certificate are closed within 5 s.
pub const CERTIFICATES_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long reading that directory may take before the node reports that it does not answer.
pub const CERTIFICATES_READ_TIMEOUT: Duration = Duration::from_secs(3);
/// How long reading it may take at the start, which fails then.
pub const CERTIFICATES_START_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest file that is read as a text: a configuration, a secret, a record.
pub const TEXT_FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// The largest secret in a file of its own. A session token has some kilobytes.
pub const SECRET_MAX_BYTES: usize = 64 * 1024;
/// How long a configuration file, or the file of a secret, may take to be read.
pub const FILE_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often all connections are verified again although no certificate was reloaded: certificates expire.
pub const CONNECTIONS_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long before its expiry a certificate is first warned about; less if its lifetime is shorter than four
/// times this.
pub const CERTIFICATE_WARN_SECONDS: i64 = 30 * 86_400;
/// How often that warning is repeated.
pub const CERTIFICATE_WARN_INTERVAL: Duration = Duration::from_secs(86_400);
/// How long calls of clients and operators may continue on old connections after certificates were rotated.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest name of a client or admin in a certificate.
pub const CERTIFICATE_NAME_MAX_BYTES: usize = 64;
/// The most streams (concurrent calls) on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 1024;
/// The interval of HTTP/2 pings.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long the other end may take to answer an HTTP/2 ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The HTTP/2 flow-control window of a stream: enough for a batch in flight, and bounded memory.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The window of a whole connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of answers that a connection gathers, to write them together.
pub const COALESCE_BYTES: usize = 64 * 1024;

// ---- the store ---------------------------------------------------------------------------

/// Commands in the writer's queue.
pub const WRITE_QUEUE_COMMANDS: usize = 4096;
/// Bytes of payload in the writer's queue.
pub const WRITE_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// How long a write waits for room in the queue before it is refused.
pub const WRITE_ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);
/// The most operations in one group commit.
pub const GROUP_COMMIT_OPERATIONS: usize = 2048;
/// The most bytes of payload in one group commit; the last command may exceed it.
pub const GROUP_COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// Writes are refused below this much free space, so that RocksDB can always finish a compaction or flush.
pub const DISK_RESERVE_BYTES: u64 = 48 * 1024 * 1024;
/// With fewer free inodes than this, a write that failed for want of space has failed for want of inodes: the
/// storage engine creates and removes a few files at a time.
pub const INODES_RESERVE: u64 = 16;
/// How often free space is checked while writes arrive, and while they are refused.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long opening the store may take before that is logged.
pub const STORE_OPEN_NEWS: Duration = Duration::from_secs(10);
/// How often the disk is checked while nothing is written: its room, and whether the data directory is in its place.
pub const DISK_WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a node whose data directory is gone stays up so that its members can replicate what only it has.
pub const HAND_OVER_PATIENCE: Duration = Duration::from_secs(60);
/// How often it checks whether they have everything.
pub const HAND_OVER_POLL: Duration = Duration::from_millis(100);
/// How much is written to find out whether there is room, where room cannot be reserved.
pub const ROOM_PROBE_BYTES: usize = 64 * 1024;
/// How long writes may fail for lack of space although files can be made, before the store stops: several times
/// RocksDB's 5 s between attempts to recover.
pub const NO_SPACE_PATIENCE: Duration = Duration::from_secs(20);
/// Records that the sweeper removes in one commit.
pub const SWEEP_BATCH: usize = 500;
/// How often the sweeper looks for expired records.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Up to this many removed payloads, only the files that hold them are rewritten; above, all files are.
pub const REMOVALS_ONE_BY_ONE: usize = 32;
/// Removed payloads that one compaction handles.
pub const REMOVALS_AT_ONCE: usize = 1_000_000;
/// The least time between two such rewrites of all files, unless an operator asks for one.
pub const REWRITE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Log entries that one commit removes.
pub const COMPACT_BATCH: u64 = 100_000;
/// Records in one page of a resync, if their bytes allow it.
pub const PAGE_RECORDS: usize = 2000;
/// Records in one page of a bucket.
pub const BUCKET_PAGE_ITEMS: usize = 20_000;
/// Bytes of records that are read for one page: the caller waits for [`PEER_CALL_TIMEOUT`] only.
pub const BUCKET_PAGE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a record's digest in a page of a bucket.
pub const ITEM_DIGEST_BYTES: usize = 16;
/// Operations that the trace of one record shows.
pub const TRACE_OPERATIONS: usize = 1000;
/// Tombstones that are collected in one commit.
pub const COLLECT_BATCH: usize = 500;
/// How often the superblock is updated.
pub const SUPERBLOCK_INTERVAL: Duration = Duration::from_secs(10);
/// RocksDB: bytes of memtables before a flush, over all column families.
pub const MEMTABLES_BYTES: usize = 64 * 1024 * 1024;
/// RocksDB: bytes of write-ahead log that a start may have to replay.
pub const WAL_MAX_BYTES: u64 = 128 * 1024 * 1024;
/// RocksDB: open files; fewer with a low limit of open files.
pub const DATABASE_FILES_OPEN: usize = 512;
/// Alarms that a node keeps.
pub const ALARMS_MAX: usize = 32;

// ---- replication -------------------------------------------------------------------------

/// The most bytes of entries in one batch, unless a single entry is larger.
pub const BATCH_MAX_BYTES: usize = 1024 * 1024;
/// The most entries in one batch; a puller may ask for fewer.
pub const BATCH_ENTRIES_MAX: usize = 10_000;
/// Batches that a donor sends ahead of the puller's acknowledgement.
pub const BATCHES_IN_FLIGHT: usize = 4;
/// Origins in one vector; a longer vector is refused.
pub const VECTOR_MAX_ORIGINS: usize = 50_000;
/// How long a donor waits for another donor to supply a foreign origin before it relays it.
pub const RELAY_PATIENCE: Duration = Duration::from_millis(150);
/// How long operations gather after a batch before the next batch is sent.
pub const FOLLOW_GATHER: Duration = Duration::from_millis(5);
/// This many operations do not wait.
pub const FOLLOW_GATHER_ENTRIES: u64 = 100;
/// How often a donor sends its heads.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How long one end of a stream waits for the other before it ends the stream.
pub const STREAM_SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a puller announces to a donor what it has applied from elsewhere.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
/// The first delay after a failed round; it doubles, with jitter, up to the replication interval.
pub const ROUND_RETRY_MIN: Duration = Duration::from_millis(100);
/// A donor that ends a round after this time stops, or has reloaded its certificates: that is not an error.
pub const ROUND_ENDS_EARLY: Duration = Duration::from_secs(1);
/// Peers of a node: addresses in `node.join`, and those that DNS lists under the names in it.
pub const PEERS_MAX: usize = 64;
/// Addresses of one DNS answer that are used: some may lead to this node itself, or to the same peer twice.
pub const DISCOVERED_MAX: usize = 2 * PEERS_MAX;
/// DNS answers in a row without an address before it is no longer dialled.
pub const DISCOVERY_MISSES: u32 = 3;
/// How long DNS may take to answer one question, retries included.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one DNS server may take before the question is sent again, to the next server if there is one.
pub const DNS_TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an ignored address is dialled again: one that leads to this node itself, or to a peer that is
/// up at another address.
pub const IGNORED_RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long all peers together may take to answer a Peek, dialling included.
pub const PEEK_TIMEOUT: Duration = Duration::from_secs(1);
/// Concurrent Peeks; further local misses answer UNAVAILABLE.
pub const PEEKS_MAX: usize = 256;
/// Concurrent Peeks of one BatchGet.
pub const BATCH_PEEKS: usize = 32;
/// How long the answer that no peer has a record is cached.
pub const NEGATIVE_CACHE_TTL: Duration = Duration::from_secs(1);
/// Key hashes in the negative cache.
pub const NEGATIVE_CACHE_ENTRIES: u64 = 100_000;
/// The longest error text kept in a status.
pub const ERROR_TEXT_MAX_BYTES: usize = 512;
/// Skew between the wall clocks of this node and a peer above which expired records are not removed.
pub const CLOCK_SKEW_MAX_SECONDS: u64 = 300;
/// Change of a peer's clock skew above which the skew is logged again.
pub const CLOCK_SKEW_NEWS_SECONDS: u64 = 10;
/// Operations that this node must lack before it logs that it is behind a peer, and later that it has caught up.
pub const LAG_NEWS_ENTRIES: u64 = 1000;
/// How long a node with empty storage asks its peers whether they have heard of it.
pub const FIRST_START_PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two such questions.
pub const FIRST_START_PAUSE: Duration = Duration::from_millis(300);
/// How long a starting node waits for its peers before it becomes ready.
pub const FIRST_CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it checks whether it has caught up.
pub const FIRST_CATCH_UP_POLL: Duration = Duration::from_millis(50);
/// The least time between two log lines about a failing peer, if the reason changes.
pub const PEER_REASON_NEWS: Duration = Duration::from_secs(60);
/// Ended rounds that a peer's status lists.
pub const RECENT_ROUNDS: usize = 20;
/// How often the peers are pinged, and so how soon the return of one is noticed.
pub const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a ping may take, connecting included.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// The incarnations of one node id that are watched for two that are alive at the same time.
pub const INCARNATIONS_WATCHED: usize = 8;
/// The places that are remembered of each.
pub const INCARNATION_PLACES: usize = 4;
/// How long after the last proof several processes under one node id are shown.
pub const DUPLICATE_SHOWN_FOR: Duration = Duration::from_secs(120);
/// How often a node samples its counters.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// Samples that a node keeps: fifteen minutes of them.
pub const SAMPLES: usize = 180;
/// The shortest console token.
pub const CONSOLE_TOKEN_MIN_BYTES: usize = 16;
/// How long a view of the cluster is cached.
pub const CLUSTER_VIEW_TTL: Duration = Duration::from_secs(1);
/// Operations that a node may lack before the health check reports it.
pub const LAG_NOTABLE_ENTRIES: u64 = 1_000;
/// Difference between wall clocks that the health check reports.
pub const CLOCK_SKEW_NOTABLE_SECONDS: u64 = 5;
/// How long a stream may be over that a peer has ended in order, before the health check reports it.
pub const ENDED_NOTABLE_SECONDS: i64 = 10;
/// Free space below which the health check warns about a nearly full disk.
pub const DISK_WATCH_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Free space below which that is critical.
pub const DISK_ACT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Remaining lifetime below which a certificate is critical.
pub const CERTIFICATE_ACT_SECONDS: i64 = 7 * 86_400;
/// Age above which the health check reports the last backup, if that is more than four of its intervals.
pub const BACKUP_STALE_SECONDS: i64 = 26 * 3600;
/// How often a node reports its state to the supervisor, if the state has changed.
pub const SUPERVISOR_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest interval between two such reports, even if the watchdog wants more.
pub const SUPERVISOR_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// How much more time a start asks its supervisor for, each time that it has made progress.
pub const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(30);
/// How often histograms are folded, so that they do not grow between two scrapes.
pub const HISTOGRAMS_FOLD_INTERVAL: Duration = Duration::from_secs(5);
/// The payloads that are read from the database together for a batch of the log.
pub const PAYLOADS_READ_TOGETHER: usize = 64;
/// How long the head of an HTTP request may take to arrive; also the idle time of a connection.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The age at which an HTTP connection is closed, even if it is busy: no request takes longer.
pub const HTTP_CONNECTION_MAX_AGE: Duration = Duration::from_secs(300);
/// The most HTTP connections at once; further ones replace the oldest.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// The pause after a failure to accept an HTTP connection, such as a lack of file descriptors.
pub const HTTP_ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The largest request to the console: a key hash in JSON.
pub const CONSOLE_REQUEST_MAX_BYTES: usize = 1024;
/// How long the HTTP server may take to stop.
pub const HTTP_STOP_TIMEOUT: Duration = Duration::from_secs(2);

// ---- members, operations, maintenance -----------------------------------------------------

/// Members that a node remembers besides those in `node.join`.
pub const MEMBERS_MAX: usize = 1000;
/// How long a write waits for other members by default.
pub const ACKS_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest time that a write may wait for other members.
pub const ACKS_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Revocations whose time until all members have them is measured at once.
pub const REVOCATIONS_PENDING: usize = 10_000;
/// The highest plausible age of an entry: a higher one is not measured.
pub const VISIBLE_AGE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// How often the compactor checks whether a run is due.
pub const COMPACT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The factor mode does not compact for less growth than this.
pub const COMPACT_GROWTH_MIN_BYTES: u64 = 64 * 1024;
/// The files of the log are rewritten after a run that removed at least this much.
pub const COMPACT_REWRITE_BYTES: u64 = 16 * 1024 * 1024;
/// Marks of what was applied when, per tombstone grace.
pub const MARKS_PER_GRACE: u32 = 8;
/// A puller that has nothing begins with a resync if the log has this many times more entries than there are records.
pub const RESYNC_CHEAPER_FACTOR: u64 = 2;
/// It does so only from this many entries on.
pub const RESYNC_CHEAPER_ENTRIES: u64 = 10_000;
/// How long after its last hello a retired node is waited for again, so that it can catch up.
pub const RETURN_PATIENCE: Duration = Duration::from_secs(600);
/// How long a call to a peer about digests, traces or retirement may take, dialling included.
pub const PEER_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Key hashes whose states are fetched at once.
pub const FETCH_STATES_MAX: usize = 256;
/// Differing key hashes that `verify` lists for each node.
pub const VERIFY_KEYS_MAX: usize = 100;
/// How often `verify` compares before it reports that a node lags or differs.
pub const VERIFY_LOOKS: u32 = 4;
/// The pause between two comparisons.
pub const VERIFY_PAUSE: Duration = Duration::from_millis(500);
/// The pause between two of the 256 buckets after the scrubber's first pass: one pass a day.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(337);
/// Items of a ledger in one answer.
pub const LEDGER_PAGE_ITEMS: usize = 1000;
/// Concurrent readers of `log tail`.
pub const TAILS_MAX: usize = 16;
/// Past entries that such a reader may begin with.
pub const TAIL_LAST_MAX: u32 = 10_000;
/// Entries that are read ahead for such a reader.
pub const TAIL_PAGE: usize = 256;
/// Reads of one origin's log, in search of its newest entries, before the rest is skipped.
pub const TAIL_LOOKS: usize = 4096;
/// How long such a reader may take to read one entry.
pub const TAIL_PATIENCE: Duration = Duration::from_secs(30);

// ---- the audit log -----------------------------------------------------------------------

/// Lines in the queue of the audit log's writer.
pub const AUDIT_QUEUE: usize = 1024;
/// Lines that are written with one fsync.
pub const AUDIT_GROUP: usize = 256;
/// How long an operator's call waits until its line is durable, before it is refused.
pub const AUDIT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest line: a reason of [`REASON_MAX_BYTES`] escaped as JSON, and room for the rest.
pub const AUDIT_LINE_MAX_BYTES: usize = 16 * 1024;
/// Members that have not confirmed an operation in time, and that a line of the audit log names.
pub const AUDIT_MISSING_MAX: usize = 16;
/// The longest text in a line, besides a reason.
pub const AUDIT_TEXT_MAX_BYTES: usize = 256;
/// The largest first message of a request whose arguments are recorded.
pub const AUDIT_REQUEST_MAX_BYTES: usize = 64 * 1024;
/// The size at which the next file begins; a quarter of `audit.max-size` if that is less.
pub const AUDIT_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The lowest `audit.max-size`.
pub const AUDIT_MAX_SIZE_MIN_BYTES: u64 = 1024 * 1024;
/// The least time between two lines about the same repeated event, such as a denied call.
pub const AUDIT_REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Repeated events within that time that are counted separately.
pub const AUDIT_REPEATS_MAX: usize = 128;
/// How often the head of the log is noted in the store, and a log that cannot be written is retried.
pub const AUDIT_HEAD_INTERVAL: Duration = Duration::from_secs(2);
/// Calls without an outcome, and remarks, that one verification lists.
pub const AUDIT_UNFINISHED_MAX: usize = 10_000;

// ---- traces -------------------------------------------------------------------------------

/// Spans in the queue to the collector; further ones are dropped.
pub const TRACE_QUEUE_SPANS: usize = 4096;
/// Spans in one message to the collector.
pub const TRACE_BATCH_SPANS: usize = 512;
/// How often spans are sent.
pub const TRACE_INTERVAL: Duration = Duration::from_secs(2);
/// How long one message to the collector may take.
pub const TRACE_EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the process waits at its end for the last spans.
pub const TRACE_FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

// ---- backups -----------------------------------------------------------------------------

/// Bytes of frames in one object of a backup, unless a single frame is larger.
pub const BACKUP_PART_BYTES: usize = 64 * 1024 * 1024;
/// The largest manifest: its vector lists every origin.
pub const BACKUP_MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of log that are kept for the next incremental backup; more is compacted, and the next backup is then
/// a full one.
pub const BACKUP_LOG_KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// The least time between two automatic full backups that are due only because records changed beside the log.
pub const BACKUP_FULL_GAP: Duration = Duration::from_secs(10 * 60);
/// Threads that wait for a directory of objects at once: one that hangs must not occupy all threads.
pub const OBJECT_FILES_AT_ONCE: usize = 8;
/// Incremental backups in one chain, before the next full one.
pub const BACKUP_CHAIN_MAX: usize = 2000;
/// How long one backup may take.
pub const BACKUP_RUN_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// Space that must stay free where parts are written: a backup must not fill the disk.
pub const BACKUP_SPACE_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// The longest delay, before jitter, after a failed backup.
pub const BACKUP_RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Manifests that are read at once.
pub const BACKUP_MANIFESTS_IN_FLIGHT: usize = 8;
/// Backups in one answer.
pub const BACKUPS_LISTED: usize = 1000;
/// The age above which parts without a manifest are removed.
pub const BACKUP_ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);
/// How often a node checks for a backup that it has not verified yet.
pub const BACKUP_REREAD_CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// How often it verifies each object of the newest backup again.
pub const BACKUP_REREAD_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How fast it reads then, so that bandwidth is left for others.
pub const BACKUP_REREAD_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// Records that may be extracted from a backup at once.
pub const BACKUP_EXTRACT_RECORDS: usize = 100_000;
/// How often a node without incremental backups checks whether a backup is due.
pub const BACKUP_CHECK_INTERVAL: Duration = Duration::from_secs(60);

// ---- the object store of backups ---------------------------------------------------------

/// The most objects that one listing may name; a prefix with more is refused, not cut.
pub const BACKUP_OBJECTS_MAX: usize = 1_000_000;
/// The largest object.
pub const OBJECT_MAX_BYTES: u64 = 1024 * 1024 * 1024 * 1024;
/// Larger objects are uploaded in parts of this size.
pub const OBJECT_PART_BYTES: u64 = 16 * 1024 * 1024;
/// Parts of one object that are in memory and being uploaded at once.
pub const OBJECT_PARTS_IN_FLIGHT: usize = 2;
/// The most parts of one object, which grow instead: stores accept 10,000.
pub const OBJECT_PARTS_MAX: u64 = 9_000;
/// Bytes that are read at once from an object in a directory.
pub const OBJECT_READ_BYTES: usize = 1024 * 1024;
/// The longest key, prefix included.
pub const OBJECT_KEY_MAX_BYTES: usize = 1024;
/// The longest segment of a key between slashes: it becomes a file name with a suffix.
pub const OBJECT_NAME_MAX_BYTES: usize = 200;
/// Names and values of an object's metadata together: the least that all stores accept.
pub const OBJECT_METADATA_MAX_BYTES: usize = 2048;
/// Keys in one request to delete.
pub const OBJECT_DELETE_BATCH: usize = 1000;
/// Concurrent deletes where the store does not support batches.
pub const OBJECT_DELETES_IN_FLIGHT: usize = 8;
/// The first delay after a transient fault of the store; it doubles, with jitter.
pub const OBJECT_RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest delay, before jitter.
pub const OBJECT_RETRY_MAX: Duration = Duration::from_secs(10);
/// How long one request may take, retries included, besides the time for its bytes.
pub const OBJECT_TOTAL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one attempt may take, besides the time for its bytes.
pub const OBJECT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long resolving and connecting may take, TLS included.
pub const OBJECT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The lowest transfer rate: it sets the time for bytes.
pub const OBJECT_MIN_BYTES_PER_SECOND: u64 = 128 * 1024;
/// How long all pages of a listing, or all batches of a delete, may take together.
pub const OBJECT_SCAN_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The largest credentials file.
pub const CREDENTIALS_FILE_MAX_BYTES: u64 = 64 * 1024;
/// How long before they expire the credentials of a role are renewed.
pub const CREDENTIALS_RENEW: Duration = Duration::from_secs(5 * 60);
