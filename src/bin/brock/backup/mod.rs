//! `brock backup`: lists, verifies and restores backups, and makes their keys, without a running node.

mod extract;
mod keygen;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use crate::{out, paths};
use age::x25519;
use anyhow::{Context, bail};
use brock::{
    backup::{
        catalogue::{self, Known, Wanted},
        manifest::Kind,
        objects::{CredentialSettings, Location, Secret, Settings, Target},
        restore::{Progress, Restore},
        time::parse_time_ms,
    },
    config::values,
    transfer::authority::Authority,
};
use brock_core::base::id::NodeId;
use brock_net::{pki::issue::TRUST_DOMAIN_DEFAULT, tls::credentials::statement_verifier};
use clap::{Args, Subcommand};
use futures::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};

/// The hex digits of an Ed25519 public key.
const SIGNER_DIGITS: usize = 64;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make an identity (a private key) for encrypted backups, and print its recipient (the public key)
    ///
    /// Keep the identity away from all nodes: they need only the recipient. Without the identity no
    /// encrypted backup can be restored.
    Keygen(KeygenArgs),
    /// List the backups
    List(ListArgs),
    /// Verify a backup completely: signature, hashes, decryption, every record, the digest
    Verify(ChooseArgs),
    /// Restore a backup to a new storage directory
    ///
    /// The command builds and verifies the storage next to the directory, and moves it there at the end.
    /// Then start the node with it as usual: it gets later deletes and revocations from its peers. With
    /// --key the command restores nothing and prints the records, one JSON object a line.
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// File for the identity; must not exist
    #[arg(long, value_name = "FILE", value_parser = paths::literal)]
    out: PathBuf,
    /// Do not ask for confirmation that the identity is written down
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// s3://BUCKET/PREFIX or file:///DIRECTORY
    #[arg(long, value_name = "URL")]
    from: String,
    /// URL of an S3-compatible store; when empty, AWS
    #[arg(long = "node.backup.endpoint", value_name = "URL", env = "BROCK_NODE_BACKUP_ENDPOINT")]
    endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long = "node.backup.region", value_name = "REGION", env = "BROCK_NODE_BACKUP_REGION")]
    region: Option<String>,
    /// Whether requests name the bucket in the path; auto = true if an endpoint is set
    #[arg(
        long = "node.backup.path-style",
        value_name = "auto|true|false",
        env = "BROCK_NODE_BACKUP_PATH_STYLE",
        default_value = "auto",
        value_parser = ["auto", "true", "false"]
    )]
    path_style: String,
    /// Access key id; when empty, AWS_ACCESS_KEY_ID or the credentials file
    #[arg(long = "node.backup.access-key-id", value_name = "ID", env = "BROCK_NODE_BACKUP_ACCESS_KEY_ID")]
    access_key_id: Option<String>,
    /// Secret access key, as @FILE; or in the environment
    #[arg(
        long = "node.backup.secret-access-key",
        value_name = "@FILE",
        env = "BROCK_NODE_BACKUP_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    secret_access_key: Option<String>,
    /// Session token of temporary credentials, as @FILE; or in the environment
    #[arg(
        long = "node.backup.session-token",
        value_name = "@FILE",
        env = "BROCK_NODE_BACKUP_SESSION_TOKEN",
        hide_env_values = true
    )]
    session_token: Option<String>,
    /// AWS shared credentials file
    #[arg(
        long = "node.backup.credentials-file",
        value_name = "FILE",
        env = "BROCK_NODE_BACKUP_CREDENTIALS_FILE", value_parser = paths::literal)]
    credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only backups of this node
    #[arg(long, value_name = "ID")]
    node_id: Option<NodeId>,
}

#[derive(Debug, Args)]
pub(crate) struct ChooseArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The node of the backup; needed only if several nodes have backups at the URL
    #[arg(long, value_name = "ID")]
    node_id: Option<NodeId>,
    /// File with the identity from `brock backup keygen`
    #[arg(long, value_name = "FILE", value_parser = paths::literal)]
    identity: Option<PathBuf>,
    /// The newest backup up to this time: 2026-11-22T08:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "id")]
    at: Option<String>,
    /// The backup with this manifest key, or a part of the key
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Public key that must have signed the backup (`node-admin status` shows a node's key)
    #[arg(long, value_name = "HEX", value_parser = signer)]
    signer: Option<String>,
    /// Directory with the cluster's ca.crt: everything in the backup must be proven by signatures of its nodes and
    /// operators, whichever node made it
    #[arg(long, value_name = "DIR", value_parser = paths::literal)]
    certs_dir: Option<PathBuf>,
    /// Trust domain of the cluster's certificates, for --certs-dir
    #[arg(long, value_name = "DOMAIN", default_value = TRUST_DOMAIN_DEFAULT, requires = "certs_dir")]
    trust_domain: String,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    choose: ChooseArgs,
    /// Directory for the data; must not exist, or must be empty
    #[arg(long = "node.path", value_name = "DIR", required_unless_present = "keys", value_parser = paths::literal)]
    path: Option<PathBuf>,
    /// Only print this record: its access key id or key hash; or the first digits of key hashes and '*',
    /// which lists these records without secrets; may be repeated
    #[arg(long = "key", value_name = "KEY", conflicts_with_all = ["path", "certs_dir"])]
    keys: Vec<extract::Pattern>,
}

