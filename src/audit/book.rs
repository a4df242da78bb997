//! Appending to the log, durably: the present file, rotation, what is dropped, and what was found when
//! the node began. Blocks; it belongs to one thread.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    chain::{self, End, Scan},
    entry::{Draft, Hash, Head, Kind, Line, Origin, What},
    files::{self, Numbered},
};
use crate::ground::limits;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum BookError {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another process writes to {}: give every node a directory of its own (audit.path)", .0.display())]
    InUse(PathBuf),
    #[error("a line could not be written as JSON: {0}")]
    Render(String),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BookError {
    move |source| BookError::Io { action, path: path.to_owned(), source }
}

/// Where the next line goes.
enum Place {
    /// Nobody has looked at the directory yet.
    Unknown,
    /// A new file.
    Next,
    /// This file, which must first be brought back to these bytes.
    Reopen { path: PathBuf, bytes: u64 },
    /// This one. `torn`: behind these bytes there may be a part of lines that could not be written.
    Open { file: File, path: PathBuf, bytes: u64, torn: bool },
}

/// The log of one directory.
pub(super) struct Book {
    directory: PathBuf,
    max_bytes: u64,
    file_bytes: u64,
    /// What was known of the head outside of the directory.
    noted: Option<Head>,
    head: Head,
    /// The highest number of a file.
    number: u64,
    place: Place,
    /// What a failed attempt to begin a file left behind.
    leftover: Option<PathBuf>,
    /// Lines about the log itself that wait for the next line.
    notes: Vec<Draft>,
    /// What an operator must be told.
    pub alarms: Vec<String>,
    /// Held for its lock.
    _lock: Option<File>,
}

impl Book {
    /// `noted` is the head that was kept elsewhere. Does not touch the disk.
    pub(super) fn new(directory: PathBuf, max_bytes: u64, noted: Option<Head>) -> Self {
        Self {
            directory,
            max_bytes,
            // At least four files, so that dropping one leaves most.
            file_bytes: limits::AUDIT_FILE_BYTES.min(max_bytes / 4),
            noted,
            head: Head::beginning(),
            number: 0,
            place: Place::Unknown,
            leftover: None,
            notes: Vec::new(),
            alarms: Vec::new(),
            _lock: None,
        }
    }

    /// The last line that is durable.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Appends lines. When it returns they are durable; after an error none of them is in the log.
    pub(super) fn append(&mut self, origin: &Origin, drafts: &[Draft]) -> Result<(), BookError> {
        if matches!(self.place, Place::Unknown) {
            self.resume()?;
        }
        self.check_in_place()?;
        self.make_ready(origin)?;
        let lines = [self.notes.as_slice(), drafts].concat();
        let (text, head) = compose(&self.head, origin, &lines)?;
        match self.place {
            Place::Open { bytes, .. } if bytes + text.len() as u64 > self.file_bytes => {
                self.begin_file(origin)?;
                let (text, head) = compose(&self.head, origin, &lines)?;
                self.write(&text, head)?;
            }
            _ => self.write(&text, head)?,
        }
        self.notes.clear();
        Ok(())
    }

    fn write(&mut self, text: &[u8], head: Head) -> Result<(), BookError> {
        let Place::Open { file, path, bytes, torn } = &mut self.place else {
            return Err(failed("cannot write to", &self.directory)(io::Error::other("no file is open")));
        };
        if let Err(source) = file.write_all(text).and_then(|()| file.sync_data()) {
            *torn = true;
            return Err(failed("cannot write to", path)(source));
        }
        *bytes += text.len() as u64;
        self.head = head;
        Ok(())
    }

    /// What somebody else did to the file must not take further lines with it.
    fn check_in_place(&mut self) -> Result<(), BookError> {
        let Place::Open { file, path, bytes, torn } = &self.place else { return Ok(()) };
        let in_place = files::is_in_place(file, path).map_err(failed("cannot look at", path))?;
        let length = file.metadata().map_err(failed("cannot look at", path))?.len();
        if in_place && (length == *bytes || *torn && length > *bytes) {
            return Ok(());
        }
        let path = path.clone();
        let problem = match in_place {
            false => "the file was removed or replaced while the node was writing to it",
            true => "something else has written to the file, or cut it, while the node was writing to it",
        };
        self.damaged(&path, problem);
        self.place = Place::Next;
        Ok(())
    }

    fn make_ready(&mut self, origin: &Origin) -> Result<(), BookError> {
        if let Some(path) = &self.leftover {
            match files::remove(&self.directory, path) {
                Err(source)
                    if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    return Err(failed("cannot remove", path)(source));
                }
                _ => self.leftover = None,
            }
        }
        if let Place::Reopen { path, bytes } = &self.place {
            let (path, bytes) = (path.clone(), *bytes);
            let reopened = files::reopen(&path).and_then(|file| {
                if file.metadata()?.len() != bytes {
                    file.set_len(bytes)?;
                    file.sync_all()?;
                }
                Ok(file)
            });
            let file = match reopened {
                Ok(file) => file,
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    self.damaged(&path, "the file was removed while the node could not write to it");
                    self.place = Place::Next;
                    return self.begin_file(origin);
                }
                Err(source) => return Err(failed("cannot open", &path)(source)),
            };
            self.place = Place::Open { file, path, bytes, torn: false };
        }
        match &mut self.place {
            Place::Open { file, path, bytes, torn } => {
                if *torn {
                    file.set_len(*bytes)
                        .and_then(|()| file.sync_all())
                        .map_err(failed("cannot cut", path))?;
                    *torn = false;
                }
                Ok(())
            }
            _ => self.begin_file(origin),
        }
    }

    /// A new file that continues the chain; the oldest ones go if there are too many bytes.
    fn begin_file(&mut self, origin: &Origin) -> Result<(), BookError> {
        let number = self.number + 1;
        let path = files::path_of(&self.directory, number);
        let mut what = What::new();
        what.insert("file".to_owned(), number.into());
        let (text, head) = render(&self.head, origin, &Draft::note(Kind::File, what))?;
        let mut file = match files::create(&self.directory, number) {
            Ok(file) => file,
            Err(source) => {
                match source.kind() {
                    // Somebody has put it there: it is not ours to remove.
                    io::ErrorKind::AlreadyExists => self.number = number,
                    _ => self.leftover = Some(path.clone()),
                }
                return Err(failed("cannot make the file", &path)(source));
            }
        };
        if let Err(source) = file.write_all(&text).and_then(|()| file.sync_all()) {
            self.leftover = Some(path.clone());
            return Err(failed("cannot write to", &path)(source));
        }
        self.number = number;
        self.head = head;
        self.place = Place::Open { file, path, bytes: text.len() as u64, torn: false };
        self.drop_oldest(origin)
    }

    /// The line that says so comes first, so that nobody takes it for a theft.
    fn drop_oldest(&mut self, origin: &Origin) -> Result<(), BookError> {
        let listed = files::list(&self.directory).map_err(failed("cannot list", &self.directory))?;
        let mut bytes: u64 = listed.iter().map(|file| file.bytes).sum();
        let mut dropped = Vec::new();
        for file in listed.iter().filter(|file| file.number != self.number) {
            // Room for a whole file: what is kept stays below the bound until the next one begins.
            if bytes + self.file_bytes <= self.max_bytes {
                break;
            }
            bytes -= file.bytes.min(bytes);
            dropped.push(file);
        }
        let Some(kept) = listed.get(dropped.len()) else { return Ok(()) };
        if dropped.is_empty() {
            return Ok(());
        }
        let mut what = What::new();
        what.insert("files".to_owned(), dropped.len().into());
        if let Some(through) = begins_after(kept) {
            what.insert("through".to_owned(), through.sequence.into());
            what.insert("hash".to_owned(), through.hash.to_string().into());
        }
        let (text, head) = compose(&self.head, origin, &[Draft::note(Kind::Dropped, what)])?;
        self.write(&text, head)?;
        for file in dropped {
            if let Err(error) = files::remove(&self.directory, &file.path) {
                // The next file that begins tries again.
                tracing::warn!(path = %file.path.display(), %error, "an old file of the audit log was not removed");
            }
        }
        Ok(())
    }

    /// Finds the end of the log, and whether it is the one that was noted.
    fn resume(&mut self) -> Result<(), BookError> {
        let directory = self.directory.clone();
        files::prepare(&directory).map_err(failed("cannot prepare the directory", &directory))?;
        let lock = File::open(&directory).map_err(failed("cannot open", &directory))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| BookError::InUse(directory.clone()))?;
        let mut listed = files::list(&directory).map_err(failed("cannot list", &directory))?;
        self.number = listed.last().map_or(0, |file| file.number);
        let (mut place, mut notes, mut found, mut at_noted) = (Place::Next, Vec::new(), None, None);
        let noted = self.noted.clone();
        let (mut is_last, mut alarms) = (true, Vec::new());
        while let Some(file) = listed.pop() {
            let Scan { continues, last, good_bytes, lines, end } =
                chain::scan(&file.path, None, |_, head| {
                    if noted.as_ref().is_some_and(|noted| noted.sequence == head.sequence) {
                        at_noted = Some(head.hash.clone());
                    }
                })
                .map_err(failed("cannot read", &file.path))?;
            if let (0, End::Clean | End::Torn(_)) = (lines, &end) {
                // Not even its first line was ever durable.
                files::remove(&directory, &file.path).map_err(failed("cannot remove", &file.path))?;
                continue;
            }
            match (end, is_last) {
                (End::Torn(bytes), true) => {
                    notes.push(Draft::note(Kind::Torn, fields(&file.path, [("bytes", bytes.into())])));
                    place = Place::Reopen { path: file.path.clone(), bytes: good_bytes };
                }
                (End::Clean, true) => place = Place::Reopen { path: file.path.clone(), bytes: good_bytes },
                (End::Fault(fault), true) => {
                    let line = (lines + 1).into();
                    let problem = fault.to_string();
                    alarms.push(alarm(&file.path, &format!("line {}: {problem}", lines + 1)));
                    let told = [("line", line), ("problem", problem.into())];
                    notes.push(Draft::note(Kind::Damaged, fields(&file.path, told)));
                }
                (_, false) => {}
            }
            is_last = false;
            found = found.or(last);
            let reaches_noted = noted.as_ref().is_none_or(|noted| match &continues {
                Some(continues) if continues.sequence == noted.sequence => {
                    at_noted = Some(continues.hash.clone());
                    true
                }
                Some(continues) => continues.sequence < noted.sequence,
                None => false,
            });
            if found.is_some() && reaches_noted {
                break;
            }
        }
        self.notes = notes;
        self.alarms.append(&mut alarms);
        self.judge(found, at_noted, &mut place);
        self.place = place;
        self._lock = Some(lock);
        Ok(())
    }

    /// Compares what was found with what was noted, and decides what the next line continues.
    fn judge(&mut self, found: Option<Head>, at_noted: Option<Hash>, place: &mut Place) {
        let reached = found.as_ref().map_or(0, |found| found.sequence);
        self.head = found.unwrap_or_else(Head::beginning);
        let Some(noted) = self.noted.clone() else { return };
        let problem = if noted.sequence > reached {
            self.head = noted.clone();
            *place = Place::Next;
            let reached = match reached {
                0 => "none is here".to_owned(),
                reached => format!("the last one here is {reached}"),
            };
            format!(
                "this node has written lines up to {}, and {reached}: lines were removed, or audit.path was changed",
                noted.sequence
            )
        } else if at_noted.is_some_and(|hash| hash != noted.hash) {
            format!("line {} is not the one that this node has written: the log was replaced", noted.sequence)
        } else {
            return;
        };
        let directory = self.directory.clone();
        self.damaged(&directory, &problem);
    }

    fn damaged(&mut self, path: &Path, problem: &str) {
        self.alarms.push(alarm(path, problem));
        self.notes.push(Draft::note(Kind::Damaged, fields(path, [("problem", problem.into())])));
    }
}

