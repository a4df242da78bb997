//! Bundles: how an origin signs its operations.
//!
//! An origin signs its log in bundles of consecutive operations. One Ed25519 signature covers the root of a
//! Merkle tree (RFC 6962) over the operations, so the hashes of its operations are enough to prove any of them without
//! the others: after compaction too. A leaf holds the operation without its payload, of which it has the digest: a stub
//! is proven like an entry, and an entry is proven before it is parsed.
//!
//! The signature also covers the hash of the whole log before the bundle. So each bundle states what the log is
//! up to its end, and two bundles that cannot both be of one log prove that their origin has signed two.
//!
//! IMPORTANT: what is signed has one fixed layout. A message of protobuf has several encodings.

use std::thread;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;

use super::evidence::Evidence;
use crate::{
    base::{
        id::{ClusterId, Origin, sha256},
        limits,
        vector::{Clock, Stamp},
    },
    proto,
};

/// A node of the tree.
pub type Hash = [u8; 32];

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The key by which an origin signs, as its birth states it.
pub type OriginKey = [u8; 32];

const LEAF: &[u8] = b"\x00brock/op/1";
const NODE: u8 = 1;
const BUNDLE: &[u8] = b"brock/bundle/1";
const CHAIN: &[u8] = b"brock/chain/1";

/// The hash that a log begins with: of the hash of what its birth states.
pub fn chain_of_birth(statement: &Hash) -> Hash {
    sha256(&[CHAIN, statement].concat())
}

/// The hash of a log after its next bundle.
pub fn chained(before: &Hash, root: &Hash) -> Hash {
    sha256(&[CHAIN, before, root].concat())
}

/// The hash of one operation at its place. `key_hash` and `operation` are as they travel: perhaps malformed.
pub fn leaf(stamp: Stamp, key_hash: &[u8], operation: &[u8]) -> Hash {
    let mut bytes = Vec::with_capacity(LEAF.len() + 48 + key_hash.len() + operation.len());
    bytes.extend_from_slice(LEAF);
    bytes.extend_from_slice(stamp.origin.as_bytes());
    bytes.extend_from_slice(&stamp.clock.0.to_be_bytes());
    bytes.extend_from_slice(&(key_hash.len() as u64).to_be_bytes());
    bytes.extend_from_slice(key_hash);
    bytes.extend_from_slice(operation);
    sha256(&bytes)
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [NODE; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

/// Where a tree of `count` leaves, two or more, is divided: the largest power of two below that.
fn division(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The root of the tree over these leaves. Of no leaves: the hash of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(division(leaves.len()));
            parent(&root(left), &root(right))
        }
    }
}

/// The hashes beside the way of a leaf up to the root, one after another; `None`: there is no such leaf.
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let middle = division(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut below, beside) = match index < middle {
        true => (path(left, index)?, root(right)),
        false => (path(right, index - middle)?, root(left)),
    };
    below.push(beside);
    Some(below)
}

/// The root that a leaf and its path lead to; `None`: no tree of `count` leaves has that path.
pub fn root_from(leaf: Hash, index: usize, count: usize, path: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    if count == 1 {
        return path.is_empty().then_some(leaf);
    }
    let (beside, below) = path.split_last()?;
    let middle = division(count);
    match index < middle {
        true => Some(parent(&root_from(leaf, index, middle, below)?, beside)),
        false => Some(parent(beside, &root_from(leaf, index - middle, count - middle, below)?)),
    }
}

/// Consecutive operations of one origin under one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundle {
    /// The clock of its first operation.
    pub first: Clock,
    /// How many operations it has: 1 to [`limits::BUNDLE_OPERATIONS`].
    pub count: u8,
    /// The hash of the log before it.
    pub before: Hash,
    /// The origin's signature.
    pub signature: Signature,
}

/// A bundle with the root of its tree: its origin's statement what the log is up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The bundle.
    pub bundle: Bundle,
    /// Over its operations.
    pub root: Hash,
}

impl Tip {
    /// The hash of the log after the bundle.
    pub fn chain(&self) -> Hash {
        chained(&self.bundle.before, &self.root)
    }

    /// Whether the origin of this key signed it.
    pub fn is_genuine(&self, cluster: &ClusterId, origin: &Origin, key: &OriginKey) -> bool {
        self.bundle.is_genuine(cluster, origin, key, &self.root)
    }

    /// The evidence of one of its operations.
    pub fn evidence(&self, operation: Bytes) -> Evidence {
        Evidence::new(operation, (self.bundle.first, self.bundle.count), self.root)
    }

    /// What it states: the hash of the log at the clock before its first operation, and at that of its last.
    fn claims(&self) -> [(Clock, Hash); 2] {
        let before = Clock(self.bundle.first.0.saturating_sub(1));
        [(before, self.bundle.before), (self.bundle.last(), self.chain())]
    }

