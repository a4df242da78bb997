//! Keeps one puller for each address of the roster.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::puller::Puller;
use crate::membership::roster::Roster;
use brock_net::{
    address::Address,
    task::{TaskName, TaskStatus, Tasks},
};

/// Starts and ends pullers as the roster changes, until `tasks` stops.
pub async fn run(
    roster: Roster,
    tasks: Tasks,
    make: impl Fn(&Address, CancellationToken) -> Puller,
    status: TaskStatus,
) {
    let mut dialled = roster.watch();
    let mut running: HashMap<Address, CancellationToken> = HashMap::new();
    loop {
        let wanted = dialled.borrow_and_update().clone();
        running.retain(|address, stop| {
            let stays = wanted.contains(address);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for address in wanted.iter() {
            running.entry(address.clone()).or_insert_with(|| {
                let stop = tasks.stopping().child_token();
                let puller = make(address, stop.clone());
                tasks.spawn_passing(TaskName::Puller(address.to_string()), |status| puller.run(status));
                stop
            });
        }
        status.set_state(&format!("pulling from {} addresses", running.len()));
        match tasks.stopping().run_until_cancelled(dialled.changed()).await {
            Some(Ok(())) => {}
            // The node stops, or the roster is gone and cannot change any more.
            Some(Err(_)) | None => return,
        }
    }
}
