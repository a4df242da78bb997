//! Processes that end and begin, and disks that are lost or replaced by old copies.

use super::{node::Disk, watch::Told, world::World};
use brock_core::base::vector::Vector;
use rand::Rng;

impl World {
    pub async fn start(&mut self, node: usize) {
        if self.nodes[node].running.is_some() {
            return;
        }
        // An operator sees to the clock before a node is started.
        self.set_clock(node);
        let join: Vec<String> = (0..self.nodes.len())
            .filter(|other| *other != node)
            .map(|other| self.nodes[other].address.clone())
            .collect();
        let (grace, now) = (self.profile.grace, self.now);
        self.nodes[node].start(&join, grace, now).await;
        self.told[node].iter_mut().for_each(Told::starts);
        self.touched.insert(node);
        let origin = self.store(node).map(|store| store.origin());
        self.note(format!("{node} starts as {origin:?}"));
    }

    pub async fn start_somewhere(&mut self) {
        let node = self.any_node();
        self.start(node).await;
    }

    /// A process ends, in order or not.
    pub async fn stop(&mut self, node: usize, in_order: bool) {
        if self.nodes[node].running.is_none() {
            return;
        }
        self.hang_up(node);
        self.nodes[node].stop(in_order).await;
        self.tally.add(if in_order { "clean stops" } else { "crashes" }, 1);
        self.note(format!("{node} stops, in order: {in_order}"));
        if !self.profile.on_disk {
            self.forget_flights_of(node);
        }
        self.note_losses();
    }

    pub async fn stop_somewhere(&mut self) {
        let node = self.any_node();
        let in_order = self.random.random_bool(0.3);
        self.stop(node, in_order).await;
        if self.random.random_bool(0.6) {
            self.start(node).await;
        }
    }

    pub async fn lose_a_disk(&mut self) {
        let node = self.any_node();
        self.stop(node, false).await;
        self.nodes[node].lose_disk();
        self.note(format!("{node} loses its disk"));
        self.forget_flights_of(node);
        self.tally.add("disks lost", 1);
        self.note_losses();
        if self.random.random_bool(0.6) {
            self.start(node).await;
        }
    }

    pub async fn copy_a_disk(&mut self) {
        let node = self.any_node();
        if self.nodes[node].running.is_some() {
            self.stop(node, true).await;
            self.nodes[node].copy_disk();
            self.tally.add("disks copied", 1);
            self.start(node).await;
        }
    }

    pub async fn restore_a_disk(&mut self) {
        let node = self.any_node();
        let Some(copy) = self.nodes[node].copy.as_ref().map(|copy| copy.applied.clone()) else { return };
        // A create that all disks had lost, and that comes back after its tombstone was collected,
        // cannot be told from a new one.
        let mut left = Vector::default();
        self.nodes.iter().for_each(|node| left.join(&node.disk.applied));
        if self.profile.collects() && !left.covers(&copy) {
            return;
        }
        self.stop(node, false).await;
        self.nodes[node].restore_disk();
        self.note(format!("an old copy of {node}'s disk is put back"));
        self.forget_flights_of(node);
        self.tally.add("old copies restored", 1);
        self.note_losses();
        if self.random.random_bool(0.6) {
            self.start(node).await;
        }
    }

    /// Closes every database before the process may end.
    pub async fn end(&mut self) {
        for node in 0..self.nodes.len() {
            self.stop(node, false).await;
        }
    }

    /// Where tombstones are collected, nothing may be under way for longer than they are kept.
    fn forget_flights_of(&mut self, node: usize) {
        if self.profile.collects() {
            self.flights.retain(|flight| flight.from != Some(node));
        }
    }

    /// What no disk has any more is lost, and no node can be blamed.
    fn note_losses(&mut self) {
        let left: Vec<&Disk> = self.honest().into_iter().map(|node| &self.nodes[node].disk).collect();
        // A liar may have made a node believe that it has something.
        let is_there = |disk: &Disk, stamp| !self.is_strict() || self.history.is_in(stamp, &disk.states);
        let has = |stamp| left.iter().any(|disk| disk.applied.has(stamp) && is_there(disk, stamp));
        let missing = self.history.missing(has);
        let lost = self.history.note_losses(missing);
        self.tally.add("operations lost with a disk", lost);
    }
}
