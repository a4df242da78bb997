//! Verifies what others send, against the births of the origins.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{bundles::Bundles, orders::Orders, work};
use crate::{
    runtime::planted::{self, Bug},
    store::{Store, StoreError},
};
use brock_core::{
    base::{
        id::{ClusterId, KeyHash, NodeId, Origin},
        trust::TrustMode,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        birth::{Birth, SignedBirth, Unbelieved},
        evidence::Evidence,
        leaves::Leaves,
        operation::{Operation, has_foreign_payload},
        order::Chain,
        proofs::{EvidenceList, Part, Proofs},
        record::RecordState,
        segment::{Segment, SegmentEntry},
    },
    proto,
};

/// Why a segment is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// An origin that has signed before.
    #[error("operations of {0} are not signed, although that origin signs")]
    Unsigned(Origin),
    /// Nothing proves which key is the origin's.
    #[error("operations of {0} come without a birth that proves who signs them")]
    Unborn(Origin),
    /// The birth is not that of the origin's node.
    #[error("the birth of {origin} is not believed here: {reason}")]
    Birth {
        /// The origin.
        origin: Origin,
        /// What is wrong with it.
        reason: Unbelieved,
    },
    /// Another birth of that origin is known here.
    #[error("{} has two births: two holders of its node's certificate sign as that origin", .0.birth.origin)]
    TwoBirths(Box<SignedBirth>),
    /// The payloads are not those whose digests the origin has signed.
    #[error("operations of {0} come with payloads that are not theirs")]
    Payload(Origin),
    /// An operator has closed that log.
    #[error("operations of {0} beyond the end that an operator has set for the logs of that node")]
    Closed(Origin),
    /// The origin was born in another cluster, or this node has a certificate of another one.
    #[error(
        "operations of {origin} are signed for the trust domain {domain}, and this node's certificate is of another one \
         (docs/guides/troubleshooting.md, A certificate of another trust domain)"
    )]
    OtherDomain {
        /// The origin.
        origin: Origin,
        /// Of the certificate of its birth.
        domain: String,
    },
    /// The origin's key did not sign this.
    #[error("operations of {0} are not those that it has signed")]
    Forged(Origin),
}

impl ProofError {
    /// What an operator does about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unborn(_) => {
                "If the certificate of that node has no SPIFFE URI, make one with `brock cert node`; otherwise find out who \
                 controls it"
            }
            Self::OtherDomain { .. } => "Compare the two certificates",
            Self::Birth { .. } => "docs/guides/troubleshooting.md, Records are not proven",
            _ => "Find out who controls that node",
        }
    }
}

/// Verifies for one store. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    store: Store,
    mode: TrustMode,
    /// `None`: orders are not verified.
    orders: Option<Orders>,
    /// How many births that are kept here are not believed any more, as counted last.
    unbelieved: Arc<AtomicU64>,
}

/// A state as far as it is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Believed {
    /// What of it may be joined.
    pub state: RecordState,
    /// Its operations that were left out because nothing proves them.
    pub unproven: BTreeSet<Stamp>,
    /// The certificates of operators whose orders are in it, to be kept: this node will pass the orders on.
    pub chains: Vec<Chain>,
}

impl Believed {
    /// What may be joined, or shown: of a state of which something was left out, a revocation perhaps, only what takes
    /// something away. Otherwise a revoked record would look valid.
    pub fn joinable(self) -> RecordState {
        if self.unproven.is_empty() { self.state } else { self.state.without_creates() }
    }
}

impl Verifier {
    /// Believes what `mode` says, of origins and their births as the store knows them.
    pub fn new(store: Store, mode: TrustMode, orders: Option<Orders>) -> Self {
        Self { store, mode, orders, unbelieved: Arc::default() }
    }