pub(crate) fn run(command: BackupCommand) -> anyhow::Result<ExitCode> {
    if let BackupCommand::Keygen(args) = command {
        return keygen::keygen(&args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            BackupCommand::Keygen(_) => {}
            BackupCommand::List(args) => list(&args).boxed_local().await?,
            BackupCommand::Verify(args) => verify(&args).boxed_local().await?,
            BackupCommand::Restore(args) => restore(&args).boxed_local().await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn open(place: &PlaceArgs) -> anyhow::Result<Target> {
    let location: Location = place.from.parse()?;
    let settings = Settings {
        endpoint: given(place.endpoint.as_ref()),
        region: given(place.region.as_ref()),
        path_style: place.path_style.parse().ok(),
        credentials: CredentialSettings {
            access_key_id: given(place.access_key_id.as_ref()),
            secret_access_key: secret("--node.backup.secret-access-key", place.secret_access_key.as_deref())?,
            session_token: secret("--node.backup.session-token", place.session_token.as_deref())?,
            file: place.credentials_file.clone(),
        },
        ..Settings::default()
    };
    Ok(Target::open(&location, &settings)?)
}

/// A whole public key: a part of one would name many.
fn signer(text: &str) -> Result<String, String> {
    let text = text.to_lowercase();
    let is_whole = text.len() == SIGNER_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let problem =
        "must be a whole public key, 64 hex digits, as `node-admin status` and `brock backup list` show it";
    if is_whole { Ok(text) } else { Err(problem.to_owned()) }
}

/// `1 record`, `2 records`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `4 KiB`, `1.5 MiB`; a part of a KiB counts as one.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        ..MIB => format!("{} KiB", bytes.div_ceil(1024)),
        MIB..GIB => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        GIB.. => format!("{:.1} GiB", bytes as f64 / GIB as f64),
    }
}

/// An empty environment variable counts as unset.
fn given(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

/// A secret from the environment or a file, but not from the command line.
fn secret(flag: &str, text: Option<&str>) -> anyhow::Result<Option<Secret>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let is_shown = std::env::args().any(|argument| {
        let value =
            argument.strip_prefix(flag).map_or(argument.as_str(), |rest| rest.trim_start_matches('='));
        value == text
    });
    if is_shown && !text.starts_with('@') {
        bail!("{flag} is a secret, and other users of this machine can read the command line; write @FILE");
    }
    Ok(Some(Secret::new(values::secret(text).with_context(|| flag.to_owned())?)))
}

fn identity(path: Option<&Path>) -> anyhow::Result<Option<x25519::Identity>> {
    let Some(path) = path else { return Ok(None) };
    let text = brock_net::reading::text(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let identity = line.and_then(|line| line.parse().ok());
    match identity {
        Some(identity) => Ok(Some(identity)),
        None => bail!("{} holds no age identity: it begins with AGE-SECRET-KEY-1", path.display()),
    }
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let target = open(&args.place)?;
    let (manifests, doubtful) = catalogue::all(&target, args.node_id.as_ref()).await?;
    let mut text = String::new();
    for manifest in &manifests {
        let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
        let kind = match manifest.kind {
            Kind::Full => "full",
            Kind::Incremental => "incremental",
        };
        let sealed = if manifest.recipients.is_empty() { "plain" } else { "encrypted" };
        text.push_str(&format!(
            "{}  {kind:11}  {sealed:9}  {:>9} {:7}  {:>10}  signed by {}\n",
            manifest.key,
            manifest.records,
            if manifest.records == 1 { "record" } else { "records" },
            size(bytes),
            manifest.public_key
        ));
    }
    out::print(text.as_bytes())?;
    for (key, problem) in &doubtful {
        eprintln!("not trusted: {key}: {problem}");
    }
    // Those that are not trusted were named.
    if manifests.is_empty() && doubtful.is_empty() {
        return Err(catalogue::nothing_of(&target, args.node_id.as_ref()).await?.into());
    }
    if manifests.is_empty() {
        bail!("there is no backup at {} that can be trusted", target.place());
    }
    Ok(())
}

struct Chosen {
    target: Target,
    chain: Vec<Known>,
    identity: Option<x25519::Identity>,
    authority: Option<Authority>,
}

impl Chosen {
    fn restore<'a>(&'a self, path: &'a Path) -> Restore<'a> {
        Restore {
            target: &self.target,
            chain: &self.chain,
            identity: self.identity.as_ref(),
            path,
            authority: self.authority.as_ref(),
        }
    }

    /// The manifest of the backup, which names it.
    fn key(&self) -> &str {
        self.chain.last().map(|known| known.manifest.key.as_str()).unwrap_or_default()
    }
}

async fn choose(args: &ChooseArgs) -> anyhow::Result<Chosen> {
    let at_ms = match &args.at {
        None => None,
        Some(text) => match parse_time_ms(text) {
            Some(at) => Some(at),
            None => bail!("--at: '{text}' is not a time; write for example 2026-11-22T08:00:00Z"),
        },
    };
    let identity = identity(args.identity.as_deref())?;
    let verifier = args.certs_dir.as_deref().map(statement_verifier).transpose()?;
    let authority = verifier.map(|verifier| Authority::new(verifier, &args.trust_domain));
    let target = open(&args.place)?;
    let wanted =
        Wanted { node_id: args.node_id.clone(), at_ms, id: args.id.clone(), signer: args.signer.clone() };
    let chain = catalogue::choose(&target, &wanted).await?;
    if let Some(last) = chain.last()
        && args.signer.is_none()
        && authority.is_none()
    {
        eprintln!(
            "signed by {}: compare this key with the one that `node-admin status` showed for the node, or pass it as --signer",
            last.manifest.public_key
        );
    }
    Ok(Chosen { target, chain, identity, authority })
}

/// A progress bar on standard error, if that is a terminal.
struct Shown(ProgressBar);

impl Shown {
    fn begin() -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(PROGRESS).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style.progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn show(&self, progress: Progress) {
        self.0.set_length(progress.total_bytes);
        self.0.set_position(progress.bytes);
        self.0.set_message(count(progress.records, "record"));
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

const PROGRESS: &str = "[{bar:32}] {bytes} of {total_bytes} fetched and checked, {msg} written, {elapsed}";

async fn verify(args: &ChooseArgs) -> anyhow::Result<()> {
    let chosen = choose(args).await?;
    let directory = staging()?;
    let (restore, last) = (chosen.restore(directory.path()), chosen.key());
    let Chosen { chain, identity, authority, .. } = &chosen;
    if identity.is_none() && chain.iter().any(|known| !known.manifest.recipients.is_empty()) {
        if authority.is_some() {
            bail!("{last} is encrypted: --certs-dir proves its records, for which --identity FILE is needed");
        }
        let bytes = restore.check_hashes(directory.path()).await?;
        out::print(
            format!(
                "{last}: signatures and hashes are good, {}, {} in its chain; not decrypted: pass --identity \
             to verify the records\n",
                size(bytes),
                count(chain.len() as u64, "backup")
            )
            .as_bytes(),
        )?;
        return Ok(());
    }
    let shown = Shown::begin();
    let store = restore.build(directory.path(), &mut |progress| shown.show(progress)).await?;
    drop(shown);
    let (records, tombstones) = (store.records(), store.totals().tombstones);
    tokio::task::spawn_blocking(move || store.close()).await??;
    out::print(
        format!(
            "{last}: good{}, {}, {}, {} in its chain\n",
            if authority.is_some() { ", proven by the cluster's signatures" } else { "" },
            count(records, "record"),
            count(tombstones, "tombstone"),
            count(chain.len() as u64, "backup")
        )
        .as_bytes(),
    )?;
    Ok(())
}

async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let chosen = choose(&args.choose).await?;
    let shown = Shown::begin();
    let path = args.path.as_deref().unwrap_or(Path::new(""));
    let (restore, key) = (chosen.restore(path), chosen.key());
    if !args.keys.is_empty() {
        let directory = staging()?;
        let wants = |key_hash: &_| args.keys.iter().any(|pattern| pattern.matches(key_hash));
        let mut progress = |progress| shown.show(progress);
        let found = restore.extract(directory.path(), wants, &mut progress).await?;
        drop(shown);
        return extract::print(&args.keys, &found, key);
    }
    let mut last = Progress::default();
    restore
        .run(|progress| {
            last = progress;
            shown.show(progress);
        })
        .await?;
    drop(shown);
    let restored = format!("restored {key} to {}: {}\n", path.display(), count(last.records, "record"));
    Ok(out::print(restored.as_bytes())?)
}

fn staging() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("brock-backup-").tempdir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_have_the_right_units() {
        let shown = [0, 1, 1025, 1 << 20, 3 << 29].map(size);
        assert_eq!(shown, ["0 KiB", "1 KiB", "2 KiB", "1.0 MiB", "1.5 GiB"]);
        assert_eq!([0, 1, 2].map(|number| count(number, "record")), ["0 records", "1 record", "2 records"]);
    }

    #[test]
    fn a_signer_is_a_whole_public_key() {
        assert_eq!(signer(&"Ab".repeat(32)), Ok("ab".repeat(32)));
        for text in ["ab".repeat(8), "ab".repeat(33), "xy".repeat(32)] {
            assert!(signer(&text).is_err(), "{text}");
        }
    }
}
