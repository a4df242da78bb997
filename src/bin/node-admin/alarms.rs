//! `alarms`: the alarms of a node.

use crate::{
    answer,
    cli::{AlarmsCommand, Format},
    failure::Failure,
    output::{self, headed},
    status,
};
use brock_client::{
    Client,
    view::{Alarm, Status},
};
use brock_core::proto;
use serde::Serialize;

/// What `alarms` prints: the current alarms, or those that were cleared.
#[derive(Debug, Serialize)]
struct Alarms {
    node_id: String,
    /// Oldest first.
    alarms: Vec<Alarm>,
}

/// Runs the command at the first node that answers.
pub(crate) async fn run(client: &Client, command: AlarmsCommand, format: Format) -> Result<(), Failure> {
    let (alarms, title) = match command {
        AlarmsCommand::List => (list(client).await?, "alarms"),
        AlarmsCommand::Clear => (clear(client).await?, "cleared"),
    };
    output::data(format, &alarms, |alarms| alarms.text(title))
}

async fn list(client: &Client) -> Result<Alarms, Failure> {
    let Status { node_id, alarms, .. } = status::fetch(client).await?;
    Ok(Alarms { node_id, alarms })
}

async fn clear(client: &Client) -> Result<Alarms, Failure> {
    let answered = client.clear_alarms(proto::ClearAlarmsRequest {}).await;
    let proto::ClearAlarmsResponse { node_id, alarms } = answer::reported_change(answered)?;
    Ok(Alarms { node_id, alarms: alarms.into_iter().map(Alarm::from).collect() })
}

impl Alarms {
    fn text(&self, title: &str) -> String {
        let rows = self.alarms.iter().map(|alarm| {
            vec![output::moment(alarm.at_unix), alarm.count.to_string(), output::printable(&alarm.text)]
        });
        let mut text = String::new();
        let title = format!("{title} at {}", output::printable(&self.node_id));
        output::section(&mut text, &title, &headed(&["LAST", "TIMES", "ALARM"], rows));
        text.trim_start().to_owned()
    }
}
