//! Payloads that lost, and an operator's note that they are dealt with.

use std::path::Path;

use crate::harness::store::{batch, close, creation, deliver, entry, key, open, options, origin, payload};
use brock::store::Store;
use rocksdb::{DB, Options};

/// Delivers another payload for the same key hash, from another origin.
async fn create_at(store: &Store, place: u32, created_at: i64, grant: &[u8]) {
    let grant = payload(grant);
    let entries = vec![entry(1, key(1), &creation(created_at, &grant), Some(&grant))];
    deliver(store, batch(origin("elsewhere", place), 0, entries)).await.unwrap();
}

/// The payloads that lost, how many of them count as acknowledged, and whether the list says so.
async fn conflicts(store: &Store) -> (u64, u64, bool) {
    let (listed, _) = store.conflict_page(None, 10).await.unwrap();
    let [conflict] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(conflict.losers.len() as u64, store.conflicts());
    (store.conflicts(), store.totals().acknowledged, conflict.acknowledged)
}

/// Opens the database of a closed store without the store.
fn with_database<T>(path: &Path, change: impl FnOnce(&DB) -> T) -> T {
    let path = path.join("db");
    let options = Options::default();
    let families = DB::list_cf(&options, &path).unwrap();
    change(&DB::open_cf(&options, &path, families).unwrap())
}

fn mark(database: &DB) -> Vec<u8> {
    database.get_cf(database.cf_handle("conflict").unwrap(), key(1).0).unwrap().unwrap()
}

/// As a version leaves the totals that knows of no acknowledgements: the format version, and seven numbers.
fn drop_later_totals(database: &DB) {
    let meta = database.cf_handle("meta").unwrap();
    let totals = database.get_cf(meta, "counters").unwrap().unwrap();
    database.put_cf(meta, "counters", &totals[..1 + 7 * 8]).unwrap();
}

#[tokio::test]
async fn an_acknowledgement_outlives_a_version_that_knows_of_none() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    create_at(&store, 1, 1, b"first").await;
    create_at(&store, 2, 2, b"second").await;
    assert_eq!(conflicts(&store).await, (1, 0, false));
    assert_eq!(store.acknowledge(vec![key(1), key(2)]).await.unwrap(), 1, "the other key has no conflict");
    assert_eq!(conflicts(&store).await, (1, 1, true));
    close(store).await;

    with_database(directory.path(), drop_later_totals);
    let store = open(&options(directory.path())).await;
    assert_eq!(conflicts(&store).await, (1, 1, true));
    assert_eq!(store.acknowledge(vec![key(1)]).await.unwrap(), 1);
    assert_eq!(conflicts(&store).await, (1, 1, true), "it counts once");
    close(store).await;
}

#[tokio::test]
async fn a_loser_that_a_version_without_acknowledgements_added_is_not_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    create_at(&store, 1, 1, b"first").await;
    create_at(&store, 2, 2, b"second").await;
    store.acknowledge(vec![key(1)]).await.unwrap();
    close(store).await;
    let acknowledged = with_database(directory.path(), mark);

    // Such a version adds the loser to the record, and leaves the mark as it is.
    let store = open(&options(directory.path())).await;
    create_at(&store, 3, 3, b"third").await;
    assert_eq!(conflicts(&store).await, (2, 0, false));
    close(store).await;
    with_database(directory.path(), |database| {
        database.put_cf(database.cf_handle("conflict").unwrap(), key(1).0, &acknowledged).unwrap();
        drop_later_totals(database);
    });
    let store = open(&options(directory.path())).await;
    assert_eq!(conflicts(&store).await, (2, 0, false), "no operator has seen the third payload");
    store.acknowledge(vec![key(1)]).await.unwrap();
    assert_eq!(conflicts(&store).await, (2, 2, true));
    // Every later payload opens it again, however it is ordered among the others.
    create_at(&store, 4, 0, b"fourth, and it wins").await;
    assert_eq!(conflicts(&store).await, (3, 0, false));
    // The same payload once more is nothing that an operator has to see.
    store.acknowledge(vec![key(1)]).await.unwrap();
    create_at(&store, 5, 1, b"second").await;
    assert_eq!(conflicts(&store).await, (3, 3, true));
    close(store).await;
}

#[tokio::test]
async fn an_acknowledgement_that_is_answered_holds_although_a_payload_loses_in_the_same_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&options(directory.path())).await;
    create_at(&store, 1, 1, b"first").await;
    for place in 2..30_u32 {
        // One group if the writer is busy with the scan, or one after the other; both must do.
        let busy = store.scrub(0);
        let grant = place.to_be_bytes();
        let loses = create_at(&store, place, i64::from(place), &grant);
        let (_, (), acknowledged) = tokio::join!(busy, loses, store.acknowledge(vec![key(1)]));
        let losers = store.conflicts();
        if acknowledged.unwrap() == 1 {
            assert_eq!(conflicts(&store).await, (losers, losers, true));
        }
    }
    close(store).await;
}
