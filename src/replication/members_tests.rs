use super::*;
use crate::ground::clock::Clock;

const HOUR: Duration = Duration::from_secs(3600);

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn origin(name: &str, incarnation: u32) -> Origin {
    Origin::new(&id(name), Incarnation(incarnation))
}

fn vector(clocks: &[(&str, u64)]) -> Vector {
    clocks.iter().map(|(name, clock)| (origin(name, 1), Clock(*clock))).collect()
}

fn members(join: &[&str]) -> Members {
    let join: Vec<String> = join.iter().map(ToString::to_string).collect();
    Members::new(id("me"), (&join, false), Vec::new(), HOUR).unwrap()
}

#[test]
fn what_every_member_has_is_stable_and_an_unknown_member_has_nothing() {
    let members = members(&["b:1", "c:1"]);
    let own = vector(&[("me", 9), ("b", 4)]);
    members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5), ("b", 4)]), 10);
    members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[("me", 4), ("b", 4)]), true, 10);
    assert!(members.stable(&own, 10).is_empty(), "nothing is known of c:1 yet");
    members.hello(&id("c"), Incarnation(1), &vector(&[("me", 7)]), 10);
    members.heard("c:1", (&id("c"), Incarnation(1)), &vector(&[("me", 7), ("b", 1)]), true, 10);
    assert_eq!(members.stable(&own, 10), vector(&[("me", 5), ("b", 1)]));
    members.acknowledge(&id("b"), &vector(&[("me", 8)]), 11);
    assert_eq!(members.stable(&own, 11), vector(&[("me", 7), ("b", 1)]));
    assert_eq!(members.views(11).len(), 2, "an address and its node are one member");
}

#[test]
fn a_node_alone_waits_for_nobody() {
    let own = vector(&[("me", 9)]);
    assert_eq!(members(&[]).stable(&own, 0), own);
}

#[test]
fn a_puller_counts_for_the_retention_window_and_a_joined_peer_for_ever() {
    let members = members(&["b:1"]);
    members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[("me", 1)]), true, 0);
    members.hello(&id("c"), Incarnation(1), &vector(&[]), 0);
    assert_eq!(members.count(3600), 2);
    assert_eq!(members.count(3601), 1);
    let (remember, forget) = members.to_remember(3601);
    assert_eq!((remember.len(), forget.len()), (1, 1));
    assert_eq!(forget[0].node_id, "c");
    members.hello(&id("c"), Incarnation(1), &vector(&[]), 0);
    members.follows(&id("c"), true);
    assert_eq!(members.count(1_000_000), 2, "who is connected is not gone");
}

#[test]
fn a_hello_replaces_what_was_known_because_a_node_may_have_lost_data() {
    let members = members(&[]);
    members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5)]), 0);
    members.hello(&id("b"), Incarnation(2), &vector(&[("me", 2)]), 0);
    assert_eq!(members.stable(&vector(&[("me", 9)]), 0), vector(&[("me", 2)]));
}

#[test]
fn a_retired_member_is_not_waited_for_until_it_has_what_it_missed() {
    let members = members(&["b:1", "never:1"]);
    let own = vector(&[("me", 9)]);
    members.hello(&id("b"), Incarnation(1), &vector(&[("me", 5)]), 0);
    members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[("me", 5)]), true, 0);
    assert_eq!(members.retire("nobody", &own), Err(NoSuchMember));
    assert!(members.retire("never:1", &own).unwrap().retired);
    let state = members.retire("b", &own).unwrap();
    assert_eq!(members.stable(&own, 0), own);
    assert_eq!(members.hello(&id("b"), Incarnation(1), &vector(&[("me", 8)]), 1), Admission::Retired);
    assert_eq!(members.count(1), 0);
    assert_eq!(members.stable(&own, 1), vector(&[("me", 8)]), "it is being filled: it must not be outrun");
    assert_eq!(members.stable(&own, 602), own, "it has given up");

    let again = Members::new(id("me"), (&["b:1".to_owned()], false), vec![state], HOUR).unwrap();
    assert_eq!(again.hello(&id("b"), Incarnation(1), &vector(&[("me", 8)]), 1), Admission::Retired);
    assert_eq!(again.hello(&id("b"), Incarnation(1), &vector(&[("me", 9)]), 1), Admission::Member);
    assert_eq!(again.count(1), 1);
}

#[test]
fn an_incarnation_is_finished_once_its_node_has_another() {
    let members = members(&[]);
    assert!(!members.is_finished(&origin("b", 1), &origin("me", 1)), "nothing was heard of b");
    members.hello(&id("b"), Incarnation(2), &vector(&[]), 0);
    assert!(members.is_finished(&origin("b", 1), &origin("me", 1)));
    assert!(!members.is_finished(&origin("b", 2), &origin("me", 1)));
    assert!(members.is_finished(&origin("me", 7), &origin("me", 1)));
    assert!(!members.is_finished(&origin("me", 1), &origin("me", 1)));
}

