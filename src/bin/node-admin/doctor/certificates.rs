//! Certificates directories: their certificates, identities, expiries and problems.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use super::{Report, directory_of, now_unix};
use crate::{cluster::roughly, output};
use brock::config::validate::Config;
use brock_core::base::{limits, trust::TrustMode};
use brock_net::tls::{
    TlsError,
    credentials::{ClientIdentity, Identity},
    files::{self, Inventory},
    revocation::Authority,
    roles::{PeerIdentity, Role, RolePolicy},
};
use serde::Serialize;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

const CHECK: &str = "certificates";

/// The public part of a certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Public {
    pub(crate) file: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// `node`, `client` or `admin`, and the name; `null` for a certificate without a role, such as a CA's.
    pub(crate) role: Option<String>,
    /// The host names and IP addresses that it states.
    pub(crate) hosts: Vec<String>,
    pub(crate) not_before_unix: i64,
    pub(crate) not_after_unix: i64,
    pub(crate) serial: String,
}

/// The certificates of a directory, without their keys.
pub(crate) fn public_parts(dir: &Path) -> Result<Vec<Public>, String> {
    let inventory = Inventory::of(dir).map_err(|error| error.to_string())?;
    let mut parts = Vec::new();
    let (node, client) = (&inventory.node, &inventory.client);
    let second = inventory.node_second.iter().chain(&inventory.client_second);
    for path in inventory.ca.iter().chain(node).chain(client).chain(second) {
        for der in files::certificates(path).map_err(|error| error.to_string())? {
            let malformed = |_| format!("{} is malformed", path.display());
            let (_, certificate) = parse_x509_certificate(&der).map_err(malformed)?;
            let identity = PeerIdentity::of_certificate(&der, RolePolicy::default()).ok();
            let is_ca = inventory.ca.contains(path);
            parts.push(Public {
                file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                subject: certificate.subject().to_string(),
                issuer: certificate.issuer().to_string(),
                role: identity.filter(|_| !is_ca).map(|identity| identity.to_string()),
                hosts: hosts(&certificate),
                not_before_unix: certificate.validity().not_before.timestamp(),
                not_after_unix: certificate.validity().not_after.timestamp(),
                serial: certificate.raw_serial_as_string(),
            });
        }
    }
    Ok(parts)
}

