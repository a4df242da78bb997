//! A process with a wrong clock.

use std::path::Path;

/// The library that shows a process another time, if this machine has it.
pub fn faketime() -> Option<&'static str> {
    let paths = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ];
    let found = paths.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("skipped: libfaketime is not installed (`make setup` installs it)");
    }
    found
}
