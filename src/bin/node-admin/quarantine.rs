//! `quarantine`: operations that a node could not apply.

use crate::{
    access, answer,
    cli::{Format, QuarantineCommand},
    confirm,
    failure::Failure,
    output::{self, headed, section},
    stamp,
};
use brock_client::{CallError, Client, ClientError, Connection, calls};
use brock_core::{
    base::{limits, vector::Stamp},
    proto,
};
use data_encoding::HEXLOWER;
use serde::Serialize;

/// Entries in one answer.
const PAGE: u32 = 1000;

/// Printed before entries are dropped.
const DROP_WARNING: &str = "Dropping from quarantine: this node discards the operation. A repair restores the record \
     from peers that could apply it.";

/// What is done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Retry,
    Drop,
}

impl Action {
    /// At the first node that answers, which is named.
    async fn at_first_node(self, client: &Client, entry: &Stamp) -> Result<String, Failure> {
        match self {
            Self::Retry => {
                let answered = client.retry_quarantined(request(entry)).await;
                answer::reported_change(answered).map(|answer| answer.node_id)
            }
            Self::Drop => {
                let answered = client.drop_quarantined(request(entry)).await;
                answer::reported_change(answered).map(|answer| answer.node_id)
            }
        }
    }

    async fn at(self, node: &Connection, entry: &Stamp) -> Result<(), CallError> {
        match self {
            Self::Retry => node.retry_quarantined(request(entry)).await.map(drop),
            Self::Drop => node.drop_quarantined(request(entry)).await.map(drop),
        }
    }
}

/// Runs the command.
pub(crate) fn run(client: &Client, command: QuarantineCommand, format: Format) -> Result<(), Failure> {
    match command {
        QuarantineCommand::List => access::block_on(list(client, format)),
        QuarantineCommand::Show { stamp } => access::block_on(show(client, stamp, format)),
        QuarantineCommand::Retry { which } => {
            access::block_on(settle(client, Action::Retry, which.stamp, format))
        }
        QuarantineCommand::Drop { which, yes } => {
            let word =
                which.stamp.map_or_else(|| "all".to_owned(), |stamp| stamp::text(stamp.origin, stamp.clock));
            confirm::confirmed(yes, DROP_WARNING, &word)?;
            access::block_on(settle(client, Action::Drop, which.stamp, format))
        }
    }
}

/// Prints the quarantine of the first node that answers.
async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let (list, _) = all(client).await?;
    output::data(format, &list, List::text)
}

/// The same as a value.
pub(crate) async fn value(client: &Client) -> Result<serde_json::Value, Failure> {
    output::value(&all(client).await?.0)
}

/// Prints one entry of the first node that answers.
async fn show(client: &Client, entry: Stamp, format: Format) -> Result<(), Failure> {
    let shown = answer::reported(client.show_quarantined(request(&entry)).await)?;
    output::data(format, &Shown::try_from(shown)?, Shown::text)
}

fn request(entry: &Stamp) -> proto::QuarantinedRequest {
    proto::QuarantinedRequest { stamp: Some(stamp::to_wire(entry)) }
}

/// Retries or drops one entry, or all of them (`None`), at the first node that answers.
async fn settle(
    client: &Client,
    action: Action,
    which: Option<Stamp>,
    format: Format,
) -> Result<(), Failure> {
    let settled = match which {
        Some(entry) => {
            let outcome = action.at_first_node(client, &entry).await;
            Settled::one(&entry, outcome)?
        }
        None => {
            let (list, node) = all(client).await?;
            let stamps = list.entries.into_iter().map(|entry| entry.at).collect();
            let settled = Settled::many(stamps, async |entry| action.at(&node, entry).await).await;
            Settled { node_id: list.node_id, ..settled }
        }
    };
    output::data(format, &settled, Settled::text)?;
    settled.outcome()
}

/// All entries, and the node that has them. Their number is bounded, because a node bounds its quarantine.
async fn all(client: &Client) -> Result<(List, Connection), Failure> {
    let page = |after| proto::ListQuarantineRequest { after, limit: PAGE };
    let first = async |channel| Ok(calls::admin(channel).list_quarantine(page(None)).await?.into_inner());
    let (first, node) = answer::reported(client.first_node(first).await)?;
    let next = async |after| Ok(node.list_quarantine(page(Some(after))).await?);
    Ok((follow(first, next).await?, node))
}

