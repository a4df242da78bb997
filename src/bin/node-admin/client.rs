//! Reaching nodes: certificates, connections, time-outs, and "the first that answers".

use std::{collections::VecDeque, error::Error, fmt::Display, sync::Arc, time::Duration};

use crate::{
    cli::Global,
    failure::{Exit, Failure, describe, exit_of},
    output,
};
use brock_core::{
    base::limits,
    proto::{
        self, admin_service_client::AdminServiceClient, key_value_service_client::KeyValueServiceClient,
    },
};
use brock_net::{
    address::Address,
    channel::{lazy_channel, open_channel},
    dial::{DialError, Dialler},
    tls::{credentials::ClientIdentity, errors},
};
use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status, transport::Channel};

/// How a message begins that lists why each node did not answer.
pub(crate) const NOBODY: &str = "no node answered";

/// How long one node may take for a short call, connecting included, unless --timeout says otherwise.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for calls for which a node asks all others, each of which may take a while not to answer.
pub(crate) const CLUSTER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for calls that go through everything that a node has.
pub(crate) const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take for a backup, unless --timeout says otherwise.
pub(crate) const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a command that is a handful of calls: one thread is enough.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Error(format!("could not start: {error}")))?
        .block_on(work)
}

/// Who we are and whom we may ask.
pub(crate) struct Access {
    dialler: Dialler,
    pub(crate) addresses: Vec<Arc<Address>>,
    pub(crate) timeout: Duration,
}

impl Access {
    /// Checks the flags and loads the certificates. Does not touch the network.
    pub(crate) fn load(global: &Global, timeout: Duration) -> Result<Self, Failure> {
        let Some(certs_dir) = global.certs_dir.as_deref().filter(|dir| !dir.as_os_str().is_empty()) else {
            return Err(Failure::Usage("--certs-dir DIR (or NODE_ADMIN_CERTS_DIR, or a context) is missing; to keep it:\n  node-admin context set \
                 NAME --node-addresses HOST:20004 --certs-dir DIR"
                    .to_owned(),));
        };
        let addresses = parse_addresses(&global.node_addresses)?;
        if addresses.is_empty() {
            return Err(Failure::Usage(
                "--node-addresses HOST:PORT[,…] (or NODE_ADMIN_NODE_ADDRESSES, or a context) is missing; to keep it:\n  \
                 node-admin context set NAME --node-addresses HOST:20004 --certs-dir DIR"
                    .to_owned(),
            ));
        }
        let identity = ClientIdentity::load(certs_dir).map_err(|error| Failure::Error(chain_of(&error)))?;
        Ok(Self { dialler: identity.dialler(), addresses, timeout })
    }

    /// A connection to one node, made within `deadline`.
    async fn dial(&self, address: &Address, deadline: Instant) -> Result<Channel, CallError> {
        match timeout_at(deadline, open_channel(address, self.dialler.clone())).await {
            Ok(Ok((channel, _peer))) => Ok(channel),
            Ok(Err(error)) => {
                let denied = refused_our_certificate(&error);
                Err(CallError::Miss(Miss { reason: in_words(&error), denied, sent: false }))
            }
            Err(_) => Err(CallError::Miss(Miss::late(false))),
        }
    }

    /// A connection to one node that is made again whenever it is lost: for work that outlives one
    /// (a node closes old connections, so that rotated certificates take hold).
    pub(crate) async fn connect(&self, address: &Address) -> Result<Channel, Failure> {
        let channel = lazy_channel(address, self.dialler.clone());
        // The first call makes the connection; nobody has this record.
        let request = proto::GetRequest { key_hash: Bytes::from_static(&[0; 32]), local: true };
        let outcome = match timeout(self.timeout, key_values(channel.clone()).get(request)).await {
            Ok(outcome) => outcome.map_err(CallError::from),
            Err(_) => Err(CallError::Miss(Miss::late(true))),
        };
        match outcome {
            Ok(_) => Ok(channel),
            Err(CallError::Answer(status)) if status.code() == Code::NotFound => Ok(channel),
            Err(CallError::Answer(status)) => Err(Failure::answered(&status)),
            Err(CallError::Miss(miss)) => Err(nobody_answered(&[(address.to_string(), miss)])),
        }
    }

