//! Asking one node after the other until one answers.

use crate::error::{CallError, ClientError, Miss};

/// The outcome of asking one node after the other.
#[derive(Debug)]
pub struct Answered<T> {
    /// The first answer, or why there is none.
    pub outcome: Result<T, ClientError>,
    /// The nodes that did not answer, in the order of the attempts.
    pub misses: Vec<Miss>,
}

impl<T> Answered<T> {
    /// The nodes that may have carried out the request although they did not answer, separated by commas.
    pub fn perhaps_done(&self) -> Option<String> {
        let nodes = self.misses.iter().filter(|miss| miss.may_be_done);
        let nodes: Vec<_> = nodes.map(|miss| miss.address.as_str()).collect();
        (!nodes.is_empty()).then(|| nodes.join(", "))
    }
}

/// Makes the attempt at each node in turn. The first answer ends it, even if it is an error.
pub(crate) async fn first_answer<A, T, F: Future<Output = Result<T, CallError>>>(
    addresses: impl IntoIterator<Item = A>,
    attempt: impl Fn(A) -> F,
) -> Answered<T> {
    let mut misses = Vec::new();
    for address in addresses {
        match attempt(address).await {
            Ok(answer) => return Answered { outcome: Ok(answer), misses },
            Err(CallError::Status(status)) => {
                return Answered { outcome: Err(ClientError::Status(status)), misses };
            }
            Err(CallError::Miss(miss)) => misses.push(miss),
        }
    }
    Answered { outcome: Err(ClientError::NoAnswer(misses.clone())), misses }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use tonic::Status;

    use super::*;

    fn miss(index: usize, is_refusal: bool, may_be_done: bool) -> CallError {
        let (address, reason) = (format!("node-{index}:1"), "down".to_owned());
        CallError::Miss(Miss { address, reason, is_refusal, may_be_done, has_answered: false })
    }

    async fn ask(script: Vec<Result<u8, CallError>>) -> Answered<u8> {
        let addresses: Vec<usize> = (0..script.len()).collect();
        let script = Mutex::new(VecDeque::from(script));
        first_answer(addresses, async |_| script.lock().unwrap().pop_front().unwrap()).await
    }

    #[tokio::test]
    async fn the_first_answer_decides() {
        let answered = ask(vec![Err(miss(0, false, false)), Ok(7), Ok(8)]).await;
        assert_eq!(answered.perhaps_done(), None);
        assert_eq!(answered.outcome.unwrap(), 7);

        let not_found = CallError::new(&"node-1:1", Status::not_found("absent"));
        let answered = ask(vec![Err(miss(0, false, true)), Err(not_found), Ok(8)]).await;
        assert_eq!(answered.perhaps_done().as_deref(), Some("node-0:1"));
        assert_eq!(answered.outcome.unwrap_err().to_string(), "absent");
    }

    #[tokio::test]
    async fn without_an_answer_every_miss_is_listed() {
        let unavailable = CallError::new(&"node-1:1", Status::unavailable("2 peers could not be asked"));
        let answered = ask(vec![Err(miss(0, false, false)), Err(unavailable)]).await;
        let text = "no node could tell or do it\n  node-0:1: down\n  node-1:1: 2 peers could not be asked";
        assert_eq!(answered.outcome.unwrap_err().to_string(), text);

        let text = ask(Vec::new()).await.outcome.unwrap_err().to_string();
        assert_eq!(text, "no node answered: the client was given no address");

        let answered = ask(vec![Err(miss(0, false, false)), Err(miss(1, true, false))]).await;
        assert!(answered.outcome.unwrap_err().is_refusal());
    }
}
