//! Donors that have filled this node, and that no other member has confirmed to have left nothing out.
//!
//! A note of each is in `meta`, in the batch that adopts the donor's vector, so it outlives a restart.

use prost::Message;

use super::{error::StoreError, handle::Store, view::View};
use brock_core::{
    base::{id::NodeId, vector::Vector},
    domain::{
        codec::{self, CodecError},
        record::UnixSeconds,
    },
    proto,
};

/// The names of the notes begin so.
pub(super) const PREFIX: &[u8] = b"fill/";

/// A fill that waits for confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Who has filled this node.
    pub donor: NodeId,
    /// When its vector was adopted first.
    pub since: UnixSeconds,
    /// What the donor claimed to have applied, and this node has not from elsewhere: folded origins included.
    pub applied: Vector,
}

/// What a member confirms of a fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// As it was noted when the comparison began.
    pub fill: Fill,
    /// What waits further; empty: the whole fill is confirmed.
    pub left: Vector,
}

impl From<Fill> for Confirmed {
    fn from(fill: Fill) -> Self {
        Self { fill, left: Vector::default() }
    }
}

impl Fill {
    /// The name of its note.
    pub(super) fn name(&self) -> Vec<u8> {
        [PREFIX, self.donor.as_str().as_bytes()].concat()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let applied = Some(codec::vector_to_proto(&self.applied));
        proto::Fill { donor: self.donor.to_string(), since_unix: self.since, applied }.encode_to_vec()
    }

    fn decode(value: &[u8]) -> Result<Self, CodecError> {
        let malformed = CodecError::Malformed("fill");
        let Ok(fill) = proto::Fill::decode(value) else { return Err(malformed) };
        Ok(Self {
            donor: fill.donor.parse().map_err(|_| malformed)?,
            since: fill.since_unix,
            applied: codec::vector_from_proto(&fill.applied.unwrap_or_default())?,
        })
    }
}

impl View<'_> {
    /// The fills that wait for confirmation.
    pub(super) fn fills(&self) -> Result<Vec<Fill>, StoreError> {
        self.notes(PREFIX)?.iter().map(|note| Ok(Fill::decode(note)?)).collect()
    }
}

impl Store {
    /// The fills that wait for confirmation, at most one of each donor.
    pub fn unconfirmed_fills(&self) -> Vec<Fill> {
        self.shared.published().fills.clone()
    }
}