    /// Whether no log has both bundles: they state different hashes at one clock, or one ends within the other.
    pub fn contradicts(&self, other: &Self) -> bool {
        let is_within = |bundle: &Bundle, clock: Clock| bundle.first <= clock && clock < bundle.last();
        self.claims().iter().any(|(clock, hash)| {
            is_within(&other.bundle, *clock)
                || other
                    .claims()
                    .iter()
                    .any(|(at, stated)| is_within(&self.bundle, *at) || (at == clock && stated != hash))
        })
    }

    /// To the wire and the store.
    pub fn to_proto(&self) -> proto::Tip {
        let Self { bundle: Bundle { first, count, before, signature }, root } = self;
        proto::Tip {
            first: first.0,
            count: (*count).into(),
            chain: Bytes::copy_from_slice(before),
            root: Bytes::copy_from_slice(root),
            signature: Bytes::copy_from_slice(signature),
        }
    }

    /// To the wire, with the origin.
    pub fn of_origin(&self, origin: &Origin) -> proto::OriginTip {
        proto::OriginTip { origin: Bytes::copy_from_slice(origin.as_bytes()), tip: Some(self.to_proto()) }
    }

    /// Reads [`Tip::of_origin`]; `None` = malformed.
    pub fn with_origin(tip: &proto::OriginTip) -> Option<(Origin, Self)> {
        Some((Origin::try_from(tip.origin.as_ref()).ok()?, Self::from_proto(tip.tip.as_ref()?)?))
    }

    /// From the wire or the store; `None` = malformed.
    pub fn from_proto(tip: &proto::Tip) -> Option<Self> {
        let bundle = proto::Bundle { count: tip.count, signature: tip.signature.clone() };
        let bundle = Bundle::from_proto(Clock(tip.first), tip.chain.as_ref().try_into().ok()?, &bundle)?;
        Some(Self { bundle, root: tip.root.as_ref().try_into().ok()? })
    }
}

impl Bundle {
    /// The clock of its last operation.
    pub fn last(&self) -> Clock {
        Clock(self.first.0.saturating_add(u64::from(self.count).saturating_sub(1)))
    }

    /// Whether the origin of this key signed a bundle with this root at this place.
    pub fn is_genuine(&self, cluster: &ClusterId, origin: &Origin, key: &OriginKey, root: &Hash) -> bool {
        let content = content(cluster, origin, (self.first, self.count), &self.before, root);
        is_signed(key, &content, &self.signature)
    }

    /// To the wire. Its first clock and the hash before it follow from its place in a batch.
    pub fn to_proto(&self) -> proto::Bundle {
        proto::Bundle { count: self.count.into(), signature: Bytes::copy_from_slice(&self.signature) }
    }

    /// From the wire; `None` = malformed.
    pub fn from_proto(first: Clock, before: Hash, bundle: &proto::Bundle) -> Option<Self> {
        let count = u8::try_from(bundle.count).ok().filter(|count| is_count(*count))?;
        let signature = bundle.signature.as_ref().try_into().ok()?;
        let ends = first.0.checked_add(u64::from(count))?;
        (first.0 > 0 && ends > first.0).then_some(Self { first, count, before, signature })
    }
}

/// Looks at each of these, for a signature: many of them on several cores. Blocks.
pub fn verify_each<T: Sync>(all: &[T], is_genuine: impl Fn(&T) -> bool + Sync) -> Vec<bool> {
    let verify = &|part: &[T]| part.iter().map(&is_genuine).collect::<Vec<bool>>();
    let cores = thread::available_parallelism().map_or(1, usize::from).min(limits::VERIFY_THREADS);
    let part = all.len().div_ceil(cores).max(limits::VERIFY_TOGETHER);
    if all.len() <= part {
        return verify(all);
    }
    thread::scope(|scope| {
        let spawn = |part| thread::Builder::new().spawn_scoped(scope, move || verify(part));
        let parts: Vec<_> = all.chunks(part).map(|part| (part, spawn(part))).collect();
        let verified = parts.into_iter().map(|(part, spawned)| match spawned {
            // Of a thread that panicked, nothing is genuine.
            Ok(thread) => thread.join().unwrap_or_else(|_| vec![false; part.len()]),
            // The system has no thread left.
            Err(_) => verify(part),
        });
        verified.flatten().collect()
    })
}

/// Whether the holder of this key has signed this content.
pub fn is_signed(key: &OriginKey, content: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(content, signature).is_ok()
}

pub(super) fn is_count(count: u8) -> bool {
    (1..=limits::BUNDLE_OPERATIONS).contains(&usize::from(count))
}