async fn follow(
    first: proto::ListQuarantineResponse,
    next_page: impl AsyncFn(proto::Stamp) -> Result<proto::ListQuarantineResponse, Failure>,
) -> Result<List, Failure> {
    let mut list = List { node_id: first.node_id.clone(), entries: Vec::new() };
    let mut page = first;
    let mut after = None;
    loop {
        let proto::ListQuarantineResponse { entries, next, node_id: _ } = page;
        for entry in entries {
            list.entries.push(Entry::new(entry)?);
        }
        let Some(next) = next else { return Ok(list) };
        let place = stamp::from_wire(Some(next.clone()))?;
        // A circular list, or one that is longer than a quarantine, would never end.
        if after.is_some_and(|after| place <= after) || list.entries.len() as u64 > limits::QUARANTINE_MAX {
            return Err(Failure::nonsense("its list of quarantined entries does not end"));
        }
        page = next_page(next).await?;
        after = Some(place);
    }
}

/// What `quarantine list` prints.
#[derive(Debug, Serialize)]
struct List {
    /// The node that answered.
    node_id: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    #[serde(skip)]
    at: Stamp,
    stamp: String,
    key_hash: String,
    reason: String,
    at_unix: i64,
    operation_bytes: u64,
    payload_bytes: u64,
}

/// What `quarantine show` prints.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    entry: Entry,
    /// As the node received it, in hex.
    operation: String,
    /// The node that answered.
    node_id: String,
}

/// What `quarantine retry` and `quarantine drop` print.
#[derive(Debug, Default, Serialize)]
struct Settled {
    /// The node that answered; empty if it refused.
    node_id: String,
    done: Vec<String>,
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Failed {
    stamp: String,
    error: String,
}

impl List {
    fn text(&self) -> String {
        let rows = self.entries.iter().map(|entry| {
            vec![
                entry.stamp.clone(),
                entry.key_hash.clone(),
                output::moment(entry.at_unix),
                entry.operation_bytes.to_string(),
                entry.payload_bytes.to_string(),
                output::printable(&entry.reason),
            ]
        });
        let heading = ["STAMP", "KEY HASH", "AT", "OPERATION BYTES", "PAYLOAD BYTES", "REASON"];
        let mut text = String::new();
        let title = format!("quarantined at {}", output::printable(&self.node_id));
        section(&mut text, &title, &headed(&heading, rows));
        text.trim_start().to_owned()
    }
}

impl Entry {
    fn new(entry: proto::Quarantined) -> Result<Self, Failure> {
        let proto::Quarantined { stamp, key_hash, reason, at_unix, operation_bytes, payload_bytes } = entry;
        let at = stamp::from_wire(stamp)?;
        let (stamp, key_hash) = (stamp::text(at.origin, at.clock), HEXLOWER.encode(&key_hash));
        Ok(Self { at, stamp, key_hash, reason, at_unix, operation_bytes, payload_bytes })
    }
}

impl TryFrom<proto::ShowQuarantinedResponse> for Shown {
    type Error = Failure;

    fn try_from(response: proto::ShowQuarantinedResponse) -> Result<Self, Failure> {
        let proto::ShowQuarantinedResponse { entry, operation, node_id } = response;
        let entry = entry.ok_or_else(|| Failure::nonsense("it has no entry"))?;
        Ok(Self { entry: Entry::new(entry)?, operation: HEXLOWER.encode(&operation), node_id })
    }
}

impl Shown {
    fn text(&self) -> String {
        output::fields(&[
            ("stamp", self.entry.stamp.clone()),
            ("key_hash", self.entry.key_hash.clone()),
            ("reason", output::printable(&self.entry.reason)),
            ("at", output::moment(self.entry.at_unix)),
            ("operation_bytes", self.entry.operation_bytes.to_string()),
            ("payload_bytes", self.entry.payload_bytes.to_string()),
            ("operation", self.operation.clone()),
            ("node_id", output::printable(&self.node_id)),
        ])
    }
}

impl Settled {
    /// One entry. A node's answer about the entry is data; a failure to ask is not.
    fn one(entry: &Stamp, outcome: Result<String, Failure>) -> Result<Self, Failure> {
        let stamp = stamp::text(entry.origin, entry.clock);
        match outcome {
            Ok(node_id) => Ok(Self { node_id, done: vec![stamp], failed: Vec::new() }),
            Err(Failure::NotFound(error) | Failure::Precondition(error)) => {
                Ok(Self { failed: vec![Failed { stamp, error }], ..Self::default() })
            }
            Err(failure) => Err(failure),
        }
    }

