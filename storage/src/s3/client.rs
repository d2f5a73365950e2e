//! The SDK's client, made without asking anybody anything.

use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;

use super::roots;
use super::settings::{CredentialSource, Elsewhere, Environment, S3Settings, SecretSource};

/// How long a connection may take to be made: a lost first packet (sent again after 1 and 3 s) is survived.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the client. The error says what to do.
pub(super) fn build(settings: &S3Settings, environment: Environment<'_>) -> Result<Client, String> {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout)).build();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials(settings, environment)?)
        .http_client(http_client(settings, environment)?)
        .force_path_style(settings.path_style)
        .disable_s3_express_session_auth(true)
        // The body's hash is in the signature, and on Amazon's own S3 a put carries a checksum. Other stores refuse
        // the trailers that the SDK would send by itself, and what is read is verified by its digest anyway.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // Retrying is the business of the decorator, which has the whole budget in view.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled().grace_period(settings.request_timeout).build(),
        );
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

/// HTTP to the store, with connections kept for the next request.
fn http_client(settings: &S3Settings, environment: Environment<'_>) -> Result<SharedHttpClient, String> {
    if settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")) {
        return Ok(Builder::new().build_with_connector_fn(|settings, components| {
            connector(ProxyConfig::from_env(), settings, components).build_http()
        }));
    }
    tls_client(roots::load(settings.ca_file.as_deref(), environment)?, ProxyConfig::from_env())
}

fn tls_client(trusted: String, proxy: ProxyConfig) -> Result<SharedHttpClient, String> {
    let trusted = TrustStore::empty().with_pem_certificate(trusted);
    let tls = TlsContext::builder().with_trust_store(trusted).build().map_err(|error| {
        format!("the certificate authorities cannot be used: {error}. hint: check ca-file")
    })?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        connector(proxy.clone(), settings, components)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls.clone())
            .build()
    }))
}

fn connector(
    proxy: ProxyConfig,
    settings: Option<&HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
) -> ConnectorBuilder {
    let mut connector = Connector::builder().proxy_config(proxy);
    connector.set_connector_settings(settings.cloned());
    connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
    connector
}

fn credentials(
    settings: &S3Settings,
    environment: Environment<'_>,
) -> Result<SharedCredentialsProvider, String> {
    match &settings.source {
        CredentialSource::Keys { id, secret, token } => {
            let token = token.as_ref().map(|token| token.expose().to_owned());
            let keys = Credentials::new(id, read_secret(secret)?, token, None, "highwater");
            Ok(SharedCredentialsProvider::new(keys))
        }
        CredentialSource::Elsewhere(place) => provider(place, settings, environment),
    }
}

/// What finds credentials elsewhere; it begins to look at the first request.
fn provider(
    place: &Elsewhere,
    settings: &S3Settings,
    environment: Environment<'_>,
) -> Result<SharedCredentialsProvider, String> {
    // Amazon's services are behind the machine's authorities, one's own behind the private one.
    let machine = roots::load(None, environment);
    let private = settings.ca_file.as_deref().map(|path| roots::load(Some(path), environment)).transpose()?;
    let trusted = match private {
        Some(private) => private + machine.as_deref().unwrap_or_default(),
        None => machine?,
    };
    // The metadata of a machine or container is beside it, never behind a proxy.
    let proxy = match place {
        Elsewhere::Instance | Elsewhere::Container => ProxyConfig::disabled(),
        Elsewhere::Profile(_) | Elsewhere::WebIdentity => ProxyConfig::from_env(),
    };
    let context = ProviderConfig::without_region()
        .with_region(Some(Region::new(settings.region.clone())))
        .with_http_client(tls_client(trusted, proxy)?);
    Ok(match place {
        Elsewhere::Profile(name) => {
            let builder = ProfileFileCredentialsProvider::builder().configure(&context);
            shared(match name {
                Some(name) => builder.profile_name(name).build(),
                None => builder.build(),
            })
        }
        Elsewhere::WebIdentity => {
            shared(WebIdentityTokenCredentialsProvider::builder().configure(&context).build())
        }
        Elsewhere::Instance => shared(ImdsCredentialsProvider::builder().configure(&context).build()),
        Elsewhere::Container => shared(EcsCredentialsProvider::builder().configure(&context).build()),
    })
}

fn shared(provider: impl ProvideCredentials + 'static) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(provider)
}

fn read_secret(source: &SecretSource) -> Result<String, String> {
    match source {
        SecretSource::Given(secret) => Ok(secret.expose().to_owned()),
        SecretSource::File(path) => match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => Err(format!("{} is empty. hint: write the secret into it", path.display())),
            Err(error) => Err(format!("{}: {error}. hint: check secret-access-key-file", path.display())),
        },
    }
}
