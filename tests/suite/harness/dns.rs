//! A DNS server on loopback, with one zone that the test changes as it likes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SRV},
    },
};
use tokio::{net::UdpSocket, task::JoinHandle};

use super::eventually;

#[derive(Default)]
struct Zone {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    services: BTreeMap<String, Vec<(String, u16)>>,
    fails: bool,
    questions: usize,
}

/// Answers until it is dropped.
pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    server: JoinHandle<()>,
}

impl Dns {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let shown = Arc::clone(&zone);
        let server = tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let Ok(question) = Message::from_vec(&packet[..length]) else { continue };
                shown.lock().unwrap().questions += 1;
                let answer = shown.lock().unwrap().answer(&question).to_vec().unwrap();
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Self { address, zone, server }
    }

    /// From now on a name has these addresses.
    pub fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.zone.lock().unwrap().addresses.insert(format!("{name}."), addresses);
    }

    /// From now on a name has these SRV records.
    pub fn set_services(&self, name: &str, services: &[(&str, u16)]) {
        let services = services.iter().map(|(target, port)| (format!("{target}."), *port)).collect();
        self.zone.lock().unwrap().services.insert(format!("{name}."), services);
    }

    /// Waits until so many more questions were answered.
    pub async fn is_asked_again(&self, times: usize) {
        let questions = || self.zone.lock().unwrap().questions;
        let enough = questions() + times;
        eventually("DNS is asked again", || async { (questions() >= enough).then_some(()) }).await;
    }

    /// Whether it answers SERVFAIL to everything.
    pub fn set_fails(&self, fails: bool) {
        self.zone.lock().unwrap().fails = fails;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Zone {
    fn answer(&self, question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        let Some(query) = question.queries.first() else { return answer };
        answer.add_query(query.clone());
        if self.fails {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        }
        let name = query.name().to_ascii().to_ascii_lowercase();
        let (addresses, services) = (self.addresses.get(&name), self.services.get(&name));
        if addresses.is_none() && services.is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let data: Vec<RData> = match query.query_type() {
            RecordType::SRV => services.into_iter().flatten().map(service).collect(),
            wanted => addresses
                .into_iter()
                .flatten()
                .filter_map(|address| match (wanted, address) {
                    (RecordType::A, IpAddr::V4(ip)) => Some(RData::A(A(*ip))),
                    (RecordType::AAAA, IpAddr::V6(ip)) => Some(RData::AAAA(AAAA(*ip))),
                    _ => None,
                })
                .collect(),
        };
        answer.add_answers(data.into_iter().map(|data| Record::from_rdata(query.name().clone(), 5, data)));
        answer
    }
}

fn service((target, port): &(String, u16)) -> RData {
    RData::SRV(SRV::new(0, 0, *port, Name::from_ascii(target).unwrap()))
}
