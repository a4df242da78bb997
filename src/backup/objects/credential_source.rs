//! Where credentials come from.

use std::{io, path::PathBuf, sync::Arc};

use aws_credential_types::provider::error::CredentialsError as ProviderError;
use tokio::task::spawn_blocking;

use super::{
    causes::with_causes,
    cloud::Cloud,
    credentials::{CredentialSettings, Credentials, CredentialsError, Secret},
    credentials_file::CredentialsFile,
};

/// A source of credentials. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct CredentialSource(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Fixed(Credentials),
    File(Arc<CredentialsFile>),
    Cloud {
        cloud: Cloud,
        /// The usual credentials file, for the error.
        file: PathBuf,
    },
}

impl CredentialSource {
    /// The first source that there is, in this order: the settings, the file in the settings, the `AWS_*`
    /// variables, the credentials file of AWS tools, the role of this workload on AWS. Reads a file, and
    /// sends no request.
    pub(super) fn find(
        settings: &CredentialSettings,
        region_of_bucket: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CredentialsError> {
        let CredentialSettings { access_key_id, secret_access_key, session_token, file } = settings;
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let given = Credentials::given(
            access_key_id.clone(),
            secret_access_key.clone(),
            session_token.clone(),
            || "the configuration of backups".to_owned(),
        )?;
        if let Some(credentials) = given {
            return Ok(Self::new(Kind::Fixed(credentials)));
        }
        let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        if let Some(path) = file {
            return Ok(Self::new(Kind::File(Arc::new(CredentialsFile::open(path, profile)?))));
        }
        let in_environment = Credentials::given(
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY").map(Secret::new),
            variable("AWS_SESSION_TOKEN").map(Secret::new),
            || "the environment".to_owned(),
        )?;
        if let Some(credentials) = in_environment {
            return Ok(Self::new(Kind::Fixed(credentials)));
        }
        let usual = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned())).join(".aws/credentials")
        });
        match CredentialsFile::open(&usual, profile) {
            Ok(file) => Ok(Self::new(Kind::File(Arc::new(file)))),
            Err(CredentialsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if !may_have_role(&variable) {
                    return Err(CredentialsError::Nowhere { file: usual });
                }
                let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
                let cloud = Cloud::new(region.unwrap_or_else(|| region_of_bucket.to_owned()));
                Ok(Self::new(Kind::Cloud { cloud, file: usual }))
            }
            Err(error) => Err(error),
        }
    }

    /// The current credentials.
    pub(super) async fn current(&self) -> Result<Credentials, CredentialsError> {
        match self.0.as_ref() {
            Kind::Fixed(credentials) => Ok(credentials.clone()),
            Kind::File(file) => {
                let file = Arc::clone(file);
                let turn = Arc::clone(&file.turn).lock_owned().await;
                let current = spawn_blocking(move || {
                    let _turn = turn;
                    file.current()
                });
                match current.await {
                    Ok(credentials) => Ok(credentials),
                    // Only after a panic, or while the runtime shuts down.
                    Err(_) => std::future::pending().await,
                }
            }
            Kind::Cloud { cloud, file } => match cloud.current().await {
                Ok(credentials) => {
                    let given = Credentials::given(
                        Some(credentials.access_key_id().to_owned()),
                        Some(Secret::new(credentials.secret_access_key())),
                        credentials.session_token().map(Secret::new),
                        || "AWS".to_owned(),
                    );
                    given?.ok_or_else(|| CredentialsError::Nowhere { file: file.clone() })
                }
                Err(ProviderError::CredentialsNotLoaded(_)) => {
                    Err(CredentialsError::Nowhere { file: file.clone() })
                }
                Err(error) => {
                    let is_transient = !matches!(error, ProviderError::InvalidConfiguration(_));
                    Err(CredentialsError::Provider { reason: with_causes(&error), is_transient })
                }
            },
        }
    }

    /// The store has refused the current credentials: the next ones must be new, if the source can
    /// provide new ones.
    pub(super) async fn renew(&self) {
        if let Kind::Cloud { cloud, .. } = self.0.as_ref() {
            cloud.discard().await;
        }
    }

    fn new(kind: Kind) -> Self {
        Self(Arc::new(kind))
    }
}

/// Whether this workload may have a role. Instance metadata needs no variable, but one can exclude it.
fn may_have_role(variable: &impl Fn(&str) -> Option<String>) -> bool {
    let is_excluded =
        variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let others = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    !is_excluded || others.iter().any(|name| variable(name).is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = "# ours\n[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key=s3cr3t=\n\n\
                        [other]\nregion = eu\nAWS_ACCESS_KEY_ID=AKOTHER\naws_secret_access_key = x\n\
                        aws_session_token = t0k3n\n; end\n";

    async fn find(
        file: Option<&Path>,
        environment: &[(&str, &str)],
    ) -> Result<Credentials, CredentialsError> {
        let settings = CredentialSettings { file: file.map(Path::to_owned), ..CredentialSettings::default() };
        let variable = |name: &str| {
            let known = environment.iter().chain(&[("AWS_EC2_METADATA_DISABLED", "true")]);
            known.clone().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        CredentialSource::find(&settings, "us-east-1", &variable)?.current().await
    }

    #[tokio::test]
    async fn the_most_direct_source_takes_precedence() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let path = file.to_str().unwrap();
        let pair = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "e")];
        let usual = [("AWS_SHARED_CREDENTIALS_FILE", path)];
        let home = directory.path().join(".aws");
        std::fs::create_dir(&home).unwrap();
        std::fs::write(
            home.join("credentials"),
            "[default]\naws_access_key_id=AKHOME\naws_secret_access_key=h\n",
        )
        .unwrap();
        for (file, environment, expected) in [
            (Some(file.as_path()), pair.to_vec(), "AKDEFAULT"),
            (Some(file.as_path()), vec![("AWS_PROFILE", "other")], "AKOTHER"),
            (None, [pair.as_slice(), usual.as_slice()].concat(), "AKENV"),
            (None, usual.to_vec(), "AKDEFAULT"),
            (None, vec![("HOME", directory.path().to_str().unwrap())], "AKHOME"),
        ] {
            assert_eq!(find(file, &environment).await.unwrap().access_key_id, expected, "{environment:?}");
        }
        let settings = CredentialSettings {
            access_key_id: Some("AKFLAG".to_owned()),
            secret_access_key: Some(Secret::new("f")),
            file: Some(file),
            ..CredentialSettings::default()
        };
        let source = CredentialSource::find(&settings, "us-east-1", &|_| None).unwrap();
        assert_eq!(source.current().await.unwrap().access_key_id, "AKFLAG");
    }

    #[tokio::test]
    async fn missing_credentials_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        for (text, environment, says) in [
            (FILE, vec![("AWS_PROFILE", "third")], "no section [third]"),
            ("[default]\naws_access_key_id = AK\n", vec![], "gives no secret access key"),
            ("[default]\nregion = x\n", vec![], "gives no access key id"),
            ("[default]\naws_access_key_id AK\n", vec![], ":2: this is not a line"),
            ("", vec![], "no section [default]"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = find(Some(&file), &environment).await.unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let error = find(None, &[("AWS_ACCESS_KEY_ID", "AK")]).await.unwrap_err().to_string();
        assert!(error.contains("the environment gives no secret access key"), "{error}");
        let error = find(None, &[("HOME", "/nowhere")]).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/.aws/credentials"), "{error}");
        let error = find(Some(Path::new("/nowhere/file")), &[]).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/file cannot be read"), "{error}");
    }
}
