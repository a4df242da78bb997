//! What a running node answers to probes over HTTP.

use crate::harness::{
    brock::{assert_fails, assert_succeeds, brock},
    certs::Certs,
    eventually, free_port,
    http::get,
    process::Launch,
    random_key,
    raw::{call_with, channel},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_only_peer_is_unreachable_starts_and_becomes_ready() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let dead = free_port();
    let launch = Launch { join: vec![dead], ..Launch::new(&certs, "n1", &home.path().join("data")) };
    let (process, client) = launch.start(&certs).await;
    client.put(&random_key(), b"g").await.unwrap();
    process.ready().await;
    let status = client.status().await;
    assert!(status.ready && !status.peers[0].up, "{status:?}");
    assert_eq!(status.peers[0].address, format!("127.0.0.1:{dead}"));
    assert!(status.peers[0].last_error.starts_with("cannot connect: "), "{status:?}");
    // Ready, but it keeps up with no peer.
    let answer = get(process.http_port, "/healthz?max_lag=1000").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no peer has said"), "{answer}");
    let address = format!("--http-address=:{}", process.http_port);
    let health = |more: &[&str]| brock(&[&["health", &address], more].concat());
    assert_succeeds(&health(&[]));
    assert_fails(&health(&["--max-gap=1h"]), 1, &["not healthy: nothing was heard from any peer yet"]);
    assert!(process.terminate().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_is_alive_and_says_that_it_is_not_ready() {
    let (certs, home) = (Certs::new(), tempfile::tempdir().unwrap());
    let mut launch = Launch::new(&certs, "n1", &home.path().join("data"));
    launch.more.push("--node.shutdown-timeout=3s".to_owned());
    let (process, client) = launch.start(&certs).await;
    process.ready().await;
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ok\n"), ("/", "/metrics")] {
        let answer = get(process.http_port, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(body), "{answer}");
    }
    assert!(get(process.http_port, "/other").await.unwrap().starts_with("HTTP/1.1 404 "));
    // A call whose request never comes is under way and does not finish.
    let app = channel(&format!("127.0.0.1:{}", process.port), &certs.client()).await;
    let call = tokio::spawn(async move {
        let silence = futures::stream::pending();
        let _ = call_with(&app, "/brock.v1.KeyValueService/Get", silence).await;
    });
    client.status().await;
    process.signal(rustix::process::Signal::TERM);
    let (port, port_http) = (process.port, process.http_port);
    let answer = eventually("it says that it drains", || async move {
        get(port_http, "/readyz").await.filter(|answer| !answer.starts_with("HTTP/1.1 200 "))
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting down"), "{answer}");
    assert!(get(port_http, "/livez").await.unwrap().starts_with("HTTP/1.1 200 "));
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    eventually("it takes no new connections", || async {
        brock_net::channel::open_channel(&address, Certs::config(&certs.admin())).await.err()
    })
    .await;
    call.abort();
    process.wait();
    drop(client);
}
