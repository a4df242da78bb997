//! What a state of the model consists of: disks, what nodes know for the moment, and history.
//!
//! Every set of operations is a bit mask, and so is every vector. An operation's number grows with
//! its clock within its origin, so "applied through clock n of every origin" is a set that has, with
//! an operation, all earlier ones of its origin; the join of two vectors is their union, the least
//! of several their intersection, and "covers" is inclusion.

/// A set of operations, or a vector. Of operations under one stamp, which only a node that was taken over signs, a
/// vector has the first.
pub type Operations = u8;

pub const NODES: usize = 3;
pub const KEYS: usize = 2;
/// A bit mask holds no more.
pub const OPERATIONS_MAX: usize = 8;

pub fn bit(number: usize) -> u8 {
    1 << number
}

pub fn has(set: u8, number: usize) -> bool {
    set & bit(number) != 0
}

pub fn covers(vector: Operations, other: Operations) -> bool {
    other & !vector == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Create,
    Invalidate,
    Delete,
}

/// An operation that was accepted and, unless a flaw is planted, is durable where it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    pub kind: Kind,
    pub key: u8,
    pub node: u8,
    /// The number of the first operation of its incarnation: names the origin.
    pub origin: u8,
    /// The first operation with its stamp: another one only if its node has signed two histories.
    pub stamp: u8,
    /// The log that it continues.
    pub chain: Operations,
    /// For a delete: which creates of the key its node knew.
    pub knew: Operations,
}

impl Operation {
    /// The log up to it.
    pub fn log(&self, number: usize) -> Operations {
        self.chain | bit(number)
    }

    /// Its clock.
    pub fn clock(&self) -> u32 {
        self.chain.count_ones() + 1
    }
}

/// All operations that were ever accepted, in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct History {
    entries: [Option<Operation>; OPERATIONS_MAX],
}

impl State {
    /// What a node has, and its members.
    pub fn known_to(&self, number: usize) -> Operations {
        let retired = self.nodes[number].disk.retired;
        let asked = (0..NODES).filter(|other| !has(retired, *other));
        asked.fold(0, |known, node| known | self.nodes[node].disk.known())
    }
}

impl History {
    pub fn len(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    pub fn push(&mut self, operation: Operation) -> usize {
        let number = self.len();
        self.entries[number] = Some(operation);
        number
    }

    pub fn get(&self, number: usize) -> Operation {
        self.entries[number].unwrap()
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, Operation)> + '_ {
        self.entries.iter().flatten().copied().enumerate()
    }

    /// The operations of that kind on that key.
    pub fn of(&self, kind: Kind, key: usize) -> Operations {
        self.select(|operation| operation.kind == kind && usize::from(operation.key) == key)
    }

    pub fn of_origin(&self, origin: u8) -> Operations {
        self.select(|operation| operation.origin == origin)
    }

    pub fn of_node(&self, node: usize) -> Operations {
        self.select(|operation| usize::from(operation.node) == node)
    }

    /// What has to be applied before it: the earlier clocks of its origin.
    pub fn before(&self, number: usize) -> Operations {
        self.stamps(self.get(number).chain)
    }

    pub fn stamp(&self, number: usize) -> usize {
        self.get(number).stamp.into()
    }

    /// The stamp of the operation that follows a log, among those of its origin, if there is one.
    pub fn stamp_after(&self, origin: Operations, log: Operations) -> Option<usize> {
        let clock = log.count_ones() + 1;
        let (_, next) = self.iter().find(|(number, next)| has(origin, *number) && next.clock() == clock)?;
        Some(next.stamp.into())
    }

    /// The stamps of these operations.
    pub fn stamps(&self, operations: Operations) -> Operations {
        self.iter()
            .filter(|(number, _)| has(operations, *number))
            .fold(0, |stamps, (_, operation)| stamps | bit(operation.stamp.into()))
    }

    /// The operations with these stamps.
    pub fn stamped(&self, stamps: Operations) -> Operations {
        self.select(|operation| has(stamps, operation.stamp.into()))
    }

    fn select(&self, wanted: impl Fn(&Operation) -> bool) -> Operations {
        self.iter().filter(|(_, operation)| wanted(operation)).fold(0, |set, (number, _)| set | bit(number))
    }

    /// The total order of creates and of deletes: by node first, so that clocks may be skewed either
    /// way.
    pub fn least(&self, set: Operations) -> Option<usize> {
        (0..OPERATIONS_MAX)
            .filter(|number| has(set, *number))
            .min_by_key(|number| (self.get(*number).node, *number))
    }
}

/// The record state of one key. The default is "nothing is known".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Record {
    /// The creates that are known: the least wins, the others are remembered.
    pub creates: Operations,
    /// Whether the payload of the winner is here.
    pub payload: bool,
    /// The least invalidation.
    pub invalidation: Option<u8>,
    /// The least delete. It absorbs everything else.
    pub deletion: Option<u8>,
}

impl Record {
    /// What one operation says by itself.
    pub fn of(number: usize, kind: Kind, payload: bool) -> Self {
        match kind {
            Kind::Create => Self { creates: bit(number), payload, ..Self::default() },
            Kind::Invalidate => Self { invalidation: Some(number as u8), ..Self::default() },
            Kind::Delete => Self { deletion: Some(number as u8), ..Self::default() },
        }
    }

