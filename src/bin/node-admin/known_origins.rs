//! `origin list`, `vouch` and `close`: what proves the origins that a node knows, an operator's word for one, and the
//! end of those of a node whose certificate was stolen.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    answer,
    cli::Format,
    cluster,
    failure::Failure,
    order,
    outcome::{self, Outcome},
    output::{self, headed, section},
    stamp,
};
use brock_client::{Client, view};
use brock_core::{
    base::{
        id::{NodeId, Origin},
        limits,
        vector::Clock,
    },
    domain::order::{ClosedLog, Subject},
    proto::{self, list_origins_response::Known},
};
use bytes::Bytes;
use serde::Serialize;

/// Printed before a birth is vouched for.
pub(crate) const VOUCH_WARNING: &str = "Vouching for an origin: every node believes from then on that what this origin has signed is its node's. \
     Do this only if you know that the node itself was born there, and not a thief of its certificate: its certificate is \
     not accepted any more.";

/// Printed before the logs of a node are closed.
pub(crate) const CLOSE_WARNING: &str = "Closing the logs of a node: what it has logged beyond what the members have now is lost, \
     and no node accepts more. What they have is accepted as that node's, also where its certificate is revoked. Revoke it \
     first, and stop the node.";

/// Printed below origins that are not believed.
const REMEDY: &str = "
Some are not believed: what they have signed fills no empty node.
If their CA was replaced, keep it as ca-history.pem. If a certificate was
revoked: `origin vouch ORIGIN` if the node itself was born there, `origin close
NODE` if a thief may have been. -o json has the whole reasons.
";

/// Prints the origins that the first node that answers knows.
pub(crate) async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    output::data(format, &fetch(client).await?, Origins::text)
}

/// Vouches for the birth of an origin, at the first node that answers and through it at its peers.
pub(crate) async fn vouch(client: &Client, origin: Origin, format: Format) -> Result<(), Failure> {
    let name = origin.to_string();
    let Origins { node_id, origins } = fetch(client).await?;
    let known = origins.into_iter().find(|known| known.origin == name);
    let statement = known.and_then(|known| known.statement).ok_or_else(|| {
        Failure::NotFound(format!(
            "{} knows no birth of {name}. `node-admin origin list` shows which it knows; a node that lacks an origin does \
             not list it, so vouch for it at one that does (--node-addresses)",
            output::printable(&node_id)
        ))
    })?;
    let order = order::required(client, Subject::Vouch(&statement), "vouching")?;
    let origin = Bytes::copy_from_slice(origin.as_bytes());
    let request = proto::VouchOriginRequest { origin, order: Some(order) };
    let answer = answer::reported_change(client.vouch_origin(request).await)?;
    let outcomes = answer.outcomes.into_iter().map(|one| Outcome { node: one.node, error: one.error });
    let vouched = Vouched { origin: name, outcomes: outcomes.collect() };
    output::data(format, &vouched, Vouched::text)?;
    let outcomes = vouched.outcomes.iter().map(|one| (one.node.as_str(), one.error.as_str()));
    Failure::at_some(outcomes, "told")
}

/// Closes the logs of a node, at every node that is named; the others learn it from these.
pub(crate) async fn close(client: &Client, node: NodeId, format: Format) -> Result<(), Failure> {
    let nodes = cluster::view(client, false).await?.nodes;
    let mut answered = Vec::new();
    for address in client.addresses() {
        // One that does not answer is among the outcomes.
        let connection = client.connection(address);
        let list = async |request| connection.list_origins(request).await.map_err(Failure::from);
        answered.extend(fetch_with(list).await);
    }
    let named = answered.iter().map(|known| known.node_id.as_str()).collect();
    let mut logs = ends(&nodes, &named, &node)?;
    for known in &answered {
        add_known(&mut logs, known, &node)?;
    }
    if logs.is_empty() {
        return Err(Failure::NotFound(format!("no node has a log of {node}")));
    }
    let listed: Vec<ClosedLog> = logs.values().map(|end| end.log).collect();
    let order = order::required(client, Subject::Close(&node, &listed), "closing")?;
    remark_accepted(&fetch(client).await?, &node, &logs);
    let closing = proto::Closing {
        node_id: node.to_string(),
        logs: listed.iter().map(ClosedLog::to_proto).collect(),
        order: Some(order),
    };
    let request = proto::CloseOriginRequest { closing: Some(closing) };
    let answers = outcome::at_each(client, async |node| node.close_origin(request.clone()).await).await?;
    let done = |answer: proto::CloseOriginResponse| Outcome::done(answer.node_id);
    let outcomes = answers.into_iter().map(|answer| answer.map_or_else(|failed| failed, done)).collect();
    let ends = listed.into_iter().map(|log| (log.origin.to_string(), log.end.0)).collect();
    let had_by = logs.into_iter().map(|(origin, end)| (origin.to_string(), end.had_by)).collect();
    let closed = Closed { node: node.to_string(), ends, had_by, outcomes };
    output::data(format, &closed, Closed::text)?;
    let outcomes = closed.outcomes.iter().map(|one| (one.node.as_str(), one.error.as_str()));
    Failure::at_some(outcomes, "closed it")
}

