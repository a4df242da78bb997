//! An S3-compatible store in this process, on plain HTTP, behind a layer that can be told to
//! misbehave and that counts what it sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use brock::backup::objects::{CredentialSettings, Location, Secret, Settings, Target};
use bytes::Bytes;
use futures::StreamExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{
    Body, S3Result,
    auth::SimpleAuth,
    host::{S3Host, VirtualHost},
    service::{S3Service, S3ServiceBuilder},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Put,
    Get,
    Head,
    List,
    Delete,
    DeleteBatch,
    Create,
    Part,
    Complete,
    Abort,
    ListUploads,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// None: so many are let through before the next one.
    Pass,
    /// This status and code; the store never hears of it.
    Answer(u16, &'static str),
    /// The same, after the store has done it.
    AnswerAfter(u16, &'static str),
    /// No answer, ever.
    Stall,
    /// The connection breaks.
    Reset,
    /// The answer's body breaks off after this many bytes.
    CutBody(usize),
    /// The listing lacks this many of the newest keys.
    StaleListing(usize),
}

/// How this store differs from AWS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quirks {
    /// Knows no checksums besides the signature: 501.
    pub refuses_checksums: bool,
    /// Sends the whole object whatever range was asked for.
    pub ignores_ranges: bool,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub op: Op,
    pub host: String,
    pub path: String,
    pub size_bytes: u64,
}

pub const BUCKET: &str = "backups";
pub const ACCESS_KEY: &str = "AKIDONE";
pub const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
/// Another pair that the store takes.
pub const OTHER_ACCESS_KEY: &str = "AKIDTWO";
pub const OTHER_SECRET: &str = "je7MtGbClwBF-2Zp9Utk-h3yCo8nvbEXAMPLEKEY";

/// The store. Ends when dropped.
pub struct S3Server {
    pub port: u16,
    layer: Arc<Layer>,
    root: tempfile::TempDir,
    task: JoinHandle<()>,
}

struct Layer {
    service: S3Service,
    /// The directory that the bucket's objects are in.
    bucket: PathBuf,
    quirks: Quirks,
    faults: Mutex<Vec<(Op, usize, Fault)>>,
    seen: Mutex<Vec<Seen>>,
    /// Keys in the order they were put.
    put: Mutex<Vec<String>>,
    /// Unfinished uploads and their keys.
    uploads: Mutex<BTreeMap<String, String>>,
    /// Access keys whose credentials have expired.
    expired: Mutex<BTreeSet<String>>,
    parts: AtomicUsize,
    parts_max: AtomicUsize,
}

impl S3Server {
    pub async fn start() -> Self {
        Self::start_with(Quirks::default()).await
    }

    pub async fn start_with(quirks: Quirks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut auth = SimpleAuth::from_single(ACCESS_KEY, SECRET);
        auth.register(OTHER_ACCESS_KEY.to_owned(), OTHER_SECRET.into());
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(auth);
        builder.set_host(Host(format!("localhost:{port}")));
        let layer = Arc::new(Layer {
            service: builder.build(),
            bucket: root.path().join(BUCKET),
            quirks,
            faults: Mutex::default(),
            seen: Mutex::default(),
            put: Mutex::default(),
            uploads: Mutex::default(),
            expired: Mutex::default(),
            parts: AtomicUsize::default(),
            parts_max: AtomicUsize::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&layer)));
        Self { port, layer, root, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Settings with which it can be used.
    pub fn settings(&self) -> Settings {
        let credentials = CredentialSettings {
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(Secret::new(SECRET)),
            ..CredentialSettings::default()
        };
        Settings { endpoint: Some(self.endpoint()), credentials, ..Settings::default() }
    }

    /// A target in it, under a prefix.
    pub fn target(&self, prefix: &str, settings: &Settings) -> Target {
        Target::open(&Location::s3(BUCKET, prefix).unwrap(), settings).unwrap()
    }

    /// Lets the next `times` requests of a kind meet a fault.
    pub fn fault(&self, op: Op, times: usize, fault: Fault) {
        self.layer.faults.lock().unwrap().push((op, times, fault));
    }

    pub fn heal(&self) {
        self.layer.faults.lock().unwrap().clear();
    }

    /// Lets all requests with this access key fail as expired.
    pub fn expire(&self, access_key: &str) {
        self.layer.expired.lock().unwrap().insert(access_key.to_owned());
    }

    /// What came since this was last asked.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.layer.seen.lock().unwrap())
    }

    /// How many of these came since [`S3Server::take_seen`].
    pub fn count(&self, op: Op) -> usize {
        self.layer.seen.lock().unwrap().iter().filter(|seen| seen.op == op).count()
    }

    /// The most parts that were under way at once.
    pub fn parts_max(&self) -> usize {
        self.layer.parts_max.load(Ordering::SeqCst)
    }

    /// The directory that the bucket's objects are in.
    pub fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// Files that the store keeps for uploads which have not ended.
    pub fn unfinished(&self) -> Vec<String> {
        let names = fs::read_dir(self.root.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(".upload")).collect()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes `bucket.localhost:port` for the bucket, and any other host for the store itself.
struct Host(String);

impl S3Host for Host {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let bucket = host.strip_suffix(&self.0).and_then(|rest| rest.strip_suffix('.'));
        let virtual_host = VirtualHost::new(&self.0);
        Ok(bucket.map_or(virtual_host.clone(), |bucket| virtual_host.with_bucket(bucket)))
    }
}

async fn serve(listener: TcpListener, layer: Arc<Layer>) {
    // Connections end with the store.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let layer = Arc::clone(&layer);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let layer = Arc::clone(&layer);
            async move { layer.answer(request).await }
        });
        connections.spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

impl Layer {
    /// An error breaks the connection.
    async fn answer(&self, request: http::Request<Incoming>) -> io::Result<http::Response<Body>> {
        let seen = see(&request);
        self.seen.lock().unwrap().push(seen.clone());
        let upload_id = query(&request, "uploadId");
        if let Some(refusal) = self.refusal(&request, &seen, upload_id.as_deref()) {
            return Ok(refusal);
        }
        match self.fault_of(seen.op) {
            None | Some(Fault::Pass) => self.pass(request, &seen, upload_id).await,
            Some(Fault::Answer(status, code)) => {
                // Answered before it is read, a long body may break the connection instead.
                let mut body = Body::from(request.into_body());
                body.store_all_limited(usize::MAX).await.map_err(io::Error::other)?;
                Ok(error(status, code))
            }
            Some(Fault::AnswerAfter(status, code)) => {
                let mut answer = self.pass(request, &seen, upload_id).await?;
                // The store works while its answer is read.
                answer.body_mut().store_all_limited(usize::MAX).await.map_err(io::Error::other)?;
                Ok(error(status, code))
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Reset) => Err(io::Error::other("reset")),
            Some(Fault::CutBody(after)) => {
                Ok(self.pass(request, &seen, upload_id).await?.map(|body| cut(body, after)))
            }
            Some(Fault::StaleListing(newest)) => {
                let mut answer = self.pass(request, &seen, upload_id).await?;
                let listing =
                    answer.body_mut().store_all_limited(usize::MAX).await.map_err(io::Error::other)?;
                let hidden: Vec<String> =
                    self.put.lock().unwrap().iter().rev().take(newest).cloned().collect();
                let text = without(std::str::from_utf8(&listing).unwrap(), &hidden);
                answer.headers_mut().remove("content-length");
                Ok(answer.map(|_| Body::from(text)))
            }
        }
    }

    async fn pass(
        &self,
        request: http::Request<Incoming>,
        seen: &Seen,
        upload_id: Option<String>,
    ) -> io::Result<http::Response<Body>> {
        if seen.op == Op::ListUploads {
            return Ok(self.list_uploads());
        }
        let ranged = self.quirks.ignores_ranges && request.headers().contains_key("range");
        let part = (seen.op == Op::Part).then(|| {
            let now = self.parts.fetch_add(1, Ordering::SeqCst) + 1;
            self.parts_max.fetch_max(now, Ordering::SeqCst);
            scopeguard(|| self.parts.fetch_sub(1, Ordering::SeqCst))
        });
        let answer = self.service.call(request.map(Body::from)).await;
        drop(part);
        let mut answer = answer.map_err(|error| io::Error::other(format!("{error:?}")))?;
        // The range is signed, so the service must see it.
        if ranged && let Ok(whole) = fs::read(self.bucket.join(key_of(seen))) {
            *answer.status_mut() = http::StatusCode::OK;
            answer.headers_mut().remove("content-range");
            answer.headers_mut().insert("content-length", whole.len().into());
            *answer.body_mut() = Body::from(Bytes::from(whole));
        }
        if answer.status().is_success() {
            match seen.op {
                Op::Put | Op::Complete => self.put.lock().unwrap().push(key_of(seen)),
                Op::Create => {
                    let body =
                        answer.body_mut().store_all_limited(usize::MAX).await.map_err(io::Error::other)?;
                    let text = String::from_utf8(body.to_vec()).unwrap();
                    let id = between(&text, "<UploadId>", "</UploadId>").unwrap().to_owned();
                    self.uploads.lock().unwrap().insert(id, key_of(seen));
                }
                _ => {}
            }
            if let (Op::Complete | Op::Abort, Some(id)) = (seen.op, upload_id) {
                self.uploads.lock().unwrap().remove(&id);
            }
        }
        Ok(answer)
    }

    /// What the store says before it looks any further.
    fn refusal(
        &self,
        request: &http::Request<Incoming>,
        seen: &Seen,
        upload_id: Option<&str>,
    ) -> Option<http::Response<Body>> {
        let header =
            |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let authorization = header("authorization");
        if self
            .expired
            .lock()
            .unwrap()
            .iter()
            .any(|key| authorization.contains(&format!("Credential={key}/")))
        {
            return Some(error(400, "ExpiredToken"));
        }
        let checksummed = request.headers().keys().any(|name| {
            ["x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer"]
                .iter()
                .any(|p| name.as_str().starts_with(p))
        });
        if self.quirks.refuses_checksums
            && (checksummed || header("content-encoding").contains("aws-chunked"))
        {
            return Some(error(501, "NotImplemented"));
        }
        // s3s-fs calls it access denied.
        let known = upload_id.is_none_or(|id| self.uploads.lock().unwrap().contains_key(id));
        let of_upload = matches!(seen.op, Op::Part | Op::Complete | Op::Abort);
        (of_upload && !known).then(|| error(404, "NoSuchUpload"))
    }

    fn fault_of(&self, op: Op) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, times, fault) = faults.iter_mut().find(|(of, times, _)| *of == op && *times > 0)?;
        *times -= 1;
        Some(*fault)
    }

    /// s3s-fs cannot list them.
    fn list_uploads(&self) -> http::Response<Body> {
        let now =
            time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap();
        let uploads: String = self
            .uploads
            .lock()
            .unwrap()
            .iter()
            .map(|(id, key)| {
                format!(
                    "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{now}</Initiated></Upload>"
                )
            })
            .collect();
        let text = format!(
            "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
        );
        http::Response::new(Body::from(text))
    }
}

