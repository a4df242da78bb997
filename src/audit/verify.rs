//! Checks whether files are what a node wrote: each line, their order, and a noted head.
//!
//! The chain shows a line that was changed, removed, added or moved. It does not show that lines are missing
//! at the end, or that the whole log was rewritten: a head that was noted elsewhere does.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use super::{
    chain::{self, End, Fault},
    entry::{Hash, Head, Kind, Line},
    files,
};
use brock_core::base::limits;

/// The content of good files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number of files.
    pub files: usize,
    /// The number of lines.
    pub lines: u64,
    /// What came before the first line.
    pub begins: Begins,
    /// The head at the last line.
    pub head: Head,
    /// When the first line was written.
    pub first_unix_ms: u64,
    /// When the last line was written.
    pub last_unix_ms: u64,
    /// Bytes of an unfinished line at the end: it is being written, or a crash has interrupted it.
    pub torn_bytes: u64,
    /// Intents without an outcome, oldest first.
    pub unfinished: Vec<Unfinished>,
    /// Lines in which the node reports damage or a gap.
    pub remarks: Vec<Remark>,
}

/// Whether the beginning of the log is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begins {
    /// It is present.
    AtTheFirst,
    /// The node has deleted the earlier lines.
    AfterDropped(Head),
    /// Earlier lines are missing, and no line says why.
    After(Head),
}

/// An intent without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The line of the intent.
    pub sequence: u64,
    /// The method.
    pub method: String,
    /// When it was written, milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
}

/// A line about damage or a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Its number.
    pub sequence: u64,
    /// [`Kind::Damaged`], [`Kind::Torn`] or [`Kind::Gap`].
    pub kind: Kind,
    /// When it was written, milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Its fields, as JSON.
    pub text: String,
}

/// Why files are not what a node wrote, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There are no files.
    #[error("no audit log: there is no file audit-*.jsonl in {}", .0.display())]
    Empty(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{}, line {line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line in the file.
        line: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// Lines between two files are missing.
    #[error(
        "{} begins with line {found}, but the file before it ends with line {last}: lines {last_plus} to {found_minus} \
         are missing", path.display(), last_plus = last + 1, found_minus = found - 1
    )]
    Missing {
        /// The later file.
        path: PathBuf,
        /// The last line of the earlier file.
        last: u64,
        /// The first line of the later file.
        found: u64,
    },
    /// The files are the logs of several nodes.
    #[error(
        "these are the logs of several nodes ({0}), and each is a chain of its own: verify them one node at a time"
    )]
    SeveralNodes(String),
    /// The log ends too early.
    #[error(
        "the log ends with line {last}, but line {noted} was noted: {cut} lines were cut off its end", cut = noted - last
    )]
    CutOff {
        /// Its last line.
        last: u64,
        /// The noted line.
        noted: u64,
    },
    /// The noted line has another hash.
    #[error(
        "line {0} has another hash than was noted: the log was rewritten from there or from an earlier line"
    )]
    Replaced(u64),
    /// The noted line is older than the files.
    #[error("line {noted} was noted, but the files here begin with line {first}: name the older ones too")]
    TooOld {
        /// The noted line.
        noted: u64,
        /// The first line of the files.
        first: u64,
    },
}

/// The given files, and the log files in the given directories.
pub fn collect(places: &[PathBuf]) -> Result<Vec<PathBuf>, VerifyError> {
    let mut found = Vec::new();
    for place in places {
        let failed = |source| VerifyError::Io { path: place.clone(), source };
        if !place.metadata().map_err(failed)?.is_dir() {
            found.push(place.clone());
            continue;
        }
        let listed = files::list(place).map_err(failed)?;
        if listed.is_empty() {
            return Err(VerifyError::Empty(place.clone()));
        }
        found.extend(listed.into_iter().map(|file| file.path));
    }
    Ok(found)
}

/// Visits the lines of a file as far as they are good. Does not check what comes before the file.
pub fn read(path: &Path, mut visit: impl FnMut(&Line)) -> Result<(), VerifyError> {
    let scanned = chain::scan(path, None, |line, _| visit(line));
    let scan = scanned.map_err(|source| VerifyError::Io { path: path.to_owned(), source })?;
    match scan.end {
        End::Clean | End::Torn(_) => Ok(()),
        End::Fault(fault) => Err(VerifyError::Line { path: path.to_owned(), line: scan.lines + 1, fault }),
    }
}

/// Checks files from the first line to the last. `noted` is a head that was noted elsewhere.
pub fn verify(paths: &[PathBuf], noted: Option<&Head>) -> Result<Report, VerifyError> {
    let mut ordered = Vec::new();
    for path in paths {
        let first = chain::first(path).map_err(|source| VerifyError::Io { path: path.clone(), source })?;
        ordered.push((first.map_or(0, |head| head.sequence), path));
    }
    ordered.sort();
    let mut walk = Walk::default();
    for (i, (_, path)) in ordered.iter().enumerate() {
        if let Err(error) = walk.file(path, i + 1 == ordered.len(), noted) {
            return Err(several_nodes(paths).unwrap_or(error));
        }
    }
    walk.finish(ordered.len(), noted)
}

