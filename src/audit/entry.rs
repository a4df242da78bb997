//! The fields of a line of the audit log, and its exact bytes.
//!
//! A line is a JSON object. Its last field, `hash`, is the SHA-256 of all bytes of the line before that
//! field. Its field `previous` is the hash of the previous line. So each hash covers all earlier lines.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use brock_core::base::limits;

/// The format of the files, in the first line of each.
pub const FORMAT: u32 = 1;
const HASH_FIELD: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// The logged fields of a request or an answer.
pub type What = serde_json::Map<String, serde_json::Value>;

/// The hash of a line: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash(String);

impl Hash {
    /// The hash before the first line.
    pub fn zero() -> Self {
        Self("0".repeat(64))
    }

    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(HEXLOWER.encode(digest(&SHA256, bytes).as_ref()))
}

/// The mark that replaces a key hash in the log: its SHA-256. A key hash has 256 random bits, so the mark does
/// not reveal it; but a reader who knows the key finds its lines.
pub fn key_mark(key_hash: &[u8]) -> String {
    sha256(key_hash).to_string()
}

/// A position in the chain: the number of a line and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The line's number; 0 = before the first.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// The head before the first line.
    pub fn beginning() -> Self {
        Self { sequence: 0, hash: Hash::zero() }
    }

    /// Reads `SEQUENCE:HASH`.
    pub fn parse(text: &str) -> Option<Self> {
        let (sequence, hash) = text.split_once(':')?;
        Some(Self { sequence: sequence.parse().ok()?, hash: Hash::parse(hash)? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// The kinds of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The first line of a file.
    File,
    /// The node has started.
    Start,
    /// The node has stopped in order.
    Stop,
    /// An operator's call, before it is carried out.
    Intent,
    /// The result of the call of an intent.
    Outcome,
    /// An operator's call that changes nothing, and its result.
    Read,
    /// A denied call.
    Denied,
    /// Old files were deleted because the log had reached its maximum size.
    Dropped,
    /// At the start, the log was not as the node had written it.
    Damaged,
    /// The bytes of an unfinished line were removed.
    Torn,
    /// Lines are missing because the log could not be written.
    Gap,
}

/// The caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// node, client or admin.
    pub role: String,
    /// The name in the certificate's URI; absent without a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The trust domain in that URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The certificate's serial number.
    pub serial: String,
    /// The certificate's SHA-256.
    pub certificate: String,
    /// The address of the connection.
    pub from: String,
}

/// The number of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// How many.
    pub count: u64,
    /// When the first was, milliseconds since the Unix epoch.
    pub first_unix_ms: u64,
    /// When the last was.
    pub last_unix_ms: u64,
}

/// A line before it has its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its kind.
    pub kind: Kind,
    /// Joins an intent to its outcome; each process counts from 1.
    pub call: Option<u64>,
    /// The caller.
    pub who: Option<Who>,
    /// The method.
    pub method: Option<String>,
    /// The result: the name of a gRPC code.
    pub outcome: Option<String>,
    /// Fields of the request or the answer.
    pub what: What,
    /// Of a line for several events: how many.
    pub more: Option<More>,
}

impl Draft {
    /// A line about the log itself.
    pub fn note(kind: Kind, what: What) -> Self {
        Self { kind, call: None, who: None, method: None, outcome: None, what, more: None }
    }
}

/// The fields of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The format; only in the first line of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// The number of the line, from 1, over all files.
    pub sequence: u64,
    /// The hash of the previous line.
    pub previous: String,
    /// When it was written, milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The node that wrote it.
    pub node: String,
    /// The incarnation of that node.
    pub incarnation: String,
    /// Its kind.
    pub kind: Kind,
    /// See [`Draft`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// See [`Draft`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// See [`Draft`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// See [`Draft`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// See [`Draft`].
    #[serde(default, skip_serializing_if = "What::is_empty")]
    pub what: What,
    /// See [`Draft`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<More>,
}

/// The writing node, and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The node id.
    pub node: String,
    /// Its incarnation.
    pub incarnation: String,
    /// Milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
}

impl Line {
    /// The line after `head`.
    pub fn after(head: &Head, origin: &Origin, draft: Draft) -> Self {
        let Draft { kind, call, who, method, outcome, what, more } = draft;
        Self {
            format: (kind == Kind::File).then_some(FORMAT),
            sequence: head.sequence.saturating_add(1),
            previous: head.hash.to_string(),
            at_unix_ms: origin.at_unix_ms,
            node: origin.node.clone(),
            incarnation: origin.incarnation.clone(),
            kind,
            call,
            who,
            method,
            outcome,
            what,
            more,
        }
    }