    /// Many calls on one connection to one node, made again whenever it is lost.
    fn reuse(&self, address: &Address) -> Reused {
        let channel = lazy_channel(address, self.dialler.clone());
        Reused { address: address.to_string(), channel, timeout: self.timeout }
    }

    /// Makes the call at each node in turn until one answers, and goes on with that one.
    pub(crate) async fn first_node<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> Result<(T, Reused), Failure> {
        let answered = self.first_answer(call).await;
        answered.tell_misses();
        let answer = answered.outcome?;
        match self.addresses.get(answered.misses.len()) {
            Some(address) => Ok((answer, self.reuse(address))),
            None => Err(nobody_answered(&answered.misses)),
        }
    }

    /// One call on a fresh connection to one node.
    pub(crate) async fn call<T>(
        &self,
        address: &Address,
        call: impl AsyncFnOnce(Channel) -> Result<T, Status>,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + self.timeout;
        let channel = self.dial(address, deadline).await?;
        match timeout_at(deadline, call(channel)).await {
            Ok(outcome) => outcome.map_err(CallError::from),
            Err(_) => Err(CallError::Miss(Miss::late(true))),
        }
    }

    /// Makes the call at each node in turn until one answers.
    pub(crate) async fn first_answer<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> Answered<T> {
        first_answer(&self.addresses, async |address| self.call(address, &call).await).await
    }
}

/// A connection for many calls.
pub(crate) struct Reused {
    address: String,
    channel: Channel,
    timeout: Duration,
}

impl Reused {
    /// One call, the time for connecting included.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<T, Status>,
    ) -> Result<T, CallError> {
        match timeout(self.timeout, call(self.channel.clone())).await {
            Ok(outcome) => outcome.map_err(CallError::from),
            Err(_) => Err(CallError::Miss(Miss::late(true))),
        }
    }

    /// One call that must be answered.
    pub(crate) async fn ask<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        self.call(call).await.map_err(|error| match error {
            CallError::Answer(status) => Failure::answered(&status),
            CallError::Miss(miss) => nobody_answered(&[(self.address.clone(), miss)]),
        })
    }
}

/// Reads addresses, and names the one that is none.
pub(crate) fn parse_addresses(texts: &[String]) -> Result<Vec<Arc<Address>>, Failure> {
    let given = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    given
        .map(|text| match text.parse::<Address>() {
            Ok(address) => Ok(Arc::new(address)),
            Err(error) => Err(Failure::Usage(format!("{text:?} is not HOST:PORT: {error}"))),
        })
        .collect()
}

/// A key-value client that takes everything a node may send.
pub(crate) fn key_values(channel: Channel) -> KeyValueServiceClient<Channel> {
    KeyValueServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::MESSAGE_MAX_BYTES)
}

/// An admin client that takes everything a node may send.
pub(crate) fn admin(channel: Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES)
}

/// What came of one call to one node.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The node's own answer; another node is not asked.
    Answer(Status),
    /// No answer; another node may have one.
    Miss(Miss),
}

/// Why a node gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(crate) reason: String,
    /// It refused our certificate.
    pub(crate) denied: bool,
    /// The request may have reached it, so it may have been carried out.
    pub(crate) sent: bool,
}

impl Miss {
    fn late(sent: bool) -> Self {
        let reason = match sent {
            true => "connected, but no answer within the time-out",
            false => "no connection within the time-out",
        };
        Self { reason: reason.to_owned(), denied: false, sent }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        // Only what went wrong on this side of the wire has a source: the connection broke.
        if let Some(source) = status.source() {
            let denied = refused_our_certificate(source);
            // A connection that was never made carried nothing.
            let sent = !denied && !never_connected(source);
            return Self::Miss(Miss { reason: in_words(source), denied, sent });
        }
        match (exit_of(status.code()), status.code()) {
            // The node says that it did not do it, or does not know whether it did.
            (Exit::Unreachable, code) => {
                Self::Miss(Miss { reason: describe(&status), denied: false, sent: code != Code::Unavailable })
            }
            _ => Self::Answer(status),
        }
    }
}

