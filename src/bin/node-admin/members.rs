//! `members` and `member retire`: the members of the cluster.

use std::collections::BTreeMap;

use crate::{
    answer,
    cli::Format,
    failure::Failure,
    order,
    outcome::{self, Outcome},
    output::{self, headed, known, section},
    paint, stamp,
};
use brock_client::{Client, calls};
use brock_core::{
    domain::order::Subject,
    proto::{self, retire_member_response},
};
use serde::Serialize;

/// Printed before a member is retired.
pub(crate) const RETIRE_WARNING: &str = "Retiring a member: nodes no longer wait for it before they compact their logs. \
     Do this only for a node that never returns; if it returns all the same, it resyncs from a peer.";

/// Prints the members as the first node that answers sees them.
pub(crate) async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    output::data(format, &fetch(client).await?, Members::text)
}

/// The same as a value.
pub(crate) async fn value(client: &Client) -> Result<serde_json::Value, Failure> {
    output::value(&fetch(client).await?)
}

async fn fetch(client: &Client) -> Result<Members, Failure> {
    Members::try_from(answer::reported(client.members(proto::MembersRequest {}).await)?)
}

/// Retires a member at the first node that answers, which informs its peers.
pub(crate) async fn retire(
    client: &Client,
    member: String,
    even_if_connected: bool,
    format: Format,
) -> Result<(), Failure> {
    let order = order::signed(client, Subject::Retire(&member))?;
    let request = proto::RetireMemberRequest { member: member.clone(), order };
    let answered = client
        .first_answer(async |channel| {
            let mut admin = calls::admin(channel);
            let members = admin.members(proto::MembersRequest {}).await?.into_inner().members;
            let is_it = |known: &&proto::Member| [&known.node_id, &known.address].contains(&&request.member);
            let runs = members.iter().filter(is_it).any(|known| known.connected);
            match runs && !even_if_connected {
                true => Ok(None),
                false => Ok(Some(admin.retire_member(request.clone()).await?.into_inner())),
            }
        })
        .await;
    let Some(response) = answer::change(answered)? else {
        return Err(Failure::Precondition(format!(
            "{} runs and is connected, so it was not retired: it would be a member again when it next pulls. Stop it \
             first; to retire it all the same, --connected",
            output::printable(&member)
        )));
    };
    let retired = Retired::new(member, response);
    output::data(format, &retired, Retired::text)?;
    retired.outcome()
}

/// What `members` prints.
#[derive(Debug, Serialize)]
struct Members {
    /// The node that answered.
    node_id: String,
    members: Vec<Member>,
    /// The clocks that every member has applied, by origin.
    stable: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Member {
    /// Empty for an address that never answered.
    node_id: String,
    /// Empty for a node that pulls but is not in `node.join`.
    address: String,
    retired: bool,
    last_seen_unix: i64,
    /// `null` if not known.
    lag_entries: Option<u64>,
    holding_back: u64,
    connected: bool,
}

impl TryFrom<proto::MembersResponse> for Members {
    type Error = Failure;

    fn try_from(response: proto::MembersResponse) -> Result<Self, Failure> {
        let proto::MembersResponse { node_id, members, stable } = response;
        Ok(Self {
            node_id,
            members: members.into_iter().map(Member::from).collect(),
            stable: stamp::clocks(stable)?,
        })
    }
}

impl From<proto::Member> for Member {
    fn from(member: proto::Member) -> Self {
        // Destructured, so that a new field cannot be forgotten here.
        let proto::Member { node_id, address, retired, last_seen_unix, lag_entries, holding_back, connected } =
            member;
        Self { node_id, address, retired, last_seen_unix, lag_entries, holding_back, connected }
    }
}

impl Members {
    fn text(&self) -> String {
        let mut text = String::new();
        let heading = ["NODE", "ADDRESS", "STATE", "LAST SEEN", "LAG", "HOLDING BACK"];
        let title = format!("members, as {} sees them", output::printable(&self.node_id));
        section(&mut text, &title, &headed(&heading, self.members.iter().map(Member::row)));
        let stable = self.stable.iter().map(|(origin, clock)| vec![origin.clone(), clock.to_string()]);
        section(&mut text, "stable", &headed(&["ORIGIN", "CLOCK"], stable));
        text.trim_start().to_owned()
    }
}

impl Member {
    fn row(&self) -> Vec<String> {
        let or = |text: &str, instead: &str| output::printable(if text.is_empty() { instead } else { text });
        let state = match (self.retired, self.connected) {
            (true, _) => "retired".to_owned(),
            (false, true) => paint::good("connected"),
            (false, false) => paint::bad("away"),
        };
        vec![
            or(&self.node_id, "?"),
            or(&self.address, "-"),
            state,
            output::moment(self.last_seen_unix),
            known(self.lag_entries),
            self.holding_back.to_string(),
        ]
    }
}

/// What `member retire` prints.
#[derive(Debug, Serialize)]
struct Retired {
    member: String,
    /// The node that was asked comes first.
    outcomes: Vec<Outcome>,
}

impl Retired {
    fn new(member: String, response: proto::RetireMemberResponse) -> Self {
        let outcome = |retire_member_response::Outcome { node, error }| Outcome { node, error };
        Self { member, outcomes: response.outcomes.into_iter().map(outcome).collect() }
    }

