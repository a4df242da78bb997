//! Whole clusters as processes: `brock dev`, and a log that has nothing to complain about.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    PATIENCE,
    brock::{assert_fails, brock, stderr},
    certs::Certs,
    eventually, eventually_here,
    process::{BROCK, Launch, NODE_ADMIN, run},
    random_key,
};

/// Processes whose parent is this one.
fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent …
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1) == Some(&parent.to_string()) {
            children.push(pid);
        }
    }
    children
}

/// Ends the cluster if the test fails before it does.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_wrong_setting_for_the_nodes_is_refused_once_and_starts_nothing() {
    for (setting, part) in [
        ("--log.levl=x", "--log.levl"),
        ("--log.level=!", "log.level"),
        ("--node.id=b", "--node.id"),
        ("--tombstone-grace=1h", "node.trust=distributed"),
    ] {
        for nodes in ["--nodes=3", "--nodes=1"] {
            let output = brock(&["dev", nodes, "--base-port=0", "--", setting]);
            assert_fails(&output, 2, &[part]);
            let told = stderr(&output);
            let others = ["starting", "node-2 |", "node.join: "];
            assert!(
                told.matches(part).count() < 3 && others.iter().all(|other| !told.contains(other)),
                "{told}"
            );
        }
    }
}

#[test]
fn brock_dev_runs_a_cluster_that_its_own_hints_work_on_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("a cluster");
    let mut command = Command::new(BROCK);
    command.args(["dev", "--nodes", "2", "--base-port", "0", "--dir"]).arg(&root);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut dev = Dev(command.spawn().unwrap());
    let stdout = BufReader::new(dev.0.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut told = String::new();
    while !told.contains("Ctrl-C stops the cluster.") {
        told += &lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never ready:\n{told}"));
        told.push('\n');
    }
    assert!(told.contains("2 nodes ready"), "{told}");
    assert_eq!(children_of(dev.0.id()).len(), 2);

    // What scripts read works, too.
    let env_file = root.join("cluster.env");
    let script = format!(
        ". '{}' && '{NODE_ADMIN}' --certs-dir \"$BROCK_CERTS_DIR\" --node-addresses \"$BROCK_ADDRESSES\" -o json status",
        env_file.display()
    );
    let status = run("sh", &["-c", &script], "");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["node_id"], &status["ready"]), (&"node-1".into(), &true.into()));
    assert_eq!(status["trust"]["mode"], "distributed");

    // The commands that it prints, as a shell runs them: joined lines, one after the other.
    let joined = told.replace("\\\n", " ");
    let commands: Vec<&str> =
        joined.lines().filter(|line| line.contains("--certs-dir") && line.contains(" record ")).collect();
    assert_eq!(commands.len(), 2, "{told}");
    let shell = |command: &str| run("sh", &["-c", command], "");
    let put = shell(commands[0].trim());
    assert!(put.status.success(), "{}: {}", commands[0], String::from_utf8_lossy(&put.stderr));
    // What an operator's certificate may: show what the other node itself holds.
    let admin_dir = root.join("admin");
    let client_dir = root.join("client");
    let as_operator = commands[1].replace(client_dir.to_str().unwrap(), admin_dir.to_str().unwrap());
    let shown = eventually_here("the other node holds it", || {
        let shown = shell(as_operator.trim());
        let expected = shown.status.success() || shown.status.code() == Some(3);
        assert!(expected, "{}", String::from_utf8_lossy(&shown.stderr));
        shown.status.success().then_some(shown)
    });
    assert!(String::from_utf8_lossy(&shown.stdout).contains("aGVsbG8="));
    let shown = shell(commands[1].trim());
    assert!(shown.status.success(), "{}: {}", commands[1], String::from_utf8_lossy(&shown.stderr));

    let children = children_of(dev.0.id());
    kill_process(Pid::from_raw(i32::try_from(dev.0.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let status = dev.0.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    for child in children {
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "{child} was left behind");
    }
    assert!(!env_file.exists(), "cluster.env names a cluster that is gone");
    assert!(root.join("node-1/data").exists() && root.join("node-2/data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_healthy_cluster_has_nothing_to_complain_about() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launches = ["n1", "n2", "n3"].map(|id| Launch::new(&certs, id, &home.path().join(id)));
    let ports = [0, 1, 2].map(|i: usize| launches[i].port);
    for (i, launch) in launches.iter_mut().enumerate() {
        launch.join = ports.iter().copied().filter(|port| *port != ports[i]).collect();
        launch.more.push("--node.replication-interval=1s".to_owned());
    }
    let processes = launches.each_ref().map(Launch::spawn);
    let mut clients = Vec::new();
    for process in &processes {
        let address = format!("127.0.0.1:{}", process.port);
        eventually("it answers", || async {
            let status = run_status(&certs, &address);
            assert!(process.is_running(), "{:?}", process.log());
            (status["ready"] == true).then_some(())
        })
        .await;
        clients.push(crate::harness::client::Client::connect(&address, &certs.admin()).await);
    }
    let mut keys = Vec::new();
    for i in 0..30 {
        let key = random_key();
        clients[i % 3].put(&key, b"g").await.unwrap();
        keys.push(key);
    }
    for client in &clients {
        for key in &keys {
            eventually("the record is there", || client.has_local(key)).await;
            client.get(key).await.unwrap();
        }
        client.get(&random_key()).await.unwrap_err();
        client.put(&keys[0], b"other").await.unwrap_err();
    }
    // Some rounds that restart.
    for client in &clients {
        eventually("rounds have been run", || async {
            let status = client.status().await;
            status.peers.iter().all(|peer| peer.up && peer.rounds >= 2).then_some(())
        })
        .await;
    }
    drop(clients);
    for process in &processes {
        assert_eq!(process.complaints(&[]), Vec::<String>::new(), "before anybody stopped");
    }
    for process in &processes {
        process.signal(Signal::TERM);
    }
    for process in processes {
        let (status, log) = process.wait();
        assert!(status.success(), "{log:?}");
        for line in log {
            // A peer that goes is worth a line; nothing else is.
            let is_farewell = line.contains("cannot pull from a peer");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(line["level"] == "INFO" || is_farewell, "{line}");
        }
    }
}

fn run_status(certs: &Certs, address: &str) -> serde_json::Value {
    let certs_dir = certs.admin();
    let arguments = ["--certs-dir", certs_dir.to_str().unwrap(), "--node-addresses", address, "-o", "json"];
    let output = run(NODE_ADMIN, &[&arguments[..], &["status"]].concat(), "");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
