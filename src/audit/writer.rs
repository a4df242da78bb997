//! Durable appends to the log, rotation, retention, and recovery after a crash. Blocks, and belongs to one
//! thread.

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
use brock_core::base::{advice, limits};

/// Why lines were not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{action} {}: {source}{}", path.display(), advice::on_file(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another process writes to {}: give every node a directory of its own (audit.path)", .0.display())]
    InUse(PathBuf),
    #[error("a line could not be written as JSON: {0}")]
    Render(String),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Io { action, path: path.to_owned(), source }
}

/// Where the next line goes.
enum Place {
    /// Unknown until the directory is read.
    Unknown,
    /// A new file.
    Next,
    /// This file, after it was cut to these bytes.
    Reopen { path: PathBuf, bytes: u64 },
    /// This file. `torn`: a failed write may have left bytes after these.
    Open { file: File, path: PathBuf, bytes: u64, torn: bool },
}

/// Writes the log in one directory.
pub(super) struct Writer {
    directory: PathBuf,
    max_bytes: u64,
    file_bytes: u64,
    /// The head that is kept outside the directory.
    noted: Option<Head>,
    head: Head,
    /// The highest number of a file.
    number: u64,
    place: Place,
    /// The file that a failed attempt to begin one left behind.
    leftover: Option<PathBuf>,
    /// Lines about the log itself, to be written before the next line.
    notes: Vec<Draft>,
    /// Alarms for the operator.
    pub alarms: Vec<String>,
    /// Holds the lock on the directory.
    _lock: Option<File>,
}

impl Writer {
    /// `noted` is the head that is kept outside the directory. Does not touch the disk.
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

