//! A directory that does not answer, as a dead network mount.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Makes a FIFO without a writer.
pub fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// A file system that never answers, mounted over a directory: that of a FUSE server that does not serve. When it is
/// dropped, what waits fails, and the directory is as it was.
pub struct Hanging {
    server: Child,
    over: PathBuf,
}

impl Hanging {
    /// `None`, with a line on stderr, where mounting is not permitted.
    pub fn mount(test: &str, over: &Path) -> Option<Self> {
        let script = "exec 3<>/dev/fuse && \
                      mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other hanging \"$0\" && \
                      echo mounted && exec sleep 600";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(over).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let _ = server.wait();
            eprintln!("NOT TESTED: {test}: a file system that hangs cannot be mounted here");
            return None;
        }
        Some(Self { server, over: over.to_owned() })
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.over).status();
        // Its end answers all that waits, with an error.
        let _ = self.server.kill();
        let _ = self.server.wait();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.over.display());
    }
}