/// Why files do not continue each other, if that is because of whose they are. A node may have been renamed, so
/// several names alone are no error.
fn several_nodes(paths: &[PathBuf]) -> Option<VerifyError> {
    let directories: HashSet<_> = paths.iter().map(|path| path.parent()).collect();
    let mut nodes = BTreeSet::new();
    for path in paths.iter().filter(|_| directories.len() > 1) {
        read(path, |line| {
            nodes.insert(line.node.clone());
        })
        .ok()?;
    }
    (nodes.len() > 1).then(|| VerifyError::SeveralNodes(nodes.into_iter().collect::<Vec<_>>().join(", ")))
}

#[derive(Default)]
struct Walk {
    before: Option<Head>,
    last: Option<Head>,
    lines: u64,
    first_unix_ms: Option<u64>,
    last_unix_ms: u64,
    torn_bytes: u64,
    at_noted: Option<Hash>,
    dropped: Option<Head>,
    open: HashMap<(String, u64), Unfinished>,
    remarks: Vec<Remark>,
}

impl Walk {
    fn file(&mut self, path: &Path, is_last: bool, noted: Option<&Head>) -> Result<(), VerifyError> {
        let expected = self.last.take();
        let scanned = chain::scan(path, expected.as_ref(), |line, head| self.line(line, head, noted));
        let scan = scanned.map_err(|source| VerifyError::Io { path: path.to_owned(), source })?;
        let wrong = |fault| VerifyError::Line { path: path.to_owned(), line: scan.lines + 1, fault };
        match scan.end {
            End::Clean => {}
            End::Torn(bytes) if is_last => self.torn_bytes = bytes,
            End::Torn(_) => return Err(wrong(Fault::Torn)),
            End::Fault(Fault::Sequence { expected: due, found }) if scan.lines == 0 && found > due => {
                return Err(VerifyError::Missing { path: path.to_owned(), last: due - 1, found });
            }
            End::Fault(fault) => return Err(wrong(fault)),
        }
        if scan.lines == 0 {
            // The file has not even a first line, so no file can continue it.
            return match is_last && expected.is_some() {
                true => {
                    self.last = expected;
                    Ok(())
                }
                false => Err(wrong(Fault::NoHeader)),
            };
        }
        if self.before.is_none() {
            self.before = scan.continues;
        }
        self.last = scan.last;
        Ok(())
    }

    fn line(&mut self, line: &Line, head: &Head, noted: Option<&Head>) {
        self.lines += 1;
        self.first_unix_ms.get_or_insert(line.at_unix_ms);
        self.last_unix_ms = line.at_unix_ms;
        if noted.is_some_and(|noted| noted.sequence == head.sequence) {
            self.at_noted = Some(head.hash.clone());
        }
        let call = line.call.map(|call| (line.incarnation.clone(), call));
        match (line.kind, call) {
            (Kind::Intent, Some(call)) if self.open.len() < limits::AUDIT_UNFINISHED_MAX => {
                let method = line.method.clone().unwrap_or_default();
                let unfinished = Unfinished { sequence: line.sequence, method, at_unix_ms: line.at_unix_ms };
                self.open.insert(call, unfinished);
            }
            (Kind::Outcome, Some(call)) => {
                self.open.remove(&call);
            }
            (Kind::Dropped, _) => {
                let hash = line.what.get("hash").and_then(|hash| Hash::parse(hash.as_str()?));
                let through = line.what.get("through").and_then(serde_json::Value::as_u64);
                self.dropped = through.zip(hash).map(|(sequence, hash)| Head { sequence, hash });
            }
            (Kind::Damaged | Kind::Torn | Kind::Gap, _)
                if self.remarks.len() < limits::AUDIT_UNFINISHED_MAX =>
            {
                self.remarks.push(Remark {
                    sequence: line.sequence,
                    kind: line.kind,
                    at_unix_ms: line.at_unix_ms,
                    text: serde_json::to_string(&line.what).unwrap_or_default(),
                });
            }
            _ => {}
        }
    }

    fn finish(self, files: usize, noted: Option<&Head>) -> Result<Report, VerifyError> {
        let (Some(before), Some(head)) = (self.before, self.last) else {
            return Err(VerifyError::Empty(PathBuf::new()));
        };
        if let Some(noted) = noted {
            let at_noted = match noted.sequence == before.sequence {
                true => Some(before.hash.clone()),
                false => self.at_noted,
            };
            match at_noted {
                Some(hash) if hash == noted.hash => {}
                Some(_) => return Err(VerifyError::Replaced(noted.sequence)),
                None if noted.sequence > head.sequence => {
                    return Err(VerifyError::CutOff { last: head.sequence, noted: noted.sequence });
                }
                None => {
                    let first = before.sequence + 1;
                    return Err(VerifyError::TooOld { noted: noted.sequence, first });
                }
            }
        }
        let begins = match before.sequence {
            0 => Begins::AtTheFirst,
            _ if self.dropped.as_ref() == Some(&before) => Begins::AfterDropped(before),
            _ => Begins::After(before),
        };
        let mut unfinished: Vec<_> = self.open.into_values().collect();
        unfinished.sort_by_key(|call| call.sequence);
        Ok(Report {
            files,
            lines: self.lines,
            begins,
            head,
            first_unix_ms: self.first_unix_ms.unwrap_or_default(),
            last_unix_ms: self.last_unix_ms,
            torn_bytes: self.torn_bytes,
            unfinished,
            remarks: self.remarks,
        })
    }
}
