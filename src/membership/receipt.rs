//! Receipts: which members hold an operation, and what they have signed of it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::members::Members;
use brock_core::{
    base::{limits, metrics as names, vector::Stamp},
    domain::{acknowledgement::Acknowledgement, birth::SignedBirth, record::UnixSeconds},
};

/// How many other members must hold an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// This many.
    Nodes(usize),
    /// Every current one.
    All,
}

/// What a member has signed, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// How far it has applied this node's log.
    pub acknowledgement: Acknowledgement,
    /// Whose key that is.
    pub birth: Arc<SignedBirth>,
}

impl Signed {
    fn covers(&self, stamp: Stamp) -> bool {
        let applied = self.acknowledgement.applied;
        applied.origin == stamp.origin && applied.clock >= stamp.clock
    }
}

/// A member that holds an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// How long it took until this node knew.
    pub after: Duration,
    /// Its signature, if it has one that covers the operation.
    pub signed: Option<Arc<Signed>>,
}

/// The members that hold an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// In the order in which this node learnt it.
    pub holders: Vec<Holder>,
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
        let mut holders: Vec<Holder> = Vec::new();
        loop {
            changed.mark_unchanged();
            for (name, signed) in self.holders(&mut waited_for, stamp) {
                match holders.iter_mut().find(|holder| holder.name == name) {
                    Some(holder) => holder.signed = holder.signed.take().or(signed),
                    None => holders.push(Holder { name, after: began.elapsed(), signed }),
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
                let lacks = |name: &String| holders.iter().all(|holder| holder.name != *name);
                let missing = match complete {
                    true => Vec::new(),
                    false => waited_for.into_iter().filter(lacks).collect(),
                };
                return Receipt { holders, missing };
            }
        }
    }

    /// Waits a moment for the signatures that are on their way: the heads of a member that signs may have said that it
    /// holds the operation before its acknowledgement has arrived.
    pub async fn collect_signatures(&self, receipt: &mut Receipt, stamp: Stamp) {
        let deadline = Instant::now() + limits::RECEIPT_SIGNATURE_PATIENCE;
        let mut changed = self.changes();
        loop {
            changed.mark_unchanged();
            let mut is_expected = false;
            {
                let table = self.lock();
                for holder in receipt.holders.iter_mut().filter(|holder| holder.signed.is_none()) {
                    let member = table.get(&holder.name).filter(|member| member.feeds > 0);
                    let signed = member.and_then(|member| member.signed.clone());
                    let Some(signed) = signed else { continue };
                    is_expected |= signed.acknowledgement.applied.origin == stamp.origin;
                    holder.signed = signed.covers(stamp).then_some(signed);
                }
            }
            let is_complete = receipt.holders.iter().all(|holder| holder.signed.is_some());
            let is_over = is_complete || !is_expected;
            if is_over || timeout_at(deadline, changed.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Brings the names that a receipt waits for up to date, and returns those that hold the operation. An
    /// address may have answered by now, perhaps as a node that is waited for already; or it may have turned
    /// out to be this node itself, or a second address of a peer.
    fn holders(&self, waited_for: &mut Vec<String>, stamp: Stamp) -> Vec<(String, Option<Arc<Signed>>)> {
        let table = self.lock();
        let at = |name: &str| {
            table.values().find(|member| member.address.as_ref().is_some_and(|key| key.as_str() == name))
        };
        for name in waited_for.iter_mut() {
            if let Some(member) = at(name) {
                *name = member.name();
            }
        }
        waited_for.retain(|name| table.contains_key(name));
        waited_for.sort_unstable();
        waited_for.dedup();
        let held = |name: &String| {
            let member = table.get(name).filter(|member| member.has(stamp))?;
            Some((name.clone(), member.signed.clone().filter(|signed| signed.covers(stamp))))
        };
        waited_for.iter().filter_map(held).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use brock_core::{
        base::{
            id::{Incarnation, NodeId, Origin},
            vector::{Clock, Vector},
        },
        domain::birth::Birth,
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
            matches!(receipt.holders.as_slice(), [holder] if holder.name == "b" && holder.after.as_millis() >= 7)
        );
        assert!(receipt.missing.is_empty());

        let receipt = wait(Acks::All, Duration::from_millis(20)).await;
        assert_eq!((receipt.holders.len(), receipt.missing), (1, vec!["c:1".to_owned()]));
        assert!(began.elapsed() >= Duration::from_millis(20));
        let receipt = wait(Acks::Nodes(0), HOUR).await;
        assert!(receipt.missing.is_empty());
    }

    /// As if `b` had signed it; what is kept was verified before.
    fn signed(clock: u64) -> Signed {
        let member = Origin::new(&id("b"), Incarnation(1));
        let birth = Birth { origin: member, key: [1; 32], born_at: 1, previous: None };
        let birth = SignedBirth {
            birth,
            scheme: 1,
            signature: Bytes::new(),
            certificates: Vec::new(),
            vouched_at_unix_ms: None,
        };
        let acknowledgement =
            Acknowledgement { member, applied: stamp(clock), chain: [2; 32], signature: [3; 64] };
        Signed { acknowledgement, birth: Arc::new(birth) }
    }

    #[tokio::test]
    async fn the_newest_signature_of_a_member_is_kept_as_long_as_it_is_known_to_have_that() {
        let members = members("c:1");
        let began = Instant::now();
        let clock_of = |receipt: &Receipt| {
            let signed = receipt.holders.iter().find_map(|holder| holder.signed.as_ref());
            signed.map(|signed| signed.acknowledgement.applied.clock.0)
        };
        let receipt = async |clock| {
            let held = members.receipt(stamp(clock), Acks::Nodes(1), began, began + HOUR, 0).await;
            (clock_of(&held), held)
        };
        members.hello(&id("b"), Incarnation(1), &up_to(2), 0);
        members.follows(&id("b"), true);
        assert_eq!(receipt(2).await.0, None, "a hello is not signed");
        members.keep_signed(&id("b"), signed(5));
        members.keep_signed(&id("b"), signed(4));
        members.acknowledge(&id("b"), &up_to(5), 0);
        assert_eq!(receipt(5).await.0, Some(5));

        // Its heads were faster than its acknowledgement.
        members.heard(&"b:1".into(), (&id("b"), Incarnation(1)), &up_to(6), true, 0);
        let (unsigned, mut held) = receipt(6).await;
        assert_eq!(unsigned, None);
        let acknowledges = async {
            members.keep_signed(&id("b"), signed(6));
            members.acknowledge(&id("b"), &up_to(6), 0);
        };
        tokio::join!(members.collect_signatures(&mut held, stamp(6)), acknowledges);
        assert_eq!(clock_of(&held), Some(6));

        members.hello(&id("b"), Incarnation(2), &up_to(3), 0);
        assert_eq!(receipt(3).await.0, None, "it may have lost what it signed");
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
