//! Two liars among five nodes that believe only what is proven.
//!
//! A liar has a real store and a genuine birth, and signs the log of that store in order. What it sends is altered on
//! the way, now and then. In half of the worlds one of them has another incarnation beside, whose key signs two
//! histories. The honest nodes do what real nodes do: they refuse, count whose message that was, freeze what has two
//! histories, and ask the others.
//!
//! - `batches`, `heads`, `pages`, `states`, `answers`: what a liar makes of its messages; `two_faced`: the histories.
//! - `pulls`: an honest node's end of a stream; `operator`: who orders destruction.
//! - `claims`: what must hold of the honest nodes.
//! - `found`: what this has found, each in its smallest form; `faces`: an origin that signs two histories.

mod answers;
mod batches;
mod claims;
mod faces;
mod found;
mod heads;
mod operator;
mod pages;
mod pulls;
mod states;
mod two_faced;

use std::collections::{BTreeMap, BTreeSet};

use self::{heads::Signed, two_faced::TwoFaced};
use super::{history::History, network::Message, profile::Profile, world::World};
use crate::harness::store::origin;
use brock_core::{
    base::{
        id::Origin,
        vector::{Clock, Vector},
    },
    domain::{codec, head::Head},
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
        "lies: an invented record with forged bundles",
        "lies: a bundle altered",
        "lies: a bundle left out",
        "lies: a page of the log left out",
        "claims refused",
        "destruction refused",
        "resyncs refused",
        "answers refused",
        "resyncs",
        "records repaired",
        "peeks",
        two_faced::TWO_HISTORIES,
        "lies: a hash altered",
        "origins frozen",
        "heads shown",
        "fills confirmed",
    ];
    batches::kinds().chain(states::kinds()).chain(heads::KINDS).chain(others).collect()
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
    two_faced: Option<TwoFaced>,
    /// The number of the record that they leave out most.
    hidden: u64,
    /// All heads that were signed.
    signed: Signed,
}

impl Liars {
    pub fn of(random: &mut StdRng, profile: &Profile, now: u64) -> Self {
        let stores = profile.stores;
        let first = random.random_range(0..stores);
        let second = (first + random.random_range(1..stores)) % stores;
        let chance = [0.1, 0.3, 0.7][random.random_range(0..3)];
        let is_two_faced = random.random_bool(0.5);
        let two_faced = is_two_faced.then(|| TwoFaced::of(random, profile, [first, second], now));
        let mut signed = Signed::default();
        two_faced.iter().flat_map(TwoFaced::heads).for_each(|head| signed.note(&head.to_proto()));
        let (nodes, hidden) = (BTreeSet::from([first, second]), random.random_range(0..profile.keys));
        Self { nodes, chance, two_faced, hidden, signed, ..Self::default() }
    }

    pub fn describe(&self) -> String {
        let two_faced = self.two_faced.as_ref().map(|two_faced| two_faced.describe());
        format!("{:?} lie with a chance of {}; two-faced: {two_faced:?}", self.nodes, self.chance)
    }

    /// Notes what the two-faced liar has signed.
    pub fn note_two_faced(&self, history: &mut History) {
        let Some(two_faced) = &self.two_faced else { return };
        history.note_two_faced(two_faced.origin);
        two_faced.batches().for_each(|batch| history.note_batch(batch));
    }

    /// A node has found out that another one lies.
    pub fn name(&mut self, node: usize, liar: usize) {
        *self.refused.entry((node, liar)).or_default() += 1;
    }

    pub fn has_signed(&self, head: &Head) -> bool {
        self.signed.has(head)
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
        // A batch is altered in many ways, and so are heads; of batches few are sent.
        let often = match message {
            Message::Batch(_) => 1.0,
            Message::Heads(..) => 0.5,
            _ => 0.3,
        };
        if !self.lies(from) || !self.random.random_bool(often) {
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
            Message::Heads(speaker, mut heads, is_all) => {
                let lie = match self.random.random_bool(0.2) {
                    true => self.claim_more_in(&mut heads, "lies: heads of clocks that it has not"),
                    false => self.altered_heads(to, &mut heads),
                };
                (Message::Heads(speaker, heads, is_all), lie)
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
            self.history.note_two_faced(own);
            return (batches::second_birth(&mut self.random, own), Some(lie));
        }
        let random = &mut self.random;
        let altered = (0..4).find_map(|_| batches::altered(random, batch, &self.liars.heard));
        altered.map_or_else(|| (batch.clone(), None), |(altered, lie)| (altered, Some(lie)))
    }

    pub fn knows_birth(&self, node: usize, origin: &Origin) -> bool {
        self.store(node).is_some_and(|store| store.born(origin).is_some())
    }

    fn claim_more_in(&mut self, heads: &mut proto::Heads, what: &'static str) -> Option<Lie> {
        let mut vector = codec::vector_from_proto(&heads.vector.take().unwrap_or_default()).ok()?;
        let lie = self.claim_more(&mut vector, what);
        heads.vector = Some(codec::vector_to_proto(&vector));
        lie
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
    /// of itself once, and the link to one that still believes it is lost for an hour then. A node that is filled
    /// believes it of no origin whose birth it knows.
    fn claimable(&mut self, filled: usize) -> Option<Origin> {
        let mut known: Vec<Origin> = self.liars.heard.iter().filter_map(batches::origin_of).collect();
        if self.random.random_bool(0.3) {
            return Some(stranger(&mut self.random));
        }
        let origin = *any(&mut self.random, &mut known)?;
        let is_risky = |node: &usize| {
            let running = self.running(*node);
            running.is_some_and(|running| running.store.origin() == origin && running.first != origin)
        };
        let is_born = self.running(filled).is_some_and(|running| running.store.born(&origin).is_some());
        (is_born || self.honest().iter().all(|node| !is_risky(node))).then_some(origin)
    }

    /// An honest node refuses a message, and counts whose it was.
    ///
    /// Claim: an honest node refuses nothing that another honest one sends.
    pub fn refuse_claim(&mut self, node: usize, sender: usize, kind: &'static str) {
        self.note(format!("{node} refuses what {sender} sends: {kind}"));
        let is_between_honest = !self.is_liar(node) && !self.is_liar(sender);
        assert!(!is_between_honest, "{node} refuses what {sender} sends, which is honest: {kind}");
        self.liars.name(node, sender);
        self.tally.add("claims refused", 1);
    }

    /// Claim: an honest node believes no message that shows a lie.
    pub fn check_refused(&mut self, node: usize, sender: usize, lie: Option<Lie>, is_refused: bool) {
        let Some(lie) = lie.filter(|lie| lie.shows && !self.is_liar(node)) else { return };
        assert!(is_refused, "{node} believed {sender}: {}", lie.what);
        self.liars.owed.insert((node, sender));
    }
}
