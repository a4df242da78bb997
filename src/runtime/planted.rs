//! Planted bugs: mutations of the real code that the simulation must find.
//!
//! They exist only with the feature `planted-bugs`, which no release has, and one is awake only in a
//! process that asks for it by name. Without the feature [`is`] is the constant `false`.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $bug:ident = $name:literal,)*) => {
        /// A bug that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])* $bug,)*
        }

        impl Bug {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name in [`VARIABLE`].
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// What is applied from a peer does not raise the vector.
    SkipVectorUpdate = "skip-vector-update",
    /// A clock is given to two operations now and then.
    ReuseClock = "reuse-clock",
    /// A segment that begins above what is applied is taken all the same.
    AcceptGap = "accept-gap",
    /// States are replaced instead of joined.
    OverwriteInsteadOfJoin = "overwrite-instead-of-join",
    /// A delete from a peer is logged but not joined.
    SkipDelete = "skip-delete",
    /// Writes are answered although they never reached the disk.
    AckBeforeSync = "ack-before-sync",
    /// A start goes on under the old incarnation.
    KeepIncarnation = "keep-incarnation",
    /// The log is compacted up to what is applied here, whoever lacks it.
    CompactUnstable = "compact-unstable",
    /// A puller below a floor is served what is left, as if nothing were missing.
    IgnoreFloor = "ignore-floor",
    /// Tombstones are collected as soon as this node has them.
    CollectEarly = "collect-early",
    /// Tombstones are collected without waiting for what the members had when they acknowledged.
    CollectWithoutWaiting = "collect-without-waiting",
    /// A resync ends without taking over the donor's vector.
    AdoptNothing = "adopt-nothing",
    /// A resync takes over the donor's vector before its records.
    AdoptFirst = "adopt-first",
    /// A resync keeps records that the donor deleted and has forgotten.
    KeepUnlisted = "keep-unlisted",
    /// A resync drops records that the donor has not heard of.
    DropUncovered = "drop-uncovered",
    /// A retired node is fed from the log as if it had missed nothing.
    ForgiveRetired = "forgive-retired",
    /// A hello adds to what was known of the puller, as if no disk were ever lost.
    HelloJoins = "hello-joins",
    /// A resync or a repair brings back what this node has deleted and forgotten.
    TakeForgotten = "take-forgotten",
    /// What was applied long ago is written down as the last that was.
    LowerClock = "lower-clock",
    /// The digest leaves deletes out.
    DigestIgnoresDeletes = "digest-ignores-deletes",
}

/// The environment variable that wakes a bug.
pub const VARIABLE: &str = "BROCK_PLANTED_BUG";

/// Whether this bug is awake in this process.
#[cfg(feature = "planted-bugs")]
pub fn is(bug: Bug) -> bool {
    use std::sync::OnceLock;

    static AWAKE: OnceLock<Option<Bug>> = OnceLock::new();
    let awake = AWAKE.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    });
    *awake == Some(bug)
}

/// Whether this bug is awake in this process: never.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub fn is(_: Bug) -> bool {
    false
}
