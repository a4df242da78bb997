//! Adopting a donor's vector, once everything that it covers is here.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
};

use super::Change;
use crate::{
    runtime::planted::{self, Bug},
    store::{commit::Commit, error::StoreError, fills::Fill, handle::Store, listing::Cut, view::View},
};
use brock_core::{
    base::{
        id::{NodeId, Origin},
        limits,
        vector::{Clock, Vector},
    },
    domain::bundle::Tip,
};

/// What a donor had applied, once everything of it is here.
#[derive(Debug, Clone, Default)]
pub struct Adoption {
    /// Its vector when its pages began.
    pub vector: Vector,
    /// Its folded origins.
    pub folds: Vector,
    /// Tombstones up to here may be missing among its records.
    pub collected: Vector,
    /// The last bundles of its logs, verified.
    pub tips: HashMap<Origin, Tip>,
    /// Of these no birth was known when they were believed.
    pub unborn: BTreeSet<Origin>,
    /// On whose word alone: the donor's, and those that have filled it and are not confirmed there. Empty = it is a
    /// backup.
    pub donors: Vec<NodeId>,
}

impl Store {
    /// Adopts what a donor had applied, after everything of it was joined and imported. Fails if the
    /// donor has more of this node's own present incarnation than this node.
    ///
    /// How far the log is compacted is not the donor's to say: this node's own log decides.
    pub async fn adopt(&self, adoption: Adoption) -> Result<(), StoreError> {
        let (vector, applied) = (adoption.vector.clone(), self.applied());
        let measured = applied.clone();
        let folds = adoption.folds.above(&vector).above(&applied);
        let cuts = self
            .blocking(move |shared| {
                let view = shared.database.view();
                let mut cuts = Vec::new();
                for (origin, through) in vector.above(&applied).iter() {
                    let (floor, after) = (shared.floor(&origin), applied.get(&origin));
                    let tip = shared.published().tips.get(&origin).copied();
                    let mut cut = match tip {
                        Some(tip) if !is_continued(&view, origin, tip)? => count(&view, origin, through)?,
                        _ => measure(&view, origin, Stretch { floor, after, through })?,
                    };
                    if shared.signs(&origin) {
                        let whole = whole_from(&view, origin, (floor, through))?;
                        if whole > cut.through {
                            cut = count(&view, origin, whole)?;
                        }
                    }
                    cuts.push((origin, cut));
                }
                for (origin, clock) in folds.iter() {
                    cuts.push((origin, count(&view, origin, clock)?));
                }
                Ok(cuts)
            })
            .await?;
        self.change(Adopt { adoption, cuts, measured }).await
    }
}

/// All of a log.
pub(super) fn count(view: &View<'_>, origin: Origin, through: Clock) -> Result<Cut, StoreError> {
    let mut cut = Cut { through, ..Cut::default() };
    for entry in view.log(origin, Clock::default(), through) {
        cut.entries += 1;
        cut.bytes += entry?.bytes();
    }
    Ok(cut)
}

/// Whether what a donor has sent of a log continues it. A segment that another peer has sent since may end in another
/// history, or within one of its bundles.
fn is_continued(view: &View<'_>, origin: Origin, tip: Tip) -> Result<bool, StoreError> {
    let Some(next) = view.bundles(origin, tip.bundle.last()).next().transpose()? else { return Ok(true) };
    let next = next.bundle;
    Ok(match next.first.cmp(&tip.bundle.last().next()) {
        Ordering::Less => false,
        Ordering::Equal => next.before == tip.chain(),
        // A hole, which is no other history.
        Ordering::Greater => true,
    })
}

/// From where on a log consists of whole bundles, one behind the other, up to `through`. An entry in none could not be
/// read, and a log that begins within one not be verified.
fn whole_from(
    view: &View<'_>,
    origin: Origin,
    (floor, through): (Clock, Clock),
) -> Result<Clock, StoreError> {
    let (mut begin, mut end) = (floor, floor);
    for bundle in view.bundles(origin, floor) {
        let bundle = bundle?.bundle;
        let before = Clock(bundle.first.0.saturating_sub(1));
        if before >= through {
            break;
        }
        if before < floor {
            begin = bundle.last();
        } else if before != end {
            begin = before;
        }
        end = bundle.last();
    }
    Ok(if end == through { begin } else { through })
}

/// A part of one origin's log.
struct Stretch {
    /// Nothing is left at or below this clock.
    floor: Clock,
    /// Up to this clock it has no hole.
    after: Clock,
    /// Up to this clock it must have none.
    through: Clock,
}