    pub fn is_absent(&self) -> bool {
        *self == Self::default()
    }

    pub fn winner(&self, history: &History) -> Option<usize> {
        history.least(self.creates)
    }

    /// The create that a reader sees.
    pub fn visible(&self, history: &History) -> Option<usize> {
        self.winner(history).filter(|_| self.payload)
    }

    /// The only merge.
    pub fn join(self, other: Self, history: &History) -> Self {
        let least = |one: [Option<u8>; 2]| {
            let set = one.into_iter().flatten().fold(0, |set, number| set | bit(number.into()));
            history.least(set).map(|number| number as u8)
        };
        if let deletion @ Some(_) = least([self.deletion, other.deletion]) {
            return Self { deletion, ..Self::default() };
        }
        let creates = self.creates | other.creates;
        let winner = history.least(creates);
        let supplies = |side: &Self| side.payload && side.winner(history) == winner;
        Self {
            creates,
            payload: supplies(&self) || supplies(&other),
            invalidation: least([self.invalidation, other.invalidation]),
            deletion: None,
        }
    }

    /// The operations that it consists of.
    pub fn operations(&self) -> Operations {
        [self.invalidation, self.deletion]
            .into_iter()
            .flatten()
            .fold(self.creates, |set, number| set | bit(number.into()))
    }

    /// The same without these creates; without any left, nothing remains.
    pub fn without(self, creates: Operations, history: &History) -> Self {
        let left = self.creates & !creates;
        if left == self.creates {
            return self;
        }
        if left == 0 && self.deletion.is_none() {
            return Self::default();
        }
        Self { creates: left, payload: self.payload && history.least(left) == self.winner(history), ..self }
    }
}

/// What survives a crash. Each change of it is one synced batch: a crash loses it whole, unserved and
/// unacknowledged, which is the same as its never having begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    pub records: [Record; KEYS],
    pub log: Operations,
    pub vector: Operations,
    /// At or below it, entries are gone from the log.
    pub floor: Operations,
    /// At or below it, creates that have no record here are deleted, their tombstones collected.
    pub horizon: Operations,
    /// Minted with the first operation after a start: no node knows one without operations.
    pub incarnation: Option<u8>,
    /// Nodes.
    pub retired: u8,
    /// Whether the origin that has signed two histories is known to have: it is in no vector and no log.
    pub frozen: bool,
    /// The last operation in the log of the node that was taken over, if it is known: then the whole log is.
    pub tip: Option<u8>,
    /// Per retired node, the vector that it has to cover to come back by itself.
    pub return_points: [Operations; NODES],
    /// History of this disk: the keys that it has shown deleted.
    pub shown_deleted: u8,
    /// History of this disk: the operations that it has acknowledged to clients or applied.
    pub held: Operations,
}

impl Disk {
    fn known(&self) -> Operations {
        self.records.iter().fold(self.vector, |known, record| known | record.creates)
    }
}

/// A resync under way at the puller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resync {
    pub donor: u8,
    /// The donor's vector, floor and horizon when it began.
    pub vector: Operations,
    pub floor: Operations,
    pub horizon: Operations,
    pub tip: Option<u8>,
    /// The keys whose pages are applied.
    pub pages: u8,
}

/// The first step of tombstone collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Armed {
    pub stable: Operations,
    /// What members had by then.
    pub join: Operations,
}

/// A node: its disk, and what it forgets when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Node {
    pub disk: Disk,
    pub acknowledged: [Operations; NODES],
    pub armed: Option<Armed>,
    pub resync: Option<Resync>,
}

/// An entry on its way, after everything that its donor did since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Late {
    pub puller: u8,
    pub operation: u8,
    pub payload: bool,
}

/// How often each of these may happen; and, in a state, how often it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    pub creates: u8,
    pub invalidates: u8,
    pub deletes: u8,
    pub restarts: u8,
    pub losses: u8,
    pub copies: u8,
    pub restores: u8,
    pub retirements: u8,
    pub late: u8,
    pub compactions: u8,
    pub collections: u8,
    /// By the node that was taken over: operations of its own, and those of them under a stamp that has one already;
    /// single operations that it brings in the page of a resync, ...
    pub signs: u8,
    pub forks: u8,
    pub brings: u8,
    /// ... creates that it passes on without their payloads, and ends of a resync.
    pub stubs: u8,
    pub fills: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub nodes: [Node; NODES],
    pub history: History,
    /// An old copy of that node's disk.
    pub copy: Option<(u8, Disk)>,
    pub late: Option<Late>,
    pub spent: Budget,
    /// Whether a stamp was given to a second operation.
    pub stamp_reused: bool,
    /// Keys a tombstone of which was collected somewhere.
    pub collected: u8,
    /// Creates that may not be seen again where their key's delete has arrived.
    pub buried: Operations,
    /// Nodes that lost data or were retired somewhere: they may be out of sync.
    pub excused: u8,
    /// Nodes that were retired somewhere and became members there again.
    pub returned: u8,
    pub resynced: bool,
}
