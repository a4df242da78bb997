//! What a node believes other nodes.

use std::fmt;

/// The value of `node.trust`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrustMode {
    /// What a certified node says is believed: the authenticated connection is the proof.
    #[default]
    Centralized,
    /// What is destructive must be signed by an operator, whichever node it comes from.
    Distributed,
}

impl TrustMode {
    /// As operators write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Centralized => "centralized",
            Self::Distributed => "distributed",
        }
    }
}

impl fmt::Display for TrustMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
