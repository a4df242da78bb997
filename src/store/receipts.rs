//! What this node signs beside its operations: acknowledgements as a member, receipts as the node that answers; and the
//! newest bundles of its own log, by which a receipt leads from an operation to what a member has signed.

use std::{collections::VecDeque, sync::PoisonError};

use super::handle::{Shared, Store};
use brock_core::{
    base::{
        id::{ClusterId, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        acknowledgement::Acknowledgement,
        bundle::{self, Hash, Signature, Tip},
    },
};

/// A bundle in the chain of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The clock of its first operation.
    pub first: Clock,
    /// Its last operation.
    pub last: Stamp,
    /// The hash of the log before it.
    pub before: Hash,
    /// The root of the tree over its operations.
    pub root: Hash,
}

impl Link {
    pub(super) fn of(origin: Origin, tip: &Tip) -> Self {
        let Tip { bundle, root } = tip;
        let last = Stamp { origin, clock: bundle.last() };
        Self { first: bundle.first, last, before: bundle.before, root: *root }
    }

    /// The hash of the log after it.
    pub fn after(&self) -> Hash {
        bundle::chained(&self.before, &self.root)
    }
}

/// The newest bundles of the present incarnation, oldest first, without a gap.
#[derive(Debug, Default)]
pub(super) struct Links(VecDeque<Link>);

impl Links {
    fn extend(&mut self, links: &[Link]) {
        for link in links {
            // A new incarnation has a new log.
            if self.0.back().is_some_and(|newest| newest.last.origin != link.last.origin) {
                self.0.clear();
            }
            self.0.push_back(*link);
        }
        let superfluous = self.0.len().saturating_sub(limits::RECEIPT_ROOTS_KEPT);
        self.0.drain(..superfluous);
    }

    /// The place of the bundle that holds an operation; `None`: it is not among them.
    fn position(&self, stamp: Stamp) -> Option<usize> {
        let at = self.0.partition_point(|link| link.last.clock < stamp.clock);
        let holds = |link: &&Link| link.last.origin == stamp.origin && link.first <= stamp.clock;
        self.0.get(at).filter(holds).map(|_| at)
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
    /// Before the operations of these bundles are visible.
    pub(super) fn add_links(&self, links: &[Link]) {
        if !links.is_empty() {
            self.links.lock().unwrap_or_else(PoisonError::into_inner).extend(links);
        }
    }
}

impl Store {
    /// Signs how far the log of an origin is applied here, durably. `None`: this node does not sign, or does not know
    /// the hash of that log, or has nothing of it. Takes about 10 µs.
    pub fn acknowledgement(&self, origin: &Origin) -> Option<Acknowledgement> {
        let signer = self.shared.signer()?;
        let (clock, chain) = {
            let published = self.shared.published();
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
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        match links.position(stamp).and_then(|at| links.0.get(at)) {
            None => OwnHash::Unknown,
            Some(link) if link.last == stamp => OwnHash::Known(link.after()),
            Some(_) => OwnHash::Nowhere,
        }
    }

    /// The bundles of this node's own log from that of an operation on, up to `through`, at most
    /// [`limits::RECEIPT_ROOTS_MAX`]; none if it is not among those that are remembered.
    pub fn links(&self, from: Stamp, through: Clock) -> Vec<Link> {
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = links.position(from) else { return Vec::new() };
        let up_to = links.0.range(at..).take_while(|link| link.last.clock <= through);
        up_to.take(limits::RECEIPT_ROOTS_MAX).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::id::Incarnation;

    fn stamp(incarnation: u32, clock: u64) -> Stamp {
        Stamp { origin: Origin::new(&"a".parse().unwrap(), Incarnation(incarnation)), clock: Clock(clock) }
    }

    fn links(incarnation: u32, mut first: u64, ends: impl IntoIterator<Item = u64>) -> Vec<Link> {
        let link = |end| {
            let link =
                Link { first: Clock(first), last: stamp(incarnation, end), before: [1; 32], root: [2; 32] };
            first = end + 1;
            link
        };
        ends.into_iter().map(link).collect()
    }

    #[test]
    fn an_operation_is_found_in_its_bundle_as_long_as_that_is_remembered() {
        let mut kept = Links::default();
        assert_eq!(kept.position(stamp(1, 1)), None);
        kept.extend(&links(1, 2, [3, 4, 9]));
        let found = |kept: &Links, clock| kept.position(stamp(1, clock));
        let expected = [None, Some(0), Some(0), Some(1), Some(2), Some(2), Some(2), Some(2), Some(2), None];
        assert_eq!((1..=10).map(|clock| found(&kept, clock)).collect::<Vec<_>>(), expected);
        assert_eq!(kept.position(stamp(2, 4)), None);
        let many = u64::try_from(limits::RECEIPT_ROOTS_KEPT).unwrap();
        kept.extend(&links(1, 10, 10..many + 10));
        assert_eq!(
            (kept.0.len(), found(&kept, 9), found(&kept, 11)),
            (limits::RECEIPT_ROOTS_KEPT, None, Some(1))
        );
        kept.extend(&links(2, 1, [1]));
        assert_eq!(
            (kept.0.len(), kept.position(stamp(2, 1))),
            (1, Some(0)),
            "another incarnation, another log"
        );
    }
}
