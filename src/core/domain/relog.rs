//! What of a state is not proven, as operations that say the same. An origin that signs logs them again.

use super::{
    operation::Operation,
    proofs::Part,
    record::{Creation, RecordState},
};
/// The operations of a state that are not proven, made again: with the times, digests, expiry and reason that are in
/// effect. What destroys comes first: a node that has applied a part of them shows no revoked record as valid.
///
/// Contract: joined to the state under new stamps, with evidence and orders, they change nothing that a reader sees,
/// and the state is proven.
pub fn operations(state: &RecordState) -> Vec<Operation> {
    let unproven: Vec<Part<'_>> = state.unproven().into_iter().map(|(_, part)| part).collect();
    if state.deletion.is_some() {
        return Vec::from_iter((!unproven.is_empty()).then_some(Operation::Delete));
    }
    let invalidation = state.invalidation.as_ref().filter(|one| unproven.contains(&one.part()));
    let invalidation =
        invalidation.map(|one| Operation::Invalidate { at: one.at, reason: one.reason.clone() });
    let unpublication = unproven.contains(&Part::Unpublication).then_some(Operation::Unpublish);
    let winner = state.creation.as_ref().filter(|creation| {
        let of_it = |part: &Part<'_>| {
            *part == creation.part() || matches!(part, Part::Expiry(_) | Part::CreatedUnpublished)
        };
        unproven.iter().any(of_it)
    });
    // A state of before the stamps were kept may be unpublished without either.
    let was_public =
        state.unpublished_create.is_none() && (!state.unpublished || state.unpublication.is_some());
    let winner = winner.map(|creation| Operation::Create {
        created_at: creation.created_at,
        expires_at: state.expires_at,
        public: was_public,
        digest: creation.digest,
    });
    let loser = |creation: &Creation| Operation::Create {
        created_at: creation.created_at,
        expires_at: None,
        public: true,
        digest: creation.digest,
    };
    let losers = state.losers.iter().filter(|creation| unproven.contains(&creation.part())).map(loser);
    [invalidation, unpublication, winner].into_iter().flatten().chain(losers).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::{
        base::{
            id::{Incarnation, Origin, sha256},
            vector::{Clock, Stamp},
        },
        domain::{evidence::Evidence, order::OrderProof},
    };

    fn stamp(incarnation: u32, clock: usize) -> Stamp {
        let origin = Origin::new(&"a".parse().unwrap(), Incarnation(incarnation));
        Stamp { origin, clock: Clock(clock as u64 + 1) }
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Proof {
        None,
        Signed,
        Ordered,
    }

    fn logged(operation: &Operation, stamp: Stamp, proof: Proof) -> RecordState {
        let payload = matches!(operation, Operation::Create { .. }).then(|| Bytes::from_static(b"p"));
        let mut state = operation.state(stamp, payload);
        let order = OrderProof {
            certificate: [1; 32],
            at_unix_ms: 9000,
            scheme: 7,
            signature: Bytes::from_static(b"s"),
        };
        let order = (proof == Proof::Ordered && operation.destroys()).then_some(&order);
        let evidence = || Evidence::new(operation.encode_with(order), (stamp.clock, 1), [1; 32]);
        state.evidence.extend((proof != Proof::None).then(|| (stamp, evidence())));
        state
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let create = (1..3i64, any::<bool>(), proptest::option::of(8..10i64), 0..3u8);
        let create = create.prop_map(|(created_at, public, expires_at, content)| Operation::Create {
            created_at,
            expires_at,
            public,
            digest: sha256(&[content]),
        });
        let invalidate = (1..3i64, "[ab]").prop_map(|(at, reason)| Operation::Invalidate { at, reason });
        prop_oneof![6 => create, 2 => invalidate, 1 => Just(Operation::Unpublish), 1 => Just(Operation::Delete)]
    }

    fn proof() -> impl Strategy<Value = Proof> {
        prop_oneof![Just(Proof::None), Just(Proof::Signed), Just(Proof::Ordered)]
    }

    /// What a reader or an operator sees: everything but the stamps and what proves them.
    fn seen(state: &RecordState) -> impl PartialEq + std::fmt::Debug {
        let creation = |creation: &Creation| (creation.created_at, creation.digest, creation.payload.clone());
        (
            state.creation.as_ref().map(creation),
            state.losers.iter().map(creation).collect::<Vec<_>>(),
            (state.expires_at, state.unpublished, state.deletion.is_some()),
            state.invalidation.as_ref().map(|one| (one.at, one.reason.clone())),
        )
    }

    proptest! {
        #[test]
        fn logged_again_a_state_is_proven_and_reads_as_before(
            (log, signer) in (proptest::collection::vec((operation(), proof()), 1..10), 0..6u32),
        ) {
            let log = log.iter().enumerate();
            let states = log.map(|(clock, (operation, proof))| logged(operation, stamp(3, clock), *proof));
            let before = states.reduce(RecordState::join).unwrap();
            let again = operations(&before);
            let creates = again.iter().position(|one| !one.destroys()).unwrap_or(again.len());
            prop_assert!(again[creates..].iter().all(|one| !one.destroys()), "{again:?}");
            let again = again.iter().enumerate();
            let again = again.map(|(clock, operation)| logged(operation, stamp(signer, 50 + clock), Proof::Ordered));
            let after = again.fold(before.clone(), RecordState::join);
            prop_assert_eq!(seen(&after), seen(&before));
            prop_assert!(after.is_proven(), "{after:?}");
            prop_assert_eq!(operations(&after), Vec::new());
        }
    }
}
