//! Creates a record and reads it back.
//!
//! `cargo run -p brock-client --example put_and_get -- CERTS_DIR HOST:PORT [HOST:PORT…]`

use std::{error::Error, path::PathBuf, time::Duration};

use brock_client::Client;
use brock_core::{base::id::KeyHash, proto};
use brock_net::{address::Address, tls::credentials::ClientIdentity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map(PathBuf::from).ok_or("name the certificates directory")?;
    let addresses = arguments.map(|text| text.parse::<Address>()).collect::<Result<_, _>>()?;

    let credentials = ClientIdentity::load(&directory)?;
    let client = Client::new(&credentials, addresses, Duration::from_secs(5));

    let KeyHash(key_hash) = "ab".repeat(32).parse()?;
    let key_hash = key_hash.to_vec();
    let record = proto::Record {
        encrypted_access_grant: b"an encrypted access grant".to_vec().into(),
        ..proto::Record::default()
    };
    let request = proto::PutRequest {
        key_hash: key_hash.clone().into(),
        record: Some(record),
        acks: None,
        import: false,
    };
    let put = client.put(request).await;
    if let Some(nodes) = put.perhaps_done() {
        println!("{nodes} may have created the record too");
    }
    // ALREADY_EXISTS: the record was created before.
    if let Err(error) = &put.outcome {
        println!("not created: {error}");
    }

    let read = client.get(proto::GetRequest { key_hash: key_hash.into(), local: false }).await;
    let record = read.outcome?.record.ok_or("the answer has no record")?;
    println!("{} bytes, created at {}", record.encrypted_access_grant.len(), record.created_at_unix);
    Ok(())
}
