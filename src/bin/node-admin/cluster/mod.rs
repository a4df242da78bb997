//! The status of the whole cluster: `status --cluster`, `lag`, `peers`.
//!
//! The command asks one node, which asks the others. An unknown value is shown as `?`, never as 0.

mod lag;
mod peers;
mod status;

use crate::{failure::Failure, output, paint};
use brock_client::{
    Client,
    view::{Cluster, Level},
};
use brock_core::proto;

pub(crate) use lag::{matrix as lag_matrix, run as lag};
pub(crate) use peers::{matrix as round_trips, run as peers};
pub(crate) use status::{NodeState, run as status};

/// Shown for an unknown value.
pub(crate) const UNKNOWN: &str = "?";

/// The outcome of asking for the cluster.
pub(crate) struct Looked {
    pub(crate) outcome: Result<Cluster, Failure>,
    /// The nodes that did not answer before, and why.
    pub(crate) misses: Vec<String>,
}

impl Looked {
    /// The view, and the nodes that did not answer.
    pub(crate) fn into_view(self) -> Result<(Cluster, Vec<String>), Failure> {
        Ok((self.outcome?, self.misses))
    }
}

/// The cluster as the first node that answers sees it now. Reports the nodes that did not answer.
pub(crate) async fn view(client: &Client, history: bool) -> Result<Cluster, Failure> {
    let looked = ask(client, proto::ClusterRequest { history, fresh: true }).await;
    if looked.outcome.is_ok() {
        looked.misses.iter().for_each(|miss| output::message(&format!("note: {miss}")));
    }
    looked.outcome
}

/// The same without a report, and up to a second old.
pub(crate) async fn look(client: &Client, history: bool) -> Looked {
    ask(client, proto::ClusterRequest { history, fresh: false }).await
}

async fn ask(client: &Client, request: proto::ClusterRequest) -> Looked {
    let answered = client.cluster(request).await;
    let misses =
        answered.misses.iter().map(|miss| format!("{} did not answer: {}", miss.address, miss.reason));
    let misses = misses.collect();
    let outcome = answered.outcome.map_err(Failure::from);
    let outcome = outcome.and_then(|view| Cluster::try_from(view).map_err(Failure::nonsense));
    Looked { outcome, misses }
}

/// A number, or `?`.
pub(crate) fn number<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string())
}

/// A level's word in its colour.
pub(crate) fn level(level: Level) -> String {
    let word = level.as_str();
    match level {
        Level::Ok => paint::good(word),
        Level::Warning => paint::warn(word),
        Level::Critical => paint::bad(word),
    }
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration, rounded.
pub(crate) fn roughly(seconds: i64) -> String {
    match seconds {
        ..0 => format!("-{}", roughly(seconds.saturating_neg())),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A round trip.
pub(crate) fn milliseconds(micros: Option<u64>) -> String {
    micros.map_or_else(|| UNKNOWN.to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_for_people() {
        assert_eq!((bytes(0), bytes(1023), bytes(1024)), ("0 B".into(), "1023 B".into(), "1.0 KiB".into()));
        assert_eq!((bytes(5 << 30), bytes(u64::MAX)), ("5.0 GiB".into(), "16384.0 PiB".into()));
        assert_eq!(
            (roughly(119), roughly(120), roughly(-90_000)),
            ("119 s".into(), "2 min".into(), "-25 h".into())
        );
        assert_eq!(roughly(i64::MIN), format!("-{} d", i64::MAX / 86_400));
        assert_eq!((milliseconds(None), milliseconds(Some(1500))), ("?".into(), "1.5 ms".into()));
        assert_eq!((number(None::<u64>), number(Some(0))), ("?".into(), "0".into()));
    }
}
