//! The data directory and the ports of a node on this machine.

use std::{
    io,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::Report;
use crate::cluster::bytes;
use brock::{
    config::validate::Config,
    runtime::descriptors::{self, Descriptors},
};
use brock_core::base::limits;
use rustix::fs::{Access, access, statvfs};

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

/// Checks whether the ports are in use or free.
pub(super) fn ports(report: &mut Report, config: &Config) {
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
                report.ok("port", &place, &format!("in use, by the node if it runs ({setting})"));
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
