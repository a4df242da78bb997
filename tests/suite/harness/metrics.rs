//! Reading a node's metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
};

use super::http::get;
use brock_core::base::metrics::CLAIMS_REFUSED;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, set_global_recorder,
};

/// A node's metrics as they were at one moment.
pub struct Page(String);

impl Page {
    /// `None` = nothing answers there yet.
    pub async fn of(http_port: u16) -> Option<Self> {
        get(http_port, "/metrics").await.map(Self)
    }

    /// The value of a series, written as on the page: `name` or `name{label="value"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }
}

/// By peer and kind.
type Counts = BTreeMap<(String, String), Arc<AtomicU64>>;

static REFUSED: Mutex<Counts> = Mutex::new(Counts::new());

/// Records, of the nodes in this process, what peers claim and is not believed, and nothing else.
struct Refusals;

impl Recorder for Refusals {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != CLAIMS_REFUSED {
            return Counter::noop();
        }
        let label = |name: &str| {
            key.labels().find(|label| label.key() == name).map(|label| label.value().to_owned()).unwrap()
        };
        let mut refused = REFUSED.lock().unwrap();
        Counter::from_arc(Arc::clone(refused.entry((label("peer"), label("kind"))).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// From now on, what the nodes in this process refuse is counted.
pub fn count_refusals() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| set_global_recorder(Refusals).expect("no other recorder"));
}

/// How many claims of each kind the nodes in this process have refused of a peer at this address.
pub fn refused_of(address: &str) -> BTreeMap<String, u64> {
    let refused = REFUSED.lock().unwrap();
    let of_it = refused.iter().filter(|((peer, _), _)| peer == address);
    of_it.map(|((_, kind), count)| (kind.clone(), count.load(Ordering::Relaxed))).collect()
}
