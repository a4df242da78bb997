//! `lag`: the operations that each node lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal},
    time::Duration,
};

use super::{UNKNOWN, number, view};
use crate::{
    cli::Format,
    failure::Failure,
    output::{self, headed},
    paint,
};
use brock_client::{Client, view::Cluster};
use serde::Serialize;

/// Moves to the upper left corner and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints it once, or repeatedly until it is interrupted or its output is closed.
pub(crate) async fn run(client: &Client, watch: Option<Duration>, format: Format) -> Result<(), Failure> {
    let Some(interval) = watch else {
        return output::data(format, &Lag::new(&view(client, false).await?), Lag::text);
    };
    let mut due = tokio::time::interval(interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut has_shown = false;
    loop {
        due.tick().await;
        let lag = match view(client, false).await {
            Ok(view) => Lag::new(&view),
            // A failure ends the first attempt only: a watch continues through an outage.
            Err(failure) if has_shown => {
                output::message(&failure.to_string());
                continue;
            }
            Err(failure) => return Err(failure),
        };
        has_shown = true;
        let text = match format {
            Format::Json => output::json_line(&lag)?,
            Format::Yaml => format!("---\n{}", output::yaml(&lag)?),
            Format::Text if io::stdout().is_terminal() => format!("{CLEAR}{}", lag.text()),
            Format::Text => format!("{}\n", lag.text()),
        };
        if !output::print_on(&text)? {
            return Ok(());
        }
    }
}

/// What `lag` prints.
#[derive(Debug, Serialize)]
struct Lag {
    /// Node ids.
    origins: BTreeSet<String>,
    nodes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    node: String,
    /// Empty if the node could be asked.
    error: String,
    /// By origin; `null` if not known.
    lags: Option<BTreeMap<String, u64>>,
}

impl Lag {
    fn new(cluster: &Cluster) -> Self {
        let nodes: Vec<Row> = cluster
            .nodes
            .iter()
            .filter(|node| !node.retired)
            .map(|node| Row { node: node.node.clone(), error: node.error.clone(), lags: node.lags.clone() })
            .collect();
        let origins = nodes.iter().filter_map(|row| row.lags.as_ref()).flat_map(BTreeMap::keys);
        Self { origins: origins.cloned().collect(), nodes }
    }

    fn text(&self) -> String {
        output::table(&self.table())
    }

    fn table(&self) -> Vec<Vec<String>> {
        // Without origins nothing was written, so no node lacks anything.
        let mut heading = vec!["NODE"];
        let origins: Vec<String> = self.origins.iter().map(|origin| output::printable(origin)).collect();
        heading.extend(origins.iter().map(String::as_str));
        headed(&heading, self.nodes.iter().map(|row| row.cells(&self.origins)))
    }
}

impl Row {
    fn cells(&self, origins: &BTreeSet<String>) -> Vec<String> {
        let mut cells = vec![output::printable(&self.node)];
        cells.extend(origins.iter().map(|origin| {
            // A node that answers and does not list an origin has all its operations.
            let lag = self.lags.as_ref().map(|lags| lags.get(origin).copied().unwrap_or_default());
            match lag {
                None => paint::warn(UNKNOWN),
                Some(0) => number(lag),
                Some(_) => paint::warn(&number(lag)),
            }
        }));
        cells
    }
}

/// The nodes by the origins, with a heading.
pub(crate) fn matrix(cluster: &Cluster) -> Vec<Vec<String>> {
    Lag::new(cluster).table()
}
