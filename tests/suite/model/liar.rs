//! A node that was taken over, and what the others do about it. What it sends is signed, so it can invent nothing of
//! other origins. It knows everything that any node has ever logged, and says to each what it likes: that it has
//! everything, or single operations in the pages of a resync whose vector is then adopted; and it signs several
//! histories of its own log, of which it shows to each node one.

use super::{
    Flaw, Lifecycle,
    state::{Disk, Kind, Operation, Operations, Record, State, bit, covers, has},
    step::Action,
};

/// What only that node does. Numbers are nodes, keys and operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Signs an operation of its own that continues the log up to that one.
    Sign { kind: Kind, key: usize, after: Option<usize> },
    /// Sends the next operation of a log.
    Feed { puller: usize, operation: usize, payload: bool },
    /// Sends, in the page of a resync, one operation on a key and no other.
    Bring { node: usize, operation: usize, payload: bool },
    /// Ends a resync: it has everything, and of the log of its own up to `head`; and tells where that ends, or not.
    Fill { node: usize, head: Option<usize>, tells: bool },
    /// A planted flaw: a record is dropped, because it says that it has deleted and forgotten it.
    Forget { node: usize, key: usize },
}

impl Lifecycle {
    pub fn list_lies(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(liar) = self.byzantine else { return };
        let mut lies = Vec::new();
        self.list_signs(state, liar, &mut lies);
        for node in self.honest() {
            self.list_lies_to(state, node, &mut lies);
        }
        actions.extend(lies.into_iter().map(Action::Lie));
        for (node, from) in self.pairs() {
            for action in [Action::Tips { node, from }, Action::Compare { node, from }] {
                let mut next = *state;
                self.take(&mut next, action);
                if next != *state {
                    actions.push(action);
                }
            }
        }
    }

    fn list_signs(&self, state: &State, liar: usize, lies: &mut Vec<Lie>) {
        let (spent, budget) = (&state.spent, &self.budget);
        if spent.signs >= budget.signs {
            return;
        }
        let own = state.history.of_node(liar);
        let ends = state.history.iter().filter(|(number, _)| has(own, *number));
        for after in ends.map(|(number, _)| Some(number)).chain([None]) {
            let chain = after.map_or(0, |after| state.history.get(after).log(after));
            if state.history.stamp_after(own, chain).is_some() && spent.forks >= budget.forks {
                continue;
            }
            for key in state.keys_in_use() {
                for (kind, possible) in [
                    (Kind::Create, true),
                    // An operator must have asked it to.
                    (Kind::Invalidate, spent.invalidates < budget.invalidates),
                    (Kind::Delete, spent.deletes < budget.deletes),
                ] {
                    if possible {
                        lies.push(Lie::Sign { kind, key, after });
                    }
                }
            }
        }
    }

    fn list_lies_to(&self, state: &State, node: usize, lies: &mut Vec<Lie>) {
        let (spent, budget, disk) = (&state.spent, &self.budget, &state.nodes[node].disk);
        for (operation, Operation { kind, key, .. }) in state.history.iter() {
            let may_lack = kind == Kind::Create && spent.stubs < budget.stubs;
            for payload in [true].into_iter().chain(may_lack.then_some(false)) {
                let is_refused = disk.frozen && has(self.forkable(state), operation);
                if state.is_next(disk.vector, operation) && !is_refused {
                    lies.push(Lie::Feed { puller: node, operation, payload });
                }
                let page = Record::of(operation, kind, payload);
                let record = &disk.records[usize::from(key)];
                if spent.brings < budget.brings && record.join(page, &state.history) != *record {
                    lies.push(Lie::Bring { node, operation, payload });
                }
            }
        }
        if spent.fills < budget.fills && !covers(disk.vector, self.claimed(state, node)) {
            lies.push(Lie::Fill { node, head: None, tells: false });
            let own = self.forkable(state);
            let heads = state.history.iter().filter(|(number, _)| has(own, *number) && !disk.frozen);
            for (head, _) in heads {
                lies.extend([true, false].map(|tells| Lie::Fill { node, head: Some(head), tells }));
            }
        }
        if self.has(Flaw::ForgetOnWord) {
            let held = disk.records.iter().enumerate().filter(|(_, record)| !record.is_absent());
            lies.extend(held.map(|(key, _)| Lie::Forget { node, key }));
        }
    }

