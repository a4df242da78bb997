//! Backups of a store without a node around it: what happens between and besides them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::harness::{
    files::flip_bit,
    stays,
    store::{NOW, close, created, delete, key, new_record, open, options, ram},
};
use age::x25519;
use brock::{
    backup::{
        catalogue::{self, Wanted},
        error::RestoreError,
        job::{Backups, Plan},
        manifest::Kind,
        objects::{Location, Settings, Target},
        restore::Restore,
        retention::Retention,
        signer,
    },
    runtime::alarms::Alarms,
    store::{DumpFrame, Options, Page, RecordPage, SentBundles, Store},
};
use brock_core::base::time::WallClock;
use tempfile::TempDir;

const HOUR_MS: u64 = 3_600_000;

/// A store, a clock that goes when it is told to, and a directory for backups.
struct Bench {
    home: TempDir,
    now_ms: Arc<AtomicU64>,
    wall_clock: WallClock,
    alarms: Alarms,
    store: Store,
    target: Target,
}

impl Bench {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicU64::new(NOW.unsigned_abs() * 1000));
        let target = target(&home.path().join("bucket"));
        target.prepare().await.unwrap();
        let (clock, path) = (Arc::clone(&now_ms), home.path().join("data"));
        let wall_clock = WallClock::new(move || clock.load(Ordering::SeqCst));
        let alarms = Alarms::new(wall_clock.clone());
        let options = Options { wall_clock: wall_clock.clone(), alarms: alarms.clone(), ..options(&path) };
        let store = open(&options).await;
        Self { home, now_ms, wall_clock, alarms, store, target }
    }

    fn pass(&self, milliseconds: u64) {
        self.now_ms.fetch_add(milliseconds, Ordering::SeqCst);
    }

    async fn backups(&self) -> Backups {
        self.backups_to(self.target.clone()).await
    }

    async fn backups_to(&self, target: Target) -> Backups {
        self.backups_for(target, Vec::new()).await
    }

    async fn backups_for(&self, target: Target, recipients: Vec<x25519::Recipient>) -> Backups {
        let plan = Plan {
            target,
            recipients,
            interval: Duration::from_secs(3600),
            sync_interval: None,
            retention: Retention::default(),
            staging: self.home.path().join("staging"),
            ram: None,
            wall_clock: self.wall_clock.clone(),
            alarms: self.alarms.clone(),
        };
        let signer = Arc::new(signer::load(&self.store).await.unwrap());
        Backups::open(self.store.clone(), plan, signer).await.unwrap()
    }

    /// What a backup restores to is compared with its manifest by the restore itself.
    async fn restores(&self, wanted: &Wanted) -> u64 {
        let chain = catalogue::choose(&self.target, wanted).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("restored");
        let restore =
            Restore { target: &self.target, chain: &chain, identity: None, path: &path, authority: None };
        restore.run(|_| {}).await.unwrap();
        chain.last().unwrap().manifest.records
    }

    async fn newest(&self) -> u64 {
        self.restores(&Wanted::default()).await
    }

    fn object(&self, key: &str) -> PathBuf {
        self.home.path().join("bucket").join(key)
    }
}

