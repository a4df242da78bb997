//! Requests to a bucket of an S3-compatible store.
//!
//! The SDK signs, sends and decodes; [`Timeouts`] alone decides about waiting and retries. Requests use
//! only what all stores support: bodies are in memory and signed whole, without chunked signatures and
//! trailing checksums, which some R2- and MinIO-like stores refuse.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_s3::{
    Client, Config,
    config::{
        BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};

use super::{
    classify::{self, Request},
    credential_source::CredentialSource,
    credentials::{Credentials, CredentialsError},
    endpoint::{check_endpoint, check_region},
    error::{Act, Attempts, ObjectError},
    object::{Metadata, Settings},
    timeouts::Timeouts,
};
use brock_core::base::limits;
use brock_net::{panics::contain, task};

/// The region without a setting.
const REGION_DEFAULT: &str = "us-east-1";

/// A bucket, or the part of it under a prefix. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bucket: String,
    prefix: String,
    region: String,
    /// The endpoint or the region, for messages.
    at: String,
    /// The client's configuration without credentials.
    config: Config,
    credentials: CredentialSource,
    /// Replaced when the credentials change.
    session: Mutex<Option<Session>>,
    timeouts: Timeouts,
}

/// A client, and the credentials that it signs with.
#[derive(Debug, Clone)]
struct Session {
    client: Client,
    credentials: Credentials,
}

impl Bucket {
    /// Checks the settings. Sends no request.
    pub(super) fn open(
        bucket: &str,
        prefix: &str,
        settings: &Settings,
        adjust: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self, ObjectError> {
        let Settings { endpoint, region, path_style, credentials, timeouts } = settings;
        let region = region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned());
        check_region(&region)?;
        let mut builder = Config::builder()
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
        let credentials = CredentialSource::find(credentials, &region, &|name| std::env::var(name).ok())?;
        Ok(Self(Arc::new(Inner {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region,
            at,
            config: adjust(builder).build(),
            credentials,
            session: Mutex::new(None),
            timeouts: *timeouts,
        })))
    }

    /// An object, for messages; the bucket and the prefix for an empty key.
    pub(super) fn place_of(&self, key: &str) -> String {
        format!("s3://{}/{} at {}", self.name(), self.full(key), self.0.at)
    }

    /// The bucket's name.
    pub(super) fn name(&self) -> &str {
        &self.0.bucket
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.0.timeouts
    }

    /// The key within the bucket.
    pub(super) fn full(&self, key: &str) -> String {
        match self.0.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    /// Fails if there are no credentials. If their provider only fails for the moment, logs that.
    pub(super) async fn check_credentials(&self) -> Result<(), ObjectError> {
        match self.0.credentials.current().await {
            Ok(_) => Ok(()),
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "there are no credentials for the object store at the moment");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
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
        self.timeouts().with_retries(act, &place, size_bytes, || self.once(act, key, &request)).await
    }

    /// Sends a request once; a second time only if the store refuses the credentials and there are others
    /// by now.
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
        let session = self.session(act, key).await?;
        let error = match self.send(act, key, Box::pin(request(session.client.clone()))).await? {
            Ok(answer) => return Ok(answer),
            Err(error) => self.explain(act, key, &session, |about| classify::failure(about, &error)),
        };
        if !error.is_about_credentials() {
            return Err(error);
        }
        self.0.credentials.renew().await;
        let renewed = self.session(act, key).await?;
        if renewed.credentials == session.credentials {
            return Err(error);
        }
        let answer = self.send(act, key, Box::pin(request(renewed.client.clone()))).await?;
        answer.map_err(|error| self.explain(act, key, &renewed, |about| classify::failure(about, &error)))
    }

    /// Awaits a request. The SDK signs, encodes and sends what comes from outside; it may panic. The future is
    /// boxed because it takes many kilobytes.
    async fn send<T>(
        &self,
        act: Act,
        key: &str,
        request: Pin<Box<impl Future<Output = T>>>,
    ) -> Result<T, ObjectError> {
        contain(request).await.map_err(|panicked| self.refused(act, key, &panicked.to_string()))
    }

    /// The error of one object within an answer that is a success as a whole.
    pub(super) async fn error_within(
        &self,
        act: Act,
        key: &str,
        code: Option<&str>,
        message: Option<&str>,
    ) -> ObjectError {
        match self.session(act, key).await {
            Ok(session) => {
                self.explain(act, key, &session, |about| classify::answer(about, 200, code, message, None))
            }
            Err(error) => error,
        }
    }

    pub(super) fn refused(&self, act: Act, key: &str, detail: &str) -> ObjectError {
        ObjectError::Refused { act, place: self.place_of(key), detail: task::bounded(detail) }
    }

    fn explain(
        &self,
        act: Act,
        key: &str,
        session: &Session,
        explain: impl FnOnce(Request<'_>) -> ObjectError,
    ) -> ObjectError {
        let (place, bucket_place) = (self.place_of(key), format!("bucket {} at {}", self.name(), self.0.at));
        let (region, credentials) = (&self.0.region, &session.credentials);
        explain(Request { act, place: &place, bucket_place: &bucket_place, region, credentials })
    }

    /// A client with the current credentials.
    async fn session(&self, act: Act, key: &str) -> Result<Session, ObjectError> {
        let credentials = self.0.credentials.current().await.map_err(|error| match error {
            CredentialsError::Provider { reason, is_transient: true } => ObjectError::Transient {
                act,
                place: self.place_of(key),
                reason,
                attempts: Attempts::default(),
            },
            error => error.into(),
        })?;
        let mut held = self.0.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = held.as_ref().filter(|session| session.credentials == credentials) {
            return Ok(session.clone());
        }
        let config = self.0.config.to_builder().credentials_provider(aws_sdk_s3::config::Credentials::new(
            credentials.access_key_id.clone(),
            credentials.secret_access_key.reveal(),
            credentials.session_token.as_ref().map(|token| token.reveal().to_owned()),
            None,
            "brock",
        ));
        Ok(held.insert(Session { client: Client::from_conf(config.build()), credentials }).clone())
    }
}

/// Metadata as the SDK takes it.
pub(super) fn as_headers(metadata: &Metadata) -> Option<std::collections::HashMap<String, String>> {
    (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::head_object::HeadObjectError;

    use super::*;
    use crate::backup::objects::{CredentialSettings, Secret};

    #[tokio::test]
    async fn a_request_in_which_the_sdk_panics_fails_alone() {
        let credentials = CredentialSettings {
            access_key_id: Some("AKID".to_owned()),
            secret_access_key: Some(Secret::new("s")),
            ..CredentialSettings::default()
        };
        let settings = Settings { credentials, ..Settings::default() };
        let bucket = Bucket::open("bucket", "", &settings, |builder| builder).unwrap();
        let request = |_| async { panic!("planted") };
        let outcome: Result<(), _> = bucket.call::<_, HeadObjectError, _>(Act::Head, "k", 0, request).await;
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("a library panicked at"), "{error}");
        assert!(!error.is_retryable(), "the same bytes would panic again");
    }
}
