//! Masking secrets in texts and JSON.
//!
//! Everything that looks like a key hash, a digest or an access key id is masked, wherever it is. Public keys
//! are recognised by the names of their fields.

use std::collections::HashMap;

use serde_json::Value;

/// Fields whose value is public although it looks like a digest.
const PUBLIC: [&str; 2] = ["backup_public_key", "public_key"];

/// Hex digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;
/// Characters of an access key id.
const ACCESS_KEY_CHARACTERS: usize = 28;

/// Numbers the secrets that it masks.
pub(super) struct Redactor(HashMap<String, usize>);

impl Redactor {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Masks the secrets in all strings of a value, names of fields included.
    pub(super) fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                let taken = std::mem::take(fields);
                for (name, mut value) in taken {
                    if !PUBLIC.contains(&name.as_str()) {
                        self.value(&mut value);
                    }
                    fields.insert(self.text(&name), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Masks the secrets in a text. A value whose field is public stays.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut redacted = String::with_capacity(text.len());
        let mut word = String::new();
        let mut name = String::new();
        for c in text.chars().chain(std::iter::once('\n')) {
            if c.is_ascii_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                if PUBLIC.contains(&name.as_str()) || !is_secret(&word) {
                    redacted.push_str(&word);
                } else {
                    redacted.push_str(&self.mask(&word));
                }
                name = std::mem::take(&mut word);
            }
            redacted.push(c);
        }
        redacted.pop();
        redacted
    }

    fn mask(&mut self, word: &str) -> String {
        let next = self.0.len() + 1;
        let number = *self.0.entry(word.to_ascii_lowercase()).or_insert(next);
        format!("[{number}]")
    }
}

fn is_secret(word: &str) -> bool {
    let is_hex = word.len() >= DIGEST_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
    // An access key id begins with its version, 0x4d.
    let is_key = word.len() == ACCESS_KEY_CHARACTERS && word.starts_with('j') && word.bytes().all(base32);
    is_hex || is_key
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_like_a_key_goes_wherever_it_stands() {
        let (one, two) = ("ab".repeat(32), "CD".repeat(32));
        let mut redactor = Redactor::new();
        let mut value = json!({
            "key_hash": one, "differing": [two, one], "note": format!("lost {two}, and {one}!"),
            "backup_public_key": one, "count": 5, "origin": "node-1/9f3c2a10", &two: "as a name",
        });
        redactor.value(&mut value);
        let expected = json!({
            "key_hash": "[1]", "differing": ["[2]", "[1]"], "note": "lost [2], and [1]!",
            "backup_public_key": one, "count": 5, "origin": "node-1/9f3c2a10", "[2]": "as a name",
        });
        let text = value.to_string();
        assert!(!text.contains(&two) && text.matches(&one).count() == 1, "{text}");
        // The numbers depend on the order of the fields; that equal ones are equal does not.
        assert_eq!(value["differing"][1], value["key_hash"]);
        assert_eq!(value["backup_public_key"], expected["backup_public_key"]);
        // Encoded, it stays as it is.
        assert_eq!(redactor.text(&text), text);
        let id = "jqaaaaaaaaaaaaaaaaaaaaaaaaaa";
        assert_eq!((id.len(), redactor.text(&format!("key {id}.")).contains(id)), (28, false));
        assert_eq!(redactor.text("brock_records{node_id=\"a\"} 7\n"), "brock_records{node_id=\"a\"} 7\n");
    }
}
