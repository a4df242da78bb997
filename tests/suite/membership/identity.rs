//! Incarnations: what becomes of a node whose disk or whose end was lost. As processes.

use crate::harness::{
    certs::Certs,
    client::Client,
    eventually, free_port,
    process::{Launch, Process},
    random_key,
};
use brock_core::proto::StatusResponse;
use tempfile::TempDir;

/// Three processes that join each other.
struct Trio {
    certs: Certs,
    directory: TempDir,
    launches: Vec<Launch>,
    running: Vec<Option<(Process, Client)>>,
}

impl Trio {
    async fn start() -> Self {
        let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let mut launches = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let id = format!("node-{i}");
            let mut launch = Launch::new(&certs, &id, &directory.path().join(&id));
            launch.port = *port;
            launch.join = ports.iter().copied().filter(|other| other != port).collect();
            launches.push(launch);
        }
        let mut trio = Self { certs, directory, launches, running: vec![None, None, None] };
        for i in 0..3 {
            trio.restart(i).await;
        }
        trio
    }

    async fn restart(&mut self, i: usize) {
        self.running[i] = Some(self.launches[i].start(&self.certs).await);
    }

    fn client(&self, i: usize) -> &Client {
        &self.running[i].as_ref().unwrap().1
    }

    fn take(&mut self, i: usize) -> Process {
        self.running[i].take().unwrap().0
    }

    async fn status(&self, i: usize) -> StatusResponse {
        self.client(i).status().await
    }

    async fn put(&self, i: usize, keys: &mut Vec<Vec<u8>>, count: usize) {
        for _ in 0..count {
            let key = random_key();
            self.client(i).put(&key, format!("{}", keys.len()).as_bytes()).await.unwrap();
            keys.push(key);
        }
    }

    /// Waits until all have applied the same, and checks that this is these records.
    async fn converged(&self, keys: &[Vec<u8>]) {
        eventually("all nodes have the same clocks", || async {
            let statuses = [self.status(0).await, self.status(1).await, self.status(2).await];
            statuses.iter().all(|status| status.clocks == statuses[0].clocks).then_some(())
        })
        .await;
        for i in 0..3 {
            for (number, key) in keys.iter().enumerate() {
                let record = self.client(i).get_local(key).await.unwrap();
                assert_eq!(record.encrypted_access_grant, format!("{number}"));
            }
            let status = self.status(i).await;
            assert_eq!(status.records, keys.len() as u64, "node {i}");
            assert_eq!((status.quarantined, status.conflicts), (0, 0), "node {i}");
        }
    }

    /// Stops all in order. Nothing but lost peers may have been worth a warning.
    fn stop(mut self) {
        for i in 0..3 {
            let process = self.take(i);
            let expected = ["cannot pull from a peer", "has 30 operations that", "came back as node-0/"];
            let complaints = process.complaints(&expected);
            assert!(complaints.is_empty(), "{complaints:#?}");
            assert!(process.terminate().0.success());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_was_wiped_gets_its_own_past_back_and_reuses_no_clock() {
    let mut trio = Trio::start().await;
    let mut keys = Vec::new();
    for i in 0..3 {
        trio.put(i, &mut keys, 20).await;
    }
    trio.converged(&keys).await;
    for in_order in [true, false] {
        let before = trio.status(0).await;
        let process = trio.take(0);
        if in_order {
            assert!(process.terminate().0.success());
        } else {
            process.kill();
        }
        std::fs::remove_dir_all(&trio.launches[0].path).unwrap();
        trio.put(1, &mut keys, 5).await;
        trio.restart(0).await;
        // Before it can have caught up: the clocks of this life are its own.
        trio.put(0, &mut keys, 10).await;
        let after = trio.status(0).await;
        assert_ne!(after.incarnation, before.incarnation);
        trio.converged(&keys).await;
        let clocks = trio.status(2).await.clocks;
        for old in &before.clocks {
            let now = clocks.iter().find(|stamp| stamp.origin == old.origin).unwrap();
            assert!(now.clock >= old.clock);
        }
        let fresh = clocks.iter().find(|stamp| stamp.origin.ends_with(&after.incarnation.to_be_bytes()));
        assert_eq!(fresh.unwrap().clock, 10, "its new operations are numbered from 1");
    }
    assert!(trio.directory.path().exists());
    trio.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_comes_back_as_a_new_incarnation_and_all_converge() {
    let mut trio = Trio::start().await;
    let mut keys = Vec::new();
    for i in 0..3 {
        trio.put(i, &mut keys, 10).await;
        let before = trio.status(i).await.incarnation;
        trio.take(i).kill();
        trio.put((i + 1) % 3, &mut keys, 10).await;
        trio.restart(i).await;
        assert_ne!(trio.status(i).await.incarnation, before);
        trio.put(i, &mut keys, 10).await;
    }
    trio.converged(&keys).await;
    // And all at once.
    for i in 0..3 {
        trio.put(i, &mut keys, 10).await;
    }
    for i in 0..3 {
        trio.take(i).kill();
    }
    for i in 0..3 {
        trio.restart(i).await;
    }
    trio.put(0, &mut keys, 1).await;
    trio.converged(&keys).await;
    trio.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_in_order_goes_on_under_a_new_incarnation() {
    let mut trio = Trio::start().await;
    let mut keys = Vec::new();
    trio.put(1, &mut keys, 5).await;
    let before = trio.status(1).await;
    assert!(trio.take(1).terminate().0.success());
    trio.put(0, &mut keys, 5).await;
    trio.restart(1).await;
    let after = trio.status(1).await;
    assert_ne!(after.incarnation, before.incarnation);
    assert_eq!((before.incarnation_reason.as_str(), after.incarnation_reason.as_str()), ("birth", "start"));
    let stamp = trio.client(1).put(&random_key(), b"10").await.unwrap();
    assert_eq!(stamp.clock, 1);
    trio.stop();
}