    /// Its bytes, newline included, and the head after it.
    pub fn render(&self) -> Result<(Vec<u8>, Head), String> {
        let mut text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        // The object is closed again after the hash.
        text.pop();
        let hash = sha256(text.as_bytes());
        let text = format!("{text}{HASH_FIELD}{hash}{END}\n");
        if text.len() > limits::AUDIT_LINE_MAX_BYTES {
            return Err(format!("the line would have {} bytes", text.len()));
        }
        Ok((text.into_bytes(), Head { sequence: self.sequence, hash }))
    }

    /// Reads a line without its newline, and checks its hash. Does not check `previous`.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Head), Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotText)?;
        let (body, rest) = text.rsplit_once(HASH_FIELD).ok_or(Malformed::NoHash)?;
        let stated = rest.strip_suffix(END).and_then(Hash::parse).ok_or(Malformed::NoHash)?;
        if sha256(body.as_bytes()) != stated {
            return Err(Malformed::Changed);
        }
        let line: Self = serde_json::from_str(&format!("{body}}}"))
            .map_err(|error| Malformed::Fields(error.classify_in_words()))?;
        let head = Head { sequence: line.sequence, hash: stated };
        Ok((line, head))
    }
}

/// Why bytes are not a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are not text.
    #[error("it is not text: it was overwritten, or the disk is damaged")]
    NotText,
    /// They do not end with a hash.
    #[error("it does not end with its hash: it was cut, overwritten, or was never a line of an audit log")]
    NoHash,
    /// The hash does not match.
    #[error("it is not what was written: its hash is that of another line")]
    Changed,
    /// The hash matches, but the fields are not those of a line.
    #[error("its hash is right, but {0}: another program or a later version wrote it")]
    Fields(&'static str),
}

/// Unlike the messages of serde, these never quote values.
trait InWords {
    fn classify_in_words(&self) -> &'static str;
}

impl InWords for serde_json::Error {
    fn classify_in_words(&self) -> &'static str {
        match self.classify() {
            serde_json::error::Category::Data => "fields are missing or have other types",
            _ => "it is not JSON",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            node: "node-1".to_owned(),
            incarnation: "0000002a".to_owned(),
            at_unix_ms: 1_777_636_800_123,
        }
    }

    /// The bytes are a format: archived files must stay readable.
    #[test]
    fn a_line_is_these_bytes() {
        let mut what = What::new();
        what.insert("reason".to_owned(), "leaked \"it\"\n".into());
        let who = Who {
            role: "admin".to_owned(),
            name: Some("ops".to_owned()),
            domain: Some("brock".to_owned()),
            serial: "01:a2".to_owned(),
            certificate: "ab".repeat(32),
            from: "127.0.0.1:4711".to_owned(),
        };
        let draft = Draft {
            call: Some(7),
            who: Some(who),
            method: Some("Invalidate".to_owned()),
            ..Draft::note(Kind::Intent, what)
        };
        let line = Line::after(&Head::beginning(), &origin(), draft);
        let (bytes, head) = line.render().unwrap();
        let expected = format!(
            r#"{{"sequence":1,"previous":"{}","at_unix_ms":1777636800123,"node":"node-1","incarnation":"0000002a","kind":"intent","call":7,"who":{{"role":"admin","name":"ops","domain":"brock","serial":"01:a2","certificate":"{}","from":"127.0.0.1:4711"}},"method":"Invalidate","what":{{"reason":"leaked \"it\"\n"}}"#,
            "0".repeat(64),
            "ab".repeat(32)
        );
        let hash = sha256(expected.as_bytes());
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), format!("{expected},\"hash\":\"{hash}\"}}\n"));
        assert_eq!(head, Head { sequence: 1, hash });
        assert_eq!(Line::parse(&bytes[..bytes.len() - 1]), Ok((line, head.clone())));
        assert_eq!(Head::parse(&head.to_string()), Some(head));
        for text in
            ["", "1", "1:", "x:00", &format!("1:{}", "G".repeat(64)), &format!("1:{}", "a".repeat(63))]
        {
            assert_eq!(Head::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_a_line_are_recognised() {
        assert_eq!(Line::parse(b"\xff"), Err(Malformed::NotText));
        assert_eq!(Line::parse(b"{}"), Err(Malformed::NoHash));
        let (bytes, _) = Line::after(&Head::beginning(), &origin(), Draft::note(Kind::Stop, What::new()))
            .render()
            .unwrap();
        let changed = String::from_utf8(bytes).unwrap().replace("node-1", "node-2");
        assert_eq!(Line::parse(changed.trim_end().as_bytes()), Err(Malformed::Changed));
        let foreign = "{\"a\":1";
        let foreign = format!("{foreign}{HASH_FIELD}{}{END}", sha256(foreign.as_bytes()));
        assert!(matches!(Line::parse(foreign.as_bytes()), Err(Malformed::Fields(_))));
    }
}