    /// Appends lines. Contract: after `Ok` they are durable; after an error none of them is in the log.
    pub(super) fn append(&mut self, origin: &Origin, drafts: &[Draft]) -> Result<(), WriteError> {
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

    fn write(&mut self, text: &[u8], head: Head) -> Result<(), WriteError> {
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

    /// If another program has changed the file, further lines go to a new one.
    fn check_in_place(&mut self) -> Result<(), WriteError> {
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

    fn make_ready(&mut self, origin: &Origin) -> Result<(), WriteError> {
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

    /// Begins a new file that continues the chain, and deletes the oldest ones if the log is too large.
    fn begin_file(&mut self, origin: &Origin) -> Result<(), WriteError> {
        let number = self.number + 1;
        let path = files::path_of(&self.directory, number);
        let mut what = What::new();
        what.insert("file".to_owned(), number.into());
        let (text, head) = render(&self.head, origin, &Draft::note(Kind::File, what))?;
        let mut file = match files::create(&self.directory, number) {
            Ok(file) => file,
            Err(source) => {
                match source.kind() {
                    // Another program has created it, so it must stay.
                    io::ErrorKind::AlreadyExists => self.number = number,
                    _ => self.leftover = Some(path.clone()),
                }
                return Err(failed("cannot create the file", &path)(source));
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

    /// The line about it is written first, so that the deletion cannot be taken for tampering.
    fn drop_oldest(&mut self, origin: &Origin) -> Result<(), WriteError> {
        let listed = files::list(&self.directory).map_err(failed("cannot list", &self.directory))?;
        let mut bytes: u64 = listed.iter().map(|file| file.bytes).sum();
        let mut dropped = Vec::new();
        for file in listed.iter().filter(|file| file.number != self.number) {
            // Leaves room for a whole file, so that the log stays below its bound until the next file begins.
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
                // The next new file tries again.
                tracing::warn!(path = %file.path.display(), %error, "an old file of the audit log was not deleted");
            }
        }
        Ok(())
    }

    /// Finds the end of the log, and compares it with the noted head.
    fn resume(&mut self) -> Result<(), WriteError> {
        let directory = self.directory.clone();
        files::prepare(&directory).map_err(failed("cannot prepare the directory", &directory))?;
        let lock = File::open(&directory).map_err(failed("cannot open", &directory))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| WriteError::InUse(directory.clone()))?;
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
                // Not even its first line was durable.
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
                    let more = [("line", line), ("problem", problem.into())];
                    notes.push(Draft::note(Kind::Damaged, fields(&file.path, more)));
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
        self.compare(found, at_noted, &mut place);
        self.place = place;
        self._lock = Some(lock);
        Ok(())
    }

    /// Compares the end of the log with the noted head, and decides which head the next line continues.
    fn compare(&mut self, found: Option<Head>, at_noted: Option<Hash>, place: &mut Place) {
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
        "the audit log is not as this node wrote it: {}: {problem}. New lines follow after that; `node-admin audit \
         verify` shows what is left",
        path.display()
    )
}

fn fields<const N: usize>(path: &Path, more: [(&str, serde_json::Value); N]) -> What {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = std::iter::once(("file", name.into()));
    named.chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn compose(head: &Head, origin: &Origin, drafts: &[Draft]) -> Result<(Vec<u8>, Head), WriteError> {
    let (mut text, mut head) = (Vec::new(), head.clone());
    for draft in drafts {
        let (bytes, next) = render(&head, origin, draft)?;
        text.extend(bytes);
        head = next;
    }
    Ok((text, head))
}

fn render(head: &Head, origin: &Origin, draft: &Draft) -> Result<(Vec<u8>, Head), WriteError> {
    let line = Line::after(head, origin, draft.clone());
    line.render()
        .or_else(|problem| {
            let mut line = line;
            line.what = std::iter::once(("omitted".to_owned(), problem.into())).collect();
            line.render()
        })
        .map_err(WriteError::Render)
}

/// The head before the first line of a file.
fn begins_after(file: &Numbered) -> Option<Head> {
    chain::first(&file.path).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs::{self, OpenOptions},
        os::unix::fs::PermissionsExt,
    };

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::audit::verify::{Begins, Report, VerifyError, collect, verify};

    fn origin() -> Origin {
        Origin {
            node: "node-1".to_owned(),
            incarnation: "0000002a".to_owned(),
            at_unix_ms: 1_777_636_800_123,
        }
    }

    fn drafts(from: u64, count: u64) -> Vec<Draft> {
        let draft = |call| Draft {
            call: Some(call),
            method: Some("Invalidate".to_owned()),
            ..Draft::note(Kind::Intent, What::new())
        };
        (from..from + count).map(draft).collect()
    }

    /// Appends of ten lines each; files that do not fit are deleted.
    fn written(directory: &Path, appends: u64, max_bytes: u64) -> Writer {
        let mut writer = Writer::new(directory.to_owned(), max_bytes, None);
        for i in 0..appends {
            writer.append(&origin(), &drafts(i * 10, 10)).unwrap();
        }
        assert_eq!(writer.alarms, [""; 0]);
        writer
    }

    fn check(directory: &Path, noted: Option<&Head>) -> Result<Report, VerifyError> {
        verify(&collect(&[directory.to_owned()]).unwrap(), noted)
    }

    fn paths(directory: &Path) -> Vec<PathBuf> {
        files::list(directory).unwrap().into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn files_continue_each_other_and_the_oldest_are_deleted_with_a_line_about_it() {
        let directory = TempDir::new().unwrap();
        let place = directory.path().join("audit");
        let writer = written(&place, 40, 64 * 1024);
        let report = check(&place, Some(writer.head())).unwrap();
        assert_eq!(&report.head, writer.head());
        assert!(report.files >= 3, "{report:?}");
        assert!(matches!(&report.begins, Begins::AfterDropped(before) if before.sequence > 50), "{report:?}");
        let bytes: u64 = files::list(&place).unwrap().iter().map(|file| file.bytes).sum();
        assert!(bytes <= 64 * 1024, "{bytes}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place), 0o700);
        assert!(paths(&place).iter().all(|path| mode(path) == 0o600));

        // There is no such line if another program removes the oldest file.
        fs::remove_file(&paths(&place)[0]).unwrap();
        assert!(matches!(check(&place, None).unwrap().begins, Begins::After(_)));
        fs::remove_file(&paths(&place)[1]).unwrap();
        assert!(matches!(check(&place, None), Err(VerifyError::Missing { .. })));
    }

    #[test]
    fn a_log_continues_where_it_ended() {
        let directory = TempDir::new().unwrap();
        let head = written(directory.path(), 2, 1 << 20).head().clone();
        let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, Some(head.clone()));
        writer.append(&origin(), &drafts(20, 1)).unwrap();
        assert_eq!(writer.head().sequence, head.sequence + 1);
        assert_eq!(writer.alarms, [""; 0]);
        let report = check(directory.path(), Some(&head)).unwrap();
        assert_eq!((report.files, report.begins, report.lines), (1, Begins::AtTheFirst, 22));
        assert_eq!((report.unfinished.len(), report.remarks), (21, vec![]));
        let other = Writer::new(directory.path().to_owned(), 1 << 20, None).append(&origin(), &drafts(0, 1));
        assert!(matches!(other, Err(WriteError::InUse(_))), "two writers would break the chain");
    }

    #[test]
    fn an_unfinished_line_is_removed_wherever_it_ends() {
        let directory = TempDir::new().unwrap();
        let path = {
            written(directory.path(), 1, 1 << 20);
            paths(directory.path())[0].clone()
        };
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for cut in [last + 1, (last + whole.len()) / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(check(directory.path(), None).unwrap().torn_bytes, (cut - last) as u64);
            let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, None);
            writer.append(&origin(), &drafts(9, 1)).unwrap();
            assert_eq!(writer.alarms, [""; 0], "a crash is no reason for an alarm");
            let report = check(directory.path(), Some(writer.head())).unwrap();
            assert_eq!((report.torn_bytes, report.lines), (0, 12));
            assert_eq!(report.remarks[0].kind, Kind::Torn);
        }
        // Not even the first line of a new file was finished.
        fs::write(&path, &whole).unwrap();
        let next = files::path_of(directory.path(), 2);
        fs::write(&next, &whole[..20]).unwrap();
        let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, None);
        writer.append(&origin(), &drafts(10, 1)).unwrap();
        assert_eq!(check(directory.path(), Some(writer.head())).unwrap().files, 1);
        assert_eq!(writer.alarms, [""; 0]);
    }

    #[test]
    fn the_rest_of_a_failed_write_is_removed_and_changes_by_other_programs_are_noticed() {
        let half = b"{\"sequence\":";
        type Meddle = fn(&Path, &[u8]);
        let unchanged: Meddle = |_, _| {};
        let cut: Meddle = |path, whole| {
            OpenOptions::new().write(true).open(path).unwrap().set_len(whole.len() as u64 / 2).unwrap();
        };
        let replaced: Meddle = |path, whole| {
            fs::remove_file(path).unwrap();
            fs::write(path, whole).unwrap();
        };
        for (meddle, is_noticed, is_whole) in
            [(unchanged, false, true), (cut, true, false), (replaced, true, true)]
        {
            let directory = TempDir::new().unwrap();
            let mut writer = written(directory.path(), 2, 1 << 20);
            let path = paths(directory.path())[0].clone();
            let whole = fs::read(&path).unwrap();
            let Place::Open { torn, file, .. } = &mut writer.place else { panic!("no file is open") };
            *torn = true;
            file.write_all(half).unwrap();
            meddle(&path, &whole);
            writer.append(&origin(), &drafts(9, 1)).unwrap();
            assert_eq!(writer.alarms.len(), usize::from(is_noticed), "{:?}", writer.alarms);
            let seen = check(directory.path(), Some(writer.head()));
            // A log that was cut stays incomplete, and verification says so.
            assert_eq!(seen.is_ok(), is_whole, "{seen:?}");
            assert!(paths(directory.path()).iter().all(|path| !fs::read(path).unwrap().contains(&0)));
        }
    }

    #[test]
    fn lines_that_were_removed_while_the_node_was_down_are_noticed_and_the_gap_stays_visible() {
        let directory = TempDir::new().unwrap();
        let noted = written(directory.path(), 2, 1 << 20).head().clone();
        let path = paths(directory.path())[0].clone();
        let whole = fs::read(&path).unwrap();
        let kept = whole.split_inclusive(|byte| *byte == b'\n').take(15).map(<[u8]>::len).sum::<usize>();
        fs::write(&path, &whole[..kept]).unwrap();
        let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, Some(noted.clone()));
        writer.append(&origin(), &drafts(20, 1)).unwrap();
        assert!(
            writer.alarms[0].contains("lines up to 21, and the last one here is 15"),
            "{:?}",
            writer.alarms
        );
        match check(directory.path(), None) {
            Err(VerifyError::Missing { last: 15, found: 22, .. }) => {}
            other => panic!("{other:?}"),
        }
        drop(writer);

        // All of it is gone.
        fs::remove_dir_all(directory.path()).unwrap();
        let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, Some(noted.clone()));
        writer.append(&origin(), &drafts(20, 1)).unwrap();
        assert!(writer.alarms[0].contains("none is here"), "{:?}", writer.alarms);
        let report = check(directory.path(), None).unwrap();
        assert_eq!(report.begins, Begins::After(noted.clone()));
        assert_eq!(report.remarks[0].kind, Kind::Damaged);
        drop(writer);

        // It was replaced by another log that is consistent in itself.
        fs::remove_dir_all(directory.path()).unwrap();
        written(directory.path(), 5, 1 << 20);
        let path = paths(directory.path())[0].clone();
        let other = Head { sequence: noted.sequence, hash: Hash::zero() };
        assert!(matches!(check(directory.path(), Some(&other)), Err(VerifyError::Replaced(21))));
        let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, Some(other));
        writer.append(&origin(), &drafts(50, 1)).unwrap();
        assert!(writer.alarms[0].contains("line 21 is not the one"), "{:?}", writer.alarms);
        assert_eq!(check(directory.path(), None).unwrap().remarks[0].kind, Kind::Damaged);
        drop(writer);

        // A line in the middle was changed.
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole.replacen("\"call\":7,", "\"call\":8,", 1)).unwrap();
        let mut writer = Writer::new(directory.path().to_owned(), 1 << 20, None);
        writer.append(&origin(), &drafts(60, 1)).unwrap();
        assert!(writer.alarms[0].contains("line 9: it is not what was written"), "{:?}", writer.alarms);
        assert_eq!(paths(directory.path()).len(), 2, "damaged files stay as they are");
        assert!(matches!(check(directory.path(), None), Err(VerifyError::Line { line: 9, .. })));
    }

