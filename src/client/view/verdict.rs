//! The verdict on a cluster, and the findings behind it.

use serde::Serialize;

use super::ViewError;
use brock_core::proto::{self, verdict};

/// The verdict on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub level: Level,
    pub sentence: String,
    pub findings: Vec<Finding>,
}

/// One reason for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// Empty if it concerns the cluster.
    pub node: String,
    pub what: String,
    pub todo: String,
}

/// How urgent a verdict or a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    /// `well`: nothing is to be done.
    #[serde(rename = "well")]
    Ok,
    /// `watch`: it deserves a look.
    #[serde(rename = "watch")]
    Warning,
    /// `act`: an operator must act.
    #[serde(rename = "act")]
    Critical,
}

impl Level {
    /// The word that tools print.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "well",
            Self::Warning => "watch",
            Self::Critical => "act",
        }
    }
}

impl TryFrom<verdict::Level> for Level {
    type Error = ViewError;

    fn try_from(level: verdict::Level) -> Result<Self, ViewError> {
        match level {
            verdict::Level::Unspecified => Err(ViewError("a level is missing".to_owned())),
            verdict::Level::Well => Ok(Self::Ok),
            verdict::Level::Watch => Ok(Self::Warning),
            verdict::Level::Act => Ok(Self::Critical),
        }
    }
}

impl TryFrom<proto::Verdict> for Verdict {
    type Error = ViewError;

    fn try_from(verdict: proto::Verdict) -> Result<Self, ViewError> {
        let level = verdict.level().try_into()?;
        let proto::Verdict { level: _, sentence, findings } = verdict;
        let findings = findings.into_iter().map(Finding::try_from).collect::<Result<_, _>>()?;
        Ok(Self { level, sentence, findings })
    }
}

impl TryFrom<proto::verdict::Finding> for Finding {
    type Error = ViewError;

    fn try_from(finding: proto::verdict::Finding) -> Result<Self, ViewError> {
        let level = finding.level().try_into()?;
        let proto::verdict::Finding { level: _, node, what, todo } = finding;
        Ok(Self { level, node, what, todo })
    }
}
