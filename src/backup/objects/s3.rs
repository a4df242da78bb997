//! A bucket as a target.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::Builder,
    error::BuildError,
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use futures::{StreamExt, TryStreamExt};

use super::{
    bucket::{Bucket, as_headers},
    download::{self, Download},
    error::{Act, ObjectError},
    key::{self, BadKey},
    multipart,
    object::{Head, Listed, Metadata, Settings, Source},
    timeouts::within,
};
use brock_core::base::limits;

/// A bucket, or the part of it under a prefix. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3Target {
    bucket: Bucket,
    /// Set once the store has refused a batch of deletes and accepted single ones.
    deletes_one_by_one: Arc<AtomicBool>,
}

impl S3Target {
    /// Checks the settings. Sends no request.
    pub(super) fn open(bucket: &str, prefix: &str, settings: &Settings) -> Result<Self, ObjectError> {
        Self::open_with(bucket, prefix, settings, |builder| builder)
    }

    pub(super) fn open_with(
        bucket: &str,
        prefix: &str,
        settings: &Settings,
        adjust: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self, ObjectError> {
        let bucket = Bucket::open(bucket, prefix, settings, adjust)?;
        Ok(Self { bucket, deletes_one_by_one: Arc::default() })
    }

    pub(super) fn place(&self) -> String {
        self.bucket.place_of("")
    }

    pub(super) async fn check_credentials(&self) -> Result<(), ObjectError> {
        self.bucket.check_credentials().await
    }

    pub(super) async fn prepare(&self) -> Result<(), ObjectError> {
        let bucket = &self.bucket;
        let request = |client: Client| {
            client.list_objects_v2().bucket(bucket.name()).prefix(bucket.full("")).max_keys(1).send()
        };
        bucket.call(Act::Prepare, "", 0, request).await.map(drop)
    }

    pub(super) async fn put(
        &self,
        key: &str,
        source: &Source,
        metadata: &Metadata,
    ) -> Result<(), ObjectError> {
        let bucket = &self.bucket;
        if bucket.full(key).len() > limits::OBJECT_KEY_MAX_BYTES {
            return Err(ObjectError::BadKey(BadKey {
                key: key.to_owned(),
                problem: "it is too long together with the prefix",
                rule: "at most 1024 bytes",
            }));
        }
        let reader = multipart::Reader::open(source).await?;
        let size_bytes = reader.size_bytes();
        if size_bytes > limits::OBJECT_MAX_BYTES {
            return Err(ObjectError::TooLarge { place: bucket.place_of(key), size_bytes });
        }
        if size_bytes > limits::OBJECT_PART_BYTES {
            return multipart::put(bucket, key, &reader, metadata).await;
        }
        let bytes = reader.part(0, size_bytes).await?;
        let request = |client: Client| {
            let put = client.put_object().bucket(bucket.name()).key(bucket.full(key));
            put.body(ByteStream::from(bytes.clone())).set_metadata(as_headers(metadata)).send()
        };
        bucket.call(Act::Put, key, size_bytes, request).await.map(drop)
    }

    pub(super) async fn get(&self, key: &str, offset: u64) -> Result<Download, ObjectError> {
        let (bucket, place) = (&self.bucket, self.bucket.place_of(key));
        let attempt = || download::open(bucket, key, offset, None);
        let opened = bucket.timeouts().with_retries(Act::Get, &place, 0, attempt).await;
        match opened {
            Ok(body) => Ok(Download::of_s3(bucket.clone(), key, offset, body)),
            // Stores refuse an offset that is exactly the end, which is allowed here.
            Err(ObjectError::PastEnd { place, .. }) if offset > 0 => match self.head(key).await?.size_bytes {
                size_bytes if size_bytes == offset => {
                    Ok(Download::of_s3(bucket.clone(), key, offset, download::Body::empty(size_bytes)))
                }
                _ => Err(ObjectError::PastEnd { place, offset }),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) async fn head(&self, key: &str) -> Result<Head, ObjectError> {
        let (mut head, _) = multipart::head_with_token(&self.bucket, key).await?;
        head.metadata.remove(multipart::TOKEN);
        Ok(head)
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        let pages = async {
            let mut listed = Vec::new();
            let mut token = None;
            while let ControlFlow::Continue(next) = self.page(prefix, token, &mut listed).await? {
                token = Some(next);
            }
            // Most stores sort, but not those whose buckets are directories.
            listed.sort();
            listed.dedup_by(|next, kept| next.key == kept.key);
            Ok(listed)
        };
        within(self.bucket.timeouts().scan, Act::List, &self.bucket.place_of(prefix), pages).await
    }

    /// Adds one page to a listing, and returns the token of the next one.
    async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
        listed: &mut Vec<Listed>,
    ) -> Result<ControlFlow<(), String>, ObjectError> {
        let bucket = &self.bucket;
        let request = |client: Client| {
            let list = client.list_objects_v2().bucket(bucket.name()).prefix(bucket.full(prefix));
            list.set_continuation_token(token.clone()).send()
        };
        let page = bucket.call(Act::List, prefix, 0, request).await?;
        for object in page.contents() {
            // Objects that another program has put there may have keys that cannot be used here.
            let Some(key) = object.key().and_then(|key| key.strip_prefix(&bucket.full(""))) else { continue };
            if !key::is_key(key) {
                continue;
            }
            let Some(size_bytes) = object.size().and_then(|size| u64::try_from(size).ok()) else {
                return Err(bucket.refused(Act::List, prefix, "the listing lacks the sizes of the objects"));
            };
            if listed.len() == limits::BACKUP_OBJECTS_MAX {
                return Err(ObjectError::TooMany { place: bucket.place_of(prefix) });
            }
            listed.push(Listed { key: key.to_owned(), size_bytes });
        }
        match page.next_continuation_token {
            Some(next) if Some(&next) != token.as_ref() => Ok(ControlFlow::Continue(next)),
            None if page.is_truncated != Some(true) => Ok(ControlFlow::Break(())),
            _ => Err(bucket.refused(Act::List, prefix, "the listing continues, but does not say where")),
        }
    }

    pub(super) async fn delete(&self, keys: &[String]) -> Result<(), ObjectError> {
        let batches = async {
            for batch in keys.chunks(limits::OBJECT_DELETE_BATCH) {
                if !self.deletes_one_by_one.load(Ordering::Relaxed) {
                    match self.delete_batch(batch).await {
                        Err(error @ ObjectError::Refused { .. }) => {
                            tracing::debug!(%error, "deleting the objects one by one");
                        }
                        deleted => {
                            deleted?;
                            continue;
                        }
                    }
                }
                self.delete_one_by_one(batch).await?;
                self.deletes_one_by_one.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        within(self.bucket.timeouts().scan, Act::Delete, &self.place(), batches).await
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<(), ObjectError> {
        let bucket = &self.bucket;
        let objects: Result<Vec<_>, BuildError> =
            keys.iter().map(|key| ObjectIdentifier::builder().key(bucket.full(key)).build()).collect();
        let delete =
            objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
        let delete = delete.map_err(|error| bucket.refused(Act::Delete, "", &error.to_string()))?;
        let request =
            |client: Client| client.delete_objects().bucket(bucket.name()).delete(delete.clone()).send();
        let attempt = || async {
            let answer = bucket.once(Act::Delete, "", request).await?;
            // The answer as a whole is a success even when no object was deleted.
            match answer.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
                None => Ok(()),
                Some(error) => {
                    let key = error.key().and_then(|key| key.strip_prefix(&bucket.full("")));
                    let key = key.unwrap_or_default();
                    Err(bucket.error_within(Act::Delete, key, error.code(), error.message()).await)
                }
            }
        };
        bucket.timeouts().with_retries(Act::Delete, &self.place(), 0, attempt).await
    }

    async fn delete_one_by_one(&self, keys: &[String]) -> Result<(), ObjectError> {
        let bucket = &self.bucket;
        let delete = |key: &String| {
            let key = key.clone();
            async move {
                let request = |client: Client| {
                    client.delete_object().bucket(bucket.name()).key(bucket.full(&key)).send()
                };
                match bucket.call(Act::Delete, &key, 0, request).await {
                    Err(ObjectError::NotFound { .. }) => Ok(()),
                    deleted => deleted.map(drop),
                }
            }
        };
        let deletes = futures::stream::iter(keys.iter().map(delete).collect::<Vec<_>>());
        deletes.buffer_unordered(limits::OBJECT_DELETES_IN_FLIGHT).try_collect().await
    }

    pub(super) async fn abort_unfinished(&self, age: Duration) -> Result<usize, ObjectError> {
        let abort = multipart::abort_unfinished(&self.bucket, age);
        within(self.bucket.timeouts().scan, Act::Abort, &self.place(), abort).await
    }
}
