//! Storing an object that is too large for one request: in parts, of which few are in memory.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::{
    blocking,
    bucket::{Bucket, as_headers},
    download,
    error::{Act, ObjectError},
    object::{Head, Metadata, Source},
    timeouts::within,
};
use brock_core::base::{limits, time};

/// Internal metadata that distinguishes one put of a key from another.
pub(super) const TOKEN: &str = "brock-put";

/// The content of a new object, read part by part.
pub(super) enum Reader {
    Bytes(Bytes),
    File { file: Arc<File>, path: PathBuf, size_bytes: u64 },
}

impl Reader {
    pub(super) async fn open(source: &Source) -> Result<Self, ObjectError> {
        match source {
            Source::Bytes(bytes) => Ok(Self::Bytes(bytes.clone())),
            Source::File(path) => {
                let (file, size_bytes) = blocking::open_source(path).await?;
                Ok(Self::File { file, path: path.clone(), size_bytes })
            }
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size_bytes, .. } => *size_bytes,
        }
    }

    /// The bytes of one part. Fails if the file has become shorter or longer.
    pub(super) async fn part(&self, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let as_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        match self {
            Self::Bytes(bytes) => Ok(bytes.slice(as_usize(offset)..as_usize(offset + length))),
            Self::File { file, path, size_bytes } => {
                let bytes = blocking::read_at(file, path, offset, as_usize(length)).await?;
                let last = offset + length == *size_bytes;
                let grown = last && !blocking::read_at(file, path, *size_bytes, 1).await?.is_empty();
                if bytes.len() as u64 != length || grown {
                    return Err(ObjectError::SourceChanged { path: path.clone() });
                }
                Ok(bytes)
            }
        }
    }
}

/// Stores an object in parts. It exists once the last request has succeeded. After an error it does not
/// exist, and its parts are freed.
pub(super) async fn put(
    bucket: &Bucket,
    key: &str,
    reader: &Reader,
    metadata: &Metadata,
) -> Result<(), ObjectError> {
    let token = format!("{:032x}", rand::random::<u128>());
    let mut metadata = metadata.clone();
    metadata.insert(TOKEN.to_owned(), token.clone());
    let request = |client: Client| {
        let create = client.create_multipart_upload().bucket(bucket.name()).key(bucket.full(key));
        create.set_metadata(as_headers(&metadata)).send()
    };
    let created = bucket.call(Act::Put, key, 0, request).await?;
    let Some(upload_id) = created.upload_id() else {
        return Err(bucket.refused(Act::Put, key, "the answer lacks the upload's id"));
    };
    let size_bytes = reader.size_bytes();
    let limit = bucket.timeouts().total_of(size_bytes);
    let upload = async {
        let parts = upload_parts(bucket, key, upload_id, reader).await?;
        complete(bucket, key, upload_id, &token, size_bytes, parts).await
    };
    let uploaded = within(limit, Act::Put, &bucket.place_of(key), upload).await;
    if uploaded.is_err() {
        // Once only: a failing store would be waited for a second time. `abort_unfinished` frees the rest.
        let request = |client: Client| {
            let abort = client.abort_multipart_upload().bucket(bucket.name()).key(bucket.full(key));
            abort.upload_id(upload_id).send()
        };
        let abort = bucket.once(Act::Abort, key, request);
        if let Err(error) = within(bucket.timeouts().attempt, Act::Abort, &bucket.place_of(key), abort).await
        {
            tracing::warn!(%error, "the parts of a failed upload take up space until they are freed");
        }
    }
    uploaded
}

async fn upload_parts(
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
    reader: &Reader,
) -> Result<Vec<CompletedPart>, ObjectError> {
    let (size_bytes, part_bytes) = (reader.size_bytes(), part_bytes(reader.size_bytes()));
    let upload = |index: u64| async move {
        let offset = index * part_bytes;
        let length = part_bytes.min(size_bytes - offset);
        // Part numbers begin at 1 and end at 10,000.
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let bytes = reader.part(offset, length).await?;
        let request = |client: Client| {
            let upload =
                client.upload_part().bucket(bucket.name()).key(bucket.full(key)).upload_id(upload_id);
            upload.part_number(number).body(ByteStream::from(bytes.clone())).send()
        };
        let answer = bucket.call(Act::Put, key, length, request).await?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build())
    };
    let parts = futures::stream::iter((0..size_bytes.div_ceil(part_bytes)).map(upload));
    parts.buffered(limits::OBJECT_PARTS_IN_FLIGHT).try_collect().await
}

async fn complete(
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
    token: &str,
    size_bytes: u64,
    parts: Vec<CompletedPart>,
) -> Result<(), ObjectError> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let request = |client: Client| {
        let complete = client.complete_multipart_upload().bucket(bucket.name()).key(bucket.full(key));
        complete.upload_id(upload_id).multipart_upload(parts.clone()).send()
    };
    // The store joins the parts before it answers: much faster than they were sent, but not at once.
    match bucket.call(Act::Put, key, size_bytes / 16, request).await {
        // An earlier attempt may have succeeded, and its answer was lost.
        Err(gone @ ObjectError::UploadGone { .. } | gone @ ObjectError::NotFound { .. }) => {
            match head_with_token(bucket, key).await {
                Ok((head, Some(found))) if found == token && head.size_bytes == size_bytes => Ok(()),
                Ok(_) | Err(ObjectError::NotFound { .. }) => Err(gone),
                Err(error) => Err(error),
            }
        }
        completed => completed.map(drop),
    }
}

