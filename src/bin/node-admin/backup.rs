//! `backup now|list|show`: a node's backups.

use crate::{
    cli::{BackupCommand, Format},
    client::{self, Access},
    failure::Failure,
    output,
    progress::Progress,
};
use brock_core::proto;
use serde::Serialize;

/// Runs one of them at the first node that answers.
pub(crate) async fn run(access: &Access, command: BackupCommand, format: Format) -> Result<(), Failure> {
    match command {
        BackupCommand::Now { full } => now(access, full, format).await,
        BackupCommand::List => {
            let backups = list(access).await?;
            output::data(format, &Listing { backups }, Listing::text)
        }
        BackupCommand::Show { key } => {
            let found = list(access).await?.into_iter().rev().find(|backup| backup.key.contains(&key));
            let found = found.ok_or_else(|| Failure::NotFound("no backup has that in its key".to_owned()))?;
            output::data(format, &found, Backup::text)
        }
    }
}

async fn now(access: &Access, full: bool, format: Format) -> Result<(), Failure> {
    let request = proto::BackupNowRequest { full };
    let progress = Progress::spinner("making a backup");
    let answered = access
        .first_answer(async |channel| Ok(client::admin(channel).backup_now(request).await?.into_inner()))
        .await;
    drop(progress);
    answered.tell_misses();
    let made = answered.repeatable()?.backup.map(Backup::from);
    if made.is_none() {
        output::message("nothing was done since the last backup: there is nothing to add");
    }
    output::data(format, &Made { backup: made }, |made| {
        made.backup.as_ref().map(Backup::text).unwrap_or_default()
    })
}

async fn list(access: &Access) -> Result<Vec<Backup>, Failure> {
    let answered = access
        .first_answer(async |channel| {
            Ok(client::admin(channel).list_backups(proto::ListBackupsRequest {}).await?.into_inner())
        })
        .await;
    answered.tell_misses();
    let listed = answered.repeatable()?;
    if listed.omitted > 0 {
        output::message(&format!("{} older backups are not shown", listed.omitted));
    }
    for (key, problem) in &listed.doubtful {
        output::message(&output::printable(&format!("not to be believed: {key}: {problem}")));
    }
    Ok(listed.backups.into_iter().map(Backup::from).collect())
}

#[derive(Debug, Serialize)]
struct Made {
    backup: Option<Backup>,
}

#[derive(Debug, Serialize)]
struct Listing {
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
            ("bytes", self.bytes.to_string()),
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
        let mut rows = vec![["key", "kind", "bytes", "records"].map(str::to_owned).to_vec()];
        for backup in &self.backups {
            rows.push(vec![
                output::printable(&backup.key),
                backup.kind.to_owned(),
                backup.bytes.to_string(),
                backup.records.to_string(),
            ]);
        }
        output::table(&rows)
    }
}
