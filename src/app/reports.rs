//! Reads what a peer reports of itself. It is a peer's word: bounded, about that peer only, and without characters
//! that would do something on a terminal.

use brock_core::{
    base::{
        id::{IdError, NodeId, Origin},
        limits,
        vector::Vector,
    },
    domain::codec::{self, CodecError},
    proto::{ReportResponse, StatusResponse},
};

/// Why a report is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReportError {
    /// It has no status.
    #[error("it has no status")]
    Empty,
    /// The node id is malformed.
    #[error("its node id is malformed: {0}")]
    NodeId(#[from] IdError),
    /// The report is in another node's name.
    #[error("it is in the name of {said}, and the peer is {known}")]
    Name {
        /// The name in the report.
        said: NodeId,
        /// The name that the peer has.
        known: String,
    },
    /// A list is longer than any node makes it.
    #[error("it lists {count} {what}, more than {max}")]
    Items {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there can be.
        max: usize,
    },
    /// A number that cannot be.
    #[error("it says that {0}, which cannot be")]
    Number(&'static str),
    /// Clocks that are malformed.
    #[error("its clocks are malformed: {0}")]
    Clocks(#[from] CodecError),
}

/// The status and the vector in a report of the peer that is known as `known`, an address until it has answered.
/// `taken`: the names of all other nodes.
pub(super) fn read(
    report: ReportResponse,
    known: &str,
    taken: &[String],
) -> Result<(StatusResponse, Vector), ReportError> {
    let mut status = report.status.ok_or(ReportError::Empty)?;
    let said: NodeId = status.node_id.parse()?;
    let is_named = known.parse::<NodeId>().is_ok();
    if (is_named && said.as_str() != known) || taken.iter().any(|other| other == said.as_str()) {
        return Err(ReportError::Name { said, known: known.to_owned() });
    }
    check_sizes(&status)?;
    let applied = codec::vector_from_proto(&report.applied.unwrap_or_default())?;
    for stamp in status.clocks.iter().chain(status.peers.iter().flat_map(|peer| &peer.unsent)) {
        codec::stamp_from_proto(stamp).map_err(|_| CodecError::Malformed("stamp"))?;
    }
    let trust = status.trust.iter();
    let forks = trust.clone().flat_map(|trust| &trust.forks).map(|fork| &fork.origin);
    let heads = trust.flat_map(|trust| &trust.heads).map(|head| &head.origin);
    if forks.chain(heads).any(|origin| Origin::try_from(origin.as_ref()).is_err()) {
        return Err(CodecError::Malformed("origin").into());
    }
    for paused in &status.paused {
        if !paused.origin.is_empty() && Origin::try_from(paused.origin.as_ref()).is_err() {
            return Err(CodecError::Malformed("origin").into());
        }
    }
    clean(&mut status);
    Ok((status, applied))
}

fn check_sizes(status: &StatusResponse) -> Result<(), ReportError> {
    let most = |items: &[usize]| items.iter().copied().max().unwrap_or_default();
    let rounds: Vec<_> = status.peers.iter().map(|peer| peer.recent_rounds.len()).collect();
    let unsent: Vec<_> = status.peers.iter().map(|peer| peer.unsent.len()).collect();
    let processes: Vec<_> = status.duplicate_ids.iter().map(|id| id.processes.len()).collect();
    let processes_of = status.duplicate_ids.iter().flat_map(|id| &id.processes);
    let places: Vec<_> = processes_of.map(|process| process.places.len()).collect();
    let trust = status.trust.clone().unwrap_or_default();
    let withholding: Vec<_> = trust.heads.iter().map(|head| head.withheld_by.len()).collect();
    for (what, count, max) in [
        ("forks", trust.forks.len(), limits::FORKS_MAX),
        ("fills", trust.unconfirmed_fills.len(), limits::FILLS_MAX),
        ("heads", trust.heads.len(), limits::HEADS_SHOWN),
        ("peers that withhold a log", most(&withholding), limits::REPORT_ITEMS),
        ("clocks", status.clocks.len(), limits::VECTOR_MAX_ORIGINS),
        ("samples", status.history.len(), limits::SAMPLES),
        ("peers", status.peers.len(), limits::REPORT_ITEMS),
        ("rounds of a peer", most(&rounds), limits::RECENT_ROUNDS),
        ("claims of a peer", most(&unsent), limits::UNSENT_SHOWN),
        ("tasks", status.tasks.len(), limits::REPORT_ITEMS),
        ("alarms", status.alarms.len(), limits::REPORT_ITEMS),
        ("certificates", status.certificates.len(), limits::REPORT_ITEMS),
        ("CAs", status.authorities.len(), limits::REPORT_ITEMS),
        ("paused logs", status.paused.len(), limits::REPORT_ITEMS),
        ("duplicate node ids", status.duplicate_ids.len(), limits::REPORT_ITEMS),
        ("processes of a node id", most(&processes), limits::INCARNATIONS_WATCHED),
        ("places of a process", most(&places), limits::INCARNATION_PLACES),
    ] {
        if count > max {
            return Err(ReportError::Items { what, count, max });
        }
    }
    // Each node compares itself with the one that knows of most.
    match status.authorities.iter().any(|authority| authority.revoked > limits::REPORT_REVOKED) {
        true => Err(ReportError::Number("it knows of more revoked certificates than its files can hold")),
        false => Ok(()),
    }
}

/// Cuts long texts, and replaces control characters. Also for this node's own status: it quotes errors of peers.
pub(super) fn clean(status: &mut StatusResponse) {
    let StatusResponse { version, writes_refused, incarnation_reason, backup_public_key, .. } = status;
    let mut texts = vec![version, writes_refused, incarnation_reason, backup_public_key];
    for peer in &mut status.peers {
        texts.extend([&mut peer.address, &mut peer.node_id, &mut peer.last_error]);
        texts.extend(peer.recent_rounds.iter_mut().map(|round| &mut round.error));
    }
    texts.extend(status.tasks.iter_mut().flat_map(|t| [&mut t.name, &mut t.state, &mut t.last_error]));
    texts.extend(status.alarms.iter_mut().flat_map(|alarm| [&mut alarm.text, &mut alarm.source]));
    texts.extend(status.certificates.iter_mut().map(|certificate| &mut certificate.file));
    texts.extend(status.authorities.iter_mut().flat_map(|ca| [&mut ca.key, &mut ca.name]));
    texts.extend(status.paused.iter_mut().flat_map(|paused| [&mut paused.node_id, &mut paused.by]));
    for duplicate in &mut status.duplicate_ids {
        texts.push(&mut duplicate.node_id);
        texts.extend(duplicate.processes.iter_mut().flat_map(|process| &mut process.places));
    }
    if let Some(trust) = &mut status.trust {
        texts.push(&mut trust.mode);
        texts.extend(trust.forks.iter_mut().map(|fork| &mut fork.kind));
        texts.extend(trust.unconfirmed_fills.iter_mut().map(|fill| &mut fill.donor));
        texts.extend(trust.heads.iter_mut().flat_map(|head| &mut head.withheld_by));
    }
    texts.extend(status.resync.iter_mut().flat_map(|resync| [&mut resync.node, &mut resync.reason]));
    if let Some(backup) = &mut status.backup {
        texts.extend([
            &mut backup.place,
            &mut backup.last_key,
            &mut backup.last_error,
            &mut backup.verify_error,
        ]);
    }
    texts.into_iter().for_each(clean_text);
}

fn clean_text(text: &mut String) {
    let mut end = text.len().min(limits::REPORT_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, "\u{fffd}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brock_core::proto;

    fn read_status(change: impl FnOnce(&mut StatusResponse)) -> Result<StatusResponse, ReportError> {
        let mut status = StatusResponse { node_id: "b".to_owned(), ..StatusResponse::default() };
        change(&mut status);
        let report = ReportResponse { status: Some(status), applied: None };
        read(report, "b", &["a".to_owned()]).map(|(status, _)| status)
    }

    #[test]
    fn a_report_is_about_its_peer_and_bounded() {
        assert!(read_status(|_| {}).is_ok());
        let report = |id: &str| {
            let status = StatusResponse { node_id: id.to_owned(), ..StatusResponse::default() };
            ReportResponse { status: Some(status), applied: None }
        };
        let taken = ["a".to_owned()];
        assert!(read(report("c"), "c:1", &taken).is_ok(), "it has not answered before");
        assert!(matches!(read(report("c"), "b", &taken), Err(ReportError::Name { .. })));
        assert!(matches!(read(report("a"), "c:1", &taken), Err(ReportError::Name { .. })));
        let long = vec![proto::Alarm::default(); limits::REPORT_ITEMS + 1];
        let error = read_status(|status| status.alarms = long).unwrap_err();
        assert_eq!(error.to_string(), "it lists 257 alarms, more than 256");
        let malformed = proto::PausedOrigin { origin: vec![1].into(), ..proto::PausedOrigin::default() };
        assert!(read_status(|status| status.paused.push(malformed)).is_err());
        let with = |trust: proto::Trust| read_status(|status| status.trust = Some(trust));
        let head = |origin: &'static [u8]| proto::OriginHead { origin: origin.into(), ..Default::default() };
        let heads = |heads| proto::Trust { heads, ..Default::default() };
        assert!(with(heads(vec![head(&[0; 3])])).is_err(), "malformed");
        let genuine = Origin::new(&"a".parse().unwrap(), brock_core::base::id::Incarnation(1));
        let genuine: &'static [u8] = Box::leak(Box::new(*genuine.as_bytes()));
        assert!(with(heads(vec![head(genuine); limits::HEADS_SHOWN])).is_ok());
        assert!(with(heads(vec![head(genuine); limits::HEADS_SHOWN + 1])).is_err());
        let fills = vec![proto::UnconfirmedFill::default(); limits::FILLS_MAX + 1];
        assert!(with(proto::Trust { unconfirmed_fills: fills, ..Default::default() }).is_err());
    }

    #[test]
    fn its_texts_are_cut_and_do_nothing_on_a_terminal() {
        let status = read_status(|status| {
            status.version = "\u{1b}[31m1".to_owned();
            status.writes_refused = "é".repeat(limits::REPORT_TEXT_BYTES);
        })
        .unwrap();
        assert_eq!(status.version, "\u{fffd}[31m1");
        assert_eq!(status.writes_refused.len(), limits::REPORT_TEXT_BYTES);
    }
}
