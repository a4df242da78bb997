//! What must hold in every state.

use super::{
    Lifecycle,
    state::{Disk, KEYS, Kind, NODES, Operation, Operations, State, covers, has},
};

/// More rounds than anything that converges needs.
const ROUNDS_MAX: usize = 8;

impl State {
    /// One value per origin and clock. Logs and messages name operations, so the only way to a second
    /// value is to give a stamp away twice.
    pub fn has_one_value_per_stamp(&self) -> bool {
        !self.stamp_reused
    }

    pub fn reflects(&self, disk: &Disk, number: usize) -> bool {
        let operation = self.history.get(number);
        let key = usize::from(operation.key);
        let record = &disk.records[key];
        let absorbed = self.history.of(Kind::Delete, key) != 0;
        match operation.kind {
            Kind::Create => {
                // The payload of one that lost to another is dropped and may never arrive here.
                let lost = self.history.least(self.history.of(Kind::Create, key)) != Some(number);
                absorbed || has(record.creates, number) && (record.payload || lost)
            }
            Kind::Invalidate => absorbed || record.invalidation.is_some(),
            // What it takes away is the business of `keeps_deleted_what_is_deleted`.
            Kind::Delete => true,
        }
    }

    /// Entries are in the log from the floor to the vector, one for each clock and each in the log that the next one
    /// continues; and the horizon is within the vector.
    pub fn has_whole_logs(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Disk { log, vector, floor, horizon, .. } = node.disk;
            let stands_on = |(number, operation): (usize, Operation)| {
                let earlier = log & self.history.stamped(self.history.before(number));
                !has(log, number) || covers(operation.chain, earlier)
            };
            covers(vector, floor)
                && covers(vector, horizon)
                && self.history.stamps(log) == vector & !floor
                && log.count_ones() == (vector & !floor).count_ones()
                && self.history.iter().all(stands_on)
        })
    }

    fn disks(&self) -> [Disk; NODES] {
        self.nodes.map(|node| node.disk)
    }
}

impl Lifecycle {
    /// What a disk acknowledged or applied, its vector covers and its records show, unless the key was
    /// deleted; so nothing that was acknowledged is lost before the last disk that has it. What it covers, too, unless
    /// a node that was taken over may have claimed it.
    pub fn keeps_what_it_has(&self, state: &State) -> bool {
        state.nodes.iter().all(|node| {
            let Disk { held, vector, frozen, .. } = node.disk;
            let gone = if frozen { self.forkable(state) } else { 0 };
            let shown = if self.byzantine.is_some() { held } else { vector };
            covers(vector | gone, state.history.stamps(held))
                && state
                    .history
                    .iter()
                    .all(|(number, _)| !has(shown, number) || state.reflects(&node.disk, number))
        })
    }

    /// A key is not visible on a disk whose vector covers a delete of it (on more than the word of a node that was
    /// taken over), nor on a disk that has shown it deleted. Clients do not create a key again once it is deleted, so
    /// each create is older than the delete or concurrent with it. The one exception needs tombstone collection: a
    /// create that was known neither to the deleter, nor to the node that was the first to collect a tombstone of
    /// the key, nor to a member of that node, on its disk at that moment. No node can tell it from a new one.
    pub fn keeps_deleted_what_is_deleted(&self, state: &State) -> bool {
        state.nodes.iter().all(|node| {
            (0..KEYS).all(|key| {
                let applied = if self.byzantine.is_some() { node.disk.held } else { node.disk.vector };
                let covered = applied & state.history.of(Kind::Delete, key) != 0;
                let visible = node.disk.records[key].visible(&state.history);
                let was_unknown = |create| has(state.collected, key) && !has(state.buried, create);
                !(covered || has(node.disk.shown_deleted, key)) || visible.is_none_or(was_unknown)
            })
        })
    }

    /// Whether an old copy was restored, and all nodes have the same again.
    pub fn is_restored_and_back(&self, state: &State) -> bool {
        let mut vectors = self.honest().map(|node| state.nodes[node].disk.vector);
        let first = vectors.next();
        state.spent.restores > 0 && first != Some(0) && vectors.all(|vector| Some(vector) == first)
    }

    /// A node that lost nothing and was never retired is served from every log.
    pub fn serves_who_lost_nothing(&self, state: &State) -> bool {
        let lost_nothing = |node: &usize| !has(state.excused, *node);
        self.pairs()
            .filter(|(puller, _)| lost_nothing(puller))
            .all(|(puller, donor)| !self.is_out_of_sync(state, puller, donor))
    }

    /// Once messages flow: every node pulls, resyncs and repairs or compares from every other until nothing changes.
    /// Then all vectors are equal, all nodes show the same, and what any disk had is in effect on all. A node that was
    /// taken over says nothing meanwhile; what was held is then in effect on all others, and they hold the same.
    pub fn converges(&self, state: &State) -> bool {
        let had = self.honest().fold(0, |had: Operations, node| {
            let Disk { held, vector, .. } = state.nodes[node].disk;
            had | if self.byzantine.is_some() { held } else { vector }
        });
        [false, true].into_iter().all(|backwards| {
            let Some(healed) = self.heal(state, backwards) else { return false };
            let disks: Vec<Disk> = self.honest().map(|node| healed.nodes[node].disk).collect();
            let shown = |disk: &Disk| {
                disk.records.map(|record| {
                    let visible = record.visible(&healed.history);
                    (visible, visible.is_some() && record.invalidation.is_some())
                })
            };
            let is_in_effect = |disk: &Disk| match self.byzantine {
                Some(_) => {
                    let held = |(number, _): &(usize, Operation)| has(had, *number);
                    healed.history.iter().filter(held).all(|(number, _)| healed.reflects(disk, number))
                        && disk.records == disks[0].records
                        && (disk.vector, disk.frozen) == (disks[0].vector, disks[0].frozen)
                }
                None => disk.vector == had,
            };
            disks.iter().all(|disk| is_in_effect(disk) && shown(disk) == shown(&disks[0]))
                && self.keeps_what_it_has(&healed)
                && self.keeps_deleted_what_is_deleted(&healed)
        })
    }

    /// The state in which nothing changes any more, whichever way round; `None` if there is none.
    fn heal(&self, state: &State, backwards: bool) -> Option<State> {
        let mut state = *state;
        let mut pairs: Vec<_> = self.pairs().collect();
        if backwards {
            pairs.reverse();
        }
        for _ in 0..ROUNDS_MAX {
            let before = state.disks();
            for (puller, donor) in &pairs {
                self.exchange(&mut state, *puller, *donor);
            }
            if state.disks() == before {
                return Some(state);
            }
        }
        None
    }

    fn exchange(&self, state: &mut State, puller: usize, donor: usize) {
        self.exchange_forks(state, puller, donor);
        if self.is_out_of_sync(state, puller, donor) {
            self.resync(state, puller, donor);
        } else {
            self.greet(state, puller, donor);
            for operation in 0..state.history.len() {
                if self.can_pull(state, puller, donor, operation) {
                    self.pull(state, puller, donor, operation);
                }
            }
        }
        if self.byzantine.is_some() {
            self.compare_tips(state, puller, donor);
            self.compare(state, puller, donor);
        } else if self.can_repair(state, puller, donor) {
            self.repair(state, puller, donor);
        }
    }
}
