//! Every bound in one place: sizes, counts, queues and time-outs that are not settings.
//!
//! A bound that operators must be able to change is a setting instead (`config/settings.rs`).

use std::time::Duration;

// ---- records -----------------------------------------------------------------------------

/// The default for `node.payload-limit`.
pub const PAYLOAD_DEFAULT_BYTES: usize = 64 * 1024;
/// The most that `node.payload-limit` may be set to: a batch message must hold several.
pub const PAYLOAD_MAX_BYTES: usize = 1024 * 1024;
/// The longest invalidation reason.
pub const REASON_MAX_BYTES: usize = 1024;
/// The largest encoded operation (without payload) that is kept.
pub const OPERATION_MAX_BYTES: usize = 4 * 1024;

/// Creates with other payloads that one record remembers as having lost.
pub const LOSERS_MAX: usize = 7;

// ---- messages ----------------------------------------------------------------------------

/// The largest gRPC message that a node accepts.
pub const MESSAGE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most items in a BatchPut or BatchGet.
pub const BATCH_ITEMS_MAX: usize = 1000;
/// The most bytes of records in a BatchGet answer: below the 4 MiB that gRPC clients take by
/// default. Later items answer RESOURCE_EXHAUSTED.
pub const BATCH_GET_ANSWER_BYTES: usize = 4 * 1024 * 1024 - 128 * 1024;
/// The most requests of one Session that are under way at once.
pub const SESSION_DEPTH: usize = 256;

// ---- connections -------------------------------------------------------------------------

/// The most accepted connections at once; further ones wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 4096;
/// The most TLS handshakes under way at once.
pub const HANDSHAKES_MAX: usize = 256;
/// How long an accepted connection may take for its TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long resolving, connecting and handshaking with a peer may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Identified connections that may wait for the server to take them up.
pub const ACCEPTED_QUEUE: usize = 64;
/// How long the accept loop rests after the system refused it a socket (no descriptors, no memory).
pub const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often at most a lack of descriptors or memory for connections is logged as a warning.
pub const ACCEPT_WARN_INTERVAL: Duration = Duration::from_secs(60);
/// How long a refused connection is kept so that the alert reaches the other end.
pub const REFUSAL_LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read and thrown away meanwhile.
pub const REFUSAL_LINGER_BYTES: u64 = 64 * 1024;
/// The most addresses of one host name that a dial tries.
pub const DIAL_ADDRESSES_MAX: usize = 8;
/// The largest file that is read as a certificate or a key.
pub const CERTIFICATE_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Certificates, keys and lists in a certificates directory.
pub const CERTIFICATE_FILES_MAX: usize = 64;
/// How often the certificates directory is looked at. Whoever was revoked is cut off within 5 s.
pub const CERTIFICATES_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How often everybody who is connected is judged again although nothing was exchanged: certificates
/// expire.
pub const CONNECTIONS_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// From when on it is said that a certificate will expire; later if it is valid for less than four times
/// as long.
pub const CERTIFICATE_WARN_SECONDS: i64 = 30 * 86_400;
/// How often that is said.
pub const CERTIFICATE_WARN_INTERVAL: Duration = Duration::from_secs(86_400);
/// How long calls of clients and operators may go on after certificates were exchanged, on connections from before.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest name of a client or admin in a certificate.
pub const CERTIFICATE_NAME_MAX_BYTES: usize = 64;
/// The most streams (calls under way) on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 1024;
/// HTTP/2 ping interval and how long an answer may take.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long the other end may take to answer an HTTP/2 ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 flow-control windows: enough for a batch in flight, small enough to bound memory.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The window of a whole connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes of answers that may wait for the connection's next turn, to be written together.
pub const COALESCE_BYTES: usize = 64 * 1024;

// ---- the store ---------------------------------------------------------------------------

