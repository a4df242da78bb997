//! `conflicts list` and `conflicts ack`: keys that were created more than once, with different payloads.

use crate::{
    answer,
    cli::Format,
    failure::Failure,
    outcome,
    output::{self, headed},
    stamp,
};
use brock_client::{CallError, Client, Connection, calls};
use brock_core::{
    base::{id::KeyHash, vector::Stamp},
    proto::{self, list_conflicts_response as wire},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde::Serialize;
use tonic::Code;

/// Conflicts in one answer.
const PAGE: u32 = 1000;

/// All conflicts of the first node that answers.
pub(crate) async fn value(client: &Client) -> Result<serde_json::Value, Failure> {
    let (first, node) = first_page(client).await?;
    let next = async |after: Bytes| Ok(node.list_conflicts(request(after)).await?);
    output::value(&together(first, next).await?)
}

async fn together(
    first: proto::ListConflictsResponse,
    next: impl AsyncFn(Bytes) -> Result<proto::ListConflictsResponse, Failure>,
) -> Result<Conflicts, Failure> {
    let mut all = Conflicts { node_id: first.node_id.clone(), conflicts: Vec::new() };
    let keep = |page| {
        all.conflicts.extend(page);
        Ok(())
    };
    follow(first, next, keep).await?;
    Ok(all)
}

async fn first_page(client: &Client) -> Result<(proto::ListConflictsResponse, Connection), Failure> {
    let first =
        async |channel| Ok(calls::admin(channel).list_conflicts(request(Bytes::new())).await?.into_inner());
    answer::reported(client.first_node(first).await)
}

fn request(after: Bytes) -> proto::ListConflictsRequest {
    proto::ListConflictsRequest { after, limit: PAGE }
}

/// Acknowledges the conflict of one key, or all (`None`), at every node that is named: each keeps its own note.
pub(crate) async fn acknowledge(
    client: &Client,
    key: Option<KeyHash>,
    format: Format,
) -> Result<(), Failure> {
    let answers = outcome::at_each(client, async |node| acknowledge_at(&node, key).await).await?;
    let outcomes = answers.into_iter().map(|answer| match answer {
        Ok((node, acknowledged)) => Outcome { node, acknowledged, error: String::new() },
        Err(outcome::Outcome { node, error }) => Outcome { node, acknowledged: 0, error },
    });
    let outcomes = outcomes.collect();
    let acknowledged = Acknowledged { outcomes };
    let outcome = acknowledged.outcome(key.is_some());
    if !matches!(outcome, Err(Failure::NotFound(_))) {
        output::data(format, &acknowledged, Acknowledged::text)?;
    }
    outcome
}

/// The node's id, and how many conflicts are acknowledged there.
async fn acknowledge_at(node: &Connection, key: Option<KeyHash>) -> Result<(String, u32), Failure> {
    let (mut node_id, mut acknowledged) = (String::new(), 0);
    let mut note = async |key_hashes: Vec<Bytes>| {
        match node.acknowledge_conflicts(proto::AcknowledgeConflictsRequest { key_hashes }).await {
            Ok(answer) => {
                node_id = answer.node_id;
                acknowledged += answer.acknowledged;
                Ok(())
            }
            // A node that has not heard of the conflict has nothing to note.
            Err(CallError::Status(status)) if status.code() == Code::NotFound => Ok(()),
            Err(error) => Err(Failure::from(error)),
        }
    };
    if let Some(key) = key {
        note(vec![Bytes::copy_from_slice(&key.0)]).await?;
        return Ok((if node_id.is_empty() { node.address().to_string() } else { node_id }, acknowledged));
    }
    let mut page = node.list_conflicts(request(Bytes::new())).await?;
    let listed_by = page.node_id.clone();
    loop {
        let open = page.conflicts.iter().filter(|conflict| !conflict.acknowledged);
        let open: Vec<_> = open.map(|conflict| conflict.key_hash.clone()).collect();
        if !open.is_empty() {
            note(open).await?;
        }
        if page.next.is_empty() {
            return Ok((listed_by, acknowledged));
        }
        let after = page.next;
        page = node.list_conflicts(request(after.clone())).await?;
        if !page.next.is_empty() && page.next <= after {
            return Err(Failure::nonsense("its list of conflicts does not end"));
        }
    }
}

/// What `conflicts ack` prints.
#[derive(Debug, Serialize)]
struct Acknowledged {
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    node: String,
    /// How many conflicts.
    acknowledged: u32,
    /// Empty if the node answered.
    error: String,
}

impl Acknowledged {
    fn outcome(&self, is_one_key: bool) -> Result<(), Failure> {
        let is_nowhere = |outcome: &Outcome| outcome.error.is_empty() && outcome.acknowledged == 0;
        if is_one_key && self.outcomes.iter().all(is_nowhere) {
            return Err(Failure::NotFound("no node that was asked has a conflict of this key".to_owned()));
        }
        let outcomes = self.outcomes.iter().map(|outcome| (outcome.node.as_str(), outcome.error.as_str()));
        Failure::at_some(outcomes, "acknowledged")
    }

    fn text(&self) -> String {
        let rows = self.outcomes.iter().map(|outcome| {
            let told = match outcome.error.as_str() {
                "" => outcome.acknowledged.to_string(),
                error => output::printable(error),
            };
            vec![output::printable(&outcome.node), told]
        });
        output::table(&headed(&["NODE", "ACKNOWLEDGED"], rows))
    }
}

/// Prints the conflicts of the first node that answers: as text page by page, as JSON together.
pub(crate) async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let (first, node) = first_page(client).await?;
    let next = async |after: Bytes| Ok(node.list_conflicts(request(after)).await?);
    match format {
        Format::Json | Format::Yaml => output::data(format, &together(first, next).await?, |_| String::new()),
        Format::Text => {
            let mut count = 0;
            let node_id = output::printable(&first.node_id);
            let print = |page: Vec<Conflict>| {
                if count == 0 && !page.is_empty() {
                    output::print(&format!("conflicts at {node_id}:\n"))?;
                }
                count += page.len();
                output::print(&page.iter().map(Conflict::text).collect::<String>())
            };
            follow(first, next, print).await?;
            match count {
                0 => output::print(&format!("conflicts at {node_id}: none\n")),
                _ => Ok(()),
            }
        }
    }
}