/// What came of asking one node after the other.
pub(crate) struct Answered<T> {
    pub(crate) outcome: Result<T, Failure>,
    /// The nodes that were asked before and gave no answer.
    pub(crate) misses: Vec<(String, Miss)>,
}

impl<T> Answered<T> {
    /// The nodes that may have carried the request out although they did not say so.
    pub(crate) fn perhaps_done(&self) -> Option<String> {
        let sent = self.misses.iter().filter(|(_, miss)| miss.sent);
        let addresses: Vec<_> = sent.map(|(address, _)| address.as_str()).collect();
        (!addresses.is_empty()).then(|| addresses.join(", "))
    }

    /// Says which nodes did not answer: what comes is then not of the node that was named first.
    pub(crate) fn tell_misses(&self) {
        // When nobody answered, the failure lists them; when one refused, it does not matter.
        if matches!(self.outcome, Err(Failure::Unreachable(_) | Failure::Denied(_))) {
            return;
        }
        for (address, miss) in &self.misses {
            output::message(&format!("note: {address} did not answer: {}", miss.reason));
        }
    }

    /// The outcome of something that may be done twice, with what an attempt that broke off means.
    pub(crate) fn repeatable(self) -> Result<T, Failure> {
        let Some(nodes) = self.perhaps_done() else { return self.outcome };
        match self.outcome {
            Ok(answer) => {
                output::message(&format!(
                    "note: {nodes} may have done it too before the connection broke; twice is harmless"
                ));
                Ok(answer)
            }
            Err(failure) => Err(failure.with_remark(&format!(
                "{nodes} may have done it all the same: the request was sent, the answer was not received. \
                 Do it again: repeating it is harmless."
            ))),
        }
    }
}

async fn first_answer<A: Display, T>(
    addresses: &[A],
    attempt: impl AsyncFn(&A) -> Result<T, CallError>,
) -> Answered<T> {
    let mut misses = Vec::new();
    for address in addresses {
        match attempt(address).await {
            Ok(answer) => return Answered { outcome: Ok(answer), misses },
            Err(CallError::Answer(status)) => {
                return Answered { outcome: Err(Failure::answered(&status)), misses };
            }
            Err(CallError::Miss(miss)) => misses.push((address.to_string(), miss)),
        }
    }
    Answered { outcome: Err(nobody_answered(&misses)), misses }
}

fn nobody_answered(misses: &[(String, Miss)]) -> Failure {
    let mut text = NOBODY.to_owned();
    for (address, miss) in misses {
        text.push_str(&format!("\n  {address}: {}", miss.reason));
    }
    // A retry does not help against a refusal, so the refusal is what scripts must hear of.
    match misses.iter().any(|(_, miss)| miss.denied) {
        true => Failure::Denied(text),
        false => Failure::Unreachable(text),
    }
}

/// Why a call failed: the node's words, or what happened to the connection.
pub(crate) fn reason_of(status: &Status) -> String {
    status.source().map_or_else(|| describe(status), in_words)
}

/// The error for people: what TLS has to say about it, or all there is.
fn in_words(error: &(dyn Error + 'static)) -> String {
    output::printable(&errors::explain(error).unwrap_or_else(|| chain_of(error)))
}

/// Whether this is the error of a dial.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<DialError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and its causes on one line; layers that only repeat their cause are left out.
fn chain_of(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let line = error.to_string();
        if !text.contains(&line) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&line);
        }
        next = error.source();
    }
    text
}

