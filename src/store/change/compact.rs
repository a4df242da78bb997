//! Compacting the log.

use super::Change;
use crate::store::{
    commit::Commit,
    cuts::Cuts,
    error::StoreError,
    handle::{Shared, Store},
    listing::Cut,
    view::View,
};
use brock_core::base::{
    id::Origin,
    limits,
    vector::{Clock, Vector},
};

/// What a compaction removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Log entries.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Store {
    /// Removes log entries at or below `stable`, origin by origin, a bounded number in each commit.
    pub async fn compact(&self, stable: &Vector) -> Result<Compacted, StoreError> {
        let mut removed = Compacted::default();
        for (origin, through) in stable.iter() {
            let through = through.min(self.clock(&origin));
            loop {
                // A folded origin of which more turned up is listed again, and compacted from there.
                let floor = self.shared.floor(&origin);
                if floor >= through {
                    break;
                }
                let measure = move |shared: &Shared| {
                    measure(&shared.database.view(), shared.signs(&origin), (origin, floor), through)
                };
                let cut = match self.blocking(measure).await {
                    // The logs of the others are compacted all the same.
                    Err(StoreError::Damaged(error)) => {
                        tracing::error!(%origin, %error, "a log cannot be read, and is not compacted");
                        break;
                    }
                    measured => measured?,
                };
                if cut.through <= floor {
                    break;
                }
                // It may have been frozen or retracted meanwhile.
                if !self.change(Compact { origin, cut }).await? {
                    break;
                }
                removed.entries += cut.entries;
                removed.bytes += cut.bytes;
            }
        }
        Ok(removed)
    }

    /// Gives the space of compacted log entries back to the file system, where that is worth it.
    pub async fn rewrite_log(&self) -> Result<(), StoreError> {
        self.blocking(|shared| {
            shared.database.rewrite_log();
            Ok(())
        })
        .await
    }
}

/// The next stretch to cut, which ends at or below `through`.
fn measure(
    view: &View<'_>,
    signs: bool,
    (origin, floor): (Origin, Clock),
    through: Clock,
) -> Result<Cut, StoreError> {
    let mut cuts = Cuts::new(view, signs, (origin, floor))?;
    let (mut cut, mut whole) = (Cut { through: floor, ..Cut::default() }, Cut::default());
    for entry in view.log(origin, floor, through) {
        let entry = entry?;
        if cuts.is_before(entry.key.stamp.clock)? {
            whole = cut;
            if cut.entries >= limits::COMPACT_BATCH {
                return Ok(whole);
            }
        }
        cut.entries += 1;
        cut.bytes += entry.bytes();
        cut.through = entry.key.stamp.clock;
    }
    if !cuts.is_behind(cut.through) {
        return Ok(whole);
    }
    // Nothing more up to there: a gap at the end goes too.
    Ok(Cut { through, ..cut })
}

struct Compact {
    origin: Origin,
    cut: Cut,
}

impl Change for Compact {
    /// Whether the log is cut there now.
    type Outcome = bool;

    /// Contract: the entries go and the floor rises in one batch, so a reader that does not find the
    /// entries finds the floor raised.
    fn build(self, commit: &mut Commit<'_>) -> Result<bool, StoreError> {
        let Self { origin, cut } = self;
        let is_new = cut.through > commit.floor(&origin) && cut.through <= commit.applied(&origin);
        let is_cut = is_new && !commit.is_frozen(&origin);
        if is_cut {
            commit.delete_cut(origin, cut);
            commit.raise_floor(origin, cut.through);
            commit.tally.compacted += cut.entries;
        }
        Ok(is_cut)
    }
}
