//! Which panics end the process.
//!
//! A panic is a bug. In Brock's own work the state that it leaves is unknown, so the process aborts: acknowledged
//! writes are on the disk, and the next start recovers like after a crash. Work that a library does on bytes from
//! outside, and that shares no state with the node, is contained: a TLS handshake, a look-up of a name, a request
//! to an object store. It fails, the node continues, and an alarm names the place.
//!
//! The tasks of the HTTP libraries are not contained: the node's own handlers run in them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use brock_core::base::limits;

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Takes what an operator must know.
type Report = Arc<dyn Fn(String) + Send + Sync>;

static REPORT: Mutex<Option<Report>> = Mutex::new(None);

/// A library panicked in contained work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a library panicked at {place}; this is a bug, please report it")]
pub struct Panicked {
    place: String,
}

/// Sets what learns of contained panics from now on, once for each place in a source file.
pub fn report_to(report: impl Fn(String) + Send + Sync + 'static) {
    *REPORT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(report));
}

/// For the panic hook: whether the panic of this thread is contained. Notes its place.
pub fn is_contained(place: &str) -> bool {
    let is_contained = IS_CONTAINED.get();
    if is_contained {
        PLACE.with_borrow_mut(|noted| place.clone_into(noted));
    }
    is_contained
}

/// Awaits work that is left to a library, and returns an error if the library panics.
pub async fn contain<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let was_contained = IS_CONTAINED.replace(true);
        // The work is not polled again after a panic, and shares no state with the node.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        IS_CONTAINED.set(was_contained);
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(reported())),
        }
    })
    .await
}

fn reported() -> Panicked {
    static PLACES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let place = match PLACE.with_borrow_mut(std::mem::take) {
        place if place.is_empty() => "an unknown place".to_owned(),
        place => place,
    };
    let panicked = Panicked { place: place.clone() };
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    if places.len() < limits::PANIC_PLACES_MAX && places.insert(place) {
        drop(places);
        let report = REPORT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(report) = report {
            report(format!("{panicked}. The node continues without what it was doing there"));
        }
    }
    panicked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_contained_panic_is_an_error_and_is_reported_once() {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&reports);
        report_to(move |text| into.lock().unwrap().push(text));
        for _ in 0..2 {
            let outcome: Result<(), Panicked> = contain(async {
                tokio::task::yield_now().await;
                // As the hook of a node does.
                assert!(is_contained("lib.rs:7:1"));
                panic!("planted");
            })
            .await;
            assert!(outcome.unwrap_err().to_string().contains("panicked at lib.rs:7:1"));
            assert!(!is_contained("main.rs:1:1"), "the scope ends with the work");
        }
        assert_eq!(reports.lock().unwrap().len(), 1, "{reports:?}");
        assert_eq!(contain(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn work_between_two_polls_is_not_contained() {
        let contained = contain(async {
            tokio::task::yield_now().await;
            is_contained("")
        });
        let other = async { is_contained("") };
        assert_eq!(tokio::join!(contained, other), (Ok(true), false));
    }
}
