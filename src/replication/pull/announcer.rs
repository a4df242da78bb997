//! What a puller acknowledges to its donor, and signs of it.

use crate::store::{Store, StoreError};
use brock_core::{
    base::{id::Origin, vector::Vector},
    domain::codec,
    proto::{self, replicate_request},
};

/// The acknowledgements of one round.
pub(super) struct Announcer {
    /// The donor's present incarnation, as it has said.
    donor: Origin,
    /// The part of this node's vector that the donor has been sent.
    announced: Vector,
    /// The incarnation of this node that has signed in this round, and whose birth was sent.
    signed_as: Option<Origin>,
}

impl Announcer {
    pub(super) fn new(donor: Origin, announced: Vector) -> Self {
        Self { donor, announced, signed_as: None }
    }

    /// The donor says which incarnation it is now.
    pub(super) fn donates(&mut self, donor: Origin) {
        self.donor = donor;
    }

    /// What became durable here since the last time. It is signed if it is about the donor's own log, and once at the
    /// beginning, because a hello is not.
    pub(super) async fn next(
        &mut self,
        store: &Store,
    ) -> Result<Option<proto::ReplicateRequest>, StoreError> {
        let mut request = proto::ReplicateRequest::default();
        let mut fresh = store.above(&self.announced);
        if (fresh.lists(&self.donor) || self.signed_as.is_none())
            && let Some(signed) = store.acknowledgement(&self.donor)
        {
            // It may be further by now.
            fresh.raise(self.donor, signed.applied.clock);
            if self.signed_as != Some(signed.member) {
                request.birth = store.birth(signed.member).await?;
                self.signed_as = Some(signed.member);
            }
            request.acknowledgement = Some(signed.to_proto());
        }
        self.announced.join(&fresh);
        request.message = Some(replicate_request::Message::Applied(codec::vector_to_proto(&fresh)));
        Ok((!fresh.is_empty()).then_some(request))
    }
}