    /// One entry after the other, until the node does not answer.
    async fn many(entries: Vec<Stamp>, act: impl AsyncFn(&Stamp) -> Result<(), CallError>) -> Self {
        let mut settled = Self::default();
        let mut gone = None;
        for entry in entries {
            let stamp = stamp::text(entry.origin, entry.clock);
            if let Some(reason) = &gone {
                settled.failed.push(Failed { stamp, error: format!("not tried: {reason}") });
                continue;
            }
            match act(&entry).await {
                Ok(()) => settled.done.push(stamp),
                Err(CallError::Status(status)) => {
                    let error = ClientError::Status(status).to_string();
                    settled.failed.push(Failed { stamp, error });
                }
                Err(CallError::Miss(miss)) => {
                    settled.failed.push(Failed { stamp, error: miss.reason.clone() });
                    gone = Some(miss.reason);
                }
            }
        }
        settled
    }

    fn outcome(&self) -> Result<(), Failure> {
        match self.failed.len() {
            0 => Ok(()),
            failed => Err(Failure::Precondition(format!(
                "{failed} of {} quarantined entries stay as they are",
                failed + self.done.len()
            ))),
        }
    }

    fn text(&self) -> String {
        let done = self.done.iter().map(|stamp| vec![stamp.clone(), "done".to_owned()]);
        let failed =
            self.failed.iter().map(|failed| vec![failed.stamp.clone(), output::printable(&failed.error)]);
        let mut text = String::new();
        let title = match self.node_id.as_str() {
            "" => "quarantined".to_owned(),
            node_id => format!("quarantined at {}", output::printable(node_id)),
        };
        section(&mut text, &title, &headed(&["STAMP", "OUTCOME"], done.chain(failed)));
        text.trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bytes::Bytes;

    use brock_client::Miss;
    use tonic::Status;

    use super::*;
    use crate::failure::Exit;

    fn at(clock: u64) -> Stamp {
        stamp::parse(&format!("node-1/00000001:{clock}")).unwrap()
    }

    fn entry(clock: u64) -> proto::Quarantined {
        proto::Quarantined {
            stamp: Some(stamp::to_wire(&at(clock))),
            key_hash: Bytes::from(vec![0xab; 32]),
            reason: "unknown\x07 kind".to_owned(),
            at_unix: 1_777_636_800,
            operation_bytes: 3,
            payload_bytes: 4,
        }
    }

    fn page(clocks: &[u64], next: Option<u64>) -> proto::ListQuarantineResponse {
        proto::ListQuarantineResponse {
            entries: clocks.iter().map(|clock| entry(*clock)).collect(),
            next: next.map(|clock| stamp::to_wire(&at(clock))),
            node_id: "node-2".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_list_is_this_json() {
        let none = async |_| Err(Failure::Error("no page follows".to_owned()));
        let list = follow(page(&[42], None), none).await.unwrap();
        let expected = r#"{
  "node_id": "node-2",
  "entries": [
    {
      "stamp": "node-1/00000001:42",
      "key_hash": "abababababababababababababababababababababababababababababababab",
      "reason": "unknown\u0007 kind",
      "at_unix": 1777636800,
      "operation_bytes": 3,
      "payload_bytes": 4
    }
  ]
}
"#;
        assert_eq!(output::json(&list).unwrap(), expected);
        let text = list.text();
        assert!(text.contains("3                4              unknown\u{fffd} kind\n"), "{text}");
        assert_eq!(follow(page(&[], None), none).await.unwrap().text(), "quarantined at node-2: none\n");
    }

    #[test]
    fn a_shown_entry_has_its_bytes() {
        let operation = Bytes::from_static(&[1, 0xff]);
        let answer = proto::ShowQuarantinedResponse {
            entry: Some(entry(42)),
            operation,
            node_id: "node-2".to_owned(),
        };
        let shown = Shown::try_from(answer).unwrap();
        let json = output::json(&shown).unwrap();
        let end = "  \"operation_bytes\": 3,\n  \"payload_bytes\": 4,\n  \"operation\": \"01ff\",\n  \"node_id\": \"node-2\"\n}\n";
        assert!(
            json.starts_with("{\n  \"stamp\": \"node-1/00000001:42\",\n") && json.ends_with(end),
            "{json}"
        );
        assert!(shown.text().ends_with("\noperation        01ff\nnode_id          node-2\n"));
        assert!(Shown::try_from(proto::ShowQuarantinedResponse::default()).is_err());
    }

    #[tokio::test]
    async fn every_page_is_followed_and_circles_end() {
        let next = async |after: proto::Stamp| match after.clock {
            2 => Ok(page(&[3], Some(3))),
            3 => Ok(page(&[4], None)),
            other => Err(Failure::Error(format!("no page follows {other}"))),
        };
        let list = follow(page(&[1, 2], Some(2)), next).await.unwrap();
        let stamps: Vec<_> = list.entries.iter().map(|entry| entry.at).collect();
        assert_eq!(stamps, [at(1), at(2), at(3), at(4)]);

        let circle = async |_| Ok(page(&[1], Some(1)));
        assert!(follow(page(&[1], Some(1)), circle).await.is_err());
        let endless = async |after: proto::Stamp| Ok(page(&[after.clock + 1; 1000], Some(after.clock + 1)));
        assert!(follow(page(&[1], Some(1)), endless).await.is_err());
    }

    #[test]
    fn what_a_node_says_of_one_entry_is_data() {
        let done = Settled::one(&at(1), Ok("node-2".to_owned())).unwrap();
        assert_eq!(
            output::json(&done).unwrap(),
            "{\n  \"node_id\": \"node-2\",\n  \"done\": [\n    \"node-1/00000001:1\"\n  ],\n  \"failed\": []\n}\n"
        );
        assert_eq!(done.outcome(), Ok(()));
        for failure in [Failure::NotFound("no".to_owned()), Failure::Precondition("no".to_owned())] {
            let settled = Settled::one(&at(1), Err(failure)).unwrap();
            let json: serde_json::Value = serde_json::from_str(&output::json(&settled).unwrap()).unwrap();
            let expected = serde_json::json!({"node_id": "", "done": [], "failed": [{"stamp": "node-1/00000001:1", "error": "no"}]});
            assert_eq!(json, expected);
            assert_eq!(settled.outcome().unwrap_err().exit(), Exit::Precondition);
        }
        let unreachable = Failure::NoAnswer("no node answered".to_owned());
        assert_eq!(Settled::one(&at(1), Err(unreachable.clone())).unwrap_err(), unreachable);
    }

    #[tokio::test]
    async fn all_are_tried_until_the_node_is_gone() {
        let tried = RefCell::new(Vec::new());
        let act = async |entry: &Stamp| {
            tried.borrow_mut().push(entry.clock.0);
            match entry.clock.0 {
                2 => Err(CallError::Status(Status::failed_precondition("still not"))),
                4 => {
                    let (address, reason) = ("a:1".to_owned(), "reset".to_owned());
                    Err(CallError::Miss(Miss {
                        address,
                        reason,
                        is_refusal: false,
                        may_be_done: true,
                        has_answered: false,
                    }))
                }
                _ => Ok(()),
            }
        };
        let settled = Settled::many((1..=5).map(at).collect(), act).await;
        assert_eq!(*tried.borrow(), [1, 2, 3, 4]);
        assert_eq!(settled.done, ["node-1/00000001:1", "node-1/00000001:3"]);
        let errors: Vec<_> = settled.failed.iter().map(|failed| failed.error.as_str()).collect();
        assert_eq!(errors, ["still not", "reset", "not tried: reset"]);
        let failure = settled.outcome().unwrap_err();
        assert_eq!(failure.exit(), Exit::Precondition);
        assert!(failure.to_string().starts_with("3 of 5 "), "{failure}");
        assert!(settled.text().ends_with("node-1/00000001:5  not tried: reset\n"));
        assert_eq!(Settled::many(Vec::new(), act).await.outcome(), Ok(()));
    }
}
