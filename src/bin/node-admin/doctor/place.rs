//! The data directory and the ports of a node on this machine.

use std::{
    io,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use super::{Report, certificates};
use crate::{cluster::bytes, debug::METRICS_MAX_BYTES};
use brock::{
    config::validate::Config,
    runtime::descriptors::{self, Descriptors},
};
use brock_core::base::limits;
use brock_net::{
    address::Address, channel::open_channel, http_client::HttpClient, listen::ListenAddress,
    tls::credentials::Identity,
};
use rustix::fs::{Access, access, statvfs};
use tokio::{net::lookup_host, time::timeout};

/// Checks the data directory: existence, owner, permissions and free space.
pub(super) fn path(report: &mut Report, path: &Path) {
    let at = path.display().to_string();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return report.fail(
                "path",
                &at,
                "there is no such directory",
                "is the disk mounted? If the node is new: mkdir, and start it once with --node.first-start=true",
            );
        }
        Err(error) => {
            return report.fail("path", &at, &error.to_string(), "run this as the node's user");
        }
    };
    if !metadata.is_dir() {
        return report.fail("path", &at, "it is not a directory", "node.path must name a directory");
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("this user may not write there (mode {mode:04o}, owner {})", metadata.uid());
        let fix = format!("run the node, and this, as the owner; or `chown -R USER {at}`");
        report.fail("path", &at, &what, &fix);
    } else if mode & 0o007 != 0 {
        report.warn(
            "path",
            &at,
            &format!("others may read it (mode {mode:04o})"),
            &format!("chmod 700 {at}"),
        );
    } else {
        report.ok("path", &at, "it exists and may be written");
    }
    match statvfs(path) {
        Err(error) => report.warn("disk", &at, &error.to_string(), "look with `df`"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let total = stat.f_blocks.saturating_mul(stat.f_frsize).max(1);
            let percent = 100.0 * free as f64 / total as f64;
            let what = format!("{} of {} are free ({percent:.0} %)", bytes(free), bytes(total));
            let fix =
                "enlarge the disk, or free space on it; `node-admin compact` removes what every member has";
            match percent {
                _ if free < limits::DISK_RESERVE_BYTES => {
                    report.fail("disk", &at, &format!("{what}: writes are refused"), fix);
                }
                ..10.0 => report.warn("disk", &at, &what, fix),
                _ => report.ok("disk", &at, &what),
            }
            if stat.f_files > 0 && stat.f_favail < limits::INODES_RESERVE {
                let what = format!(
                    "{} of {} inodes are free: no more files can be created",
                    stat.f_favail, stat.f_files
                );
                report.fail("disk", &at, &what, "remove files there; `df -i` shows the inodes");
            }
        }
    }
}

/// Checks the limit of open files that a node gets which is started from here. A node that runs reports its own.
pub(super) fn descriptors(report: &mut Report) {
    let limit = descriptors::hard_limit();
    let subject = "open files";
    match Descriptors::of(limit) {
        Err(error) => report.fail("limit", subject, &error.to_string(), "raise it where the node is started"),
        Ok(shares) if !shares.are_enough() => report.warn(
            "limit",
            subject,
            &format!("{limit}: a node started from here accepts at most {} connections", shares.connections),
            "raise it where the node is started (LimitNOFILE=, `--ulimit nofile=`): docs/guides/capacity.md",
        ),
        Ok(_) => report.ok("limit", subject, &format!("{limit}")),
    }
}

/// Checks whether the ports are free, or in use by the node.
pub(super) async fn ports(report: &mut Report, config: &Config, node: Option<&Identity>, time: Duration) {
    let http = config.http_address.as_ref();
    for (setting, address) in [("node.address", Some(&config.address)), ("http.address", http)] {
        let Some(address) = address else { continue };
        let place = address.to_string();
        let wildcard = if place.starts_with(':') { format!("[::]{place}") } else { place.clone() };
        match TcpListener::bind(&wildcard) {
            Ok(_) => report.note(
                "port",
                &place,
                &format!("nothing listens there: the node ({setting}) does not run"),
                "",
            ),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = match (setting, node) {
                    ("node.address", Some(node)) => grpc_holder(config, node, time).await,
                    ("http.address", _) if !config.http_tls => http_holder(address, time).await,
                    _ => {
                        let what = format!("in use; whether by the node ({setting}) was not checked");
                        report.note("port", &place, &what, "");
                        continue;
                    }
                };
                let fix =
                    "stop what listens there, or give the node another port; `ss -ltnp` shows the process";
                match holder {
                    Ok(holder) if holder == config.node_id.as_str() => {
                        report.ok("port", &place, &format!("in use, by {holder} ({setting})"));
                    }
                    Ok(holder) => {
                        report.fail("port", &place, &format!("in use, by node {holder} ({setting})"), fix);
                    }
                    Err(why) => {
                        report.fail(
                            "port",
                            &place,
                            &format!("in use, and not by the node ({setting}): {why}"),
                            fix,
                        );
                    }
                }
            }
            Err(error) => report.fail(
                "port",
                &place,
                &format!("{setting}: {error}"),
                "choose a port above 1023, and an address that this machine has",
            ),
        }
    }
}

/// The id of the node that listens at the node's own address.
async fn grpc_holder(config: &Config, node: &Identity, time: Duration) -> Result<String, String> {
    let parts = certificates::public_parts(&config.certs_dir)?;
    let name = parts.into_iter().filter(|part| part.role.is_some()).flat_map(|part| part.hosts).next();
    let mut sockets =
        lookup_host(config.address.from_this_machine()).await.map_err(|error| error.to_string())?;
    let socket = sockets.next().ok_or("the host has no address")?;
    // On this machine, whatever the certificate calls it.
    let address =
        Address::found(socket.ip(), socket.port(), &name.unwrap_or_default()).ok_or("it has no port")?;
    match timeout(time, open_channel(&address, node.dialler())).await {
        Err(_) => Err("it does not answer".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok((_, identity))) => identity
            .node_id()
            .map(|id| id.to_string())
            .ok_or_else(|| "its certificate names no node".to_owned()),
    }
}

/// The id of the node whose metrics are there.
async fn http_holder(address: &ListenAddress, time: Duration) -> Result<String, String> {
    let client = HttpClient::plain(time, METRICS_MAX_BYTES);
    let (_, page) =
        client.get(&address.from_this_machine(), "/metrics").await.map_err(|error| error.to_string())?;
    let line = page.lines().find(|line| line.starts_with("brock_build_info{"));
    let id = line.and_then(|line| line.split("node_id=\"").nth(1)?.split('"').next());
    id.map(str::to_owned).ok_or_else(|| "what answers is no node".to_owned())
}
