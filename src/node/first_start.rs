//! `node.first-start auto`: is this a new node, or one whose disk was lost?
//!
//! Empty storage is expected if no peer knows the node. While the node asks its peers, it answers the same
//! question itself (it knows no node), so that the nodes of a new cluster, which start at the same time,
//! learn from each other that they are new. It refuses all other calls meanwhile.

use std::{collections::BTreeMap, os::fd::AsFd};

use futures::future::join_all;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};

use super::{error::StartError, grpc_server, prepare::Prepared};
use crate::{api::grpc::recognition::Recognition, audit::log::AuditLog, config::validate::Config};
use brock_core::{
    base::{
        id::{Instance, NodeId},
        limits,
    },
    proto::{
        self, recognition_service_client::RecognitionServiceClient,
        recognition_service_server::RecognitionServiceServer,
    },
};
use brock_net::{address::Address, channel, dial::Dialler, task::Tasks, tls::accept};

/// The answer of one address.
enum Answer {
    /// It is this process.
    Own,
    /// A node that does not know this one.
    Stranger { node_id: NodeId, has_storage: bool },
    /// A node that knows this one.
    Knows { node_id: NodeId, operations: u64 },
}

impl Answer {
    fn text(&self, address: &str) -> String {
        match self {
            Self::Own => format!("{address} is this node"),
            Self::Stranger { node_id, has_storage: true } => {
                format!("{node_id} at {address} does not know it")
            }
            Self::Stranger { node_id, has_storage: false } => format!("{node_id} at {address} is new itself"),
            Self::Knows { node_id, operations } => {
                format!("{node_id} at {address} knows it ({operations} operations)")
            }
        }
    }
}

/// Succeeds if empty storage is expected.
pub(super) async fn check(
    config: &Config,
    prepared: &Prepared,
    instance: Instance,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    if prepared.fixed.is_empty() && prepared.listed.is_empty() {
        tracing::info!("the storage is empty, and node.join is too: this is a new node");
        return Ok(());
    }
    let reception = Tasks::default();
    answer_others(config, prepared, instance, &reception)?;
    let asking = Asking { config, prepared, instance, answers: BTreeMap::new(), problems: BTreeMap::new() };
    let outcome = stop.run_until_cancelled(asking.run()).await;
    reception.stop(limits::HTTP_STOP_TIMEOUT).await;
    outcome.unwrap_or(Err(StartError::Interrupted))
}

/// Serves on the node's own listener. After this ends, new connections wait in its queue until the node
/// serves.
fn answer_others(
    config: &Config,
    prepared: &Prepared,
    instance: Instance,
    tasks: &Tasks,
) -> Result<(), StartError> {
    let failed =
        |source| StartError::Listen { setting: "node.address", address: config.address.to_string(), source };
    let listener = prepared.listener.as_fd().try_clone_to_owned().map_err(failed)?;
    let listener = TcpListener::from_std(listener.into()).map_err(failed)?;
    let recognition = Recognition { node_id: config.node_id.clone(), instance, memory: None };
    let starting = || async {
        Status::unavailable("this node is starting, and its storage is not open yet")
            .into_http::<tonic::body::Body>()
    };
    let routes =
        Routes::new(RecognitionServiceServer::new(recognition)).into_axum_router().fallback(starting);
    let incoming = accept::accept(listener, &prepared.identity, prepared.room(), tasks);
    let stop = tasks.stopping().clone();
    let serving = grpc_server::builder(AuditLog::none()).add_routes(Routes::from(routes));
    tasks.spawn_short(async move {
        if let Err(error) = serving.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await {
            tracing::warn!(%error, "cannot tell starting peers that this node is new");
        }
    });
    Ok(())
}

struct Asking<'a> {
    config: &'a Config,
    prepared: &'a Prepared,
    instance: Instance,
    answers: BTreeMap<String, Answer>,
    /// Why an address or a name in DNS could not be asked.
    problems: BTreeMap<String, String>,
}

