//! Proofs that an origin has signed two histories: verified, kept and passed on.

use std::collections::HashMap;

use prost::Message as _;

use super::{proof::Verifier, work};
use crate::store::{Store, StoreError};
use brock_core::{
    base::{
        id::Origin,
        limits,
        vector::{Clock, Vector},
    },
    domain::{
        birth::SignedBirth,
        bundle::Tip,
        fork::{Contradiction, Fork},
    },
    proto,
};

/// The proofs that a node shows a peer, as many as a message has room for: first those of origins that the peer
/// `lists`, because it has to freeze them, then the others in the order of the origins.
pub fn shown(store: &Store, lists: &Vector) -> Vec<proto::Fork> {
    let mut bytes = 0;
    let mut forks = store.forks();
    forks.sort_by_key(|fork| lists.get(&fork.origin()) == Clock::default());
    let forks = forks.into_iter().take(limits::FORKS_MAX).map(|fork| fork.to_proto());
    let has_room = |fork: &proto::Fork| {
        bytes += fork.encoded_len();
        bytes <= limits::FORKS_SHOWN_BYTES
    };
    forks.take_while(has_room).collect()
}

impl Verifier {
    /// Freezes the origins of a peer's proofs, as far as they are genuine. Returns how many are not; after
    /// [`limits::LIES_READ`] of these it looks at no more.
    pub async fn take_forks(&self, forks: Vec<proto::Fork>) -> Result<usize, StoreError> {
        let mut refused = 0;
        for fork in forks.into_iter().take(limits::FORKS_MAX) {
            match Fork::from_proto(fork) {
                Ok(fork) => refused += usize::from(!self.freeze(fork).await?),
                Err(_) => refused += 1,
            }
            if refused >= limits::LIES_READ {
                break;
            }
        }
        Ok(refused)
    }

    /// Looks whether what a peer shows of the logs that both have is what is here. Freezes the origins that have signed
    /// two histories. Returns how many differ and are not proven to have; after [`limits::LIES_READ`] of these it
    /// looks at no more.
    pub async fn compare_tips(&self, tips: Vec<proto::OriginTip>) -> Result<usize, StoreError> {
        let mut refused = 0;
        for shown in tips.into_iter().take(limits::TIPS_MAX) {
            let is_true = match Tip::with_origin(&shown) {
                Some((origin, theirs)) => match self.store().contradiction(origin, theirs).await? {
                    Some(ours) => self.prove_fork(origin, ours, theirs).await?,
                    None => self.learn_tip(origin, theirs).await?,
                },
                None => false,
            };
            refused += usize::from(!is_true);
            if refused >= limits::LIES_READ {
                break;
            }
        }
        Ok(refused)
    }

    /// Those of a donor's last bundles that are genuine.
    pub(super) async fn genuine_tips(
        &self,
        mut tips: HashMap<Origin, Tip>,
    ) -> Result<HashMap<Origin, Tip>, StoreError> {
        let this = self.clone();
        work(move || {
            tips.retain(|origin, tip| this.is_genuine(origin, tip));
            tips
        })
        .await
    }

    /// Blocks for a signature.
    fn is_genuine(&self, origin: &Origin, tip: &Tip) -> bool {
        let born = self.store().born(origin);
        born.is_some_and(|born| tip.is_genuine(&self.cluster(), origin, &born.key))
    }

    /// Keeps what is genuine of the last bundle of a log that is here on a donor's word up to exactly there. Returns
    /// whether it is genuine, if it is of use.
    pub(super) async fn learn_tip(&self, origin: Origin, tip: Tip) -> Result<bool, StoreError> {
        if !self.store().wants_tip(&origin, &tip) {
            return Ok(true);
        }
        let this = self.clone();
        let is_genuine = work(move || this.is_genuine(&origin, &tip)).await?;
        if is_genuine {
            self.store().keep_tip(origin, tip).await?;
        }
        Ok(is_genuine)
    }

    /// Freezes an origin of which two bundles cannot both be true. Returns whether both are genuine.
    pub async fn prove_fork(&self, origin: Origin, one: Tip, other: Tip) -> Result<bool, StoreError> {
        let birth = self.store().birth(origin).await?.map(SignedBirth::from_proto).transpose()?;
        match birth.and_then(|birth| Fork::new(birth, Contradiction::Bundles(one, other))) {
            Some(fork) => self.freeze(fork).await,
            None => Ok(false),
        }
    }

    /// Freezes an origin that has another birth here. Returns whether the other one is genuine.
    pub async fn prove_two_births(&self, other: SignedBirth) -> Result<bool, StoreError> {
        let birth = self.store().birth(other.birth.origin).await?.map(SignedBirth::from_proto).transpose()?;
        match birth.and_then(|birth| Fork::new(birth, Contradiction::Birth(other))) {
            Some(fork) => self.freeze(fork).await,
            None => Ok(false),
        }
    }

    /// Freezes the origin of a fork, unless that is not genuine. Returns whether it is.
    async fn freeze(&self, fork: Fork) -> Result<bool, StoreError> {
        let origin = fork.origin();
        if self.store().is_frozen(&origin) || !self.store().may_freeze(&origin) {
            return Ok(true);
        }
        let known = self.store().birth(origin).await?.map(SignedBirth::from_proto).transpose()?;
        let Some(fork) = (match known {
            Some(known) => fork.beside(known),
            None => Some(fork),
        }) else {
            return Ok(false);
        };
        let this = self.clone();
        let checking = work(move || this.is_fork(&fork).then_some(fork));
        let Some(fork) = checking.await? else { return Ok(false) };
        self.store().freeze(fork).await.map(|()| true)
    }

    /// Blocks for some signatures.
    fn is_fork(&self, fork: &Fork) -> bool {
        let is_known = self.store().born(&fork.origin()) == Some(fork.birth().birth);
        (is_known || self.check_birth(fork.birth()).is_ok())
            && fork.is_genuine(&self.cluster(), |other| self.is_second(fork.birth(), other, is_known))
    }

    /// Whether another birth is as good as the first, so that there are two. A holder of an expired certificate, who
    /// can date a birth back, must not freeze the incarnation that the node is; and a node that has met neither takes
    /// no side. Revoking the certificate, as operators do next, does not undo the proof.
    fn is_second(&self, first: &SignedBirth, other: &SignedBirth, is_known: bool) -> bool {
        let Some(identity) = self.store().identity() else { return false };
        let (first, other) = (identity.standing(first), identity.standing(other));
        other.is_some() && if is_known { other >= first } else { other == first }
    }
}
