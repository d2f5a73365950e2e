//! Settings checked and completed from the environment, so that what is built from them cannot be half right.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};

use crate::config::{Credentials, Secret, StoreConfig};

/// Reads one environment variable; a function, so that tests need not change the process's environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The region that stores of one's own are signed for when none is set: they take any, most expect this one.
const DEFAULT_REGION: &str = "us-east-1";

/// Everything about a bucket, complete.
#[derive(Debug)]
pub(super) struct S3Settings {
    pub region: String,
    pub endpoint: Option<String>,
    pub path_style: bool,
    pub sends_checksum: bool,
    pub source: CredentialSource,
    pub storage_class: Option<StorageClass>,
    pub encryption: Option<ServerSideEncryption>,
    pub kms_key_id: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub request_timeout: Duration,
}

/// Where credentials come from, decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CredentialSource {
    Keys { id: String, secret: SecretSource, token: Option<Secret> },
    Elsewhere(Elsewhere),
}

/// A place that credentials have to be fetched from, and fetched again when they expire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// A profile by name, or the one that the environment names.
    Profile(Option<String>),
    WebIdentity,
    Instance,
    Container,
}

/// A secret, or the file that it is read from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SecretSource {
    Given(Secret),
    File(PathBuf),
}

impl S3Settings {
    /// Completes `config`; the error says what to mend.
    pub(super) fn new(config: &StoreConfig, environment: Environment<'_>) -> Result<Self, String> {
        let endpoint = config.endpoint.clone().map(check_endpoint).transpose()?;
        let region = (config.region.clone())
            .or_else(|| environment("AWS_REGION"))
            .or_else(|| environment("AWS_DEFAULT_REGION"))
            .or_else(|| endpoint.is_some().then(|| DEFAULT_REGION.to_owned()))
            .ok_or(
                "no region is known. hint: write s3://bucket/prefix?region=eu-central-1, or set AWS_REGION",
            )?;
        if region.is_empty() || !region.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            return Err(format!("{region:?} is no region. hint: use a name such as eu-central-1"));
        }
        let encryption = encryption(config)?;
        Ok(Self {
            region,
            path_style: config.path_style.unwrap_or(endpoint.is_some()),
            sends_checksum: config.checksum.unwrap_or(endpoint.is_none()),
            endpoint,
            source: credential_source(config, environment)?,
            storage_class: config.storage_class.as_deref().map(storage_class).transpose()?,
            encryption,
            kms_key_id: config.kms_key_id.clone(),
            ca_file: config.ca_file.clone(),
            request_timeout: config.request_timeout.unwrap_or(StoreConfig::DEFAULT_REQUEST_TIMEOUT),
        })
    }
}

fn check_endpoint(endpoint: String) -> Result<String, String> {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    if endpoint.contains('@') {
        return Err(
            "credentials do not belong into the endpoint. hint: set access-key-id and secret-access-key"
                .into(),
        );
    }
    if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', ' '])) {
        return Err(format!("{endpoint:?} is no endpoint. hint: write https://host:port"));
    }
    Ok(endpoint)
}

fn encryption(config: &StoreConfig) -> Result<Option<ServerSideEncryption>, String> {
    let Some(name) = &config.server_side_encryption else {
        return match config.kms_key_id {
            None => Ok(None),
            Some(_) => Err("kms-key-id is set alone. hint: set server-side-encryption to aws:kms too".into()),
        };
    };
    let encryption = ServerSideEncryption::from(name.as_str());
    match encryption {
        ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse => Ok(Some(encryption)),
        ServerSideEncryption::Aes256 if config.kms_key_id.is_none() => Ok(Some(encryption)),
        ServerSideEncryption::Aes256 => {
            Err("kms-key-id does not go with AES256. hint: set server-side-encryption to aws:kms".into())
        }
        _ => Err(format!("server-side-encryption {name:?} is not known. hint: use AES256 or aws:kms")),
    }
}

