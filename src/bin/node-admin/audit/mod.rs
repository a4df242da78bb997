//! `audit`: what operators have done. The log itself is read from files; nobody needs to be asked.

mod list;
mod verify;

use crate::{
    cli::{AuditCommand, Global},
    client::{self, Access, CALL_TIMEOUT},
    failure::Failure,
    output,
};
use brock::audit::verify::VerifyError;
use brock_core::proto;
use serde::Serialize;

/// Does what `audit` was asked for.
pub(crate) fn run(global: &Global, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Head => head(global),
        AuditCommand::List { places, filter } => list::run(&places, &filter, global.output),
        AuditCommand::Verify { places, head } => verify::run(&places, head.as_ref(), global.output),
    }
}

/// What `audit head` prints.
#[derive(Debug, Serialize)]
struct Shown {
    head: String,
    sequence: u64,
    hash: String,
    path: String,
}

fn head(global: &Global) -> Result<(), Failure> {
    let access = Access::load(global, global.timeout.unwrap_or(CALL_TIMEOUT))?;
    client::block_on(async {
        let answered = access
            .first_answer(async |channel| {
                Ok(client::admin(channel).audit_head(proto::AuditHeadRequest {}).await?.into_inner())
            })
            .await;
        answered.tell_misses();
        let proto::AuditHeadResponse { path, sequence, hash } = answered.repeatable()?;
        let (hash, path) = (output::printable(&hash), output::printable(&path));
        let shown = Shown { head: format!("{sequence}:{hash}"), sequence, hash, path };
        output::data(global.output, &shown, |shown| format!("{}\n", shown.head))
    })
}

fn failed(error: &VerifyError) -> Failure {
    let text = output::printable(&error.to_string());
    match error {
        VerifyError::Empty(_) => Failure::NotFound(text),
        VerifyError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::NotFound(text)
        }
        VerifyError::TooOld { .. } => Failure::Precondition(text),
        _ => Failure::Error(text),
    }
}
