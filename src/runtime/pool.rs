//! A bounded number of places, of which every identity has a share.
//!
//! One identity never has more than its share: what it begins beyond that replaces its own oldest, so a node that
//! connects again is never refused because of streams that it has left behind. A full pool takes a place from the
//! identity that has most, if that has two more than the one that asks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Who asks for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// What the certificate proves: the places are shared among these.
    pub identity: String,
    /// Under which name it asks: its own old places give way first.
    pub name: String,
    /// Whether several names may share the identity: a certificate that states no node id.
    pub has_names: bool,
}

impl Applicant {
    /// A caller whose certificate states who it is.
    pub fn certified(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), name: String::new(), has_names: false }
    }
}

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub max: usize,
    /// For one identity, or for one name of an identity that has several.
    pub share: usize,
}

/// The places. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    bounds: Bounds,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// In the order of their arrival.
    places: BTreeMap<u64, (Applicant, CancellationToken)>,
}

impl Held {
    fn count(&self, is: impl Fn(&Applicant) -> bool) -> usize {
        self.places.values().filter(|(applicant, _)| is(applicant)).count()
    }

    fn evict_oldest(&mut self, is: impl Fn(&Applicant) -> bool) {
        let oldest = self.places.iter().find(|(_, (applicant, _))| is(applicant)).map(|(number, _)| *number);
        if let Some((_, evicted)) = oldest.and_then(|number| self.places.remove(&number)) {
            evicted.cancel();
        }
    }
}

impl Pool {
    /// All places are free.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, held: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; `evicted` is cancelled when it has to be given up. `None`: others have them all.
    ///
    /// Contract: an identity takes at most its share, and no place of an identity that has fewer than it would.
    pub fn take(&self, applicant: &Applicant, evicted: CancellationToken) -> Option<Taken> {
        let Bounds { max, share } = self.bounds;
        let same = |other: &Applicant| other.identity == applicant.identity;
        let namesake = |other: &Applicant| same(other) && other.name == applicant.name;
        let mut held = self.lock();
        if held.count(namesake) >= share {
            held.evict_oldest(namesake);
        } else if applicant.has_names && held.count(same) >= (max / 4).max(share) {
            held.evict_oldest(same);
        } else if held.places.len() >= max {
            let mut counts: HashMap<String, usize> = HashMap::new();
            for (other, _) in held.places.values() {
                *counts.entry(other.identity.clone()).or_default() += 1;
            }
            let has = counts.get(&applicant.identity).copied().unwrap_or_default();
            let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
            if count < has + 2 {
                return None;
            }
            held.evict_oldest(|other| other.identity == most);
        }
        Some(self.place(&mut held, applicant, evicted))
    }

    fn place(&self, held: &mut Held, applicant: &Applicant, evicted: CancellationToken) -> Taken {
        let number = held.next;
        held.next += 1;
        held.places.insert(number, (applicant.clone(), evicted));
        Taken { pool: self.clone(), number }
    }

    /// Takes a place that cannot be given up before the work is done. `None`: the identity has its share, or others
    /// have all the places.
    pub fn try_take(&self, applicant: &Applicant) -> Option<Taken> {
        // Checked and taken under one lock: a call in between would evict work that does not look at its token.
        let mut held = self.lock();
        let is_free = held.places.len() < self.bounds.max
            && held.count(|other| other.identity == applicant.identity) < self.bounds.share;
        is_free.then(|| self.place(&mut held, applicant, CancellationToken::new()))
    }
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub struct Taken {
    pool: Pool,
    number: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pool.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &Pool, identity: &str) -> Option<(Taken, CancellationToken)> {
        let evicted = CancellationToken::new();
        Some((pool.take(&Applicant::certified(identity), evicted.clone())?, evicted))
    }

    fn evicted(of: &[(Taken, CancellationToken)]) -> Vec<bool> {
        of.iter().map(|(_, evicted)| evicted.is_cancelled()).collect()
    }

    #[test]
    fn what_an_identity_begins_beyond_its_share_replaces_its_own_oldest() {
        let pool = Pool::new(Bounds { max: 8, share: 2 });
        let quiet = take(&pool, "quiet").unwrap();
        let many: Vec<_> = (0..5).map(|_| take(&pool, "many").unwrap()).collect();
        assert_eq!(evicted(&many), [true, true, true, false, false]);
        assert!(!quiet.1.is_cancelled());
        drop(many);
        assert_eq!(pool.lock().places.len(), 1, "a place that was given up already is not freed twice");
    }

    #[test]
    fn a_full_pool_takes_from_the_identity_that_has_most_and_never_below_what_the_other_gets() {
        let pool = Pool::new(Bounds { max: 4, share: 3 });
        let many: Vec<_> = (0..3).map(|_| take(&pool, "many").unwrap()).collect();
        let one = take(&pool, "one").unwrap();
        let late = take(&pool, "late").unwrap();
        assert_eq!(evicted(&many), [true, false, false]);
        let last = take(&pool, "last").unwrap();
        assert_eq!(evicted(&many), [true, true, false]);
        assert!(take(&pool, "fifth").is_none(), "everyone has one");
        assert!(!one.1.is_cancelled() && !late.1.is_cancelled() && !last.1.is_cancelled());
    }

    #[test]
    fn names_under_one_certificate_share_a_quarter_and_replace_their_own_first() {
        let pool = Pool::new(Bounds { max: 16, share: 2 });
        let named = |name: &str| {
            let applicant = Applicant { name: name.to_owned(), has_names: true, ..Applicant::certified("c") };
            let evicted = CancellationToken::new();
            (pool.take(&applicant, evicted.clone()).unwrap(), evicted)
        };
        let all = [named("a"), named("b"), named("b"), named("b"), named("c"), named("d")];
        assert_eq!(evicted(&all), [true, true, false, false, false, false]);
        assert_eq!(pool.lock().places.len(), 4);
    }

    #[test]
    fn work_that_cannot_stop_is_refused_beyond_the_share() {
        let pool = Pool::new(Bounds { max: 3, share: 2 });
        let one = Applicant::certified("one");
        let held = [pool.try_take(&one), pool.try_take(&one)].map(Option::unwrap);
        assert!(pool.try_take(&one).is_none());
        let other = pool.try_take(&Applicant::certified("other")).unwrap();
        assert!(pool.try_take(&Applicant::certified("third")).is_none());
        drop(held);
        assert!(pool.try_take(&one).is_some());
        drop(other);
    }
}
