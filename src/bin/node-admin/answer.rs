//! What an answer of the first node that answered means for the operator.

use crate::{failure::Failure, output};
use brock_client::Answered;

/// The answer. Reports the nodes that did not answer before it: it is then not from the node named first.
pub(crate) fn reported<T>(answered: Answered<T>) -> Result<T, Failure> {
    report_misses(&answered);
    answered.outcome.map_err(Failure::from)
}

/// The same for a change that is safe to repeat.
pub(crate) fn reported_change<T>(answered: Answered<T>) -> Result<T, Failure> {
    report_misses(&answered);
    change(answered)
}

/// The answer to a change that is safe to repeat, with a remark if another node may have made it too.
pub(crate) fn change<T>(answered: Answered<T>) -> Result<T, Failure> {
    let nodes = answered.perhaps_done();
    match (answered.outcome.map_err(Failure::from), nodes) {
        (outcome, None) => outcome,
        (Ok(answer), Some(nodes)) => {
            output::message(&format!(
                "note: {nodes} may have done it too before the connection broke; twice is harmless"
            ));
            Ok(answer)
        }
        (Err(failure), Some(nodes)) => Err(failure.with_remark(&format!(
            "{nodes} may have done it all the same: the request was sent, the answer was not received. \
             Do it again: repeating it is harmless."
        ))),
    }
}

fn report_misses<T>(answered: &Answered<T>) {
    // If no node answered, the failure lists the misses; if one refused the caller, they do not matter.
    let failure = answered.outcome.as_ref().err().map(Failure::from);
    if matches!(failure, Some(Failure::NoAnswer(_) | Failure::Unreachable(_) | Failure::Denied(_))) {
        return;
    }
    for miss in &answered.misses {
        let what = if miss.has_answered { "could not do it" } else { "did not answer" };
        output::message(&format!("note: {} {what}: {}", miss.address, miss.reason));
    }
}

#[cfg(test)]
mod tests {
    use brock_client::{ClientError, Miss};
    use tonic::Status;

    use super::*;
    use crate::failure::Exit;

    fn answered(outcome: Result<u8, ClientError>, may_be_done: bool) -> Answered<u8> {
        let (address, reason) = ("node-0:1".to_owned(), "reset".to_owned());
        Answered {
            outcome,
            misses: vec![Miss { address, reason, is_refusal: false, may_be_done, has_answered: false }],
        }
    }

    #[test]
    fn a_change_that_broke_off_is_mentioned_and_may_be_repeated() {
        assert_eq!(change(answered(Ok(7), true)), Ok(7));
        let none = || Err(ClientError::NoAnswer(Vec::new()));
        let failure = change(answered(none(), true)).unwrap_err();
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.to_string().contains("\nnode-0:1 may have done it all the same"), "{failure}");
        assert!(failure.to_string().contains("harmless"), "{failure}");
        let failure = change(answered(none(), false)).unwrap_err();
        assert!(!failure.to_string().contains("may have"), "{failure}");
        let refused = change(answered(Err(ClientError::Status(Status::not_found("absent"))), false));
        assert_eq!(refused, Err(Failure::NotFound("absent".to_owned())));
    }
}
