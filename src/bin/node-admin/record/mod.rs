//! `record`: one record.

mod acks;
pub(crate) mod change;
mod input;
mod trace;

use std::{
    io::{self, IsTerminal, Read},
    path::Path,
};

use crate::{
    access::{self, CALL_TIMEOUT},
    cli::{self, Format, Global, RecordCommand},
    confirm,
    failure::Failure,
    key, output, stamp,
};
use brock_client::{Answered, Client, calls};
use brock_core::{
    base::{id::KeyHash, limits, vector::Stamp},
    proto,
};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;
use tonic::Code;

use acks::Receipt;
use change::Change;

/// The largest input: the largest payload in base64, and the other fields.
const INPUT_MAX_BYTES: u64 = 4 * limits::PAYLOAD_MAX_BYTES as u64;

/// Runs the command.
pub(crate) fn run(global: &Global, command: RecordCommand) -> Result<(), Failure> {
    let format = global.output;
    // The input is checked before the network is touched.
    let (key, change, options, confirmed) = match command {
        RecordCommand::Put { key, file, import, waiting } => {
            let plan = acks::plan(waiting.wait, global)?;
            let request = proto::PutRequest { import, ..put_request(&key, &file, plan.acks)? };
            let client = access::client(global, plan.call_timeout)?;
            return access::block_on(put(&client, request, format));
        }
        RecordCommand::Show { key, local } => {
            let key = key::of(&key)?;
            let client = access::client(global, global.timeout.unwrap_or(CALL_TIMEOUT))?;
            return access::block_on(show(&client, key, local, format));
        }
        RecordCommand::Trace { key } => {
            let key = key::of(&key)?;
            let client = access::client(global, global.timeout.unwrap_or(CALL_TIMEOUT))?;
            return access::block_on(trace::run(&client, key, format));
        }
        RecordCommand::Invalidate { key, reason, change } => {
            (key, Change::Invalidate { reason }, change, true)
        }
        RecordCommand::Unpublish { key, change } => (key, Change::Unpublish, change, true),
        RecordCommand::Delete { key, yes, change } => (key, Change::Delete, change, yes),
    };
    let plan = acks::plan(options.waiting.wait, global)?;
    let request = change::Request::new(key::of(&key)?, change, options.ahead, plan.acks)?;
    let client = access::client(global, plan.call_timeout)?;
    confirm::on_a_terminal(confirmed, change::DELETE_WARNING, "delete")?;
    access::block_on(change::run(&client, &request, format))
}

/// Reads KEY and the record's JSON from `file` (`-` = standard input).
fn put_request(key: &cli::Key, file: &Path, acks: Option<proto::Acks>) -> Result<proto::PutRequest, Failure> {
    let from_stdin = file.as_os_str() == "-";
    if from_stdin && key::reads_stdin(key) {
        return Err(Failure::Usage(
            "KEY and the record cannot both be read from standard input: name the record's file with --file, or the \
             key's with --key-file"
                .to_owned(),
        ));
    }
    let key_hash = key::of(key)?;
    let text = match from_stdin {
        true => {
            if io::stdin().is_terminal() {
                output::message("Type the record as JSON, then Ctrl-D (or name a file with --file):");
            }
            read_bounded(io::stdin().lock())
        }
        false => brock_net::reading::text(file).and_then(|text| read_bounded(text.as_bytes())),
    };
    let name = if from_stdin { "standard input".to_owned() } else { file.display().to_string() };
    let text = text.map_err(|error| Failure::Usage(format!("could not read {name}: {error}")))?;
    let record = input::parse(&text).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    Ok(proto::PutRequest {
        key_hash: Bytes::copy_from_slice(&key_hash.0),
        record: Some(record),
        acks,
        import: false,
    })
}

fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(INPUT_MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > INPUT_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {INPUT_MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// Creates the record at the first node that answers.
async fn put(client: &Client, request: proto::PutRequest, format: Format) -> Result<(), Failure> {
    let key_hash = KeyHash::try_from(request.key_hash.as_ref()).map_err(Failure::nonsense)?;
    let acks = request.acks;
    let response = put_outcome(client.put(request).await)?;
    let written = Written::new(key_hash, acks.as_ref(), response)?;
    output::data(format, &written, Written::text)?;
    written.receipt.as_ref().map_or(Ok(()), |receipt| receipt.verdict(acks.as_ref()))
}

/// The outcome, with a remark if an earlier attempt may have created the record.
fn put_outcome(answered: Answered<proto::PutResponse>) -> Result<proto::PutResponse, Failure> {
    let nodes = answered.perhaps_done();
    let outcome = answered.outcome.map_err(Failure::from);
    let Some(nodes) = nodes else { return outcome };
    match outcome {
        Ok(response) => {
            output::message(&format!(
                "note: {nodes} may have created the record too before the connection broke; \
                 the same record twice is one record"
            ));
            Ok(response)
        }
        Err(failure @ Failure::Exists(_)) => Err(failure.with_remark(&format!(
            "This may be your own record: {nodes} may have created it before the connection broke. \
             Compare with `record show`."
        ))),
        Err(failure) => Err(failure.with_remark(&format!(
            "{nodes} may have created the record all the same: the request was sent, the answer was not \
             received. Look with `record show`, or put it again: if it exists, nothing changes."
        ))),
    }
}

/// Prints the record as the first node that answers has it.
async fn show(client: &Client, key: KeyHash, local: bool, format: Format) -> Result<(), Failure> {
    let request = proto::ShowRecordRequest { key_hash: Bytes::copy_from_slice(&key.0), local };
    let answered = client
        .first_answer(async |channel| {
            match calls::admin(channel.clone()).show_record(request.clone()).await {
                Ok(response) => Ok(response.into_inner()),
                // An application's certificate may read what applications see.
                Err(status) if status.code() == Code::PermissionDenied => {
                    let request = proto::GetRequest { key_hash: request.key_hash.clone(), local };
                    let proto::GetResponse { record, stamp } =
                        calls::key_values(channel).get(request).await?.into_inner();
                    Ok(proto::ShowRecordResponse { record, stamp })
                }
                Err(status) => Err(status),
            }
        })
        .await;
    let response = answered.outcome.map_err(|error| match Failure::from(error) {
        failure @ (Failure::NoAnswer(_) | Failure::Unreachable(_)) => {
            failure.with_remark("This is not the same as absent: no node could tell.")
        }
        other => other,
    })?;
    output::data(format, &Shown::new(key, response)?, Shown::text)
}

/// What `record put` prints.
#[derive(Debug, Serialize)]
struct Written {
    key_hash: String,
    origin: String,
    clock: u64,
    /// Only with --wait.
    #[serde(flatten)]
    receipt: Option<Receipt>,
}

impl Written {
    fn new(
        key_hash: KeyHash,
        acks: Option<&proto::Acks>,
        response: proto::PutResponse,
    ) -> Result<Self, Failure> {
        let stamp = stamp::from_wire(response.stamp)?;
        let receipt = acks::receipt(acks, (key_hash, "create"), (stamp, false), response.receipt)?;
        let Stamp { origin, clock } = stamp;
        Ok(Self { key_hash: key_hash.to_hex(), origin: origin.to_string(), clock: clock.0, receipt })
    }

    fn text(&self) -> String {
        let mut fields = vec![
            ("key_hash", self.key_hash.clone()),
            ("origin", self.origin.clone()),
            ("clock", self.clock.to_string()),
        ];
        fields.extend(self.receipt.iter().flat_map(Receipt::fields));
        output::fields(&fields)
    }
}

/// What `record show` prints.
#[derive(Debug, Serialize)]
struct Shown {
    key_hash: String,
    state: &'static str,
    created_at_unix: i64,
    public: bool,
    satellite_address: String,
    macaroon_head: String,
    public_project_id: String,
    expires_at_unix: i64,
    encrypted_secret_key: String,
    encrypted_access_grant: String,
    invalidation_reason: String,
    invalidated_at_unix: i64,
    origin: String,
    clock: u64,
}

impl Shown {
    fn new(key: KeyHash, response: proto::ShowRecordResponse) -> Result<Self, Failure> {
        let Some(record) = response.record else {
            return Err(Failure::nonsense("it has no record"));
        };
        let Stamp { origin, clock } = stamp::from_wire(response.stamp)?;
        let state = record.state().as_str_name();
        // Destructured, so that a new field cannot be forgotten here.
        let proto::Record {
            created_at_unix,
            public,
            satellite_address,
            macaroon_head,
            expires_at_unix,
            encrypted_secret_key,
            encrypted_access_grant,
            invalidation_reason,
            invalidated_at_unix,
            state: _,
            public_project_id,
        } = record;
        Ok(Self {
            key_hash: key.to_hex(),
            state,
            created_at_unix,
            public,
            satellite_address,
            macaroon_head: HEXLOWER.encode(&macaroon_head),
            public_project_id: HEXLOWER.encode(&public_project_id),
            expires_at_unix,
            encrypted_secret_key: BASE64.encode(&encrypted_secret_key),
            encrypted_access_grant: BASE64.encode(&encrypted_access_grant),
            invalidation_reason,
            invalidated_at_unix,
            origin: origin.to_string(),
            clock: clock.0,
        })
    }

    fn text(&self) -> String {
        let invalidated = match self.invalidated_at_unix {
            0 => "no".to_owned(),
            unix => output::moment(unix),
        };
        output::fields(&[
            ("key_hash", self.key_hash.clone()),
            ("state", self.state.to_owned()),
            ("created_at", output::moment(self.created_at_unix)),
            ("expires_at", output::moment(self.expires_at_unix)),
            ("public", self.public.to_string()),
            ("satellite_address", output::printable(&self.satellite_address)),
            ("macaroon_head", self.macaroon_head.clone()),
            ("public_project_id", self.public_project_id.clone()),
            ("encrypted_secret_key", self.encrypted_secret_key.clone()),
            ("encrypted_access_grant", self.encrypted_access_grant.clone()),
            ("invalidated_at", invalidated),
            ("invalidation_reason", output::printable(&self.invalidation_reason)),
            ("origin", self.origin.clone()),
            ("clock", self.clock.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests;
