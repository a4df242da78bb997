//! What an operator can do about an error of the operating system.

use std::io;

use rustix::{io::Errno, process::geteuid};

/// Why a path that was not expanded by a shell is a mistake; `None` if it may be meant as it stands. Brock takes paths
/// literally: a data directory named `~` is not where anyone looks for it.
pub fn on_path(text: &str) -> Option<&'static str> {
    let names_variable = |(at, _): (usize, &str)| {
        let next = text[at + 1..].chars().next();
        next.is_some_and(|next| matches!(next, '{' | '(' | '_') || next.is_ascii_alphabetic())
    };
    if text != text.trim() || text.chars().any(char::is_control) {
        return Some("has a space at an end, or a line break or another control character in it");
    }
    if text.starts_with('~') {
        return Some(
            "begins with ~, which only a shell replaces, and only at the beginning of a word; write the whole path",
        );
    }
    text.match_indices('$')
        .any(names_variable)
        .then_some("contains a variable, which only a shell replaces; write the whole path")
}

/// To follow an error about a file or directory; empty if there is nothing to add.
pub fn on_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            ". This process runs as user {}: give that user access (chown, chmod), or name another place",
            geteuid().as_raw()
        ),
        io::ErrorKind::NotADirectory => ". A part of this path is a file: name a directory".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => ". It is mounted read-only".to_owned(),
        io::ErrorKind::StorageFull => {
            ". Its file system has no space or no inodes left: `df -h` and `df -i` show which".to_owned()
        }
        _ => on_descriptors(error).to_owned(),
    }
}

/// To follow an error that may come from a lack of file descriptors; empty if it does not.
pub fn on_descriptors(error: &io::Error) -> &'static str {
    match lacks_descriptors(error) {
        true => {
            ". Too many files and connections are open: raise the limit (LimitNOFILE= in the unit, \
             `ulimit -n`)"
        }
        false => "",
    }
}

/// Whether this process, or the machine, has as many files and connections open as it may.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_descriptors_and_of_inodes_is_told_by_its_number() {
        let of = |errno: Errno| on_file(&io::Error::from(errno));
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(
                of(errno).contains("Too many files and connections are open: raise the limit (LimitNOFILE=")
            );
        }
        assert!(of(Errno::NOSPC).contains("`df -i`"));
        assert_eq!(of(Errno::NOENT), "");
        let words = io::Error::other("Too many open files (os error 24), No space left on device");
        assert_eq!(on_file(&words), "");
    }

    #[test]
    fn a_path_that_a_shell_should_have_expanded_is_a_mistake() {
        for text in ["~", "~/data", "~ops/data", "${HOME}/data", "/srv/$NODE", "/srv/$(hostname)", "$_x"] {
            assert!(on_path(text).is_some(), "{text}");
        }
        for text in [" ", "data ", "\tdata", "data\n", "da\nta"] {
            assert!(on_path(text).is_some(), "{text:?}");
        }
        for text in ["", "data", "with space", "/srv/brock", "/srv/a~b", "/srv/5$", "C$/x", "/srv/$1"] {
            assert_eq!(on_path(text), None, "{text}");
        }
    }
}
