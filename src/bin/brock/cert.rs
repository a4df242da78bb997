//! `brock cert`: makes and revokes the certificates of a cluster, without openssl.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use crate::paths;
use brock_core::base::{
    duration::{self, DurationError},
    id::NodeId,
};
use brock_net::{
    pki::{
        issue::{
            CA_LIFETIME_DEFAULT, LEAF_LIFETIME_DEFAULT, LeafKind, Made, MakeCa, MakeError, MakeLeaf,
            TRUST_DOMAIN_DEFAULT, make_ca, make_leaf, second_ca_key,
        },
        key::Algorithm,
        replaced,
        revoke::{Revoke, is_revoked, revoke},
    },
    tls::roles::{PeerIdentity, Role},
};
use clap::{Args, Subcommand};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a certificate authority: ca.crt in the certificates directory, and its key in another place
    Ca(CaArgs),
    /// Make a node's certificate: node.crt and node.key
    Node(NodeArgs),
    /// Make a client's certificate, for reading and writing records: client.crt and client.key
    Client(PersonArgs),
    /// Make an operator's certificate, for all operator commands: client.crt and client.key
    Admin(PersonArgs),
    /// Revoke certificates: adds them to ca.crl, with which running nodes close their connections
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Directory of ca.crt and ca.crl
    #[arg(long, value_name = "DIR", value_parser = paths::literal)]
    certs_dir: PathBuf,
    /// File of the authority's key
    #[arg(long, value_name = "FILE", value_parser = paths::literal)]
    ca_key: PathBuf,
    /// Certificate to revoke; may be repeated
    #[arg(required = true, value_name = "CERTIFICATE", value_parser = paths::literal)]
    certificates: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How long the certificate is valid; longer than the certificates that it signs
    #[arg(long, value_name = "DURATION", default_value_t = Lifetime(CA_LIFETIME_DEFAULT))]
    lifetime: Lifetime,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Directory of ca.crt and of the new certificates
    #[arg(long, value_name = "DIR", value_parser = paths::literal)]
    certs_dir: PathBuf,
    /// File of the authority's key. Keep it outside of --certs-dir, secret and backed up; nodes do not need it
    #[arg(long, value_name = "FILE", value_parser = paths::literal)]
    ca_key: PathBuf,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
    /// Algorithm of the key: ecdsa-p256, ecdsa-p384, ed25519, or post-quantum: ml-dsa-44, ml-dsa-65, ml-dsa-87. By
    /// default ecdsa-p256 for an authority, and that of the authority for all others
    #[arg(long, value_name = "ALGORITHM")]
    algorithm: Option<Algorithm>,
    /// Make a second, post-quantum certificate beside the first one, for ends that support it: ca-pq.crt, node-pq.crt
    /// or client-pq.crt. A first one that exists already is kept. ml-dsa-65 is as strong as AES-192, ml-dsa-87 as
    /// AES-256
    #[arg(long, value_name = "ALGORITHM", value_parser = post_quantum)]
    post_quantum: Option<Algorithm>,
}

fn post_quantum(text: &str) -> Result<Algorithm, String> {
    let algorithm: Algorithm = text.parse()?;
    match algorithm.is_post_quantum() {
        true => Ok(algorithm),
        false => Err("choose one of ml-dsa-44, ml-dsa-65, ml-dsa-87".to_owned()),
    }
}

/// Makes the first certificate, and the second one if it is wanted; returns those that it made. `make` gets the key's
/// algorithm, the CA's key, and whether it is the second one.
fn make(
    place: &PlaceArgs,
    make: impl Fn(Option<Algorithm>, PathBuf, bool) -> Result<Made, MakeError>,
) -> anyhow::Result<Vec<Made>> {
    let mut all = Vec::new();
    match make(place.algorithm, place.ca_key.clone(), false) {
        Ok(made) => {
            print_files(&made);
            all.push(made);
        }
        Err(MakeError::Exists { path }) if place.post_quantum.is_some() => {
            eprintln!("kept {}", path.display());
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(algorithm) = place.post_quantum {
        let second = make(Some(algorithm), second_ca_key(&place.ca_key), true)?;
        print_files(&second);
        all.push(second);
    }
    Ok(all)
}

impl PlaceArgs {
    /// Whether only the second certificate was made, beside a first one that was there.
    fn is_second_only(&self, made: &[Made]) -> bool {
        self.post_quantum.is_some() && made.len() < 2
    }
}

#[derive(Debug, Args)]
pub(crate) struct LeafArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How long the certificate is valid
    #[arg(long, value_name = "DURATION", default_value_t = Lifetime(LEAF_LIFETIME_DEFAULT))]
    lifetime: Lifetime,
    /// Domain in the certificate's identity: spiffe://DOMAIN/…, the same in all certificates of a cluster. By default
    /// that of the certificate that is replaced, or else brock
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
}

/// A duration on the command line.
#[derive(Debug, Clone, Copy)]
struct Lifetime(Duration);

impl FromStr for Lifetime {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        Ok(Self(duration::parse(text)?))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.0))
    }
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    leaf: LeafArgs,
    /// The node's --node.id
    #[arg(long, value_name = "ID")]
    node_id: NodeId,
    /// Host name or IP address at which others reach the node; may be repeated
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PersonArgs {
    #[command(flatten)]
    leaf: LeafArgs,
    /// Name of the client or operator, as logs show it
    #[arg(long, value_name = "NAME")]
    name: String,
}