/// Commands that may wait for the writer.
pub const WRITE_QUEUE_COMMANDS: usize = 4096;
/// Bytes of payload that may wait for the writer.
pub const WRITE_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// How long a write may wait for room in the queue before it is refused.
pub const WRITE_ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);
/// The most operations in one group commit.
pub const GROUP_COMMIT_OPERATIONS: usize = 2048;
/// The most bytes of payload in one group commit (one command more may be added on top).
pub const GROUP_COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// Writes are refused below this much free space, so that RocksDB can always finish what it began.
pub const DISK_RESERVE_BYTES: u64 = 48 * 1024 * 1024;
/// How often free space is looked at while writes flow, and while they are refused.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long writes may fail for want of space although there is room before the store stops:
/// several times RocksDB's 5 s between attempts to recover.
pub const NO_SPACE_PATIENCE: Duration = Duration::from_secs(20);
/// Records that the sweeper removes in one commit.
pub const SWEEP_BATCH: usize = 500;
/// How often the sweeper looks for expired records.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Up to this many removed payloads have their files rewritten one by one; above, all files are.
pub const REMOVALS_ONE_BY_ONE: usize = 32;
/// Removed payloads that one compaction deals with.
pub const REMOVALS_AT_ONCE: usize = 1_000_000;
/// How often at most all files of the records are rewritten for that, unless an operator asks.
pub const REWRITE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Log entries that one commit compacts away.
pub const COMPACT_BATCH: u64 = 100_000;
/// Records in one page of a resync, if its bytes allow.
pub const PAGE_RECORDS: usize = 2000;
/// Records in one page of a bucket.
pub const BUCKET_PAGE_ITEMS: usize = 20_000;
/// Bytes of records that are read for it: the caller waits for [`PEER_CALL_TIMEOUT`] only.
pub const BUCKET_PAGE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a record's digest in a page of a bucket.
pub const ITEM_DIGEST_BYTES: usize = 16;
/// Operations that the trace of one record shows.
pub const TRACE_OPERATIONS: usize = 1000;
/// Tombstones that are collected in one commit.
pub const COLLECT_BATCH: usize = 500;
/// How often the superblock is brought up to date.
pub const SUPERBLOCK_INTERVAL: Duration = Duration::from_secs(10);
/// Entries that may be set aside in quarantine.
pub const QUARANTINE_MAX: u64 = 10_000;
/// How long after one the next new incarnation may be minted because a peer knew more.
pub const ROLLBACK_MINT_INTERVAL: Duration = Duration::from_secs(10);
/// RocksDB: bytes in memory before they are flushed, over all column families.
pub const MEMTABLES_BYTES: usize = 64 * 1024 * 1024;
/// RocksDB: bytes of write-ahead log that a start may have to replay.
pub const WAL_MAX_BYTES: u64 = 128 * 1024 * 1024;
/// RocksDB: files held open.
pub const DATABASE_FILES_OPEN: i32 = 512;
/// The most alarms that are kept.
pub const ALARMS_MAX: usize = 32;

// ---- replication -------------------------------------------------------------------------

