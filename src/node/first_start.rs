//! `node.first-start auto`: is this a new node, or one whose disk was lost?
//!
//! Empty storage is expected if no peer has ever heard of the node. While it asks, the node answers
//! the same question itself (it has heard of nobody), so that nodes of a new cluster that all start at
//! once learn from each other that they are new. What else they are asked they refuse for now.

use std::{collections::BTreeMap, os::fd::AsFd};

use futures::future::join_all;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};

use super::{
    StartError, assembly,
    prepare::{self, Prepared},
};
use crate::{api::grpc::recognition::Recognition, audit::log::Trail, config::validate::Config};
use brock_core::{
    base::{id::Instance, limits},
    proto::{
        self, recognition_service_client::RecognitionServiceClient,
        recognition_service_server::RecognitionServiceServer,
    },
};
use brock_net::{address::Address, channel, dial::Dialler, task::Tasks, tls::accept};

/// What one address has answered.
enum Answer {
    /// It is this process.
    Own,
    /// It has never heard of this node.
    Stranger { has_storage: bool },
}

/// Returns if empty storage is what is to be expected; otherwise says why not.
pub(super) async fn check(
    config: &Config,
    prepared: &Prepared,
    instance: Instance,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    if prepared.join.is_empty() {
        tracing::info!("the storage is empty, and there are no peers that could know this node: it is new");
        return Ok(());
    }
    let reception = Tasks::default();
    answer_others(config, prepared, instance, &reception)?;
    let asking = Asking { config, prepared, instance, answers: BTreeMap::new(), problems: BTreeMap::new() };
    let outcome = stop.run_until_cancelled(asking.run()).await;
    reception.stop(limits::HTTP_STOP_TIMEOUT).await;
    outcome.unwrap_or(Err(StartError::Interrupted))
}

/// Serves on the node's own listener, which is handed on when this ends: connections that come in
/// between wait for the node.
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
        Status::unavailable("this node is starting: its storage is not open yet")
            .into_http::<tonic::body::Body>()
    };
    let routes =
        Routes::new(RecognitionServiceServer::new(recognition)).into_axum_router().fallback(starting);
    let incoming = accept::accept(listener, &prepared.identity, tasks);
    let stop = tasks.stopping().clone();
    let serving = assembly::server(Trail::none()).add_routes(Routes::from(routes));
    tasks.spawn_short(async move {
        if let Err(error) = serving.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await {
            tracing::warn!(%error, "peers that start too cannot be told that this node is new");
        }
    });
    Ok(())
}

struct Asking<'a> {
    config: &'a Config,
    prepared: &'a Prepared,
    instance: Instance,
    answers: BTreeMap<String, Answer>,
    /// Why somebody could not be asked, by address or name.
    problems: BTreeMap<String, String>,
}

impl Asking<'_> {
    /// Asks until all is known, or for as long as a start may take for it.
    async fn run(mut self) -> Result<(), StartError> {
        tracing::info!("the storage is empty: asking the peers whether they know this node");
        let deadline = Instant::now() + limits::FIRST_START_PATIENCE;
        loop {
            let addresses = self.addresses().await;
            self.ask(addresses).await?;
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
        tracing::info!(asked, "no peer knows this node: it is new, and starts with empty storage");
        Ok(())
    }

    /// Who is to be asked now: what DNS lists changes while others start.
    async fn addresses(&mut self) -> Vec<Address> {
        let (mut addresses, listed) = prepare::split(self.prepared.join.clone());
        for name in listed {
            match name.resolve(&self.prepared.resolver).await {
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
        // Nobody waits for an address that DNS does not list any more.
        let due: Vec<String> = self
            .prepared
            .join
            .iter()
            .map(ToString::to_string)
            .chain(addresses.iter().map(ToString::to_string))
            .collect();
        self.problems.retain(|whom, _| due.contains(whom));
        addresses
    }

    async fn ask(&mut self, addresses: Vec<Address>) -> Result<(), StartError> {
        let dialler = self.prepared.identity.dialler().with_resolver(self.prepared.resolver.clone());
        let asked = addresses.iter().map(|address| ask_one(address, &dialler, self.config));
        for (address, answer) in addresses.iter().zip(join_all(asked).await) {
            let text = address.to_string();
            match answer {
                Ok(answer) => {
                    let answer = self.judge(&text, answer)?;
                    self.problems.remove(&text);
                    self.answers.insert(text, answer);
                }
                Err(problem) => {
                    self.problems.insert(text, problem);
                }
            }
        }
        Ok(())
    }

    fn judge(&self, address: &str, answer: proto::RecogniseResponse) -> Result<Answer, StartError> {
        let path = || self.config.path.clone().unwrap_or_default();
        if answer.node_id == self.config.node_id.as_str() {
            if answer.instance.as_ref() == self.instance.0 {
                return Ok(Answer::Own);
            }
            let node_id = self.config.node_id.clone();
            return Err(StartError::Twin { node_id, address: address.to_owned() });
        }
        if (answer.operations > 0 || answer.is_known) && !answer.is_retired {
            return Err(StartError::LivedBefore {
                path: path(),
                node_id: self.config.node_id.clone(),
                peer: answer.node_id,
                address: address.to_owned(),
                operations: answer.operations,
            });
        }
        Ok(Answer::Stranger { has_storage: answer.has_storage })
    }

    fn strangers(&self) -> impl Iterator<Item = bool> {
        self.answers.values().filter_map(|answer| match answer {
            Answer::Own => None,
            Answer::Stranger { has_storage } => Some(*has_storage),
        })
    }

    /// Whether nothing is left to wait for. Where DNS says who the peers are, one that has been there
    /// for longer than this node may not be listed yet, unless such a one has answered.
    fn is_settled(&self) -> bool {
        let is_listed =
            self.prepared.join.iter().any(|join| matches!(join, brock_net::join::Join::Listed(_)));
        self.problems.is_empty() && (!is_listed || self.strangers().any(|has_storage| has_storage))
    }

    /// The time is over. Whoever has answered is believed; if nobody could be asked, nothing is known.
    fn decide_without_all(&self) -> Result<(), StartError> {
        let problems: Vec<String> =
            self.problems.iter().map(|(address, problem)| format!("{address}: {problem}")).collect();
        if self.strangers().next().is_some() {
            if !problems.is_empty() {
                tracing::warn!(
                    unasked = problems.join("; "),
                    "not every peer could be asked whether it knows this node; those that answered do not"
                );
            }
            return Ok(());
        }
        // Every address leads to this node itself: it is the first of its cluster.
        if problems.is_empty() && !self.answers.is_empty() {
            return Ok(());
        }
        let problems = if problems.is_empty() { "DNS lists nobody".to_owned() } else { problems.join("; ") };
        Err(StartError::NobodyToAsk { path: self.config.path.clone().unwrap_or_default(), problems })
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
                Err(format!("it says it is {}, but its certificate is that of {certified}", answer.node_id))
            }
            _ => Ok(answer),
        }
    };
    let late = |_| format!("no answer within {} s", limits::PEER_CALL_TIMEOUT.as_secs());
    timeout(limits::PEER_CALL_TIMEOUT, ask).await.map_err(late)?
}
