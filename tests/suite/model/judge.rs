//! What must hold in every state.

use super::{
    Lifecycle,
    state::{Disk, KEYS, Kind, NODES, Operations, State, covers, has},
};

/// More rounds than anything that converges needs.
const ROUNDS_MAX: usize = 8;

impl State {
    /// One value per origin and clock. Logs and messages name operations, so the only way to a second
    /// value is to give a stamp away twice.
    pub fn has_one_value_per_stamp(&self) -> bool {
        !self.stamp_reused
    }

    /// What a disk acknowledged or applied, its vector covers and its records show, unless the key was
    /// deleted; so nothing that was acknowledged is lost before the last disk that has it.
    pub fn keeps_what_it_has(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Disk { held, vector, .. } = node.disk;
            covers(vector, held)
                && self
                    .history
                    .iter()
                    .all(|(number, _)| !has(vector, number) || self.reflects(&node.disk, number))
        })
    }

    fn reflects(&self, disk: &Disk, number: usize) -> bool {
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
            Kind::Invalidate => absorbed || record.invalidated,
            // What it takes away is the business of `keeps_deleted_what_is_deleted`.
            Kind::Delete => true,
        }
    }

    /// A key is not visible on a disk whose vector covers a delete of it, nor on a disk that has shown
    /// it deleted. Clients do not create a key again once it is deleted, so each create is older than
    /// the delete or concurrent with it. The one exception needs tombstone collection: a create that
    /// was known neither to the deleter, nor to the node that was the first to collect a tombstone of
    /// the key, nor to a member of that node, on its disk at that moment. No node can tell it from a new one.
    pub fn keeps_deleted_what_is_deleted(&self) -> bool {
        self.nodes.iter().all(|node| {
            (0..KEYS).all(|key| {
                let covered = node.disk.vector & self.history.of(Kind::Delete, key) != 0;
                let visible = node.disk.records[key].visible(&self.history);
                let was_unknown = |create| has(self.collected, key) && !has(self.buried, create);
                !(covered || has(node.disk.shown_deleted, key)) || visible.is_none_or(was_unknown)
            })
        })
    }

    /// Entries are in the log from the floor to the vector, and the horizon is within the vector.
    pub fn has_whole_logs(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Disk { log, vector, floor, horizon, .. } = node.disk;
            covers(vector, floor) && covers(vector, horizon) && log == vector & !floor
        })
    }

    /// Whether an old copy was restored, and all nodes have the same again.
    pub fn is_restored_and_back(&self) -> bool {
        let vector = self.nodes[0].disk.vector;
        self.spent.restores > 0 && vector != 0 && self.nodes.iter().all(|node| node.disk.vector == vector)
    }

    fn disks(&self) -> [Disk; NODES] {
        self.nodes.map(|node| node.disk)
    }
}

impl Lifecycle {
    /// A node that lost nothing and was never retired is served from every log.
    pub fn serves_who_lost_nothing(&self, state: &State) -> bool {
        let lost_nothing = |node: &usize| !has(state.excused, *node);
        (0..NODES).filter(lost_nothing).all(|puller| {
            (0..NODES).all(|donor| donor == puller || !self.is_out_of_sync(state, puller, donor))
        })
    }

    /// Once messages flow: every node pulls, resyncs and repairs from every other until nothing changes.
    /// Then all vectors are equal, all nodes show the same, and what any disk had is in effect on all.
    pub fn converges(&self, state: &State) -> bool {
        let had = state.nodes.iter().fold(0, |had: Operations, node| had | node.disk.vector);
        [false, true].into_iter().all(|backwards| {
            let Some(healed) = self.heal(state, backwards) else { return false };
            let shown = |node: usize| {
                healed.nodes[node].disk.records.map(|record| {
                    let visible = record.visible(&healed.history);
                    (visible, visible.is_some() && record.invalidated)
                })
            };
            (0..NODES).all(|node| healed.nodes[node].disk.vector == had && shown(node) == shown(0))
                && healed.keeps_what_it_has()
                && healed.keeps_deleted_what_is_deleted()
        })
    }

    /// The state in which nothing changes any more, whichever way round; `None` if there is none.
    fn heal(&self, state: &State, backwards: bool) -> Option<State> {
        let mut state = *state;
        let in_turn = |step: usize| if backwards { NODES - 1 - step } else { step };
        for _ in 0..ROUNDS_MAX {
            let before = state.disks();
            for puller in (0..NODES).map(in_turn) {
                for donor in (0..NODES).map(in_turn).filter(|donor| *donor != puller) {
                    self.exchange(&mut state, puller, donor);
                }
            }
            if state.disks() == before {
                return Some(state);
            }
        }
        None
    }

    fn exchange(&self, state: &mut State, puller: usize, donor: usize) {
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
        if self.can_repair(state, puller, donor) {
            self.repair(state, puller, donor);
        }
    }
}
