//! What goes from the log, what that waits for, and how a node that was away too long comes back.

use std::{fs, path::Path};

use crate::harness::{
    client::{Client, all_within},
    cluster::Cluster,
    eventually,
    node::compacts_on_command,
    random_key,
};
use brock::{
    config::validate::Config,
    maintenance::compact::{Mode, Policy},
};
use brock_core::proto::{self, record_trace::Payload};
use tonic::Code;

async fn put(client: &Client, count: usize) -> Vec<Vec<u8>> {
    let keys: Vec<Vec<u8>> = (0..count).map(|_| random_key()).collect();
    for key in &keys {
        client.put(key, b"grant").await.unwrap();
    }
    keys
}

async fn has_all(client: &Client, keys: &[Vec<u8>]) {
    for key in keys {
        client.get_local(key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_every_member_has_is_compacted_and_members_says_who_holds_it_back() {
    let mut cluster = Cluster::start_with(3, compacts_on_command).await;
    let early = put(&cluster.node(0).client, 20).await;
    cluster.acknowledged().await;
    cluster.stop_node(2).await;
    let late = put(&cluster.node(0).client, 10).await;
    cluster.acknowledged().await;
    for outcome in cluster.compact().await {
        assert_eq!((outcome.entries_removed, outcome.entries_kept), (20, 10));
    }
    let members = cluster.node(0).admin.members().await.members;
    let away = members.iter().find(|member| member.node_id == "node-2").unwrap();
    assert_eq!((away.lag_entries, away.holding_back, away.connected), (Some(10), 10, false));
    assert!(members.iter().any(|member| member.node_id == "node-1" && member.connected));

    cluster.start_node(2).await;
    cluster.acknowledged().await;
    assert_eq!(cluster.node(2).admin.status().await.resync, None);
    let floors = cluster.node(0).node.store().floors();
    for (i, outcome) in cluster.compact().await.into_iter().enumerate() {
        assert_eq!(outcome.entries_kept, 0, "node-{i}");
    }
    assert_ne!(cluster.node(0).node.store().floors(), floors);
    for node in cluster.running() {
        has_all(&node.client, &early).await;
        has_all(&node.client, &late).await;
        assert_eq!(node.admin.status().await.log_entries, 0);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_on_a_compacted_cluster_is_filled_from_the_records_and_then_follows() {
    let mut cluster = Cluster::start_some(3, 2, |config| {
        // The third is not known yet: no node waits for it.
        let join = config.join.into_iter().filter(|address| !address.ends_with('?')).collect();
        compacts_on_command(Config { join, ..config })
    })
    .await;
    let kept = put(&cluster.node(0).client, 50).await;
    let revoked = put(&cluster.node(1).client, 5).await;
    let deleted = put(&cluster.node(1).client, 5).await;
    cluster.converged().await;
    for key in &revoked {
        cluster.node(0).admin.invalidate(key, "leaked", None).await.unwrap();
    }
    for key in &deleted {
        cluster.node(0).admin.delete(key, None).await.unwrap();
    }
    cluster.acknowledged().await;
    // It is in node.join, so it holds the log back until an operator says otherwise.
    for outcome in cluster.compact().await {
        assert_eq!(outcome.entries_removed, 0);
    }
    let address = format!("127.0.0.1:{}", cluster.ports[2]);
    let told = cluster.node(0).admin.retire(&address).await;
    assert!(told.outcomes.iter().all(|outcome| outcome.error.is_empty()), "{told:?}");
    for outcome in cluster.compact().await {
        assert_eq!(outcome.entries_kept, 0);
    }
    let more = put(&cluster.node(1).client, 7).await;
    cluster.start_node(2).await;
    cluster.converged().await;
    let fresh = cluster.node(2);
    has_all(&fresh.client, &kept).await;
    has_all(&fresh.client, &more).await;
    for key in &revoked {
        assert_eq!(fresh.client.get_local(key).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    for key in &deleted {
        assert_eq!(fresh.client.get_local(key).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(fresh.client.put(key, b"again").await.unwrap_err().code(), Code::AlreadyExists);
    }
    let status = fresh.admin.status().await;
    assert_eq!((status.tombstones, status.records), (5, 62));
    let last = put(&fresh.client, 3).await;
    cluster.converged().await;
    has_all(&cluster.node(0).client, &last).await;
    assert_eq!(cluster.node(0).admin.verify().await.verdict(), proto::verify_response::Verdict::Converged);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_node_that_returns_is_filled_anew_and_loses_nothing_of_its_own() {
    let mut cluster = Cluster::start_with(3, compacts_on_command).await;
    let old = put(&cluster.node(0).client, 10).await;
    cluster.acknowledged().await;
    cluster.stop_node(2).await;
    for key in &old[..5] {
        cluster.node(0).admin.delete(key, None).await.unwrap();
    }
    cluster.acknowledged().await;
    let retired = cluster.node(0).admin.retire("node-2").await;
    let told: Vec<&str> = retired.outcomes.iter().map(|outcome| outcome.node.as_str()).collect();
    assert_eq!(told, ["node-0", "node-1"], "one command is enough");
    for outcome in cluster.compact().await {
        assert_eq!(outcome.entries_kept, 0, "nobody waits for it any more");
    }
    let waits_for = |members: proto::MembersResponse| {
        members
            .members
            .into_iter()
            .filter(|member| !member.retired)
            .map(|member| member.node_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(waits_for(cluster.node(0).admin.members().await), ["node-1"]);

    // Alone, it still serves what was deleted, and takes new records.
    cluster.start_node_with(2, |config| Config { join: Vec::new(), ..config }).await;
    cluster.node(2).client.get_local(&old[0]).await.unwrap();
    let own = put(&cluster.node(2).client, 4).await;
    cluster.stop_node(2).await;

    cluster.start_node(2).await;
    cluster.acknowledged().await;
    for node in cluster.running() {
        has_all(&node.client, &own).await;
        has_all(&node.client, &old[5..]).await;
        for key in &old[..5] {
            assert_eq!(node.client.get_local(key).await.unwrap_err().code(), Code::NotFound);
        }
    }
    assert_eq!(waits_for(cluster.node(0).admin.members().await), ["node-1", "node-2"], "a member again");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_incarnations_fold_away_and_late_ones_are_not_lost() {
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.extend(put(&cluster.node(0).client, 3).await);
        cluster.acknowledged().await;
        cluster.stop_node(0).await;
        cluster.start_node(0).await;
    }
    keys.extend(put(&cluster.node(0).client, 3).await);
    cluster.acknowledged().await;
    assert_eq!(cluster.node(1).vector().len(), 5);
    let folded: Vec<u64> = cluster.compact().await.iter().map(|outcome| outcome.origins_folded).collect();
    assert_eq!(folded, [4, 4]);
    assert_eq!(cluster.node(1).vector().len(), 1, "only what goes on is listed");
    keys.extend(put(&cluster.node(1).client, 3).await);
    cluster.acknowledged().await;
    // One side folds and the other has not yet; a restart in between.
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    keys.extend(put(&cluster.node(0).client, 1).await);
    cluster.acknowledged().await;
    let request = proto::CompactRequest {};
    let outcome = cluster.node(1).admin.admin.clone().compact(request).await.unwrap().into_inner();
    assert_eq!(outcome.origins_folded, 1);
    cluster.stop_node(1).await;
    cluster.start_node(1).await;
    keys.extend(put(&cluster.node(1).client, 1).await);
    cluster.converged().await;
    for node in cluster.running() {
        has_all(&node.client, &keys).await;
        assert_eq!(node.admin.status().await.resync, None);
        assert_eq!(node.admin.status().await.alarms, []);
    }
    cluster.stop().await;
}

/// Whether the bytes stand in any file of the directory.
fn is_on_disk(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_on_disk(&path, bytes),
            false => fs::read(&path).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_payload_leaves_the_disk_and_the_trace_says_when() {
    let cluster = Cluster::start_with(1, compacts_on_command).await;
    let node = cluster.node(0);
    let (canary, other) = (random_key(), random_key());
    node.client.put(&random_key(), &canary).await.unwrap();
    let key = random_key();
    node.client.put(&key, &other).await.unwrap();
    assert!(is_on_disk(&cluster.path(0), &other));
    node.admin.delete(&key, None).await.unwrap();
    assert!(is_on_disk(&cluster.path(0), &other), "not yet: it stands in the write-ahead log");
    let payload = async || node.admin.trace(&key).await.nodes[0].trace.as_ref().unwrap().payload();
    assert_eq!(payload().await, Payload::RemovalPending);
    assert_eq!(node.admin.status().await.removals_pending, 1);
    let [outcome] = cluster.compact().await.try_into().unwrap();
    assert_eq!(outcome.payloads_removed, 1);
    assert_eq!(payload().await, Payload::Removed);
    assert_eq!(node.admin.status().await.removals_pending, 0);
    eventually("the old write-ahead log is removed", || async {
        (!is_on_disk(&cluster.path(0), &other)).then_some(())
    })
    .await;
    assert!(is_on_disk(&cluster.path(0), &canary), "what was not deleted is still there");
    cluster.stop().await;
}

fn collects_at_once(config: Config) -> Config {
    let compact =
        Policy { mode: Mode::Never, tombstone_grace: Some(std::time::Duration::ZERO), ..config.compact };
    Config { compact, ..config }
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_are_collected_only_where_that_is_asked_for_and_only_when_every_member_has_them() {
    let mut cluster = Cluster::start_with(3, collects_at_once).await;
    let keys = put(&cluster.node(0).client, 6).await;
    cluster.acknowledged().await;
    cluster.stop_node(2).await;
    for key in &keys[..3] {
        cluster.node(0).admin.delete(key, None).await.unwrap();
    }
    cluster.acknowledged().await;
    for outcome in cluster.compact().await {
        assert_eq!(outcome.tombstones_collected, 0, "one of them has not heard of the deletes");
    }
    cluster.start_node(2).await;
    cluster.acknowledged().await;
    eventually("all tombstones are gone", || async {
        cluster.compact().await;
        let mut left = 0;
        for node in cluster.running() {
            left += node.admin.status().await.tombstones;
        }
        (left == 0).then_some(())
    })
    .await;
    for node in cluster.running() {
        for key in &keys[..3] {
            assert_eq!(node.client.get_local(key).await.unwrap_err().code(), Code::NotFound);
        }
        has_all(&node.client, &keys[3..]).await;
    }
    assert_eq!(cluster.node(0).admin.verify().await.verdict(), proto::verify_response::Verdict::Converged);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_deletes_whose_tombstones_are_gone_brings_nothing_back() {
    let mut cluster = Cluster::start_with(3, collects_at_once).await;
    let keys = put(&cluster.node(2).client, 6).await;
    cluster.acknowledged().await;
    cluster.stop_node(2).await;
    for key in &keys[..3] {
        cluster.node(0).admin.delete(key, None).await.unwrap();
    }
    cluster.acknowledged().await;
    cluster.node(1).admin.retire("node-2").await;
    eventually("all tombstones are gone", || async {
        cluster.compact().await;
        let mut left = 0;
        for node in cluster.running() {
            left += node.admin.status().await.tombstones;
        }
        (left == 0).then_some(())
    })
    .await;
    cluster.start_node_with(2, |config| Config { join: Vec::new(), ..config }).await;
    cluster.node(2).client.get_local(&keys[0]).await.unwrap();
    let own = put(&cluster.node(2).client, 2).await;
    cluster.stop_node(2).await;
    cluster.start_node(2).await;
    cluster.acknowledged().await;
    for node in cluster.running() {
        for key in &keys[..3] {
            let status = node.client.get_local(key).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{} shows a deleted record", node.id);
        }
        has_all(&node.client, &keys[3..]).await;
        has_all(&node.client, &own).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compactor_runs_by_itself_when_its_mode_says_so() {
    let modified = |config: Config| {
        let compact = Policy { mode: Mode::Modified, ..config.compact };
        Config { compact, ..config }
    };
    let cluster = Cluster::start_with(2, modified).await;
    let keys = put(&cluster.node(0).client, 10).await;
    cluster.node(0).admin.delete(&keys[0], all_within(20_000)).await.unwrap();
    eventually("the log is empty and the payload is gone", || async {
        for node in cluster.running() {
            let status = node.admin.status().await;
            if status.log_entries > 0 || status.removals_pending > 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
    for node in cluster.running() {
        has_all(&node.client, &keys[1..]).await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_tombstone_costs_next_to_nothing_on_disk() {
    use crate::harness::store;
    use brock::store::NewOperation;
    use brock_core::domain::operation::Operation;
    const COUNT: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let opened = store::open(&store::options(directory.path())).await;
    let grant = [7; 512];
    for chunk in 0..COUNT / 1000 {
        let numbers = chunk * 1000..(chunk + 1) * 1000;
        let records = numbers.map(|number| store::new_record(store::key(number), &grant)).collect();
        opened.create(records).await.unwrap();
    }
    for chunk in 0..COUNT / 500 {
        let deletes = (chunk * 500..(chunk + 1) * 500).map(|number| {
            let key_hash = store::key(number);
            opened.operate(NewOperation { key_hash, operation: Operation::Delete, ahead: false })
        });
        futures::future::try_join_all(deletes).await.unwrap();
    }
    opened.compact(&opened.applied()).await.unwrap();
    assert_eq!(opened.remove_payloads().await.unwrap() as u64, COUNT);
    opened.rewrite_log().await.unwrap();
    let totals = opened.totals();
    assert_eq!((totals.tombstones, totals.records, totals.log_entries), (COUNT, 0, 0));
    let each = opened.storage_use().await.unwrap().sst_bytes / COUNT;
    eprintln!("{each} bytes for each tombstone");
    assert!(each < 100, "{each} bytes for each tombstone");
    store::close(opened).await;
}
