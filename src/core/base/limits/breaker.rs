//! Bounds on what a peer destroys, claims, reports and causes to be logged.

use std::time::Duration;

/// The time in which `node.destruction-limit` operations may come.
pub const DESTRUCTION_WINDOW: Duration = Duration::from_secs(60);
/// The most that `node.destruction-limit` may be set to.
pub const DESTRUCTION_LIMIT_MAX: u64 = 1_000_000_000;
/// How long a log waits, before it is paused, for another member to say that it has applied the operations: longer
/// than [`super::HEARTBEAT_INTERVAL`].
pub const WITNESS_PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
pub const WITNESS_POLL: Duration = Duration::from_millis(100);
/// Paused logs that a node remembers.
pub const PAUSED_MAX: usize = 64;
/// For how long an operator lets a paused log go on.
pub const RESUMED_FOR: Duration = Duration::from_secs(3600);
/// How long a peer may claim operations without sending any of them before the claim no longer counts.
pub const CLAIM_PATIENCE: Duration = Duration::from_secs(15);
/// The most that one message adds to that time: a peer that was not heard did not claim anything meanwhile.
pub const CLAIM_STEP_MAX: Duration = Duration::from_secs(10);
/// A claim that would take longer than this at the pace of its peer does not count either.
pub const CLAIM_HORIZON: Duration = Duration::from_secs(86_400);
/// Claims without operations that a status lists for one peer.
pub const UNSENT_SHOWN: usize = 16;
/// Of the kept alarms, the most that one peer may have caused.
pub const ALARMS_PER_PEER: usize = 4;
/// The least time between two log lines about the same event that a peer causes again and again.
pub const REPEATED_LINE_INTERVAL: Duration = Duration::from_secs(60);
/// Texts in a peer's report, each.
pub const REPORT_TEXT_BYTES: usize = 2048;
/// Items of one list in a peer's report, but for its clocks and samples.
pub const REPORT_ITEMS: usize = 256;
/// Clocks of a peer that a view of the cluster shows, and the origins of which it shows the lag.
pub const VIEW_ORIGINS: usize = 1000;
/// Revoked certificates of one CA that a node may report: what its files have room for.
pub const REPORT_REVOKED: u64 = 4_000_000;
/// CAs of which a node remembers how many certificates they had revoked.
pub const AUTHORITIES_REMEMBERED: usize = 256;
/// Findings about one node in a verdict.
pub const FINDINGS_PER_NODE: usize = 16;
