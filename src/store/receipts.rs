//! What this node signs beside its operations: acknowledgements as a member, receipts as the node that answers; and the
//! newest bundles of its own log, by which a receipt leads from an operation to what a member has signed.

use std::{
    collections::VecDeque,
    sync::{MutexGuard, PoisonError},
};

use super::{
    fills::Fill,
    handle::{Shared, Store},
};
use brock_core::{
    base::{
        id::{ClusterId, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        acknowledgement::Acknowledgement,
        bundle::{Hash, Signature, Tip},
    },
};

/// The newest bundles of the present incarnation, oldest first, without a gap.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    origin: Option<Origin>,
    tips: VecDeque<Tip>,
}

impl Bundles {
    fn extend(&mut self, origin: Origin, tips: &[Tip]) {
        // A new incarnation has a new log.
        if self.origin.replace(origin) != Some(origin) {
            self.tips.clear();
        }
        self.tips.extend(tips);
        let superfluous = self.tips.len().saturating_sub(limits::RECEIPT_ROOTS_KEPT);
        self.tips.drain(..superfluous);
    }

    /// The place of the bundle that holds an operation; `None`: it is not among them.
    fn position(&self, stamp: Stamp) -> Option<usize> {
        let at = self.tips.partition_point(|tip| tip.bundle.last() < stamp.clock);
        let holds = |tip: &&Tip| self.origin == Some(stamp.origin) && tip.bundle.first <= stamp.clock;
        self.tips.get(at).filter(holds).map(|_| at)
    }
}

/// What this node knows of its own log at a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnHash {
    /// The hash of the log up to there.
    Known(Hash),
    /// It is not remembered any more, or the log does not reach so far.
    Unknown,
    /// No bundle ends there, so no node has the log up to there.
    Nowhere,
}

impl Shared {
    /// Before the operations of these bundles of the present incarnation are visible.
    pub(super) fn add_own_bundles(&self, tips: &[Tip]) {
        if !tips.is_empty() {
            self.own_bundles().extend(self.origin(), tips);
        }
    }

    fn own_bundles(&self) -> MutexGuard<'_, Bundles> {
        self.bundles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Signs how far the log of an origin is applied here, durably. `None`: this node does not sign, or does not know
    /// the hash of that log, or has nothing of it, or a donor that is not the origin's node may have left out some of
    /// it. Takes about 10 µs.
    pub fn acknowledgement(&self, origin: &Origin) -> Option<Acknowledgement> {
        let signer = self.shared.signer()?;
        let (clock, chain) = {
            let published = self.shared.published();
            let is_uncertain = |fill: &Fill| !origin.is_of(&fill.donor) && fill.applied.lists(origin);
            if published.fills.iter().any(is_uncertain) {
                return None;
            }
            (published.vector.get(origin), published.tips.get(origin)?.chain())
        };
        (clock > Clock::default()).then(|| signer.acknowledge(Stamp { origin: *origin, clock }, chain))
    }

    /// Signs a receipt as this node's present incarnation; `None`: this node does not sign.
    pub fn sign_receipt(&self, content: impl FnOnce(&ClusterId) -> Vec<u8>) -> Option<(Origin, Signature)> {
        self.shared.signer().map(|signer| signer.sign_receipt(content))
    }

    /// The incarnation as which this node signs; `None`: it does not sign.
    pub fn signs_as(&self) -> Option<Origin> {
        self.shared.signer().map(|signer| signer.origin())
    }

    /// The hash of the present incarnation's own log up to a clock.
    pub fn own_hash(&self, stamp: Stamp) -> OwnHash {
        let bundles = self.shared.own_bundles();
        match bundles.position(stamp).and_then(|at| bundles.tips.get(at)) {
            None => OwnHash::Unknown,
            Some(tip) if tip.bundle.last() == stamp.clock => OwnHash::Known(tip.chain()),
            Some(_) => OwnHash::Nowhere,
        }
    }

    /// The bundles of this node's own log from that of an operation on, up to `through`, at most
    /// [`limits::RECEIPT_ROOTS_MAX`]; none if it is not among those that are remembered.
    pub fn own_bundles(&self, from: Stamp, through: Clock) -> Vec<Tip> {
        let bundles = self.shared.own_bundles();
        let Some(at) = bundles.position(from) else { return Vec::new() };
        let up_to = bundles.tips.range(at..).take_while(|tip| tip.bundle.last() <= through);
        up_to.take(limits::RECEIPT_ROOTS_MAX).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::{base::id::Incarnation, domain::bundle::Bundle};

    fn origin(incarnation: u32) -> Origin {
        Origin::new(&"a".parse().unwrap(), Incarnation(incarnation))
    }

    fn tips(mut first: u64, ends: impl IntoIterator<Item = u64>) -> Vec<Tip> {
        let tip = |end| {
            let count = u8::try_from(end + 1 - first).unwrap();
            let bundle = Bundle { first: Clock(first), count, before: [1; 32], signature: [0; 64] };
            first = end + 1;
            Tip { bundle, root: [2; 32] }
        };
        ends.into_iter().map(tip).collect()
    }

    #[test]
    fn an_operation_is_found_in_its_bundle_as_long_as_that_is_remembered() {
        let mut kept = Bundles::default();
        let found = |kept: &Bundles, incarnation, clock| {
            kept.position(Stamp { origin: origin(incarnation), clock: Clock(clock) })
        };
        assert_eq!(found(&kept, 1, 1), None);
        kept.extend(origin(1), &tips(2, [3, 4, 9]));
        let expected = [None, Some(0), Some(0), Some(1), Some(2), Some(2), Some(2), Some(2), Some(2), None];
        assert_eq!((1..=10).map(|clock| found(&kept, 1, clock)).collect::<Vec<_>>(), expected);
        assert_eq!(found(&kept, 2, 4), None);
        let many = u64::try_from(limits::RECEIPT_ROOTS_KEPT).unwrap();
        kept.extend(origin(1), &tips(10, 10..many + 10));
        let length = kept.tips.len();
        assert_eq!(
            (length, found(&kept, 1, 9), found(&kept, 1, 11)),
            (limits::RECEIPT_ROOTS_KEPT, None, Some(1))
        );
        kept.extend(origin(2), &tips(1, [1]));
        assert_eq!((kept.tips.len(), found(&kept, 2, 1)), (1, Some(0)), "another incarnation, another log");
    }
}