fn storage_class(name: &str) -> Result<StorageClass, String> {
    // Stores other than Amazon's have names of their own.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        return Err(format!("{name:?} is no storage class. hint: use a name such as STANDARD_IA"));
    }
    Ok(StorageClass::from(name))
}

/// Decides where credentials come from: what is set by name, else the first that is there.
fn credential_source(config: &StoreConfig, environment: Environment<'_>) -> Result<CredentialSource, String> {
    let has = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
    let is_static = config.access_key_id.is_some()
        || config.secret_access_key.is_some()
        || config.secret_access_key_file.is_some();
    let chosen = match config.credentials {
        Some(chosen) => chosen,
        None if is_static => Credentials::Static,
        None if config.profile.is_some() => Credentials::Profile,
        None if has("AWS_ACCESS_KEY_ID") => Credentials::Environment,
        None if has("AWS_WEB_IDENTITY_TOKEN_FILE") => Credentials::WebIdentity,
        None => Credentials::Profile,
    };
    if is_static && chosen != Credentials::Static {
        return Err(format!(
            "keys are set, but credentials are to come from {chosen:?}. hint: set only one of them"
        ));
    }
    match chosen {
        Credentials::Static => static_keys(config),
        Credentials::Environment => environment_keys(environment),
        Credentials::Profile => Ok(CredentialSource::Elsewhere(Elsewhere::Profile(config.profile.clone()))),
        Credentials::WebIdentity => Ok(CredentialSource::Elsewhere(Elsewhere::WebIdentity)),
        Credentials::Instance => Ok(CredentialSource::Elsewhere(Elsewhere::Instance)),
        Credentials::Container => Ok(CredentialSource::Elsewhere(Elsewhere::Container)),
    }
}

fn static_keys(config: &StoreConfig) -> Result<CredentialSource, String> {
    let id =
        config.access_key_id.clone().ok_or("access-key-id is missing. hint: set it beside the secret")?;
    let secret = match (&config.secret_access_key, &config.secret_access_key_file) {
        (Some(secret), None) => SecretSource::Given(secret.clone()),
        (None, Some(file)) => SecretSource::File(file.clone()),
        (None, None) => {
            return Err("the secret is missing. hint: set secret-access-key-file or secret-access-key".into());
        }
        (Some(_), Some(_)) => {
            return Err(
                "the secret is set twice. hint: set either secret-access-key-file or secret-access-key"
                    .into(),
            );
        }
    };
    Ok(CredentialSource::Keys { id, secret, token: config.session_token.clone() })
}

