//! `alarms`: the alarms of a node.

use crate::{
    answer,
    cli::{AlarmsCommand, Format},
    failure::Failure,
    output, status,
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
        let title = format!("{title} at {}", output::printable(&self.node_id));
        if self.alarms.is_empty() {
            return format!("{title}: none\n");
        }
        // Sentences, which a column of a table would cut.
        let mut text = format!("{title}:\n");
        for Alarm { at_unix, count, text: what, .. } in &self.alarms {
            let (last, times) = (output::moment(*at_unix), output::count(*count, "time"));
            text.push_str(&format!("  {last}, {times}\n    "));
            output::push_words(&mut text, &output::printable(what), (4, 4));
        }
        text
    }
}
