//! What an operator can do about an error of the operating system.

use std::io;

use rustix::process::geteuid;

/// To follow an error about a file or directory; empty if there is nothing to add.
pub fn on_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            ". This process runs as user {}: give that user access (chown, chmod), or name another place",
            geteuid().as_raw()
        ),
        io::ErrorKind::NotADirectory => ". A part of this path is a file: name a directory".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => ". It is mounted read-only".to_owned(),
        _ => String::new(),
    }
}

/// To follow an error about an address that was to be listened on.
pub fn on_address(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ". Another process listens there: is this node already running? `ss -ltnp` shows which"
        }
        io::ErrorKind::PermissionDenied => ". Ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => {
            ". This machine has no such address: `ip address` lists those it has"
        }
        _ => "",
    }
}
