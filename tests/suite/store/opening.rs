//! What a storage directory may be when a node starts, and which incarnation comes of it.

use std::{fs, path::Path};

use crate::harness::{
    certs::Certs,
    files::{copy, flip_bit, size, tree, truncate, write_ahead_log},
    hanging::fifo,
    process::Launch,
    store::{close, contiguous_log, created, key, new_record, node_id, open, options, ram},
};
use brock::store::{OpenError, Options, Store};
use brock_core::base::{id::Origin, vector::Clock};

/// Bytes between the bits that are turned over one after another.
const FLIP_STEP: usize = 61;

/// A storage directory with `records` records that was closed in order, and its origin.
async fn closed_store(path: &Path, records: u64) -> Origin {
    let store = open(&options(path)).await;
    for i in 0..records {
        created(&store, new_record(key(i), format!("grant {i}").as_bytes())).await;
    }
    close(store.clone()).await;
    store.origin()
}

/// A storage directory as a crash leaves it, with a superblock that knows of all `records`.
async fn crashed_store(path: &Path, records: u64) -> Origin {
    let store = open(&options(path)).await;
    for i in 0..records {
        created(&store, new_record(key(i), format!("grant {i}").as_bytes())).await;
    }
    store.checkpoint().unwrap();
    let origin = store.origin();
    drop(store);
    // The next one to open it would have to wait for the lock: so does this test, before it copies.
    let lock = || Store::open(&Options { node_id: node_id("nobody"), ..options(path) });
    while matches!(lock(), Err(OpenError::Locked(_))) {
        tokio::task::yield_now().await;
    }
    origin
}

fn without_first_start(path: &Path) -> Options {
    Options { first_start: false, ..options(path) }
}

/// Opening is refused, and leaves every file as it was.
fn refusal(options: &Options) -> OpenError {
    let path = options.path.as_ref().unwrap();
    let before = tree(path);
    let error = Store::open(options).map(|_| ()).unwrap_err();
    assert!(tree(path) == before, "a refusal changes nothing: {error}");
    error
}

/// What was lost with a write-ahead log: the store goes on under a new incarnation.
async fn assert_opens_anew(path: &Path, origin: Origin, written: u64) -> u64 {
    let options = without_first_start(path);
    let store = open(&options).await;
    assert_ne!(store.origin(), origin, "no clock is used twice");
    let kept = contiguous_log(&store, origin).await.len() as u64;
    assert_eq!(store.records(), kept);
    let alarms = options.alarms.list();
    if kept < written {
        let lost = format!("lost {} operations", written - kept);
        assert!(alarms.iter().any(|alarm| alarm.text.contains(&lost)), "{lost}: {alarms:?}");
    } else {
        assert_eq!(alarms, []);
    }
    let stamp = created(&store, new_record(key(9999), b"after")).await;
    assert_eq!((stamp.origin, stamp.clock), (store.origin(), Clock(1)));
    assert_eq!(store.clock(&origin), Clock(kept), "the old origin's log stays as it is");
    kept
}

#[tokio::test]
async fn empty_storage_is_refused_unless_it_is_expected_and_nothing_is_created() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("deep/inside");
    let error = refusal(&without_first_start(&absent));
    assert!(matches!(error, OpenError::Empty(_)), "{error}");
    assert!(error.to_string().contains("--node.first-start=true"), "{error}");
    assert!(!directory.path().join("deep").exists());

    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(refusal(&without_first_start(&empty)), OpenError::Empty(_)));
    fs::create_dir(empty.join("db")).unwrap();
    assert!(
        matches!(refusal(&without_first_start(&empty)), OpenError::Empty(_)),
        "an empty database directory"
    );

    let store = open(&options(&empty)).await;
    close(store).await;
    close(open(&without_first_start(&empty)).await).await;

    // A directory of another program is not made a storage.
    let foreign = directory.path().join("foreign");
    for allowed in ["lost+found", "audit", ".snapshot"] {
        fs::create_dir_all(foreign.join(allowed)).unwrap();
    }
    fs::write(foreign.join("ca.crt"), "").unwrap();
    for options in [options(&foreign), without_first_start(&foreign)] {
        let error = refusal(&options);
        assert!(
            matches!(error, OpenError::Foreign { .. }) && error.to_string().contains("it has ca.crt"),
            "{error}"
        );
    }
    assert!(!foreign.join("db").exists(), "it made something");
    fs::remove_file(foreign.join("ca.crt")).unwrap();
    close(open(&options(&foreign)).await).await;
}

