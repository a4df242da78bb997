//! Whether the node is ready for traffic. Boot and shutdown set it, `/readyz` shows it.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use brock_core::base::metrics as names;

/// The facts that readiness depends on. Each is set once, but for `read_only` and `incomplete`.
#[derive(Default)]
pub struct Readiness {
    /// Says from which peer the node is being filled.
    filling: OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>,
    store_open: AtomicBool,
    caught_up: AtomicBool,
    draining: AtomicBool,
    failed: AtomicBool,
    read_only: AtomicBool,
    incomplete: AtomicBool,
}

impl Readiness {
    /// From now on `/readyz` tells what this says. A node that is being filled serves what it has.
    pub fn show_filling(&self, filling: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.filling.set(Box::new(filling));
    }

    /// From which peer the node is being filled; `None`: from none.
    pub fn filling(&self) -> Option<String> {
        self.filling.get()?()
    }

    /// The store is open and recovered.
    pub fn set_store_open(&self) {
        self.set(&self.store_open);
    }

    /// The first catch-up with the peers is done, or its time is over.
    pub fn set_caught_up(&self) {
        self.set(&self.caught_up);
    }

    /// The node is shutting down and takes no new traffic.
    pub fn set_draining(&self) {
        self.set(&self.draining);
    }

    /// The node cannot continue.
    pub fn set_failed(&self) {
        self.set(&self.failed);
    }

    /// Whether the disk is read-only now.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Release);
        self.show();
    }

    /// Whether this node lacks what only peers have whose records are not proven here.
    pub fn set_incomplete(&self, incomplete: bool) {
        self.incomplete.store(incomplete, Ordering::Release);
        self.show();
    }

    fn set(&self, fact: &AtomicBool) {
        fact.store(true, Ordering::Release);
        self.show();
    }

    /// Sets the gauge.
    pub fn show(&self) {
        metrics::gauge!(names::READY).set(if self.is_ready() { 1.0 } else { 0.0 });
    }

    /// Why the node is not ready; empty = ready.
    pub fn reasons(&self) -> Vec<&'static str> {
        let is = |fact: &AtomicBool| fact.load(Ordering::Acquire);
        [
            (is(&self.failed), "the node has failed and cannot continue; see its log"),
            (is(&self.read_only), "the disk is read-only; see the node's log"),
            (
                is(&self.incomplete),
                "records of the peers are not proven here, so this node lacks them; `node-admin alarms list` says more",
            ),
            (is(&self.draining), "the node is shutting down"),
            (!is(&self.store_open), "the store is not open yet"),
            (!is(&self.caught_up), "the first catch-up with the peers is not done yet"),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
        .collect()
    }

    /// Whether the first catch-up is done, or its time is over.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// Whether the node is ready.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_between_its_first_catch_up_and_its_shutdown() {
        let readiness = Readiness::default();
        assert_eq!(readiness.reasons().len(), 2);
        readiness.set_store_open();
        assert!(!readiness.is_ready());
        readiness.set_caught_up();
        assert!(readiness.is_ready());
        readiness.set_read_only(true);
        assert!(!readiness.is_ready());
        readiness.set_read_only(false);
        assert!(readiness.is_ready());
        readiness.set_incomplete(true);
        assert!(!readiness.is_ready());
        readiness.set_incomplete(false);
        assert!(readiness.is_ready());
        readiness.set_draining();
        assert_eq!(readiness.reasons(), ["the node is shutting down"]);
        readiness.set_failed();
        assert!(!readiness.is_ready());
    }
}
