//! The credentials of a role that AWS gives to a workload: web identity (EKS), container credentials (ECS,
//! EKS Pod Identity) or instance metadata (EC2).

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use aws_config::{
    ecs::EcsCredentialsProvider,
    imds::{
        client::error::{ImdsError, TokenError},
        credentials::ImdsCredentialsProvider,
    },
    meta::credentials::CredentialsProviderChain,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_sdk_s3::config::Region;
use tokio::sync::Mutex;

use brock_core::base::limits;
use brock_net::panics::contain;

/// The credentials of a role, renewed before they expire.
pub(super) struct Cloud {
    providers: CredentialsProviderChain,
    held: Mutex<Option<Credentials>>,
}

impl Cloud {
    /// Takes its configuration from the process's environment, as all AWS tools do. Sends no request.
    pub(super) fn new(region: String) -> Self {
        let config = ProviderConfig::without_region().with_region(Some(Region::new(region)));
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&config).build();
        let container = EcsCredentialsProvider::builder().configure(&config).build();
        let instance = ImdsCredentialsProvider::builder().configure(&config).build();
        let providers = CredentialsProviderChain::first_try("web identity", web_identity)
            .or_else("container credentials", container)
            .or_else("instance metadata", instance);
        Self { providers, held: Mutex::new(None) }
    }

    /// The current credentials. While they are valid, a failed renewal is logged only.
    pub(super) async fn current(&self) -> Result<Credentials, CredentialsError> {
        let mut held = self.held.lock().await;
        if let Some(credentials) = held.as_ref().filter(|held| is_valid_for(held, limits::CREDENTIALS_RENEW))
        {
            return Ok(credentials.clone());
        }
        let provided = contain(Box::pin(self.providers.provide_credentials())).await;
        let provided = provided.map_err(CredentialsError::provider_error).flatten().map_err(|error| {
            // This workload has no role, and will have none soon.
            if is_refused_by_metadata(&error) { CredentialsError::not_loaded(error) } else { error }
        });
        match provided {
            Ok(credentials) => Ok(held.insert(credentials).clone()),
            Err(error) => match held.as_ref().filter(|held| is_valid_for(held, Duration::ZERO)) {
                Some(credentials) => {
                    tracing::warn!(%error, "the credentials for the object store were not renewed");
                    Ok(credentials.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Lets the next call of [`Cloud::current`] ask for new credentials.
    pub(super) async fn discard(&self) {
        *self.held.lock().await = None;
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cloud").field(&self.providers).finish()
    }
}

/// Whether instance metadata has answered and refused, as it does where it is disabled, and as other servers at
/// its address do. The provider takes that for a fault that passes.
fn is_refused_by_metadata(error: &CredentialsError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let is_refusal = match error.downcast_ref::<ImdsError>() {
            Some(ImdsError::ErrorResponse(answer)) => answer.response().status().is_client_error(),
            _ => error.is::<TokenError>(),
        };
        if is_refusal {
            return true;
        }
        cause = error.source();
    }
    false
}

fn is_valid_for(credentials: &Credentials, time: Duration) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + time)
}
