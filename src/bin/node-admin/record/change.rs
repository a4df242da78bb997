//! `record invalidate`, `record unpublish` and `record delete`.

use super::acks::{self, Receipt};
use crate::{answer, cli::Format, failure::Failure, order, output, stamp};
use brock_client::{Answered, Client};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::Stamp,
    },
    domain::order::Subject,
    proto,
};
use bytes::Bytes;
use serde::Serialize;

/// Printed before a record is deleted.
pub(crate) const DELETE_WARNING: &str = "Deleting a record: its payload is lost on all nodes, and its key can never be used \
     again. To revoke it instead: `node-admin record invalidate`.";

/// A change of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Invalidate { reason: String },
    Unpublish,
    Delete,
}

/// A checked request.
#[derive(Debug)]
pub(crate) struct Request {
    key: KeyHash,
    change: Change,
    /// Accept it even if no node has the record.
    ahead: bool,
    acks: Option<proto::Acks>,
}

impl Request {
    /// Checks the operator's input.
    pub(crate) fn new(
        key: KeyHash,
        change: Change,
        ahead: bool,
        acks: Option<proto::Acks>,
    ) -> Result<Self, Failure> {
        if let Change::Invalidate { reason } = &change {
            check_reason(reason)?;
        }
        Ok(Self { key, change, ahead, acks })
    }

    fn subject(&self) -> Subject<'_> {
        match &self.change {
            Change::Invalidate { reason } => Subject::Invalidate(&self.key, reason),
            Change::Unpublish => Subject::Unpublish(&self.key),
            Change::Delete => Subject::Delete(&self.key),
        }
    }

    async fn send(&self, client: &Client, order: Option<proto::Order>) -> Answered<proto::OperationResponse> {
        let (key_hash, ahead, acks) = (Bytes::copy_from_slice(&self.key.0), self.ahead, self.acks);
        match &self.change {
            Change::Invalidate { reason } => {
                let reason = reason.clone();
                client.invalidate(proto::InvalidateRequest { key_hash, reason, ahead, acks, order }).await
            }
            Change::Unpublish => {
                client.unpublish(proto::UnpublishRequest { key_hash, ahead, acks, order }).await
            }
            Change::Delete => client.delete(proto::DeleteRequest { key_hash, ahead, acks, order }).await,
        }
    }
}

/// Refuses a reason that nodes would refuse.
pub(crate) fn check_reason(reason: &str) -> Result<(), Failure> {
    if reason.trim().is_empty() {
        return Err(Failure::Usage("REASON: it is empty; applications are shown it, so say why".to_owned()));
    }
    if reason.len() > limits::REASON_MAX_BYTES {
        return Err(Failure::Usage(format!(
            "REASON: it must have at most {} bytes, this one has {}",
            limits::REASON_MAX_BYTES,
            reason.len()
        )));
    }
    Ok(())
}

/// Makes the change at the first node that answers.
pub(crate) async fn run(client: &Client, request: &Request, format: Format) -> Result<(), Failure> {
    let order = order::signed(client, request.subject())?;
    let response = answer::change(request.send(client, order).await)?;
    let changed = Changed::new(request, response)?;
    output::data(format, &changed, Changed::text)?;
    changed.receipt.verdict(request.acks.as_ref())
}

/// What these commands print.
#[derive(Debug, Serialize)]
struct Changed {
    key_hash: String,
    operation: &'static str,
    origin: String,
    clock: u64,
    already: bool,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Changed {
    fn new(request: &Request, response: proto::OperationResponse) -> Result<Self, Failure> {
        let proto::OperationResponse { stamp, already, receipt } = response;
        let stamp = stamp::from_wire(stamp)?;
        let operation = match request.change {
            Change::Invalidate { .. } => "invalidate",
            Change::Unpublish => "unpublish",
            Change::Delete => "delete",
        };
        let receipt =
            acks::receipt(request.acks.as_ref(), (request.key, operation), (stamp, already), receipt)?;
        let Stamp { origin, clock } = stamp;
        Ok(Self {
            key_hash: request.key.to_hex(),
            operation,
            origin: Origin::to_string(&origin),
            clock: clock.0,
            already,
            receipt: receipt.unwrap_or_default(),
        })
    }

    fn text(&self) -> String {
        let fields = [
            ("key_hash", self.key_hash.clone()),
            ("operation", self.operation.to_owned()),
            ("origin", self.origin.clone()),
            ("clock", self.clock.to_string()),
            ("already", if self.already { "yes" } else { "no" }.to_owned()),
        ];
        output::fields(&[&fields[..], &self.receipt.fields()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn request(change: Change, acks: Option<proto::Acks>) -> Request {
        Request::new(KeyHash([0xab; 32]), change, false, acks).unwrap()
    }

    fn response() -> proto::OperationResponse {
        let stamp = stamp::to_wire(&stamp::parse("node-1/9f3c2a10:42").unwrap());
        proto::OperationResponse { stamp: Some(stamp), already: true, receipt: None }
    }

    #[test]
    fn a_change_is_this_json() {
        let acks = proto::Acks { from: Some(proto::acks::From::All(true)), timeout_ms: 10_000 };
        let holder = proto::receipt::Holder { node: "node-2".to_owned(), after_ms: 12, ..Default::default() };
        let receipt =
            proto::Receipt { holders: vec![holder], missing: vec!["node-3".to_owned()], proof: None };
        let answer = proto::OperationResponse { receipt: Some(receipt), ..response() };
        let changed = Changed::new(&request(Change::Delete, Some(acks)), answer).unwrap();
        let expected = r#"{
  "key_hash": "abababababababababababababababababababababababababababababababab",
  "operation": "delete",
  "origin": "node-1/9f3c2a10",
  "clock": 42,
  "already": true,
  "holders": [
    {
      "node": "node-2",
      "after_ms": 12
    }
  ],
  "missing": [
    "node-3"
  ]
}
"#;
        assert_eq!(output::json(&changed).unwrap(), expected);
        assert!(
            changed.text().ends_with("already    yes\nholders    node-2 after 12 ms\nmissing    node-3\n")
        );
        assert_eq!(changed.receipt.verdict(Some(&acks)).unwrap_err().exit(), Exit::Precondition);
    }

    #[test]
    fn there_is_no_wait_unless_asked_for() {
        for (change, operation) in [
            (Change::Invalidate { reason: "leaked".to_owned() }, "invalidate"),
            (Change::Unpublish, "unpublish"),
        ] {
            let changed = Changed::new(&request(change, None), response()).unwrap();
            let json: serde_json::Value = serde_json::from_str(&output::json(&changed).unwrap()).unwrap();
            assert_eq!(json["operation"], operation);
            assert_eq!(
                (&json["holders"], &json["missing"]),
                (&serde_json::json!([]), &serde_json::json!([]))
            );
            assert_eq!(changed.receipt.verdict(None), Ok(()));
        }
    }

    #[test]
    fn a_reason_says_something_and_not_too_much() {
        for (reason, good) in [
            (String::new(), false),
            (" \t\n".to_owned(), false),
            ("r".to_owned(), true),
            ("r".repeat(1024), true),
            ("r".repeat(1025), false),
        ] {
            let change = Change::Invalidate { reason: reason.clone() };
            let request = Request::new(KeyHash([0xab; 32]), change, false, None);
            assert_eq!(
                request.as_ref().err().map(Failure::exit),
                (!good).then_some(Exit::Usage),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn an_answer_without_sense_is_an_error_and_no_panic() {
        let request = request(Change::Delete, None);
        assert!(Changed::new(&request, proto::OperationResponse::default()).is_err());
    }
}
