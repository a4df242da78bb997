//! Credentials of a role that AWS gives to a workload: no key is configured anywhere.

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    routing::{get, post, put},
};
use tokio::{net::TcpListener, task::block_in_place};

use crate::{
    harness::brock::{assert_fails, brock_with},
    harness::s3::{ACCESS_KEY, OTHER_ACCESS_KEY, OTHER_SECRET, Op, S3Server, SECRET},
};

/// Container credentials, instance metadata and STS at one address. The first answer of each gives one
/// access key, later answers give another one.
struct Aws {
    url: String,
    answers: Arc<AtomicUsize>,
}

impl Aws {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(AtomicUsize::new(0));
        let key = {
            let answers = Arc::clone(&answers);
            move || match answers.fetch_add(1, Ordering::SeqCst) {
                0 => (ACCESS_KEY, SECRET),
                _ => (OTHER_ACCESS_KEY, OTHER_SECRET),
            }
        };
        let json = {
            let key = key.clone();
            move || async move {
                let (id, secret) = key();
                format!(
                    r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"{secret}","Token":"t0k3n","Expiration":"2099-01-01T00:00:00Z"}}"#
                )
            }
        };
        let sts = move || async move {
            let (id, secret) = key();
            format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
                 <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>t0k3n</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            )
        };
        let token = || async { ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "t") };
        let router = Router::new()
            .route("/container", get(json.clone()))
            .route("/latest/api/token", put(token))
            .route("/latest/meta-data/iam/security-credentials/", get(|| async { "role" }))
            .route("/latest/meta-data/iam/security-credentials/role", get(json))
            .route("/", post(sts));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, answers }
    }
}

/// Lists the backups of an empty bucket, with this environment.
fn list(server: &S3Server, environment: &[(&str, &str)]) -> Output {
    let nowhere = [("HOME", "/nowhere"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let environment = [nowhere.as_slice(), environment].concat();
    let endpoint = server.endpoint();
    let arguments = ["backup", "list", "--from", "s3://backups/brock", "--node.backup.endpoint", &endpoint];
    block_in_place(|| brock_with(&arguments, &environment))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_with_a_role_needs_no_configured_key() {
    let home = tempfile::tempdir().unwrap();
    let token_file = home.path().join("token");
    std::fs::write(&token_file, "j.w.t").unwrap();
    let token_file = token_file.to_str().unwrap();
    for source in ["container", "instance", "web identity"] {
        let (server, aws) = (S3Server::start().await, Aws::start().await);
        let container = format!("{}/container", aws.url);
        let environment = match source {
            "container" => vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())],
            "instance" => vec![
                ("AWS_EC2_METADATA_DISABLED", "false"),
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url.as_str()),
            ],
            _ => vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token_file),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backups"),
                ("AWS_ENDPOINT_URL_STS", aws.url.as_str()),
            ],
        };
        assert_fails(&list(&server, &environment), 1, &["there is no backup at s3://backups/brock/"]);
        assert_eq!((aws.answers.load(Ordering::SeqCst), server.count(Op::List)), (1, 1), "{source}");
        // The store refuses the key: the role has another one by now.
        server.expire(ACCESS_KEY);
        aws.answers.store(0, Ordering::SeqCst);
        assert_fails(&list(&server, &environment), 1, &["there is no backup at s3://backups/brock/"]);
        assert_eq!(aws.answers.load(Ordering::SeqCst), 2, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_without_a_role_or_with_a_broken_one_is_told_which() {
    let server = S3Server::start().await;
    let parts = ["there are no credentials", "/nowhere/.aws/credentials", "an AWS role"];
    assert_fails(&list(&server, &[]), 1, &parts);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let metadata = format!("http://{closed}");
    let environment =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str())];
    assert_fails(&list(&server, &environment), 1, &parts);
    let refusing = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let environment =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", refusing.as_str())];
    assert_fails(&list(&server, &environment), 1, &parts);
    let public = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/credentials")];
    assert_fails(
        &list(&server, &public),
        1,
        &["cannot get credentials from AWS", "not refer to an allowed IP"],
    );
    let newline = [("AWS_ACCESS_KEY_ID", "AK\nID"), ("AWS_SECRET_ACCESS_KEY", "s")];
    assert_fails(&list(&server, &newline), 1, &["the environment gives a malformed access key id"]);
    assert_eq!(server.take_seen().len(), 0);
}

/// The URL of an HTTP server that gives this answer to every request.
fn answering(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A client that hangs up before the answer does not end the server.
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    url
}
