//! Reading a file of the log line by line, and checking the chain of its lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::entry::{FORMAT, Head, Kind, Line, Malformed};
use brock_core::base::limits;

/// Why a line is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not a line of an audit log.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is too long.
    #[error("it is longer than any line of an audit log: it was overwritten, or the disk is damaged")]
    TooLong,
    /// The file begins with another line than its first one.
    #[error("it is not the first line of a file: the beginning of this file was removed")]
    NoHeader,
    /// A later version wrote it.
    #[error("the file has format {0}; this program knows {FORMAT}: use a newer one")]
    Format(u32),
    /// The first line of a file, inside another file.
    #[error("it is the first line of a file, but inside another one: files were joined")]
    HeaderInside,
    /// The number is not the next one.
    #[error("it is line {found} of the log, and {expected} is due here: lines were removed, added or moved")]
    Sequence {
        /// The number of the next line.
        expected: u64,
        /// The number of this line.
        found: u64,
    },
    /// The number is right, but the hash of the previous line is not.
    #[error(
        "it does not continue the previous line (it contains another hash for it): one of the two was replaced"
    )]
    Previous,
    /// The last line has no end.
    #[error("it has no end: the file was cut")]
    Torn,
}

/// The result of reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// The head before its first line; `None` = it has no first line.
    pub continues: Option<Head>,
    /// The head at its last good line.
    pub last: Option<Head>,
    /// The length of the good lines.
    pub good_bytes: u64,
    /// The number of good lines.
    pub lines: u64,
    /// What comes after them.
    pub end: End,
}

/// What comes after the last good line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Clean,
    /// The beginning of a line, of so many bytes: its write was interrupted.
    Torn(u64),
    /// A line that is not the expected one.
    Fault(Fault),
}

/// Reads a file as far as it is good. Its first line must continue `expected`, if that is known.
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

/// The head before a line.
fn before(line: &Line) -> Head {
    let hash = super::entry::Hash::parse(&line.previous).unwrap_or_else(super::entry::Hash::zero);
    Head { sequence: line.sequence.saturating_sub(1), hash }
}

/// The head before the first line of a file; `None` = it has no good first line.
pub(super) fn first(path: &Path) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    let longest = limits::AUDIT_LINE_MAX_BYTES as u64;
    BufReader::new(File::open(path)?).take(longest).read_until(b'\n', &mut bytes)?;
    bytes.pop();
    Ok(check(&bytes, None, None).ok().map(|(line, _)| before(&line)))
}
