//! What can happen, and what it changes.

use super::{
    Flaw, Lifecycle,
    liar::Lie,
    state::{Disk, KEYS, Kind, Late, Node, Operation, Record, State, bit, covers, has},
};

/// A step. Numbers are nodes, keys and operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Client {
        node: usize,
        kind: Kind,
        key: usize,
    },
    /// A planted flaw: acknowledged, then lost with the process before it was synced.
    ClientUnsynced {
        node: usize,
        kind: Kind,
        key: usize,
    },
    Hello {
        puller: usize,
        donor: usize,
    },
    Pull {
        puller: usize,
        donor: usize,
        operation: usize,
    },
    Send {
        puller: usize,
        donor: usize,
        operation: usize,
    },
    Deliver,
    Restart {
        node: usize,
    },
    Lose {
        node: usize,
    },
    Copy {
        node: usize,
    },
    Restore,
    Compact {
        node: usize,
        operation: usize,
    },
    Retire {
        node: usize,
        member: usize,
    },
    Arm {
        node: usize,
    },
    Collect {
        node: usize,
    },
    BeginResync {
        puller: usize,
        donor: usize,
    },
    Page {
        puller: usize,
        key: usize,
    },
    EndResync {
        puller: usize,
    },
    Repair {
        node: usize,
        from: usize,
    },
    Lie(Lie),
    Tips {
        node: usize,
        from: usize,
    },
    Compare {
        node: usize,
        from: usize,
    },
}

impl State {
    fn settle(&mut self) {
        for node in &mut self.nodes {
            for key in 0..KEYS {
                if node.disk.records[key].deletion.is_some() {
                    node.disk.shown_deleted |= bit(key);
                }
            }
        }
    }

    /// Starts a node's process with that disk. What it and its pullers knew of each other is gone, and
    /// so is what was in its sockets.
    fn start(&mut self, node: usize, disk: Disk) {
        self.nodes[node] = Node { disk, ..Node::default() };
        for other in &mut self.nodes {
            other.resync = other.resync.filter(|resync| usize::from(resync.donor) != node);
        }
        self.late = self.late.filter(|late| usize::from(late.puller) != node);
    }
}

impl Lifecycle {
    /// Takes a step that was listed.
    pub fn take(&self, state: &mut State, action: Action) {
        match action {
            Action::Client { node, kind, key } => self.accept(state, node, kind, key, true),
            Action::ClientUnsynced { node, kind, key } => self.accept(state, node, kind, key, false),
            Action::Hello { puller, donor } => self.greet(state, puller, donor),
            Action::Pull { puller, donor, operation } => self.pull(state, puller, donor, operation),
            Action::Send { puller, donor, operation } => {
                self.greet(state, puller, donor);
                let payload = ships_payload(state, donor, operation);
                state.late = Some(Late { puller: puller as u8, operation: operation as u8, payload });
                state.spent.late += 1;
            }
            Action::Deliver => {
                let late = state.late.unwrap();
                self.apply(state, late.puller.into(), late.operation.into(), late.payload);
            }
            Action::Restart { node } => {
                state.spent.restarts += 1;
                let disk = state.nodes[node].disk;
                state.start(node, Disk { incarnation: None, ..disk });
            }
            Action::Lose { node } => {
                state.spent.losses += 1;
                state.excused |= bit(node);
                state.start(node, Disk::default());
            }
            Action::Copy { node } => {
                state.spent.copies += 1;
                state.copy = Some((node as u8, state.nodes[node].disk));
            }
            Action::Restore => {
                state.spent.restores += 1;
                let (node, mut disk) = state.copy.unwrap();
                state.excused |= bit(node.into());
                if !self.has(Flaw::KeepIncarnationOnRestore) {
                    disk.incarnation = None;
                }
                state.start(node.into(), disk);
            }
            Action::Compact { node, operation } => {
                state.spent.compactions += 1;
                let disk = &mut state.nodes[node].disk;
                disk.floor |= bit(state.history.stamp(operation));
                disk.log &= !state.history.stamped(disk.floor);
            }
            Action::Retire { node, member } => {
                state.spent.retirements += 1;
                state.excused |= bit(member);
                let retiring = &mut state.nodes[node];
                retiring.disk.retired |= bit(member);
                retiring.disk.return_points[member] = retiring.disk.vector;
                retiring.acknowledged[member] = 0;
            }
            Action::Arm { node } => {
                state.nodes[node].armed = Some(self.armed(state, node));
            }
            Action::Collect { node } => self.collect(state, node),
            Action::BeginResync { puller, donor } => self.begin_resync(state, puller, donor),
            Action::Page { puller, key } => self.apply_page(state, puller, key),
            Action::EndResync { puller } => self.end_resync(state, puller),
            Action::Repair { node, from } => self.repair(state, node, from),
            Action::Lie(lie) => self.lie(state, lie),
            Action::Tips { node, from } => self.compare_tips(state, node, from),
            Action::Compare { node, from } => self.compare(state, node, from),
        }
        state.settle();
    }

