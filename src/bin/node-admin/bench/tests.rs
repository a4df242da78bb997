//! The bench clients against a fake node that can misbehave.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    drive::{Plan, run_clients},
    revoke, seed, shape_of,
    tally::Tally,
    visible,
    work::{Payloads, random_keys},
};
use crate::{
    cli::{Load, Revoke, Visible},
    failure::Failure,
    progress::Progress,
};
use brock_core::proto::{
    self,
    key_value_service_server::{KeyValueService, KeyValueServiceServer},
    session_request::Request as Asked,
    session_response::Response as Told,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

/// How the node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// Another payload than was put.
    Payload,
    /// Every answer under another request's id.
    Id,
    /// One item too few.
    Short,
    /// Nothing is ever answered.
    Silence,
    /// Everything is refused.
    Refusal,
    /// A session ends after its first answer.
    HangUp,
    /// A record only shows after it was asked for three times.
    Late,
}

#[derive(Clone)]
struct FakeNode {
    records: Arc<Mutex<HashMap<Bytes, (proto::Record, u32)>>>,
    revoked: Arc<Mutex<HashSet<Bytes>>>,
    lie: Lie,
}

impl FakeNode {
    fn put(&self, request: proto::PutRequest) -> Result<proto::PutResponse, Status> {
        if self.lie == Lie::Refusal {
            return Err(Status::resource_exhausted("full"));
        }
        let record = request.record.ok_or_else(|| Status::invalid_argument("record"))?;
        assert_eq!(request.key_hash.len(), 32);
        let before = self.records.lock().unwrap().insert(request.key_hash, (record, 0));
        assert!(before.is_none(), "a key was used twice");
        Ok(proto::PutResponse { stamp: Some(proto::Stamp::default()), receipt: None })
    }

    fn get(&self, request: &proto::GetRequest) -> Result<proto::GetResponse, Status> {
        if self.revoked.lock().unwrap().contains(&request.key_hash) {
            return Err(Status::failed_precondition("leaked"));
        }
        let mut records = self.records.lock().unwrap();
        let (record, asked) =
            records.get_mut(&request.key_hash).ok_or_else(|| Status::not_found("absent"))?;
        *asked += 1;
        let mut record = record.clone();
        match self.lie {
            Lie::Late if *asked < 3 => return Err(Status::not_found("absent")),
            Lie::Payload => {
                record.encrypted_access_grant = Bytes::from(vec![0; record.encrypted_access_grant.len()]);
            }
            _ => {}
        }
        Ok(proto::GetResponse { record: Some(record), stamp: None })
    }

    fn answer(&self, request: proto::SessionRequest) -> proto::SessionResponse {
        let told = match request.request {
            Some(Asked::Put(put)) => self.put(put).map(Told::Put),
            Some(Asked::Get(get)) => self.get(&get).map(Told::Get),
            None => Err(Status::invalid_argument("request")),
        };
        let told = told.unwrap_or_else(|status| Told::Error(item_error(&status)));
        let id = if self.lie == Lie::Id { request.id + 1 } else { request.id };
        proto::SessionResponse { id, response: Some(told) }
    }
}

