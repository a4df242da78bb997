//! Checks a stretch of a log as it arrives, in a round or in a snapshot.

use super::{
    orders::Refused,
    proof::{ProofError, Verifier},
};
use crate::store::StoreError;
use brock_core::{
    base::{
        id::{NodeId, Origin},
        vector::Clock,
    },
    domain::{
        order::Chain,
        segment::{Segment, SegmentError},
    },
    proto,
};

/// A batch as far as it is believed.
#[derive(Debug)]
pub struct Checked {
    /// What may be stored.
    pub segment: Segment,
    /// The certificates of operators whose orders are in it, to be kept before the segment is: this node will pass both
    /// on.
    pub chains: Vec<Chain>,
    /// The first operation that destroys without a valid order, if one is needed. The segment ends before it.
    pub refused: Option<Refused>,
}

/// Why nothing of a batch is taken.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// It is no stretch of a log.
    #[error(transparent)]
    Malformed(#[from] SegmentError),
    /// It is not what that origin has signed.
    #[error("{1}")]
    Proof(Origin, ProofError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Verifier {
    /// Checks a batch that `from` has sent. Orders are verified above the clock that `applied` states of an origin: up
    /// to there they were, or are in effect. Blocks: it hashes every payload and verifies signatures.
    ///
    /// Contract: as [`Verifier::check_segment`] and [`super::orders::Orders::check`] say.
    pub fn check_batch(
        &self,
        from: &NodeId,
        mut batch: proto::Batch,
        applied: impl FnOnce(&Origin) -> Clock,
    ) -> Result<Checked, BatchError> {
        let received = Chain::take(&mut batch);
        let segment = Segment::check(batch)?;
        let origin = segment.origin;
        let verified = self.check_segment(from, segment);
        let mut segment = verified.map_err(|error| BatchError::Proof(origin, error))?;
        let (chains, refused) = match self.orders() {
            Some(orders) => orders.check(&mut segment, received, applied(&origin))?,
            None => Default::default(),
        };
        Ok(Checked { segment, chains, refused })
    }
}
