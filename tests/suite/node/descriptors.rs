//! A node with few file descriptors, and callers that take as many as they get.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{
    certs::Certs, client::Client, eventually, http::get, own_ca::OwnCa, process::Launch, random_key,
};
use brock_net::{address::Address, channel::open_channel, dial::dial, pki::issue::LeafKind};
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tonic::transport::Channel;

/// The limit of the tests: the machine may be busy. Before, each wait took ten seconds and more.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn with_few_descriptors_the_store_the_probes_peers_and_operators_keep_their_places() {
    brock::runtime::descriptors::raise();
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut other = Launch::new(&certs, "node-2", &home.path().join("node-2"));
    let mut launch = Launch::new(&certs, "node-1", &home.path().join("node-1"));
    other.join = vec![launch.port];
    launch.open_files = Some((100, 256));
    let (process, first) = launch.start(&certs).await;
    let status = first.status().await;
    assert_eq!(status.descriptors_limit, 256, "the soft limit is raised");
    assert_eq!(status.connections_max, 48);
    drop(first);

    let address = format!("127.0.0.1:{}", launch.port).parse().unwrap();
    let mut taken = Vec::new();
    let config = Certs::config(&certs.client()).config_for(&address).1;
    for _ in 0..60 {
        // The node closes those for which it has no place.
        taken.extend(dial(&address, config.clone()).await);
    }
    let nameless = OwnCa::careless_config(&certs.client(), None, &[&TLS13]);
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(TcpStream::connect(("127.0.0.1", launch.port)).await.unwrap());
        silent.push(TcpStream::connect(("127.0.0.1", launch.http_port)).await.unwrap());
        let stream = TcpStream::connect(("127.0.0.1", launch.port)).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(nameless.clone());
        let handshake = tokio::time::timeout(Duration::from_secs(1), connector.connect(name, stream)).await;
        if let Ok(Ok(stream)) = handshake {
            silent.push(stream.into_inner().0);
        }
    }

    let begun = Instant::now();
    assert!(get(launch.http_port, "/livez").await.unwrap().starts_with("HTTP/1.1 200 "));
    assert!(begun.elapsed() < SOON, "a probe waited {:?}", begun.elapsed());
    let begun = Instant::now();
    let operator = Client::connect(&address.to_string(), &certs.admin()).await;
    let key = random_key();
    operator.put(&key, b"grant").await.unwrap();
    assert!(begun.elapsed() < SOON, "an operator waited {:?}", begun.elapsed());
    // It flushes and compacts, and needs files for that.
    operator.admin.clone().compact(brock_core::proto::CompactRequest {}).await.unwrap();
    assert_eq!(operator.status().await.writes_refused, "");
    let (second, reader) = other.start(&certs).await;
    eventually("a peer pulls", || reader.has_local(&key)).await;

    let says = |text: &str| process.log().iter().any(|line| line.contains(text));
    assert!(says("the limit of open files is low") && says("refused a connection"), "{:?}", process.log());
    assert!(!says("cannot accept connections"), "{:?}", process.log());
    drop((taken, silent, operator, reader));
    second.kill();
    let (status, log) = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    assert!(status.success(), "{log:?}");
}

/// As `node-admin` or an application connects: TLS, then HTTP/2.
async fn opened(address: &Address, certs_dir: &Path, most: usize) -> Vec<Channel> {
    let config = Certs::config(certs_dir);
    let mut channels = Vec::new();
    for _ in 0..most {
        channels.extend(open_channel(address, config.clone()).await.ok().map(|(channel, _)| channel));
    }
    channels
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaks_connections_takes_no_place_from_others() {
    brock::runtime::descriptors::raise();
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut other = Launch::new(&certs, "node-2", &home.path().join("node-2"));
    let mut launch = Launch::new(&certs, "node-1", &home.path().join("node-1"));
    other.join = vec![launch.port];
    launch.open_files = Some((256, 256));
    let (process, first) = launch.start(&certs).await;
    drop(first);
    let at = format!("127.0.0.1:{}", launch.port);
    let address = at.parse().unwrap();
    let leaked = opened(&address, &certs.client(), 60).await;

    let second = certs.leaf("client-2", LeafKind::Client { name: "app-2".to_owned() });
    let begun = Instant::now();
    let client = Client::connect(&at, &second).await;
    let key = random_key();
    client.put(&key, b"grant").await.unwrap();
    assert!(begun.elapsed() < SOON, "another client waited {:?}", begun.elapsed());
    // The first one goes on, and gets back nothing that others use.
    let more = opened(&address, &certs.client(), 60).await;
    assert_eq!(client.get(&key).await.unwrap().encrypted_access_grant, b"grant".as_slice());
    let operator = Client::connect(&at, &certs.admin()).await;
    assert!(operator.status().await.connections_max < leaked.len() as u64);
    let (peer, reader) = other.start(&certs).await;
    eventually("a peer pulls", || reader.has_local(&key)).await;
    assert!(
        !process.log().iter().any(|line| line.contains("cannot accept connections")),
        "{:?}",
        process.log()
    );
    drop((leaked, more, client, operator, reader));
    peer.kill();
    let (status, log) = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    assert!(status.success(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_connections_that_say_nothing_delay_neither_probes_nor_clients() {
    brock::runtime::descriptors::raise();
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let launch = Launch::new(&certs, "node-1", &home.path().join("data"));
    let (process, first) = launch.start(&certs).await;
    drop(first);
    let mut silent = Vec::new();
    for (connections, port) in [(300, launch.http_port), (600, launch.port)] {
        for _ in 0..connections {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
    }
    let begun = Instant::now();
    assert!(get(launch.http_port, "/livez").await.unwrap().starts_with("HTTP/1.1 200 "));
    assert!(begun.elapsed() < Duration::from_secs(1), "a probe waited {:?}", begun.elapsed());
    let begun = Instant::now();
    let client = Client::connect(&format!("127.0.0.1:{}", launch.port), &certs.client()).await;
    client.put(&random_key(), b"grant").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "a client waited {:?}", begun.elapsed());
    drop((silent, client));
    process.kill();
}

#[test]
fn with_too_few_descriptors_a_start_fails_and_says_how_many_it_needs() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "node-1", &home.path().join("data"));
    launch.open_files = Some((128, 128));
    let (status, log) = launch.spawn().wait();
    assert_eq!(status.code(), Some(1), "{log:?}");
    assert!(log.iter().any(|line| line.contains("at least 256 file descriptors")), "{log:?}");
}