    fn outcome(&self) -> Result<(), Failure> {
        let untold = self.outcomes.iter().filter(|outcome| !outcome.error.is_empty());
        let untold: Vec<_> = untold.map(|outcome| output::printable(&outcome.node)).collect();
        match untold.is_empty() {
            true => Ok(()),
            false => Err(Failure::Precondition(format!(
                "not told: {}\nThey still wait for {}. Repeat this when they can be reached; repeating it is \
                 harmless.",
                untold.join(", "),
                self.member
            ))),
        }
    }

    fn text(&self) -> String {
        let mut text = output::fields(&[("member", self.member.clone())]);
        outcome::show(&mut text, &self.outcomes);
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Exit;

    fn response() -> proto::MembersResponse {
        let known = proto::Member {
            node_id: "node-2".to_owned(),
            address: "b:20004".to_owned(),
            retired: false,
            last_seen_unix: 1_777_636_800,
            lag_entries: Some(3),
            holding_back: 4,
            connected: true,
        };
        let never = proto::Member { address: "c:20004\x07".to_owned(), ..proto::Member::default() };
        let retired =
            proto::Member { node_id: "node-4".to_owned(), retired: true, ..proto::Member::default() };
        let stable = vec![stamp::to_wire(&stamp::parse("node-1/00000001:7").unwrap())];
        proto::MembersResponse { members: vec![known, never, retired], stable, node_id: "node-1".to_owned() }
    }

    #[test]
    fn the_members_are_this_json() {
        let members = Members::try_from(response()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output::json(&members).unwrap()).unwrap();
        let expected = json!({
            "node_id": "node-1",
            "members": [
                {"node_id": "node-2", "address": "b:20004", "retired": false, "last_seen_unix": 1_777_636_800,
                 "lag_entries": 3, "holding_back": 4, "connected": true},
                {"node_id": "", "address": "c:20004\u{7}", "retired": false, "last_seen_unix": 0,
                 "lag_entries": null, "holding_back": 0, "connected": false},
                {"node_id": "node-4", "address": "", "retired": true, "last_seen_unix": 0,
                 "lag_entries": null, "holding_back": 0, "connected": false},
            ],
            "stable": {"node-1/00000001": 7},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_members_are_a_table_for_people() {
        let text = Members::try_from(response()).unwrap().text();
        for line in [
            "members, as node-1 sees them:",
            "  node-2  b:20004   connected  2026-05-01T12:00:00Z (1777636800)  3        4",
            "  ?       c:20004\u{fffd}  away       never                              unknown  0",
            "  node-4  -         retired    never                              unknown  0",
            "stable:",
            "  node-1/00000001  7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
        }
    }

    fn retired(errors: &[&str]) -> Retired {
        let outcome = |(index, error): (usize, &&str)| retire_member_response::Outcome {
            node: format!("node-{index}"),
            error: (*error).to_owned(),
        };
        let outcomes = errors.iter().enumerate().map(outcome).collect();
        Retired::new("node-9".to_owned(), proto::RetireMemberResponse { outcomes })
    }

    #[test]
    fn a_retirement_is_this_json() {
        let expected = r#"{
  "member": "node-9",
  "outcomes": [
    {
      "node": "node-0",
      "error": ""
    },
    {
      "node": "node-1",
      "error": "refused"
    }
  ]
}
"#;
        assert_eq!(output::json(&retired(&["", "refused"])).unwrap(), expected);
        assert!(
            retired(&["", "ref\x07used"]).text().ends_with("  node-0  done\n  node-1  ref\u{fffd}used\n")
        );
    }

    #[test]
    fn who_was_not_told_shows_in_the_exit_code() {
        assert_eq!(retired(&["", ""]).outcome(), Ok(()));
        let failure = retired(&["", "refused", "down"]).outcome().unwrap_err();
        assert_eq!(failure.exit(), Exit::Precondition);
        let text = failure.to_string();
        assert!(text.starts_with("not told: node-1, node-2\n") && text.contains("Repeat"), "{text}");
    }
}