impl Asking<'_> {
    /// Asks until all peers have answered, or until its time is over.
    async fn run(mut self) -> Result<(), StartError> {
        tracing::info!("the storage is empty: asking the peers whether they know this node");
        let deadline = Instant::now() + limits::FIRST_START_PATIENCE;
        loop {
            let addresses = self.addresses().await;
            self.ask(addresses).await?;
            self.check_known()?;
            if self.is_settled() {
                break;
            }
            if Instant::now() >= deadline {
                self.decide_without_all()?;
                break;
            }
            sleep(limits::FIRST_START_PAUSE).await;
        }
        let asked = self.strangers().count();
        tracing::info!(asked, "no peer knows this node: it is new and starts with empty storage");
        Ok(())
    }

    /// The addresses to ask now. The answers of DNS change while other nodes start.
    async fn addresses(&mut self) -> Vec<Address> {
        let Prepared { fixed, listed, resolver, .. } = self.prepared;
        let mut addresses = fixed.clone();
        for name in listed {
            match name.resolve(resolver).await {
                Ok(found) => {
                    self.problems.remove(&name.to_string());
                    addresses.extend(found);
                }
                Err(error) => {
                    self.problems.insert(name.to_string(), error.to_string());
                }
            }
        }
        addresses.retain(|address| !self.answers.contains_key(&address.to_string()));
        // An address that DNS does not list any more does not hold the start up.
        let names = listed.iter().map(ToString::to_string);
        let due: Vec<String> = names.chain(addresses.iter().map(ToString::to_string)).collect();
        self.problems.retain(|asked, _| due.contains(asked));
        addresses
    }

    async fn ask(&mut self, addresses: Vec<Address>) -> Result<(), StartError> {
        let dialler = self.prepared.identity.dialler().with_resolver(self.prepared.resolver.clone());
        let asked = addresses.iter().map(|address| ask_one(address, &dialler, self.config));
        for (address, answer) in addresses.iter().zip(join_all(asked).await) {
            let text = address.to_string();
            match answer {
                Ok(answer) => match self.classify(&text, &answer)? {
                    Some(answer) => {
                        self.problems.remove(&text);
                        self.answers.insert(text, answer);
                    }
                    None => {
                        self.problems.insert(text, "its answer has no valid node id".to_owned());
                    }
                },
                Err(problem) => {
                    self.problems.insert(text, problem);
                }
            }
        }
        Ok(())
    }

    /// One peer that knows this node is enough to refuse: it may be the only one that has what the lost disk had. No
    /// peer proves what it says, so the refusal says who says what, and an operator decides.
    fn check_known(&self) -> Result<(), StartError> {
        let knows = |(address, answer): (&String, &Answer)| match answer {
            Answer::Knows { node_id, operations } => Some((address.clone(), node_id.clone(), *operations)),
            Answer::Own | Answer::Stranger { .. } => None,
        };
        let Some((address, peer, operations)) = self.answers.iter().find_map(knows) else { return Ok(()) };
        let answers = self.answers.iter().filter(|(other, _)| **other != address);
        let answers = answers.map(|(address, answer)| answer.text(address));
        let problems = self.problems.iter().map(|(address, problem)| format!("{address}: {problem}"));
        let others: Vec<String> = answers.chain(problems).collect();
        Err(StartError::LivedBefore {
            path: self.config.path.clone().unwrap_or_default(),
            node_id: self.config.node_id.clone(),
            peer: format!("{peer} at {address}"),
            operations,
            others: if others.is_empty() { "no other peer was asked".to_owned() } else { others.join("; ") },
        })
    }

    /// `None`: the answer is malformed.
    fn classify(
        &self,
        address: &str,
        answer: &proto::RecogniseResponse,
    ) -> Result<Option<Answer>, StartError> {
        let Ok(node_id) = answer.node_id.parse::<NodeId>() else { return Ok(None) };
        if answer.node_id == self.config.node_id.as_str() {
            if answer.instance.as_ref() == self.instance.0 {
                return Ok(Some(Answer::Own));
            }
            return Err(StartError::Twin { node_id, address: address.to_owned() });
        }
        if (answer.operations > 0 || answer.is_known) && !answer.is_retired {
            return Ok(Some(Answer::Knows { node_id, operations: answer.operations }));
        }
        Ok(Some(Answer::Stranger { node_id, has_storage: answer.has_storage }))
    }

    fn strangers(&self) -> impl Iterator<Item = bool> {
        self.answers.values().filter_map(|answer| match answer {
            Answer::Own | Answer::Knows { .. } => None,
            Answer::Stranger { has_storage, .. } => Some(*has_storage),
        })
    }

    /// Whether nothing is left to wait for. DNS may not list an older peer yet, so with DNS a peer that has
    /// storage must have answered.
    fn is_settled(&self) -> bool {
        let by_dns = !self.prepared.listed.is_empty();
        self.problems.is_empty() && (!by_dns || self.strangers().any(|has_storage| has_storage))
    }

    /// The time is over. The peers that answered decide; without any answer the start fails.
    fn decide_without_all(&self) -> Result<(), StartError> {
        let problems: Vec<String> =
            self.problems.iter().map(|(address, problem)| format!("{address}: {problem}")).collect();
        if self.strangers().next().is_some() {
            if !problems.is_empty() {
                tracing::warn!(
                    unasked = problems.join("; "),
                    "not every peer could be asked whether it knows this node; the peers that answered do not"
                );
            }
            return Ok(());
        }
        // All addresses lead to this node: it is the first node of its cluster.
        if problems.is_empty() && !self.answers.is_empty() {
            return Ok(());
        }
        let problems =
            if problems.is_empty() { "DNS lists no peers".to_owned() } else { problems.join("; ") };
        Err(StartError::NoAnswer { path: self.config.path.clone().unwrap_or_default(), problems })
    }
}

async fn ask_one(
    address: &Address,
    dialler: &Dialler,
    config: &Config,
) -> Result<proto::RecogniseResponse, String> {
    let ask = async {
        let dialled = channel::open_channel(address, dialler.clone()).await;
        let (channel, identity) = dialled.map_err(|error| error.to_string())?;
        let request = proto::RecogniseRequest { node_id: config.node_id.to_string() };
        let answer = RecognitionServiceClient::new(channel).recognise(request).await;
        let answer =
            answer.map_err(|status| format!("{}: {}", status.code(), status.message()))?.into_inner();
        match identity.node_id() {
            Some(certified) if certified.as_str() != answer.node_id => {
                Err(format!("it claims to be {}, but its certificate is that of {certified}", answer.node_id))
            }
            _ => Ok(answer),
        }
    };
    let late = |_| format!("no answer within {} s", limits::PEER_CALL_TIMEOUT.as_secs());
    timeout(limits::PEER_CALL_TIMEOUT, ask).await.map_err(late)?
}
