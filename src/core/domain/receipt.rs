//! Receipts: which members hold an operation, with all that is needed to verify that without any node.
//!
//! The way from the operation to a member's signature: the operation is a leaf of its bundle's tree; the roots of the
//! bundles from there on, chained, give the hash of the log that the member has signed. Whose keys sign is in the
//! births, which certificates sign. The node that answers signs the whole receipt, what it alone knows included: who
//! is missing, how long each took, and who holds the operation without having signed it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    acknowledgement::Acknowledgement,
    birth::{SignedBirth, Unbelieved},
    bundle::{self, Hash, OriginKey, Signature},
    codec::{self, CodecError},
    inclusion::Inclusion,
    operation::Operation,
};
use crate::{
    base::{
        id::{ClusterId, KeyHash, Origin, sha256},
        limits,
        vector::{Clock, Stamp},
    },
    proto::{self, receipt_proof},
};

const LIST: &[u8] = b"brock/receipt/1";

/// Who holds an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The record.
    pub key_hash: KeyHash,
    /// What was asked for: `invalidate`, `unpublish` or `delete`.
    pub operation: String,
    /// The operation that is in effect.
    pub stamp: Stamp,
    /// Whether it was in effect already.
    pub already: bool,
    /// The members that hold it.
    pub holders: Vec<Holder>,
    /// The names of those that had not acknowledged it in time.
    pub missing: Vec<String>,
    /// `None`: the node that answers signs nothing.
    pub proof: Option<Proof>,
}

/// A member that holds the operation, by the word of the node that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub node: String,
    /// Milliseconds until the node that answers knew.
    pub after_ms: u64,
    /// What it has signed itself, or why nothing is there.
    pub signed: Result<Acknowledgement, String>,
}

/// What proves the acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Of the operation. `None`: no holder is proven.
    pub evidence: Option<Inclusion>,
    /// The bundles from that of the operation on, without a gap: the last clock and the root of each.
    pub bundles: Vec<(Clock, Hash)>,
    /// Of all that have signed something here.
    pub births: Vec<SignedBirth>,
    /// The incarnation of the node that answers.
    pub by: Origin,
    /// Its signature over [`Receipt::content`].
    pub signature: Signature,
}

/// What does not fit in a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// There is nothing to verify.
    #[error(
        "the receipt has no proof: it was removed, or the node that answered signs nothing, because its certificate names no \
         node"
    )]
    NoProof,
    /// A birth is not believed.
    #[error("the birth of {origin} is not believed: {reason}")]
    Birth {
        /// Whose.
        origin: Origin,
        /// What is wrong with it.
        reason: Unbelieved,
    },
    /// An incarnation cannot have two keys.
    #[error("there are two births of {0}")]
    TwoBirths(Origin),
    /// A key is not there.
    #[error("the birth of {0} is missing, so nothing proves which key is its own")]
    Unborn(Origin),
    /// The operation is not what the evidence proves.
    #[error("the evidence is not that of such an operation")]
    Operation,
    /// The origin has not signed the bundle.
    #[error("the operation is not one that its origin has signed for this record, at this clock")]
    Bundle,
    /// The bundles do not begin with that of the operation, or do not rise.
    #[error("the list of bundles does not begin with that of the operation, or is not in order")]
    Bundles,
    /// The signature of another node, or of another log.
    #[error("the acknowledgement that is listed for {0} is another node's, or is about another log")]
    OtherAcknowledgement(String),
    /// The member has not signed it.
    #[error("the signature of {0} does not match what it is said to have acknowledged")]
    Acknowledgement(String),
    /// What the member has signed is another log.
    #[error("the log that {0} has signed is not the one that the operation is in")]
    Chain(String),
    /// Something else was changed.
    #[error("the receipt is not as {0} has signed it: something in it was changed")]
    List(Origin),
}

impl Receipt {
    /// The bytes that the node that answers signs: everything in the receipt but its signature, each part with its
    /// length before it.
    pub fn content(&self, cluster: &ClusterId) -> Vec<u8> {
        let Self { key_hash, operation, stamp, already, holders, missing, proof } = self;
        let mut parts = Parts::default();
        parts.put(&cluster.0);
        parts.put(&key_hash.0);
        parts.put(operation.as_bytes());
        parts.put(&codec::stamp_key(*stamp));
        parts.put(&[u8::from(*already)]);
        parts.count(holders.len());
        for Holder { node, after_ms, signed } in holders {
            parts.put(node.as_bytes());
            parts.put(&after_ms.to_be_bytes());
            match signed {
                Ok(Acknowledgement { member, applied, chain, signature }) => {
                    parts.put(
                        &[&member.as_bytes()[..], &codec::stamp_key(*applied), chain, signature].concat(),
                    );
                    parts.put(&[]);
                }
                Err(reason) => {
                    parts.put(&[]);
                    parts.put(reason.as_bytes());
                }
            }
        }
        parts.count(missing.len());
        missing.iter().for_each(|name| parts.put(name.as_bytes()));
        if let Some(proof) = proof {
            proof.content(cluster, &mut parts);
        }
        [LIST, &sha256(&parts.0)].concat()
    }