/// The most bytes of entries in one batch, unless a single entry is larger.
pub const BATCH_MAX_BYTES: usize = 1024 * 1024;
/// The most entries in one batch, whatever a puller asks for.
pub const BATCH_ENTRIES_MAX: usize = 10_000;
/// Batches that a donor sends ahead of the puller's acknowledgement.
pub const BATCHES_IN_FLIGHT: usize = 4;
/// Origins in one vector; a longer one is refused.
pub const VECTOR_MAX_ORIGINS: usize = 50_000;
/// How long a donor waits for another donor to supply a foreign origin before it relays it.
pub const RELAY_PATIENCE: Duration = Duration::from_millis(150);
/// How long operations gather after a batch before the next one is sent.
pub const FOLLOW_GATHER: Duration = Duration::from_millis(5);
/// This many do not wait.
pub const FOLLOW_GATHER_ENTRIES: u64 = 100;
/// How often a donor with nothing to send says so.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How long a puller hears nothing before it gives the stream up.
pub const STREAM_SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a puller tells a donor what it has applied from elsewhere.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
/// The first delay after a failed round; it doubles, with jitter, up to the replication interval.
pub const ROUND_RETRY_MIN: Duration = Duration::from_millis(100);
/// From then on it is no error that the donor ends a round: it stops, or has new certificates.
pub const ROUND_ENDS_EARLY: Duration = Duration::from_secs(1);
/// Streams that one donor feeds at once.
pub const FEEDS_MAX: usize = 128;
/// Peers of a node: entries of `node.join`, and what DNS lists under the names in it.
pub const PEERS_MAX: usize = 64;
/// Addresses of one answer of DNS that are looked at: some are this node itself, or a peer once more.
pub const DISCOVERED_MAX: usize = 2 * PEERS_MAX;
/// Answers in a row that do not list a peer any more before it is not dialled any more.
pub const DISCOVERY_MISSES: u32 = 3;
/// How long DNS may take to answer one question, whatever is tried.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one DNS server may take before the next one is asked, or the same once more.
pub const DNS_TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an address that turned out to be this node itself, or a second one of a peer, is looked
/// at again.
pub const ASIDE_RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Time for all peers together to answer a Peek, dialling included.
pub const PEEK_TIMEOUT: Duration = Duration::from_secs(1);
/// Local misses that ask the peers at once; further ones answer UNAVAILABLE.
pub const PEEKS_MAX: usize = 256;
/// Local misses of one BatchGet that ask the peers at once.
pub const BATCH_PEEKS: usize = 32;
/// How long "every peer says it is absent" is believed.
pub const NEGATIVE_CACHE_TTL: Duration = Duration::from_secs(1);
/// Key hashes in the negative cache.
pub const NEGATIVE_CACHE_ENTRIES: u64 = 100_000;
/// The longest error text kept in a status.
pub const ERROR_TEXT_MAX_BYTES: usize = 512;
/// How far the wall clocks of this node and a peer may be apart before expired records are left alone.
pub const CLOCK_SKEW_MAX_SECONDS: u64 = 300;
/// By how much a peer's clock must have moved against ours before that is logged again.
pub const CLOCK_SKEW_NEWS_SECONDS: u64 = 10;
/// From how many operations on it is logged that this node is behind a peer, and that it has caught up.
pub const LAG_NEWS_ENTRIES: u64 = 1000;
/// How long a node with empty storage asks its peers whether they know it.
pub const FIRST_START_PATIENCE: Duration = Duration::from_secs(20);
/// Between two rounds of that.
pub const FIRST_START_PAUSE: Duration = Duration::from_millis(300);
/// How long a starting node waits for its peers before it says that it is ready.
pub const FIRST_CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it looks.
pub const FIRST_CATCH_UP_POLL: Duration = Duration::from_millis(50);
/// How soon after a line about a peer that fails there may be one that it fails for another reason now.
pub const PEER_REASON_NEWS: Duration = Duration::from_secs(60);
/// Rounds with a peer that are remembered.
pub const RECENT_ROUNDS: usize = 20;
/// How often the peers are pinged: how soon one that was down for long is noticed when it returns.
pub const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long one may take to answer, connecting included.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a node notes what it has counted.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// How many such notes are kept: fifteen minutes of them.
pub const SAMPLES: usize = 180;
/// The shortest token that opens the console.
pub const CONSOLE_TOKEN_MIN_BYTES: usize = 16;
/// How long a view of the cluster is believed: whoever asks more often is told the same.
pub const CLUSTER_VIEW_TTL: Duration = Duration::from_secs(1);
/// Operations that a node may lack before it is worth a finding.
pub const LAG_NOTABLE_ENTRIES: u64 = 1_000;
/// Difference between wall clocks that is worth a finding.
pub const CLOCK_SKEW_NOTABLE_SECONDS: u64 = 5;
/// Free space below which a disk that is nearly full is worth a finding.
pub const DISK_WATCH_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Free space below which it needs somebody now.
pub const DISK_ACT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// A certificate that expires sooner than this needs somebody now.
pub const CERTIFICATE_ACT_SECONDS: i64 = 7 * 86_400;
/// A backup older than this is worth a finding.
pub const BACKUP_STALE_SECONDS: i64 = 26 * 3600;
/// How often a supervisor is told how the node is, if that changed.
pub const SUPERVISOR_INTERVAL: Duration = Duration::from_secs(2);
/// But not more often than this, whatever its watchdog asks for.
pub const SUPERVISOR_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// How much longer than now a start may take: told again and again while it makes progress.
pub const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(30);
/// How long the HTTP side may take to end.
pub const HTTP_STOP_TIMEOUT: Duration = Duration::from_secs(2);

// ---- the lifecycle -----------------------------------------------------------------------

