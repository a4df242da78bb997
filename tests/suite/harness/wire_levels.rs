//! CAs of several algorithms, ends of several levels of wire encryption, and what passes between them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use brock_net::{
    dial::{Dialled, Dialler, dial},
    pki::{
        issue::{LeafKind, MakeCa, MakeLeaf, make_ca, make_leaf},
        key::Algorithm,
    },
    task::Tasks,
    tls::{
        accept::{Room, accept},
        credentials::Identity,
        errors,
        level::{Negotiated, WireLevels},
        roles::RolePolicy,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_stream::StreamExt;

const DAY: Duration = Duration::from_secs(86_400);

/// One CA for each algorithm. Every end trusts those whose names it was given.
pub struct Authorities {
    directory: TempDir,
}

impl Authorities {
    pub fn new(algorithms: &[&str]) -> Self {
        let all = Self { directory: tempfile::tempdir().unwrap() };
        for algorithm in algorithms {
            make_ca(&MakeCa {
                certs_dir: all.path(algorithm),
                ca_key: all.key(algorithm),
                lifetime: 30 * DAY,
                overwrite: false,
                algorithm: algorithm.parse().unwrap(),
                second: false,
            })
            .unwrap();
        }
        all
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn key(&self, algorithm: &str) -> PathBuf {
        self.path("keys").join(format!("{algorithm}.key"))
    }

    /// A directory in which these CAs are trusted.
    pub fn trusting(&self, name: &str, trusted: &[&str]) -> PathBuf {
        let directory = self.path(name);
        fs::create_dir(&directory).unwrap();
        for algorithm in trusted {
            let copy = directory.join(format!("ca-{algorithm}.crt"));
            fs::copy(self.path(algorithm).join("ca.crt"), copy).unwrap();
        }
        directory
    }

    /// Adds a node's certificate, made by the CA of the same algorithm.
    pub fn issue(&self, directory: &Path, id: &str, algorithm: &str, second: bool) {
        let kind = LeafKind::Node { node_id: id.parse().unwrap(), hosts: hosts() };
        self.issue_as(directory, kind, algorithm, second);
    }

    pub fn issue_as(&self, directory: &Path, kind: LeafKind, algorithm: &str, second: bool) {
        make_leaf(&MakeLeaf {
            certs_dir: directory.to_owned(),
            ca_key: self.key(algorithm),
            kind,
            trust_domain: "brock".to_owned(),
            lifetime: DAY,
            overwrite: true,
            algorithm: Some(algorithm.parse::<Algorithm>().unwrap()),
            second,
        })
        .unwrap();
    }
}

fn hosts() -> Vec<String> {
    vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
}

pub fn identity(directory: &Path, levels: impl Into<WireLevels>) -> Identity {
    Identity::load_at(directory, None, RolePolicy::default(), levels.into()).unwrap()
}

/// An end that accepts, and greets every caller that it has identified with one byte.
pub struct Acceptor {
    pub address: String,
    tasks: Tasks,
}

impl Acceptor {
    pub async fn start(identity: &Identity) -> Self {
        let tasks = Tasks::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut incoming = accept(listener, identity, Room::default(), &tasks);
        tokio::spawn(async move {
            while let Some(Ok(mut accepted)) = incoming.next().await {
                tokio::spawn(async move {
                    let _ = accepted.write_all(b"x").await;
                    let _ = accepted.flush().await;
                    // Until the caller closes.
                    let _ = accepted.read_u8().await;
                });
            }
        });
        Self { address, tasks }
    }

    pub async fn stop(self) {
        assert!(self.tasks.stop(Duration::from_secs(5)).await);
    }
}

/// Dials, and waits for the greeting: a client of TLS 1.3 learns only then that it was refused.
pub async fn attempt(dialler: &Dialler, address: &str) -> Result<Negotiated, String> {
    let mut dialled: Dialled =
        dial(&address.parse().unwrap(), dialler.clone()).await.map_err(|error| error.to_string())?;
    match dialled.read_u8().await {
        Ok(_) => Ok(dialled.negotiated()),
        Err(error) => Err(errors::explain(&error).unwrap_or_else(|| format!("no reason: {error}"))),
    }
}

/// Passes on what the two ends send, changed by `change` in the first message of the caller, and remembers the
/// beginning of both.
pub struct Tap {
    pub address: String,
    /// The first message of the caller, and everything that the acceptor sent.
    pub seen: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
}

impl Tap {
    /// Closes a connection whose first message is not whole in the first read.
    pub async fn impatient(target: &str) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut hello = vec![0; 16 * 1024];
                    let read = caller.read(&mut hello).await.ok()?;
                    hello.truncate(read);
                    let length = hello.get(3..5)?;
                    let length = 5 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                    if read < length {
                        return None;
                    }
                    let mut node = TcpStream::connect(target).await.ok()?;
                    node.write_all(&hello).await.ok()?;
                    tokio::io::copy_bidirectional(&mut caller, &mut node).await.ok()
                });
            }
        });
        Self { address, seen: Arc::default() }
    }

    pub async fn start(target: &str, change: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let (noted, change) = (Arc::clone(&seen), Arc::new(change));
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(pass(caller, target, Arc::clone(&noted), Arc::clone(&change)));
            }
        });
        Self { address, seen }
    }
}

async fn pass(
    mut caller: TcpStream,
    target: SocketAddr,
    seen: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
    change: Arc<impl Fn(&[u8]) -> Vec<Vec<u8>>>,
) -> Option<()> {
    let mut acceptor = TcpStream::connect(target).await.ok()?;
    acceptor.set_nodelay(true).ok()?;
    let hello = record(&mut caller).await?;
    seen.lock().unwrap().0.clone_from(&hello);
    let pieces = change(&hello);
    let last = pieces.len().saturating_sub(1);
    for (index, piece) in pieces.into_iter().enumerate() {
        acceptor.write_all(&piece).await.ok()?;
        if index < last {
            // The delay between the pieces is the subject: without it they may arrive as one.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    let (mut from_caller, mut to_caller) = caller.split();
    let (mut from_acceptor, mut to_acceptor) = acceptor.split();
    let up = async { tokio::io::copy(&mut from_caller, &mut to_acceptor).await.ok() };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_acceptor.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            seen.lock().unwrap().1.extend(&buffer[..read]);
            to_caller.write_all(&buffer[..read]).await.ok()?;
        }
    };
    tokio::select! {
        _ = up => None,
        ended = down => ended,
    }
}

/// One record of TLS, with its header.
async fn record(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).await.ok()?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    stream.read_exact(&mut record[5..]).await.ok()?;
    Some(record)
}

/// Where the body of an extension lies in a record that holds a whole ClientHello.
pub fn extension(record: &[u8], wanted: u16) -> Option<std::ops::Range<usize>> {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
    // Header of the record and of the message, version, random, session id.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(record[at]);
    at += 2 + u16_at(at);
    at += 1 + usize::from(record[at]);
    at += 2;
    while at + 4 <= record.len() {
        let (kind, length) = (u16_at(at), u16_at(at + 2));
        at += 4;
        if kind == usize::from(wanted) {
            return Some(at..at + length);
        }
        at += length;
    }
    None
}

/// The groups whose shares a ClientHello carries.
pub fn shares(record: &[u8]) -> Vec<u16> {
    let body = extension(record, 51).unwrap();
    let (mut at, mut groups) = (body.start + 2, Vec::new());
    while at < body.end {
        groups.push(u16::from_be_bytes([record[at], record[at + 1]]));
        at += 4 + usize::from(u16::from_be_bytes([record[at + 2], record[at + 3]]));
    }
    groups
}
