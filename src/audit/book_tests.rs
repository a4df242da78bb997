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
    Origin { node: "node-1".to_owned(), incarnation: "0000002a".to_owned(), at_unix_ms: 1_777_636_800_123 }
}

fn drafts(from: u64, count: u64) -> Vec<Draft> {
    let draft = |call| Draft {
        call: Some(call),
        method: Some("Invalidate".to_owned()),
        ..Draft::note(Kind::Intent, What::new())
    };
    (from..from + count).map(draft).collect()
}

/// Ten lines in each of a few appends; what does not fit is dropped.
fn written(directory: &Path, appends: u64, max_bytes: u64) -> Book {
    let mut book = Book::new(directory.to_owned(), max_bytes, None);
    for i in 0..appends {
        book.append(&origin(), &drafts(i * 10, 10)).unwrap();
    }
    assert_eq!(book.alarms, [""; 0]);
    book
}

fn check(directory: &Path, noted: Option<&Head>) -> Result<Report, VerifyError> {
    verify(&collect(&[directory.to_owned()]).unwrap(), noted)
}

fn paths(directory: &Path) -> Vec<PathBuf> {
    files::list(directory).unwrap().into_iter().map(|file| file.path).collect()
}

#[test]
fn files_follow_on_each_other_and_the_oldest_go_with_a_word() {
    let directory = TempDir::new().unwrap();
    let place = directory.path().join("audit");
    let book = written(&place, 40, 64 * 1024);
    let report = check(&place, Some(book.head())).unwrap();
    assert_eq!(&report.head, book.head());
    assert!(report.files >= 3, "{report:?}");
    assert!(matches!(&report.begins, Begins::AfterDropped(before) if before.sequence > 50), "{report:?}");
    let bytes: u64 = files::list(&place).unwrap().iter().map(|file| file.bytes).sum();
    assert!(bytes <= 64 * 1024, "{bytes}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    assert!(paths(&place).iter().all(|path| mode(path) == 0o600));

    // Somebody who takes the oldest file away has no such word.
    fs::remove_file(&paths(&place)[0]).unwrap();
    assert!(matches!(check(&place, None).unwrap().begins, Begins::After(_)));
    fs::remove_file(&paths(&place)[1]).unwrap();
    assert!(matches!(check(&place, None), Err(VerifyError::Missing { .. })));
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let directory = TempDir::new().unwrap();
    let head = written(directory.path(), 2, 1 << 20).head().clone();
    let mut book = Book::new(directory.path().to_owned(), 1 << 20, Some(head.clone()));
    book.append(&origin(), &drafts(20, 1)).unwrap();
    assert_eq!(book.head().sequence, head.sequence + 1);
    assert_eq!(book.alarms, [""; 0]);
    let report = check(directory.path(), Some(&head)).unwrap();
    assert_eq!((report.files, report.begins, report.lines), (1, Begins::AtTheFirst, 22));
    assert_eq!((report.unfinished.len(), report.remarks), (21, vec![]));
    let other = Book::new(directory.path().to_owned(), 1 << 20, None).append(&origin(), &drafts(0, 1));
    assert!(matches!(other, Err(BookError::InUse(_))), "two that write would tear the chain");
}

#[test]
fn a_line_that_was_never_finished_is_cut_off_wherever_it_broke_off() {
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
        let mut book = Book::new(directory.path().to_owned(), 1 << 20, None);
        book.append(&origin(), &drafts(9, 1)).unwrap();
        assert_eq!(book.alarms, [""; 0], "a crash is nothing to be alarmed about");
        let report = check(directory.path(), Some(book.head())).unwrap();
        assert_eq!((report.torn_bytes, report.lines), (0, 12));
        assert_eq!(report.remarks[0].kind, Kind::Torn);
    }
    // Not even the first line of a new file was finished.
    fs::write(&path, &whole).unwrap();
    let next = files::path_of(directory.path(), 2);
    fs::write(&next, &whole[..20]).unwrap();
    let mut book = Book::new(directory.path().to_owned(), 1 << 20, None);
    book.append(&origin(), &drafts(10, 1)).unwrap();
    assert_eq!(check(directory.path(), Some(book.head())).unwrap().files, 1);
    assert_eq!(book.alarms, [""; 0]);
}

#[test]
fn what_a_write_that_failed_left_behind_goes_and_what_somebody_else_did_meanwhile_is_noticed() {
    let half = b"{\"sequence\":";
    type Meddle = fn(&Path, &[u8]);
    let nobody: Meddle = |_, _| {};
    let cut: Meddle = |path, whole| {
        OpenOptions::new().write(true).open(path).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    };
    let replaced: Meddle = |path, whole| {
        fs::remove_file(path).unwrap();
        fs::write(path, whole).unwrap();
    };
    for (meddle, is_noticed, is_whole) in [(nobody, false, true), (cut, true, false), (replaced, true, true)]
    {
        let directory = TempDir::new().unwrap();
        let mut book = written(directory.path(), 2, 1 << 20);
        let path = paths(directory.path())[0].clone();
        let whole = fs::read(&path).unwrap();
        let Place::Open { torn, file, .. } = &mut book.place else { panic!("no file is open") };
        *torn = true;
        file.write_all(half).unwrap();
        meddle(&path, &whole);
        book.append(&origin(), &drafts(9, 1)).unwrap();
        assert_eq!(book.alarms.len(), usize::from(is_noticed), "{:?}", book.alarms);
        let seen = check(directory.path(), Some(book.head()));
        // A log that was cut is not whole, and says so; nothing is put in the place of what is gone.
        assert_eq!(seen.is_ok(), is_whole, "{seen:?}");
        assert!(paths(directory.path()).iter().all(|path| !fs::read(path).unwrap().contains(&0)));
    }
}

