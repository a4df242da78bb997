//! Backups: made under load, encrypted, believed only when whole, restored, and joined to what the
//! cluster did since.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::harness::{
    brock::{assert_fails, assert_succeeds, brock},
    certs::Certs,
    client::Client,
    cluster::Cluster,
    eventually, free_port,
    identity::{signing, strict},
    node::{TestNode, compacts_on_command, config},
    random_key,
    store::{
        batch, close, created, creation, delete, deliver, entry, key, new_record, open, options, origin,
        payload, ram,
    },
};
use age::{secrecy::ExposeSecret, x25519};
use brock::{
    backup::{
        catalogue::{self, Wanted},
        error::RestoreError,
        job::{Backups, Plan},
        manifest::Kind,
        objects::{Location, Settings, Target},
        parts::PartWriter,
        restore::Restore,
        retention::Retention,
        signer,
    },
    config::validate::Config,
    runtime::alarms::Alarms,
    store::{Scrubbed, Store},
    transfer::{
        authority::Authority,
        feed::SnapshotFeed,
        join::{Joiner, Terms},
    },
};
use brock_core::{
    base::{time::WallClock, trust::TrustMode},
    proto,
};
use brock_net::tls::credentials::statement_verifier;
use tempfile::TempDir;
use tonic::Code;

/// A place for backups in a directory, and a store to be backed up.
struct Bench {
    home: TempDir,
    target: Target,
    identity: x25519::Identity,
}

impl Bench {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let location = Location::File { directory: home.path().join("bucket") };
        let target = Target::open(&location, &Settings::default()).unwrap();
        target.prepare().await.unwrap();
        Self { home, target, identity: x25519::Identity::generate() }
    }

    fn bucket(&self) -> PathBuf {
        self.home.path().join("bucket")
    }

    fn url(&self) -> String {
        format!("file://{}", self.bucket().display())
    }

    async fn backups(&self, store: &Store) -> Backups {
        let plan = Plan {
            target: self.target.clone(),
            recipients: vec![self.identity.to_public()],
            interval: std::time::Duration::from_secs(3600),
            sync_interval: None,
            retention: Retention::default(),
            staging: self.home.path().join("staging"),
            ram: None,
            wall_clock: WallClock::system(),
            alarms: Alarms::new(WallClock::system()),
        };
        let signer = Arc::new(signer::load(store).await.unwrap());
        Backups::open(store.clone(), plan, signer).await.unwrap()
    }

    fn identity_file(&self) -> PathBuf {
        let path = self.home.path().join("identity");
        fs::write(&path, self.identity.to_string().expose_secret()).unwrap();
        path
    }

    async fn restore(&self, wanted: &Wanted, name: &str) -> Result<Store, RestoreError> {
        let chain = catalogue::choose(&self.target, wanted).await?;
        let path = self.home.path().join(name);
        let restore = Restore {
            target: &self.target,
            chain: &chain,
            identity: Some(&self.identity),
            path: &path,
            authority: None,
        };
        restore.run(|_| {}).await?;
        Ok(open(&brock::store::Options { first_start: false, ..options(&path) }).await)
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restores_to_exactly_what_the_node_held_and_an_increment_costs_what_changed() {
    let bench = Bench::new().await;
    let store = open(&options(&bench.home.path().join("data"))).await;
    for chunk in 0..5 {
        let records = (chunk * 1000..(chunk + 1) * 1000).map(|n| new_record(key(n), &[7; 300])).collect();
        store.create(records).await.unwrap();
    }
    delete(&store, 3).await;
    let backups = bench.backups(&store).await;
    let full = backups.make(None).await.unwrap().unwrap();
    assert_eq!((full.kind, full.records, full.tombstones), (Kind::Full, 4999, 1));
    assert_eq!(backups.make(None).await.unwrap(), None, "nothing has changed since");
    let mut at = Vec::new();
    for number in 5000..5003 {
        created(&store, new_record(key(number), &[7; 300])).await;
        delete(&store, number - 4000).await;
        let increment = backups.make(None).await.unwrap().unwrap();
        assert_eq!(increment.kind, Kind::Incremental);
        let bytes: u64 = increment.parts.iter().map(|part| part.bytes).sum();
        assert!(bytes < 3_000, "{bytes} bytes for two operations");
        at.push((increment.key, store.summary()));
    }
    let restored = bench.restore(&Wanted::default(), "restored").await.unwrap();
    let last = &at.last().unwrap().1;
    assert_eq!(restored.summary().digest, last.digest);
    assert_eq!(restored.applied(), last.applied());
    assert_eq!(restored.get(key(4999)).await.unwrap(), store.get(key(4999)).await.unwrap());
    assert_ne!(restored.origin(), store.origin(), "no clock is used twice");
    close(restored).await;
    // And as it was in between.
    let wanted = Wanted { id: Some(at[0].0.clone()), ..Wanted::default() };
    let earlier = bench.restore(&wanted, "earlier").await.unwrap();
    assert_eq!(earlier.summary().digest, at[0].1.digest);
    close(earlier).await;
    // What is compacted away cannot be shipped as an increment: everything again.
    delete(&store, 10).await;
    store.compact(&store.applied()).await.unwrap();
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Full);
    let again = bench.restore(&Wanted::default(), "again").await.unwrap();
    assert_eq!(again.summary().digest, store.summary().digest);
    close(again).await;
    close(store).await;
}

