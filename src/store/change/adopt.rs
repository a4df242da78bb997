//! Adopting a donor's vector, once everything that it covers is here.

use super::Change;
use crate::{
    runtime::planted::{self, Bug},
    store::{
        commit::{Commit, Cut},
        error::StoreError,
        handle::Store,
        view::View,
    },
};
use brock_core::base::{
    id::Origin,
    vector::{Clock, Vector},
};

/// What a donor had applied, once everything of it is here.
#[derive(Debug, Clone, Default)]
pub struct Adoption {
    /// Its vector when its pages began.
    pub vector: Vector,
    /// Its floors when they ended.
    pub floors: Vector,
    /// Its folded origins.
    pub folds: Vector,
    /// Tombstones up to here may be missing among its records.
    pub collected: Vector,
}

impl Store {
    /// Adopts what a donor had applied, after everything of it was joined and imported. Fails if the
    /// donor has more of this node's own present incarnation than this node.
    pub async fn adopt(&self, adoption: Adoption) -> Result<(), StoreError> {
        // What this removes of the log: all up to the floors that it raises, and all that it folds.
        let clocks = adoption.vector.iter();
        let mut removed: Vector =
            clocks.map(|(origin, clock)| (origin, adoption.floors.get(&origin).min(clock))).collect();
        removed.join(&adoption.folds);
        let removed = removed.above(&self.applied());
        let cuts = self
            .blocking(move |shared| {
                let view = shared.database.view();
                removed.iter().map(|(origin, floor)| Ok((origin, measure(&view, origin, floor)?))).collect()
            })
            .await?;
        self.change(Adopt { adoption, cuts }).await
    }
}

fn measure(view: &View<'_>, origin: Origin, through: Clock) -> Result<Cut, StoreError> {
    let mut cut = Cut { through, ..Cut::default() };
    for entry in view.log(origin, Clock::default(), through) {
        cut.entries += 1;
        cut.bytes += entry?.bytes();
    }
    Ok(cut)
}

struct Adopt {
    adoption: Adoption,
    cuts: Vec<(Origin, Cut)>,
}

impl Change for Adopt {
    type Outcome = ();

    /// Contract: everything up to the new vector is reflected in the records, and the log holds
    /// every entry between the floors and the vector, or the floor is raised above the hole.
    fn build(self, commit: &mut Commit<'_>) -> Result<(), StoreError> {
        let Self { adoption, cuts } = self;
        let own = commit.own.origin;
        commit.check_own(own, adoption.vector.get(&own).max(adoption.folds.get(&own)))?;
        let listed = adoption.vector.iter().chain(adoption.folds.iter());
        commit
            .check_origins(listed.filter(|(origin, _)| commit.applied(origin) == Clock::default()).count())?;
        if planted::is(Bug::AdoptNothing) {
            return Ok(());
        }
        for (origin, clock) in adoption.vector.iter() {
            let applied = commit.applied(&origin);
            if clock <= applied {
                continue;
            }
            let floor = adoption.floors.get(&origin);
            if floor > applied {
                commit.raise_floor(origin, floor.min(clock));
            }
            commit.raise(origin, clock, None);
        }
        for (origin, cut) in cuts {
            commit.delete_cut(origin, cut);
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
            if clock > commit.applied(&origin) {
                commit.fold_away(origin, clock);
            }
        }
        Ok(())
    }
}
