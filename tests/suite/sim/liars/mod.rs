//! Two liars among five nodes that believe only what is proven.
//!
//! A liar has a real store, a genuine birth, and signs its own log in order: once. What it sends is altered on
//! the way, now and then. The honest nodes do what real nodes do: they refuse, count whose message that was, and ask
//! the others.
//!
//! - `batches`, `pages`, `states`, `answers`: what a liar makes of its messages.
//! - `pulls`: an honest node's end of a stream; `operator`: who orders destruction.
//! - `claims`: what must hold of the honest nodes.
//! - `found`: what this has found, each in its smallest form; `faces`: an origin that signs two histories.

mod answers;
mod batches;
mod claims;
mod faces;
mod found;
mod operator;
mod pages;
mod pulls;
mod states;

use std::collections::{BTreeMap, BTreeSet};

use super::{network::Message, world::World};
use crate::harness::store::origin;
use brock_core::{
    base::{
        id::Origin,
        vector::{Clock, Vector},
    },
    proto,
};
use bytes::Bytes;
use rand::{Rng, rngs::StdRng};

pub use operator::Operator;

/// How many of the nodes lie.
pub const LIARS: usize = 2;

/// What liars claim of a log that ends long before.
const CLAIMED: Clock = Clock(1000);
/// Batches that a liar remembers.
const HEARD: usize = 40;

/// How a message was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lie {
    pub what: &'static str,
    /// Whether the message itself shows it, so that an honest node must refuse it.
    pub shows: bool,
}

impl Lie {
    fn shown(what: &'static str) -> Self {
        Self { what, shows: true }
    }

    fn silent(what: &'static str) -> Self {
        Self { what, shows: false }
    }
}

/// What must have been told, and refused, in a run of some length: a lie that is never told proves nothing.
pub fn required() -> Vec<&'static str> {
    let others = [
        batches::SECOND_BIRTH,
        "lies: destruction without an order",
        "lies: a header of clocks that it has not",
        "lies: an origin that is over",
        "lies: collected tombstones",
        "lies: a record left out",
        "lies: a tombstone left out",
        "lies: an invented record",
        "lies: a page of the log left out",
        "claims refused",
        "destruction refused",
        "resyncs refused",
        "answers refused",
        "resyncs",
        "records repaired",
        "peeks",
    ];
    batches::kinds().chain(states::kinds()).chain(others).collect()
}

/// The liars of a world; none in most.
#[derive(Debug, Default)]
pub struct Liars {
    nodes: BTreeSet<usize>,
    /// How often they lie.
    chance: f64,
    /// Genuine batches, to be sent again, or as something else.
    heard: Vec<proto::Batch>,
    /// How many messages of a node another one has refused.
    refused: BTreeMap<(usize, usize), u64>,
    /// Who got a message of a liar that showed the lie.
    owed: BTreeSet<(usize, usize)>,
}

impl Liars {
    pub fn of(random: &mut StdRng, stores: usize) -> Self {
        let first = random.random_range(0..stores);
        let second = (first + random.random_range(1..stores)) % stores;
        let chance = [0.1, 0.3, 0.7][random.random_range(0..3)];
        Self { nodes: BTreeSet::from([first, second]), chance, ..Self::default() }
    }
}

/// An origin that nobody was ever.
fn stranger(random: &mut StdRng) -> Origin {
    origin("nobody", random.random_range(1..=3))
}

/// One of them, at random. The same draw whatever their number is: signatures differ in length from run to run.
fn any<'a, T>(random: &mut StdRng, items: &'a mut [T]) -> Option<&'a mut T> {
    let drawn: u32 = random.random();
    let index = (drawn as usize).checked_rem(items.len())?;
    items.get_mut(index)
}

/// Alters one bit.
fn flip(bytes: &mut Bytes, random: &mut StdRng) -> Option<()> {
    let bit = 1 << random.random_range(0..8);
    let mut altered = bytes.to_vec();
    *any(random, &mut altered)? ^= bit;
    *bytes = altered.into();
    Some(())
}

impl World {
    pub fn is_liar(&self, node: usize) -> bool {
        self.liars.nodes.contains(&node)
    }

    /// Whether there are liars. Nothing is believed without proof then.
    pub fn is_strict(&self) -> bool {
        !self.liars.nodes.is_empty()
    }