/// Says so if no log that is closed has a certificate that the node which was asked has stopped to accept: its thief
/// can then begin another log at once.
fn remark_accepted(known: &Origins, node: &NodeId, logs: &Logs) {
    let is_closed =
        |known: &&KnownOrigin| stamp::origin(&known.origin).is_ok_and(|origin| logs.contains_key(&origin));
    // A closed log is believed up to its end, whatever has become of the certificate, and an operator vouches for what
    // another certificate has signed.
    let signing = known.origins.iter().filter(is_closed).filter(|known| known.signs);
    let mut signing = signing.filter(|known| known.vouched_at_unix_ms == 0).peekable();
    if signing.peek().is_some() && signing.all(|known| known.certificate_problem.is_empty()) {
        output::message(&format!(
            "warning: {} accepts each certificate that {node} has signed with: who has stolen one begins another log with \
             it. Revoke it at every node (`brock cert revoke`), and repeat this",
            output::printable(&known.node_id)
        ));
    }
}

/// The logs that are closed.
type Logs = BTreeMap<Origin, End>;

/// Where a log is closed.
struct End {
    log: ClosedLog,
    /// The nodes that say that they have it up to there: perhaps one that lies.
    had_by: BTreeSet<String>,
}

/// Raises the end of a log to where `by` has it; `birth`: the hash of what its birth states, if that is known. Two
/// nodes that know different births of it must not have the operator take one of them for genuine.
fn raise(
    logs: &mut Logs,
    by: &str,
    (origin, clock): (Origin, Clock),
    birth: Option<[u8; 32]>,
) -> Result<(), Failure> {
    let nothing =
        || End { log: ClosedLog { origin, end: Clock::default(), birth: None }, had_by: BTreeSet::new() };
    let End { log, had_by } = logs.entry(origin).or_insert_with(nothing);
    if clock > log.end {
        log.end = clock;
        had_by.clear();
    }
    if clock == log.end {
        had_by.insert(output::printable(by));
    }
    if let (Some(one), Some(other)) = (log.birth, birth)
        && one != other
    {
        return Err(Failure::Precondition(format!(
            "the nodes know different births of {origin}: compare `node-admin origin list` at each of them, and leave out \
             of --node-addresses a node that you do not trust"
        )));
    }
    log.birth = log.birth.or(birth);
    Ok(())
}

/// What all members together have applied of the origins of a node. `named`: nodes that have answered by themselves: a
/// member that is not in node.join of the node that was asked can be asked in no other way.
fn ends(nodes: &[view::Node], named: &BTreeSet<&str>, node: &NodeId) -> Result<Logs, Failure> {
    let is_it = |member: &&view::Node| member.node == node.as_str();
    if named.contains(node.as_str()) || nodes.iter().filter(is_it).any(|member| member.status.is_some()) {
        return Err(Failure::Precondition(format!(
            "{node} runs: stop it first. Its next start begins another incarnation, which is not closed"
        )));
    }
    let mut ends = Logs::new();
    for member in nodes.iter().filter(|member| !member.retired && !is_it(member)) {
        match &member.status {
            // It says itself what it has.
            None if named.contains(member.node.as_str()) => {}
            // What only it has would be refused by the others.
            None => {
                return Err(Failure::Precondition(format!(
                    "{} could not be asked what it has applied of {node}: start it, or, if it runs, name it in \
                     --node-addresses too; or retire it. Then repeat this",
                    output::printable(&member.node)
                )));
            }
            Some(status) => {
                for (origin, clock) in &status.clocks {
                    let applied = stamp::parse(&format!("{origin}:{clock}")).map_err(Failure::nonsense)?;
                    if applied.origin.is_of(node) {
                        raise(&mut ends, &member.node, (applied.origin, applied.clock), None)?;
                    }
                }
            }
        }
    }
    Ok(ends)
}

/// Adds what a node knows of the origins of that node: a status lists a part of them, and none that are finished. As
/// many of those as a closing holds, the last born first: a thief may go on with one that it has begun itself.
fn add_known(logs: &mut Logs, known: &Origins, node: &NodeId) -> Result<(), Failure> {
    let by = &known.node_id;
    let mut its: Vec<(&KnownOrigin, Origin)> = known
        .origins
        .iter()
        .filter(|known| known.node == node.as_str())
        .filter_map(|known| Some((known, stamp::origin(&known.origin).ok()?)))
        .collect();
    its.sort_by_key(|(known, _)| (known.folded, std::cmp::Reverse(known.born_at_unix)));
    for (known, origin) in its {
        if logs.contains_key(&origin) || logs.len() < limits::ORIGINS_PER_NODE {
            raise(logs, by, (origin, Clock(known.clock)), known.statement)?;
        }
    }
    Ok(())
}