#[tokio::test]
async fn the_storage_of_another_node_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    closed_store(path, 3).await;
    let other = |id: &str| Options { node_id: node_id(id), ..options(path) };
    for id in ["other", "node-11", "node-"] {
        let error = refusal(&other(id));
        assert!(matches!(error, OpenError::WrongNodeId { .. }), "{error}");
        assert!(error.to_string().contains("node-1,") && error.to_string().contains(id), "{error}");
    }
    // The database knows it too.
    fs::remove_file(path.join("superblock.json")).unwrap();
    let error = Store::open(&other("other")).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::WrongNodeId { .. }), "{error}");
    assert_eq!(open(&options(path)).await.records(), 3);
}

#[tokio::test]
async fn a_database_that_is_gone_is_never_replaced_by_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    closed_store(&good, 3).await;
    let hurt = directory.path().join("hurt");
    for first_start in [false, true] {
        let options = Options { first_start, ..options(&hurt) };
        copy(&good, &hurt);
        fs::remove_dir_all(hurt.join("db")).unwrap();
        let error = refusal(&options);
        assert!(matches!(error, OpenError::DatabaseGone(_)), "{error}");
        assert!(error.to_string().contains("has lost its database"), "{error}");

        fs::create_dir(hurt.join("db")).unwrap();
        assert!(matches!(refusal(&options), OpenError::DatabaseGone(_)));

        copy(&good, &hurt);
        fs::remove_file(hurt.join("db/CURRENT")).unwrap();
        assert!(matches!(refusal(&options), OpenError::DatabaseGone(_)));

        // A database that was made afresh beside the old superblock.
        copy(&good, &hurt);
        fs::remove_dir_all(hurt.join("db")).unwrap();
        let mut fresh = rocksdb::Options::default();
        fresh.create_if_missing(true);
        drop(rocksdb::DB::open(&fresh, hurt.join("db")).unwrap());
        let error = Store::open(&options).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::DatabaseGone(_)), "{error}");
    }
}

#[tokio::test]
async fn a_database_with_files_missing_does_not_open() {
    let directory = tempfile::tempdir().unwrap();
    // The path is in RocksDB's message, and must not be taken for its reason.
    let (good, hurt) = (directory.path().join("good"), directory.path().join("block-7"));
    closed_store(&good, 3).await;
    for kind in ["MANIFEST", ".sst"] {
        copy(&good, &hurt);
        let gone: Vec<_> =
            tree(&hurt).into_keys().filter(|file| file.to_string_lossy().contains(kind)).collect();
        assert!(!gone.is_empty());
        gone.iter().for_each(|file| fs::remove_file(file).unwrap());
        let error = Store::open(&options(&hurt)).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::Database { .. }), "without {kind}: {error}");
        assert!(error.to_string().contains("does not open"), "{error}");
    }
}

