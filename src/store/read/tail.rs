//! The log in the order in which it became visible here, for operators who watch it.
//!
//! Each origin's log is in order by itself; between origins the time of applying decides. Entries that
//! become visible together come in one page, so a clock that is set back cannot break the order of an
//! origin.

use std::collections::BTreeMap;

use crate::store::{
    error::StoreError,
    handle::{Shared, Store},
    view::Logged,
};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::{Clock, Stamp, Vector},
    },
    domain::{
        codec::{LogKey, QUARANTINED_STATE},
        operation::Operation,
    },
};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tailed {
    /// Its place.
    pub stamp: Stamp,
    /// What it changes.
    pub key_hash: KeyHash,
    /// When it was applied here, in milliseconds; 0 = unknown.
    pub applied_unix_ms: u64,
    /// What it does; `None` = unknown, because it is quarantined.
    pub operation: Option<Operation>,
    /// Whether it is quarantined.
    pub is_quarantined: bool,
    /// The bytes of its key and value.
    pub log_bytes: u64,
}

impl Tailed {
    fn of(entry: &Logged) -> Self {
        let LogKey { stamp, key_hash, state } = entry.key;
        Self {
            stamp,
            key_hash,
            applied_unix_ms: entry.applied_unix_ms,
            operation: Operation::decode(&entry.operation).ok(),
            is_quarantined: state == QUARANTINED_STATE,
            log_bytes: entry.bytes(),
        }
    }

    /// Decides the order between origins.
    fn place(&self) -> (u64, Origin) {
        (self.applied_unix_ms, self.stamp.origin)
    }
}

impl Store {
    /// The newest entries of the log, at most `last`, oldest first, and the vector to continue from
    /// with [`Store::tail_above`].
    pub async fn tail(&self, last: usize) -> Result<(Vec<Tailed>, Vector), StoreError> {
        self.blocking(move |shared| {
            let (vector, floors) = {
                let published = shared.published();
                (published.vector.clone(), published.floors.clone())
            };
            if last == 0 {
                return Ok((Vec::new(), vector));
            }
            // Enough of each origin that most need no second look.
            let window = (2 * last / vector.len().max(1)).clamp(4, limits::TAIL_PAGE) as u64;
            let backwards = |(origin, clock)| Backwards::new(origin, clock, floors.get(&origin), window);
            let mut origins: Vec<Backwards> = vector.iter().map(backwards).collect();
            let mut heads = BTreeMap::new();
            for (index, origin) in origins.iter_mut().enumerate() {
                if let Some(entry) = origin.next(shared)? {
                    heads.insert(entry.place(), (index, entry));
                }
            }
            let mut newest = Vec::new();
            while newest.len() < last
                && let Some((_, (index, entry))) = heads.pop_last()
            {
                newest.push(entry);
                if let Some(entry) = origins[index].next(shared)? {
                    heads.insert(entry.place(), (index, entry));
                }
            }
            newest.reverse();
            Ok((newest, vector))
        })
        .await
    }

    /// What the log has above `after`: up to about `limit` entries in order, and the vector to
    /// continue from. [`StoreError::BelowFloor`] if some of it is not in the log any more.
    pub async fn tail_above(&self, after: Vector, limit: usize) -> Result<(Vec<Tailed>, Vector), StoreError> {
        self.blocking(move |shared| above(shared, after, limit)).await
    }
}

/// One origin's log from its newest entry back to its floor.
struct Backwards {
    origin: Origin,
    /// Entries above were looked at.
    through: Clock,
    floor: Clock,
    window: u64,
    looks: usize,
    /// Read and not yet returned, newest last.
    read: Vec<Tailed>,
}

impl Backwards {
    fn new(origin: Origin, through: Clock, floor: Clock, window: u64) -> Self {
        Self { origin, through, floor, window, looks: 0, read: Vec::new() }
    }

    fn next(&mut self, shared: &Shared) -> Result<Option<Tailed>, StoreError> {
        // What was dropped from quarantine leaves gaps.
        while self.read.is_empty() && self.through > self.floor && self.looks < limits::TAIL_LOOKS {
            let after = self.floor.max(Clock(self.through.0.saturating_sub(self.window)));
            for entry in shared.database.view().log(self.origin, after, self.through) {
                self.read.push(Tailed::of(&entry?));
            }
            self.through = after;
            self.looks += 1;
        }
        Ok(self.read.pop())
    }
}

/// The entries read of one origin, oldest last.
struct Forwards {
    read: Vec<Tailed>,
    through: Clock,
    /// Nothing more lies up to `through`.
    is_whole: bool,
}

fn above(shared: &Shared, after: Vector, limit: usize) -> Result<(Vec<Tailed>, Vector), StoreError> {
    let rising = shared.published().vector.above(&after);
    let share = (limit / rising.len().max(1)).max(16);
    let mut origins = BTreeMap::new();
    for (origin, through) in rising.iter() {
        let view = shared.database.view();
        let entries = view.log(origin, after.get(&origin), through).take(share);
        let mut read: Vec<Tailed> =
            entries.map(|entry| Ok(Tailed::of(&entry?))).collect::<Result<_, StoreError>>()?;
        // IMPORTANT: looked at after the scan; the floor rises before entries go.
        let floor = shared.floor(&origin);
        if floor > after.get(&origin) {
            return Err(StoreError::BelowFloor { origin, floor });
        }
        read.reverse();
        let is_whole = read.len() < share;
        origins.insert(origin, Forwards { read, through, is_whole });
    }
    let mut covered = after;
    let mut page = Vec::new();
    while page.len() < limit {
        let next = origins.iter().filter_map(|(origin, read)| read.read.last().map(|e| (e.place(), *origin)));
        let Some((_, origin)) = next.min() else { break };
        let Some(read) = origins.get_mut(&origin) else { break };
        let Some(entry) = read.read.pop() else { break };
        covered.raise(origin, entry.stamp.clock);
        page.push(entry);
        // The next entry of this origin may be older than those that the others still have.
        if read.read.is_empty() && !read.is_whole {
            return Ok((page, covered));
        }
    }
    for (origin, read) in &origins {
        if read.read.is_empty() && read.is_whole {
            covered.raise(*origin, read.through);
        }
    }
    Ok((page, covered))
}