/// Of each kind of backup, and of a log that is compacted: a node that believes only what is proven can be filled from
/// what was restored.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_restored_is_proven_to_its_peers() {
    let bench = Bench::new().await;
    let store = open(&signing(options(&bench.home.path().join("data")))).await;
    store.create((0..100).map(|n| new_record(key(n), b"g")).collect()).await.unwrap();
    delete(&store, 3).await;
    store.compact(&store.applied()).await.unwrap();
    let backups = bench.backups(&store).await;
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Full);
    store.create((100..150).map(|n| new_record(key(n), b"g")).collect()).await.unwrap();
    for number in 4..8 {
        delete(&store, number).await;
    }
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Incremental);
    close(bench.restore(&Wanted::default(), "restored").await.unwrap()).await;
    let path = bench.home.path().join("restored");
    let restored = open(&signing(brock::store::Options { first_start: false, ..options(&path) })).await;
    for bucket in 0..=u8::MAX {
        assert_eq!(restored.scrub(bucket).await.unwrap(), Scrubbed::default(), "{bucket}");
    }
    let proven = |store: &Store| (store.totals().records, store.totals().tombstones, store.totals().unproven);
    assert_eq!(proven(&restored), (145, 5, 5), "operators have not signed the deletes");
    assert_eq!(proven(&restored), proven(&store));
    for is_compacted in [false, true] {
        if is_compacted {
            restored.compact(&restored.applied()).await.unwrap();
        }
        let other = open(&signing(ram("other"))).await;
        let donor = restored.node_id().clone();
        let mut joiner = Joiner::new(other.clone(), donor, Terms::default(), Some(strict(&other)));
        let mut feed = SnapshotFeed::begin(restored.clone(), joiner.request()).unwrap();
        while let Some(message) = feed.next().await.unwrap() {
            joiner.take(message).await.unwrap();
        }
        drop(joiner);
        assert_eq!(other.applied(), store.applied(), "{is_compacted}");
        assert_eq!(other.summary().digest, store.summary().digest);
        close(other).await;
    }
    close(restored).await;
    close(store).await;
}