/// Returns an object's size and metadata, and which put it is from if it was stored in parts.
pub(super) async fn head_with_token(
    bucket: &Bucket,
    key: &str,
) -> Result<(Head, Option<String>), ObjectError> {
    let request = |client: Client| client.head_object().bucket(bucket.name()).key(bucket.full(key)).send();
    let (length, metadata) = match bucket.call(Act::Head, key, 0, request).await {
        Ok(answer) => (answer.content_length, answer.metadata),
        // The answer to HEAD has no body and so no reason: send a request whose answer has one.
        Err(
            ObjectError::AccessDenied { .. } | ObjectError::Refused { .. } | ObjectError::WrongRegion { .. },
        ) => {
            let request = |client: Client| {
                client.get_object().bucket(bucket.name()).key(bucket.full(key)).range("bytes=0-0").send()
            };
            let answer = bucket.call(Act::Head, key, 0, request).await?;
            let size = |range: &str| download::range_size(range, 0)?.try_into().ok();
            (answer.content_range().and_then(size).or(answer.content_length), answer.metadata)
        }
        Err(error) => return Err(error),
    };
    let Some(size_bytes) = length.and_then(|length| u64::try_from(length).ok()) else {
        return Err(bucket.refused(Act::Head, key, "the answer lacks the object's size"));
    };
    let metadata: Metadata = metadata.unwrap_or_default().into_iter().collect();
    let token = metadata.get(TOKEN).cloned();
    Ok((Head { size_bytes, metadata }, token))
}

/// Frees the parts of uploads that began longer ago than `age`. Returns how many uploads.
pub(super) async fn abort_unfinished(bucket: &Bucket, age: Duration) -> Result<usize, ObjectError> {
    let before = time::unix_now().saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    let (mut aborted, mut key_marker, mut id_marker) = (0, None, None);
    loop {
        let request = |client: Client| {
            let list = client.list_multipart_uploads().bucket(bucket.name()).prefix(bucket.full(""));
            list.set_key_marker(Option::clone(&key_marker))
                .set_upload_id_marker(Option::clone(&id_marker))
                .send()
        };
        let page = match bucket.call(Act::Abort, "", 0, request).await {
            // Stores without this request free such parts themselves.
            Err(error @ ObjectError::Refused { .. }) => {
                tracing::debug!(%error, "the store does not list unfinished uploads");
                return Ok(aborted);
            }
            page => page?,
        };
        for upload in page.uploads() {
            let (Some(key), Some(upload_id)) = (upload.key(), upload.upload_id()) else { continue };
            if upload.initiated().is_none_or(|initiated| initiated.secs() > before) {
                continue;
            }
            let request = |client: Client| {
                client.abort_multipart_upload().bucket(bucket.name()).key(key).upload_id(upload_id).send()
            };
            match bucket.call(Act::Abort, "", 0, request).await {
                Err(ObjectError::UploadGone { .. } | ObjectError::NotFound { .. }) => {}
                done => {
                    done?;
                    aborted += 1;
                }
            }
        }
        let next = page.next_key_marker.filter(|next| !next.is_empty());
        if page.is_truncated != Some(true)
            || next.is_none()
            || next == key_marker && page.next_upload_id_marker == id_marker
        {
            return Ok(aborted);
        }
        (key_marker, id_marker) = (next, page.next_upload_id_marker);
    }
}

/// The size of a part: the usual one, or a larger one where there would be too many parts.
fn part_bytes(size_bytes: u64) -> u64 {
    const STEP: u64 = 1024 * 1024;
    size_bytes.div_ceil(limits::OBJECT_PARTS_MAX).next_multiple_of(STEP).max(limits::OBJECT_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_rather_than_become_too_many() {
        const MIB: u64 = 1024 * 1024;
        for (size, part) in [
            (17 * MIB, 16 * MIB),
            (limits::OBJECT_PARTS_MAX * 16 * MIB, 16 * MIB),
            (limits::OBJECT_PARTS_MAX * 16 * MIB + 1, 17 * MIB),
            (limits::OBJECT_MAX_BYTES, 117 * MIB),
        ] {
            assert_eq!(part_bytes(size), part, "{size}");
            assert!(size.div_ceil(part) <= limits::OBJECT_PARTS_MAX, "{size}");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_while_it_is_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("source");
        std::fs::write(&path, "0123456789").unwrap();
        let reader = Reader::open(&Source::File(path.clone())).await.unwrap();
        assert_eq!(reader.part(2, 3).await.unwrap(), "234");
        assert_eq!(reader.part(5, 5).await.unwrap(), "56789");
        std::fs::write(&path, "0123456789a").unwrap();
        assert!(matches!(reader.part(5, 5).await, Err(ObjectError::SourceChanged { .. })));
        std::fs::write(&path, "01234567").unwrap();
        assert!(matches!(reader.part(5, 5).await, Err(ObjectError::SourceChanged { .. })));
    }
}
