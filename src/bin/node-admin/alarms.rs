//! `alarms`: what a node wants somebody to look into.

use crate::{
    cli::{AlarmsCommand, Format},
    client::{self, Access},
    failure::Failure,
    output::{self, headed},
    status,
};
use brock_client::view::{Alarm, Status};
use brock_core::proto;
use serde::Serialize;

/// What `alarms` prints: those that there are, or those that were cleared.
#[derive(Debug, Serialize)]
struct Alarms {
    node_id: String,
    /// Oldest first.
    alarms: Vec<Alarm>,
}

/// Does what `alarms` was asked for, at the first node that answers.
pub(crate) async fn run(access: &Access, command: AlarmsCommand, format: Format) -> Result<(), Failure> {
    let (alarms, title) = match command {
        AlarmsCommand::List => (list(access).await?, "alarms"),
        AlarmsCommand::Clear => (clear(access).await?, "cleared"),
    };
    output::data(format, &alarms, |alarms| alarms.text(title))
}

async fn list(access: &Access) -> Result<Alarms, Failure> {
    let Status { node_id, alarms, .. } = status::fetch(access).await?;
    Ok(Alarms { node_id, alarms })
}

async fn clear(access: &Access) -> Result<Alarms, Failure> {
    let answered = access
        .first_answer(async |channel| {
            Ok(client::admin(channel).clear_alarms(proto::ClearAlarmsRequest {}).await?.into_inner())
        })
        .await;
    answered.tell_misses();
    let proto::ClearAlarmsResponse { node_id, alarms } = answered.repeatable()?;
    Ok(Alarms { node_id, alarms: alarms.into_iter().map(Alarm::from).collect() })
}

impl Alarms {
    fn text(&self, title: &str) -> String {
        let rows = self
            .alarms
            .iter()
            .map(|alarm| vec![output::moment(alarm.at_unix), output::printable(&alarm.text)]);
        let mut text = String::new();
        let title = format!("{title} at {}", output::printable(&self.node_id));
        output::section(&mut text, &title, &headed(&["SINCE", "ALARM"], rows));
        text.trim_start().to_owned()
    }
}
