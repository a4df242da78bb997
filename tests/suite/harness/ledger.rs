//! What clients were promised: puts in a loop, and a book of those that were acknowledged.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    client::{Client, put_request},
    store::key,
};
use brock_core::proto::{self, batch_get_response, batch_put_response};
use futures::future::join_all;
use tokio::task::JoinHandle;
use tonic::Status;

/// A place in the log: origin and clock.
type Place = (Vec<u8>, u64);

/// Acknowledged puts: the record's number and its place in the log.
#[derive(Clone, Default)]
pub struct Ledger {
    acknowledged: Arc<Mutex<HashMap<u64, Place>>>,
    attempted: Arc<AtomicU64>,
    grants_at_least_bytes: usize,
}

/// Clients that put until the node is gone or they are told to stop.
pub struct Writers {
    tasks: Vec<JoinHandle<Status>>,
    stop: Arc<AtomicBool>,
}

impl Ledger {
    /// A ledger whose records are large.
    pub fn of_large_records() -> Self {
        Self { grants_at_least_bytes: 60_000, ..Self::default() }
    }

    /// The grant of a record, by its number: no two alike, sizes from tens of bytes to kilobytes.
    fn grant(&self, number: u64) -> Vec<u8> {
        let text = format!("grant {number};");
        let times = 1 + (number.wrapping_mul(2_654_435_761) >> 7) % 200;
        text.repeat(usize::try_from(times).unwrap() + self.grants_at_least_bytes / text.len()).into_bytes()
    }

    /// How many puts were acknowledged.
    pub fn len(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// How many were begun.
    pub fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::SeqCst)
    }

    fn note(&self, number: u64, response: &proto::PutResponse) {
        let stamp = response.stamp.as_ref().unwrap();
        let place = (stamp.origin.to_vec(), stamp.clock);
        assert!(self.acknowledged.lock().unwrap().insert(number, place).is_none());
    }

    /// Starts clients. Every third one puts in batches.
    pub fn write(&self, client: &Client, clients: usize) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..clients).map(|i| {
            let (ledger, client, stop) = (self.clone(), client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let outcome = loop {
                    let size = if i % 3 == 0 { 10 } else { 1 };
                    match ledger.put(&client, size).await {
                        Ok(()) if stop.load(Ordering::SeqCst) => break Status::ok("told to stop"),
                        Ok(()) => {}
                        Err(status) => break status,
                    }
                };
                drop(client);
                outcome
            })
        });
        Writers { tasks: tasks.collect(), stop }
    }

    async fn put(&self, client: &Client, records: u64) -> Result<(), Status> {
        let first = self.attempted.fetch_add(records, Ordering::SeqCst);
        let request = |number: u64| put_request(&key(number).0, &self.grant(number));
        if records == 1 {
            let response = client.kv.clone().put(request(first)).await?;
            self.note(first, &response.into_inner());
            return Ok(());
        }
        let items = (first..first + records).map(request).collect();
        let response = client.kv.clone().batch_put(proto::BatchPutRequest { items }).await?.into_inner();
        for (number, item) in (first..).zip(response.items) {
            match item.outcome.unwrap() {
                batch_put_response::item::Outcome::Ok(ok) => self.note(number, &ok),
                batch_put_response::item::Outcome::Error(error) => {
                    return Err(Status::new(error.code.into(), error.message));
                }
            }
        }
        Ok(())
    }

    /// Asks one node alone for every record that was ever attempted: what was acknowledged must be
    /// there, and what is there must be whole. Returns how many are there.
    pub async fn check(&self, client: &Client, what: &str) -> usize {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        let attempted: Vec<u64> = (0..self.attempted()).collect();
        let mut present = 0;
        for chunk in attempted.chunks(50) {
            let item =
                |number: &u64| proto::GetRequest { key_hash: key(*number).0.to_vec().into(), local: true };
            let items = chunk.iter().map(item).collect();
            let answer = client.kv.clone().batch_get(proto::BatchGetRequest { items }).await.unwrap();
            for (number, item) in chunk.iter().zip(answer.into_inner().items) {
                match item.outcome.unwrap() {
                    batch_get_response::item::Outcome::Ok(found) => {
                        let record = found.record.unwrap();
                        assert!(
                            record.encrypted_access_grant == self.grant(*number),
                            "{what}: {number} is torn"
                        );
                        present += 1;
                        if let Some((origin, clock)) = acknowledged.get(number) {
                            let stamp = found.stamp.unwrap();
                            assert_eq!((stamp.origin.as_ref(), stamp.clock), (origin.as_slice(), *clock));
                        }
                    }
                    batch_get_response::item::Outcome::Error(error) => {
                        assert_eq!(error.code, i32::from(tonic::Code::NotFound), "{what}: {}", error.message);
                        assert!(
                            !acknowledged.contains_key(number),
                            "{what}: {number} was acknowledged and is gone"
                        );
                    }
                }
            }
        }
        present
    }

    /// Every acknowledged put in its place: origin, then clock, then the record's number. No place
    /// was given out twice.
    pub fn places(&self) -> BTreeMap<(Vec<u8>, u64), u64> {
        let acknowledged = self.acknowledged.lock().unwrap();
        let places: BTreeMap<_, _> =
            acknowledged.iter().map(|(number, place)| (place.clone(), *number)).collect();
        assert_eq!(places.len(), acknowledged.len(), "two puts were told the same origin and clock");
        places
    }
}

impl Writers {
    /// Waits until all of them have ended, and returns how.
    pub async fn ended(self) -> Vec<Status> {
        join_all(self.tasks).await.into_iter().map(Result::unwrap).collect()
    }

    /// Lets every client finish what it is doing. They must all be well.
    pub async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        for status in self.ended().await {
            assert_eq!(status.code(), tonic::Code::Ok, "{status}");
        }
    }
}
