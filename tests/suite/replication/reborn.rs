//! Nodes that come back without what they have logged before, and those that do not.

use crate::harness::{
    certs::Certs,
    eventually, free_port,
    node::{TestNode, compacts_on_command, config},
    random_key,
};
use brock::config::validate::Config;
use brock_core::{
    base::{time::unix_now, trust::TrustMode},
    proto,
};
use tempfile::TempDir;

async fn named(node: &TestNode) -> Vec<proto::Alarm> {
    let alarms = node.admin.status().await.alarms;
    alarms.into_iter().filter(|alarm| alarm.text.contains("came back")).collect()
}

/// The thief has the certificate of a node, and not its disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_without_its_log_is_named_and_one_with_it_is_not() {
    let (certs, storage) = (Certs::new(), TempDir::new().unwrap());
    let ports = [free_port(), free_port()];
    let start = async |id: &str, disk: &str, port: u16, join: &[u16]| {
        // Births have seconds.
        let now = unix_now();
        eventually("another second", || async { (unix_now() > now).then_some(()) }).await;
        let path = Some(storage.path().join(disk));
        let config = compacts_on_command(config(&certs, id, port, join));
        TestNode::start(&certs, Config { trust: TrustMode::Distributed, path, ..config }).await
    };
    let a = start("a", "a", ports[0], &[ports[1]]).await;
    let written = async |b: &TestNode| {
        let key = random_key();
        b.client.put(&key, b"grant").await.unwrap();
        eventually("a has it", || a.client.has_local(&key)).await;
    };
    // Twice with its disk, once without having written in between.
    for writes in [true, false, true] {
        let b = start("b", "b", ports[1], &[ports[0]]).await;
        if writes {
            written(&b).await;
        }
        b.stop().await;
    }
    assert_eq!(named(&a).await, []);
    // With an empty one.
    let b = start("b", "empty", ports[1], &[ports[0]]).await;
    written(&b).await;
    b.stop().await;
    let alarms = named(&a).await;
    assert!(alarms.len() == 1 && alarms[0].text.contains("logged nothing before"), "{alarms:?}");
    a.stop().await;
}