#[test]
fn lines_that_were_cut_off_while_the_node_was_down_are_noticed_and_never_papered_over() {
    let directory = TempDir::new().unwrap();
    let noted = written(directory.path(), 2, 1 << 20).head().clone();
    let path = paths(directory.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let kept = whole.split_inclusive(|byte| *byte == b'\n').take(15).map(<[u8]>::len).sum::<usize>();
    fs::write(&path, &whole[..kept]).unwrap();
    let mut book = Book::new(directory.path().to_owned(), 1 << 20, Some(noted.clone()));
    book.append(&origin(), &drafts(20, 1)).unwrap();
    assert!(book.alarms[0].contains("lines up to 21, and the last one here is 15"), "{:?}", book.alarms);
    match check(directory.path(), None) {
        Err(VerifyError::Missing { last: 15, found: 22, .. }) => {}
        other => panic!("{other:?}"),
    }
    drop(book);

    // All of it is gone.
    fs::remove_dir_all(directory.path()).unwrap();
    let mut book = Book::new(directory.path().to_owned(), 1 << 20, Some(noted.clone()));
    book.append(&origin(), &drafts(20, 1)).unwrap();
    assert!(book.alarms[0].contains("none is here"), "{:?}", book.alarms);
    let report = check(directory.path(), None).unwrap();
    assert_eq!(report.begins, Begins::After(noted.clone()));
    assert_eq!(report.remarks[0].kind, Kind::Damaged);
    drop(book);

    // Another log lies there, whole in itself.
    fs::remove_dir_all(directory.path()).unwrap();
    written(directory.path(), 5, 1 << 20);
    let path = paths(directory.path())[0].clone();
    let other = Head { sequence: noted.sequence, hash: Hash::zero() };
    assert!(matches!(check(directory.path(), Some(&other)), Err(VerifyError::Replaced(21))));
    let mut book = Book::new(directory.path().to_owned(), 1 << 20, Some(other));
    book.append(&origin(), &drafts(50, 1)).unwrap();
    assert!(book.alarms[0].contains("line 21 is not the one"), "{:?}", book.alarms);
    assert_eq!(check(directory.path(), None).unwrap().remarks[0].kind, Kind::Damaged);
    drop(book);

    // A line in the middle is not what it was.
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("\"call\":7,", "\"call\":8,", 1)).unwrap();
    let mut book = Book::new(directory.path().to_owned(), 1 << 20, None);
    book.append(&origin(), &drafts(60, 1)).unwrap();
    assert!(book.alarms[0].contains("line 9: it is not what was written"), "{:?}", book.alarms);
    assert_eq!(paths(directory.path()).len(), 2, "what is damaged stays as it is");
    assert!(matches!(check(directory.path(), None), Err(VerifyError::Line { line: 9, .. })));
}

#[test]
fn what_happens_to_the_file_while_it_is_written_takes_no_line_with_it() {
    let directory = TempDir::new().unwrap();
    let place = directory.path().join("audit");
    let mut book = written(&place, 1, 1 << 20);
    let first = paths(&place)[0].clone();

    // Moved away: a new file goes on, and says so.
    fs::rename(&first, directory.path().join("taken")).unwrap();
    book.append(&origin(), &drafts(10, 1)).unwrap();
    assert!(std::mem::take(&mut book.alarms)[0].contains("removed or replaced"));
    let all = [vec![directory.path().join("taken")], paths(&place)].concat();
    assert_eq!(verify(&all, Some(book.head())).unwrap().remarks[0].kind, Kind::Damaged);

    // Somebody else writes to it, or cuts it.
    let second = paths(&place)[0].clone();
    let whole = fs::read(&second).unwrap();
    fs::write(&second, &whole[..whole.len() - 5]).unwrap();
    book.append(&origin(), &drafts(11, 1)).unwrap();
    assert!(std::mem::take(&mut book.alarms)[0].contains("something else"));
    fs::write(&second, &whole).unwrap();
    let all = [vec![directory.path().join("taken")], paths(&place)].concat();
    assert_eq!(verify(&all, Some(book.head())).unwrap().files, 3);

    // Its directory is gone: nothing is written until there is one again.
    let before = book.head().clone();
    fs::rename(&place, directory.path().join("moved")).unwrap();
    fs::write(&place, "in the way").unwrap();
    for _ in 0..3 {
        assert!(matches!(book.append(&origin(), &drafts(12, 1)), Err(BookError::Io { .. })));
    }
    assert_eq!(book.head(), &before);
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    book.append(&origin(), &drafts(12, 1)).unwrap();
    let all = [vec![directory.path().join("taken")], paths(&directory.path().join("moved")), paths(&place)];
    assert_eq!(verify(&all.concat(), Some(book.head())).unwrap().files, 4);
}

/// Something that nobody but the node may do to a log.
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
    /// Returns whether it was the very last line that is missing or without an end.
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
                let (a, b) = (a % count, if a % count == b % count { (b + 1) % count } else { b % count });
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
    fn whatever_is_changed_removed_repeated_or_moved_is_found(
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
        // The chain alone shows everything but what is missing at the end.
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
    let told = check(directory.path(), None).unwrap_err().to_string();
    assert!(told.contains("format 2"), "{told}");
    let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(first).unwrap();
    assert_eq!((&fields["kind"], &fields["sequence"]), (&"file".into(), &1.into()));
}
