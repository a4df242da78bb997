//! Measures handshakes at the levels of wire encryption, in one process over loopback: from the connect to the first
//! byte of an end that has verified the caller's certificate.
//!
//! `cargo run --release -p brock-net --example handshakes`

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use brock_net::{
    dial::dial,
    pki::issue::{LeafKind, MakeCa, MakeLeaf, make_ca, make_leaf},
    task::Tasks,
    tls::{
        accept::{Room, accept},
        credentials::Identity,
        level::WireLevel,
        roles::RolePolicy,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_stream::StreamExt;

const HANDSHAKES: usize = 500;
const DAY: Duration = Duration::from_secs(86_400);

fn identity(directory: &Path, level: WireLevel, algorithm: &str) -> Result<Identity, Box<dyn Error>> {
    let (certs_dir, ca_key) = (directory.join("certs"), directory.join("safe/ca.key"));
    let algorithm = algorithm.parse()?;
    make_ca(&MakeCa {
        certs_dir: certs_dir.clone(),
        ca_key: ca_key.clone(),
        lifetime: 2 * DAY,
        overwrite: false,
        algorithm,
        second: false,
    })?;
    make_leaf(&MakeLeaf {
        certs_dir: certs_dir.clone(),
        ca_key,
        kind: LeafKind::Node { node_id: "node-1".parse()?, hosts: vec!["127.0.0.1".to_owned()] },
        trust_domain: "brock".to_owned(),
        lifetime: DAY,
        overwrite: false,
        algorithm: None,
        second: false,
    })?;
    Ok(Identity::load_at(&certs_dir, None, RolePolicy::default(), level.into())?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for (level, algorithm) in [
        (WireLevel::Default, "ecdsa-p256"),
        (WireLevel::Bits128, "ecdsa-p256"),
        (WireLevel::Bits192, "ecdsa-p256"),
        (WireLevel::Bits192, "ml-dsa-65"),
        (WireLevel::Bits256, "ecdsa-p384"),
        (WireLevel::Bits256, "ml-dsa-87"),
    ] {
        let directory = tempfile::tempdir()?;
        let identity = identity(directory.path(), level, algorithm)?;
        let tasks = Tasks::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string().parse()?;
        let mut incoming = accept(listener, &identity, Room::default(), &tasks);
        tasks.spawn_short(async move {
            while let Some(Ok(mut accepted)) = incoming.next().await {
                // A caller that is gone is measured all the same.
                let _ = accepted.write_all(b"x").await;
                let _ = accepted.flush().await;
                // Until the caller closes.
                let _ = accepted.read_u8().await;
            }
        });
        let mut times = Vec::with_capacity(HANDSHAKES);
        for _ in 0..HANDSHAKES {
            let begun = Instant::now();
            dial(&address, identity.dialler()).await?.read_u8().await?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let [fastest, p50, p99] = [0, HANDSHAKES / 2, HANDSHAKES * 99 / 100].map(|index| times[index]);
        println!("{:>7} {:>10}: fastest {fastest:?}, p50 {p50:?}, p99 {p99:?}", level.as_str(), algorithm);
        tasks.stop(Duration::from_secs(5)).await;
    }
    Ok(())
}