async fn fetch(client: &Client) -> Result<Origins, Failure> {
    fetch_with(async |request| answer::reported(client.list_origins(request).await)).await
}

async fn fetch_with(
    list: impl AsyncFn(proto::ListOriginsRequest) -> Result<proto::ListOriginsResponse, Failure>,
) -> Result<Origins, Failure> {
    let mut all = Origins { node_id: String::new(), origins: Vec::new() };
    let mut after = Bytes::new();
    loop {
        let request = proto::ListOriginsRequest { after, limit: 0 };
        let page = list(request).await?;
        all.node_id = page.node_id;
        for known in page.origins {
            all.origins.push(KnownOrigin::try_from(known)?);
        }
        if page.next.is_empty() {
            return Ok(all);
        }
        after = page.next;
    }
}

/// What `origin list` prints.
#[derive(Debug, Serialize)]
struct Origins {
    /// The node that answered.
    node_id: String,
    origins: Vec<KnownOrigin>,
}

#[derive(Debug, Serialize)]
struct KnownOrigin {
    origin: String,
    node: String,
    clock: u64,
    /// It is finished, and vectors do not list it any more.
    folded: bool,
    /// Whether its birth is known, so that it signs; otherwise the rest is empty.
    signs: bool,
    born_at_unix: i64,
    certificate_ends_unix: i64,
    /// When an operator vouched for it; 0 = no operator has.
    vouched_at_unix_ms: i64,
    /// Why an empty node would not believe it; empty = it would.
    problem: String,
    /// Why the certificate that has signed it is not accepted, also where its log is closed; empty = it is.
    certificate_problem: String,
    /// Where an operator has closed its log; `null` = it is open.
    closed: Option<u64>,
    #[serde(skip)]
    statement: Option<[u8; 32]>,
}

impl TryFrom<Known> for KnownOrigin {
    type Error = Failure;

    fn try_from(known: Known) -> Result<Self, Failure> {
        let Known {
            origin,
            clock,
            folded,
            signs,
            born_at_unix,
            certificate_ends_unix,
            problem,
            vouched_at_unix_ms,
            statement,
            closed,
            certificate_problem,
        } = known;
        let origin = Origin::try_from(origin.as_ref()).map_err(Failure::nonsense)?;
        Ok(Self {
            origin: origin.to_string(),
            node: origin.node_id().to_string(),
            clock,
            folded,
            signs,
            born_at_unix,
            certificate_ends_unix,
            vouched_at_unix_ms,
            problem,
            certificate_problem,
            closed,
            statement: statement.as_ref().try_into().ok(),
        })
    }
}

impl KnownOrigin {
    fn state(&self) -> String {
        let believed = self.believed();
        self.closed.map_or_else(|| believed.clone(), |end| format!("{believed}; closed at {end}"))
    }

    fn believed(&self) -> String {
        match (self.signs, self.problem.as_str(), self.vouched_at_unix_ms) {
            (false, ..) => "signs nothing".to_owned(),
            (true, "", 0) => "believed".to_owned(),
            (true, "", at) => format!("vouched for {}", output::day(at / 1000)),
            // What comes behind is what to do.
            (true, problem, _) => output::printable(problem.split(':').next().unwrap_or_default()),
        }
    }
}

impl Origins {
    fn text(&self) -> String {
        let when = |at: i64| if at == 0 { "-".to_owned() } else { output::day(at) };
        let rows = self.origins.iter().map(|known| {
            vec![
                output::printable(&known.origin),
                known.clock.to_string(),
                when(known.born_at_unix),
                when(known.certificate_ends_unix),
                known.state(),
            ]
        });
        let mut text = String::new();
        let title = format!("origins, as {} knows them", output::printable(&self.node_id));
        section(&mut text, &title, &headed(&["ORIGIN", "CLOCK", "BORN", "CERT ENDS", "BIRTH"], rows));
        if self.origins.iter().any(|known| !known.problem.is_empty()) {
            text.push_str(REMEDY);
        }
        text.trim_start().to_owned()
    }
}

/// What `origin close` prints.
#[derive(Debug, Serialize)]
struct Closed {
    node: String,
    /// Its origins, each with its last clock.
    ends: BTreeMap<String, u64>,
    /// The nodes that say that they have these logs up to there.
    had_by: BTreeMap<String, BTreeSet<String>>,
    outcomes: Vec<Outcome>,
}