/// What must go of a log so that it has no hole: everything up to the last clock for which there is not
/// exactly one entry. One pass over what is there.
fn measure(view: &View<'_>, origin: Origin, stretch: Stretch) -> Result<Cut, StoreError> {
    let Stretch { floor, after, through } = stretch;
    let mut cut = Cut { through: floor, ..Cut::default() };
    let (mut last, mut behind) = (floor, Cut::default());
    for entry in view.log(origin, floor, through) {
        let entry = entry?;
        let clock = entry.key.stamp.clock;
        let hole = match clock {
            _ if clock <= after => None,
            // Two entries for one clock: neither can be relayed.
            _ if clock == last => Some(clock),
            _ => (last.max(after).next() != clock).then(|| Clock(clock.0 - 1)),
        };
        if let Some(hole) = hole {
            cut =
                Cut { through: hole, entries: cut.entries + behind.entries, bytes: cut.bytes + behind.bytes };
            behind = Cut::default();
        }
        // The second of two entries for one clock goes with the first.
        let part = if clock <= cut.through { &mut cut } else { &mut behind };
        part.entries += 1;
        part.bytes += entry.bytes();
        last = clock;
    }
    if last < through {
        (cut.entries, cut.bytes) = (cut.entries + behind.entries, cut.bytes + behind.bytes);
        cut.through = through;
    }
    Ok(cut)
}

struct Adopt {
    adoption: Adoption,
    cuts: Vec<(Origin, Cut)>,
    /// What was applied when the cuts were measured.
    measured: Vector,
}

impl Change for Adopt {
    type Outcome = ();

    /// Contract: everything up to the new vector is reflected in the records, and the log holds
    /// every entry between the floors and the vector: the floor is raised above the last hole, so this
    /// node never relays one, nor a log that changes from one history to another. If anything is raised, a note of the
    /// donors is in the same batch, until another member has confirmed that they left nothing out. What was retracted,
    /// or is born, since the adoption was measured, is left out: neither the cuts nor what was believed hold any more.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        let Self { mut adoption, cuts, measured } = self;
        let own = commit.own.origin;
        commit.check_own(own, adoption.vector.get(&own).max(adoption.folds.get(&own)))?;
        let listed = adoption.vector.iter().chain(adoption.folds.iter());
        commit
            .check_origins(listed.filter(|(origin, _)| commit.applied(origin) == Clock::default()).count())?;
        if planted::is(Bug::AdoptNothing) {
            return Ok(());
        }
        let is_stale = |origin: &Origin| {
            commit.applied(origin) < measured.get(origin)
                || (adoption.unborn.contains(origin) && commit.born(origin).is_some())
        };
        let listed = adoption.vector.iter().chain(adoption.folds.iter()).map(|(origin, _)| origin);
        let stale: BTreeSet<Origin> = listed.filter(is_stale).collect();
        for origin in &stale {
            adoption.vector.remove(origin);
            adoption.folds.remove(origin);
        }
        note_fills(commit, &adoption);
        let last_bundle = |origin: &Origin, clock: Clock| {
            adoption.tips.get(origin).filter(|tip| tip.bundle.last() == clock).copied()
        };
        for (origin, clock) in adoption.vector.iter() {
            let applied = commit.applied(&origin);
            if clock <= applied || commit.is_frozen(&origin) {
                continue;
            }
            commit.raise(origin, clock, last_bundle(&origin, clock));
        }
        for (origin, cut) in cuts {
            if commit.is_frozen(&origin) || stale.contains(&origin) {
                continue;
            }
            if cut.entries > 0 {
                commit.delete_cut(origin, cut);
            }
            commit.raise_floor(origin, cut.through);
        }
        if !adoption.collected.is_empty() {
            // What the donor has forgotten is missing here as well now, and a node that learns from
            // this one must know. Only as far as this node has applied: beyond that, it has not
            // received the creates of records that were never deleted.
            let mut applied = commit.before.applied();
            applied.join(&commit.raised.vector);
            applied.join(&adoption.folds);
            commit.raise_collected(&adoption.collected.meet(&applied));
        }
        for (origin, clock) in adoption.folds.iter() {
            if clock > commit.applied(&origin) && !commit.is_frozen(&origin) {
                commit.fold_away(origin, clock, last_bundle(&origin, clock));
            }
        }
        Ok(())
    }
}

fn note_fills(commit: &mut Commit<'_>, adoption: &Adoption) {
    let mut claimed = adoption.vector.clone();
    claimed.join(&adoption.folds);
    let is_raised =
        |(origin, clock): &(Origin, Clock)| *clock > commit.applied(origin) && !commit.is_frozen(origin);
    let raised: Vector = claimed.iter().filter(is_raised).collect();
    if raised.is_empty() {
        return;
    }
    // What was applied here before, the donor cannot have left out, unless its pages have removed it.
    if adoption.collected.is_empty() {
        claimed = raised;
    }
    let mut fills = commit.fills().to_vec();
    let since = i64::try_from(commit.now_unix_ms / 1000).unwrap_or(i64::MAX);
    for donor in &adoption.donors {
        let at = fills.iter().position(|fill| fill.donor == *donor).unwrap_or(fills.len());
        if at == limits::FILLS_MAX {
            continue;
        }
        if at == fills.len() {
            fills.push(Fill { donor: donor.clone(), since, applied: Vector::default() });
        }
        // Without what was frozen or retracted since, so that a note has no more origins than are listed.
        let noted = fills[at].applied.iter().filter(|(origin, _)| commit.before.lists(origin));
        let mut noted: Vector = noted.collect();
        noted.join(&claimed);
        fills[at].applied = noted;
        commit.batch.put_meta(&fills[at].name(), &fills[at].encode());
    }
    commit.raised.fills = Some(fills);
}
