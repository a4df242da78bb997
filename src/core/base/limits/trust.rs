//! The bounds of what is signed: orders, and the certificates that they are verified with.

use std::time::Duration;

/// The most certificates in a signer's chain, leaf included.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;
/// The most bytes of such a chain in DER: three certificates of ML-DSA-87 and their names.
pub const CHAIN_MAX_BYTES: usize = 24 * 1024;
/// Chains of signers that a node keeps.
pub const CHAINS_MAX: usize = 10_000;
/// How far the time in an order may be from a node's clock when a client hands it in.
pub const ORDER_CLOCK_SKEW: Duration = Duration::from_secs(300);
