//! Operators' orders: signs those of other commands, and prints one (`order sign`) for clients that cannot sign.

use data_encoding::BASE64;
use serde::Serialize;

use crate::{
    access,
    cli::{Global, OrderCommand, OrderSubject},
    failure::Failure,
    key, output,
    record::change,
};
use brock_client::{Client, Orders};
use brock_core::{domain::order::Subject, proto};

/// Runs the command. It needs no node.
pub(crate) fn run(global: &Global, command: OrderCommand) -> Result<(), Failure> {
    let OrderCommand::Sign { subject } = command;
    let orders = Orders::new(&access::credentials(global)?).ok_or_else(|| {
        Failure::Usage(
            "the certificate in --certs-dir is not an operator's, or has no SPIFFE URI: orders are signed with one that \
             `brock cert admin` has made"
                .to_owned(),
        )
    })?;
    let signed = match &subject {
        OrderSubject::Invalidate { key, reason } => {
            change::check_reason(reason)?;
            orders.sign(Subject::Invalidate(&key::of(key)?, reason))
        }
        OrderSubject::Unpublish { key } => orders.sign(Subject::Unpublish(&key::of(key)?)),
        OrderSubject::Delete { key } => orders.sign(Subject::Delete(&key::of(key)?)),
        OrderSubject::Retire { node } => orders.sign(Subject::Retire(node)),
    };
    let order = Signed::from(signed.map_err(|error| Failure::Error(error.to_string()))?);
    output::data(global.output, &order, Signed::text)
}

/// Signs an order with the client's certificate; `None` if that is one whose orders no node accepts.
pub(crate) fn signed(client: &Client, subject: Subject<'_>) -> Result<Option<proto::Order>, Failure> {
    let signed = client.orders().map(|orders| orders.sign(subject)).transpose();
    signed.map_err(|error| Failure::Error(error.to_string()))
}

/// The same for what takes an order; `what` names that.
pub(crate) fn required(client: &Client, subject: Subject<'_>, what: &str) -> Result<proto::Order, Failure> {
    signed(client, subject)?.ok_or_else(|| {
        Failure::Usage(format!(
            "{what} takes a certificate of `brock cert admin`, whose URI names the cluster"
        ))
    })
}

/// What this command prints: the fields of the message `brock.v1.Order`, as JSON has them.
#[derive(Debug, Serialize)]
struct Signed {
    at_unix_ms: i64,
    scheme: u32,
    /// In base64, as each certificate.
    signature: String,
    chain: Vec<String>,
}

impl From<proto::Order> for Signed {
    fn from(order: proto::Order) -> Self {
        let proto::Order { at_unix_ms, scheme, signature, chain } = order;
        let chain = chain.iter().map(|der| BASE64.encode(der)).collect();
        Self { at_unix_ms, scheme, signature: BASE64.encode(&signature), chain }
    }
}

impl Signed {
    fn text(&self) -> String {
        output::fields(&[
            ("at_unix_ms", self.at_unix_ms.to_string()),
            ("scheme", self.scheme.to_string()),
            ("signature", self.signature.clone()),
            ("chain", self.chain.join(" ")),
        ])
    }
}
