//! `receipt verify`: whether members have signed that they hold an operation. Needs no node.

use std::{
    io::{self, Read},
    path::Path,
};

use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::json::File;
use crate::{
    access,
    cli::{Global, ReceiptCommand},
    failure::Failure,
    output, stamp,
};
use brock::node::certificate;
use brock_client::error;
use brock_core::{
    base::{
        id::{ClusterId, Origin},
        limits,
    },
    domain::receipt::{self, Receipt, ReceiptError},
};
use brock_net::tls::{
    credentials,
    roles::{PeerIdentity, RolePolicy},
};

/// Runs the command.
pub(crate) fn run(global: &Global, command: ReceiptCommand) -> Result<(), Failure> {
    let ReceiptCommand::Verify { file } = command;
    let verifier = credentials::statement_verifier(access::certs_dir(global)?)
        .map_err(|error| Failure::Error(error::chain_of(&error)))?;
    let receipt = read(&file)?;
    let refused = |error: &ReceiptError| Failure::Error(output::printable(&error.to_string()));
    let trust_domain = trust_domain(&receipt).map_err(|error| refused(&error))?;
    let cluster = ClusterId::of(&trust_domain);
    let verified = receipt
        .verify(&cluster, |birth| certificate::verify_birth(&verifier, cluster, birth).map(drop))
        .map_err(|error| refused(&error))?;
    let shown = Shown::new(receipt, verified, trust_domain);
    output::data(global.output, &shown, Shown::text)?;
    shown.verdict()
}

fn read(file: &Path) -> Result<Receipt, Failure> {
    let (name, text) = match file.as_os_str() == "-" {
        true => ("standard input".to_owned(), bounded(io::stdin().lock())),
        false => (file.display().to_string(), brock_net::reading::text(file)),
    };
    let text = text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NotFound(format!("could not read {name}: {error}")),
        _ => Failure::Usage(format!("could not read {name}: {error}")),
    })?;
    let refused = |reason: String| {
        Failure::Error(format!(
            "{name} is not a receipt as `record invalidate … --wait all -o json` prints it: {}",
            output::printable(&reason)
        ))
    };
    let file: File = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    file.read().map_err(refused)
}

fn bounded(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(limits::TEXT_FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > limits::TEXT_FILE_MAX_BYTES {
        true => Err(io::Error::other(format!("more than {} bytes", limits::TEXT_FILE_MAX_BYTES))),
        false => Ok(text),
    }
}

/// The cluster that the receipt says it is of: what all its certificates must name.
fn trust_domain(receipt: &Receipt) -> Result<String, ReceiptError> {
    let proof = receipt.proof.as_ref().ok_or(ReceiptError::NoProof)?;
    let of_itself = proof.births.iter().find(|signed| signed.birth.origin == proof.by);
    let signed = of_itself.ok_or(ReceiptError::Unborn(proof.by))?;
    let refused = |reason: String| ReceiptError::Birth { origin: proof.by, reason };
    let leaf = signed.certificates.first().map(|der| CertificateDer::from(der.as_ref()));
    let leaf = leaf.ok_or_else(|| refused("it has no certificate".to_owned()))?;
    let identity = PeerIdentity::of_certificate(&leaf, RolePolicy::default());
    let identity = identity.map_err(|error| refused(error.to_string()))?;
    identity.trust_domain.ok_or_else(|| refused("its certificate names no cluster".to_owned()))
}

/// What the command prints.
#[derive(Debug, Serialize)]
struct Shown {
    /// `proven`: by every member; `partly`: by some, or others are missing; `unproven`: by none.
    verdict: &'static str,
    trust_domain: String,
    key_hash: String,
    operation: String,
    origin: String,
    clock: u64,
    already: bool,
    /// The incarnation that has signed the list.
    stated_by: String,
    holders: Vec<Holder>,
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Holder {
    node: String,
    proven: bool,
    /// The incarnation that has signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The clock up to which it has applied the log of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    through: Option<u64>,
    /// Why it is not proven to hold the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    unproven: Option<String>,
}

impl Shown {
    fn new(receipt: Receipt, stated_by: Origin, trust_domain: String) -> Self {
        let Receipt { key_hash, operation, stamp, already, holders, missing, proof: _ } = receipt;
        let holder = |receipt::Holder { node, after_ms: _, signed }| Holder {
            node,
            proven: signed.is_ok(),
            member: signed.as_ref().ok().map(|signed| signed.member.to_string()),
            through: signed.as_ref().ok().map(|signed| signed.applied.clock.0),
            unproven: signed.err(),
        };
        let holders: Vec<Holder> = holders.into_iter().map(holder).collect();
        let proven = holders.iter().filter(|holder| holder.proven).count();
        Self {
            verdict: match proven {
                0 => "unproven",
                all if all == holders.len() && missing.is_empty() => "proven",
                _ => "partly",
            },
            trust_domain,
            key_hash: key_hash.to_hex(),
            operation,
            origin: stamp.origin.to_string(),
            clock: stamp.clock.0,
            already,
            stated_by: stated_by.to_string(),
            holders,
            missing,
        }
    }

    /// Fails unless every holder is proven, there is one, and no member is missing.
    fn verdict(&self) -> Result<(), Failure> {
        let unproven = self.holders.iter().filter(|holder| !holder.proven);
        let names: Vec<String> = unproven.map(|holder| output::printable(&holder.node)).collect();
        match (self.verdict, names.as_slice()) {
            ("proven", _) => Ok(()),
            (_, []) if self.holders.is_empty() => {
                Err(Failure::Precondition("the receipt names no holder: it proves nothing".to_owned()))
            }
            (_, []) => Err(Failure::Precondition(format!(
                "what is proven is proven of these holders only: {} had not acknowledged the operation when {} answered",
                self.missing.iter().map(|name| output::printable(name)).collect::<Vec<_>>().join(", "),
                self.stated_by
            ))),
            _ => Err(Failure::Precondition(format!(
                "nothing that it has signed proves that the operation is held by {}: only {} says so",
                names.join(", "),
                self.stated_by
            ))),
        }
    }

    fn text(&self) -> String {
        let missing: Vec<String> = self.missing.iter().map(|name| output::printable(name)).collect();
        let mut text = output::fields(&[
            ("verdict", self.verdict.to_owned()),
            ("cluster", output::printable(&self.trust_domain)),
            ("key_hash", self.key_hash.clone()),
            ("operation", self.operation.clone()),
            ("stamp", stamp::text(&self.origin, self.clock)),
            ("stated by", self.stated_by.clone()),
            ("missing", if missing.is_empty() { "none".to_owned() } else { missing.join(", ") }),
        ]);
        let holders = self.holders.iter().map(|holder| {
            let (proven, signed) = match (&holder.member, holder.through, &holder.unproven) {
                (Some(member), Some(through), _) => {
                    ("yes", format!("{member} has applied {} through {through}", self.origin))
                }
                (_, _, reason) => ("no", output::printable(reason.as_deref().unwrap_or_default())),
            };
            vec![output::printable(&holder.node), proven.to_owned(), signed]
        });
        output::section(&mut text, "holders", &output::headed(&["NODE", "PROVEN", "SIGNED"], holders));
        text
    }
}