fn target(directory: &Path) -> Target {
    Target::open(&Location::File { directory: directory.to_owned() }, &Settings::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_tell_is_backed_up_in_full() {
    let bench = Bench::new().await;
    let backups = bench.backups().await;
    created(&bench.store, new_record(key(1), b"g")).await;
    backups.make(None).await.unwrap().unwrap();
    // As a repair does it: a state from a peer, without an operation.
    let peer = open(&ram("peer")).await;
    created(&peer, new_record(key(2), b"g")).await;
    let (page, _) = peer.record_page(None, SentBundles::default()).await.unwrap();
    let RecordPage { states, bundles, .. } = page;
    let joined = bench.store.join(Page { states, bundles, complete: None }).await.unwrap();
    assert_eq!(joined.changed, 1);
    let made = backups.make(None).await.unwrap().expect("a record has come");
    assert_eq!((made.kind, made.records), (Kind::Full, 2));
    assert_eq!(bench.newest().await, 2);
    // Then the log tells everything again.
    created(&bench.store, new_record(key(3), b"g")).await;
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Incremental);
    assert_eq!(bench.newest().await, 3);
    assert_eq!(backups.make(None).await.unwrap(), None);
    close(bench.store).await;
}

/// Claim: who can decrypt the newest backup can decrypt all that it needs.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_on_a_backup_for_other_recipients() {
    let bench = Bench::new().await;
    let (one, other) = (x25519::Identity::generate(), x25519::Identity::generate());
    let backups = async |who: &[&x25519::Identity]| {
        let recipients = who.iter().map(|identity| identity.to_public()).collect();
        bench.backups_for(bench.target.clone(), recipients).await
    };
    let restored = async |identity: &x25519::Identity| {
        let chain = catalogue::choose(&bench.target, &Wanted::default()).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let restore = Restore {
            target: &bench.target,
            chain: &chain,
            identity: Some(identity),
            path: home.path(),
            authority: None,
        };
        let built = restore.build(home.path(), &mut |_| ()).await;
        let built = built.map(|store| (store.records(), store));
        match built {
            Ok((records, store)) => {
                close(store).await;
                Ok(records)
            }
            Err(error) => Err(error),
        }
    };
    for (number, who) in [&[&one][..], &[&other], &[&other, &one], &[]].into_iter().enumerate() {
        created(&bench.store, new_record(key(2 * number as u64), b"g")).await;
        let first = backups(who).await.make(None).await.unwrap().unwrap();
        assert_eq!(first.kind, Kind::Full, "others than before are to read it");
        created(&bench.store, new_record(key(2 * number as u64 + 1), b"g")).await;
        let second = backups(who).await.make(None).await.unwrap().unwrap();
        assert_eq!(second.kind, Kind::Incremental);
        for identity in [&one, &other] {
            let is_for = who.iter().any(|known| known.to_public() == identity.to_public());
            match restored(identity).await {
                Ok(records) => assert!(is_for && records == 2 * number as u64 + 2),
                Err(RestoreError::NotEncrypted(key)) => assert!(who.is_empty() && key.contains("full")),
                Err(error) => assert!(
                    !is_for && error.to_string().contains("does not belong to this backup"),
                    "{error}"
                ),
            }
        }
    }
    close(bench.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_on_a_backup_that_is_not_there_or_lies_elsewhere() {
    let bench = Bench::new().await;
    let backups = bench.backups().await;
    created(&bench.store, new_record(key(1), b"g")).await;
    let first = backups.make(None).await.unwrap().unwrap();
    created(&bench.store, new_record(key(2), b"g")).await;
    fs::remove_file(bench.object(&first.key)).unwrap();
    assert_eq!(backups.make(None).await.unwrap().unwrap().kind, Kind::Full);
    created(&bench.store, new_record(key(3), b"g")).await;
    let elsewhere = bench.backups_to(target(&bench.home.path().join("elsewhere"))).await;
    assert_eq!(elsewhere.report().last, None, "what lies elsewhere is not its last one");
    assert_eq!(elsewhere.make(None).await.unwrap().unwrap().kind, Kind::Full);
    // A new process remembers where it was.
    let again = bench.backups_to(target(&bench.home.path().join("elsewhere"))).await;
    assert_ne!(again.report().last, None);
    assert_eq!(again.make(None).await.unwrap(), None);
    close(bench.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_set_back_breaks_no_chain() {
    let bench = Bench::new().await;
    let backups = bench.backups().await;
    for number in 1..=3 {
        created(&bench.store, new_record(key(number), b"g")).await;
        backups.make(None).await.unwrap().unwrap();
        bench.now_ms.fetch_sub(60_000, Ordering::SeqCst);
    }
    assert_eq!(bench.newest().await, 3);
    created(&bench.store, new_record(key(4), b"g")).await;
    assert_eq!(backups.make(Some(Kind::Full)).await.unwrap().unwrap().kind, Kind::Full);
    assert_eq!(bench.newest().await, 4);
    close(bench.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn months_of_backups_leave_what_retention_says_and_each_of_it_restores() {
    let bench = Bench::new().await;
    let backups = bench.backups().await;
    let mut number = 0;
    for hour in 0..60 {
        for _ in 0..2 {
            number += 1;
            created(&bench.store, new_record(key(number), b"g")).await;
            backups.make(None).await.unwrap().unwrap();
            bench.pass(HOUR_MS / 2);
        }
        if hour % 20 == 19 {
            bench.pass(100 * HOUR_MS);
        }
    }
    let (kept, doubtful) = backups.list().await.unwrap();
    assert_eq!(doubtful, []);
    let full = kept.iter().filter(|manifest| manifest.kind == Kind::Full).count();
    assert!((20..30).contains(&full), "{full} full ones of 60 are kept");
    let parts: BTreeSet<&str> = kept.iter().flat_map(|m| &m.parts).map(|part| part.key.as_str()).collect();
    let listed = bench.target.list("").await.unwrap();
    assert_eq!(listed.len(), kept.len() + parts.len(), "nothing else is left");
    for manifest in kept.iter().step_by(7).chain(kept.last()) {
        let wanted = Wanted { id: Some(manifest.key.clone()), ..Wanted::default() };
        assert_eq!(bench.restores(&wanted).await, manifest.records, "{}", manifest.key);
    }
    close(bench.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_without_a_manifest_go_when_they_are_old() {
    let bench = Bench::new().await;
    let backups = bench.backups().await;
    created(&bench.store, new_record(key(1), b"g")).await;
    let made = backups.make(None).await.unwrap().unwrap();
    // As if it had been killed before the manifest.
    fs::remove_file(bench.object(&made.key)).unwrap();
    let orphan = bench.object(&made.parts[0].key);
    bench.pass(2 * HOUR_MS);
    backups.make(None).await.unwrap().unwrap();
    assert!(orphan.exists(), "it may still be under way");
    bench.pass(23 * HOUR_MS);
    backups.make(None).await.unwrap().unwrap();
    assert!(!orphan.exists());
    assert_eq!(bench.newest().await, 1);
    close(bench.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_notices_what_is_damaged_where_it_is_kept_and_begins_anew() {
    let bench = Bench::new().await;
    let backups = bench.backups().await;
    created(&bench.store, new_record(key(1), b"g")).await;
    let full = backups.make(None).await.unwrap().unwrap();
    created(&bench.store, new_record(key(2), b"g")).await;
    let increment = backups.make(None).await.unwrap().unwrap();
    backups.check().await.unwrap();
    let report = backups.report();
    assert_eq!((report.verify_error, report.last_verified_unix_ms), (None, Some(NOW.unsigned_abs() * 1000)));
    for damage in [&full.parts[0].key, &increment.parts[0].key, &increment.key, &full.key] {
        let path = bench.object(damage);
        let good = fs::read(&path).unwrap();
        for gone in [false, true] {
            if gone {
                fs::remove_file(&path).unwrap();
            } else {
                flip_bit(&path, good.len() / 2);
            }
            // A new process has read nothing yet.
            let backups = bench.backups().await;
            backups.check().await.unwrap();
            let report = backups.report();
            let error = report.verify_error.unwrap();
            assert!(error.contains(damage.as_str()), "{damage}: {error}");
            assert_eq!(report.last_verified_unix_ms, None);
            assert!(bench.alarms.list().iter().any(|alarm| alarm.text.contains(damage.as_str())), "{damage}");
            fs::write(&path, &good).unwrap();
        }
    }
    flip_bit(&bench.object(&full.parts[0].key), 3);
    let backups = bench.backups().await;
    backups.check().await.unwrap();
    // Nothing was written since, and yet.
    assert_eq!(backups.make(None).await.unwrap().expect("nothing follows on it").kind, Kind::Full);
    backups.check().await.unwrap();
    assert_eq!(backups.report().verify_error, None);
    assert_eq!(bench.newest().await, 2);
    close(bench.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_not_rewritten_while_a_dump_still_sees_what_was_deleted() {
    let bench = Bench::new().await;
    // How long a removal takes when nothing is in its way.
    created(&bench.store, new_record(key(0), b"g")).await;
    delete(&bench.store, 0).await;
    let alone = Instant::now();
    assert_eq!(bench.store.remove_payloads().await.unwrap(), 1);
    let alone = alone.elapsed();
    created(&bench.store, new_record(key(1), b"g")).await;
    delete(&bench.store, 1).await;
    let (begun, wait_begun) = mpsc::channel();
    let (go_on, wait_go_on) = mpsc::channel();
    let store = bench.store.clone();
    let dump = tokio::task::spawn_blocking(move || {
        let mut first = true;
        store.dump(None, |frame| {
            if std::mem::take(&mut first) {
                assert!(matches!(frame, DumpFrame::Begin(_)));
                begun.send(()).unwrap();
                wait_go_on.recv().unwrap();
            }
            true
        })
    });
    tokio::task::spawn_blocking(move || wait_begun.recv().unwrap()).await.unwrap();
    let store = bench.store.clone();
    let removal = tokio::spawn(async move { store.remove_payloads().await.unwrap() });
    let long_enough = (10 * alone).max(Duration::from_millis(300));
    stays("nothing is rewritten under the dump", long_enough, || async { !removal.is_finished() }).await;
    // Reads and writes do not wait for it.
    created(&bench.store, new_record(key(2), b"g")).await;
    go_on.send(()).unwrap();
    assert_eq!(dump.await.unwrap().unwrap().unwrap().totals.records, 0);
    assert_eq!(removal.await.unwrap(), 1);
    close(bench.store).await;
}

#[cfg(feature = "planted-bugs")]
mod interrupted {
    use std::sync::atomic::AtomicBool;

    use brock::backup::objects::{Act, Fault, Faulty};
    use tokio::sync::Notify;

    use super::*;

    /// Every step of a backup that reaches the store, broken off before and after it.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_that_breaks_off_at_any_step_costs_nothing_but_itself() {
        for fault in [Fault::Before, Fault::After, Fault::Hang] {
            let bench = Bench::new().await;
            created(&bench.store, new_record(key(0), b"g")).await;
            bench.backups().await.make(None).await.unwrap().unwrap();
            let mut number = 0;
            for full in [Some(Kind::Full), None] {
                for step in 0.. {
                    number += 1;
                    created(&bench.store, new_record(key(number), b"g")).await;
                    let (seen, broke) = (AtomicU64::new(0), Arc::new(Notify::new()));
                    let (told, struck) = (Arc::clone(&broke), Arc::new(AtomicBool::new(false)));
                    let strike = Arc::clone(&struck);
                    let faulty = Faulty::new(bench.target.clone(), move |act, _| {
                        let strikes = seen.fetch_add(1, Ordering::SeqCst) == step
                            && matches!(act, Act::Prepare | Act::Head | Act::Put);
                        if !strikes {
                            return Fault::None;
                        }
                        strike.store(true, Ordering::SeqCst);
                        told.notify_one();
                        fault
                    });
                    let backups = bench.backups_to(Target::Faulty(faulty)).await;
                    let made = tokio::select! {
                        made = backups.make(full) => made.is_ok(),
                        // As if it was killed there.
                        () = broke.notified(), if fault == Fault::Hang => false,
                    };
                    let is_broken = struck.load(Ordering::SeqCst);
                    assert_eq!(made, !is_broken, "{fault:?} {full:?} {step}");
                    // What was there is there, and the next one holds what this one was to hold.
                    assert!(bench.newest().await >= number, "{fault:?} {full:?} {step}");
                    bench.backups().await.make(None).await.unwrap();
                    assert_eq!(bench.newest().await, number + 1, "{fault:?} {full:?} {step}");
                    if !is_broken && step > 6 {
                        break;
                    }
                }
            }
            close(bench.store).await;
        }
    }
}
