//! `debug bundle`: the state of the cluster in one file that is safe to pass on.
//!
//! The manifest names what could not be collected; the rest is collected all the same. `redact` filters
//! everything that is written to the file.

mod archive;
mod redact;

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use crate::{
    cli::{Bundle, Doctor, Global},
    cluster, conflicts,
    doctor::{self, certificates},
    failure::Failure,
    members, output,
    progress::Progress,
    quarantine, verify,
};
use brock_client::{Client, view::Setting};
use brock_core::{base::time::unix_now, proto};
use brock_net::{
    http_client::{HttpClient, HttpError},
    tls::files::Inventory,
};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use redact::Redactor;

/// The largest page of metrics.
pub(crate) const METRICS_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The manifest of the file.
#[derive(Debug, Serialize)]
struct Manifest {
    made_unix: i64,
    node_admin: &'static str,
    /// How key hashes and digests are masked: equal ones have the same mask throughout this file.
    redaction: &'static str,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    what: &'static str,
    /// Why it is missing; empty if it is there.
    error: String,
}

/// Collects everything and writes the file.
pub(crate) async fn bundle(client: &Client, global: &Global, options: &Bundle) -> Result<(), Failure> {
    // First, so that a bad name fails before the work.
    let file = create(&options.file)?;
    let progress = Progress::counted("collecting", 9 + options.http_address.len() as u64);
    let mut collected =
        Collected { redactor: Redactor::new(), parts: Vec::new(), files: Vec::new(), progress };
    let view = cluster::view(client, true).await;
    collected.add(
        "cluster.json",
        "every node's status and the verdict",
        view.and_then(|view| output::value(&view)),
    );
    collected.add("members.json", "the members that a node waits for", members::value(client).await);
    collected.add("verify.json", "whether all nodes hold the same records", verify::value(client).await);
    collected.add(
        "quarantine.json",
        "operations that could not be applied, without their bytes",
        quarantine::value(client).await,
    );
    collected.add(
        "conflicts.json",
        "keys that were created with different payloads",
        conflicts::value(client).await,
    );
    collected.add("configuration.json", "a node's settings, without secrets", configuration(client).await);
    collected.add(
        "certificates.json",
        "the operator's certificates, public parts only",
        certificates_of(global),
    );
    let report = doctor::examine(global.clone(), &Doctor::default()).await;
    collected.add("doctor.json", "the report of `node-admin doctor`", output::value(&report));
    let versions = json!({ "node_admin": env!("CARGO_PKG_VERSION"), "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH });
    collected.add(
        "versions.json",
        "the version of this tool; those of the nodes are in cluster.json",
        Ok(versions),
    );
    for address in &options.http_address {
        let name = format!("metrics-{}.txt", address.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let page = metrics(address, global.certs_dir.as_deref(), client.timeout()).await;
        collected.add_text(&name, "a node's metrics", page);
    }
    let parts = collected.finish()?;
    let failed = |error| Failure::Error(format!("could not write {}: {error}", options.file.display()));
    let made_unix = unix_now().unsigned_abs();
    archive::write(file, &options.file, parts.iter(), made_unix).map_err(failed)?;
    output::message(&format!(
        "wrote {}: no key, key hash, payload, secret setting or private key is in it. Look into it before you pass it \
         on: it names nodes, addresses and operators",
        options.file.display()
    ));
    Ok(())
}

fn create(path: &Path) -> Result<std::fs::File, Failure> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|error| {
        Failure::Usage(format!("cannot make {}: {error}; name another file", path.display()))
    })
}

async fn configuration(client: &Client) -> Result<Value, Failure> {
    let answered = client.show_configuration(proto::ShowConfigurationRequest {}).await;
    let settings: Vec<Setting> = answered.outcome?.settings.into_iter().map(Setting::from).collect();
    output::value(&settings)
}

fn certificates_of(global: &Global) -> Result<Value, Failure> {
    let dir = global.certs_dir.as_deref().unwrap_or(Path::new(""));
    output::value(&certificates::public_parts(dir).map_err(Failure::Error)?)
}

/// Plainly, or over TLS where the node's `http.tls` is set: with the CAs of the certificates directory.
async fn metrics(address: &str, certs_dir: Option<&Path>, time: Duration) -> Result<String, Failure> {
    let mut answer = HttpClient::plain(time, METRICS_MAX_BYTES).get(address, "/metrics").await;
    if let (Err(HttpError::NotHttp(_)), Some(dir)) = (&answer, certs_dir) {
        for ca in Inventory::of(dir).map_err(|error| Failure::Error(error.to_string()))?.ca {
            let client = HttpClient::over_tls(&ca, time, METRICS_MAX_BYTES);
            answer =
                client.map_err(|error| Failure::Error(error.to_string()))?.get(address, "/metrics").await;
            if answer.is_ok() {
                break;
            }
        }
    }
    let why = match answer {
        Ok((StatusCode::OK, page)) => return Ok(page),
        Ok((status, _)) => format!("the answer is {status}"),
        Err(HttpError::Timeout) => "no answer within the time-out".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Unreachable(format!("{address}/metrics: {why}")))
}

/// The parts collected so far.
struct Collected {
    redactor: Redactor,
    parts: Vec<(String, Vec<u8>)>,
    files: Vec<Entry>,
    progress: Progress,
}

impl Collected {
    fn add(&mut self, name: &str, what: &'static str, part: Result<Value, Failure>) {
        let text = part.and_then(|mut value| {
            self.redactor.value(&mut value);
            output::json(&value)
        });
        self.add_text(name, what, text);
    }

    fn add_text(&mut self, name: &str, what: &'static str, text: Result<String, Failure>) {
        self.progress.add(1);
        let error = match text {
            Ok(text) => {
                self.parts.push((name.to_owned(), self.redactor.text(&text).into_bytes()));
                String::new()
            }
            Err(failure) => self.redactor.text(&failure.to_string()),
        };
        self.files.push(Entry { name: name.to_owned(), what, error });
    }

    /// All parts, the manifest first.
    fn finish(mut self) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let manifest = Manifest {
            made_unix: unix_now(),
            node_admin: env!("CARGO_PKG_VERSION"),
            redaction: "key hashes and digests are replaced by [1], [2], …: equal ones have the same number \
                        throughout this file, and cannot be recovered from it",
            files: self.files,
        };
        let manifest = ("MANIFEST.json".to_owned(), output::json(&manifest)?.into_bytes());
        self.parts.insert(0, manifest);
        Ok(self.parts)
    }
}
