//! The bounds of what is signed: orders, and the certificates that they are verified with.

use std::time::Duration;

/// The most certificates in a signer's chain, leaf included.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;
/// The most bytes of such a chain in DER: three certificates of ML-DSA-87 and their names.
pub const CHAIN_MAX_BYTES: usize = 24 * 1024;
/// Chains of signers in one batch; the rest of the log follows in the next one.
pub const BATCH_CHAINS_MAX: usize = 16;
/// Of a batch that a peer sends, so many are read: the last bundle may exceed that.
pub const BATCH_CHAINS_READ: usize = BATCH_CHAINS_MAX + BUNDLE_OPERATIONS;
/// Of the chains that a peer sends with states, so many are read.
pub const STATES_CHAINS_READ: usize = 10_000;
/// Chains of signers that a node keeps.
pub const CHAINS_MAX: u64 = 10_000;
/// How far the time in an order may be from a node's clock when a client hands it in.
pub const ORDER_CLOCK_SKEW: Duration = Duration::from_secs(300);
/// Records that are logged again in one step because something of them is not proven, ...
pub const MIGRATION_RECORDS: usize = 256;
/// ... after so many were looked at.
pub const MIGRATION_LOOKS: usize = 20_000;
/// The most orders that one step asks for and takes: a message holds as many of the largest.
pub const MIGRATION_ORDERS_MAX: usize = 64;
/// Nodes whose logs operators have closed.
pub const CLOSINGS_MAX: usize = 64;
/// Origins in a page of them.
pub const ORIGINS_PAGE: usize = 256;
/// Births of origins of one node that are kept although nothing of them is here, for records that come later.
pub const BIRTHS_PER_NODE: usize = 1_000;
/// Origins of one donor that are remembered because their logs are not believed here.
pub const REFUSED_ORIGINS_MAX: usize = 64;
/// Births that a node offers to another one at once.
pub const OFFERED_BIRTHS_MAX: usize = 64;
/// Operations under one signature.
pub const BUNDLE_OPERATIONS: usize = 64;
/// Cores on which one message's signatures are verified, ...
pub const VERIFY_THREADS: usize = 4;
/// ... and how many signatures are worth a thread.
pub const VERIFY_TOGETHER: usize = 16;
/// Bytes of their payloads above which a bundle ends early.
pub const BUNDLE_PAYLOAD_BYTES: usize = 1024 * 1024;
/// The hashes from an operation up to the root of its bundle.
pub const BUNDLE_PATH_MAX: usize = BUNDLE_OPERATIONS.ilog2() as usize;
/// A certificate's signature: ML-DSA-87 needs 4,627 bytes.
pub const SIGNATURE_MAX_BYTES: usize = 5 * 1024;
/// Operations that one record's state consists of: creates, their expiry, and what was done to them.
pub const EVIDENCE_MAX: usize = super::LOSERS_MAX + 6;
/// Genuine signatures in certificates and revocation lists that are remembered for each algorithm.
pub const CERTIFICATE_SIGNATURES_REMEMBERED: usize = 4_096;
/// Bundles that a donor remembers of what it has sent a puller, so that each is sent about once: about 30 MB.
pub const SENT_BUNDLES: usize = 262_144;
/// Bundles that are told apart while those are searched for that no record names: 8 MiB.
pub const BUNDLE_MARKS: usize = 1 << 26;
/// Records or bundles that one step of this search looks at.
pub const BUNDLE_LOOKS: usize = 4_096;
/// How long such a step waits for what holds the bundles.
pub const BUNDLES_SEIZE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of bundles that a puller remembers while it is filled, instead of reading them again.
pub const BUNDLES_CACHED_BYTES: usize = 64 * 1024 * 1024;
/// Nodes of whose logs a refused operation raises an alarm; a lying peer invents any number of them.
pub const REFUSED_NODES_ALARMED: usize = 4;
/// Proofs that origins have signed two histories in one message; and origins that are frozen although nothing of them
/// is here. One that is listed here is frozen in any case, or nodes would freeze different ones.
pub const FORKS_MAX: usize = 256;
/// The same of one node: each takes a genuine signature of that node's certificate, which is to be revoked.
pub const FORKS_PER_NODE: usize = 16;
/// False statements about histories that are verified in one message. A peer that has made one is not asked about them
/// any more until the next round.
pub const LIES_READ: usize = 8;
/// Bytes of the proofs that a node shows a peer in one message, far below what a message may have.
pub const FORKS_SHOWN_BYTES: usize = 2 * 1024 * 1024;
/// Logs whose last bundles a node shows a puller at once.
pub const TIPS_MAX: usize = 1_000;
/// Of its newest bundles a node remembers the roots, so that receipts can lead from an operation to what a member has
/// signed: 1 MB.
pub const RECEIPT_ROOTS_KEPT: usize = 8192;
/// So many of them are in one receipt; a member that has signed further than that is not proven by it.
pub const RECEIPT_ROOTS_MAX: usize = 4096;
/// The births in a receipt, with their certificates; further members are not proven by it.
pub const RECEIPT_BIRTHS_MAX_BYTES: usize = 1024 * 1024;
/// A node that is known to hold an operation, and signs what it acknowledges, has so much time to do so.
pub const RECEIPT_SIGNATURE_PATIENCE: Duration = Duration::from_millis(200);
/// How often an origin signs a head, if its log has grown.
pub const HEAD_INTERVAL: Duration = Duration::from_secs(2);
/// Heads in one message.
pub const HEADS_MAX: usize = 256;
/// Heads that a node keeps, one of each origin: 2 MB.
pub const HEADS_KEPT: usize = 4096;
/// Heads in a status.
pub const HEADS_SHOWN: usize = 64;
/// For how long nothing of a log may come before what its head shows to be missing is reported, and the peers that
/// claim to have it: longer than a relay waits for another one, and than a claim counts.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(20);
