//! What a line of the audit log says, and its exact bytes.
//!
//! A line is a JSON object whose last field, `hash`, is the SHA-256 of every byte of the line before
//! that field; `previous` is the hash of the line before it. So a line covers all that came before.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use brock_core::base::limits;

/// The format of the files; in the first line of each.
pub const FORMAT: u32 = 1;
const HASH_FIELD: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// What is shown of a request or of an answer, by name.
pub type What = serde_json::Map<String, serde_json::Value>;

/// The hash of a line: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash(String);

impl Hash {
    /// What the first line of all continues.
    pub fn zero() -> Self {
        Self("0".repeat(64))
    }

    /// Reads one.
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

/// What stands for a key hash: its SHA-256. A key hash has 256 bits that nobody can guess, so this
/// leads back to none; but who knows the key finds its entries.
pub fn key_mark(key_hash: &[u8]) -> String {
    sha256(key_hash).to_string()
}

/// One place in the chain: a line's number and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The line's number; 0 = before the first.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Before the first line.
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

/// What kind of thing a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The first line of a file.
    File,
    /// The node began to write here.
    Start,
    /// The node stopped in order.
    Stop,
    /// An operator's call is about to be carried out.
    Intent,
    /// How the call of an intent ended.
    Outcome,
    /// An operator's call that changes nothing, and how it ended.
    Read,
    /// A call that was denied.
    Denied,
    /// Files were dropped because the log had its size.
    Dropped,
    /// What was found at the start is not what was written.
    Damaged,
    /// Bytes of a line that was never finished were cut off.
    Torn,
    /// The log could not be written for a while, or not everything.
    Gap,
}

/// Who made a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// node, client or admin.
    pub role: String,
    /// As the certificate states it; absent in one without a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The trust domain of its URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The certificate's serial number.
    pub serial: String,
    /// The certificate's SHA-256.
    pub certificate: String,
    /// Where the connection came from.
    pub from: String,
}

/// The same again, so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// How many times.
    pub count: u64,
    /// The first of them, milliseconds since the Unix epoch.
    pub first_unix_ms: u64,
    /// The last of them.
    pub last_unix_ms: u64,
}

/// What there is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it tells.
    pub kind: Kind,
    /// Joins an intent to its outcome; counted anew by each life of a process.
    pub call: Option<u64>,
    /// Who called.
    pub who: Option<Who>,
    /// Which call.
    pub method: Option<String>,
    /// How it ended: the name of a gRPC code.
    pub outcome: Option<String>,
    /// What may be shown of it.
    pub what: What,
    /// Stands for several.
    pub more: Option<More>,
}

impl Draft {
    /// A line about the log itself.
    pub fn note(kind: Kind, what: What) -> Self {
        Self { kind, call: None, who: None, method: None, outcome: None, what, more: None }
    }
}

/// A line, as its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// In the first line of a file: its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// Counts the lines, from 1, over all files.
    pub sequence: u64,
    /// The hash of the line before.
    pub previous: String,
    /// When it was written, milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Whose log it is.
    pub node: String,
    /// The incarnation of that node.
    pub incarnation: String,
    /// What it tells.
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

/// Whose lines are written, and when.
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
    /// The line that follows `head`.
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

    /// Its bytes, newline included, and its place in the chain.
    pub fn render(&self) -> Result<(Vec<u8>, Head), String> {
        let mut text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        // The object is closed again behind the hash.
        text.pop();
        let hash = sha256(text.as_bytes());
        let text = format!("{text}{HASH_FIELD}{hash}{END}\n");
        if text.len() > limits::AUDIT_LINE_MAX_BYTES {
            return Err(format!("the line would have {} bytes", text.len()));
        }
        Ok((text.into_bytes(), Head { sequence: self.sequence, hash }))
    }

    /// Reads a line, without its newline. Does not look at what came before.
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
    /// Not even text.
    #[error("it is not text: it was overwritten, or the disk is damaged")]
    NotText,
    /// It does not end as every line does.
    #[error("it does not end with its hash: it was cut, overwritten, or was never a line of an audit log")]
    NoHash,
    /// Something in it was changed.
    #[error("it is not what was written: its hash is that of another line")]
    Changed,
    /// Its hash is right, and it makes no sense.
    #[error("its hash is right, but {0}: it was made by something else than a node, or by a later version")]
    Fields(&'static str),
}

/// What serde says can quote values; this cannot.
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

    /// The bytes are a format: what is on somebody's archive must stay readable.
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
    fn a_line_that_is_none_is_told_apart() {
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
