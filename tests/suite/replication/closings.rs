//! A node's certificate was stolen: an operator closes its logs where the members have them.

use std::time::Duration;

use crate::harness::{
    admin::Admin,
    certs::{Certs, revoke_at},
    eventually,
    fake_peer::{FakePeer, Script},
    free_port,
    identity::TestOrigin,
    node::{TestNode, compacts_on_command, config},
    proxy::{Mode, Proxy},
    random_key, stays,
    wire::{create, origin},
};
use brock::config::validate::Config;
use brock_core::{
    base::{trust::TrustMode, vector::Clock},
    proto,
};

/// The thief logs on under the node's name, and sends more through a relay whose certificate is in order.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_closing_nothing_of_a_stolen_node_is_accepted_from_any_node() {
    let (certs, stolen) = (Certs::new(), origin("stolen", 1));
    let thief = TestOrigin::certified(&certs, stolen);
    let keys: Vec<Vec<u8>> = (0..5).map(|_| random_key()).collect();
    let log = |from: u64, to: u64| {
        let entry = |clock: u64| create(clock, &keys[usize::try_from(clock).unwrap() - 1], b"x");
        thief.sign_each(from - 1, (from..=to).map(entry).collect())
    };
    let script = Script { batches: vec![log(1, 3)], ..Script::new("stolen") };
    let evil = FakePeer::start(&certs, "stolen", script).await;
    let ports = [free_port(), free_port()];
    let start = async |id: &str, port: u16, join: &[u16]| {
        let config = Config { trust: TrustMode::Distributed, ..config(&certs, id, port, join) };
        TestNode::start(&certs, config).await
    };
    let a = start("a", ports[0], &[ports[1], evil.port]).await;
    let b = start("b", ports[1], &[ports[0]]).await;
    let at = |node: &TestNode| node.vector().get(&stolen);
    eventually("both have what it has logged", || async {
        (at(&a) == Clock(3) && at(&b) == Clock(3)).then_some(())
    })
    .await;
    drop(evil);

    let tool = Admin::new(&certs.admin(), &[a.address()]);
    tool.fails(2, "--yes", &["origin", "close", "stolen"], "");
    tool.fails(5, "stolen could not be asked", &["origin", "close", "another", "--yes"], "");
    tool.fails(5, "b runs", &["origin", "close", "b", "--yes"], "");
    let closed = eventually("the thief does not answer any more", || async {
        let output = tool.run(&["origin", "close", "stolen", "--yes", "-o", "json"], "");
        let json = serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?;
        (output.status.code() == Some(0)).then_some(json)
    })
    .await;
    assert_eq!(closed["ends"][stolen.to_string()], 3, "{closed}");
    let listed = tool.json(&["origin", "list"], "");
    let known = listed["origins"].as_array().unwrap().iter().find(|known| known["node"] == "stolen").unwrap();
    assert_eq!(known["closed"], 3, "{known}");

    // The other node and a new one learn it from the one that was asked.
    let script = Script { batches: vec![log(4, 5)], ..Script::new("relay") };
    let relay = FakePeer::start(&certs, "relay", script).await;
    let late = start("late", free_port(), &[ports[0], ports[1], relay.port]).await;
    for node in [&b, &late] {
        eventually("it knows where the log ends", || async {
            let tool = Admin::new(&certs.admin(), &[node.address()]);
            let listed = tool.json(&["origin", "list"], "");
            let origins = listed["origins"].as_array().unwrap();
            origins.iter().any(|known| known["node"] == "stolen" && known["closed"] == 3).then_some(())
        })
        .await;
    }
    eventually("the relay's batch is declined", || async {
        relay.declined.lock().unwrap().contains(&stolen).then_some(())
    })
    .await;
    stays("nothing more of it is accepted", Duration::from_secs(3), || async { at(&late) <= Clock(3) }).await;
    // A node that runs goes on: its log is another one.
    let key = random_key();
    b.client.put(&key, b"grant").await.unwrap();
    eventually("others are not closed", || late.client.has_local(&key)).await;
    for node in [a, b, late] {
        node.stop().await;
    }
}

