//! Object stores in bad times: what passes is survived, what lasts is told.

use std::time::{Duration, Instant};

use crate::{
    backup::objects::{MIB, bytes, get, keys, noise, some_metadata},
    harness::{
        eventually,
        s3::{ACCESS_KEY, BUCKET, Fault, Op, S3Server, SECRET},
    },
};
use brock::backup::objects::{
    CredentialSettings, Location, Metadata, ObjectError, Secret, Settings, Source, Target, Timeouts,
};
use futures::StreamExt;

/// Little enough that a test which waits for a time-out soon has it.
fn impatient() -> Timeouts {
    Timeouts {
        first_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(20),
        attempt: Duration::from_millis(700),
        total: Duration::from_secs(20),
        scan: Duration::from_secs(60),
    }
}

fn impatient_target(server: &S3Server) -> Target {
    server.target("brock", &Settings { timeouts: impatient(), ..server.settings() })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_passing_fault_is_survived() {
    let server = S3Server::start().await;
    let target = impatient_target(&server);
    let large = Source::Bytes(noise(17 * MIB).into());
    let faults = [
        Fault::Answer(500, "InternalError"),
        Fault::Answer(502, "BadGateway"),
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(429, "TooManyRequests"),
        Fault::Answer(400, "RequestTimeout"),
        Fault::Answer(200, "InternalError"),
        Fault::AnswerAfter(500, "InternalError"),
        Fault::Reset,
        Fault::Stall,
        Fault::CutBody(7),
    ];
    for fault in faults {
        for op in [
            Op::Put,
            Op::Get,
            Op::Head,
            Op::List,
            Op::DeleteBatch,
            Op::Create,
            Op::Part,
            Op::Complete,
            Op::ListUploads,
        ] {
            // Parts are given minutes, and only some requests look into the body of a success.
            let stalls_long = matches!(fault, Fault::Stall) && matches!(op, Op::Part | Op::Complete);
            let has_body = matches!(op, Op::Get | Op::List | Op::DeleteBatch | Op::Create | Op::Complete);
            let is_unseen = matches!(fault, Fault::CutBody(_) | Fault::Answer(200, _))
                && (!has_body || op == Op::Get && matches!(fault, Fault::Answer(..)));
            if stalls_long || is_unseen {
                continue;
            }
            server.heal();
            target.put("kept", &bytes("0123456789"), &Metadata::new()).await.unwrap();
            server.take_seen();
            server.fault(op, 2, fault);
            let is_large = matches!(op, Op::Create | Op::Part | Op::Complete);
            let source = if is_large { large.clone() } else { bytes("small") };
            let context = format!("{op:?} {fault:?}");
            if matches!(op, Op::Put) || is_large {
                target.put("new", &source, &some_metadata()).await.expect(&context);
            }
            assert_eq!(get(&target, "kept", 2).await.expect(&context), b"23456789", "{context}");
            assert_eq!(target.head("kept").await.expect(&context).size_bytes, 10, "{context}");
            assert!(keys(&target, "").await.contains(&"kept".to_owned()), "{context}");
            target.abort_unfinished(Duration::ZERO).await.expect(&context);
            if op == Op::DeleteBatch {
                target.delete(&["new".to_owned()]).await.expect(&context);
                assert_eq!(keys(&target, "").await, ["kept"], "{context}");
            }
            let least = match (op, fault) {
                // Completing again finds it completed, and so does not come a third time.
                (Op::Complete, Fault::AnswerAfter(..) | Fault::CutBody(_)) => 2,
                // What is left is shorter than where the next one would be cut.
                (Op::Get, Fault::CutBody(_)) => 2,
                // Only the status is heard, and then the reason is asked for in another way.
                (Op::Head, Fault::Answer(400, _)) => 1,
                _ => 3,
            };
            assert!(server.count(op) >= least, "{context}: {:?}", server.take_seen());
        }
    }
    let Source::Bytes(large) = large else { unreachable!() };
    // The puts in parts have left theirs.
    target.delete(&["new".to_owned()]).await.unwrap();
    assert!(matches!(target.head("new").await, Err(ObjectError::NotFound { .. })));
    target.put("new", &Source::Bytes(large.clone()), &Metadata::new()).await.unwrap();
    assert!(get(&target, "new", 0).await.unwrap() == large);
    assert_eq!(server.unfinished(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_again_and_again_is_read_on_where_it_was() {
    let server = S3Server::start().await;
    let target = impatient_target(&server);
    let content = noise(MIB);
    target.put("k", &Source::Bytes(content.clone().into()), &Metadata::new()).await.unwrap();
    server.take_seen();
    server.fault(Op::Get, 8, Fault::CutBody(100_000));
    assert!(get(&target, "k", 5).await.unwrap() == content[5..]);
    assert_eq!(server.count(Op::Get), 9);
    // Another object under the same key is not read on.
    server.fault(Op::Get, 1, Fault::CutBody(100_000));
    let mut download = target.get("k", 0).await.unwrap();
    target.put("k", &Source::Bytes(noise(2 * MIB).split_off(MIB).into()), &Metadata::new()).await.unwrap();
    let error = loop {
        match download.next().await {
            Ok(piece) => assert!(piece.is_some(), "it came to its end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ObjectError::Changed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lasting_fault_is_told_clearly_and_at_once() {
    let server = S3Server::start().await;
    // Would wait for minutes if it tried again.
    let target = server.target("brock", &server.settings());
    target.put("k", &bytes("x"), &Metadata::new()).await.unwrap();
    let endpoint = server.endpoint();
    for (status, code, says) in [
        (
            403,
            "AccessDenied",
            "access denied (AccessDenied: as asked for); give the access key the permission",
        ),
        (400, "ExpiredToken", "the credentials of access key AKIDONE have expired"),
        (403, "InvalidAccessKeyId", "does not accept access key AKIDONE"),
        (404, "NoSuchBucket", "bucket backups at {endpoint} does not exist; create it"),
        (301, "PermanentRedirect", "the bucket is not in region us-east-1"),
        (403, "RequestTimeTooSkewed", "set this machine's clock"),
        (400, "InvalidArgument", "the store refuses: InvalidArgument"),
    ] {
        let says = says.replace("{endpoint}", &endpoint);
        for op in [Op::Put, Op::Get, Op::Head, Op::List, Op::DeleteBatch] {
            // Those are tried in another way first.
            if op == Op::DeleteBatch && code == "InvalidArgument" {
                continue;
            }
            server.take_seen();
            server.fault(op, usize::MAX, Fault::Answer(status, code));
            if op == Op::Head {
                server.fault(Op::Get, usize::MAX, Fault::Answer(status, code));
            }
            let started = Instant::now();
            let result = match op {
                Op::Put => target.put("k", &bytes("y"), &Metadata::new()).await,
                Op::Get => target.get("k", 0).await.map(drop),
                Op::Head => target.head("k").await.map(drop),
                Op::List => target.list("").await.map(drop),
                _ => target.delete(&["k".to_owned()]).await,
            };
            server.heal();
            let seen = server.take_seen();
            // HEAD tells no reason, and nothing but the status.
            if op == Op::Head && status == 404 {
                assert!(matches!(result, Err(ObjectError::NotFound { .. })), "{result:?}");
                continue;
            }
            let error = result.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&says), "{op:?} {code}: {text}");
            assert!(!error.is_retryable() && text.contains(&endpoint), "{op:?} {code}: {text}");
            assert!(
                seen.len() <= 2 && started.elapsed() < Duration::from_secs(10),
                "{op:?} {code}: {seen:?}"
            );
        }
    }
    assert_eq!(get(&target, "k", 0).await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_or_never_answers_is_given_up_in_time() {
    let server = S3Server::start().await;
    let timeouts =
        Timeouts { attempt: Duration::from_millis(200), total: Duration::from_secs(1), ..impatient() };
    let settings = Settings { timeouts, ..server.settings() };
    let target = server.target("brock", &settings);
    server.fault(Op::Put, usize::MAX, Fault::Stall);
    let started = Instant::now();
    let error = target.put("k", &bytes("x"), &Metadata::new()).await.unwrap_err();
    assert!(matches!(error, ObjectError::TimedOut { .. }) && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("attempts"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { endpoint: Some(format!("http://{nobody}")), ..settings };
    let error = server.target("brock", &settings).list("").await.unwrap_err();
    assert!(matches!(error, ObjectError::Transient { .. }), "{error}");
    assert!(
        error.to_string().contains("did not get through") && error.to_string().contains("attempts"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_told_at_once() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let der = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], der).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(socket).await;
        }
    });
    let credentials = CredentialSettings {
        access_key_id: Some(ACCESS_KEY.to_owned()),
        secret_access_key: Some(Secret::new(SECRET)),
        ..CredentialSettings::default()
    };
    let settings =
        Settings { endpoint: Some(format!("https://localhost:{port}")), credentials, ..Settings::default() };
    let target = Target::open(&Location::s3(BUCKET, "brock").unwrap(), &settings).unwrap();
    let started = Instant::now();
    let error = target.head("k").await.unwrap_err();
    assert!(matches!(error, ObjectError::Certificate { .. }), "{error:?}");
    assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_put_leaves_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start().await;
    let target = server.target("brock", &server.settings());
    let file = directory.path().join("large");
    std::fs::write(&file, noise(40 * MIB)).unwrap();
    let large = Source::File(file);

    // Refused half-way: the store is told, and keeps nothing.
    server.fault(Op::Part, 2, Fault::Answer(403, "AccessDenied"));
    let error = target.put("refused", &large, &Metadata::new()).await.unwrap_err();
    assert!(matches!(error, ObjectError::AccessDenied { .. }), "{error}");
    assert_eq!(server.count(Op::Abort), 1);
    assert_eq!(server.unfinished(), [""; 0]);
    // The first refusal may have been enough.
    server.heal();

    // Given up half-way, as by a process that is killed: its parts are found later.
    server.fault(Op::Complete, 1, Fault::Stall);
    let none = Metadata::new();
    let put = target.put("killed", &large, &none);
    let stalled =
        eventually("the put is stalled", || async { (server.count(Op::Complete) > 0).then_some(()) });
    tokio::select! { result = put => panic!("{result:?}"), () = stalled => {} }
    assert_eq!(keys(&target, "").await, [""; 0]);
    for key in ["refused", "killed"] {
        assert!(matches!(target.head(key).await, Err(ObjectError::NotFound { .. })));
        assert!(matches!(target.get(key, 0).await, Err(ObjectError::NotFound { .. })));
    }
    assert_eq!(server.unfinished().iter().filter(|name| name.contains(".part-")).count(), 3);
    assert_eq!(target.abort_unfinished(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(target.abort_unfinished(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(server.unfinished(), [""; 0]);

    // A body that breaks off on its way is no object either.
    server.fault(Op::Put, usize::MAX, Fault::Reset);
    let impatient = impatient_target(&server);
    let source = bytes("x");
    let put = impatient.put("cut", &source, &none);
    assert!(tokio::time::timeout(Duration::from_millis(200), put).await.is_err());
    assert_eq!(keys(&target, "").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_listing_hides_new_objects_from_nobody_who_knows_their_keys() {
    let server = S3Server::start().await;
    let target = server.target("brock", &server.settings());
    for key in ["a", "b", "c"] {
        target.put(key, &bytes("x"), &Metadata::new()).await.unwrap();
    }
    server.fault(Op::List, 1, Fault::StaleListing(1));
    assert_eq!(keys(&target, "").await, ["a", "b"]);
    assert_eq!(get(&target, "c", 0).await.unwrap(), b"x");
    assert_eq!(keys(&target, "").await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_loses_nothing() {
    let server = S3Server::start().await;
    let timeouts =
        Timeouts { attempt: Duration::from_millis(300), total: Duration::from_millis(300), ..impatient() };
    let target = server.target("brock", &Settings { timeouts, ..server.settings() });
    let content = noise(100_000);
    target.put("k", &Source::Bytes(content.clone().into()), &Metadata::new()).await.unwrap();
    server.fault(Op::Get, 1, Fault::CutBody(50_000));
    let mut stream = Box::pin(target.get("k", 0).await.unwrap().into_stream());
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    // The subject itself: a reader that pauses for longer than any time limit of the transfer.
    tokio::time::sleep(Duration::from_millis(900)).await;
    while let Some(piece) = stream.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert!(read == content);
}
