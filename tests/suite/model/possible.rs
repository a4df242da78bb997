//! What can happen next.

use super::{
    Flaw, Lifecycle,
    state::{Armed, Disk, KEYS, Kind, NODES, Node, Operation, Operations, State, bit, covers, has},
    step::Action,
};

impl Lifecycle {
    pub fn list_actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.list_client_actions(state, actions);
        self.list_faults(state, actions);
        for node in self.honest() {
            self.list_upkeep(state, node, actions);
            if let Some(resync) = state.nodes[node].resync {
                let pages = (0..KEYS).filter(|key| !has(resync.pages, *key));
                actions.extend(pages.map(|key| Action::Page { puller: node, key }));
                if resync.pages == bit(KEYS) - 1 {
                    actions.push(Action::EndResync { puller: node });
                }
            }
        }
        self.list_lies(state, actions);
        for (puller, donor) in self.pairs() {
            self.list_exchanges(state, puller, donor, actions);
        }
        if let Some(late) = state.late {
            let vector = state.nodes[usize::from(late.puller)].disk.vector;
            let operation = usize::from(late.operation);
            if !has(vector, state.history.stamp(operation)) && covers(vector, state.history.before(operation))
            {
                actions.push(Action::Deliver);
            }
        }
    }

    fn list_client_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (spent, budget) = (&state.spent, &self.budget);
        for node in self.honest() {
            for key in state.keys_in_use() {
                let record = &state.nodes[node].disk.records[key];
                let deleted = record.deletion.is_some();
                let never_deleted = state.history.of(Kind::Delete, key) == 0;
                let unique = self.concurrent_creates || state.history.of(Kind::Create, key) == 0;
                let create = unique && never_deleted && !deleted && record.creates == 0;
                for (kind, possible) in [
                    (Kind::Create, create && spent.creates < budget.creates),
                    // Both also ahead of a create that has not arrived.
                    (
                        Kind::Invalidate,
                        !deleted && record.invalidation.is_none() && spent.invalidates < budget.invalidates,
                    ),
                    (Kind::Delete, !deleted && spent.deletes < budget.deletes),
                ] {
                    if possible {
                        actions.push(Action::Client { node, kind, key });
                        if self.has(Flaw::AcknowledgeBeforeSync) {
                            actions.push(Action::ClientUnsynced { node, kind, key });
                        }
                    }
                }
            }
        }
    }

    fn list_faults(&self, state: &State, actions: &mut Vec<Action>) {
        let (spent, budget) = (&state.spent, &self.budget);
        for number in self.honest() {
            let node = &state.nodes[number];
            let is_empty = node.disk == Disk::default();
            let forgets = *node != Node { disk: Disk { incarnation: None, ..node.disk }, ..Node::default() };
            if spent.restarts < budget.restarts && forgets {
                actions.push(Action::Restart { node: number });
            }
            if spent.losses < budget.losses && !is_empty {
                actions.push(Action::Lose { node: number });
            }
            if spent.copies < budget.copies && !is_empty {
                actions.push(Action::Copy { node: number });
            }
            if spent.retirements < budget.retirements {
                let members = members(&node.disk, number);
                actions.extend(members.map(|member| Action::Retire { node: number, member }));
            }
        }
        if spent.restores < budget.restores && state.copy.is_some() {
            actions.push(Action::Restore);
        }
    }

    fn list_upkeep(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[number];
        let stable = self.stable(state, number);
        if state.spent.compactions < self.budget.compactions {
            let may_go = if self.has(Flaw::CompactUnstable) { node.disk.vector } else { stable };
            for (operation, Operation { stamp, .. }) in state.history.iter() {
                let is_next = covers(node.disk.floor, state.history.before(operation));
                if has(may_go, stamp.into()) && has(node.disk.log, operation) && is_next {
                    actions.push(Action::Compact { node: number, operation });
                }
            }
        }
        if state.spent.collections < self.budget.collections {
            let armed = self.armed(state, number);
            if !self.collectable(state, number, stable).is_empty() && node.armed != Some(armed) {
                actions.push(Action::Arm { node: number });
            }
            if let Some(armed) = node.armed {
                let waited = covers(node.disk.vector, armed.join) || self.has(Flaw::CollectWithoutJoin);
                if waited && !self.collectable(state, number, armed.stable).is_empty() {
                    actions.push(Action::Collect { node: number });
                }
            }
        }
    }

    fn list_exchanges(&self, state: &State, puller: usize, donor: usize, actions: &mut Vec<Action>) {
        let (from, to) = (&state.nodes[donor], &state.nodes[puller]);
        if self.is_out_of_sync(state, puller, donor) {
            let mut begun = *state;
            self.begin_resync(&mut begun, puller, donor);
            if begun != *state {
                actions.push(Action::BeginResync { puller, donor });
            }
            return;
        }
        let is_news = from.acknowledged[puller] != to.disk.vector || from.disk.frozen != to.disk.frozen;
        if is_news || has(from.disk.retired, puller) {
            actions.push(Action::Hello { puller, donor });
        }
        if self.byzantine.is_none()
            && from.disk.vector == to.disk.vector
            && from.disk.records != to.disk.records
        {
            actions.push(Action::Repair { node: puller, from: donor });
        }
        for (operation, _) in state.history.iter() {
            if self.can_pull(state, puller, donor, operation) {
                actions.push(Action::Pull { puller, donor, operation });
                if state.spent.late < self.budget.late {
                    actions.push(Action::Send { puller, donor, operation });
                }
            }
        }
    }

    /// Whether the donor cannot serve the puller from its log.
    pub fn is_out_of_sync(&self, state: &State, puller: usize, donor: usize) -> bool {
        let (from, vector) = (&state.nodes[donor].disk, state.nodes[puller].disk.vector);
        if self.has(Flaw::ReturnRetiredWithoutResync) && has(from.retired | state.returned, puller) {
            return false;
        }
        let may_return = !has(from.retired, puller) || covers(vector, from.return_points[puller]);
        // A proof that one of them has is the first that they say.
        let is_frozen = from.frozen || state.nodes[puller].disk.frozen;
        let floor = if is_frozen { from.floor & !self.forkable(state) } else { from.floor };
        !covers(vector, floor) || !may_return
    }

    pub fn can_pull(&self, state: &State, puller: usize, donor: usize, operation: usize) -> bool {
        let vector = state.nodes[puller].disk.vector;
        has(state.nodes[donor].disk.log, operation) && state.is_next(vector, operation)
    }

    /// The nodes that follow the protocol.
    pub fn honest(&self) -> impl Iterator<Item = usize> + use<> {
        let byzantine = self.byzantine;
        (0..NODES).filter(move |node| Some(*node) != byzantine)
    }

    /// Of these.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let all = self.clone();
        self.honest().flat_map(move |a| all.honest().filter(move |b| *b != a).map(move |b| (a, b)))
    }

    /// What every member of that node is known to have. Of one that was never heard it is nothing. The one that was
    /// taken over says that it has everything.
    fn stable(&self, state: &State, node: usize) -> Operations {
        let Node { disk, acknowledged, .. } = &state.nodes[node];
        let others = members(disk, node).filter(|member| Some(*member) != self.byzantine);
        others.fold(disk.vector, |stable, member| stable & acknowledged[member])
    }

    /// The first step of a collection that begins now.
    pub fn armed(&self, state: &State, node: usize) -> Armed {
        let Node { disk, acknowledged, .. } = &state.nodes[node];
        let join = members(disk, node).fold(0, |join, member| join | acknowledged[member]);
        Armed { stable: self.stable(state, node), join }
    }

    /// The keys whose tombstones may go.
    pub fn collectable(&self, state: &State, node: usize, stable: Operations) -> Vec<usize> {
        let disk = &state.nodes[node].disk;
        let is_stable = |key: &usize| disk.records[*key].deletion.is_some_and(|d| has(stable, d.into()));
        let has_seen_create = |key: &usize| disk.vector & state.history.of(Kind::Create, *key) != 0;
        let seen = |key: &usize| self.has(Flaw::CollectUnseen) || has_seen_create(key);
        (0..KEYS).filter(|key| is_stable(key) && seen(key)).collect()
    }
}

impl State {
    /// Whether an operation is the next one of its log for a node with that vector.
    pub fn is_next(&self, vector: Operations, operation: usize) -> bool {
        !has(vector, self.history.stamp(operation)) && covers(vector, self.history.before(operation))
    }

    /// Keys are alike: the first one that is used is the first one.
    pub fn keys_in_use(&self) -> impl Iterator<Item = usize> + use<> {
        let used = self.history.iter().map(|(_, operation)| usize::from(operation.key) + 1).max();
        0..KEYS.min(used.unwrap_or(0) + 1)
    }
}

fn members(disk: &Disk, node: usize) -> impl Iterator<Item = usize> + use<> {
    let retired = disk.retired;
    (0..NODES).filter(move |member| *member != node && !has(retired, *member))
}
