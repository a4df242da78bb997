//! The payload of a record, as clients see it.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use super::codec::CodecError;
use crate::proto;

/// The write-once part of a record. Its encoding is what is stored, hashed and replicated.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The satellite that the access grant belongs to.
    pub satellite_address: String,
    /// The head of the macaroon in the access grant.
    pub macaroon_head: Bytes,
    /// The secret key, encrypted by the client.
    pub encrypted_secret_key: Bytes,
    /// The access grant, encrypted by the client.
    pub encrypted_access_grant: Bytes,
    /// The project's public id.
    pub public_project_id: Bytes,
}

impl Payload {
    /// The bytes whose SHA-256 is the payload digest.
    pub fn encode(self) -> Bytes {
        let Self {
            satellite_address,
            macaroon_head,
            encrypted_secret_key,
            encrypted_access_grant,
            public_project_id,
        } = self;
        let message = proto::Payload {
            satellite_address,
            macaroon_head,
            encrypted_secret_key,
            encrypted_access_grant,
            public_project_id,
        };
        message.encode_to_vec().into()
    }

    /// Reads [`Payload::encode`].
    pub fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let proto::Payload {
            satellite_address,
            macaroon_head,
            encrypted_secret_key,
            encrypted_access_grant,
            public_project_id,
        } = proto::Payload::decode(bytes).map_err(|_| CodecError::Malformed("payload"))?;
        Ok(Self {
            satellite_address,
            macaroon_head,
            encrypted_secret_key,
            encrypted_access_grant,
            public_project_id,
        })
    }
}

impl fmt::Debug for Payload {
    /// Never shows the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").finish_non_exhaustive()
    }
}
