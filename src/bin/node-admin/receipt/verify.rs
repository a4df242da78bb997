//! `receipt verify`: whether members have signed that they hold an operation. Needs no node.

use std::{
    io::{self, Read},
    path::Path,
};

use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::error::Category;

use super::json::File;
use crate::{
    access,
    cli::{Global, ReceiptCommand},
    failure::Failure,
    output, stamp,
};
use brock::transfer::signers;
use brock_client::error;
use brock_core::{
    base::{
        id::{ClusterId, Origin},
        limits,
    },
    domain::{
        birth::Unbelieved,
        inclusion::Inclusion,
        operation::Operation,
        receipt::{self, Receipt, ReceiptError},
    },
};
use brock_net::tls::{
    credentials,
    roles::{PeerIdentity, RolePolicy},
};

/// Runs the command.
pub(crate) fn run(global: &Global, command: ReceiptCommand) -> Result<(), Failure> {
    let ReceiptCommand::Verify { file } = command;
    let directory = access::certs_dir(global).map_err(|_| {
        Failure::Usage(
            "--certs-dir DIR is missing: a directory with the cluster's ca.crt, and nothing else of it"
                .to_owned(),
        )
    })?;
    let verifier = credentials::statement_verifier(directory)
        .map_err(|error| Failure::Usage(error::chain_of(&error)))?;
    let receipt = read(&file)?;
    let trust_domain = trust_domain(&receipt).map_err(|error| refused(&error, directory))?;
    let cluster = ClusterId::of(&trust_domain);
    let verified = receipt
        .verify(&cluster, |birth| signers::verify_birth(&verifier, cluster, birth).map(drop))
        .map_err(|error| refused(&error, directory))?;
    let shown = Shown::new(receipt, verified, trust_domain);
    output::data(global.output, &shown, Shown::text)?;
    shown.verdict()
}

/// What does not fit must not be taken for what this command was not given.
fn refused(error: &ReceiptError, directory: &Path) -> Failure {
    let text = output::printable(&error.to_string());
    match error {
        ReceiptError::NoProof => Failure::Usage(text),
        ReceiptError::Birth { origin, reason: Unbelieved::UnknownCa } => Failure::Precondition(format!(
            "the receipt is unchanged, but the CA that has certified {} is not in {}: if it was the cluster's CA when \
             the receipt was made, put its certificate there, as ca-history.pem. The receipt proves nothing without it",
            origin.node_id(),
            directory.display()
        )),
        _ => Failure::Error(text),
    }
}

fn read(file: &Path) -> Result<Receipt, Failure> {
    let (name, text) = match file.as_os_str() == "-" {
        true => ("standard input".to_owned(), bounded(io::stdin().lock())),
        false => (file.display().to_string(), brock_net::reading::text(file)),
    };
    let text = text.map_err(|error| Failure::Usage(format!("could not read {name}: {error}")))?;
    let no_receipt = |reason: &str| {
        Failure::Usage(format!(
            "{name} is not a receipt as `record invalidate … --wait all -o json` prints it: {}",
            output::printable(reason)
        ))
    };
    let file: File = serde_json::from_str(&text).map_err(|error| {
        let what = match error.classify() {
            Category::Data => "a field is missing, unknown or of another kind",
            Category::Io | Category::Syntax | Category::Eof => "it is not JSON",
        };
        no_receipt(&format!("{what} (line {}, column {})", error.line(), error.column()))
    })?;
    if file.is_of_no_wait() {
        return Err(no_receipt(
            "the command ran without --wait, so no node was asked to sign. Repeat it with --wait all: that changes nothing",
        ));
    }
    file.read().map_err(|reason| {
        Failure::Error(format!("something in {name} was changed: {}", output::printable(&reason)))
    })
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
    let refused = |reason: &str| {
        let reason = Unbelieved::Other(reason.to_owned());
        ReceiptError::Birth { origin: proof.by, reason }
    };
    let leaf = signed.certificates.first().map(|der| CertificateDer::from(der.as_ref()));
    let leaf = leaf.ok_or_else(|| refused("it has no certificate"))?;
    let identity = PeerIdentity::of_certificate(&leaf, RolePolicy::default());
    // A changed byte of it, most likely: what a parser says of that does not help.
    let identity = identity.map_err(|_| refused("its certificate cannot be read, or states no role"))?;
    identity.trust_domain.ok_or_else(|| refused("its certificate names no cluster"))
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
    /// What the origin has logged of it; absent if that is not proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    logged: Option<Logged>,
    /// The incarnation that has signed the list.
    stated_by: String,
    holders: Vec<Holder>,
    missing: Vec<String>,
}

/// What the signed operation says besides.
#[derive(Debug, Serialize)]
struct Logged {
    /// When an invalidation took effect, by its origin's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_unix: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When an operator has ordered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordered_at_unix_ms: Option<i64>,
    /// The SHA-256 of that operator's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
}

impl Logged {
    fn of(evidence: &Inclusion) -> Option<Self> {
        let (operation, order) = Operation::decode_with(&evidence.operation).ok()?;
        let (at_unix, reason) = match operation {
            Operation::Invalidate { at, reason } => (Some(at), Some(reason)),
            _ => (None, None),
        };
        Some(Self {
            at_unix,
            reason,
            ordered_at_unix_ms: order.as_ref().map(|order| order.at_unix_ms),
            operator: order.map(|order| HEXLOWER.encode(&order.certificate)),
        })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { at_unix, reason, ordered_at_unix_ms, operator } = self;
        let mut fields = Vec::new();
        fields.extend(reason.as_ref().map(|reason| ("reason", output::printable(reason))));
        fields.extend(at_unix.map(|at| ("in effect", output::moment(at))));
        fields.extend(ordered_at_unix_ms.map(|at| ("ordered", output::moment(at.div_euclid(1000)))));
        fields.extend(operator.clone().map(|operator| ("operator", format!("certificate {operator}"))));
        fields
    }
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
        let Receipt { key_hash, operation, stamp, already, holders, missing, proof } = receipt;
        let evidence = proof.and_then(|proof| proof.evidence);
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
            logged: evidence.as_ref().and_then(Logged::of),
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
        let mut fields = vec![
            ("verdict", self.verdict.to_owned()),
            ("cluster", output::printable(&self.trust_domain)),
            ("key_hash", self.key_hash.clone()),
            ("operation", self.operation.clone()),
            ("stamp", stamp::text(&self.origin, self.clock)),
            ("stated by", self.stated_by.clone()),
            ("missing", if missing.is_empty() { "none".to_owned() } else { missing.join(", ") }),
        ];
        fields.extend(self.logged.iter().flat_map(Logged::fields));
        let mut text = output::fields(&fields);
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
