//! The state of the screen: the last view of the cluster, the page and the selected line.

use super::keys::Key;
use crate::{
    cluster::{self, NodeState, UNKNOWN, bytes, lag_matrix, milliseconds, number, roughly, round_trips},
    output, paint,
};
use brock_client::view::{Cluster, Node, Sample, Status};

/// The period of the rates.
const RATE_MS: i64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Nodes,
    Lag,
    Peers,
    RoundTrips,
    Findings,
}

impl Page {
    pub(super) const ALL: [Self; 5] = [Self::Nodes, Self::Lag, Self::Peers, Self::RoundTrips, Self::Findings];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Lag => "lag",
            Self::Peers => "peers",
            Self::RoundTrips => "round trips",
            Self::Findings => "findings",
        }
    }

    fn beside(self, step: usize) -> Self {
        let at = Self::ALL.iter().position(|page| *page == self).unwrap_or_default();
        Self::ALL[(at + step) % Self::ALL.len()]
    }
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Leave,
}

pub(super) struct Screen {
    pub(super) cluster: Cluster,
    /// Why the view is out of date or incomplete; `None` if it is current.
    pub(super) problem: Option<String>,
    pub(super) page: Page,
    pub(super) line: usize,
    pub(super) shows_help: bool,
}

impl Screen {
    pub(super) fn new(cluster: Cluster, misses: Vec<String>) -> Self {
        let problem = problem(&misses);
        Self { cluster, problem, page: Page::Nodes, line: 0, shows_help: false }
    }

    /// Shows a new view.
    pub(super) fn saw(&mut self, cluster: Cluster, misses: Vec<String>) {
        self.cluster = cluster;
        self.problem = problem(&misses);
        self.line = self.line.min(self.lines().saturating_sub(1));
    }

    /// Keeps the old view, and marks it as out of date.
    pub(super) fn missed(&mut self, why: &str) {
        self.problem = Some(format!("out of date: {}", output::printable(&why.replace('\n', "; "))));
    }

    pub(super) fn press(&mut self, key: Key) -> Step {
        match key {
            Key::Leave if self.shows_help => self.shows_help = false,
            Key::Leave => return Step::Leave,
            Key::Next => self.turn(1),
            Key::Previous => self.turn(Page::ALL.len() - 1),
            Key::Up => self.line = self.line.saturating_sub(1),
            Key::Down => self.line = (self.line + 1).min(self.lines().saturating_sub(1)),
            Key::Help => self.shows_help = !self.shows_help,
            Key::Redraw => {}
        }
        Step::Stay
    }

    fn turn(&mut self, step: usize) {
        self.page = self.page.beside(step);
        self.line = 0;
    }

    fn lines(&self) -> usize {
        self.table().len().saturating_sub(1)
    }

    /// When the node that was asked made this view, seconds since the Unix epoch.
    pub(super) fn made_unix(&self) -> Option<i64> {
        let first = self.cluster.nodes.first()?;
        first.status.as_ref().map(|status| status.now_unix_ms / 1000)
    }

    /// The page's table, the heading first. Cells may be painted.
    pub(super) fn table(&self) -> Vec<Vec<String>> {
        match self.page {
            Page::Nodes => nodes(&self.cluster),
            Page::Lag => lag_matrix(&self.cluster),
            Page::Peers => peers(&self.cluster),
            Page::RoundTrips => round_trips(&self.cluster),
            Page::Findings => findings(&self.cluster),
        }
    }
}

fn problem(misses: &[String]) -> Option<String> {
    (!misses.is_empty()).then(|| misses.join("; "))
}

fn nodes(cluster: &Cluster) -> Vec<Vec<String>> {
    let heading = [
        "NODE",
        "STATE",
        "RECORDS",
        "READS/S",
        "WRITES/S",
        "RECEIVED/S",
        "LAG",
        "LOG",
        "LOG/MIN",
        "DISK FREE",
        "UP FOR",
    ];
    output::headed(&heading, cluster.nodes.iter().map(node))
}

fn node(node: &Node) -> Vec<String> {
    let rates = node.status.as_ref().and_then(|status| Rates::of(&status.history));
    let rate = |of: fn(&Rates) -> f64| match &rates {
        None => UNKNOWN.to_owned(),
        Some(rates) => format!("{:.1}", of(rates)),
    };
    let of = |show: &dyn Fn(&Status) -> String| node.status.as_ref().map_or_else(|| UNKNOWN.to_owned(), show);
    let lag = node.lags.as_ref().map(|lags| lags.values().fold(0_u64, |sum, lag| sum.saturating_add(*lag)));
    vec![
        output::printable(&node.node),
        NodeState::of(node).painted(),
        of(&|status| status.records.to_string()),
        rate(|rates| rates.reads),
        rate(|rates| rates.writes),
        rate(|rates| rates.received),
        number(lag),
        of(&|status| bytes(status.log_bytes)),
        match &rates {
            None => UNKNOWN.to_owned(),
            // Compaction shrinks the log.
            Some(rates) if rates.log_bytes < 0.0 => format!("-{}", bytes((-rates.log_bytes * 60.0) as u64)),
            Some(rates) => bytes((rates.log_bytes * 60.0) as u64),
        },
        of(&|status| match status.storage.disk_total_bytes {
            0 if status.storage.in_ram => "in RAM".to_owned(),
            0 => UNKNOWN.to_owned(),
            _ => bytes(status.storage.disk_free_bytes),
        }),
        of(&|status| roughly((status.now_unix_ms / 1000).saturating_sub(status.started_unix))),
    ]
}

