//! A bundle with the hashes of its operations: it proves each of them, without the log that they were in.

use bytes::Bytes;

use super::{
    bundle::{self, Bundle, Hash, OriginKey, Tip},
    inclusion::Inclusion,
};
use crate::{
    base::{
        id::{ClusterId, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

/// What a bundle is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleId {
    /// Who has signed it.
    pub origin: Origin,
    /// The clock of its last operation.
    pub last: Clock,
    /// How many operations it has: the root alone does not say which hashes are the leaves.
    pub count: u8,
    /// The root of the tree over its operations. An origin that has signed two histories has two bundles in one place.
    pub root: Hash,
}

impl BundleId {
    /// Of a bundle of that origin.
    pub fn of(origin: Origin, Tip { bundle, root }: &Tip) -> Self {
        Self { origin, last: bundle.last(), count: bundle.count, root: *root }
    }
}

impl std::hash::Hash for BundleId {
    /// Of the root only, which is a hash already: every record that is sent or received looks for its bundle.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.root);
    }
}

/// A bundle with the hashes of its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    tip: Tip,
    hashes: Vec<Hash>,
}

impl Leaves {
    /// IMPORTANT: the root in the tip is that of these hashes. `None`: they are not one for each operation.
    pub fn new(tip: Tip, hashes: Vec<Hash>) -> Option<Self> {
        (hashes.len() == usize::from(tip.bundle.count)).then_some(Self { tip, hashes })
    }

    /// What it is found by.
    pub fn id(&self, origin: Origin) -> BundleId {
        BundleId::of(origin, &self.tip)
    }

    /// The bundle.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// One for each operation.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The hash of the operation with that clock.
    pub fn at(&self, clock: Clock) -> Option<&Hash> {
        let index = clock.0.checked_sub(self.tip.bundle.first.0)?;
        self.hashes.get(usize::try_from(index).ok()?)
    }

    /// Whether the origin of this key signed it.
    pub fn is_genuine(&self, cluster: &ClusterId, origin: &Origin, key: &OriginKey) -> bool {
        self.tip.is_genuine(cluster, origin, key)
    }

    /// What proves one of its operations by itself; `None`: it does not have that operation.
    pub fn inclusion(&self, stamp: Stamp, operation: Bytes) -> Option<Inclusion> {
        let Bundle { first, count, before, signature } = self.tip.bundle;
        let index = usize::try_from(stamp.clock.0.checked_sub(first.0)?).ok()?;
        let path = bundle::path(&self.hashes, index)?.concat().into();
        Some(Inclusion { operation, first, count, before, path, signature })
    }

    /// How many bytes it has on the wire, about.
    pub fn bytes(&self) -> usize {
        Self::bytes_of(self.tip.bundle.count)
    }

    /// The same of one with that many operations.
    pub fn bytes_of(count: u8) -> usize {
        150 + 32 * usize::from(count)
    }

    /// To the wire.
    pub fn to_proto(&self, origin: Origin) -> proto::Leaves {
        let Bundle { first, before, signature, .. } = &self.tip.bundle;
        let mut signed = Vec::with_capacity(96 + 32 * self.hashes.len());
        signed.extend_from_slice(signature);
        signed.extend_from_slice(before);
        signed.extend_from_slice(self.hashes.as_flattened());
        proto::Leaves {
            origin: Bytes::copy_from_slice(origin.as_bytes()),
            first: first.0,
            signed: signed.into(),
        }
    }

    /// From the wire; `None` = malformed. Verifies nothing.
    pub fn from_proto(leaves: &proto::Leaves) -> Option<(Origin, Self)> {
        let origin = Origin::try_from(leaves.origin.as_ref()).ok()?;
        let (signature, rest) = leaves.signed.split_first_chunk::<64>()?;
        let (before, hashes) = rest.split_first_chunk::<32>()?;
        let (hashes, []) = hashes.as_chunks::<32>() else { return None };
        if hashes.len() > limits::BUNDLE_OPERATIONS {
            return None;
        }
        let bundle = proto::Bundle {
            count: u32::try_from(hashes.len()).ok()?,
            signature: Bytes::copy_from_slice(signature),
        };
        let bundle = Bundle::from_proto(Clock(leaves.first), *before, &bundle)?;
        Some((origin, Self { tip: Tip { bundle, root: bundle::root(hashes) }, hashes: hashes.to_vec() }))
    }
}
