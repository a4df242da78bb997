//! What of a log, and of records, destroys: invalidates, unpublishes or deletes.

use std::collections::BTreeSet;

use brock_core::{
    base::{id::KeyHash, vector::Clock},
    domain::{
        codec,
        operation::{Entry, Operation},
        record::RecordState,
        segment::{Segment, SegmentEntry},
    },
    proto::{self, snapshot_response::Message},
};

/// The entries above `through` that destroy.
pub(super) fn entries(segment: &Segment, through: Clock) -> impl Iterator<Item = &Entry> {
    segment.entries.iter().filter_map(move |entry| match entry {
        SegmentEntry::Applicable(entry, _) => {
            (entry.clock > through && entry.operation.destroys()).then_some(entry)
        }
        SegmentEntry::Quarantined(..) => None,
    })
}

/// Their clocks, in order, but for those that change nothing.
pub(super) fn clocks(segment: &Segment, through: Clock, idle: &BTreeSet<Clock>) -> Vec<Clock> {
    let all = entries(segment, through).map(|entry| entry.clock);
    all.filter(|clock| !idle.contains(clock)).collect()
}

/// Whether a record is already as the operation would make it.
pub(super) fn is_in_effect(operation: &Operation, state: &RecordState) -> bool {
    state.deletion.is_some()
        || match operation {
            Operation::Invalidate { .. } => state.invalidation.is_some(),
            Operation::Unpublish => state.unpublished,
            Operation::Create { .. } | Operation::Delete => false,
        }
}

/// The states in a message that destroy, as far as they are well-formed: the joiner refuses the others.
pub(super) fn in_page(message: &proto::SnapshotResponse) -> Vec<(KeyHash, RecordState)> {
    let Some(Message::Records(page)) = &message.message else { return Vec::new() };
    let state = |record: &proto::KeyedState| {
        let state = record.state.as_ref()?;
        // Most destroy nothing, and are not read.
        let may = state.deletion.is_some() || state.invalidation.is_some() || state.unpublication.is_some();
        let key_hash = may.then(|| KeyHash::try_from(record.key_hash.as_ref()).ok())??;
        codec::state_from_proto(state.clone()).ok().filter(destroys).map(|state| (key_hash, state))
    };
    page.records.iter().filter_map(state).collect()
}

/// Whether a state has more than a create.
pub(super) fn destroys(state: &RecordState) -> bool {
    state.deletion.is_some() || state.invalidation.is_some() || state.unpublication.is_some()
}

/// Whether a record that is alive here is not any more once it is joined with another state.
pub(super) fn would_destroy(here: &RecordState, theirs: &RecordState) -> bool {
    let is_alive = here.creation.is_some() && here.deletion.is_none();
    let is_new = (theirs.deletion.is_some())
        || (theirs.invalidation.is_some() && here.invalidation.is_none())
        || (theirs.unpublication.is_some() && !here.unpublished);
    is_alive && is_new
}
