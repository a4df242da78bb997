//! Certificates, roles, and authenticated TLS connections.
//!
//! | file | what it holds |
//! |---|---|
//! | [`roles`] | the role that a certificate states: node, client or admin |
//! | [`files`] | reading the certificates directory: names, permissions, PEM |
//! | [`credentials`] | what a node and an admin tool load from that directory |
//! | `keypair` | one certificate with its key, checked before the first use |
//! | `pairs` | the own certificates: one, or a classical and a post-quantum one |
//! | [`revocation`] | the revocation lists: what they revoke, and how many certificates each CA has revoked |
//! | `pem` | strict PEM: every block of a file counts, or the file is refused |
//! | [`level`] | levels of wire encryption: key exchanges, cipher suites and keys that a connection may have |
//! | `hybrid` | the key exchange of the highest level |
//! | [`algorithms`] | kinds of keys, and signatures by ML-DSA |
//! | `handshake` | the rustls configurations: TLS 1.3, mutual, of one level |
//! | `trust_store` | our own certificate and the verifiers of others', replaced by a reload |
//! | `history` | CAs of before, which statements of their time are verified with |
//! | `remembered` | signatures in certificates that were verified before |
//! | `verify` | the role check inside the handshake, so that a refused peer receives an alert |
//! | `registry` | the open connections, closed when they are no longer trusted |
//! | `abortable` | a stream that the registry can close |
//! | `shares` | which caller gives way when all places for connections are taken |
//! | [`statement`] | what the holder of a certificate signs outside any connection |
//! | `io_delegate` | a macro that makes the owner of a stream a stream |
//! | [`errors`] | TLS failures as sentences and as labels of a metric |
//! | [`accept`] | from a bound listener to a stream of identified connections |
//! | `coalesce` | one write where HTTP/2 makes several |
//! | [`web`] | TLS for the HTTP side |
//!
//! Invariants of the gRPC side: each end shows a certificate of a trusted CA; TLS 1.3 or later; no
//! resumption (a revoked peer must not return with a ticket); the role of a connection is the one that its
//! certificate states; a dialled peer is a node, or the dial fails.

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) mod abortable;
pub mod accept;
pub mod algorithms;
pub(crate) mod coalesce;
pub mod credentials;
pub mod errors;
pub mod files;
pub(crate) mod handshake;
pub(crate) mod history;
pub(crate) mod hybrid;
pub(crate) mod io_delegate;
pub(crate) mod keypair;
pub mod level;
pub(crate) mod pairs;
mod pem;
pub mod registry;
mod remembered;
pub mod revocation;
pub mod roles;
pub(crate) mod shares;
pub mod statement;
pub(crate) mod trust_store;
pub(crate) mod verify;
pub mod web;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use roles::RoleError;

/// The target of this module's log lines, which `--log.level brock::tls=…` names.
const LOG_TARGET: &str = "brock::tls";

