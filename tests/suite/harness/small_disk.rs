//! A small file system that a test can fill.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::statvfs;
use tempfile::TempDir;

/// A mounted tmpfs. Unmounted when dropped.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// `None`, with a line on stderr, where mounting is not permitted.
    pub fn mount(test: &str, mount_options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", mount_options, "tmpfs"]).arg(directory.path()).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { directory }),
            failed => {
                eprintln!("NOT TESTED: {test}: a small file system cannot be mounted here: {failed:?}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn free_bytes(&self) -> u64 {
        let stat = statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes space away until no more than `leave` bytes are free.
    pub fn fill(&self, leave: u64) -> PathBuf {
        self.fill_file("filler", leave)
    }

    /// Takes away all the space there is.
    pub fn take_the_rest(&self) -> PathBuf {
        self.fill_file("rest", 0)
    }

    fn fill_file(&self, name: &str, leave: u64) -> PathBuf {
        let path = self.path().join(name);
        let mut file = fs::File::create(&path).unwrap();
        let zeros = vec![0; 64 * 1024];
        while self.free_bytes() > leave {
            // The node may have taken the rest meanwhile.
            if file.write(&zeros).is_err() {
                break;
            }
        }
        path
    }

    /// Takes all inodes away: no file can be created, although there is space.
    pub fn fill_inodes(&self) -> Vec<PathBuf> {
        let names = (0..).map(|i| self.path().join(format!("inode-{i}")));
        names.take_while(|path| fs::File::create(path).is_ok()).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path().display());
    }
}