pub(crate) fn run(command: &CertCommand) -> anyhow::Result<ExitCode> {
    match command {
        CertCommand::Ca(args) => run_ca(args)?,
        CertCommand::Node(args) => {
            let kind = LeafKind::Node { node_id: args.node_id.clone(), hosts: args.hosts.clone() };
            let made = make_leaves(&args.leaf, &kind)?;
            eprintln!("{}", next_of_node(args, &made));
        }
        CertCommand::Client(args) => {
            make_leaves(&args.leaf, &LeafKind::Client { name: args.name.clone() })?;
            let certs_dir = args.leaf.place.certs_dir.display();
            eprintln!(
                "Use it:\n  node-admin --certs-dir {certs_dir} --node-addresses HOST:20004 record show KEY"
            );
        }
        CertCommand::Admin(args) => {
            make_leaves(&args.leaf, &LeafKind::Admin { name: args.name.clone() })?;
            let certs_dir = args.leaf.place.certs_dir.display();
            eprintln!("Use it:\n  node-admin --certs-dir {certs_dir} --node-addresses HOST:20004 status");
        }
        CertCommand::Revoke(args) => run_revoke(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let revoked = revoke(&Revoke {
        certs_dir: args.certs_dir.clone(),
        ca_key: args.ca_key.clone(),
        certificates: args.certificates.clone(),
    })?;
    let (list, authority, total) = (revoked.list.display(), revoked.authority, revoked.total);
    eprintln!("wrote {list}: {total} revoked in all of {authority}");
    eprintln!(
        "Copy it into the certificates directory of every node: each node reloads it within seconds, without a restart."
    );
    for other in args.certificates.iter().filter_map(|certificate| other_of_pair(certificate)) {
        if !args.certificates.contains(&other) && !is_revoked(&args.certs_dir, &other) {
            let second = second_ca_key(&args.ca_key);
            let key = match second.exists() {
                true => format!("--ca-key {}", second.display()),
                false => "the key of its CA".to_owned(),
            };
            eprintln!(
                "{} is the same holder's and is not revoked by this: revoke it too, with {key}",
                other.display()
            );
        }
    }
    Ok(())
}

/// The file of the other certificate of the same holder, classical or post-quantum, if it is there.
fn other_of_pair(certificate: &Path) -> Option<PathBuf> {
    let name = certificate.file_name()?.to_str()?.strip_suffix(".crt")?;
    let other = match name.strip_suffix("-pq") {
        Some(first) => format!("{first}.crt"),
        None => format!("{name}-pq.crt"),
    };
    let other = certificate.with_file_name(other);
    other.exists().then_some(other)
}

fn run_ca(CaArgs { place, lifetime }: &CaArgs) -> anyhow::Result<()> {
    let made = make(place, |algorithm, ca_key, second| {
        let (certs_dir, overwrite) = (place.certs_dir.clone(), place.overwrite);
        let algorithm = algorithm.unwrap_or_default();
        make_ca(&MakeCa { certs_dir, ca_key, lifetime: lifetime.0, overwrite, algorithm, second })
    })?;
    eprintln!("{}", next_of_ca(place, &made));
    Ok(())
}

/// What to do with a new CA.
fn next_of_ca(place: &PlaceArgs, made: &[Made]) -> String {
    let authorities: Vec<String> = made.iter().map(|made| made.certificate.display().to_string()).collect();
    let mut command = format!(
        "brock cert node --certs-dir pki/ID --ca-key {} --node-id ID --host HOST",
        place.ca_key.display()
    );
    if let Some(second) = place.post_quantum {
        command += &format!(" --post-quantum {second}");
    }
    let keep = "Keep the key secret, backed up, and away from the nodes.";
    if place.is_second_only(made) {
        return format!(
            "{keep} Now copy {} into the certificates directory of every node, client and operator. Once all have it, make \
             a second certificate for each, here for a node:\n  {command}",
            authorities.join(" ")
        );
    }
    format!(
        "{keep} Now make a certificate for each node, in its own directory:\n  mkdir -p pki/ID && cp {} pki/ID/\n  {command}",
        authorities.join(" ")
    )
}

/// What to do with a node's new files.
fn next_of_node(NodeArgs { leaf, node_id, .. }: &NodeArgs, made: &[Made]) -> String {
    let place = &leaf.place;
    let mut files = Vec::new();
    for path in made.iter().flat_map(|made| [&made.certificate, &made.key]) {
        files.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    if place.overwrite || place.is_second_only(made) {
        let first = if place.is_second_only(made) { "Once all others have ca-pq.crt, copy" } else { "Copy" };
        return format!(
            "{first} {} to the node: it reloads them within seconds, without a restart. Peers must use one of the given \
             hosts to reach it.",
            all_of(&files)
        );
    }
    let authorities: &[&str] =
        if place.post_quantum.is_some() { &["ca.crt", "ca-pq.crt"] } else { &["ca.crt"] };
    files.splice(0..0, authorities.iter().map(|&name| name.to_owned()));
    format!(
        "Copy {} to the node, and start it there:\n  brock run --node.id {node_id} --node.certs-dir DIR --node.path DIR \
         --node.trust distributed --node.require-uri-roles --node.join HOST:20004,…\nThe first time with \
         --node.first-start=true.",
        all_of(&files)
    )
}

/// As a sentence lists them.
fn all_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn make_leaves(args: &LeafArgs, kind: &LeafKind) -> anyhow::Result<Vec<Made>> {
    let LeafArgs { place, trust_domain, .. } = args;
    let before = replaced::holder(&place.certs_dir, kind);
    if let Some(before) = before.as_ref().filter(|before| place.overwrite && is_of_another(before, kind)) {
        let dir = place.certs_dir.display();
        if before.role == Role::Node {
            anyhow::bail!(
                "{dir} holds the certificate of {before}, which --overwrite would replace, with its key: name another \
                 directory, or move both files away"
            );
        }
        eprintln!("warning: this replaces the certificate of {before} in {dir}, and its key");
    }
    let before = before.and_then(|before| before.trust_domain);
    let chosen =
        trust_domain.clone().or_else(|| before.clone()).unwrap_or_else(|| TRUST_DOMAIN_DEFAULT.to_owned());
    let made = make_in(&chosen, args, kind)?;
    match before {
        // The nodes that refuse it are the last place where its reason is looked for.
        Some(before) if before != chosen => eprintln!(
            "warning: the certificate before was of the trust domain {before}, and this one is of {chosen}: what it signs, \
             nodes of {before} refuse. If the cluster's is {before}, repeat this with --trust-domain {before} --overwrite"
        ),
        Some(_) if trust_domain.is_none() && chosen != TRUST_DOMAIN_DEFAULT => {
            eprintln!("of the trust domain {chosen}, as the certificate before");
        }
        _ => {}
    }
    Ok(made)
}

/// Whether a certificate names another holder than the new one will.
fn is_of_another(before: &PeerIdentity, kind: &LeafKind) -> bool {
    let (role, name) = match kind {
        LeafKind::Node { node_id, .. } => (Role::Node, node_id.as_str()),
        LeafKind::Client { name } => (Role::Client, name.as_str()),
        LeafKind::Admin { name } => (Role::Admin, name.as_str()),
    };
    before.name.as_deref().is_some_and(|before_name| (before.role, before_name) != (role, name))
}

fn make_in(trust_domain: &str, args: &LeafArgs, kind: &LeafKind) -> anyhow::Result<Vec<Made>> {
    let LeafArgs { place, lifetime, .. } = args;
    make(place, |algorithm, ca_key, second| {
        make_leaf(&MakeLeaf {
            certs_dir: place.certs_dir.clone(),
            ca_key,
            kind: kind.clone(),
            trust_domain: trust_domain.to_owned(),
            lifetime: lifetime.0,
            overwrite: place.overwrite,
            algorithm,
            second,
        })
    })
}

fn print_files(made: &Made) {
    let ends = OffsetDateTime::from_unix_timestamp(made.not_after_unix_seconds).ok();
    // A certificate may live for an hour: the date alone would say nothing.
    let ends = ends.and_then(|moment| moment.format(&Rfc3339).ok());
    let until = ends.map(|moment| format!(", valid until {moment}")).unwrap_or_default();
    eprintln!("wrote {}{until}", made.certificate.display());
    eprintln!("wrote {}", made.key.display());
}
