//! Where backups are kept: directories and S3-compatible stores, in good times and bad.

#[cfg(feature = "planted-bugs")]
use std::net::SocketAddr;
use std::path::Path;

use crate::harness::s3::{
    ACCESS_KEY, BUCKET, Fault, OTHER_ACCESS_KEY, OTHER_SECRET, Op, Quirks, S3Server, SECRET,
};
use brock::backup::objects::{
    CredentialSettings, Download, FileTarget, Listed, Metadata, ObjectError, Secret, Settings, Source,
    Target, Timeouts,
};
use bytes::Bytes;
use futures::TryStreamExt;

pub const MIB: usize = 1024 * 1024;

pub fn bytes(text: &'static str) -> Source {
    Source::Bytes(Bytes::from_static(text.as_bytes()))
}

pub fn some_metadata() -> Metadata {
    Metadata::from([
        ("expires".to_owned(), "2025-01-31T10:00:00Z".to_owned()),
        ("kind".to_owned(), "full backup".to_owned()),
    ])
}

/// Bytes in which no stretch is like another.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn read(mut download: Download) -> Result<Vec<u8>, ObjectError> {
    let mut bytes = Vec::new();
    while let Some(piece) = download.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

pub async fn get(target: &Target, key: &str, offset: u64) -> Result<Vec<u8>, ObjectError> {
    read(target.get(key, offset).await?).await
}

pub async fn keys(target: &Target, prefix: &str) -> Vec<String> {
    target.list(prefix).await.unwrap().into_iter().map(|listed| listed.key).collect()
}

