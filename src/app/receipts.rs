//! The receipt of an operation: which members hold it, and the proof of what they have signed.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;

use super::operations::Operations;
use crate::{
    membership::receipt::{self, Signed},
    store::StoreError,
    transfer::work,
};
use brock_core::{
    base::{
        duration::milliseconds,
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp},
    },
    domain::{
        birth::SignedBirth,
        bundle::Tip,
        evidence::Evidence,
        inclusion::Inclusion,
        receipt::{Holder, Proof, Receipt, is_evidence_of},
    },
};

/// An operation that is in effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub key_hash: KeyHash,
    /// What was asked for.
    pub operation: &'static str,
    pub stamp: Stamp,
    pub already: bool,
}

/// What leads from an operation to what members have signed.
#[derive(Default)]
struct Way {
    evidence: Option<Inclusion>,
    bundles: Vec<Tip>,
    /// Why there is no way, whatever a member has signed.
    lacks: Option<&'static str>,
}

impl Operations {
    /// Adds to the members that hold an operation what each has signed, as far as that leads back to the operation, and
    /// signs the whole. Without a proof, each holder says why.
    pub(super) async fn prove(&self, subject: Subject, members: receipt::Receipt) -> Receipt {
        let receipt::Receipt { holders, missing } = members;
        let signatures = holders.iter().filter_map(|holder| holder.signed.as_ref());
        let through = signatures.map(|signed| signed.acknowledgement.applied.clock).max();
        let way = self.way(subject, through.unwrap_or_default()).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a receipt has no proof, because the storage could not be read");
            Way { lacks: Some("the node that answered could not read its storage"), ..Way::default() }
        });
        let mut births = Births::default();
        let holders = holders.into_iter().map(|receipt::Holder { name, after, signed }| Holder {
            node: name,
            after_ms: milliseconds(after),
            signed: match way.reaches(signed.as_deref()) {
                Ok(signed) => births.take(signed).map(|()| signed.acknowledgement),
                Err(reason) => Err(reason.to_owned()),
            },
        });
        let Subject { key_hash, operation, stamp, already } = subject;
        let operation = operation.to_owned();
        let receipt =
            Receipt { key_hash, operation, stamp, already, holders: holders.collect(), missing, proof: None };
        match self.proof(receipt.clone(), way, births.by_origin).await {
            Ok(proof) => Receipt { proof, ..receipt },
            Err(error) => {
                tracing::warn!(%error, "a receipt has no proof, because the storage could not be read");
                receipt
            }
        }
    }

    async fn way(&self, subject: Subject, through: Clock) -> Result<Way, StoreError> {
        let lacks = |lacks| Ok(Way { lacks: Some(lacks), ..Way::default() });
        let Subject { key_hash, operation, stamp, already } = subject;
        let state = self.store.get(key_hash).await?;
        let evidence = state.into_iter().flat_map(|state| state.evidence);
        let is_of_it = |(of, evidence): &(Stamp, Evidence)| {
            *of == stamp && is_evidence_of(evidence.operation(), operation, already)
        };
        let inclusion = match evidence.into_iter().find(is_of_it) {
            Some((_, evidence)) => self.store.inclusion(stamp, evidence).await?,
            None => None,
        };
        let Some(evidence) = inclusion else {
            return lacks("the node that answered has no evidence of the operation");
        };
        if self.store.signs_as() != Some(stamp.origin) {
            let lacks = Some(
                "the operation is not in the log of the node that answered, as it was made elsewhere or before its last \
                 start, and members sign what they hold of that log only",
            );
            return Ok(Way { evidence: Some(evidence), bundles: Vec::new(), lacks });
        }
        let bundles = self.store.own_bundles(stamp, through);
        let forgotten = "the operation is so long ago that the node that answered remembers no way from it to what \
                         members sign now";
        let lacks = (bundles.is_empty() && through >= stamp.clock).then_some(forgotten);
        Ok(Way { evidence: Some(evidence), bundles, lacks })
    }

    /// What all the signatures need, and this node's own over the whole.
    async fn proof(
        &self,
        mut receipt: Receipt,
        way: Way,
        mut births: BTreeMap<Origin, Arc<SignedBirth>>,
    ) -> Result<Option<Proof>, StoreError> {
        let Some(by) = self.store.signs_as() else { return Ok(None) };
        let origin = way.evidence.as_ref().map(|_| receipt.stamp.origin);
        for origin in [Some(by), origin].into_iter().flatten() {
            if let Some(birth) = self.store.birth(origin).await? {
                births.insert(origin, Arc::new(SignedBirth::from_proto(birth)?));
            }
        }
        receipt.proof = Some(Proof {
            evidence: way.evidence,
            bundles: way.bundles.iter().map(|tip| (tip.bundle.last(), tip.root)).collect(),
            births: births.into_values().map(Arc::unwrap_or_clone).collect(),
            by,
            signature: [0; 64],
        });
        let store = self.store.clone();
        // Up to two MiB are hashed.
        let signing = work(move || {
            let signed = store.sign_receipt(|cluster| receipt.content(cluster));
            // The node may have another incarnation by now, whose birth is not in the receipt.
            let (_, signature) = signed.filter(|(origin, _)| *origin == by)?;
            receipt.proof.map(|proof| Proof { signature, ..proof })
        });
        signing.await
    }
}

impl Way {
    fn reaches<'a>(&self, signed: Option<&'a Signed>) -> Result<&'a Signed, &'static str> {
        if let Some(lacks) = self.lacks {
            return Err(lacks);
        }
        let signed = signed.ok_or(
            "it has not signed what it holds: its certificate names no node, or it does not know the hash of this log \
             yet, or what it was filled with is unconfirmed",
        )?;
        let through = signed.acknowledgement.applied.clock;
        let is_reached = self.bundles.last().is_some_and(|tip| tip.bundle.last() >= through);
        is_reached.then_some(signed).ok_or("what it has signed is too far beyond the operation")
    }
}

/// The births of the members that have signed.
#[derive(Default)]
struct Births {
    by_origin: BTreeMap<Origin, Arc<SignedBirth>>,
    bytes: usize,
}

impl Births {
    fn take(&mut self, signed: &Signed) -> Result<(), String> {
        let bytes = self.bytes + signed.birth.to_proto().encoded_len();
        if bytes > limits::RECEIPT_BIRTHS_MAX_BYTES {
            return Err("the receipt is full: the certificates of other members fill it".to_owned());
        }
        self.bytes = bytes;
        self.by_origin.insert(signed.acknowledgement.member, Arc::clone(&signed.birth));
        Ok(())
    }
}