    /// The operations of which a node may have signed two histories.
    pub fn forkable(&self, state: &State) -> Operations {
        self.byzantine.map_or(0, |liar| state.history.of_node(liar))
    }

    /// The vector that it claims to that node.
    fn claimed(&self, state: &State, node: usize) -> Operations {
        let all = state.history.iter().fold(0, |all, (number, _)| all | bit(number));
        let frozen = if state.nodes[node].disk.frozen { self.forkable(state) } else { 0 };
        state.history.stamps(all & !frozen)
    }

    pub fn lie(&self, state: &mut State, lie: Lie) {
        match lie {
            Lie::Sign { kind, key, after } => self.sign(state, kind, key, after),
            Lie::Feed { puller, operation, payload } => {
                state.spent.stubs += u8::from(!payload);
                self.apply(state, puller, operation, payload);
            }
            Lie::Bring { node, operation, payload } => {
                state.spent.brings += 1;
                state.spent.stubs += u8::from(!payload);
                let Operation { kind, key, .. } = state.history.get(operation);
                let record = &mut state.nodes[node].disk.records[usize::from(key)];
                let page = Record::of(operation, kind, payload);
                let is_joined = !self.has(Flaw::OverwriteInsteadOfJoin);
                *record = if is_joined { record.join(page, &state.history) } else { page };
            }
            Lie::Fill { node, head, tells } => self.fill(state, node, head, tells),
            Lie::Forget { node, key } => state.nodes[node].disk.records[key] = Record::default(),
        }
    }

    fn sign(&self, state: &mut State, kind: Kind, key: usize, after: Option<usize>) {
        let Some(liar) = self.byzantine else { return };
        match kind {
            Kind::Create => {}
            Kind::Invalidate => state.spent.invalidates += 1,
            Kind::Delete => state.spent.deletes += 1,
        }
        state.spent.signs += 1;
        let (number, own) = (state.history.len(), state.history.of_node(liar));
        let chain = after.map_or(0, |after| state.history.get(after).log(after));
        let taken = state.history.stamp_after(own, chain);
        state.spent.forks += u8::from(taken.is_some());
        let origin =
            state.history.iter().find(|(first, _)| has(own, *first)).map_or(number, |(first, _)| first);
        state.history.push(Operation {
            kind,
            key: key as u8,
            node: liar as u8,
            origin: origin as u8,
            stamp: taken.unwrap_or(number) as u8,
            chain,
            knew: state.history.of(Kind::Create, key),
        });
    }

    /// Of other origins it sends no log.
    fn fill(&self, state: &mut State, node: usize, head: Option<usize>, tells: bool) {
        state.spent.fills += 1;
        state.excused |= self.honest().fold(0, |honest, node| honest | bit(node));
        let log = head.map_or(0, |head| state.history.get(head).log(head));
        self.import(state, node, log);
        let (vector, own) = (self.claimed(state, node), self.forkable(state));
        let disk = &mut state.nodes[node].disk;
        let risen = vector & !disk.vector;
        disk.log |= log & state.history.stamped(risen);
        disk.vector |= vector;
        self.close_holes(state, node);
        let reaches = state.history.stamps(log) == vector & own;
        self.note_tip(state, node, head.filter(|_| tells || reaches).map(|head| head as u8));
    }

    /// How far the log is compacted is not the donor's to say: the floor is above the last hole of the log here.
    pub fn close_holes(&self, state: &mut State, node: usize) {
        let disk = &mut state.nodes[node].disk;
        let holes = disk.vector & !disk.floor & !state.history.stamps(disk.log);
        for (number, _) in state.history.iter().filter(|(number, _)| has(holes, *number)) {
            disk.floor |= state.history.before(number) | bit(number);
        }
        disk.log &= !state.history.stamped(disk.floor);
    }

    /// The tip of the log is known if it is at its end.
    pub fn note_tip(&self, state: &mut State, node: usize, tip: Option<u8>) {
        let own = self.forkable(state);
        let disk = &mut state.nodes[node].disk;
        let ends_there = |tip: &u8| {
            let log = state.history.get((*tip).into()).log((*tip).into());
            state.history.stamps(log) == disk.vector & own
        };
        disk.tip = disk.tip.filter(ends_there).or(tip.filter(ends_there));
    }