impl Closed {
    fn text(&self) -> String {
        let mut text = output::fields(&[("node", output::printable(&self.node))]);
        let ends = self.ends.iter().map(|(origin, clock)| {
            let nodes = self.had_by.get(origin).into_iter().flatten();
            let nodes: Vec<&str> = nodes.map(String::as_str).collect();
            vec![output::printable(origin), clock.to_string(), nodes.join(", ")]
        });
        section(&mut text, "ends", &headed(&["ORIGIN", "CLOCK", "HAD BY"], ends));
        outcome::show(&mut text, &self.outcomes);
        text
    }
}

/// What `origin vouch` prints.
#[derive(Debug, Serialize)]
struct Vouched {
    origin: String,
    outcomes: Vec<Outcome>,
}

impl Vouched {
    fn text(&self) -> String {
        let mut text = output::fields(&[("origin", output::printable(&self.origin))]);
        outcome::show(&mut text, &self.outcomes);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_says_whether_it_is_believed_and_why_not() {
        let origin = Bytes::from([b"a".as_slice(), &[0; 27], &[0, 0, 0, 1]].concat());
        let known = |change: &dyn Fn(&mut Known)| {
            let mut known = Known { origin: origin.clone(), clock: 3, signs: true, ..Known::default() };
            change(&mut known);
            KnownOrigin::try_from(known).unwrap()
        };
        assert_eq!(known(&|_| ()).origin, "a/00000001");
        for (change, state) in [
            (&(|known: &mut Known| known.signs = false) as &dyn Fn(&mut Known), "signs nothing"),
            (&|_| (), "believed"),
            (&|known| known.vouched_at_unix_ms = 1_777_636_800_000, "vouched for 2026-05-01"),
            (&|known| known.problem = "revoked\x07: ask".to_owned(), "revoked\u{fffd}"),
        ] {
            assert_eq!(known(change).state(), state);
        }
        let refused = known(&|known| known.problem = "revoked".to_owned());
        let text = Origins { node_id: "a".to_owned(), origins: vec![refused] }.text();
        assert!(text.contains("vouch") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_closing_holds_finished_logs_too_and_of_these_the_last_born() {
        let node: NodeId = "a".parse().unwrap();
        let known = |incarnation: u32, folded, born_at_unix| KnownOrigin {
            origin: format!("a/{incarnation:08x}"),
            node: "a".to_owned(),
            clock: u64::from(incarnation),
            folded,
            signs: true,
            born_at_unix,
            certificate_ends_unix: 0,
            vouched_at_unix_ms: 0,
            problem: String::new(),
            certificate_problem: String::new(),
            closed: None,
            statement: None,
        };
        let most = u32::try_from(limits::ORIGINS_PER_NODE).unwrap();
        let finished = (1..=most).map(|incarnation| known(incarnation, true, incarnation.into()));
        let mut origins: Vec<KnownOrigin> = finished.collect();
        origins.push(known(most + 1, false, 0));
        origins.push(KnownOrigin { node: "b".to_owned(), ..known(most + 2, false, 0) });
        let mut ends = Logs::new();
        add_known(&mut ends, &Origins { node_id: "c".to_owned(), origins }, &node).unwrap();
        let origin = |incarnation| stamp::origin(&format!("a/{incarnation:08x}")).unwrap();
        assert_eq!(
            (ends.len(), ends[&origin(most + 1)].log.end),
            (limits::ORIGINS_PER_NODE, Clock(u64::from(most) + 1))
        );
        let has = |incarnation| ends.contains_key(&origin(incarnation));
        assert!(has(2) && !has(1) && !has(most + 2));
        assert_eq!(ends[&origin(2)].had_by, BTreeSet::from(["c".to_owned()]));
    }

    #[test]
    fn it_is_said_which_nodes_have_a_closed_log_up_to_its_end() {
        let origin = stamp::origin("a/00000001").unwrap();
        let mut logs = Logs::new();
        for (node, clock) in [("b", 3), ("c", 3), ("d", 2)] {
            raise(&mut logs, node, (origin, Clock(clock)), None).unwrap();
        }
        let had_by = |logs: &Logs| logs[&origin].had_by.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(had_by(&logs), "b c");
        raise(&mut logs, "liar\x07", (origin, Clock(u64::MAX)), None).unwrap();
        assert_eq!((had_by(&logs).as_str(), logs[&origin].log.end), ("liar\u{fffd}", Clock(u64::MAX)));
        let closed = Closed {
            node: "a".to_owned(),
            ends: [(origin.to_string(), 3)].into(),
            had_by: [(origin.to_string(), BTreeSet::from(["b".to_owned(), "c".to_owned()]))].into(),
            outcomes: Vec::new(),
        };
        let text = closed.text();
        assert!(text.lines().any(|line| line == "  a/00000001  3      b, c"), "{text}");
    }
}
