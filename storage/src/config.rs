//! The settings of a store.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::url::StoreUrl;

/// Where a store is and how it is reached.
///
/// Every setting but the secrets may also stand in the URL, as `?name=value`; one that stands in both places is an
/// error. The settings from `region` on are for S3.
///
/// Times are written as in `postgresql.conf`: `500ms`, `20s`, `1min`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:///path` or `s3://bucket/prefix`.
    pub url: StoreUrl,
    /// How long one request may take beyond the time its bytes need on a slow line (128 KiB/s). Default 20 s.
    #[serde(default, deserialize_with = "optional_duration")]
    pub request_timeout: Option<Duration>,
    /// How long passing errors of one call are retried, in all; 0 for never. Default 60 s.
    #[serde(default, deserialize_with = "optional_duration")]
    pub retry_budget: Option<Duration>,
    /// What a program that has less time allows of the retry budget, wherever that was set. No setting of the user's.
    #[serde(skip)]
    pub most_retry_budget: Option<Duration>,

    /// The region, as S3 signs it. Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1` with an endpoint of
    /// one's own and an error without.
    pub region: Option<String>,
    /// URL of an S3 server other than Amazon's, `https://host:port`.
    pub endpoint: Option<String>,
    /// Whether the bucket is named in the path rather than in the host name. Default: true with an endpoint of one's
    /// own.
    pub path_style: Option<bool>,
    /// Where credentials come from. Default: `static` when keys are set here, else `environment` where the variables
    /// are set, else `web-identity` where its variables are set, else `profile`; never `instance` or `container` by
    /// itself, since asking a metadata server that isn't there takes seconds.
    pub credentials: Option<Credentials>,
    /// Static access key.
    pub access_key_id: Option<String>,
    /// Static secret.
    pub secret_access_key: Option<Secret>,
    /// File that holds the static secret.
    pub secret_access_key_file: Option<PathBuf>,
    /// Session token that belongs to the static keys.
    pub session_token: Option<Secret>,
    /// Profile in `~/.aws/config` and `~/.aws/credentials`.
    pub profile: Option<String>,
    /// Storage class of new objects, such as `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// Encryption by the server: `AES256` or `aws:kms`.
    pub server_side_encryption: Option<String>,
    /// Key of `aws:kms`.
    pub kms_key_id: Option<String>,
    /// Whether a put carries a checksum that the store keeps with the object, beside the one in its signature. Buckets
    /// that lock objects ask for it; some stores refuse it. Default: true unless there is an endpoint of one's own.
    pub checksum: Option<bool>,
    /// PEM file with the certificate authorities to trust, instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

impl StoreConfig {
    /// The names of all settings.
    pub const SETTINGS: &[&str] = &[
        "url",
        "request-timeout",
        "retry-budget",
        "region",
        "endpoint",
        "path-style",
        "credentials",
        "access-key-id",
        "secret-access-key",
        "secret-access-key-file",
        "session-token",
        "profile",
        "storage-class",
        "server-side-encryption",
        "kms-key-id",
        "checksum",
        "ca-file",
    ];

    /// Default of [`StoreConfig::request_timeout`].
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
    /// Default of [`StoreConfig::retry_budget`].
    pub const DEFAULT_RETRY_BUDGET: Duration = Duration::from_secs(60);

    /// Nothing but a URL and what stands in it.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self {
            url: url.into().into(),
            request_timeout: None,
            retry_budget: None,
            most_retry_budget: None,
            region: None,
            endpoint: None,
            path_style: None,
            credentials: None,
            access_key_id: None,
            secret_access_key: None,
            secret_access_key_file: None,
            session_token: None,
            profile: None,
            storage_class: None,
            server_side_encryption: None,
            kms_key_id: None,
            checksum: None,
            ca_file: None,
        }
    }

    /// Takes over the settings of a URL's query, `name=value`.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        let text = || value.to_owned();
        match name {
            "request-timeout" => fill(&mut self.request_timeout, parse_duration(value)?),
            "retry-budget" => fill(&mut self.retry_budget, parse_duration(value)?),
            "region" => fill(&mut self.region, text()),
            "endpoint" => fill(&mut self.endpoint, text()),
            "path-style" => {
                fill(&mut self.path_style, value.parse().map_err(|_| "use true or false".to_owned())?)
            }
            "credentials" => fill(&mut self.credentials, parse_credentials(value)?),
            "access-key-id" => fill(&mut self.access_key_id, text()),
            "secret-access-key-file" => fill(&mut self.secret_access_key_file, value.into()),
            "profile" => fill(&mut self.profile, text()),
            "storage-class" => fill(&mut self.storage_class, text()),
            "server-side-encryption" => fill(&mut self.server_side_encryption, text()),
            "kms-key-id" => fill(&mut self.kms_key_id, text()),
            "checksum" => fill(&mut self.checksum, parse_bool(value)?),
            "ca-file" => fill(&mut self.ca_file, value.into()),
            "secret-access-key" | "session-token" => {
                Err("a secret does not belong into a URL: set it in the file or the environment".to_owned())
            }
            _ => Err(format!(
                "there is no such setting: use {}",
                Self::SETTINGS[1..]
                    .iter()
                    .filter(|name| !SECRETS.contains(name))
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
        }
    }
}

/// The settings that must not stand in a URL.
const SECRETS: &[&str] = &["secret-access-key", "session-token"];

fn fill<T>(setting: &mut Option<T>, value: T) -> std::result::Result<(), String> {
    match setting.replace(value) {
        None => Ok(()),
        Some(_) => Err("it is set twice: leave it either in the URL or beside it".to_owned()),
    }
}

/// Where the credentials for S3 come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// `access-key-id` and `secret-access-key` of these settings.
    Static,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Environment,
    /// A profile in `~/.aws` (also one that assumes a role or signs on).
    Profile,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`, as Kubernetes sets them.
    WebIdentity,
    /// The role of the virtual machine, from its metadata service.
    Instance,
    /// The role of the container, from `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `…_FULL_URI`.
    Container,
}

fn parse_bool(text: &str) -> std::result::Result<bool, String> {
    text.parse().map_err(|_| "use true or false".to_owned())
}

fn parse_credentials(text: &str) -> std::result::Result<Credentials, String> {
    let deserializer: de::value::StrDeserializer<'_, de::value::Error> =
        de::IntoDeserializer::into_deserializer(text);
    Credentials::deserialize(deserializer)
        .map_err(|_| "use static, environment, profile, web-identity, instance or container".to_owned())
}

/// A text that is never printed (R21).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever has to hand it on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(de::Error::custom)
}

/// Reads a time as `postgresql.conf` writes it: a whole number and a unit, `0` without.
fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let bad = || format!("{text:?} is not a time: use a whole number and ms, s, min or h, such as 20s");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u32 = text[..digits].parse().map_err(|_| bad())?;
    let unit_ms = match text[digits..].trim_start() {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 1,
        _ => return Err(bad()),
    };
    Ok(Duration::from_millis(u64::from(number) * unit_ms))
}