#[tokio::test]
async fn another_format_version_is_refused_by_number_and_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    closed_store(path, 1).await;
    let superblock = fs::read_to_string(path.join("superblock.json")).unwrap();
    let later = superblock.replace("\"format_version\":3", "\"format_version\":4,\"a_later_field\":true");
    assert_ne!(later, superblock);
    fs::write(path.join("superblock.json"), later).unwrap();
    let error = refusal(&options(path));
    assert!(matches!(error, OpenError::FormatVersion { found: 4, known: 3, .. }), "{error}");

    assert!(error.to_string().ends_with("Use the version that wrote it"), "{error}");
    let earlier = superblock.replace("\"format_version\":3", "\"format_version\":2");
    fs::write(path.join("superblock.json"), earlier).unwrap();
    let error = refusal(&options(path));
    assert!(matches!(error, OpenError::FormatVersion { found: 2, known: 3, .. }), "{error}");
    assert!(
        error.to_string().contains("restore the backup with this one, or give the node an empty"),
        "{error}"
    );

    // And in the database, should the superblock be older than it.
    fs::write(path.join("superblock.json"), superblock).unwrap();
    let plain = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&plain, path.join("db")).unwrap();
    let database = rocksdb::DB::open_cf(&plain, path.join("db"), families).unwrap();
    let meta = database.cf_handle("meta").unwrap();
    database.put_cf(meta, b"format_version", [1, 0, 0, 0, 0, 0, 0, 0, 4]).unwrap();
    drop(database);
    let error = Store::open(&options(path)).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::FormatVersion { found: 4, known: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_superblock_that_cannot_be_read_is_refused_and_removing_it_is_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let origin = closed_store(path, 3).await;
    let file = path.join("superblock.json");
    let good = fs::read_to_string(&file).unwrap();
    let half = &good[..good.len() / 2];
    let unknown = good.replace("\"clean\"", "\"surprise\":1,\"clean\"");
    let head = good.replace("6e6f6465", "zz6f6465");
    for garbage in ["", "\0\0\0\0", "[]", "{}", "{\"format_version\":3}", half, &unknown, &head] {
        fs::write(&file, garbage).unwrap();
        let error = refusal(&options(path));
        assert!(matches!(error, OpenError::Superblock { .. }), "{garbage:?}: {error}");
        assert!(error.to_string().contains("superblock.json"), "{error}");
    }
    fs::remove_file(&file).unwrap();
    fifo(&file);
    let error = Store::open(&options(path)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("superblock.json: it is a FIFO"), "{error}");
    fs::remove_file(&file).unwrap();
    assert_eq!(assert_opens_anew(path, origin, 3).await, 3, "as after a crash");
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    created(&store, new_record(key(1), b"g")).await;
    let error = Store::open(&options(directory.path())).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    created(&store, new_record(key(2), b"g")).await;
    let origin = store.origin();
    close(store).await;
    let store = open(&options(directory.path())).await;
    assert_eq!((store.clock(&origin), store.records()), (Clock(2), 2), "the refused one disturbed nothing");
}

#[tokio::test]
async fn every_start_begins_a_new_incarnation_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let origin = closed_store(path, 2).await;
    let store = open(&options(path)).await;
    let second = store.origin();
    assert_ne!(second, origin, "an old copy that was closed in order looks the same");
    assert_eq!(store.incarnation_reason(), "start");
    assert_eq!(created(&store, new_record(key(10), b"g")).await.clock, Clock(1));
    drop(store);

    let third = options(path);
    let store = open(&third).await;
    assert!(![origin, second].contains(&store.origin()));
    assert_eq!((store.clock(&origin), store.clock(&second)), (Clock(2), Clock(1)));
    assert_eq!(store.incarnation_reason(), "unclean_stop");
    assert_eq!(third.alarms.list(), [], "a crash that lost nothing is no alarm");
    close(store).await;
    let store = open(&options(path)).await;
    assert_eq!(store.incarnation_reason(), "start");
    assert_eq!(store.vector().len(), 2, "an incarnation that wrote nothing is not listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_comes_back_as_a_new_incarnation_and_knows_whether_it_was_killed() {
    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "node-1", &directory.path().join("data"));
    let (process, client) = launch.start(&certs).await;
    let first = client.status().await.incarnation;
    client.put(&key(1).0, b"g").await.unwrap();
    process.kill();

    let (process, client) = launch.start(&certs).await;
    let second = client.status().await;
    assert_ne!(first, second.incarnation);
    assert_eq!(second.incarnation_reason, "unclean_stop");
    client.get_local(&key(1).0).await.unwrap();
    let (status, _) = process.terminate();
    assert!(status.success());

    let (process, client) = launch.start(&certs).await;
    let third = client.status().await;
    assert_ne!(third.incarnation, second.incarnation);
    assert_eq!(third.incarnation_reason, "start");
    assert_eq!(process.complaints(&[]), [""; 0]);
}

#[tokio::test]
async fn a_database_older_than_its_superblock_opens_with_an_alarm_under_a_new_incarnation() {
    let directory = tempfile::tempdir().unwrap();
    let (path, older) = (directory.path().join("data"), directory.path().join("older"));
    let origin = closed_store(&path, 5).await;
    copy(&path.join("db"), &older);
    let store = open(&options(&path)).await;
    for i in 5..12 {
        created(&store, new_record(key(i), b"g")).await;
    }
    close(store).await;
    copy(&older, &path.join("db"));
    assert_eq!(assert_opens_anew(&path, origin, 12).await, 5);
    // Told once: what is lost is lost, and the superblock knows what is there now.
    let again = options(&path);
    open(&again).await;
    assert_eq!(again.alarms.list(), []);
}

