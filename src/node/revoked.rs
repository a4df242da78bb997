//! Whether the revocation lists name fewer certificates of a CA than they have named before: the list of the next CA
//! may have taken the place of its file, and what it had revoked would be valid again.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    runtime::alarms::{Alarms, Source},
    store::{Store, StoreError},
};
use brock_core::{base::limits, domain::codec::CodecError};
use brock_net::tls::revocation::Authority;

/// The name under which the store keeps the counts.
const NOTE: &[u8] = b"revoked";

/// How many certificates each CA had revoked when the lists were last read, also before the node's last start.
pub(super) struct Revoked {
    store: Store,
    alarms: Alarms,
    /// By the CA's key; `None`: not read yet.
    counts: Option<BTreeMap<String, u64>>,
}

impl Revoked {
    pub(super) fn new(store: Store, alarms: Alarms) -> Self {
        Self { store, alarms, counts: None }
    }

    /// Raises an alarm for each CA of which fewer certificates are revoked than before.
    ///
    /// Contract: what is kept follows the alarm, so a crash repeats it. A CA that is in the directory no more, or not
    /// yet, keeps its count: its certificates are not accepted meanwhile.
    pub(super) async fn compare(&mut self, authorities: &[Authority]) -> Result<(), StoreError> {
        let before = match self.counts.take() {
            Some(counts) => counts,
            None => decode(&self.store.note(NOTE).await?.unwrap_or_default())?,
        };
        let mut now = before.clone();
        for Authority { key, name, revoked, .. } in authorities {
            match before.get(key) {
                Some(known) if revoked < known => self.alarm(key, name, (*known, *revoked)),
                _ => {}
            }
            now.insert(key.clone(), *revoked);
        }
        if now.len() > limits::AUTHORITIES_REMEMBERED {
            now.retain(|key, _| authorities.iter().any(|authority| authority.key == *key));
        }
        if now != before {
            self.store.keep_note(NOTE, encode(&now)).await?;
        }
        self.counts = Some(now);
        Ok(())
    }

    fn alarm(&self, key: &str, name: &str, (before, now): (u64, u64)) {
        let text = format!(
            "the revocation lists named {before} certificates of {name}, and name {now} now: the others are accepted again, \
             and what they have signed is believed. If the list of another CA has taken the place of its file, put it \
             back beside that one, as ca-history.crl: docs/guides/certificates.md, Replace the CA. If this CA has left out \
             what has expired, clear this alarm"
        );
        self.alarms.raise_of(Source::Here, &format!("revoked {key}"), text);
    }
}

/// A line for each CA.
fn encode(counts: &BTreeMap<String, u64>) -> Vec<u8> {
    let mut text = String::new();
    for (key, count) in counts {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key} {count}");
    }
    text.into_bytes()
}

fn decode(note: &[u8]) -> Result<BTreeMap<String, u64>, StoreError> {
    const DAMAGED: CodecError = CodecError::Malformed("counts of revoked certificates");
    let text = std::str::from_utf8(note).map_err(|_| DAMAGED)?;
    let count = |line: &str| {
        let (key, count) = line.split_once(' ').ok_or(DAMAGED)?;
        Ok((key.to_owned(), count.parse().map_err(|_| DAMAGED)?))
    };
    text.lines().map(count).collect::<Result<_, CodecError>>().map_err(StoreError::from)
}
