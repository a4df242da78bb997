//! Two nodes with one id: each node that sees both raises an alarm, and the writes of both can be saved.

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually, free_port,
    node::{TestNode, config},
    process::{Launch, Process},
    random_key,
};
use brock_core::proto::{self, verdict::Level};

/// Waits until a node sees two nodes of this id, and returns what it says of them: the places, and the alarm.
async fn sees_two(client: &Client, id: &str) -> (Vec<String>, String) {
    eventually(&format!("two nodes of the id {id} are seen"), || async {
        let status = client.try_status().await.ok()?;
        let duplicate = status.duplicate_ids.into_iter().find(|duplicate| duplicate.node_id == id)?;
        assert_eq!(duplicate.processes.len(), 2);
        let places: Vec<String> =
            duplicate.processes.into_iter().flat_map(|process| process.places).collect();
        let alarm = status.alarms.into_iter().find(|alarm| alarm.text.contains("run under the node id"))?;
        Some((places, alarm.text))
    })
    .await
}

/// What this node says of the cluster: every finding is to be acted on at once, with its remedy.
async fn remedies(client: &Client) -> Vec<String> {
    let view = client.admin.clone().cluster(proto::ClusterRequest::default()).await.unwrap().into_inner();
    let verdict = view.verdict.unwrap();
    assert_eq!(verdict.level(), Level::Act, "{verdict:?}");
    let acts = verdict.findings.into_iter().filter(|finding| finding.level() == Level::Act);
    acts.map(|finding| finding.todo).collect()
}

/// In the verdict: what is wrong is the id, not the connection.
async fn is_told_the_remedy(client: &Client) {
    eventually("the verdict names the remedy", || async {
        let todo = remedies(client).await;
        assert!(!todo.iter().any(|todo| todo.contains("Repair the connection")), "{todo:?}");
        todo.iter()
            .any(|todo| todo.contains("give each node its own node.id, certificate and storage"))
            .then_some(())
    })
    .await;
}

/// A copied certificate and another directory. The copy joins `b`, which has the original in its node.join.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_certificate_is_an_alarm_and_the_writes_of_both_can_be_saved() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = |id: &str, path: &str, port: u16, join: &[u16]| Launch {
        port,
        join: join.to_vec(),
        ..Launch::new(&certs, id, &directory.path().join(path))
    };
    let (a, b) = (free_port(), free_port());
    let original = launch("a", "original", a, &[b]);
    let (first, first_client) = original.start(&certs).await;
    let (second, second_client) = launch("b", "b", b, &[a]).start(&certs).await;
    let (copy, copy_client) = launch("a", "copy", free_port(), &[b]).start(&certs).await;
    let [lost, kept] = [random_key(), random_key()];
    copy_client.put(&lost, b"grant").await.unwrap();
    first_client.put(&kept, b"grant").await.unwrap();

    let (places, alarm) = sees_two(&second_client, "a").await;
    assert!(places.contains(&format!("at 127.0.0.1:{a}")), "{places:?}");
    assert!(places.contains(&"calling from 127.0.0.1".to_owned()), "{places:?}");
    assert!(places.iter().all(|place| alarm.contains(place)), "{alarm}");
    is_told_the_remedy(&second_client).await;
    // It cannot see the copy, but b tells.
    is_told_the_remedy(&first_client).await;
    eventually("b has the original's", || second_client.has_local(&kept)).await;
    assert_eq!(second_client.has_local(&lost).await, None, "the copy is not pulled from");

    // The procedure of the guide: for a while, the copy's storage takes the place of the original's.
    let end = |process: Process| assert!(process.terminate().0.success());
    end(copy);
    end(first);
    let (stand_in, _) = launch("a", "copy", a, &[b]).start(&certs).await;
    eventually("b has the copy's", || second_client.has_local(&lost)).await;
    end(stand_in);
    let (first, first_client) = original.start(&certs).await;
    eventually("the original has the copy's", || first_client.has_local(&lost)).await;
    let request = proto::ClearAlarmsRequest::default();
    second_client.admin.clone().clear_alarms(request).await.unwrap();
    // The copy becomes a node of its own.
    let (third, third_client) = launch("c", "c", free_port(), &[a, b]).start(&certs).await;
    eventually("it has both", || async {
        third_client.has_local(&lost).await.and(third_client.has_local(&kept).await)
    })
    .await;
    for (client, expected) in [(&first_client, 1), (&second_client, 0), (&third_client, 0)] {
        // The original finds operations under its own id that it has not made itself.
        let is_expected = |alarm: &proto::Alarm| alarm.text.contains("that this node made in earlier lives");
        let mut alarms = client.status().await.alarms;
        // Of the two first lives, the one that began in a later second says nothing of the other.
        alarms.retain(|alarm| !alarm.text.contains("a came back as a/"));
        assert!(alarms.len() == expected && alarms.iter().all(is_expected), "{alarms:?}");
    }
    for process in [first, second, third] {
        end(process);
    }
}

/// The copy joins the original, and a third node joins both.
#[tokio::test(flavor = "multi_thread")]
async fn the_copy_the_original_and_a_node_that_joins_both_raise_the_alarm() {
    let certs = Certs::new();
    let first = TestNode::start(&certs, config(&certs, "twin", free_port(), &[])).await;
    let second = TestNode::start(&certs, config(&certs, "twin", free_port(), &[first.port])).await;
    let third = TestNode::start(&certs, config(&certs, "third", 0, &[first.port, second.port])).await;
    for node in [&first, &second, &third] {
        let (places, _) = sees_two(&node.admin, "twin").await;
        is_told_the_remedy(&node.admin).await;
        let here = places.contains(&"this process".to_owned());
        assert_eq!(here, node.id == "twin", "{}: {places:?}", node.id);
    }
    let places = sees_two(&third.admin, "twin").await.0;
    for port in [first.port, second.port] {
        assert!(places.contains(&format!("at 127.0.0.1:{port}")), "{places:?}");
    }
    let [peer] = second.admin.status().await.peers.try_into().unwrap();
    assert!(peer.refused && peer.last_error.contains("two nodes run under one id"), "{peer:?}");
    for node in [third, second, first] {
        node.stop().await;
    }
}
