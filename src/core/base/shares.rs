//! What one identity may take of what all share, and how much of a peer's claims is believed: the part of `limits`
//! that keeps the holder of one certificate from taking what the others need.

use std::time::Duration;

// ---- places --------------------------------------------------------------------------------

/// Pullers that one donor serves at once.
pub const FEEDS_MAX: usize = 128;
/// Of these, the streams of one node; a further one replaces the oldest.
pub const FEEDS_SHARE: usize = 4;
/// Resyncs that one donor serves at once.
pub const SNAPSHOTS_MAX: usize = 16;
/// Of these, those of one node.
pub const SNAPSHOTS_SHARE: usize = 1;
/// Calls of nodes that read much, such as a bucket or a report, at once.
pub const PEER_CALLS_MAX: usize = 64;
/// Of these, those of one node.
pub const PEER_CALLS_SHARE: usize = 8;
/// Peeks that a node answers at once.
pub const PEER_PEEKS_MAX: usize = 4096;
/// Of these, those of one node.
pub const PEER_PEEKS_SHARE: usize = 512;
/// Concurrent traces of operators: each reads the whole log. Peers have as many besides, and each of them one.
pub const TRACES_MAX: usize = 2;
/// Connections of one node's certificate; at most a quarter of all. A further one replaces the one that was unused
/// for longest. Hosts may share a certificate without a URI.
pub const CONNECTIONS_OF_A_NODE: usize = 128;

// ---- origins and names ---------------------------------------------------------------------

/// Origins that this node lists, folded ones included: a vector of them must stay shorter than
/// [`super::limits::VECTOR_MAX_ORIGINS`] at every node, with the origins that members add by themselves.
pub const ORIGINS_MAX: usize = 45_000;
/// The same for origins that another node than their own supplies.
pub const RELAYED_ORIGINS_MAX: usize = 40_000;
/// Incarnations of one node that are listed and not folded.
pub const ORIGINS_PER_NODE: usize = 1_000;
/// New incarnations of itself that a node supplies at once; then one more per [`OWN_ORIGINS_REFILL`].
pub const OWN_ORIGINS_BUDGET: usize = 1_000;
/// See [`OWN_ORIGINS_BUDGET`].
pub const OWN_ORIGINS_REFILL: Duration = Duration::from_secs(60);
/// New incarnations of known nodes that one donor relays at once; then one more per [`KNOWN_ORIGINS_REFILL`].
pub const KNOWN_ORIGINS_BUDGET: usize = 2_000;
/// See [`KNOWN_ORIGINS_BUDGET`].
pub const KNOWN_ORIGINS_REFILL: Duration = Duration::from_secs(60);
/// Origins of unknown nodes that one donor relays at once, one of each node; then one more per
/// [`STRANGE_ORIGINS_REFILL`].
pub const STRANGE_ORIGINS_BUDGET: usize = 256;
/// See [`STRANGE_ORIGINS_BUDGET`].
pub const STRANGE_ORIGINS_REFILL: Duration = Duration::from_secs(600);
/// The least time between two alarms about a donor that has used up a budget.
pub const ORIGINS_REPORT_INTERVAL: Duration = Duration::from_secs(3600);
/// Budgets that are remembered.
pub const ORIGIN_BUDGETS: usize = 4_096;
/// Origins unknown here that are kept of what one peer says it has applied.
pub const UNKNOWN_ORIGINS_KEPT: usize = 2_048;
/// Origins in the vectors of all members together that the store remembers.
pub const REMEMBERED_ORIGINS: usize = 400_000;
/// Member names that a certificate without a URI may introduce, from one network.
pub const NAMES_PER_CERTIFICATE: usize = 8;

// ---- claims --------------------------------------------------------------------------------

/// The delay after the first incarnation that was minted because a peer knew more of the current one. It doubles
/// with each further one, up to [`ROLLBACK_MINT_INTERVAL_MAX`].
pub const ROLLBACK_MINT_INTERVAL: Duration = Duration::from_secs(10);
/// The longest such delay. Twice as long without such a claim, and the first delay counts again.
pub const ROLLBACK_MINT_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// How often such a claim of one peer is believed.
pub const ROLLBACK_CLAIMANT_INTERVAL: Duration = Duration::from_secs(3600);
/// Peers whose claims are remembered for that.
pub const ROLLBACK_CLAIMANTS: usize = 256;

// ---- resyncs -------------------------------------------------------------------------------

/// How long a resync may take, however much the donor has announced.
pub const RESYNC_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// Resyncs of a node at once, each from another donor.
pub const RESYNCS_MAX: usize = 3;
/// How long a resync lasts before another one may begin beside it.
pub const RESYNC_ALONE: Duration = Duration::from_secs(120);
/// Within each such time, a donor must send [`RESYNC_WINDOW_ITEMS`] or [`RESYNC_WINDOW_BYTES`]; otherwise it is set
/// aside.
pub const RESYNC_WINDOW: Duration = Duration::from_secs(30);
/// Records and log entries.
pub const RESYNC_WINDOW_ITEMS: u64 = 500;
/// Bytes of messages that hold at least one item.
pub const RESYNC_WINDOW_BYTES: u64 = 256 * 1024;
/// How long a resync may take, besides the time for what the donor has announced.
pub const RESYNC_GRACE: Duration = Duration::from_secs(300);
/// What a donor must deliver of what it has announced, per second; a second more for each [`RESYNC_WINDOW_BYTES`].
pub const RESYNC_ITEMS_PER_SECOND: u64 = 200;
/// Records that a donor may send beyond twice the number it has announced: writes continue meanwhile.
pub const RESYNC_EXCESS_RECORDS: u64 = 100_000;
/// How long a donor that failed is not asked for a resync; doubles with each failure in a row.
pub const RESYNC_ASIDE_MIN: Duration = Duration::from_secs(10);
/// The longest such time.
pub const RESYNC_ASIDE_MAX: Duration = Duration::from_secs(3600);
/// The same if its records are not proven here, which an operator may mend at any time.
pub const RESYNC_ASIDE_UNPROVEN: Duration = Duration::from_secs(60);
