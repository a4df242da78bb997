//! The payloads of a record that have lost, and which of them an operator has acknowledged.
//!
//! The mark of a conflict keeps what the operator had seen. It stays when another payload loses, and then is of
//! other losers than the record has, so nothing that is unseen counts as acknowledged.

use brock_core::{
    base::id::sha256,
    domain::{
        codec::{self, CodecError},
        record::{Creation, RecordState},
    },
};

/// The creates that have lost.
pub(super) fn of(state: Option<&RecordState>) -> &[Creation] {
    state.map_or(&[], |state| &state.losers)
}

/// Digest of the payloads that had lost when an operator acknowledged them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen([u8; 32]);

impl Seen {
    /// Of which payloads they are, not by which operations: the same payload may come again from another node.
    pub(super) fn all(losers: &[Creation]) -> Self {
        let mut digests: Vec<[u8; 32]> = losers.iter().map(|loser| loser.digest).collect();
        digests.sort_unstable();
        Self(sha256(&digests.concat()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// From the mark of a conflict. `None` = nothing is acknowledged, or it is not known what was.
    pub(super) fn decode(mark: &[u8]) -> Result<Option<Self>, CodecError> {
        Ok(codec::unversioned("conflict mark", mark)?.try_into().ok().map(Self))
    }

    /// How many of the losers are acknowledged: all or none.
    pub(super) fn count(seen: Option<Self>, losers: &[Creation]) -> u64 {
        if !losers.is_empty() && seen == Some(Self::all(losers)) { losers.len() as u64 } else { 0 }
    }
}