/// Members that a node remembers besides those in `node.join`.
pub const MEMBERS_MAX: usize = 1000;
/// The default and the longest time that a write waits for other members.
pub const ACKS_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest.
pub const ACKS_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Revocations that may wait for being everywhere with their time taken.
pub const REVOCATIONS_PENDING: usize = 10_000;
/// An entry that is said to be older is not counted: somebody's clock, or somebody, is wrong.
pub const VISIBLE_AGE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// How often what is known of the members is written down, if it changed.
pub const MEMBERS_INTERVAL: Duration = Duration::from_secs(10);
/// How often the compactor looks whether there is something to do.
pub const COMPACT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The factor mode does not compact for less growth than this.
pub const COMPACT_GROWTH_MIN_BYTES: u64 = 64 * 1024;
/// Files of the log are rewritten when at least this much of it was compacted away.
pub const COMPACT_REWRITE_BYTES: u64 = 16 * 1024 * 1024;
/// How many marks of what was applied when are kept for each tombstone grace.
pub const MARKS_PER_GRACE: u32 = 8;
/// A puller that has nothing starts with the records if the log has this many times more entries.
pub const RESYNC_CHEAPER_FACTOR: u64 = 2;
/// But not for less than this many entries.
pub const RESYNC_CHEAPER_ENTRIES: u64 = 10_000;
/// For how long after its last hello a retired node is waited for again, so that it can catch up.
pub const RETURN_PATIENCE: Duration = Duration::from_secs(600);
/// How long a resync may take, and with it keep everything else that comes from peers waiting.
pub const RESYNC_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// How long a repair may keep a resync waiting.
pub const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);
/// Resyncs that one donor serves at once.
pub const SNAPSHOTS_MAX: usize = 4;
/// How long a call to a peer about digests, traces or retirement may take, dialling included.
pub const PEER_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Key hashes whose states are fetched at once.
pub const FETCH_STATES_MAX: usize = 256;
/// Differing key hashes that one repair deals with; the next comparison finds the rest.
pub const REPAIR_KEYS_MAX: usize = 100_000;
/// Differing key hashes that `verify` lists for each node.
pub const VERIFY_KEYS_MAX: usize = 100;
/// How often `verify` looks before it says that a node lags or differs.
pub const VERIFY_LOOKS: u32 = 4;
/// Between two looks.
pub const VERIFY_PAUSE: Duration = Duration::from_millis(500);
/// How long the scrubber rests between two of the 256 buckets once it has seen all: a pass a day.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(337);
/// A difference counts once it was seen twice this far apart while nothing else changed.
pub const DIVERGENCE_CONFIRM: Duration = Duration::from_secs(1);
/// Traces that read the whole log at once.
pub const TRACES_MAX: usize = 2;
/// Items of a ledger in one answer.
pub const LEDGER_PAGE_ITEMS: usize = 1000;
/// Readers that follow the log at once.
pub const TAILS_MAX: usize = 16;
/// Entries that a reader of the log may begin with.
pub const TAIL_LAST_MAX: u32 = 10_000;
/// Entries that are read for such a reader at once, and wait for it.
pub const TAIL_PAGE: usize = 256;
/// How often an origin's log is looked into for the newest entries before its gaps are given up.
pub const TAIL_LOOKS: usize = 4096;
/// How long such a reader may take for one entry.
pub const TAIL_PATIENCE: Duration = Duration::from_secs(30);

// ---- the audit log -----------------------------------------------------------------------

/// Lines that may wait for the writer of the audit log.
pub const AUDIT_QUEUE: usize = 1024;
/// Lines that are written with one fsync.
pub const AUDIT_GROUP: usize = 256;
/// How long an operator's call waits for its line before it is refused.
pub const AUDIT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest line: a reason of [`REASON_MAX_BYTES`] escaped as JSON, and room for the rest.
pub const AUDIT_LINE_MAX_BYTES: usize = 16 * 1024;
/// The longest text in a line, besides a reason.
pub const AUDIT_TEXT_MAX_BYTES: usize = 256;
/// Requests whose first message is larger are recorded without what they ask for.
pub const AUDIT_REQUEST_MAX_BYTES: usize = 64 * 1024;
/// The next file begins when one has this size; a quarter of `audit.max-size` if that is less.
pub const AUDIT_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// The least that `audit.max-size` may be.
pub const AUDIT_MAX_SIZE_MIN_BYTES: u64 = 1024 * 1024;
/// How often the same thing over and over, a denied call or a look at the status, takes a line.
pub const AUDIT_REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Different such things within that time that are told apart.
pub const AUDIT_REPEATS_MAX: usize = 128;
/// How often the head of the log is noted in the store, and a log that cannot be written is tried again.
pub const AUDIT_HEAD_INTERVAL: Duration = Duration::from_secs(2);
/// Calls without an outcome, and remarks, that a verification lists.
pub const AUDIT_UNFINISHED_MAX: usize = 10_000;

// ---- traces -------------------------------------------------------------------------------

/// Spans that may wait for being sent to the collector; further ones are dropped.
pub const TRACE_QUEUE_SPANS: usize = 4096;
/// Spans in one message to it.
pub const TRACE_BATCH_SPANS: usize = 512;
/// How often they are sent.
pub const TRACE_INTERVAL: Duration = Duration::from_secs(2);
/// How long one message may take.
pub const TRACE_EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the process may wait for the last ones.
pub const TRACE_FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

