//! A target that fails on request, for tests.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    download::Download,
    error::{Act, Attempts, ObjectError},
    object::{Head, Listed, Metadata, Source},
    target::Target,
};

/// A fault of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// The operation fails, and has no effect.
    Before,
    /// The operation has its effect, and returns an error.
    After,
    /// The operation never ends, and has no effect: the caller behaves like a killed process.
    Hang,
}

type Decide = dyn Fn(Act, &str) -> Fault + Send + Sync;

/// Another target, with faults. Cheap to clone.
#[derive(Clone)]
pub struct Faulty {
    target: Arc<Target>,
    decide: Arc<Decide>,
}

impl Faulty {
    /// Calls `decide` before every operation. The key is empty if there is not exactly one.
    pub fn new(target: Target, decide: impl Fn(Act, &str) -> Fault + Send + Sync + 'static) -> Self {
        Self { target: Arc::new(target), decide: Arc::new(decide) }
    }

    pub(super) fn place(&self) -> String {
        self.target.place()
    }

    pub(super) async fn prepare(&self) -> Result<(), ObjectError> {
        self.pass(Act::Prepare, "", self.target.prepare()).await
    }

    pub(super) async fn put(
        &self,
        key: &str,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<(), ObjectError> {
        self.pass(Act::Put, key, self.target.put(key, source, metadata)).await
    }

    pub(super) async fn get(&self, key: &str, offset: u64) -> Result<Download, ObjectError> {
        self.pass(Act::Get, key, self.target.get(key, offset)).await
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        self.pass(Act::Head, key, self.target.head(key)).await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        self.pass(Act::List, prefix, self.target.list(prefix)).await
    }

    pub(super) async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        let key = if let [key] = keys { key.as_str() } else { "" };
        self.pass(Act::Delete, key, self.target.delete(keys)).await
    }

    pub(super) async fn abort_unfinished(&self, age: Duration) -> Result<usize, ObjectError> {
        self.pass(Act::Abort, "", self.target.abort_unfinished(age)).await
    }

    async fn pass<T>(
        &self,
        act: Act,
        key: &str,
        work: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let failed = || ObjectError::Transient {
            act,
            place: format!("{key} at {}", self.place()),
            reason: "a requested fault".to_owned(),
            attempts: Attempts::default(),
        };
        match (self.decide)(act, key) {
            Fault::None => work.await,
            Fault::Before => Err(failed()),
            Fault::After => work.await.and_then(|_| Err(failed())),
            Fault::Hang => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.target).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        super::{file::FileTarget, timeouts::Timeouts},
        *,
    };

    #[tokio::test]
    async fn faults_strike_before_or_after_the_chosen_operations() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::File(FileTarget::new(directory.path().to_owned(), Timeouts::default()));
        let faulty = Target::Faulty(Faulty::new(target.clone(), |act, key| match (act, key) {
            (Act::Put, "before") => Fault::Before,
            (Act::Put, "after") => Fault::After,
            _ => Fault::None,
        }));
        for (key, succeeds, is_there) in
            [("before", false, false), ("after", false, true), ("none", true, true)]
        {
            let put = faulty.put(key, &Source::Bytes(Bytes::new()), &Metadata::new()).await;
            assert_eq!(put.is_ok(), succeeds, "{key}");
            assert_eq!(target.head(key).await.is_ok(), is_there, "{key}");
        }
    }
}