    fn accept(&self, state: &mut State, node: usize, kind: Kind, key: usize, synced: bool) {
        match kind {
            Kind::Create => state.spent.creates += 1,
            Kind::Invalidate => state.spent.invalidates += 1,
            Kind::Delete => state.spent.deletes += 1,
        }
        let disk = &mut state.nodes[node].disk;
        let number = state.history.len();
        let origin = disk.incarnation.unwrap_or(number as u8);
        // The next clock is one that this origin already gave away.
        state.stamp_reused |= !covers(disk.vector, state.history.of_origin(origin));
        let knew = if kind == Kind::Delete { disk.vector & state.history.of(Kind::Create, key) } else { 0 };
        let (key_number, node, stamp) = (key as u8, node as u8, number as u8);
        let chain = state.history.of_origin(origin);
        state.history.push(Operation { kind, key: key_number, node, origin, stamp, chain, knew });
        disk.held |= bit(number);
        if synced {
            disk.incarnation = Some(origin);
            disk.log |= bit(number);
            disk.vector |= bit(number);
            disk.records[key] = disk.records[key].join(Record::of(number, kind, true), &state.history);
        }
    }

    /// The donor hears the puller's vector: a hello, or an acknowledgement. One that arrives late says
    /// what a hello at the time when it was sent would have said, so none are kept in flight.
    pub fn greet(&self, state: &mut State, puller: usize, donor: usize) {
        self.exchange_forks(state, puller, donor);
        let vector = state.nodes[puller].disk.vector;
        let node = &mut state.nodes[donor];
        if has(node.disk.retired, puller) {
            node.disk.retired &= !bit(puller);
            node.disk.return_points[puller] = 0;
            state.returned |= bit(puller);
        }
        node.acknowledged[puller] = vector;
    }

    /// A hello and a batch of one entry. A longer batch is several of these with nothing in between, a
    /// repeated one is skipped, a lost one is a pull that does not happen.
    pub fn pull(&self, state: &mut State, puller: usize, donor: usize, operation: usize) {
        self.greet(state, puller, donor);
        let payload = ships_payload(state, donor, operation);
        self.apply(state, puller, operation, payload);
    }

    pub fn apply(&self, state: &mut State, puller: usize, number: usize, payload: bool) {
        if !self.continues(state, puller, number) {
            return;
        }
        self.interrupt(state, puller);
        let Operation { kind, key, node, stamp, .. } = state.history.get(number);
        let is_proven = self.byzantine == Some(node.into());
        let disk = &mut state.nodes[puller].disk;
        let record = &mut disk.records[usize::from(key)];
        *record = record.join(Record::of(number, kind, payload), &state.history);
        if !self.has(Flaw::SkipVectorUpdate) {
            disk.log |= bit(number);
            disk.vector |= bit(stamp.into());
            disk.tip = if is_proven { Some(number as u8) } else { disk.tip };
            if payload || kind != Kind::Create || self.byzantine.is_none() {
                disk.held |= bit(number);
            }
        }
    }
}

fn ships_payload(state: &State, donor: usize, number: usize) -> bool {
    let key = usize::from(state.history.get(number).key);
    state.nodes[donor].disk.records[key].visible(&state.history) == Some(number)
}

impl Lifecycle {
    fn collect(&self, state: &mut State, number: usize) {
        let armed = state.nodes[number].armed.take().unwrap();
        state.spent.collections += 1;
        let known = state.known_to(number);
        for key in self.collectable(state, number, armed.stable) {
            let creates = state.history.of(Kind::Create, key);
            let deletes = state.history.of(Kind::Delete, key) & state.nodes[number].disk.vector;
            let knew =
                state.history.iter().filter(|(d, _)| has(deletes, *d)).fold(0, |knew, (_, d)| knew | d.knew);
            if !has(state.collected, key) {
                state.buried |= creates & (known | knew);
                state.collected |= bit(key);
            }
            state.nodes[number].disk.records[key] = Record::default();
        }
        let disk = &mut state.nodes[number].disk;
        disk.horizon |= disk.vector;
    }
}
