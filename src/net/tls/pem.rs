//! PEM, read strictly: every block of a file counts, or the file is refused with the line and the reason.
//!
//! The PEM reader of rustls skips what it does not recognise: a block that begins on the line on which another
//! one ends, one behind a byte order mark, one of another kind. A CA or a revocation list would then be
//! missing, and no message would say so.

use std::path::Path;

use super::TlsError;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The part of an unexpected label that a message shows.
const SHOWN_LABEL_CHARS: usize = 40;

/// Refuses a file in which a block would not count: one with a malformed marker, one without an end, one whose
/// label is not among `labels`.
pub(super) fn check(path: &Path, bytes: &[u8], labels: &[&str]) -> Result<(), TlsError> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Err(no_text(path, bytes)) };
    if text.contains('\0') {
        return Err(no_text(path, bytes));
    }
    let mut open: Option<(usize, &[u8])> = None;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let refused = |problem: String| TlsError::Pem { path: path.to_owned(), line: number, problem };
        if !is_like_a_marker(line) {
            continue;
        }
        if line.starts_with(BYTE_ORDER_MARK) {
            return Err(refused("it begins with a byte order mark: save the file without one".to_owned()));
        }
        match (Marker::of(line), open) {
            (Some(Marker::Begin(label)), None) => {
                if !labels.iter().any(|allowed| allowed.as_bytes() == label) {
                    if label.ends_with(b"PRIVATE KEY") {
                        return Err(refused(format!(
                            "a block of the kind {} does not belong in this file: it is a key. Name the file of the \
                             certificate (.crt), or move the key to a file of its own (.key)",
                            shown(label)
                        )));
                    }
                    return Err(refused(format!(
                        "a block of the kind {} does not belong in this file, and would be ignored: remove it, or \
                         store it in a file of its own",
                        shown(label)
                    )));
                }
                open = Some((number, label));
            }
            (Some(Marker::End(label)), Some((_, begun))) if label == begun => open = None,
            (Some(Marker::End(_)), Some((begun, _))) => {
                return Err(refused(format!("the block that begins in line {begun} ends as another kind")));
            }
            (Some(Marker::End(_)), None) => {
                return Err(refused("a block ends that has not begun".to_owned()));
            }
            (Some(Marker::Begin(_)), Some((begun, _))) => {
                return Err(refused(format!("the block that begins in line {begun} has no end")));
            }
            (None, _) => {
                return Err(refused(
                    "`-----BEGIN …-----` and `-----END …-----` must each stand on a line of their own"
                        .to_owned(),
                ));
            }
        }
    }
    match open {
        None => Ok(()),
        Some((line, _)) => {
            let problem =
                "the block that begins here has no end: the file was not copied completely".to_owned();
            Err(TlsError::Pem { path: path.to_owned(), line, problem })
        }
    }
}

/// Whether a line is, or is probably meant as, the beginning or the end of a block: with other dashes, or fewer of
/// them, or in small letters, a block would be taken for text between blocks.
fn is_like_a_marker(line: &[u8]) -> bool {
    if [&b"-----BEGIN"[..], b"-----END"].iter().any(|marker| has(line, marker)) {
        return true;
    }
    let line = String::from_utf8_lossy(line).trim().to_uppercase();
    let is_dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let after = line.trim_start_matches(|c| is_dash(c) || c == '\u{feff}');
    after.len() < line.len()
        && (after.trim_start().starts_with("BEGIN ") || after.trim_start().starts_with("END "))
}

fn no_text(path: &Path, bytes: &[u8]) -> TlsError {
    let is_text = |line: &&[u8]| std::str::from_utf8(line).is_ok() && !line.contains(&0);
    let line = 1 + bytes.split(|byte| *byte == b'\n').take_while(is_text).count();
    let problem =
        "it has bytes that are no text (UTF-16, or a binary file): save it as PEM in UTF-8".to_owned();
    TlsError::Pem { path: path.to_owned(), line, problem }
}

