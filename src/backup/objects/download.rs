//! Reading an object, from any byte on, to its very end.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf, Bytes};
use futures::Stream;
use tokio::time::Instant;

use super::{
    Act, ObjectError, Patience, S3Target,
    error::Tried,
    file,
    patience::{count, within},
};
use brock_core::base::limits;

/// An object that is being read.
///
/// A connection that breaks, stalls or ends early is resumed where it was; what comes is the
/// object's bytes to its end, or an error. Only the time spent in [`Download::next`] counts against
/// the time-outs, so a slow reader does not lose the object.
#[derive(Debug)]
pub struct Download {
    kind: Kind,
    patience: Patience,
    /// What is left of the time for all of it.
    budget: Duration,
}

#[derive(Debug)]
enum Kind {
    File(FileDownload),
    S3(Box<S3Download>),
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct FileDownload {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    pub(super) position: u64,
}

/// An object of a store that is being read.
#[derive(Debug)]
pub(super) struct S3Download {
    target: S3Target,
    key: String,
    size_bytes: u64,
    position: u64,
    /// Goes with every further request, so that no other object is read on.
    etag: Option<String>,
    body: Option<Body>,
}

/// The body of one answer.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) stream: ByteStream,
    /// Bytes to throw away first: some stores send the whole object whatever was asked for.
    pub(super) skip: u64,
    /// The size of the whole object.
    pub(super) size_bytes: u64,
    pub(super) etag: Option<String>,
}

impl Download {
    pub(super) fn of_file(download: FileDownload, patience: Patience) -> Self {
        let budget = patience.total_of(download.size_bytes.saturating_sub(download.position));
        Self { kind: Kind::File(download), patience, budget }
    }

    pub(super) fn of_s3(target: S3Target, key: &str, offset: u64, body: Body, patience: Patience) -> Self {
        let budget = patience.total_of(body.size_bytes.saturating_sub(offset));
        let download = S3Download {
            target,
            key: key.to_owned(),
            size_bytes: body.size_bytes,
            position: offset,
            etag: body.etag.clone(),
            body: Some(body),
        };
        Self { kind: Kind::S3(Box::new(download)), patience, budget }
    }

    /// The size of the whole object, also when reading began in its middle.
    pub fn size_bytes(&self) -> u64 {
        match &self.kind {
            Kind::File(download) => download.size_bytes,
            Kind::S3(download) => download.size_bytes,
        }
    }

    /// The byte that comes next: where to resume.
    pub fn position(&self) -> u64 {
        match &self.kind {
            Kind::File(download) => download.position,
            Kind::S3(download) => download.position,
        }
    }

    /// The next bytes; `None` once all have come. After an error, [`Download::position`] is where
    /// another download may go on.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        let started = Instant::now();
        let result = match &mut self.kind {
            Kind::File(download) => {
                let place = download.path.display().to_string();
                within(self.budget, Act::Get, &place, download.next()).await
            }
            Kind::S3(download) => {
                let place = download.target.place_of(&download.key);
                within(self.budget, Act::Get, &place, download.next(&self.patience)).await
            }
        };
        self.budget = self.budget.saturating_sub(started.elapsed());
        result
    }

    /// The same as a stream, which ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send {
        futures::stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|bytes| (bytes, download)))
        })
    }
}

impl FileDownload {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        let left = self.size_bytes - self.position;
        if left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(limits::OBJECT_READ_BYTES);
        let bytes = file::read_at(&self.file, &self.path, self.position, length).await?;
        if bytes.is_empty() {
            return Err(ObjectError::Changed { place: self.path.display().to_string() });
        }
        self.position += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

impl S3Download {
    /// Every progress is a success: the next fault is a first one again.
    async fn next(&mut self, patience: &Patience) -> Result<Option<Bytes>, ObjectError> {
        let mut retry = patience.retry(self.size_bytes - self.position);
        let (started, mut tries) = (Instant::now(), 0);
        while self.position < self.size_bytes {
            tries += 1;
            let place = self.target.place_of(&self.key);
            let error = match within(patience.attempt, Act::Get, &place, self.attempt()).await {
                Ok(bytes) => {
                    self.position += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Err(error) => error,
            };
            self.body = None;
            let delay = if error.is_retryable() { retry.next_delay() } else { None };
            let Some(delay) = delay else {
                count(Act::Get, "failed");
                return Err(error.after(tries, started.elapsed()));
            };
            count(Act::Get, "retried");
            tracing::debug!(%error, tries, position = self.position, ?delay, "the object is read on");
            tokio::time::sleep(delay).await;
        }
        Ok(None)
    }

    /// Some bytes: of the body that is open, or of a new one.
    async fn attempt(&mut self) -> Result<Bytes, ObjectError> {
        let place = || self.target.place_of(&self.key);
        if self.body.is_none() {
            let body = self.target.body(&self.key, self.position, self.etag.as_deref()).await?;
            // Not every store heeds the condition that goes with the request.
            if body.size_bytes != self.size_bytes || self.etag.is_some() && body.etag != self.etag {
                return Err(ObjectError::Changed { place: place() });
            }
            self.body = Some(body);
        }
        let passing = |reason: String| ObjectError::Passing {
            act: Act::Get,
            place: self.target.place_of(&self.key),
            reason,
            tried: Tried::default(),
        };
        let Some(body) = &mut self.body else { return Err(passing("there was no body".to_owned())) };
        loop {
            let mut bytes = match body.stream.next().await {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Err(passing(format!("the body broke off: {error}"))),
                None => {
                    let (position, size) = (self.position, self.size_bytes);
                    return Err(passing(format!("the body ended after {position} of {size} bytes")));
                }
            };
            let skipped = usize::try_from(body.skip).unwrap_or(usize::MAX).min(bytes.len());
            body.skip -= skipped as u64;
            bytes.advance(skipped);
            if self.position + bytes.len() as u64 > self.size_bytes {
                return Err(ObjectError::Changed { place: self.target.place_of(&self.key) });
            }
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}
