//! A record written as JSON. Messages name the field at fault and never quote its value.

use std::fmt;

use brock_core::proto;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;

/// Why a JSON text is not a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InputError {
    #[error("not a JSON object: {0}")]
    Json(String),
    #[error(
        "there is no field {0:?}; the fields are public, satellite_address, macaroon_head, public_project_id, \
         expires_at_unix, encrypted_secret_key and encrypted_access_grant"
    )]
    Unknown(String),
    #[error("{0} is there twice")]
    Twice(&'static str),
    #[error("{field} must be {expected}")]
    Value { field: &'static str, expected: &'static str },
    #[error("encrypted_access_grant is missing")]
    GrantMissing,
}

/// The fields that a new record may have.
const FIELDS: [&str; 7] = [
    "public",
    "satellite_address",
    "macaroon_head",
    "public_project_id",
    "expires_at_unix",
    "encrypted_secret_key",
    "encrypted_access_grant",
];

/// Reads the record to create.
pub(super) fn parse(text: &[u8]) -> Result<proto::Record, InputError> {
    let Fields(fields) = serde_json::from_slice(text).map_err(|error| InputError::Json(place_of(&error)))?;
    let mut record = proto::Record::default();
    let mut seen = Vec::new();
    for (name, value) in fields {
        let Some(field) = FIELDS.into_iter().find(|field| *field == name) else {
            return Err(InputError::Unknown(name));
        };
        if seen.contains(&field) {
            return Err(InputError::Twice(field));
        }
        seen.push(field);
        set(&mut record, field, &value)?;
    }
    if record.encrypted_access_grant.is_empty() {
        return Err(InputError::GrantMissing);
    }
    Ok(record)
}

fn set(record: &mut proto::Record, field: &'static str, value: &Value) -> Result<(), InputError> {
    let wrong = |expected| InputError::Value { field, expected };
    let text = || value.as_str().map(str::as_bytes);
    let hex = || {
        let bytes = text().and_then(|text| HEXLOWER_PERMISSIVE.decode(text).ok());
        bytes.map(Bytes::from).ok_or_else(|| wrong("a string of hex digits"))
    };
    let base64 = || {
        let bytes = text().and_then(|text| BASE64.decode(text).ok());
        bytes.map(Bytes::from).ok_or_else(|| wrong("a string in base64, with its padding"))
    };
    match field {
        "public" => record.public = value.as_bool().ok_or_else(|| wrong("true or false"))?,
        "satellite_address" => {
            value.as_str().ok_or_else(|| wrong("a string"))?.clone_into(&mut record.satellite_address);
        }
        "macaroon_head" => record.macaroon_head = hex()?,
        "public_project_id" => record.public_project_id = hex()?,
        "expires_at_unix" => {
            record.expires_at_unix = value
                .as_i64()
                .filter(|unix| *unix >= 0)
                .ok_or_else(|| wrong("a whole number of seconds since 1970, or 0 for never"))?;
        }
        "encrypted_secret_key" => record.encrypted_secret_key = base64()?,
        "encrypted_access_grant" => record.encrypted_access_grant = base64()?,
        _ => return Err(InputError::Unknown(field.to_owned())),
    }
    Ok(())
}

/// The kind and the place of the error: serde's own message may quote values.
fn place_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is not well-formed",
        serde_json::error::Category::Data | serde_json::error::Category::Io => "it is not an object",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// An object's fields in the order of the text, duplicates included.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    if fields.len() >= 64 {
                        return Err(A::Error::custom("too many fields"));
                    }
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_record_and_the_smallest_one_are_read() {
        let record = parse(
            br#"{"public": true, "satellite_address": "sat:7777", "macaroon_head": "00FF", "public_project_id": "ab",
                "expires_at_unix": 1777636800, "encrypted_secret_key": "AQI=", "encrypted_access_grant": "AwQF"}"#,
        );
        let expected = proto::Record {
            public: true,
            satellite_address: "sat:7777".to_owned(),
            macaroon_head: Bytes::from_static(&[0, 0xff]),
            public_project_id: Bytes::from_static(&[0xab]),
            expires_at_unix: 1_777_636_800,
            encrypted_secret_key: Bytes::from_static(&[1, 2]),
            encrypted_access_grant: Bytes::from_static(&[3, 4, 5]),
            ..proto::Record::default()
        };
        assert_eq!(record, Ok(expected));
        let smallest = parse(br#"{"encrypted_access_grant":"AwQF"}"#).unwrap();
        assert_eq!((smallest.public, smallest.expires_at_unix), (false, 0));
    }

    #[test]
    fn every_fault_is_named_and_no_value_is_quoted() {
        for (fields, named) in [
            (r#""macaroon_head": "SECRET""#, "macaroon_head must be"),
            (r#""macaroon_head": "abc""#, "macaroon_head must be"),
            (r#""public_project_id": 7"#, "public_project_id must be"),
            (r#""encrypted_secret_key": "SECRET!""#, "encrypted_secret_key must be"),
            (r#""encrypted_secret_key": "AQI""#, "encrypted_secret_key must be"),
            (r#""public": "SECRET""#, "public must be"),
            (r#""satellite_address": null"#, "satellite_address must be"),
            (r#""expires_at_unix": "SECRET""#, "expires_at_unix must be"),
            (r#""expires_at_unix": -1"#, "expires_at_unix must be"),
            (r#""expires_at_unix": 1.5"#, "expires_at_unix must be"),
            (r#""created_at_unix": 1"#, "created_at_unix"),
            (r#""encrypted_access_grant": "AwQF""#, "encrypted_access_grant is there twice"),
        ] {
            let text = format!(r#"{{"encrypted_access_grant": "AwQF", {fields}}}"#);
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(named), "{fields}: {error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
        assert_eq!(parse(b"{}"), Err(InputError::GrantMissing));
        assert_eq!(parse(br#"{"encrypted_access_grant": ""}"#), Err(InputError::GrantMissing));
        for text in
            ["", "[]", "\"SECRET\"", "{\"public\": SECRET}", "{} {}", "{\"encrypted_access_grant\": \"A"]
        {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, InputError::Json(_)), "{text}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }
}
