//! How an incarnation signs what it writes.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bytes::Bytes;

use super::{commit::Commit, error::StoreError};
use crate::runtime::planted::{self, Bug};
use brock_core::{
    base::{
        id::{ClusterId, KeyHash, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        acknowledgement::{self, Acknowledgement},
        birth::{Birth, Previous, SignedBirth, Standing, Unbelieved},
        bundle::{self, Bundle, Hash, OriginKey, Signature, Tip},
        evidence::Evidence,
        head::{self, Head},
        leaves::BundleId,
        record::UnixSeconds,
        segment::{Proof, Segment},
    },
};

/// The certificate of this node, which signs its births, and the CAs that it trusts.
pub trait Identity: fmt::Debug + Send + Sync {
    /// The cluster that the certificate is for; `None`: it names no node, so this node signs nothing.
    fn cluster(&self) -> Option<ClusterId>;

    /// Whether it can sign births: without, the store signs nothing.
    fn signs(&self) -> bool {
        true
    }

    /// Signs what a birth states. The error says why it cannot.
    fn sign(&self, content: &[u8]) -> Result<Certified, String>;

    /// Whether a birth is signed by a certificate of its node, in this cluster. The error says why it is not.
    fn verify(&self, birth: &SignedBirth) -> Result<(), Unbelieved>;

    /// How good the signature of a birth is, whether or not its certificate is revoked now: a holder that has signed
    /// two things has signed them. `None`: it is none.
    fn standing(&self, birth: &SignedBirth) -> Option<Standing>;

    /// The trust domain of the certificate that has signed a birth, if it is another one than that of this node's.
    fn foreign_domain(&self, _birth: &SignedBirth) -> Option<String> {
        None
    }

    /// When the certificate ends that has signed a birth, as it says; `None`: unknown.
    fn ends(&self, _birth: &SignedBirth) -> Option<UnixSeconds> {
        None
    }
}

/// A signature of a certificate's key.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The scheme, as in TLS.
    pub scheme: u16,
    /// The signature.
    pub signature: Bytes,
    /// The chain in DER, leaf first.
    pub certificates: Vec<Bytes>,
}

/// An operation of this node that is not signed yet.
pub(super) struct Originated {
    pub clock: Clock,
    pub key_hash: KeyHash,
    pub operation: Bytes,
    pub payload_bytes: usize,
}

/// Operations of this node that are signed together.
pub(super) struct SignedBundle {
    pub tip: Tip,
    /// The hashes of its operations.
    pub hashes: Vec<Hash>,
    /// Of each operation, in their order.
    pub evidence: Vec<(KeyHash, Stamp, Evidence)>,
}

/// The key of an incarnation. It exists in memory only.
pub(super) struct Signer {
    cluster: ClusterId,
    origin: Origin,
    key: Ed25519KeyPair,
    birth: Birth,
}

impl Signer {
    /// Makes the key of a new incarnation, and its birth; `None`: this node's certificate names no node.
    pub(super) fn born(
        identity: Option<&dyn Identity>,
        origin: Origin,
        born_at: UnixSeconds,
        previous: Option<Previous>,
    ) -> Result<Option<(Self, SignedBirth)>, StoreError> {
        let identity = identity.filter(|identity| identity.signs());
        let Some((identity, cluster)) = identity.and_then(|identity| Some((identity, identity.cluster()?)))
        else {
            return Ok(None);
        };
        let failed = |_| StoreError::Signing("no random key could be made".to_owned());
        let key = Ed25519KeyPair::generate().map_err(failed)?;
        let mut public = OriginKey::default();
        public.copy_from_slice(key.public_key().as_ref());
        let birth = Birth { origin, key: public, born_at, previous };
        let signed = identity.sign(&birth.content(&cluster)).map_err(StoreError::Signing)?;
        let Certified { scheme, signature, certificates } = signed;
        Ok(Some((
            Self { cluster, origin, key, birth },
            SignedBirth { birth, scheme, signature, certificates, vouched_at_unix_ms: None },
        )))
    }

    /// The incarnation that it signs for.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// What it states of itself.
    pub(super) fn birth(&self) -> Birth {
        self.birth
    }

    /// Signs how far the log of another node is applied here.
    pub(super) fn acknowledge(&self, applied: Stamp, chain: Hash) -> Acknowledgement {
        let content = acknowledgement::content(&self.cluster, &self.origin, applied, &chain);
        Acknowledgement { member: self.origin, applied, chain, signature: self.signature(&content) }
    }