fn alarm(path: &Path, problem: &str) -> String {
    format!(
        "the audit log is not as this node wrote it: {}: {problem}. It goes on behind that; `node-admin audit verify` \
         shows what is left",
        path.display()
    )
}

fn fields<const N: usize>(path: &Path, more: [(&str, serde_json::Value); N]) -> What {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = std::iter::once(("file", name.into()));
    named.chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn compose(head: &Head, origin: &Origin, drafts: &[Draft]) -> Result<(Vec<u8>, Head), BookError> {
    let (mut text, mut head) = (Vec::new(), head.clone());
    for draft in drafts {
        let (bytes, next) = render(&head, origin, draft)?;
        text.extend(bytes);
        head = next;
    }
    Ok((text, head))
}

fn render(head: &Head, origin: &Origin, draft: &Draft) -> Result<(Vec<u8>, Head), BookError> {
    let line = Line::after(head, origin, draft.clone());
    line.render()
        .or_else(|problem| {
            let mut line = line;
            line.what = std::iter::once(("omitted".to_owned(), problem.into())).collect();
            line.render()
        })
        .map_err(BookError::Render)
}

/// What the first line of a file continues.
fn begins_after(file: &Numbered) -> Option<Head> {
    chain::first(&file.path).ok().flatten()
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
