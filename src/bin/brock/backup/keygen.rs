//! `brock backup keygen`.

use std::{
    fs,
    io::{self, BufRead, IsTerminal},
    process::ExitCode,
};

use age::{secrecy::ExposeSecret, x25519};
use anyhow::{Context, bail};
use brock_net::crashsafe;

use super::KeygenArgs;
use crate::out;

pub(super) fn keygen(args: &KeygenArgs) -> anyhow::Result<ExitCode> {
    if !args.yes && !io::stdin().is_terminal() {
        // Before there is a file: a key without a written copy must not be used.
        bail!("the command cannot ask for confirmation without a terminal: use --yes. Nothing was written");
    }
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = secret.expose_secret();
    let file = format!("# public key: {recipient}\n{text}\n");
    crashsafe::create(&args.out, file.as_bytes(), 0o600)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    eprintln!(
        "{} holds the only key to all backups that are encrypted for\n  {recipient}\nPrint it, and keep it away from \
         the nodes.\n",
        args.out.display()
    );
    // Not into a log.
    let is_shown = io::stderr().is_terminal();
    if is_shown && let Ok(code) = qrcode::QrCode::new(text.as_bytes()) {
        eprintln!("{}", code.render::<qrcode::render::unicode::Dense1x2>().build());
    }
    if is_shown {
        eprintln!("{text}\n");
    }
    if !args.yes {
        confirm(text).inspect_err(|_| {
            // A key without a written copy must not be used.
            let _ = fs::remove_file(&args.out);
        })?;
    }
    out::print(format!("{recipient}\n").as_bytes()).with_context(|| {
        format!("{} is written, but its public key {recipient} could not be printed", args.out.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The operator types the last characters, which shows that the operator has the key.
fn confirm(text: &str) -> anyhow::Result<()> {
    let end = &text[text.len() - 6..];
    eprint!("Type the last 6 characters of the key to confirm that you have it: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if !line.trim().eq_ignore_ascii_case(end) {
        bail!("these are not the last characters of the key: it was discarded");
    }
    Ok(())
}