/// It took more of the log before it learnt where that ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_holds_more_than_a_closing_fills_others_without_it() {
    let (certs, stolen) = (Certs::new(), origin("stolen", 1));
    let thief = TestOrigin::certified(&certs, stolen);
    let keys: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
    let log = |to: u64| {
        let entry = |clock: u64| create(clock, &keys[usize::try_from(clock).unwrap() - 1], b"x");
        thief.sign_each(0, (1..=to).map(entry).collect())
    };
    let start = async |id: &str, join: &[u16]| {
        let config = Config { trust: TrustMode::Distributed, ..config(&certs, id, free_port(), join) };
        TestNode::start(&certs, config).await
    };
    let evil =
        FakePeer::start(&certs, "stolen", Script { batches: vec![log(2)], ..Script::new("stolen") }).await;
    let a = start("a", &[evil.port]).await;
    let at = |node: &TestNode| node.vector().get(&stolen);
    eventually("a has a part", || async { (at(&a) == Clock(2)).then_some(()) }).await;
    drop(evil);
    let relay =
        FakePeer::start(&certs, "relay", Script { batches: vec![log(3)], ..Script::new("relay") }).await;
    let link = Proxy::start(a.port).await;
    link.set(Mode::Cut);
    let c = start("c", &[relay.port, link.port]).await;
    eventually("c has all", || async { (at(&c) == Clock(3)).then_some(()) }).await;
    drop(relay);
    let tool = Admin::new(&certs.admin(), &[a.address()]);
    eventually("its logs are closed", || async {
        (tool.run(&["origin", "close", "stolen", "--yes"], "").status.code() == Some(0)).then_some(())
    })
    .await;
    link.set(Mode::Pass);
    eventually("c knows where the log ends", || async {
        let listed = Admin::new(&certs.admin(), &[c.address()]).json(&["origin", "list"], "");
        let origins = listed["origins"].as_array().unwrap();
        origins.iter().any(|known| known["node"] == "stolen" && known["closed"] == 2).then_some(())
    })
    .await;
    // Only records are left of the log: neither of them pulls from c.
    for member in ["relay", "a"] {
        // The relay cannot be told.
        Admin::new(&certs.admin(), &[c.address()]).run(&["member", "retire", member, "--yes"], "");
    }
    eventually("the log is compacted away", || async {
        let compacted = c.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
        (compacted.into_inner().entries_kept == 0).then_some(())
    })
    .await;
    let late = start("late", &[c.port]).await;
    eventually("it is filled", || late.client.has_local(&keys[1])).await;
    eventually("it lacks nothing", || async { (at(&late) == Clock(3)).then_some(()) }).await;
    assert!(late.client.has_local(&keys[2]).await.is_none(), "it is beyond the end");
    let status = late.admin.status().await;
    let held = late.admin.members().await.members.into_iter().map(|member| member.holding_back).max();
    assert!(
        held <= Some(status.log_entries),
        "nothing else is held back: {held:?} of {}",
        status.log_entries
    );
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    for node in [a, c, late] {
        node.stop().await;
    }
}

/// What the members have of it cannot be told from what the node itself has done, so it must fill a new node: else the
/// cluster would never be equal again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_closing_encloses_fills_nodes_that_refuse_its_certificate() {
    let (certs, storage) = (Certs::new(), tempfile::tempdir().unwrap());
    let (stolen, certificate) = (origin("stolen", 1), certs.node("stolen").join("node.crt"));
    let thief = TestOrigin::certified(&certs, stolen);
    let keys: Vec<Vec<u8>> = (0..2).map(|_| random_key()).collect();
    let log = thief.sign_each(0, vec![create(1, &keys[0], b"x"), create(2, &keys[1], b"x")]);
    let evil =
        FakePeer::start(&certs, "stolen", Script { batches: vec![log], ..Script::new("stolen") }).await;
    let start = async |id: &str, join: &[u16]| {
        let path = Some(storage.path().join(id));
        let config = compacts_on_command(config(&certs, id, free_port(), join));
        TestNode::start(&certs, Config { trust: TrustMode::Distributed, path, ..config }).await
    };
    let a = start("a", &[evil.port]).await;
    eventually("a has its log", || async { (a.vector().get(&stolen) == Clock(2)).then_some(()) }).await;
    drop(evil);
    let proven = random_key();
    a.client.put(&proven, b"grant").await.unwrap();
    a.stop().await;

    for id in ["a", "late", "later"] {
        revoke_at(&certs, &certificate, &certs.node(id).join("ca.crl"));
    }
    let a = start("a", &[]).await;
    let tool = Admin::new(&certs.admin(), &[a.address()]);
    let known = |tool: &Admin| {
        let listed = tool.json(&["origin", "list"], "");
        let origins = listed["origins"].as_array().unwrap();
        origins.iter().find(|known| known["node"] == "stolen").cloned()
    };
    assert_ne!(known(&tool).unwrap()["problem"], "", "its certificate is not accepted any more");
    let unbelieved = async || a.admin.status().await.trust.unwrap().unbelieved_origins;
    eventually("it is counted", || async { (unbelieved().await == 1).then_some(()) }).await;
    tool.json(&["origin", "close", "stolen", "--yes"], "");
    assert_eq!(unbelieved().await, 0, "the closing ends it at once");
    // Its log is believed now, and its certificate is not.
    let again = tool.run(&["origin", "close", "stolen", "--yes"], "");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && !said.contains("accepts each certificate"), "{said}");
    let closed = known(&tool).unwrap();
    assert_eq!((&closed["problem"], &closed["closed"]), (&"".into(), &2.into()), "{closed}");
    for id in ["late", "later"] {
        if id == "later" {
            eventually("the log is compacted away", || async {
                let compacted = a.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
                (compacted.into_inner().entries_kept == 0).then_some(())
            })
            .await;
        }
        let late = start(id, &[a.port]).await;
        for key in [&keys[0], &keys[1], &proven] {
            eventually("it is filled", || late.client.has_local(key)).await;
        }
        eventually("it lacks nothing", || async { (late.vector() == a.vector()).then_some(()) }).await;
        eventually("it is ready", || async { late.admin.status().await.ready.then_some(()) }).await;
        let status = late.admin.status().await;
        assert!(status.alarms.is_empty(), "{:?}", status.alarms);
        assert_eq!(status.trust.unwrap().unproven_records, 0);
        let closed = known(&Admin::new(&certs.admin(), &[late.address()])).unwrap();
        assert_eq!((&closed["problem"], &closed["closed"]), (&"".into(), &2.into()), "{closed}");
        late.stop().await;
        // They would hold up the compaction.
        for gone in ["late", "stolen"] {
            tool.run(&["member", "retire", gone, "--yes"], "");
        }
    }
    a.stop().await;
}