fn hosts(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => Some(IpAddr::from(Ipv4Addr::from(v4)).to_string()),
            (_, Ok(v6)) => Some(IpAddr::from(Ipv6Addr::from(v6)).to_string()),
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

/// Checks the operator's certificates. `is_node`: the machine runs a node.
pub(super) fn operator(report: &mut Report, dir: Option<&Path>, is_node: bool) -> Option<ClientIdentity> {
    let Some(dir) = dir.filter(|dir| !dir.as_os_str().is_empty()) else {
        let fix = "node-admin doctor --certs-dir DIR, or `node-admin context set NAME --certs-dir DIR`; \
                   `brock cert admin` makes an operator's certificate";
        match is_node {
            // An operator's key does not belong on a node's machine.
            true => report.note(
                CHECK,
                "",
                "no operator's certificate is named, so no node was asked anything",
                fix,
            ),
            false => report.fail(CHECK, "", "no certificates directory is named", fix),
        }
        return None;
    };
    let at = directory_of(dir);
    ca_key(report, dir);
    match ClientIdentity::load(dir) {
        Ok(identity) => {
            let who = identity.peer();
            match who.role {
                Role::Admin if who.trust_domain.is_none() => report.note(
                    CHECK,
                    &at,
                    &format!("{who}: it has no SPIFFE URI, so it cannot revoke or delete where node.trust is distributed"),
                    &format!("brock cert admin --certs-dir {at} --ca-key FILE --name NAME --overwrite"),
                ),
                Role::Admin => report.ok(CHECK, &at, &format!("{who}")),
                role => report.fail(
                    CHECK,
                    &at,
                    &format!("{who}: the role {role} may not do what an operator does"),
                    "name another directory, an operator's, by --certs-dir; `brock cert admin` makes one",
                ),
            }
            expiries(report, dir);
            Some(identity)
        }
        Err(error) => {
            let fix = match error {
                TlsError::NoClientCertificate { .. } => {
                    format!("brock cert admin --certs-dir {at} --ca-key FILE --name NAME")
                }
                TlsError::NotValidNow { .. } => {
                    format!("brock cert admin --certs-dir {at} --ca-key FILE --name NAME --overwrite")
                }
                _ => {
                    "--certs-dir names the directory with ca.crt, client.crt and client.key of an operator; \
                      `brock cert admin` makes one"
                        .to_owned()
                }
            };
            report.fail(CHECK, &at, &error.to_string(), &fix);
            None
        }
    }
}

/// Checks the certificates of the node that is configured on this machine.
pub(super) fn node(report: &mut Report, config: &Config) -> Option<Identity> {
    let dir = &config.certs_dir;
    let at = directory_of(dir);
    ca_key(report, dir);
    let make = format!(
        "brock cert node --certs-dir {at} --ca-key FILE --node-id {} --host HOST --overwrite",
        config.node_id
    );
    let policy = RolePolicy { require_uri: config.require_uri_roles };
    let levels = config.wire_levels.clone();
    let identity = match Identity::load_at(dir, config.crl_dir.as_deref(), policy, levels) {
        Ok(identity) => identity,
        Err(error) => {
            let fix = match error {
                TlsError::RevocationList { .. } | TlsError::NotARevocationList { .. } => {
                    "copy the newest list there, from where `brock cert revoke` was run"
                }
                TlsError::NoListDirectory { .. } | TlsError::UnexpectedList { .. } => {
                    "node.crl-dir names a directory with *.crl and nothing else"
                }
                TlsError::TooWeak { .. } => {
                    "brock cert … --algorithm ecdsa-p384 for the CA and the node, or a lower level"
                }
                TlsError::NoPostQuantumCa { .. } => {
                    "copy ca-pq.crt of the cluster there; `brock cert ca … --post-quantum ml-dsa-65` makes it"
                }
                _ => &make,
            };
            report.fail(CHECK, &at, &error.to_string(), fix);
            return None;
        }
    };
    let peer = identity.peer();
    match peer.node_id() {
        Some(found) if found != config.node_id => {
            let what = format!("it is that of node {found}, and node.id is {}", config.node_id);
            report.fail(CHECK, &at, &what, &make);
        }
        None if config.trust == TrustMode::Distributed => {
            let what = format!(
                "{peer}: it has no SPIFFE URI, and with node.trust=distributed the node refuses to start"
            );
            report.fail(CHECK, &at, &what, &format!("{make}, or node.trust=centralized"));
        }
        _ => report.ok(CHECK, &at, &peer.to_string()),
    }
    let names = public_parts(dir).unwrap_or_default().into_iter().filter(|part| part.role.is_some());
    let names: Vec<String> =
        names.filter(|part| part.file.starts_with("node")).flat_map(|part| part.hosts).collect();
    report.note("hosts", &at, &format!("peers and clients must dial this node as {}", names.join(", ")), "");
    for Authority { name, revoked, is_absent, .. } in identity.authorities() {
        let what =
            format!("{} of {name}, as far as the lists here say", output::count(revoked, "certificate"));
        match is_absent {
            false => report.ok("revoked", &at, &what),
            true => report.warn(
                "revoked",
                &at,
                &format!("{what}; this CA is not in the directory"),
                "right if it is an intermediate CA of others; otherwise copy the list of the right CA, and remove this one",
            ),
        }
    }
    expiries(report, dir);
    Some(identity)
}

fn expiries(report: &mut Report, dir: &Path) {
    let now = now_unix();
    for part in public_parts(dir).unwrap_or_default() {
        let left = part.not_after_unix.saturating_sub(now);
        let lifetime = part.not_after_unix.saturating_sub(part.not_before_unix);
        let what = match left {
            ..0 => format!("expired {} ago", roughly(left.saturating_neg())),
            _ => format!("ends in {}, {}", roughly(left), output::moment(part.not_after_unix)),
        };
        let file = dir.join(&part.file).display().to_string();
        let fix = "replace it with `brock cert … --overwrite`; nodes reload it without a restart";
        match left {
            ..0 => report.fail("expiry", &file, &what, fix),
            // Short-lived certificates are rotated often.
            _ if left < limits::CERTIFICATE_WARN_SECONDS.min(lifetime / 4) => {
                report.warn("expiry", &file, &what, fix);
            }
            _ => report.ok("expiry", &file, &what),
        }
    }
}

/// Warns of a CA key: anyone who takes over this machine could issue certificates of every role.
fn ca_key(report: &mut Report, dir: &Path) {
    let Ok(entries) = dir.read_dir() else { return };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    for name in names.filter(|name| name.starts_with("ca") && name.ends_with(".key")) {
        let file = dir.join(name).display().to_string();
        report.warn(
            CHECK,
            &file,
            "a CA's key lies among the certificates: anyone who reads it can issue certificates of every role",
            "move it to a safe place; neither nodes nor operators need it",
        );
    }
}