    /// Signs a receipt, whose bytes `content` makes for this cluster, and says by which incarnation.
    pub(super) fn sign_receipt(&self, content: impl FnOnce(&ClusterId) -> Vec<u8>) -> (Origin, Signature) {
        (self.origin, self.signature(&content(&self.cluster)))
    }

    /// Signs that the log ends with this bundle now.
    pub(super) fn sign_head(&self, tip: Tip, at_unix_ms: u64) -> Head {
        let content = head::content(&self.cluster, &self.origin, &tip, at_unix_ms);
        Head { origin: self.origin, tip, at_unix_ms, signature: self.signature(&content) }
    }

    fn signature(&self, content: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.key.sign(content).as_ref());
        signature
    }

    /// Signs the operations of one commit, in bundles, each of which continues the log before it. `before`: the hash
    /// of the log before the first.
    pub(super) fn sign(&self, mut operations: &[Originated], mut before: Hash) -> Vec<SignedBundle> {
        let mut signed = Vec::new();
        while let Some(first) = operations.first() {
            let (own, rest) = operations.split_at(length(operations));
            let stamp = |clock| Stamp { origin: self.origin, clock };
            let hashes: Vec<Hash> = own
                .iter()
                .map(|one| bundle::leaf(stamp(one.clock), &one.key_hash.0, &one.operation))
                .collect();
            let root = bundle::root(&hashes);
            let count = u8::try_from(own.len()).unwrap_or(u8::MAX);
            let place = (first.clock, count);
            let content = bundle::content(&self.cluster, &self.origin, place, &before, &root);
            let bundle = Bundle { first: first.clock, count, before, signature: self.signature(&content) };
            let tip = Tip { bundle, root };
            let evidence =
                own.iter().map(|one| (one.key_hash, stamp(one.clock), tip.evidence(one.operation.clone())));
            before = tip.chain();
            signed.push(SignedBundle { tip, hashes, evidence: evidence.collect() });
            operations = rest;
        }
        signed
    }
}

/// How many of these operations the next bundle has.
fn length(operations: &[Originated]) -> usize {
    let mut bytes = 0;
    let full = |one: &Originated| {
        bytes += one.payload_bytes;
        bytes >= limits::BUNDLE_PAYLOAD_BYTES
    };
    let last = operations.iter().take(limits::BUNDLE_OPERATIONS).position(full);
    last.map_or(operations.len().min(limits::BUNDLE_OPERATIONS), |last| last + 1)
}

