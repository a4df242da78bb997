//! Reading an object, from any byte to its end.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use aws_sdk_s3::{Client, primitives::ByteStream};
use bytes::{Buf, Bytes};
use futures::Stream;
use tokio::time::Instant;

use super::{
    blocking,
    bucket::Bucket,
    error::{Act, Attempts, ObjectError},
    timeouts::{Timeouts, count, within},
};
use brock_core::base::limits;

/// An object that is being read.
///
/// A connection that breaks, stalls or ends early is resumed where it stopped: the caller gets all
/// remaining bytes of the object, or an error. Only the time spent in [`Download::next`] counts against
/// the timeouts, so a slow caller does not lose the object.
#[derive(Debug)]
pub struct Download {
    kind: Kind,
    timeouts: Timeouts,
    /// The time left for the whole download.
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

/// An object in a bucket that is being read.
#[derive(Debug)]
struct S3Download {
    bucket: Bucket,
    key: String,
    size_bytes: u64,
    position: u64,
    /// Sent with every further request, so that all bytes are of one object.
    etag: Option<String>,
    body: Option<Body>,
}

/// The body of one answer.
#[derive(Debug)]
pub(super) struct Body {
    stream: ByteStream,
    /// Bytes to discard first: some stores ignore the range and send the whole object.
    skip: u64,
    /// The size of the whole object.
    size_bytes: u64,
    etag: Option<String>,
}

impl Body {
    /// No bytes, of an object of this size.
    pub(super) fn empty(size_bytes: u64) -> Self {
        Self { stream: ByteStream::default(), skip: 0, size_bytes, etag: None }
    }
}

/// Asks once for an object from `offset` on, provided that it still has this tag.
pub(super) async fn open(
    bucket: &Bucket,
    key: &str,
    offset: u64,
    etag: Option<&str>,
) -> Result<Body, ObjectError> {
    // A proxy may have weakened the tag, and a condition on a weak tag never holds.
    let etag = etag.filter(|etag| !etag.starts_with("W/"));
    let request = |client: Client| {
        let get = client.get_object().bucket(bucket.name()).key(bucket.full(key));
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        get.set_range(range).set_if_match(etag.map(str::to_owned)).send()
    };
    let answer = bucket.once(Act::Get, key, request).await?;
    let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
    let (skip, size_bytes) = match answer.content_range() {
        Some(range) => (0, range_size(range, offset)),
        None => (offset, length),
    };
    let Some(size_bytes) = size_bytes else {
        return Err(bucket.refused(Act::Get, key, "the answer lacks the object's size"));
    };
    if offset > size_bytes {
        return Err(ObjectError::PastEnd { place: bucket.place_of(key), offset });
    }
    let etag = answer.e_tag().map(str::to_owned);
    Ok(Body { stream: answer.body, skip, size_bytes, etag })
}

/// The size of the whole object in `bytes 5-9/10`, if the range begins at `offset`.
pub(super) fn range_size(range: &str, offset: u64) -> Option<u64> {
    let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    if first.parse::<u64>().ok()? == offset { size.parse().ok() } else { None }
}

impl Download {
    pub(super) fn of_file(download: FileDownload, timeouts: Timeouts) -> Self {
        let budget = timeouts.total_of(download.size_bytes.saturating_sub(download.position));
        Self { kind: Kind::File(download), timeouts, budget }
    }

    pub(super) fn of_s3(bucket: Bucket, key: &str, offset: u64, body: Body) -> Self {
        let timeouts = *bucket.timeouts();
        let budget = timeouts.total_of(body.size_bytes.saturating_sub(offset));
        let download = S3Download {
            bucket,
            key: key.to_owned(),
            size_bytes: body.size_bytes,
            position: offset,
            etag: body.etag.clone(),
            body: Some(body),
        };
        Self { kind: Kind::S3(Box::new(download)), timeouts, budget }
    }

    /// The size of the whole object, wherever reading began.
    pub fn size_bytes(&self) -> u64 {
        match &self.kind {
            Kind::File(download) => download.size_bytes,
            Kind::S3(download) => download.size_bytes,
        }
    }

    /// The offset of the next byte: where to resume.
    pub fn position(&self) -> u64 {
        match &self.kind {
            Kind::File(download) => download.position,
            Kind::S3(download) => download.position,
        }
    }

    /// The next bytes; `None` at the end. After an error, another download may begin at
    /// [`Download::position`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        let started = Instant::now();
        let result = match &mut self.kind {
            Kind::File(download) => {
                let place = download.path.display().to_string();
                within(self.budget, Act::Get, &place, download.next()).await
            }
            Kind::S3(download) => {
                let place = download.bucket.place_of(&download.key);
                within(self.budget, Act::Get, &place, download.next(&self.timeouts)).await
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
        let bytes = blocking::read_at(&self.file, &self.path, self.position, length).await?;
        if bytes.is_empty() {
            return Err(ObjectError::Changed { place: self.path.display().to_string() });
        }
        self.position += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

impl S3Download {
    /// The retries begin again with each call: every progress counts as a success.
    async fn next(&mut self, timeouts: &Timeouts) -> Result<Option<Bytes>, ObjectError> {
        let mut retry = timeouts.retry(self.size_bytes - self.position);
        let (started, mut attempts) = (Instant::now(), 0);
        while self.position < self.size_bytes {
            attempts += 1;
            let place = self.bucket.place_of(&self.key);
            let error = match within(timeouts.attempt, Act::Get, &place, self.attempt()).await {
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
                return Err(error.after(attempts, started.elapsed()));
            };
            count(Act::Get, "retried");
            tracing::debug!(%error, attempts, position = self.position, ?delay, "resuming the download");
            tokio::time::sleep(delay).await;
        }
        Ok(None)
    }

    /// Some bytes of the open body, or of a new one.
    async fn attempt(&mut self) -> Result<Bytes, ObjectError> {
        let place = || self.bucket.place_of(&self.key);
        if self.body.is_none() {
            let body = open(&self.bucket, &self.key, self.position, self.etag.as_deref()).await?;
            // Some stores ignore the condition on the tag.
            if body.size_bytes != self.size_bytes || self.etag.is_some() && body.etag != self.etag {
                return Err(ObjectError::Changed { place: place() });
            }
            self.body = Some(body);
        }
        let transient = |reason: String| ObjectError::Transient {
            act: Act::Get,
            place: place(),
            reason,
            attempts: Attempts::default(),
        };
        let Some(body) = &mut self.body else { return Err(transient("there was no body".to_owned())) };
        loop {
            let mut bytes = match body.stream.next().await {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Err(transient(format!("the body broke off: {error}"))),
                None => {
                    let (position, size) = (self.position, self.size_bytes);
                    return Err(transient(format!("the body ended after {position} of {size} bytes")));
                }
            };
            let skipped = usize::try_from(body.skip).unwrap_or(usize::MAX).min(bytes.len());
            body.skip -= skipped as u64;
            bytes.advance(skipped);
            if self.position + bytes.len() as u64 > self.size_bytes {
                return Err(ObjectError::Changed { place: place() });
            }
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_the_range_that_was_asked_for() {
        assert_eq!(range_size("bytes 5-9/10", 5), Some(10));
        assert_eq!(range_size("bytes 0-9/10", 5), None);
        assert_eq!(range_size("bytes 5-9/*", 5), None);
        assert_eq!(range_size("bytes */10", 5), None);
    }
}