    /// Verifies everything in the receipt, and returns who has signed it: the node that answered. `certify` says
    /// whether a certificate of the origin's node has signed a birth, and if not, why. It is asked last: what was
    /// changed does not fit what is signed with the keys in the births, whatever has certified these.
    pub fn verify(
        &self,
        cluster: &ClusterId,
        certify: impl Fn(&SignedBirth) -> Result<(), Unbelieved>,
    ) -> Result<Origin, ReceiptError> {
        let proof = self.proof.as_ref().ok_or(ReceiptError::NoProof)?;
        let mut keys: BTreeMap<Origin, OriginKey> = BTreeMap::new();
        for signed in &proof.births {
            let origin = signed.birth.origin;
            if keys.insert(origin, signed.birth.key).is_some() {
                return Err(ReceiptError::TwoBirths(origin));
            }
        }
        let key_of = |origin: &Origin| keys.get(origin).ok_or(ReceiptError::Unborn(*origin));
        let chain = match &proof.evidence {
            Some(evidence) => self.chain(cluster, proof, evidence, key_of(&self.stamp.origin)?)?,
            None => BTreeMap::new(),
        };
        for Holder { node, signed, .. } in &self.holders {
            let Ok(signed) = signed else { continue };
            let is_of_it =
                signed.applied.origin == self.stamp.origin && signed.applied.clock >= self.stamp.clock;
            if signed.member.node_id().as_str() != node || !is_of_it {
                return Err(ReceiptError::OtherAcknowledgement(node.clone()));
            }
            if !signed.is_genuine(cluster, key_of(&signed.member)?) {
                return Err(ReceiptError::Acknowledgement(node.clone()));
            }
            if chain.get(&signed.applied.clock) != Some(&signed.chain) {
                return Err(ReceiptError::Chain(node.clone()));
            }
        }
        if !bundle::is_signed(key_of(&proof.by)?, &self.content(cluster), &proof.signature) {
            return Err(ReceiptError::List(proof.by));
        }
        for signed in &proof.births {
            let origin = signed.birth.origin;
            certify(signed).map_err(|reason| ReceiptError::Birth { origin, reason })?;
        }
        Ok(proof.by)
    }

    /// The hash of the log after each of the bundles. Verifies that the operation is in the first.
    fn chain(
        &self,
        cluster: &ClusterId,
        proof: &Proof,
        evidence: &Inclusion,
        key: &OriginKey,
    ) -> Result<BTreeMap<Clock, Hash>, ReceiptError> {
        let stamp = self.stamp;
        if !is_evidence_of(&evidence.operation, &self.operation, self.already) {
            return Err(ReceiptError::Operation);
        }
        let (bundle, root) = evidence.bundle(stamp, &self.key_hash.0).ok_or(ReceiptError::Bundle)?;
        if !bundle.is_genuine(cluster, &stamp.origin, key, &root) {
            return Err(ReceiptError::Bundle);
        }
        let begins = proof.bundles.first().is_none_or(|first| *first == (bundle.last(), root));
        if !begins || !proof.bundles.is_sorted_by(|(before, _), (after, _)| before < after) {
            return Err(ReceiptError::Bundles);
        }
        let mut hash = bundle.before;
        let chained = proof.bundles.iter().map(|(last, root)| {
            hash = bundle::chained(&hash, root);
            (*last, hash)
        });
        Ok(chained.collect())
    }

    /// To the wire; what the request was about is in the answer around it.
    pub fn to_proto(&self) -> proto::Receipt {
        let holder = |Holder { node, after_ms, signed }: &Holder| proto::receipt::Holder {
            node: node.clone(),
            after_ms: *after_ms,
            acknowledgement: signed.as_ref().ok().map(Acknowledgement::to_proto),
            unsigned: signed.as_ref().err().cloned().unwrap_or_default(),
        };
        proto::Receipt {
            holders: self.holders.iter().map(holder).collect(),
            missing: self.missing.clone(),
            proof: self.proof.as_ref().map(|proof| proof.to_proto(self.stamp)),
        }
    }

