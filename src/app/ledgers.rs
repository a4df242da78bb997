//! The ledgers: creates that lost against another one, and entries that could not be applied.

use super::error::RequestError;
use crate::{
    store::{Conflict, Store},
    transfer::{orders::Orders, work},
};
use brock_core::{
    base::{id::KeyHash, limits, vector::Stamp},
    domain::{operation::check_entry, quarantined::Quarantined},
};

/// A page of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, Place> {
    /// The items, in order of their places.
    pub items: Vec<T>,
    /// Where the next page continues; `None` = this was the last.
    pub next: Option<Place>,
}

/// The ledgers of a store. Cheap to clone.
#[derive(Clone)]
pub struct Ledgers {
    store: Store,
    orders: Orders,
}

impl Ledgers {
    /// The ledgers of this store; `orders` verifies what is to be applied after all.
    pub fn new(store: Store, orders: Orders) -> Self {
        Self { store, orders }
    }

    /// Records that were created with different payloads, in order of their key hashes. `limit` is at
    /// most [`limits::LEDGER_PAGE_ITEMS`], and 0 means that.
    pub async fn conflicts(
        &self,
        after: Option<KeyHash>,
        limit: u32,
    ) -> Result<Page<Conflict, KeyHash>, RequestError> {
        let (items, more) = self.store.conflict_page(after, page_size(limit)).await?;
        let next = items.last().filter(|_| more).map(|last| last.key_hash);
        Ok(Page { items, next })
    }

    /// Notes that an operator has dealt with the conflicts of these keys. Returns how many of them have one.
    pub async fn acknowledge(&self, key_hashes: Vec<KeyHash>) -> Result<usize, RequestError> {
        match self.store.acknowledge(key_hashes).await? {
            0 => Err(RequestError::NoConflict),
            acknowledged => Ok(acknowledged),
        }
    }

    /// Quarantined entries, in order of origin and clock. `limit` as in [`Ledgers::conflicts`].
    pub async fn quarantine(
        &self,
        after: Option<Stamp>,
        limit: u32,
    ) -> Result<Page<Quarantined, Stamp>, RequestError> {
        let (entries, more) = self.store.quarantine_page(after, page_size(limit)).await?;
        let next = entries.last().filter(|_| more).map(|(stamp, _)| *stamp);
        let items = entries.into_iter().map(|(stamp, kept)| Quarantined::new(stamp, kept)).collect();
        Ok(Page { items, next })
    }

    /// One quarantined entry.
    pub async fn quarantined(&self, stamp: Stamp) -> Result<Quarantined, RequestError> {
        let kept = self.store.quarantined_entry(stamp).await?.ok_or(RequestError::NotQuarantined)?;
        Ok(Quarantined::new(stamp, kept))
    }

    /// Applies a quarantined entry, if that is possible by now. One that destroys needs the order that the log
    /// would need.
    pub async fn retry(&self, stamp: Stamp) -> Result<(), RequestError> {
        let kept = self.store.quarantined_entry(stamp).await?.and_then(|kept| kept.entry);
        if let Some(Ok((entry, _))) = kept.as_ref().map(check_entry) {
            let orders = self.orders.clone();
            work(move || orders.check_entry(&entry)).await??;
        }
        match self.store.retry_quarantined(stamp).await? {
            None => Err(RequestError::NotQuarantined),
            Some(outcome) => outcome.map_err(RequestError::StillQuarantined),
        }
    }

    /// Discards a quarantined entry.
    pub async fn discard(&self, stamp: Stamp) -> Result<(), RequestError> {
        if self.store.drop_quarantined(stamp).await? { Ok(()) } else { Err(RequestError::NotQuarantined) }
    }
}

fn page_size(limit: u32) -> usize {
    match usize::try_from(limit) {
        Ok(limit @ 1..=limits::LEDGER_PAGE_ITEMS) => limit,
        _ => limits::LEDGER_PAGE_ITEMS,
    }
}
