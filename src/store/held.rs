//! How much of the quarantine the origins of each node take.

use std::collections::BTreeMap;

use brock_core::base::id::NodeId;

/// What some entries in quarantine take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub entries: u64,
    /// Of their values in the database.
    pub bytes: u64,
}

impl Amount {
    /// One entry of this many bytes.
    pub(super) fn one(bytes: usize) -> Self {
        Self { entries: 1, bytes: bytes as u64 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What the entries of each node's origins take. Nodes that have none are not listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held(BTreeMap<NodeId, Amount>);

impl Held {
    pub(super) fn of(&self, node_id: &NodeId) -> Amount {
        self.0.get(node_id).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> Amount {
        self.0.values().fold(Amount::default(), |sum, amount| sum.plus(*amount))
    }

    pub(super) fn set(&mut self, node_id: NodeId, amount: Amount) {
        match amount.entries {
            0 => self.0.remove(&node_id),
            _ => self.0.insert(node_id, amount),
        };
    }

    pub(super) fn add(&mut self, node_id: NodeId, amount: Amount) {
        let sum = self.of(&node_id).plus(amount);
        self.set(node_id, sum);
    }

    /// What `later` lists takes the place of what is here.
    pub(super) fn replace(&mut self, later: &BTreeMap<NodeId, Amount>) {
        for (node_id, amount) in later {
            self.set(node_id.clone(), *amount);
        }
    }
}
