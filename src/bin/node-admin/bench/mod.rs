//! `bench`: how fast a node is, measured by clients that cost little and check every answer.
//!
//! One thread per processor, each with its own single-threaded runtime and its share of the
//! clients: no work moves between threads, no task is started per operation, and payloads are
//! windows into one buffer.

mod batch;
mod drive;
mod pace;
mod report;
mod revoke;
mod seed;
mod session;
mod single;
mod tally;
#[cfg(test)]
mod tests;
mod visible;
mod watch;
mod work;

use crate::{
    access,
    cli::{BenchCommand, Format, Load},
    failure::Failure,
    output,
    progress::Progress,
};
use brock_client::{Client, calls};
use brock_core::{base::limits, proto};
use brock_net::address::Address;
use bytes::Bytes;
use tonic::Code;

use drive::{Plan, Shape};
use work::Payloads;

/// The largest size of a record in a message, without its payload.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// Measures and prints the figures; fails if they are meaningless.
pub(crate) fn run(client: &Client, command: BenchCommand, format: Format) -> Result<(), Failure> {
    let (load, keys, reads) = match command {
        BenchCommand::Put { load } => (load, 0, 0.0),
        BenchCommand::Get { load, keys } => (load, keys, 1.0),
        BenchCommand::Mixed { load, keys, reads } => (load, keys, reads),
        BenchCommand::Visible(options) => return access::block_on(visible::run(client, &options, format)),
        BenchCommand::Revoke(options) => return access::block_on(revoke::run(client, &options, format)),
    };
    let shape = shape_of(&load, reads)?;
    let payloads = Payloads::random(load.size);
    let (target, known) = access::block_on(async {
        let target = first_node(client).await?;
        let known = seed::put_records(client, &target, &payloads, keys).await?;
        Ok((target, known))
    })?;
    let plan = Plan { load, shape, reads, payloads, known };
    let progress = Progress::timed("measuring", plan.load.duration);
    let measured = drive::measure(client, &target, &plan)?;
    drop(progress);
    report::print(&measured, plan.load.duration, format)
}

fn shape_of(load: &Load, reads: f64) -> Result<Shape, Failure> {
    let Some(items) = load.batch else {
        return Ok(if load.session { Shape::Session { depth: load.depth } } else { Shape::Single });
    };
    let bytes = items * (load.size + RECORD_OVERHEAD_BYTES);
    let (limit, what) = match reads > 0.0 {
        true => (limits::BATCH_GET_ANSWER_BYTES, "the answer to a BatchGet"),
        false => (limits::MESSAGE_MAX_BYTES, "a BatchPut"),
    };
    if bytes > limit {
        return Err(Failure::Usage(format!(
            "--batch {items} with --size {} makes {what} larger than {limit} bytes: lower one of them",
            load.size
        )));
    }
    Ok(Shape::Batch { items })
}

/// The first node that answers a read: all clients then measure that one.
async fn first_node(client: &Client) -> Result<Address, Failure> {
    // No node has it, so the answer is NOT_FOUND; a refusal shows here, before anything is written.
    let key_hash = Bytes::copy_from_slice(&rand::random::<[u8; 32]>());
    let request = proto::GetRequest { key_hash, local: true };
    let answered = client
        .first_node(async |channel| match calls::key_values(channel).get(request.clone()).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(status),
        })
        .await;
    let ((), node) = answered.outcome?;
    for miss in &answered.misses {
        let note = format!("note: {} is not measured, it did not answer: {}", miss.address, miss.reason);
        output::message(&note);
    }
    Ok(node.address().clone())
}