/// What origins have signed.
impl Commit<'_> {
    /// Signs the operations of this node, and adds the evidence to the states that consist of them.
    pub(super) fn sign(&mut self) {
        let Some(signer) = self.signer.filter(|_| !self.originated.is_empty()) else { return };
        let origin = self.own.origin;
        // As it was before this commit, which has raised the clock already.
        let before =
            self.before.tips.get(&origin).map_or_else(|| signer.birth.chain(&signer.cluster), Tip::chain);
        for signed in signer.sign(&self.originated, before) {
            self.batch.put_bundle(origin, &signed.tip, &signed.hashes);
            self.raised.tips.insert(origin, signed.tip);
            self.raised.own_bundles.push(signed.tip);
            for (key_hash, stamp, evidence) in signed.evidence {
                self.prove(&key_hash, stamp, evidence);
            }
        }
    }

    /// Raises what is applied of an origin. `tip`: its last bundle up to there, if it is known.
    pub(super) fn raise(&mut self, origin: Origin, clock: Clock, tip: Option<Tip>) {
        if self.raised.vector.raise(origin, clock) {
            match tip {
                Some(tip) => self.raised.tips.insert(origin, tip),
                None => self.raised.tips.remove(&origin),
            };
        }
    }

    /// Keeps a birth. IMPORTANT: verified before. The first birth of an origin is the one that counts; the same one may
    /// come again, signed with another certificate.
    ///
    /// `through`: how far the origin is proven to have come. What a donor has claimed beyond that without showing the
    /// birth, and no other member has confirmed, is retracted: the clock may be one that the origin has not reached.
    /// Returns whether it was.
    pub(super) fn take_birth(&mut self, birth: Option<SignedBirth>, through: Clock) -> bool {
        let Some(signed) = birth else { return false };
        let origin = signed.birth.origin;
        if self.born(&origin) == Some(signed.birth) {
            self.batch.put_birth(&signed);
        }
        // An origin whose log is here without signatures stays one that does not sign. But one of which nothing is in
        // the log may be here by what a donor claimed.
        let is_first = self.born(&origin).is_none() && self.floor(&origin) >= self.applied(&origin);
        if is_first || planted::is(Bug::ForgetBirth) {
            self.raised.births.insert(origin, signed.birth);
            self.batch.put_birth(&signed);
        }
        let is_claimed = || self.fills().iter().any(|fill| fill.applied.lists(&origin));
        let is_retracted =
            is_first && origin != self.own.origin && self.applied(&origin) > through && is_claimed();
        if is_retracted && !planted::is(Bug::AdoptUnsigned) {
            self.retract(origin);
        }
        is_retracted
    }

    /// Keeps the bundles of a segment that end above `applied`, so that this node can relay them, and prove what it has
    /// of them. What another donor has sent of the log up to where it ends gives way, and is kept for records that it
    /// may prove.
    pub(super) fn take_bundles(
        &mut self,
        (origin, through): (Origin, Clock),
        proof: Option<&Proof>,
        applied: Clock,
    ) -> Result<(), StoreError> {
        if through <= applied {
            return Ok(());
        }
        let is_of_it = |tip: &Tip| proof.and_then(|proof| proof.bundle_of(tip.bundle.last())) == Some(tip);
        for tip in self.view().bundles(origin, applied) {
            let tip = tip?;
            let last = tip.bundle.last();
            if last > through {
                break;
            }
            if !is_of_it(&tip) {
                let displaced = self.view().leaves(&BundleId::of(origin, &tip))?;
                displaced.iter().for_each(|leaves| self.batch.keep_bundle(origin, leaves));
                self.batch.delete_bundle(Stamp { origin, clock: last });
            }
        }
        let new = proof.into_iter().flat_map(Proof::leaves);
        for (tip, hashes) in new.filter(|(tip, _)| tip.bundle.last() > applied) {
            self.batch.put_bundle(origin, tip, hashes);
        }
        Ok(())
    }

    /// The last bundle of an origin's log after a segment of it. Changes nothing.
    ///
    /// Contract: the bundles that are new here continue the log that is here. If they do not, the origin has signed
    /// two: the error has both, as far as the log here is known.
    pub(super) fn continued(&self, segment: &Segment, applied: Clock) -> Result<Option<Tip>, StoreError> {
        let Some(proof) = &segment.proof else { return Ok(None) };
        let origin = segment.origin;
        let mut new = proof.bundles().iter().filter(|tip| tip.bundle.last() > applied);
        let Some(first) = new.next() else { return Ok(None) };
        // Of an origin that was folded away at a later clock, it says nothing.
        let here = self.tip(&origin).filter(|tip| tip.bundle.last() == applied);
        let before = match applied {
            Clock(0) => {
                let birth = self.born(&origin).or(segment.birth.as_ref().map(|signed| signed.birth));
                // Without a certificate, as in a restore, the cluster is not known, and with it where logs begin.
                birth.zip(self.cluster).map(|(birth, cluster)| birth.chain(&cluster))
            }
            _ => here.as_ref().map(Tip::chain),
        };
        let continues = first.bundle.first == applied.next() && before == Some(first.bundle.before);
        if before.is_some() && !continues && !planted::is(Bug::AcceptFork) {
            let pair = here.map(|here| Box::new((here, *first)));
            return Err(StoreError::Forked { origin, pair });
        }
        Ok(new.next_back().or(Some(first)).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_ends_after_64_operations_or_a_mebibyte() {
        let of = |sizes: &[usize]| {
            let one = |bytes: &usize| Originated {
                clock: Clock(1),
                key_hash: KeyHash([0; 32]),
                operation: Bytes::new(),
                payload_bytes: *bytes,
            };
            length(&sizes.iter().map(one).collect::<Vec<_>>())
        };
        assert_eq!(of(&[1]), 1);
        assert_eq!(of(&[1; 200]), 64);
        assert_eq!(of(&[limits::BUNDLE_PAYLOAD_BYTES / 2; 5]), 2);
        assert_eq!(of(&[limits::BUNDLE_PAYLOAD_BYTES, 1]), 1);
    }
}