    /// Whether the operation continues the log that is here. If not, it proves that its origin has signed two.
    pub fn continues(&self, state: &mut State, node: usize, number: usize) -> bool {
        if !has(self.forkable(state), number) {
            return true;
        }
        let Disk { frozen, tip, vector, .. } = state.nodes[node].disk;
        if frozen || has(vector, state.history.stamp(number)) {
            return false;
        }
        let here = tip.map(|tip| state.history.get(tip.into()).log(tip.into()));
        let continues = here.is_none_or(|here| here == state.history.get(number).chain);
        if !continues {
            self.freeze(state, node);
        }
        continues
    }

    /// A donor's log has to continue the one that is here. If not, both together prove that its origin has signed two.
    pub fn import(&self, state: &mut State, node: usize, log: Operations) {
        let own = self.forkable(state);
        let Disk { tip, vector, .. } = state.nodes[node].disk;
        let Some(tip) = tip.filter(|_| !self.has(Flaw::ImportAnyHistory)) else { return };
        let here = state.history.get(tip.into()).log(tip.into());
        let contradicts = |(number, operation): (usize, Operation)| {
            has(log & own, number) && state.history.before(number) == vector & own && operation.chain != here
        };
        if state.history.iter().any(contradicts) {
            self.freeze(state, node);
        }
    }

    fn freeze(&self, state: &mut State, node: usize) {
        if self.has(Flaw::FreezeNothing) {
            return;
        }
        let own = self.forkable(state);
        let disk = &mut state.nodes[node].disk;
        disk.frozen = true;
        disk.tip = None;
        for set in [&mut disk.vector, &mut disk.floor, &mut disk.log] {
            *set &= !own;
        }
        for acknowledged in &mut state.nodes[node].acknowledged {
            *acknowledged &= !own;
        }
    }

    /// Both ends of a stream begin with the proofs that they have.
    pub fn exchange_forks(&self, state: &mut State, puller: usize, donor: usize) {
        let frozen = [puller, donor].map(|node| state.nodes[node].disk.frozen);
        if frozen[0] != frozen[1] && !self.has(Flaw::KeepForks) {
            self.freeze(state, if frozen[0] { donor } else { puller });
        }
    }

    /// A node compares where the log of another one ends with its own log.
    pub fn compare_tips(&self, state: &mut State, node: usize, from: usize) {
        let (mine, theirs) = (&state.nodes[node].disk, &state.nodes[from].disk);
        let (Some(ours), Some(theirs)) = (mine.tip, theirs.tip) else { return };
        let (ours, theirs) = (usize::from(ours), usize::from(theirs));
        let get = |number: usize| state.history.get(number);
        let follows = |next: usize, last: usize| {
            get(next).clock() != get(last).clock() + 1 || get(next).chain == get(last).log(last)
        };
        let mut is_same = if get(ours).clock() == get(theirs).clock() {
            ours == theirs
        } else {
            follows(ours, theirs) && follows(theirs, ours)
        };
        // Or what follows it in the log here.
        let is_next = |(number, _): &(usize, Operation)| has(mine.log & self.forkable(state), *number);
        is_same &= state.history.iter().filter(is_next).all(|(number, _)| follows(number, theirs));
        if !is_same {
            self.freeze(state, node);
        }
    }

    /// Joins what another node has: of a record only if all that it adds is claimed as applied by both, or is of a log
    /// that stands at one clock at both.
    pub fn compare(&self, state: &mut State, node: usize, from: usize) {
        let (history, theirs) = (state.history, state.nodes[from].disk);
        let mine = &mut state.nodes[node].disk;
        let vectors = [mine.vector, theirs.vector];
        let is_settled = |number: usize| {
            let origin = history.stamps(history.of_origin(history.get(number).origin));
            has(vectors[0] & vectors[1], history.stamp(number))
                || (vectors[0] & origin == vectors[1] & origin && !self.has(Flaw::CompareCovered))
        };
        for (record, theirs) in mine.records.iter_mut().zip(&theirs.records) {
            let joined = record.join(*theirs, &history);
            let known = history.stamps(record.operations());
            let mut added = joined.operations() & !history.stamped(known);
            if added == 0 {
                added = joined.operations();
            }
            let all = history.iter().filter(|(number, _)| has(added, *number));
            let joins = all.fold(true, |all, (number, _)| all && is_settled(number));
            if joins && !self.has(Flaw::CompareNothing) {
                *record = joined;
            }
        }
    }
}