    /// The nodes of which something is claimed.
    pub fn honest(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| !self.is_liar(*node)).collect()
    }

    /// Whether a message of this node is altered.
    fn lies(&mut self, node: usize) -> bool {
        self.is_liar(node) && self.random.random_bool(self.liars.chance)
    }

    /// Liars know what was sent.
    pub fn remember_batch(&mut self, batch: &proto::Batch) {
        if !self.is_strict() || batch.entries.is_empty() {
            return;
        }
        if self.liars.heard.len() >= HEARD {
            let replaced = self.random.random_range(0..HEARD);
            self.liars.heard.swap_remove(replaced);
        }
        self.liars.heard.push(batch.clone());
    }

    /// A message of a liar's as it leaves it.
    pub fn leave(&mut self, from: usize, to: usize, message: Message) -> (Message, Option<Lie>) {
        // A batch is altered in many ways, and few are sent.
        let is_batch = matches!(message, Message::Batch(_));
        if !self.lies(from) || !(is_batch || self.random.random_bool(0.3)) {
            return (message, None);
        }
        let (message, lie) = match message {
            Message::Batch(batch) => {
                let (batch, lie) = self.altered_batch(from, to, &batch);
                (Message::Batch(Box::new(batch)), lie)
            }
            Message::Hello(speaker, mut vector, folds) => {
                let lie = self.claim_more(&mut vector, "lies: a hello of clocks that it has not");
                (Message::Hello(speaker, vector, folds), lie)
            }
            Message::Heads(speaker, mut heads) => {
                let lie = self.claim_more(&mut heads.vector, "lies: heads of clocks that it has not");
                (Message::Heads(speaker, heads), lie)
            }
            Message::Acknowledgement(speaker, mut vector) => {
                let lie = self.claim_more(&mut vector, "lies: an acknowledgement of what it has not");
                (Message::Acknowledgement(speaker, vector), lie)
            }
            message => (message, None),
        };
        if let Some(lie) = lie {
            self.note_lie(from, to, lie);
        }
        (message, lie)
    }

    pub fn note_lie(&mut self, from: usize, to: usize, lie: Lie) {
        self.tally.add(lie.what, 1);
        self.note(format!("{from} lies to {to}: {}", lie.what));
    }

    fn altered_batch(&mut self, from: usize, to: usize, batch: &proto::Batch) -> (proto::Batch, Option<Lie>) {
        let own = self.store(from).map(|store| store.origin());
        let is_born = own.is_some_and(|own| self.knows_birth(to, &own));
        if let Some(own) = own.filter(|_| is_born && self.random.random_bool(0.1)) {
            let lie = Lie::shown(batches::SECOND_BIRTH);
            return (batches::second_birth(&mut self.random, own), Some(lie));
        }
        let random = &mut self.random;
        let altered = (0..4).find_map(|_| batches::altered(random, batch, &self.liars.heard));
        altered.map_or_else(|| (batch.clone(), None), |(altered, lie)| (altered, Some(lie)))
    }

    pub fn knows_birth(&self, node: usize, origin: &Origin) -> bool {
        self.store(node).is_some_and(|store| store.born(origin).is_some())
    }

    /// Raises a clock, or invents an origin.
    fn claim_more(&mut self, vector: &mut Vector, what: &'static str) -> Option<Lie> {
        let mut known: Vec<Origin> = self.liars.heard.iter().filter_map(batches::origin_of).collect();
        let origin = match self.random.random_bool(0.2) {
            true => stranger(&mut self.random),
            false => *any(&mut self.random, &mut known)?,
        };
        vector.raise(origin, CLAIMED);
        Some(Lie::silent(what))
    }

    /// What liars may claim to have applied, where the claim is believed: more than there is, of an origin that an
    /// honest node does not write to any more, or has not been told of yet that it was set back. A node believes that
    /// of itself once, and the link to one that still believes it is lost for an hour then.
    fn claimable(&mut self) -> Option<Origin> {
        let mut known: Vec<Origin> = self.liars.heard.iter().filter_map(batches::origin_of).collect();
        if self.random.random_bool(0.3) {
            return Some(stranger(&mut self.random));
        }
        let origin = *any(&mut self.random, &mut known)?;
        let is_risky = |node: &usize| {
            let running = self.running(*node);
            running.is_some_and(|running| running.store.origin() == origin && running.first != origin)
        };
        self.honest().iter().all(|node| !is_risky(node)).then_some(origin)
    }

    /// An honest node refuses a message, and counts whose it was.
    ///
    /// Claim: an honest node refuses nothing that another honest one sends.
    pub fn refuse_claim(&mut self, node: usize, sender: usize, kind: &'static str) {
        self.note(format!("{node} refuses what {sender} sends: {kind}"));
        let is_between_honest = !self.is_liar(node) && !self.is_liar(sender);
        assert!(!is_between_honest, "{node} refuses what {sender} sends, which is honest: {kind}");
        *self.liars.refused.entry((node, sender)).or_default() += 1;
        self.tally.add("claims refused", 1);
    }

    /// Claim: an honest node believes no message that shows a lie.
    pub fn check_refused(&mut self, node: usize, sender: usize, lie: Option<Lie>, is_refused: bool) {
        let Some(lie) = lie.filter(|lie| lie.shows && !self.is_liar(node)) else { return };
        assert!(is_refused, "{node} believed {sender}: {}", lie.what);
        self.liars.owed.insert((node, sender));
    }
}