#[tokio::test]
async fn a_write_ahead_log_cut_off_anywhere_opens_with_what_is_left_and_an_alarm() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    let origin = crashed_store(&good, 12).await;
    let length = size(&write_ahead_log(&good));
    let mut kept = Vec::new();
    for (i, cut) in (0..=16).map(|i| length * i / 16).enumerate() {
        let hurt = directory.path().join(format!("hurt-{i}"));
        copy(&good, &hurt);
        truncate(&write_ahead_log(&hurt), cut);
        kept.push(assert_opens_or_is_gone(&hurt, origin, 12).await);
    }
    assert!(kept.is_sorted() && kept[0] == 0 && kept[16] == 12, "{kept:?}");
    assert!(kept.iter().any(|kept| (1..12).contains(kept)), "{kept:?}");
}

/// With so much cut off that not even the node's birth is left, it is as if all was gone.
async fn assert_opens_or_is_gone(path: &Path, origin: Origin, written: u64) -> u64 {
    let options = without_first_start(path);
    match Store::open(&options) {
        Err(OpenError::DatabaseGone(_)) => 0,
        Err(error) => panic!("{error}"),
        Ok(store) => {
            let kept = store.clock(&origin).0;
            assert_eq!(
                kept < written,
                !options.alarms.list().is_empty(),
                "{kept} kept: {:?}",
                options.alarms.list()
            );
            assert_ne!(store.origin(), origin);
            assert_eq!(contiguous_log(&store, origin).await.len() as u64, kept);
            assert_eq!(store.records(), kept);
            assert_eq!(created(&store, new_record(key(9999), b"after")).await.origin, store.origin());
            kept
        }
    }
}

#[tokio::test]
async fn a_bit_flipped_in_the_write_ahead_log_is_never_passed_over_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    let origin = crashed_store(&good, 12).await;
    let length = usize::try_from(size(&write_ahead_log(&good))).unwrap();
    let (mut refused, mut alarmed) = (0, 0);
    // Relatively prime to every size of record, so that headers are hit too.
    for position in (0..length).step_by(FLIP_STEP) {
        let hurt = directory.path().join(format!("hurt-{position}"));
        copy(&good, &hurt);
        flip_bit(&write_ahead_log(&hurt), position);
        let options = without_first_start(&hurt);
        match Store::open(&options) {
            Err(OpenError::DatabaseGone(_)) => alarmed += 1,
            Err(error) => {
                assert!(matches!(error, OpenError::Database { .. }), "{error}");
                assert!(error.to_string().contains("does not open: Corruption"), "{error}");
                refused += 1;
            }
            // A length that now points beyond the end is not told from a log that was cut off.
            Ok(store) => {
                assert!(
                    !options.alarms.list().is_empty(),
                    "data lost in silence: bit at {position} of {length}"
                );
                assert!(store.clock(&origin) < Clock(12));
                assert_ne!(store.origin(), origin);
                alarmed += 1;
            }
        }
    }
    assert!(refused > 9 * alarmed, "{refused} refused, {alarmed} opened with an alarm");
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_in_ram_starts_empty_and_leaves_nothing_behind() {
    let store = open(&ram("a")).await;
    created(&store, new_record(key(1), b"g")).await;
    let first = store.origin();
    close(store).await;
    let store = open(&ram("a")).await;
    assert_ne!(store.origin(), first);
    assert!(store.vector().is_empty() && store.records() == 0);

    let (certs, directory) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "node-1", Path::new("ram:"));
    launch.env = vec![("TMPDIR".to_owned(), directory.path().to_owned())];
    let (process, client) = launch.start(&certs).await;
    client.put(&key(1).0, b"g").await.unwrap();
    let files: Vec<_> = tree(directory.path()).into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    assert!(
        files.is_empty(),
        "no data on disk: {:?}",
        files.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
    assert!(process.log().iter().any(|line| line.contains("ALL DATA IS IN RAM ONLY")));
    assert!(process.terminate().0.success());
    assert!(tree(directory.path()).is_empty(), "{:?}", tree(directory.path()).keys());

    let (_process, client) = launch.start(&certs).await;
    assert_eq!(client.status().await.records, 0);
}
