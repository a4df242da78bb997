//! What proves one operation by itself, without its log and without a node: in receipts.

use bytes::Bytes;

use super::{
    bundle::{self, Bundle, Hash, Signature, is_count, root_from},
    codec,
};
use crate::{
    base::{
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

/// The bytes of an operation, its place in a signed bundle, and the way from there to what is signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The encoded operation.
    pub operation: Bytes,
    /// The clock of the first operation in its bundle.
    pub first: Clock,
    /// How many operations the bundle has.
    pub count: u8,
    /// The hash of the log before the bundle.
    pub before: Hash,
    /// The hashes beside its way to the root, one after another.
    pub path: Bytes,
    /// The signature of the bundle.
    pub signature: Signature,
}

impl Inclusion {
    /// The bundle that the evidence says the operation is in, and the root that it leads to; `None`: the
    /// operation cannot be in that bundle.
    pub fn bundle(&self, stamp: Stamp, key_hash: &[u8]) -> Option<(Bundle, Hash)> {
        let index = usize::try_from(stamp.clock.0.checked_sub(self.first.0)?).ok()?;
        if !is_count(self.count) {
            return None;
        }
        let leaf = bundle::leaf(stamp, key_hash, &self.operation);
        let (path, []) = self.path.as_chunks::<32>() else { return None };
        let root = root_from(leaf, index, self.count.into(), path)?;
        let Self { first, count, before, signature, .. } = *self;
        Some((Bundle { first, count, before, signature }, root))
    }

    /// To the wire.
    pub fn to_proto(&self, stamp: Stamp) -> proto::Inclusion {
        proto::Inclusion {
            stamp: Some(codec::stamp_to_proto(stamp)),
            operation: self.operation.clone(),
            before: u32::try_from(stamp.clock.0.saturating_sub(self.first.0)).unwrap_or(u32::MAX),
            count: self.count.into(),
            proof: [&self.signature[..], &self.before, &self.path].concat().into(),
        }
    }

    /// From the wire; `None` = malformed.
    pub fn from_proto(inclusion: proto::Inclusion) -> Option<(Stamp, Self)> {
        let proto::Inclusion { stamp, operation, before, count, proof } = inclusion;
        let stamp = codec::stamp_from_proto(&stamp?).ok()?;
        let (signature, rest) = proof.split_first_chunk::<64>()?;
        let (chain, hashes) = rest.split_first_chunk::<32>()?;
        let (hashes, []) = hashes.as_chunks::<32>() else { return None };
        let first = Clock(stamp.clock.0.checked_sub(before.into())?);
        let count = u8::try_from(count).ok()?;
        let is_well_formed = first.0 > 0
            && is_count(count)
            && hashes.len() <= limits::BUNDLE_PATH_MAX
            && operation.len() <= limits::OPERATION_MAX_BYTES;
        let (signature, before, path) = (*signature, *chain, proof.slice(64 + 32..));
        is_well_formed.then_some((stamp, Self { operation, first, count, before, path, signature }))
    }
}

impl std::fmt::Debug for Inclusion {
    /// Never shows the operation.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inclusion")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::{
        base::id::{ClusterId, Incarnation, Origin},
        domain::{
            bundle::{OriginKey, Tip, content, leaf, root},
            evidence::Evidence,
            leaves::Leaves,
        },
    };

    fn origin() -> Origin {
        Origin::new(&"a".parse().unwrap(), Incarnation(1))
    }

    proptest! {
        #[test]
        fn an_operation_is_proven_at_its_place_and_nothing_else_is(
            count in 1..=limits::BUNDLE_OPERATIONS, index in any::<usize>(), first in 1..u64::MAX / 2, byte in any::<usize>(),
        ) {
            let index = index % count;
            let key = Ed25519KeyPair::generate().unwrap();
            let public = <OriginKey>::try_from(key.public_key().as_ref()).unwrap();
            let (cluster, key_hash) = (ClusterId([1; 32]), [5; 32]);
            let stamp = |index: usize| Stamp { origin: origin(), clock: Clock(first + index as u64) };
            let operations: Vec<Bytes> = (0..count).map(|index| Bytes::from(index.to_string())).collect();
            let leaves: Vec<Hash> =
                operations.iter().enumerate().map(|(index, op)| leaf(stamp(index), &key_hash, op)).collect();
            let count = u8::try_from(count).unwrap();
            let root = root(&leaves);
            let before = [4; 32];
            let signed = key.sign(&content(&cluster, &origin(), (Clock(first), count), &before, &root));
            let signature = signed.as_ref().try_into().unwrap();
            let bundle = Bundle { first: Clock(first), count, before, signature };
            prop_assert_eq!(Bundle::from_proto(Clock(first), before, &bundle.to_proto()), Some(bundle));
            let tip = Tip { bundle, root };
            prop_assert_eq!(Tip::from_proto(&tip.to_proto()), Some(tip));
            let leaves = Leaves::new(tip, leaves).unwrap();
            prop_assert_eq!(Leaves::from_proto(&leaves.to_proto(origin())), Some((origin(), leaves.clone())));
            prop_assert!(leaves.is_genuine(&cluster, &origin(), &public));
            prop_assert!(leaves.inclusion(stamp(usize::from(count)), Bytes::new()).is_none());
            let kept = tip.evidence(operations[index].clone());
            prop_assert!(kept.is_in(&leaves, stamp(index), &key_hash));
            prop_assert!(!kept.is_in(&leaves, stamp(index), &[6; 32]));
            prop_assert!(!kept.is_in(&leaves, stamp(index + 1), &key_hash));
            for other in [
                Evidence::new(kept.operation().clone(), (Clock(first + 1), count), root),
                Evidence::new(Bytes::from_static(b"x"), (Clock(first), count), root),
            ] {
                prop_assert!(!other.is_in(&leaves, stamp(index), &key_hash));
            }
            let proves = |evidence: &Inclusion, stamp: Stamp, key_hash: &[u8], cluster: &ClusterId| {
                evidence.bundle(stamp, key_hash)
                    .is_some_and(|(bundle, root)| bundle.is_genuine(cluster, &stamp.origin, &public, &root))
            };
            let evidence = leaves.inclusion(stamp(index), operations[index].clone()).unwrap();
            prop_assert!(proves(&evidence, stamp(index), &key_hash, &cluster));
            prop_assert_eq!(
                Inclusion::from_proto(evidence.to_proto(stamp(index))),
                Some((stamp(index), evidence.clone()))
            );
            prop_assert!(!proves(&evidence, stamp(index), &key_hash, &ClusterId([2; 32])));
            prop_assert!(!proves(&evidence, stamp(index), &[6; 32], &cluster));
            prop_assert!(!proves(&evidence, stamp(index + 1), &key_hash, &cluster));
            let foreign = Stamp { origin: Origin::new(&"b".parse().unwrap(), Incarnation(1)), ..stamp(index) };
            prop_assert!(!proves(&evidence, foreign, &key_hash, &cluster));
            let mut altered = evidence.clone();
            altered.signature[byte % 64] ^= 1;
            prop_assert!(!proves(&altered, stamp(index), &key_hash, &cluster));
            let mut of_another_log = evidence.clone();
            of_another_log.before[byte % 32] ^= 1;
            prop_assert!(!proves(&of_another_log, stamp(index), &key_hash, &cluster));
            let other = Inclusion { operation: Bytes::from_static(b"x"), ..evidence };
            prop_assert!(!proves(&other, stamp(index), &key_hash, &cluster));
        }
    }
}
