//! The newest heads of the origins, as far as this node has verified them, and what it lacks of them. In memory only.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::handle::{Shared, Store};
use brock_core::{
    base::{id::Origin, limits, vector::Clock},
    domain::head::Head,
};

/// Operations up to a head that are not applied here.
#[derive(Debug, Clone, Copy)]
pub struct Lacking {
    /// What the origin has signed.
    pub head: Head,
    /// How far its log is applied here.
    pub applied: Clock,
    /// Since when nothing more of it was applied.
    pub since: Instant,
}

/// All heads that are known.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// With the number under which each was kept.
    known: HashMap<Origin, (u64, Head)>,
    /// The same by these numbers, so that a stream carries each head once.
    numbered: BTreeMap<u64, Origin>,
    last: u64,
    lacking: BTreeMap<Origin, Lacking>,
    /// When this node has last signed one, by its clock, in milliseconds.
    signed_at: Option<u64>,
}

impl Heads {
    fn keep(&mut self, head: Head) {
        if let Some((number, _)) = self.known.get(&head.origin) {
            self.numbered.remove(number);
        } else if self.known.len() >= limits::HEADS_KEPT {
            // The oldest: of an incarnation that is over, or is quiet.
            let Some((_, oldest)) = self.numbered.pop_first() else { return };
            self.known.remove(&oldest);
            self.lacking.remove(&oldest);
        }
        self.last += 1;
        self.numbered.insert(self.last, head.origin);
        self.known.insert(head.origin, (self.last, head));
    }

    fn forget(&mut self, origin: &Origin) {
        if let Some((number, _)) = self.known.remove(origin) {
            self.numbered.remove(&number);
        }
        self.lacking.remove(origin);
    }
}

impl Shared {
    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The newest verified head of an origin.
    pub fn head(&self, origin: &Origin) -> Option<Head> {
        self.shared.heads().known.get(origin).map(|(_, head)| *head)
    }

    /// Signs how far this node's log goes, if it has grown since the last time, at most every
    /// [`limits::HEAD_INTERVAL`].
    pub fn sign_head(&self, now_unix_ms: u64) {
        let Some(signer) = self.shared.signer() else { return };
        let origin = signer.origin();
        let Some(tip) = self.tip(&origin) else { return };
        let mut heads = self.shared.heads();
        // A clock that was set back does not keep it from signing.
        let has_passed = |at: u64| Duration::from_millis(now_unix_ms.abs_diff(at)) >= limits::HEAD_INTERVAL;
        let is_due = heads.signed_at.is_none_or(has_passed);
        let is_news = heads.known.get(&origin).is_none_or(|(_, head)| head.clock() < tip.bundle.last());
        if is_due && is_news {
            heads.keep(signer.sign_head(tip, now_unix_ms));
            heads.signed_at = Some(now_unix_ms);
        }
    }

    /// Keeps a head, unless one is known that goes as far. IMPORTANT: verified before.
    pub fn keep_head(&self, head: Head) {
        let applied = self.clock(&head.origin);
        let mut heads = self.shared.heads();
        if heads.known.get(&head.origin).is_some_and(|(_, known)| known.clock() >= head.clock()) {
            return;
        }
        heads.keep(head);
        if applied < head.clock() {
            let fresh = Lacking { head, applied, since: Instant::now() };
            heads.lacking.entry(head.origin).or_insert(fresh).head = head;
        }
    }

    /// Compares the heads with what is applied. Returns those whose logs have grown since the last time: a log of
    /// another history may never reach its head, and may show that before.
    pub fn approached_heads(&self) -> Vec<Head> {
        let mut approached = Vec::new();
        let open: Vec<Origin> = self.shared.heads().lacking.keys().copied().collect();
        for origin in open {
            let (applied, is_frozen) = (self.clock(&origin), self.is_frozen(&origin));
            let mut heads = self.shared.heads();
            let Some(lacking) = heads.lacking.get_mut(&origin) else { continue };
            if is_frozen {
                heads.forget(&origin);
                continue;
            }
            let head = lacking.head;
            if applied > lacking.applied {
                (lacking.applied, lacking.since) = (applied, Instant::now());
                approached.push(head);
            }
            if applied >= head.clock() {
                heads.lacking.remove(&origin);
            }
        }
        approached
    }

    /// What this node lacks of the heads, as it was at the last comparison.
    pub fn lacking(&self) -> Vec<Lacking> {
        self.shared.heads().lacking.values().copied().collect()
    }

    /// The newest heads, at most so many.
    pub fn newest_heads(&self, most: usize) -> Vec<Head> {
        let heads = self.shared.heads();
        let newest = heads.numbered.values().rev().filter_map(|origin| heads.known.get(origin));
        newest.take(most).map(|(_, head)| *head).collect()
    }

    /// The heads that were kept after this number, and the number of the last of them: as many as one message has.
    pub fn heads_after(&self, number: u64) -> (Vec<Head>, u64) {
        let heads = self.shared.heads();
        let later = heads.numbered.range(number.saturating_add(1)..).take(limits::HEADS_MAX);
        let mut last = number;
        let known = later.filter_map(|(number, origin)| {
            last = *number;
            heads.known.get(origin).map(|(_, head)| *head)
        });
        (known.collect(), last)
    }
}
