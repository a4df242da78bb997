use super::*;
use crate::ground::{clock::Clock, id::Origin};

#[test]
fn a_peer_with_my_own_id_or_a_taken_one_is_refused() {
    let peers = Peers::default();
    peers.add("a:1", 0);
    peers.add("b:1", 0);
    let (me, other): (NodeId, NodeId) = ("me".parse().unwrap(), "other".parse().unwrap());
    let one = Incarnation(1);
    assert_eq!(peers.admit("a:1", &me, (&me, one), 1), Err(Refusal::OwnId(me.clone())));
    assert_eq!(peers.admit("a:1", &me, (&other, one), 1), Ok(()));
    assert_eq!(peers.admit("a:1", &me, (&other, one), 2), Ok(()), "again at the same address is a new round");
    let twin = Refusal::Duplicate { node_id: other.clone(), other: "a:1".into() };
    assert_eq!(peers.admit("b:1", &me, (&other, Incarnation(2)), 2), Err(twin));
    peers.failed("a:1", "gone", 3);
    assert_eq!(peers.admit("b:1", &me, (&other, Incarnation(2)), 4), Ok(()), "it moved");
    let [a, b] = peers.reports().try_into().unwrap();
    assert_eq!((a.up, a.since, a.last_error.as_str()), (false, 3, "gone"));
    assert_eq!((b.up, b.since, b.node_id), (true, 4, Some(other)));
}

#[test]
fn a_node_stands_as_it_does_against_the_peer_that_is_furthest_ahead_and_the_one_heard_last() {
    let peers = Peers::default();
    assert_eq!(peers.standing(&Vector::default()), Standing { peers: 0, lag_entries: None, gap: None });
    peers.add("a:1", 0);
    peers.add("b:1", 0);
    peers.add("dead:1", 0);
    let standing = peers.standing(&Vector::default());
    assert_eq!(standing, Standing { peers: 3, lag_entries: None, gap: None }, "unknown is not 0");
    let origin = Origin::new(&"o".parse().unwrap(), Incarnation(1));
    let up_to = |clock| [(origin, Clock(clock))].into_iter().collect::<Vector>();
    peers.heard("a:1", &up_to(9), true, 0, 1);
    peers.heard("b:1", &up_to(5), true, 0, 1);
    let standing = peers.standing(&up_to(2));
    assert_eq!(standing.lag_entries, Some(7));
    assert!(standing.gap.unwrap() < Duration::from_secs(60), "{standing:?}");
}
#[test]
fn that_a_peer_answers_again_is_told_once() {
    let peers = Peers::default();
    peers.add("a:1", 0);
    let mut returns = peers.returns();
    let mut has_returned = |round_trip| {
        peers.pinged("a:1", round_trip);
        let told = returns.has_changed().unwrap();
        returns.mark_unchanged();
        told
    };
    let answer = Some(Duration::from_millis(1));
    let told: Vec<_> = [None, answer, answer, None, None, answer].map(&mut has_returned).into();
    assert_eq!(told, [false, true, false, false, false, true]);
    let (me, other) = ("me".parse().unwrap(), "other".parse().unwrap());
    peers.admit("a:1", &me, (&other, Incarnation(1)), 1).unwrap();
    assert!(!has_returned(None) && !has_returned(answer), "a lost ping is not an absence");
}

#[test]
fn a_failure_is_told_once_and_another_reason_once_it_has_lasted() {
    let peers = Peers::default();
    peers.add("a:1", 0);
    let news = |error: &str, now| {
        let mut peers = peers.lock();
        let report = peers.get_mut("a:1").unwrap();
        let news = report.news(error, now);
        report.last_error = error.to_owned();
        news
    };
    assert_eq!(news("refused", 1), News::NotYet);
    assert_eq!(news("refused", 2), News::Nothing);
    assert_eq!(news("refused", 31), News::Fails, "it should have started by now");
    assert_eq!(news("refused", 500), News::Nothing);
    assert_eq!(news("expired", 501), News::Nothing, "it may pass");
    assert_eq!(news("expired", 502), News::FailsOtherwise);
    assert_eq!(news("refused", 503), News::Nothing);
    assert_eq!(news("refused", 504), News::Nothing, "too soon after the last line");
    assert_eq!(news("refused", 600), News::FailsOtherwise);
    let (me, other) = ("me".parse().unwrap(), "other".parse().unwrap());
    peers.admit("a:1", &me, (&other, Incarnation(1)), 601).unwrap();
    assert_eq!(news("ended", 602), News::Fails, "it was up meanwhile");
}