// ---- backups -----------------------------------------------------------------------------

/// Bytes of frames in one object of a backup, unless a single frame is larger.
pub const BACKUP_PART_BYTES: usize = 64 * 1024 * 1024;
/// The largest manifest: its vector lists every origin.
pub const BACKUP_MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of log that wait for being backed up before they are compacted all the same: the next backup
/// is then a full one.
pub const BACKUP_LOG_KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// The least time between two full backups that nobody asked for and that are due only because the log
/// does not tell all that has changed.
pub const BACKUP_FULL_GAP: Duration = Duration::from_secs(10 * 60);
/// Threads that wait for a directory of objects at once: one that hangs must not take all there are.
pub const OBJECT_FILES_AT_ONCE: usize = 8;
/// Incrementals that may follow on each other before a full backup is made.
pub const BACKUP_CHAIN_MAX: usize = 2000;
/// How long one backup may take in all.
pub const BACKUP_RUN_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// Space that must stay free where parts are written: a backup must not be what fills the disk.
pub const BACKUP_SPACE_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// The longest delay, before jitter, after a backup that was not made.
pub const BACKUP_RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Manifests that are read at once.
pub const BACKUP_MANIFESTS_IN_FLIGHT: usize = 8;
/// Backups in one answer.
pub const BACKUPS_LISTED: usize = 1000;
/// Parts without a manifest are removed when they are older than this.
pub const BACKUP_ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);
/// How often a node looks whether there is a backup that it has not read again yet.
pub const BACKUP_REREAD_CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// How often it reads each object of the newest backup again.
pub const BACKUP_REREAD_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How fast it reads then, so that the way to the store stays free for others.
pub const BACKUP_REREAD_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// Records that may be extracted from a backup at once.
pub const BACKUP_EXTRACT_RECORDS: usize = 100_000;
/// How often it is looked whether a backup is due, where nothing is shipped in between.
pub const BACKUP_CHECK_INTERVAL: Duration = Duration::from_secs(60);

// ---- the object store of backups ---------------------------------------------------------

/// The most objects that one listing may name; a prefix with more is refused, not cut.
pub const BACKUP_OBJECTS_MAX: usize = 1_000_000;
/// The largest object.
pub const OBJECT_MAX_BYTES: u64 = 1024 * 1024 * 1024 * 1024;
/// What is larger than this goes in parts; also the size of a part.
pub const OBJECT_PART_BYTES: u64 = 16 * 1024 * 1024;
/// Parts of one object that are in memory and under way at once.
pub const OBJECT_PARTS_IN_FLIGHT: usize = 2;
/// Parts grow rather than become more than this: stores take 10,000.
pub const OBJECT_PARTS_MAX: u64 = 9_000;
/// Bytes that are read at once from a file that is an object.
pub const OBJECT_READ_BYTES: usize = 1024 * 1024;
/// The longest key, prefix included.
pub const OBJECT_KEY_MAX_BYTES: usize = 1024;
/// The longest stretch of a key between slashes: a file name with something appended.
pub const OBJECT_NAME_MAX_BYTES: usize = 200;
/// Names and values of an object's metadata together: what all stores take.
pub const OBJECT_METADATA_MAX_BYTES: usize = 2048;
/// Keys in one request to delete.
pub const OBJECT_DELETE_BATCH: usize = 1000;
/// Deletes under way at once where the store knows no batches.
pub const OBJECT_DELETES_IN_FLIGHT: usize = 8;
/// The first delay after a passing fault of the store; it doubles, with jitter.
pub const OBJECT_RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest delay, before jitter.
pub const OBJECT_RETRY_MAX: Duration = Duration::from_secs(10);
/// How long one request may take with all its retries, besides the time for its bytes.
pub const OBJECT_TOTAL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one attempt may take, besides the time for its bytes.
pub const OBJECT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long resolving and connecting may take, TLS included.
pub const OBJECT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for bytes: slower transfers than this are given up.
pub const OBJECT_MIN_BYTES_PER_SECOND: u64 = 128 * 1024;
/// How long all pages of a listing, or all batches of a delete, may take.
pub const OBJECT_SCAN_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The largest file that is read as credentials.
pub const CREDENTIALS_FILE_MAX_BYTES: u64 = 64 * 1024;
/// How long before they expire the credentials of a role are renewed.
pub const CREDENTIALS_RENEW: Duration = Duration::from_secs(5 * 60);
