//! Stamps in text: `node-1/9f3c2a10:42`.

use std::{collections::BTreeMap, fmt::Display};

use crate::failure::Failure;
use brock_core::{
    base::{
        id::{Incarnation, NodeId, Origin},
        vector::{Clock, Stamp},
    },
    proto,
};
use bytes::Bytes;

/// Why a text is not a stamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StampError {
    #[error("a stamp is ORIGIN:CLOCK, such as node-1/9f3c2a10:42, and this has no clock")]
    NoClock,
    #[error("a stamp is ORIGIN:CLOCK, such as node-1/9f3c2a10:42, and its clock is a whole number from 1 on")]
    Clock,
    #[error("an origin is NODE/INCARNATION, such as node-1/9f3c2a10, and this names no incarnation")]
    NoIncarnation,
    #[error("an origin is NODE/INCARNATION, such as node-1/9f3c2a10: {0}")]
    Node(String),
    #[error("an origin is NODE/INCARNATION, such as node-1/9f3c2a10, and an incarnation is 8 hex digits")]
    Incarnation,
}

/// Reads a stamp.
pub(crate) fn parse(text: &str) -> Result<Stamp, StampError> {
    let (of, clock) = text.rsplit_once(':').ok_or(StampError::NoClock)?;
    let origin = origin(of)?;
    let is_number = clock.bytes().all(|byte| byte.is_ascii_digit());
    let clock = clock.parse().ok().filter(|clock| is_number && *clock > 0).ok_or(StampError::Clock)?;
    Ok(Stamp { origin, clock: Clock(clock) })
}

/// Reads an origin.
pub(crate) fn origin(text: &str) -> Result<Origin, StampError> {
    let (node, incarnation) = text.split_once('/').ok_or(StampError::NoIncarnation)?;
    let node: NodeId = node.parse().map_err(|error| StampError::Node(format!("{error}")))?;
    // `from_str_radix` and `parse` accept a sign.
    let is_hex = incarnation.len() == 8 && incarnation.bytes().all(|byte| byte.is_ascii_hexdigit());
    let incarnation =
        u32::from_str_radix(incarnation, 16).ok().filter(|_| is_hex).ok_or(StampError::Incarnation)?;
    Ok(Origin::new(&node, Incarnation(incarnation)))
}

/// Writes a stamp as [`parse`] reads it.
pub(crate) fn text(origin: impl Display, clock: impl Display) -> String {
    format!("{origin}:{clock}")
}

/// Decodes a stamp of a node's answer.
pub(crate) fn from_wire(stamp: Option<proto::Stamp>) -> Result<Stamp, Failure> {
    let stamp = stamp.ok_or_else(|| Failure::nonsense("a stamp is missing"))?;
    let origin = Origin::try_from(stamp.origin.as_ref()).map_err(Failure::nonsense)?;
    Ok(Stamp { origin, clock: Clock(stamp.clock) })
}

/// Encodes a stamp for a request.
pub(crate) fn to_wire(stamp: &Stamp) -> proto::Stamp {
    proto::Stamp { origin: Bytes::copy_from_slice(stamp.origin.as_bytes()), clock: stamp.clock.0 }
}

/// The clocks of a vector, by origin.
pub(crate) fn clocks(clocks: Vec<proto::Stamp>) -> Result<BTreeMap<String, u64>, Failure> {
    let read = clocks.into_iter().map(|stamp| {
        let stamp = from_wire(Some(stamp))?;
        Ok((stamp.origin.to_string(), stamp.clock.0))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_is_written() {
        for written in ["node-1/9f3c2a10:42", "a/00000000:1", "a.b_c/ffffffff:18446744073709551615"] {
            let stamp = parse(written).unwrap();
            assert_eq!(text(stamp.origin, stamp.clock), written);
            assert_eq!(from_wire(Some(to_wire(&stamp))), Ok(stamp));
        }
        assert_eq!(parse("a/ABCDEF01:7"), parse("a/abcdef01:7"));
    }

    #[test]
    fn every_fault_of_a_stamp_is_named() {
        for (written, error) in [
            ("", StampError::NoClock),
            ("node-1/9f3c2a10", StampError::NoClock),
            ("node-1/9f3c2a10:", StampError::Clock),
            ("node-1/9f3c2a10:0", StampError::Clock),
            ("node-1/9f3c2a10:+1", StampError::Clock),
            ("node-1/9f3c2a10:18446744073709551616", StampError::Clock),
            ("node-1:42", StampError::NoIncarnation),
            ("node-1/9f3c2a1:42", StampError::Incarnation),
            ("node-1/+f3c2a10:42", StampError::Incarnation),
            ("node-1/9f3c2a1g:42", StampError::Incarnation),
        ] {
            assert_eq!(parse(written), Err(error), "{written}");
        }
        for written in ["/9f3c2a10:42", "a b/9f3c2a10:42"] {
            assert!(matches!(parse(written), Err(StampError::Node(_))), "{written}");
        }
    }

    #[test]
    fn an_answer_without_a_stamp_is_an_error_and_no_panic() {
        assert!(from_wire(None).is_err());
        assert!(from_wire(Some(proto::Stamp::default())).is_err());
        assert!(clocks(vec![proto::Stamp::default()]).is_err());
        let stamp = to_wire(&parse("a/00000001:3").unwrap());
        assert_eq!(clocks(vec![stamp]), Ok(BTreeMap::from([("a/00000001".to_owned(), 3)])));
    }
}
