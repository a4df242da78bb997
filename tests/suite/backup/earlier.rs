//! Backups of versions before the first release.

use std::path::Path;

use crate::harness::{
    files::copy,
    store::{close, node_id, open, options},
};
use brock::{
    backup::{
        catalogue::{self, Wanted},
        objects::{Location, Settings, Target},
        restore::Restore,
    },
    store::{Options, Scrubbed},
};
use brock_core::{base::id::KeyHash, domain::record::Visibility};

/// A full backup and an incremental one, made by a node with storage format 2 and protocol 2. Its refusal of such a
/// storage names this as the way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_storage_format_2_is_restored() {
    let home = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backup-of-format-2");
    let directory = home.path().join("bucket");
    copy(&fixture, &directory);
    let target = Target::open(&Location::File { directory }, &Settings::default()).unwrap();
    let chain = catalogue::choose(&target, &Wanted::default()).await.unwrap();
    assert_eq!(chain.len(), 2);
    let path = home.path().join("restored");
    let restore = Restore { target: &target, chain: &chain, identity: None, path: &path, authority: None };
    restore.run(|_| {}).await.unwrap();
    let store = open(&Options { node_id: node_id("old"), first_start: false, ..options(&path) }).await;
    let mut states = Vec::new();
    for number in 1..8 {
        let mut key = [0; 32];
        key[31] = number;
        let state = store.get(KeyHash(key)).await.unwrap().unwrap();
        states.push((state.visibility(1_800_000_000), !state.unpublished, state.expires_at));
    }
    let valid = |public, expires_at| (Visibility::Valid, public, expires_at);
    let expected = [
        (Visibility::Invalidated, true, None),
        valid(false, None),
        (Visibility::Gone, true, None),
        (Visibility::Invalidated, true, None),
        valid(true, None),
        valid(false, Some(4_102_444_800)),
        valid(false, None),
    ];
    assert_eq!(states, expected);
    // Nothing of it is signed: `trust migrate` logs it again.
    let totals = store.totals();
    assert_eq!((totals.records, totals.tombstones, totals.unproven), (6, 1, 7));
    for bucket in 0..=u8::MAX {
        assert_eq!(store.scrub(bucket).await.unwrap(), Scrubbed::default(), "{bucket}");
    }
    close(store).await;
}
