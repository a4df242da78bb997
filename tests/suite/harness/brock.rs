//! The `brock` command as a process that ends, and a home with certificates for it.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use super::process::BROCK;
use brock::config::settings::{self, SETTINGS};
use tempfile::TempDir;

/// Runs `brock` with these variables and no setting from the environment of the tests. It is killed after two minutes.
pub fn brock_with(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(BROCK).args(arguments).stdin(Stdio::null());
    for setting in SETTINGS {
        command.env_remove(setting.env());
    }
    command.env_remove(settings::CONFIG_ENV).envs(env.iter().copied());
    command.output().unwrap()
}

pub fn brock(arguments: &[&str]) -> Output {
    brock_with(arguments, &[])
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts an exit code, nothing on stdout, and all these parts in the message.
pub fn assert_fails(output: &Output, code: i32, parts: &[&str]) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(stdout(output), "", "a failure printed data");
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
}

pub fn assert_succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// A home with a CA, and the paths of its certificates directory and key.
pub struct Home {
    pub directory: TempDir,
    pub certs: String,
    pub key: String,
}

impl Home {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let home = Self { certs: at("certs"), key: at("safe/ca.key"), directory };
        assert_succeeds(&brock(&["cert", "ca", "--certs-dir", &home.certs, "--ca-key", &home.key]));
        home
    }

    pub fn cert(&self, arguments: &[&str]) -> Output {
        let place = ["--certs-dir", &self.certs, "--ca-key", &self.key];
        brock(&[&["cert"], arguments, &place].concat())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