/// Whatever the node that made it says: with the CAs alone, what no node or operator of the cluster has signed shows.
#[tokio::test(flavor = "multi_thread")]
async fn the_cas_alone_prove_what_a_backup_has() {
    let (bench, certs) = (Bench::new().await, Certs::new());
    let config = compacts_on_command(config(&certs, "node-1", free_port(), &[]));
    let node = TestNode::start(&certs, Config { trust: TrustMode::Distributed, ..config }).await;
    let keys: Vec<Vec<u8>> = (0..30).map(|_| random_key()).collect();
    let compact = async || {
        node.admin.admin.clone().compact(proto::CompactRequest {}).await.unwrap();
    };
    for (number, key) in keys.iter().enumerate() {
        node.client.put(key, b"grant").await.unwrap();
        if number == 20 {
            node.admin.delete(&keys[0], None).await.unwrap();
            compact().await;
        }
    }
    node.admin.invalidate(&keys[1], "leaked", None).await.unwrap();
    let store = node.node.store();
    let backups = bench.backups(store).await;
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Full);
    node.admin.invalidate(&keys[2], "leaked", None).await.unwrap();
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Incremental);
    let proven = async |directory: &Path, trust_domain: &str| {
        let authority = Authority::new(statement_verifier(directory).unwrap(), trust_domain);
        let chain = catalogue::choose(&bench.target, &Wanted::default()).await.unwrap();
        let (home, identity) = (tempfile::tempdir().unwrap(), Some(&bench.identity));
        let path = home.path().join("restored");
        let authority = Some(&authority);
        let restore = Restore { target: &bench.target, chain: &chain, identity, path: &path, authority };
        restore.run(|_| {}).await
    };
    proven(&certs.admin(), "brock").await.unwrap();
    let url = bench.url();
    let (directory, identity) = (certs.admin(), bench.identity_file());
    let (directory, identity) = (directory.to_str().unwrap(), identity.to_str().unwrap());
    let verify = ["backup", "verify", "--from", &url, "--certs-dir", directory];
    assert_fails(&brock(&verify), 1, &["--identity FILE is needed"]);
    let verified = brock(&[&verify[..], &["--identity", identity]].concat());
    assert_succeeds(&verified);
    let told = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(told.contains("good, proven by the cluster's signatures, 29 records, 1 tombstone"), "{told}");
    for (directory, trust_domain) in [(certs.admin(), "elsewhere"), (Certs::new().admin(), "brock")] {
        let refused = proven(&directory, trust_domain).await.unwrap_err();
        assert!(matches!(refused, RestoreError::Proof(_)), "{refused}");
    }
    // Something that nothing proves, in a backup that the node signs like any other.
    let unsigned = origin("other", 1);
    let content = payload(b"g");
    let invented = entry(1, key(1), &creation(1, &content), Some(&content));
    deliver(store, batch(unsigned, 0, vec![invented])).await.unwrap();
    backups.make(None).await.unwrap().unwrap();
    let refused = proven(&certs.admin(), "brock").await.unwrap_err();
    assert!(refused.to_string().contains("signatures of the cluster do not prove all"), "{refused}");
    close(bench.restore(&Wanted::default(), "believed").await.unwrap()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_under_load_is_of_one_moment() {
    let bench = Bench::new().await;
    let store = open(&options(&bench.home.path().join("data"))).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..3_000 {
                created(&store, new_record(key(number), &[7; 200])).await;
                if number % 3 == 0 {
                    delete(&store, number).await;
                }
            }
        })
    };
    let backups = bench.backups(&store).await;
    let mut made = Vec::new();
    while !writer.is_finished() {
        made.extend(backups.make(None).await.unwrap());
    }
    writer.await.unwrap();
    made.extend(backups.make(None).await.unwrap());
    assert!(made.len() > 3, "{} backups", made.len());
    for (i, manifest) in made.iter().enumerate().step_by(made.len().div_ceil(5)) {
        let wanted = Wanted { id: Some(manifest.key.clone()), ..Wanted::default() };
        // The restore compares the digest with the manifest's.
        let restored = bench.restore(&wanted, &format!("restored-{i}")).await.unwrap();
        assert_eq!(restored.records(), manifest.records);
        close(restored).await;
    }
    let restored = bench.restore(&Wanted::default(), "last").await.unwrap();
    assert_eq!(restored.summary().digest, store.summary().digest);
    close(restored).await;
    close(store).await;
}

