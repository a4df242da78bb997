//! Reading a file of the log line by line, and whether each line follows on the one before.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::entry::{FORMAT, Head, Kind, Line, Malformed};
use brock_core::base::limits;

/// Why a line is not what should stand there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not a line at all.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is longer than lines are.
    #[error("it is longer than any line of an audit log: it was overwritten, or the disk is damaged")]
    TooLong,
    /// The first line of a file is another one.
    #[error("it is not the first line of a file: the beginning of this file was removed")]
    NoHeader,
    /// A later version wrote it.
    #[error("the file has format {0}; this program knows {FORMAT}: use a newer one")]
    Format(u32),
    /// The first line of a file in the middle of one.
    #[error("it is the first line of a file, in the middle of one: files were joined")]
    HeaderInside,
    /// The number is not the next one.
    #[error("it is line {found} of the log, and {expected} is due here: lines were removed, added or moved")]
    Sequence {
        /// Due.
        expected: u64,
        /// There.
        found: u64,
    },
    /// The number is right, the hash of the line before is not.
    #[error(
        "it does not follow on the line before it (of which it knows another hash): one of the two was replaced"
    )]
    Previous,
    /// The last line has no end.
    #[error("it has no end: the file was cut")]
    Torn,
}

/// What a file looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// What its first line continues; `None` = it has no first line.
    pub continues: Option<Head>,
    /// The last good line.
    pub last: Option<Head>,
    /// Bytes up to there.
    pub good_bytes: u64,
    /// Good lines.
    pub lines: u64,
    /// What follows.
    pub end: End,
}

/// What follows on the last good line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Clean,
    /// The beginning of a line that has no end, so many bytes: its write was never finished.
    Torn(u64),
    /// Something else.
    Fault(Fault),
}

/// Reads a file as far as it is good. `expected` = what its first line must continue, if that is known.
pub(super) fn scan(
    path: &Path,
    expected: Option<&Head>,
    mut visit: impl FnMut(&Line, &Head),
) -> io::Result<Scan> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let mut scan = Scan { continues: None, last: None, good_bytes: 0, lines: 0, end: End::Clean };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let longest = limits::AUDIT_LINE_MAX_BYTES as u64 + 1;
        let read = reader.by_ref().take(longest).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(scan);
        }
        if bytes.last() != Some(&b'\n') {
            scan.end = if read == longest { End::Fault(Fault::TooLong) } else { End::Torn(read) };
            return Ok(scan);
        }
        match check(&bytes[..bytes.len() - 1], scan.last.as_ref(), expected) {
            Ok((line, head)) => {
                if scan.lines == 0 {
                    scan.continues = Some(before(&line));
                }
                visit(&line, &head);
                scan.lines += 1;
                scan.good_bytes += read;
                scan.last = Some(head);
            }
            Err(fault) => {
                scan.end = End::Fault(fault);
                return Ok(scan);
            }
        }
    }
}

fn check(bytes: &[u8], last: Option<&Head>, expected: Option<&Head>) -> Result<(Line, Head), Fault> {
    let (line, head) = Line::parse(bytes)?;
    match (last, line.format) {
        (None, None) => return Err(Fault::NoHeader),
        (None, Some(format)) if format != FORMAT => return Err(Fault::Format(format)),
        (None, Some(_)) if line.kind != Kind::File => return Err(Fault::NoHeader),
        (Some(_), Some(_)) => return Err(Fault::HeaderInside),
        _ => {}
    }
    if let Some(before) = last.or(expected) {
        let due = before.sequence.saturating_add(1);
        if line.sequence != due {
            return Err(Fault::Sequence { expected: due, found: line.sequence });
        }
        if line.previous != before.hash.to_string() {
            return Err(Fault::Previous);
        }
    }
    Ok((line, head))
}

/// What a line continues.
fn before(line: &Line) -> Head {
    let hash = super::entry::Hash::parse(&line.previous).unwrap_or_else(super::entry::Hash::zero);
    Head { sequence: line.sequence.saturating_sub(1), hash }
}

/// What the first line of a file continues; `None` = it has no good first line.
pub(super) fn first(path: &Path) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    let longest = limits::AUDIT_LINE_MAX_BYTES as u64;
    BufReader::new(File::open(path)?).take(longest).read_until(b'\n', &mut bytes)?;
    bytes.pop();
    Ok(check(&bytes, None, None).ok().map(|(line, _)| before(&line)))
}
