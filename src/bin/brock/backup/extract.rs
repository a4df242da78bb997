//! Prints single records of a backup.

use std::str::FromStr;

use crate::out;
use anyhow::bail;
use brock::backup::extract::Extracted;
use brock_core::{base::id::KeyHash, domain::record::RecordState, proto};
use data_encoding::{BASE64, HEXLOWER};
use prost::Message;
use serde::Serialize;

/// The records to print.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// This record, completely.
    One(KeyHash),
    /// The records whose key hash begins with these hex digits.
    Begins(String),
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('*') {
            Some(digits) if digits.len() <= 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Self::Begins(digits.to_ascii_lowercase()))
            }
            Some(_) => Err("write hex digits of a key hash, or nothing, before the '*'".to_owned()),
            None => {
                text.parse().map(Self::One).map_err(|error: brock_core::base::id::IdError| error.to_string())
            }
        }
    }
}

impl Pattern {
    pub(super) fn matches(&self, key_hash: &KeyHash) -> bool {
        match self {
            Self::One(one) => one == key_hash,
            Self::Begins(digits) => key_hash.to_hex().starts_with(digits.as_str()),
        }
    }
}

/// The printed form of a record; the names are those of `node-admin record show`.
#[derive(Debug, Default, Serialize)]
struct Shown {
    key_hash: String,
    state: &'static str,
    created_at_unix: i64,
    public: bool,
    expires_at_unix: i64,
    invalidation_reason: String,
    invalidated_at_unix: i64,
    #[serde(flatten)]
    payload: Option<Payload>,
}

/// Absent if records are only listed, or if the record has no payload any more.
#[derive(Debug, Serialize)]
struct Payload {
    satellite_address: String,
    macaroon_head: String,
    public_project_id: String,
    encrypted_secret_key: String,
    encrypted_access_grant: String,
}

/// Prints a line for each record. Fails if there is no record for one of the patterns.
pub(super) fn print(patterns: &[Pattern], found: &Extracted, backup: &str) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for (key_hash, state) in found {
        let is_named = patterns.iter().any(|pattern| matches!(pattern, Pattern::One(one) if one == key_hash));
        serde_json::to_writer(&mut text, &shown(key_hash, state, is_named)?)?;
        text.push(b'\n');
    }
    out::print(&text)?;
    let missing = patterns.iter().filter(|pattern| !found.keys().any(|key_hash| pattern.matches(key_hash)));
    match missing.count() {
        0 => Ok(()),
        count => bail!("{backup} has no record for {count} of the requested keys"),
    }
}

fn shown(key_hash: &KeyHash, state: &RecordState, with_payload: bool) -> anyhow::Result<Shown> {
    let key_hash = key_hash.to_hex();
    let name = |state: proto::record::State| state.as_str_name();
    if state.deletion.is_some() {
        return Ok(Shown { key_hash, state: name(proto::record::State::Deleted), ..Shown::default() });
    }
    let payload = state.creation.as_ref().and_then(|creation| creation.payload.clone());
    let payload = match payload.filter(|_| with_payload) {
        None => None,
        Some(bytes) => {
            let proto::Payload {
                satellite_address,
                macaroon_head,
                encrypted_secret_key,
                encrypted_access_grant,
                public_project_id,
            } = proto::Payload::decode(bytes)?;
            Some(Payload {
                satellite_address,
                macaroon_head: HEXLOWER.encode(&macaroon_head),
                public_project_id: HEXLOWER.encode(&public_project_id),
                encrypted_secret_key: BASE64.encode(&encrypted_secret_key),
                encrypted_access_grant: BASE64.encode(&encrypted_access_grant),
            })
        }
    };
    let (invalidation_reason, invalidated_at_unix, kind) = match &state.invalidation {
        Some(invalidation) => {
            (invalidation.reason.clone(), invalidation.at, proto::record::State::Invalidated)
        }
        None => (String::new(), 0, proto::record::State::Created),
    };
    Ok(Shown {
        key_hash,
        state: name(kind),
        created_at_unix: state.creation.as_ref().map_or(0, |creation| creation.created_at),
        public: !state.unpublished,
        expires_at_unix: state.expires_at.unwrap_or(0),
        invalidation_reason,
        invalidated_at_unix,
        payload,
    })
}