fn environment_keys(environment: Environment<'_>) -> Result<CredentialSource, String> {
    let missing = |name: &str| format!("{name} is not set. hint: set it, or say where credentials come from");
    let read = |name: &str| environment(name).filter(|value| !value.is_empty());
    Ok(CredentialSource::Keys {
        id: read("AWS_ACCESS_KEY_ID").ok_or_else(|| missing("AWS_ACCESS_KEY_ID"))?,
        secret: SecretSource::Given(Secret::new(
            read("AWS_SECRET_ACCESS_KEY").ok_or_else(|| missing("AWS_SECRET_ACCESS_KEY"))?,
        )),
        token: read("AWS_SESSION_TOKEN").map(Secret::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn keys_in_environment(name: &str) -> Option<String> {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => "AK",
            "AWS_SECRET_ACCESS_KEY" => "SK",
            "AWS_SESSION_TOKEN" => "ST",
            "AWS_REGION" => "eu-west-1",
            "AWS_WEB_IDENTITY_TOKEN_FILE" => "/token",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn config(change: impl FnOnce(&mut StoreConfig)) -> StoreConfig {
        let mut config = StoreConfig::from_url("s3://bucket");
        config.region = Some("r".into());
        change(&mut config);
        config
    }

    fn with_keys(config: &mut StoreConfig) {
        config.access_key_id = Some("AK".into());
        config.secret_access_key = Some(Secret::new("SK"));
    }

    #[test]
    fn credentials_are_the_first_that_are_there_and_never_a_metadata_server() {
        let source = |config: &StoreConfig, environment: Environment<'_>| {
            S3Settings::new(config, environment).unwrap().source
        };
        let elsewhere = CredentialSource::Elsewhere;
        let keys = |token: Option<&str>| CredentialSource::Keys {
            id: "AK".into(),
            secret: SecretSource::Given(Secret::new("SK")),
            token: token.map(Secret::new),
        };
        assert_eq!(source(&config(with_keys), &keys_in_environment), keys(None));
        assert_eq!(source(&config(|_| ()), &keys_in_environment), keys(Some("ST")));
        assert_eq!(source(&config(|_| ()), &nothing), elsewhere(Elsewhere::Profile(None)));
        let profile = config(|config| config.profile = Some("p".into()));
        assert_eq!(source(&profile, &keys_in_environment), elsewhere(Elsewhere::Profile(Some("p".into()))));
        let token_only = |name: &str| (name == "AWS_WEB_IDENTITY_TOKEN_FILE").then(|| "/token".to_owned());
        assert_eq!(source(&config(|_| ()), &token_only), elsewhere(Elsewhere::WebIdentity));
        let instance = config(|config| config.credentials = Some(Credentials::Instance));
        assert_eq!(source(&instance, &keys_in_environment), elsewhere(Elsewhere::Instance));
    }

    #[test]
    fn the_region_is_set_or_in_the_environment_or_does_not_matter() {
        let region = |config: &StoreConfig, environment: Environment<'_>| {
            S3Settings::new(config, environment).map(|settings| settings.region)
        };
        let without = config(|config| config.region = None);
        assert_eq!(region(&config(|_| ()), &keys_in_environment).unwrap(), "r");
        assert_eq!(region(&without, &keys_in_environment).unwrap(), "eu-west-1");
        assert!(region(&without, &nothing).unwrap_err().contains("hint: "));
        let own = config(|config| {
            config.region = None;
            config.endpoint = Some("http://127.0.0.1:9000".into());
        });
        assert_eq!(region(&own, &nothing).unwrap(), "us-east-1");
    }

    #[test]
    fn path_style_and_checksum_follow_the_endpoint_unless_they_are_set() {
        for (endpoint, set, path_style) in
            [(None, None, false), (Some("http://h"), None, true), (Some("http://h"), Some(false), false)]
        {
            let config = config(|config| {
                config.endpoint = endpoint.map(str::to_owned);
                config.path_style = set;
                config.checksum = set.map(|set| !set);
            });
            let settings = S3Settings::new(&config, &nothing).unwrap();
            assert_eq!((settings.path_style, settings.sends_checksum), (path_style, !path_style));
        }
    }

    #[test]
    fn settings_that_cannot_be_right_are_refused_with_a_hint() {
        type Change = fn(&mut StoreConfig);
        let changes: [Change; 12] = [
            |config| config.region = Some("EU (Frankfurt)".into()),
            |config| config.endpoint = Some("host:9000".into()),
            |config| config.endpoint = Some("https://".into()),
            |config| config.endpoint = Some("https://key:secret@host".into()),
            |config| config.server_side_encryption = Some("rot13".into()),
            |config| config.kms_key_id = Some("k".into()),
            |config| {
                config.kms_key_id = Some("k".into());
                config.server_side_encryption = Some("AES256".into());
            },
            |config| config.storage_class = Some("a b".into()),
            |config| config.access_key_id = Some("AK".into()),
            |config| config.secret_access_key = Some(Secret::new("SK")),
            |config| {
                with_keys(config);
                config.secret_access_key_file = Some("/secret".into());
            },
            |config| {
                with_keys(config);
                config.credentials = Some(Credentials::Instance);
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let error = S3Settings::new(&config(change), &nothing).map(|_| ()).unwrap_err();
            assert!(error.contains("hint: "), "{number}: {error}");
            assert!(!error.contains("secret@"), "{number}: {error}");
        }
        let config = config(|config| config.credentials = Some(Credentials::Environment));
        assert!(S3Settings::new(&config, &nothing).unwrap_err().contains("AWS_ACCESS_KEY_ID"));
    }
}
