//! The life cycle of operations as a model: replication, compaction, resync, tombstone collection,
//! retirement and return, with crashes, lost disks and restored old copies, checked over millions of
//! states. Three nodes, two keys; every fault has a small budget, so that the state space is finite.
//!
//! In some worlds one of the three was taken over (`liar`): what it sends is signed, as `node.trust distributed`
//! demands, and it withholds, leaves out, claims and signs two histories as it likes. What is expected then is
//! expected of the other two, and without a word of it.
//!
//! Not modelled: payload bytes, expiry, ranks by time, fold tables (they only change how a vector is
//! written down), and a running machine set back in time, which gives a stamp away twice if it accepts
//! an operation before it hears of its own clock. Of the lies: claims of clocks that no log has reached, a
//! second birth, bundles of several operations, and what an honest node acknowledges because a liar has filled
//! it, before the comparison with the others.

mod checks;
mod judge;
mod liar;
mod possible;
mod resync;
mod state;
mod step;
mod worlds;

use stateright::{Model, Property};

use state::{Budget, NODES, State};
use step::Action;

/// A bug to plant, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    KeepIncarnationOnRestore,
    AcknowledgeBeforeSync,
    SkipVectorUpdate,
    CompactUnstable,
    /// A retired node is served at once, as if it had covered its return point.
    ReturnRetiredWithoutResync,
    /// The donor's vector is adopted before its records are durable.
    AdoptVectorFirst,
    /// A page replaces the puller's record.
    OverwriteInsteadOfJoin,
    /// A record that the donor lacks is dropped although its create is above the donor's horizon.
    DropUncovered,
    /// A tombstone is collected without waiting for what members had when it was armed.
    CollectWithoutJoin,
    /// A tombstone is collected although the create that it deletes has not been seen here.
    CollectUnseen,
    /// The puller drops by the horizon that the donor had when the resync began.
    HorizonOfBeginning,
    /// The puller does not take over the donor's horizon.
    HorizonNotAdopted,
    /// What was collected here comes back with a page.
    ReviveFromPage,
    /// Whether a page has the record is asked, instead of whether it has the create.
    DropWholeRecords,
    /// The puller takes over the floor that the donor had when the resync began.
    FloorOfBeginning,
    /// A resync goes on although something else was applied in the meantime.
    ApplyDuringResync,
    /// What a donor claims to have deleted and forgotten is dropped.
    ForgetOnWord,
    /// The vector of a donor is adopted, and the records are not compared with the others'.
    CompareNothing,
    /// The comparison joins only what both vectors cover: nothing of an origin that is frozen.
    CompareCovered,
    /// An origin that has signed two histories is not frozen: its operations are refused where they do not fit.
    FreezeNothing,
    /// The proof that an origin has signed two histories is not passed on.
    KeepForks,
    /// The vector and the log of a donor are adopted although they continue another history.
    ImportAnyHistory,
}

#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    pub budget: Budget,
    /// Whether clients create one key at several nodes.
    pub concurrent_creates: bool,
    /// The node that was taken over.
    pub byzantine: Option<usize>,
    pub flaw: Option<Flaw>,
}

impl Lifecycle {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

impl Model for Lifecycle {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        worlds::worlds(self)
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.list_actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        self.take(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("one value per stamp", |_, state: &State| state.has_one_value_per_stamp()),
            Property::always("kept", |model: &Self, state: &State| model.keeps_what_it_has(state)),
            Property::always("deleted", |model: &Self, state: &State| {
                model.keeps_deleted_what_is_deleted(state)
            }),
            Property::always("whole logs", |_, state: &State| state.has_whole_logs()),
            Property::always("served", |model: &Self, state: &State| model.serves_who_lost_nothing(state)),
            Property::always("converges", |model: &Self, state: &State| model.converges(state)),
        ];
        let Budget { losses, restores, retirements, collections, .. } = self.budget;
        if losses + restores + retirements > 0 {
            properties.push(Property::sometimes("out of sync", |model: &Self, state: &State| {
                (0..NODES).any(|a| (0..NODES).any(|b| a != b && model.is_out_of_sync(state, a, b)))
            }));
            properties.push(Property::sometimes("resynced", |_, state: &State| state.resynced));
        }
        if restores > 0 {
            properties.push(Property::sometimes("restored and back", |model: &Self, state: &State| {
                model.is_restored_and_back(state)
            }));
        }
        if retirements > 0 {
            properties.push(Property::sometimes("retired and back", |_, state: &State| state.returned != 0));
        }
        if collections > 0 {
            properties.push(Property::sometimes("collected", |_, state: &State| state.collected != 0));
        }
        if self.byzantine.is_some() {
            properties
                .push(Property::sometimes("filled by a liar", |_, state: &State| state.spent.fills > 0));
            properties.push(Property::sometimes("frozen", |_, state: &State| {
                state.nodes.iter().any(|node| node.disk.frozen)
            }));
        }
        properties
    }
}