fn see(request: &http::Request<Incoming>) -> Seen {
    let has = |name| query(request, name).is_some();
    let op = match request.method().as_str() {
        "GET" if has("list-type") => Op::List,
        "GET" if has("uploads") => Op::ListUploads,
        "GET" => Op::Get,
        "HEAD" => Op::Head,
        "POST" if has("delete") => Op::DeleteBatch,
        "POST" if has("uploads") => Op::Create,
        "POST" => Op::Complete,
        "PUT" if has("partNumber") => Op::Part,
        "PUT" => Op::Put,
        "DELETE" if has("uploadId") => Op::Abort,
        "DELETE" => Op::Delete,
        other => panic!("{other}"),
    };
    let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
    Seen {
        op,
        host: header("host").to_owned(),
        path: request.uri().path().to_owned(),
        size_bytes: header("content-length").parse().unwrap_or(0),
    }
}

/// A parameter of the query, as it is written there; empty for one without a value.
fn query(request: &http::Request<Incoming>, name: &str) -> Option<String> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(known, _)| *known == name)
        .map(|(_, v)| v.to_owned())
}

/// The key of a request, whichever way the bucket is named.
fn key_of(seen: &Seen) -> String {
    let path = seen.path.trim_start_matches('/');
    path.strip_prefix(&format!("{BUCKET}/")).unwrap_or(path).replace("%3A", ":").replace("%3D", "=")
}

