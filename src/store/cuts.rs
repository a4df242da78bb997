//! Where logs may be cut: a bundle is sent and removed as a whole, because its signature covers all of it.

use bytes::Bytes;

use super::{error::StoreError, view::View};
use brock_core::{
    base::{id::Origin, vector::Clock},
    domain::{bundle::Bundle, codec::CodecError},
    proto,
};

/// Where the log of an origin may be cut as it is read: between bundles if the origin signs, else anywhere.
pub(super) struct Cuts<I> {
    /// `None` = the origin does not sign.
    unread: Option<I>,
    /// Those whose entries were read, the first perhaps before its first entry is.
    read: Vec<Bundle>,
    after: Clock,
}

impl<'a> Cuts<Box<dyn Iterator<Item = Result<Bundle, StoreError>> + 'a>> {
    /// For a reader that begins above `after`.
    pub(super) fn new(
        view: &'a View<'_>,
        signs: bool,
        (origin, after): (Origin, Clock),
    ) -> Result<Self, StoreError> {
        if !signs {
            return Ok(Self { unread: None, read: Vec::new(), after });
        }
        let bundles = view.bundles(origin, after).map(|tip| tip.map(|tip| tip.bundle));
        let mut unread: Box<dyn Iterator<Item = _>> = Box::new(bundles);
        let first = unread.next().transpose()?;
        // Whole bundles only: a puller that asks from within one gets it again.
        let after = first.map_or(after, |first| after.min(Clock(first.first.0.saturating_sub(1))));
        Ok(Self { unread: Some(unread), read: first.into_iter().collect(), after })
    }

    /// Where to begin: at or below what was asked for.
    pub(super) fn after(&self) -> Clock {
        self.after
    }

    /// Whether the log may be cut before its entry at `clock`, which is read now.
    pub(super) fn is_before(&mut self, clock: Clock) -> Result<bool, StoreError> {
        let Some(unread) = &mut self.unread else { return Ok(true) };
        while self.read.last().is_none_or(|bundle| bundle.last() < clock) {
            let Some(next) = unread.next().transpose()? else { break };
            // One without entries is of a log that is compacted while it is read.
            if next.last() >= clock {
                self.read.push(next);
            }
        }
        match self.read.last() {
            Some(bundle) if bundle.first <= clock && clock <= bundle.last() => Ok(bundle.first == clock),
            _ => Err(CodecError::Malformed("log: an entry of it is in no bundle").into()),
        }
    }

    /// How many entries must stay together with the one that was read last.
    pub(super) fn whole(&self) -> usize {
        let bundle = self.read.last().filter(|_| self.unread.is_some());
        bundle.map_or(1, |bundle| bundle.count.into())
    }

    /// Whether the log may be cut behind the last entry that was read, at `clock`.
    pub(super) fn is_behind(&self, clock: Clock) -> bool {
        self.unread.is_none() || self.read.last().is_none_or(|bundle| bundle.last() <= clock)
    }

    /// Gives a batch the signatures of its entries.
    pub(super) fn sign(&self, batch: &mut proto::Batch) {
        let through = Clock(batch.covered_through);
        let bundles = || self.read.iter().filter(|bundle| bundle.last() <= through);
        batch.chain = bundles().next().map_or_else(Bytes::new, |first| Bytes::copy_from_slice(&first.before));
        batch.bundles = bundles().map(Bundle::to_proto).collect();
    }

    /// The same, and none of them again.
    pub(super) fn sign_next(&mut self, batch: &mut proto::Batch) {
        self.sign(batch);
        self.read.drain(..batch.bundles.len());
    }
}
