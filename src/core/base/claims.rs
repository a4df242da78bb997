//! What peers claim and this node does not believe: counted, by peer and kind.

use std::fmt::Display;

use super::metrics::CLAIMS_REFUSED;

/// What is refused: the label `kind` of [`CLAIMS_REFUSED`], whose text explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of the metric explains them")]
pub enum ClaimKind {
    Batch,
    Page,
    Collected,
    Drops,
    Quarantine,
    Forged,
    State,
    Destruction,
    Unsent,
    Report,
    History,
    Acknowledgement,
    Head,
    Closing,
}

impl ClaimKind {
    /// Each of them.
    pub const ALL: [Self; 14] = [
        Self::Batch,
        Self::Page,
        Self::Collected,
        Self::Drops,
        Self::Quarantine,
        Self::Forged,
        Self::State,
        Self::Destruction,
        Self::Unsent,
        Self::Report,
        Self::History,
        Self::Acknowledgement,
        Self::Head,
        Self::Closing,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Page => "page",
            Self::Collected => "collected",
            Self::Drops => "drops",
            Self::Quarantine => "quarantine",
            Self::Forged => "forged",
            Self::State => "state",
            Self::Destruction => "destruction",
            Self::Unsent => "unsent",
            Self::Report => "report",
            Self::History => "history",
            Self::Acknowledgement => "acknowledgement",
            Self::Head => "head",
            Self::Closing => "closing",
        }
    }
}

/// Counts claims that are refused. `peer` is its address, or else the name in its certificate.
pub fn refused(peer: &impl Display, kind: ClaimKind, count: u64) {
    metrics::counter!(CLAIMS_REFUSED, "peer" => peer.to_string(), "kind" => kind.as_str()).increment(count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics;

    #[test]
    fn the_text_of_the_metric_explains_every_kind_once() {
        let metric = metrics::ALL.iter().find(|metric| metric.name == CLAIMS_REFUSED).unwrap();
        for kind in ClaimKind::ALL {
            let named = metric.help.split(|c: char| !c.is_alphabetic()).filter(|word| *word == kind.as_str());
            assert!(named.count() >= 1, "{kind:?} is missing in: {}", metric.help);
            assert_eq!(ClaimKind::ALL.iter().filter(|other| other.as_str() == kind.as_str()).count(), 1);
        }
    }
}