fn error(status: u16, code: &str) -> http::Response<Body> {
    let text =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as asked for</Message></Error>");
    http::Response::builder().status(status).body(Body::from(text)).unwrap()
}

/// A body that says how long it is, and breaks off before.
fn cut(body: Body, after: usize) -> Body {
    let mut left = after;
    let stream = body.map(move |piece| -> io::Result<Bytes> {
        let piece: Bytes = piece.map_err(|error| io::Error::other(error.to_string()))?;
        if left == 0 {
            return Err(io::Error::other("cut"));
        }
        let piece = piece.slice(..piece.len().min(left));
        left -= piece.len();
        Ok(piece)
    });
    Body::http_body_unsync(axum::body::Body::from_stream(stream))
}

/// A listing without some keys.
fn without(listing: &str, hidden: &[String]) -> String {
    let mut pieces = listing.split("<Contents>");
    let mut kept = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let key = between(piece, "<Key>", "</Key>").unwrap();
        if hidden.iter().any(|hidden| hidden == key) {
            kept.push_str(piece.split_once("</Contents>").unwrap().1);
        } else {
            kept.push_str("<Contents>");
            kept.push_str(piece);
        }
    }
    kept
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// Does something when it is dropped, also when a request is given up.
fn scopeguard<T>(work: impl FnMut() -> T) -> impl Drop {
    struct Guard<T, F: FnMut() -> T>(F);
    impl<T, F: FnMut() -> T> Drop for Guard<T, F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(work)
}
