//! All other nodes of the cluster at one moment: the peers that can be asked, and the rest.

use super::{
    members::MemberView,
    peer::{Peer, PeerKey},
};
use brock_core::base::id::NodeId;

/// A peer that can be asked.
#[derive(Clone)]
pub struct Contact {
    /// How to call it.
    pub peer: Peer,
    /// Its node id, or its address until it has answered.
    pub name: String,
    /// Whether an operator retired the member at this address.
    pub is_retired: bool,
}

/// Why a node that belongs to the cluster cannot be asked from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// DNS has not answered yet for this name in `node.join`.
    #[error("DNS has not said yet which nodes these are: see `node-admin status`")]
    Unresolved,
    /// The member pulls from here, and is not in `node.join`.
    #[error("it is not in this node's node.join, so it cannot be asked from here")]
    NotJoined,
    /// The member was met at an address that DNS no longer lists.
    #[error("DNS does not list it any more, so it cannot be asked from here: retire it if it never returns")]
    NotListed,
}

/// All other nodes at one moment.
pub struct Contacts {
    /// The peers that can be asked.
    pub peers: Vec<Contact>,
    /// Names that DNS has not answered for yet.
    pub unresolved: Vec<PeerKey>,
    /// The members that cannot be asked, by node id.
    pub unreachable: Vec<(NodeId, Unreachable)>,
}

impl Contacts {
    /// Joins the rows of the roster with what is known of the members.
    pub(super) fn new(peers: Vec<Peer>, unresolved: Vec<PeerKey>, views: &[MemberView]) -> Self {
        let unreachable = unreachable(views, &peers);
        Self { peers: peers.into_iter().map(|peer| contact(peer, views)).collect(), unresolved, unreachable }
    }
}

fn contact(peer: Peer, views: &[MemberView]) -> Contact {
    let view = views.iter().find(|view| view.address.as_ref() == Some(&peer.key));
    let node_id = view.and_then(|view| view.node_id.as_ref());
    Contact {
        name: node_id.map_or_else(|| peer.key.to_string(), ToString::to_string),
        is_retired: view.is_some_and(|view| view.retired),
        peer,
    }
}

/// The members that cannot be asked. One that only pulls from here is among them once every address has
/// a node id: until then a nameless address may be that member.
fn unreachable(views: &[MemberView], peers: &[Peer]) -> Vec<(NodeId, Unreachable)> {
    let all_are_named = views.iter().all(|view| view.node_id.is_some());
    let reason = |view: &MemberView| match &view.address {
        None => all_are_named.then_some(Unreachable::NotJoined),
        Some(key) => peers.iter().all(|peer| peer.key != *key).then_some(Unreachable::NotListed),
    };
    let current = views.iter().filter(|view| !view.retired);
    current.filter_map(|view| Some((view.node_id.clone()?, reason(view)?))).collect()
}