fn item_error(status: &Status) -> proto::ItemError {
    proto::ItemError {
        code: status.code().into(),
        message: status.message().to_owned(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl KeyValueService for FakeNode {
    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::PutResponse>, Status> {
        if self.lie == Lie::Silence {
            std::future::pending::<()>().await;
        }
        self.put(request.into_inner()).map(Response::new)
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        self.get(&request.into_inner()).map(Response::new)
    }

    async fn batch_put(
        &self,
        request: Request<proto::BatchPutRequest>,
    ) -> Result<Response<proto::BatchPutResponse>, Status> {
        use proto::batch_put_response::{Item, item::Outcome};
        let outcome =
            |put| self.put(put).map_or_else(|status| Outcome::Error(item_error(&status)), Outcome::Ok);
        let items = request.into_inner().items.into_iter();
        let items = items.map(|put| Item { outcome: Some(outcome(put)) }).collect();
        Ok(Response::new(proto::BatchPutResponse { items }))
    }

    async fn batch_get(
        &self,
        request: Request<proto::BatchGetRequest>,
    ) -> Result<Response<proto::BatchGetResponse>, Status> {
        use proto::batch_get_response::{Item, item::Outcome};
        let outcome =
            |get| self.get(get).map_or_else(|status| Outcome::Error(item_error(&status)), Outcome::Ok);
        let items = request.get_ref().items.iter();
        let mut items: Vec<_> = items.map(|get| Item { outcome: Some(outcome(get)) }).collect();
        if self.lie == Lie::Short {
            items.pop();
        }
        Ok(Response::new(proto::BatchGetResponse { items }))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<proto::SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = self.clone();
        let answers = request.into_inner().map(move |request| request.map(|request| node.answer(request)));
        let most = if self.lie == Lie::HangUp { 1 } else { usize::MAX };
        Ok(Response::new(Box::pin(answers.take(most))))
    }
}

async fn start(lie: Lie) -> Channel {
    start_node(FakeNode { records: Arc::default(), revoked: Arc::default(), lie }).await
}

async fn start_node(node: FakeNode) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(
        Server::builder().add_service(KeyValueServiceServer::new(node)).serve_with_incoming(incoming),
    );
    Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
}

fn load() -> Load {
    Load {
        clients: 2,
        duration: Duration::from_millis(150),
        size: 300,
        batch: None,
        session: false,
        depth: 1,
        rate: None,
        threads: None,
    }
}

async fn measure(lie: Lie, load: Load, reads: f64) -> Tally {
    let channel = start(lie).await;
    let shape = shape_of(&load, reads).unwrap();
    let payloads = Payloads::random(load.size);
    let known = random_keys(50, &mut rand::rng());
    if lie != Lie::Refusal {
        seed::put_all(channel.clone(), &known, &payloads, Duration::from_secs(5), &Progress::spinner(""))
            .await
            .unwrap();
    }
    let plan = Plan { load, shape, reads, payloads, known };
    let clients = (0..plan.load.clients as usize).map(|client| (client, channel.clone()));
    run_clients(&plan, clients, Duration::from_millis(200)).await.unwrap()
}

fn shapes() -> [Load; 4] {
    [
        load(),
        Load { batch: Some(7), ..load() },
        Load { session: true, ..load() },
        Load { session: true, depth: 16, ..load() },
    ]
}

#[tokio::test]
async fn right_answers_count_in_every_shape() {
    for load in shapes() {
        for reads in [0.0, 0.5, 1.0] {
            let tally = measure(Lie::Nothing, load.clone(), reads).await;
            assert!(tally.operations > 0, "{load:?} {reads}");
            assert_eq!(tally.errors(), 0, "{load:?} {reads}");
            let per_call = load.batch.unwrap_or(1) as u64;
            assert!(tally.latencies.len() * per_call >= tally.operations, "{load:?} {reads}");
        }
    }
}

#[tokio::test]
async fn wrong_answers_never_count() {
    for load in shapes() {
        let tally = measure(Lie::Payload, load.clone(), 1.0).await;
        assert_eq!(tally.operations, 0, "{load:?}");
        assert!(tally.wrong > 0, "{load:?}");
    }
    let batch = Load { batch: Some(7), ..load() };
    let tally = measure(Lie::Short, batch, 1.0).await;
    assert_eq!((tally.operations, tally.wrong % 7), (0, 0));
    assert!(tally.wrong > 0);
    let session = Load { session: true, ..load() };
    let tally = measure(Lie::Id, session, 0.0).await;
    assert_eq!((tally.operations, tally.wrong, tally.pending), (0, 2, 2));
}

#[tokio::test]
async fn failures_count_by_code_and_silence_ends() {
    for load in shapes() {
        let tally = measure(Lie::Refusal, load.clone(), 0.0).await;
        assert_eq!(tally.operations, 0, "{load:?}");
        assert_eq!(tally.errors(), tally.failed[tonic::Code::ResourceExhausted as usize], "{load:?}");
        assert!(tally.errors() > 0, "{load:?}");
    }
    let tally = measure(Lie::Silence, load(), 0.0).await;
    assert_eq!((tally.operations, tally.pending, tally.errors()), (0, 2, 2));
    let tally = measure(Lie::HangUp, Load { session: true, ..load() }, 0.0).await;
    assert!(tally.operations >= 2, "the session is opened again");
    assert!(tally.failed[tonic::Code::Unavailable as usize] > 0);
}

#[tokio::test]
async fn a_rate_is_kept_in_every_shape() {
    for load in shapes() {
        let load = Load { rate: Some(1400.0), duration: Duration::from_millis(500), ..load };
        let tally = measure(Lie::Nothing, load.clone(), 0.5).await;
        assert_eq!(tally.errors(), tally.pending, "{load:?}");
        // 700 are due. However busy the machine, each of them is answered, pending or unsent, but for those
        // of the last moments.
        let all = tally.operations + tally.pending + tally.unsent;
        assert!(
            tally.operations > 0 && (600..=700).contains(&all),
            "{load:?}: {} of {all}",
            tally.operations
        );
    }
    let tally = measure(Lie::Silence, Load { rate: Some(100.0), ..load() }, 0.0).await;
    assert_eq!((tally.pending, tally.unsent), (2, 13), "what was due and never sent is reported");
}

#[tokio::test]
async fn visibility_is_measured_to_the_last_record() {
    let options = Visible {
        rate: 500.0,
        duration: Duration::from_millis(200),
        readers: Vec::new(),
        size: 100,
        clients: 2,
        poll: Duration::from_millis(1),
        patience: Duration::from_millis(300),
    };
    for (lie, seen_at_all) in [(Lie::Late, true), (Lie::Payload, false)] {
        let channel = start(lie).await;
        let reading = vec![("same".to_owned(), channel.clone())];
        let (written, seen) =
            visible::measure(&options, vec![channel.clone(); 2], reading, Duration::from_secs(5))
                .await
                .unwrap();
        let [reader] = &seen[..] else { panic!("one reader") };
        assert!(written.operations > 20, "{}", written.operations);
        assert_eq!(reader.unseen, 0);
        assert_eq!((reader.latencies.len() > 20, reader.wrong == 0), (seen_at_all, seen_at_all), "{lie:?}");
    }
    // Another node never gets the records.
    let reading = vec![("other".to_owned(), start(Lie::Nothing).await)];
    let writing = vec![start(Lie::Nothing).await];
    let (written, seen) = visible::measure(&options, writing, reading, Duration::from_secs(5)).await.unwrap();
    assert!(written.operations > 0);
    assert!(seen.iter().all(|reader| reader.unseen >= written.operations));
}

fn revoke_options() -> Revoke {
    Revoke {
        count: 20,
        rate: 200.0,
        readers: Vec::new(),
        size: 100,
        poll: Duration::from_millis(1),
        patience: Duration::from_millis(300),
    }
}

#[tokio::test]
async fn a_revocation_is_measured_to_the_last_reader() {
    let options = revoke_options();
    let (payloads, keys) = (Payloads::random(options.size), random_keys(20, &mut rand::rng()));
    let node = || FakeNode { records: Arc::default(), revoked: Arc::default(), lie: Lie::Nothing };
    let (quick, slow) = (node(), node());
    let mut reading = Vec::new();
    for (name, node) in [("quick", &quick), ("slow", &slow)] {
        let channel = start_node(node.clone()).await;
        seed::put_all(channel.clone(), &keys, &payloads, Duration::from_secs(5), &Progress::spinner(""))
            .await
            .unwrap();
        reading.push((name.to_owned(), channel));
    }
    let time = Duration::from_secs(5);
    revoke::until_held(&options, &payloads, &keys, reading.clone(), time).await.unwrap();

    // The slow one hears of it 50 ms later.
    let delay = Duration::from_millis(50);
    let act = async |key_hash: Bytes| {
        quick.revoked.lock().unwrap().insert(key_hash.clone());
        let slow = slow.revoked.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            slow.lock().unwrap().insert(key_hash);
        });
        Ok(())
    };
    let began = Instant::now();
    let (revoked, seen) =
        revoke::measure(&options, &payloads, &keys, act, reading.clone(), time).await.unwrap();
    assert_eq!((revoked.operations, revoked.errors(), revoked.unsent), (20, 0, 0));
    assert!(began.elapsed() >= Duration::from_millis(95), "20 at 200 a second");
    let [first, second] = &seen[..] else { panic!("two readers") };
    assert_eq!((first.latencies.len(), second.latencies.len()), (20, 20));
    assert_eq!((first.unseen, second.unseen, first.wrong + second.wrong), (0, 0, 0));
    assert_eq!((first.last.len(), second.last.len()), (0, 20), "the slow one is the last every time");
    // A histogram of three digits, and the moment of the sleep's start, allow for a little.
    assert!(second.latencies.min() >= 49_000_000, "{}", second.latencies.min());
    assert!(first.latencies.value_at_quantile(0.5) < second.latencies.min());
    let figures = revoke::Figures::new(&revoked, &seen).unwrap();
    let json = serde_json::to_value(&figures).unwrap();
    assert_eq!((&json["together"]["records"], &json["everywhere"]["records"]), (&40.into(), &20.into()));
    assert_eq!(json["together"]["max_ms"], json["everywhere"]["max_ms"]);
    assert_eq!(json["readers"][1]["max_ms"], json["everywhere"]["max_ms"]);
    let text = figures.text();
    assert!(
        text.starts_with("revoked        20\n") && text.contains("\n  by the last reader    20 "),
        "{text}"
    );
}

