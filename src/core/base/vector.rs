//! Clocks, stamps and version vectors.

use std::{collections::BTreeMap, fmt};

use super::id::{NodeId, Origin};

/// A per-origin counter of operations. The first operation is 1; 0 means none. No gaps.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Clock(pub u64);

impl Clock {
    /// The clock of the operation after this one.
    pub fn next(self) -> Self {
        // 2^64 operations at a billion a second take 584 years: only a peer that lies reaches the end.
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A position in one origin's log, which identifies an operation (a *dot* in the literature).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The origin that made the operation.
    pub origin: Origin,
    /// Its number at that origin.
    pub clock: Clock,
}

/// A version vector: origin to the highest clock applied. An origin that is not listed stands at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vector(BTreeMap<Origin, Clock>);

impl Vector {
    /// The highest clock applied of `origin`.
    pub fn get(&self, origin: &Origin) -> Clock {
        self.0.get(origin).copied().unwrap_or_default()
    }

    /// Raises `origin` to `clock`; never lowers it. Returns whether it rose.
    pub fn raise(&mut self, origin: Origin, clock: Clock) -> bool {
        if clock <= self.get(&origin) {
            return false;
        }
        self.0.insert(origin, clock);
        true
    }

    /// Raises every origin to its clock in `other`.
    pub fn join(&mut self, other: &Self) {
        for (origin, clock) in other.iter() {
            self.raise(origin, clock);
        }
    }

    /// Removes `origin`.
    pub fn remove(&mut self, origin: &Origin) {
        self.0.remove(origin);
    }

    /// Whether `origin` is listed.
    pub fn lists(&self, origin: &Origin) -> bool {
        self.0.contains_key(origin)
    }

    /// Whether every operation that `other` has applied is applied here.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(origin, clock)| self.get(&origin) >= clock)
    }

    /// Whether this operation is applied.
    pub fn has(&self, stamp: Stamp) -> bool {
        self.get(&stamp.origin) >= stamp.clock
    }

    /// The lower clock of the two for every origin.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        self.iter().map(|(origin, clock)| (origin, clock.min(other.get(&origin)))).collect()
    }

    /// Origins with their clocks, in byte order of the origins.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Clock)> + '_ {
        self.0.iter().map(|(origin, clock)| (*origin, *clock))
    }

    /// The origins that stand higher here than in `other`.
    pub fn above(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(origin, clock)| **clock > other.get(origin))
                .map(|(o, c)| (*o, *c))
                .collect(),
        )
    }

    /// How many operations `self` has applied that `other` has not.
    pub fn entries_above(&self, other: &Self) -> u64 {
        self.iter()
            .fold(0, |sum, (origin, clock)| sum.saturating_add(clock.0.saturating_sub(other.get(&origin).0)))
    }

    /// How many incarnations of a node are listed.
    pub fn incarnations(&self, node_id: &NodeId) -> usize {
        self.0.range(Origin::all_of(node_id)).count()
    }

    /// How many origins are listed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no origin is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Origin, Clock)> for Vector {
    fn from_iter<I: IntoIterator<Item = (Origin, Clock)>>(clocks: I) -> Self {
        let mut vector = Self::default();
        for (origin, clock) in clocks {
            vector.raise(origin, clock);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Incarnation;

    #[test]
    fn a_vector_only_rises_and_counts_what_another_lacks() {
        let origin = |id: &str| Origin::new(&id.parse().unwrap(), Incarnation(1));
        let mut vector: Vector = [(origin("a"), Clock(3)), (origin("b"), Clock(2))].into_iter().collect();
        assert!(!vector.raise(origin("a"), Clock(3)));
        assert!(!vector.raise(origin("a"), Clock(1)));
        assert_eq!(vector.get(&origin("a")), Clock(3));
        assert_eq!(vector.get(&origin("c")), Clock(0));
        let other: Vector = [(origin("a"), Clock(1)), (origin("c"), Clock(9))].into_iter().collect();
        assert_eq!(vector.entries_above(&other), 4);
        assert_eq!(vector.above(&other).iter().count(), 2);
        vector.join(&other);
        assert_eq!(vector.get(&origin("c")), Clock(9));
        assert_eq!(vector.entries_above(&vector.clone()), 0);
        assert!(vector.covers(&other) && !other.covers(&vector));
        assert!(vector.has(Stamp { origin: origin("a"), clock: Clock(3) }));
        assert!(!vector.has(Stamp { origin: origin("a"), clock: Clock(4) }));
        assert_eq!(vector.meet(&other), other);
        let incarnations = ["a", "aa", "c"].map(|id| vector.incarnations(&id.parse().unwrap()));
        assert_eq!(incarnations, [1, 0, 1]);
        vector.remove(&origin("c"));
        assert!(!vector.lists(&origin("c")) && vector.lists(&origin("a")));
    }
}
