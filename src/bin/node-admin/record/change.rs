//! `record invalidate`, `record unpublish` and `record delete`.

use super::acks::{self, Receipt};
use crate::{answer, cli::Format, failure::Failure, output, stamp};
use brock_client::{Answered, Client};
use brock_core::{
    base::{
        id::{KeyHash, Origin},
        limits,
        vector::Stamp,
    },
    proto,
};
use bytes::Bytes;
use serde::Serialize;

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
    /// Checks the operator's input. An error never quotes the key.
    pub(crate) fn new(
        key_text: &str,
        change: Change,
        ahead: bool,
        acks: Option<proto::Acks>,
    ) -> Result<Self, Failure> {
        let key = super::key_hash(key_text)?;
        if let Change::Invalidate { reason } = &change
            && !(1..=limits::REASON_MAX_BYTES).contains(&reason.len())
        {
            return Err(Failure::Usage(format!(
                "REASON: it must have 1 to {} bytes, this one has {}",
                limits::REASON_MAX_BYTES,
                reason.len()
            )));
        }
        Ok(Self { key, change, ahead, acks })
    }

    async fn send(&self, client: &Client) -> Answered<proto::OperationResponse> {
        let (key_hash, ahead, acks) = (Bytes::copy_from_slice(&self.key.0), self.ahead, self.acks);
        match &self.change {
            Change::Invalidate { reason } => {
                let reason = reason.clone();
                client.invalidate(proto::InvalidateRequest { key_hash, reason, ahead, acks }).await
            }
            Change::Unpublish => client.unpublish(proto::UnpublishRequest { key_hash, ahead, acks }).await,
            Change::Delete => client.delete(proto::DeleteRequest { key_hash, ahead, acks }).await,
        }
    }
}

/// Makes the change at the first node that answers.
pub(crate) async fn run(client: &Client, request: &Request, format: Format) -> Result<(), Failure> {
    let response = answer::change(request.send(client).await).map_err(|failure| match failure {
        Failure::NotFound(_) | Failure::NoAnswer(_) | Failure::Unreachable(_) if !request.ahead => failure
            .with_remark(
                "With --ahead it is accepted all the same, and takes effect when the record arrives.",
            ),
        other => other,
    })?;
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
        let Stamp { origin, clock } = stamp::from_wire(stamp)?;
        Ok(Self {
            key_hash: request.key.to_hex(),
            operation: match request.change {
                Change::Invalidate { .. } => "invalidate",
                Change::Unpublish => "unpublish",
                Change::Delete => "delete",
            },
            origin: Origin::to_string(&origin),
            clock: clock.0,
            already,
            receipt: acks::receipt(request.acks.as_ref(), receipt)?.unwrap_or_default(),
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
        Request::new(&"ab".repeat(32), change, false, acks).unwrap()
    }

    fn response() -> proto::OperationResponse {
        let stamp = stamp::to_wire(&stamp::parse("node-1/9f3c2a10:42").unwrap());
        proto::OperationResponse { stamp: Some(stamp), already: true, receipt: None }
    }

    #[test]
    fn a_change_is_this_json() {
        let acks = proto::Acks { from: Some(proto::acks::From::All(true)), timeout_ms: 10_000 };
        let holder = proto::receipt::Holder { node: "node-2".to_owned(), after_ms: 12 };
        let receipt = proto::Receipt { holders: vec![holder], missing: vec!["node-3".to_owned()] };
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
    fn what_was_typed_is_checked_first_and_the_key_is_not_quoted() {
        let failure = Request::new("deadbeef", Change::Delete, true, None).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(!failure.to_string().contains("deadbeef"), "{failure}");
        let key = "ab".repeat(32);
        for (length, good) in [(0, false), (1, true), (1024, true), (1025, false)] {
            let change = Change::Invalidate { reason: "r".repeat(length) };
            let request = Request::new(&key, change, false, None);
            assert_eq!(request.is_ok(), good, "{length}");
            if let Err(failure) = request {
                assert_eq!(failure.exit(), Exit::Usage);
                assert!(!failure.to_string().contains(&key), "{failure}");
            }
        }
    }

    #[test]
    fn an_answer_without_sense_is_an_error_and_no_panic() {
        let request = request(Change::Delete, None);
        assert!(Changed::new(&request, proto::OperationResponse::default()).is_err());
    }
}
