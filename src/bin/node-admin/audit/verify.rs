//! `audit verify`: whether a log is what a node wrote, and what the check cannot show.

use std::path::PathBuf;

use crate::{
    audit::{failed, list::kind},
    cli::Format,
    failure::Failure,
    output,
};
use brock::audit::{
    entry::Head,
    verify::{self, Begins, Report},
};
use serde::Serialize;

pub(super) fn run(places: &[PathBuf], noted: Option<&Head>, format: Format) -> Result<(), Failure> {
    let paths = verify::collect(places).map_err(|error| failed(&error))?;
    let report = verify::verify(&paths, noted).map_err(|error| failed(&error))?;
    let begins = report.begins.clone();
    output::data(format, &Verified::new(report, noted), Verified::text)?;
    match begins {
        Begins::AtTheFirst | Begins::AfterDropped(_) => Ok(()),
        Begins::After(before) => Err(Failure::Precondition(format!(
            "the lines that are here are whole, but those up to {} are not here, and none of these says that the node \
             has dropped them: they are elsewhere, or were removed",
            before.sequence
        ))),
    }
}

/// What `audit verify` prints.
#[derive(Debug, Serialize)]
struct Verified {
    files: usize,
    lines: u64,
    first_sequence: u64,
    first_unix_ms: u64,
    last_unix_ms: u64,
    /// `first`, `dropped` or `missing`: the lines before the first one here.
    begins: &'static str,
    head: String,
    head_noted: bool,
    torn_bytes: u64,
    unfinished: Vec<Unfinished>,
    remarks: Vec<Remark>,
}

#[derive(Debug, Serialize)]
struct Unfinished {
    sequence: u64,
    at_unix_ms: u64,
    method: String,
}

#[derive(Debug, Serialize)]
struct Remark {
    sequence: u64,
    at_unix_ms: u64,
    kind: &'static str,
    what: String,
}

impl Verified {
    fn new(report: Report, noted: Option<&Head>) -> Self {
        // Destructured, so that a new field cannot be forgotten here.
        let Report {
            files,
            lines,
            begins,
            head,
            first_unix_ms,
            last_unix_ms,
            torn_bytes,
            unfinished,
            remarks,
        } = report;
        let (begins, before) = match begins {
            Begins::AtTheFirst => ("first", 0),
            Begins::AfterDropped(before) => ("dropped", before.sequence),
            Begins::After(before) => ("missing", before.sequence),
        };
        let unfinished = unfinished.into_iter().map(|call| Unfinished {
            sequence: call.sequence,
            at_unix_ms: call.at_unix_ms,
            method: call.method,
        });
        let remarks = remarks.into_iter().map(|remark| Remark {
            sequence: remark.sequence,
            at_unix_ms: remark.at_unix_ms,
            kind: kind(remark.kind),
            what: remark.text,
        });
        Self {
            files,
            lines,
            first_sequence: before + 1,
            first_unix_ms,
            last_unix_ms,
            begins,
            head: head.to_string(),
            head_noted: noted.is_some(),
            torn_bytes,
            unfinished: unfinished.collect(),
            remarks: remarks.collect(),
        }
    }

    fn text(&self) -> String {
        let moment =
            |unix_ms: u64| output::moment_to_the_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX));
        let begins = match self.begins {
            "first" => "with the first line of all".to_owned(),
            "dropped" => format!("with line {}; the node dropped what came before", self.first_sequence),
            _ => format!("with line {}; what came before is not here", self.first_sequence),
        };
        let end = match (self.head_noted, self.torn_bytes) {
            (true, _) => "the noted line is there, with its hash".to_owned(),
            (false, 0) => "lines cut off the end would not show: compare with a noted --head".to_owned(),
            (false, bytes) => {
                format!("{bytes} bytes are no line (yet): one is being written, or a crash has left them")
            }
        };
        let mut text = output::fields(&[
            ("verdict", "every line is as it was written and in its place".to_owned()),
            ("files", self.files.to_string()),
            ("lines", self.lines.to_string()),
            ("from", moment(self.first_unix_ms)),
            ("through", moment(self.last_unix_ms)),
            ("begins", begins),
            ("ends", end),
            ("head", self.head.clone()),
        ]);
        let calls = self.unfinished.iter().map(|call| {
            vec![call.sequence.to_string(), moment(call.at_unix_ms), output::printable(&call.method)]
        });
        let calls = output::headed(&["LINE", "TIME", "CALL"], calls);
        output::section(&mut text, "calls that may or may not have been carried out", &calls);
        let remarks = self.remarks.iter().map(|remark| {
            vec![
                remark.sequence.to_string(),
                moment(remark.at_unix_ms),
                remark.kind.to_owned(),
                output::printable(&remark.what),
            ]
        });
        let remarks = output::headed(&["LINE", "TIME", "KIND", "WHAT"], remarks);
        output::section(&mut text, "what the node itself remarks on the log", &remarks);
        text
    }
}