    #[test]
    fn changes_to_the_open_file_lose_no_further_line() {
        let directory = TempDir::new().unwrap();
        let place = directory.path().join("audit");
        let mut writer = written(&place, 1, 1 << 20);
        let first = paths(&place)[0].clone();

        // It was moved away: a new file continues the log, with a line about it.
        fs::rename(&first, directory.path().join("taken")).unwrap();
        writer.append(&origin(), &drafts(10, 1)).unwrap();
        assert!(std::mem::take(&mut writer.alarms)[0].contains("removed or replaced"));
        let all = [vec![directory.path().join("taken")], paths(&place)].concat();
        assert_eq!(verify(&all, Some(writer.head())).unwrap().remarks[0].kind, Kind::Damaged);

        // Another program writes to it, or cuts it.
        let second = paths(&place)[0].clone();
        let whole = fs::read(&second).unwrap();
        fs::write(&second, &whole[..whole.len() - 5]).unwrap();
        writer.append(&origin(), &drafts(11, 1)).unwrap();
        assert!(std::mem::take(&mut writer.alarms)[0].contains("something else"));
        fs::write(&second, &whole).unwrap();
        let all = [vec![directory.path().join("taken")], paths(&place)].concat();
        assert_eq!(verify(&all, Some(writer.head())).unwrap().files, 3);

        // Its directory is gone: no line is written until there is one again.
        let before = writer.head().clone();
        fs::rename(&place, directory.path().join("moved")).unwrap();
        fs::write(&place, "in the way").unwrap();
        for _ in 0..3 {
            assert!(matches!(writer.append(&origin(), &drafts(12, 1)), Err(WriteError::Io { .. })));
        }
        assert_eq!(writer.head(), &before);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        writer.append(&origin(), &drafts(12, 1)).unwrap();
        let all =
            [vec![directory.path().join("taken")], paths(&directory.path().join("moved")), paths(&place)];
        assert_eq!(verify(&all.concat(), Some(writer.head())).unwrap().files, 4);
    }

