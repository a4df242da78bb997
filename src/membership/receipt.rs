//! Receipts: which members hold an operation.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::members::Members;
use brock_core::{
    base::{metrics as names, vector::Stamp},
    domain::record::UnixSeconds,
};

/// How many other members must hold an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// This many.
    Nodes(usize),
    /// Every current one.
    All,
}

/// The members that hold an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Their names, and how long it took until this node knew.
    pub holders: Vec<(String, Duration)>,
    /// The names of those that had not acknowledged it at the deadline.
    pub missing: Vec<String>,
}

impl Members {
    /// Waits until enough members hold an operation, or until the deadline.
    pub async fn receipt(
        &self,
        stamp: Stamp,
        acks: Acks,
        began: Instant,
        deadline: Instant,
        now: UnixSeconds,
    ) -> Receipt {
        let mut changed = self.changes();
        let mut waited_for = self.names(now);
        let mut holders: Vec<(String, Duration)> = Vec::new();
        loop {
            changed.mark_unchanged();
            for name in self.holders(&mut waited_for, stamp) {
                if holders.iter().all(|(holder, _)| *holder != name) {
                    holders.push((name, began.elapsed()));
                }
            }
            let needed = match acks {
                Acks::Nodes(nodes) => nodes,
                Acks::All => waited_for.len(),
            };
            let complete = holders.len() >= needed;
            if complete || timeout_at(deadline, changed.changed()).await.is_err() {
                let outcome = if complete { "complete" } else { "timed_out" };
                metrics::counter!(names::RECEIPTS, "outcome" => outcome).increment(1);
                let lacks = |name: &String| holders.iter().all(|(holder, _)| holder != name);
                let missing = match complete {
                    true => Vec::new(),
                    false => waited_for.into_iter().filter(lacks).collect(),
                };
                return Receipt { holders, missing };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::base::{
        id::{Incarnation, NodeId, Origin},
        vector::{Clock, Vector},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn members(address: &str) -> Members {
        Members::new(id("me"), (&[address.into()], false), Vec::new(), HOUR).unwrap()
    }

    fn stamp(clock: u64) -> Stamp {
        Stamp { origin: Origin::new(&id("me"), Incarnation(1)), clock: Clock(clock) }
    }

    fn up_to(clock: u64) -> Vector {
        let Stamp { origin, clock } = stamp(clock);
        [(origin, clock)].into_iter().collect()
    }

    #[tokio::test]
    async fn a_receipt_names_who_holds_it_and_who_does_not() {
        let members = members("c:1");
        let stamp = stamp(3);
        members.hello(&id("b"), Incarnation(1), &up_to(2), 0);
        let began = Instant::now();
        let wait = |acks, patience| members.receipt(stamp, acks, began, began + patience, 0);
        let acknowledged = async {
            tokio::time::sleep(Duration::from_millis(7)).await;
            members.acknowledge(&id("b"), &up_to(3), 0);
        };
        let (receipt, ()) = tokio::join!(wait(Acks::Nodes(1), HOUR), acknowledged);
        assert!(
            matches!(receipt.holders.as_slice(), [(name, after)] if name == "b" && after.as_millis() >= 7)
        );
        assert!(receipt.missing.is_empty());

        let receipt = wait(Acks::All, Duration::from_millis(20)).await;
        assert_eq!((receipt.holders.len(), receipt.missing), (1, vec!["c:1".to_owned()]));
        assert!(began.elapsed() >= Duration::from_millis(20));
        let receipt = wait(Acks::Nodes(0), HOUR).await;
        assert!(receipt.missing.is_empty());
    }

    #[tokio::test]
    async fn an_address_that_is_withdrawn_is_not_waited_for() {
        let members = members("me:1");
        let stamp = stamp(3);
        let began = Instant::now();
        let withdrawn = async { members.withdraw(&"me:1".into()) };
        let (receipt, ()) =
            tokio::join!(members.receipt(stamp, Acks::All, began, began + HOUR, 0), withdrawn);
        assert_eq!(receipt, Receipt::default());
    }
}
