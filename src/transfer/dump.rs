//! A whole store at one moment, as the frames of a backup.

use super::messages;
use crate::store::{DumpFrame, Dumped, Since, Store, StoreError};
use brock_core::{
    base::vector::Vector,
    proto::{BackupFrame, backup_frame::Frame},
};

/// Gives everything to `sink`, or everything since, until that returns `false`: the messages of a
/// snapshot, or batches of the log. Returns `None` if `sink` ended it. Blocks; see [`Store::dump`].
pub fn frames(
    store: &Store,
    since: Option<&Since>,
    mut sink: impl FnMut(BackupFrame) -> bool,
) -> Result<Option<Dumped>, StoreError> {
    let is_full = since.is_none();
    let mut give = |frame| sink(BackupFrame { frame: Some(frame) });
    let mut collected = Vector::default();
    let dumped = store.dump(since, |frame| match frame {
        DumpFrame::Begin(dumped) if is_full => {
            collected.clone_from(&dumped.collected);
            let incarnation = store.origin().incarnation();
            let applied = (&dumped.vector, &dumped.folds);
            give(Frame::Snapshot(messages::header(
                store.node_id(),
                incarnation,
                applied,
                dumped.totals,
                dumped.unconfirmed,
            )))
        }
        DumpFrame::Begin(_) => true,
        DumpFrame::Births(page) => give(Frame::Snapshot(messages::births(page.births, page.tips))),
        DumpFrame::Records(page, chains) => {
            give(Frame::Snapshot(messages::records(&page, &collected, chains)))
        }
        DumpFrame::Log(batch) if is_full => give(Frame::Snapshot(messages::log(*batch))),
        DumpFrame::Log(batch) => give(Frame::Batch(*batch)),
    })?;
    let Some(dumped) = dumped else { return Ok(None) };
    let end = || Frame::Snapshot(messages::end(&dumped.collected));
    let is_whole = !is_full || give(end());
    Ok(is_whole.then_some(dumped))
}
