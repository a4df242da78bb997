//! Bounds of what peers claim: of entries that cannot be applied, of what a resync may drop, of comparisons.

use std::time::Duration;

use super::{OPERATION_MAX_BYTES, PAYLOAD_MAX_BYTES};

/// Entries in quarantine.
pub const QUARANTINE_MAX: u64 = 10_000;
/// Bytes in quarantine.
pub const QUARANTINE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The origins of one node may take one of so many parts of both.
pub const QUARANTINE_SHARES: u64 = 4;
/// The largest entry of a log that travels: key hash, operation, payload, and room for what a later version may add.
pub const ENTRY_MAX_BYTES: usize = 32 + OPERATION_MAX_BYTES + PAYLOAD_MAX_BYTES + 64 * 1024;
/// The records that a donor with collected tombstones may drop here in [`RESYNC_DROPS_PERIOD`] are at least so many ...
pub const RESYNC_DROPS_MIN: u64 = 100;
/// ... or one of so many of this node's records, if that is more.
pub const RESYNC_DROPS_PART: u64 = 100;
/// The time over which they are counted, all donors together.
pub const RESYNC_DROPS_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How often a node compares its records with each peer's, whatever is under way.
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(10);
/// The pause between two looks at something suspicious.
pub const DIVERGENCE_CONFIRM: Duration = Duration::from_secs(1);
/// Looks in a row at which a bucket must differ before its records are compared.
pub const COMPARE_LOOKS: u32 = 3;
/// Buckets whose records are compared after one look, unless one of them shows a true difference.
pub const COMPARE_BUCKETS: usize = 4;
/// The least time between two alarms about one peer's differing records.
pub const DIVERGENCE_NEWS: Duration = Duration::from_secs(600);
/// Differing key hashes that one repair handles; the next comparison finds the rest.
pub const REPAIR_KEYS_MAX: usize = 100_000;
/// How long a repair may take. A resync waits for it.
pub const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);
/// Records and tombstones under one hash, by which another member confirms a fill: few enough for one answer, and many
/// enough for a million records in a few hundred. Fewer where writes keep the two apart.
pub const CONFIRM_ITEMS: usize = 4096;
/// How long a node asks one member for such hashes before it compares digests again.
pub const CONFIRM_STEP: Duration = Duration::from_secs(5);
/// Steps in a row that must end at the same difference before the records of its buckets are compared one by one.
pub const CONFIRM_LOOKS: u32 = 3;
/// Fills that wait for confirmation: one of each donor.
pub const FILLS_MAX: usize = 64;
/// An unconfirmed fill that is older is a finding, if another member could have confirmed it.
pub const FILL_CONFIRM_SECONDS: i64 = 600;