/// Per second, over the last minute.
struct Rates {
    reads: f64,
    writes: f64,
    received: f64,
    log_bytes: f64,
}

impl Rates {
    /// `None` without two samples.
    fn of(history: &[Sample]) -> Option<Self> {
        let last = history.last()?;
        let first =
            history.iter().find(|sample| sample.at_unix_ms >= last.at_unix_ms.saturating_sub(RATE_MS))?;
        let seconds = last.at_unix_ms.saturating_sub(first.at_unix_ms) as f64 / 1000.0;
        if seconds <= 0.0 {
            return None;
        }
        let rate = |of: fn(&Sample) -> u64| (of(last) as f64 - of(first) as f64) / seconds;
        Some(Self {
            reads: rate(|sample| sample.traffic.reads),
            writes: rate(|sample| sample.traffic.writes),
            received: rate(|sample| sample.traffic.entries_received),
            log_bytes: rate(|sample| sample.log_bytes),
        })
    }
}

fn peers(cluster: &Cluster) -> Vec<Vec<String>> {
    let rows = cluster.nodes.iter().flat_map(|node| {
        let peers = node.status.iter().flat_map(|status| &status.peers);
        peers.map(|peer| {
            let name = if peer.node_id.is_empty() { &peer.address } else { &peer.node_id };
            vec![
                output::printable(&node.node),
                output::printable(name),
                if peer.up { paint::good("up") } else { paint::bad("down") },
                milliseconds(peer.round_trip_micros),
                number(peer.lag_entries),
                peer.rounds.to_string(),
                output::printable(&peer.last_error),
            ]
        })
    });
    output::headed(&["NODE", "PULLS FROM", "STATE", "ROUND TRIP", "LAG", "ROUNDS", "LAST ERROR"], rows)
}

fn findings(cluster: &Cluster) -> Vec<Vec<String>> {
    let rows = cluster.verdict.findings.iter().map(|finding| {
        let about = if finding.node.is_empty() { "cluster" } else { &finding.node };
        vec![
            cluster::level(finding.level),
            output::printable(about),
            output::printable(&finding.what),
            output::printable(&finding.todo),
        ]
    });
    output::headed(&["LEVEL", "NODE", "WHAT", "WHAT TO DO"], rows)
}

#[cfg(test)]
mod tests {
    use brock_client::view::Traffic;

    use super::*;

    fn sample(at_unix_ms: i64, reads: u64, log_bytes: u64) -> Sample {
        let traffic = Traffic { reads, writes: 2 * reads, entries_received: 0 };
        Sample { at_unix_ms, traffic, records: 0, log_entries: 0, log_bytes, sst_bytes: 0 }
    }

    #[test]
    fn a_rate_is_of_the_last_minute_or_unknown() {
        assert!(Rates::of(&[]).is_none() && Rates::of(&[sample(5, 1, 1)]).is_none());
        let history = [sample(0, 0, 0), sample(60_000, 10_000, 900), sample(120_000, 10_060, 300)];
        let rates = Rates::of(&history).unwrap();
        assert_eq!((rates.reads, rates.writes, rates.received, rates.log_bytes), (1.0, 2.0, 0.0, -10.0));
    }

    #[test]
    fn keys_turn_pages_move_the_line_and_leave() {
        let level = brock_core::proto::verdict::Level::Well.into();
        let verdict = brock_core::proto::Verdict { level, ..Default::default() };
        let nodes = (0..3).map(|i| brock_core::proto::cluster_response::Node {
            node: format!("node-{i}"),
            ..Default::default()
        });
        let view = brock_core::proto::ClusterResponse { nodes: nodes.collect(), verdict: Some(verdict) };
        let mut screen = Screen::new(Cluster::try_from(view).unwrap(), Vec::new());
        for _ in 0..5 {
            assert_eq!(screen.press(Key::Down), Step::Stay);
        }
        assert_eq!(screen.line, 2);
        screen.press(Key::Up);
        assert_eq!(screen.line, 1);
        screen.press(Key::Next);
        assert_eq!((screen.page, screen.line), (Page::Lag, 0));
        screen.press(Key::Previous);
        screen.press(Key::Previous);
        assert_eq!(screen.page, Page::Findings);
        screen.press(Key::Down);
        assert_eq!(screen.line, 0, "there are none");
        screen.press(Key::Help);
        assert!(screen.shows_help);
        assert_eq!(screen.press(Key::Leave), Step::Stay, "it leaves the help first");
        assert_eq!(screen.press(Key::Leave), Step::Leave);
    }
}