    /// Whether only what is proven is applied.
    pub fn is_strict(&self) -> bool {
        self.mode == TrustMode::Distributed
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The closings that this node knows, as they travel.
    pub fn known_closings(&self) -> Vec<proto::Closing> {
        self.orders.as_ref().map(Orders::known_closings).unwrap_or_default()
    }

    /// `None`: orders are not verified.
    pub(super) fn orders(&self) -> Option<&Orders> {
        self.orders.as_ref()
    }

    pub(super) fn cluster(&self) -> ClusterId {
        let cluster = self.store.identity().and_then(|identity| identity.cluster());
        cluster.unwrap_or(ClusterId([0; 32]))
    }

    /// Where an operator has ended the log of an origin.
    pub(super) fn end_of(&self, origin: &Origin) -> Option<Clock> {
        self.orders.as_ref().and_then(|orders| orders.closed(origin))
    }

    /// Verifies a birth that is not known here yet, unless an operator has closed its log, and so accepted it. Blocks
    /// for some signatures.
    pub fn check_birth(&self, signed: &SignedBirth) -> Result<(), ProofError> {
        // A certificate of its node has signed it, whatever has become of that: it is stored and passed on as it is.
        let is_signed = || self.store.identity().is_some_and(|identity| identity.standing(signed).is_some());
        let is_accepted = || {
            let orders = self.orders.as_ref();
            orders.is_some_and(|orders| orders.accepts(&signed.birth, &self.cluster())) && is_signed()
        };
        match self.check_signature(signed) {
            Err(reason) if !is_accepted() => Err(ProofError::Birth { origin: signed.birth.origin, reason }),
            _ => Ok(()),
        }
    }

    fn check_signature(&self, signed: &SignedBirth) -> Result<(), Unbelieved> {
        let none = || Unbelieved::Other("this node verifies none".to_owned());
        self.store.identity().ok_or_else(none)?.verify(signed)
    }

    /// Counts the origins of which something is here and whose births are not believed any more, unless an operator
    /// has closed their logs. That changes with the certificates directory, with time, and with an operator's word.
    /// What has logged nothing fills no node either way, and no command could end it.
    pub async fn count_unbelieved(&self) -> Result<(), StoreError> {
        let (mut after, mut count) = (None, 0);
        loop {
            let (births, next) = self.store.births(after).await?;
            let (this, applied) = (self.clone(), self.store.applied());
            let is_unbelieved = move |signed: &SignedBirth| {
                let origin = &signed.birth.origin;
                applied.get(origin) > Clock::default()
                    && this.end_of(origin).is_none()
                    && this.check_birth(signed).is_err()
            };
            let births = births.into_iter().filter_map(|birth| SignedBirth::from_proto(birth).ok());
            let births: Vec<_> = births.collect();
            count +=
                work(move || births.iter().filter(|signed| is_unbelieved(signed)).count() as u64).await?;
            match next {
                Some(_) => after = next,
                None => break,
            }
        }
        self.unbelieved.store(count, Ordering::Relaxed);
        Ok(())
    }

    /// As counted last.
    pub fn unbelieved(&self) -> u64 {
        self.unbelieved.load(Ordering::Relaxed)
    }

    /// Keeps those of the births that are genuine. What an origin without one has signed is not proven, which is
    /// decided operation by operation. `expected`: origins that this node is about to list.
    pub async fn learn(&self, births: Vec<proto::Birth>, expected: &Vector) -> Result<(), StoreError> {
        let births = births.into_iter().filter_map(|birth| SignedBirth::from_proto(birth).ok());
        self.keep_wanted(births.collect(), expected.clone()).await.map(drop)
    }

    /// The same of births of origins that are known here, which may be signed with a newer certificate, or vouched for,
    /// and of those that are listed here without a birth: by the claim of a donor that has hidden it.
    /// Returns whether one was kept.
    pub async fn renew(&self, births: Vec<SignedBirth>) -> Result<bool, StoreError> {
        let applied = self.store.applied();
        let is_known = |signed: &SignedBirth| {
            let origin = &signed.birth.origin;
            self.store.born(origin).is_some() || applied.lists(origin)
        };
        self.keep_wanted(births.into_iter().filter(is_known).collect(), Vector::default()).await
    }

    async fn keep_wanted(&self, births: Vec<SignedBirth>, expected: Vector) -> Result<bool, StoreError> {
        if births.is_empty() {
            return Ok(false);
        }
        let (this, places) = (self.clone(), expected.clone());
        let verify = move || -> (Vec<SignedBirth>, Vec<SignedBirth>) {
            let is_news = |signed: &SignedBirth| match this.store.born(&signed.birth.origin) {
                Some(known) => known != signed.birth || this.renews(signed),
                None => {
                    this.store.keeps_birth(&signed.birth.origin, &places) && this.check_birth(signed).is_ok()
                }
            };
            let is_kept = |signed: &SignedBirth| {
                this.store.born(&signed.birth.origin).is_none_or(|known| known == signed.birth)
            };
            births.into_iter().filter(is_news).partition(is_kept)
        };
        let (new, other) = work(verify).await?;
        let is_news = !new.is_empty();
        if is_news {
            self.store.keep_births(new, &expected).await?;
        }
        for second in other {
            self.prove_two_births(second).await?;
        }
        Ok(is_news)
    }

    /// Whether a birth that is known here is to be kept as it comes now: it is the same, and genuine, and instead of
    /// one whose certificate is not accepted any more, or a later word of an operator, or, if no operator has vouched
    /// for it, signed with a certificate of its node that ends later. Blocks.
    fn renews(&self, signed: &SignedBirth) -> bool {
        let Ok(Some(kept)) = self.store.signed_birth(&signed.birth.origin) else { return false };
        let Some(identity) = self.store.identity() else { return false };
        let is_better = || match (kept.vouched_at_unix_ms, signed.vouched_at_unix_ms) {
            (None, None) => identity.ends(signed) > identity.ends(&kept),
            (kept, signed) => signed > kept,
        };
        kept.birth == signed.birth
            && kept.certificates != signed.certificates
            && self.check_signature(signed).is_ok()
            && (self.check_signature(&kept).is_err() || is_better())
    }

    /// Verifies a segment that `from` has sent, and takes out of it what may not be stored. Blocks.
    ///
    /// Contract: what is left is signed by the origin, as it was at its birth; or the origin has never signed, and the
    /// mode trusts that. The link of the origin itself makes no exception: what is kept here as proof is passed on.
    pub fn check_segment(&self, from: &NodeId, mut segment: Segment) -> Result<Segment, ProofError> {
        let origin = segment.origin;
        if let Some(end) = self.end_of(&origin) {
            if segment.after >= end && segment.covered_through > end {
                return Err(ProofError::Closed(origin));
            }
            segment.cut_before(end.next());
        }
        let birth = segment.birth.take();
        let known = self.store.born(&origin).filter(|_| birth.is_none() || !planted::is(Bug::ForgetBirth));
        if let (Some(known), Some(birth)) = (&known, &birth)
            && birth.birth != *known
        {
            return Err(ProofError::TwoBirths(Box::new(birth.clone())));
        }
        let key = match (known, birth) {
            (Some(Birth { key, .. }), birth) => {
                segment.birth = birth.filter(|birth| self.renews(birth));
                key
            }
            (None, Some(birth)) => match self.check_birth(&birth) {
                Ok(()) => {
                    let key = birth.birth.key;
                    segment.birth = Some(birth);
                    key
                }
                Err(error) if self.is_strict() => return Err(error),
                Err(_) => return Ok(Segment { proof: None, ..segment }),
            },
            (None, None) if self.is_strict() => return Err(ProofError::Unborn(origin)),
            (None, None) => return Ok(Segment { proof: None, ..segment }),
        };
        let Some(proof) = &segment.proof else {
            // Nothing to sign.
            let is_empty = segment.entries.is_empty();
            return if is_empty { Ok(segment) } else { Err(ProofError::Unsigned(origin)) };
        };
        let cluster = self.cluster();
        let is_skipped = planted::is(Bug::SkipVerifyRelay) && !origin.is_of(from);
        if !is_skipped && !proof.is_genuine(&cluster, &origin, &key) {
            return Err(self.forged(origin));
        }
        let is_foreign = |entry: &SegmentEntry| match entry {
            SegmentEntry::Quarantined(entry, _) => has_foreign_payload(entry),
            SegmentEntry::Applicable(..) => false,
        };
        if segment.entries.iter().any(is_foreign) {
            return Err(ProofError::Payload(origin));
        }
        Ok(segment)
    }

    /// Why a bundle does not verify. With a certificate of another cluster here, the genuine ones do not either.
    fn forged(&self, origin: Origin) -> ProofError {
        let birth = self.store.signed_birth(&origin).ok().flatten();
        let domain = self.store.identity().zip(birth).and_then(|(own, birth)| own.foreign_domain(&birth));
        match domain {
            Some(domain) => ProofError::OtherDomain { origin, domain },
            None => ProofError::Forged(origin),
        }
    }

    /// What of a peer's state is believed: what evidence proves, as the evidence states it; and, unless only what is
    /// proven is believed, the operations of origins that have no birth here: an origin that signs is not believed
    /// unsigned. What destroys needs an operator's order if only what is proven is believed. `bundles` and `chains`
    /// came with the state or before it. Blocks for a signature per order.
    pub fn believe(
        &self,
        key_hash: &KeyHash,
        mut claimed: RecordState,
        bundles: &Bundles,
        chains: &[Chain],
    ) -> Believed {
        let evidence = std::mem::take(&mut claimed.evidence);
        let mut genuine: EvidenceList =
            evidence.into_iter().filter(|(stamp, one)| self.proves(*stamp, key_hash, one, bundles)).collect();
        let chains = self.check_orders(key_hash, &mut genuine, chains);
        let proofs = Proofs::of(&genuine);
        let trusts = |stamp: &Stamp| {
            !self.is_strict() && self.store.born(&stamp.origin).is_none() && !self.is_beyond_end(*stamp)
        };
        let is_unproven = |(stamp, part): &(Stamp, Part<'_>)| {
            !proofs.prove(*stamp, *part) && !trusts(stamp) && !self.is_beyond_end(*stamp)
        };
        let unproven = claimed.parts().filter(is_unproven).map(|(stamp, _)| stamp).collect();
        let payload = claimed.creation.as_ref().and_then(|creation| creation.payload.clone());
        let digest = claimed.creation.as_ref().map(|creation| creation.digest);
        let was_created = claimed.was_created && !self.is_strict();
        // An origin whose evidence is genuine signs.
        let mut state = claimed.only(|stamp| !proofs.name(stamp) && trusts(stamp));
        for (stamp, operation, one) in proofs.operations() {
            // Each create with that payload gets it: one that loses is joined without.
            let is_of_it = matches!(operation, Operation::Create { digest: created, .. } if digest.as_ref() == Some(created));
            let mut proven = operation.state(stamp, payload.clone().filter(|_| is_of_it));
            proven.evidence.push((stamp, one.clone()));
            state = state.join(proven);
        }
        state.was_created |= was_created && state.deletion.is_some();
        Believed { state, unproven, chains }
    }

    /// Returns the new chains of valid orders. If only what is proven is believed, operations that need an order and
    /// have no valid one are taken out.
    fn check_orders(&self, key_hash: &KeyHash, genuine: &mut EvidenceList, chains: &[Chain]) -> Vec<Chain> {
        let mut new = Vec::new();
        let Some(orders) = &self.orders else { return new };
        genuine.retain(|(_, evidence)| {
            let checked = orders.check_evidence(key_hash, evidence, chains);
            let is_ordered = checked.is_ok();
            new.extend(checked.ok().flatten());
            is_ordered || !self.is_strict()
        });
        new
    }

    /// Whether an operator has closed that log before this operation. It is left out, and nothing is missing: the
    /// members that have it took it before they learnt of the closing.
    fn is_beyond_end(&self, stamp: Stamp) -> bool {
        self.end_of(&stamp.origin).is_some_and(|end| stamp.clock > end)
    }

    /// Whether the operation is in a bundle that its origin has signed. Those that are here were verified.
    fn proves(&self, stamp: Stamp, key_hash: &KeyHash, evidence: &Evidence, bundles: &Bundles) -> bool {
        let destroys = || evidence.says().is_some_and(Operation::destroys);
        // An operator's order is valid in whatever log it stands.
        if self.is_beyond_end(stamp) && !(self.is_strict() && destroys()) {
            return false;
        }
        let id = evidence.bundle_id(stamp.origin);
        let is_in_it = |leaves: &Leaves| evidence.is_in(leaves, stamp, &key_hash.0);
        match bundles.get(&id) {
            Some(leaves) => is_in_it(leaves),
            None => self.store.leaves(&id).ok().flatten().is_some_and(|leaves| is_in_it(&leaves)),
        }
    }
}
