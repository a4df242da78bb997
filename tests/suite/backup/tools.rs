//! Backups in a directory and the tools around them: the `age` command, and a restore that is killed.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{
    brock::{assert_succeeds, brock},
    certs::Certs,
    client::put_request,
    eventually,
    files::tree,
    process::{Launch, run},
    random_key,
};
use age::{secrecy::ExposeSecret, x25519};
use brock_core::proto::{self, BackupNowRequest};

const RECORDS: usize = 20_000;
const CANARY: &[u8] = b"canary-in-a-coal-mine";
/// How many restores are killed, each a little later than the one before.
const KILLS: u32 = 12;

/// A directory with a full backup and an incremental one of a node, and the identity file.
struct Vault {
    home: tempfile::TempDir,
}

impl Vault {
    async fn filled(records: usize) -> Self {
        let (certs, vault) = (Certs::new(), Self { home: tempfile::tempdir().unwrap() });
        let identity = x25519::Identity::generate();
        fs::write(vault.path("identity"), identity.to_string().expose_secret()).unwrap();
        let mut launch = Launch::new(&certs, "node-1", &vault.path("data"));
        for (flag, value) in [
            ("enabled", "true"),
            ("bucket", &vault.url()),
            ("sync-interval", "0s"),
            ("recipient", &identity.to_public().to_string()),
        ] {
            launch.more.push(format!("--node.backup.{flag}={value}"));
        }
        let (process, client) = launch.start(&certs).await;
        for at in (0..records).step_by(1000) {
            let count = 1000.min(records - at);
            let items = (0..count).map(|_| put_request(&random_key(), CANARY)).collect();
            client.kv.clone().batch_put(proto::BatchPutRequest { items }).await.unwrap();
        }
        for full in [true, false] {
            client.put(&random_key(), CANARY).await.unwrap();
            let made = client.admin.clone().backup_now(BackupNowRequest { full }).await.unwrap();
            assert!(made.into_inner().backup.is_some());
        }
        let (status, log) = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
        assert!(status.success(), "{log:?}");
        vault
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("vault").display())
    }

    fn restore(&self, to: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brock"));
        command.args(["backup", "restore", "--from", &self.url(), "--node.path"]).arg(self.path(to));
        command.arg("--identity").arg(self.path("identity"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_tool_decrypts_what_a_node_has_backed_up() {
    let vault = Vault::filled(3).await;
    let parts: Vec<PathBuf> = tree(&vault.path("vault"))
        .into_keys()
        .filter(|path| path.extension().is_some_and(|end| end == "age"))
        .collect();
    // The two that were asked for, and the one that the node makes when it starts unless it was empty then.
    assert!(matches!(parts.len(), 2 | 3), "{parts:?}");
    for part in parts {
        assert!(!fs::read(&part).unwrap().windows(CANARY.len()).any(|window| window == CANARY));
        let (identity, part) = (vault.path("identity"), part);
        let arguments = ["--decrypt", "--identity", identity.to_str().unwrap(), part.to_str().unwrap()];
        let output = run("age", &arguments, "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.starts_with(b"BROCKBK\x01"), "it is a part of a backup");
        assert!(output.stdout.windows(CANARY.len()).any(|window| window == CANARY));
    }
}

/// Claim: whenever a restore is killed, its place is as it was before or holds everything, and the next
/// attempt succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_any_time_installs_nothing_and_the_next_one_succeeds() {
    let vault = Vault::filled(RECORDS).await;
    tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        assert!(vault.restore("whole").status().unwrap().success());
        let takes = began.elapsed();
        let mut cut = 0;
        for kill in 0..KILLS {
            let place = vault.path("restored");
            let mut process = vault.restore("restored").spawn().unwrap();
            // A random moment of the restore, spread over the time that it takes.
            std::thread::sleep(takes * kill / KILLS + Duration::from_millis(rand::random_range(0..20)));
            process.kill().unwrap();
            if process.wait().unwrap().success() {
                assert!(place.join("superblock.json").exists(), "it said that it was done");
            } else {
                cut += 1;
                let installed = place.exists() && fs::read_dir(&place).unwrap().next().is_some();
                assert!(!installed || place.join("superblock.json").exists(), "half of it was installed");
            }
            fs::remove_dir_all(&place).ok();
        }
        assert!(cut > 0, "all of them were over before they could be killed");
        // From what the killed ones have left.
        assert!(vault.restore("restored").status().unwrap().success());
        let again = vault.restore("restored").status().unwrap();
        assert!(!again.success(), "it is not empty any more");
        let verified = brock(&[
            "backup",
            "verify",
            "--from",
            &vault.url(),
            "--identity",
            vault.path("identity").to_str().unwrap(),
        ]);
        assert_succeeds(&verified);
        let told = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(told.contains(&format!("good, {} records", RECORDS + 2)), "{told}");
        tokio::runtime::Handle::current().block_on(starts_with(&vault, RECORDS as u64 + 2));
    })
    .await
    .unwrap();
}

/// A node on the restored directory has that many records.
async fn starts_with(vault: &Vault, records: u64) {
    let certs = Certs::new();
    let mut launch = Launch::new(&certs, "node-1", &vault.path("restored"));
    launch.more[0] = "--node.first-start=false".to_owned();
    let (process, client) = launch.start(&certs).await;
    eventually("it has everything", || async { (client.status().await.records == records).then_some(()) })
        .await;
    drop(client);
    tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
}
