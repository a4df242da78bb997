//! Planted bugs: mutations of the real code that the tests must find, most of them the simulation.
//!
//! They exist only with the feature `planted-bugs`, which no release has. A bug is active only in a process
//! whose environment names it. Without the feature [`is`] is the constant `false`.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $bug:ident = $name:literal,)*) => {
        /// A bug that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])* $bug,)*
        }

        impl Bug {
            /// All bugs.
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
    /// Operations from a peer do not raise the version vector.
    SkipVectorUpdate = "skip-vector-update",
    /// Now and then two operations get the same clock.
    ReuseClock = "reuse-clock",
    /// A segment is applied although operations before it are missing.
    AcceptGap = "accept-gap",
    /// A state is replaced instead of joined.
    OverwriteInsteadOfJoin = "overwrite-instead-of-join",
    /// A delete from a peer is logged, but not joined.
    SkipDelete = "skip-delete",
    /// Writes are acknowledged without reaching the disk.
    AckBeforeSync = "ack-before-sync",
    /// A start keeps the old incarnation.
    KeepIncarnation = "keep-incarnation",
    /// The log is compacted up to what this node has applied, although peers lack it.
    CompactUnstable = "compact-unstable",
    /// A puller below a floor gets the rest of the log, as if nothing were missing.
    IgnoreFloor = "ignore-floor",
    /// Tombstones are collected as soon as this node has them.
    CollectEarly = "collect-early",
    /// Tombstones are collected without waiting for what the members had when they acknowledged.
    CollectWithoutWaiting = "collect-without-waiting",
    /// A resync ends without adopting the donor's version vector.
    AdoptNothing = "adopt-nothing",
    /// A resync adopts the donor's version vector before its records.
    AdoptFirst = "adopt-first",
    /// A resync keeps records whose tombstones the donor has collected.
    KeepUnlisted = "keep-unlisted",
    /// A resync drops records that the donor does not know yet.
    DropUncovered = "drop-uncovered",
    /// A retired node is served from the log as if it had missed nothing.
    ForgiveRetired = "forgive-retired",
    /// A hello joins the puller's known vector instead of replacing it, as if no disk were ever lost.
    HelloJoins = "hello-joins",
    /// A resync or a repair restores records whose tombstones this node has collected.
    TakeForgotten = "take-forgotten",
    /// A clock that was applied long ago is stored as the last one.
    LowerClock = "lower-clock",
    /// The digest ignores deletes.
    DigestIgnoresDeletes = "digest-ignores-deletes",
    /// It is not verified who has signed a batch that its origin did not send itself.
    SkipVerifyRelay = "skip-verify-relay",
    /// A resync takes records as the donor shows them.
    SkipVerifyPage = "skip-verify-page",
    /// A bundle that comes with states is taken as it is.
    SkipVerifyBundle = "skip-verify-bundle",
    /// Bundles are dropped although records name them.
    DropNamedBundles = "drop-named-bundles",
    /// A repair or a comparison takes states as the peer shows them.
    SkipVerifyRepair = "skip-verify-repair",
    /// A read takes what a peer answers.
    SkipVerifyPeek = "skip-verify-peek",
    /// A batch may cover clocks that it has no entry for.
    AcceptGapInBatch = "accept-gap-in-batch",
    /// The part of a segment that was applied before is applied again.
    AcceptOverlap = "accept-overlap",
    /// An operation that destroys is taken without an operator's order.
    AcceptUnsignedDelete = "accept-unsigned-delete",
    /// A second birth of an origin replaces the first.
    ForgetBirth = "forget-birth",
    /// A bundle is applied although it does not continue the log that is here.
    AcceptFork = "accept-fork",
    /// Evidence proves whatever has its stamp.
    ProveByStamp = "prove-by-stamp",
    /// A peer destroys as much as it likes.
    IgnoreDestructionLimit = "ignore-destruction-limit",
    /// A head is kept although its origin has not signed it.
    SkipVerifyHead = "skip-verify-head",
    /// A head of another history than the log's is no proof of two histories.
    IgnoreOtherHead = "ignore-other-head",
    /// A donor's clock of a log is adopted although its origin has not signed so much.
    AdoptUnsigned = "adopt-unsigned",
    /// An origin that has signed two histories is not frozen.
    FreezeNothing = "freeze-nothing",
    /// The log of a frozen origin is applied further.
    FollowFrozen = "follow-frozen",
    /// A fill is confirmed whatever the member's hashes say.
    ConfirmBlindly = "confirm-blindly",
    /// A fill is confirmed by a member that the same donor has filled.
    ConfirmByDependent = "confirm-by-dependent",
}

/// The environment variable that activates a bug.
pub const VARIABLE: &str = "BROCK_PLANTED_BUG";

/// Whether this bug is active in this process.
#[cfg(feature = "planted-bugs")]
pub fn is(bug: Bug) -> bool {
    use std::sync::OnceLock;

    static ACTIVE: OnceLock<Option<Bug>> = OnceLock::new();
    let active = ACTIVE.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    });
    *active == Some(bug)
}

/// Whether this bug is active in this process: never.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub fn is(_: Bug) -> bool {
    false
}
