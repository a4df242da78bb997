//! A bucket of an S3-compatible store.
//!
//! The SDK signs, sends and decodes; waiting and trying again is [`Patience`]'s, so there is one
//! policy. Only what all stores know is used: bodies are in memory and signed whole (no chunked
//! signatures, no trailing checksums, which R2- and MinIO-like stores of some ages refuse), and
//! where a store knows no batch of deletes they go one by one.

use std::{
    future::Future,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{BuildError, ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use futures::{StreamExt, TryStreamExt};

use super::{
    Act, CredentialSource, Credentials, Download, Head, Listed, Metadata, ObjectError, Patience, Settings,
    Source,
    download::Body,
    endpoint::{check_endpoint, check_region},
    judge::{self, Request},
    key, multipart,
    patience::within,
};
use brock_core::base::limits;
use brock_net::task;

/// Where AWS answers when nothing else is said.
const REGION_DEFAULT: &str = "us-east-1";

/// A bucket, or the part of it under a prefix. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3Target(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bucket: String,
    prefix: String,
    region: String,
    /// Where the bucket is, for messages.
    at: String,
    /// All of the client's configuration but the credentials.
    config: aws_sdk_s3::Config,
    credentials: CredentialSource,
    /// Made anew when the credentials change.
    session: Mutex<Option<Session>>,
    /// Set once the store has refused a batch of deletes and taken them one by one.
    deletes_one_by_one: AtomicBool,
    patience: Patience,
}

/// A client and the credentials it signs with.
#[derive(Debug, Clone)]
struct Session {
    client: Client,
    credentials: Credentials,
}

impl S3Target {
    /// Checks the settings and finds the credentials. Nothing is asked of the store yet.
    pub(super) fn open(bucket: &str, prefix: &str, settings: &Settings) -> Result<Self, ObjectError> {
        Self::open_with(bucket, prefix, settings, |builder| builder)
    }

    fn open_with(
        bucket: &str,
        prefix: &str,
        settings: &Settings,
        adjust: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self, ObjectError> {
        let Settings { endpoint, region, path_style, credentials, patience } = settings;
        let region = region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned());
        check_region(&region)?;
        let mut builder = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .force_path_style(path_style.unwrap_or(endpoint.is_some()))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(limits::OBJECT_CONNECT_TIMEOUT).build());
        let at = match endpoint {
            None => format!("AWS, region {region}"),
            Some(endpoint) => {
                check_endpoint(endpoint)?;
                builder = builder.endpoint_url(endpoint);
                endpoint.clone()
            }
        };
        Ok(Self(Arc::new(Inner {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region,
            at,
            config: adjust(builder).build(),
            credentials: CredentialSource::find(credentials, &|name| std::env::var(name).ok())?,
            session: Mutex::new(None),
            deletes_one_by_one: AtomicBool::new(false),
            patience: *patience,
        })))
    }

    pub(super) fn place(&self) -> String {
        self.place_of("")
    }

    /// An object as it is told to people; the bucket and the prefix for an empty key.
    pub(super) fn place_of(&self, key: &str) -> String {
        format!("s3://{}/{} at {}", self.bucket(), self.full(key), self.0.at)
    }

    pub(super) fn bucket(&self) -> &str {
        &self.0.bucket
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.0.patience
    }

    /// The key within the bucket.
    pub(super) fn full(&self, key: &str) -> String {
        match self.0.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    pub(super) async fn prepare(&self) -> Result<(), ObjectError> {
        let request = |client: Client| {
            client.list_objects_v2().bucket(self.bucket()).prefix(self.full("")).max_keys(1).send()
        };
        self.call(Act::Prepare, "", 0, request).await.map(drop)
    }

    pub(super) async fn put(
        &self,
        key: &str,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<(), ObjectError> {
        if self.full(key).len() > limits::OBJECT_KEY_MAX_BYTES {
            return Err(ObjectError::BadKey {
                key: key.to_owned(),
                problem: "it is too long together with the prefix",
                rule: "at most 1024 bytes",
            });
        }
        let reader = multipart::Reader::open(source).await?;
        let size_bytes = reader.size_bytes();
        if size_bytes > limits::OBJECT_MAX_BYTES {
            return Err(ObjectError::TooLarge { place: self.place_of(key), size_bytes });
        }
        if size_bytes > limits::OBJECT_PART_BYTES {
            return multipart::put(self, key, &reader, metadata).await;
        }
        let bytes = reader.part(0, size_bytes).await?;
        let request = |client: Client| {
            let put = client.put_object().bucket(self.bucket()).key(self.full(key));
            put.body(ByteStream::from(bytes.clone())).set_metadata(as_headers(metadata)).send()
        };
        self.call(Act::Put, key, size_bytes, request).await.map(drop)
    }

    pub(super) async fn get(&self, key: &str, offset: u64) -> Result<Download, ObjectError> {
        let patience = *self.patience();
        let opened =
            patience.persevere(Act::Get, &self.place_of(key), 0, || self.body(key, offset, None)).await;
        let body = match opened {
            // An offset that is just the end is nothing wrong, but stores refuse it.
            Err(ObjectError::BehindEnd { place, .. }) if offset > 0 => match self.head(key).await?.size_bytes
            {
                size_bytes if size_bytes == offset => {
                    Body { stream: ByteStream::default(), skip: 0, size_bytes, etag: None }
                }
                _ => return Err(ObjectError::BehindEnd { place, offset }),
            },
            opened => opened?,
        };
        Ok(Download::of_s3(self.clone(), key, offset, body, patience))
    }

    /// One attempt to have an object from `offset` on, if it is still the one with this tag.
    pub(super) async fn body(&self, key: &str, offset: u64, etag: Option<&str>) -> Result<Body, ObjectError> {
        // Something in between may have weakened the tag, and then no condition on it holds.
        let etag = etag.filter(|etag| !etag.starts_with("W/"));
        let request = |client: Client| {
            let get = client.get_object().bucket(self.bucket()).key(self.full(key));
            let range = (offset > 0).then(|| format!("bytes={offset}-"));
            get.set_range(range).set_if_match(etag.map(str::to_owned)).send()
        };
        let answer = self.once(Act::Get, key, request).await?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let (skip, size_bytes) = match answer.content_range() {
            Some(range) => (0, range_size(range, offset)),
            None => (offset, length),
        };
        let Some(size_bytes) = size_bytes else {
            return Err(self.refused(Act::Get, key, "the answer does not say how long the object is"));
        };
        if offset > size_bytes {
            return Err(ObjectError::BehindEnd { place: self.place_of(key), offset });
        }
        let etag = answer.e_tag().map(str::to_owned);
        Ok(Body { stream: answer.body, skip, size_bytes, etag })
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        let (mut head, _) = self.head_with_token(key).await?;
        head.metadata.remove(multipart::TOKEN);
        Ok(head)
    }

    /// The same, and which put it is from, if that was in parts.
    pub(super) async fn head_with_token(&self, key: &str) -> Result<(Head, Option<String>), ObjectError> {
        let request = |client: Client| client.head_object().bucket(self.bucket()).key(self.full(key)).send();
        let (length, metadata) = match self.call(Act::Head, key, 0, request).await {
            Ok(answer) => (answer.content_length, answer.metadata),
            // An answer to HEAD has no body, so the reason is missing: ask in a way that has one.
            Err(
                ObjectError::AccessDenied { .. }
                | ObjectError::Refused { .. }
                | ObjectError::WrongRegion { .. },
            ) => {
                let request = |client: Client| {
                    client.get_object().bucket(self.bucket()).key(self.full(key)).range("bytes=0-0").send()
                };
                let answer = self.call(Act::Head, key, 0, request).await?;
                let whole = answer.content_range().and_then(|range| range_size(range, 0)?.try_into().ok());
                (whole.or(answer.content_length), answer.metadata)
            }
            Err(error) => return Err(error),
        };
        let Some(size_bytes) = length.and_then(|length| u64::try_from(length).ok()) else {
            return Err(self.refused(Act::Head, key, "the answer does not say how long the object is"));
        };
        let metadata: Metadata = metadata.unwrap_or_default().into_iter().collect();
        let token = metadata.get(multipart::TOKEN).cloned();
        Ok((Head { size_bytes, metadata }, token))
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        let pages = async {
            let mut listed = Vec::new();
            let mut token = None;
            while let ControlFlow::Continue(next) = self.page(prefix, token, &mut listed).await? {
                token = Some(next);
            }
            // Most stores sort, but none of those for which buckets are directories.
            listed.sort();
            listed.dedup_by(|next, kept| next.key == kept.key);
            Ok(listed)
        };
        within(self.patience().scan, Act::List, &self.place_of(prefix), pages).await
    }

    /// Adds one page to a listing, and says where the next one begins.
    async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
        listed: &mut Vec<Listed>,
    ) -> Result<ControlFlow<(), String>, ObjectError> {
        let request = |client: Client| {
            let list = client.list_objects_v2().bucket(self.bucket()).prefix(self.full(prefix));
            list.set_continuation_token(token.clone()).send()
        };
        let page = self.call(Act::List, prefix, 0, request).await?;
        for object in page.contents() {
            // Whatever else lies there was not put by us and cannot be named.
            let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.full(""))) else { continue };
            if !key::is_key(key) {
                continue;
            }
            let Some(size_bytes) = object.size().and_then(|size| u64::try_from(size).ok()) else {
                return Err(self.refused(
                    Act::List,
                    prefix,
                    "the listing does not say how long the objects are",
                ));
            };
            if listed.len() == limits::BACKUP_OBJECTS_MAX {
                return Err(ObjectError::TooMany { place: self.place_of(prefix) });
            }
            listed.push(Listed { key: key.to_owned(), size_bytes });
        }
        match page.next_continuation_token {
            Some(next) if Some(&next) != token.as_ref() => Ok(ControlFlow::Continue(next)),
            None if page.is_truncated != Some(true) => Ok(ControlFlow::Break(())),
            _ => Err(self.refused(Act::List, prefix, "the listing says that it goes on and not where")),
        }
    }

    pub(super) async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        let batches = async {
            for batch in keys.chunks(limits::OBJECT_DELETE_BATCH) {
                if !self.0.deletes_one_by_one.load(Ordering::Relaxed) {
                    match self.delete_batch(batch).await {
                        Err(error @ ObjectError::Refused { .. }) => {
                            tracing::debug!(%error, "the objects are deleted one by one");
                        }
                        deleted => {
                            deleted?;
                            continue;
                        }
                    }
                }
                self.delete_one_by_one(batch).await?;
                self.0.deletes_one_by_one.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        within(self.patience().scan, Act::Delete, &self.place(), batches).await
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<(), ObjectError> {
        let objects: Result<Vec<_>, BuildError> =
            keys.iter().map(|key| ObjectIdentifier::builder().key(self.full(key)).build()).collect();
        let delete =
            objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
        let delete = delete.map_err(|error| self.refused(Act::Delete, "", &error.to_string()))?;
        let request =
            |client: Client| client.delete_objects().bucket(self.bucket()).delete(delete.clone()).send();
        let attempt = || async {
            let answer = self.once(Act::Delete, "", request).await?;
            // The answer as a whole is a success even when no object could be deleted.
            match answer.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
                None => Ok(()),
                Some(error) => {
                    let key =
                        error.key().and_then(|key| key.strip_prefix(&self.full(""))).unwrap_or_default();
                    let credentials = self.session().await.credentials;
                    let place = self.place_of(key);
                    let request = self.request(Act::Delete, &place, &place, &credentials);
                    Err(judge::answered(request, 200, error.code(), error.message(), None))
                }
            }
        };
        self.patience().persevere(Act::Delete, &self.place(), 0, attempt).await
    }

    async fn delete_one_by_one(&self, keys: &[String]) -> Result<(), ObjectError> {
        let delete = |key: &String| {
            let key = key.clone();
            async move {
                let request =
                    |client: Client| client.delete_object().bucket(self.bucket()).key(self.full(&key)).send();
                match self.call(Act::Delete, &key, 0, request).await {
                    Err(ObjectError::NotFound { .. }) => Ok(()),
                    deleted => deleted.map(drop),
                }
            }
        };
        let deletes = futures::stream::iter(keys.iter().map(delete).collect::<Vec<_>>());
        deletes.buffer_unordered(limits::OBJECT_DELETES_IN_FLIGHT).try_collect().await
    }

    pub(super) async fn abort_unfinished(&self, age: Duration) -> Result<usize, ObjectError> {
        let abort = multipart::abort_unfinished(self, age);
        within(self.patience().scan, Act::Abort, &self.place(), abort).await
    }

    /// Sends a request until it succeeds, fails for good, or its time is over.
    pub(super) async fn call<T, E, F>(
        &self,
        act: Act,
        key: &str,
        size_bytes: u64,
        request: impl Fn(Client) -> F,
    ) -> Result<T, ObjectError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let place = self.place_of(key);
        self.patience().persevere(act, &place, size_bytes, || self.once(act, key, &request)).await
    }

    /// Sends a request once; again only if the credentials have changed since it was signed.
    pub(super) async fn once<T, E, F>(
        &self,
        act: Act,
        key: &str,
        request: impl Fn(Client) -> F,
    ) -> Result<T, ObjectError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let (place, bucket_place) =
            (self.place_of(key), format!("bucket {} at {}", self.bucket(), self.0.at));
        let session = self.session().await;
        let about = self.request(act, &place, &bucket_place, &session.credentials);
        let error = match request(session.client.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => judge::judge(about, &error),
        };
        if !error.is_about_credentials() {
            return Err(error);
        }
        let renewed = self.session().await;
        if renewed.credentials == session.credentials {
            return Err(error);
        }
        let about = self.request(act, &place, &bucket_place, &renewed.credentials);
        request(renewed.client.clone()).await.map_err(|error| judge::judge(about, &error))
    }

    /// A client with the credentials as they are now.
    async fn session(&self) -> Session {
        let source = self.0.credentials.clone();
        let credentials = if source.is_fixed() {
            source.current()
        } else {
            // A join fails only after a panic, or while the runtime goes away.
            match tokio::task::spawn_blocking(move || source.current()).await {
                Ok(credentials) => credentials,
                Err(_) => std::future::pending().await,
            }
        };
        let mut held = self.0.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = held.as_ref().filter(|session| session.credentials == credentials) {
            return session.clone();
        }
        let config = self.0.config.to_builder().credentials_provider(aws_sdk_s3::config::Credentials::new(
            credentials.access_key_id.clone(),
            credentials.secret_access_key.reveal(),
            credentials.session_token.as_ref().map(|token| token.reveal().to_owned()),
            None,
            "brock",
        ));
        held.insert(Session { client: Client::from_conf(config.build()), credentials }).clone()
    }

    fn request<'a>(
        &'a self,
        act: Act,
        place: &'a str,
        bucket_place: &'a str,
        credentials: &'a Credentials,
    ) -> Request<'a> {
        Request { act, place, bucket_place, region: &self.0.region, credentials }
    }

    pub(super) fn refused(&self, act: Act, key: &str, detail: &str) -> ObjectError {
        ObjectError::Refused { act, place: self.place_of(key), detail: task::bounded(detail) }
    }
}

/// Metadata as the SDK takes it.
pub(super) fn as_headers(metadata: &Metadata) -> Option<std::collections::HashMap<String, String>> {
    (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
}

/// The size of the whole object in `bytes 5-9/10`, if the range begins where it was asked to.
fn range_size(range: &str, offset: u64) -> Option<u64> {
    let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    if first.parse::<u64>().ok()? == offset { size.parse().ok() } else { None }
}

#[cfg(any(test, feature = "planted-bugs"))]
#[path = "s3_dialling.rs"]
mod dialling;

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