/// What an origin signs.
pub fn content(
    cluster: &ClusterId,
    origin: &Origin,
    (first, count): (Clock, u8),
    before: &Hash,
    root: &Hash,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BUNDLE.len() + 137);
    bytes.extend_from_slice(BUNDLE);
    bytes.extend_from_slice(&cluster.0);
    bytes.extend_from_slice(origin.as_bytes());
    bytes.extend_from_slice(&first.0.to_be_bytes());
    bytes.push(count);
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(root);
    bytes
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::base::id::Incarnation;

    fn origin() -> Origin {
        Origin::new(&"a".parse().unwrap(), Incarnation(1))
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|index| sha256(&index.to_be_bytes())).collect()
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        // Certificate transparency's own test vectors: leaves "", 00, 10, 2021, 3031, 40414243.
        let inputs: [&[u8]; 6] = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC"];
        let leaves = inputs.map(|input| sha256(&[&[0], input].concat()));
        let expected = [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (4, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (6, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
        ];
        for (count, root_hex) in expected {
            assert_eq!(HEXLOWER.encode(&root(&leaves[..count])), root_hex, "{count}");
        }
    }

    #[test]
    fn each_of_many_is_looked_at_on_its_own() {
        for count in [0, 1, limits::VERIFY_TOGETHER, limits::VERIFY_TOGETHER + 1, 1000] {
            let all: Vec<usize> = (0..count).collect();
            let expected: Vec<bool> = all.iter().map(|number| number % 7 != 3).collect();
            assert_eq!(verify_each(&all, |number| number % 7 != 3), expected, "{count}");
        }
    }

    #[test]
    fn each_leaf_leads_to_the_root_by_its_own_path_only() {
        for count in 1..=limits::BUNDLE_OPERATIONS {
            let leaves = leaves(count);
            let root = root(&leaves);
            assert_eq!(path(&leaves, count), None);
            for index in 0..count {
                let path = path(&leaves, index).unwrap();
                assert!(path.len() <= limits::BUNDLE_PATH_MAX);
                assert_eq!(root_from(leaves[index], index, count, &path), Some(root));
                for other in (0..=count).filter(|other| *other != index) {
                    assert_ne!(root_from(leaves[index], other, count, &path), Some(root));
                }
                let longer = [&path[..], &[root]].concat();
                assert_eq!(root_from(leaves[index], index, count, &longer), None);
            }
        }
    }

    #[test]
    fn the_bytes_of_a_leaf_and_of_what_is_signed_are_pinned() {
        let origin = origin();
        let stamp = Stamp { origin, clock: Clock(258) };
        let hash = HEXLOWER.encode(&leaf(stamp, &[0xab; 32], b"op"));
        let bytes = [
            b"\x00brock/op/1".as_slice(),
            origin.as_bytes(),
            &258u64.to_be_bytes(),
            &32u64.to_be_bytes(),
            &[0xab; 32],
            b"op",
        ];
        assert_eq!(hash, HEXLOWER.encode(&sha256(&bytes.concat())));
        let signed = content(&ClusterId([7; 32]), &origin, (Clock(258), 3), &[8; 32], &[9; 32]);
        let expected = [
            b"brock/bundle/1".as_slice(),
            &[7; 32],
            origin.as_bytes(),
            &258u64.to_be_bytes(),
            &[3],
            &[8; 32],
            &[9; 32],
        ];
        assert_eq!(signed, expected.concat());
    }

    /// A log of one bundle for each of these lengths, of operations that depend on `branch`.
    fn log(branch: u8, before: Tip, lengths: &[u8]) -> Vec<Tip> {
        let mut log = vec![before];
        for count in lengths {
            let last = log[log.len() - 1];
            let bundle = Bundle {
                first: last.bundle.last().next(),
                count: *count,
                before: last.chain(),
                signature: [0; 64],
            };
            log.push(Tip { bundle, root: [branch; 32] });
        }
        log
    }

    proptest! {
        /// Of two logs that part, the first bundles that differ contradict each other, and those of one log never do.
        #[test]
        fn bundles_contradict_each_other_exactly_if_they_are_of_two_logs(
            common in proptest::collection::vec(1..4u8, 0..4), one in proptest::collection::vec(1..4u8, 1..4),
            other in proptest::collection::vec(1..4u8, 1..4),
        ) {
            let begin = Bundle { first: Clock(1), count: 2, before: [1; 32], signature: [0; 64] };
            let common = log(0, Tip { bundle: begin, root: [0; 32] }, &common);
            let last = common[common.len() - 1];
            let (one, other) = (log(1, last, &one), log(2, last, &other));
            let whole: Vec<Tip> = common.iter().chain(&one[1..]).copied().collect();
            for (a, b) in whole.iter().flat_map(|a| whole.iter().map(move |b| (a, b))) {
                prop_assert!(!a.contradicts(b), "{a:?} {b:?}");
            }
            prop_assert!(one[1].contradicts(&other[1]));
            for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                prop_assert_eq!(a.contradicts(b), b.contradicts(a));
            }
            // The next bundle of one log does not continue the other.
            let strayed = log(1, other[1], &[2])[1];
            let beside = Tip { root: [1; 32], ..other[1] };
            prop_assert!(strayed.contradicts(&beside));
        }
    }
}