/// Takes every page, to the last one.
async fn follow(
    first: proto::ListConflictsResponse,
    next_page: impl AsyncFn(Bytes) -> Result<proto::ListConflictsResponse, Failure>,
    mut take: impl FnMut(Vec<Conflict>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut page = first;
    let mut after = Bytes::new();
    loop {
        let proto::ListConflictsResponse { conflicts, next, node_id: _ } = page;
        take(conflicts.into_iter().map(Conflict::new).collect::<Result<_, _>>()?)?;
        if next.is_empty() {
            return Ok(());
        }
        // A circular list would never end.
        if next <= after {
            return Err(Failure::nonsense("its list of conflicts does not end"));
        }
        page = next_page(next.clone()).await?;
        after = next;
    }
}

/// What `conflicts list` prints.
#[derive(Debug, Serialize)]
struct Conflicts {
    /// The node that answered.
    node_id: String,
    conflicts: Vec<Conflict>,
}

#[derive(Debug, Serialize)]
struct Conflict {
    key_hash: String,
    winner: Create,
    /// The best first.
    losers: Vec<Create>,
    /// An operator has dealt with it, and no payload has lost since.
    acknowledged: bool,
}

#[derive(Debug, Serialize)]
struct Create {
    origin: String,
    clock: u64,
    created_at_unix: i64,
    payload_digest: String,
}

impl Conflict {
    fn new(conflict: wire::Conflict) -> Result<Self, Failure> {
        let wire::Conflict { key_hash, winner, losers, acknowledged } = conflict;
        let winner = winner.ok_or_else(|| Failure::nonsense("a conflict has no winner"))?;
        Ok(Self {
            key_hash: HEXLOWER.encode(&key_hash),
            winner: Create::new(winner)?,
            losers: losers.into_iter().map(Create::new).collect::<Result<_, _>>()?,
            acknowledged,
        })
    }

    fn text(&self) -> String {
        let losers = self.losers.iter().map(|create| create.row("loser"));
        let rows: Vec<_> = std::iter::once(self.winner.row("winner")).chain(losers).collect();
        let acknowledged = if self.acknowledged { "  acknowledged" } else { "" };
        format!("{}{acknowledged}\n{}", self.key_hash, output::table(&rows))
    }
}

impl Create {
    fn new(create: wire::Create) -> Result<Self, Failure> {
        let wire::Create { created_at_unix, payload_digest, stamp } = create;
        let Stamp { origin, clock } = stamp::from_wire(stamp)?;
        let payload_digest = HEXLOWER.encode(&payload_digest);
        Ok(Self { origin: origin.to_string(), clock: clock.0, created_at_unix, payload_digest })
    }

    fn row(&self, rank: &str) -> Vec<String> {
        vec![
            rank.to_owned(),
            stamp::text(&self.origin, self.clock),
            output::moment(self.created_at_unix),
            self.payload_digest.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(written: &str, digest: u8) -> wire::Create {
        wire::Create {
            created_at_unix: 1_777_636_800,
            payload_digest: Bytes::from(vec![digest; 2]),
            stamp: Some(stamp::to_wire(&stamp::parse(written).unwrap())),
        }
    }

    fn conflict(key: u8) -> wire::Conflict {
        wire::Conflict {
            key_hash: Bytes::from(vec![key; 32]),
            winner: Some(create("node-1/00000001:5", 0xaa)),
            losers: vec![create("node-10/00000002:6", 0xbb)],
            acknowledged: key == 1,
        }
    }

    fn page(keys: &[u8], next: &'static [u8]) -> proto::ListConflictsResponse {
        proto::ListConflictsResponse {
            conflicts: keys.iter().map(|key| conflict(*key)).collect(),
            next: Bytes::from_static(next),
            node_id: "node-1".to_owned(),
        }
    }

    #[test]
    fn conflicts_are_this_json() {
        let conflicts = vec![Conflict::new(conflict(0xab)).unwrap()];
        let conflicts = Conflicts { node_id: "node-1".to_owned(), conflicts };
        let expected = r#"{
  "node_id": "node-1",
  "conflicts": [
    {
      "key_hash": "abababababababababababababababababababababababababababababababab",
      "winner": {
        "origin": "node-1/00000001",
        "clock": 5,
        "created_at_unix": 1777636800,
        "payload_digest": "aaaa"
      },
      "losers": [
        {
          "origin": "node-10/00000002",
          "clock": 6,
          "created_at_unix": 1777636800,
          "payload_digest": "bbbb"
        }
      ],
      "acknowledged": false
    }
  ]
}
"#;
        assert_eq!(output::json(&conflicts).unwrap(), expected);
        let text = Conflict::new(conflict(0xab)).unwrap().text();
        let expected = "\n  winner  node-1/00000001:5   2026-05-01T12:00:00Z (1777636800)  aaaa\n  \
                        loser   node-10/00000002:6  2026-05-01T12:00:00Z (1777636800)  bbbb\n";
        assert_eq!(text, "ab".repeat(32) + expected);
        let text = Conflict::new(conflict(1)).unwrap().text();
        assert!(text.starts_with(&("01".repeat(32) + "  acknowledged\n")), "{text}");
    }

    #[test]
    fn a_node_that_does_not_answer_fills_one_line() {
        let failure = Failure::NoAnswer("no node answered\n  a:1: cannot connect: refused".to_owned());
        assert_eq!(failure.on_one_line(), "no node answered: a:1: cannot connect: refused");
    }

    #[tokio::test]
    async fn every_page_is_followed_once() {
        let next_page = async |after: Bytes| match after.as_ref() {
            [1] => Ok(page(&[2, 3], &[3])),
            [3] => Ok(page(&[], &[9])),
            [9] => Ok(page(&[10], &[])),
            other => Err(Failure::Error(format!("no page follows {other:?}"))),
        };
        let mut pages = Vec::new();
        let taken = follow(page(&[1], &[1]), next_page, |page| {
            pages.push(page.len());
            Ok(())
        });
        assert_eq!(taken.await, Ok(()));
        assert_eq!(pages, [1, 2, 0, 1]);
    }

    #[tokio::test]
    async fn a_list_without_end_or_sense_is_an_error() {
        let circle = async |_| Ok(page(&[1], &[1]));
        assert!(follow(page(&[1], &[1]), circle, |_| Ok(())).await.is_err());
        let mut senseless = page(&[1], &[]);
        senseless.conflicts[0].winner = None;
        assert!(follow(senseless, circle, |_| Ok(())).await.is_err());
        let fails = async |_| Err(Failure::Unreachable("gone".to_owned()));
        let failure = follow(page(&[1], &[1]), fails, |_| Ok(())).await.unwrap_err();
        assert_eq!(failure, Failure::Unreachable("gone".to_owned()));
    }
}