/// Whether a block of one of these labels begins in the file.
pub(super) fn begins(bytes: &[u8], labels: &[&str]) -> bool {
    let is_one = |label: &[u8]| labels.iter().any(|wanted| wanted.as_bytes() == label);
    bytes
        .split(|byte| *byte == b'\n')
        .any(|line| matches!(Marker::of(line), Some(Marker::Begin(label)) if is_one(label)))
}

/// Whether a key needs a passphrase: PKCS#8 says so in its label, the traditional formats in a header.
pub(super) fn is_encrypted(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let is_label = matches!(Marker::of(line), Some(Marker::Begin(b"ENCRYPTED PRIVATE KEY")));
        is_label || line.trim_ascii_end() == b"Proc-Type: 4,ENCRYPTED"
    })
}

/// A line that begins or ends a block, with the block's label.
enum Marker<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
}

impl<'a> Marker<'a> {
    /// `None`: the line is not a marker and nothing else.
    fn of(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii_end();
        let inner = line.strip_suffix(b"-----").filter(|inner| inner.len() > 5)?;
        if has(&inner[5..], b"-----") {
            return None;
        }
        let begin = inner.strip_prefix(b"-----BEGIN ").map(Self::Begin);
        begin.or_else(|| inner.strip_prefix(b"-----END ").map(Self::End))
    }
}

fn has(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// A label, for a message.
fn shown(label: &[u8]) -> String {
    let label: String = String::from_utf8_lossy(label).chars().take(SHOWN_LABEL_CHARS).collect();
    format!("{label:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<(usize, String)> {
        match check(Path::new("ca.crt"), text.as_bytes(), &["CERTIFICATE"]) {
            Ok(()) => None,
            Err(TlsError::Pem { line, problem, .. }) => Some((line, problem)),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn blocks_with_text_around_them_pass() {
        let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        for text in [
            String::new(),
            "no block at all\n-----\n".to_owned(),
            block.to_owned(),
            format!("- Front-End Systems\nBegin of the list, end of the text\n{block}\n"),
            format!("subject=CN = a\r\n{}\r\n\r\n{block}  \n", block.replace('\n', "\r\n")),
        ] {
            assert_eq!(problem(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_block_that_would_not_count_is_refused_with_its_line() {
        let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        for (text, line, part) in [
            (format!("{block}{block}\n"), 3, "on a line of their own"),
            (format!("\u{feff}{block}\n"), 1, "byte order mark"),
            (format!("  {block}\n"), 1, "on a line of their own"),
            (format!("{block} # the new one\n"), 3, "on a line of their own"),
            (block.replace("-----END CERTIFICATE-----", ""), 1, "has no end"),
            (block.replace("-----BEGIN CERTIFICATE-----", ""), 3, "has not begun"),
            (block.replace("END CERTIFICATE", "END X509 CRL"), 3, "ends as another kind"),
            (format!("-----BEGIN CERTIFICATE-----\nAAAA\n{block}\n"), 3, "begins in line 1 has no end"),
            (block.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), 1, "the kind \"TRUSTED CERTIFICATE\""),
            (format!("{block}\n{}", block.replace("CERTIFICATE", "PRIVATE KEY")), 4, "\"PRIVATE KEY\""),
            (block.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE----"), 1, "of their own"),
            (format!("{block}\n{}", block.replace("-----", "----")), 4, "of their own"),
            (format!("{block}\n{}", block.replace("-----", "\u{2013}\u{2013}")), 4, "of their own"),
            (format!("{block}\n{}", block.to_lowercase()), 4, "of their own"),
            (format!("{block}\n\0B\0E\0G\0I\0N"), 4, "no text"),
        ] {
            let (found, problem) = problem(&text).unwrap_or_else(|| panic!("{text:?} passes"));
            assert_eq!(found, line, "{text:?}: {problem}");
            assert!(problem.contains(part), "{text:?}: {problem}");
        }
    }
}
