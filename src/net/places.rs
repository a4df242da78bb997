//! Places for connections whose other end has not said who it is: a bounded number, shared fairly.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A bounded number of places. When all are taken, the next connection is served all the same, and the oldest one
/// of the source that has most is closed instead: connections that say nothing must not keep others waiting.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// In the order of their arrival.
    places: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

impl Taken {
    /// The oldest connection of the source that has most of them.
    fn pop(&mut self) -> Option<CancellationToken> {
        let counts = count(self.places.values().map(|(source, _)| *source));
        let most = counts.values().copied().max()?;
        let number = self.places.iter().find(|(_, (source, _))| counts.get(source) == Some(&most))?.0;
        let number = *number;
        self.places.remove(&number).map(|(_, evicted)| evicted)
    }
}

impl Places {
    /// `max` places, all of them free.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(max)), taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place. If there is none, another connection has to give up its place; returns once it has.
    pub async fn take(self: &Arc<Self>, source: IpAddr) -> Place {
        let free = || Arc::clone(&self.free);
        let permit = match free().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let evicted = self.lock().pop();
                evicted.inspect(CancellationToken::cancel);
                // It is never closed.
                free().acquire_owned().await.ok()
            }
        };
        let evicted = CancellationToken::new();
        let mut taken = self.lock();
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, (network(source), evicted.clone()));
        drop(taken);
        Place { number, places: Arc::clone(self), evicted, _permit: permit }
    }
}

/// How often each of them occurs.
pub(crate) fn count<T: Eq + Hash>(all: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts
}

/// One host may have all addresses of an IPv6 network.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        canonical => canonical,
    }
}

/// A connection's place; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    number: u64,
    places: Arc<Places>,
    evicted: CancellationToken,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Resolves when the connection has to give up its place: it must be closed then.
    pub fn evicted(&self) -> WaitForCancellationFuture<'_> {
        self.evicted.cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_of_the_source_that_has_most_gives_way() {
        let places = Places::new(4);
        let source = |text: &str| text.parse::<IpAddr>().unwrap();
        let quiet = places.take(source("10.0.0.1")).await;
        let flood = [
            places.take(source("2001:db8::1")).await,
            places.take(source("2001:db8::2")).await,
            places.take(source("2001:db8::3")).await,
        ];
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(source("10.0.0.2")).await }
        });
        flood[0].evicted().await;
        assert!(!quiet.evicted.is_cancelled() && !flood[1].evicted.is_cancelled());
        assert!(!next.is_finished(), "there is no place before the other has gone");
        drop(flood);
        let next = next.await.unwrap();
        drop((quiet, next));
        assert_eq!((places.free.available_permits(), places.lock().places.len()), (4, 0));
    }
}
