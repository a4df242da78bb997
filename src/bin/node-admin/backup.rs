//! `backup now|list|show`: a node's backups.

use crate::{
    answer,
    cli::{BackupCommand, Format},
    cluster::bytes,
    failure::Failure,
    output::{self, headed},
    progress::Progress,
};
use brock_client::Client;
use brock_core::proto;
use serde::Serialize;

/// Runs one of them at the first node that answers.
pub(crate) async fn run(client: &Client, command: BackupCommand, format: Format) -> Result<(), Failure> {
    match command {
        BackupCommand::Now { full } => now(client, full, format).await,
        BackupCommand::List => output::data(format, &list(client).await?, Listing::text),
        BackupCommand::Show { key } => {
            let found =
                list(client).await?.backups.into_iter().rev().find(|backup| backup.key.contains(&key));
            let found = found.ok_or_else(|| Failure::NotFound("no backup has that in its key".to_owned()))?;
            output::data(format, &found, Backup::text)
        }
    }
}

async fn now(client: &Client, full: bool, format: Format) -> Result<(), Failure> {
    let request = proto::BackupNowRequest { full };
    let progress = Progress::spinner("making a backup");
    let answered = client.backup_now(request).await;
    drop(progress);
    let proto::BackupNowResponse { backup, node_id } = answer::reported_change(answered)?;
    if backup.is_none() {
        output::message(&format!(
            "nothing was done at {} since its last backup: there is nothing to add",
            output::printable(&node_id)
        ));
    }
    output::data(format, &Made { node_id, backup: backup.map(Backup::from) }, |made| {
        made.backup.as_ref().map(Backup::text).unwrap_or_default()
    })
}

async fn list(client: &Client) -> Result<Listing, Failure> {
    let listed = answer::reported_change(client.list_backups(proto::ListBackupsRequest {}).await)?;
    if listed.omitted > 0 {
        output::message(&format!("{} not shown", output::count(listed.omitted, "older backup")));
    }
    for (key, problem) in &listed.doubtful {
        output::message(&output::printable(&format!("not to be trusted: {key}: {problem}")));
    }
    Ok(Listing { node_id: listed.node_id, backups: listed.backups.into_iter().map(Backup::from).collect() })
}

#[derive(Debug, Serialize)]
struct Made {
    /// The node that answered.
    node_id: String,
    backup: Option<Backup>,
}

#[derive(Debug, Serialize)]
struct Listing {
    /// The node that answered.
    node_id: String,
    backups: Vec<Backup>,
}

#[derive(Debug, Serialize)]
struct Backup {
    key: String,
    kind: &'static str,
    created_unix_ms: i64,
    bytes: u64,
    records: u64,
    tombstones: u64,
    recipients: Vec<String>,
    previous: String,
    public_key: String,
    parts: Vec<String>,
}

impl From<proto::Backup> for Backup {
    fn from(backup: proto::Backup) -> Self {
        let proto::Backup {
            key,
            full,
            created_unix_ms,
            bytes,
            records,
            tombstones,
            recipients,
            previous,
            public_key,
            parts,
        } = backup;
        let kind = if full { "full" } else { "incremental" };
        Self {
            key,
            kind,
            created_unix_ms,
            bytes,
            records,
            tombstones,
            recipients,
            previous,
            public_key,
            parts,
        }
    }
}

impl Backup {
    fn text(&self) -> String {
        let or_none =
            |text: String| if text.is_empty() { "none".to_owned() } else { output::printable(&text) };
        output::fields(&[
            ("key", output::printable(&self.key)),
            ("kind", self.kind.to_owned()),
            ("created_at", output::moment(self.created_unix_ms / 1000)),
            ("size", bytes(self.bytes)),
            ("records", self.records.to_string()),
            ("tombstones", self.tombstones.to_string()),
            ("encrypted_to", or_none(self.recipients.join(", "))),
            ("follows_on", or_none(self.previous.clone())),
            ("signed_by", output::printable(&self.public_key)),
            ("parts", self.parts.len().to_string()),
        ])
    }
}

impl Listing {
    fn text(&self) -> String {
        let rows = self.backups.iter().map(|backup| {
            vec![
                output::printable(&backup.key),
                backup.kind.to_owned(),
                bytes(backup.bytes),
                backup.records.to_string(),
            ]
        });
        let mut text = String::new();
        let title = format!("backups of {}", output::printable(&self.node_id));
        output::section(&mut text, &title, &headed(&["KEY", "KIND", "SIZE", "RECORDS"], rows));
        text.trim_start().to_owned()
    }
}