/// What every target does alike.
async fn keeps_the_contract(target: &Target, directory: &Path) {
    target.prepare().await.unwrap();
    assert_eq!(target.list("").await.unwrap(), []);
    let file = directory.join("source");
    std::fs::write(&file, noise(100_000)).unwrap();
    let full = "node-1/2025/01/31/2025-01-31T10:00:00Z-full.age";
    for (key, source, metadata) in [
        (full, Source::File(file.clone()), some_metadata()),
        ("node-1/2025/01/31/empty", bytes(""), Metadata::new()),
        ("node-1/a=b", bytes("one"), Metadata::new()),
        ("node-10", bytes("0123456789"), some_metadata()),
    ] {
        target.put(key, &source, &metadata).await.unwrap();
        let head = target.head(key).await.unwrap();
        assert_eq!(head.metadata, metadata, "{key}");
        let whole = get(target, key, 0).await.unwrap();
        assert_eq!(head.size_bytes, whole.len() as u64, "{key}");
    }
    assert_eq!(get(target, full, 0).await.unwrap(), noise(100_000));
    assert_eq!(get(target, full, 99_990).await.unwrap(), noise(100_000)[99_990..]);

    // Reading goes on anywhere, also at the very end, and not behind it.
    for (offset, rest) in [(0, "0123456789"), (1, "123456789"), (9, "9"), (10, "")] {
        let download = target.get("node-10", offset).await.unwrap();
        assert_eq!((download.size_bytes(), download.position()), (10, offset));
        let pieces: Vec<Bytes> = download.into_stream().try_collect().await.unwrap();
        assert_eq!(pieces.concat(), rest.as_bytes(), "{offset}");
    }
    let error = target.get("node-10", 11).await.map(drop).unwrap_err();
    assert!(matches!(error, ObjectError::PastEnd { offset: 11, .. }), "{error}");
    for result in [target.get("node-2", 0).await.map(drop), target.head("node-2").await.map(drop)] {
        assert!(matches!(result, Err(ObjectError::NotFound { .. })), "{result:?}");
    }

    let all = [full, "node-1/2025/01/31/empty", "node-1/a=b", "node-10"];
    assert_eq!(keys(target, "").await, all);
    assert_eq!(keys(target, "node-1").await, all);
    assert_eq!(keys(target, "node-1/").await, all[..3]);
    assert_eq!(keys(target, "node-1/2025/01/31/2025").await, all[..1]);
    assert_eq!(keys(target, "node-2").await, [""; 0]);
    assert_eq!(target.list("node-10").await.unwrap(), [Listed { key: "node-10".to_owned(), size_bytes: 10 }]);

    // A put replaces; a delete takes what is there and minds nothing that is not.
    target.put("node-10", &bytes("new"), &some_metadata()).await.unwrap();
    assert_eq!(get(target, "node-10", 0).await.unwrap(), b"new");
    target.delete(&[all[2].to_owned(), "node-2/x".to_owned(), all[3].to_owned()]).await.unwrap();
    assert_eq!(keys(target, "").await, all[..2]);
    target.delete(&[]).await.unwrap();
    for key in ["../x", "/x", "a b", ""] {
        assert!(matches!(
            target.put(key, &bytes(""), &Metadata::new()).await,
            Err(ObjectError::BadKey { .. })
        ));
        assert!(matches!(target.delete(&[key.to_owned()]).await, Err(ObjectError::BadKey { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_target_keeps_the_same_contract() {
    let directory = tempfile::tempdir().unwrap();
    keeps_the_contract(
        &Target::File(FileTarget::new(directory.path().join("a/b"), Timeouts::default())),
        directory.path(),
    )
    .await;
    for (quirks, prefix) in [
        (Quirks::default(), "deep/prefix"),
        (Quirks::default(), ""),
        (Quirks { refuses_checksums: true, ..Quirks::default() }, "brock"),
        (Quirks { ignores_ranges: true, ..Quirks::default() }, "brock"),
    ] {
        let server = S3Server::start_with(quirks).await;
        keeps_the_contract(&server.target(prefix, &server.settings()), directory.path()).await;
        let seen = server.take_seen();
        assert!(seen.iter().all(|seen| seen.host == format!("127.0.0.1:{}", server.port)), "{seen:?}");
        assert!(seen.iter().all(|seen| seen.path.starts_with("/backups/")), "{seen:?}");
        // Where batches are refused, that is found out once.
        let batches = seen.iter().filter(|seen| seen.op == Op::DeleteBatch).count();
        assert_eq!(seen.iter().any(|seen| seen.op == Op::Delete), quirks.refuses_checksums);
        assert_eq!(batches, 1);
    }
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_can_be_part_of_the_host_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start().await;
    let endpoint = Some(format!("http://localhost:{}", server.port));
    let settings = Settings { endpoint, path_style: Some(false), ..server.settings() };
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    let target =
        brock::backup::objects::S3Target::open_dialling(BUCKET, "deep/prefix", &settings, address).unwrap();
    keeps_the_contract(&Target::S3(target), directory.path()).await;
    let seen = server.take_seen();
    assert!(seen.iter().all(|seen| seen.host == format!("{BUCKET}.localhost:{}", server.port)), "{seen:?}");
    assert!(seen.iter().all(|seen| !seen.path.starts_with("/backups")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_and_deletes_take_as_many_requests_as_they_need() {
    let server = S3Server::start().await;
    let target = server.target("brock", &server.settings());
    std::fs::create_dir(server.bucket().join("brock")).unwrap();
    let names: Vec<String> = (0..2_500).map(|number| format!("{number:05}")).collect();
    for name in &names {
        std::fs::write(server.bucket().join("brock").join(name), "x").unwrap();
    }
    // Not ours, and not to be named.
    std::fs::write(server.bucket().join("brock").join("a b"), "x").unwrap();
    assert_eq!(keys(&target, "").await, names);
    assert_eq!(server.count(Op::List), 3);
    target.delete(&names).await.unwrap();
    assert_eq!(server.count(Op::DeleteBatch), 3);
    assert_eq!(keys(&target, "").await, [""; 0]);
    assert!(server.bucket().join("brock/a b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_goes_in_few_parts_at_once_and_comes_back_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start().await;
    let target = server.target("brock", &server.settings());
    let (file, content) = (directory.path().join("large"), noise(16 * MIB * 3 + 12_345));
    std::fs::write(&file, &content).unwrap();
    for (key, source) in [("file", Source::File(file)), ("bytes", Source::Bytes(content.clone().into()))] {
        server.take_seen();
        // One part meets faults, and only that one is sent again.
        server.fault(Op::Part, 2, Fault::Answer(503, "SlowDown"));
        target.put(key, &source, &some_metadata()).await.unwrap();
        let parts: Vec<_> = server.take_seen().into_iter().filter(|seen| seen.op == Op::Part).collect();
        assert_eq!(parts.len(), 4 + 2);
        assert!(parts.iter().all(|part| part.size_bytes <= 16 * MIB as u64), "{parts:?}");
        assert!(server.parts_max() <= 2, "{}", server.parts_max());
        let head = target.head(key).await.unwrap();
        assert_eq!((head.size_bytes, head.metadata), (content.len() as u64, some_metadata()));
        assert!(get(&target, key, 0).await.unwrap() == content, "{key}");
    }
    assert_eq!(server.unfinished(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_clearly_and_no_secret_is_ever_shown() {
    let server = S3Server::start().await;
    let (wrong, token) = ("wrong-s3cr3t-that-nobody-may-see", "t0k3n-that-nobody-may-see");
    let credentials = CredentialSettings {
        access_key_id: Some(ACCESS_KEY.to_owned()),
        secret_access_key: Some(Secret::new(wrong)),
        session_token: Some(Secret::new(token)),
        ..CredentialSettings::default()
    };
    let settings = Settings { credentials, ..server.settings() };
    let target = server.target("brock", &settings);
    let mut shown = format!("{settings:?}");
    for error in [
        target.put("k", &bytes("x"), &Metadata::new()).await.unwrap_err(),
        target.get("k", 0).await.map(drop).unwrap_err(),
        target.head("k").await.unwrap_err(),
        target.list("").await.unwrap_err(),
        target.delete(&["k".to_owned()]).await.unwrap_err(),
    ] {
        assert!(matches!(error, ObjectError::CredentialsRefused { .. }), "{error}");
        assert!(error.to_string().contains("check the access key id, the secret access key"), "{error}");
        shown.push_str(&format!("{error} {error:?}"));
    }
    shown.push_str(&format!("{target:?} {target:#?}"));
    assert!(shown.contains(ACCESS_KEY));
    assert!(!shown.contains(wrong) && !shown.contains(token), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_credentials_in_a_file_are_used_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start().await;
    let file = directory.path().join("credentials");
    let write = |key: &str, secret: &str| {
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        std::fs::write(directory.path().join("new"), text).unwrap();
        std::fs::rename(directory.path().join("new"), &file).unwrap();
    };
    write(ACCESS_KEY, SECRET);
    let credentials = CredentialSettings { file: Some(file.clone()), ..CredentialSettings::default() };
    let target = server.target("brock", &Settings { credentials, ..server.settings() });
    target.put("k", &bytes("x"), &Metadata::new()).await.unwrap();
    server.expire(ACCESS_KEY);
    let error = target.head("k").await.unwrap_err();
    assert!(matches!(error, ObjectError::CredentialsExpired { .. }), "{error}");
    write(OTHER_ACCESS_KEY, OTHER_SECRET);
    assert_eq!(target.head("k").await.unwrap().size_bytes, 1);
    assert_eq!(get(&target, "k", 0).await.unwrap(), b"x");
}