#[tokio::test]
async fn a_reader_that_never_refuses_is_counted() {
    let options = revoke_options();
    let (payloads, keys) = (Payloads::random(options.size), random_keys(20, &mut rand::rng()));
    let channel = start(Lie::Nothing).await;
    let reading = vec![("deaf".to_owned(), channel.clone())];
    let time = Duration::from_secs(5);
    // It lacks the records: nothing can be measured.
    let failure = revoke::until_held(&options, &payloads, &keys, reading.clone(), time).await.unwrap_err();
    assert!(matches!(&failure, Failure::Error(text) if text.contains("deaf did not come to hold 20")));

    seed::put_all(channel, &keys, &payloads, time, &Progress::spinner("")).await.unwrap();
    let act = async |_| Ok(());
    let (revoked, seen) =
        revoke::measure(&options, &payloads, &keys, act, reading.clone(), time).await.unwrap();
    assert_eq!((revoked.operations, seen[0].unseen, seen[0].latencies.len()), (20, 20, 0));
    let act = async |_| Err(Status::permission_denied("no"));
    let (revoked, seen) = revoke::measure(&options, &payloads, &keys, act, reading, time).await.unwrap();
    assert_eq!((revoked.operations, revoked.errors() > 0, seen[0].unseen), (0, true, 0));
}
