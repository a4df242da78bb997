//! After the faults: every node is up, hears all others and has the right time, until nothing changes
//! any more.

use super::{network::Message, world::World};

/// More than enough for the few nodes of a world.
const ROUNDS: usize = 30;

impl World {
    /// Ends the faults, and waits until nothing changes.
    ///
    /// Claim: that takes a bounded number of rounds, and what was under way changes nothing then, but
    /// for what it saves of a lost disk.
    pub async fn heal(&mut self) {
        let late = self.mend_the_network();
        for node in 0..self.nodes.len() {
            self.start(node).await;
            self.set_clock(node);
            if let Some(running) = self.running_mut(node) {
                running.resync = None;
            }
        }
        self.look_at_what_changed().await;
        if !self.is_strict() {
            self.offer_the_whole_ghost().await;
        }
        self.settle().await;
        let before = self.progress();
        for flight in late {
            if matches!(flight.message, Message::Batch(_)) {
                self.deliver(flight).await;
            }
        }
        self.look_at_what_changed().await;
        self.mend_the_network();
        if self.progress() != before {
            let excused = self.has_lost_something() || self.is_strict();
            assert!(excused, "what was under way changed something after all");
            self.settle().await;
        }
        for _ in 0..ROUNDS {
            let retracted = self.tally.get("claims retracted");
            self.repair_everybody().await;
            if self.tally.get("claims retracted") == retracted {
                return;
            }
            // A repair has brought births. What was claimed of their logs comes now.
            self.settle().await;
        }
        panic!("claims are retracted again and again");
    }

    /// For a moment everything that is up works: what happens before and after is the more different.
    pub async fn be_calm(&mut self) {
        let late = self.mend_the_network();
        for puller in 0..self.nodes.len() {
            self.break_off(puller);
        }
        self.note("everything works".to_owned());
        self.go_round().await;
        self.flights = late;
    }

    async fn go_round(&mut self) {
        for puller in 0..self.nodes.len() {
            for donor in 0..self.nodes.len() {
                if puller != donor {
                    self.catch_up(puller, donor).await;
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.mark(node).await;
            self.compact(node).await;
        }
        self.look_at_what_changed().await;
    }

    async fn offer_the_whole_ghost(&mut self) {
        let after = self.running(0).map_or(0, |running| running.store.clock(&self.ghost_origin).0);
        let batch = self.ghost_batch(after, u64::MAX);
        self.deliver(super::network::Flight {
            from: None,
            to: 0,
            message: Message::Batch(Box::new(batch)),
            lie: None,
        })
        .await;
        self.mend_the_network();
    }

    /// Rounds of pulling and compacting.
    async fn settle(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS, "the nodes never settle");
            let before = self.progress();
            self.go_round().await;
            if self.progress() == before {
                self.note(format!("settled after {round} rounds"));
                return;
            }
        }
    }

    /// What every node has: compared to see whether anything changes.
    fn progress(&self) -> Vec<String> {
        let describe = |node: usize| {
            self.store(node).map(|store| {
                let summary = store.summary();
                let (roots, frozen) = (summary.digest.roots(), store.forks().len());
                format!("{:?} {:?} {roots:?} {:?} {frozen}", summary.vector, summary.folds, summary.totals)
            })
        };
        self.honest().into_iter().filter_map(describe).collect()
    }

    /// What a snapshot or a repair brought ahead of an operation that was lost afterwards is spread
    /// by comparing records.
    ///
    /// Claim: where no disk was lost and no tombstone is collected, nothing is left to repair.
    async fn repair_everybody(&mut self) {
        let mut repairs = 0;
        for _ in 0..ROUNDS {
            let (mut repaired, mut confirmed) = (false, false);
            for node in self.honest() {
                for other in 0..self.nodes.len() {
                    if node != other {
                        let changed = self.repair(node, other, false).await;
                        (repaired, confirmed) = (repaired | changed.0, confirmed | changed.1);
                    }
                }
            }
            self.look_at_what_changed().await;
            if !repaired && !confirmed {
                break;
            }
            repairs += usize::from(repaired);
        }
        let excused = self.has_lost_something() || self.profile.collects() || self.is_strict();
        assert!(repairs == 0 || excused, "equal nodes held other records");
        assert!(repairs < ROUNDS, "repairing never ends");
    }

    fn has_lost_something(&self) -> bool {
        self.tally.get("operations lost with a disk") > 0
    }

    /// Time passes and every node compacts.
    ///
    /// Claim: once every node has everything, nothing is left in any log, and the lives that are over
    /// are not listed any more.
    pub async fn drain(&mut self) {
        for _ in 0..4 {
            self.pass_time(200);
            self.settle().await;
        }
        for node in 0..self.nodes.len() {
            let Some(store) = self.store(node) else { continue };
            let (entries, lost) =
                (store.totals().log_entries, self.history.operations_above(&store.applied()));
            assert!(entries <= lost, "{node} keeps {entries} log entries that everybody has");
            let current: Vec<_> = (0..self.nodes.len())
                .filter_map(|other| self.store(other).map(|store| store.origin()))
                .chain([self.ghost_origin])
                .collect();
            let over = store.vector().iter().find(|(origin, _)| !current.contains(origin));
            assert!(over.is_none(), "{node} still lists {over:?}");
        }
    }
}
