//! Certificates, roles, and TLS connections whose other end is known.
//!
//! | file | what it holds |
//! |---|---|
//! | [`roles`] | the role that a certificate states: node, client or admin |
//! | [`files`] | reading the certificates directory: names, permissions, PEM |
//! | [`credentials`] | what a node and an admin tool load from that directory |
//! | `keypair` | one certificate with its key, and everything that can be wrong with them |
//! | [`authority`] | the trusted CAs, and how many certificates each has revoked |
//! | `config` | the rustls configurations: TLS 1.3, mutual, hybrid key exchange first |
//! | `registry` | the current trust store, and the registry of open connections |
//! | `verify` | the role check inside the handshake, so that the refused side receives an alert |
//! | [`errors`] | TLS failures as sentences for people and as labels of a metric |
//! | [`accept`] | from a bound listener to a stream of identified connections |
//! | `coalesce` | one write where HTTP/2 makes several |
//! | [`channel`] | gRPC channels over dialled connections |
//! | [`web`] | TLS for the HTTP side |
//!
//! Invariants: no connection without a certificate of a trusted CA at both ends; no TLS below 1.3;
//! no resumption (a revoked peer must not come back with a ticket); a connection never has a role that
//! its certificate does not state; a dialled peer is a node or the dial fails.

use std::{io, path::PathBuf};

pub mod accept;
pub mod authority;
pub mod channel;
pub(crate) mod coalesce;
pub(crate) mod config;
pub mod credentials;
pub mod errors;
pub mod files;
pub(crate) mod io_delegate;
pub(crate) mod keypair;
pub(crate) mod registry;
pub mod roles;
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
        "there is no certificates directory {at}: name the one that holds ca.crt, or make it (`mkdir -p {at}`) and \
         copy the cluster's ca.crt there. Only a new cluster needs a new CA: `brock cert ca`",
        at = .dir.display()
    )]
    NoDirectory {
        /// The directory that was asked for.
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
        "there is no node certificate (node*.crt) in {at}: make one with \
         `brock cert node --certs-dir {at} --ca-key FILE --node-id ID --host HOST`",
        at = .dir.display()
    )]
    NoNodeCertificate {
        /// The certificates directory.
        dir: PathBuf,
    },
    /// Neither `client*.crt` nor `node*.crt`.
    #[error(
        "there is no client certificate (client*.crt) in {at}: make one with \
         `brock cert admin --certs-dir {at} --ca-key FILE --name NAME`",
        at = .dir.display()
    )]
    NoClientCertificate {
        /// The certificates directory.
        dir: PathBuf,
    },
    /// Several certificates of which exactly one must be there.
    #[error("{at} holds several {kind} certificates ({list}): which one is meant? Leave exactly one there", at = .dir.display(), list = .names.join(", "))]
    Several {
        /// The certificates directory.
        dir: PathBuf,
        /// `node` or `client`.
        kind: &'static str,
        /// The file names.
        names: Vec<String>,
    },
    /// A certificate whose purpose its name does not tell.
    #[error(
        "{at} does not belong in a certificates directory: only ca*.crt, node*.crt and client*.crt do. Rename or remove it",
        at = .path.display()
    )]
    UnexpectedFile {
        /// The file.
        path: PathBuf,
    },
    /// A certificate without its key.
    #[error("{key_at} is missing: it must hold the private key of {certificate_at}", key_at = .key.display(), certificate_at = .certificate.display())]
    NoKey {
        /// The key file that was looked for.
        key: PathBuf,
        /// Its certificate.
        certificate: PathBuf,
    },
    /// A key that others may read.
    #[error(
        "{at} may be read or changed by others (mode {mode:04o}): run `chmod 400 {at}`; if the key may have been \
         read already, make a new one",
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
        /// What the system said.
        source: io::Error,
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
    #[error("{at} holds no PEM certificate (`-----BEGIN CERTIFICATE-----`): check that it was copied whole", at = .path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no PEM list of revoked certificates.
    #[error("{at} holds no PEM list of revoked certificates (`-----BEGIN X509 CRL-----`): check that it was copied whole", at = .path.display())]
    NotARevocationList {
        /// The file.
        path: PathBuf,
    },
    /// Far more files than a certificates directory has.
    #[error("{at} holds more than {limit} certificates, keys and lists: remove those that are of no use any more", at = .dir.display())]
    TooManyFiles {
        /// The certificates directory.
        dir: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// A new certificate that names another node.
    #[error("{at} is now the certificate of node {found}, and this is node {expected}: it is not used", at = .dir.display())]
    OtherNode {
        /// The certificates directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it must be.
        expected: String,
    },
    /// A file holds no usable private key.
    #[error(
        "{at} holds no usable private key ({reason}): it must be an unencrypted RSA or EC key in PEM (PKCS#8, PKCS#1 or SEC1)",
        at = .path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong; never quotes the key.
        reason: String,
    },
    /// A key and a certificate of two different pairs.
    #[error("{key_at} is not the key of {certificate_at}: the two files come from different pairs. Copy both again", key_at = .key.display(), certificate_at = .certificate.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// A certificate that has expired or is not valid yet.
    #[error("{at} is valid from {not_before} until {not_after}, and now it is {now}: {hint}", at = .path.display())]
    NotValidNow {
        /// The certificate file.
        path: PathBuf,
        /// First moment of validity, RFC 3339.
        not_before: String,
        /// Last moment of validity, RFC 3339.
        not_after: String,
        /// The clock's time, RFC 3339.
        now: String,
        /// What to do.
        hint: &'static str,
    },
    /// A node certificate that no host name can be verified against.
    #[error(
        "{at} has no DNS name or IP address among its subject alternative names, and the common name does not count: \
         peers could not verify it. Make a new one that names its hosts (`brock cert node … --host HOST`)",
        at = .path.display()
    )]
    NoSubjectAlternativeName {
        /// The certificate file.
        path: PathBuf,
    },
    /// A certificate that no CA of the directory has signed, or that may not be used as it must be.
    #[error("{at} cannot be used with the CA certificates in its directory: {reason}", at = .path.display())]
    NotTrusted {
        /// The certificate file.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// A certificate that states no role, or the wrong one.
    #[error("{at}: {source}", at = .path.display())]
    Role {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with it.
        source: RoleError,
    },
    /// rustls refused the configuration: should not happen once everything above has been checked.
    #[error("the TLS configuration from {at} was refused: {source}", at = .dir.display())]
    Config {
        /// The certificates directory.
        dir: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}
