//! For tests: a bucket at a host name that no resolver knows, such as `bucket.localhost`.

use std::net::SocketAddr;

use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut},
    error::BoxError,
};

use super::{error::ObjectError, object::Settings, s3::S3Target};

impl S3Target {
    /// A target that sends all requests to one address, whatever host they name.
    pub fn open_dialling(
        bucket: &str,
        prefix: &str,
        settings: &Settings,
        address: SocketAddr,
    ) -> Result<Self, ObjectError> {
        Self::open_with(bucket, prefix, settings, |builder| builder.interceptor(Dial(address)))
    }
}

#[derive(Debug)]
struct Dial(SocketAddr);

impl Intercept for Dial {
    fn name(&self) -> &'static str {
        "Dial"
    }

    /// After signing, so that the signature is for the host that the request names.
    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let uri: http::Uri = request.uri().parse()?;
        let host = uri.authority().ok_or("a request without a host")?.to_string();
        request.headers_mut().insert("host", host);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        request.set_uri(format!("http://{}{path}", self.0))?;
        Ok(())
    }
}