/// A backup that is not encrypted is as secret as the data.
#[test]
fn parts_are_for_nobody_else_while_they_are_written() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = PartWriter::new(home.path(), Vec::new());
    writer.write(&brock_core::proto::BackupFrame::default()).unwrap();
    let parts = writer.finish().unwrap();
    assert_eq!(fs::metadata(&parts[0].path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_changed_byte_is_noticed_before_anything_is_installed() {
    let bench = Bench::new().await;
    let store = open(&options(&bench.home.path().join("data"))).await;
    created(&store, new_record(key(1), b"canary in a coal mine")).await;
    let backups = bench.backups(&store).await;
    backups.make(None).await.unwrap().unwrap();
    created(&store, new_record(key(2), b"canary in a coal mine")).await;
    backups.make(None).await.unwrap().unwrap();
    close(store).await;
    // Metadata is for the store's own rules only, and a restore does not believe it.
    let mut all = files(&bench.bucket());
    all.retain(|path| !path.to_string_lossy().ends_with("~meta"));
    assert_eq!(all.len(), 4);
    for path in &all {
        let good = fs::read(path).unwrap();
        assert!(!good.windows(6).any(|window| window == b"canary"), "{} shows a record", path.display());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(path, &bad).unwrap();
            let outcome = bench.restore(&Wanted::default(), "hurt").await;
            let error = outcome.err().unwrap_or_else(|| panic!("byte {at} of {} may change", path.display()));
            assert!(!error.to_string().is_empty());
            assert!(!bench.home.path().join("hurt").exists(), "something was installed");
            fs::remove_dir_all(bench.home.path().join("hurt.restoring")).ok();
        }
        fs::write(path, &good[..good.len() - 1]).unwrap();
        assert!(bench.restore(&Wanted::default(), "short").await.is_err());
        fs::remove_dir_all(bench.home.path().join("short.restoring")).ok();
        fs::write(path, &good).unwrap();
    }
    close(bench.restore(&Wanted::default(), "good").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_do_not_follow_on_each_other_are_refused_by_name() {
    let bench = Bench::new().await;
    let store = open(&options(&bench.home.path().join("data"))).await;
    let backups = bench.backups(&store).await;
    let mut made = Vec::new();
    for number in 0..3 {
        created(&store, new_record(key(number), b"g")).await;
        made.push(backups.make(None).await.unwrap().unwrap());
    }
    close(store).await;
    let path = |key: &str| bench.bucket().join(key);
    let refused = async |part: &str| {
        let error = bench.restore(&Wanted::default(), "refused").await.err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
        fs::remove_dir_all(bench.home.path().join("refused.restoring")).ok();
    };
    // Missing.
    let second = fs::read(path(&made[1].key)).unwrap();
    fs::remove_file(path(&made[1].key)).unwrap();
    refused(&made[1].key).await;
    // Moved to where another belongs.
    fs::copy(path(&made[2].key), path(&made[1].key)).unwrap();
    refused("belongs elsewhere").await;
    fs::write(path(&made[1].key), &second).unwrap();
    // Another node's.
    let wanted = Wanted { signer: Some("00".repeat(32)), ..Wanted::default() };
    let error = bench.restore(&wanted, "refused").await.err().unwrap().to_string();
    assert!(error.contains("not that node's backup"), "{error}");
    // A part that is gone.
    fs::remove_file(path(&made[0].parts[0].key)).unwrap();
    refused(&made[0].parts[0].key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_joins_what_was_deleted_and_revoked_since_and_brings_what_only_it_has() {
    let bench = Bench::new().await;
    let mut cluster = Cluster::start_with(2, compacts_on_command).await;
    let keys: Vec<Vec<u8>> = (0..12).map(|_| random_key()).collect();
    for key in &keys {
        cluster.node(1).client.put(key, b"grant").await.unwrap();
    }
    cluster.acknowledged().await;
    cluster.stop_node(0).await;
    // Only the backup will know of these.
    let own: Vec<Vec<u8>> = (0..3).map(|_| random_key()).collect();
    for key in &own {
        cluster.node(1).client.put(key, b"grant").await.unwrap();
    }
    let backups = bench.backups(cluster.node(1).node.store()).await;
    backups.make(None).await.unwrap().unwrap();
    drop(backups);
    cluster.stop_node(1).await;
    fs::remove_dir_all(cluster.path(1)).unwrap();
    cluster.start_node(0).await;
    for key in &keys[..4] {
        cluster.node(0).admin.delete(key, None).await.unwrap();
    }
    for key in &keys[4..8] {
        cluster.node(0).admin.invalidate(key, "leaked", None).await.unwrap();
    }
    let [data, identity] = [cluster.path(1), bench.identity_file()].map(|path| path.display().to_string());
    let url = bench.url();
    let arguments = ["backup", "restore", "--from", &url, "--node.path", &data, "--identity", &identity];
    let output = tokio::task::block_in_place(|| brock(&arguments));
    assert_succeeds(&output);
    cluster
        .start_node_with(1, |config| brock::config::validate::Config {
            first_start: brock::config::validate::FirstStart::No,
            ..config
        })
        .await;
    cluster.converged().await;
    for node in cluster.running() {
        let code = async |client: &Client, key: &[u8]| client.get_local(key).await.err().map(|s| s.code());
        for key in &keys[..4] {
            assert_eq!(code(&node.client, key).await, Some(Code::NotFound), "{}", node.id);
        }
        for key in &keys[4..8] {
            assert_eq!(code(&node.client, key).await, Some(Code::FailedPrecondition), "{}", node.id);
        }
        for key in keys[8..].iter().chain(&own) {
            assert_eq!(code(&node.client, key).await, None, "{}", node.id);
        }
    }
    eventually("all hold the same", || async {
        let verdict = cluster.node(0).admin.verify().await.verdict();
        (verdict == brock_core::proto::verify_response::Verdict::Converged).then_some(())
    })
    .await;
    // A second restore into the same place is refused.
    let output = tokio::task::block_in_place(|| brock(&arguments));
    assert_fails(&output, 1, &["is not empty"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_make_a_key_verify_and_say_what_is_missing() {
    let bench = Bench::new().await;
    let store = open(&options(&bench.home.path().join("data"))).await;
    created(&store, new_record(key(1), b"g")).await;
    bench.backups(&store).await.make(None).await.unwrap().unwrap();
    close(store).await;
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| brock(&[&["backup"], arguments].concat()));
    let (url, identity) = (bench.url(), bench.identity_file().display().to_string());
    let listed = run(&["list", "--from", &url]);
    assert_succeeds(&listed);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(".manifest.json  full"));
    let sealed = run(&["verify", "--from", &url]);
    assert_succeeds(&sealed);
    let told = String::from_utf8_lossy(&sealed.stdout).into_owned();
    assert!(told.contains("signatures and hashes are good") && told.contains("not decrypted"), "{told}");
    let [restored, link] = ["restored", "link"].map(|name| bench.home.path().join(name));
    let restore = |to: &Path| {
        run(&["restore", "--from", &url, "--node.path", to.to_str().unwrap(), "--identity", &identity])
    };
    assert_fails(
        &run(&["restore", "--from", &url, "--node.path", restored.to_str().unwrap()]),
        1,
        &["--identity FILE"],
    );
    assert_succeeds(&restore(&restored));
    assert_eq!(fs::metadata(&restored).unwrap().permissions().mode() & 0o7777, 0o700, "it is decrypted");
    fs::create_dir(bench.home.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(bench.home.path().join("elsewhere"), &link).unwrap();
    assert_fails(&restore(&link), 1, &["is a mount point or a link"]);
    assert_succeeds(&run(&["verify", "--from", &url, "--identity", &identity]));
    let other = bench.home.path().join("other");
    let other = other.to_str().unwrap();
    let made = run(&["keygen", "--yes", "--out", other]);
    assert_succeeds(&made);
    let recipient = String::from_utf8(made.stdout).unwrap();
    assert!(recipient.starts_with("age1") && recipient.lines().count() == 1, "{recipient}");
    assert_fails(&run(&["keygen", "--yes", "--out", other]), 1, &["cannot create"]);
    assert_fails(&run(&["keygen", "--out", &format!("{other}2")]), 1, &["--yes"]);
    assert!(!Path::new(&format!("{other}2")).exists(), "a key that nobody confirmed is not kept");
    // The wrong identity is refused before anything is fetched or made.
    let wrong = ["does not belong to this backup", bench.identity.to_public().to_string().as_str()]
        .map(str::to_owned);
    let wrong = wrong.each_ref().map(String::as_str);
    assert_fails(&run(&["verify", "--from", &url, "--identity", other]), 1, &wrong);
    let again = bench.home.path().join("again");
    let to = again.to_str().unwrap();
    assert_fails(&run(&["restore", "--from", &url, "--node.path", to, "--identity", other]), 1, &wrong);
    assert!(!bench.home.path().join("again.restoring").exists(), "it left something");
    assert_fails(&run(&["list", "--from", "nonsense"]), 1, &["s3://bucket/prefix"]);
    let empty = format!("file://{}", bench.home.path().join("nothing").display());
    assert_fails(&run(&["verify", "--from", &empty]), 1, &[""]);
}