    /// A change to a log that only its node may make.
    #[derive(Debug, Clone)]
    enum Tampering {
        Change { at: usize, with: u8 },
        Remove(usize),
        Repeat(usize),
        Swap(usize, usize),
    }

    fn tampering() -> impl Strategy<Value = Tampering> {
        prop_oneof![
            (any::<usize>(), 1..=255u8).prop_map(|(at, with)| Tampering::Change { at, with }),
            any::<usize>().prop_map(Tampering::Remove),
            any::<usize>().prop_map(Tampering::Repeat),
            (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        ]
    }

    impl Tampering {
        /// Returns whether the very last line is missing, or has no end.
        fn apply(&self, path: &Path, is_last_file: bool) -> bool {
            let mut bytes = fs::read(path).unwrap();
            let length = bytes.len();
            let mut lines: Vec<Vec<u8>> =
                bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let count = lines.len();
            let mut cut = false;
            match self {
                Self::Change { at, with } => {
                    bytes[at % length] ^= with;
                    cut = at % length == length - 1;
                    lines = vec![bytes];
                }
                Self::Remove(i) => {
                    lines.remove(i % count);
                    cut = i % count == count - 1;
                }
                Self::Repeat(i) => {
                    let line = lines[i % count].clone();
                    lines.insert(i % count, line);
                }
                Self::Swap(a, b) => {
                    let (a, b) =
                        (a % count, if a % count == b % count { (b + 1) % count } else { b % count });
                    lines.swap(a, b);
                }
            }
            fs::write(path, lines.concat()).unwrap();
            cut && is_last_file
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn every_changed_removed_repeated_or_moved_line_is_found(
            tampering in tampering(), which in any::<usize>()
        ) {
            let directory = TempDir::new().unwrap();
            let head = written(directory.path(), 6, 64 * 1024).head().clone();
            let all = paths(directory.path());
            prop_assert!(all.len() >= 2);
            prop_assert!(check(directory.path(), Some(&head)).is_ok());
            let which = which % all.len();
            let at_the_end = tampering.apply(&all[which], which + 1 == all.len());
            let with_head = check(directory.path(), Some(&head));
            prop_assert!(with_head.is_err(), "{tampering:?} {with_head:?}");
            // The chain alone shows all but missing lines at the end.
            let alone = check(directory.path(), None);
            prop_assert!(alone.is_err() || at_the_end, "{tampering:?} {alone:?}");
        }
    }

    #[test]
    fn a_file_of_a_later_format_is_not_taken_for_damage() {
        let directory = TempDir::new().unwrap();
        written(directory.path(), 1, 1 << 20);
        let path = paths(directory.path())[0].clone();
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let (body, _) = first.rsplit_once(",\"hash\"").unwrap();
        let body = body.replacen("\"format\":1", "\"format\":2", 1);
        let hash = crate::audit::entry::sha256(body.as_bytes());
        fs::write(&path, format!("{body},\"hash\":\"{hash}\"}}\n")).unwrap();
        let error = check(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(first).unwrap();
        assert_eq!((&fields["kind"], &fields["sequence"]), (&"file".into(), &1.into()));
    }
}