/// Whether the other end ended the handshake with an alert. In TLS 1.3 it looks at our certificate
/// after we think the handshake is over, so this shows at the dial or only at the first call.
fn refused_our_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut next = VecDeque::from([error]);
    while let Some(error) = next.pop_front() {
        if matches!(error.downcast_ref(), Some(rustls::Error::AlertReceived(_))) {
            return true;
        }
        // An io::Error's source() skips the error that it was made from.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            next.push_back(inner);
        }
        // HTTP/2 keeps only the text of an error of the connection under it.
        if error.to_string().contains("received fatal alert") {
            return true;
        }
        next.extend(error.source());
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn miss(reason: &str, denied: bool, sent: bool) -> CallError {
        CallError::Miss(Miss { reason: reason.to_owned(), denied, sent })
    }

    async fn ask(script: Vec<Result<u8, CallError>>) -> Answered<u8> {
        let addresses: Vec<String> = (0..script.len()).map(|i| format!("node-{i}:1")).collect();
        let script = std::sync::Mutex::new(VecDeque::from(script));
        first_answer(&addresses, async |_| script.lock().unwrap().pop_front().unwrap()).await
    }

    #[tokio::test]
    async fn the_first_that_answers_decides() {
        let answered = ask(vec![Err(miss("down", false, false)), Ok(7), Ok(8)]).await;
        assert_eq!(answered.outcome, Ok(7));
        assert_eq!(answered.perhaps_done(), None);

        let not_found = CallError::from(Status::not_found("absent"));
        let answered = ask(vec![Err(miss("broke", false, true)), Err(not_found), Ok(8)]).await;
        assert_eq!(answered.outcome, Err(Failure::NotFound("absent".to_owned())));
        assert_eq!(answered.perhaps_done().as_deref(), Some("node-0:1"));
    }

    #[tokio::test]
    async fn when_nobody_answers_each_is_listed() {
        let unavailable = CallError::from(Status::unavailable("2 peers could not be asked"));
        let answered = ask(vec![Err(miss("down", false, false)), Err(unavailable)]).await;
        let text = "no node answered\n  node-0:1: down\n  node-1:1: 2 peers could not be asked";
        assert_eq!(answered.outcome, Err(Failure::Unreachable(text.to_owned())));

        let answered = ask(vec![Err(miss("down", false, false)), Err(miss("no", true, false))]).await;
        assert_eq!(answered.outcome.unwrap_err().exit(), Exit::Denied);
    }

    #[tokio::test]
    async fn what_broke_off_is_mentioned_and_may_be_repeated() {
        let answered = ask(vec![Err(miss("reset", false, true)), Ok(7)]).await;
        assert_eq!(answered.repeatable(), Ok(7));
        let unavailable = CallError::from(Status::unavailable("not now"));
        let failure = ask(vec![Err(miss("reset", false, true)), Err(unavailable)]).await.repeatable();
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.to_string().contains("\nnode-0:1 may have done it all the same"), "{failure}");
        assert!(failure.to_string().contains("harmless"), "{failure}");
        let failure = ask(vec![Err(miss("down", false, false))]).await.repeatable().unwrap_err();
        assert!(!failure.to_string().contains("may have"), "{failure}");
    }

    #[test]
    fn an_alert_is_a_refusal_wherever_it_hides() {
        let alert = || rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        let direct = io::Error::new(io::ErrorKind::InvalidData, alert());
        assert!(refused_our_certificate(&direct));
        let text_only = io::Error::other(alert().to_string());
        assert!(refused_our_certificate(&text_only));
        assert!(!refused_our_certificate(&io::Error::other("connection reset")));

        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(direct));
        assert!(matches!(CallError::from(status), CallError::Miss(Miss { denied: true, sent: false, .. })));
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::other("reset")));
        assert!(matches!(CallError::from(status), CallError::Miss(Miss { denied: false, sent: true, .. })));
    }

    #[test]
    fn addresses_are_checked_before_anything_is_dialled() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parse_addresses(&texts(&["a:1", " b:2", ""])).unwrap().len(), 2);
        let failure = parse_addresses(&texts(&["a:1", "nonsense"])).err().unwrap();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("nonsense"));
    }
}