#[tokio::test]
async fn a_receipt_names_who_holds_it_and_who_does_not() {
    let members = members(&["c:1"]);
    let stamp = Stamp { origin: origin("me", 1), clock: Clock(3) };
    members.hello(&id("b"), Incarnation(1), &vector(&[("me", 2)]), 0);
    let began = Instant::now();
    let wait = |acks, patience| members.receipt(stamp, acks, began, began + patience, 0);
    let acknowledged = async {
        tokio::time::sleep(Duration::from_millis(7)).await;
        members.acknowledge(&id("b"), &vector(&[("me", 3)]), 0);
    };
    let (receipt, ()) = tokio::join!(wait(Acks::Nodes(1), HOUR), acknowledged);
    assert!(matches!(receipt.holders.as_slice(), [(name, after)] if name == "b" && after.as_millis() >= 7));
    assert!(receipt.missing.is_empty());

    let receipt = wait(Acks::All, Duration::from_millis(20)).await;
    assert_eq!((receipt.holders.len(), receipt.missing), (1, vec!["c:1".to_owned()]));
    assert!(began.elapsed() >= Duration::from_millis(20));
    let receipt = wait(Acks::Nodes(0), HOUR).await;
    assert!(receipt.missing.is_empty());
}

#[test]
fn an_address_that_was_retired_is_still_retired_when_it_turns_out_to_be_a_node() {
    let members = members(&["b:1"]);
    let own = vector(&[("me", 9)]);
    members.retire("b:1", &own).unwrap();
    members.heard("b:1", (&id("b"), Incarnation(1)), &vector(&[]), true, 1);
    assert_eq!(members.hello(&id("b"), Incarnation(1), &vector(&[]), 1), Admission::Retired);
    assert_eq!(members.hello(&id("b"), Incarnation(1), &own, 2), Admission::Member);
}

#[test]
fn a_member_that_was_remembered_under_its_address_too_is_one_member() {
    let state = |node_id: &str| proto::MemberState {
        node_id: node_id.to_owned(),
        address: "b:1".to_owned(),
        ..proto::MemberState::default()
    };
    let remembered = vec![state(""), state("b")];
    let members = Members::new(id("me"), (&["b:1".to_owned()], false), remembered, HOUR).unwrap();
    assert_eq!(members.count(0), 1);
}

#[test]
fn nothing_is_stable_while_it_is_not_known_who_is_to_be_met() {
    let members = members(&[]);
    let own = vector(&[("me", 9)]);
    members.expect("dns+brock:1");
    assert!(members.stable(&own, 0).is_empty());
    assert_eq!(members.to_remember(0), (vec![], vec![]), "the next start asks anew");
    members.expect("10.0.0.2:1");
    members.withdraw("dns+brock:1");
    assert_eq!(members.names(0), ["10.0.0.2:1"]);
    members.heard("10.0.0.2:1", (&id("b"), Incarnation(1)), &own, true, 0);
    assert_eq!(members.stable(&own, 0), own);
    members.withdraw("10.0.0.2:1");
    assert_eq!(members.names(1_000_000), ["b"], "who was met stays until an operator says otherwise");
}

#[test]
fn who_was_met_under_a_name_in_dns_is_a_member_after_a_restart_too() {
    let members = members(&[]);
    members.expect("10.0.0.2:1");
    members.heard("10.0.0.2:1", (&id("b"), Incarnation(1)), &vector(&[]), true, 0);
    members.expect("10.0.0.3:1");
    members.expect("10.0.0.4:1");
    members.retire("10.0.0.4:1", &vector(&[])).unwrap();
    let (remembered, _) = members.to_remember(0);
    let again = |discovers| Members::new(id("me"), (&[], discovers), remembered.clone(), HOUR).unwrap();
    assert_eq!(again(true).names(1_000_000), ["b"], "and not an address that nobody ever answered at");
    assert!(again(false).names(1_000_000).is_empty(), "DNS is not asked any more");
    let again = again(true);
    again.expect("10.0.0.4:1");
    assert_eq!(again.names(0), ["b"], "it is still retired");
}

#[tokio::test]
async fn an_address_that_turns_out_to_be_nobody_is_not_waited_for() {
    let members = members(&["me:1"]);
    let stamp = Stamp { origin: origin("me", 1), clock: Clock(3) };
    let began = Instant::now();
    let withdrawn = async { members.withdraw("me:1") };
    let (receipt, ()) = tokio::join!(members.receipt(stamp, Acks::All, began, began + HOUR, 0), withdrawn);
    assert_eq!(receipt, Receipt::default());
}
