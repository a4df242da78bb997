//! The exchanges of whole records: resync and digest repair.

use super::{
    Flaw, Lifecycle,
    state::{Disk, KEYS, Operations, Record, Resync, State, bit, covers, has},
};

impl Lifecycle {
    pub fn begin_resync(&self, state: &mut State, puller: usize, donor: usize) {
        self.exchange_forks(state, puller, donor);
        let vector = state.nodes[puller].disk.vector;
        let from = &mut state.nodes[donor];
        if !has(from.disk.retired, puller) {
            from.acknowledged[puller] = vector;
        }
        let Disk { vector, floor, horizon, tip, .. } = from.disk;
        let resync = Resync { donor: donor as u8, vector, floor, horizon, tip, pages: 0 };
        state.nodes[puller].resync = Some(resync);
        if self.has(Flaw::AdoptVectorFirst) {
            self.adopt(state, puller, resync);
        }
    }

    /// Reads a page at the donor and applies it. A page that arrives late says what the donor had
    /// earlier, at or after the beginning, and may be joined for the same reason.
    pub fn apply_page(&self, state: &mut State, puller: usize, key: usize) {
        let resync = state.nodes[puller].resync.unwrap();
        let donor = &state.nodes[usize::from(resync.donor)].disk;
        let (page, history) = (donor.records[key], state.history);
        let horizon = if self.has(Flaw::HorizonOfBeginning) { resync.horizon } else { donor.horizon };
        let disk = &mut state.nodes[puller].disk;
        let mine = disk.records[key];
        let gone = if self.has(Flaw::DropUncovered) { Operations::MAX } else { horizon } & !page.creates;
        let kept = if self.has(Flaw::DropWholeRecords) {
            let dropped = page.is_absent() && mine.winner(&history).is_some_and(|winner| has(gone, winner));
            if dropped { Record::default() } else { mine }
        } else {
            mine.without(gone, &history)
        };
        disk.records[key] = if self.has(Flaw::OverwriteInsteadOfJoin) {
            page
        } else if self.has(Flaw::ReviveFromPage) {
            kept.join(page, &history)
        } else {
            kept.join(page.without(disk.horizon & !mine.creates, &history), &history)
        };
        state.nodes[puller].resync = Some(Resync { pages: resync.pages | bit(key), ..resync });
    }

    /// What comes from elsewhere may bring back what a page took away, so a resync during which
    /// anything else is applied starts over. (In practice: the other streams wait.) Where no tombstones are collected
    /// it takes nothing away.
    pub fn interrupt(&self, state: &mut State, puller: usize) {
        if self.byzantine.is_none() && !self.has(Flaw::ApplyDuringResync) {
            state.nodes[puller].resync = None;
        }
    }

    pub fn end_resync(&self, state: &mut State, puller: usize) {
        let resync = state.nodes[puller].resync.take().unwrap();
        self.adopt(state, puller, resync);
        state.resynced = true;
    }

    fn adopt(&self, state: &mut State, puller: usize, resync: Resync) {
        let donor = state.nodes[usize::from(resync.donor)].disk;
        let mut resync = resync;
        self.import(state, puller, donor.log);
        if state.nodes[puller].disk.frozen {
            resync.vector &= !self.forkable(state);
        }
        let disk = &mut state.nodes[puller].disk;
        let risen = resync.vector & !disk.vector;
        disk.log |= donor.log & state.history.stamped(risen);
        disk.vector |= resync.vector;
        disk.held |= match self.byzantine {
            // Nothing is acknowledged on another's word.
            Some(_) => donor.held & state.history.stamped(resync.vector),
            None => resync.vector,
        };
        if !self.has(Flaw::HorizonNotAdopted) {
            disk.horizon |= donor.horizon & disk.vector;
        }
        if self.has(Flaw::FloorOfBeginning) {
            disk.floor |= resync.floor;
            disk.log &= !state.history.stamped(disk.floor);
        } else {
            self.close_holes(state, puller);
        }
        self.note_tip(state, puller, resync.tip);
    }

    /// Nodes with equal vectors hold equal records; where they do not, they join them.
    pub fn repair(&self, state: &mut State, number: usize, from: usize) {
        self.interrupt(state, number);
        let (theirs, history) = (state.nodes[from].disk.records, state.history);
        let disk = &mut state.nodes[number].disk;
        let horizon = disk.horizon;
        for (record, theirs) in disk.records.iter_mut().zip(theirs) {
            let mine = *record;
            // Gone here, not unknown: an alarm, and nothing else.
            let gone = horizon & !mine.creates;
            *record = if self.has(Flaw::DropWholeRecords) {
                let winner = theirs.winner(&history);
                let ambiguous = mine.is_absent() && winner.is_some_and(|winner| has(horizon, winner));
                if ambiguous { mine } else { mine.join(theirs, &history) }
            } else {
                mine.join(theirs.without(gone, &history), &history)
            };
        }
    }

    /// Resyncs in one go.
    pub fn resync(&self, state: &mut State, puller: usize, donor: usize) {
        self.begin_resync(state, puller, donor);
        for key in 0..KEYS {
            self.apply_page(state, puller, key);
        }
        self.end_resync(state, puller);
    }

    /// Whether a repair would have something to do.
    pub fn can_repair(&self, state: &State, number: usize, from: usize) -> bool {
        let (mine, theirs) = (&state.nodes[number].disk, &state.nodes[from].disk);
        covers(mine.vector, theirs.vector)
            && covers(theirs.vector, mine.vector)
            && mine.records != theirs.records
    }
}
