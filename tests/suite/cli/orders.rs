//! `order sign`: orders for clients that cannot sign.

use crate::harness::{
    admin::Admin,
    certs::Certs,
    client::Client,
    free_port,
    node::{TestNode, config},
    random_key,
};
use brock::config::validate::Config;
use brock_core::{base::trust::TrustMode, proto};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;
use tonic::Code;

/// The message that protobuf's JSON mapping makes of what the command prints.
fn order(printed: &Value) -> proto::Order {
    let bytes = |value: &Value| BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap().into();
    assert_eq!(printed.as_object().unwrap().len(), 4, "{printed}");
    proto::Order {
        at_unix_ms: printed["at_unix_ms"].as_i64().unwrap(),
        scheme: u32::try_from(printed["scheme"].as_u64().unwrap()).unwrap(),
        signature: bytes(&printed["signature"]),
        chain: printed["chain"].as_array().unwrap().iter().map(bytes).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_sign_passes_on_what_the_command_has_signed() {
    let certs = Certs::new();
    let config = config(&certs, "one", free_port(), &[]);
    let node = TestNode::start(&certs, Config { trust: TrustMode::Distributed, ..config }).await;
    // The command needs no node.
    let operator = Admin::new(&certs.admin(), &[]);
    let signed = |arguments: &[&str]| order(&operator.json(&[&["order", "sign"], arguments].concat(), ""));
    let keys = [random_key(), random_key(), random_key()];
    for key in &keys {
        node.client.put(key, b"grant").await.unwrap();
    }
    let hex = keys.each_ref().map(|key| HEXLOWER.encode(key));
    let foreign = Client { orders: None, ..node.admin.clone() };
    let mut admin = foreign.admin.clone();
    let leaked = signed(&["invalidate", &hex[0], "leaked"]);
    for (reason, expected) in [("lost", Err(Code::InvalidArgument)), ("leaked", Ok(()))] {
        let request = proto::InvalidateRequest {
            key_hash: keys[0].clone().into(),
            reason: reason.to_owned(),
            order: Some(leaked.clone()),
            ..Default::default()
        };
        let outcome = admin.invalidate(request).await;
        assert_eq!(outcome.map(drop).map_err(|status| status.code()), expected, "{reason}");
    }
    let key_hash = keys[1].clone().into();
    let unpublish = Some(signed(&["unpublish", &hex[1]]));
    let request = proto::UnpublishRequest { key_hash, order: unpublish, ..Default::default() };
    admin.unpublish(request).await.unwrap();
    let key_hash = keys[2].clone().into();
    let delete = Some(signed(&["delete", &hex[2]]));
    let request = proto::DeleteRequest { key_hash, order: delete, ..Default::default() };
    admin.delete(request).await.unwrap();
    let shown = [node.admin.show(&keys[0]).await.unwrap(), node.admin.show(&keys[1]).await.unwrap()];
    assert_eq!((shown[0].invalidation_reason.as_str(), shown[1].public), ("leaked", false));
    assert_eq!(node.client.get(&keys[2]).await.unwrap_err().code(), Code::NotFound);
    // A certificate that is no operator's signs nothing.
    let client = Admin::new(&certs.client(), &[]);
    client.fails(2, "brock cert admin", &["order", "sign", "delete", &hex[0]], "");
    node.stop().await;
}