    /// From the wire. Verifies nothing.
    pub fn from_proto(
        (key_hash, operation): (KeyHash, &str),
        (stamp, already): (Stamp, bool),
        receipt: proto::Receipt,
    ) -> Result<Self, CodecError> {
        let proto::Receipt { holders, missing, proof } = receipt;
        let holder = |proto::receipt::Holder { node, after_ms, acknowledgement, unsigned }| {
            let acknowledgement = acknowledgement.as_ref().map(Acknowledgement::from_proto).transpose()?;
            Ok(Holder { node, after_ms, signed: acknowledgement.ok_or(unsigned) })
        };
        let holders = holders.into_iter().map(holder).collect::<Result<_, CodecError>>()?;
        let proof = proof.map(|proof| Proof::from_proto(stamp, proof)).transpose()?;
        Ok(Self { key_hash, operation: operation.to_owned(), stamp, already, holders, missing, proof })
    }
}

impl Proof {
    fn content(&self, cluster: &ClusterId, parts: &mut Parts) {
        let Self { evidence, bundles, births, by, signature: _ } = self;
        parts.count(evidence.iter().len());
        if let Some(Inclusion { operation, first, count, before, path, signature }) = evidence {
            parts.put(operation);
            parts.put(&first.0.to_be_bytes());
            parts.put(&[*count]);
            parts.put(before);
            parts.put(path);
            parts.put(signature);
        }
        parts.count(bundles.len());
        for (last, root) in bundles {
            parts.put(&[&last.0.to_be_bytes()[..], root].concat());
        }
        parts.count(births.len());
        for SignedBirth { birth, scheme, signature, certificates, vouched_at_unix_ms } in births {
            parts.put(&birth.content(cluster));
            parts.put(&scheme.to_be_bytes());
            parts.put(signature);
            parts.put(&vouched_at_unix_ms.unwrap_or_default().to_be_bytes());
            parts.count(certificates.len());
            certificates.iter().for_each(|der| parts.put(der));
        }
        parts.put(by.as_bytes());
    }

    fn to_proto(&self, stamp: Stamp) -> proto::ReceiptProof {
        let bundle = |(last, root): &(Clock, Hash)| receipt_proof::Bundle {
            last: last.0,
            root: Bytes::copy_from_slice(root),
        };
        proto::ReceiptProof {
            evidence: self.evidence.as_ref().map(|evidence| evidence.to_proto(stamp)),
            bundles: self.bundles.iter().map(bundle).collect(),
            births: self.births.iter().map(SignedBirth::to_proto).collect(),
            by: Bytes::copy_from_slice(self.by.as_bytes()),
            signature: Bytes::copy_from_slice(&self.signature),
        }
    }

    fn from_proto(stamp: Stamp, proof: proto::ReceiptProof) -> Result<Self, CodecError> {
        let malformed = || CodecError::Malformed("proof of a receipt");
        let hash = |bytes: &Bytes| Hash::try_from(bytes.as_ref()).map_err(|_| malformed());
        let evidence = proof.evidence.map(|evidence| {
            let evidence = Inclusion::from_proto(evidence).filter(|(proven, _)| *proven == stamp);
            evidence.map(|(_, evidence)| evidence).ok_or_else(malformed)
        });
        if proof.bundles.len() > limits::RECEIPT_ROOTS_MAX {
            return Err(malformed());
        }
        let bundle = |bundle: &receipt_proof::Bundle| Ok((Clock(bundle.last), hash(&bundle.root)?));
        Ok(Self {
            evidence: evidence.transpose()?,
            bundles: proof.bundles.iter().map(bundle).collect::<Result<_, CodecError>>()?,
            births: proof.births.into_iter().map(SignedBirth::from_proto).collect::<Result<_, _>>()?,
            by: Origin::try_from(proof.by.as_ref()).map_err(|_| malformed())?,
            signature: proof.signature.as_ref().try_into().map_err(|_| malformed())?,
        })
    }
}

/// Bytes that have one meaning: each part after its length.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn put(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.extend_from_slice(part);
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_be_bytes());
    }
}

/// Whether that is an encoded operation with the effect that was asked for. A record may have been created private
/// (`already`), so that there is nothing to unpublish.
pub fn is_evidence_of(encoded: &[u8], operation: &str, already: bool) -> bool {
    match Operation::decode(encoded) {
        Ok(Operation::Create { public, .. }) => {
            !public && already && operation == Operation::Unpublish.name()
        }
        Ok(signed) => signed.name() == operation,
        Err(_) => false,
    }
}
