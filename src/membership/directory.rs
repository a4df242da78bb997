//! Who the peers are now: the addresses in `node.join`, and what DNS lists under the names in it.
//!
//! Everything that dials, asks or waits for peers looks here, at the moment when it does. An address
//! that turns out to be this node itself, or a second address of a peer that is up, is set aside: it
//! is looked at again now and then, and otherwise does not exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{members::Members, peer::Peer, peers::Peers};
use brock_core::{base::limits, domain::record::UnixSeconds};
use brock_net::{address::Address, dial::Dialler};

/// What DNS lists now, compared with what was known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Peers that are new.
    pub added: usize,
    /// Peers that are not dialled any more.
    pub dropped: usize,
    /// Listed, but there are [`limits::PEERS_MAX`] peers already.
    pub ignored: usize,
}

/// All peers of a node. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    dialler: Dialler,
    peers: Peers,
    members: Members,
    table: Mutex<Table>,
    /// Who is to be dialled, those that are set aside included.
    dialled: watch::Sender<Arc<Vec<Address>>>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<String, Entry>,
    /// Names in `node.join` that DNS has not answered for yet: who they stand for is not known.
    unresolved: BTreeSet<String>,
}

struct Entry {
    address: Address,
    peer: Peer,
    /// It stands in `node.join` as it is, and stays.
    is_fixed: bool,
    /// The names under which DNS lists it, and how many answers in a row have not.
    listed: BTreeMap<String, u32>,
    is_aside: bool,
}

impl Directory {
    /// The addresses of `node.join`, and the names in it that DNS is still to be asked for. Those are
    /// waited for as one peer each: nothing must be taken for stable while it is not known who the
    /// members are.
    pub fn new(
        fixed: &[Address],
        names: impl IntoIterator<Item = String>,
        dialler: Dialler,
        (peers, members): (Peers, Members),
        now: UnixSeconds,
    ) -> Self {
        let dialled = watch::Sender::new(Arc::default());
        let directory = Self(Arc::new(Inner { dialler, peers, members, table: Mutex::default(), dialled }));
        let mut table = directory.lock();
        for address in fixed {
            directory.enter(&mut table, address, None, now);
        }
        for name in names {
            directory.0.peers.add(&name, now);
            directory.0.members.expect(&name);
            table.unresolved.insert(name);
        }
        directory.publish(&table);
        drop(table);
        directory
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers that can be asked now.
    pub fn peers(&self) -> Vec<Peer> {
        let table = self.lock();
        table.entries.values().filter(|entry| !entry.is_aside).map(|entry| entry.peer.clone()).collect()
    }

    /// Names that DNS has not answered for yet: there may be peers that nobody can ask.
    pub fn unresolved(&self) -> Vec<String> {
        self.lock().unresolved.iter().cloned().collect()
    }

    /// Everybody who is to be dialled, and whenever that changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<Address>>> {
        self.0.dialled.subscribe()
    }

    /// How they are dialled.
    pub fn dialler(&self) -> &Dialler {
        &self.0.dialler
    }

    /// DNS lists these under a name. New ones become peers. One that is not listed any more stays for
    /// a few answers, and as long as it is up: its operations are worth having. It stays a member
    /// until an operator retires it.
    pub fn found(&self, name: &str, addresses: &[Address], now: UnixSeconds) -> Change {
        let mut table = self.lock();
        let mut change = Change::default();
        let listed: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
        for (text, entry) in &mut table.entries {
            let Some(misses) = entry.listed.get_mut(name) else { continue };
            *misses = if listed.contains(text) { 0 } else { misses.saturating_add(1) };
            if *misses >= limits::DISCOVERY_MISSES && !self.0.peers.is_up(text) {
                entry.listed.remove(name);
            }
        }
        let gone = |entry: &Entry| !entry.is_fixed && entry.listed.is_empty();
        let dropped: Vec<String> =
            table.entries.iter().filter(|(_, entry)| gone(entry)).map(|(text, _)| text.clone()).collect();
        for text in dropped {
            table.entries.remove(&text);
            self.0.peers.remove(&text);
            self.0.members.withdraw(&text);
            change.dropped += 1;
        }
        for address in addresses {
            let text = address.to_string();
            if let Some(entry) = table.entries.get_mut(&text) {
                entry.listed.insert(name.to_owned(), 0);
                continue;
            }
            let active = table.entries.values().filter(|entry| !entry.is_aside).count();
            if active >= limits::PEERS_MAX || table.entries.len() >= limits::DISCOVERED_MAX {
                change.ignored += 1;
                continue;
            }
            self.enter(&mut table, address, Some(name), now);
            change.added += 1;
        }
        // IMPORTANT: after those that it stood for are there, or for a moment nobody would be waited for.
        if table.unresolved.remove(name) {
            self.0.peers.remove(name);
            self.0.members.withdraw(name);
        }
        if change.added + change.dropped > 0 {
            self.publish(&table);
        }
        change
    }

    /// DNS did not answer: what was known stays.
    pub fn not_found(&self, name: &str, error: &str, now: UnixSeconds) {
        // Only there while it has never answered.
        self.0.peers.failed(name, error, now);
    }

    /// Whether DNS lists it; otherwise an operator does.
    pub fn is_discovered(&self, address: &str) -> bool {
        self.lock().entries.get(address).is_some_and(|entry| !entry.is_fixed)
    }

    /// The address is this node itself, or a peer that is up elsewhere: nobody is waited for there.
    /// Returns whether that is news.
    pub fn set_aside(&self, address: &str) -> bool {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(address) else { return false };
        let is_news = !std::mem::replace(&mut entry.is_aside, true);
        self.0.peers.remove(address);
        self.0.members.withdraw(address);
        is_news
    }

    /// The address is a peer after all. Returns whether that is news.
    pub fn restore(&self, address: &str, now: UnixSeconds) -> bool {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(address) else { return false };
        if !std::mem::replace(&mut entry.is_aside, false) {
            return false;
        }
        self.0.peers.add(address, now);
        self.0.members.expect(address);
        true
    }

    fn enter(&self, table: &mut Table, address: &Address, name: Option<&str>, now: UnixSeconds) {
        let text = address.to_string();
        self.0.peers.add(&text, now);
        if name.is_some() {
            // Those that an operator lists are members already, perhaps remembered ones.
            self.0.members.expect(&text);
        }
        let entry = Entry {
            address: address.clone(),
            peer: Peer::new(address, &self.0.dialler),
            is_fixed: name.is_none(),
            listed: name.map(|name| (name.to_owned(), 0)).into_iter().collect(),
            is_aside: false,
        };
        table.entries.insert(text, entry);
    }

    fn publish(&self, table: &Table) {
        self.0
            .dialled
            .send_replace(Arc::new(table.entries.values().map(|entry| entry.address.clone()).collect()));
    }
}
