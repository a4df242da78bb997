//! `audit`: what operators have done. `list` and `verify` read files and ask no node.

mod list;
mod verify;

use crate::{
    access::{self, CALL_TIMEOUT},
    answer,
    cli::{AuditCommand, Global},
    failure::Failure,
    output,
};
use brock::audit::verify::VerifyError;
use brock_core::proto;
use serde::Serialize;

/// Runs the command.
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
    /// The node that answered.
    node_id: String,
    head: String,
    sequence: u64,
    hash: String,
    path: String,
}

fn head(global: &Global) -> Result<(), Failure> {
    let client = access::client(global, global.timeout.unwrap_or(CALL_TIMEOUT))?;
    access::block_on(async {
        let answered = client.audit_head(proto::AuditHeadRequest {}).await;
        let proto::AuditHeadResponse { node_id, path, sequence, hash } = answer::reported_change(answered)?;
        let (hash, path) = (output::printable(&hash), output::printable(&path));
        let shown = Shown { node_id, head: format!("{sequence}:{hash}"), sequence, hash, path };
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
        VerifyError::SeveralNodes(_) => Failure::Usage(text),
        _ => Failure::Error(text),
    }
}
