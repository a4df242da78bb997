//! The other nodes from this node's view: who can be asked, under which name, and why the rest cannot.

use crate::{
    membership::{
        directory::Directory,
        members::{MemberView, Members},
        peer::Peer,
    },
    store::Store,
};

use super::error::RequestError;

/// Why a name in `node.join` cannot be asked.
const UNRESOLVED: &str = "DNS has not said yet which nodes these are: see `node-admin status`";

/// The members and peers of a node. Cheap to clone.
#[derive(Clone)]
pub struct Nodes {
    store: Store,
    pub(super) members: Members,
    directory: Directory,
}

impl Nodes {
    /// As this node knows them.
    pub fn new(store: Store, members: Members, directory: Directory) -> Self {
        Self { store, members, directory }
    }

    /// Members and peers at one moment.
    pub(super) fn seen(&self) -> Seen {
        Seen { views: self.members.views(self.store.now()), peers: self.directory.peers() }
    }

    /// The names in `node.join` that DNS has not answered for, each with the reason why it cannot be asked.
    pub(super) fn unresolved(&self) -> Vec<(String, String)> {
        self.directory.unresolved().into_iter().map(|name| (name, UNRESOLVED.to_owned())).collect()
    }

    /// Retires a member at this node alone. Durable when it returns. `alias` is the member's address for
    /// its node id, or the other way round; empty if that is not known.
    pub async fn retire_here(&self, member: &str, alias: &str) -> Result<(), RequestError> {
        if [member, alias].contains(&self.store.node_id().as_str()) {
            // A node does not wait for itself.
            return Ok(());
        }
        let _writing = self.members.writing().await;
        let applied = self.store.applied();
        let retired = match self.members.retire(member, &applied) {
            Err(_) if !alias.is_empty() => self.members.retire(alias, &applied),
            retired => retired,
        };
        self.store.remember(vec![retired?], Vec::new()).await?;
        tracing::warn!(member, "an operator retired a member: this node does not wait for it any more");
        Ok(())
    }
}

/// Members and peers at one moment.
pub(super) struct Seen {
    pub(super) views: Vec<MemberView>,
    pub(super) peers: Vec<Peer>,
}

impl Seen {
    /// The node id of a peer, or its address until it has said an id.
    pub(super) fn name_of(&self, peer: &Peer) -> String {
        let node_id = self.view_of(peer).and_then(|view| view.node_id.as_ref()).map(ToString::to_string);
        node_id.unwrap_or_else(|| peer.address.clone())
    }

    /// The address of a member for its node id, or the other way round; empty if that is not known.
    pub(super) fn alias_of(&self, member: &str) -> String {
        let by_id = |view: &&MemberView| view.node_id.as_ref().is_some_and(|id| id.as_str() == member);
        if let Some(view) = self.views.iter().find(by_id) {
            return view.address.clone().unwrap_or_default();
        }
        let by_address = self.views.iter().find(|view| view.address.as_deref() == Some(member));
        by_address.and_then(|view| view.node_id.as_ref()).map(ToString::to_string).unwrap_or_default()
    }

    /// Whether an operator has retired the peer.
    pub(super) fn is_retired(&self, peer: &Peer) -> bool {
        self.views.iter().any(|view| view.retired && view.address.as_ref() == Some(&peer.address))
    }

    /// Members that this node cannot ask, and why: those that pull from it and are not in its `node.join`
    /// (unless an address that has not said its node id may be one of them), and those that DNS does not
    /// list any more.
    pub(super) fn unreachable(&self) -> Vec<(String, String)> {
        let all_are_named = self.views.iter().all(|view| view.node_id.is_some());
        let reason = |view: &MemberView| match &view.address {
            None if all_are_named => {
                Some("it is not in this node's node.join, so it cannot be asked from here")
            }
            Some(address) if self.peers.iter().all(|peer| peer.address != *address) => Some(
                "DNS does not list it any more, so it cannot be asked from here: retire it if it never returns",
            ),
            _ => None,
        };
        let current = self.views.iter().filter(|view| !view.retired);
        let named = current.filter_map(|view| Some((view.node_id.as_ref()?, view)));
        named.filter_map(|(node_id, view)| Some((node_id.to_string(), reason(view)?.to_owned()))).collect()
    }

    fn view_of(&self, peer: &Peer) -> Option<&MemberView> {
        self.views.iter().find(|view| view.address.as_ref() == Some(&peer.address))
    }
}