/// Why certificates or keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificates directory.
    #[error(
        "there is no certificates directory {at}: name the one that holds ca.crt, or create it (`mkdir -p {at}`) and \
         copy the cluster's ca.crt there. Only a new cluster needs a new CA: `brock cert ca`",
        at = .dir.display()
    )]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// No `ca*.crt`.
    #[error(
        "there is no CA certificate (ca*.crt) in {at}: copy the cluster's ca.crt there. Only a new cluster needs a \
         new CA: `brock cert ca`",
        at = .dir.display()
    )]
    NoCa {
        /// The certificates directory.
        dir: PathBuf,
    },
    /// No `node*.crt`.
    #[error(
        "there is no node certificate (node*.crt) in {at}: issue one with \
         `brock cert node --certs-dir {at} --ca-key FILE --node-id ID --host HOST`",
        at = .dir.display()
    )]
    NoNodeCertificate {
        /// The certificates directory.
        dir: PathBuf,
    },
    /// Neither a `client*.crt` nor a `node*.crt`.
    #[error(
        "there is no client certificate (client*.crt) in {at}: issue one with \
         `brock cert admin --certs-dir {at} --ca-key FILE --name NAME`",
        at = .dir.display()
    )]
    NoClientCertificate {
        /// The certificates directory.
        dir: PathBuf,
    },
    /// Several certificates where exactly one is expected.
    #[error("{at} holds several {kind} certificates ({list}): keep exactly one of them there", at = .dir.display(), list = .names.join(", "))]
    Several {
        /// The certificates directory.
        dir: PathBuf,
        /// `node` or `client`.
        kind: &'static str,
        /// The file names.
        names: Vec<String>,
    },
    /// A certificate or a list whose name does not state its purpose.
    #[error(
        "{at} does not belong in a certificates directory, and would be ignored: only ca*.crt, node*.crt, client*.crt, their \
         keys, *.crl and ca-history*.pem do, in small letters. Rename or remove it",
        at = .path.display()
    )]
    UnexpectedFile {
        /// The file.
        path: PathBuf,
    },
    /// There is no directory of further revocation lists.
    #[error(
        "there is no directory of revocation lists {at}: create it (`mkdir -p {at}`), or unset node.crl-dir",
        at = .dir.display()
    )]
    NoListDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// A file among the revocation lists that would be ignored.
    #[error(
        "{at} does not belong in a directory of revocation lists (node.crl-dir): only *.crl do. Rename or remove it",
        at = .path.display()
    )]
    UnexpectedList {
        /// The file.
        path: PathBuf,
    },
    /// A certificate without its key.
    #[error("{key_at} is missing: it must hold the private key of {certificate_at}", key_at = .key.display(), certificate_at = .certificate.display())]
    NoKey {
        /// The missing key file.
        key: PathBuf,
        /// Its certificate.
        certificate: PathBuf,
    },
    /// A key that other users may read.
    #[error(
        "{at} may be read or changed by others (mode {mode:04o}): run `chmod 400 {at}`; if the key may have been \
         read already, issue a new one",
        at = .path.display()
    )]
    KeyPermissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file could not be read.
    #[error("cannot read {at}: {source}{}", brock_core::base::advice::on_file(source), at = .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Reading the directories takes too long.
    #[error(
        "{} has not answered for {seconds} s (is it on a network file system that is gone?): rotated certificates and \
         revocations do not take effect until it does",
        directories(.dir, .crl_dir.as_deref())
    )]
    NoAnswer {
        /// The certificates directory.
        dir: PathBuf,
        /// The directory of further revocation lists.
        crl_dir: Option<PathBuf>,
        /// For how long.
        seconds: u64,
    },
    /// A file is far larger than any certificate or key.
    #[error("{at} is larger than {limit} bytes: it is not a certificate or a key", at = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// A file holds no PEM certificate.
    #[error("{at} holds no PEM certificate (`-----BEGIN CERTIFICATE-----`): check that it was copied completely", at = .path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no PEM list of revoked certificates.
    #[error("{at} holds no PEM list of revoked certificates (`-----BEGIN X509 CRL-----`): check that it was copied completely", at = .path.display())]
    NotARevocationList {
        /// The file.
        path: PathBuf,
    },
    /// A PEM file has a block that would not count.
    #[error("{at}, line {line}: {problem}", at = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Where the problem is.
        line: usize,
        /// What it is, and what to do.
        problem: String,
    },
    /// A revocation list that cannot be enforced in full.
    #[error("the revocation list {at} cannot be used: {reason}", at = .path.display())]
    RevocationList {
        /// Its file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A certificate among `ca*.crt` that is not a CA's.
    #[error(
        "{at} is not the certificate of a CA ({reason}), so it must not be trusted as one: the holder of its key could \
         issue certificates. Only the certificates of CAs belong in ca*.crt",
        at = .path.display()
    )]
    NotACa {
        /// The file.
        path: PathBuf,
        /// What shows that.
        reason: &'static str,
    },
    /// Far more files than a certificates directory has.
    #[error("{at} holds more than {limit} certificates, keys and lists: remove those that are no longer used", at = .dir.display())]
    TooManyFiles {
        /// The certificates directory.
        dir: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// A new certificate that states another node id.
    #[error("{at} is now the certificate of node {found}, but this is node {expected}: it is not used", at = .dir.display())]
    OtherNode {
        /// The certificates directory.
        dir: PathBuf,
        /// The node id that it states.
        found: String,
        /// This node's id.
        expected: String,
    },
    /// A new certificate without a URI, where the one in use has one.
    #[error(
        "the new certificate in {at} has no spiffe URI, and this node signs what it writes with one of node {expected}: it \
         is not used. Make one with `brock cert node --node-id {expected} --overwrite …`. To do without, restart the node \
         with node.trust=centralized", at = .dir.display()
    )]
    LosesUri {
        /// The certificates directory.
        dir: PathBuf,
        /// This node's id.
        expected: String,
    },
    /// A new certificate of another cluster than the one in use.
    #[error(
        "the new certificate in {at} is of the trust domain {found}, and the one in use of {in_use}: it is not used, \
         because no other node would believe what this one signs with it. Make one with `brock cert node --node-id {node_id} \
         --trust-domain {in_use} --overwrite …`", at = .dir.display()
    )]
    OtherDomain {
        /// The certificates directory.
        dir: PathBuf,
        /// This node's id.
        node_id: String,
        /// The trust domain that it states.
        found: String,
        /// That of the certificate in use.
        in_use: String,
    },
    /// A file holds no usable private key.
    #[error(
        "{at} holds no usable private key ({reason}): it must be an unencrypted key in PEM (PKCS#8, PKCS#1 or SEC1): {}. \
         `openssl pkey -in OLD -out NEW` removes a passphrase",
        keypair::SUPPORTED_KEYS, at = .path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// The reason; never quotes the key.
        reason: String,
    },
    /// A key that does not belong to the certificate.
    #[error("{key_at} is not the key of {certificate_at}: the two files come from different pairs. Copy both again", key_at = .key.display(), certificate_at = .certificate.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The certificate of the key is not the first one of its file.
    #[error(
        "{certificate_at} begins with another certificate: that of {key_at} is number {place} in the file. Put it first, \
         and behind it the certificates of the CAs between it and the root",
        key_at = .key.display(), certificate_at = .certificate.display()
    )]
    WrongOrder {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
        /// Where the key's certificate stands, counted from 1.
        place: usize,
    },
    /// A certificate of an old version of X.509.
    #[error(
        "{at} is an X.509 certificate of version {version}, which cannot state names and usages: issue one of version 3 \
         (`brock cert`; with `openssl x509 -req`, give -extfile)",
        at = .path.display()
    )]
    Version {
        /// The certificate file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A certificate that has expired or is not valid yet.
    #[error("{at} is valid from {not_before} until {not_after}, and the time is {now}: {hint}", at = .path.display())]
    NotValidNow {
        /// The certificate file.
        path: PathBuf,
        /// First moment of validity, RFC 3339.
        not_before: String,
        /// Last moment of validity, RFC 3339.
        not_after: String,
        /// The time of this machine's clock, RFC 3339.
        now: String,
        /// The remedy.
        hint: &'static str,
    },
    /// A node certificate that names no host.
    #[error(
        "{at} has no DNS name or IP address among its subject alternative names, and the common name is not used: \
         peers cannot verify it. Issue a new one that names its hosts (`brock cert node … --host HOST`)",
        at = .path.display()
    )]
    NoSubjectAlternativeName {
        /// The certificate file.
        path: PathBuf,
    },
    /// A certificate that no CA of the directory has signed, or whose key usage does not allow its use.
    #[error("{at} cannot be used with the CA certificates in its directory: {reason}", at = .path.display())]
    NotTrusted {
        /// The certificate file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A certificate that states no role, or the wrong one.
    #[error("{at}: {source}", at = .path.display())]
    Role {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with its role.
        source: RoleError,
    },
    /// A certificate that the configured level of wire encryption refuses.
    #[error(
        "{at} cannot be used with wire encryption 256 ({setting}): {reason}. Every key and signature of the \
         chain must be {}. Issue a CA and a certificate of such a kind (`brock cert … --algorithm ecdsa-p384`), or set a \
         lower level",
        keypair::STRONG_KEYS, at = .path.display()
    )]
    TooWeak {
        /// The certificate file.
        path: PathBuf,
        /// The setting that demands it.
        setting: &'static str,
        /// What is too weak.
        reason: String,
    },
    /// An ML-DSA certificate in a directory without an ML-DSA CA.
    #[error(
        "{at} has an ML-DSA key, and no CA certificate (ca*.crt) in {} has one: nodes use ML-DSA only under a CA that uses \
         it too, because a certificate is no stronger than its CA. Make one with `brock cert ca … --post-quantum ml-dsa-65`",
        .path.parent().unwrap_or(Path::new(".")).display(), at = .path.display()
    )]
    NoPostQuantumCa {
        /// The certificate file.
        path: PathBuf,
    },
    /// A second certificate that does not fit the first one.
    #[error("{at} cannot be used beside {}: {reason}", .first.display(), at = .path.display())]
    SecondChain {
        /// The second certificate's file.
        path: PathBuf,
        /// The first certificate's file.
        first: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// rustls refused the configuration. The checks above should make this impossible.
    #[error("the TLS configuration from {at} was refused: {source}", at = .dir.display())]
    Config {
        /// The certificates directory.
        dir: PathBuf,
        /// The error of rustls.
        source: rustls::Error,
    },
}

/// What a reading reads. It cannot say at which of the two it hangs.
fn directories(dir: &Path, crl_dir: Option<&Path>) -> String {
    let dir = format!("the certificates directory {} (node.certs-dir)", dir.display());
    match crl_dir {
        None => dir,
        Some(lists) => {
            format!("{dir} or the directory of revocation lists {} (node.crl-dir)", lists.display())
        }
    }
}

impl TlsError {
    /// Whether the files could not be read because too many are open: nothing is known about them.
    pub fn lacks_descriptors(&self) -> bool {
        matches!(self, Self::Read { source, .. } if brock_core::base::advice::lacks_descriptors(source))
    }

    /// Whether this process cannot judge the files, because its user is not the node's: it may not read them, or the
    /// key is readable by a group, which may be the node's.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::KeyPermissions { mode, .. } => mode & 0o007 == 0,
            _ => false,
        }
    }
}
