//! Why a snapshot is not joined, or not adopted.

use std::fmt;

use super::{batch::BatchError, orders::Refused, proof::ProofError};
use crate::store::StoreError;
use brock_core::{
    base::{claims::ClaimKind, vector::Stamp},
    domain::{codec::CodecError, segment::SegmentError},
};

/// Why a snapshot could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The donor sent something that does not belong there.
    #[error("the donor broke the protocol: {0}")]
    Protocol(String),
    /// Something that it sent is forged.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Its log destroys without an operator's order.
    #[error(
        "the donor's log of {} destroys a record at clock {} without a valid order of an operator: {}",
        .0.stamp.origin, .0.stamp.clock, .0.reason
    )]
    Order(Box<Refused>),
    /// Records that nothing proves were left out, so its vector cannot be adopted.
    #[error(
        "{0}: this node has left them out, with the records that they are about, which must come from another donor"
    )]
    Unproven(Unproven),
    /// It claims more of a log than its origin has signed, as far as it shows. The rest is adopted.
    #[error(
        "the donor claims the log of {} up to clock {}, the first of {} such claims, and shows no signature of that \
         origin there: this node has taken everything else, and that log must come from another donor",
        .0[0].origin, .0[0].clock, .0.len()
    )]
    Unsigned(Vec<Stamp>),
    /// The donor forgets deletes, and this node does not.
    #[error(
        "the donor has collected tombstones, and this node collects none, so it drops no record because of what another \
         node forgot: set tombstone-grace here too, for which node.trust must be centralized, or fill this node from a \
         peer that has collected none"
    )]
    Collected,
    /// The donor's pages drop more than a donor may.
    #[error(
        "the donor says that it has deleted and forgotten more of this node's records than are dropped on the word of others \
         in a day, so nothing more is dropped. If that is true, stop this node, empty its disk, and let its peers fill it; \
         if not, the donor lies"
    )]
    Drops,
    /// It could not be written.
    #[error(transparent)]
    Store(StoreError),
}

/// Operations in a donor's records that were left out, because nothing proves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unproven {
    /// How many.
    pub operations: usize,
    /// Those of them whose origin has no birth that this node could verify. The others have a forged signature, or
    /// an order that is not valid here.
    pub unborn: usize,
    /// The first of them.
    pub first: Option<Stamp>,
}

impl Unproven {
    pub(super) fn add(&mut self, stamp: Stamp, is_born: bool) {
        self.operations += 1;
        self.unborn += usize::from(!is_born);
        self.first.get_or_insert(stamp);
    }

    pub(super) fn join(&mut self, more: Self) {
        self.operations += more.operations;
        self.unborn += more.unborn;
        self.first = self.first.or(more.first);
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, unborn, first } = self;
        write!(f, "{operations} operations in the donor's records are not proven here")?;
        if let Some(Stamp { origin, clock }) = first {
            write!(f, ", such as {clock} of {origin}")?;
        }
        write!(f, " ({unborn} of them for want of a birth that this node can verify)")
    }
}

impl JoinError {
    /// Which claim of the donor was refused, for the metric.
    pub fn kind(&self) -> Option<ClaimKind> {
        match self {
            Self::Protocol(_) => Some(ClaimKind::Page),
            Self::Proof(_) | Self::Order(_) | Self::Unproven(_) => Some(ClaimKind::Forged),
            Self::Collected => Some(ClaimKind::Collected),
            Self::Drops => Some(ClaimKind::Drops),
            // An honest donor may have it from one that is not.
            Self::Unsigned(_) | Self::Store(_) => None,
        }
    }

    /// Whether another attempt must begin from the start, if any can succeed.
    pub fn ends(&self) -> bool {
        !matches!(self, Self::Store(_))
    }
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyDrops { .. } => Self::Drops,
            error => Self::Store(error),
        }
    }
}

impl From<BatchError> for JoinError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Malformed(error) => error.into(),
            BatchError::Proof(_, error) => error.into(),
            BatchError::Store(error) => error.into(),
        }
    }
}

impl From<CodecError> for JoinError {
    fn from(error: CodecError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<SegmentError> for JoinError {
    fn from(error: SegmentError) -> Self {
        Self::Protocol(error.to_string())
    }
}