/// A new node pulls before the others have it in node.join.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_an_address_is_asked_where_it_is_named_and_is_not_forgotten() {
    let certs = Certs::new();
    let start = async |id: &str, join: &[u16]| {
        let config = Config { trust: TrustMode::Distributed, ..config(&certs, id, free_port(), join) };
        TestNode::start(&certs, config).await
    };
    let stolen = start("stolen", &[]).await;
    let (origin, key) = (stolen.node.store().origin(), random_key());
    stolen.client.put(&key, b"grant").await.unwrap();
    let a = start("a", &[stolen.port]).await;
    let c = start("c", &[stolen.port, a.port]).await;
    for node in [&a, &c] {
        eventually("it has the log", || async { (node.vector().get(&origin) == Clock(1)).then_some(()) })
            .await;
    }
    eventually("a has met c", || async {
        a.admin.members().await.members.iter().any(|member| member.node_id == "c").then_some(())
    })
    .await;
    stolen.stop().await;
    let (alone, both) =
        (Admin::new(&certs.admin(), &[a.address()]), Admin::new(&certs.admin(), &[a.address(), c.address()]));
    eventually("the message says what to do", || async {
        let output = alone.run(&["origin", "close", "stolen", "--yes"], "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (said.contains("c could not be asked") && said.contains("--node-addresses")).then_some(())
    })
    .await;
    let closed = both.run(&["origin", "close", "stolen", "--yes"], "");
    assert!(closed.status.success(), "{closed:?}");
    let retired = alone.run(&["member", "retire", "stolen", "--yes"], "");
    let said = String::from_utf8_lossy(&retired.stderr).into_owned();
    assert!(retired.status.code() == Some(5) && said.contains("not told: c"), "{said}");
    for node in [a, c] {
        node.stop().await;
    }
}

/// It was taken for stopped, and could only not be reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_closed_while_it_runs_goes_on_under_a_log_that_others_take() {
    let certs = Certs::new();
    let ports = [free_port(), free_port()];
    let link = Proxy::start(ports[1]).await;
    let start = async |id: &str, port: u16, join: &[u16]| {
        let config = Config { trust: TrustMode::Distributed, ..config(&certs, id, port, join) };
        TestNode::start(&certs, config).await
    };
    let a = start("a", ports[0], &[link.port]).await;
    let b = start("b", ports[1], &[ports[0]]).await;
    let closed = b.node.store().origin();
    b.client.put(&random_key(), b"grant").await.unwrap();
    eventually("a has it", || async { (a.vector().get(&closed) == Clock(1)).then_some(()) }).await;
    link.set(Mode::Cut);
    let tool = Admin::new(&certs.admin(), &[a.address()]);
    eventually("b is closed at a", || async {
        (tool.run(&["origin", "close", "b", "--yes"], "").status.code() == Some(0)).then_some(())
    })
    .await;
    eventually("b goes on", || async {
        (b.admin.status().await.incarnation_reason == "closed").then_some(())
    })
    .await;
    assert!(b.admin.status().await.alarms.iter().any(|alarm| alarm.text.contains("goes on as")));
    link.set(Mode::Pass);
    let key = random_key();
    b.client.put(&key, b"grant").await.unwrap();
    eventually("a takes what b logs now", || a.client.has_local(&key)).await;
    for node in [a, b] {
        node.stop().await;
    }
}
