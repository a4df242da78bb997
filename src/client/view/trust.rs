//! What a node believes others, and what is in the way of that.

use serde::Serialize;

use brock_core::{base::id::Origin, proto};

use super::ViewError;

/// What a node believes other nodes.
#[derive(Debug, Clone, Serialize)]
pub struct Trust {
    /// centralized or distributed
    pub mode: String,
    /// Records and tombstones here of which an operation is signed by no origin, or destroys without an operator's
    /// order.
    pub unproven_records: u64,
    /// Origins known here whose operations are not signed.
    pub unborn_origins: u64,
    /// Origins that sign and are not believed any more.
    pub unbelieved_origins: u64,
    /// Whether the node signs what it logs.
    pub signs: bool,
    /// Origins that are frozen, because they have signed two histories.
    pub forks: Vec<ForkedOrigin>,
    /// Donors that alone have filled the node: no other member has confirmed yet that they left nothing out.
    pub unconfirmed_fills: Vec<UnconfirmedFill>,
    /// How far origins have said that their logs go: first those of which the node lacks operations.
    pub heads: Vec<OriginHead>,
}

/// What an origin has stated of its log.
#[derive(Debug, Clone, Serialize)]
pub struct OriginHead {
    /// Node id and incarnation.
    pub origin: String,
    pub clock: u64,
    /// When it has signed that, by its clock.
    pub at_unix_ms: u64,
    /// Operations up to there that the node lacks, although nothing has come for a while.
    pub lacking: u64,
    pub lacking_seconds: u64,
    /// The peers that claim to have them.
    pub withheld_by: Vec<String>,
}

/// A donor that alone has filled the node.
#[derive(Debug, Clone, Serialize)]
pub struct UnconfirmedFill {
    pub donor: String,
    pub since_unix: i64,
}

/// An origin whose log is not followed any further.
#[derive(Debug, Clone, Serialize)]
pub struct ForkedOrigin {
    /// Node id and incarnation.
    pub origin: String,
    /// What it has signed.
    pub kind: String,
    /// Whether an operator has dealt with it at the node.
    pub acknowledged: bool,
}

impl TryFrom<proto::Trust> for Trust {
    type Error = ViewError;

    fn try_from(trust: proto::Trust) -> Result<Self, ViewError> {
        let proto::Trust {
            mode,
            unproven_records,
            unborn_origins,
            signs,
            unbelieved_origins,
            forks,
            unconfirmed_fills,
            heads,
        } = trust;
        let forks = forks.into_iter().map(|proto::ForkedOrigin { origin, kind, acknowledged }| {
            let origin = Origin::try_from(origin.as_ref()).map_err(|error| ViewError(error.to_string()))?;
            Ok(ForkedOrigin { origin: origin.to_string(), kind, acknowledged })
        });
        let forks = forks.collect::<Result<_, _>>()?;
        let fill = |proto::UnconfirmedFill { donor, since_unix }| UnconfirmedFill { donor, since_unix };
        let unconfirmed_fills = unconfirmed_fills.into_iter().map(fill).collect();
        let heads = heads.into_iter().map(OriginHead::try_from).collect::<Result<_, _>>()?;
        Ok(Self {
            mode,
            unproven_records,
            unborn_origins,
            unbelieved_origins,
            signs,
            forks,
            unconfirmed_fills,
            heads,
        })
    }
}

impl TryFrom<proto::OriginHead> for OriginHead {
    type Error = ViewError;

    fn try_from(head: proto::OriginHead) -> Result<Self, ViewError> {
        let proto::OriginHead { origin, clock, at_unix_ms, lacking, lacking_seconds, withheld_by } = head;
        let origin = Origin::try_from(origin.as_ref()).map_err(|error| ViewError(error.to_string()))?;
        Ok(Self { origin: origin.to_string(), clock, at_unix_ms, lacking, lacking_seconds, withheld_by })
    }
}
